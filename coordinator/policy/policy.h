/*
 * The policy: which request may start now.  It DECIDES and does nothing else:
 * no clock (now_ns is an argument, CLOCK_MONOTONIC or virtual), no I/O, no
 * shared memory, no logging.  rgovd, the unit tests and rgov-plan link it
 * alike.
 *
 * The life of a request here; policy_* is the only one to move it:
 *
 *   NEW --enqueue--> QUEUED --admit--> RUNNING --finish--> NEW
 *                     ^  |                |
 *                     |  +--remove/expired-> NEW
 *                     +------- BACKOFF <--+ retry
 *
 * A permit that is never settled: RUNNING --overrun--> OVERDUE
 * --settle_overdue--> NEW.
 */
#ifndef COORDINATOR_POLICY_H
#define COORDINATOR_POLICY_H

#include "coordinator/policy/lease.h"
#include "coordinator/policy/policy_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy;
struct policy_lane; /* opaque here: lane.c */
struct policy_user; /* opaque here: user.c */
struct seat;        /* private: order.h */

enum policy_class {
	POLICY_INTERACTIVE,
	POLICY_NORMAL,
	POLICY_BATCH,
	POLICY_CLASSES
};

/* Copies what it needs.  -ENOMEM. */
int policy_create(
	const struct policy_config *config, struct policy **ret_policy);

/* New limits for what is decided from now on; windows, counters, queues and
 * running requests stay (seed is not looked at again).  A request that the new
 * limits make too large waits for a full bucket.  -ENOMEM leaves the old ones.
 */
int policy_reconfigure(
	struct policy *policy, const struct policy_config *config);

/* Every request must have left before. */
void policy_free(struct policy *policy);

/*
 * What a queued request waits for.  REASON(name, what people are shown)
 * The order is ABI: the board and replies carry the numbers.
 */
#define POLICY_RATE_WORDS                                                      \
	"the model's rate, lowered or spread after throttles (adaptive)"
#define POLICY_REASONS(REASON)                                                 \
	REASON(TURN, "others go first")                                        \
	REASON(GATE, "the model is throttled or down: backing off")            \
	REASON(PROBE, "the model is throttled or down: a probe is out")        \
	REASON(DAY_CLOSED, "the provider's daily quota is used up")            \
	REASON(BACKOFF, "this request failed and is tried again")              \
	REASON(HOST_CONCURRENCY, "max_concurrent_requests")                    \
	REASON(HOST_REQUESTS, "requests_per_minute")                           \
	REASON(HOST_TOKENS, "tokens_per_minute")                               \
	REASON(HOST_DAY, "tokens_per_day")                                     \
	REASON(LANE_CONCURRENCY, "the model's max_concurrent_requests")        \
	REASON(LANE_REQUESTS, "the model's requests_per_minute")               \
	REASON(LANE_TOKENS, "the model's tokens_per_minute")                   \
	REASON(LANE_DAY, "the model's tokens_per_day")                         \
	REASON(BATCH_SHARE, "batch_share")                                     \
	REASON(USER_CONCURRENCY, "the user's max_requests")                    \
	REASON(USER_REQUESTS, "the user's requests_per_minute")                \
	REASON(USER_TOKENS, "the user's tokens_per_minute")                    \
	REASON(USER_DAY, "the user's tokens_per_day")                          \
	REASON(LANE_RATE, POLICY_RATE_WORDS)                                   \
	REASON(CLUSTER_REQUESTS,                                               \
		"requests_per_minute, which other hosts share")                \
	REASON(CLUSTER_TOKENS, "tokens_per_minute, which other hosts share")

enum policy_reason {
#define REASON(name, words) POLICY_WAIT_##name,
	POLICY_REASONS(REASON)
#undef REASON
		POLICY_WAIT_REASONS
};

/* ------------------------------------------------------------ requests */

