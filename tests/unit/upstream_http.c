/* Upstream's calls over plain HTTP on loopback: what goes out, what comes back,
 * which connections carry it, and how calls end early. */
#include "tests/unit/upstream_attempt.h"

#include <errno.h>
#include <sys/stat.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

static void answer_all(struct server_connection *connection)
{
	char reply[512];

	snprintf(reply, sizeof(reply),
		OK_HEAD "x-amzn-RequestId: id-%d\r\nContent-Length: "
			"%zu\r\n\r\n" REPLY_BODY,
		connection->number, sizeof(REPLY_BODY) - 1);
	while (server_read_request(connection))
		server_send(connection, reply);
}

/* The request's head as it arrived, one line of it; "" when there is none. */
static const char *line_of(const char *name)
{
	static char line[9000];
	char start_of_it[80];
	const char *found;

	snprintf(start_of_it, sizeof(start_of_it), "\r\n%s: ", name);
	pthread_mutex_lock(&server.lock);
	found = strcasestr(server.last_head, start_of_it);
	line[0] = '\0';
	if (found != NULL) {
		found += strlen(start_of_it);
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(found, "\r"),
			found);
	}
	pthread_mutex_unlock(&server.lock);
	return line;
}

static bool starts_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* A call goes out as one signed POST with the client's body, and its answer
 * comes back with usage and request id. */
static void performs_a_call(void)
{
	struct attempt a;
	uint64_t sum = 0;

	begin(answer_all);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(a.started, 1);
	CU_ASSERT_EQUAL(a.result.http_status, 200);
	CU_ASSERT_STRING_EQUAL(a.body, REPLY_BODY);
	CU_ASSERT_STRING_EQUAL(a.result.request_id, "id-1");
	CU_ASSERT_EQUAL(a.result.usage.input_tokens, 11);
	CU_ASSERT_EQUAL(a.result.usage.output_tokens, 7);
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
	for (size_t i = 0; i < sizeof(small_body) - 1; i++)
		sum += (unsigned char)small_body[i];
	CU_ASSERT_EQUAL(server.last_body_bytes, sizeof(small_body) - 1);
	CU_ASSERT_EQUAL(server.last_body_sum, sum);
	CU_ASSERT(starts_with(server.last_head,
		"POST /model/us.anthropic.claude-sonnet-4-20250514-v1%3A0"
		"/invoke HTTP/1.1\r\n"));
	CU_ASSERT_STRING_EQUAL(line_of("Host"), endpoint + 7);
	CU_ASSERT(starts_with(line_of("Authorization"),
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
	CU_ASSERT_EQUAL(strlen(line_of("X-Amz-Date")), 16);
	CU_ASSERT_STRING_EQUAL(line_of("Content-Type"), "application/json");
	CU_ASSERT_STRING_EQUAL(line_of("Accept"), "application/json");
	CU_ASSERT(starts_with(line_of("User-Agent"), "rgovd/"));
	CU_ASSERT_STRING_EQUAL(line_of("Expect"), "");
	CU_ASSERT_STRING_EQUAL(line_of("Transfer-Encoding"), "");
	CU_ASSERT_STRING_EQUAL(line_of("X-Amz-Security-Token"), "");
	end();
}
ENGINES(performs_a_call)

/* Calls one after the other share one connection. */
static void keeps_the_connection(void)
{
	struct attempt a;

	begin(answer_all);
	for (int i = 0; i < 50; i++) {
		perform(&a);
		expect(&a, UPSTREAM_OK, "");
	}
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 50);
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 1);
	CU_ASSERT_EQUAL(stats().connections_opened, 1);
	CU_ASSERT_EQUAL(stats().calls_started, 50);
	CU_ASSERT_STRING_EQUAL(stats().endpoint, endpoint);
	end();
}
ENGINES(keeps_the_connection)

/* Sixty-four calls at once, all with bodies of different sizes, all answered.
 */
