/*
 * The configuration file as text, made safe for libConfuse: comments become
 * blanks, and whatever its scanner would misread without a word is an error
 * here (characters it drops, ${…} it expands, strings it cuts at a NUL).  What
 * the words mean is not known here.
 */
#include "coordinator/config_private.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { FILE_BYTES = 1 << 20, OPEN_BLOCKS = 8 };

struct scan {
	struct config_draft *draft;
	const char *file;
	char *at;
	unsigned int line;
	unsigned int opened[OPEN_BLOCKS]; /* lines of the open braces */
	size_t depth;
	bool stop; /* the rest cannot be understood */
};

static void complain(struct scan *scan, const char *what)
{
	char origin[CONFIG_ERROR_BYTES];

	snprintf(origin, sizeof(origin), "%s:%u", scan->file, scan->line);
	config_complain(scan->draft, origin, "%s", what);
}

/* Turns n bytes into blanks, but keeps the lines. */
static void blank(struct scan *scan, size_t n)
{
	for (; n > 0; n--, scan->at++)
		if (*scan->at == '\n')
			scan->line++;
		else
			*scan->at = ' ';
}

static void skip_comment(struct scan *scan)
{
	const char *end;

	if (scan->at[0] != '/' || scan->at[1] != '*') {
		blank(scan, strcspn(scan->at, "\n"));
		return;
	}
	end = strstr(scan->at + 2, "*/");
	if (end == NULL) {
		complain(scan, "the comment that begins here has no end");
		scan->stop = true;
		return;
	}
	blank(scan, (size_t)(end + 2 - scan->at));
}

/* NULL: the byte may stand in a string; else why not. */
static const char *judge_in_string(const char *at, char quote)
{
	if ((unsigned char)*at < 0x20 || *at == 0x7f)
		return "a string holds no control characters";
	if (at[0] == '\\' && at[1] != '\\' && at[1] != quote)
		return "in a string only \\\\ and an escaped quote may follow "
		       "a "
		       "backslash";
	if (quote == '"' && at[0] == '$' && at[1] == '{')
		return "${…} is not expanded here: set the variable of "
		       "the setting itself, or write '${' in single quotes";
	return NULL;
}

static void skip_string(struct scan *scan)
{
	char quote = *scan->at++;

	for (; *scan->at != quote; scan->at++) {
		const char *why;

		if (*scan->at == '\n' || *scan->at == '\0') {
			complain(scan, "the string is not closed on its line");
			scan->stop = true;
			return;
		}
		why = judge_in_string(scan->at, quote);
		if (why != NULL)
			complain(scan, why);
		if (scan->at[0] == '\\' &&
			(scan->at[1] == '\\' || scan->at[1] == quote))
			scan->at++;
	}
	scan->at++;
}

static bool is_word_byte(char c)
{
	return isalnum((unsigned char)c) ||
	       (c != '\0' && strchr("_.:/@%~-", c) != NULL);
}

/* A word without quotes; // inside of one is no comment (http://…). */
static void skip_word(struct scan *scan)
{
	while (is_word_byte(*scan->at) &&
		!(scan->at[0] == '/' && scan->at[1] == '*'))
		scan->at++;
}

static void brace(struct scan *scan)
{
	if (*scan->at == '{') {
		if (scan->depth == OPEN_BLOCKS) {
			complain(scan, "too many blocks inside one another");
			scan->stop = true;
			return;
		}
		scan->opened[scan->depth++] = scan->line;
	} else if (scan->depth == 0) {
		complain(scan, "} closes nothing");
		scan->stop = true;
		return;
	} else {
		scan->depth--;
	}
	scan->at++;
}

static void reject_byte(struct scan *scan)
{
	unsigned char c = (unsigned char)*scan->at;
	char text[96];

	if (c > 0x20 && c < 0x7f)
		snprintf(text, sizeof(text),
			"unexpected %c outside of a string (quote the value)",
			c);
	else
		snprintf(text, sizeof(text),
			"unexpected byte 0x%02x outside of a string", c);
	complain(scan, text);
	scan->stop = true;
}

