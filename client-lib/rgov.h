/*
 * librgov: hand requests to rgovd, the request governor of this host, and wait
 * for the answers.
 *
 * Any thread may call anything here, except that one handle is closed only when
 * no other call uses it.  The library starts no thread, installs no signal
 * handler, prints nothing and never ends the process.  After fork() the child
 * may use the same handle: it registers anew by itself at its first call; what
 * the parent has outstanding stays the parent's.  Not async-signal-safe.
 *
 * Functions return 0 or more, or -errno (rgov_strerror() has the words).
 * Option structs begin with their size, so that they can grow.
 */
#ifndef RGOV_H
#define RGOV_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define RGOV_PUBLIC __attribute__((visibility("default")))
#else
#define RGOV_PUBLIC
#endif

struct rgov;

/* Zero means: the default. */
struct rgov_options {
	size_t size; /* sizeof(struct rgov_options) */
	/* Governor's name; NULL: RGOV_NAME, else "default". */
	const char *name;
	/* Socket path; NULL: RGOV_SOCKET, else NAME.sock in RGOV_RUNTIME_DIR,
	 * /run/rgov, $XDG_RUNTIME_DIR/rgov or /tmp/rgov-UID, the first that is
	 * there. */
	const char *socket_path;
	/* Label of this application; NULL: the name of the program. */
	const char *app;
	/* How long a call may try to reach rgovd; 0: 2000. */
	uint32_t connect_timeout_ms;
	/* Requests this process can have outstanding; 0: 64. */
	uint32_t slots;
};

/*
 * Makes a handle.  Nothing is opened until the first request (lazy), so that a
 * process may open before it forks.  -EINVAL: options->size, a name or a path
 * is wrong; -ENOMEM.
 */
RGOV_PUBLIC int rgov_open(
	const struct rgov_options *options, struct rgov **ret_gov);

/* Ends the session: requests that are still out are dropped by rgovd, permits
 * are returned.  NULL is fine. */
RGOV_PUBLIC void rgov_close(struct rgov *gov);

/* ------------------------------------------------------------ requests */

enum rgov_operation { RGOV_INVOKE_MODEL = 0, RGOV_CONVERSE = 1 };
enum rgov_priority { RGOV_INTERACTIVE = 0, RGOV_NORMAL = 1, RGOV_BATCH = 2 };

enum rgov_request_flags {
	/* Ring rgov_fd() at the end, for an event loop. */
	RGOV_RING = 1,
	/* Never send it upstream a second time, even where a restart of rgovd
	 * makes its fate unknown: it then fails with RGOV_R_AMBIGUOUS. */
	RGOV_NOT_IDEMPOTENT = 2,
};

struct rgov_request {
	size_t size; /* sizeof(struct rgov_request) */
	enum rgov_operation operation;
	enum rgov_priority priority;
	const char *model_id; /* 1 to 2047 printable bytes */
	const char *user;     /* fairness key, 1 to 63 bytes; NULL: "-" */
	const void *body;     /* JSON; not looked at by the library */
	size_t body_bytes;    /* at most 25,000,000 */
	/* "Name: value\n" lines from the allow-list (rgov(3)); NULL: none. */
	const char *headers;
	/* From now; 0: 600 s. */
	uint64_t timeout_ms;
	uint32_t flags; /* enum rgov_request_flags */
	/* Of a permit: what the worker's own call will use; 0: not known. */
	uint64_t input_tokens;
	uint64_t output_tokens;
};

/* How a request ended.  The order is ABI. */
enum rgov_result {
	RGOV_R_OK = 0,
	RGOV_R_UPSTREAM_ERROR,  /* the provider answered an error */
	RGOV_R_UPSTREAM_FAILED, /* no usable answer: code says what */
	RGOV_R_DEADLINE,
	RGOV_R_CANCELLED,
	RGOV_R_QUEUE_FULL,
	RGOV_R_USER_LIMIT,
	RGOV_R_TOO_LARGE,
	RGOV_R_DRAINING,
	RGOV_R_INVALID,
	RGOV_R_NO_CREDENTIALS,
	RGOV_R_BODY_CHANGED,
	RGOV_R_REPLY_TOO_LARGE,
	RGOV_R_AMBIGUOUS,
	RGOV_R_NO_MEMORY,
	/* Of tasks alone. */
	RGOV_R_NO_TASK,      /* there is none of that id (any more) */
	RGOV_R_TASK_GONE,    /* its reply was kept for task_result_ttl */
	RGOV_R_NOT_YOURS,    /* another uid's task */
	RGOV_R_KEY_TAKEN,    /* another request has that idempotency key */
	RGOV_R_STORE_FAILED, /* rgovd's disk: message says what */
	RGOV_R_NO_STORE,     /* tasks are switched off */
};

