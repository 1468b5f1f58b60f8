/*
 * The policy a second time: docs/policy.md as plainly as it can be said, in
 * arrays that are searched from end to end.  What the real one keeps in
 * counters, heaps and rings is counted here by looking at every request and at
 * every start.  Shares no code with coordinator/policy/, only its public types.
 * Not for use: for comparison (tests/unit/policy_properties.c).
 *
 * No pointer points into the struct, so that a copy of it is a second world in
 * which one can try what would happen.
 */
#ifndef TESTS_UNIT_POLICY_REFERENCE_H
#define TESTS_UNIT_POLICY_REFERENCE_H

#include "coordinator/policy/policy.h"

enum {
	REF_REQUESTS = 24,
	REF_LANES = 8,        /* the default one is 0 */
	REF_GONE = REF_LANES, /* in place of one that was given up */
	REF_USERS = 12,
	REF_APPS = 3,
	REF_STARTS = 512,
	REF_NOBODY = -1,
	REF_RESTORED = -2, /* a start known of its user alone */
};

__extension__ typedef __int128 ref_wide;

/* A minute's and a day's tokens. */
struct ref_bucket {
	uint64_t limit, day_limit; /* 0: none */
	ref_wide parts;            /* tokens x minute_ns; below 0: debt */
	uint64_t at_ns;
	uint64_t day;
	int64_t day_used;
};

/* What may be limited: the host, a lane, a user. */
struct ref_scope {
	uint32_t max_concurrent, requests_per_minute; /* 0: none */
	bool smooth;
	uint64_t full_until_ns; /* nothing is known of the window before */
	struct ref_bucket bucket;
};

struct ref_gate {
	bool is_closed, is_day;
	uint32_t failures;
	uint64_t opens_ns, epoch;
	int probe; /* REF_NOBODY: none */
};

/* An account of fairness, of one user or application in one lane and class. */
struct ref_account {
	bool is_present;    /* in the order */
	uint64_t looked_ns; /* when that was found so, for so many tokens */
	uint64_t looked_tokens;
	double service;
};

/* Section 6, in its letters: b, f, P, R, p. */
struct ref_rate {
	uint64_t limit; /* 0: none */
	uint64_t base, from_ns, proven, before, patience;
	uint64_t moody_until_ns;
	bool is_doubted;  /* the last throttle was of the second kind */
	bool is_measured; /* base is a ceiling */
};

/* What was admitted, at its reservation and then at its real cost. */
struct ref_charge {
	uint64_t at_ns, tokens;
	uint64_t made; /* its lane */
};

/* Of output tokens. */
enum { REF_BUCKETS = 64 };

struct ref_histogram {
	uint32_t counts[REF_BUCKETS];
};

struct ref_lane {
	char name[64]; /* "": free */
	const struct policy_model *model;
	uint64_t made, turn; /* when, in the order of all such events */
	struct ref_scope scope;
	struct ref_gate gate;
	struct ref_rate starts, tokens;
	uint64_t paced_ns;               /* nobody starts before */
	uint64_t refused_ns[REF_STARTS]; /* starts */
	uint32_t n_refused;
	uint32_t row; /* throttles heard with nothing accepted since */
	uint32_t retry_left, retry_budget;
	uint32_t failed; /* transient failures heard, without an answer since */
	const char *failed_id;   /* their model id; "": several */
	const char *answered_id; /* of the last answer heard; NULL: none */
	uint64_t admitted, done, throttled, lost, retries;
	struct ref_account users[REF_USERS][POLICY_CLASSES];
	struct ref_account apps[REF_APPS][POLICY_CLASSES];
	struct ref_histogram learned, learned_of[REF_USERS];
	/* The service of the last to leave: an application's users, the lane's
	 * applications. */
	double user_floor[REF_APPS][POLICY_CLASSES];
	double app_floor[POLICY_CLASSES];
};

struct ref_user {
	char name[64]; /* "": free */
	int app;
	uint64_t active_since; /* in the order of all such events */
	double weight;
	bool has_budget; /* a block gave it one, once */
	uint32_t max_queued;
	struct ref_scope scope;
	double service;
	uint64_t admitted, done, refused;
};

