/*
 * Learned output: what the histogram says, when it is believed, and what it
 * changes: the order's charge, or the reservation, or nothing.
 */
#include "coordinator/policy/learn.h"

#include "coordinator/policy/policy.h"
#include "tests/unit/policy_rig.h"

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void is_at_most_a_quarter_above_the_percentile(void)
{
	uint64_t random = rig_seed(3);

	for (int round = 0; round < 500; round++) {
		uint32_t n = 20 + rig_random(&random, 179), counts[200];
		uint32_t top = 33 + rig_random(&random, 1000000), exact;
		struct learn learn = {0};

		for (uint32_t i = 0; i < n; i++) {
			counts[i] = 32 + rig_random(&random, top);
			learn_count(&learn, counts[i]);
		}
		qsort(counts, n, sizeof(counts[0]), by_value);
		exact = counts[(19 * n + 19) / 20 - 1];
		CU_ASSERT(learn.p95 >= exact);
		CU_ASSERT(learn.p95 <= exact + exact / 4);
	}
}

static void is_not_believed_before_twenty(void)
{
	struct learn learn = {0};

	for (int i = 0; i < 19; i++)
		learn_count(&learn, 100);
	CU_ASSERT_EQUAL(learn.p95, 0);
	learn_count(&learn, 100);
	CU_ASSERT_EQUAL(learn.p95, 111);
}

static void forgets_what_was(void)
{
	struct learn learn = {0};

	for (int i = 0; i < 1000; i++)
		learn_count(&learn, 100000);
	for (int i = 0; i < 1000; i++)
		learn_count(&learn, 100);
	CU_ASSERT_EQUAL(learn.p95, 111);
}

static void takes_any_count(void)
{
	struct learn learn = {0};

	for (int i = 0; i < 40; i++)
		learn_count(&learn, i % 2 ? 0 : UINT64_MAX);
	CU_ASSERT_EQUAL(learn.p95, (1u << 21) - 1);
}

/* ------------------------------------------------------------ in the policy */

struct desk {
	struct policy *policy;
	struct policy_model model;
	struct policy_request request;
	uint64_t now_ns;
};

static struct desk open_desk(enum policy_learned use, double burndown)
{
	struct desk desk = {.now_ns = RIG_S};
	struct policy_config config = rig_config();

	desk.model = (struct policy_model){.pattern = "*",
		.output_burndown = burndown,
		.learned_output = use};
	config.models = &desk.model;
	config.n_models = 1;
	desk.policy = rig_create(&config);
	return desk;
}

static void close_desk(struct desk *desk)
{
	policy_free(desk->policy);
}

static void answer(struct desk *desk, const char *user, int64_t output, int n)
{
	struct policy_usage usage = {10, output, 0, 0};

	for (int i = 0; i < n; i++) {
		desk->request = rig_request(user);
		desk->request.output_tokens = 4096;
		rig_run(desk->policy, &desk->request, desk->now_ns);
		policy_finish(desk->policy, &desk->request, POLICY_DONE, &usage,
			++desk->now_ns);
	}
}

/* What the order charges a new request of that user, and what it reserves. */
static void check_next(
	struct desk *desk, const char *user, double charged, uint64_t reserved)
{
	double before, after;

	desk->request = rig_request(user);
	desk->request.output_tokens = 4096;
	(void)rig_enqueue(desk->policy, &desk->request, desk->now_ns);
	before = rig_user(desk->policy, user).service;
	CU_ASSERT_PTR_EQUAL(
		rig_admit(desk->policy, desk->now_ns), &desk->request);
	after = rig_user(desk->policy, user).service;
	CU_ASSERT_EQUAL(after - before, charged);
	CU_ASSERT_EQUAL(policy_reserved(&desk->request), reserved);
	policy_finish(desk->policy, &desk->request, POLICY_UNUSED, NULL,
		++desk->now_ns);
}

static void charges_the_order_what_was_learned(void)
{
	struct desk desk = open_desk(POLICY_LEARN_ORDER, 0);

	answer(&desk, "a", 100, 19);
	check_next(&desk, "a", 4106, 4106);
	answer(&desk, "a", 100, 1);
	check_next(&desk, "a", 10 + 111, 4106);
	close_desk(&desk);
}

static void reserves_it_where_it_is_told_to(void)
{
	struct desk desk = open_desk(POLICY_LEARN_RESERVE, 0);

	answer(&desk, "a", 100, 20);
	check_next(&desk, "a", 10 + 111, 10 + 111);
	close_desk(&desk);
}

static void leaves_it_alone_where_it_is_told_to(void)
{
	struct desk desk = open_desk(POLICY_LEARN_NOTHING, 0);

	answer(&desk, "a", 100, 20);
	check_next(&desk, "a", 4106, 4106);
	close_desk(&desk);
}

static void burns_down_but_never_above_the_reservation(void)
{
	struct desk desk = open_desk(POLICY_LEARN_ORDER, 5);

	answer(&desk, "a", 100, 20);
	check_next(&desk, "a", 10 + 555, 4106);
	answer(&desk, "a", 3000, 100);
	check_next(&desk, "a", 4106, 4106);
	close_desk(&desk);
}

static void knows_users_apart_and_the_lane_for_newcomers(void)
{
	struct desk desk = open_desk(POLICY_LEARN_ORDER, 0);

	answer(&desk, "a", 100, 30);
	answer(&desk, "b", 1000, 30);
	check_next(&desk, "a", 10 + 111, 4106);
	check_next(&desk, "b", 10 + 1023, 4106);
	check_next(&desk, "c", 10 + 1023, 4106);
	CU_ASSERT_EQUAL(
		rig_lane(desk.policy, "m", desk.now_ns).learned_output, 1023);
	CU_ASSERT_EQUAL(rig_user(desk.policy, "a").learned_output, 111);
	CU_ASSERT_EQUAL(rig_user(desk.policy, "c").learned_output, 0);
	close_desk(&desk);
}

static void learns_nothing_from_what_cannot_be(void)
{
	struct desk desk = open_desk(POLICY_LEARN_ORDER, 0);

	answer(&desk, "a", -1, 30);
	answer(&desk, "a", (INT64_C(1) << 53) + 1, 30);
	check_next(&desk, "a", 4106, 4106);
	close_desk(&desk);
}

SUITE("policy: learned output", T(is_at_most_a_quarter_above_the_percentile),
	T(is_not_believed_before_twenty), T(forgets_what_was),
	T(takes_any_count), T(charges_the_order_what_was_learned),
	T(reserves_it_where_it_is_told_to),
	T(leaves_it_alone_where_it_is_told_to),
	T(burns_down_but_never_above_the_reservation),
	T(knows_users_apart_and_the_lane_for_newcomers),
	T(learns_nothing_from_what_cannot_be))
