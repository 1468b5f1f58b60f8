/*
 * Reads one profile out of a shared credentials or config file of the AWS
 * tools.  Knows the format, not what the settings mean.
 *
 * The format as botocore reads it: "[section]" lines, "name = value" or
 * "name: value" lines, comments from '#' or ';' at the beginning of a line or
 * after a blank, LF or CR LF, maybe a byte order mark.  Lines indented further
 * than the setting before them belong to that setting and are left out.
 */
#ifndef COORDINATOR_UPSTREAM_AWS_PROFILE_H
#define COORDINATOR_UPSTREAM_AWS_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

enum { AWS_PROFILE_MAX_SETTINGS = 64, AWS_PROFILE_MAX_FILE_BYTES = 1 << 20 };

enum aws_profile_file {
	AWS_PROFILE_CREDENTIALS, /* sections are called "[name]" */
	AWS_PROFILE_CONFIG,      /* "[default]" and "[profile name]" */
};

/* Zero it first.  The settings point into text; ended by aws_profile_wipe(). */
struct aws_profile {
	bool found; /* the file has a section of that name */
	char *text;
	size_t text_bytes;
	size_t count;
	struct aws_setting {
		const char *name, *value;
	} settings[AWS_PROFILE_MAX_SETTINGS];
};

struct aws_profile_error {
	unsigned int line; /* 0: of the file as a whole */
	const char *why;   /* a constant; NULL: what the errno says */
};

/*
 * Returns 0, also when the file has no such profile.  -ENOENT: no such file;
 * -EINVAL: it is malformed or not a regular file; other -errno: it cannot be
 * read.  On failure *ret_error says more, quoting nothing of the file, and
 * *ret_profile stays empty.
 */
int aws_profile_read(const char *path, enum aws_profile_file kind,
	const char *name, struct aws_profile *ret_profile,
	struct aws_profile_error *ret_error);

/* The last value of that name, any case; NULL: not set, or empty. */
const char *aws_profile_get(
	const struct aws_profile *profile, const char *name);

/* Overwrites and frees the text; fine on a zeroed one. */
void aws_profile_wipe(struct aws_profile *profile);

#endif