enum policy_state {
	POLICY_NEW,
	POLICY_QUEUED,
	POLICY_RUNNING,
	POLICY_BACKOFF,
	POLICY_OVERDUE, /* `lane` and `user_entry` are not set */
};

/*
 * One request.  Lives in its owner's object, zeroed before its first use; the
 * owner fills the first part, which must stay until the request is NEW again.
 */
struct policy_request {
	const char *model_id;
	const char *user;       /* 1 to 63 bytes, the fairness key */
	const char *app;        /* the fairness key above it; NULL is "" */
	uint64_t input_tokens;  /* estimate */
	uint64_t output_tokens; /* the maximum asked for; 0: not said */
	uint64_t deadline_ns;   /* always set */
	enum policy_class class : 8;
	bool is_permit : 1;
	bool suits_all : 1; /* its body suits the models of all families */
	bool is_shadow : 1; /* the owner's own mark */
	/* Its owner keeps it on disk: the bounds of the queues (max_queued,
	 * max_queued_per_user, refuse_late) are not for it. */
	bool is_durable : 1;

	/* policy_next_model() writes these; zero before. */
	uint8_t hops;

	/* Readable by the owner. */
	enum policy_state state : 8;
	uint16_t attempts;          /* admissions so far, at most UINT16_MAX */
	const char *first_model_id; /* policy_next_model(): once there was
				       another: the owner's */
	uint64_t enqueued_ns;
	uint64_t admitted_ns;     /* the last time */
	struct policy_lane *lane; /* while not NEW */
	struct policy_user *user_entry;

	/* Private to policy/. */
	struct {
		struct seat *seat;
		uint64_t arrival; /* OVERDUE: what names its lane */
		/* Many wait: what it needs then and what it needs while it runs
		 * share their memory: place.c. */
		union {
			struct { /* QUEUED, BACKOFF */
				struct policy_request *prev, *next;
				/* In the timelines and the heap. */
				uint32_t deadline_place, age_place, due_place;
				uint32_t ticket; /* grows along its queue */
			};
			struct { /* RUNNING, OVERDUE */
				uint64_t reserved_tokens;
				uint64_t charged; /* in the order's account */
				uint64_t started_ns;
				uint64_t epoch;       /* of the gate */
				uint64_t used_tokens; /* in the minute before
							 its start */
				uint32_t day;         /* of the reservation */
				uint32_t used_starts; /* as used_tokens */
			};
		};
		uint8_t retry_cost; /* the last one paid */
		uint8_t failures;   /* that count, in this lane */
		uint8_t flags;
		enum policy_class rank : 8;           /* after ageing */
		uint32_t waited[POLICY_WAIT_REASONS]; /* why_flip() */
	} p;
};

enum policy_refusal {
	POLICY_ACCEPTED,
	POLICY_QUEUE_FULL, /* host-wide */
	POLICY_USER_LIMIT, /* the user's queue */
	POLICY_TOO_LARGE,  /* can never fit its lane's tokens */
	POLICY_LATE,       /* the deadline has passed already */
	POLICY_NO_MEMORY,
	POLICY_LANE_CLOSED, /* policy_close_lane() until after its deadline */
	POLICY_TOO_LATE,    /* refuse_late: it would not start before its
			       deadline */
};

/*
 * Puts the request in its queue (state QUEUED), or refuses: then nothing
 * changed and *ret_retry_after_ns is the predicted wait for a place (0: no
 * use).
 */
enum policy_refusal policy_enqueue(struct policy *policy,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns);

/* Would it be refused, and why?  For one that is written down before it is
 * queued; nothing changes. */
enum policy_refusal policy_judge(struct policy *policy,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns);

/*
 * The next request that may start, with everything charged for it (state
 * RUNNING), or NULL; call until NULL.  Then *ret_next_ns is when to ask again
 * even if nothing else happens (UINT64_MAX: never).  Ask again also after any
 * of the other calls here.  O(log n) in queued users.
 *
 * Call policy_expire() until NULL before: a request past its deadline is never
 * returned, and while one is queued the answer is NULL with *ret_next_ns = now.
 */
