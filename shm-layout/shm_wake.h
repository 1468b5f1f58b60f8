/*
 * Sleep and wake: the one place where each side stores, then looks at the
 * other's word.  Both orders must agree on one sequence, or a wake-up is lost
 * under store buffering; hence seq_cst, here and nowhere else.
 *
 *   rgovd sleeps            client submits          (R1, C2)
 *     polling = 0             tail = t + 1
 *     look at tail            look at polling: 0 -> ring the bell
 *
 *   client sleeps           rgovd answers           (W1, D3)
 *     waiting += 1            word = {g, DONE}
 *     futex: word still       look at waiting: > 0 -> FUTEX_WAKE
 *       not the answer?
 *
 * Of two such pairs of steps at least one side sees the other's store.  The
 * futex call looks at the word under the kernel's own full barrier.
 */
#ifndef SHM_WAKE_H
#define SHM_WAKE_H

#include "shm-layout/shm_client.h"
#include "shm-layout/shm_daemon.h"

#include <stdbool.h>

/* Client.  Publishes the ring up to `tail`; true: rgovd must be rung. */
static inline bool wake_publish_tail(struct client_header *client,
	const struct daemon_header *daemon, uint64_t tail)
{
	atomic_store_explicit(&client->tail, tail, memory_order_seq_cst);
	return atomic_load_explicit(&daemon->polling, memory_order_seq_cst) ==
	       0;
}

/* rgovd.  Stops polling; returns the tail, to be looked at before sleeping. */
static inline uint64_t wake_stop_polling(
	struct daemon_header *daemon, const struct client_header *client)
{
	atomic_store_explicit(&daemon->polling, 0, memory_order_seq_cst);
	return atomic_load_explicit(&client->tail, memory_order_seq_cst);
}

/* Client.  Announces a sleeper; returns the word to look at, then to sleep on.
 * A count: several threads may wait for one slot. */
static inline uint32_t wake_announce_sleep(
	struct client_slot *client, const struct daemon_slot *daemon)
{
	(void)atomic_fetch_add_explicit(
		&client->waiting, 1, memory_order_seq_cst);
	return atomic_load_explicit(&daemon->word, memory_order_seq_cst);
}

/* Client.  It sleeps no more.  Relaxed: until rgovd sees it, it wakes nobody
 * once too often. */
static inline void wake_withdraw(struct client_slot *client)
{
	(void)atomic_fetch_sub_explicit(
		&client->waiting, 1, memory_order_relaxed);
}

/* rgovd.  Commits the reply (D3); true: the sleeper must be woken. */
static inline bool wake_publish_word(struct daemon_slot *daemon,
	const struct client_slot *client, uint32_t word)
{
	atomic_store_explicit(&daemon->word, word, memory_order_seq_cst);
	return atomic_load_explicit(&client->waiting, memory_order_seq_cst) !=
	       0;
}

#endif