struct ref_request {
	struct policy_request asked; /* the owner's part */
	enum policy_state state;
	int lane, user;
	enum policy_class rank; /* the class it counts as */
	uint64_t arrival, enqueued_ns, not_before_ns;
	int64_t turn; /* in its queue: the least is the head */
	uint32_t attempts, retry_cost;
	uint32_t failures;               /* that count */
	const char *first_model, *model; /* asked first; asked now */
	int hops; /* of the chain, tried or passed over */
	/* while RUNNING */
	uint64_t reserved, charged, admitted_ns, started_ns, epoch;
	uint64_t day[3]; /* of the reservation: host, lane, user */
	int charge;      /* which */
	bool is_measured;
	uint64_t used_starts, used_tokens, measured; /* at its start */
	bool is_started, is_counted, is_failed;
	uint64_t made;    /* its lane; of an overdue one it may be gone */
	bool is_budgeted; /* charged to its user's budget too */
};

/* What a failed attempt means. */
struct ref_failure {
	uint64_t delay_ns;
	uint32_t cost;
	bool counts;
};

struct ref_start {
	uint64_t at_ns;
	int lane, user;
};

struct ref {
	struct policy_config config; /* the owner's, must stay */
	uint64_t now_ns, generator;
	uint64_t arrivals, events;
	int64_t head, tail;
	uint64_t full_from_ns, full_until_ns;
	struct ref_scope host;
	struct ref_lane lanes[REF_LANES + 1];
	char apps[REF_APPS][64];
	double app_weight[REF_APPS];
	struct ref_user users[REF_USERS];
	struct ref_request requests[REF_REQUESTS];
	struct ref_start starts[REF_STARTS];
	uint32_t n_starts;
	struct ref_charge charges[REF_STARTS];
	uint32_t n_charges;
};

/* ------------------------------------------- reference.c: as in policy.h */

/* It is now_ns; each of the calls begins with it. */
void ref_clock(struct ref *ref, uint64_t now_ns);
enum policy_refusal ref_enqueue(struct ref *ref, int id,
	const struct policy_request *asked, uint64_t now_ns);
int ref_expire(struct ref *ref, uint64_t now_ns);
int ref_admit(struct ref *ref, uint64_t now_ns);
void ref_started(struct ref *ref, int id, uint64_t now_ns);
void ref_finish(struct ref *ref, int id, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns);
bool ref_retry(struct ref *ref, int id, enum policy_failure failure,
	uint64_t hint_ns, uint64_t now_ns);
/* Which of the chain is to be tried next; REF_NOBODY: none. */
int ref_next_model(const struct ref *ref, int id);
/* As in policy_divert(), with that one of the chain. */
bool ref_divert(struct ref *ref, int id, int next, enum policy_failure kind,
	uint64_t now_ns);
void ref_overrun(struct ref *ref, int id, uint64_t now_ns);
void ref_settle_overdue(struct ref *ref, int id, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns);
void ref_remove(struct ref *ref, int id);
void ref_close_lane(struct ref *ref, int lane, uint64_t until_ns);
bool ref_is_doomed(const struct ref *ref, int id, int lane);

void ref_restore_start(struct ref *ref, const char *model_id,
	uint64_t started_ns, uint64_t now_ns);
void ref_restore_tokens(struct ref *ref, const char *model_id,
	const struct policy_left *left, uint64_t now_ns);
void ref_restore_full(struct ref *ref, uint64_t from_ns, uint64_t now_ns);
void ref_restore_held(struct ref *ref, int id,
	const struct policy_request *asked, int64_t reserved,
	uint64_t started_ns, uint64_t now_ns);

/* --------------------------------------------------- settings.c: section 1 */

void ref_create(struct ref *ref, const struct policy_config *config);
void ref_reconfigure(struct ref *ref, const struct policy_config *config);
const struct policy_model *ref_block(
	const struct ref *ref, const char *model_id);
/* The lane of that name, the user of that name; made where needed. */
int ref_lane(struct ref *ref, const char *model_id);
int ref_user(struct ref *ref, const char *app, const char *name);
/* Has the user anything queued, backing off or running? */
bool ref_is_active(const struct ref *ref, int user);

/* ----------------------------------------------- limits.c: section 3 and 5 */

/* Any of them is "all" when REF_NOBODY. */
uint32_t ref_count(
	const struct ref *ref, enum policy_state state, int lane, int user);
uint32_t ref_count_batch(const struct ref *ref, int lane);
uint64_t ref_count_reserved(const struct ref *ref, int lane, int user);
/* Of that, what its budget was charged. */
uint64_t ref_count_budgeted(const struct ref *ref, int user);
uint32_t ref_count_starts(const struct ref *ref, int lane, int user);

