/*
 * Who starts before a queued request: a look at up to AHEAD_FLOWS users of its
 * lane, then questions of how many have started after a time.
 */
#ifndef COORDINATOR_POLICY_AHEAD_H
#define COORDINATOR_POLICY_AHEAD_H

#include "coordinator/policy/policy.h"

enum { AHEAD_FLOWS = 64 };

/* One user's requests of one class: as many start before it as there are and
 * will be, as its user's limits let through, and as its turn allows. */
struct ahead_flow {
	double queued, rate; /* now, and coming per nanosecond */
	double room, drain;  /* may start now, and per nanosecond */
	double cost;         /* tokens of one */
	double turns;        /* among the request's application */
};

/* One application's of one class. */
struct ahead_group {
	uint32_t first, n;
	double lead; /* tokens: how much more it has received; -INFINITY: its
			class goes first */
};

struct ahead {
	struct ahead_flow flows[AHEAD_FLOWS];
	struct ahead_group groups[AHEAD_FLOWS + 1]; /* from 1; 0: its own */
	uint32_t n_flows, n_groups;
	double scale;    /* for those that were not looked at */
	double own;      /* its own user's before it */
	double own_cost; /* tokens of one of them */
};

void ahead_look(struct ahead *ahead, const struct policy_request *request,
	uint64_t now_ns);
/* How many start before it if it waits that long. */
double ahead_count(const struct ahead *ahead, double wait_ns);
/* How many of other lanes the host starts while its lane starts n. */
double ahead_elsewhere(const struct policy *policy,
	const struct policy_request *request, double n);

#endif