static void many_at_once(void)
{
	enum { MANY = 64 };
	static struct attempt attempts[MANY];
	static char block[MANY * 1000];
	int done = 0;

	memset(block, ' ', sizeof(block));
	begin(answer_all);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++) {
			attempt_init(&attempts[i]);
			attempts[i].call.body = block;
			attempts[i].call.body_bytes = (size_t)i * 997;
			start(&attempts[i]);
		}
		for (int i = 0; i < MANY; i++)
			STEP_UNTIL(attempts[i].done > 0);
		for (int i = 0; i < MANY; i++) {
			expect(&attempts[i], UPSTREAM_OK, "");
			done += attempts[i].done;
		}
	}
	CU_ASSERT_EQUAL(done, 3 * MANY);
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 3 * MANY);
	CU_ASSERT(atomic_load(&server.connection_count) <= MANY);
	end();
}
ENGINES(many_at_once)

/* No more connections than allowed; started() waits with the call. */
static void bounds_the_connections(void)
{
	enum { MANY = 12 };
	static struct attempt attempts[MANY];
	struct upstream_config config;

	server_start(&server, answer_all);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	config = config_for(endpoint);
	config.max_connections = 2;
	open_upstream(&config);
	for (int i = 0; i < MANY; i++) {
		attempt_init(&attempts[i]);
		start(&attempts[i]);
	}
	for (int i = 0; i < MANY; i++) {
		STEP_UNTIL(attempts[i].done > 0);
		expect(&attempts[i], UPSTREAM_OK, "");
	}
	CU_ASSERT(atomic_load(&server.connection_count) <= 2);
	end();
}
ENGINES(bounds_the_connections)

/* A body of 20 MB arrives whole, without asking for permission first. */
static void sends_a_large_body(void)
{
	const size_t bytes = 20000000;
	char *body = malloc(bytes);
	struct attempt a;
	uint64_t sum = 0;

	for (size_t i = 0; i < bytes; i++) {
		body[i] = (char)(i * 31 % 251);
		sum += (unsigned char)body[i];
	}
	begin(answer_all);
	attempt_init(&a);
	a.call.body = body;
	a.call.body_bytes = bytes;
	start(&a);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(server.last_body_bytes, bytes);
	CU_ASSERT_EQUAL(server.last_body_sum, sum);
	CU_ASSERT_STRING_EQUAL(line_of("Expect"), "");
	perform(&a); /* and a small one after it, on the same handle */
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(server.last_body_bytes, sizeof(small_body) - 1);
	end();
	free(body);
}
ENGINES(sends_a_large_body)

static void answer_in_pieces(struct server_connection *connection)
{
	while (server_read_request(connection)) {
		server_send(connection, "HTTP/1.1 100 Continue\r\n\r\n");
		server_send(connection,
			"HTTP/1.1 103 Early Hints\r\nx-amzn-RequestId: "
			"early\r\n\r\n");
		server_send(connection,
			OK_HEAD "x-amzn-RequestId: final\r\n"
				"Transfer-Encoding: chunked\r\n\r\n"
				"1\r\n{\r\n");
		server_send(connection, "6\r\n\"a\":1}\r\n0\r\n\r\n");
	}
}

/* Interim responses are passed over; a chunked body is put together. */
static void reads_pieces(void)
{
	struct attempt a;

	begin(answer_in_pieces);
	for (int i = 0; i < 3; i++) {
		perform(&a);
		expect(&a, UPSTREAM_OK, "");
		CU_ASSERT_STRING_EQUAL(a.body, "{\"a\":1}");
		CU_ASSERT_STRING_EQUAL(a.result.request_id, "final");
	}
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 1);
	end();
}
ENGINES(reads_pieces)

static void redirect(struct server_connection *connection)
{
	while (server_read_request(connection))
		server_send(connection,
			"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n"
			"Content-Length: 0\r\n\r\n");
}

/* A redirect is an answer, and is not followed. */
static void follows_no_redirect(void)
{
	struct attempt a;

	begin(redirect);
	perform(&a);
	CU_ASSERT_EQUAL(a.result.outcome, UPSTREAM_REFUSED);
	CU_ASSERT_EQUAL(a.result.http_status, 302);
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
	end();
}
ENGINES(follows_no_redirect)

