/*
 * A hostile client of a real rgovd: it registers as the wire asks, then does
 * with what it was given whatever it likes.  What it likes is the programs'
 * affair; here is how it gets in, and the values that hurt most.
 */
#ifndef FAULT_INTRUDER_H
#define FAULT_INTRUDER_H

#include "tests/unit/raw_wire.h"

#include <stdbool.h>
#include <stdint.h>

/* xorshift64*: the same seed, the same attack. */
struct dice {
	uint64_t state;
};

uint64_t dice_roll(struct dice *dice);
/* 0 to n - 1 */
uint64_t dice_below(struct dice *dice, uint64_t n);
/* A value that breaks arithmetic (0, 1, all ones, sign bits, sizes of the
 * layout and their neighbours), or any. */
uint64_t dice_edge(struct dice *dice);

/*
 * A served session of so many slots; 0, or -ECONNREFUSED: rgovd refused, or
 * hung up, within 10 s; -ENOENT: it cannot be reached.
 */
int intruder_open(const char *path, uint32_t slots, struct raw *ret_raw);

/* How it is with the socket: the bells in it are taken. */
bool intruder_is_out(const struct raw *raw);

uint64_t intruder_now_ns(void);

#endif
