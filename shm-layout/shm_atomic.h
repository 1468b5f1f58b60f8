/*
 * The only four ways in which rgov touches a word that another process or
 * thread also touches, beside shm_wake.h, which adds the one place where both
 * sides must agree on a single order.
 *
 * Every use names its partner: a release is Rn, its acquire An.
 */
#ifndef SHM_ATOMIC_H
#define SHM_ATOMIC_H

#include <assert.h>
#include <stdatomic.h>

#define load_relaxed(word) atomic_load_explicit(&(word), memory_order_relaxed)
#define load_acquire(word) atomic_load_explicit(&(word), memory_order_acquire)
#define store_relaxed(word, value)                                             \
	atomic_store_explicit(&(word), (value), memory_order_relaxed)
#define store_release(word, value)                                             \
	atomic_store_explicit(&(word), (value), memory_order_release)

static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
	"a lock inside libatomic would not be shared between processes");

#endif
