/*
 * The stops of the threads that we trace, one at a time, none lost: what others
 * do while one thread is waited for is kept for later.
 */
#ifndef FAULT_STOPS_H
#define FAULT_STOPS_H

#include <stdbool.h>
#include <sys/types.h>

struct stop {
	pid_t thread;
	int status; /* as waitpid() says it */
};

/* The next one of any thread, its end included. */
struct stop stops_next(void);

/* One instruction of a stopped thread.  False: it did not survive it. */
bool stops_step(pid_t thread);

#endif