/*
 * What a request waits for, in a queue of rgovd's.  The order is ABI; new ones
 * come at the end, before a program that was built earlier knows their names:
 * rgov_reason_name() does.
 */
enum rgov_reason {
	RGOV_W_TURN = 0,   /* others go first */
	RGOV_W_GATE,       /* the model is throttled or down: backing off */
	RGOV_W_PROBE,      /* the same: one request finds out */
	RGOV_W_DAY_CLOSED, /* the provider's daily quota is used up */
	RGOV_W_BACKOFF,    /* it failed and will be tried again */
	RGOV_W_HOST_CONCURRENCY,
	RGOV_W_HOST_REQUESTS,    /* per minute */
	RGOV_W_HOST_TOKENS,      /* per minute */
	RGOV_W_HOST_DAY,         /* tokens per day */
	RGOV_W_LANE_CONCURRENCY, /* of the model, as the next three */
	RGOV_W_LANE_REQUESTS,
	RGOV_W_LANE_TOKENS,
	RGOV_W_LANE_DAY,
	RGOV_W_BATCH_SHARE,
	RGOV_W_USER_CONCURRENCY, /* of the user, as the next three */
	RGOV_W_USER_REQUESTS,
	RGOV_W_USER_TOKENS,
	RGOV_W_USER_DAY,
	RGOV_W_LANE_RATE, /* of the model: lowered or spread (adaptive) */
	/* The same limits, where other hosts share them: */
	RGOV_W_CLUSTER_REQUESTS,
	RGOV_W_CLUSTER_TOKENS,
	RGOV_REASONS_ROOM = 24, /* entries of a table; those without a name
				   are 0 */
};

/* Filled by the library; ended with rgov_reply_fini(). */
struct rgov_reply {
	size_t size; /* sizeof(struct rgov_reply), set by the caller */
	enum rgov_result result;
	int http_status; /* 0: no answer came */
	uint32_t attempts;
	void *body; /* body_bytes bytes and a final zero; NULL: none */
	size_t body_bytes;
	int64_t input_tokens; /* -1: the provider did not say */
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
	uint64_t wait_ns;      /* in rgovd's queue */
	uint64_t execution_ns; /* the last attempt */
	uint64_t
		retry_after_ms; /* of a refusal: when to come back; 0: no use */
	char code[64];       /* "ThrottlingException", "ConnectFailed", … */
	char message[256];   /* for people */
	char request_id[64]; /* the provider's */
	/* The model that answered: the one that was asked, or a fallback of
	 * rgov.conf(5).  A longer one is cut. */
	char model[256];
	/* How long it waited for what, by enum rgov_reason; all 0 where it
	 * waited for less than a millisecond. */
	uint64_t waited_ns[RGOV_REASONS_ROOM];
	/* When it came: its place in the queue (0: it could start at once),
	 * and how long it was expected to wait. */
	uint32_t queue_position;
	uint64_t predicted_wait_ns;
};

/*
 * Performs one call and waits for its end, until the request's deadline at
 * most.
 *
 * Returns 0 and fills *ret_reply whenever rgovd gave an answer, a refusal or an
 * upstream error included: ret_reply->result says which.  Else -errno:
 *   -ECONNREFUSED  rgovd cannot be reached (rgov_why() says which socket)
 *   -EPROTO        rgovd speaks another layout version
 *   -EACCES        this user may not connect
 *   -EINVAL        the request is wrong (rgov_why() says what)
 *   -EMSGSIZE      the body is above 25,000,000 bytes
 *   -EAGAIN        all slots of this process are taken
 *   -ETIMEDOUT     the deadline passed, also while rgovd was away
 *   -ENOMEM, -ENOSPC
 *   -EFBIG         this process may not write so large a file (RLIMIT_FSIZE)
 *
 * Killed in the middle: rgovd drops the request.
 */
