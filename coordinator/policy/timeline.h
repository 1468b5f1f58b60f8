/*
 * Waiting requests by a time: who is the earliest?  Times come nearly in order
 * (an arrival; a deadline so many seconds after it), so most stand in a few
 * rings in which each comes after the one before.  There, entering and leaving
 * are O(1) and touch no other request, which would be in no cache.  Whoever
 * fits no ring is in a heap: O(log n).
 *
 * Equal times are in the order of arrival.  A request names its place in each
 * timeline that it may stand in (0: it does not).  Owns no request.
 */
#ifndef COORDINATOR_POLICY_TIMELINE_H
#define COORDINATOR_POLICY_TIMELINE_H

#include "coordinator/policy/heap.h"
#include "coordinator/policy/policy.h"

enum { TIMELINE_RINGS = 4 };

struct timeline_entry {
	uint64_t time;
	struct policy_request *request; /* NULL: it has left */
};

/* From `first` to `end`, which only grow; neither of the two ends is empty. */
struct timeline_ring {
	struct timeline_entry *entries;
	uint32_t first, end, live;
	uint32_t capacity; /* a power of two, or 0 */
	uint32_t name;     /* which of the rings */
};

struct timeline {
	struct timeline_ring rings[TIMELINE_RINGS];
	struct heap rest;
	uint32_t n;   /* in all of them */
	size_t place; /* of the uint32_t inside the request */
};

/* place: of the uint32_t that a request keeps for it. */
void timeline_init(struct timeline *timeline, size_t place);
void timeline_fini(struct timeline *timeline);

/* Memory for `n` more to enter, so that they cannot fail.  -ENOMEM. */
int timeline_reserve(struct timeline *timeline, uint32_t n);
/* -ENOMEM, and it has not entered: only without timeline_reserve(). */
int timeline_enter(struct timeline *timeline, struct policy_request *request,
	uint64_t time);
/* Nothing happens when it is not there. */
void timeline_leave(struct timeline *timeline, struct policy_request *request);

/* It will leave soon: see fetch() in place.c. */
void timeline_fetch(
	const struct timeline *timeline, const struct policy_request *request);

/* The earliest; NULL: nobody.  Its time; UINT64_MAX. */
struct policy_request *timeline_first(const struct timeline *timeline);
uint64_t timeline_first_time(const struct timeline *timeline);

#endif
