/* What upstream makes of everything that goes wrong on the way to the provider
 * and back: a typed end, exactly one, and never a second request. */
#include "tests/unit/upstream_attempt.h"

#include <errno.h>
#include <fcntl.h>

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

/* ---- before the request ---- */

static void open_to(const char *url, uint64_t connect_timeout_ns)
{
	struct upstream_config config = config_for(url);

	config.connect_timeout_ns = connect_timeout_ns;
	open_upstream(&config);
}

/* Nobody listens: not sent, may be tried again. */
static void connection_refused(void)
{
	struct attempt a;

	server_listen(&server, 1);
	close(server.fd);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	open_to(endpoint, SECOND_NS);
	perform(&a);
	expect(&a, UPSTREAM_TRANSIENT, "ConnectFailed");
	CU_ASSERT_EQUAL(a.started, 0);
	CU_ASSERT_EQUAL(a.result.http_status, 0);
	CU_ASSERT(a.result.message[0] != '\0');
	CU_ASSERT_EQUAL(a.result.usage.input_tokens, -1);
	close_upstream();
}
ENGINES(connection_refused)

/* A name that does not exist: not sent, may be tried again. */
static void unknown_host(void)
{
	struct attempt a;

	open_to("https://rgov-test.invalid", 5 * SECOND_NS);
	perform(&a);
	if (a.result.outcome != UPSTREAM_TRANSIENT ||
		strcmp(a.result.code, "ConnectTimeout") != 0)
		expect(&a, UPSTREAM_TRANSIENT, "ResolveFailed");
	else
		suite_skip("the resolver of this machine does not answer");
	CU_ASSERT_EQUAL(a.started, 0);
	close_upstream();
}
ENGINES(unknown_host)

/* A name that is still being looked up can be aborted without waiting. */
static void aborts_while_resolving(void)
{
	enum { TRIES = 100 };
	struct attempt a;
	uint64_t before_ns;
	bool is_done = true;

	open_to("https://rgov-test.invalid", 5 * SECOND_NS);
	/* The resolver may be faster than we are; not a hundred times. */
	for (int try = 0; try < TRIES && is_done; try++) {
		attempt_init(&a);
		start(&a);
		CU_ASSERT(loop_step(loop, 0) >= 0);
		is_done = a.done > 0;
	}
	CU_ASSERT_FALSE_FATAL(is_done);
	before_ns = loop_now_ns();
	upstream_abort(upstream, &a.call);
	CU_ASSERT(loop_now_ns() - before_ns < SECOND_NS);
	expect(&a, UPSTREAM_ABORTED, "Aborted");
	close_upstream();
}
ENGINES(aborts_while_resolving)

/* A listener whose queue is full lets connections hang: here is one. */
static int fill_the_queue(int *fillers, int max)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons(server.port)};

	for (int i = 0; i < max; i++)
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	for (int i = 0; i < max; i++)
		(void)connect(fillers[i], (struct sockaddr *)&address,
			sizeof(address));
	return max;
}

/* The connection does not come about in time: not sent, may be tried again. */
static void connect_times_out(void)
{
	int fillers[8], count;
	struct attempt a;

	server_listen(&server, 0);
	count = fill_the_queue(fillers, 8);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	open_to(endpoint, 30 * MS_NS);
	perform(&a);
	expect(&a, UPSTREAM_TRANSIENT, "ConnectTimeout");
	CU_ASSERT_EQUAL(a.started, 0);
	/* The deadline comes first: not sent either. */
	attempt_init(&a);
	a.call.deadline_ns = loop_now_ns() + 5 * MS_NS;
	start(&a);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_TRANSIENT, "DeadlinePassed");
	close_upstream();
	for (int i = 0; i < count; i++)
		close(fillers[i]);
	close(server.fd);
}
ENGINES(connect_times_out)

static void speak_plain(struct server_connection *connection)
{
	server_send(connection, "HTTP/1.1 400 Bad Request\r\n\r\n");
	server_wait_end(connection);
}

/* The other side does not speak TLS: not sent, may be tried again. */
static void no_tls(void)
{
	struct attempt a;

	server_start(&server, speak_plain);
	snprintf(endpoint, sizeof(endpoint), "https://127.0.0.1:%u",
		server.port);
	open_to(endpoint, 5 * SECOND_NS);
	perform(&a);
	expect(&a, UPSTREAM_TRANSIENT, "TlsFailed");
	CU_ASSERT_EQUAL(a.started, 0);
	end();
}
ENGINES(no_tls)