RGOV_PUBLIC int rgov_call(struct rgov *gov, const struct rgov_request *request,
	struct rgov_reply *ret_reply);

/* A request that is out.  Plain data; valid in the process that submitted it
 * until rgov_wait() has returned its reply. */
struct rgov_ticket {
	uint32_t slot;
	uint32_t generation;
	uint64_t session; /* of which registration; a child's differs */
	uint64_t deadline_ns;
};

/* Hands a call in and returns at once.  Errors as rgov_call(). */
RGOV_PUBLIC int rgov_submit(struct rgov *gov,
	const struct rgov_request *request, struct rgov_ticket *ret_ticket);

/* The same for a permit: rgovd admits, the worker calls by itself. */
RGOV_PUBLIC int rgov_submit_permit(struct rgov *gov,
	const struct rgov_request *request, struct rgov_ticket *ret_ticket);

/*
 * Waits for the end of a request, at most timeout_ms (0: only looks;
 * UINT64_MAX: until its deadline).
 *
 * 0: *ret_reply is filled and the ticket is used up -- except a permit that was
 * granted (result OK): its ticket then stands for the permit, until
 * rgov_settle(). -EAGAIN: not yet; the ticket stays good.  -EINTR: a signal
 * came; the same. -ESTALE: no such ticket in this process (a fork, a double
 * wait). -ETIMEDOUT: the deadline passed and rgovd is away; the ticket is used
 * up.
 */
RGOV_PUBLIC int rgov_wait(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t timeout_ms, struct rgov_reply *ret_reply);

enum rgov_state {
	RGOV_S_SUBMITTED = 0, /* rgovd has not looked at it yet */
	RGOV_S_QUEUED,        /* backing off included */
	RGOV_S_SENT,          /* with the provider */
	RGOV_S_ENDED,         /* rgov_wait() has its end, or the permit */
};

/* How it stands with a request that is out. */
struct rgov_progress {
	size_t size; /* sizeof(struct rgov_progress), set by the caller */
	enum rgov_state state;
	/* These only while it is queued; of a request that is just about to
	 * start they may still be 0. */
	uint64_t request;        /* its number, as rgov(1) why takes it */
	uint32_t position;       /* 1: the next of its model */
	enum rgov_reason reason; /* that holds it, or who goes before it */
	uint64_t predicted_ns;   /* how much longer it may wait */
	uint64_t until_ns; /* time alone may end the reason then, from now;
			      UINT64_MAX: not before something ends */
	uint64_t age_ns;   /* since rgovd said so */
};

/*
 * Looks at a request that is out.  What rgovd said when it was queued lies in
 * shared memory: reading it costs no message.  Where that is older than
 * max_age_ms, rgovd is asked, over a connection of its own: about 0.1 ms, at
 * most the connect timeout (UINT64_MAX: it is never asked).  Where it does not
 * answer, what was said last stands, and age_ns tells.
 *
 * 0; -ESTALE: no such ticket in this process.
 */
RGOV_PUBLIC int rgov_progress(struct rgov *gov,
	const struct rgov_ticket *ticket, uint64_t max_age_ms,
	struct rgov_progress *ret_progress);

/* A request of this process that is out, and whose it is. */
struct rgov_outstanding {
	struct rgov_ticket ticket;
	char user[64];
	char model_id[256]; /* a longer one is cut */
};

/* All that is out through this handle: a table for rgov_progress(), which the
 * caller ends with free().  Their number, or -ENOMEM. */
RGOV_PUBLIC int rgov_outstanding(
	struct rgov *gov, struct rgov_outstanding **ret_table);

/* Asks rgovd to drop the request.  Its end still comes, and is still to be
 * waited for (rgov_wait), or given up with rgov_abandon(). */
RGOV_PUBLIC int rgov_cancel(struct rgov *gov, const struct rgov_ticket *ticket);

/* Cancels, and needs no wait: the library takes the reply, or returns the
 * permit unused, by itself.  Never blocks.  The ticket is used up. */
RGOV_PUBLIC void rgov_abandon(
	struct rgov *gov, const struct rgov_ticket *ticket);