/* Proxies named in the environment are not used. */
static void ignores_proxies(void)
{
	struct attempt a;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	begin(answer_all);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	end();
	unsetenv("http_proxy");
	unsetenv("all_proxy");
}
ENGINES(ignores_proxies)

/* With a bearer key nothing is signed. */
static void sends_a_bearer_key(void)
{
	struct upstream_config config;
	struct attempt a;

	begin(answer_all);
	config = config_for(endpoint);
	setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abc", 1);
	CU_ASSERT_EQUAL_FATAL(upstream_reload(upstream, &config, why), 0);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_STRING_EQUAL(
		line_of("Authorization"), "Bearer bedrock-api-key-abc");
	CU_ASSERT_STRING_EQUAL(line_of("X-Amz-Date"), "");
	end();
	unsetenv("AWS_BEARER_TOKEN_BEDROCK");
}
ENGINES(sends_a_bearer_key)

/* A session token, however long, is sent and signed; the client's headers of
 * the allow-list go along. */
static void sends_token_and_headers(void)
{
	static char token[4001];
	struct upstream_config config;
	struct attempt a;

	begin(answer_all);
	config = config_for(endpoint);
	memset(token, 't', sizeof(token) - 1);
	setenv("AWS_SESSION_TOKEN", token, 1);
	CU_ASSERT_EQUAL_FATAL(upstream_reload(upstream, &config, why), 0);
	attempt_init(&a);
	a.call.operation = UPSTREAM_CONVERSE;
	a.call.headers = "X-Amzn-Bedrock-Trace: ENABLED\n";
	start(&a);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_STRING_EQUAL(line_of("X-Amz-Security-Token"), token);
	CU_ASSERT_STRING_EQUAL(line_of("X-Amzn-Bedrock-Trace"), "ENABLED");
	CU_ASSERT_PTR_NOT_NULL(strstr(line_of("Authorization"),
		"x-amz-security-token;x-amzn-bedrock-trace"));
	CU_ASSERT_PTR_NOT_NULL(strstr(server.last_head, "/converse HTTP/1.1"));
	end();
	unsetenv("AWS_SESSION_TOKEN");
}
ENGINES(sends_token_and_headers)

/* What may not go into a request is refused at the start. */
static void refuses_bad_requests(void)
{
	struct attempt a;

	begin(answer_all);
	attempt_init(&a);
	a.call.model_id = "a model";
	CU_ASSERT_EQUAL(upstream_start(upstream, &a.call), -EINVAL);
	CU_ASSERT_EQUAL(upstream_check("a model", "", why), -EINVAL);
	a.call.model_id = MODEL;
	a.call.headers = "Host: elsewhere\n";
	CU_ASSERT_EQUAL(upstream_start(upstream, &a.call), -EINVAL);
	CU_ASSERT_EQUAL(upstream_check(MODEL, a.call.headers, why), -EINVAL);
	CU_ASSERT_EQUAL(upstream_check(MODEL, "", why), 0);
	CU_ASSERT_PTR_NULL(a.call.exchange);
	upstream_abort(upstream, &a.call);
	CU_ASSERT_EQUAL(a.done, 0);
	end();
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 0);
}
ENGINES(refuses_bad_requests)

/* ---- ends before the end ---- */

static void never_answer(struct server_connection *connection)
{
	if (server_read_request(connection))
		server_wait_end(connection);
}

/* started() can still stop the call: nothing of it is sent. */
static void owner_says_no(void)
{
	struct attempt a;

	begin(answer_all);
	attempt_init(&a);
	a.refuse = -1;
	start(&a);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_ABORTED, "Aborted");
	CU_ASSERT_EQUAL(a.started, 1);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
	end();
}
ENGINES(owner_says_no)

/* A call can be aborted before its first step, while it connects, and while it
 * waits; each time it ends at once and once, and others do not notice. */
