/*
 * What the tests of upstream share: a configuration for a server on loopback,
 * and calls that remember what they were told.
 */
#ifndef TESTS_UNIT_UPSTREAM_ATTEMPT_H
#define TESTS_UNIT_UPSTREAM_ATTEMPT_H

#include "coordinator/upstream/upstream.h"
#include "tests/unit/loop_engines.h"
#include "tests/unit/upstream_server.h"

#define MODEL "us.anthropic.claude-sonnet-4-20250514-v1:0"
#define REPLY_BODY "{\"usage\":{\"input_tokens\":11,\"output_tokens\":7}}"

static struct server server;
static struct upstream *upstream;
static char endpoint[128];
static char why[UPSTREAM_MESSAGE_BYTES];

/* One call and all that it was told. */
struct attempt {
	struct upstream_call call;
	int started, done;
	int refuse; /* what started() returns */
	struct upstream_result result;
	char body[256]; /* the reply's first bytes */
	size_t body_bytes;
	struct attempt *then_start, *then_abort; /* in done() */
};

static const char small_body[] =
	"{\"anthropic_version\":\"bedrock-2023-05-31\",\"max_tokens\":64}";
static const uint8_t some_sha256[32] = {1, 2, 3};

static void start(struct attempt *attempt)
{
	CU_ASSERT_EQUAL_FATAL(upstream_start(upstream, &attempt->call), 0);
}

static int on_started(struct upstream_call *call)
{
	struct attempt *attempt = call->owner;

	attempt->started++;
	return attempt->refuse;
}

static void on_done(
	struct upstream_call *call, const struct upstream_result *result)
{
	struct attempt *attempt = call->owner;
	struct attempt *next = attempt->then_start, *end = attempt->then_abort;
	size_t kept = result->body_bytes < sizeof(attempt->body) - 1
			      ? result->body_bytes
			      : sizeof(attempt->body) - 1;

	CU_ASSERT_PTR_NULL(call->exchange);
	attempt->done++;
	attempt->result = *result;
	attempt->body_bytes = result->body_bytes;
	if (kept > 0)
		memcpy(attempt->body, result->body, kept);
	attempt->body[kept] = '\0';
	attempt->then_start = attempt->then_abort = NULL;
	if (end != NULL)
		upstream_abort(upstream, &end->call);
	if (next != NULL)
		start(next);
}

static void attempt_init(struct attempt *attempt)
{
	*attempt = (struct attempt){
		.call = {.operation = UPSTREAM_INVOKE_MODEL,
			.model_id = MODEL,
			.headers = "",
			.body = small_body,
			.body_bytes = sizeof(small_body) - 1,
			.body_sha256 = some_sha256,
			.deadline_ns = loop_now_ns() + 30 * SECOND_NS,
			.owner = attempt,
			.started = on_started,
			.done = on_done},
	};
}

/* Starts it and waits for its end, which must come exactly once. */
static void perform(struct attempt *attempt)
{
	attempt_init(attempt);
	start(attempt);
	CU_ASSERT_EQUAL(attempt->done, 0);
	CU_ASSERT_EQUAL(attempt->started, 0);
	STEP_UNTIL(attempt->done > 0);
	CU_ASSERT_EQUAL(attempt->done, 1);
	CU_ASSERT(attempt->started <= 1);
}

__attribute__((unused)) static void expect(const struct attempt *attempt,
	enum upstream_outcome outcome, const char *code)
{
	CU_ASSERT_EQUAL(attempt->result.outcome, outcome);
	CU_ASSERT_STRING_EQUAL(attempt->result.code, code);
	if (attempt->result.outcome != outcome ||
		strcmp(attempt->result.code, code) != 0)
		printf("     was %d %s: %s\n", (int)attempt->result.outcome,
			attempt->result.code, attempt->result.message);
}

static struct upstream_config config_for(const char *url)
{
	return (struct upstream_config){
		.region = "us-east-1",
		.endpoint = url,
		.connect_timeout_ns = 5 * SECOND_NS,
		.read_timeout_ns = 20 * SECOND_NS,
		.keepalive_ns = 60 * SECOND_NS,
		.idle_close_ns = 60 * SECOND_NS,
		.max_connections = 64,
		.max_reply_bytes = 1 << 20,
	};
}

/* Keys that belong to nobody, whatever the environment of the test says. */
static void set_keys(void)
{
	setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
	setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret", 1);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/aws", 1);
	setenv("AWS_CONFIG_FILE", "/nonexistent/aws", 1);
	unsetenv("AWS_SESSION_TOKEN");
	unsetenv("AWS_BEARER_TOKEN_BEDROCK");
	unsetenv("AWS_PROFILE");
	unsetenv("AWS_CREDENTIAL_EXPIRATION");
}

static void open_upstream(const struct upstream_config *config)
{
	int rc;

	set_keys();
	rc = upstream_create(loop, config, &upstream, why);
	if (rc != 0 || why[0] != '\0')
		printf("     upstream_create: %d %s\n", rc, why);
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	CU_ASSERT_STRING_EQUAL(why, "");
}

static void close_upstream(void)
{
	upstream_free(upstream);
	upstream = NULL;
}

/* A server with the script, and an upstream that calls it. */
__attribute__((unused)) static void begin(server_script *script)
{
	struct upstream_config config;

	server_start(&server, script);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	config = config_for(endpoint);
	open_upstream(&config);
}

/* The server first: an end that does not depend on it is no end. */
__attribute__((unused)) static void end(void)
{
	close_upstream();
	server_stop(&server);
}

__attribute__((unused)) static struct upstream_stats stats(void)
{
	struct upstream_stats now;

	upstream_read_stats(upstream, &now);
	return now;
}

#endif
