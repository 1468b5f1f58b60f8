/* The log: one JSON object a line. */
#include "tools/bedrock-sim/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int journal_open(struct journal *journal, const char *path, uint64_t begin_ns)
{
	*journal = (struct journal){.fd = -1, .begin_ns = begin_ns};
	if (path == NULL)
		return 0;
	journal->fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return journal->fd < 0 ? -errno : 0;
}

static int line_format(char *text, size_t size, const struct journal *journal,
	const struct journal_line *line)
{
	char latency[32] = "null";

	if (line->latency_s >= 0.0)
		(void)snprintf(
			latency, sizeof(latency), "%.6f", line->latency_s);
	return snprintf(text, size,
		"{\"run\":%llu,\"n\":%llu,\"event\":\"%s\",\"t_s\":%.6f,"
		"\"t_mono_ns\":%llu,\"conn\":%llu,\"reused\":%s,\"tls\":%s,"
		"\"op\":\"%s\",\"model\":\"%s\",\"body_sha256\":\"%s\","
		"\"body_bytes\":%llu,\"status\":%d,\"type\":\"%s%s%s\","
		"\"latency_s\":%s}\n",
		(unsigned long long)line->run, (unsigned long long)line->n,
		line->event, (double)(line->at_ns - journal->begin_ns) / 1e9,
		(unsigned long long)line->at_ns,
		(unsigned long long)line->connection,
		line->reused ? "true" : "false", line->tls ? "true" : "false",
		line->op, line->model, line->body_sha256,
		(unsigned long long)line->body_bytes, line->status, line->type,
		line->detail ? ":" : "", line->detail ? line->detail : "",
		latency);
}

void journal_write(struct journal *journal, const struct journal_line *line)
{
	char text[4096]; /* a model id has 2048 bytes, the rest under 800 */
	int length;
	ssize_t written;

	if (journal->fd < 0)
		return;
	length = line_format(text, sizeof(text), journal, line);
	do
		written = write(journal->fd, text, (size_t)length);
	while (written < 0 && errno == EINTR);
	/* A part of a line is not repaired: more of it would look like two. */
	if (written == length ||
		__atomic_exchange_n(&journal->failed, true, __ATOMIC_RELAXED))
		return;
	(void)fprintf(stderr,
		"bedrock-sim: the log is incomplete from arrival %llu on: %s\n",
		(unsigned long long)line->n,
		written < 0 ? strerror(errno) : "short write");
}
