/*
 * Permits that were not settled in time.  They hold nothing: what a late
 * settlement corrects is looked for, and may be forgotten by then.
 */
#include "coordinator/policy/inside.h"

#include <assert.h>
#include <errno.h>

void policy_overrun(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	uint64_t tokens = request->p.reserved_tokens;

	request->p.arrival = request->lane->made;
	policy_finish(policy, request, POLICY_DONE, NULL, now_ns);
	request->p.charged = tokens > 0 ? tokens : 1;
	request->p.reserved_tokens = tokens;
	request->state = POLICY_OVERDUE;
}

int policy_restore_overdue(struct policy *policy,
	struct policy_request *request, uint64_t charged, uint64_t started_ns,
	uint64_t now_ns)
{
	now_ns = policy_clock(policy, now_ns);
	if (place_adopt(policy, request, now_ns) != 0)
		return -ENOMEM;
	request->p.day =
		(uint32_t)tokens_day_at(&request->lane->tokens, started_ns);
	if (request->user_entry->budget != NULL)
		request->p.flags = POLICY_BUDGETED;
	request->p.arrival = request->lane->made;
	place_forget(policy, request);
	/* The service of a predecessor is not known: p.charged stays 0. */
	request->p.reserved_tokens = charged;
	request->state = POLICY_OVERDUE;
	return 0;
}

/* What it used in the end, and what that is to the service. */
static uint64_t settle(struct policy *policy, struct policy_request *request,
	enum policy_outcome outcome, const struct policy_usage *usage,
	uint64_t *ret_cost)
{
	uint64_t used = request->p.reserved_tokens;

	*ret_cost = request->p.charged;
	switch (outcome) {
	case POLICY_LOST:
		break;
	case POLICY_DONE:
		used = lane_used(
			request->lane ? request->lane : policy->fallback,
			request, usage);
		*ret_cost = used > 0 ? used : 1;
		break;
	case POLICY_THROTTLED:
		if (request->lane != NULL)
			(void)retry_failed(policy, request,
				POLICY_FAIL_THROTTLE, 0, policy->now_ns);
		used = 0;
		*ret_cost = 1;
		break;
	case POLICY_UNUSED:
		used = *ret_cost = 0;
		break;
	}
	return used;
}

static void correct_leases(struct policy *policy,
	const struct policy_request *request, uint64_t used)
{
	bool is_leased = (request->p.flags & POLICY_LEASED) != 0;

	if (policy->share == NULL)
		return;
	lease_settle(&policy->lease, policy->share, is_leased,
		request->p.reserved_tokens, used, policy->now_ns);
	if (request->lane != NULL)
		lease_settle(&request->lane->lease, policy->share, is_leased,
			request->p.reserved_tokens, used, policy->now_ns);
}

static void correct_user(struct policy *policy,
	const struct policy_request *request, uint64_t used, uint64_t cost)
{
	struct user_key key = user_key(policy, request->app, request->user);
	struct policy_user *user = user_find(policy, &key);
	struct seat *seat = NULL;

	if (user == NULL)
		return;
	if (request->lane != NULL)
		seat = user_find_seat(user, request->lane);
	if (seat != NULL && request->p.charged != 0)
		order_correct(seat, request->p.rank, request->p.charged, cost);
	if (user->budget == NULL || !(request->p.flags & POLICY_BUDGETED))
		return;
	tokens_correct(&user->budget->tokens, request->p.reserved_tokens, used,
		request->p.day, policy->now_ns);
	order_user_changed(user);
}

void policy_settle_overdue(struct policy *policy,
	struct policy_request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	uint64_t was = request->p.reserved_tokens, day = request->p.day;
	uint64_t used, cost;

	assert(request->state == POLICY_OVERDUE);
	now_ns = policy_clock(policy, now_ns);
	request->state = POLICY_NEW;
	request->lane = lane_of_turn(policy, request->p.arrival);
	if (request->lane != NULL)
		lane_look(request->lane, now_ns);
	used = settle(policy, request, outcome, usage, &cost);
	if (request->lane != NULL)
		tokens_correct(&request->lane->tokens, was, used, day, now_ns);
	tokens_correct(&policy->tokens, was, used, day, now_ns);
	correct_leases(policy, request, used);
	correct_user(policy, request, used, cost);
	request->lane = NULL;
	request->p.reserved_tokens = 0;
}
