/* What a host says to the keeper, and what it makes of the answer. */
#include "coordinator/policy/inside.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static uint32_t free_places(uint32_t running, uint32_t limit)
{
	if (limit == 0)
		return UINT32_MAX;
	return running < limit ? limit - running : 0;
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* How many could start now if nobody else shared this limit. */
static uint32_t demand(
	const struct policy *policy, const struct shared_limit *limit)
{
	struct policy_lane *lane = limit->lane;
	uint32_t room = free_places(
		policy->running, policy->settings->config.max_concurrent);
	uint64_t queued = 0;

	if (policy->share->is_leaving)
		return 0;
	if (lane == NULL) {
		DL_FOREACH (policy->ready, lane)
			queued += lane->queued;
		return least(room, (uint32_t)queued);
	}
	if (!lane->is_ready)
		return 0;
	room = least(room, free_places(lane->running, lane->max_concurrent));
	return least(room, lane->queued);
}

/*
 * What to have at hand: for those who wait, and for as many as were started in
 * the last ttl.  What was left over says that those who wait cannot go for
 * another reason.
 */
static uint32_t target(const struct policy *policy,
	const struct shared_limit *limit, bool has_left, bool is_short,
	uint64_t now_ns)
{
	const struct share *share = policy->share;
	uint32_t waiting = demand(policy, limit);
	uint32_t lately = window_count_in(limit->window, share->ttl_ns, now_ns);

	if (share->is_leaving)
		return 0;
	if (has_left && !is_short)
		return least(waiting + lately, 2 * lately + 1);
	return waiting + lately;
}

/* The reservation of the first in order: the largest of the lanes' for the
 * host. */
static uint64_t needed(
	const struct policy *policy, const struct shared_limit *limit)
{
	struct policy_lane *lane = limit->lane;
	uint64_t most = 0;

	if (lane != NULL)
		return lane->is_ready
			       ? lane_reservation(lane, order_first(lane))
			       : 0;
	DL_FOREACH (policy->ready, lane)
		most = later_of(
			most, lane_reservation(lane, order_first(lane)));
	return most;
}

static void tell_starts(const struct policy *policy,
	const struct shared_limit *limit, struct lease_row *row,
	uint64_t now_ns)
{
	struct lease *lease = limit->lease;
	uint32_t want;

	if (!lease->counts_starts)
		return;
	want = target(
		policy, limit, lease->units > 0, lease->wants_starts, now_ns);
	want = least(want, limit->window->limit);
	lease->units = least(lease->units, want);
	row->starts_limit = limit->window->limit;
	window_ages(limit->window, policy->share->slot_ns, LEASE_SLOTS, now_ns,
		row->ages);
	row->starts_held = lease->units + limit->window->pending;
	row->starts_wanted = want - lease->units;
}

/* What does not cover the first in order is of no use here, and may be to
 * another host. */
static void tell_tokens(const struct policy *policy,
	const struct shared_limit *limit, struct lease_row *row,
	uint64_t now_ns)
{
	struct lease *lease = limit->lease;
	const struct mean *cost =
		limit->lane ? &limit->lane->cost : &policy->cost;
	uint64_t most = limit->tokens->limit;
	uint64_t need = earlier(needed(policy, limit), most), want;
	uint64_t each = cost->n != 0 ? (uint64_t)cost->value + 1 : need;
	uint32_t n = target(
		policy, limit, lease->tokens > 0, lease->wants_tokens, now_ns);

	if (!lease->counts_tokens)
		return;
	want = n == 0 ? 0 : earlier(need + (n - 1) * each, most);
	if (lease->tokens < (int64_t)need || lease->tokens < 0)
		lease->tokens = 0;
	if (lease->tokens > (int64_t)want)
		lease->tokens = (int64_t)want;
	row->tokens_limit = most;
	row->tokens_spent = lease->spent;
	row->tokens_held = (uint64_t)lease->tokens;
	row->tokens_wanted = want - row->tokens_held;
	row->tokens_needed = row->tokens_held < need ? need : 0;
}

/* False: there is nothing to say. */
static bool tell(const struct policy *policy, const struct shared_limit *limit,
	struct lease_row *row, uint64_t now_ns)
{
	struct lease *lease = limit->lease;

	if (!lease->counts_starts && !lease->counts_tokens)
		return false;
	*row = (struct lease_row){
		.lane = limit->lane ? limit->lane->name : NULL,
		.life = limit->lane ? limit->lane->made : 0};
	tell_starts(policy, limit, row, now_ns);
	tell_tokens(policy, limit, row, now_ns);
	lease->wants_starts = lease->wants_tokens = false;
	lease->told.is_idle = row->starts_held == 0 &&
			      row->starts_wanted == 0 &&
			      row->tokens_held == 0 && row->tokens_wanted == 0;
	if (lease->told.is_idle && lease->is_quiet)
		return false;
	lease->made = 0;
	lease->told.changes = lease->changes;
	lease->told.starts = row->starts_held;
	for (int i = 0; i < LEASE_SLOTS; i++)
		lease->told.starts += row->ages[i];
	/* The keeper may hear this and the answer be lost. */
	lease->keep = lease->told.is_idle
			      ? 0
			      : least(lease->keep, lease->told.starts);
	return true;
}

static bool reserve_rows(struct share *share, size_t n)
{
	struct lease_row *rows;

	if (n <= share->rows_room)
		return true;
	rows = realloc(share->rows, n * sizeof(*rows));
	if (rows == NULL)
		return false;
	share->rows = rows;
	share->rows_room = n;
	return true;
}

/* A first ask, before the epoch is known, only says hello. */
static void tell_all(struct policy *policy, uint64_t now_ns)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	share->n_rows = 0;
	share->is_idle = share->epoch != 0;
	for (size_t i = 0; share->epoch != 0 && share_limit(policy, i, &limit);
		i++) {
		struct lease_row *row = &share->rows[share->n_rows];

		if (!tell(policy, &limit, row, now_ns))
			continue;
		share->n_rows++;
		share->is_idle &= limit.lease->told.is_idle;
	}
}

