/*
 * The log: a line is built on the stack of whoever calls and leaves in one
 * write, so threads share nothing but the settings and two counters.  What may
 * be logged is the business of the callers.
 */
#include "coordinator/log.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	/* Not above PIPE_BUF: a line in a pipe is never torn. */
	LINE_BYTES = 4096,
	/* Kept for the mark of a cut line, the brace and the newline. */
	TAIL_BYTES = 24,
};

/*
 * Settings and counters.  All accesses are relaxed: each word is complete in
 * itself and orders nothing else; a line in the format of a moment ago is fine.
 */
static _Atomic int format_now = LOG_LOGFMT;
static _Atomic int least_now = LOG_INFO;
static _Atomic bool for_journal;
static _Atomic bool is_socket;
static _Atomic uint64_t lost_lines;       /* since the start */
static _Atomic uint64_t unreported_lines; /* lost, and not yet told */
static _Atomic bool line_is_torn;         /* the last write fell short */

static const struct {
	const char *name;
	char priority; /* of syslog, as the journal reads it */
} levels[] = {
	[LOG_ERROR] = {"error", '3'},
	[LOG_WARN] = {"warn", '4'},
	[LOG_INFO] = {"info", '6'},
	[LOG_DEBUG] = {"debug", '7'},
};

struct line {
	char bytes[LINE_BYTES];
	size_t used;
	bool json;
	bool cut; /* something did not fit */
};

/* ------------------------------------------------------------ building */

static bool fits(struct line *line, size_t bytes)
{
	if (line->used + bytes <= LINE_BYTES - TAIL_BYTES)
		return true;
	line->cut = true;
	return false;
}

static void put(struct line *line, const char *text, size_t bytes)
{
	memcpy(line->bytes + line->used, text, bytes);
	line->used += bytes;
}

/*
 * One character of UTF-8: its bytes, or 0 where there is none (invalid,
 * overlong, surrogate, above U+10FFFF, cut short by the end of the text).
 */
static size_t utf8_bytes(const unsigned char *at)
{
	static const struct {
		unsigned char mask, lead, least_second, most_second;
		size_t bytes;
	} forms[] = {
		{0x80, 0x00, 0, 0, 1},
		{0xff, 0xe0, 0xa0, 0xbf, 3},
		{0xff, 0xed, 0x80, 0x9f, 3},
		{0xf0, 0xe0, 0x80, 0xbf, 3},
		{0xff, 0xf0, 0x90, 0xbf, 4},
		{0xff, 0xf4, 0x80, 0x8f, 4},
		{0xfc, 0xf0, 0x80, 0xbf, 4},
		{0xe0, 0xc0, 0x80, 0xbf, 2},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if ((*at & forms[i].mask) != forms[i].lead)
			continue;
		if (forms[i].bytes == 1)
			return 1;
		if (*at < 0xc2 || at[1] < forms[i].least_second ||
			at[1] > forms[i].most_second)
			return 0;
		for (size_t k = 2; k < forms[i].bytes; k++)
			if ((at[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].bytes;
	}
	return 0;
}

/* The next character as it goes into quotes; returns how much was read. */
static size_t escape(
	const unsigned char *at, char ret_escaped[8], size_t *ret_bytes)
{
	static const char letters[] = "\"\"\\\\\nn\rr\tt";
	size_t bytes = utf8_bytes(at);
	unsigned int code = *at;

	for (size_t i = 0; letters[i] != '\0'; i += 2)
		if (*at == (unsigned char)letters[i]) {
			ret_escaped[0] = '\\';
			ret_escaped[1] = letters[i + 1];
			*ret_bytes = 2;
			return 1;
		}
	/* The controls U+0080 to U+009F move cursors as well. */
	if (bytes == 2 && at[0] == 0xc2 && at[1] < 0xa0)
		code = at[1];
	else if (bytes == 0)
		code = 0xfffd;
	else if (*at >= 0x20 && *at != 0x7f) {
		memcpy(ret_escaped, at, bytes);
		*ret_bytes = bytes;
		return bytes;
	}
	*ret_bytes = (size_t)snprintf(ret_escaped, 8, "\\u%04x", code);
	return bytes == 0 ? 1 : bytes;
}

static void put_quoted(struct line *line, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	char escaped[8];
	size_t bytes;

	put(line, "\"", 1);
	while (*at != '\0') {
		size_t read = escape(at, escaped, &bytes);

		if (!fits(line, bytes + 1))
			break;
		put(line, escaped, bytes);
		at += read;
	}
	put(line, "\"", 1);
}

size_t log_quote(const char *text, char *ret_quoted, size_t size)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t used = 0, bytes;
	char escaped[8];

	ret_quoted[used++] = '"';
	while (*at != '\0') {
		size_t read = escape(at, escaped, &bytes);

		if (used + bytes + 2 > size)
			break;
		memcpy(ret_quoted + used, escaped, bytes);
		used += bytes;
		at += read;
	}
	ret_quoted[used++] = '"';
	ret_quoted[used] = '\0';
	return used;
}

/* logfmt leaves out the quotes where nobody needs them. */
static bool is_plain(const char *text)
{
	size_t bytes = strspn(text,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789._:/@+,-");

	return bytes > 0 && text[bytes] == '\0';
}

/* The key and what stands before its value; false: no room for both. */
static bool put_key(struct line *line, const char *key, size_t value_bytes)
{
	size_t bytes = strlen(key);

	if (!fits(line, bytes + 4 + value_bytes))
		return false;
	if (line->json) {
		put(line, line->bytes[line->used - 1] == '{' ? "\"" : ",\"",
			line->bytes[line->used - 1] == '{' ? 1 : 2);
		put(line, key, bytes);
		put(line, "\":", 2);
	} else {
		if (line->used > 0 && line->bytes[line->used - 1] != '>' &&
			line->bytes[line->used - 1] != '\n')
			put(line, " ", 1);
		put(line, key, bytes);
		put(line, "=", 1);
	}
	return true;
}

static void put_text(struct line *line, const char *key, const char *text)
{
	bool plain = !line->json && is_plain(text);
	size_t bytes = strlen(text);

	if (plain && put_key(line, key, bytes))
		put(line, text, bytes);
	else if (!plain && put_key(line, key, 2))
		put_quoted(line, text);
}

static void put_number(
	struct line *line, const char *key, double number, int decimals)
{
	char text[400]; /* the longest double has 309 digits, and decimals */
	int bytes;

	decimals = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
	if (isfinite(number))
		bytes = snprintf(text, sizeof(text), "%.*f", decimals, number);
	else
		bytes = snprintf(text, sizeof(text), "null");
	if (put_key(line, key, (size_t)bytes))
		put(line, text, (size_t)bytes);
}

static void put_time(struct line *line)
{
	struct timespec now = {0};
	struct tm utc = {0};
	char text[64];
	size_t bytes;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	bytes = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text + bytes, sizeof(text) - bytes, ".%06ldZ",
		now.tv_nsec / 1000);
	put_text(line, "ts", text);
}

static void finish(struct line *line)
{
	const char *mark = line->json ? ",\"cut\":true" : " cut=true";

	if (line->cut)
		put(line, mark, strlen(mark));
	if (line->json)
		put(line, "}", 1);
	put(line, "\n", 1);
}

static void build(struct line *line, enum log_level level, const char *event,
	const char *message, const struct log_field *fields, uint64_t lost)
{
	char prefix[3] = {'<', levels[level].priority, '>'};

	if (atomic_load_explicit(&line_is_torn, memory_order_relaxed))
		put(line, "\n", 1);
	if (atomic_load_explicit(&for_journal, memory_order_relaxed))
		put(line, prefix, sizeof(prefix));
	if (line->json)
		put(line, "{", 1);
	put_time(line);
	put_text(line, "level", levels[level].name);
	/* Early: these must not be what a long message pushes out. */
	put_text(line, "event", event);
	if (lost > 0)
		put_number(line, "lost", (double)lost, 0);
	put_text(line, "msg", message);
	for (; fields != NULL && fields->key != NULL; fields++)
		if (fields->text != NULL)
			put_text(line, fields->key, fields->text);
		else
			put_number(line, fields->key, fields->number,
				fields->decimals);
	finish(line);
}

/* ------------------------------------------------------------ writing */

/* Room for a line, and a reader: a blocking stderr must not stop rgovd, and its
 * flags belong to everybody who shares it. */
static bool is_writable(void)
{
	struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&fd, 1, 0) == 1 &&
	       (fd.revents & (POLLOUT | POLLERR | POLLNVAL)) == POLLOUT;
}

