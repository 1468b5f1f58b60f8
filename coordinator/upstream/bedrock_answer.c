/* Answers: what is kept of their heads, and what they mean. */
#include "coordinator/upstream/bedrock.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The members of a body, in the order of names in bedrock_read_begin(). */
enum { USAGE, OUTPUT, TYPE, CODE, MESSAGE, MESSAGE_TOO };

enum { SMALL_OBJECT_BYTES = 65536 };

static const uint64_t NS_PER_MS = 1000000, NS_PER_S = 1000000000;

/* ---- the head ---- */

static bool name_is(const char *name, size_t bytes, const char *wanted)
{
	return bytes == strlen(wanted) && strncasecmp(name, wanted, bytes) == 0;
}

static bool is_code_char(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	       (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-';
}

/*
 * "com.amazon.bedrock#ThrottlingException:http://…" is ThrottlingException.
 * Anything else than a name is none.
 */
static void copy_type(
	const char *text, size_t bytes, char ret_code[UPSTREAM_CODE_BYTES])
{
	const char *colon = memchr(text, ':', bytes), *hash;

	ret_code[0] = '\0';
	if (colon != NULL)
		bytes = (size_t)(colon - text);
	hash = memrchr(text, '#', bytes);
	if (hash != NULL) {
		bytes -= (size_t)(hash + 1 - text);
		text = hash + 1;
	}
	if (bytes >= UPSTREAM_CODE_BYTES)
		return;
	for (size_t i = 0; i < bytes; i++)
		if (!is_code_char(text[i]))
			return;
	memcpy(ret_code, text, bytes);
	ret_code[bytes] = '\0';
}

static void copy_request_id(
	const char *text, size_t bytes, char ret_id[UPSTREAM_REQUEST_ID_BYTES])
{
	size_t used = 0;

	for (size_t i = 0; i < bytes && used < UPSTREAM_REQUEST_ID_BYTES - 1;
		i++)
		if (is_code_char(text[i]))
			ret_id[used++] = text[i];
	ret_id[used] = '\0';
}

/* A whole number, at most JSON_COUNT_MAX; false: it is none. */
static bool read_number(const char *text, size_t bytes, int64_t *ret_number)
{
	int64_t number = 0;

	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		number = number * 10 + (text[i] - '0');
		if (number > JSON_COUNT_MAX)
			number = JSON_COUNT_MAX;
	}
	*ret_number = number;
	return bytes > 0;
}

