/*
 * Judges who sent a request: AWS Signature Version 4 in the Authorization
 * header, or a bearer key.
 *
 * Written from the published algorithm and on purpose shares nothing with
 * rgovd's signer: it works from what came over the wire, so that a mistake
 * common to both would have to be made twice.
 */
#ifndef SIM_SIGV4_CHECK_H
#define SIM_SIGV4_CHECK_H

#include <stdbool.h>
#include <time.h>

#include "tools/bedrock-sim/headers.h"

enum { SIGV4_SKEW_MOST_S = 300 };

struct sigv4_keys {
	const char *access_key, *secret_key, *region, *service;
	const char *session_token; /* each request must carry it; or NULL */
	const char *expired_token; /* known, and too old; or NULL */
	const char *bearer;        /* accepted as well; or NULL */
};

struct sigv4_request {
	const char *method;
	const char *path;  /* as sent, encoded, without the query */
	const char *query; /* as sent, without the '?'; "" without one */
	const struct headers *headers;
	const char *body_sha256; /* of the body that arrived; hexadecimal */
};

/* Why a request is refused, in the service's words. */
struct sigv4_refusal {
	int status;
	const char *type;
	char message[2048];
};

/*
 * True: the request is from the holder of the keys, signed for now_s (Unix
 * time) give or take SIGV4_SKEW_MOST_S.  False: *ret_refusal says why.
 */
bool sigv4_check(const struct sigv4_request *request,
	const struct sigv4_keys *keys, time_t now_s,
	struct sigv4_refusal *ret_refusal);

#endif
