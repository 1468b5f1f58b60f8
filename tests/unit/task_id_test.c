/* Names of tasks, over clocks that stand still or go back, threads and forks.
 */
#include "client-lib/rgov.h"
#include "client-lib/task.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MANY = 10000, THREADS = 8, OF_EACH = 2000 };

/* What the library sees of the clock; 0: the real one. */
static uint64_t fake_ms;

int __real_clock_gettime(clockid_t clock, struct timespec *ret_now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
	if (clock != CLOCK_REALTIME || fake_ms == 0)
		return __real_clock_gettime(clock, ret_now);
	ret_now->tv_sec = (time_t)(fake_ms / 1000);
	ret_now->tv_nsec = (long)(fake_ms % 1000 * 1000000);
	return 0;
}

static struct rgov_task_id make(void)
{
	struct rgov_task_id id;

	CU_ASSERT_EQUAL_FATAL(task_id_make(id.bytes), 0);
	return id;
}

static uint64_t ms_of(const struct rgov_task_id *id)
{
	uint64_t ms = 0;

	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id->bytes[i];
	return ms;
}

static uint64_t real_ms(void)
{
	struct timespec now;

	(void)__real_clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct rgov_task_id));
}

static bool are_unique(struct rgov_task_id *ids, size_t n)
{
	qsort(ids, n, sizeof(*ids), compare);
	for (size_t i = 1; i < n; i++)
		if (compare(&ids[i - 1], &ids[i]) == 0)
			return false;
	return true;
}

/* So many, each later than the one before. */
static bool are_in_order(int n)
{
	struct rgov_task_id last = make();

	for (int i = 0; i < n; i++) {
		struct rgov_task_id id = make();

		if (compare(&last, &id) >= 0)
			return false;
		last = id;
	}
	return true;
}

/* ------------------------------------------------------------ making */

/* RFC 9562: 48 bits of time, version 7, variant 10. */
static void is_a_uuid_of_version_7(void)
{
	for (int i = 0; i < MANY; i++) {
		uint64_t before = real_ms();
		struct rgov_task_id id = make();

		CU_ASSERT_EQUAL(id.bytes[6] >> 4, 7);
		CU_ASSERT_EQUAL(id.bytes[8] >> 6, 2);
		/* Ahead of the clock by what was counted at most. */
		CU_ASSERT(ms_of(&id) >= before);
		CU_ASSERT(ms_of(&id) <= real_ms() + 100);
	}
}

static void those_of_a_process_are_in_order(void)
{
	CU_ASSERT(are_in_order(MANY));
}

/* The counter runs over into the next millisecond. */
static void a_clock_that_stands_still_keeps_the_order(void)
{
	struct rgov_task_id id;

	fake_ms = real_ms() + 1000000;
	id = make();
	CU_ASSERT_EQUAL(ms_of(&id), fake_ms);
	CU_ASSERT(are_in_order(MANY));
	id = make();
	CU_ASSERT(ms_of(&id) > fake_ms);
	CU_ASSERT(ms_of(&id) <= fake_ms + MANY / 2048 + 1);
	fake_ms = 0;
}

static void a_clock_that_goes_back_keeps_the_order(void)
{
	struct rgov_task_id before, after;

	fake_ms = real_ms() + 2000000;
	before = make();
	fake_ms -= 3600000;
	CU_ASSERT(are_in_order(MANY));
	after = make();
	CU_ASSERT(compare(&before, &after) < 0);
	fake_ms += 2 * 3600000;
	after = make();
	CU_ASSERT_EQUAL(ms_of(&after), fake_ms);
	fake_ms = 0;
}

static void *make_many(void *arg)
{
	struct rgov_task_id *ids = arg;

	for (int i = 0; i < OF_EACH; i++)
		ids[i] = make();
	return NULL;
}

static void those_of_threads_are_unique(void)
{
	static struct rgov_task_id ids[THREADS][OF_EACH];
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&threads[i], NULL, make_many, ids[i]),
			0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	CU_ASSERT(are_unique(ids[0], (size_t)THREADS * OF_EACH));
}

