/* A trace of real traffic, one JSON object a line: rgov-plan(1), TRACE. */
#ifndef PLAN_TRACE_H
#define PLAN_TRACE_H

#include "tools/rgov-plan/load.h"

struct trace_reading {
	const char *file; /* its name in messages */
	bool skip_bad;    /* leave bad lines out, and count them */
	FILE *words;      /* where each bad line is told */
};

/*
 * Reads it into a load that was load_init()ed: users, models, questions by
 * arrival, settings of its header.  0; -EINVAL: it is wrong, and was told;
 * -EIO; -ENOMEM.
 */
int trace_read(
	FILE *in, const struct trace_reading *reading, struct load *load);

#endif
