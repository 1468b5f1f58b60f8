/* coordinator/upstream/bedrock: where requests go, what they may carry, what
 * answers mean. */
#include "coordinator/upstream/bedrock.h"
#include "coordinator/upstream/error_rules.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <limits.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define S UINT64_C(1000000000)

static char why[UPSTREAM_MESSAGE_BYTES];
static struct upstream_result result;
static struct bedrock_demand demand;

/* ---- where ---- */

/* Each partition has its own domain. */
static void names_endpoints_of_regions(void)
{
	static const char *const cases[][2] = {
		{"us-east-1", "bedrock-runtime.us-east-1.amazonaws.com"},
		{"us-gov-west-1",
			"bedrock-runtime.us-gov-west-1.amazonaws.com"},
		{"cn-north-1", "bedrock-runtime.cn-north-1.amazonaws.com.cn"},
		{"us-iso-east-1", "bedrock-runtime.us-iso-east-1.c2s.ic.gov"},
		{"us-isob-east-1",
			"bedrock-runtime.us-isob-east-1.sc2s.sgov.gov"},
		{"eusc-de-east-1",
			"bedrock-runtime.eusc-de-east-1.amazonaws.eu"},
		{"ap-southeast-7",
			"bedrock-runtime.ap-southeast-7.amazonaws.com"}};
	struct bedrock_endpoint endpoint;

	for (size_t i = 0; i < COUNT(cases); i++) {
		CU_ASSERT_EQUAL(
			bedrock_region_endpoint(cases[i][0], &endpoint, why),
			0);
		CU_ASSERT_STRING_EQUAL(endpoint.host, cases[i][1]);
		CU_ASSERT(strncmp(endpoint.origin, "https://", 8) == 0);
		CU_ASSERT_STRING_EQUAL(endpoint.origin + 8, cases[i][1]);
		CU_ASSERT_STRING_EQUAL(endpoint.prefix, "");
		CU_ASSERT(endpoint.tls);
	}
}

/* A region that is none does not become part of a host name. */
static void refuses_odd_regions(void)
{
	static const char *const bad[] = {"", "us", "US-EAST-1", "us-east-1.",
		"evil.com/x-1", "us-east-1 ", "-us-east-1", "us-east-", "1-us",
		"us-east-1\n", "a-23456789012345678901234567890123456789"};
	struct bedrock_endpoint endpoint;

	for (size_t i = 0; i < COUNT(bad); i++)
		CU_ASSERT_EQUAL(bedrock_region_endpoint(bad[i], &endpoint, why),
			-EINVAL);
}

/* A configured endpoint is taken apart; the host is as it will be signed. */
static void takes_endpoints_apart(void)
{
	static const struct {
		const char *url, *origin, *host, *prefix;
	} cases[] = {{"http://127.0.0.1:8790", "http://127.0.0.1:8790",
			     "127.0.0.1:8790", ""},
		{"HTTPS://Proxy.Example/", "https://proxy.example",
			"proxy.example", ""},
		{"https://h:443/a/b//", "https://h", "h", "/a/b"},
		{"http://localhost:80", "http://localhost", "localhost", ""},
		{"http://[::1]:8790/x", "http://[::1]:8790", "[::1]:8790",
			"/x"},
		{"https://10.0.0.1:80", "https://10.0.0.1:80", "10.0.0.1:80",
			""}};
	struct bedrock_endpoint endpoint;

	for (size_t i = 0; i < COUNT(cases); i++) {
		CU_ASSERT_EQUAL_FATAL(
			bedrock_parse_endpoint(cases[i].url, &endpoint, why),
			0);
		CU_ASSERT_STRING_EQUAL(endpoint.origin, cases[i].origin);
		CU_ASSERT_STRING_EQUAL(endpoint.host, cases[i].host);
		CU_ASSERT_STRING_EQUAL(endpoint.prefix, cases[i].prefix);
	}
}