/* A call whose deadline has passed already is not sent. */
static void too_late(void)
{
	struct attempt a;

	open_to("http://127.0.0.1:1", SECOND_NS);
	attempt_init(&a);
	a.call.deadline_ns = loop_now_ns() - 1;
	start(&a);
	CU_ASSERT_EQUAL(a.done, 0);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_TRANSIENT, "DeadlinePassed");
	close_upstream();
}
ENGINES(too_late)

/* ---- time ---- */

static void never_answer(struct server_connection *connection)
{
	if (server_read_request(connection))
		server_wait_end(connection);
}

static void drip(struct server_connection *connection)
{
	char byte;

	if (!server_read_request(connection))
		return;
	server_send(connection, OK_HEAD "Content-Length: 100000\r\n\r\n");
	/* As long as the other side stays. */
	while (recv(connection->fd, &byte, 1, MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EINTR)) {
		server_send(connection, " ");
		usleep(1000);
	}
}

static void begin_with_read_timeout(server_script *script, uint64_t timeout_ns)
{
	struct upstream_config config;

	server_start(&server, script);
	snprintf(
		endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
	config = config_for(endpoint);
	config.read_timeout_ns = timeout_ns;
	open_upstream(&config);
}

/* No answer within the read time-out of the request's end: it may have been
 * performed.  An answer that drips does not help. */
static void read_times_out(void)
{
	static server_script *const scripts[] = {never_answer, drip};

	for (size_t i = 0; i < 2; i++) {
		uint64_t before_ns = loop_now_ns();
		struct attempt a;

		begin_with_read_timeout(scripts[i], 300 * MS_NS);
		perform(&a);
		expect(&a, UPSTREAM_TIMED_OUT, "ReadTimeout");
		CU_ASSERT_EQUAL(a.result.http_status, i == 0 ? 0 : 200);
		CU_ASSERT(loop_now_ns() - before_ns >= 300 * MS_NS);
		CU_ASSERT_EQUAL(a.started, 1);
		CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
		end();
	}
}
ENGINES(read_times_out)

/* The deadline ends a call that was sent, before the read time-out would. */
static void deadline_passes(void)
{
	struct attempt a;

	begin_with_read_timeout(never_answer, UINT64_MAX);
	attempt_init(&a);
	a.call.deadline_ns = loop_now_ns() + 30 * MS_NS;
	start(&a);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_TIMED_OUT, "DeadlinePassed");
	CU_ASSERT_EQUAL(a.started, 1);
	CU_ASSERT(loop_now_ns() >= a.call.deadline_ns);
	end();
}
ENGINES(deadline_passes)

static void read_slowly(struct server_connection *connection)
{
	if (!server_read_head(connection))
		return;
	while (!atomic_load(&connection->server->release))
		usleep(1000);
	if (server_read_body(connection))
		server_send(connection, OK_HEAD "Content-Length: 2\r\n\r\n{}");
}

/* The read time-out counts from the end of the request, not from its start. */
static void slow_upload(void)
{
	static char body[8000000];
	uint64_t from_ns;
	struct attempt a;

	begin_with_read_timeout(read_slowly, 400 * MS_NS);
	memset(body, ' ', sizeof(body));
	attempt_init(&a);
	a.call.body = body;
	a.call.body_bytes = sizeof(body);
	start(&a);
	from_ns = loop_now_ns();
	while (loop_now_ns() < from_ns + 600 * MS_NS)
		CU_ASSERT(loop_step(loop, loop_now_ns() + 10 * MS_NS) >= 0);
	CU_ASSERT_EQUAL(a.done, 0);
	atomic_store(&server.release, true);
	STEP_UNTIL(a.done);
	expect(&a, UPSTREAM_OK, "");
	end();
}
ENGINES(slow_upload)

/* ---- answers that are none ---- */

static const char *said;         /* by the server, after the request */
static atomic_bool then_reset;   /* instead of an end */
static atomic_bool then_nothing; /* instead of either */

