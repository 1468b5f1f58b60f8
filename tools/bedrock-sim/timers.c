/* One thread that calls back at instants. */
#include "tools/bedrock-sim/timers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "tools/bedrock-sim/clock.h"
#include "tools/bedrock-sim/memory.h"

struct timer {
	uint64_t due_ns;
	void (*function)(void *argument);
	void *argument;
};

struct timers {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a timer became the first one */
	struct timer *heap;     /* heap[0] is due first */
	size_t count, capacity;
};

static void heap_push(struct timers *timers, struct timer timer)
{
	size_t i = timers->count;

	timers->heap = memory_grow(timers->heap, &timers->capacity,
		timers->count + 1, sizeof(*timers->heap));
	timers->count++;
	while (i > 0 && timers->heap[(i - 1) / 2].due_ns > timer.due_ns) {
		timers->heap[i] = timers->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	timers->heap[i] = timer;
}

static struct timer heap_pop(struct timers *timers)
{
	struct timer first = timers->heap[0];
	struct timer last = timers->heap[--timers->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < timers->count) {
		if (child + 1 < timers->count &&
			timers->heap[child + 1].due_ns <
				timers->heap[child].due_ns)
			child++;
		if (timers->heap[child].due_ns >= last.due_ns)
			break;
		timers->heap[i] = timers->heap[child];
		i = child;
	}
	timers->heap[i] = last;
	return first;
}

/* Returns when heap[0] is due.  Called and left with the lock held. */
static void wait_for_first(struct timers *timers)
{
	for (;;) {
		struct timespec due;

		if (timers->count == 0) {
			(void)pthread_cond_wait(
				&timers->changed, &timers->lock);
			continue;
		}
		if (timers->heap[0].due_ns <= clock_now_ns())
			return;
		due.tv_sec = (time_t)(timers->heap[0].due_ns / 1000000000u);
		due.tv_nsec = (long)(timers->heap[0].due_ns % 1000000000u);
		(void)pthread_cond_timedwait(
			&timers->changed, &timers->lock, &due);
	}
}

static void *timers_run(void *argument)
{
	struct timers *timers = argument;

	(void)pthread_mutex_lock(&timers->lock);
	for (;;) {
		struct timer timer;

		wait_for_first(timers);
		timer = heap_pop(timers);
		(void)pthread_mutex_unlock(&timers->lock);
		timer.function(timer.argument);
		(void)pthread_mutex_lock(&timers->lock);
	}
	return NULL;
}

struct timers *timers_start(void)
{
	struct timers *timers = memory_zeroed(sizeof(*timers));
	pthread_condattr_t attributes;
	pthread_t thread;
	int error;

	(void)pthread_mutex_init(&timers->lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&timers->changed, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	error = pthread_create(&thread, NULL, timers_run, timers);
	if (error != 0) {
		free(timers);
		errno = error;
		return NULL;
	}
	(void)pthread_detach(thread);
	return timers;
}

void timers_add(struct timers *timers, uint64_t due_ns,
	void (*function)(void *argument), void *argument)
{
	(void)pthread_mutex_lock(&timers->lock);
	heap_push(timers, (struct timer){.due_ns = due_ns,
				  .function = function,
				  .argument = argument});
	if (timers->heap[0].due_ns == due_ns)
		(void)pthread_cond_signal(&timers->changed);
	(void)pthread_mutex_unlock(&timers->lock);
}
