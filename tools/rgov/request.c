#include "tools/rgov/request.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	BODY_MOST = 25000000, /* bytes: the provider's limit */
	READ_AT_ONCE = 1 << 16,
};

int request_priority(const struct invocation *invocation,
	struct rgov_request *request, const char *word)
{
	static const char *const words[] = {[RGOV_INTERACTIVE] = "interactive",
		[RGOV_NORMAL] = "normal",
		[RGOV_BATCH] = "batch"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) == 0) {
			request->priority = (enum rgov_priority)i;
			return 0;
		}
	}
	return complain(invocation, EX_USAGE,
		"--priority: expected interactive, normal or batch, found '%s'",
		word);
}

/* Adds a "Name: value" line; -EINVAL: it is not one, or there are too many. */
static int add_header(char headers[REQUEST_HEADERS_BYTES], const char *line)
{
	size_t used = strlen(headers);
	int n;

	if (strchr(line, ':') == NULL || line[0] == ':')
		return -EINVAL;
	for (const char *at = line; *at != '\0'; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return -EINVAL;
	n = snprintf(
		headers + used, REQUEST_HEADERS_BYTES - used, "%s\n", line);
	return (size_t)n < REQUEST_HEADERS_BYTES - used ? 0 : -EINVAL;
}

int request_header(const struct invocation *invocation,
	struct rgov_request *request, char headers[REQUEST_HEADERS_BYTES],
	const char *line)
{
	request->headers = headers;
	if (add_header(headers, line) == 0)
		return 0;
	return complain(invocation, EX_USAGE,
		"--header: expected 'Name: value', printable, all of them "
		"below %d bytes, found '%s'",
		REQUEST_HEADERS_BYTES, line);
}

/* Reads to the end.  0; -EMSGSIZE when there is more than a body may have. */
static int read_all(int fd, char **ret_bytes, size_t *ret_n)
{
	size_t n = 0, room = 0;
	char *bytes = NULL;
	ssize_t got = 1;

	while (got != 0 && n <= BODY_MOST) {
		if (room - n < READ_AT_ONCE) {
			char *more;

			room = room * 2 + 2 * (size_t)READ_AT_ONCE;
			more = realloc(bytes, room);
			if (more == NULL)
				goto free_bytes;
			bytes = more;
		}
		got = read(fd, bytes + n, READ_AT_ONCE);
		if (got < 0 && errno != EINTR)
			goto free_bytes;
		n += got > 0 ? (size_t)got : 0;
	}
	if (n > BODY_MOST) {
		errno = EMSGSIZE;
		goto free_bytes;
	}
	*ret_bytes = bytes;
	*ret_n = n;
	return 0;

free_bytes:
	got = -errno;
	free(bytes);
	return (int)got;
}

int request_body(const struct invocation *invocation,
	struct rgov_request *request, const char *path, char **ret_body)
{
	bool is_stdin = path == NULL || strcmp(path, "-") == 0;
	const char *name = is_stdin ? "-" : path;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return complain(invocation,
			errno == EACCES ? EX_NOPERM : EX_NOINPUT,
			"cannot open '%s': %s", name, strerror(errno));
	rc = read_all(fd, ret_body, &request->body_bytes);
	if (!is_stdin)
		(void)close(fd);
	request->body = *ret_body;
	if (rc == -EMSGSIZE)
		return complain(invocation, EX_DATAERR,
			"'%s' is above %d bytes", name, BODY_MOST);
	if (rc < 0)
		return complain(invocation, EX_IOERR, "cannot read '%s': %s",
			name, strerror(-rc));
	return 0;
}
