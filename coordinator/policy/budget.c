/* A window and a bucket. */
#include "coordinator/policy/budget.h"

#include <stdlib.h>

bool budget_is_in(const struct policy_user_rule *rule)
{
	return rule != NULL && (rule->requests_per_minute != 0 ||
				       rule->tokens_per_minute != 0 ||
				       rule->tokens_per_day != 0);
}

struct budget *budget_create(void)
{
	struct budget *budget = calloc(1, sizeof(*budget));

	if (budget != NULL && window_init(&budget->window, 0, 0) != 0) {
		free(budget);
		return NULL;
	}
	return budget;
}

void budget_free(struct budget *budget)
{
	if (budget == NULL)
		return;
	window_fini(&budget->window);
	free(budget);
}

void budget_set(struct budget *budget, const struct policy_user_rule *rule,
	const struct policy_config *config, uint64_t now_ns)
{
	static const struct policy_user_rule no_limits;
	const struct policy_user_rule *limits = rule ? rule : &no_limits;

	window_set(&budget->window, limits->requests_per_minute,
		config->minute_ns + config->guard_ns, false);
	tokens_set(&budget->tokens, limits->tokens_per_minute,
		limits->tokens_per_day, config->minute_ns, now_ns);
	tokens_set_days(&budget->tokens, config->day_offset_ns, now_ns);
}

/* The one that lasts longest. */
enum policy_reason budget_hold(struct budget *budget, uint64_t amount,
	uint64_t now_ns, uint64_t *ret_until_ns)
{
	uint64_t window_ns = window_wait(&budget->window, now_ns);
	uint64_t tokens_ns = tokens_wait(&budget->tokens, amount, now_ns);

	*ret_until_ns = window_ns > tokens_ns ? window_ns : tokens_ns;
	if (*ret_until_ns == 0)
		return POLICY_WAIT_TURN;
	if (window_ns >= tokens_ns)
		return POLICY_WAIT_USER_REQUESTS;
	return tokens_wait_for_day(&budget->tokens, tokens_ns)
		       ? POLICY_WAIT_USER_DAY
		       : POLICY_WAIT_USER_TOKENS;
}

bool budget_counts(const struct budget *budget, uint64_t now_ns)
{
	const struct tokens *tokens = &budget->tokens;

	return (budget->window.limit != 0 &&
		       window_count(&budget->window, now_ns) > 0) ||
	       tokens_available(tokens, now_ns) < (int64_t)tokens->limit ||
	       (tokens->day_limit != 0 &&
		       tokens_used_today(tokens, now_ns) > 0);
}
