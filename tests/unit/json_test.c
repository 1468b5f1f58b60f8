/* coordinator/upstream/json: what is accepted, what is found, and how long it
 * takes for hostile documents. */
#include "coordinator/upstream/json.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

static char error[JSON_ERROR_BYTES];

/* In one piece, and in pieces of every size up to 9: all must agree. */
static int scan_bytes(const char *text, size_t bytes)
{
	int whole = json_scan_object(text, bytes, NULL, 0, NULL, error);
	char said[JSON_ERROR_BYTES];
	struct json_scan scan;

	for (size_t piece = 1; piece < 10; piece++) {
		int rc;

		json_scan_begin(&scan, text, bytes, NULL, 0, NULL);
		do
			rc = json_scan_more(&scan, piece, said);
		while (rc == 1);
		CU_ASSERT_EQUAL(rc, whole);
		if (rc < 0)
			CU_ASSERT_STRING_EQUAL(said, error);
	}
	return whole;
}

static int scan(const char *text)
{
	return scan_bytes(text, strlen(text));
}

static bool value_is(struct json_text value, const char *wanted)
{
	return value.text != NULL && value.bytes == strlen(wanted) &&
	       memcmp(value.text, wanted, value.bytes) == 0;
}

static struct json_text text_of(const char *text)
{
	return (struct json_text){text, strlen(text)};
}

/* Every document of RFC 8259 whose top is an object is accepted. */
static void accepts_what_is_json(void)
{
	static const char *const good[] = {
		"{}",
		" \t\r\n{ } \n",
		"{\"a\":1}",
		"{\"a\":-0.5e+10,\"b\":0,\"c\":-0,\"d\":1E9,\"e\":1.25}",
		"{\"a\":[],\"b\":[[],{}],\"c\":[1,\"x\",null,true,false]}",
		"{\"\":\"\"}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"}",
		"{\"a\":\"\xc3\xa9 and \xff\"}",
		"{\"a\":{\"b\":{\"c\":{}}}}",
		"{\"long enough for words of eight bytes\":\"0123456789 012\"}",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (scan(good[i]) != 0)
			CU_FAIL_FATAL(good[i]);
	CU_PASS("all");
}

