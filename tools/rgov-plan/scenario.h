/* The file that describes invented users and a provider: rgov-plan(1),
 * SCENARIO. */
#ifndef PLAN_SCENARIO_H
#define PLAN_SCENARIO_H

#include "tools/rgov-plan/load.h"

/*
 * Reads the file into a load that was load_init()ed.  Only its provider where
 * the load has a trace.  0, -EINVAL with words, -errno of reading, -ENOMEM.
 */
int scenario_read(
	const char *file, struct load *load, char ret_error[LOAD_ERROR_BYTES]);

/* One setting of a block of users, as on the command line.  False: ret_expected
 * says what it must be. */
bool scenario_set(struct load_group *group, const char *name, const char *text,
	const char **ret_expected);

/* NULL, or why these users make no sense together. */
const char *scenario_judge(const struct load_group *group);

#endif
