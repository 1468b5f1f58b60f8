/* What happens next: a heap of moments; equal ones in the order they were
 * added. */
#ifndef PLAN_EVENTS_H
#define PLAN_EVENTS_H

#include <stddef.h>
#include <stdint.h>

struct event {
	uint64_t at_ns, order;
	void *what;
};

struct events {
	struct event *heap;
	size_t n;
	uint64_t added;
};

/* 0 or -ENOMEM. */
int events_add(struct events *events, uint64_t at_ns, void *what);
/* UINT64_MAX: nothing. */
uint64_t events_next_ns(const struct events *events);
/* The next one; there must be one. */
void *events_take(struct events *events);
void events_free(struct events *events);

#endif
