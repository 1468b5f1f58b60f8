/* The loop's timers: order, moving, clearing, precision, under both engines. */
#include "tests/unit/loop_engines.h"

#include <sys/socket.h>

static int order[4096];
static int expired_count;

struct numbered {
	struct loop_timer timer;
	int number;
	uint64_t again_ns; /* set itself to that, in the callback; 0: no */
	struct numbered *clear, *set;
};

static void on_expired(struct loop_timer *timer, uint64_t now_ns)
{
	struct numbered *mine = timer->owner;

	CU_ASSERT(timer->at_ns <= now_ns);
	CU_ASSERT_EQUAL(timer->place, 0);
	order[expired_count++ % 4096] = mine->number;
	if (mine->clear != NULL)
		loop_timer_clear(loop, &mine->clear->timer);
	if (mine->set != NULL)
		loop_timer_set(
			loop, &mine->set->timer, 1, on_expired, mine->set);
	if (mine->again_ns != 0)
		loop_timer_set(loop, timer, mine->again_ns, on_expired, mine);
}

static void set(struct numbered *timer, uint64_t at_ns)
{
	CU_ASSERT_EQUAL(
		loop_timer_set(loop, &timer->timer, at_ns, on_expired, timer),
		0);
}

static uint64_t soon(void)
{
	expired_count = 0;
	return loop_now_ns();
}

/* Timers run in the order of their times, however they were set. */
static void runs_in_order(void)
{
	enum { MANY = 1000 };
	static struct numbered timers[MANY];
	uint64_t base_ns = soon() - SECOND_NS;

	for (int i = 0; i < MANY; i++) {
		int number = i * 617 % MANY; /* a permutation */

		timers[i] = (struct numbered){.number = number};
		set(&timers[i], base_ns + (uint64_t)number);
	}
	CU_ASSERT_EQUAL(loop_step(loop, 0), MANY);
	CU_ASSERT_EQUAL_FATAL(expired_count, MANY);
	for (int i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(order[i], i);
}
ENGINES(runs_in_order)

/* Moving and clearing at any place of the heap keeps the order. */
static void moves_and_clears(void)
{
	enum { MANY = 500 };
	static struct numbered timers[MANY];
	uint64_t base_ns = soon() - SECOND_NS;
	int last = -1, expected = 0;

	for (int i = 0; i < MANY; i++) {
		timers[i] = (struct numbered){.number = i};
		set(&timers[i], base_ns + (uint64_t)(i * 389 % MANY) * 1000);
	}
	for (int i = 0; i < MANY; i++) {
		if (i % 3 == 0) {
			loop_timer_clear(loop, &timers[i].timer);
			loop_timer_clear(loop, &timers[i].timer);
		} else {
			set(&timers[i], base_ns + (uint64_t)i);
			expected++;
		}
	}
	CU_ASSERT_EQUAL(loop_step(loop, 0), expected);
	for (int i = 0; i < expected; i++) {
		CU_ASSERT(order[i] > last);
		CU_ASSERT_NOT_EQUAL(order[i] % 3, 0);
		last = order[i];
	}
}
ENGINES(moves_and_clears)

/* A sleep ends at its timer, not before it. */
static void ends_the_sleep(void)
{
	struct numbered timer = {0};
	uint64_t at_ns = soon() + 3 * MS_NS + 217000;

	set(&timer, at_ns);
	STEP_UNTIL(expired_count == 1);
	CU_ASSERT(loop_now_ns() >= at_ns);
}
ENGINES(ends_the_sleep)

/* Without timers the sleep ends at until_ns, neither earlier nor with a call.
 */
static void sleeps_until(void)
{
	uint64_t until_ns = soon() + 3 * MS_NS + 217000;
	struct numbered timer = {0};

	set(&timer, until_ns + 3600 * SECOND_NS);
	STEP_IN_SILENCE(until_ns);
	CU_ASSERT_EQUAL(loop_step(loop, 1), 0); /* long past: no sleep */
	CU_ASSERT_EQUAL(expired_count, 0);
	loop_timer_clear(loop, &timer.timer);
}
ENGINES(sleeps_until)

/* A timer that sets itself to a time past runs once a step. */
static void does_not_starve(void)
{
	struct numbered greedy = {.number = 1, .again_ns = 1};
	struct numbered other = {.number = 2};

	soon();
	set(&greedy, 1);
	set(&other, 2);
	CU_ASSERT_EQUAL(loop_step(loop, 0), 2);
	CU_ASSERT_EQUAL(order[0], 1);
	CU_ASSERT_EQUAL(order[1], 2);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	loop_timer_clear(loop, &greedy.timer);
	CU_ASSERT_EQUAL(loop_step(loop, 0), 0);
}
ENGINES(does_not_starve)

/* A callback may clear a timer that is due in the same step. */
static void clears_a_neighbour(void)
{
	struct numbered second = {.number = 2}, third = {.number = 3};
	struct numbered first = {.number = 1, .clear = &second, .set = &third};

	soon();
	set(&first, 1);
	set(&second, 2);
	CU_ASSERT_EQUAL(loop_step(loop, 0), 1);
	CU_ASSERT_EQUAL(order[0], 1);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(order[1], 3);
	CU_ASSERT_EQUAL(expired_count, 2);
}
ENGINES(clears_a_neighbour)

static int bytes_first;

static void on_byte(struct loop_watch *watch, unsigned int events)
{
	(void)events;
	bytes_first = expired_count == 0;
	loop_unwatch(loop, watch);
}

/* What is readable is told before a timer that is due in the same step. */
static void descriptors_first(void)
{
	struct loop_watch watch = {0};
	struct numbered timer = {0};
	int pair[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	CU_ASSERT_EQUAL(write(pair[1], "x", 1), 1);
	CU_ASSERT_EQUAL(
		loop_watch(loop, &watch, pair[0], LOOP_READ, on_byte, NULL), 0);
	soon();
	set(&timer, 1);
	bytes_first = 0;
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 2);
	CU_ASSERT(bytes_first);
	close(pair[0]);
	close(pair[1]);
}
ENGINES(descriptors_first)

SUITE("loop_timer", BOTH(runs_in_order), BOTH(moves_and_clears),
	BOTH(ends_the_sleep), BOTH(sleeps_until), BOTH(does_not_starve),
	BOTH(clears_a_neighbour), BOTH(descriptors_first))
