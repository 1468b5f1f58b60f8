/*
 * An exact sliding window: the stamps of the latest starts, in order.  A start
 * that was admitted but not yet made is pending: it counts as "now" until it is
 * stamped or given back.  Knows nothing of requests.
 *
 * Whether there is room for one more under a limit L depends on the L latest
 * starts only, so the ring keeps max(limit, WINDOW_KEEP) stamps at most: a
 * window without a limit costs a bounded memory and a limit set later is still
 * exact up to WINDOW_KEEP.
 */
#ifndef COORDINATOR_POLICY_WINDOW_H
#define COORDINATOR_POLICY_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

enum { WINDOW_KEEP = 65536 };

struct window {
	uint64_t *stamps; /* a ring, oldest at `oldest`, never decreasing */
	uint32_t oldest, count, capacity; /* capacity: a power of two */
	uint32_t pending;
	uint32_t limit; /* 0: none */
	uint32_t peak;  /* most starts ever in one window */
	uint64_t span_ns;
	uint64_t interval_ns;   /* between two starts; 0: any */
	uint64_t full_until_ns; /* counts as full before */
};

/* -ENOMEM. */
int window_init(struct window *window, uint32_t limit, uint64_t span_ns);
void window_fini(struct window *window);
/* Keeps all stamps.  is_smooth: two starts are span/limit apart at least. */
void window_set(struct window *window, uint32_t limit, uint64_t span_ns,
	bool is_smooth);

/* When there is room for one more start: 0 now, else the time; UINT64_MAX: not
 * before a pending start is stamped or given back. */
uint64_t window_wait(struct window *window, uint64_t now_ns);
/* When the n-th start from now may be made if each is made as soon as it may.
 */
uint64_t window_nth(const struct window *window, uint64_t n, uint64_t now_ns);
/* The same for fewer than `limit` starts, whatever its own. */
uint64_t window_wait_below(
	struct window *window, uint32_t limit, uint64_t now_ns);
/* Memory for one more pending start; -ENOMEM with a limit only. */
int window_reserve(struct window *window);
/* One more pending start, whatever the limit says. */
void window_hold(struct window *window);
void window_give_back(struct window *window);
/* A pending start is made. */
void window_start(struct window *window, uint64_t now_ns);

/* A start of the past, in any order.  -ENOMEM. */
int window_restore(struct window *window, uint64_t started_ns, uint64_t now_ns);

/* Starts in the last span_ns, at most the window's; no pending ones. */
uint32_t window_count_in(
	const struct window *window, uint64_t span_ns, uint64_t now_ns);
/* How many starts of the window are i slots old, i below n; pending ones are
 * left out. */
void window_ages(const struct window *window, uint64_t slot_ns, uint32_t n,
	uint64_t now_ns, uint32_t *ret_ages);
/* Starts in the window that ends now, pending ones included. */
uint32_t window_count(const struct window *window, uint64_t now_ns);

#endif