/* "Mon, 23 Nov 2026 10:00:00 GMT"; 0: it is none. */
static int64_t read_http_date(const char *text, size_t bytes)
{
	struct tm utc = {0};
	char date[32];
	const char *rest;

	if (bytes >= sizeof(date))
		return 0;
	memcpy(date, text, bytes);
	date[bytes] = '\0';
	rest = strptime(date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
	return rest != NULL && *rest == '\0' ? timegm(&utc) : 0;
}

static void read_retry_after(
	struct bedrock_head *head, const char *value, size_t bytes)
{
	int64_t seconds;

	head->retry_after_s = 0;
	head->retry_after_unix_s = 0;
	if (read_number(value, bytes, &seconds))
		head->retry_after_s = (uint64_t)seconds;
	else
		head->retry_after_unix_s = read_http_date(value, bytes);
}

static void read_count(
	struct bedrock_count *count, const char *value, size_t bytes)
{
	if (read_number(value, bytes, &count->tokens))
		count->known = true;
}

static void read_header(struct bedrock_head *head, const char *name,
	size_t name_bytes, const char *value, size_t bytes)
{
	const struct {
		const char *name;
		struct bedrock_count *count;
	} counts[] = {
		{"x-amzn-bedrock-input-token-count", &head->input},
		{"x-amzn-bedrock-output-token-count", &head->output},
		{"x-amzn-bedrock-cache-read-input-token-count",
			&head->cache_read},
		{"x-amzn-bedrock-cache-write-input-token-count",
			&head->cache_write},
	};
	int64_t ms;

	for (size_t i = 0; i < COUNT(counts); i++)
		if (name_is(name, name_bytes, counts[i].name))
			read_count(counts[i].count, value, bytes);
	if (name_is(name, name_bytes, "x-amzn-errortype"))
		copy_type(value, bytes, head->error_type);
	else if (name_is(name, name_bytes, "x-amzn-requestid"))
		copy_request_id(value, bytes, head->request_id);
	else if (name_is(name, name_bytes, "retry-after"))
		read_retry_after(head, value, bytes);
	else if (name_is(name, name_bytes, "x-amz-retry-after") &&
		 read_number(value, bytes, &ms))
		head->amz_retry_after_ms = (uint64_t)ms;
}

static void read_status(
	struct bedrock_head *head, const char *line, size_t bytes)
{
	const char *space = memchr(line, ' ', bytes);
	int64_t status;

	*head = (struct bedrock_head){.http_status = 0};
	if (space != NULL && bytes - (size_t)(space - line) >= 4 &&
		read_number(space + 1, 3, &status))
		head->http_status = (int)status;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

void bedrock_read_head(
	struct bedrock_head *head, const char *line, size_t bytes)
{
	const char *colon, *value, *end = line + bytes;

	if (bytes >= 5 && memcmp(line, "HTTP/", 5) == 0) {
		read_status(head, line, bytes);
		return;
	}
	colon = memchr(line, ':', bytes);
	if (colon == NULL)
		return;
	value = colon + 1;
	while (value < end && is_blank(*value))
		value++;
	while (end > value && is_blank(end[-1]))
		end--;
	read_header(head, line, (size_t)(colon - line), value,
		(size_t)(end - value));
}

/* ---- texts for people ---- */

/*
 * The bytes of the character at `at` that a terminal would obey instead of
 * show: controls, and the marks that hide or reorder text.  0: none.
 */
static size_t unprintable_bytes(const unsigned char *at)
{
	if (at[0] < 0x20 || at[0] == 0x7f)
		return 1;
	if (at[0] == 0xc2 && at[1] < 0xa0) /* U+0080 to U+009F */
		return 2;
	if (at[0] == 0xe2 && at[1] == 0x80 && /* U+200B-F, U+2028-E */
		((at[2] >= 0x8b && at[2] <= 0x8f) ||
			(at[2] >= 0xa8 && at[2] <= 0xae)))
		return 3;
	if (at[0] == 0xe2 && at[1] == 0x81 && at[2] >= 0xa0) /* U+2060-7F */
		return 3;
	if (at[0] == 0xef && at[1] == 0xbb && at[2] == 0xbf) /* U+FEFF */
		return 3;
	return 0;
}

/* In place; the text is whole UTF-8. */
static void make_printable(char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at != '\0') {
		size_t bytes = unprintable_bytes(at);

		*text++ = (char)(bytes > 0 ? ' ' : *at);
		at += bytes > 0 ? bytes : 1;
	}
	*text = '\0';
}

/* ---- what an error means ---- */

static bool is_one_of(const char *code, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(code, names[i]) == 0)
			return true;
	return false;
}

/* The names that the SDKs take for "slower", whatever the status. */
static bool is_throttling(const char *code)
{
	static const char *const names[] = {"Throttling", "ThrottlingException",
		"ThrottledException", "RequestThrottled",
		"RequestThrottledException", "TooManyRequestsException",
		"ProvisionedThroughputExceededException",
		"TransactionInProgressException", "RequestLimitExceeded",
		"BandwidthLimitExceeded", "LimitExceededException", "SlowDown",
		"PriorRequestNotComplete", "EC2ThrottledException"};

	return is_one_of(code, names, COUNT(names));
}

static bool is_transient(const char *code)
{
	static const char *const names[] = {"ModelNotReadyException",
		"RequestTimeout", "RequestTimeoutException"};

	return is_one_of(code, names, COUNT(names));
}

static enum upstream_outcome classify(
	int status, const char *code, const char *message)
{
	if (is_transient(code))
		return UPSTREAM_TRANSIENT;
	if (is_throttling(code) || status == 429 || status == 529)
		return strcasestr(message, "per day") != NULL
			       ? UPSTREAM_THROTTLED_DAY
			       : UPSTREAM_THROTTLED;
	if (status == 500 || (status >= 502 && status <= 504))
		return UPSTREAM_TRANSIENT;
	return UPSTREAM_REFUSED;
}

