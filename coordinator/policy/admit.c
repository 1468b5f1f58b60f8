/* Who may start now. */
#include "coordinator/policy/inside.h"

#include <utlist.h>

/* Asked again after this when memory for a stamp was short. */
#define NO_MEMORY_NS UINT64_C(100000000)

/* To the tail of its user's queue in the class above. */
static void age_all(struct policy *policy, uint64_t now_ns)
{
	uint64_t after_ns = policy->settings->config.age_after_ns;
	struct policy_request *request;

	while ((request = age_due(&policy->age, after_ns, now_ns)) != NULL) {
		age_leave(&policy->age, request);
		order_leave(request);
		request->p.rank--;
		age_enter(&policy->age, request);
		order_enter(request, false);
	}
}

static bool is_at(uint32_t running, uint32_t limit)
{
	return limit != 0 && running >= limit;
}

/* One start more, as far as the account goes. */
static uint64_t leased_start(struct policy *policy, struct lease *lease,
	struct window *window, uint64_t now_ns)
{
	return policy->share == NULL
		       ? 0
		       : lease_wait_start(lease, policy->share, window, now_ns);
}

/* The same of tokens; more than the limit goes when the bucket is full. */
static uint64_t leased_tokens(struct policy *policy, struct lease *lease,
	const struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	return policy->share == NULL
		       ? 0
		       : lease_wait_tokens(lease, policy->share,
				 earlier(amount, tokens->limit), now_ns);
}

static enum policy_reason host_hold(
	struct policy *policy, uint64_t now_ns, uint64_t *ret_wait_ns)
{
	*ret_wait_ns = UINT64_MAX;
	if (is_at(policy->running, policy->settings->config.max_concurrent))
		return POLICY_WAIT_HOST_CONCURRENCY;
	*ret_wait_ns = window_wait(&policy->window, now_ns);
	if (*ret_wait_ns != 0)
		return POLICY_WAIT_HOST_REQUESTS;
	*ret_wait_ns =
		leased_start(policy, &policy->lease, &policy->window, now_ns);
	return *ret_wait_ns != 0 ? POLICY_WAIT_CLUSTER_REQUESTS
				 : POLICY_WAIT_TURN;
}

static uint64_t host_wait(struct policy *policy, uint64_t now_ns)
{
	uint64_t wait_ns;
	enum policy_reason reason = host_hold(policy, now_ns, &wait_ns);

	why_host(policy, reason, wait_ns, now_ns);
	return wait_ns;
}

static bool is_batch_at_share(const struct policy *policy,
	const struct policy_lane *lane, const struct policy_request *request)
{
	return request->p.rank == POLICY_BATCH &&
	       (is_at(policy->batch_running, policy->batch_limit) ||
		       is_at(lane->batch_running, lane->batch_limit));
}

static enum policy_reason gate_reason(const struct gate *gate)
{
	if (gate->probe != NULL)
		return POLICY_WAIT_PROBE;
	return gate->is_day ? POLICY_WAIT_DAY_CLOSED : POLICY_WAIT_GATE;
}

/* The configured limit of starts, then the account's, then the adapted one. */
static enum policy_reason starts_hold(struct policy *policy,
	struct policy_lane *lane, uint64_t now_ns, uint64_t *ret_wait_ns)
{
	*ret_wait_ns = window_wait(&lane->window, now_ns);
	if (*ret_wait_ns != 0)
		return POLICY_WAIT_LANE_REQUESTS;
	*ret_wait_ns =
		leased_start(policy, &lane->lease, &lane->window, now_ns);
	if (*ret_wait_ns != 0)
		return POLICY_WAIT_CLUSTER_REQUESTS;
	*ret_wait_ns = adapt_wait_starts(&lane->adapt, &lane->window, now_ns);
	return *ret_wait_ns != 0 ? POLICY_WAIT_LANE_RATE : POLICY_WAIT_TURN;
}

/* The same of tokens. */
static enum policy_reason tokens_hold(struct policy *policy,
	struct policy_lane *lane, uint64_t amount, uint64_t now_ns,
	uint64_t *ret_wait_ns)
{
	*ret_wait_ns = tokens_wait(&lane->tokens, amount, now_ns);
	if (*ret_wait_ns != 0)
		return tokens_wait_for_day(&lane->tokens, *ret_wait_ns)
			       ? POLICY_WAIT_LANE_DAY
			       : POLICY_WAIT_LANE_TOKENS;
	*ret_wait_ns = leased_tokens(
		policy, &lane->lease, &lane->tokens, amount, now_ns);
	if (*ret_wait_ns != 0)
		return POLICY_WAIT_CLUSTER_TOKENS;
	*ret_wait_ns = adapt_wait_tokens(&lane->adapt, amount, now_ns);
	return *ret_wait_ns != 0 ? POLICY_WAIT_LANE_RATE : POLICY_WAIT_TURN;
}

/* What holds this request, the lane's first, and when that may end: 0 where
 * nothing does. */
static enum policy_reason lane_hold(struct policy *policy,
	struct policy_lane *lane, const struct policy_request *request,
	uint64_t now_ns, uint64_t *ret_wait_ns)
{
	const struct policy_config *config = &policy->settings->config;
	enum policy_reason reason;

	lane_look(lane, now_ns);
	*ret_wait_ns =
		gate_wait(&lane->gate, config->probe_ok_after_ns, now_ns);
	if (*ret_wait_ns != 0)
		return gate_reason(&lane->gate);
	*ret_wait_ns = UINT64_MAX;
	if (is_at(lane->running, lane->max_concurrent))
		return POLICY_WAIT_LANE_CONCURRENCY;
	reason = starts_hold(policy, lane, now_ns, ret_wait_ns);
	if (reason != POLICY_WAIT_TURN)
		return reason;
	*ret_wait_ns = UINT64_MAX;
	if (is_batch_at_share(policy, lane, request))
		return POLICY_WAIT_BATCH_SHARE;
	return tokens_hold(policy, lane, lane_reservation(lane, request),
		now_ns, ret_wait_ns);
}

