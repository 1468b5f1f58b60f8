/*
 * AWS Signature Version 4 in the Authorization header, for one request at a
 * time.  Knows nothing of any service, opens nothing, sends nothing.
 *
 * The signature covers the method, the request target as it goes on the wire,
 * every header given here, x-amz-date, x-amz-security-token when there is a
 * token, and the hash of the body.  The path is encoded once more as it stands
 * ("%3A" becomes "%253A"), which every service but S3 wants.
 */
#ifndef COORDINATOR_UPSTREAM_SIGV4_H
#define COORDINATOR_UPSTREAM_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SIGV4_MAX_HEADERS = 32,    /* of one request, with our own two */
	SIGV4_MAX_PARAMETERS = 64, /* of a query */
	SIGV4_MAX_CANONICAL_BYTES = 32768,
	SIGV4_SHA256_BYTES = 32,
	SIGV4_DATE_BYTES = 17,            /* "20150830T123600Z" and a NUL */
	SIGV4_AUTHORIZATION_BYTES = 2048, /* enough for any request allowed */
};

/* A header as sent; neither part needs a NUL. */
struct sigv4_header {
	const char *name;
	size_t name_bytes;
	const char *value;
	size_t value_bytes;
};

struct sigv4_request {
	const char *method; /* "POST" */
	const char *target; /* path and query as sent: "/model/a%3A0/invoke" */
	/* What is sent, in any order; host at least.  Those that
	 * sigv4_is_unsigned() names are left out of the signature.  Without
	 * authorization, x-amz-date and x-amz-security-token: they come from
	 * the fields below. */
	const struct sigv4_header *headers;
	size_t header_count;
	const uint8_t *payload_sha256; /* 32 bytes */
	const char *access_key_id;
	const char *secret_access_key;
	/* NULL or "": none.  Else the caller sends it as
	 * X-Amz-Security-Token, and it is signed. */
	const char *session_token;
	const char *region;
	const char *service;
	int64_t unix_s;         /* wall clock */
	bool keep_dot_segments; /* do not remove ".", ".." and "//" */
	bool path_encoded_once; /* S3 only: the path is canonical as sent */
};

/*
 * Working memory, the fetched algorithms and the last derived signing key,
 * which is used again while secret, day, region and service stay the same.
 * One thread at a time.
 */
struct sigv4_key;

/* 0 or -ENOMEM. */
int sigv4_key_create(struct sigv4_key **ret_key);

/* Wipes all of it.  NULL is fine. */
void sigv4_key_free(struct sigv4_key *key);

/*
 * Signs.  Fills ret_authorization ("AWS4-HMAC-SHA256 Credential=…", at most
 * size bytes with the NUL) and ret_date, both to be sent as Authorization and
 * X-Amz-Date.  Allocates nothing of its own.
 *
 * Returns 0.  -EINVAL: a control byte in a header or in the target, a name that
 * is no token, a header that must not be given, a target without "/", a time
 * outside the years 0 to 9999, no key.  -E2BIG: more headers, parameters or
 * bytes than the limits above.  -ENOSPC: size is too small.  -ENOMEM.  On
 * failure the outputs are not written.
 */
int sigv4_sign(struct sigv4_key *key, const struct sigv4_request *request,
	char *ret_authorization, size_t size, char ret_date[SIGV4_DATE_BYTES]);

/* Is this one of the headers that proxies may change, so that it must not be
 * signed (user-agent, expect, connection, …)? */
bool sigv4_is_unsigned(const char *name, size_t name_bytes);

/*
 * The pieces of the last sigv4_sign() that returned 0, for tests: they hold the
 * session token.  Valid until the next call with this key.
 */
const char *sigv4_canonical_request(const struct sigv4_key *key);
const char *sigv4_string_to_sign(const struct sigv4_key *key);
const char *sigv4_signature(const struct sigv4_key *key); /* hex */

/* SHA-256 with the algorithm fetched once.  0 or -ENOMEM. */
int sigv4_hash(struct sigv4_key *key, const void *data, size_t bytes,
	uint8_t ret_sha256[SIGV4_SHA256_BYTES]);

#endif
