/*
 * One attempt on the wire: an easy handle with its header lines, its request
 * body on the way out, its reply on the way in, and its time limits.  Used
 * again for the next call, so that a call costs few allocations.
 *
 * Does not know the other exchanges, nor when it may be freed.
 */
#ifndef COORDINATOR_UPSTREAM_EXCHANGE_H
#define COORDINATOR_UPSTREAM_EXCHANGE_H

#include "coordinator/upstream/bedrock.h"
#include "coordinator/upstream/upstream.h"

#include <curl/curl.h>

enum {
	/* More of a head than any provider sends; then it is no answer. */
	EXCHANGE_MAX_HEAD_BYTES = 65536,
	/* Header lines: those of bedrock_headers(), Host, the signature's
	 * three, and one to silence libcurl's Expect. */
	EXCHANGE_MAX_LINES = BEDROCK_MAX_HEADERS + 5,
};

/* What holds for all exchanges of one configuration. */
struct exchange_options {
	const char *ca_file; /* NULL: the system's */
	uint64_t connect_timeout_ns;
	uint64_t read_timeout_ns;
	uint64_t keepalive_ns;
	uint64_t idle_close_ns;
	size_t max_reply_bytes;
};

/* Why an exchange was ended from our side. */
enum exchange_end {
	EXCHANGE_RUNS,
	EXCHANGE_REFUSED_BY_OWNER, /* started() said no */
	EXCHANGE_RESENT,           /* libcurl wanted to send it again */
	EXCHANGE_TOO_LARGE,
	EXCHANGE_HEAD_TOO_LARGE,
	EXCHANGE_NO_MEMORY,
};

struct upstream_exchange {
	struct upstream *upstream;
	struct upstream_call *call;
	CURL *easy;
	bool added; /* to the multi handle */
	/* The configuration and the credentials it was made with. */
	uint64_t configuration, credentials;
	struct upstream_exchange *prev, *next; /* in upstream's lists */

	struct loop *loop;
	struct loop_timer timer; /* the next time limit */
	uint64_t read_timeout_ns;

	/* The request. */
	char url[BEDROCK_ORIGIN_BYTES + BEDROCK_PATH_BYTES];
	struct curl_slist lines[EXCHANGE_MAX_LINES];
	size_t line_count;
	char *text; /* what the lines point into; holds secrets */
	size_t text_used, text_size;
	curl_off_t announced_bytes; /* what libcurl was told of the body */
	size_t body_sent;           /* handed to libcurl */
	bool started;

	/* The reply. */
	struct bedrock_head head;
	size_t head_bytes;
	bool head_complete; /* of the final response */
	char *reply;
	size_t reply_bytes, reply_size, max_reply_bytes;
	enum exchange_end end;
	CURLcode code; /* libcurl's, when it has ended it */
	struct bedrock_reading reading;
	char error[CURL_ERROR_SIZE];
};

/* NULL: no memory.  The options' strings are copied. */
struct upstream_exchange *exchange_create(
	struct loop *loop, const struct exchange_options *options);
void exchange_free(struct upstream_exchange *exchange);

/* Makes it ready for the call; the URL and the lines are added next. */
void exchange_reset(
	struct upstream_exchange *exchange, struct upstream_call *call);

/* Room for the texts of all lines, so that none of them moves.  0 or -ENOMEM */
int exchange_reserve(struct upstream_exchange *exchange, size_t bytes);

/* Adds "name: value", within what was reserved. */
void exchange_add_line(
	struct upstream_exchange *exchange, const struct sigv4_header *header);

/* Hands URL, lines and body to libcurl, and starts the clock: at the deadline,
 * and read_timeout_ns after the request's end, expired() is called.  0 or
 * -ENOMEM. */
int exchange_prepare(
	struct upstream_exchange *exchange, loop_timer_fn *expired);

/* The body is large and no byte of it has gone out.  (What is known of a small
 * one is only that its exchange has started.) */
bool exchange_is_unsent(const struct upstream_exchange *exchange);

/* libcurl has ended it with the code: what came is to be read. */
void exchange_read_begin(struct upstream_exchange *exchange, CURLcode code);

/* Reads some of it, for 1 ms or so; false: it has all been read. */
bool exchange_read_more(struct upstream_exchange *exchange);

/* Says what became of it, when all has been read.  The result points into the
 * exchange. */
void exchange_judge(const struct upstream_exchange *exchange,
	struct upstream_result *ret_result);

/* The same when its time is up. */
void exchange_judge_timeout(const struct upstream_exchange *exchange,
	struct upstream_result *ret_result);

/* A result of our own making.  The message is made printable, and cut. */
void exchange_fail(struct upstream_result *ret_result,
	enum upstream_outcome outcome, const char *code, const char *message);

/* Forgets the call and its secrets; what has grown large is given back. */
void exchange_retire(struct upstream_exchange *exchange);

#endif