static void say_and_end(struct server_connection *connection)
{
	if (!server_read_request(connection))
		return;
	server_send(connection, said);
	if (then_nothing)
		server_wait_end(connection);
	if (then_reset)
		server_reset(connection);
}

static const struct {
	const char *said;
	bool reset;
	enum upstream_outcome outcome;
	const char *code;
	int status;
} answers[] = {
	{"", false, UPSTREAM_AMBIGUOUS, "ConnectionReset", 0},
	{"", true, UPSTREAM_AMBIGUOUS, "ConnectionReset", 0},
	{OK_HEAD "Content-Length: 100\r\n\r\n{\"a\":", false,
		UPSTREAM_AMBIGUOUS, "Truncated", 200},
	{OK_HEAD "Content-Length: 100\r\n\r\n{\"a\":", true, UPSTREAM_AMBIGUOUS,
		"Truncated", 200},
	{OK_HEAD "Content-Length: 100\r\n\r\n", false, UPSTREAM_AMBIGUOUS,
		"Truncated", 200},
	{OK_HEAD "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\"", false,
		UPSTREAM_AMBIGUOUS, "Truncated", 200},
	{OK_HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", false,
		UPSTREAM_AMBIGUOUS, "Truncated", 200},
	{OK_HEAD "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", false,
		UPSTREAM_AMBIGUOUS, "Truncated", 200},
	{"HTTP/1.1 200 OK\r\nContent-Ty", false, UPSTREAM_AMBIGUOUS,
		"Truncated", 200},
	{"HTTP/1.1 200 OK\r\nContent-Ty", true, UPSTREAM_AMBIGUOUS, "Truncated",
		200},
	{"HTTP/1.1 100 Continue\r\n\r\n", false, UPSTREAM_AMBIGUOUS,
		"Truncated", 100},
	{"garbage from somewhere\r\nelse\r\n\r\n", false, UPSTREAM_AMBIGUOUS,
		"BadResponse", 0},
	{"\r\n\r\n", false, UPSTREAM_AMBIGUOUS, "BadResponse", 0},
	{OK_HEAD "Content-Length: 9\r\n\r\nnot json!", false,
		UPSTREAM_AMBIGUOUS, "BadResponse", 200},
	{OK_HEAD "Content-Length: 0\r\n\r\n", false, UPSTREAM_AMBIGUOUS,
		"BadResponse", 200},
	{"HTTP/1.1 429 Too Many Requests\r\nx-amzn-ErrorType: "
	 "ThrottlingException\r\nContent-Length: 100\r\n\r\n{\"mess",
		true, UPSTREAM_THROTTLED, "ThrottlingException", 429},
	{"HTTP/1.1 503 Service Unavailable\r\nContent-Length: "
	 "0\r\n\r\n",
		false, UPSTREAM_TRANSIENT, NULL, 503},
	{"HTTP/1.1 400 Bad Request\r\nx-amzn-ErrorType: "
	 "ValidationException:http://x/\r\nContent-Length: 16\r\n\r\n"
	 "{\"message\":\"no\"}",
		false, UPSTREAM_REFUSED, "ValidationException", 400},
};

/* Broken answers, each with its end and code: whatever was sent counts as
 * perhaps performed, but for errors whose head is complete. */
static void broken_answers(void)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		struct attempt a;

		said = answers[i].said;
		then_reset = answers[i].reset;
		begin(say_and_end);
		perform(&a);
		if (answers[i].code != NULL)
			expect(&a, answers[i].outcome, answers[i].code);
		CU_ASSERT_EQUAL(a.result.outcome, answers[i].outcome);
		CU_ASSERT_EQUAL(a.result.http_status, answers[i].status);
		CU_ASSERT(a.result.message[0] != '\0');
		CU_ASSERT_EQUAL(a.started, 1);
		CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
		CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 1);
		end();
	}
	then_reset = false;
}
ENGINES(broken_answers)

static void endless_head(struct server_connection *connection)
{
	char byte;

	if (!server_read_request(connection))
		return;
	server_send(connection, OK_HEAD);
	while (recv(connection->fd, &byte, 1, MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EINTR))
		server_send(connection, "X-More: and more and more\r\n");
}

