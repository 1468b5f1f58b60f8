/* What the board shows. */
#include "coordinator/policy/inside.h"

#include <utlist.h>

void policy_view_host(const struct policy *policy, uint64_t now_ns,
	struct policy_host_view *ret_view)
{
	const struct policy_config *config = &policy->settings->config;

	*ret_view = (struct policy_host_view){
		.running = policy->running,
		.running_peak = policy->running_peak,
		.running_limit = config->max_concurrent,
		.queued = policy->queued,
		.queued_peak = policy->queued_peak,
		.queued_limit = config->max_queued,
		.starts = window_count(&policy->window, now_ns),
		.starts_peak = policy->window.peak,
		.starts_limit = config->requests_per_minute,
		.users = policy->n_active,
		.oldest_enqueued_ns = age_oldest_ns(&policy->age),
		.tokens_available = tokens_available(&policy->tokens, now_ns),
		.tokens_limit = policy->tokens.limit,
		.tokens_reserved = policy->tokens.reserved,
		.tokens_used_today = tokens_used_today(&policy->tokens, now_ns),
		.tokens_day_limit = policy->tokens.day_limit,
		.tokens_day = tokens_day(&policy->tokens, now_ns),
	};
	lease_look(&policy->lease, policy->share, &ret_view->lease);
}

void policy_view_lane(const struct policy_lane *lane, uint64_t now_ns,
	struct policy_lane_view *ret_view)
{
	struct gate gate = lane->gate;
	struct adapt adapt = lane->adapt;

	lane_look_ahead(lane, now_ns, &gate, &adapt);
	*ret_view = (struct policy_lane_view){
		.name = lane->name,
		.pattern = lane->model ? lane->model->pattern : "",
		.running = lane->running,
		.running_peak = lane->running_peak,
		.running_limit = lane->max_concurrent,
		.queued = lane->queued,
		.backing_off = lane->backing_off,
		.starts = window_count(&lane->window, now_ns),
		.starts_peak = lane->window.peak,
		.starts_limit = lane->window.limit,
		.tokens_available = tokens_available(&lane->tokens, now_ns),
		.tokens_limit = lane->tokens.limit,
		.tokens_reserved = lane->tokens.reserved,
		.tokens_used_today = tokens_used_today(&lane->tokens, now_ns),
		.tokens_day_limit = lane->tokens.day_limit,
		.tokens_day = tokens_day(&lane->tokens, now_ns),
		.admitted = lane->admitted,
		.done = lane->done,
		.throttled = lane->throttled,
		.lost = lane->lost,
		.absurd_usage = lane->absurd_usage,
		.retries = lane->retries,
		.diverted = lane->diverted,
		.retry_budget_left = lane->retry_left,
		.rate = adapt_part(&adapt, now_ns),
		.starts_allowed =
			adapt.starts.limit == 0
				? lane->window.limit
				: (uint32_t)rate_now(&adapt.starts, now_ns),
		.tokens_allowed = adapt.tokens.limit == 0
					  ? lane->tokens.limit
					  : rate_now(&adapt.tokens, now_ns),
		.gate_open = !gate.is_closed,
		.gate_opens_ns = gate.is_closed ? gate.opens_ns : 0,
		.gate_closings = gate.epoch,
		.gate_probes = gate.probes,
		.learned_output = lane->learned.p95,
		.reason = why_of_lane(lane)->reason,
		.reason_since_ns = why_of_lane(lane)->begun_ns,
	};
	lease_look(&lane->lease, lane->policy->share, &ret_view->lease);
}

static bool show_lane(const struct policy_lane *lane, uint64_t now_ns,
	bool (*see)(const struct policy_lane_view *view, void *arg), void *arg)
{
	struct policy_lane_view view;

	policy_view_lane(lane, now_ns, &view);
	return see(&view, arg);
}

void policy_each_lane(const struct policy *policy, uint64_t now_ns,
	bool (*see)(const struct policy_lane_view *view, void *arg), void *arg)
{
	if (!show_lane(policy->fallback, now_ns, see, arg))
		return;
	for (size_t i = 0; i < policy->n_lanes; i++)
		if (!show_lane(policy->lanes[i], now_ns, see, arg))
			return;
}

static void view_budget(const struct budget *budget, uint64_t now_ns,
	struct policy_user_view *view)
{
	view->has_budget = true;
	view->starts = window_count(&budget->window, now_ns);
	view->starts_limit = budget->window.limit;
	view->tokens_available = tokens_available(&budget->tokens, now_ns);
	view->tokens_limit = budget->tokens.limit;
	view->tokens_used_today = tokens_used_today(&budget->tokens, now_ns);
	view->tokens_day_limit = budget->tokens.day_limit;
	view->tokens_day = tokens_day(&budget->tokens, now_ns);
}

void policy_view_user(const struct policy_user *user, uint64_t now_ns,
	struct policy_user_view *ret_view)
{
	const struct seat *seat = user->seats;

	*ret_view = (struct policy_user_view){
		.name = user->name,
		.app = user->app->name,
		.running = user->running,
		.running_limit = user->max_running,
		.queued = user->queued,
		.queued_limit = user->max_queued,
		.service = user->service,
		.learned_output =
			seat && seat->learned ? seat->learned->p95 : 0,
		.weight = user->weight,
		.admitted = user->admitted,
		.done = user->done,
		.refused = user->refused,
		.last_ns = user->last_ns,
	};
	if (user->budget != NULL)
		view_budget(user->budget, now_ns, ret_view);
}

static bool show_users(const struct policy_user *list, uint64_t now_ns,
	bool (*see)(const struct policy_user_view *view, void *arg), void *arg)
{
	for (const struct policy_user *user = list; user; user = user->next) {
		struct policy_user_view view;

		policy_view_user(user, now_ns, &view);
		if (!see(&view, arg))
			return false;
	}
	return true;
}

void policy_each_user(const struct policy *policy, uint64_t now_ns,
	bool (*see)(const struct policy_user_view *view, void *arg), void *arg)
{
	if (show_users(policy->active, now_ns, see, arg) &&
		show_users(policy->idle, now_ns, see, arg))
		(void)show_users(policy->kept, now_ns, see, arg);
}

bool policy_counts_starts(
	const struct policy *policy, const struct policy_request *request)
{
	return policy->settings->config.requests_per_minute != 0 ||
	       request->lane->window.limit != 0;
}

bool policy_counts_tokens(const struct policy_request *request)
{
	const struct tokens *tokens = &request->lane->tokens;

	return tokens->limit != 0 || tokens->day_limit != 0;
}

bool policy_counts_budget(const struct policy_request *request)
{
	return request->user_entry->budget != NULL;
}
