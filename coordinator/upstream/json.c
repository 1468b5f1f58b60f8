/*
 * The scanner is a small machine over the grammar: what may come next, and one
 * bit per level for "object or array".  So neither depth nor size costs memory.
 */
#include "coordinator/upstream/json.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without parent links jsmn is quadratic in the number of objects. */
#define JSMN_STATIC
#define JSMN_PARENT_LINKS
#define JSMN_STRICT
#include <jsmn.h>

enum {
	NUMBER_BYTES = 64,
	NAME_BYTES = 64, /* longer names are never wanted */
	BITS = JSON_SCAN_BITS,
	REPLACEMENT = 0xfffd,
	MAX_CODE_POINT = 0x10ffff,
};

/* What the grammar wants next. */
enum want {
	VALUE,
	VALUE_OR_CLOSE, /* just behind '[' */
	NAME,
	NAME_OR_CLOSE, /* just behind '{' */
	COLON,
	COMMA_OR_CLOSE,
	NOTHING, /* the document is complete */
};

/* ---- strings ---- */

/* Any of the eight bytes: a quote, a backslash, or below 0x20?  The usual
 * "has a byte less than n" trick; a false alarm only costs the slow path. */
static bool word_is_plain(const char *text)
{
	const uint64_t ones = UINT64_MAX / 255, tops = ones * 128;
	uint64_t word, quote, slash;

	memcpy(&word, text, sizeof(word));
	quote = word ^ (ones * '"');
	slash = word ^ (ones * '\\');
	return ((((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
			((slash - ones) & ~slash)) &
		       tops) == 0;
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
	       (c >= 'A' && c <= 'F');
}

/* `at` is on a backslash; returns the bytes of the escape, 0 if it is none. */
static size_t escape_bytes(const char *at, const char *end)
{
	if (end - at < 2)
		return 0;
	if (at[1] != 'u')
		return at[1] != '\0' && strchr("\"\\/bfnrt", at[1]) != NULL ? 2
									    : 0;
	if (end - at < 6)
		return 0;
	for (int i = 2; i < 6; i++)
		if (!is_hex(at[i]))
			return 0;
	return 6;
}

static bool fail(struct json_scan *scan, const char *error)
{
	scan->error = error;
	return false;
}

/* Out of it, to be taken up at its quote, and here.  False, without an error.
 */
static bool pause_string(struct json_scan *scan, const char *first)
{
	scan->in_string = scan->at;
	scan->at = first - 1;
	return false;
}

/* Takes a string, from its quote on; *ret_inside is what is between. */
static bool take_string(struct json_scan *scan, struct json_text *ret_inside)
{
	const char *first = ++scan->at;
	size_t escape;

	if (scan->in_string != NULL)
		scan->at = scan->in_string;
	scan->in_string = NULL;
	for (;;) {
		if (scan->at >= scan->pause && scan->at < scan->end)
			return pause_string(scan, first);
		while (scan->end - scan->at >= 8 && word_is_plain(scan->at))
			scan->at += 8;
		if (scan->at == scan->end)
			return fail(scan, "a string does not end");
		if (*scan->at == '"')
			break;
		if ((unsigned char)*scan->at < 0x20)
			return fail(scan, "a control byte in a string");
		escape = 1;
		if (*scan->at == '\\')
			escape = escape_bytes(scan->at, scan->end);
		if (escape == 0)
			return fail(scan, "a bad escape in a string");
		scan->at += escape;
	}
	*ret_inside = (struct json_text){first, (size_t)(scan->at - first)};
	scan->at++;
	if (scan->strings != NULL)
		scan->strings->see(scan->strings->context, ret_inside->text,
			ret_inside->bytes);
	return true;
}

/* ---- numbers and words ---- */

static size_t take_digits(struct json_scan *scan)
{
	const char *first = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	return (size_t)(scan->at - first);
}

static bool take_char(struct json_scan *scan, char c)
{
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

static bool take_number(struct json_scan *scan)
{
	const char *first;

	(void)take_char(scan, '-');
	first = scan->at;
	if (take_digits(scan) == 0)
		return fail(scan, "a value is expected");
	if (*first == '0' && scan->at - first > 1)
		return fail(scan, "a number with a leading zero");
	if (take_char(scan, '.') && take_digits(scan) == 0)
		return fail(scan, "a number ends in its point");
	if (take_char(scan, 'e') || take_char(scan, 'E')) {
		if (!take_char(scan, '+'))
			(void)take_char(scan, '-');
		if (take_digits(scan) == 0)
			return fail(scan, "a number without its exponent");
	}
	return true;
}

static bool take_word(struct json_scan *scan)
{
	static const char *const words[] = {"true", "false", "null"};
	size_t left = (size_t)(scan->end - scan->at);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t bytes = strlen(words[i]);

		if (left >= bytes && memcmp(scan->at, words[i], bytes) == 0) {
			scan->at += bytes;
			return true;
		}
	}
	return fail(scan, "a value is expected");
}

/* ---- members of the top level ---- */

static bool name_is(struct json_text name, const char *wanted)
{
	char decoded[NAME_BYTES];

	if (memchr(name.text, '\\', name.bytes) == NULL)
		return name.bytes == strlen(wanted) &&
		       memcmp(name.text, wanted, name.bytes) == 0;
	/* Written with escapes: as good a name as any.  The quotes around are
	 * part of the document, so they may be read. */
	if (name.bytes >= 6 * sizeof(decoded))
		return false;
	name = (struct json_text){name.text - 1, name.bytes + 2};
	return json_read_string(name, decoded, sizeof(decoded)) ==
		       strlen(wanted) &&
	       strcmp(decoded, wanted) == 0;
}

static void keep_member(struct json_member *wanted, size_t count,
	struct json_text name, struct json_text value)
{
	for (size_t i = 0; i < count; i++)
		if (name_is(name, wanted[i].name))
			wanted[i].value = value;
}

static void forget_members(struct json_member *wanted, size_t count)
{
	for (size_t i = 0; i < count; i++)
		wanted[i].value = (struct json_text){NULL, 0};
}

/* ---- the machine ---- */

static bool in_object(const struct json_scan *scan)
{
	unsigned int level = scan->depth - 1;

	return scan->is_object[level / BITS] >> (level % BITS) & 1;
}

/* A value has ended at `at`: what may follow it? */
static enum want end_value(struct json_scan *scan)
{
	if (scan->depth == 0)
		return NOTHING;
	if (scan->depth == 1)
		keep_member(scan->wanted, scan->count, scan->name,
			(struct json_text){
				scan->value, (size_t)(scan->at - scan->value)});
	return COMMA_OR_CLOSE;
}

static bool open_level(struct json_scan *scan, enum want *want)
{
	bool object = *scan->at == '{';
	unsigned int level = scan->depth;
	uint64_t bit = UINT64_C(1) << (level % BITS);

	if (level == JSON_MAX_DEPTH)
		return fail(scan, "it is nested too deep");
	if (object)
		scan->is_object[level / BITS] |= bit;
	else
		scan->is_object[level / BITS] &= ~bit;
	scan->depth++;
	scan->at++;
	*want = object ? NAME_OR_CLOSE : VALUE_OR_CLOSE;
	return true;
}

static bool take_value(struct json_scan *scan, enum want *want)
{
	struct json_text ignored;

	if (scan->depth == 1)
		scan->value = scan->at;
	if (*scan->at == '{' || *scan->at == '[')
		return open_level(scan, want);
	if (*scan->at == '"') {
		if (!take_string(scan, &ignored))
			return false;
	} else if (*scan->at == '-' || (*scan->at >= '0' && *scan->at <= '9')) {
		if (!take_number(scan))
			return false;
	} else if (!take_word(scan)) {
		return false;
	}
	*want = end_value(scan);
	return true;
}

static bool take_name(struct json_scan *scan, enum want *want)
{
	struct json_text name;

	if (*scan->at != '"')
		return fail(scan, "a member's name is expected");
	if (!take_string(scan, &name))
		return false;
	if (scan->depth == 1)
		scan->name = name;
	*want = COLON;
	return true;
}

static bool close_level(struct json_scan *scan, enum want *want)
{
	if (*scan->at != (in_object(scan) ? '}' : ']'))
		return fail(scan, "a comma or a closing bracket is expected");
	scan->at++;
	scan->depth--;
	*want = end_value(scan);
	return true;
}

/* Takes one piece; `at` is on a byte that is no blank. */
static bool take_piece(struct json_scan *scan, enum want *want)
{
	char c = *scan->at;

	switch (*want) {
	case VALUE_OR_CLOSE:
		return c == ']' ? close_level(scan, want)
				: take_value(scan, want);
	case VALUE:
		return take_value(scan, want);
	case NAME_OR_CLOSE:
		return c == '}' ? close_level(scan, want)
				: take_name(scan, want);
	case NAME:
		return take_name(scan, want);
	case COLON:
		*want = VALUE;
		return take_char(scan, ':') ||
		       fail(scan, "a colon is expected");
	case COMMA_OR_CLOSE:
		if (!take_char(scan, ','))
			return close_level(scan, want);
		*want = in_object(scan) ? NAME : VALUE;
		return true;
	case NOTHING:
		return fail(scan, "something follows its end");
	}
	return false;
}

static void skip_blanks(struct json_scan *scan)
{
	while (scan->at < scan->end &&
		(*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' ||
			*scan->at == '\t'))
		scan->at++;
}

static bool scan_top(struct json_scan *scan)
{
	skip_blanks(scan);
	if (scan->at == scan->end)
		return fail(scan, "it is empty");
	return *scan->at == '{' || fail(scan, "an object is expected");
}

/* False: an error; or, without one, a pause. */
static bool scan_on(struct json_scan *scan)
{
	enum want want = (enum want)scan->want;

	while (scan->at < scan->end && scan->at < scan->pause) {
		if (!take_piece(scan, &want))
			break;
		skip_blanks(scan);
	}
	scan->want = want;
	if (scan->at < scan->end)
		return false;
	return want == NOTHING || fail(scan, "it ends too early");
}

void json_scan_begin(struct json_scan *scan, const char *text, size_t bytes,
	struct json_member *wanted, size_t count,
	const struct json_strings *strings)
{
	/* NULL is the text of an answer without a body. */
	const char *start = text != NULL ? text : "";

	*scan = (struct json_scan){.start = start,
		.at = start,
		.end = start + bytes,
		.want = VALUE,
		.strings = strings,
		.wanted = wanted,
		.count = count};
	forget_members(wanted, count);
	(void)scan_top(scan);
}

int json_scan_more(
	struct json_scan *scan, size_t bytes, char ret_error[JSON_ERROR_BYTES])
{
	const char *from = scan->in_string ? scan->in_string : scan->at;
	size_t left = (size_t)(scan->end - from);

	scan->pause = from + (bytes < left ? bytes : left);
	if (scan->error == NULL && scan_on(scan))
		return 0;
	if (scan->error == NULL)
		return 1;
	forget_members(scan->wanted, scan->count);
	(void)snprintf(ret_error, JSON_ERROR_BYTES, "%s, at byte %zu",
		scan->error, (size_t)(scan->at - scan->start));
	return -EINVAL;
}

int json_scan_object(const char *text, size_t bytes, struct json_member *wanted,
	size_t count, const struct json_strings *strings,
	char ret_error[JSON_ERROR_BYTES])
{
	struct json_scan scan;

	json_scan_begin(&scan, text, bytes, wanted, count, strings);
	return json_scan_more(&scan, bytes, ret_error);
}

/* ---- jsmn ---- */

static struct json_text token_text(const char *text, const jsmntok_t *token)
{
	int quote = token->type == JSMN_STRING; /* jsmn leaves the quotes out */

	return (struct json_text){text + token->start - quote,
		(size_t)(token->end - token->start + 2 * quote)};
}

int json_read_members(
	struct json_text object, struct json_member *wanted, size_t count)
{
	jsmntok_t tokens[JSON_MAX_TOKENS];
	jsmn_parser parser;
	char error[JSON_ERROR_BYTES];
	int n;

	forget_members(wanted, count);
	if (object.text == NULL || object.bytes == 0 || object.bytes > INT_MAX)
		return -EINVAL;
	jsmn_init(&parser);
	n = jsmn_parse(
		&parser, object.text, object.bytes, tokens, JSON_MAX_TOKENS);
	if (n == JSMN_ERROR_NOMEM)
		return json_scan_object(
			object.text, object.bytes, wanted, count, NULL, error);
	if (n < 1 || tokens[0].type != JSMN_OBJECT)
		return -EINVAL;
	for (int i = 1; i + 1 < n; i++) {
		struct json_text name = {object.text + tokens[i].start,
			(size_t)(tokens[i].end - tokens[i].start)};

		if (tokens[i].parent == 0) /* a name; its value comes next */
			keep_member(wanted, count, name,
				token_text(object.text, &tokens[i + 1]));
	}
	return 0;
}

/* ---- values ---- */

int64_t json_read_count(struct json_text value)
{
	char digits[NUMBER_BYTES];
	double number;
	int64_t whole;

	if (value.text == NULL || value.bytes >= sizeof(digits) ||
		*value.text < '0' || *value.text > '9')
		return -1;
	memcpy(digits, value.text, value.bytes);
	digits[value.bytes] = '\0';
	number = strtod(digits, NULL); /* no setlocale() in this program */
	if (number >= (double)JSON_COUNT_MAX)
		return JSON_COUNT_MAX;
	whole = (int64_t)number;
	return whole + ((double)whole < number);
}

static uint32_t read_hex4(const char *text)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		uint32_t c = (unsigned char)text[i];

		value = value << 4 |
			(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

/* Reads \uXXXX, or a pair of them; `at` is on the backslash. */
static size_t decode_unicode(
	const char *at, const char *end, uint32_t *ret_code_point)
{
	uint32_t high = read_hex4(at + 2), low;

	*ret_code_point = high;
	if (high < 0xd800 || high > 0xdfff)
		return 6;
	*ret_code_point = REPLACEMENT;
	if (high > 0xdbff || end - at < 12 || at[6] != '\\' || at[7] != 'u' ||
		escape_bytes(at + 6, end) != 6)
		return 6;
	low = read_hex4(at + 8);
	if (low < 0xdc00 || low > 0xdfff)
		return 6;
	*ret_code_point = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return 12;
}

static size_t decode_escape(
	const char *at, const char *end, uint32_t *ret_code_point)
{
	static const char names[] = "bfnrt", values[] = "\b\f\n\r\t";
	size_t bytes = escape_bytes(at, end);
	const char *name;

	*ret_code_point = REPLACEMENT;
	if (bytes == 0)
		return 1;
	if (bytes == 6)
		return decode_unicode(at, end, ret_code_point);
	name = strchr(names, at[1]);
	*ret_code_point = (unsigned char)(name ? values[name - names] : at[1]);
	return 2;
}

/* Reads one character of UTF-8; one bad byte is one replacement. */
static size_t decode_utf8(
	const char *at, const char *end, uint32_t *ret_code_point)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t lead = (unsigned char)*at, value;
	size_t bytes = lead < 0x80    ? 1
		       : lead >= 0xf0 ? 4
		       : lead >= 0xe0 ? 3
		       : lead >= 0xc0 ? 2
				      : 0;

	*ret_code_point = REPLACEMENT;
	if (bytes == 0 || lead > 0xf7 || (size_t)(end - at) < bytes)
		return 1;
	value = bytes == 1 ? lead : lead & (0x7fU >> bytes);
	for (size_t i = 1; i < bytes; i++) {
		if (((unsigned char)at[i] & 0xc0) != 0x80)
			return 1;
		value = value << 6 | ((unsigned char)at[i] & 0x3f);
	}
	if (value < least[bytes] || value > MAX_CODE_POINT ||
		(value >= 0xd800 && value <= 0xdfff))
		return 1;
	*ret_code_point = value;
	return bytes;
}

/* Returns the bytes written; 0: they do not fit. */
static size_t encode_utf8(uint32_t code_point, char *ret_text, size_t size)
{
	size_t bytes = code_point < 0x80      ? 1
		       : code_point < 0x800   ? 2
		       : code_point < 0x10000 ? 3
					      : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	if (bytes > size)
		return 0;
	for (size_t i = bytes - 1; i > 0; i--) {
		ret_text[i] = (char)(0x80 | (code_point & 0x3f));
		code_point >>= 6;
	}
	ret_text[0] = (char)(lead[bytes] | code_point);
	return bytes;
}

size_t json_read_string(struct json_text value, char *ret_text, size_t size)
{
	const char *at, *end;
	size_t used = 0, bytes;
	uint32_t code_point;

	*ret_text = '\0';
	if (value.text == NULL || value.bytes < 2 || *value.text != '"')
		return 0;
	at = value.text + 1;
	end = value.text + value.bytes - 1;
	while (at < end) {
		at += *at == '\\' ? decode_escape(at, end, &code_point)
				  : decode_utf8(at, end, &code_point);
		if (code_point == 0)
			code_point = REPLACEMENT;
		bytes = encode_utf8(
			code_point, ret_text + used, size - 1 - used);
		if (bytes == 0)
			break;
		used += bytes;
	}
	ret_text[used] = '\0';
	return used;
}
