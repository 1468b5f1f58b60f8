/*
 * What one user may have over all lanes: starts per minute, tokens per minute
 * and per day.  Only users that a `user` block gives one have it; it is kept
 * until the user is forgotten, without limits where the block went away.
 */
#ifndef COORDINATOR_POLICY_BUDGET_H
#define COORDINATOR_POLICY_BUDGET_H

#include "coordinator/policy/policy.h"
#include "coordinator/policy/tokens.h"
#include "coordinator/policy/window.h"

struct budget {
	struct window window;
	struct tokens tokens;
	bool is_restored; /* from what a predecessor left */
};

bool budget_is_in(const struct policy_user_rule *rule);
/* Without limits.  NULL: no memory. */
struct budget *budget_create(void);
void budget_free(struct budget *budget);
/* The rule's limits; NULL: none. */
void budget_set(struct budget *budget, const struct policy_user_rule *rule,
	const struct policy_config *config, uint64_t now_ns);

/* What keeps a start with that many tokens from fitting, POLICY_WAIT_TURN:
 * nothing; and when it fits: UINT64_MAX: not before something is started or
 * settled. */
enum policy_reason budget_hold(struct budget *budget, uint64_t amount,
	uint64_t now_ns, uint64_t *ret_until_ns);
/* Would forgetting it allow more than keeping it? */
bool budget_counts(const struct budget *budget, uint64_t now_ns);

#endif
