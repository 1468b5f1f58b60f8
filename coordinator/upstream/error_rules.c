/* Rules for single errors. */
#include "coordinator/upstream/error_rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int error_rules_init(
	struct error_rules *rules, const struct upstream_config *config)
{
	*rules = (struct error_rules){0};
	if (config->n_errors == 0)
		return 0;
	rules->rules = calloc(config->n_errors, sizeof(*rules->rules));
	if (rules->rules == NULL)
		return -ENOMEM;
	for (; rules->n < config->n_errors; rules->n++) {
		char *code = strdup(config->errors[rules->n].code);

		if (code == NULL) {
			error_rules_fini(rules);
			return -ENOMEM;
		}
		rules->rules[rules->n] = (struct upstream_error_rule){
			code, config->errors[rules->n].retry};
	}
	return 0;
}

void error_rules_fini(struct error_rules *rules)
{
	for (size_t i = 0; i < rules->n; i++)
		free((void *)(uintptr_t)rules->rules[i].code);
	free(rules->rules);
	*rules = (struct error_rules){0};
}

static const struct upstream_error_rule *find(
	const struct error_rules *rules, const char *name)
{
	for (size_t i = 0; i < rules->n; i++)
		if (strcmp(rules->rules[i].code, name) == 0)
			return &rules->rules[i];
	return NULL;
}

static bool is_open_to_rules(const struct upstream_result *result)
{
	switch (result->outcome) {
	case UPSTREAM_THROTTLED:
	case UPSTREAM_THROTTLED_DAY:
	case UPSTREAM_TRANSIENT:
		return true;
	case UPSTREAM_REFUSED: /* by the provider, not by us */
		return result->http_status >= 400;
	case UPSTREAM_OK:
	case UPSTREAM_AMBIGUOUS:
	case UPSTREAM_TIMED_OUT:
	case UPSTREAM_REPLY_TOO_LARGE:
	case UPSTREAM_ABORTED:
		break;
	}
	return false;
}

void error_rules_apply(
	const struct error_rules *rules, struct upstream_result *result)
{
	const struct upstream_error_rule *rule;
	char status[16];

	if (rules->n == 0 || !is_open_to_rules(result))
		return;
	(void)snprintf(status, sizeof(status), "%d", result->http_status);
	rule = find(rules, result->code);
	if (rule == NULL)
		rule = find(rules, status);
	if (rule == NULL)
		return;
	switch (rule->retry) {
	case UPSTREAM_RETRY_THROTTLE:
		/* The day's is a throttle already, and more. */
		if (result->outcome != UPSTREAM_THROTTLED_DAY)
			result->outcome = UPSTREAM_THROTTLED;
		break;
	case UPSTREAM_RETRY_TRANSIENT:
		result->outcome = UPSTREAM_TRANSIENT;
		break;
	case UPSTREAM_RETRY_NO:
		result->outcome = UPSTREAM_REFUSED;
		break;
	}
}