static void endless_interims(struct server_connection *connection)
{
	char byte;

	if (!server_read_request(connection))
		return;
	while (recv(connection->fd, &byte, 1, MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EINTR))
		server_send(connection, "HTTP/1.1 103 Early Hints\r\n\r\n");
}

/* A head without an end is cut off, and so are interim responses. */
static void endless_heads(void)
{
	static server_script *const scripts[] = {
		endless_head, endless_interims};

	for (size_t i = 0; i < 2; i++) {
		struct attempt a;

		begin(scripts[i]);
		perform(&a);
		expect(&a, UPSTREAM_AMBIGUOUS, "BadResponse");
		end();
	}
}
ENGINES(endless_heads)

static void endless_body(struct server_connection *connection)
{
	char byte;

	if (!server_read_request(connection))
		return;
	server_send(connection, said);
	while (recv(connection->fd, &byte, 1, MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EINTR))
		server_send(connection,
			"20\r\n                                \r\n");
}

/* A reply that is too large ends at once: at its announcement, or when it has
 * become so; what its head says is kept. */
static void too_large(void)
{
	static const char *const heads[] = {
		OK_HEAD "x-amzn-RequestId: large\r\n"
			"X-Amzn-Bedrock-Input-Token-Count: 5\r\n"
			"Content-Length: 99999999\r\n\r\n",
		OK_HEAD "x-amzn-RequestId: large\r\n"
			"X-Amzn-Bedrock-Input-Token-Count: 5\r\n"
			"Transfer-Encoding: chunked\r\n\r\n",
		OK_HEAD "x-amzn-RequestId: large\r\n"
			"X-Amzn-Bedrock-Input-Token-Count: 5\r\n\r\n",
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct attempt a;

		said = heads[i];
		begin(endless_body);
		perform(&a);
		expect(&a, UPSTREAM_REPLY_TOO_LARGE, "ReplyTooLarge");
		CU_ASSERT_EQUAL(a.body_bytes, 0);
		CU_ASSERT_EQUAL(a.result.http_status, 200);
		CU_ASSERT_STRING_EQUAL(a.result.request_id, "large");
		CU_ASSERT_EQUAL(a.result.usage.input_tokens, 5);
		end();
	}
}
ENGINES(too_large)

/* ---- no second request ---- */

static atomic_bool reset_second; /* else: end */

/* Answers the first request of a connection; at the second, reads it (or only
 * its head) and is gone. */
static void gone_at_the_second(struct server_connection *connection)
{
	if (connection->number > 1) {
		while (server_read_request(connection))
			server_send(connection,
				OK_HEAD "Content-Length: 2\r\n\r\n{}");
		return;
	}
	if (!server_read_request(connection))
		return;
	server_send(connection, OK_HEAD "Content-Length: 2\r\n\r\n{}");
	if (!server_read_head(connection))
		return;
	if (!then_nothing)
		server_read_body(connection);
	if (reset_second)
		server_reset(connection);
}

/* A kept-alive connection dies before the answer.  libcurl would send the call
 * again; here exactly one POST arrives, and the end is ambiguous. */
static void no_resend(void)
{
	static char large[3000000];
	static const struct {
		bool reset, head_only, large;
	} cases[] = {{false, false, false}, {true, false, false},
		{false, true, true}, {true, true, true}, {true, false, true}};

	memset(large, ' ', sizeof(large));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct attempt a;

		reset_second = cases[i].reset;
		then_nothing = cases[i].head_only;
		begin(gone_at_the_second);
		perform(&a);
		expect(&a, UPSTREAM_OK, "");
		attempt_init(&a);
		if (cases[i].large) {
			a.call.body = large;
			a.call.body_bytes = sizeof(large);
		}
		start(&a);
		STEP_UNTIL(a.done);
		/* Not ambiguous only if no byte of the body had gone out. */
		if (!cases[i].head_only ||
			a.result.outcome != UPSTREAM_TRANSIENT) {
			CU_ASSERT_EQUAL(a.result.outcome, UPSTREAM_AMBIGUOUS);
		}
		CU_ASSERT_STRING_EQUAL(a.result.code, "ConnectionReset");
		CU_ASSERT_EQUAL(a.started, 1);
		CU_ASSERT_EQUAL(atomic_load(&server.heads), 2);
		perform(&a); /* the next call is a new one */
		expect(&a, UPSTREAM_OK, "");
		CU_ASSERT_EQUAL(atomic_load(&server.heads), 3);
		CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 2);
		end();
	}
	reset_second = then_nothing = false;
}
ENGINES(no_resend)