struct policy_request *policy_admit(
	struct policy *policy, uint64_t now_ns, uint64_t *ret_next_ns);

/* The next queued or backing-off request whose deadline has passed: it has left
 * the queue (state NEW).  NULL: none; *ret_next_ns: the earliest deadline
 * (UINT64_MAX: nothing is queued). */
struct policy_request *policy_expire(
	struct policy *policy, uint64_t now_ns, uint64_t *ret_next_ns);

/*
 * The request's first byte is about to go out: its place in the windows, held
 * as "now" since its admission, is stamped now_ns.  Permits: at admission.
 * Without it (nothing was sent), finish and retry give the place back.
 */
void policy_started(
	struct policy *policy, struct policy_request *request, uint64_t now_ns);

enum policy_outcome {
	POLICY_DONE,      /* answered, also with an error that no retry mends */
	POLICY_THROTTLED, /* by the provider, given up */
	POLICY_LOST,      /* time-out, ambiguous: keeps its reservation */
	POLICY_UNUSED,    /* never sent, or a permit not used */
};

/* Tokens as the provider counted them; -1: unknown. */
struct policy_usage {
	int64_t input_tokens;
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
};

/* Does it say what cannot be: negative other than -1, above 2^53?  That counts
 * as unknown. */
bool policy_usage_is_absurd(const struct policy_usage *usage);

/*
 * RUNNING -> NEW: settles the reservation, frees the in-flight places.  DONE
 * settles at `usage`; what it does not tell (NULL: nothing) at the reservation.
 * THROTTLED and UNUSED give the tokens back; a throttle reported here, that
 * policy_retry() was not told of, closes the gate too.
 */
void policy_finish(struct policy *policy, struct policy_request *request,
	enum policy_outcome outcome, const struct policy_usage *usage,
	uint64_t now_ns);

/*
 * RUNNING -> OVERDUE: a permit whose time to live is over while its holder
 * lives.  Ended as DONE without usage, but its holder may still settle it.
 */
void policy_overrun(
	struct policy *policy, struct policy_request *request, uint64_t now_ns);

/*
 * OVERDUE -> NEW: it was settled after all, and what it was charged for is
 * corrected as if that came at its end.  A throttle closes the gate if it has a
 * say.  LOST: as it was charged.
 */
void policy_settle_overdue(struct policy *policy,
	struct policy_request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns);

enum policy_failure {
	POLICY_FAIL_THROTTLE,
	POLICY_FAIL_TRANSIENT, /* never sent, or the provider is away: 502, 503,
				  504 */
	POLICY_FAIL_LOST,  /* the same, but ambiguous (time-out, reset): what it
			      has reserved counts as used */
	POLICY_FAIL_ERROR, /* another error that may pass (500), or may be the
			      request's own */
};

/*
 * An attempt failed.  True: the request is queued again at the head of its
 * user's queue, after its backoff (state BACKOFF, then admitted like any
 * other). False: no attempt, budget or time is left; the request is still
 * RUNNING and the caller finishes it.  A throttle closes the lane's gate either
 * way.
 */
bool policy_retry(struct policy *policy, struct policy_request *request,
	enum policy_failure failure, uint64_t hint_ns, uint64_t now_ns);

/*
 * The model to try when the one it has cannot serve it: of the chain of the
 * model first asked for, each once, of the same family.  NULL: there is none
 * left.  Valid until policy_reconfigure(): the owner makes a copy, and gives it
 * to policy_divert(), or where policy_enqueue() refused (POLICY_TOO_LARGE,
 * POLICY_LANE_CLOSED) puts it into model_id and asks again.  What the owner
 * gave first stays.
 */
const char *policy_next_model(
	const struct policy *policy, struct policy_request *request);
