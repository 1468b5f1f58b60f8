/*
 * The timers of a loop: a binary heap of pointers into their owners' objects.
 * Knows no clock.  Only for the files of this folder.
 */
#ifndef COORDINATOR_LOOP_TIMERS_H
#define COORDINATOR_LOOP_TIMERS_H

#include "coordinator/loop/loop.h"

#include <stdint.h>

/* All zero is an empty one. */
struct timers {
	struct loop_timer **heap; /* [0] is never used */
	uint32_t count, size;
	uint64_t running_ns; /* what is being run is due at that; 0: none is */
};

/* 0 or -ENOMEM; never fails for a timer that is set already. */
int timers_set(struct timers *timers, struct loop_timer *timer, uint64_t at_ns);

/* A timer that is not set is fine. */
void timers_clear(struct timers *timers, struct loop_timer *timer);

/* When the first is due; UINT64_MAX: there is none. */
uint64_t timers_next_ns(const struct timers *timers);

/* Runs all that are due, the earliest first, but none that was set meanwhile.
 * Returns how many. */
int timers_run(struct timers *timers, uint64_t now_ns);

void timers_fini(struct timers *timers);

#endif