static void head(const struct share *share, uint64_t ttl_ns, uint64_t minute_ns,
	struct lease_ask *ret_ask)
{
	uint64_t since_ns = share->asked_ns - share->sync_ns;

	*ret_ask = (struct lease_ask){
		.seq = share->seq,
		.incarnation = share->terms.incarnation,
		.epoch = share->epoch,
		.before_us =
			share->sync_us + (since_ns + share->patience_ns) / 1000,
		.ttl_us = ttl_ns / 1000,
		.window_us = (share->span_ns + 999) / 1000,
		.slot_us = share->slot_ns / 1000,
		.minute_us = (minute_ns + 999) / 1000,
		.forget_us = share->terms.forget_ns / 1000,
		.patience_ns = share->patience_ns,
		.hosts = share->terms.hosts,
		.loss = share->terms.loss,
		.is_lost = share->mode != LEASE_ACTIVE,
		.is_complete = share->asked_ns >= share->complete_ns,
		.is_leaving = share->says_goodbye,
		.rows = share->rows,
		.n_rows = share->n_rows,
	};
}

bool policy_share_ask(
	struct policy *policy, uint64_t now_ns, struct lease_ask *ret_ask)
{
	struct share *share = policy->share;
	uint64_t ttl_ns;

	now_ns = policy_clock(policy, now_ns);
	share_look(policy, now_ns);
	if (policy_share_due(policy, now_ns) > now_ns ||
		!reserve_rows(share, policy->n_lanes + 1))
		return false;
	share->is_hungry = false;
	share->says_goodbye = share->is_leaving && policy->window.pending == 0;
	tell_all(policy, now_ns);
	ttl_ns = share->is_idle ? share->span_ns / 2 : share->ttl_ns;
	share->seq++;
	share->is_out = true;
	share->asked_ns = now_ns;
	share->until_then_ns = now_ns + ttl_ns;
	if (share->mode == LEASE_ACTIVE)
		share_set_growth(share, ttl_ns, now_ns);
	head(share, ttl_ns, policy->settings->config.minute_ns, ret_ask);
	return true;
}

/* ------------------------------------------------------------------- answer */

/* The limit of a row; false: the lane was given up meanwhile. */
static bool limit_of(struct policy *policy, const struct lease_row *row,
	struct shared_limit *ret_limit)
{
	for (size_t i = 0; share_limit(policy, i, ret_limit); i++)
		if ((ret_limit->lane ? ret_limit->lane->made : 0) == row->life)
			return true;
	return false;
}

/* When more may be there: what the keeper says, or a start of its own leaves
 * the window. */
