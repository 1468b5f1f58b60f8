/*
 * The JSON reader, against jansson: a document that it takes is one, and the
 * members it finds are those that are there.
 */
#include "coordinator/upstream/json.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>

enum { WANTED = 3 };

static size_t strings_bytes;

static void see(void *context, const char *text, size_t bytes)
{
	const struct json_text *document = context;

	MUST(text >= document->text &&
		text + bytes <= document->text + document->bytes);
	strings_bytes += bytes;
}

static bool is_ascii(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] >= 0x80)
			return false;
	return true;
}

/* What jansson does not read although it is JSON: numbers that its types do not
 * hold, lone surrogates, names with U+0000. */
static bool is_beyond_jansson(const json_error_t *error)
{
	return strstr(error->text, "too big") != NULL ||
	       strstr(error->text, "overflow") != NULL ||
	       strstr(error->text, "NUL byte") != NULL ||
	       strstr(error->text, "\\u0000") != NULL ||
	       strstr(error->text, "invalid Unicode") != NULL;
}

static void compare_string(struct json_text found, json_t *there)
{
	char text[64];
	size_t n = json_read_string(found, text, sizeof(text));

	MUST(n < sizeof(text) && text[n] == '\0');
	MUST(json_is_string(there) || n == 0);
	if (!json_is_string(there) ||
		memchr(json_string_value(there), '\0',
			json_string_length(there)) != NULL)
		return;
	MUST(strncmp(text, json_string_value(there), n) == 0);
	MUST(n == json_string_length(there) || n >= sizeof(text) - 4);
}

static void compare_count(struct json_text found, json_t *there)
{
	int64_t count = json_read_count(found);

	MUST(count >= -1 && count <= JSON_COUNT_MAX);
	if (json_is_integer(there) && json_integer_value(there) >= 0 &&
		json_integer_value(there) <= JSON_COUNT_MAX &&
		found.bytes <= 63)
		MUST(count == json_integer_value(there));
	if (!json_is_number(there))
		MUST(count == -1);
}

static void read_inside(struct json_text object)
{
	struct json_member inside[WANTED] = {
		{.name = "a"}, {.name = "b"}, {.name = "input_tokens"}};

	if (json_read_members(object, inside, WANTED) != 0)
		return;
	for (int i = 0; i < WANTED; i++)
		MUST(inside[i].value.text == NULL ||
			(inside[i].value.text > object.text &&
				inside[i].value.text + inside[i].value.bytes <
					object.text + object.bytes));
}

static void compare(const char *text, size_t n, struct json_member *wanted)
{
	json_error_t error;
	json_t *document = json_loadb(text, n, JSON_ALLOW_NUL, &error);

	if (document == NULL)
		MUST(is_beyond_jansson(&error));
	for (int i = 0; i < WANTED; i++) {
		json_t *there =
			document ? json_object_get(document, wanted[i].name)
				 : NULL;

		read_inside(wanted[i].value);
		if (document == NULL)
			continue;
		compare_string(wanted[i].value, there);
		compare_count(wanted[i].value, there);
	}
	json_decref(document);
}

/* In pieces of any size it is the same document, with the same members. */
static void scan_in_pieces(const char *text, size_t n, size_t piece, int whole,
	const struct json_member *wanted)
{
	struct json_member again[WANTED] = {
		{.name = "a"}, {.name = "b"}, {.name = "usage"}};
	char error[JSON_ERROR_BYTES];
	struct json_scan scan;
	int rc;

	json_scan_begin(&scan, text, n, again, WANTED, NULL);
	do
		rc = json_scan_more(&scan, piece, error);
	while (rc == 1);
	MUST(rc == whole);
	for (int i = 0; rc == 0 && i < WANTED; i++)
		MUST(again[i].value.text == wanted[i].value.text &&
			again[i].value.bytes == wanted[i].value.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	struct json_member wanted[WANTED] = {
		{.name = "a"}, {.name = "b"}, {.name = "usage"}};
	struct json_text document;
	struct json_strings strings = {see, &document};
	char error[JSON_ERROR_BYTES];
	size_t n;
	char *text = fuzz_rest(&fuzz, &n);
	int rc;

	document = (struct json_text){text, n};
	rc = json_scan_object(text, n, wanted, WANTED, &strings, error);
	scan_in_pieces(text, n, 1 + n % 7, rc, wanted);
	if (rc == 0 && is_ascii(text, n))
		compare(text, n, wanted);
	else if (rc == 0)
		for (int i = 0; i < WANTED; i++)
			read_inside(wanted[i].value);
	else
		MUST(fuzz_is_printable(error, sizeof(error)));
	free(text);
	return 0;
}
