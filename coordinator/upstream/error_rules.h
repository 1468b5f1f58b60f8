/*
 * What the configuration says of single errors, in place of the table that is
 * built in (bedrock_answer.c).
 */
#ifndef COORDINATOR_UPSTREAM_ERROR_RULES_H
#define COORDINATOR_UPSTREAM_ERROR_RULES_H

#include "coordinator/upstream/upstream.h"

struct error_rules {
	struct upstream_error_rule *rules; /* ours, their codes too */
	size_t n;
};

/* Copies them.  -ENOMEM: there is nothing to end. */
int error_rules_init(
	struct error_rules *rules, const struct upstream_config *config);
/* All zero is fine. */
void error_rules_fini(struct error_rules *rules);

/*
 * Gives the result another outcome where a rule says so: a name's before a
 * status's.  Only where the provider has answered with an error, or where
 * nothing was sent: what became of another call nobody knows, and whether it
 * may be sent twice is not a question of its error.
 */
void error_rules_apply(
	const struct error_rules *rules, struct upstream_result *result);

#endif
