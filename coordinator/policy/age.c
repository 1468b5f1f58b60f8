/* Ageing: lists by arrival. */
#include "coordinator/policy/age.h"

static struct timeline *list_of(
	struct age *age, const struct policy_request *request)
{
	return &age->lists[request->class][request->p.rank];
}

void age_init(struct age *age)
{
	for (int class = 0; class < POLICY_CLASSES; class ++)
		for (int rank = 0; rank < POLICY_CLASSES; rank++)
			timeline_init(&age->lists[class][rank],
				offsetof(struct policy_request, p.age_place),
				NULL);
}

void age_fini(struct age *age)
{
	for (int class = 0; class < POLICY_CLASSES; class ++)
		for (int rank = 0; rank < POLICY_CLASSES; rank++)
			timeline_fini(&age->lists[class][rank]);
}

void age_enter(struct age *age, struct policy_request *request)
{
	(void)timeline_enter(
		list_of(age, request), request, request->p.arrival);
}

void age_leave(struct age *age, struct policy_request *request)
{
	timeline_leave(list_of(age, request), request);
}

void age_fetch(const struct age *age, const struct policy_request *request)
{
	timeline_fetch(&age->lists[request->class][request->p.rank], request);
}

static uint64_t due_ns(
	const struct policy_request *request, uint64_t age_after_ns)
{
	uint64_t steps = (uint64_t)(request->class - request->p.rank) + 1;

	if (age_after_ns > (UINT64_MAX - request->enqueued_ns) / steps)
		return UINT64_MAX;
	return request->enqueued_ns + steps * age_after_ns;
}

/* The one that is due first; interactive is the top and ages no more. */
static struct policy_request *first_due(
	const struct age *age, uint64_t age_after_ns)
{
	struct policy_request *first = NULL;

	for (int class = POLICY_NORMAL; class < POLICY_CLASSES; class ++) {
		for (int rank = POLICY_NORMAL; rank <= class; rank++) {
			struct policy_request *head =
				timeline_first(&age->lists[class][rank]);

			if (head == NULL)
				continue;
			if (first == NULL ||
				due_ns(head, age_after_ns) <
					due_ns(first, age_after_ns))
				first = head;
		}
	}
	return first;
}

struct policy_request *age_due(
	const struct age *age, uint64_t age_after_ns, uint64_t now_ns)
{
	if (age_next_ns(age, age_after_ns) > now_ns)
		return NULL;
	return first_due(age, age_after_ns);
}

uint64_t age_next_ns(const struct age *age, uint64_t age_after_ns)
{
	const struct policy_request *first;

	if (age_after_ns == 0)
		return UINT64_MAX;
	first = first_due(age, age_after_ns);
	return first ? due_ns(first, age_after_ns) : UINT64_MAX;
}

uint64_t age_oldest_ns(const struct age *age)
{
	uint64_t oldest_ns = 0;

	for (int class = 0; class < POLICY_CLASSES; class ++) {
		for (int rank = 0; rank <= class; rank++) {
			const struct policy_request *head =
				timeline_first(&age->lists[class][rank]);

			if (head && (oldest_ns == 0 ||
					    head->enqueued_ns < oldest_ns))
				oldest_ns = head->enqueued_ns;
		}
	}
	return oldest_ns;
}
