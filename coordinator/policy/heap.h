/*
 * A heap that knows where each of its members stands, so that one can be moved
 * or taken out of the middle in O(log n).  Members are named by a `place` word
 * inside them (0: in no heap); use `holder_of` to get back to the object.  Not
 * a container: it owns no member.
 */
#ifndef COORDINATOR_POLICY_HEAP_H
#define COORDINATOR_POLICY_HEAP_H

#include <stddef.h>
#include <stdint.h>

#define holder_of(pointer, type, member)                                       \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* The least is first: by `first`, then `second`.  Both are in the cell, so that
 * no member is looked at. */
struct heap_key {
	uint64_t first, second;
};

struct heap_cell {
	struct heap_key key;
	uint32_t *place;
};

/* All zero is an empty heap. */
struct heap {
	struct heap_cell *cells; /* from 1 */
	uint32_t n, capacity;
};

/* Room for n members in all, so that heap_put() cannot fail.  -ENOMEM. */
int heap_reserve(struct heap *heap, uint32_t n);
void heap_fini(struct heap *heap);

/* Enters a member, or gives it a new key.  There must be room. */
void heap_put(struct heap *heap, uint32_t *place, struct heap_key key);
/* Nothing happens when the member is not there. */
void heap_take(struct heap *heap, uint32_t *place);
/* NULL: empty. */
uint32_t *heap_first(const struct heap *heap);
/* The first member's key.first; UINT64_MAX: empty. */
uint64_t heap_first_key(const struct heap *heap);

#endif
