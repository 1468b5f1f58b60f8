/*
 * Predicted waits.  Rough: how often this lane can start one, from its limits
 * and from how long requests run lately, times how many go before.
 */
#include "coordinator/policy/inside.h"

#define LEAST_NS UINT64_C(1000000) /* 0 would mean: no use */

static uint64_t later_of(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns > b_ns ? a_ns : b_ns;
}

/* Time between two starts that a window and a concurrency allow. */
static uint64_t interval_ns(
	const struct window *window, uint32_t max_concurrent, uint64_t hold_ns)
{
	uint64_t ns = LEAST_NS;

	if (window->limit != 0)
		ns = later_of(ns, window->span_ns / window->limit);
	if (max_concurrent != 0)
		ns = later_of(ns, hold_ns / max_concurrent);
	return ns;
}

static uint64_t host_interval_ns(const struct policy *policy)
{
	return interval_ns(&policy->window,
		policy->settings->config.max_concurrent, policy->hold_ns);
}

/* The host's starts are shared by the lanes: with a full host this is short. */
static uint64_t lane_interval_ns(
	const struct policy *policy, const struct policy_lane *lane)
{
	return later_of(host_interval_ns(policy),
		interval_ns(
			&lane->window, lane->max_concurrent, lane->hold_ns));
}

static uint64_t until_ns(uint64_t time_ns, uint64_t now_ns)
{
	return time_ns > now_ns ? time_ns - now_ns : 0;
}

static uint64_t gate_ns(const struct policy_lane *lane, uint64_t now_ns)
{
	return lane->gate.is_closed ? until_ns(lane->gate.opens_ns, now_ns) : 0;
}

/* Users take turns, so that at most `own` rounds go before. */
static uint64_t rounds_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t own, uint64_t now_ns)
{
	const struct policy_lane *lane = request->lane;
	uint64_t before = own * policy->n_active;

	before = before < lane->queued ? before : lane->queued;
	before = before > 0 ? before : 1;
	return gate_ns(lane, now_ns) + before * lane_interval_ns(policy, lane);
}

uint64_t policy_predict_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	return rounds_ns(policy, request, request->user_entry->queued, now_ns);
}

/* Where users of the same service meet. */
static uint32_t position(const struct policy_request *request)
{
	return request->lane->queued + request->lane->backing_off;
}

void predict(const struct policy *policy, const struct policy_request *request,
	uint64_t now_ns, uint32_t *ret_position, uint64_t *ret_ns)
{
	*ret_position = position(request);
	*ret_ns = policy_predict_ns(policy, request, now_ns);
}

uint64_t predict_place_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	return rounds_ns(policy, request, 1, now_ns);
}

uint64_t predict_host_ns(const struct policy *policy)
{
	return host_interval_ns(policy);
}