/* The first that is there and says something. */
static void read_first_string(const struct json_member *members, size_t count,
	char *ret_text, size_t size)
{
	for (size_t i = 0; i < count; i++)
		if (json_read_string(members[i].value, ret_text, size) > 0)
			return;
	*ret_text = '\0';
}

static void read_type(const struct json_member *members, size_t count,
	char ret_code[UPSTREAM_CODE_BYTES])
{
	char text[4 * UPSTREAM_CODE_BYTES];

	read_first_string(members, count, text, sizeof(text));
	copy_type(text, strlen(text), ret_code);
}

static void judge_error(const struct bedrock_head *head,
	const struct bedrock_reading *reading, struct upstream_result *result)
{
	memcpy(result->code, head->error_type, sizeof(result->code));
	if (result->code[0] == '\0')
		read_type(reading->members + TYPE, 2, result->code);
	if (result->code[0] == '\0')
		(void)snprintf(result->code, sizeof(result->code), "Http%d",
			head->http_status);
	read_first_string(reading->members + MESSAGE, 2, result->message,
		sizeof(result->message));
	make_printable(result->message);
	result->outcome =
		classify(head->http_status, result->code, result->message);
	if (result->message[0] == '\0')
		(void)snprintf(result->message, sizeof(result->message),
			"HTTP %d without a message", head->http_status);
}

/* ---- usage ---- */

/* A number that is no count, as near as an int64_t comes: whoever charges for
 * it should know. */
static int64_t read_no_count(struct json_text value, int64_t otherwise)
{
	char text[32] = "", *end;
	double number;

	if (value.bytes == 0 || value.bytes >= sizeof(text))
		return otherwise;
	memcpy(text, value.text, value.bytes);
	number = strtod(text, &end);
	if (end != text + value.bytes || !(number < 0 || number > 0x1p53))
		return otherwise;
	if (fabs(number) > 0x1p62)
		return number < 0 ? INT64_MIN : INT64_MAX;
	return (int64_t)number == -1 ? -2 : (int64_t)number;
}

static int64_t pick_count(const struct bedrock_count *from_head,
	const struct json_member *members, size_t count)
{
	if (from_head->known)
		return from_head->tokens;
	for (size_t i = 0; i < count; i++) {
		int64_t n = json_read_count(members[i].value);

		if (n < 0 || n == JSON_COUNT_MAX)
			n = read_no_count(members[i].value, n);
		if (n != -1)
			return n;
	}
	return -1;
}

/* What matters in one is short: what is not is no usage, and not read again. */
static int read_small(
	struct json_text object, struct json_member *members, size_t count)
{
	return object.bytes <= SMALL_OBJECT_BYTES
		       ? json_read_members(object, members, count)
		       : -EINVAL;
}

/* A real Converse reply gives the cache counts twice, under two names: the
 * first that is there counts. */
static void read_usage(const struct bedrock_head *head, struct json_text usage,
	struct upstream_usage *ret_usage)
{
	struct json_member members[] = {
		{.name = "inputTokens"},
		{.name = "input_tokens"},
		{.name = "prompt_tokens"},
		{.name = "outputTokens"},
		{.name = "output_tokens"},
		{.name = "completion_tokens"},
		{.name = "cacheReadInputTokens"},
		{.name = "cacheReadInputTokenCount"},
		{.name = "cache_read_input_tokens"},
		{.name = "cacheWriteInputTokens"},
		{.name = "cacheWriteInputTokenCount"},
		{.name = "cache_creation_input_tokens"},
	};

	(void)read_small(usage, members, COUNT(members));
	*ret_usage = (struct upstream_usage){
		.input_tokens = pick_count(&head->input, members, 3),
		.output_tokens = pick_count(&head->output, members + 3, 3),
		.cache_read_tokens =
			pick_count(&head->cache_read, members + 6, 3),
		.cache_write_tokens =
			pick_count(&head->cache_write, members + 9, 3),
	};
}

/* ---- the whole answer ---- */

static void name_bad_response(struct upstream_result *result)
{
	static const char code[] = "BadResponse";

	memcpy(result->code, code, sizeof(code));
}

