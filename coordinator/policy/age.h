/*
 * Who has waited so long in one class that it counts as the next one up.  A
 * timeline for each (class asked for, class it counts as), by arrival, so that
 * only the first of each needs a look.  Also knows the oldest of the queue.
 */
#ifndef COORDINATOR_POLICY_AGE_H
#define COORDINATOR_POLICY_AGE_H

#include "coordinator/policy/timeline.h"

struct age {
	struct timeline lists[POLICY_CLASSES][POLICY_CLASSES];
};

void age_init(struct age *age);
void age_fini(struct age *age);

/* A queued request enters, in the list of its class and p.rank; it leaves.
 * Without memory it does not enter, and keeps its class. */
void age_enter(struct age *age, struct policy_request *request);
void age_leave(struct age *age, struct policy_request *request);

void age_fetch(const struct age *age, const struct policy_request *request);

/* The next request that is due for the class above; NULL: none.  The caller
 * moves it.  age_after_ns 0: nobody ages. */
struct policy_request *age_due(
	const struct age *age, uint64_t age_after_ns, uint64_t now_ns);
/* When the next will be due; UINT64_MAX: never. */
uint64_t age_next_ns(const struct age *age, uint64_t age_after_ns);

/* When the oldest was enqueued; 0: nobody is queued. */
uint64_t age_oldest_ns(const struct age *age);

#endif
