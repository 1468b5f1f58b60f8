/*
 * How many tokens were used in the last window, in slots of a 64th of it: what
 * a request reserved at its admission, and what it used once that is known.
 */
#ifndef COORDINATOR_POLICY_METER_H
#define COORDINATOR_POLICY_METER_H

#include <stdbool.h>
#include <stdint.h>

enum { METER_PARTS = 64, METER_SLOTS = METER_PARTS + 1 };

struct meter {
	uint64_t slot_ns;
	uint64_t newest; /* number of a slot: time / slot_ns */
	uint64_t sum;
	uint64_t slots[METER_SLOTS]; /* by number modulo their count */
};

/* Forgets everything where the window is another one. */
void meter_set(struct meter *meter, uint64_t window_ns);
void meter_add(struct meter *meter, uint64_t amount, uint64_t now_ns);
/* Does what was added at at_ns still count? */
bool meter_counts(const struct meter *meter, uint64_t at_ns, uint64_t now_ns);
/* What was added as `amount` at at_ns was `used` in the end. */
void meter_settle(struct meter *meter, uint64_t at_ns, uint64_t amount,
	uint64_t used, uint64_t now_ns);

uint64_t meter_used(struct meter *meter, uint64_t now_ns);
/* Of what there is now, the i-th slot from the oldest on: when it leaves, and
 * what is in it. */
uint64_t meter_leaves(const struct meter *meter, uint32_t i);
uint64_t meter_left(const struct meter *meter, uint32_t i);

#endif