static void aborts_at_any_time(void)
{
	struct attempt a, b;

	begin(never_answer);
	attempt_init(&a);
	start(&a); /* before the first step */
	upstream_abort(upstream, &a.call);
	expect(&a, UPSTREAM_ABORTED, "Aborted");
	start(&a); /* while it connects */
	CU_ASSERT(loop_step(loop, 0) >= 0);
	upstream_abort(upstream, &a.call);
	CU_ASSERT_EQUAL(a.done, 2);
	attempt_init(&b);
	start(&b);
	a.started = 0;
	start(&a); /* while it waits for the answer */
	STEP_UNTIL(a.started && b.started);
	STEP_WATCHING(atomic_load(&server.requests) == 2);
	upstream_abort(upstream, &a.call);
	CU_ASSERT_EQUAL(a.done, 3);
	upstream_abort(upstream, &a.call); /* not running: nothing happens */
	CU_ASSERT_EQUAL(a.done, 3);
	CU_ASSERT_EQUAL(b.done, 0);
	upstream_abort(upstream, &b.call);
	expect(&b, UPSTREAM_ABORTED, "Aborted");
	end();
}
ENGINES(aborts_at_any_time)

static void half_answer(struct server_connection *connection)
{
	if (!server_read_request(connection))
		return;
	server_send(connection, OK_HEAD "Content-Length: 100\r\n\r\n{\"a\":");
	server_wait_end(connection);
}

/* A call aborted in the middle of its answer. */
static void aborts_in_the_answer(void)
{
	struct attempt a;

	begin(half_answer);
	attempt_init(&a);
	start(&a);
	STEP_UNTIL(a.started);
	for (int i = 0; i < 20; i++)
		CU_ASSERT(loop_step(loop, loop_now_ns() + MS_NS) >= 0);
	upstream_abort(upstream, &a.call);
	expect(&a, UPSTREAM_ABORTED, "Aborted");
	CU_ASSERT_EQUAL(a.body_bytes, 0);
	end();
}
ENGINES(aborts_in_the_answer)

/* done() may start the same call again, and another. */
static void restarts_in_done(void)
{
	struct attempt a, b;

	begin(answer_all);
	attempt_init(&a);
	attempt_init(&b);
	a.then_start = &a;
	start(&a);
	STEP_UNTIL(a.done == 2);
	a.then_start = &b;
	start(&a);
	STEP_UNTIL(b.done == 1);
	CU_ASSERT_EQUAL(a.done, 3);
	expect(&b, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 4);
	end();
}
ENGINES(restarts_in_done)

/* done() may abort another call, wherever that is, also when it has its answer
 * already. */
static void aborts_in_done(void)
{
	enum { PAIRS = 16 };
	static struct attempt a[PAIRS], b[PAIRS];

	begin(answer_all);
	for (int i = 0; i < PAIRS; i++) {
		attempt_init(&a[i]);
		attempt_init(&b[i]);
		a[i].then_abort = &b[i];
		b[i].then_abort = &a[i];
		start(&a[i]);
		start(&b[i]);
	}
	for (int i = 0; i < PAIRS; i++) {
		STEP_UNTIL(a[i].done && b[i].done);
		CU_ASSERT_EQUAL(a[i].done + b[i].done, 2);
		CU_ASSERT((a[i].result.outcome == UPSTREAM_ABORTED) !=
			  (b[i].result.outcome == UPSTREAM_ABORTED));
	}
	end();
}
ENGINES(aborts_in_done)

static void start_too_late(
	struct upstream_call *call, const struct upstream_result *result)
{
	on_done(call, result);
	CU_ASSERT_EQUAL(upstream_start(upstream, call), -ESHUTDOWN);
}

/* upstream_free() ends what runs, and takes nothing new. */
static void frees_what_runs(void)
{
	static struct attempt attempts[5];

	begin(never_answer);
	for (int i = 0; i < 5; i++) {
		attempt_init(&attempts[i]);
		attempts[i].call.done = start_too_late;
		start(&attempts[i]);
	}
	STEP_UNTIL(attempts[0].started && attempts[4].started);
	end();
	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(attempts[i].done, 1);
		expect(&attempts[i], UPSTREAM_ABORTED, "Aborted");
	}
}
ENGINES(frees_what_runs)

/* ---- connections over time ---- */

