/* One limit of those that hosts share: its units, and what it may without. */
#include "coordinator/policy/share.h"

#include "coordinator/policy/window.h"

#include <string.h>

static uint64_t share_of(const struct share *share, uint64_t limit)
{
	return share->terms.hosts != 0 ? limit / share->terms.hosts : 0;
}

static bool has_no_lease(const struct share *share)
{
	return share->mode != LEASE_ACTIVE;
}

bool lease_is_apart(const struct share *share)
{
	return has_no_lease(share) && share->terms.loss == LEASE_SHARE;
}

static bool is_ignored(const struct share *share)
{
	return has_no_lease(share) && share->terms.loss == LEASE_IGNORE;
}

/* It begins empty, and fills from refill_ns on. */
static void set_apart(struct lease *lease, const struct share *share,
	uint64_t limit, uint64_t minute_ns, uint64_t now_ns)
{
	struct tokens *apart = &lease->apart;
	int64_t level = apart->level;

	tokens_set(apart, limit, 0, minute_ns, now_ns);
	if (apart->level > level)
		apart->level = level;
	if (apart->stamp_ns < share->refill_ns)
		apart->stamp_ns = share->refill_ns;
}

void lease_set(struct lease *lease, const struct share *share,
	uint32_t starts_limit, uint64_t tokens_limit, uint64_t minute_ns,
	uint64_t now_ns)
{
	if (share == NULL) {
		memset(lease, 0, sizeof(*lease));
		return;
	}
	lease->counts_starts = starts_limit != 0;
	lease->counts_tokens = tokens_limit != 0;
	lease->changes++;
	lease->is_quiet = false;
	set_apart(
		lease, share, share_of(share, tokens_limit), minute_ns, now_ns);
}

void lease_end(struct lease *lease, const struct share *share)
{
	int64_t most = (int64_t)lease->apart.limit;

	lease->apart.level = lease->tokens < most ? lease->tokens : most;
	lease->apart.part = 0;
	lease->apart.stamp_ns = share->refill_ns;
	lease->units = 0;
	lease->tokens = 0;
}

/* In a window of this host alone. */
static uint32_t bound_apart(const struct lease *lease,
	const struct share *share, uint32_t limit, uint64_t now_ns)
{
	uint64_t bound = share_of(share, limit);

	if (now_ns < share->grows_ns && lease->keep < bound)
		bound = lease->keep;
	return (uint32_t)bound;
}

/* Without a lease, by on_cluster_loss. */
static uint64_t wait_start_apart(const struct lease *lease,
	const struct share *share, struct window *window, uint64_t now_ns)
{
	uint32_t bound;
	uint64_t wait_ns = UINT64_MAX;

	if (share->terms.loss == LEASE_IGNORE)
		return 0;
	if (share->terms.loss == LEASE_STOP || share->is_leaving)
		return UINT64_MAX;
	bound = bound_apart(lease, share, window->limit, now_ns);
	if (bound != 0)
		wait_ns = window_wait_below(window, bound, now_ns);
	if (wait_ns > share->grows_ns && now_ns < share->grows_ns)
		wait_ns = share->grows_ns;
	return wait_ns;
}

uint64_t lease_wait_start(struct lease *lease, struct share *share,
	struct window *window, uint64_t now_ns)
{
	uint64_t wait_ns = share->until_ns;

	if (!lease->counts_starts)
		return 0;
	if (has_no_lease(share))
		wait_ns = wait_start_apart(lease, share, window, now_ns);
	else if (lease->units > 0 && !share->is_leaving)
		wait_ns = 0;
	if (wait_ns != 0)
		share->is_hungry = lease->wants_starts = true;
	return wait_ns;
}

static uint64_t wait_tokens_apart(struct lease *lease,
	const struct share *share, uint64_t amount, uint64_t now_ns)
{
	if (share->terms.loss == LEASE_IGNORE)
		return 0;
	/* Larger than the bucket it would be for the others' account. */
	if (share->terms.loss == LEASE_STOP || share->is_leaving ||
		lease->apart.limit < amount)
		return UINT64_MAX;
	return tokens_wait(&lease->apart, amount, now_ns);
}

