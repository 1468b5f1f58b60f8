/*
 * All leases of a host: the mode and the times.  docs/cluster.md, sections 3
 * and 5.
 */
#include "coordinator/policy/inside.h"

#include <errno.h>
#include <stdlib.h>

static const uint64_t LEAST_TTL_NS = 50000000;
static const uint64_t MOST_PATIENCE_NS = 2000000000;

bool share_limit(
	struct policy *policy, size_t i, struct shared_limit *ret_limit)
{
	struct policy_lane *lane;

	if (i > policy->n_lanes)
		return false;
	if (i == 0) {
		*ret_limit = (struct shared_limit){.lease = &policy->lease,
			.window = &policy->window,
			.tokens = &policy->tokens};
		return true;
	}
	lane = policy->lanes[i - 1];
	*ret_limit = (struct shared_limit){
		lane, &lane->lease, &lane->window, &lane->tokens};
	return true;
}

static void set_limit(
	const struct policy *policy, const struct shared_limit *limit)
{
	lease_set(limit->lease, policy->share, limit->window->limit,
		limit->tokens->limit, limit->tokens->minute_ns, policy->now_ns);
}

void share_limits(struct policy *policy, struct policy_lane *lane)
{
	struct shared_limit limit = {
		lane, &policy->lease, &policy->window, &policy->tokens};

	if (lane != NULL)
		limit = (struct shared_limit){
			lane, &lane->lease, &lane->window, &lane->tokens};
	set_limit(policy, &limit);
}

/* ------------------------------------------------------------------- times */

static void set_times(struct policy *policy)
{
	struct share *share = policy->share;

	share->span_ns = policy->window.span_ns;
	share->slot_ns = (share->span_ns + LEASE_SLOTS - 1) / LEASE_SLOTS;
	share->ttl_ns = later_of(share->span_ns / 30, LEAST_TTL_NS);
	share->patience_ns = earlier(share->ttl_ns, MOST_PATIENCE_NS);
}

/* What was asked with a lease that long may be applied so late; then what was
 * reserved for others must have left the window. */
void share_set_growth(struct share *share, uint64_t ttl_ns, uint64_t now_ns)
{
	share->refill_ns =
		now_ns + 2 * share->patience_ns + ttl_ns + share->ttl_ns;
	share->grows_ns =
		share->refill_ns + share->span_ns + share->span_ns / 4;
}

/* Up to a quarter of a slot, by the multiplier of Knuth's MMIX. */
uint64_t share_jitter(struct share *share)
{
	share->jitter = share->jitter * UINT64_C(6364136223846793005) +
			UINT64_C(1442695040888963407);
	return (share->jitter >> 33) % (share->slot_ns / 4 + 1);
}

void share_set_mode(struct share *share, enum lease_mode mode, uint64_t now_ns)
{
	if (share->mode == mode)
		return;
	share->mode = mode;
	share->since_ns = now_ns;
}

void share_look(struct policy *policy, uint64_t now_ns)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	if (share == NULL || share->mode != LEASE_ACTIVE ||
		now_ns < share->until_ns)
		return;
	share_set_mode(share, LEASE_LOST, now_ns);
	share->losses++;
	for (size_t i = 0; share_limit(policy, i, &limit); i++)
		lease_end(limit.lease, share);
}

/* -------------------------------------------------------------------- begin */

int policy_share_on(
	struct policy *policy, const struct lease_terms *terms, uint64_t now_ns)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	now_ns = policy_clock(policy, now_ns);
	if (share == NULL) {
		share = calloc(1, sizeof(*share));
		if (share == NULL)
			return -ENOMEM;
		policy->share = share;
		share->terms = *terms;
		share->jitter = terms->incarnation;
		share->mode = LEASE_LOST;
		share->since_ns = now_ns;
		set_times(policy);
		share_set_growth(share, share->span_ns / 2, now_ns);
		if (!terms->is_restored)
			share->complete_ns = now_ns + share->span_ns;
	}
	share->terms = *terms;
	for (size_t i = 0; share_limit(policy, i, &limit); i++)
		set_limit(policy, &limit);
	return 0;
}

void share_free(struct share *share)
{
	if (share == NULL)
		return;
	free(share->rows);
	free(share);
}

void policy_share_off(struct policy *policy)
{
	struct shared_limit limit;

	share_free(policy->share);
	policy->share = NULL;
	for (size_t i = 0; share_limit(policy, i, &limit); i++)
		set_limit(policy, &limit);
}

/* --------------------------------------------------------------------- look */

uint64_t policy_share_due(const struct policy *policy, uint64_t now_ns)
{
	const struct share *share = policy->share;

	if (share == NULL || share->is_gone)
		return UINT64_MAX;
	if (share->is_out)
		return share->asked_ns + share->patience_ns;
	if (share->is_leaving && policy->window.pending == 0)
		return now_ns;
	if (!share->is_hungry)
		return share->due_ns;
	return earlier(share->due_ns, later_of(now_ns, share->retry_ns));
}

bool policy_share_leave(struct policy *policy, uint64_t now_ns)
{
	struct share *share = policy->share;

	if (share == NULL)
		return true;
	share_look(policy, policy_clock(policy, now_ns));
	share->is_leaving = true;
	return share->is_gone || share->mode != LEASE_ACTIVE;
}

void policy_view_share(const struct policy *policy, uint64_t now_ns,
	struct policy_share_view *ret_view)
{
	const struct share *share = policy->share;

	*ret_view = (struct policy_share_view){.mode = LEASE_OFF};
	if (share == NULL)
		return;
	*ret_view = (struct policy_share_view){
		.mode = share->mode,
		.since_ns = share->since_ns,
		.until_ns = share->until_ns,
		.grows_ns = share->grows_ns,
		.answered_ns = share->answered_ns,
		.hosts = share->hosts,
		.hosts_configured = share->terms.hosts,
		.is_namesake = share->is_namesake,
		.asks = share->seq,
		.answers = share->answers,
		.syncs = share->syncs,
		.losses = share->losses,
	};
	if (share->mode != LEASE_ACTIVE || now_ns < share->until_ns)
		return;
	/* Nobody has looked since. */
	ret_view->mode = LEASE_LOST;
	ret_view->since_ns = share->until_ns;
}
