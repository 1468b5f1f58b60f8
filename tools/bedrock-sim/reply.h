/*
 * The texts of the answers, in the service's shapes.  It knows no HTTP
 * library: server.c sends what is written here.
 */
#ifndef SIM_REPLY_H
#define SIM_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/bedrock-sim/body.h"
#include "tools/bedrock-sim/fault.h"

struct reply {
	int status;       /* of HTTP */
	const char *type; /* x-amzn-ErrorType, or NULL */
	char *body;       /* JSON; reply_fini() ends it */
	size_t length;
	bool has_counts; /* the headers of an invoke that worked */
	uint64_t input_tokens, output_tokens;
	uint64_t latency_ms;
};

void reply_fini(struct reply *reply);

/* {"message": ...} */
void reply_error(struct reply *ret_reply, int status, const char *type,
	const char *message);
/* What the service answers with status 200 when no route matches. */
void reply_unknown_operation(struct reply *ret_reply);
/* fault's effect is FAULT_ANSWERS. */
void reply_fault(struct reply *ret_reply, enum fault_kind kind);

struct reply_model {
	const struct route *route;
	const struct body_facts *facts;
	const char *body_sha256; /* repeated in the answer's text */
	uint64_t output_tokens;  /* cut at facts->max_tokens */
	uint64_t latency_ms;
};

/* The answer of a model. */
void reply_of_model(struct reply *ret_reply, const struct reply_model *model);

#endif
