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

/* How many transient failures in a row are an outage: before a request that is
 * alone in its lane has used up its attempts. */
static uint32_t outage_after(const struct policy *policy)
{
	return policy->settings->config.max_attempts == 2 ? 2 : 3;
}

static uint64_t id_of(
	const struct policy *policy, const struct policy_request *request)
{
	return names_hash(policy->hash_key, request->model_id) | 1;
}

/* One more transient failure: may it be the lane's?  Many model ids share the
 * default one; of one alone, where another was answered, it is that id's. */
static bool is_lanes(const struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request)
{
	uint64_t id;

	if (lane != policy->fallback)
		return true;
	id = id_of(policy, request);
	if (lane->failed == 0)
		lane->failed_id = id;
	else if (lane->failed_id != id)
		lane->failed_id = 0;
	return lane->failed_id == 0 || lane->answered_id == 0 ||
	       lane->answered_id == id;
}

/* It is heard: does it close the gate? */
static bool is_closing(const struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request, enum policy_failure kind)
{
	bool may_be_outage;

	if (kind == POLICY_FAIL_ERROR)
		return false;
	if (kind == POLICY_FAIL_THROTTLE) {
		lane->failed = 0;
		return true;
	}
	may_be_outage = is_lanes(policy, lane, request);
	lane->failed++;
	return may_be_outage && (lane->failed >= outage_after(policy) ||
					lane->gate.probe == request);
}

void retry_answered(const struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request)
{
	lane->failed = 0;
	if (lane == policy->fallback)
		lane->answered_id = id_of(policy, request);
}

uint32_t retry_price(enum policy_failure kind)
{
	return kind == POLICY_FAIL_THROTTLE ? THROTTLE_COST : TRANSIENT_COST;
}

/* What another attempt costs.  With a closed gate there is one attempt at a
 * time in the lane, later each time: no storm to pay against. */
static uint32_t cost_of(enum policy_failure kind, bool is_probe, bool counts)
{
	bool is_free = kind == POLICY_FAIL_THROTTLE ? is_probe : !counts;

	return is_free ? 0 : retry_price(kind);
}

struct retry_failure retry_failed(struct policy *policy,
	struct policy_request *request, enum policy_failure kind,
	uint64_t hint_ns, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	struct gate *gate = &lane->gate;
	bool is_heard = gate_hears(gate, request);
	bool is_probe = gate->probe == request, was_closed = gate->is_closed;
	bool closes = is_heard && is_closing(policy, lane, request, kind);
	struct retry_failure failure;
	uint32_t n = request->attempts;

	/* Probes are fresh requests: the row of failures is the lane's. */
	if (closes && n <= gate->failures)
		n = gate->failures + 1;
	failure.delay_ns = delay_after(policy, kind, n, hint_ns);
	failure.counts = kind == POLICY_FAIL_ERROR ||
			 (kind != POLICY_FAIL_THROTTLE && !closes &&
				 (!was_closed || is_probe));
	failure.cost = cost_of(kind, is_probe, failure.counts);
	if (kind == POLICY_FAIL_THROTTLE) {
		request->p.flags |= POLICY_COUNTED;
		lane->throttled++;
		adapt_refused(lane, request, is_heard, now_ns);
	}
	if (closes)
		gate_close(gate, later(now_ns, failure.delay_ns));
	else
		gate_passed(gate, request, false);
	return failure;
}

bool retry_pay(struct policy_request *request, uint32_t cost)
{
	struct policy_lane *lane = request->lane;

	if (lane->retry_budget != 0) {
		if (lane->retry_left < cost)
			return false;
		lane->retry_left -= cost;
	}
	request->p.retry_cost = (uint8_t)cost;
	return true;
}

void retry_refund(const struct policy_request *request)
{
	struct policy_lane *lane = request->lane;

	lane->retry_left += request->p.retry_cost ? request->p.retry_cost : 1;
	if (lane->retry_left > lane->retry_budget)
		lane->retry_left = lane->retry_budget;
}

/* Has it failed too often? */
static bool is_given_up(const struct policy *policy,
	struct policy_request *request, const struct retry_failure *failure)
{
	uint32_t most = policy->settings->config.max_attempts;

	if (request->is_permit || most <= 1)
		return true;
	if (failure->counts || divert_is_possible(policy, request))
		request->p.failures++;
	return request->p.failures >= most;
}

bool policy_retry(struct policy *policy, struct policy_request *request,
	enum policy_failure kind, uint64_t hint_ns, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	struct retry_failure failure;
	uint64_t used = 0;

	assert(request->state == POLICY_RUNNING);
	now_ns = policy_clock(policy, now_ns);
	lane_look(lane, now_ns);
	failure = retry_failed(policy, request, kind, hint_ns, now_ns);
	request->p.flags |= POLICY_FAILED;
	if (is_given_up(policy, request, &failure) ||
		later(now_ns, failure.delay_ns) >= request->deadline_ns ||
		!retry_pay(request, failure.cost))
		return false;
	if (kind == POLICY_FAIL_LOST &&
		(request->p.flags & POLICY_STARTED) != 0) {
		used = request->p.reserved_tokens;
		lane->lost++;
	}
	lane->retries++;
	/* Cost 0: its next admission charges it again, so that it counts once
	 * and its user has its turn back. */
	place_stop(policy, request, used, 0, now_ns);
	place_back_off(policy, request, now_ns + failure.delay_ns);
	return true;
}
