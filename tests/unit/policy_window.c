/* The sliding window, by its edges. */
#include "coordinator/policy/window.h"

#include "tests/unit/policy_rig.h"

#define SPAN (61 * RIG_S)

static struct window create(uint32_t limit)
{
	struct window window;

	CU_ASSERT_EQUAL_FATAL(window_init(&window, limit, SPAN), 0);
	return window;
}

static void start(struct window *window, uint64_t now_ns)
{
	CU_ASSERT_EQUAL(window_reserve(window), 0);
	window_hold(window);
	window_start(window, now_ns);
}

/* A start counts until exactly minute plus guard after it, not one ns less. */
static void a_start_leaves_at_its_edge(void)
{
	static const struct {
		uint64_t asked_ns, wait_ns;
	} cases[] = {
		{5 * RIG_S, 5 * RIG_S + SPAN},
		{5 * RIG_S + 1, 5 * RIG_S + SPAN},
		{5 * RIG_S + 60 * RIG_S, 5 * RIG_S + SPAN},
		{5 * RIG_S + SPAN - 1, 5 * RIG_S + SPAN},
		{5 * RIG_S + SPAN, 0},
		{5 * RIG_S + SPAN + 1, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct window window = create(1);

		start(&window, 5 * RIG_S);
		CU_ASSERT_EQUAL(window_count(&window, cases[i].asked_ns),
			cases[i].wait_ns != 0);
		CU_ASSERT_EQUAL(window_wait(&window, cases[i].asked_ns),
			cases[i].wait_ns);
		window_fini(&window);
	}
}

/* A pending start has no end that can be foretold; stamped, it counts from its
 * stamp and not from its admission. */
static void a_pending_start_counts_as_now(void)
{
	struct window window = create(1);

	window_hold(&window);
	CU_ASSERT_EQUAL(window_wait(&window, 0), RIG_NEVER);
	CU_ASSERT_EQUAL(window_wait(&window, 10 * SPAN), RIG_NEVER);
	CU_ASSERT_EQUAL(window_count(&window, 10 * SPAN), 1);
	window_start(&window, 20 * SPAN);
	CU_ASSERT_EQUAL(window_wait(&window, 20 * SPAN), 21 * SPAN);
	CU_ASSERT_EQUAL(window_wait(&window, 21 * SPAN), 0);
	window_fini(&window);
}

/* A pending start that is given back leaves nothing. */
static void given_back_is_as_never_held(void)
{
	struct window window = create(1);

	window_hold(&window);
	window_give_back(&window);
	CU_ASSERT_EQUAL(window_wait(&window, 0), 0);
	CU_ASSERT_EQUAL(window_count(&window, 0), 0);
	CU_ASSERT_EQUAL(window.peak, 1);
	window_fini(&window);
}

/* With pending and stamped starts mixed the right stamp is waited for. */
static void waits_for_the_stamp_that_makes_room(void)
{
	struct window window = create(3);

	start(&window, 1 * RIG_S);
	start(&window, 2 * RIG_S);
	window_hold(&window);
	CU_ASSERT_EQUAL(window_wait(&window, 3 * RIG_S), 1 * RIG_S + SPAN);
	window_hold(&window); /* one more than the limit, as after a restart */
	CU_ASSERT_EQUAL(window_wait(&window, 3 * RIG_S), 2 * RIG_S + SPAN);
	window_hold(&window);
	CU_ASSERT_EQUAL(window_wait(&window, 3 * RIG_S), RIG_NEVER);
	window_fini(&window);
}

/* A lowered limit forgets no start; a raised one frees at once. */
static void a_changed_limit_keeps_the_stamps(void)
{
	struct window window = create(5);

	for (uint64_t s = 0; s < 5; s++)
		start(&window, s * RIG_S);
	window_set(&window, 2, SPAN, false);
	CU_ASSERT_EQUAL(window_wait(&window, 5 * RIG_S), 3 * RIG_S + SPAN);
	CU_ASSERT_EQUAL(window_count(&window, 5 * RIG_S), 5);
	window_set(&window, 6, SPAN, false);
	CU_ASSERT_EQUAL(window_wait(&window, 5 * RIG_S), 0);
	window_fini(&window);
}

/* Limit 0 is no limit, but the starts are known to a limit that comes later. */
static void no_limit_remembers_for_a_later_one(void)
{
	struct window window = create(0);
	uint64_t i;

	for (i = 0; i < WINDOW_KEEP + 100; i++) {
		CU_ASSERT_EQUAL(window_wait(&window, i), 0);
		start(&window, i);
	}
	CU_ASSERT_EQUAL(window.count, WINDOW_KEEP);
	window_set(&window, 10, SPAN, false);
	CU_ASSERT_EQUAL(window_wait(&window, i), i - 10 + SPAN);
	window_set(&window, WINDOW_KEEP, SPAN, false);
	CU_ASSERT_EQUAL(window_wait(&window, i), i - WINDOW_KEEP + SPAN);
	window_fini(&window);
}

/* Starts restored in any order end in order; old ones are not taken, future
 * ones count from now. */
static void restores_in_any_order(void)
{
	static const uint64_t stamps[] = {90, 70, 95, 70, 200, 10, 80, 39};
	struct window window = create(100);

	for (size_t i = 0; i < sizeof(stamps) / sizeof(stamps[0]); i++)
		CU_ASSERT_EQUAL(
			window_restore(&window, stamps[i] * RIG_S, 100 * RIG_S),
			0);
	CU_ASSERT_EQUAL(window_count(&window, 100 * RIG_S), 6);
	for (uint32_t i = 1; i < window.count; i++)
		CU_ASSERT(window.stamps[i - 1] <= window.stamps[i]);
	CU_ASSERT_EQUAL(window.stamps[5], 100 * RIG_S);
	window_fini(&window);
}

/* A window restored as full has no room until its time, then all. */
static void full_until_its_time(void)
{
	struct window window = create(3);

	window.full_until_ns = 7 * RIG_S;
	CU_ASSERT_EQUAL(window_wait(&window, 7 * RIG_S - 1), 7 * RIG_S);
	CU_ASSERT_EQUAL(window_count(&window, 7 * RIG_S - 1), 3);
	CU_ASSERT_EQUAL(window_wait(&window, 7 * RIG_S), 0);
	CU_ASSERT_EQUAL(window_count(&window, 7 * RIG_S), 0);
	window_set(&window, 0, SPAN, false);
	CU_ASSERT_EQUAL(window_wait(&window, 0), 0);
	window_fini(&window);
}

/* A caller whose clock was read too early cannot put the stamps out of order.
 */
static void stamps_never_decrease(void)
{
	struct window window = create(2);

	start(&window, 9 * RIG_S);
	start(&window, 8 * RIG_S);
	CU_ASSERT_EQUAL(window_wait(&window, 10 * RIG_S), 9 * RIG_S + SPAN);
	CU_ASSERT_EQUAL(window_count(&window, 9 * RIG_S + SPAN - 1), 2);
	CU_ASSERT_EQUAL(window_wait(&window, 9 * RIG_S + SPAN), 0);
	window_fini(&window);
}

enum { RANDOM_STARTS = 3000 };

/* For any limit and any times, it says what counting the log says, through all
 * growth and wrapping of the ring. */
static void agrees_with_counting(void)
{
	static uint64_t log[RANDOM_STARTS];
	uint64_t random = rig_seed(11), now_ns = 0;

	for (int round = 0; round < 20; round++) {
		uint32_t limit = 1 + rig_random(&random, 300), n = 0;
		struct window window = create(limit);

		while (n < RANDOM_STARTS / 10) {
			uint32_t count = 0;

			now_ns += rig_random(&random, 1000) * RIG_MS;
			for (uint32_t i = 0; i < n; i++)
				count += log[i] + SPAN > now_ns;
			CU_ASSERT_EQUAL(window_count(&window, now_ns), count);
			if (window_wait(&window, now_ns) != 0) {
				CU_ASSERT_EQUAL(count, limit);
				now_ns = window_wait(&window, now_ns);
			}
			CU_ASSERT_EQUAL(window_wait(&window, now_ns), 0);
			start(&window, now_ns);
			log[n++] = now_ns;
		}
		window_fini(&window);
	}
}

SUITE("policy_window", T(a_start_leaves_at_its_edge),
	T(a_pending_start_counts_as_now), T(given_back_is_as_never_held),
	T(waits_for_the_stamp_that_makes_room),
	T(a_changed_limit_keeps_the_stamps),
	T(no_limit_remembers_for_a_later_one), T(restores_in_any_order),
	T(full_until_its_time), T(stamps_never_decrease),
	T(agrees_with_counting))
