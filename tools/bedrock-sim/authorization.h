/*
 * The Authorization header of Signature Version 4, cut into its parts.
 *
 * It knows the grammar; whether the parts are true is sigv4_check.h's matter.
 */
#ifndef SIM_AUTHORIZATION_H
#define SIM_AUTHORIZATION_H

#include <stdbool.h>

#include "tools/bedrock-sim/headers.h"

#define SIGV4_ALGORITHM "AWS4-HMAC-SHA256"

struct authorization {
	char *copy; /* the parts point into it */
	const char *access_key, *day, *region, *service, *terminator;
	const char *signed_headers, *signature;
	const char *date; /* X-Amz-Date; the checker fills it in */
};

/*
 * text begins with SIGV4_ALGORITHM and a blank.  False: a part is missing, or
 * there twice, or unknown.  Either way free(ret->copy) ends it.
 */
bool authorization_parse(const char *text, struct authorization *ret);
/* The names are in lower case, in order, each once, each of a field sent. */
bool authorization_list_is_canonical(
	const char *list, const struct headers *headers);

#endif