static void answer_and_close(struct server_connection *connection)
{
	char reply[256];

	snprintf(reply, sizeof(reply),
		OK_HEAD "Content-Length: %zu\r\n\r\n" REPLY_BODY,
		sizeof(REPLY_BODY) - 1);
	if (server_read_request(connection))
		server_send(connection, reply);
}

/* A pooled connection that the other side has closed meanwhile is not used
 * again. */
static void replaces_closed_connections(void)
{
	struct attempt a;

	begin(answer_and_close);
	for (int i = 1; i <= 5; i++) {
		perform(&a);
		expect(&a, UPSTREAM_OK, "");
		/* The end of it has arrived when the server's thread is gone,
		 * for loopback delivers at once. */
		while (atomic_load(&server.ended) < i)
			;
	}
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 5);
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 5);
	end();
}
ENGINES(replaces_closed_connections)

/* Connections that nobody uses are closed after idle_close_ns, and afterwards
 * everything works as before. */
static void closes_idle_connections(void)
{
	struct upstream_config config;
	struct attempt a;

	server_start(&server, answer_all);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	config = config_for(endpoint);
	config.idle_close_ns = 20 * MS_NS;
	open_upstream(&config);
	perform(&a);
	CU_ASSERT_EQUAL(atomic_load(&server.ended), 0);
	STEP_WATCHING(atomic_load(&server.ended) == 1);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 2);
	end();
}
ENGINES(closes_idle_connections)

/* A shorter idle_close is that of the connections that rest already. */
static void closes_by_the_new_idle_close(void)
{
	struct upstream_config config;
	struct attempt a;

	begin(answer_all);
	perform(&a);
	CU_ASSERT_EQUAL(atomic_load(&server.ended), 0);
	config = config_for(endpoint);
	config.idle_close_ns = 20 * MS_NS;
	CU_ASSERT_EQUAL_FATAL(upstream_reload(upstream, &config, why), 0);
	STEP_WATCHING(atomic_load(&server.ended) == 1);
	end();
}
ENGINES(closes_by_the_new_idle_close)

/* ---- configuration ---- */

/* A wrong configuration is refused with a reason, and changes nothing. */
static void refuses_bad_configurations(void)
{
	static const struct {
		const char *region, *url, *ca_file, *reason;
	} cases[] = {
		{"us-east-1", "http://example.com", NULL, "http"},
		{"us-east-1", "ftp://127.0.0.1", NULL, ""},
		{"us-east-1", "https://user:s3kr1t@127.0.0.1", NULL, ""},
		{"us-east-1", NULL, "/nonexistent/ca.pem", "ca.pem"},
		{"not a region", NULL, NULL, "region"},
		{"", NULL, NULL, "region"},
	};
	struct upstream *other = NULL;
	struct upstream_config config;
	struct attempt a;

	begin(answer_all);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		config = config_for(cases[i].url);
		config.region = cases[i].region;
		config.ca_file = cases[i].ca_file;
		why[0] = '\0';
		CU_ASSERT_EQUAL(
			upstream_create(loop, &config, &other, why), -EINVAL);
		CU_ASSERT_PTR_NOT_NULL(strstr(why, cases[i].reason));
		CU_ASSERT_PTR_NULL(strstr(why, "s3kr1t"));
		CU_ASSERT(why[0] != '\0');
		CU_ASSERT_EQUAL(
			upstream_reload(upstream, &config, why), -EINVAL);
	}
	CU_ASSERT_PTR_NULL(other);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	end();
}
ENGINES(refuses_bad_configurations)

/* Without credentials there is an upstream, which refuses each call; a reload
 * that finds some makes it work, one that finds none changes nothing. */