/* Everything else is refused. */
static void refuses_what_is_not(void)
{
	static const char *const bad[] = {"", "  ", "[]", "1", "null", "\"a\"",
		"{", "}", "{]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{,}",
		"{\"a\":1 \"b\":2}", "{\"a\":1}}", "{}{}", "{} x", "{a:1}",
		"{'a':1}", "{\"a\":'x'}", "{\"a\":[1,]}", "{\"a\":[1}",
		"{\"a\":[1 2]}", "{\"a\":{\"b\":1]}", "{\"a\":01}", "{\"a\":-}",
		"{\"a\":1.}", "{\"a\":.5}", "{\"a\":1e}", "{\"a\":1e+}",
		"{\"a\":+1}", "{\"a\":0x1}", "{\"a\":NaN}", "{\"a\":tru}",
		"{\"a\":True}", "{\"a\":nul", "{\"a\":\"x", "{\"a\":\"x\\",
		"{\"a\":\"\\x\"}", "{\"a\":\"\\u12g4\"}", "{\"a\":\"\\u12\"}",
		"{\"a\":\"line\nbreak\"}", "{\"a\":\"0123456\x01 789\"}",
		"{\"a\":1:2}", "{\"a\"::1}", "\xef\xbb\xbf{}", "{1:2}",
		"{\"a\":1//c\n}"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (scan(bad[i]) != -EINVAL)
			CU_FAIL_FATAL(bad[i]);
	CU_ASSERT_EQUAL(scan_bytes("{}\0", 3), -EINVAL);
	CU_ASSERT_EQUAL(scan_bytes("{\"a\":\"\0\"}", 9), -EINVAL);
	CU_ASSERT_EQUAL(
		json_scan_object(NULL, 0, NULL, 0, NULL, error), -EINVAL);
}

/* Any beginning of a good document is refused, without reading beyond it. */
static void refuses_every_prefix(void)
{
	static const char whole[] =
		"{\"a\":[1.5e3,true,{\"b\":\"\\u00e9\\n\"}],\"c\":null}";

	for (size_t bytes = 0; bytes < sizeof(whole) - 1; bytes++) {
		char *copy = malloc(bytes + 1); /* its end is guarded by ASan */

		CU_ASSERT_FATAL(copy != NULL);
		copy = realloc(memcpy(copy, whole, bytes), bytes ? bytes : 1);
		CU_ASSERT_EQUAL(scan_bytes(copy, bytes), -EINVAL);
		free(copy);
	}
	CU_ASSERT_EQUAL(scan(whole), 0);
}

/* The reason says where, and quotes nothing of the document. */
static void says_where(void)
{
	CU_ASSERT_EQUAL(scan("{\"a\":secret}"), -EINVAL);
	CU_ASSERT_STRING_EQUAL(error, "a value is expected, at byte 5");
	CU_ASSERT_EQUAL(scan("[]"), -EINVAL);
	CU_ASSERT_STRING_EQUAL(error, "an object is expected, at byte 0");
	CU_ASSERT_EQUAL(scan("{\"a\":1"), -EINVAL);
	CU_ASSERT_STRING_EQUAL(error, "it ends too early, at byte 6");
}

/* Only members of the top level are found, the last of equal names counts, and
 * a name written with escapes is the same name. */
static void finds_top_members(void)
{
	static const char text[] =
		"{\"x\":{\"a\":1},\"a\" : 2 ,\"y\":[{\"a\":3}],\"a\":"
		"{\"k\":[1, 2]},\"\\u0062\":\"v\",\"c\":null,\"ab\":9}";
	struct json_member wanted[] = {{.name = "a"}, {.name = "b"},
		{.name = "c"}, {.name = "nothing"}};

	for (size_t piece = 1; piece <= strlen(text); piece++) {
		struct json_scan scan;

		json_scan_begin(&scan, text, strlen(text), wanted, 4, NULL);
		while (json_scan_more(&scan, piece, error) == 1)
			;
		CU_ASSERT(value_is(wanted[0].value, "{\"k\":[1, 2]}"));
		CU_ASSERT(value_is(wanted[1].value, "\"v\""));
		CU_ASSERT(value_is(wanted[2].value, "null"));
		CU_ASSERT_PTR_NULL(wanted[3].value.text);
	}
	/* A document that turns out bad gives nothing. */
	CU_ASSERT_EQUAL(
		json_scan_object("{\"a\":1,", 7, wanted, 4, NULL, error),
		-EINVAL);
	CU_ASSERT_PTR_NULL(wanted[0].value.text);
}

/* jsmn and the scan, which stands in for more tokens than jsmn is given, find
 * the same. */
static void reads_members_of_any_size(void)
{
	char *text = malloc(1 << 16);
	struct json_member wanted[] = {
		{.name = "first"}, {.name = "last"}, {.name = "inner"}};

	CU_ASSERT_FATAL(text != NULL);
	for (int items = 0; items <= 1000; items += 500) {
		int n = sprintf(text, "{\"first\":\"q\",\"list\":[0");

		for (int i = 0; i < items; i++)
			n += sprintf(text + n, ",{\"inner\":%d}", i);
		sprintf(text + n, "],\"last\":{\"a\":[]}}");
		CU_ASSERT_EQUAL(json_read_members(text_of(text), wanted, 3), 0);
		CU_ASSERT(value_is(wanted[0].value, "\"q\""));
		CU_ASSERT(value_is(wanted[1].value, "{\"a\":[]}"));
		CU_ASSERT_PTR_NULL(wanted[2].value.text);
	}
	free(text);
	CU_ASSERT_EQUAL(json_read_members(text_of("[1]"), wanted, 3), -EINVAL);
	CU_ASSERT_EQUAL(json_read_members(text_of("7"), wanted, 3), -EINVAL);
	CU_ASSERT_EQUAL(
		json_read_members((struct json_text){NULL, 0}, wanted, 3),
		-EINVAL);
	CU_ASSERT_EQUAL(json_read_members(text_of("{}"), wanted, 3), 0);
}

/* A count is a number from 0 on; nothing else is. */
static void reads_counts(void)
{
	CU_ASSERT_EQUAL(json_read_count(text_of("0")), 0);
	CU_ASSERT_EQUAL(json_read_count(text_of("4096")), 4096);
	CU_ASSERT_EQUAL(json_read_count(text_of("1.2e3")), 1200);
	CU_ASSERT_EQUAL(json_read_count(text_of("0.1")), 1);
	CU_ASSERT_EQUAL(json_read_count(text_of("1e400")), JSON_COUNT_MAX);
	CU_ASSERT_EQUAL(json_read_count(text_of("99999999999999999999999")),
		JSON_COUNT_MAX);
	CU_ASSERT_EQUAL(json_read_count(text_of("-1")), -1);
	CU_ASSERT_EQUAL(json_read_count(text_of("\"12\"")), -1);
	CU_ASSERT_EQUAL(json_read_count(text_of("null")), -1);
	CU_ASSERT_EQUAL(json_read_count(text_of("{}")), -1);
	CU_ASSERT_EQUAL(json_read_count((struct json_text){NULL, 0}), -1);
}

static const char *decoded(const char *value, size_t size)
{
	static char text[256];

	CU_ASSERT_EQUAL(
		json_read_string(text_of(value), text, size), strlen(text));
	return text;
}

/* What comes out is whole UTF-8, whatever goes in and wherever it is cut. */
static void reads_strings(void)
{
	CU_ASSERT_STRING_EQUAL(decoded("\"\"", 8), "");
	CU_ASSERT_STRING_EQUAL(decoded("\"a\\n\\\"\\/\"", 8), "a\n\"/");
	CU_ASSERT_STRING_EQUAL(decoded("\"\\u00e9\\u6f22\\uD83d\\uDe00\"", 32),
		"\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x98\x80");
	CU_ASSERT_STRING_EQUAL(decoded("\"\\ud83d!\"", 8), "\xef\xbf\xbd!");
	CU_ASSERT_STRING_EQUAL(decoded("\"\\ude00\"", 8), "\xef\xbf\xbd");
	CU_ASSERT_STRING_EQUAL(decoded("\"\\ud83d\\u0041\"", 8), "\xef\xbf\xbd"
								 "A");
	CU_ASSERT_STRING_EQUAL(decoded("\"\\u0000x\"", 8), "\xef\xbf\xbdx");
	CU_ASSERT_STRING_EQUAL(decoded("\"a\xff"
				       "b\"",
				       8),
		"a\xef\xbf\xbd"
		"b");
	CU_ASSERT_STRING_EQUAL(decoded("\"\xc0\x80\"", 16),
		"\xef\xbf\xbd\xef\xbf\xbd"); /* overlong */
	CU_ASSERT_STRING_EQUAL(decoded("\"\xed\xa0\x80\"", 16),
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"); /* surrogate */
	CU_ASSERT_STRING_EQUAL(decoded("\"\xe6\xbc\"", 16),
		"\xef\xbf\xbd\xef\xbf\xbd"); /* cut */
	/* Cut at a border. */
	CU_ASSERT_STRING_EQUAL(decoded("\"ab\\u6f22\"", 5), "ab");
	CU_ASSERT_STRING_EQUAL(decoded("\"ab\\u6f22\"", 6), "ab\xe6\xbc\xa2");
	CU_ASSERT_STRING_EQUAL(decoded("\"ab\"", 1), "");
	CU_ASSERT_STRING_EQUAL(decoded("12", 8), "");
}

static size_t seen_bytes, seen_count;

static void see(void *context, const char *text, size_t bytes)
{
	(void)context;
	(void)text;
	seen_bytes += bytes;
	seen_count++;
}

/* All strings are shown once: names and values, at every depth. */
static void shows_every_string(void)
{
	static const char text[] =
		"{\"ab\":[\"c\",{\"d\":\"efg\\n\"}],\"h\":1}";
	const struct json_strings strings = {.see = see};

	seen_bytes = seen_count = 0;
	CU_ASSERT_EQUAL(
		json_scan_object(text, strlen(text), NULL, 0, &strings, error),
		0);
	CU_ASSERT_EQUAL(seen_count, 5);
	CU_ASSERT_EQUAL(seen_bytes, 2 + 1 + 1 + 5 + 1);
}

/* The deepest document allowed is taken, one deeper is refused, and 25 MB of
 * brackets neither recurse nor take longer. */
static void bounds_depth(void)
{
	const size_t big = 25000000;
	char *text = malloc(big);

	CU_ASSERT_FATAL(text != NULL);
	for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
		size_t inner = (size_t)depth - 1;

		memcpy(text, "{\"a\":", 5);
		memset(text + 5, '[', inner);
		memset(text + 5 + inner, ']', inner);
		text[5 + 2 * inner] = '}';
		CU_ASSERT_EQUAL(json_scan_object(text, 6 + 2 * inner, NULL, 0,
					NULL, error),
			depth > JSON_MAX_DEPTH ? -EINVAL : 0);
	}
	memset(text + 5, '[', big - 5);
	CU_ASSERT_EQUAL(
		json_scan_object(text, big, NULL, 0, NULL, error), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "too deep"));
	free(text);
}

