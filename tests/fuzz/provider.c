/*
 * The provider's side of the wire, by a real upstream over loopback: two calls,
 * each answered with bytes of the run, in pieces, then an end, a reset, or a
 * connection that stays open for the next call.  Each call ends exactly once,
 * and no request is sent twice by itself.
 */
#include "coordinator/upstream/upstream.h"
#include "tests/fuzz/fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define SECOND_NS UINT64_C(1000000000)

enum { CONNECTIONS = 4, REQUEST_BYTES = 8192 };

/* How the server goes on when it has sent its bytes. */
enum ending { CLOSES, RESETS, HALF_CLOSES, STAYS, ENDINGS };

static struct loop *loop;
static struct upstream *upstream;
static int listener = -1;
static int connections[CONNECTIONS];
static unsigned int requests; /* heads that came, of the present call */

/* The present call. */
static unsigned int started, done;
static enum upstream_outcome outcome;
static const uint8_t *answer;
static size_t answer_bytes, answer_sent, piece;
static enum ending ending;

/* ------------------------------------------------------------ the server */

static void listen_somewhere(char *ret_url, size_t size)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	listener =
		socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MUST(bind(listener, (struct sockaddr *)&address, length) == 0 &&
		listen(listener, 16) == 0 &&
		getsockname(listener, (struct sockaddr *)&address, &length) ==
			0);
	(void)snprintf(ret_url, size, "http://127.0.0.1:%u",
		(unsigned int)ntohs(address.sin_port));
}

static void hang_up(int *fd, bool by_reset)
{
	struct linger now = {.l_onoff = by_reset};

	if (*fd < 0)
		return;
	(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	(void)close(*fd);
	*fd = -1;
}

static void finish_answer(int *fd)
{
	if (ending == HALF_CLOSES)
		(void)shutdown(*fd, SHUT_WR);
	else if (ending != STAYS)
		hang_up(fd, ending == RESETS);
}

static void send_answer(int *fd)
{
	size_t left = answer_bytes - answer_sent;
	size_t n = left < piece ? left : piece;

	if (send(*fd, answer + answer_sent, n, MSG_NOSIGNAL) < 0)
		n = left;
	answer_sent += n;
	if (answer_sent == answer_bytes)
		finish_answer(fd);
}

/* Requests here are small: each comes in one piece. */
static void serve(int *fd)
{
	char request[REQUEST_BYTES];
	ssize_t n = recv(*fd, request, sizeof(request), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		hang_up(fd, false);
		return;
	}
	if (n > 0) {
		requests++;
		send_answer(fd);
	} else if (requests > 0 && answer_sent < answer_bytes) {
		send_answer(fd);
	}
}

static void be_the_server(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	for (int i = 0; i < CONNECTIONS; i++) {
		if (connections[i] < 0 && fd >= 0) {
			connections[i] = fd;
			fd = -1;
		}
		if (connections[i] >= 0)
			serve(&connections[i]);
	}
	MUST(fd < 0); /* more connections than calls */
}

/* ------------------------------------------------------------ the calls */

static int on_started(struct upstream_call *call)
{
	(void)call;
	started++;
	return 0;
}

static void on_done(
	struct upstream_call *call, const struct upstream_result *result)
{
	(void)call;
	done++;
	outcome = result->outcome;
	MUST(fuzz_is_printable(result->code, sizeof(result->code)));
	MUST(fuzz_is_printable(result->message, sizeof(result->message)));
	MUST(fuzz_is_printable(result->request_id, sizeof(result->request_id)));
	MUST(result->body_bytes <= 1 << 16);
}

static void open_upstream(const char *url)
{
	const struct upstream_config config = {.region = "us-east-1",
		.endpoint = url,
		.connect_timeout_ns = 5 * SECOND_NS,
		.read_timeout_ns = 20 * SECOND_NS,
		.keepalive_ns = 60 * SECOND_NS,
		.idle_close_ns = 60 * SECOND_NS,
		.max_connections = 2,
		.max_reply_bytes = 1 << 16};
	char why[UPSTREAM_MESSAGE_BYTES];

	MUST(upstream_create(loop, &config, &upstream, why) == 0 &&
		why[0] == '\0');
}

static void prepare(char *ret_url, size_t size)
{
	static char url[64];

	if (loop == NULL) {
		(void)setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
		(void)setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret", 1);
		(void)setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
		(void)setenv("AWS_CONFIG_FILE", "/dev/null", 1);
		MUST(loop_create(LOOP_AUTO, &loop) == 0);
		listen_somewhere(url, sizeof(url));
		for (int i = 0; i < CONNECTIONS; i++)
			connections[i] = -1;
	}
	(void)snprintf(ret_url, size, "%s", url);
}

/* The first byte: how it ends; the second: how large the pieces are; then the
 * answer, up to "\n--\n" or the end of the run. */
static void take_answer(struct fuzz *fuzz)
{
	static const char border[] = "\n--\n";
	const uint8_t *end;

	ending = fuzz_byte(fuzz) % ENDINGS;
	piece = (size_t)fuzz_byte(fuzz) * 16 + 1;
	end = memmem(fuzz->at, fuzz->left, border, 4);
	answer = fuzz->at;
	answer_bytes = end ? (size_t)(end - fuzz->at) : fuzz->left;
	answer_sent = 0;
	fuzz->at += answer_bytes + (end ? 4 : 0);
	fuzz->left -= answer_bytes + (end ? 4 : 0);
}

/* An answer that stays open and says too little would wait for its time. */
static void step_until_done(struct upstream_call *call)
{
	for (int idle = 0; done == 0;) {
		be_the_server();
		MUST(loop_step(loop, loop_now_ns() + 50000) >= 0);
		if (answer_sent == answer_bytes && requests > 0 && ++idle > 20)
			upstream_abort(upstream, call);
	}
}

static void call_once(struct fuzz *fuzz)
{
	static const char body[] = "{\"max_tokens\":64}";
	static const uint8_t sha256[32] = {1, 2, 3};
	struct upstream_call call = {.operation = UPSTREAM_INVOKE_MODEL,
		.model_id = "us.anthropic.claude-3:0",
		.headers = "",
		.body = body,
		.body_bytes = sizeof(body) - 1,
		.body_sha256 = sha256,
		.deadline_ns = loop_now_ns() + 30 * SECOND_NS,
		.started = on_started,
		.done = on_done};

	take_answer(fuzz);
	started = done = requests = 0;
	MUST(upstream_start(upstream, &call) == 0);
	step_until_done(&call);
	MUST(done == 1 && started <= 1 && requests <= 1);
	MUST(call.exchange == NULL);
	MUST(outcome != UPSTREAM_OK || requests == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	char url[64];

	prepare(url, sizeof(url));
	open_upstream(url);
	call_once(&fuzz);
	call_once(&fuzz);
	upstream_free(upstream);
	(void)loop_step(loop, 0);
	for (int i = 0; i < CONNECTIONS; i++)
		hang_up(&connections[i], true);
	return 0;
}
