/*
 * What is said once for each model: loudly, but not with every request.  A log
 * line, and an event on the board.
 */
#ifndef COORDINATOR_REMARK_H
#define COORDINATOR_REMARK_H

#include <stdint.h>

struct request;
struct policy_usage;

/* Model ids of which it was said; when it is full the oldest is forgotten. */
enum { REMARKS = 256 };
struct remarks {
	uint64_t hashes[REMARKS];
	uint64_t n;
};

/* The request, QUEUED, names no maximum of output: what is assumed. */
void remark_default(struct request *request);
/* Its usage says what cannot be. */
void remark_usage(struct request *request, const struct policy_usage *usage);

#endif