/* Parent and child go on from one counter. */
static void those_of_a_fork_are_unique(void)
{
	enum { N = 1000 };
	static struct rgov_task_id ids[2][N];
	ssize_t got = 0, n;
	int pipes[2];
	pid_t child;

	CU_ASSERT_EQUAL_FATAL(pipe(pipes), 0);
	(void)make();
	child = fork();
	CU_ASSERT_FATAL(child >= 0);
	for (int i = 0; i < N; i++)
		ids[0][i] = make();
	if (child == 0)
		_exit(write(pipes[1], ids[0], sizeof(ids[0])) !=
			sizeof(ids[0]));
	(void)close(pipes[1]);
	while ((n = read(pipes[0], (char *)ids[1] + got,
			sizeof(ids[1]) - (size_t)got)) > 0)
		got += n;
	(void)close(pipes[0]);
	(void)waitpid(child, NULL, 0);
	CU_ASSERT_EQUAL_FATAL(got, sizeof(ids[1]));
	CU_ASSERT(are_unique(ids[0], (size_t)2 * N));
}

static void *make_until_told(void *arg)
{
	const _Atomic bool *is_over = arg;

	while (!atomic_load_explicit(is_over, memory_order_relaxed))
		(void)make();
	return NULL;
}

/* Of a process whose other threads make names at that moment: what they are in
 * the middle of never goes on in the child. */
static void a_child_of_a_busy_process_makes_its_own(void)
{
	enum { FORKS = 500, MAKERS = 2, LIMIT_S = 20 };
	_Atomic bool is_over = false;
	pthread_t makers[MAKERS];
	int n_good = 0, n = 0;

	for (int i = 0; i < MAKERS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&makers[i], NULL,
					      make_until_told, &is_over),
			0);
	/* The first that fails has taken its time: it is enough. */
	for (; n < FORKS && n_good == n; n++) {
		unsigned char id[16];
		int status = -1;
		pid_t child = fork();

		if (child == 0) {
			(void)alarm(LIMIT_S);
			_exit(task_id_make(id));
		}
		(void)waitpid(child, &status, 0);
		n_good += status == 0;
	}
	atomic_store_explicit(&is_over, true, memory_order_relaxed);
	for (int i = 0; i < MAKERS; i++)
		(void)pthread_join(makers[i], NULL);
	CU_ASSERT_EQUAL(n_good, FORKS);
}

/* ------------------------------------------------------------ as text */

static void text_and_back_is_the_same(void)
{
	struct rgov_task_id id, back;
	char text[RGOV_TASK_ID_BYTES];

	for (int i = 0; i < 1000; i++) {
		id = make();
		rgov_task_id_text(&id, text);
		CU_ASSERT_EQUAL(strlen(text), RGOV_TASK_ID_BYTES - 1);
		CU_ASSERT_EQUAL(rgov_task_id_parse(text, &back), 0);
		CU_ASSERT_EQUAL(compare(&id, &back), 0);
	}
	CU_ASSERT_EQUAL(
		rgov_task_id_parse("018F6B2E-4C1A-7D3B-9A55-0123456789AB", &id),
		0);
	rgov_task_id_text(&id, text);
	CU_ASSERT_STRING_EQUAL(text, "018f6b2e-4c1a-7d3b-9a55-0123456789ab");
}

static void what_is_none_is_refused_with_words(void)
{
	static const char *const wrong[] = {"", "-", "id",
		"018f6b2e-4c1a-7d3b-9a55-0123456789a",
		"018f6b2e-4c1a-7d3b-9a55-0123456789ab0",
		"018f6b2e-4c1a-7d3b-9a55-0123456789ab\n",
		" 018f6b2e-4c1a-7d3b-9a55-0123456789ab",
		"018f6b2e4c1a7d3b9a550123456789ab",
		"018f6b2e-4c1a-7d3b-9a55-0123456789ag",
		"018f6b2e-4c1a-7d3b-9a550-123456789ab",
		"{18f6b2e-4c1a-7d3b-9a55-0123456789a}",
		"018f6b2e_4c1a_7d3b_9a55_0123456789ab",
		"018f6b2e-4c1a-7d3b-9a55-01234567\xc4\xa4\x61\x62"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct rgov_task_id id, as_it_was;

		memset(&id, 0x5a, sizeof(id));
		as_it_was = id;
		CU_ASSERT_EQUAL(rgov_task_id_parse(wrong[i], &id), -EINVAL);
		CU_ASSERT_EQUAL(compare(&id, &as_it_was), 0);
		CU_ASSERT_PTR_NOT_NULL(
			strstr(rgov_why(), "expected 36 characters"));
		CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), wrong[i]));
	}
}

SUITE("task ids", T(is_a_uuid_of_version_7), T(those_of_a_process_are_in_order),
	T(a_clock_that_stands_still_keeps_the_order),
	T(a_clock_that_goes_back_keeps_the_order),
	T(those_of_threads_are_unique), T(those_of_a_fork_are_unique),
	T(a_child_of_a_busy_process_makes_its_own),
	T(text_and_back_is_the_same), T(what_is_none_is_refused_with_words))