static void judge_success(const struct bedrock_head *head,
	const struct bedrock_reading *reading, struct upstream_result *result)
{
	struct json_member type = {.name = "__type"};

	if (reading->rc < 0) {
		result->outcome = UPSTREAM_AMBIGUOUS;
		name_bad_response(result);
		(void)snprintf(result->message, sizeof(result->message),
			"HTTP %d, but the body is not a JSON object: %s",
			head->http_status, reading->error);
		return;
	}
	read_usage(head, reading->members[USAGE].value, &result->usage);
	if (read_small(reading->members[OUTPUT].value, &type, 1) < 0 ||
		type.value.text == NULL)
		return;
	/* The front end's answer to a path that matches no route. */
	read_type(&type, 1, result->code);
	if (result->code[0] == '\0')
		name_bad_response(result);
	result->outcome = UPSTREAM_REFUSED;
	(void)snprintf(result->message, sizeof(result->message),
		"HTTP %d with an error in the body", head->http_status);
}

static uint64_t find_retry_after(
	const struct bedrock_head *head, int64_t wall_unix_s)
{
	uint64_t ns = head->amz_retry_after_ms * NS_PER_MS;

	if (head->amz_retry_after_ms > BEDROCK_MAX_RETRY_AFTER_NS / NS_PER_MS)
		return BEDROCK_MAX_RETRY_AFTER_NS;
	if (ns == 0 && head->retry_after_s > 0)
		ns = head->retry_after_s < BEDROCK_MAX_RETRY_AFTER_NS / NS_PER_S
			     ? head->retry_after_s * NS_PER_S
			     : BEDROCK_MAX_RETRY_AFTER_NS;
	else if (ns == 0 && head->retry_after_unix_s > wall_unix_s)
		ns = head->retry_after_unix_s - wall_unix_s <
				     (int64_t)(BEDROCK_MAX_RETRY_AFTER_NS /
					       NS_PER_S)
			     ? (uint64_t)(head->retry_after_unix_s -
					  wall_unix_s) *
				       NS_PER_S
			     : BEDROCK_MAX_RETRY_AFTER_NS;
	return ns;
}

void bedrock_read_begin(
	struct bedrock_reading *reading, const char *body, size_t bytes)
{
	static const char *const names[BEDROCK_BODY_MEMBERS] = {
		[USAGE] = "usage",
		[OUTPUT] = "Output",
		[TYPE] = "__type",
		[CODE] = "code",
		[MESSAGE] = "message",
		[MESSAGE_TOO] = "Message",
	};

	reading->body = body;
	reading->body_bytes = bytes;
	for (size_t i = 0; i < BEDROCK_BODY_MEMBERS; i++)
		reading->members[i].name = names[i];
	json_scan_begin(&reading->scan, body, bytes, reading->members,
		BEDROCK_BODY_MEMBERS, NULL);
}

bool bedrock_read_more(struct bedrock_reading *reading, size_t bytes)
{
	reading->rc = json_scan_more(&reading->scan, bytes, reading->error);
	return reading->rc > 0;
}

void bedrock_judge(const struct bedrock_head *head, const char *body,
	size_t body_bytes, int64_t wall_unix_s,
	struct upstream_result *ret_result)
{
	struct bedrock_reading reading;

	bedrock_read_begin(&reading, body, body_bytes);
	(void)bedrock_read_more(&reading, body_bytes);
	bedrock_judge_reading(head, &reading, wall_unix_s, ret_result);
}

void bedrock_judge_reading(const struct bedrock_head *head,
	const struct bedrock_reading *reading, int64_t wall_unix_s,
	struct upstream_result *ret_result)
{
	bool success = head->http_status >= 200 && head->http_status < 300 &&
		       head->error_type[0] == '\0';

	*ret_result = (struct upstream_result){.outcome = UPSTREAM_OK,
		.http_status = head->http_status,
		.body = reading->body,
		.body_bytes = reading->body_bytes};
	read_usage(head, (struct json_text){NULL, 0}, &ret_result->usage);
	memcpy(ret_result->request_id, head->request_id,
		sizeof(ret_result->request_id));
	if (success)
		judge_success(head, reading, ret_result);
	else
		judge_error(head, reading, ret_result);
	if (ret_result->outcome != UPSTREAM_OK)
		ret_result->retry_after_ns =
			find_retry_after(head, wall_unix_s);
}
