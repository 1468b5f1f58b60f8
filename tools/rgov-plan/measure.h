/*
 * How far each limit is used while somebody waits, and what the queue looked
 * like over time.
 */
#ifndef PLAN_MEASURE_H
#define PLAN_MEASURE_H

#include "tools/rgov-plan/quota.h"

enum measure_limit {
	MEASURE_CONCURRENT,
	MEASURE_REQUESTS,
	MEASURE_TOKENS,
	MEASURE_LIMITS
};

/* The host, or a model that has a block. */
struct measure_scope {
	const char *name; /* NULL: the host */
	struct quota_limits limits;
	struct quota quota;
	uint64_t queued;
	double wanted_s;               /* somebody waited */
	double used_s[MEASURE_LIMITS]; /* share x time, while wanted */
};

struct measure_sample {
	double at_s, queued, running;
	double share[MEASURE_LIMITS]; /* the fullest limit of the kind */
};

struct measure {
	struct measure_scope *scopes; /* the host first */
	size_t n_scopes;
	uint64_t now_ns;
	struct measure_sample *samples;
	size_t n_samples, room;
	uint64_t begin_ns, next_ns, step_ns;
};

/* What an attempt counts in. */
struct measure_ticket {
	uint64_t host, model, reserved;
};

/* room 0: no samples.  0 or -ENOMEM. */
int measure_init(struct measure *measure, size_t n_scopes, uint64_t window_ns,
	uint64_t begin_ns, size_t room);
void measure_fini(struct measure *measure);

/* Time goes on; to be called before anything changes. */
void measure_advance(struct measure *measure, uint64_t now_ns);

/* scope 0: the host alone. */
void measure_queued(struct measure *measure, size_t scope, int change);
int measure_start(struct measure *measure, size_t scope, uint64_t tokens,
	struct measure_ticket *ret_ticket);
void measure_end(struct measure *measure, size_t scope,
	const struct measure_ticket *ticket, uint64_t used);

/* Has the scope this limit?  Its value. */
uint64_t measure_limit(
	const struct measure_scope *scope, enum measure_limit limit);
double measure_use(const struct measure_scope *scope, enum measure_limit limit);

#endif