/* Ends a reply; what it owns is freed.  A zeroed one is fine. */
RGOV_PUBLIC void rgov_reply_fini(struct rgov_reply *reply);

/* ------------------------------------------------------------ permits */

enum rgov_settlement {
	RGOV_SETTLE_OK = 0,
	RGOV_SETTLE_THROTTLED = 1, /* closes the gate for everyone */
	RGOV_SETTLE_FAILED = 2,
	RGOV_SETTLE_UNUSED = 3,
};

/*
 * rgov_submit_permit() and rgov_wait() in one.  0 and ret_reply->result OK: the
 * permit is held, and *ret_ticket names it until rgov_settle().
 */
RGOV_PUBLIC int rgov_permit(struct rgov *gov,
	const struct rgov_request *request, struct rgov_ticket *ret_ticket,
	struct rgov_reply *ret_reply);

/* Gives the permit back with what was used (-1: not known).  Never blocks,
 * except where rgovd has gone: then it looks for a successor, for about 20 ms.
 * While there is none it takes effect when the process next waits for
 * something. -ESTALE: not a permit of this process. */
RGOV_PUBLIC int rgov_settle(struct rgov *gov, const struct rgov_ticket *ticket,
	enum rgov_settlement how, int64_t input_tokens, int64_t output_tokens);

/* ------------------------------------------------------------ tasks */

/*
 * A task is a call that is durable: once it is submitted rgovd keeps it on disk
 * until it has ended, whatever dies, and its end for a while.  Any process of
 * this host that the same uid runs may ask for it by its id.
 */

struct rgov_task_id {
	unsigned char bytes[16]; /* a UUID, version 7 */
};
enum { RGOV_TASK_ID_BYTES = 37 }; /* as text, with the final zero */

RGOV_PUBLIC void rgov_task_id_text(
	const struct rgov_task_id *id, char ret_text[RGOV_TASK_ID_BYTES]);
/* -EINVAL: it is no UUID (rgov_why() says what was expected). */
RGOV_PUBLIC int rgov_task_id_parse(
	const char *text, struct rgov_task_id *ret_id);

enum rgov_task_state {
	RGOV_T_QUEUED = 0,
	RGOV_T_RUNNING,
	RGOV_T_SUCCEEDED, /* this and the next are final */
	RGOV_T_FAILED,
	RGOV_T_CANCELLED,
	RGOV_T_EXPIRED, /* its timeout passed before its end */
};
RGOV_PUBLIC const char *rgov_task_state_name(enum rgov_task_state state);

/* Beside the request, whose timeout_ms is that of the submit. */
struct rgov_task_options {
	size_t size;          /* sizeof(struct rgov_task_options) */
	uint64_t timeout_ms;  /* of the task, from now; 0: rgovd's task_timeout
			       */
	const char *key;      /* idempotency key, 1 to 128 printable bytes: the
				 same key and request give the same task, another
				 request RGOV_R_KEY_TAKEN; NULL: none */
	const char *callback; /* a URL of this host that gets the end; it must
				 be allowed by task_callbacks; NULL: none */
};

/* Filled by the library.  Times are nanoseconds since 1970; 0: not yet. */
struct rgov_task {
	size_t size; /* sizeof(struct rgov_task), set by the caller */
	/* How the question ended.  Not OK: message says why, and the rest is
	 * not there. */
	enum rgov_result answer;
	struct rgov_task_id id;
	enum rgov_task_state state;
	uint64_t submitted_ns, started_ns, ended_ns;
	uint64_t forget_ns;    /* its reply is kept until then */
	uint32_t runs;         /* how often it was begun */
	uint32_t position;     /* while queued, 1: the next of its model */
	uint64_t predicted_ns; /* how much longer it may wait */
	/* Of one that has ended: as of a call. */
	enum rgov_result result;
	int http_status;
	uint32_t attempts;
	int64_t input_tokens, output_tokens; /* -1: not known */
	int64_t cache_read_tokens, cache_write_tokens;
	uint64_t wait_ns, execution_ns;
	uint64_t retry_after_ms; /* of a refusal */
	char code[64], message[256], request_id[64];
	char model[256]; /* that answered, where another than was asked; "" */
};

