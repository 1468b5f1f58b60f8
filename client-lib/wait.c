/*
 * Waiting for an answer: a short spin while answers come fast, then a futex on
 * rgovd's word of the slot, in slices.
 *
 * A slice exists only to notice what no wake-up can tell: a signal handler with
 * SA_RESTART, and the death of rgovd.  An answer that a slice finds is a lost
 * wake-up and is counted; the count must stay zero.
 */
#include "client-lib/handle.h"
#include "shm-layout/shm_wake.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 200000000u /* 200 ms */

/*
 * Spinning pays while answers come within the spin time, and harms as soon as
 * there are more runnable processes than CPUs.  rgovd says by spin_us whether
 * CPUs are short; beside that each hit earns a credit, as does each sleep that
 * was cut short, and each miss costs several, so that spinning stops by itself
 * when its hits become rare.  Misses make a debt: on the CPU that rgovd runs
 * on, every sleep is short and no spin can ever hit.
 */
enum { CREDIT_MAX = 32, MISS_COSTS = 16, LOOKS_PER_CLOCK = 32 };

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Relaxed: a stale credit costs at most one spin. */
static void change_credit(struct rgov *gov, int by)
{
	int credit = load_relaxed(gov->spin_credit) + by;

	if (credit > CREDIT_MAX)
		credit = CREDIT_MAX;
	store_relaxed(
		gov->spin_credit, credit > -CREDIT_MAX ? credit : -CREDIT_MAX);
}

static bool spin(struct rgov *gov, struct session *session, uint32_t slot,
	uint32_t generation)
{
	/* Relaxed: advice. */
	uint64_t spin_ns =
		(uint64_t)load_relaxed(session->daemon->spin_us) * 1000;
	uint64_t until_ns;

	if (spin_ns == 0 || load_relaxed(gov->spin_credit) <= 0)
		return false;
	until_ns = clock_now_ns() + spin_ns;
	do {
		for (int look = 0; look < LOOKS_PER_CLOCK; look++) {
			if (session_has_answer(session, slot, generation)) {
				change_credit(gov, 1);
				return true;
			}
			relax();
		}
	} while (clock_now_ns() < until_ns);
	change_credit(gov, -MISS_COSTS);
	return false;
}

/* Had it spun instead, would it have seen the answer? */
static void judge_sleep(
	struct rgov *gov, const struct session *session, uint64_t slept_ns)
{
	uint64_t spin_ns =
		(uint64_t)load_relaxed(session->daemon->spin_us) * 1000;

	if (slept_ns < spin_ns)
		change_credit(gov, 1);
}

/* Sleeps while the word is `seen`.  0: woken, or changed; -ETIMEDOUT; -EINTR.
 */
static int futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t sleep_ns)
{
	struct timespec limit = {.tv_sec = (time_t)(sleep_ns / 1000000000u),
		.tv_nsec = (long)(sleep_ns % 1000000000u)};

	/* Not FUTEX_PRIVATE: the waker is another process. */
	if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0) == 0 ||
		errno == EAGAIN)
		return 0;
	return -errno;
}

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* One slice.  0: look again; -ETIMEDOUT: the slice passed; -EINTR. */
static int sleep_slice(struct rgov *gov, struct session *session, uint32_t slot,
	uint32_t generation, uint64_t sleep_ns)
{
	struct client_slot *client = &session->client_slots[slot];
	struct daemon_slot *daemon = &session->daemon_slots[slot];
	uint32_t seen = wake_announce_sleep(client, daemon);
	int rc = 0;

	if (!shm_word_is_answer(seen, generation)) {
		count(&gov->sleeps);
		rc = futex_wait(&daemon->word, seen, sleep_ns);
	}
	wake_withdraw(client);
	return rc;
}

int wait_for_answer(struct rgov *gov, struct session *session, uint32_t slot,
	uint32_t generation, uint64_t until_ns)
{
	uint64_t number = fork_number();

	if (session_has_answer(session, slot, generation) ||
		spin(gov, session, slot, generation)) {
		count(&gov->found_spinning);
		return 0;
	}
	for (;;) {
		uint64_t now = clock_now_ns();
		uint64_t sleep_ns = until_ns > now ? until_ns - now : 0;
		int rc;

		if (sleep_ns == 0)
			return -ETIMEDOUT;
		if (sleep_ns > SLICE_NS)
			sleep_ns = SLICE_NS;
		rc = sleep_slice(gov, session, slot, generation, sleep_ns);
		if (fork_number() != number)
			return -ESTALE; /* a greenlet, resumed in a child */
		if (session_has_answer(session, slot, generation)) {
			if (rc == -ETIMEDOUT)
				count(&gov->found_by_slice);
			judge_sleep(gov, session, clock_now_ns() - now);
			return 0;
		}
		if (rc == -EINTR)
			return rc;
		if (session_is_past(session, slot, generation))
			return -ESTALE;
		handle_pay_bell(gov, session);
		if (rc != -ETIMEDOUT || !handle_is_cut_off(gov, session))
			continue;
		rc = handle_reconnect(gov, session, until_ns);
		if (rc == -ECONNRESET || rc == -EINTR)
			return rc;
	}
}