static void runs_without_credentials(void)
{
	struct upstream_config config;
	struct attempt a;

	server_start(&server, answer_all);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	config = config_for(endpoint);
	set_keys();
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	CU_ASSERT_EQUAL_FATAL(
		upstream_create(loop, &config, &upstream, why), 0);
	CU_ASSERT(why[0] != '\0');
	CU_ASSERT(!stats().has_credentials);
	perform(&a);
	expect(&a, UPSTREAM_REFUSED, "NoCredentials");
	CU_ASSERT_EQUAL(a.started, 0);
	set_keys();
	CU_ASSERT_EQUAL(upstream_reload(upstream, &config, why), 0);
	CU_ASSERT(stats().has_credentials);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	CU_ASSERT_NOT_EQUAL(upstream_reload(upstream, &config, why), 0);
	CU_ASSERT(why[0] != '\0');
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	end();
}
ENGINES(runs_without_credentials)

/* A reload holds for the calls that start from then on; one under way ends as
 * it began. */
static void reloads(void)
{
	struct upstream_config config;
	struct attempt a, b;

	begin(answer_all);
	config = config_for("http://127.0.0.1:1");
	attempt_init(&a);
	start(&a);
	CU_ASSERT_EQUAL(upstream_reload(upstream, &config, why), 0);
	CU_ASSERT_STRING_EQUAL(stats().endpoint, "http://127.0.0.1:1");
	perform(&b);
	expect(&b, UPSTREAM_TRANSIENT, "ConnectFailed");
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_OK, "");
	end();
}
ENGINES(reloads)

static void write_keys(const char *path, const char *id)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fprintf(file,
		"[default]\naws_access_key_id = %s\n"
		"aws_secret_access_key = nothing\n",
		id);
	fclose(file);
}

/* Answers that a key has expired, unless it is AKIDNEWER. */
static void expire(struct server_connection *connection)
{
	static const char expired[] =
		"HTTP/1.1 403 Forbidden\r\n"
		"x-amzn-ErrorType: ExpiredTokenException\r\n"
		"Content-Length: 2\r\n\r\n{}";
	static const char fine[] = OK_HEAD "Content-Length: 2\r\n\r\n{}";

	while (server_read_request(connection))
		server_send(connection,
			strstr(connection->head, "AKIDNEWER") ? fine : expired);
}

/* Expired keys are read anew once, and the call counts as transient; keys that
 * are no better are refused. */
static void reads_expired_keys_anew(void)
{
	char path[] = "/tmp/rgov-test-XXXXXX";
	struct upstream_config config;
	struct attempt a;

	close(mkstemp(path));
	begin(expire);
	unsetenv("AWS_ACCESS_KEY_ID");
	unsetenv("AWS_SECRET_ACCESS_KEY");
	setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
	write_keys(path, "AKIDOLDER");
	config = config_for(endpoint);
	CU_ASSERT_EQUAL_FATAL(upstream_reload(upstream, &config, why), 0);
	perform(&a);
	expect(&a, UPSTREAM_TRANSIENT, "ExpiredTokenException");
	CU_ASSERT_EQUAL(a.result.http_status, 403);
	perform(&a);
	expect(&a, UPSTREAM_REFUSED, "ExpiredTokenException");
	CU_ASSERT_EQUAL(upstream_reload(upstream, &config, why), 0);
	write_keys(path, "AKIDNEWER");
	perform(&a);
	expect(&a, UPSTREAM_TRANSIENT, "ExpiredTokenException");
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	end();
	set_keys();
	unlink(path);
}
ENGINES(reads_expired_keys_anew)

SUITE("upstream_http", BOTH(performs_a_call), BOTH(keeps_the_connection),
	BOTH(many_at_once), BOTH(bounds_the_connections),
	BOTH(sends_a_large_body), BOTH(reads_pieces), BOTH(follows_no_redirect),
	BOTH(ignores_proxies), BOTH(sends_a_bearer_key),
	BOTH(sends_token_and_headers), BOTH(refuses_bad_requests),
	BOTH(owner_says_no), BOTH(aborts_at_any_time),
	BOTH(aborts_in_the_answer), BOTH(restarts_in_done),
	BOTH(aborts_in_done), BOTH(frees_what_runs),
	BOTH(replaces_closed_connections), BOTH(closes_idle_connections),
	BOTH(closes_by_the_new_idle_close), BOTH(refuses_bad_configurations),
	BOTH(runs_without_credentials), BOTH(reloads),
	BOTH(reads_expired_keys_anew))