/* ---- time ---- */

static void write_objects(char *text, size_t bytes)
{
	size_t used = (size_t)sprintf(text, "{\"a\":[{}");

	for (; used + 32 < bytes; used += 3)
		memcpy(text + used, ",{}", 3);
	memset(text + used, ' ', bytes - used);
	memcpy(text + used, "]}", 2);
}

static void write_nests(char *text, size_t bytes)
{
	static const char nest[] = ",{\"a\":{\"b\":{\"c\":{\"d\":{}}}}}";
	size_t used = (size_t)sprintf(text, "{\"a\":[0");

	for (; used + 64 < bytes; used += sizeof(nest) - 1)
		memcpy(text + used, nest, sizeof(nest) - 1);
	memset(text + used, ' ', bytes - used);
	memcpy(text + used, "]}", 2);
}

static void write_names(char *text, size_t bytes)
{
	size_t used = (size_t)sprintf(text, "{\"a\":0");

	for (; used + 32 < bytes; used += 16)
		memcpy(text + used, ",\"\\u0061bcdef\":0 ", 16);
	memset(text + used, ' ', bytes - used);
	text[used] = '}';
}

static void write_string(char *text, size_t bytes)
{
	memset(text, 'x', bytes);
	memcpy(text, "{\"a\":\"", 6);
	for (size_t i = 6; i + 12 < bytes; i += 12)
		memcpy(text + i, "\\n", 2); /* never eight plain bytes long */
	memcpy(text + bytes - 2, "\"}", 2);
}

