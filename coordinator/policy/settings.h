/*
 * The configuration as policy/ keeps it: its own copy, so that the caller's may
 * go away, and the search for the block that governs a name.
 */
#ifndef COORDINATOR_POLICY_SETTINGS_H
#define COORDINATOR_POLICY_SETTINGS_H

#include "coordinator/policy/policy.h"

struct settings {
	struct policy_config config; /* its pointers are ours */
};

/* NULL: no memory. */
struct settings *settings_create(const struct policy_config *config);
void settings_free(struct settings *settings);

/* The first block whose pattern matches; NULL: none. */
const struct policy_model *settings_model(
	const struct settings *settings, const char *model_id);
const struct policy_user_rule *settings_user(
	const struct settings *settings, const char *user);
/* Of an application; 1 where none matches. */
double settings_app_weight(const struct settings *settings, const char *app);

/* How much of a concurrency limit batch may take; 0: no limit. */
uint32_t settings_batch_limit(
	const struct settings *settings, uint32_t max_concurrent);

#endif
