/*
 * Runs one test under each engine of the loop: ENGINES(f) defines f_epoll and
 * f_io_uring, BOTH(f) lists them.  The test finds its loop in `loop`.
 */
#ifndef TESTS_UNIT_LOOP_ENGINES_H
#define TESTS_UNIT_LOOP_ENGINES_H

#include "coordinator/loop/loop.h"
#include "tests/unit/suite.h"

static struct loop *loop;

static void run_under(enum loop_engine engine, void (*test)(void))
{
	int rc = loop_create(engine, &loop);

	if (rc != 0 && engine == LOOP_IO_URING) {
		suite_skip("io_uring is refused here");
		return;
	}
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	test();
	loop_free(loop);
	loop = NULL;
}

#define ENGINES(test)                                                          \
	static void test##_epoll(void)                                         \
	{                                                                      \
		run_under(LOOP_EPOLL, test);                                   \
	}                                                                      \
	static void test##_io_uring(void)                                      \
	{                                                                      \
		run_under(LOOP_IO_URING, test);                                \
	}
#define BOTH(test) T(test##_epoll), T(test##_io_uring)

#define SECOND_NS UINT64_C(1000000000)
#define MS_NS UINT64_C(1000000)

/* Steps until the condition holds; 10 s without it is a failure. */
#define STEP_UNTIL(condition)                                                  \
	do {                                                                   \
		uint64_t give_up_ns = loop_now_ns() + 10 * SECOND_NS;          \
		while (!(condition) && loop_now_ns() < give_up_ns)             \
			CU_ASSERT_FATAL(loop_step(loop, give_up_ns) >= 0);     \
		CU_ASSERT(condition);                                          \
	} while (0)

/* The same for a condition that comes true elsewhere, where no callback of
 * ours ends the sleep. */
#define STEP_WATCHING(condition)                                               \
	do {                                                                   \
		uint64_t give_up_ns = loop_now_ns() + 10 * SECOND_NS;          \
		while (!(condition) && loop_now_ns() < give_up_ns)             \
			CU_ASSERT_FATAL(                                       \
				loop_step(loop, loop_now_ns() + MS_NS) >= 0);  \
		CU_ASSERT(condition);                                          \
	} while (0)

/*
 * Sleeps until then, in which time nothing may be told.  A sleep may be
 * interrupted, also by the ring of an earlier test, which the kernel tears
 * down in its own time.
 */
#define STEP_IN_SILENCE(until_ns)                                              \
	do {                                                                   \
		uint64_t silent_ns = (until_ns);                               \
		do {                                                           \
			CU_ASSERT_EQUAL(loop_step(loop, silent_ns), 0);        \
		} while (loop_now_ns() < silent_ns);                           \
	} while (0)

#endif
