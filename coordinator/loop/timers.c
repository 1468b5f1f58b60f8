/* The binary heap of timers; timer->place is its index. */
#include "coordinator/loop/timers.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_SIZE = 64 };

static void put(struct timers *timers, uint32_t place, struct loop_timer *timer)
{
	timers->heap[place] = timer;
	timer->place = place;
}

static void sift_up(struct timers *timers, uint32_t place)
{
	struct loop_timer *timer = timers->heap[place];

	while (place > 1 && timers->heap[place / 2]->at_ns > timer->at_ns) {
		put(timers, place, timers->heap[place / 2]);
		place /= 2;
	}
	put(timers, place, timer);
}

static void sift_down(struct timers *timers, uint32_t place)
{
	struct loop_timer *timer = timers->heap[place];

	for (;;) {
		uint32_t child = place * 2;

		if (child > timers->count)
			break;
		if (child < timers->count && timers->heap[child + 1]->at_ns <
						     timers->heap[child]->at_ns)
			child++;
		if (timers->heap[child]->at_ns >= timer->at_ns)
			break;
		put(timers, place, timers->heap[child]);
		place = child;
	}
	put(timers, place, timer);
}

static int make_room(struct timers *timers)
{
	uint32_t size = timers->size == 0 ? FIRST_SIZE : timers->size * 2;
	struct loop_timer **heap;

	if (timers->count + 1 < timers->size)
		return 0;
	heap = reallocarray(timers->heap, size, sizeof(struct loop_timer *));
	if (heap == NULL)
		return -ENOMEM;
	timers->heap = heap;
	timers->size = size;
	return 0;
}

int timers_set(struct timers *timers, struct loop_timer *timer, uint64_t at_ns)
{
	if (timer->place == 0) {
		if (make_room(timers) != 0)
			return -ENOMEM;
		put(timers, ++timers->count, timer);
	}
	/* A timer that sets itself to a time past must not run again at once,
	 * nor ever keep the others from running. */
	timer->at_ns =
		at_ns > timers->running_ns ? at_ns : timers->running_ns + 1;
	sift_up(timers, timer->place);
	sift_down(timers, timer->place);
	return 0;
}

void timers_clear(struct timers *timers, struct loop_timer *timer)
{
	uint32_t place = timer->place;
	struct loop_timer *last;

	if (place == 0)
		return;
	timer->place = 0;
	last = timers->heap[timers->count--];
	if (last == timer)
		return;
	put(timers, place, last);
	sift_up(timers, last->place);
	sift_down(timers, last->place);
}

uint64_t timers_next_ns(const struct timers *timers)
{
	return timers->count == 0 ? UINT64_MAX : timers->heap[1]->at_ns;
}

int timers_run(struct timers *timers, uint64_t now_ns)
{
	int ran = 0;

	while (timers_next_ns(timers) <= now_ns) {
		struct loop_timer *timer = timers->heap[1];

		timers_clear(timers, timer);
		timers->running_ns = now_ns;
		timer->expired(timer, now_ns);
		ran++;
	}
	timers->running_ns = 0;
	return ran;
}

void timers_fini(struct timers *timers)
{
	free(timers->heap);
	*timers = (struct timers){0};
}
