/*
 * Reads a few members out of a JSON document without taking it apart: one
 * pass, no recursion, constant memory, whatever the size.  jsmn reads the
 * small objects found that way.  Not a document tree and not a writer.
 *
 * Everything here is pure and may be called from any thread.
 */
#ifndef COORDINATOR_UPSTREAM_JSON_H
#define COORDINATOR_UPSTREAM_JSON_H

#include <stddef.h>
#include <stdint.h>

enum {
	JSON_MAX_DEPTH = 512, /* deeper documents are refused */
	JSON_SCAN_BITS = 64,
	JSON_MAX_TOKENS = 128, /* for jsmn, on the stack */
	JSON_ERROR_BYTES = 96,
};

/* A piece of the document itself; text == NULL: not there. */
struct json_text {
	const char *text; /* not NUL-terminated */
	size_t bytes;
};

/* A member asked for by name, and its value as written: a string keeps its
 * quotes, an object its braces.  Of equal names the last one counts. */
struct json_member {
	const char *name;
	struct json_text value;
};

/*
 * Sees every string of the document in order, names of members too, without
 * their quotes and with their escapes as written.
 */
struct json_strings {
	void (*see)(void *context, const char *text, size_t bytes);
	void *context;
};

/*
 * Checks that the text is one JSON object (RFC 8259; the bytes above 0x7f of
 * strings are not judged) and fills in the members wanted of its top level.
 * `strings` may be NULL, and text where bytes is 0.
 *
 * Returns 0.  -EINVAL: it is not; ret_error then says what and at which byte,
 * quoting nothing of the document.  Time is linear in bytes.  The values point
 * into the text.  On failure the values are as good as absent.
 */
int json_scan_object(const char *text, size_t bytes, struct json_member *wanted,
	size_t count, const struct json_strings *strings,
	char ret_error[JSON_ERROR_BYTES]);

/*
 * The same for a large document, in pieces, so that others have their turn
 * between them.  The text and the members stay where they are meanwhile.
 */
struct json_scan {
	const char *start, *at, *end;
	const char *pause;     /* not much further, this time */
	const char *in_string; /* where a string is taken up again, or NULL */
	uint64_t is_object[JSON_MAX_DEPTH / JSON_SCAN_BITS]; /* by level */
	unsigned int depth;
	int want;
	const char *error; /* NULL: none */
	const struct json_strings *strings;
	struct json_member *wanted;
	size_t count;
	struct json_text name; /* of the top-level member being read */
	const char *value;     /* its start */
};

void json_scan_begin(struct json_scan *scan, const char *text, size_t bytes,
	struct json_member *wanted, size_t count,
	const struct json_strings *strings);

/* Goes on for about so many bytes.  1: there is more; else as
 * json_scan_object(), and it has ended. */
int json_scan_more(
	struct json_scan *scan, size_t bytes, char ret_error[JSON_ERROR_BYTES]);

/*
 * Fills in the members wanted of an object found by json_scan_object(), by
 * jsmn; one of more than JSON_MAX_TOKENS tokens is scanned instead.  Returns 0;
 * -EINVAL: not an object, or absent.
 */
int json_read_members(
	struct json_text object, struct json_member *wanted, size_t count);

/*
 * The value as a count: a number >= 0, rounded up, at most JSON_COUNT_MAX.
 * -1: absent, negative, no number, or one written with more than 63 bytes.
 */
#define JSON_COUNT_MAX INT64_C(1000000000000)
int64_t json_read_count(struct json_text value);

/*
 * Decodes a string value into NUL-terminated UTF-8, cut at a character's
 * border where it does not fit.  Bytes that are not UTF-8, lone surrogates and
 * U+0000 become U+FFFD.  Returns the bytes written without the NUL; 0 and ""
 * when the value is absent or no string.  size >= 1.
 */
size_t json_read_string(struct json_text value, char *ret_text, size_t size);

#endif
