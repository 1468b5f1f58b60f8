/*
 * The file is read whole, cut up in place and wiped as a whole at the end, so
 * that no copy of a secret is left behind.
 */
#include "coordinator/upstream/aws_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct reader {
	struct aws_profile *profile;
	struct aws_profile_error *error;
	enum aws_profile_file kind;
	const char *name;
	bool in_section; /* any */
	bool in_ours;
	bool after_setting; /* an indented line may continue it */
	size_t indent;      /* of that setting */
};

static int refuse(struct reader *reader, const char *why)
{
	reader->error->why = why;
	return -EINVAL;
}

/* ---- the file ---- */

static int read_all(int fd, char *text, size_t size, size_t *ret_bytes)
{
	size_t used = 0;

	while (used < size) {
		ssize_t n = read(fd, text + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	*ret_bytes = used;
	return 0;
}

static bool is_dev_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

static int load_fd(struct reader *reader, int fd)
{
	struct aws_profile *profile = reader->profile;
	struct stat st;
	size_t bytes = 0;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* AWS_CONFIG_FILE=/dev/null is how people say "none". */
	if (!S_ISREG(st.st_mode) && !is_dev_null(&st))
		return refuse(reader, "not a regular file");
	if (st.st_size > AWS_PROFILE_MAX_FILE_BYTES)
		return refuse(reader, "larger than 1 MiB");
	profile->text_bytes = (size_t)st.st_size + 1;
	profile->text = calloc(1, profile->text_bytes);
	if (profile->text == NULL)
		return -ENOMEM;
	rc = read_all(fd, profile->text, profile->text_bytes - 1, &bytes);
	if (rc == 0)
		profile->text_bytes = bytes + 1; /* with the NUL */
	return rc;
}

static int load_file(struct reader *reader, const char *path)
{
	/* Not to be stopped by a FIFO that nobody writes. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc;

	if (fd < 0)
		return -errno;
	rc = load_fd(reader, fd);
	(void)close(fd);
	return rc;
}

/* ---- lines ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *trim(char *text)
{
	size_t bytes;

	text += strspn(text, " \t");
	bytes = strlen(text);
	while (bytes > 0 && is_blank(text[bytes - 1]))
		text[--bytes] = '\0';
	return text;
}

/* Ends a value where a comment begins: at '#' or ';' behind a blank. */
static void cut_comment(char *text)
{
	for (char *c = text; *c != '\0'; c++)
		if ((*c == '#' || *c == ';') && c > text && is_blank(c[-1])) {
			*c = '\0';
			return;
		}
}

static char *unquote(char *text)
{
	size_t bytes = strlen(text);

	if (bytes < 2 || (text[0] != '"' && text[0] != '\'') ||
		text[bytes - 1] != text[0])
		return text;
	text[bytes - 1] = '\0';
	return text + 1;
}

static bool is_ours(const struct reader *reader, char *section)
{
	static const char word[] = "profile";

	if (reader->kind == AWS_PROFILE_CREDENTIALS)
		return strcmp(section, reader->name) == 0;
	if (strncmp(section, word, sizeof(word) - 1) == 0 &&
		is_blank(section[sizeof(word) - 1])) {
		section = unquote(trim(section + sizeof(word)));
		return strcmp(section, reader->name) == 0;
	}
	return strcmp(section, "default") == 0 &&
	       strcmp(reader->name, "default") == 0;
}

static int read_section(struct reader *reader, char *line)
{
	char *end = strchr(line, ']');

	if (end == NULL)
		return refuse(reader, "a section without its ']'");
	*end = '\0';
	end += 1 + strspn(end + 1, " \t");
	if (*end != '\0' && *end != '#' && *end != ';')
		return refuse(reader, "text behind a section's ']'");
	reader->in_section = true;
	reader->in_ours = is_ours(reader, trim(line + 1));
	if (reader->in_ours)
		reader->profile->found = true;
	reader->after_setting = false;
	return 0;
}

static int read_setting(struct reader *reader, char *line)
{
	struct aws_profile *profile = reader->profile;
	char *sign = strpbrk(line, "=:");

	if (!reader->in_section)
		return refuse(reader, "a setting before the first section");
	if (sign == NULL || sign == line)
		return refuse(
			reader, "neither \"[section]\" nor \"name = value\"");
	if (!reader->in_ours)
		return 0;
	if (profile->count == AWS_PROFILE_MAX_SETTINGS)
		return refuse(reader, "too many settings in one profile");
	*sign = '\0';
	cut_comment(sign + 1);
	profile->settings[profile->count++] =
		(struct aws_setting){trim(line), trim(sign + 1)};
	return 0;
}

static int read_line(struct reader *reader, char *line)
{
	size_t indent = strspn(line, " \t");

	line = trim(line);
	if (*line == '\0' || *line == '#' || *line == ';')
		return 0;
	if (reader->after_setting && indent > reader->indent)
		return 0;
	if (*line == '[')
		return read_section(reader, line);
	reader->after_setting = true;
	reader->indent = indent;
	return read_setting(reader, line);
}

static void cut_return(char *line)
{
	size_t bytes = strlen(line);

	if (bytes > 0 && line[bytes - 1] == '\r')
		line[bytes - 1] = '\0';
}

static int read_lines(struct reader *reader)
{
	char *line = reader->profile->text, *next;
	int rc = 0;

	if (strlen(line) != reader->profile->text_bytes - 1)
		return refuse(reader, "a zero byte in it");
	if (strncmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3;
	while (rc == 0 && line != NULL) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		cut_return(line);
		reader->error->line++;
		rc = read_line(reader, line);
		line = next;
	}
	return rc;
}

/* ---- the door ---- */

int aws_profile_read(const char *path, enum aws_profile_file kind,
	const char *name, struct aws_profile *ret_profile,
	struct aws_profile_error *ret_error)
{
	struct reader reader = {.profile = ret_profile,
		.error = ret_error,
		.kind = kind,
		.name = name};
	int rc;

	*ret_error = (struct aws_profile_error){0};
	rc = load_file(&reader, path);
	if (rc == 0)
		rc = read_lines(&reader);
	if (rc < 0)
		aws_profile_wipe(ret_profile);
	return rc;
}

const char *aws_profile_get(const struct aws_profile *profile, const char *name)
{
	for (size_t i = profile->count; i > 0; i--) {
		const struct aws_setting *setting = &profile->settings[i - 1];

		if (strcasecmp(setting->name, name) == 0)
			return *setting->value != '\0' ? setting->value : NULL;
	}
	return NULL;
}

void aws_profile_wipe(struct aws_profile *profile)
{
	if (profile->text != NULL)
		OPENSSL_cleanse(profile->text, profile->text_bytes);
	free(profile->text);
	*profile = (struct aws_profile){0};
}
