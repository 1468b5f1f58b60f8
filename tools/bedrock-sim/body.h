/*
 * What a request body says, and whether the service would take it.
 */
#ifndef SIM_BODY_H
#define SIM_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/bedrock-sim/route.h"

enum { BODY_MAX_BYTES = 25000000, BODY_DEFAULT_MAX_TOKENS = 4096 };

struct body_facts {
	bool is_claude;        /* the reply has Claude's shape */
	uint64_t input_tokens; /* an estimate: four bytes a token */
	uint64_t max_tokens;   /* of the answer */
};

/*
 * Judges the body of an invoke or converse.  True fills *ret_facts; false
 * writes the text of the ValidationException to `message`.
 */
bool body_check(const struct route *route, const char *body, size_t length,
	struct body_facts *ret_facts, char *message, size_t message_size);

#endif
