/*
 * One attempt on the wire.  libcurl's callbacks are here; none of them calls
 * libcurl.
 *
 * libcurl sends a request again by itself when a kept-alive connection dies
 * before the answer, or when HTTP/2 refuses the stream.  For that it needs a
 * connection: none is opened for an exchange that has started, and one from the
 * pool is refused before the request.  A body that is read through the callback
 * cannot be taken from its start again either.
 *
 * A small body is given as it lies, so that head and body leave in one system
 * call; reading it through the callback costs a second one, and the receiver a
 * second wake-up: a fifth of all the CPU of a call.  A large one is read, which
 * tells when its end has been reached.
 */
#include "coordinator/upstream/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	FIRST_REPLY_BYTES = 4096,
	KEPT_REPLY_BYTES = 65536, /* of an exchange that waits for a call */
	KEPT_TEXT_BYTES = 16384,
	/* libcurl sends a body with its head when it is below 64 KiB. */
	SMALL_BODY_BYTES = 32768,
};

/* ---- time limits ---- */

static void limit_time(struct upstream_exchange *exchange, uint64_t at_ns)
{
	struct loop_timer *timer = &exchange->timer;

	if (at_ns < timer->at_ns) /* it is set: this cannot fail */
		(void)loop_timer_set(
			exchange->loop, timer, at_ns, timer->expired, exchange);
}

/* The last byte of the request is on its way: now the provider has the word. */
static void end_of_request(struct upstream_exchange *exchange)
{
	uint64_t now_ns = loop_now_ns();

	if (exchange->read_timeout_ns < UINT64_MAX - now_ns)
		limit_time(exchange, now_ns + exchange->read_timeout_ns);
}

/* ---- libcurl's callbacks ---- */

/* A connection wanted after the request went out is for sending it again. */
static curl_socket_t open_socket(
	void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct upstream_exchange *exchange = owner;

	(void)purpose;
	if (exchange->started) {
		exchange->end = EXCHANGE_RESENT;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
		address->protocol);
}

static int before_request(
	void *owner, char *to, char *from, int to_port, int from_port)
{
	struct upstream_exchange *exchange = owner;
	struct upstream_call *call = exchange->call;

	(void)to;
	(void)from;
	(void)to_port;
	(void)from_port;
	if (exchange->started) {
		exchange->end = EXCHANGE_RESENT;
		return CURL_PREREQFUNC_ABORT;
	}
	if (call->started(call) != 0) {
		exchange->end = EXCHANGE_REFUSED_BY_OWNER;
		return CURL_PREREQFUNC_ABORT;
	}
	exchange->started = true;
	if (call->body_bytes <= SMALL_BODY_BYTES)
		end_of_request(exchange);
	return CURL_PREREQFUNC_OK;
}

static size_t read_body(char *buffer, size_t size, size_t count, void *owner)
{
	struct upstream_exchange *exchange = owner;
	const struct upstream_call *call = exchange->call;
	size_t room = size * count;
	size_t bytes = call->body_bytes - exchange->body_sent;

	if (bytes == 0)
		return 0;
	if (bytes > room)
		bytes = room;
	memcpy(buffer, call->body + exchange->body_sent, bytes);
	exchange->body_sent += bytes;
	if (exchange->body_sent == call->body_bytes)
		end_of_request(exchange);
	return bytes;
}

static int seek_body(void *owner, curl_off_t offset, int origin)
{
	const struct upstream_exchange *exchange = owner;

	return offset == 0 && origin == SEEK_SET && exchange->body_sent == 0
		       ? CURL_SEEKFUNC_OK
		       : CURL_SEEKFUNC_FAIL;
}

static bool is_end_of_head(const char *line, size_t bytes)
{
	return bytes <= 2 && (bytes == 0 || line[0] == '\r' || line[0] == '\n');
}

static size_t read_head(char *line, size_t size, size_t count, void *owner)
{
	struct upstream_exchange *exchange = owner;
	size_t bytes = size * count;

	exchange->head_bytes += bytes;
	if (exchange->head_bytes > EXCHANGE_MAX_HEAD_BYTES) {
		exchange->end = EXCHANGE_HEAD_TOO_LARGE;
		return 0;
	}
	if (!is_end_of_head(line, bytes))
		bedrock_read_head(&exchange->head, line, bytes);
	else if (exchange->head.http_status >= 200)
		exchange->head_complete = true;
	return bytes;
}

