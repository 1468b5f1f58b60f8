/*
 * The trace of the traffic for rgov-plan(1): a line for each request that ended
 * or was refused, and no word of what it said.  Off unless `record` names a
 * file.
 */
#ifndef COORDINATOR_TRACE_H
#define COORDINATOR_TRACE_H

#include "coordinator/flow.h"

struct trace;

/* As the configuration says, from now on; once more, also with the same one:
 * the file is opened anew.  *trace may be NULL and become one.  0 or -errno:
 * nothing is recorded. */
int trace_open(struct trace **trace, const struct config *config);
void trace_free(struct trace *trace);

/* What became of it; trace may be NULL. */
void trace_end(struct trace *trace, const struct request *request,
	const struct door_reply *reply);
void trace_refusal(struct trace *trace, const struct request *request,
	const struct door_reply *reply);
void trace_permit(struct trace *trace, const struct request *request,
	enum policy_outcome outcome, const struct policy_usage *usage);

/* Now and then: lines lost so far; a word to the log when that begins. */
uint64_t trace_lost(struct trace *trace);

#endif