/* Plain http leaves this machine never; nothing odd gets into a URL. */
static void refuses_odd_endpoints(void)
{
	static const char *const bad[] = {"", "127.0.0.1:8790", "ftp://h",
		"http://example.com", "http://localhost.example.com",
		"http://127.0.0.1.example.com", "http://128.0.0.1",
		"http://[::2]", "http://0x7f.1", "https://", "https:///x",
		"https://u:p@h", "https://u@h", "https://h?x=1", "https://h/#f",
		"https://h/a?b", "https://h/a b", "https://h\n", "https://h:0",
		"https://h:65536", "https://h:99999999999",
		"https://h:", "https://h:1x", "https://[::1", "https://[x]",
		"https://h/../x", "https://h/a/./b", "https://h/a//b",
		"https://h/%2e"};
	struct bedrock_endpoint endpoint;

	for (size_t i = 0; i < COUNT(bad); i++)
		if (bedrock_parse_endpoint(bad[i], &endpoint, why) != -EINVAL)
			CU_FAIL(bad[i]);
	CU_ASSERT_EQUAL(
		bedrock_parse_endpoint("https://u:PASS@h", &endpoint, why),
		-EINVAL);
	CU_ASSERT_PTR_NULL(strstr(why, "PASS"));
}

/* ---- the request ---- */

/* An id is one encoded path segment: ':' and '/' too. */
static void writes_paths(void)
{
	static const struct {
		enum upstream_operation operation;
		const char *model, *path;
	} cases[] = {{UPSTREAM_INVOKE_MODEL, "anthropic.claude-v2:1",
			     "/p/model/anthropic.claude-v2%3A1/invoke"},
		{UPSTREAM_CONVERSE, "us.amazon.nova_pro",
			"/p/model/us.amazon.nova_pro/converse"},
		{UPSTREAM_CONVERSE, "arn:aws:bedrock:us-east-1::x/y/z",
			"/p/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Ax%2Fy"
			"%2Fz/converse"}};
	struct bedrock_endpoint endpoint;
	static char path[BEDROCK_PATH_BYTES],
		model[BEDROCK_MAX_MODEL_BYTES + 1];

	CU_ASSERT_EQUAL_FATAL(
		bedrock_parse_endpoint("https://h/p", &endpoint, why), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		CU_ASSERT_EQUAL(bedrock_path(&endpoint, cases[i].operation,
					cases[i].model, path, sizeof(path)),
			0);
		CU_ASSERT_STRING_EQUAL(path, cases[i].path);
		CU_ASSERT_EQUAL(
			bedrock_path(&endpoint, cases[i].operation,
				cases[i].model, path, strlen(cases[i].path)),
			-ENOSPC);
	}
	/* The longest of all fits. */
	memset(model, ':', sizeof(model) - 1);
	model[0] = 'a';
	CU_ASSERT_EQUAL(bedrock_path(&endpoint, UPSTREAM_CONVERSE, model, path,
				sizeof(path)),
		0);
	CU_ASSERT_EQUAL(bedrock_path(&endpoint, UPSTREAM_CONVERSE, "..", path,
				sizeof(path)),
		-EINVAL);
}

/* No model id gets out of its path segment, or into a header. */
static void refuses_odd_models(void)
{
	static const char *const bad[] = {"", ".", "..", "../x", "/x", ":x",
		"a b", "a\n", "a\r\nX: y", "a?b", "a#b", "a%2fb", "a\\b",
		"a\xc3\xa9", "a\x7f", "a;b", "a@b", "a\tb"};
	static char large[BEDROCK_MAX_MODEL_BYTES + 2];

	for (size_t i = 0; i < COUNT(bad); i++)
		if (bedrock_check_model(bad[i], why) != -EINVAL)
			CU_FAIL(bad[i]);
	CU_ASSERT_EQUAL(bedrock_check_model(NULL, why), -EINVAL);
	CU_ASSERT_EQUAL(bedrock_check_model("ab\nc", why), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why,
		"the model id has a byte that is not allowed, at position 3");
	memset(large, 'a', sizeof(large) - 1);
	CU_ASSERT_EQUAL(bedrock_check_model(large, why), -EINVAL);
	large[BEDROCK_MAX_MODEL_BYTES] = '\0';
	CU_ASSERT_EQUAL(bedrock_check_model(large, why), 0);
}

static bool header_is(const struct sigv4_header *header, const char *line)
{
	char text[256];

	snprintf(text, sizeof(text), "%.*s: %.*s", (int)header->name_bytes,
		header->name, (int)header->value_bytes, header->value);
	return strcmp(text, line) == 0;
}

