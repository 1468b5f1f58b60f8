/*
 * shm_wake.h with both ends as threads on one mapping, so that ThreadSanitizer
 * sees them, again and again: a lost wake-up is met sooner or later.  Nobody
 * sleeps with a time-out, so one lost wake-up ends the test by its time limit.
 */
#include "shm-layout/shm_wake.h"
#include "shm-layout/shm_word.h"
#include "tests/unit/suite.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

enum { ROUNDS = 200000 };

static struct client_header client;
static struct daemon_header daemon_side;
static struct client_slot client_slot;
static struct daemon_slot daemon_slot;
static int bell;
static uint64_t payload;      /* plain: C2 and D3 must order it */
static const char *of_client; /* what it found wrong */

static void ring_the_bell(void)
{
	uint64_t one = 1;

	CU_ASSERT_EQUAL(write(bell, &one, sizeof(one)), sizeof(one));
}

static void wait_for_the_bell(void)
{
	uint64_t rings;

	CU_ASSERT_EQUAL(read(bell, &rings, sizeof(rings)), sizeof(rings));
}

/* Publishes one entry a round, and waits for its answer on the futex. */
static void *be_client(void *unused)
{
	(void)unused;
	for (uint64_t round = 1; round <= ROUNDS; round++) {
		uint32_t wanted = shm_word((uint32_t)round, SHM_DONE);

		payload = round;
		if (wake_publish_tail(&client, &daemon_side, round))
			ring_the_bell();
		for (;;) {
			uint32_t seen =
				wake_announce_sleep(&client_slot, &daemon_slot);

			if (seen == wanted)
				break;
			(void)syscall(SYS_futex, &daemon_slot.word, FUTEX_WAIT,
				seen, NULL, NULL, 0);
		}
		wake_withdraw(&client_slot);
		if (payload != round + 1)
			of_client = "a reply was seen before its word";
	}
	return NULL;
}

/* Takes the entries, sleeping between them as rgovd does. */
static const char *be_rgovd(void)
{
	uint64_t head = 0;

	while (head < ROUNDS) {
		if (load_acquire(client.tail) == head) {
			if (wake_stop_polling(&daemon_side, &client) == head)
				wait_for_the_bell();
			store_relaxed(daemon_side.polling, 1);
			continue;
		}
		head++;
		if (payload != head)
			return "an entry was seen before its payload";
		payload = head + 1;
		if (wake_publish_word(&daemon_slot, &client_slot,
			    shm_word((uint32_t)head, SHM_DONE)))
			(void)syscall(SYS_futex, &daemon_slot.word, FUTEX_WAKE,
				1, NULL, NULL, 0);
	}
	return NULL;
}

/* Neither a bell nor a wake-up is lost, and what they announce is there. */
static void no_wake_up_is_lost(void)
{
	pthread_t thread;
	const char *of_rgovd;

	bell = eventfd(0, EFD_CLOEXEC);
	CU_ASSERT_FATAL(bell >= 0);
	CU_ASSERT_FATAL(pthread_create(&thread, NULL, be_client, NULL) == 0);
	of_rgovd = be_rgovd();
	CU_ASSERT_PTR_NULL(of_rgovd);
	CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
	CU_ASSERT_PTR_NULL(of_client);
	(void)close(bell);
}

SUITE("wake", T(no_wake_up_is_lost))
