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

int policy_restore_tokens(struct policy *policy, const char *model_id,
	int64_t available, int64_t used_today, uint64_t at_ns, uint64_t now_ns)
{
	struct policy_lane *lane;

	now_ns = policy_clock(policy, now_ns);
	lane = lane_get(policy, model_id, now_ns);
	if (lane == NULL)
		return -ENOMEM;
	tokens_restore(&lane->tokens, available, used_today,
		earlier(at_ns, now_ns), now_ns);
	return 0;
}

static void fill(const struct policy *policy, struct policy_lane *lane)
{
	lane->window.full_until_ns = policy->full_until_ns;
	tokens_restore(&lane->tokens, 0,
		tokens_used_today(&lane->tokens, policy->full_from_ns),
		policy->full_from_ns, policy->full_from_ns);
}

void policy_restore_full(
	struct policy *policy, uint64_t from_ns, uint64_t now_ns)
{
	policy->full_from_ns = earlier(from_ns, policy_clock(policy, now_ns));
	policy->full_until_ns = policy->full_from_ns + policy->window.span_ns;
	policy->window.full_until_ns = policy->full_until_ns;
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
	if (window_reserve(&policy->window) != 0 ||
		window_reserve(&request->lane->window) != 0) {
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