/* What the client gives goes out, with JSON as the default for the rest. */
static void writes_headers(void)
{
	static const char all[] =
		"X-Amzn-Bedrock-Trace: ENABLED\ncontent-type:text/x\n"
		"X-Amzn-Bedrock-GuardrailIdentifier: g\n"
		"X-Amzn-Bedrock-GuardrailVersion: 1\n"
		"X-Amzn-Bedrock-PerformanceConfig-Latency: standard\n"
		"X-Amzn-Bedrock-Service-Tier: flex\n"
		"X-Amzn-Bedrock-Request-Metadata: {\"a\":\"b\"}\n"
		"Accept:   */*  \n";
	struct sigv4_header headers[BEDROCK_MAX_HEADERS];

	CU_ASSERT_EQUAL(bedrock_headers(NULL, headers), 2);
	CU_ASSERT(header_is(&headers[0], "Content-Type: application/json"));
	CU_ASSERT(header_is(&headers[1], "Accept: application/json"));
	CU_ASSERT_EQUAL(bedrock_headers("ACCEPT: a/b", headers), 2);
	CU_ASSERT(header_is(&headers[0], "ACCEPT: a/b"));
	CU_ASSERT(header_is(&headers[1], "Content-Type: application/json"));
	CU_ASSERT_EQUAL(bedrock_headers(all, headers), 8);
	CU_ASSERT(header_is(&headers[1], "content-type: text/x"));
	CU_ASSERT(header_is(&headers[7], "Accept: */*"));
	CU_ASSERT_EQUAL(bedrock_check_headers(all, why), 0);
	CU_ASSERT_EQUAL(bedrock_check_headers("", why), 0);
}

/* Only headers of the list, each once, printable; the reason names the header
 * and shows no value. */
static void refuses_odd_headers(void)
{
	static const struct {
		const char *lines, *why;
	} bad[] = {{"Authorization: SECRET\n", "header Authorization: not one"},
		{"Host: SECRET\n", "header Host: not one"},
		{"X-Amz-Security-Token: SECRET\n", "X-Amz-Security-Token: not"},
		{"Transfer-Encoding: chunked\n", "Transfer-Encoding: not one"},
		{"Accept: SECRET\r\n", "header Accept: the value has a byte"},
		{"Accept: a\x01\n", "header Accept: the value has a byte"},
		{"Accept: a\tb\n", "header Accept: the value has a byte"},
		{"Accept: a\xc3\xa9\n", "header Accept: the value has a byte"},
		{"Accept:\n", "header Accept: the value is empty"},
		{"Accept:   \n", "header Accept: the value is empty"},
		{"Accept: a\naccept: b\n", "header accept: given twice"},
		{"SECRET\n", "not of the form"}, {": SECRET\n", "not of the"},
		{"\n", "not of the form"}, {"Accept : SECRET\n", "not of the"},
		{" Accept: a\n", "not of the form"},
		{"Acc\x1b[31mept: SECRET\n", "not of the form"}};
	static char large[BEDROCK_MAX_HEADERS_BYTES + 2];
	struct sigv4_header headers[BEDROCK_MAX_HEADERS];

	for (size_t i = 0; i < COUNT(bad); i++) {
		CU_ASSERT_EQUAL(
			bedrock_check_headers(bad[i].lines, why), -EINVAL);
		if (strstr(why, bad[i].why) == NULL)
			CU_FAIL(bad[i].why);
		CU_ASSERT_PTR_NULL(strstr(why, "SECRET"));
		CU_ASSERT_EQUAL(
			bedrock_headers(bad[i].lines, headers), -EINVAL);
	}
	memset(large, 'a', sizeof(large) - 1);
	memcpy(large, "Accept: ", 8);
	CU_ASSERT_EQUAL(bedrock_check_headers(large, why), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "headers are longer"));
	large[8 + BEDROCK_MAX_HEADER_VALUE + 1] = '\0';
	CU_ASSERT_EQUAL(bedrock_check_headers(large, why), -EINVAL);
	large[8 + BEDROCK_MAX_HEADER_VALUE] = '\0';
	CU_ASSERT_EQUAL(bedrock_check_headers(large, why), 0);
}

static int scan(enum upstream_operation operation, const char *body)
{
	return bedrock_scan_request(
		operation, body, strlen(body), &demand, why);
}

