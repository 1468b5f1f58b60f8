/*
 * The heap: an array from 1 with eight children to each.  A third of the levels
 * of a binary one: members far down are in no cache, and each level that is
 * moved writes into one, while the lines of eight children come together.
 */
#include "coordinator/policy/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ARITY = 8, FIRST_CAPACITY = 8 };

int heap_reserve(struct heap *heap, uint32_t n)
{
	uint32_t capacity = heap->capacity ? heap->capacity : FIRST_CAPACITY;
	struct heap_cell *cells;

	if (n <= heap->capacity)
		return 0;
	if (n >= UINT32_MAX / (2 * ARITY))
		return -ENOMEM;
	while (capacity < n)
		capacity *= 2;
	cells = realloc(heap->cells, (capacity + (size_t)1) * sizeof(*cells));
	if (cells == NULL)
		return -ENOMEM;
	heap->cells = cells;
	heap->capacity = capacity;
	return 0;
}

void heap_fini(struct heap *heap)
{
	assert(heap->n == 0);
	free(heap->cells);
	*heap = (struct heap){0};
}

static bool is_less(const struct heap_key *a, const struct heap_key *b)
{
	if (a->first != b->first)
		return a->first < b->first;
	return a->second < b->second;
}

static void set(struct heap *heap, uint32_t at, struct heap_cell cell)
{
	heap->cells[at] = cell;
	*cell.place = at;
}

static uint32_t parent_of(uint32_t at)
{
	return (at - 2) / ARITY + 1;
}

/* The least child of `at`; 0: it has none. */
static uint32_t least_child(const struct heap *heap, uint32_t at)
{
	uint32_t first = ARITY * (at - 1) + 2, least = first, end;

	if (first > heap->n)
		return 0;
	end = heap->n - first < ARITY ? heap->n + 1 : first + ARITY;
	for (uint32_t i = first + 1; i < end; i++)
		if (is_less(&heap->cells[i].key, &heap->cells[least].key))
			least = i;
	return least;
}

/* Finds the cell's place from the hole at `at`, upwards first. */
static void settle(struct heap *heap, uint32_t at, struct heap_cell cell)
{
	struct heap_cell *cells = heap->cells;
	uint32_t child;

	while (at > 1 && is_less(&cell.key, &cells[parent_of(at)].key)) {
		set(heap, at, cells[parent_of(at)]);
		at = parent_of(at);
	}
	while ((child = least_child(heap, at)) != 0 &&
		is_less(&cells[child].key, &cell.key)) {
		set(heap, at, cells[child]);
		at = child;
	}
	set(heap, at, cell);
}

void heap_put(struct heap *heap, uint32_t *place, struct heap_key key)
{
	uint32_t at = *place;

	if (at == 0) {
		assert(heap->n < heap->capacity);
		at = ++heap->n;
	}
	settle(heap, at, (struct heap_cell){.key = key, .place = place});
}

void heap_take(struct heap *heap, uint32_t *place)
{
	uint32_t at = *place;
	struct heap_cell last;

	if (at == 0)
		return;
	assert(at <= heap->n && heap->cells[at].place == place);
	last = heap->cells[heap->n--];
	*place = 0;
	if (last.place != place)
		settle(heap, at, last);
}

uint32_t *heap_first(const struct heap *heap)
{
	return heap->n ? heap->cells[1].place : NULL;
}

uint64_t heap_first_key(const struct heap *heap)
{
	return heap->n ? heap->cells[1].key.first : UINT64_MAX;
}