/* CPU seconds of one scan, with the members a reply is read for. */
static double cpu_of_scan(
	void (*write)(char *, size_t), size_t bytes, char *text)
{
	struct json_member wanted[] = {{.name = "usage"}, {.name = "Output"}};
	struct timespec from, to;
	int rc;

	write(text, bytes);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	rc = json_scan_object(text, bytes, wanted, 2, NULL, error);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	if (rc != 0)
		CU_FAIL_FATAL(error);
	return (double)(to.tv_sec - from.tv_sec) +
	       (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* Four times the size takes about four times the CPU time, not sixteen: a
 * best of three keeps the machine's noise out. */
static void takes_linear_time(void)
{
	static void (*const writers[])(char *, size_t) = {
		write_objects, write_nests, write_names, write_string};
	const size_t bytes = 6000000;
	char *text = malloc(4 * bytes);

	CU_ASSERT_FATAL(text != NULL);
	for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
		double small = 1e9, large = 1e9;

		for (int run = 0; run < 3; run++) {
			double a = cpu_of_scan(writers[i], bytes, text);
			double b = cpu_of_scan(writers[i], 4 * bytes, text);

			small = a < small ? a : small;
			large = b < large ? b : large;
		}
		printf("# document %zu: %.1f ms for 6 MB, %.1f ms for 24 MB\n",
			i, small * 1e3, large * 1e3);
		CU_ASSERT(large < 9 * small + 0.01);
	}
	free(text);
}

SUITE("json", T(accepts_what_is_json), T(refuses_what_is_not),
	T(refuses_every_prefix), T(says_where), T(finds_top_members),
	T(reads_members_of_any_size), T(reads_counts), T(reads_strings),
	T(shows_every_string), T(bounds_depth), T(takes_linear_time))