/* The most tokens of an answer, under the name each family has for it. */
static void finds_max_tokens(void)
{
	static const struct {
		enum upstream_operation operation;
		const char *body;
		int64_t tokens;
	} cases[] = {{UPSTREAM_INVOKE_MODEL, "{\"max_tokens\":256}", 256},
		{UPSTREAM_INVOKE_MODEL, "{\"max_gen_len\":7}", 7},
		{UPSTREAM_INVOKE_MODEL, "{\"max_tokens_to_sample\":8}", 8},
		{UPSTREAM_INVOKE_MODEL, "{\"maxTokens\":9}", 9},
		{UPSTREAM_INVOKE_MODEL,
			"{\"textGenerationConfig\":{\"maxTokenCount\":10}}",
			10},
		{UPSTREAM_INVOKE_MODEL,
			"{\"inferenceConfig\":{\"max_new_tokens\":11}}", 11},
		{UPSTREAM_INVOKE_MODEL,
			"{\"max_tokens\":1,\"maxTokens\":2,"
			"\"inferenceConfig\":{\"maxTokens\":3}}",
			3},
		{UPSTREAM_INVOKE_MODEL, "{\"x\":{\"max_tokens\":5}}", -1},
		{UPSTREAM_INVOKE_MODEL, "{\"max_tokens\":\"256\"}", -1},
		{UPSTREAM_INVOKE_MODEL, "{\"max_tokens\":-1}", -1},
		{UPSTREAM_INVOKE_MODEL, "{\"max_tokens\":0}", 0},
		{UPSTREAM_INVOKE_MODEL, "{\"max_tokens\":1e99}",
			JSON_COUNT_MAX},
		{UPSTREAM_CONVERSE, "{\"inferenceConfig\":{\"maxTokens\":12}}",
			12},
		{UPSTREAM_CONVERSE, "{\"max_tokens\":5}", -1},
		{UPSTREAM_CONVERSE, "{\"inferenceConfig\":7}", -1},
		{UPSTREAM_CONVERSE, "{}", -1}};

	for (size_t i = 0; i < COUNT(cases); i++) {
		CU_ASSERT_EQUAL(scan(cases[i].operation, cases[i].body), 0);
		if (demand.max_tokens != cases[i].tokens)
			CU_FAIL(cases[i].body);
	}
}

/* A body that is no JSON object is refused, with the place. */
static void refuses_other_bodies(void)
{
	CU_ASSERT_EQUAL(scan(UPSTREAM_INVOKE_MODEL, "hello"), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why, "the body is not a JSON object: an object "
				    "is expected, at byte 0");
	CU_ASSERT_EQUAL(scan(UPSTREAM_CONVERSE, ""), -EINVAL);
	CU_ASSERT_EQUAL(scan(UPSTREAM_CONVERSE, "{\"a\":SECRET}"), -EINVAL);
	CU_ASSERT_PTR_NULL(strstr(why, "SECRET"));
}

/* Text counts 3.5 bytes a token; a picture counts as one, not by its size. */
static void estimates_input(void)
{
	static char body[70000];
	static const struct {
		const char *begin;
		int64_t tokens;
	} cases[] = {{"/9j/", 1600}, {"iVBORw0KGgo", 1600},
		{"data:image/jpeg;base64,/9j/", 1600}, {"JVBERi0x", 64000 / 32},
		{"plain words ", 64000 * 2 / 7}};

	CU_ASSERT_EQUAL(scan(UPSTREAM_CONVERSE, "{}"), 0);
	CU_ASSERT_EQUAL(demand.input_tokens, 0);
	CU_ASSERT_EQUAL(
		scan(UPSTREAM_CONVERSE, "{\"a\":\"012345\", \"b\":1}"), 0);
	CU_ASSERT_EQUAL(demand.input_tokens, 3); /* 8 bytes */
	for (size_t i = 0; i < COUNT(cases); i++) {
		memset(body, 'A', sizeof(body));
		memcpy(body, "{\"\":\"", 5);
		memcpy(body + 5, cases[i].begin, strlen(cases[i].begin));
		strcpy(body + 5 + 64000, "\"}");
		CU_ASSERT_EQUAL(scan(UPSTREAM_CONVERSE, body), 0);
		CU_ASSERT(demand.input_tokens <= cases[i].tokens + 1);
		CU_ASSERT(demand.input_tokens >= cases[i].tokens - 1);
	}
}

/* ---- the answer ---- */

static void judge(const char *head_text, const char *body, int64_t wall_unix_s)
{
	struct bedrock_head head = {0};

	for (const char *line = head_text; *line != '\0';) {
		size_t bytes = strcspn(line, "\n");

		bytes += line[bytes] == '\n';
		bedrock_read_head(&head, line, bytes);
		line += bytes;
	}
	bedrock_judge(&head, body, strlen(body), wall_unix_s, &result);
}

