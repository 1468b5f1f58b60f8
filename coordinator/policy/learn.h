/*
 * How much output answers really have: the 95th percentile of the latest
 * counts, in buckets of a quarter of a power of two.  All zero is empty.
 */
#ifndef COORDINATOR_POLICY_LEARN_H
#define COORDINATOR_POLICY_LEARN_H

#include <stdint.h>

enum {
	LEARN_BUCKETS = 64,
	LEARN_LEAST = 20, /* counts before it is believed */
	LEARN_MOST = 200, /* then each counts half */
};

struct learn {
	uint32_t p95; /* 0: not known yet */
	uint8_t n;
	uint8_t counts[LEARN_BUCKETS];
};

void learn_count(struct learn *learn, uint64_t output_tokens);

#endif
