/*
 * The canonical request of Signature Version 4, rebuilt by the receiver.
 */
#ifndef SIM_CANONICAL_H
#define SIM_CANONICAL_H

#include "tools/bedrock-sim/sigv4_check.h"

/*
 * The text whose SHA-256 is signed.  signed_headers: as in the Authorization
 * header, names in lower case between ';', all of which the request has.
 * free() ends it.
 */
char *canonical_request(
	const struct sigv4_request *request, const char *signed_headers);

#endif