/* Judges "STATUS" with one more header line and a body. */
static void judge_status(int status, const char *header, const char *body)
{
	char head[1024];

	snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%s\r\n\r\n", status,
		header);
	judge(head, body, 0);
}

static bool usage_is(int64_t input, int64_t output, int64_t read, int64_t write)
{
	return result.usage.input_tokens == input &&
	       result.usage.output_tokens == output &&
	       result.usage.cache_read_tokens == read &&
	       result.usage.cache_write_tokens == write;
}

/* 0, or -1: there is no such file. */
static int judge_file(const char *name)
{
	static char text[65536];
	char path[PATH_MAX];
	FILE *file;
	char *body;

	snprintf(path, sizeof(path), "%s/bedrock-bodies/%s", suite_testdata(),
		name);
	file = fopen(path, "r");
	if (file == NULL)
		return -1;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	body = strstr(text, "\r\n\r\n");
	if (body == NULL) { /* a *.json: the body of a 200 */
		judge("HTTP/1.1 200 OK\r\n\r\n", text, 0);
		return 0;
	}
	body[2] = '\0';
	judge(text, body + 4, 0);
	return 0;
}

/* The example responses mean what the service's documentation says. */
static void judges_the_examples(void)
{
	static const struct {
		const char *file;
		enum upstream_outcome outcome;
		const char *code;
	} cases[] = {{"err-400-service-quota.http", UPSTREAM_REFUSED,
			     "ServiceQuotaExceededException"},
		{"err-400-validation.http", UPSTREAM_REFUSED,
			"ValidationException"},
		{"err-403-access-denied.http", UPSTREAM_REFUSED,
			"AccessDeniedException"},
		{"err-403-expired-token.http", UPSTREAM_REFUSED,
			"ExpiredTokenException"},
		{"err-404-not-found.http", UPSTREAM_REFUSED,
			"ResourceNotFoundException"},
		{"err-408-model-timeout.http", UPSTREAM_REFUSED,
			"ModelTimeoutException"},
		{"err-424-model-error.http", UPSTREAM_REFUSED,
			"ModelErrorException"},
		{"err-429-not-ready.http", UPSTREAM_TRANSIENT,
			"ModelNotReadyException"},
		{"err-429-throttling-day.http", UPSTREAM_THROTTLED_DAY,
			"ThrottlingException"},
		{"err-429-throttling-requests.http", UPSTREAM_THROTTLED,
			"ThrottlingException"},
		{"err-429-throttling-tokens.http", UPSTREAM_THROTTLED,
			"ThrottlingException"},
		{"err-429-type-in-body.http", UPSTREAM_THROTTLED,
			"ThrottlingException"},
		{"err-500-internal.http", UPSTREAM_TRANSIENT,
			"InternalServerException"},
		{"err-503-unavailable.http", UPSTREAM_TRANSIENT,
			"ServiceUnavailableException"},
		{"odd-200-unknown-operation.http", UPSTREAM_REFUSED,
			"UnknownOperationException"},
		{"ok-converse.http", UPSTREAM_OK, ""},
		{"ok-invoke.http", UPSTREAM_OK, ""}};

	if (suite_testdata() == NULL) {
		suite_skip("no ../shared/testdata");
		return;
	}
	for (size_t i = 0; i < COUNT(cases); i++) {
		CU_ASSERT_EQUAL_FATAL(judge_file(cases[i].file), 0);
		if (result.outcome != cases[i].outcome)
			CU_FAIL(cases[i].file);
		CU_ASSERT_STRING_EQUAL(result.code, cases[i].code);
		CU_ASSERT_STRING_EQUAL(result.request_id,
			"0a1b2c3d-1111-2222-3333-444455556666");
		CU_ASSERT_EQUAL(result.message[0] == '\0',
			result.outcome == UPSTREAM_OK);
	}
	CU_ASSERT_EQUAL(judge_file("ok-converse.http"), 0);
	CU_ASSERT(usage_is(24, 15, 0, 0));
	CU_ASSERT_EQUAL(judge_file("ok-invoke.http"), 0);
	CU_ASSERT(usage_is(24, 15, 0, 0));
	CU_ASSERT_EQUAL(judge_file("invoke-claude-response.json"), 0);
	CU_ASSERT(usage_is(24, 15, 0, 0));
	CU_ASSERT_EQUAL(judge_file("converse-tooluse-response.json"), 0);
	CU_ASSERT(usage_is(321, 44, 2048, 128));
}