static void scan_one(struct scan *scan)
{
	const char *at = scan->at;

	if (at[0] == '\n' || at[0] == ' ' || at[0] == '\t')
		blank(scan, 1);
	else if (at[0] == '\r' && at[1] == '\n')
		blank(scan, 1);
	else if (at[0] == '#' ||
		 (at[0] == '/' && (at[1] == '/' || at[1] == '*')))
		skip_comment(scan);
	else if (at[0] == '"' || at[0] == '\'')
		skip_string(scan);
	else if (at[0] == '{' || at[0] == '}')
		brace(scan);
	else if (at[0] == '=' || at[0] == ',' || (at[0] == '+' && at[1] == '='))
		scan->at += at[0] == '+' ? 2 : 1;
	else if (is_word_byte(at[0]))
		skip_word(scan);
	else
		reject_byte(scan);
}

static void scan_text(struct scan *scan, const char *end)
{
	while (scan->at < end && !scan->stop)
		scan_one(scan);
	if (!scan->stop && scan->depth > 0) {
		scan->line = scan->opened[scan->depth - 1];
		complain(scan, "the { of this line is not closed");
	}
}

/* ------------------------------------------------------------ reading */

/* A pipe or a terminal could block a reload for ever. */
static int judge_kind(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) &&
		!(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)))
		return -EINVAL;
	return 0;
}

/* At most FILE_BYTES + 1 bytes; returns how many, or -errno. */
static ssize_t read_whole(const char *file, char *buffer)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	ssize_t used = 0;
	ssize_t got = 1;
	int rc;

	if (fd < 0)
		return -errno;
	rc = judge_kind(fd);
	while (rc == 0 && got > 0 && used <= FILE_BYTES) {
		got = read(fd, buffer + used, (size_t)(FILE_BYTES + 1 - used));
		if (got > 0)
			used += got;
		else if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			rc = -errno;
	}
	(void)close(fd);
	return rc != 0 ? rc : used;
}

static int check_bytes(
	struct config_draft *draft, const char *file, char *text, size_t bytes)
{
	const char *nul = memchr(text, '\0', bytes);
	unsigned int line = 1;
	char origin[CONFIG_ERROR_BYTES];

	if (bytes > FILE_BYTES) {
		config_complain(
			draft, file, "larger than %d bytes", FILE_BYTES);
		return -EINVAL;
	}
	if (nul == NULL)
		return 0;
	for (const char *at = text; at < nul; at++)
		line += *at == '\n';
	snprintf(origin, sizeof(origin), "%s:%u", file, line);
	config_complain(draft, origin, "a NUL byte: this is not text");
	return -EINVAL;
}

/* Fills text with the file, as far as it is safe; 0 or -errno. */
static int read_clean(struct config_draft *draft, const char *file, char *text)
{
	size_t complaints = draft->error->n;
	struct scan scan = {
		.draft = draft, .file = file, .at = text, .line = 1};
	ssize_t bytes = read_whole(file, text);
	int rc;

	if (bytes < 0) {
		config_complain(draft, file, "%s",
			bytes == -EINVAL ? "neither a file nor /dev/null"
					 : strerror((int)-bytes));
		return (int)bytes;
	}
	rc = check_bytes(draft, file, text, (size_t)bytes);
	if (rc != 0)
		return rc;
	/* The scanner of libConfuse wants every line to have its end. */
	if (bytes == 0 || text[bytes - 1] != '\n')
		text[bytes++] = '\n';
	text[bytes] = '\0';
	scan_text(&scan, text + bytes);
	return draft->error->n > complaints ? -EINVAL : 0;
}

int config_text_read(
	struct config_draft *draft, const char *file, char **ret_text)
{
	char *text = calloc(1, FILE_BYTES + 2);
	int rc;

	if (text == NULL)
		return -ENOMEM;
	rc = read_clean(draft, file, text);
	if (rc == 0)
		*ret_text = text;
	else
		free(text);
	return rc;
}
