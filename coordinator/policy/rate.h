/*
 * A rate that finds the provider's quota: the configured limit, or less when
 * the provider refuses.  docs/policy.md, section 6, is the rule; the reasons
 * are in docs/decisions/policy-adaptive.md.  Of starts or of tokens; it only
 * says how many may lie in one minute.
 */
#ifndef COORDINATOR_POLICY_RATE_H
#define COORDINATOR_POLICY_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate {
	uint64_t limit; /* the configured one; 0: none, and nothing adapts */
	uint64_t minute_ns;
	uint64_t base; /* in force until from_ns; then it climbs */
	uint64_t from_ns;
	uint64_t proven;   /* so much was accepted in a minute */
	uint64_t restore;  /* measured: what was in force before */
	uint32_t patience; /* minutes, before one more than measured is tried */
	uint64_t moody_until_ns; /* it was refused by chance before */
	bool is_doubted;  /* the last refusal contradicts what was accepted */
	bool is_measured; /* base is what the provider refused to exceed */
};

/* Starts anew where the limit or the minute is another one. */
void rate_set(struct rate *rate, uint64_t limit, uint64_t minute_ns);

/* How many may lie in one minute. */
uint64_t rate_now(const struct rate *rate, uint64_t now_ns);
/* When it is that many; UINT64_MAX: never by itself. */
uint64_t rate_when(const struct rate *rate, uint64_t level);

/* Accepted: then there were `reached` in the minute. */
void rate_accepted(struct rate *rate, uint64_t reached, uint64_t now_ns);
/* Refused on top of `used`; `row` refusals before it with nothing accepted in
 * between. */
void rate_refused(struct rate *rate, uint64_t used, uint64_t reached,
	uint32_t row, uint64_t now_ns);

#endif
