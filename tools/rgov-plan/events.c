#include "tools/rgov-plan/events.h"

#include "tools/rgov-plan/load.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static bool is_before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

int events_add(struct events *events, uint64_t at_ns, void *what)
{
	struct event new = {at_ns, events->added++, what};
	struct event *heap =
		load_grow(events->heap, events->n, sizeof(*events->heap));
	size_t place = events->n;

	if (heap == NULL)
		return -ENOMEM;
	events->heap = heap;
	events->n++;
	while (place > 0 && is_before(&new, &heap[(place - 1) / 2])) {
		heap[place] = heap[(place - 1) / 2];
		place = (place - 1) / 2;
	}
	heap[place] = new;
	return 0;
}

uint64_t events_next_ns(const struct events *events)
{
	return events->n == 0 ? UINT64_MAX : events->heap[0].at_ns;
}

void *events_take(struct events *events)
{
	struct event *heap = events->heap;
	void *what = heap[0].what;
	struct event last = heap[--events->n];
	size_t place = 0, child;

	while ((child = 2 * place + 1) < events->n) {
		if (child + 1 < events->n &&
			is_before(&heap[child + 1], &heap[child]))
			child++;
		if (!is_before(&heap[child], &last))
			break;
		heap[place] = heap[child];
		place = child;
	}
	if (events->n > 0)
		heap[place] = last;
	return what;
}

void events_free(struct events *events)
{
	free(events->heap);
	*events = (struct events){0};
}