/* The example requests are understood. */
static void scans_the_examples(void)
{
	static const char *const files[] = {
		"converse-request.json", "invoke-claude-request.json"};
	static char text[65536];
	char path[PATH_MAX];

	if (suite_testdata() == NULL) {
		suite_skip("no ../shared/testdata");
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		FILE *file;

		snprintf(path, sizeof(path), "%s/bedrock-bodies/%s",
			suite_testdata(), files[i]);
		file = fopen(path, "r");
		CU_ASSERT_FATAL(file != NULL);
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
		CU_ASSERT_EQUAL(
			scan(i == 0 ? UPSTREAM_CONVERSE : UPSTREAM_INVOKE_MODEL,
				text),
			0);
		CU_ASSERT_EQUAL(demand.max_tokens, 256);
		CU_ASSERT(demand.input_tokens > 15);
		CU_ASSERT(demand.input_tokens < 100);
	}
}

/* A status alone, without a known type, decides as the table says. */
static void judges_by_status(void)
{
	static const struct {
		int status;
		enum upstream_outcome outcome;
	} cases[] = {{301, UPSTREAM_REFUSED}, {307, UPSTREAM_REFUSED},
		{400, UPSTREAM_REFUSED}, {401, UPSTREAM_REFUSED},
		{403, UPSTREAM_REFUSED}, {404, UPSTREAM_REFUSED},
		{408, UPSTREAM_REFUSED}, {413, UPSTREAM_REFUSED},
		{424, UPSTREAM_REFUSED}, {429, UPSTREAM_THROTTLED},
		{500, UPSTREAM_TRANSIENT}, {501, UPSTREAM_REFUSED},
		{502, UPSTREAM_TRANSIENT}, {503, UPSTREAM_TRANSIENT},
		{504, UPSTREAM_TRANSIENT}, {529, UPSTREAM_THROTTLED}};
	char code[32];

	for (size_t i = 0; i < COUNT(cases); i++) {
		judge_status(cases[i].status, "X: y", "<html>gateway</html>");
		CU_ASSERT_EQUAL(result.outcome, cases[i].outcome);
		CU_ASSERT_EQUAL(result.http_status, cases[i].status);
		snprintf(code, sizeof(code), "Http%d", cases[i].status);
		CU_ASSERT_STRING_EQUAL(result.code, code);
		CU_ASSERT_PTR_NULL(strstr(result.message, "gateway"));
		CU_ASSERT(usage_is(-1, -1, -1, -1));
	}
}

/* The type wins over the status, wherever it stands and however it is
 * decorated. */
static void finds_the_type(void)
{
	judge_status(400, "x-amzn-errortype: ThrottlingException", "{}");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_THROTTLED);
	judge_status(503, "X-AMZN-ERRORTYPE: a.b#SlowDown:http://x/#y", "");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_THROTTLED);
	CU_ASSERT_STRING_EQUAL(result.code, "SlowDown");
	judge_status(400, "X: y", "{\"code\":\"x#RequestTimeout\"}");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_TRANSIENT);
	judge_status(400, "X: y", "{\"__type\":\"A\",\"Message\":\"m\"}");
	CU_ASSERT_STRING_EQUAL(result.code, "A");
	CU_ASSERT_STRING_EQUAL(result.message, "m");
	judge_status(400, "x-amzn-errortype: bad type!", "{\"code\":42}");
	CU_ASSERT_STRING_EQUAL(result.code, "Http400");
	judge_status(200, "x-amzn-errortype: ValidationException", "{}");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_REFUSED);
	CU_ASSERT_STRING_EQUAL(result.code, "ValidationException");
	/* "per day" says something about a throttle only. */
	judge_status(400, "X: y", "{\"message\":\"1 per day\"}");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_REFUSED);
}

