/*
 * The order of the queue of one lane: strict by class; within a class the
 * application, then its user, that has received least service over weight, then
 * the one with fewest in flight, then the earliest arrival.  Knows no limits
 * but the user's own: a flow whose user is at its cap, or has no budget for the
 * flow's first request, is held: out of the order.
 *
 *     lane ---- rank (class) ---- heap of teams (lane x application)
 *                                   `-- heap of flows (lane x user x class)
 *                                         `-- queue of requests
 */
#ifndef COORDINATOR_POLICY_ORDER_H
#define COORDINATOR_POLICY_ORDER_H

#include "coordinator/policy/heap.h"
#include "coordinator/policy/policy.h"
#include "coordinator/policy/predict.h"

/* One user's requests of one class in one lane.  In its team's heap exactly
 * while it has a request and is not held; in policy->parked while it is held
 * until a known time. */
struct flow {
	uint32_t place, parked;
	struct policy_request *first, *last; /* by p.prev and p.next */
	uint64_t arrival;      /* of the first: it may be in no cache */
	double service;        /* tokens charged, over weight */
	struct why_hold *hold; /* NULL: its user was never held */
	uint32_t n;
	struct pace pace; /* of arrivals */
};

/* One user in one lane. */
struct seat {
	struct policy_user *user;
	struct team *team;
	struct seat *user_prev, *user_next; /* seats of the user */
	struct seat *team_prev, *team_next; /* seats of the team */
	uint32_t running;
	uint32_t learned_output; /* of `learned`; 0: not yet known */
	struct learn *learned;   /* NULL: nothing yet */
	struct mean cost;        /* what was used in the end */
	struct flow flows[POLICY_CLASSES];
};

/* One class of a team.  In its lane's heap exactly while `flows` is not empty.
 */
struct tier {
	uint32_t place;
	struct heap flows;
	double service;
	double floor; /* of the flow that left `flows` empty */
};

/* One application in one lane. */
struct team {
	struct policy_app *app;
	struct policy_lane *lane;
	struct team *prev, *next;         /* teams of the lane */
	struct team *app_prev, *app_next; /* teams of the application */
	struct seat *seats;
	uint32_t n_seats;
	uint32_t running;
	struct tier tiers[POLICY_CLASSES];
};

/* One class of a lane. */
struct rank {
	struct heap teams;
	double floor;
	uint32_t queued;
};

/* Room in the heaps for one more seat of the team; one more team of the lane.
 * -ENOMEM. */
int order_reserve_seat(struct team *team);
int order_reserve_team(struct policy_lane *lane, uint32_t n_teams);

/* The request enters, or leaves, its seat's queue of class p.rank. */
void order_enter(struct policy_request *request, bool at_head);
void order_leave(struct policy_request *request);

/* The lane's first in order; NULL: none may go. */
struct policy_request *order_first(const struct policy_lane *lane);

/* Fetches what a request will be put behind. */
void order_fetch_end(const struct seat *seat, enum policy_class class);
/* Fetches what the next decision of this lane will look at first. */
void order_fetch(const struct policy_lane *lane);

/* The user's cap or budget was changed: some of its flows may be held, or held
 * no longer. */
void order_user_changed(struct policy_user *user);
/* Lets those back in that time has freed. */
void order_wake_parked(struct policy *policy, uint64_t now_ns);
/* Room for n more flows to be parked.  -ENOMEM. */
int order_reserve_parked(struct policy *policy, uint32_t n);

/*
 * The request is in flight (out of its queue, if it was QUEUED) and its user
 * has received `cost` tokens; it has ended and the cost was this in the end.
 */
void order_start(struct policy_request *request, uint64_t cost);
void order_stop(struct policy_request *request, uint64_t cost);
/* The cost of one that ended before was another than `was`. */
void order_correct(struct seat *seat, enum policy_class class, uint64_t was,
	uint64_t cost);

#endif