/*
 * RUNNING -> BACKOFF, due at once, in the lane of that model: the attempt
 * failed so, and policy_retry() has said no.  The lane that it leaves is paid
 * like for a retry.  One that is QUEUED or in BACKOFF may go too (it is doomed
 * in its lane), and pays nothing.  False: it cannot be paid, that lane would
 * refuse it, or no memory; nothing has changed.
 */
bool policy_divert(struct policy *policy, struct policy_request *request,
	const char *model_id, enum policy_failure kind, uint64_t now_ns);

/* QUEUED or BACKOFF -> NEW: cancelled, or its client died. */
void policy_remove(struct policy *policy, struct policy_request *request);

/* ------------------------------------------------------------ why, how long
 */

/* Why a queued or backing-off request has not started at now_ns. */
struct policy_why {
	enum policy_reason reason; /* what holds it, or its lane's first */
	uint64_t until_ns;     /* when time alone may change that; UINT64_MAX:
				  not before something ends */
	uint32_t position;     /* 1: the next of its lane; an estimate where
				  users of different service meet */
	uint64_t predicted_ns; /* how much longer it may take */
};

void policy_explain(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	struct policy_why *ret_why);

/* How long it has waited for each reason until it was last admitted, or until
 * now; the sum is the time it spent queued or backing off.  While not NEW. */
void policy_waited(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t ret_ns[POLICY_WAIT_REASONS]);

const char *policy_reason_text(enum policy_reason reason);

/* The predicted wait of a queued request, from limits and recent service;
 * rough, at least 1 ms. */
uint64_t policy_predict_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns);

/* A daily-quota throttle: the lane is closed until until_ns (the day's turn),
 * then one probe goes.  Requests whose deadline comes before are refused. */
void policy_close_lane(
	struct policy *policy, struct policy_lane *lane, uint64_t until_ns);
/*
 * Who waits in that lane, and would in vain: their deadlines come before it
 * opens.  To be asked once it was closed; the owner moves each to another model
 * (policy_divert()) or refuses it (policy_remove()).  The caller frees the
 * array; NULL: nobody, or no memory, and they end at their deadlines.
 */
struct policy_request **policy_doomed(
	const struct policy_lane *lane, size_t *ret_n);

/*
 * Who waits in a lane whose gate has closed `max_attempts` times since it was
 * open, and has another model to go to (policy_divert()).  To be asked after a
 * failure; like policy_doomed() for the rest.  Nobody is listed, and nothing is
 * walked, where no model has a fallback.
 */
struct policy_request **policy_stranded(
	const struct policy *policy, size_t *ret_n);

/* ------------------------------------------------------------ recovery */

/* A start made before a restart, found on the board: it counts in the
 * host's window and in its lane's (the lane is made where needed).  Any order;
 * the order of the starts is cheapest.  -ENOMEM. */
int policy_restore_start(struct policy *policy, const char *model_id,
	uint64_t started_ns, uint64_t now_ns);

/* What was left of a bucket, and of a day, at at_ns: as the views say. */
struct policy_left {
	int64_t available, used_today;
	uint64_t day; /* the number of that day */
	uint64_t at_ns;
	uint32_t starts; /* of a user: count as made at now_ns */
};

/* A lane's; the host's; a user's, where it has a budget.  -ENOMEM. */
int policy_restore_tokens(struct policy *policy, const char *lane_name,
	const struct policy_left *left, uint64_t now_ns);
void policy_restore_host(
	struct policy *policy, const struct policy_left *left, uint64_t now_ns);
int policy_restore_user(struct policy *policy, const char *app,
	const char *user, const struct policy_left *left, uint64_t now_ns);

/* The state was there but could not be read: every window that has a limit
 * counts as full from from_ns on (not after now_ns), every token bucket as
 * empty then, also those of lanes still to come.  What is known better is
 * restored afterwards. */
void policy_restore_full(
	struct policy *policy, uint64_t from_ns, uint64_t now_ns);