/*
 * When this request, the lane's first, may start: 0 now, else the time.  What
 * stops it and would not stop every other one of the lane ends no later than
 * the next ageing, which may put another one first.
 */
static uint64_t lane_wait(struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request, uint64_t now_ns)
{
	uint64_t wait_ns;
	enum policy_reason reason =
		lane_hold(policy, lane, request, now_ns, &wait_ns);

	why_lane(lane, reason, wait_ns, now_ns);
	if (reason != POLICY_WAIT_BATCH_SHARE &&
		reason != POLICY_WAIT_LANE_TOKENS &&
		reason != POLICY_WAIT_LANE_RATE &&
		reason != POLICY_WAIT_LANE_DAY &&
		reason != POLICY_WAIT_CLUSTER_TOKENS)
		return wait_ns;
	return earlier(wait_ns, age_next_ns(&policy->age,
					policy->settings->config.age_after_ns));
}

/*
 * The best class first; between lanes with the same one, the lane that was
 * served least recently: `ready` is in that order.
 */
static struct policy_request *pick(
	struct policy *policy, uint64_t now_ns, uint64_t *next_ns)
{
	struct policy_request *best = NULL;
	struct policy_lane *lane;

	DL_FOREACH (policy->ready, lane) {
		struct policy_request *first = order_first(lane);
		uint64_t wait_ns;

		if (best != NULL && first->p.rank >= best->p.rank)
			continue;
		wait_ns = lane_wait(policy, lane, first, now_ns);
		if (wait_ns == 0)
			best = first;
		else
			*next_ns = earlier(*next_ns, wait_ns);
		if (best != NULL && best->p.rank == POLICY_INTERACTIVE)
			break;
	}
	return best;
}

/* The picked one is the host's first; what stops it ends no later than the next
 * ageing, which may put another one first. */
static bool host_has_tokens(struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t *next_ns)
{
	uint64_t age_ns = age_next_ns(
		&policy->age, policy->settings->config.age_after_ns);
	uint64_t amount = lane_reservation(request->lane, request);
	uint64_t wait_ns = tokens_wait(&policy->tokens, amount, now_ns);
	enum policy_reason reason =
		tokens_wait_for_day(&policy->tokens, wait_ns)
			? POLICY_WAIT_HOST_DAY
			: POLICY_WAIT_HOST_TOKENS;

	if (wait_ns == 0) {
		wait_ns = leased_tokens(policy, &policy->lease, &policy->tokens,
			amount, now_ns);
		reason = POLICY_WAIT_CLUSTER_TOKENS;
	}
	if (wait_ns == 0)
		return true;
	why_host(policy, reason, wait_ns, now_ns);
	*next_ns = earlier(*next_ns, earlier(wait_ns, age_ns));
	return false;
}

/* When time alone lets somebody into the order.  Where a queue is held by its
 * first one's tokens, ageing may put a smaller one first. */
static uint64_t by_itself_ns(const struct policy *policy)
{
	uint64_t next_ns = earlier(
		heap_first_key(&policy->due), heap_first_key(&policy->parked));

	if (policy->parked.n == 0)
		return next_ns;
	return earlier(next_ns, age_next_ns(&policy->age,
					policy->settings->config.age_after_ns));
}

/* The lane has had its turn. */
static void rotate(struct policy *policy, struct policy_lane *lane)
{
	lane->served = ++policy->turns;
	if (!lane->is_ready || lane->next == NULL)
		return;
	DL_DELETE(policy->ready, lane);
	DL_APPEND(policy->ready, lane);
}

struct policy_request *policy_admit(
	struct policy *policy, uint64_t now_ns, uint64_t *ret_next_ns)
{
	struct policy_request *request;

	now_ns = policy_clock(policy, now_ns);
	*ret_next_ns = now_ns;
	if (timeline_first_time(&policy->deadlines) <= now_ns)
		return NULL; /* policy_expire() has the word first */
	share_look(policy, now_ns);
	place_wake_due(policy, now_ns);
	age_all(policy, now_ns);
	order_wake_parked(policy, now_ns);
	*ret_next_ns = by_itself_ns(policy);
	if (policy->ready == NULL) {
		why_host(policy, POLICY_WAIT_TURN, 0, now_ns);
		return NULL;
	}
	*ret_next_ns = host_wait(policy, now_ns);
	if (*ret_next_ns != 0)
		return NULL;
	*ret_next_ns = by_itself_ns(policy);
	request = pick(policy, now_ns, ret_next_ns);
	if (request == NULL)
		return NULL;
	place_fetch(policy, request);
	if (!host_has_tokens(policy, request, now_ns, ret_next_ns))
		return NULL;
	if (place_reserve_start(policy, request) != 0) {
		*ret_next_ns = now_ns + NO_MEMORY_NS;
		return NULL;
	}
	place_run(policy, request, now_ns);
	rotate(policy, request->lane);
	order_fetch(request->lane);
	*ret_next_ns = now_ns;
	return request;
}
