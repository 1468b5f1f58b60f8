/* What a restarted rgovd puts back. */
#include "coordinator/policy/inside.h"

#include <errno.h>

int policy_restore_start(struct policy *policy, const char *model_id,
	uint64_t started_ns, uint64_t now_ns)
{
	struct policy_lane *lane;
	int rc;

	now_ns = policy_clock(policy, now_ns);
	lane = lane_get(policy, model_id, now_ns);
	if (lane == NULL)
		return -ENOMEM;
	rc = window_restore(&policy->window, started_ns, now_ns);
	return rc != 0 ? rc : window_restore(&lane->window, started_ns, now_ns);
}

static void restore(
	struct tokens *tokens, const struct policy_left *left, uint64_t now_ns)
{
	tokens_restore(tokens, left->available, left->used_today, left->day,
		earlier(left->at_ns, now_ns), now_ns);
}

int policy_restore_tokens(struct policy *policy, const char *lane_name,
	const struct policy_left *left, uint64_t now_ns)
{
	struct policy_lane *lane;

	now_ns = policy_clock(policy, now_ns);
	lane = lane_get(policy, lane_name, now_ns);
	if (lane == NULL)
		return -ENOMEM;
	restore(&lane->tokens, left, now_ns);
	return 0;
}

void policy_restore_host(
	struct policy *policy, const struct policy_left *left, uint64_t now_ns)
{
	restore(&policy->tokens, left, policy_clock(policy, now_ns));
	policy->is_restored = true;
}

int policy_restore_user(struct policy *policy, const char *app,
	const char *name, const struct policy_left *left, uint64_t now_ns)
{
	struct user_key key = user_key(policy, app, name);
	struct policy_user *user;
	struct budget *budget;
	int rc = 0;

	now_ns = policy_clock(policy, now_ns);
	user = user_get(policy, &key);
	if (user == NULL)
		return -ENOMEM;
	budget = user->budget;
	if (budget == NULL)
		return 0;
	restore(&budget->tokens, left, now_ns);
	budget->is_restored = true;
	for (uint32_t i = 0; i < left->starts && rc == 0; i++)
		rc = window_restore(&budget->window, now_ns, now_ns);
	return rc;
}

static void empty(struct tokens *tokens, uint64_t at_ns)
{
	tokens_restore(tokens, 0, tokens_used_today(tokens, at_ns),
		tokens_day_at(tokens, at_ns), at_ns, at_ns);
}

static void fill(const struct policy *policy, struct policy_lane *lane)
{
	lane->window.full_until_ns = policy->full_until_ns;
	empty(&lane->tokens, policy->full_from_ns);
}

void policy_restore_full(
	struct policy *policy, uint64_t from_ns, uint64_t now_ns)
{
	policy->full_from_ns = earlier(from_ns, policy_clock(policy, now_ns));
	policy->full_until_ns = policy->full_from_ns + policy->window.span_ns;
	policy->window.full_until_ns = policy->full_until_ns;
	empty(&policy->tokens, policy->full_from_ns);
	fill(policy, policy->fallback);
	for (size_t i = 0; i < policy->n_lanes; i++)
		fill(policy, policy->lanes[i]);
}

int policy_restore_running(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	now_ns = policy_clock(policy, now_ns);
	if (place_adopt(policy, request, now_ns) != 0)
		return -ENOMEM;
	if (place_reserve_start(policy, request) != 0) {
		place_forget(policy, request);
		return -ENOMEM;
	}
	place_run(policy, request, now_ns);
	policy_started(policy, request, now_ns);
	return 0;
}

int policy_restore_held(struct policy *policy, struct policy_request *request,
	int64_t reserved, uint64_t started_ns, uint64_t now_ns)
{
	now_ns = policy_clock(policy, now_ns);
	if (place_adopt(policy, request, now_ns) != 0)
		return -ENOMEM;
	place_hold(policy, request, reserved, started_ns, now_ns);
	return 0;
}