/*
 * A request that was running when the last rgovd died: RUNNING at once, charged
 * again in every limit whatever they say (never under-count), its start
 * stamped now_ns.  -ENOMEM: nothing changed.
 */
int policy_restore_running(
	struct policy *policy, struct policy_request *request, uint64_t now_ns);

/* The same where its start, at started_ns, is among those of
 * policy_restore_start(): it is not stamped a second time.  `reserved`: the
 * tokens that it holds of those that policy_restore_tokens() restored;
 * negative: they were not, so they are charged. */
int policy_restore_held(struct policy *policy, struct policy_request *request,
	int64_t reserved, uint64_t started_ns, uint64_t now_ns);

/* A permit that was OVERDUE, and what it was charged; it started on that day.
 * -ENOMEM. */
int policy_restore_overdue(struct policy *policy,
	struct policy_request *request, uint64_t charged, uint64_t started_ns,
	uint64_t now_ns);

/* The tokens that a running request holds, or an overdue one was charged. */
uint64_t policy_reserved(const struct policy_request *request);

/* ------------------------------------------------------------ several hosts
 */

/*
 * The limits of requests and tokens per minute, the host's and the lanes', are
 * those of an account from now on: nothing starts without a lease.  Also to
 * change the terms; hosts, loss and forget_ns may change, the incarnation not.
 * -ENOMEM.  To be called after the restore.
 */
int policy_share_on(struct policy *policy, const struct lease_terms *terms,
	uint64_t now_ns);
/* The limits are this host's alone again. */
void policy_share_off(struct policy *policy);

/* When policy_share_ask() has something to say; UINT64_MAX: never (not shared).
 * To be asked after policy_admit(); moves with what is queued.  O(1). */
uint64_t policy_share_due(const struct policy *policy, uint64_t now_ns);
/*
 * The ask to send now; false: not due, or no memory.  One is out at a time: a
 * new one, due after patience_ns, means that the last one is given up, and its
 * answer must no longer be given to policy_share_answer() (it would be ignored
 * by its seq).  Not called (no connection), the lease runs out by itself.
 */
bool policy_share_ask(
	struct policy *policy, uint64_t now_ns, struct lease_ask *ret_ask);
/* Then ask policy_admit(). */
void policy_share_answer(struct policy *policy,
	const struct lease_answer *answer, uint64_t now_ns);
/* Nothing starts from now on; the next ask, due once nothing is admitted and
 * not sent, is the good-bye.  True: it was answered, or there is nobody to say
 * it to. */
bool policy_share_leave(struct policy *policy, uint64_t now_ns);

struct policy_share_view {
	enum lease_mode mode;
	uint64_t since_ns;    /* in this mode */
	uint64_t until_ns;    /* ACTIVE: the lease ends */
	uint64_t grows_ns;    /* LOST, share: the full limit / hosts from then
				 on */
	uint64_t answered_ns; /* the last one; 0: none yet */
	uint32_t hosts, hosts_configured;
	bool is_namesake;                      /* a newer run uses our name */
	uint64_t asks, answers, syncs, losses; /* totals */
};
/* Each limit's own is in the view of the host and the lane. */
void policy_view_share(const struct policy *policy, uint64_t now_ns,
	struct policy_share_view *ret_view);

/* ------------------------------------------------------------ to look at */

