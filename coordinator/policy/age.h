/*
 * Who has waited so long in one class that it counts as the next one up.  A
 * list for each (class asked for, class it counts as), each by arrival, so that
 * only heads need a look.  Also knows the oldest of the queue.
 */
#ifndef COORDINATOR_POLICY_AGE_H
#define COORDINATOR_POLICY_AGE_H

#include "coordinator/policy/policy.h"

struct age {
	/* utlist, by p.age_prev and p.age_next */
	struct policy_request *lists[POLICY_CLASSES][POLICY_CLASSES];
};

/* A queued request enters, in the list of its class and p.rank; it leaves. */
void age_enter(struct age *age, struct policy_request *request);
void age_leave(struct age *age, struct policy_request *request);

/* The next request that is due for the class above; NULL: none.  The caller
 * moves it.  age_after_ns 0: nobody ages. */
struct policy_request *age_due(
	const struct age *age, uint64_t age_after_ns, uint64_t now_ns);
/* When the next will be due; UINT64_MAX: never. */
uint64_t age_next_ns(const struct age *age, uint64_t age_after_ns);

/* When the oldest was enqueued; 0: nobody is queued. */
uint64_t age_oldest_ns(const struct age *age);

#endif