/*
 * The functions below return 0 whenever rgovd answered (ret_task->answer says
 * how), else -errno as rgov_call().  timeout_ms bounds the question, not the
 * task; 0: 600 s.
 */

/* On disk when it returns: ret_task->id names it. */
RGOV_PUBLIC int rgov_task_submit(struct rgov *gov,
	const struct rgov_request *request,
	const struct rgov_task_options *options, struct rgov_task *ret_task);
/* How it stands. */
RGOV_PUBLIC int rgov_task_show(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task *ret_task);
/* The same once it has ended, or after timeout_ms as it stands then (0: at
 * once).  Woken, not polled. */
RGOV_PUBLIC int rgov_task_wait(struct rgov *gov, const struct rgov_task_id *id,
	uint64_t timeout_ms, struct rgov_task *ret_task);
/* How it stands and, where it has ended, its reply with the body, which the
 * caller ends with rgov_reply_fini(). */
RGOV_PUBLIC int rgov_task_fetch(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task *ret_task, struct rgov_reply *ret_reply);
/* It is no longer wanted: how it stands then.  One that is with the provider
 * ends soon. */
RGOV_PUBLIC int rgov_task_cancel(struct rgov *gov,
	const struct rgov_task_id *id, struct rgov_task *ret_task);

/* The same for event loops: hands a question in and returns at once... */
enum rgov_task_verb {
	RGOV_TASK_SHOW = 0,
	RGOV_TASK_WAIT,
	RGOV_TASK_FETCH,
	RGOV_TASK_CANCEL,
};
RGOV_PUBLIC int rgov_task_ask(struct rgov *gov, enum rgov_task_verb verb,
	const struct rgov_task_id *id, uint64_t timeout_ms, uint32_t flags,
	struct rgov_ticket *ret_ticket);
RGOV_PUBLIC int rgov_task_ask_submit(struct rgov *gov,
	const struct rgov_request *request,
	const struct rgov_task_options *options,
	struct rgov_ticket *ret_ticket);
/* ... and takes the answer, as rgov_wait() does; ret_reply may be NULL. */
RGOV_PUBLIC int rgov_task_answer(struct rgov *gov,
	const struct rgov_ticket *ticket, uint64_t timeout_ms,
	struct rgov_task *ret_task, struct rgov_reply *ret_reply);

/* Which tasks: all conditions at once. */
struct rgov_task_filter {
	size_t size;      /* sizeof(struct rgov_task_filter) */
	const char *user; /* NULL: of all users */
	const char *text; /* in model id, user or key; NULL: any */
	uint32_t states;  /* 1 << enum rgov_task_state each; 0: all */
	uint32_t most;    /* rows; 0: 100; at most 1000 */
	const struct rgov_task_id *older_than; /* the last of the page before;
						  NULL: from the newest on */
};
struct rgov_task_row {
	struct rgov_task_id id;
	enum rgov_task_state state;
	enum rgov_result result; /* ended */
	int http_status;
	enum rgov_priority priority;
	int has_reply; /* 1: rgov_task_fetch() finds one */
	uint32_t uid, runs;
	uint64_t submitted_ns, started_ns, ended_ns, deadline_ns;
	char user[64], model[256], key[129];
};
/* A table that the caller ends with free(), the newest first: the number of its
 * rows, or -errno; -EIO and rgov_why(): the store does not answer. */
RGOV_PUBLIC int rgov_task_list(struct rgov *gov,
	const struct rgov_task_filter *filter,
	struct rgov_task_row **ret_table);

struct rgov_task_event {
	uint64_t at_ns;
	char what[24]; /* "submitted", "started", "reissued", … */
	char detail[96];
};
/* The same for what happened to one task, the oldest first.  -ENOENT: there is
 * none of that id; -EPERM: it is another uid's. */
RGOV_PUBLIC int rgov_task_history(struct rgov *gov,
	const struct rgov_task_id *id, struct rgov_task_event **ret_table);

/* ------------------------------------------------------------ event loops */

/* A descriptor that becomes readable when a request submitted with RGOV_RING
 * may have ended, or rgovd went away; it can change after rgov_dispatch()
 * returned
 * 1.  -errno when there is no session yet: submit first. */
RGOV_PUBLIC int rgov_fd(struct rgov *gov);

