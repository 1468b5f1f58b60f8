/*
 * Which lane a model id names: ids and ARNs that draw on one quota name the
 * same (docs/policy.md, section 8).  Knows nothing of which lanes there are.
 */
#ifndef COORDINATOR_POLICY_LANE_NAME_H
#define COORDINATOR_POLICY_LANE_NAME_H

#include <stddef.h>

enum { LANE_NAME_BYTES = 2176 };

/* `region`: the one that is called; NULL: none is known.  Returns model_id
 * itself, or a text within it, or one in `room`. */
const char *lane_name_of(
	const char *model_id, const char *region, char room[LANE_NAME_BYTES]);

#endif
