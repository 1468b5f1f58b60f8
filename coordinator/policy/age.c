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
				offsetof(struct policy_request, p.age_place));
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
		list_of(age, request), request, request->enqueued_ns);
}

void age_leave(struct age *age, struct policy_request *request)
{
	timeline_leave(list_of(age, request), request);
}

void age_fetch(const struct age *age, const struct policy_request *request)
{
	timeline_fetch(&age->lists[request->class][request->p.rank], request);
}

/* When the first of a list is due; UINT64_MAX: never. */
static uint64_t due_ns(
	const struct age *age, int class, int rank, uint64_t age_after_ns)
{
	uint64_t enqueued_ns = timeline_first_time(&age->lists[class][rank]);
	uint64_t steps = (uint64_t)(class - rank) + 1;

	if (age_after_ns > (UINT64_MAX - enqueued_ns) / steps)
		return UINT64_MAX;
	return enqueued_ns + steps * age_after_ns;
}

/* The list whose first is due first, and when; interactive is the top and ages
 * no more.  Looks at no request. */
static const struct timeline *first_due(
	const struct age *age, uint64_t age_after_ns, uint64_t *ret_due_ns)
{
	const struct timeline *first = NULL;

	*ret_due_ns = UINT64_MAX;
	for (int class = POLICY_NORMAL; class < POLICY_CLASSES; class ++) {
		for (int rank = POLICY_NORMAL; rank <= class; rank++) {
			uint64_t at_ns = due_ns(age, class, rank, age_after_ns);

			if (at_ns >= *ret_due_ns)
				continue;
			first = &age->lists[class][rank];
			*ret_due_ns = at_ns;
		}
	}
	return first;
}

struct policy_request *age_due(
	const struct age *age, uint64_t age_after_ns, uint64_t now_ns)
{
	const struct timeline *first;
	uint64_t at_ns;

	if (age_after_ns == 0)
		return NULL;
	first = first_due(age, age_after_ns, &at_ns);
	return first != NULL && at_ns <= now_ns ? timeline_first(first) : NULL;
}

uint64_t age_next_ns(const struct age *age, uint64_t age_after_ns)
{
	uint64_t at_ns;

	if (age_after_ns == 0)
		return UINT64_MAX;
	(void)first_due(age, age_after_ns, &at_ns);
	return at_ns;
}

uint64_t age_oldest_ns(const struct age *age)
{
	uint64_t oldest_ns = UINT64_MAX;

	for (int class = 0; class < POLICY_CLASSES; class ++)
		for (int rank = 0; rank <= class; rank++) {
			uint64_t at_ns =
				timeline_first_time(&age->lists[class][rank]);

			oldest_ns = at_ns < oldest_ns ? at_ns : oldest_ns;
		}
	return oldest_ns == UINT64_MAX ? 0 : oldest_ns;
}