static int grow_reply(struct upstream_exchange *exchange, size_t needed)
{
	size_t size = exchange->reply_size == 0 ? FIRST_REPLY_BYTES
						: exchange->reply_size;
	char *reply;

	while (size < needed)
		size *= 2;
	reply = realloc(exchange->reply, size);
	if (reply == NULL)
		return -ENOMEM;
	exchange->reply = reply;
	exchange->reply_size = size;
	return 0;
}

static size_t read_reply(char *data, size_t size, size_t count, void *owner)
{
	struct upstream_exchange *exchange = owner;
	size_t bytes = size * count;
	size_t needed = exchange->reply_bytes + bytes;

	if (bytes > exchange->max_reply_bytes - exchange->reply_bytes) {
		exchange->end = EXCHANGE_TOO_LARGE;
		return CURL_WRITEFUNC_ERROR;
	}
	if (needed > exchange->reply_size &&
		grow_reply(exchange, needed) != 0) {
		exchange->end = EXCHANGE_NO_MEMORY;
		return CURL_WRITEFUNC_ERROR;
	}
	memcpy(exchange->reply + exchange->reply_bytes, data, bytes);
	exchange->reply_bytes = needed;
	return bytes;
}

bool exchange_is_unsent(const struct upstream_exchange *exchange)
{
	return exchange->call->body_bytes > SMALL_BODY_BYTES &&
	       exchange->body_sent == 0;
}

/* ---- the easy handle ---- */

static long to_seconds(uint64_t ns)
{
	uint64_t seconds = ns / 1000000000;

	return seconds == 0          ? 1
	       : seconds > INT32_MAX ? INT32_MAX
				     : (long)seconds;
}

static long to_ms(uint64_t ns)
{
	uint64_t ms = ns / 1000000;

	return ms == 0 ? 1 : ms > INT32_MAX ? INT32_MAX : (long)ms;
}

static CURLcode set_callbacks(CURL *easy, struct upstream_exchange *exchange)
{
	CURLcode rc = CURLE_OK;

#define SET(option, value)                                                     \
	rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value)
	SET(CURLOPT_PRIVATE, exchange);
	SET(CURLOPT_ERRORBUFFER, exchange->error);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, exchange);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, exchange);
	SET(CURLOPT_READFUNCTION, read_body);
	SET(CURLOPT_READDATA, exchange);
	SET(CURLOPT_SEEKFUNCTION, seek_body);
	SET(CURLOPT_SEEKDATA, exchange);
	SET(CURLOPT_HEADERFUNCTION, read_head);
	SET(CURLOPT_HEADERDATA, exchange);
	SET(CURLOPT_WRITEFUNCTION, read_reply);
	SET(CURLOPT_WRITEDATA, exchange);
	return rc;
}

/*
 * What never changes.  Verification stands at libcurl's default, on, and there
 * is no setting for it.  QUICK_EXIT: a call that is aborted while its name is
 * being resolved does not wait for the resolver.
 */
static CURLcode set_options(CURL *easy, const struct exchange_options *options)
{
	CURLcode rc = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	SET(CURLOPT_USERAGENT, "rgovd/" RGOV_VERSION);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (options->ca_file != NULL)
		SET(CURLOPT_CAINFO, options->ca_file);
	SET(CURLOPT_CONNECTTIMEOUT_MS, to_ms(options->connect_timeout_ns));
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, to_seconds(options->keepalive_ns));
	SET(CURLOPT_TCP_KEEPINTVL, to_seconds(options->keepalive_ns));
	SET(CURLOPT_MAXAGE_CONN, to_seconds(options->idle_close_ns));
	SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)options->max_reply_bytes);
#undef SET
	return rc;
}

struct upstream_exchange *exchange_create(
	struct loop *loop, const struct exchange_options *options)
{
	struct upstream_exchange *exchange = calloc(1, sizeof(*exchange));

	if (exchange == NULL)
		return NULL;
	exchange->loop = loop;
	exchange->read_timeout_ns = options->read_timeout_ns;
	exchange->max_reply_bytes = options->max_reply_bytes;
	exchange->announced_bytes = -1;
	exchange->easy = curl_easy_init();
	if (exchange->easy == NULL ||
		set_callbacks(exchange->easy, exchange) != CURLE_OK ||
		set_options(exchange->easy, options) != CURLE_OK) {
		exchange_free(exchange);
		return NULL;
	}
	return exchange;
}

