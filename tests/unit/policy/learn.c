/* Learned output: docs/policy.md, section 7. */
#include "tests/unit/policy/reference.h"

enum { MOST = 200, LEAST = 20 };

/* U(b) */
static uint64_t upper_end(int b)
{
	uint64_t end = (uint64_t)(b % 4 + 5);

	for (int i = 0; i < b / 4 + 3; i++)
		end *= 2;
	return end - 1;
}

void ref_count_output(struct ref_histogram *histogram, uint64_t tokens)
{
	uint32_t n = 0;
	int b = 0;

	while (b < REF_BUCKETS - 1 && tokens > upper_end(b))
		b++;
	histogram->counts[b]++;
	for (int i = 0; i < REF_BUCKETS; i++)
		n += histogram->counts[i];
	for (int i = 0; n == MOST && i < REF_BUCKETS; i++)
		histogram->counts[i] /= 2;
}

uint64_t ref_learned(const struct ref_histogram *histogram)
{
	uint32_t n = 0, below = 0;

	for (int i = 0; i < REF_BUCKETS; i++)
		n += histogram->counts[i];
	if (n < LEAST)
		return 0;
	for (int i = 0; i < REF_BUCKETS; i++) {
		below += histogram->counts[i];
		if (20 * below >= 19 * n)
			return upper_end(i);
	}
	return 0;
}
