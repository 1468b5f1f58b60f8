/* Seeded chance, as pure functions. */
#include "tools/bedrock-sim/dice.h"

#include <math.h>

/* The finaliser of splitmix64: every bit of the input changes half the output.
 */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t draw(uint64_t seed, uint64_t purpose, uint64_t number)
{
	return mix(mix(mix(seed) ^ purpose) ^ number);
}

double dice_fraction(uint64_t seed, uint64_t purpose, uint64_t number)
{
	/* 52 bits and a half: k + 0.5 is exact in a double. */
	return ((double)(draw(seed, purpose, number) >> 12) + 0.5) * 0x1p-52;
}

uint64_t dice_between(uint64_t seed, uint64_t purpose, uint64_t number,
	uint64_t low, uint64_t high)
{
	double span = (double)(high - low) + 1.0;
	uint64_t offset =
		(uint64_t)(dice_fraction(seed, purpose, number) * span);

	return low + (offset > high - low ? high - low : offset);
}

/* Standard normal, by Box and Muller; one of the pair is enough. */
static double normal(uint64_t seed, uint64_t number)
{
	double u = dice_fraction(seed, DICE_LATENCY, number);
	double v = dice_fraction(seed, DICE_LATENCY + 8, number);

	return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

static double unbounded(
	const struct latency *latency, uint64_t seed, uint64_t number)
{
	double u = dice_fraction(seed, DICE_LATENCY, number);

	switch (latency->kind) {
	case LATENCY_FIXED:
		return latency->a;
	case LATENCY_UNIFORM:
		return latency->a + (latency->b - latency->a) * u;
	case LATENCY_EXP:
		return -latency->a * log(u);
	case LATENCY_LOGNORMAL:
		return latency->a * exp(latency->b * normal(seed, number));
	}
	return 0.0;
}

double dice_latency_s(
	const struct latency *latency, uint64_t seed, uint64_t number)
{
	return fmin(unbounded(latency, seed, number), DICE_MOST_SECONDS);
}