static uint64_t next_ns(const struct share *share, const struct lease_row *row,
	const struct lease_grant *grant)
{
	uint64_t next =
		grant->next_us != 0 ? grant->next_us * 1000 : UINT64_MAX;

	for (uint64_t i = LEASE_SLOTS; i > 0; i--)
		if (row->ages[i - 1] != 0)
			return earlier(next, share->span_ns -
						     i * share->slot_ns +
						     share->slot_ns);
	return next;
}

static void take_grants(
	struct policy *policy, const struct lease_answer *answer)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	share->retry_ns = 0;
	for (size_t i = 0; i < share->n_rows && i < answer->n_grants; i++) {
		const struct lease_row *row = &share->rows[i];
		const struct lease_grant *grant = &answer->grants[i];
		uint64_t wait_ns = next_ns(share, row, grant);

		if (!limit_of(policy, row, &limit))
			continue;
		lease_grant(limit.lease, share, limit.window->limit, grant);
		if (grant->starts >= (int64_t)row->starts_wanted &&
			grant->tokens >= row->tokens_wanted)
			continue;
		wait_ns =
			later_of(wait_ns, share->slot_ns) + share_jitter(share);
		wait_ns = earlier(wait_ns, share->ttl_ns / 2);
		share->retry_ns =
			later_of(share->retry_ns, share->asked_ns + wait_ns);
	}
}

/* The keeper has what was told. */
static void acknowledge(struct policy *policy)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	for (size_t i = 0; i < share->n_rows; i++) {
		if (!limit_of(policy, &share->rows[i], &limit))
			continue;
		limit.lease->is_quiet =
			limit.lease->told.is_idle &&
			limit.lease->told.changes == limit.lease->changes;
	}
	if (share->says_goodbye)
		share->is_gone = true;
}

/* Another epoch: everything has to be told.  Twice in a row, not at once. */
static void synchronize(struct policy *policy,
	const struct lease_answer *answer, uint64_t now_ns)
{
	struct share *share = policy->share;
	struct shared_limit limit;

	share->syncs++;
	share->due_ns = share->syncs_in_row++ < 2 ? now_ns
						  : now_ns + share->patience_ns;
	if (answer->epoch == share->epoch)
		return;
	share->epoch = answer->epoch;
	for (size_t i = 0; share_limit(policy, i, &limit); i++)
		limit.lease->is_quiet = false;
}

static void granted(struct policy *policy, const struct lease_answer *answer,
	uint64_t now_ns)
{
	struct share *share = policy->share;

	if (now_ns >= share->until_then_ns)
		return; /* too late to be worth anything */
	share->until_ns = share->until_then_ns;
	share_set_mode(share, LEASE_ACTIVE, now_ns);
	take_grants(policy, answer);
}

void policy_share_answer(struct policy *policy,
	const struct lease_answer *answer, uint64_t now_ns)
{
	struct share *share = policy->share;
	uint64_t renew_ns;

	now_ns = policy_clock(policy, now_ns);
	if (share == NULL || !share->is_out || answer->seq != share->seq)
		return;
	share_look(policy, now_ns);
	renew_ns = share->is_idle ? share->span_ns / 4 : share->ttl_ns / 2;
	share->is_out = false;
	share->answers++;
	share->answered_ns = now_ns;
	share->sync_us = answer->now_us;
	share->sync_ns = share->asked_ns;
	share->hosts = answer->hosts;
	share->is_namesake = answer->status == LEASE_NAMESAKE;
	share->due_ns = share->asked_ns + renew_ns + share_jitter(share);
	switch (answer->status) {
	case LEASE_GRANTED:
		granted(policy, answer, now_ns);
		acknowledge(policy);
		break;
	case LEASE_PENDING:
		if (share->mode != LEASE_ACTIVE)
			share_set_mode(share, LEASE_JOINING, now_ns);
		/* Also who is idle: somebody may come to it. */
		share->due_ns = share->asked_ns + share->ttl_ns / 2 +
				share_jitter(share);
		share->retry_ns = share->due_ns;
		acknowledge(policy);
		break;
	case LEASE_SYNC:
		synchronize(policy, answer, now_ns);
		return;
	case LEASE_NAMESAKE:
		share->retry_ns = share->due_ns;
		break;
	}
	share->syncs_in_row = 0;
}
