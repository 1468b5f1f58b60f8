/*
 * The world side of rgovd: performs one HTTP exchange with the provider for
 * each call, over kept-alive connections, signed, never resent by itself.
 *
 * It decides nothing: when a call may start, whether it is tried again and
 * who is told are questions of policy/ and of the governor.
 */
#ifndef COORDINATOR_UPSTREAM_H
#define COORDINATOR_UPSTREAM_H

#include "coordinator/loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct upstream;
struct upstream_call;

enum {
	UPSTREAM_CODE_BYTES = 64,
	UPSTREAM_MESSAGE_BYTES = 256,
	UPSTREAM_REQUEST_ID_BYTES = 64
};

enum upstream_operation { UPSTREAM_INVOKE_MODEL, UPSTREAM_CONVERSE };

/* Whether a call that failed is tried again. */
enum upstream_retry {
	UPSTREAM_RETRY_THROTTLE,  /* as a throttle: the gate closes */
	UPSTREAM_RETRY_TRANSIENT, /* as an error of the server */
	UPSTREAM_RETRY_NO,
};

/* What the configuration says of an error, in place of the rule.  A name wins
 * over a status. */
struct upstream_error_rule {
	const char *code; /* "ModelTimeoutException", or a status: "408" */
	enum upstream_retry retry;
};

/* Where the calls go and as whom; all of it is copied. */
struct upstream_config {
	const char *region;   /* "us-east-1" */
	const char *endpoint; /* NULL: the region's own; else http(s)://… */
	const char *ca_file;  /* NULL: the system's */
	const char *profile;  /* NULL: AWS_PROFILE, else "default" */
	uint64_t connect_timeout_ns;
	uint64_t read_timeout_ns; /* from the request's last byte to the end */
	uint64_t keepalive_ns;    /* TCP keepalive idle and interval */
	uint64_t idle_close_ns;   /* a pooled connection is closed after */
	unsigned int max_connections;
	size_t max_reply_bytes;
	const struct upstream_error_rule *errors; /* each code once */
	size_t n_errors;
};

/* What became of one attempt. */
enum upstream_outcome {
	UPSTREAM_OK,
	UPSTREAM_THROTTLED,     /* try later; the gate closes for everyone */
	UPSTREAM_THROTTLED_DAY, /* a daily quota is used up */
	UPSTREAM_TRANSIENT,     /* try again: 500, 502, 503, 504, not sent */
	UPSTREAM_AMBIGUOUS, /* sent, no answer: it may have been performed */
	UPSTREAM_REFUSED,   /* an answer that no retry changes */
	UPSTREAM_TIMED_OUT, /* the read time-out passed */
	UPSTREAM_REPLY_TOO_LARGE,
	UPSTREAM_ABORTED, /* by upstream_abort() or by started() */
};

/* Tokens; -1: the provider did not say. */
struct upstream_usage {
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
};

struct upstream_result {
	enum upstream_outcome outcome;
	int http_status; /* 0: there was none */
	/*
	 * Empty when all went well; else the provider's error type
	 * ("ThrottlingException"), or one of ours:
	 *   TRANSIENT   ResolveFailed, ConnectFailed, ConnectTimeout,
	 *               TlsFailed, ConnectionReset (the body was not sent),
	 *               DeadlinePassed (nothing was sent), OutOfMemory
	 *   AMBIGUOUS   ConnectionReset, Truncated, BadResponse, OutOfMemory
	 *   REFUSED     BadCertificate, NoCredentials
	 *   TIMED_OUT   ReadTimeout, DeadlinePassed
	 *   others      ReplyTooLarge, Aborted
	 */
	char code[UPSTREAM_CODE_BYTES];
	char message[UPSTREAM_MESSAGE_BYTES]; /* printable UTF-8, may be cut */
	char request_id[UPSTREAM_REQUEST_ID_BYTES];
	uint64_t retry_after_ns; /* the server's hint; 0: none */
	struct upstream_usage usage;
	const char *body; /* until done() returns */
	size_t body_bytes;
};

/*
 * One attempt.  Lives in its owner's object.  The owner fills the first part;
 * model, headers and body must stay as they are until done().
 */
struct upstream_call {
	enum upstream_operation operation;
	const char *model_id;
	/* "Name: value\n" lines, from the allow-list; "": none */
	const char *headers;
	const char *body;
	size_t body_bytes;
	const uint8_t *body_sha256; /* 32 bytes */
	uint64_t deadline_ns;
	void *owner;
	/* The connection stands and the first byte is about to go out.  Return
	 * 0 to go on; anything else ends the call as UPSTREAM_ABORTED.  At most
	 * once a start.  It runs inside libcurl: nothing of this header may be
	 * called from it. */
	int (*started)(struct upstream_call *call);
	/* The end; exactly once for each upstream_start() that returned 0,
	 * never from inside upstream_start().  The owner may free or restart
	 * the call inside. */
	void (*done)(struct upstream_call *call,
		const struct upstream_result *result);

	struct upstream_exchange *exchange; /* ours; NULL: does not run */
};

/*
 * Judges without starting: may this model id and these headers go into a
 * request?  0, or -EINVAL with the reason, which quotes no more than the
 * name of what is wrong, in ret_why.
 */
int upstream_check(const char *model_id, const char *headers,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * Reads the credentials from the environment and the shared files.
 *
 * Returns 0 also when there are no usable credentials: then ret_why says why
 * ("" otherwise), has_credentials is false, rgovd runs, for permits, and calls
 * are refused with code NoCredentials until a reload finds some.  -EINVAL: the
 * configuration is wrong, -ENOMEM, -EIO; ret_why says what and where.
 *
 * The loop must outlive it.  Blocks for the reading of two small files.
 */
int upstream_create(struct loop *loop, const struct upstream_config *config,
	struct upstream **ret_upstream, char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * Takes a new configuration for calls that start from now on, credentials read
 * anew.  On any error the old one stays, also when there are no credentials:
 * -EINVAL, -ENOMEM, or what credentials_load() said; ret_why says what and
 * where.
 */
int upstream_reload(struct upstream *upstream,
	const struct upstream_config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * 0, or -errno, and then done() is not called: -EINVAL, what upstream_check()
 * refuses; -E2BIG, more header than can be signed; -ENOMEM; -ESHUTDOWN, from a
 * done() that upstream_free() calls.
 */
int upstream_start(struct upstream *upstream, struct upstream_call *call);

/*
 * Ends the call early: done() is called with UPSTREAM_ABORTED before this
 * returns.  Its connection is closed, or under HTTP/2 its stream; others do
 * not notice.  A call that does not run is fine.
 */
void upstream_abort(struct upstream *upstream, struct upstream_call *call);

/* For the board and tests. */
struct upstream_stats {
	uint64_t connections_opened; /* tried, for calls that have ended */
	uint64_t calls_started;
	bool has_credentials;
	char endpoint[256]; /* what is called, without credentials */
};
void upstream_read_stats(
	const struct upstream *upstream, struct upstream_stats *ret_stats);

/* Aborts what runs (done() is called), closes all connections.  Not from inside
 * a callback.  NULL is fine. */
void upstream_free(struct upstream *upstream);

#endif