void exchange_free(struct upstream_exchange *exchange)
{
	if (exchange == NULL)
		return;
	loop_timer_clear(exchange->loop, &exchange->timer);
	curl_easy_cleanup(exchange->easy);
	if (exchange->text != NULL)
		explicit_bzero(exchange->text, exchange->text_size);
	free(exchange->text);
	free(exchange->reply);
	free(exchange);
}

/* ---- one call ---- */

void exchange_reset(
	struct upstream_exchange *exchange, struct upstream_call *call)
{
	exchange->call = call;
	exchange->line_count = 0;
	exchange->text_used = 0;
	exchange->body_sent = 0;
	exchange->started = false;
	exchange->head = (struct bedrock_head){0};
	exchange->head_bytes = 0;
	exchange->head_complete = false;
	exchange->reply_bytes = 0;
	exchange->end = EXCHANGE_RUNS;
	exchange->error[0] = '\0';
}

int exchange_reserve(struct upstream_exchange *exchange, size_t bytes)
{
	char *text;

	if (bytes <= exchange->text_size)
		return 0;
	text = realloc(exchange->text, bytes); /* nothing secret in it yet */
	if (text == NULL)
		return -ENOMEM;
	exchange->text = text;
	exchange->text_size = bytes;
	return 0;
}

static void add_text(
	struct upstream_exchange *exchange, const char *text, size_t bytes)
{
	memcpy(exchange->text + exchange->text_used, text, bytes);
	exchange->text_used += bytes;
}

void exchange_add_line(
	struct upstream_exchange *exchange, const struct sigv4_header *header)
{
	struct curl_slist *line = &exchange->lines[exchange->line_count++];

	line->data = exchange->text + exchange->text_used;
	line->next = NULL;
	if (exchange->line_count > 1)
		line[-1].next = line;
	add_text(exchange, header->name, header->name_bytes);
	add_text(exchange, ": ", 2);
	add_text(exchange, header->value, header->value_bytes);
	add_text(exchange, "", 1);
}

/* Above 1 MB libcurl would ask for permission first and lose a round trip. */
static void silence_expect(struct upstream_exchange *exchange)
{
	static char expect[] = "Expect:";
	struct curl_slist *line = &exchange->lines[exchange->line_count++];

	*line = (struct curl_slist){.data = expect};
	line[-1].next = line;
}

static CURLcode set_body(struct upstream_exchange *exchange)
{
	const struct upstream_call *call = exchange->call;
	bool small = call->body_bytes <= SMALL_BODY_BYTES;
	curl_off_t bytes = (curl_off_t)call->body_bytes;
	CURLcode rc = CURLE_OK;

	rc = curl_easy_setopt(exchange->easy, CURLOPT_POSTFIELDS,
		!small       ? NULL
		: bytes == 0 ? ""
			     : call->body);
	if (rc == CURLE_OK && bytes != exchange->announced_bytes)
		rc = curl_easy_setopt(
			exchange->easy, CURLOPT_POSTFIELDSIZE_LARGE, bytes);
	if (rc == CURLE_OK)
		exchange->announced_bytes = bytes;
	return rc;
}

static int set_request(struct upstream_exchange *exchange)
{
	CURL *easy = exchange->easy;
	CURLcode rc = curl_easy_setopt(easy, CURLOPT_URL, exchange->url);

	if (rc == CURLE_OK)
		rc = curl_easy_setopt(
			easy, CURLOPT_HTTPHEADER, exchange->lines);
	if (rc == CURLE_OK)
		rc = set_body(exchange);
	return rc == CURLE_OK ? 0 : -ENOMEM;
}

int exchange_prepare(struct upstream_exchange *exchange, loop_timer_fn *expired)
{
	silence_expect(exchange);
	if (set_request(exchange) != 0)
		return -ENOMEM;
	return loop_timer_set(exchange->loop, &exchange->timer,
		exchange->call->deadline_ns, expired, exchange);
}

void exchange_retire(struct upstream_exchange *exchange)
{
	loop_timer_clear(exchange->loop, &exchange->timer);
	exchange->call = NULL;
	if (exchange->text != NULL)
		explicit_bzero(exchange->text, exchange->text_used);
	if (exchange->text_size > KEPT_TEXT_BYTES) {
		free(exchange->text);
		exchange->text = NULL;
		exchange->text_size = 0;
	}
	if (exchange->reply_size > KEPT_REPLY_BYTES) {
		free(exchange->reply);
		exchange->reply = NULL;
		exchange->reply_size = 0;
	}
}