/* Drains the descriptor (and reconnects after a restart of rgovd); then look
 * at all tickets with rgov_wait(…, 0, …).  1: rgov_fd() changed, watch the new
 * one; 0: it did not; -errno: rgovd is away, call again a little later. */
RGOV_PUBLIC int rgov_dispatch(struct rgov *gov);

/* ------------------------------------------------------------ to look at */

/* Host-wide, from the board; works without a session and while rgovd hangs. */
struct rgov_stats {
	size_t size; /* sizeof(struct rgov_stats), set by the caller */
	uint64_t total_requests, successful_requests, failed_requests;
	uint64_t throttled_requests, active_requests, queue_size, active_users;
	double avg_wait_time_s, avg_execution_time_s;
	uint64_t refused_requests, cancelled_requests, retries, permits_granted;
	uint32_t max_concurrent_requests, requests_per_minute;
	uint32_t max_requests_per_user; /* of each, 0: no limit */
	uint32_t sessions;
	int32_t rgovd_pid;
	double heartbeat_age_s; /* above 2: rgovd hangs or is dead */
	int draining;
	char preset[32];
};
/* -ENOENT: no governor of this name has run since boot. */
RGOV_PUBLIC int rgov_stats(struct rgov *gov, struct rgov_stats *ret_stats);

/* Asks rgovd to reload its configuration (needs an administrator's uid).  The
 * answer in words is in text; -EINVAL: it was refused and the old one is kept.
 */
RGOV_PUBLIC int rgov_reload(struct rgov *gov, char *text, size_t text_bytes);

/* Why a request waits, or what it has waited for.  All times are spans. */
struct rgov_explanation {
	size_t size; /* sizeof(struct rgov_explanation), set by the caller */
	enum rgov_fate {
		RGOV_F_QUEUED = 0,
		RGOV_F_BACKING_OFF,
		RGOV_F_RUNNING,
		RGOV_F_PERMIT_OUT,
		RGOV_F_ENDED,
	} fate;
	uint64_t request;
	/* While it is queued or backing off. */
	enum rgov_reason reason;
	uint32_t position;
	uint64_t until_ns, predicted_ns; /* as in struct rgov_progress */
	uint64_t used, limit;    /* of what the reason names; 0: no figure */
	uint64_t waiting_ns;     /* since it came; once started, until then */
	uint64_t since_ns;       /* running: its last start; ended: its end */
	enum rgov_result result; /* ended */
	uint32_t attempts;
	uint64_t waited_ns[RGOV_REASONS_ROOM];
	char user[64];
	char model[256];
};

/*
 * Asks rgovd for the request of that number (rgov_progress(), rgov-top(1)).  Of
 * those that have ended it knows the last hundreds that waited.  -ENOENT: no
 * such request; -EPERM: it is another uid's; else as rgov_reload().
 */
RGOV_PUBLIC int rgov_explain(struct rgov *gov, uint64_t request,
	struct rgov_explanation *ret_explanation);

/* This process's own use of the library, since open; for tests and doctors. */
struct rgov_diagnostics {
	size_t size;
	uint64_t sleeps;         /* futex waits entered */
	uint64_t found_by_slice; /* answers no wake-up told of: should be 0 */
	uint64_t found_spinning;
	uint64_t bells_rung;
	uint64_t reconnects;
	uint32_t slots, slots_taken;
};
RGOV_PUBLIC int rgov_diagnose(
	struct rgov *gov, struct rgov_diagnostics *ret_diagnostics);

/* ------------------------------------------------------------ words */

RGOV_PUBLIC const char *rgov_strerror(int error);
RGOV_PUBLIC const char *rgov_result_name(enum rgov_result result);
/* "host_requests", which does not change between releases, and
 * "requests_per_minute"; of a number that is none: "". */
RGOV_PUBLIC const char *rgov_reason_name(enum rgov_reason reason);
RGOV_PUBLIC const char *rgov_reason_text(enum rgov_reason reason);

/* What the last failed call of this thread has to say beyond its error code:
 * what was expected and what was found, or which socket could not be reached
 * and why. Never NULL; good until the thread's next call. */
RGOV_PUBLIC const char *rgov_why(void);

RGOV_PUBLIC const char *rgov_version(void);

#ifdef __cplusplus
}
#endif
#endif
