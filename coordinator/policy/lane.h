/*
 * A lane: one upstream quota, with its limits, its gate and the order of its
 * queue.  Made at the first request for its model id from the first `model`
 * block that matches; everything else goes to the default lane.
 */
#ifndef COORDINATOR_POLICY_LANE_H
#define COORDINATOR_POLICY_LANE_H

#include "coordinator/policy/adapt.h"
#include "coordinator/policy/gate.h"
#include "coordinator/policy/learn.h"
#include "coordinator/policy/order.h"
#include "coordinator/policy/policy.h"
#include "coordinator/policy/share.h"
#include "coordinator/policy/tokens.h"
#include "coordinator/policy/why.h"
#include "coordinator/policy/window.h"

struct policy_lane {
	struct policy *policy;
	struct policy_lane *prev, *next; /* policy->ready */
	bool is_ready;                   /* somebody is in its order */
	uint64_t served; /* its last turn, of policy->turns; made: one too */
	uint64_t made;   /* which names it */
	const struct policy_model *model; /* NULL: no block */
	struct rank ranks[POLICY_CLASSES];
	struct team *teams;
	uint32_t n_teams;

	struct window window;
	struct tokens tokens;
	struct gate gate;
	struct adapt adapt;
	uint32_t failed; /* transient failures heard, without an answer since */
	/* The default lane's: the model id (its hash) of all of those, 0 where
	 * there are several; that of the last answer heard, 0: none. */
	uint64_t failed_id, answered_id;
	struct learn learned;
	struct why_clock why;
	uint32_t max_concurrent, batch_limit; /* 0: none */
	uint32_t running, running_peak, batch_running;
	uint32_t queued, backing_off;
	uint32_t retry_left, retry_budget; /* budget 0: none */
	struct mean hold_ns;               /* how long one runs */
	struct mean cost;                  /* what one used in the end */
	uint64_t admitted, done, throttled, lost, retries, absurd_usage;
	uint64_t diverted;
	struct lease lease; /* zero while nothing is shared */

	uint64_t hash;
	char name[];
};

/* The lane of a model id, or of a lane's name, made where needed.  NULL: no
 * memory. */
struct policy_lane *lane_get(
	struct policy *policy, const char *model_id, uint64_t now_ns);
struct policy_lane *lane_create(struct policy *policy, const char *name,
	const struct policy_model *model, uint64_t now_ns);
void lane_free(struct policy_lane *lane);
/* The one that is called so; NULL: it was given up.  For what is rare. */
struct policy_lane *lane_of_turn(const struct policy *policy, uint64_t made);

/* Limits from `model` and the general settings. */
void lane_configure(struct policy_lane *lane, const struct policy_model *model,
	uint64_t now_ns);

/* Over how long arrivals are counted. */
static inline uint64_t lane_pace_ns(const struct policy_lane *lane)
{
	return 2 * lane->window.span_ns;
}

/* The block that governs a model id; NULL: none. */
const struct policy_model *lane_block(
	const struct policy *policy, const char *model_id);

/* Time alone may open its gate: to be called before anything is asked of the
 * gate or told to it. */
void lane_look(struct policy_lane *lane, uint64_t now_ns);
/* The same on copies of the lane's. */
void lane_look_ahead(const struct policy_lane *lane, uint64_t now_ns,
	struct gate *gate, struct adapt *adapt);

/* What the request reserves in its lane. */
uint64_t lane_reservation(
	const struct policy_lane *lane, const struct policy_request *request);
/* What it will cost by what was learned; in the order that is its cost before
 * it is settled, then at least 1. */
uint64_t lane_expected(
	const struct policy_lane *lane, const struct policy_request *request);
/* It was answered. */
void lane_learn(struct policy_lane *lane, const struct policy_request *request,
	const struct policy_usage *usage);
/* What it used; the reservation where the provider does not say, or what cannot
 * be (which is counted). */
uint64_t lane_used(struct policy_lane *lane,
	const struct policy_request *request, const struct policy_usage *usage);

#endif
