/*
 * One thread that calls back at instants: a sleeping request costs an entry in
 * a heap, not a thread.
 */
#ifndef SIM_TIMERS_H
#define SIM_TIMERS_H

#include <stdint.h>

struct timers;

/* Starts the thread, which lives as long as the program.  NULL: errno. */
struct timers *timers_start(void);
/*
 * Calls function(argument) on the timer thread at due_ns or soon after, once.
 * Any thread may call, also `function`.
 */
void timers_add(struct timers *timers, uint64_t due_ns,
	void (*function)(void *argument), void *argument);

#endif