/* Answers the first request of the first two connections, reads the second and
 * is gone; all others it answers. */
static void gone_at_all_seconds(struct server_connection *connection)
{
	int most = connection->number <= 2 ? 1 : INT32_MAX;

	for (int i = 0; i < most; i++) {
		if (!server_read_request(connection))
			return;
		server_send(connection, OK_HEAD "Content-Length: 2\r\n\r\n{}");
	}
	server_read_request(connection);
}

/* Nor is it sent again over another connection of the pool. */
static void no_resend_over_another(void)
{
	struct attempt a, b;

	begin(gone_at_all_seconds);
	attempt_init(&a);
	attempt_init(&b);
	start(&a);
	start(&b);
	STEP_UNTIL(a.done && b.done);
	CU_ASSERT_EQUAL_FATAL(atomic_load(&server.connection_count), 2);
	perform(&a);
	expect(&a, UPSTREAM_AMBIGUOUS, "ConnectionReset");
	CU_ASSERT_EQUAL(atomic_load(&server.heads), 3);
	perform(&a);
	CU_ASSERT_EQUAL(atomic_load(&server.heads), 4);
	CU_ASSERT(atomic_load(&server.connection_count) <= 3);
	end();
}
ENGINES(no_resend_over_another)

static atomic_bool says_more, has_said_more;

/* Answers; and on the first connection, when told to, once more. */
static void answers_unasked(struct server_connection *connection)
{
	while (server_read_request(connection)) {
		server_send(connection,
			OK_HEAD "Content-Length: 7\r\n\r\n{\"a\":1}");
		if (connection->number > 1)
			continue;
		while (!says_more && !connection->server->release)
			usleep(1000);
		server_send(connection,
			OK_HEAD "Content-Length: 7\r\n\r\n{\"b\":2}");
		has_said_more = true;
	}
}

/* What arrives on a connection that rests is nobody's answer. */
static void no_unasked_answer(void)
{
	struct attempt a;

	says_more = has_said_more = false;
	begin(answers_unasked);
	perform(&a);
	says_more = true;
	STEP_UNTIL(has_said_more);
	for (int i = 0; i < 10; i++)
		CU_ASSERT(loop_step(loop, 0) >= 0);
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_STRING_EQUAL(a.body, "{\"a\":1}");
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 2);
	end();
}
ENGINES(no_unasked_answer)

/* Failures of many calls at once, of every kind, leave the upstream whole. */
static void survives_a_storm(void)
{
	enum { MANY = 32 };
	static struct attempt attempts[MANY];

	said = OK_HEAD "Content-Length: 100\r\n\r\n{\"a\":";
	begin(say_and_end);
	for (int round = 0; round < 5; round++) {
		then_reset = round % 2;
		for (int i = 0; i < MANY; i++) {
			attempt_init(&attempts[i]);
			attempts[i].refuse = i % 4 == 1;
			start(&attempts[i]);
			if (i % 4 == 2)
				upstream_abort(upstream, &attempts[i].call);
		}
		for (int i = 0; i < MANY; i++) {
			STEP_UNTIL(attempts[i].done);
			CU_ASSERT_EQUAL(attempts[i].done, 1);
			CU_ASSERT_EQUAL(attempts[i].result.outcome,
				i % 4 == 1 || i % 4 == 2 ? UPSTREAM_ABORTED
							 : UPSTREAM_AMBIGUOUS);
		}
	}
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 5 * MANY / 2);
	then_reset = false;
	end();
}
ENGINES(survives_a_storm)

SUITE("upstream_failures", BOTH(connection_refused), BOTH(unknown_host),
	BOTH(aborts_while_resolving), BOTH(connect_times_out), BOTH(no_tls),
	BOTH(too_late), BOTH(read_times_out), BOTH(deadline_passes),
	BOTH(slow_upload), BOTH(broken_answers), BOTH(endless_heads),
	BOTH(too_large), BOTH(no_resend), BOTH(no_resend_over_another),
	BOTH(no_unasked_answer), BOTH(survives_a_storm))