/* A 200 that is not what was asked for may have been performed all the same. */
static void doubts_odd_success(void)
{
	static const char *const bodies[] = {
		"", "garbage", "[1]", "{\"usage\":{\"inputTokens\":1}", "null"};

	for (size_t i = 0; i < COUNT(bodies); i++) {
		judge_status(200, "X: y", bodies[i]);
		CU_ASSERT_EQUAL(result.outcome, UPSTREAM_AMBIGUOUS);
		CU_ASSERT_STRING_EQUAL(result.code, "BadResponse");
	}
	judge_status(200, "X: y", "{\"Output\":{\"message\":1}}");
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_OK);
	CU_ASSERT_STRING_EQUAL(result.code, "");
	CU_ASSERT_EQUAL(
		result.body_bytes, strlen("{\"Output\":{\"message\":1}}"));
}

/* Headers say the usage first, the body what they leave out. */
static void reads_usage(void)
{
	judge_status(200, "X-Amzn-Bedrock-Input-Token-Count: 7",
		"{\"usage\":{\"input_tokens\":1,\"output_tokens\":2,"
		"\"cache_creation_input_tokens\":3,"
		"\"cache_read_input_tokens\":4}}");
	CU_ASSERT(usage_is(7, 2, 4, 3));
	judge_status(200, "X-Amzn-Bedrock-Input-Token-Count: 7x",
		"{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}");
	CU_ASSERT(usage_is(1, 2, -1, -1));
	judge_status(200, "X: y", "{\"usage\":[],\"inputTokens\":5}");
	CU_ASSERT(usage_is(-1, -1, -1, -1));
	/* What cannot be is told as near as it comes; no number says nothing.
	 */
	judge_status(200, "X: y",
		"{\"usage\":{\"inputTokens\":-5,\"outputTokens\":1e300}}");
	CU_ASSERT(usage_is(-5, INT64_MAX, -1, -1));
	judge_status(200, "X: y",
		"{\"usage\":{\"inputTokens\":-0.5,\"outputTokens\":1e13}}");
	CU_ASSERT(usage_is(0, INT64_C(1000000000000), -1, -1));
	judge_status(200, "X: y",
		"{\"usage\":{\"inputTokens\":null,\"outputTokens\":\"-7\"}}");
	CU_ASSERT(usage_is(-1, -1, -1, -1));
}

/* A hint is taken in each of its forms, and never believed beyond a bound. */
static void reads_retry_after(void)
{
	static const char date[] =
		"HTTP/1.1 429 X\r\nRetry-After: Mon, 23 Nov 2026 10:00:30 GMT";
	const int64_t then = 1795428030;

	judge_status(429, "x-amz-retry-after: 1500", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, 1500 * S / 1000);
	judge_status(429, "Retry-After: 3", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, 3 * S);
	judge_status(429, "Retry-After: 3\r\nx-amz-retry-after: 10", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, S / 100);
	judge_status(429, "Retry-After: 99999999999999999999", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, BEDROCK_MAX_RETRY_AFTER_NS);
	judge_status(429, "x-amz-retry-after: 99999999999999999999", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, BEDROCK_MAX_RETRY_AFTER_NS);
	judge_status(429, "Retry-After: soon", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, 0);
	judge_status(429, "Retry-After: -5", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, 0);
	judge(date, "{}", then - 30);
	CU_ASSERT_EQUAL(result.retry_after_ns, 30 * S);
	judge(date, "{}", then + 1);
	CU_ASSERT_EQUAL(result.retry_after_ns, 0);
	judge(date, "{}", 0);
	CU_ASSERT_EQUAL(result.retry_after_ns, BEDROCK_MAX_RETRY_AFTER_NS);
	judge_status(200, "Retry-After: 3", "{}");
	CU_ASSERT_EQUAL(result.retry_after_ns, 0);
}

/* A later head forgets the earlier one; odd lines do nothing. */
static void reads_heads(void)
{
	judge("HTTP/1.1 100 Continue\r\nx-amzn-errortype: Old\r\n\r\n"
	      "HTTP/2 200\r\n: x\r\nnonsense\r\n\r\nx-amzn-RequestId:  a b\x01"
	      "c \r\n",
		"{}", 0);
	CU_ASSERT_EQUAL(result.http_status, 200);
	CU_ASSERT_EQUAL(result.outcome, UPSTREAM_OK);
	CU_ASSERT_STRING_EQUAL(result.request_id, "abc");
	judge("HTTP/1.1\r\n", "{}", 0);
	CU_ASSERT_EQUAL(result.http_status, 0);
	CU_ASSERT_NOT_EQUAL(result.outcome, UPSTREAM_OK);
	judge("HTTP/1.1 2", "{}", 0);
	CU_ASSERT_EQUAL(result.http_status, 0);
}

