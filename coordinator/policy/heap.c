/* The heap: an array from 1, children of i at 2i and 2i + 1. */
#include "coordinator/policy/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

enum { FIRST_CAPACITY = 8 };

int heap_reserve(struct heap *heap, uint32_t n)
{
	uint32_t capacity = heap->capacity ? heap->capacity : FIRST_CAPACITY;
	struct heap_cell *cells;

	if (n <= heap->capacity)
		return 0;
	if (n >= UINT32_MAX / 2)
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
	if (a->second != b->second)
		return a->second < b->second;
	return a->third < b->third;
}

static void set(struct heap *heap, uint32_t at, struct heap_cell cell)
{
	heap->cells[at] = cell;
	*cell.place = at;
}

/* Finds the cell's place from the hole at `at`, upwards first. */
static void settle(struct heap *heap, uint32_t at, struct heap_cell cell)
{
	struct heap_cell *cells = heap->cells;

	while (at > 1 && is_less(&cell.key, &cells[at / 2].key)) {
		set(heap, at, cells[at / 2]);
		at /= 2;
	}
	for (;;) {
		uint32_t child = 2 * at;

		if (child > heap->n)
			break;
		if (child < heap->n &&
			is_less(&cells[child + 1].key, &cells[child].key))
			child++;
		if (!is_less(&cells[child].key, &cell.key))
			break;
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