bool ref_has_start(const struct ref *ref, const struct ref_scope *scope,
	int lane, int user);
void ref_note_start(struct ref *ref, int id);

void ref_bucket_set(struct ref *ref, struct ref_bucket *bucket, uint64_t limit,
	uint64_t day_limit, uint64_t reserved);
/* Brings the level to now. */
void ref_bucket_refill(const struct ref *ref, struct ref_bucket *bucket);
bool ref_bucket_covers(const struct ref *ref, const struct ref_bucket *bucket,
	uint64_t tokens);
/* Returns the day that was charged. */
uint64_t ref_bucket_take(
	const struct ref *ref, struct ref_bucket *bucket, uint64_t tokens);
void ref_bucket_settle(const struct ref *ref, struct ref_bucket *bucket,
	uint64_t reserved, uint64_t used, uint64_t day);
/* The offset of the days has changed. */
void ref_bucket_fit_day(const struct ref *ref, struct ref_bucket *bucket);
uint64_t ref_day_of(const struct ref *ref, uint64_t time_ns);
void ref_bucket_restore(const struct ref *ref, struct ref_bucket *bucket,
	const struct policy_left *left);
int64_t ref_bucket_used_today(
	const struct ref *ref, const struct ref_bucket *bucket);
int64_t ref_bucket_level(
	const struct ref *ref, const struct ref_bucket *bucket);

uint64_t ref_reservation(const struct ref *ref, const struct ref_request *r);
/* E(r) of section 7. */
uint64_t ref_expected(const struct ref *ref, const struct ref_request *r);
uint64_t ref_used(const struct ref *ref, const struct ref_request *r,
	const struct policy_usage *usage);

/* Does it open now? */
bool ref_gate_look(struct ref *ref, struct ref_gate *gate);
bool ref_gate_lets_pass(const struct ref *ref, const struct ref_gate *gate);
/* That request ended otherwise than throttled. */
void ref_gate_ended(struct ref_gate *gate, int id, bool is_answered);
void ref_gate_close(struct ref_gate *gate, uint64_t until_ns);
/* How long the request has to wait. */
struct ref_failure ref_failed(
	struct ref *ref, int id, enum policy_failure kind, uint64_t hint_ns);
uint64_t ref_backoff(struct ref *ref, enum policy_failure failure, uint32_t n,
	uint64_t hint_ns);

/* -------------------------------------------------- adaptive.c: section 6 */

void ref_rate_set(struct ref_rate *rate, uint64_t limit);
uint64_t ref_rate_now(const struct ref *ref, const struct ref_rate *rate);
bool ref_adaptive_covers(const struct ref *ref, int lane, uint64_t tokens);
void ref_adaptive_charge(struct ref *ref, int id);
void ref_adaptive_admitted(struct ref *ref, int id);
void ref_adaptive_started(struct ref *ref, int id);
void ref_adaptive_ended(struct ref *ref, int id, uint64_t used);
void ref_adaptive_accepted(struct ref *ref, int id, uint64_t now_ns);
void ref_adaptive_refused(struct ref *ref, int id, bool is_heard);

/* ----------------------------------------------------- learn.c: section 7 */

void ref_count_output(struct ref_histogram *histogram, uint64_t tokens);
/* 0: not enough is known. */
uint64_t ref_learned(const struct ref_histogram *histogram);
/* What the provider says, if it can be meant. */
bool ref_is_said(int64_t tokens);

/* ----------------------------------------------------- order.c: section 4 */

/* Into the queue of its user; the head is for retries. */
void ref_queue(struct ref *ref, int id, bool at_head);
/* Out of its queue, or of the backoff. */
void ref_leave(struct ref *ref, int id, enum policy_state state);
/* The queue enters the order or leaves it, as is right now. */
void ref_look_at_queue(
	struct ref *ref, int lane, int user, enum policy_class rank);
void ref_look_at_user(struct ref *ref, int user);
/* Queues that time alone has freed. */
void ref_release(struct ref *ref);
void ref_charge(struct ref *ref, const struct ref_request *r, double tokens);
void ref_age(struct ref *ref);
void ref_wake(struct ref *ref);
/* The lane's first in order; REF_NOBODY: nobody may go. */
int ref_first(struct ref *ref, int lane);

#endif
