/* Retries: backoff, budget, and what the gate is told. */
#include "coordinator/policy/inside.h"

#include <assert.h>

enum { THROTTLE_COST = 5, TRANSIENT_COST = 14 };

/* splitmix64; the same seed gives the same trace. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* base x 2^(n-1), at most the cap. */
static uint64_t ceiling_ns(uint64_t base_ns, uint32_t n, uint64_t cap_ns)
{
	for (uint32_t i = 1; i < n && base_ns < cap_ns; i++)
		base_ns = base_ns > cap_ns / 2 ? cap_ns : base_ns * 2;
	return earlier(base_ns, cap_ns);
}

/* How long to wait after failure number n (from 1): full jitter. */
static uint64_t delay_after(struct policy *policy, enum policy_failure failure,
	uint32_t n, uint64_t hint_ns)
{
	const struct policy_config *config = &policy->settings->config;
	uint64_t base_ns = failure == POLICY_FAIL_THROTTLE
				   ? config->throttle_base_ns
				   : config->transient_base_ns;
	uint64_t most_ns = ceiling_ns(base_ns, n, config->backoff_cap_ns);
	double part = (double)(next_random(&policy->jitter) >> 11) * 0x1p-53;
	uint64_t delay_ns = (uint64_t)((double)most_ns * part);

	return delay_ns > hint_ns ? delay_ns : hint_ns;
}

/* a + b, at most UINT64_MAX: a hint may be anything. */
static uint64_t later(uint64_t a_ns, uint64_t b_ns)
{
	return a_ns > UINT64_MAX - b_ns ? UINT64_MAX : a_ns + b_ns;
}

uint64_t retry_throttled(struct policy *policy, struct policy_request *request,
	uint64_t hint_ns, uint64_t now_ns)
{
	struct gate *gate = &request->lane->gate;
	bool is_heard = gate_hears(gate, request);
	uint32_t n = request->attempts;
	uint64_t delay_ns;

	/* Probes are fresh requests: the row of failures is the lane's. */
	if (is_heard && n <= gate->failures)
		n = gate->failures + 1;
	delay_ns = delay_after(policy, POLICY_FAIL_THROTTLE, n, hint_ns);
	if (is_heard)
		gate_close(gate, later(now_ns, delay_ns));
	request->p.flags |= POLICY_COUNTED;
	request->lane->throttled++;
	return delay_ns;
}

/* False: the budget is spent. */
static bool pay(struct policy_request *request, enum policy_failure failure)
{
	struct policy_lane *lane = request->lane;
	uint32_t cost = failure == POLICY_FAIL_THROTTLE ? THROTTLE_COST
							: TRANSIENT_COST;

	if (lane->retry_budget != 0) {
		if (lane->retry_left < cost)
			return false;
		lane->retry_left -= cost;
	}
	request->p.retry_cost = cost;
	return true;
}

void retry_refund(const struct policy_request *request)
{
	struct policy_lane *lane = request->lane;

	lane->retry_left += request->attempts > 1 ? request->p.retry_cost : 1;
	if (lane->retry_left > lane->retry_budget)
		lane->retry_left = lane->retry_budget;
}

bool policy_retry(struct policy *policy, struct policy_request *request,
	enum policy_failure failure, uint64_t hint_ns, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	uint64_t delay_ns, used = 0;

	assert(request->state == POLICY_RUNNING);
	now_ns = policy_clock(policy, now_ns);
	gate_look(&lane->gate, policy->settings->config.probe_ok_after_ns,
		now_ns);
	if (failure == POLICY_FAIL_THROTTLE) {
		delay_ns = retry_throttled(policy, request, hint_ns, now_ns);
	} else {
		gate_passed(&lane->gate, request, false);
		delay_ns = delay_after(
			policy, failure, request->attempts, hint_ns);
	}
	if (request->is_permit ||
		request->attempts >= policy->settings->config.max_attempts ||
		later(now_ns, delay_ns) >= request->deadline_ns ||
		!pay(request, failure))
		return false;
	if (failure == POLICY_FAIL_LOST &&
		(request->p.flags & POLICY_STARTED) != 0) {
		used = request->p.reserved_tokens;
		lane->lost++;
	}
	lane->retries++;
	/* Cost 0: its next admission charges it again, so that it counts once
	 * and its user has its turn back. */
	place_stop(policy, request, used, 0, now_ns);
	place_back_off(policy, request, now_ns + delay_ns);
	return true;
}