/* A message is printable UTF-8, cut between characters, whatever was sent. */
static void cleans_messages(void)
{
	static char body[2048];

	judge_status(400, "X: y",
		"{\"message\":\"a\\nb\\u001b[31mc\\u202ed\\u0085e\\u00e9\\u200b"
		"\xff\"}");
	CU_ASSERT_STRING_EQUAL(
		result.message, "a b [31mc d e\xc3\xa9 \xef\xbf\xbd");
	strcpy(body, "{\"message\":\"");
	for (int i = 0; i < 400; i++)
		strcat(body, "\xe6\xbc\xa2");
	strcat(body, "\"}");
	judge_status(400, "X: y", body);
	CU_ASSERT_EQUAL(strlen(result.message), 255); /* 85 of 3 bytes */
	memset(body, 'T', sizeof(body));
	memcpy(body, "x-amzn-errortype: ", 18);
	body[1000] = '\0';
	judge_status(400, body, "{}");
	CU_ASSERT_STRING_EQUAL(result.code, "Http400");
}

/* A rule gives an error another outcome, a name's before a status's; what is
 * not known to have been performed or not is none of its business. */
static void rules_decide_retries(void)
{
	static const struct upstream_error_rule list[] = {
		{"503", UPSTREAM_RETRY_NO},
		{"ServiceUnavailableException", UPSTREAM_RETRY_THROTTLE},
		{"ModelTimeoutException", UPSTREAM_RETRY_TRANSIENT},
		{"424", UPSTREAM_RETRY_TRANSIENT},
		{"ThrottlingException", UPSTREAM_RETRY_NO},
		{"ReadTimeout", UPSTREAM_RETRY_TRANSIENT},
		{"ConnectFailed", UPSTREAM_RETRY_NO},
		{"NoSuchThing", UPSTREAM_RETRY_THROTTLE}};
	static const struct {
		enum upstream_outcome before, after;
		int status;
		const char *code;
	} cases[] = {
		{UPSTREAM_TRANSIENT, UPSTREAM_REFUSED, 503, "Http503"},
		{UPSTREAM_TRANSIENT, UPSTREAM_THROTTLED, 503,
			"ServiceUnavailableException"},
		{UPSTREAM_REFUSED, UPSTREAM_TRANSIENT, 408,
			"ModelTimeoutException"},
		{UPSTREAM_REFUSED, UPSTREAM_TRANSIENT, 424,
			"ModelErrorException"},
		{UPSTREAM_THROTTLED, UPSTREAM_REFUSED, 429,
			"ThrottlingException"},
		{UPSTREAM_TIMED_OUT, UPSTREAM_TIMED_OUT, 0, "ReadTimeout"},
		{UPSTREAM_TRANSIENT, UPSTREAM_REFUSED, 0, "ConnectFailed"},
		{UPSTREAM_REFUSED, UPSTREAM_REFUSED, 400,
			"ServiceQuotaExceededException"},
		{UPSTREAM_OK, UPSTREAM_OK, 200, ""},
		{UPSTREAM_AMBIGUOUS, UPSTREAM_AMBIGUOUS, 503, "Truncated"},
	};
	const struct upstream_config config = {
		.errors = list, .n_errors = COUNT(list)};
	struct error_rules rules;

	CU_ASSERT_EQUAL_FATAL(error_rules_init(&rules, &config), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		result = (struct upstream_result){.outcome = cases[i].before,
			.http_status = cases[i].status};
		(void)snprintf(
			result.code, sizeof(result.code), "%s", cases[i].code);
		error_rules_apply(&rules, &result);
		CU_ASSERT_EQUAL(result.outcome, cases[i].after);
	}
	error_rules_fini(&rules);
	error_rules_fini(&rules);
}

SUITE("bedrock", T(names_endpoints_of_regions), T(rules_decide_retries),
	T(refuses_odd_regions), T(takes_endpoints_apart),
	T(refuses_odd_endpoints), T(writes_paths), T(refuses_odd_models),
	T(writes_headers), T(refuses_odd_headers), T(finds_max_tokens),
	T(refuses_other_bodies), T(estimates_input), T(judges_the_examples),
	T(scans_the_examples), T(judges_by_status), T(finds_the_type),
	T(doubts_odd_success), T(reads_usage), T(reads_retry_after),
	T(reads_heads), T(cleans_messages))
