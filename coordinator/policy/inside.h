/*
 * The policy as its own files see it.  Nobody outside policy/ includes this.
 */
#ifndef COORDINATOR_POLICY_INSIDE_H
#define COORDINATOR_POLICY_INSIDE_H

#include "coordinator/policy/age.h"
#include "coordinator/policy/heap.h"
#include "coordinator/policy/lane.h"
#include "coordinator/policy/names.h"
#include "coordinator/policy/policy.h"
#include "coordinator/policy/settings.h"
#include "coordinator/policy/share.h"
#include "coordinator/policy/timeline.h"
#include "coordinator/policy/user.h"
#include "coordinator/policy/why.h"
#include "coordinator/policy/window.h"

/* p.flags */
enum {
	POLICY_STARTED = 1 << 0,  /* its place in the windows is stamped */
	POLICY_COUNTED = 1 << 1,  /* its throttle is known already */
	POLICY_BUDGETED = 1 << 2, /* its user's budget was charged */
	POLICY_FAILED = 1 << 3,   /* policy_retry() was told so */
	POLICY_MEASURED = 1 << 4, /* p.used_* say what was used before it */
	POLICY_LEASED = 1 << 5,   /* of the account, not of the host's share */
};

struct policy {
	struct settings *settings;
	uint64_t now_ns; /* the latest seen */
	uint64_t arrivals;
	uint64_t jitter; /* state of the generator */
	uint64_t hash_key[2];

	struct window window;
	struct tokens tokens;                 /* the host's */
	bool is_restored;                     /* they were */
	uint64_t full_from_ns, full_until_ns; /* policy_restore_full */
	uint32_t batch_limit;
	struct mean hold_ns; /* how long a request runs */
	uint64_t first_ns;   /* the first admission; 0: none yet */
	struct mean cost;    /* what one used in the end */
	uint32_t running, running_peak, batch_running;
	uint32_t queued, queued_peak; /* backing off too */
	uint32_t durable;             /* of them, outside the bounds */

	struct names lane_names, app_names, user_names;
	struct policy_lane **lanes; /* from templates */
	size_t n_lanes, lanes_room;
	struct policy_lane *fallback; /* the default lane */
	struct policy_lane *ready; /* somebody in order; least recent first */
	uint64_t turns;

	/* The most recent first; see user.h. */
	struct policy_user *active, *idle, *kept;
	uint32_t n_active, n_idle, n_kept;

	struct policy_excess excess; /* of the last POLICY_TOO_LARGE */
	struct timeline deadlines;   /* queued and backing off */
	struct heap due;             /* backing off, by not_before_ns */
	struct heap parked;  /* flows held by a budget, by when it fits */
	uint32_t n_parkable; /* flows that may come there */
	struct age age;
	struct why_clock why;
	struct share *share; /* NULL: limits are this host's own */
	struct lease lease;
};

/* Takes in a now_ns; it never runs backwards in here. */
static inline uint64_t policy_clock(struct policy *policy, uint64_t now_ns)
{
	if (now_ns > policy->now_ns)
		policy->now_ns = now_ns;
	return policy->now_ns;
}

/*
 * In a long queue most of what a decision looks at is in no cache.  Asked for
 * together the lines come together; one after the other they would be most of
 * a decision.
 */
static inline void fetch_lines(const void *from, size_t bytes)
{
	for (size_t at = 0; at < bytes; at += 64)
		__builtin_prefetch((const char *)from + at);
}

static inline uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

static inline uint64_t later_of(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns > b_ns ? a_ns : b_ns;
}

/* ------------------------------------------------ place.c: moves a request */

/* Room for one more request in whatever heap it may come to.  -ENOMEM. */
int place_reserve(struct policy *policy);
/* Gives a NEW request its lane, user and seat.  -ENOMEM. */
int place_adopt(
	struct policy *policy, struct policy_request *request, uint64_t now_ns);
/* NEW -> QUEUED. */
void place_enter(struct policy *policy, struct policy_request *request);
/* -> NEW: no lane and no user any more. */
void place_forget(struct policy *policy, struct policy_request *request);
/* Out of the order or the backoff; the caller decides the state. */
void place_withdraw(struct policy *policy, struct policy_request *request);
/* The same, for good (NEW). */
void place_drop(struct policy *policy, struct policy_request *request);
/* Asks for what place_run() of a queued one will look at. */
void place_fetch(
	const struct policy *policy, const struct policy_request *request);
/* Memory for its place in the windows.  -ENOMEM. */
int place_reserve_start(
	struct policy *policy, const struct policy_request *request);
/* -> RUNNING, charging every limit whatever it says; the windows with a pending
 * start. */
void place_run(
	struct policy *policy, struct policy_request *request, uint64_t now_ns);
/* The same for one that is in the windows already; its tokens are charged where
 * `reserved` is negative, else they were, that many. */
void place_hold(struct policy *policy, struct policy_request *request,
	int64_t reserved, uint64_t started_ns, uint64_t now_ns);
/* RUNNING -> nowhere: gives the in-flight places back, settles the tokens at
 * `used` and the fairness account at `cost`; the caller decides the state. */
void place_stop(struct policy *policy, struct policy_request *request,
	uint64_t used, uint64_t cost, uint64_t now_ns);
/* -> BACKOFF until then. */
void place_back_off(struct policy *policy, struct policy_request *request,
	uint64_t not_before_ns);
/* BACKOFF -> QUEUED for each whose time has come. */
void place_wake_due(struct policy *policy, uint64_t now_ns);

/* --------------------------------------------------- retry.c: shared parts */

/* ------------------------------------------ policy.c: what a lane refuses */

/* More tokens than its lane, the host or its user ever have. */
bool is_too_large(struct policy *policy, const struct policy_request *request);
/* For the day, until its deadline has passed. */
bool is_closed_for(const struct policy_request *request);

/* ------------------------------------------- divert.c, retry.c: shared parts
 */

/* Has it another model to go to? */
bool divert_is_possible(
	const struct policy *policy, const struct policy_request *request);

/* What a retry after such a failure costs. */
uint32_t retry_price(enum policy_failure kind);
/* False: the lane's budget is spent. */
bool retry_pay(struct policy_request *request, uint32_t cost);

/* What a failed attempt means for its request. */
struct retry_failure {
	uint64_t delay_ns; /* its backoff */
	uint32_t cost;     /* what another attempt costs the lane's budget */
	bool counts;       /* against max_attempts */
};

/* The lane and its gate take notice of a failed attempt. */
struct retry_failure retry_failed(struct policy *policy,
	struct policy_request *request, enum policy_failure kind,
	uint64_t hint_ns, uint64_t now_ns);
/* A success that the gate hears. */
void retry_answered(const struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request);
/* A success: what the budget gets back. */
void retry_refund(const struct policy_request *request);

/* ------------------------------------- predict.c: waits for a place in a queue
 */

/* In the user's; in the host's. */
uint64_t predict_place_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns);
uint64_t predict_host_ns(const struct policy *policy);
/* Of one that is queued or backs off. */
void predict(const struct policy *policy, const struct policy_request *request,
	uint64_t now_ns, uint32_t *ret_position, uint64_t *ret_ns);

#endif
