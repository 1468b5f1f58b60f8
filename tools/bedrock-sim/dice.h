/*
 * Seeded chance: how long a call takes, how much it answers, whether a fault
 * strikes.  Every draw is a pure function of (seed, purpose, number), so a run
 * can be repeated and the order of threads does not matter.
 */
#ifndef SIM_DICE_H
#define SIM_DICE_H

#include <stdint.h>

enum { DICE_LATENCY = 1, DICE_OUTPUT = 2, DICE_FAULT = 16 };
enum { DICE_MOST_SECONDS = 3600 };

enum latency_kind {
	LATENCY_FIXED,
	LATENCY_UNIFORM,
	LATENCY_EXP,
	LATENCY_LOGNORMAL,
};

struct latency {
	enum latency_kind kind;
	/* fixed: seconds; uniform: from, to; exp: mean; lognormal: median,
	 * sigma (of the logarithm, no unit) */
	double a, b;
};

/* Uniform in (0, 1): never either end, so that its logarithm is finite. */
double dice_fraction(uint64_t seed, uint64_t purpose, uint64_t number);
/* Uniform in [low, high], both included. */
uint64_t dice_between(uint64_t seed, uint64_t purpose, uint64_t number,
	uint64_t low, uint64_t high);
/* Seconds, from 0 to DICE_MOST_SECONDS. */
double dice_latency_s(
	const struct latency *latency, uint64_t seed, uint64_t number);

#endif
