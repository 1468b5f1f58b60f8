/*
 * What waits are made of.  Nobody is visited to count it: the host and each
 * lane have a clock for every reason, a flow takes note of them while its user
 * is held, and a request takes the difference between its coming and going.
 */
#ifndef COORDINATOR_POLICY_WHY_H
#define COORDINATOR_POLICY_WHY_H

#include "coordinator/policy/policy.h"

/* One unit of policy_request.p.waited: 262 us; 32 bits last 13 days. */
enum { WHY_UNIT_SHIFT = 18 };

struct seat;

/* POLICY_WAIT_TURN: nothing holds it. */
struct why_clock {
	enum policy_reason reason;
	uint64_t until_ns; /* as struct policy_why has it */
	uint64_t begun_ns; /* holds since then */
	uint64_t since;    /* what `ns` is true at: the host's in time, a
			      lane's in the host's free_ns */
	uint64_t free_ns;  /* the host's: how long it held nobody */
	uint64_t ns[POLICY_WAIT_REASONS];
};

/* A flow's whose user was ever held while it had a queue. */
struct why_hold {
	enum policy_reason reason;
	uint64_t until_ns;
	uint64_t since_ns;
	/* What to add to the clocks of host and lane while the user is not
	 * held; all there is while it is. */
	uint64_t ns[POLICY_WAIT_REASONS];
};

/* What holds it from now on, until time alone may change that. */
void why_host(struct policy *policy, enum policy_reason reason,
	uint64_t until_ns, uint64_t now_ns);
void why_lane(struct policy_lane *lane, enum policy_reason reason,
	uint64_t until_ns, uint64_t now_ns);
/* What holds the lane's first now: the host's clock or its own. */
const struct why_clock *why_of_lane(const struct policy_lane *lane);
/* The same of a flow. */
void why_flow(struct seat *seat, enum policy_class class,
	enum policy_reason reason, uint64_t until_ns);

/* The request comes into its flow, or is about to leave it. */
void why_flip(struct policy_request *request);
/* It begins to back off; it ends. */
void why_back_off(struct policy_request *request);
void why_wake(struct policy_request *request);

#endif
