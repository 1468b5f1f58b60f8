/*
 * A heap that knows where each of its members stands, so that one can be moved
 * or taken out of the middle in O(log n).  Members are named by a `place` word
 * inside them (0: in no heap); use `holder_of` to get back to the object.  Not
 * a container: it owns no member.
 */
#ifndef COORDINATOR_POLICY_HEAP_H
#define COORDINATOR_POLICY_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define holder_of(pointer, type, member)                                       \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Key and name only: a member is looked at where keys are equal. */
struct heap_cell {
	uint64_t key;
	uint32_t *place;
};

/* All zero is an empty heap whose equal keys are in no order. */
struct heap {
	struct heap_cell *cells; /* from 1 */
	uint32_t n, capacity;
	/* Of two members with the same key: does a come before b? */
	bool (*is_before)(uint32_t *a, uint32_t *b);
};

/* Room for n members in all, so that heap_put() cannot fail.  -ENOMEM. */
int heap_reserve(struct heap *heap, uint32_t n);
void heap_fini(struct heap *heap);

/* Enters a member, or puts it where it belongs after its key, or what
 * is_before() looks at, has changed.  There must be room. */
void heap_put(struct heap *heap, uint32_t *place, uint64_t key);
/* Nothing happens when the member is not there. */
void heap_take(struct heap *heap, uint32_t *place);
/* NULL: empty. */
uint32_t *heap_first(const struct heap *heap);
/* The first member's key; UINT64_MAX: empty. */
uint64_t heap_first_key(const struct heap *heap);

#endif
