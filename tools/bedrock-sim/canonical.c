/* The canonical request of Signature Version 4, rebuilt by the receiver. */
#include "tools/bedrock-sim/canonical.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tools/bedrock-sim/memory.h"

struct parameter {
	char *name, *value; /* canonical; one allocation each */
};

static bool is_unreserved(unsigned char c)
{
	return c < 128 && (isalnum(c) || (c != 0 && strchr("-._~", c)));
}

static void put_encoded(FILE *out, unsigned char c)
{
	if (is_unreserved(c))
		(void)fputc(c, out);
	else
		(void)fprintf(out, "%%%02X", c);
}

/*
 * Every service but S3 encodes the path as sent once more: "%3A" on the wire
 * is signed as "%253A".
 */
static void put_path(FILE *out, const char *path)
{
	for (; *path != '\0'; path++)
		if (*path == '/')
			(void)fputc('/', out);
		else
			put_encoded(out, (unsigned char)*path);
}

/* Decodes what is encoded and encodes all anew, with upper-case digits. */
static char *canonical_part(const char *text, size_t length)
{
	char *part = NULL;
	size_t size;
	FILE *out = memory_stream(&part, &size);

	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '%' && i + 2 < length &&
			isxdigit((unsigned char)text[i + 1]) &&
			isxdigit((unsigned char)text[i + 2])) {
			char digits[] = {text[i + 1], text[i + 2], '\0'};

			c = (unsigned char)strtoul(digits, NULL, 16);
			i += 2;
		}
		put_encoded(out, c);
	}
	if (fclose(out) != 0)
		memory_none();
	return part;
}

static int parameter_order(const void *left, const void *right)
{
	const struct parameter *a = left, *b = right;
	int names = strcmp(a->name, b->name);

	return names ? names : strcmp(a->value, b->value);
}

static size_t parameters_split(const char *query, struct parameter **ret_list)
{
	struct parameter *list = NULL;
	size_t count = 0, capacity = 0;

	while (*query != '\0') {
		size_t length = strcspn(query, "&");
		const char *equals = memchr(query, '=', length);
		size_t name = equals ? (size_t)(equals - query) : length;

		list = memory_grow(list, &capacity, count + 1, sizeof(*list));
		list[count].name = canonical_part(query, name);
		list[count].value =
			equals ? canonical_part(equals + 1, length - name - 1)
			       : memory_text("");
		count++;
		query += length;
		query += *query == '&';
	}
	*ret_list = list;
	return count;
}

static void put_query(FILE *out, const char *query)
{
	struct parameter *list;
	size_t count = parameters_split(query, &list);

	if (count > 0)
		qsort(list, count, sizeof(*list), parameter_order);
	for (size_t i = 0; i < count; i++) {
		(void)fprintf(out, "%s%s=%s", i ? "&" : "", list[i].name,
			list[i].value);
		free(list[i].name);
		free(list[i].value);
	}
	free(list);
}

/* Without the blanks at both ends, and runs of blanks as one. */
static void put_trimmed(FILE *out, const char *value)
{
	bool blank = false, begun = false;

	for (; *value != '\0'; value++) {
		if (*value == ' ' || *value == '\t') {
			blank = true;
			continue;
		}
		if (blank && begun)
			(void)fputc(' ', out);
		(void)fputc(*value, out);
		blank = false;
		begun = true;
	}
}

/* All fields of one name on one line, in the order sent. */
static void put_header(FILE *out, const struct headers *headers,
	const char *name, size_t length)
{
	bool first = true;

	(void)fprintf(out, "%.*s:", (int)length, name);
	for (size_t i = 0; i < headers->count; i++) {
		if (strlen(headers->list[i].name) != length ||
			strncasecmp(headers->list[i].name, name, length) != 0)
			continue;
		if (!first)
			(void)fputc(',', out);
		put_trimmed(out, headers->list[i].value);
		first = false;
	}
	(void)fputc('\n', out);
}

static void put_headers(
	FILE *out, const struct headers *headers, const char *names)
{
	while (*names != '\0') {
		size_t length = strcspn(names, ";");

		put_header(out, headers, names, length);
		names += length;
		names += *names == ';';
	}
}

char *canonical_request(
	const struct sigv4_request *request, const char *signed_headers)
{
	char *text = NULL;
	size_t size;
	FILE *out = memory_stream(&text, &size);

	(void)fprintf(out, "%s\n", request->method);
	put_path(out, request->path);
	(void)fputc('\n', out);
	put_query(out, request->query);
	(void)fputc('\n', out);
	put_headers(out, request->headers, signed_headers);
	(void)fprintf(out, "\n%s\n%s", signed_headers, request->body_sha256);
	/* A write that failed for lack of memory shows here. */
	if (ferror(out) | (fclose(out) != 0))
		memory_none();
	return text;
}