static bool send_line(const struct line *line)
{
	ssize_t wrote;

	do
		if (atomic_load_explicit(&is_socket, memory_order_relaxed))
			wrote = send(STDERR_FILENO, line->bytes, line->used,
				MSG_DONTWAIT | MSG_NOSIGNAL);
		else if (is_writable())
			wrote = write(STDERR_FILENO, line->bytes, line->used);
		else
			return false;
	while (wrote < 0 && errno == EINTR);
	/* What follows half a line begins on a new one. */
	if (wrote > 0)
		atomic_store_explicit(&line_is_torn,
			(size_t)wrote != line->used, memory_order_relaxed);
	return wrote == (ssize_t)line->used;
}

void log_write(enum log_level level, const char *event, const char *message,
	const struct log_field *fields)
{
	struct line line;
	int saved = errno;
	uint64_t lost;

	if ((int)level > atomic_load_explicit(&least_now, memory_order_relaxed))
		return;
	line.used = 0;
	line.cut = false;
	line.json = atomic_load_explicit(&format_now, memory_order_relaxed) ==
		    LOG_JSON;
	/* Taken out, so that of several threads one reports them. */
	lost = atomic_exchange_explicit(
		&unreported_lines, 0, memory_order_relaxed);
	build(&line, level, event, message, fields, lost);
	if (!send_line(&line)) {
		atomic_fetch_add_explicit(&lost_lines, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(
			&unreported_lines, lost + 1, memory_order_relaxed);
	}
	errno = saved;
}

uint64_t log_lost(void)
{
	return atomic_load_explicit(&lost_lines, memory_order_relaxed);
}

/* ------------------------------------------------------------ opening */

/* JOURNAL_STREAM is inherited by children whose stderr goes elsewhere. */
static bool is_journal(const struct stat *st)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;

	return stream != NULL &&
	       sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       device == st->st_dev && inode == st->st_ino;
}

void log_open(enum log_format format, enum log_level least)
{
	struct stat st = {0};
	bool known = fstat(STDERR_FILENO, &st) == 0;

	/* A pipe whose reader left between poll and write would kill rgovd. */
	(void)signal(SIGPIPE, SIG_IGN);
	atomic_store_explicit(&format_now, (int)format, memory_order_relaxed);
	atomic_store_explicit(&least_now, (int)least, memory_order_relaxed);
	atomic_store_explicit(&is_socket, known && S_ISSOCK(st.st_mode),
		memory_order_relaxed);
	atomic_store_explicit(
		&for_journal, known && is_journal(&st), memory_order_relaxed);
}