struct policy_lane_view {
	const char *name;    /* its model id, or "default" */
	const char *pattern; /* its model block's; "" for none */
	uint32_t running, running_peak, running_limit;
	uint32_t queued, backing_off;
	/* In the last window, guard included; without a limit the count stops
	 * at 65536. */
	uint32_t starts, starts_peak, starts_limit;
	int64_t tokens_available; /* may be negative; 0 without a limit */
	uint64_t tokens_limit, tokens_reserved;
	int64_t tokens_used_today;
	uint64_t tokens_day_limit;
	uint64_t tokens_day; /* the number of that day */
	uint64_t admitted, done, throttled, lost, retries; /* totals */
	uint64_t diverted;     /* to another model */
	uint64_t absurd_usage; /* answers and permits that said what cannot be
				*/
	uint32_t retry_budget_left;
	/* What the provider lets through, as far as it is known, over the
	 * limits: 1 all of it; and the two limits so. */
	double rate;
	uint32_t starts_allowed;
	uint64_t tokens_allowed;
	bool gate_open;
	uint64_t gate_opens_ns; /* when the probe may go; 0: open */
	uint64_t gate_closings, gate_probes; /* totals */
	uint32_t learned_output;   /* 95th percentile, tokens; 0: not known */
	enum policy_reason reason; /* what holds its first; TURN: nothing */
	uint64_t reason_since_ns;
	struct lease_view lease;
};

struct policy_user_view {
	const char *name, *app;
	uint32_t running, running_limit, queued, queued_limit;
	double service, weight;  /* tokens charged */
	uint32_t learned_output; /* in the lane used last; 0: not known */
	uint64_t admitted, done, refused;
	uint64_t last_ns; /* its last enqueue, admission or end */
	/* Its budget, over all lanes; as a lane's; all 0: none. */
	bool has_budget;
	uint32_t starts, starts_limit;
	int64_t tokens_available;
	uint64_t tokens_limit;
	int64_t tokens_used_today;
	uint64_t tokens_day_limit, tokens_day;
};

struct policy_host_view {
	uint32_t running, running_peak, running_limit;
	uint32_t queued, queued_peak, queued_limit;
	uint32_t starts, starts_peak, starts_limit;
	uint32_t users;              /* with something queued or running */
	uint64_t oldest_enqueued_ns; /* 0: the queue is empty */
	/* Over all lanes; as a lane's. */
	int64_t tokens_available;
	uint64_t tokens_limit, tokens_reserved;
	int64_t tokens_used_today;
	uint64_t tokens_day_limit, tokens_day;
	struct lease_view lease;
};

void policy_view_host(const struct policy *policy, uint64_t now_ns,
	struct policy_host_view *ret_view);
void policy_view_lane(const struct policy_lane *lane, uint64_t now_ns,
	struct policy_lane_view *ret_view);
/* While not NEW and not OVERDUE; a start of the user counts as made. */
void policy_view_user(const struct policy_user *user, uint64_t now_ns,
	struct policy_user_view *ret_view);
/* Calls see() for each until it returns false; views live during the call. */
void policy_each_lane(const struct policy *policy, uint64_t now_ns,
	bool (*see)(const struct policy_lane_view *view, void *arg), void *arg);
/* Users with something queued or running first, then the most recent. */
void policy_each_user(const struct policy *policy, uint64_t now_ns,
	bool (*see)(const struct policy_user_view *view, void *arg), void *arg);

/* Is its start counted in any window (has its lane or the host a limit of
 * requests per minute)?  While not NEW. */
bool policy_counts_starts(
	const struct policy *policy, const struct policy_request *request);
/* Has its lane a limit of tokens?  While not NEW. */
bool policy_counts_tokens(const struct policy_request *request);
/* Has its user a budget?  While not NEW. */
bool policy_counts_budget(const struct policy_request *request);

/* What a request that names no maximum of output is taken to ask for; 0: its
 * lane has no block.  While not NEW. */
uint32_t policy_default_output(const struct policy_request *request);

/* The limit that the last request of POLICY_TOO_LARGE cannot fit. */
struct policy_excess {
	enum policy_reason limit; /* _TOKENS or _DAY, of lane, host or user */
	uint64_t asked, allowed;
};
struct policy_excess policy_last_excess(const struct policy *policy);

const char *policy_refusal_text(enum policy_refusal refusal);
const char *policy_lane_name(const struct policy_lane *lane);
/* The name of the lane that a model id belongs to, made where needed. */
const char *policy_lane_name_of(
	struct policy *policy, const char *model_id, uint64_t now_ns);

#endif
