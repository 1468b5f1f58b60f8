/* The histogram. */
#include "coordinator/policy/learn.h"

enum { FIRST = 5, LAST = 20 }; /* powers of two that have buckets */

static uint32_t bucket_of(uint64_t tokens)
{
	uint32_t power;

	if (tokens < 1u << FIRST)
		return 0;
	if (tokens >> (LAST + 1) != 0)
		return LEARN_BUCKETS - 1;
	power = 63 - (uint32_t)__builtin_clzll(tokens);
	return 4 * (power - FIRST) + (uint32_t)(tokens >> (power - 2) & 3);
}

static uint32_t upper_end(uint32_t bucket)
{
	return ((bucket % 4 + 5) << (bucket / 4 + 3)) - 1;
}

static void forget_half(struct learn *learn)
{
	learn->n = 0;
	for (int i = 0; i < LEARN_BUCKETS; i++) {
		learn->counts[i] /= 2;
		learn->n += learn->counts[i];
	}
}

static uint32_t percentile_95(const struct learn *learn)
{
	uint32_t sum = learn->counts[0], bucket = 0;

	while (20 * sum < 19u * learn->n)
		sum += learn->counts[++bucket];
	return upper_end(bucket);
}

void learn_count(struct learn *learn, uint64_t output_tokens)
{
	learn->counts[bucket_of(output_tokens)]++;
	learn->n++;
	if (learn->n == LEARN_MOST)
		forget_half(learn);
	learn->p95 = learn->n < LEARN_LEAST ? 0 : percentile_95(learn);
}
