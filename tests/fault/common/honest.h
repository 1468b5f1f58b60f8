/*
 * An honest client beside those that are killed: a process of its own with one
 * session, which must get right answers all the time.  It can also hold the
 * permit that makes the busy lane busy.
 */
#ifndef FAULT_HONEST_H
#define FAULT_HONEST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { HONEST_HELD_TOKENS = 1000 }; /* reserved by the permit */

struct honest {
	pid_t pid;
	int socket;
	bool is_holding;
	uint32_t calls;  /* answered rightly */
	uint32_t failed; /* anything else */
	uint64_t slowest_ns;
};

/* Forks it; its environment names the governor.  `first`: number of its first
 * body.  0 or -errno. */
int honest_start(struct honest *honest, uint32_t first);

/* One call upstream and back: everything that rgovd was told before has been
 * taken by then.  Prints a violation where it fails. */
void honest_call(struct honest *honest);

/* Makes the busy lane busy, or free; asking twice is fine. */
void honest_hold(struct honest *honest, bool hold);

void honest_stop(struct honest *honest);

#endif
