/*
 * What a lane makes of the provider's acceptances and refusals: a rate of
 * starts and one of tokens.  docs/policy.md, section 6.
 */
#ifndef COORDINATOR_POLICY_ADAPT_H
#define COORDINATOR_POLICY_ADAPT_H

#include "coordinator/policy/meter.h"
#include "coordinator/policy/rate.h"

#include <stdbool.h>
#include <stdint.h>

struct policy_lane;
struct policy_request;
struct window;

enum { ADAPT_REFUSALS = 8 };

struct adapt {
	struct rate starts, tokens;
	struct meter meter;
	uint64_t refused_ns[ADAPT_REFUSALS]; /* starts refused, a ring */
	uint32_t refused;                    /* so many ever */
	uint64_t paced_ns;                   /* nobody starts before */
	uint32_t row; /* refusals heard, with nothing accepted since */
};

/* Limits of 0: nothing adapts. */
void adapt_set(struct adapt *adapt, uint32_t starts, uint64_t tokens,
	uint64_t minute_ns, uint64_t window_ns);

/* When a request may start as far as the adapted rates go: 0 now, else the
 * time; UINT64_MAX: not before a pending start is made. */
uint64_t adapt_wait_starts(
	struct adapt *adapt, struct window *window, uint64_t now_ns);
uint64_t adapt_wait_tokens(
	struct adapt *adapt, uint64_t amount, uint64_t now_ns);

/* One more is admitted, and is in the window and in the meter: nobody follows
 * for a while, at most that long. */
void adapt_admitted(struct policy_lane *lane, uint64_t tokens, uint64_t most_ns,
	uint64_t now_ns);
/* The request's start is about to be stamped. */
void adapt_started(struct policy_lane *lane, struct policy_request *request,
	uint64_t now_ns);
/* The provider has taken it. */
void adapt_accepted(struct adapt *adapt, const struct policy_request *request,
	uint64_t now_ns);
/* It was throttled; is_heard: by the gate. */
void adapt_refused(struct policy_lane *lane,
	const struct policy_request *request, bool is_heard, uint64_t now_ns);

/* What is in force, over the limit: 1 all of it. */
double adapt_part(const struct adapt *adapt, uint64_t now_ns);

#endif
