/* The token bucket and the total of the day. */
#include "coordinator/policy/tokens.h"

#include "tests/unit/policy_rig.h"

#define MINUTE (60 * RIG_S)

static struct tokens create(uint64_t limit, uint64_t day_limit)
{
	struct tokens tokens = {0};

	tokens_set(&tokens, limit, day_limit, MINUTE, 0);
	return tokens;
}

/* The capacity is one minute's limit: all of it at once, and never more. */
static void holds_one_minute_and_no_more(void)
{
	struct tokens tokens = create(600, 0);

	CU_ASSERT_EQUAL(tokens_wait(&tokens, 600, 0), 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 100 * MINUTE), 600);
	tokens_reserve(&tokens, 600, 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 0), 0);
}

/* The refill is continuous, and the time foretold is exact. */
static void refills_by_the_nanosecond(void)
{
	struct tokens tokens = create(600, 0); /* ten a second */

	tokens_reserve(&tokens, 600, 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 1, 0), RIG_S / 10);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 1, RIG_S / 10 - 1), RIG_S / 10);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 1, RIG_S / 10), 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 30 * RIG_S), 300);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 600, 0), MINUTE);
}

/* At the time foretold it fits, one nanosecond before it does not, and asking
 * often neither loses nor makes tokens. */
static void foretells_exactly(void)
{
	uint64_t random = rig_seed(5);

	for (int round = 0; round < 300; round++) {
		uint64_t limit = 1 + rig_random(&random, 2000000);
		struct tokens tokens = create(limit, 0);
		uint64_t now_ns = rig_random(&random, 1000), need, then_ns;
		uint64_t taken = 0;

		for (int i = 0; i < 20; i++) {
			need = 1 + rig_random(&random, (uint32_t)limit);
			while (rig_random(&random, 4))
				(void)tokens_wait(&tokens, need, now_ns += 777);
			then_ns = tokens_wait(&tokens, need, now_ns);
			if (then_ns != 0) {
				CU_ASSERT(then_ns > now_ns);
				CU_ASSERT(tokens_wait(&tokens, need,
						  then_ns - 1) != 0);
				now_ns = then_ns;
			}
			CU_ASSERT_EQUAL(tokens_wait(&tokens, need, now_ns), 0);
			tokens_reserve(&tokens, need, now_ns);
			taken += need;
		}
		CU_ASSERT((double)taken <=
			  (double)limit + (double)limit * (double)now_ns /
						  (double)MINUTE);
	}
}

/* What was not used comes back, an excess becomes debt, and debt is paid off by
 * the refill before anything is admitted. */
static void settles_both_ways(void)
{
	static const struct {
		uint64_t reserved, used;
		int64_t left;
	} cases[] = {{400, 400, 200}, {400, 0, 600}, {400, 100, 500},
		{600, 1500, -900}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tokens tokens = create(600, 0);

		tokens_reserve(&tokens, cases[i].reserved, 0);
		tokens_settle(&tokens, cases[i].reserved, cases[i].used, 0, 0);
		CU_ASSERT_EQUAL(tokens_available(&tokens, 0), cases[i].left);
		CU_ASSERT_EQUAL(tokens.reserved, 0);
		if (cases[i].left < 0)
			CU_ASSERT_EQUAL(
				tokens_wait(&tokens, 1, 0), 901 * RIG_S / 10);
	}
}

/* Tokens returned into a bucket that has filled up meanwhile do not overflow.
 */
static void a_return_never_overfills(void)
{
	struct tokens tokens = create(600, 0);

	tokens_reserve(&tokens, 500, 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, MINUTE), 600);
	tokens_settle(&tokens, 500, 0, 0, MINUTE);
	CU_ASSERT_EQUAL(tokens_available(&tokens, MINUTE), 600);
}

/* What is larger than the whole bucket goes when the bucket is full. */
static void an_oversized_one_waits_for_a_full_bucket(void)
{
	struct tokens tokens = create(600, 0);

	tokens_reserve(&tokens, 10, 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 5000, 0), RIG_S);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 5000, RIG_S), 0);
	tokens_reserve(&tokens, 5000, RIG_S);
	CU_ASSERT_EQUAL(tokens_available(&tokens, RIG_S), 600 - 5000);
}

/* The day's total refuses until the day of the given clock turns. */
static void the_day_turns(void)
{
	uint64_t noon_ns = TOKENS_DAY_NS / 2;
	struct tokens tokens = create(0, 1000);

	CU_ASSERT_EQUAL(tokens_wait(&tokens, 1000, noon_ns), 0);
	tokens_reserve(&tokens, 900, noon_ns);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 100, noon_ns), 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 101, noon_ns), TOKENS_DAY_NS);
	CU_ASSERT_EQUAL(
		tokens_wait(&tokens, 101, TOKENS_DAY_NS - 1), TOKENS_DAY_NS);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 101, TOKENS_DAY_NS), 0);
	/* Yesterday's reservation ends today: it was yesterday's. */
	tokens_settle(&tokens, 900, 100, 0, TOKENS_DAY_NS);
	CU_ASSERT_EQUAL(tokens_used_today(&tokens, TOKENS_DAY_NS), 0);
}

/* A day's return the same day is free again. */
static void a_return_counts_for_the_day(void)
{
	struct tokens tokens = create(0, 1000);

	tokens_reserve(&tokens, 900, 0);
	tokens_settle(&tokens, 900, 100, 0, 1);
	CU_ASSERT_EQUAL(tokens_used_today(&tokens, 1), 100);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 900, 1), 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 901, 1), TOKENS_DAY_NS);
}

/* A limit set while requests run starts full less what they hold; a lowered one
 * caps the level; limit 0 is none. */
static void limits_may_change(void)
{
	struct tokens tokens = create(0, 0);

	tokens_reserve(&tokens, 250, 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, TOKENS_MAX, 0), 0);
	tokens_set(&tokens, 600, 0, MINUTE, 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 0), 350);
	tokens_settle(&tokens, 250, 50, 0, 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 0), 550);
	tokens_set(&tokens, 100, 0, MINUTE, 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 0), 100);
	tokens_set(&tokens, 0, 0, MINUTE, 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, 5000, 0), 0);
	CU_ASSERT_EQUAL(tokens_available(&tokens, 0), 0);
}

/* Limits and times at the ends of their range neither overflow nor divide by 0.
 */
static void extremes_are_harmless(void)
{
	struct tokens tokens = create(UINT64_MAX / 4, 0);

	for (int i = 0; i < 50; i++)
		tokens_reserve(&tokens, TOKENS_MAX, 0);
	CU_ASSERT_EQUAL(tokens_wait(&tokens, TOKENS_MAX, UINT64_MAX / 2), 0);
	tokens = create(1, 0);
	tokens_reserve(&tokens, TOKENS_MAX, 0);
	CU_ASSERT(tokens_wait(&tokens, 1, 0) > MINUTE);
	CU_ASSERT(tokens_available(&tokens, UINT64_MAX) > -(int64_t)TOKENS_MAX);
}

SUITE("policy_tokens", T(holds_one_minute_and_no_more),
	T(refills_by_the_nanosecond), T(foretells_exactly),
	T(settles_both_ways), T(a_return_never_overfills),
	T(an_oversized_one_waits_for_a_full_bucket), T(the_day_turns),
	T(a_return_counts_for_the_day), T(limits_may_change),
	T(extremes_are_harmless))
