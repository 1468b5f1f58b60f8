/*
 * What a request line asks for: the operation and the model id.
 *
 * It judges the target as it came over the wire, before anybody decoded it: a
 * model id is one percent-encoded segment, and a literal slash in it misses
 * the route, as at the real service.
 */
#ifndef SIM_ROUTE_H
#define SIM_ROUTE_H

#include <stdbool.h>

enum route_op {
	ROUTE_INVOKE,
	ROUTE_CONVERSE,
	ROUTE_STREAMING,    /* both streaming operations: not simulated */
	ROUTE_COUNT_TOKENS, /* not simulated */
	ROUTE_UNKNOWN,
	ROUTE_SIM_REPORT, /* /_sim/: the simulator's own pages */
	ROUTE_SIM_RESET,
	ROUTE_SIM_SET,
	ROUTE_SIM_HEALTHZ,
	ROUTE_SIM_UNKNOWN,
};

enum { ROUTE_MODEL_MAX = 2048 }; /* bytes, of the service model */

struct route {
	enum route_op op;
	/* The id has a valid length, encoding and alphabet. */
	bool model_valid;
	/* Decoded; what is not of an id's alphabet reads '?', so that it can
	 * be printed anywhere. */
	char model[ROUTE_MODEL_MAX + 1];
};

/* path: as sent, without the query. */
void route_parse(const char *method, const char *path, struct route *ret_route);
const char *route_op_name(enum route_op op);
/* The simulator's own page: no quota, no signature, in no count. */
bool route_is_sim(enum route_op op);

#endif