uint64_t lease_wait_tokens(struct lease *lease, struct share *share,
	uint64_t amount, uint64_t now_ns)
{
	uint64_t wait_ns = share->until_ns;

	if (!lease->counts_tokens)
		return 0;
	if (has_no_lease(share))
		wait_ns = wait_tokens_apart(lease, share, amount, now_ns);
	else if (lease->tokens >= (int64_t)amount && !share->is_leaving)
		wait_ns = 0;
	if (wait_ns != 0)
		share->is_hungry = lease->wants_tokens = true;
	return wait_ns;
}

void lease_take(struct lease *lease, const struct share *share, uint64_t amount,
	uint64_t now_ns)
{
	lease->is_quiet = false;
	lease->changes++;
	if (lease_is_apart(share)) {
		lease->made++;
		tokens_reserve(&lease->apart, amount, now_ns);
		lease->apart.reserved = 0; /* nobody settles it as such */
		return;
	}
	if (lease->units > 0)
		lease->units--;
	lease->tokens -= (int64_t)amount;
	lease->spent += (int64_t)amount;
}

/* Without a lease its end was the unit's too. */
void lease_give_back(struct lease *lease, const struct share *share)
{
	lease->changes++;
	if (lease->counts_starts && !has_no_lease(share))
		lease->units++;
}

/* What was not taken from the account does not come back to it; a debt is
 * somebody's in any case. */
void lease_settle(struct lease *lease, const struct share *share,
	bool is_leased, uint64_t was, uint64_t used, uint64_t now_ns)
{
	lease->is_quiet = false;
	lease->changes++;
	if (is_leased && used <= was)
		lease->spent -= (int64_t)(was - used);
	else if (lease_is_apart(share))
		tokens_correct(&lease->apart, was, used, 0, now_ns);
	else if (used > was)
		lease->spent += (int64_t)(used - was);
}

void lease_grant(struct lease *lease, const struct share *share, uint32_t limit,
	const struct lease_grant *grant)
{
	uint64_t most = share_of(share, limit), keep = lease->told.starts;
	uint64_t more = grant->starts > 0 ? (uint64_t)grant->starts : 0;
	uint64_t back = grant->starts < 0 ? (uint64_t)-grant->starts : 0;

	/* What was started apart meanwhile is part of what was granted. */
	lease->units += (uint32_t)(more > lease->made ? more - lease->made : 0);
	back = back < lease->units ? back : lease->units;
	lease->units -= (uint32_t)back;
	keep += more;
	lease->keep =
		lease->told.is_idle ? 0 : (uint32_t)(keep < most ? keep : most);
	lease->tokens += (int64_t)grant->tokens;
	if (grant->starts != 0 || grant->tokens != 0)
		lease->changes++;
	lease->view.starts_granted += more;
	lease->view.starts_returned += back;
	lease->view.tokens_granted += grant->tokens;
	lease->view.starts_others = grant->starts_others;
	lease->view.tokens_others = grant->tokens_others;
	lease->view.tokens_level = grant->tokens_level;
}

bool lease_outlook(const struct lease *lease, const struct share *share,
	const struct window *window, uint64_t now_ns, double *ret_free,
	double *ret_rate)
{
	uint64_t others = lease->view.starts_others, cap;
	uint32_t own;

	if (!lease->counts_starts || is_ignored(share))
		return false;
	own = window_count(window, now_ns);
	cap = bound_apart(lease, share, window->limit, now_ns);
	if (!has_no_lease(share))
		cap = others < window->limit ? window->limit - others : 0;
	*ret_free = cap > own ? (double)(cap - own) : 0;
	if (lease->units > *ret_free)
		*ret_free = lease->units;
	*ret_rate = cap > 0 ? (double)cap : 1;
	return true;
}

void lease_look(const struct lease *lease, const struct share *share,
	struct lease_view *ret_view)
{
	*ret_view = lease->view;
	ret_view->is_shared = lease->counts_starts || lease->counts_tokens;
	ret_view->starts_left = lease->units;
	ret_view->tokens_left = lease->tokens;
	ret_view->starts_bound = UINT32_MAX;
	if (share == NULL || !has_no_lease(share))
		return;
	if (share->terms.loss == LEASE_STOP)
		ret_view->starts_bound = 0;
	ret_view->tokens_left = lease_is_apart(share) ? lease->apart.level : 0;
}
