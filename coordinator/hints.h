/*
 * What is allowed and may yet surprise: a model that the patterns of two blocks
 * match, a block whose pattern has matched no model.
 */
#ifndef COORDINATOR_HINTS_H
#define COORDINATOR_HINTS_H

#include <stddef.h>

struct governor;

/* A lane is new: logs which further blocks match its model. */
void hints_note_lane(const struct governor *governor, const char *lane_name);

/* All of it as lines, as far as they fit, for `rgov doctor`. */
void hints_list(const struct governor *governor, char *ret_text, size_t bytes);

#endif
