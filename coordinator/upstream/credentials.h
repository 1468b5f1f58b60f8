/*
 * Finds the keys with which upstream is called: from the environment, or from
 * the shared credentials and config files.  It reads files and nothing else;
 * whatever needs a call to get keys (roles, SSO, processes, containers,
 * instance metadata) is recognised and refused by name.
 *
 * No text from here ever holds a key, a secret or a token, nor control bytes.
 */
#ifndef COORDINATOR_UPSTREAM_CREDENTIALS_H
#define COORDINATOR_UPSTREAM_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	CREDENTIALS_ID_BYTES = 129,
	CREDENTIALS_SECRET_BYTES = 257,
	CREDENTIALS_TOKEN_BYTES = 8193,
	CREDENTIALS_REGION_BYTES = 64,
	CREDENTIALS_SOURCE_BYTES = 256,
	CREDENTIALS_WHY_BYTES = 256,
};

enum credentials_kind {
	CREDENTIALS_KEYS,   /* sign with SigV4 */
	CREDENTIALS_BEARER, /* "Authorization: Bearer TOKEN", nothing signed */
};

/* Plain data: may be copied, must be ended by credentials_wipe(). */
struct credentials {
	enum credentials_kind kind;
	char access_key_id[CREDENTIALS_ID_BYTES];         /* KEYS */
	char secret_access_key[CREDENTIALS_SECRET_BYTES]; /* KEYS */
	/* KEYS: the session token, "" for none.  BEARER: the key. */
	char token[CREDENTIALS_TOKEN_BYTES];
	int64_t expires_unix_s; /* 0: never, as far as we are told */
	/* The region of the environment or of the profile, "" when neither
	 * says one.  For information: the configuration of rgovd decides. */
	char region[CREDENTIALS_REGION_BYTES];
	/* Where they come from, for the log: "environment",
	 * "profile \"x\" of /home/u/.aws/credentials". */
	char source[CREDENTIALS_SOURCE_BYTES];
};

/* Reads one variable; NULL: not set.  Tests bring their own. */
struct credentials_environment {
	const char *(*get)(void *context, const char *name);
	void *context;
};

/* That of the process, by getenv(). */
extern const struct credentials_environment credentials_process_environment;

/*
 * Looks for credentials.  `profile` NULL or "": AWS_BEARER_TOKEN_BEDROCK, then
 * the keys of the environment, then the profile of AWS_PROFILE or "default".
 * A profile given here is the only place looked at.  An empty variable counts
 * as not set.  now_unix_s is the wall clock.
 *
 * Returns 0 and fills *ret_credentials.  Otherwise ret_why says what is wrong
 * and where:
 *   -ENOKEY       nothing is configured anywhere
 *   -EKEYEXPIRED  AWS_CREDENTIAL_EXPIRATION has passed
 *   -EINVAL       half a key, control bytes, a malformed file, no such profile
 *   -ENOTSUP      the profile or the environment asks for a way that is not
 *                 built in
 *   other -errno  a file is there but cannot be read
 * Blocks for the reading of two small files.  Any thread, as far as `get`
 * allows it.
 */
int credentials_load(const struct credentials_environment *environment,
	const char *profile, int64_t now_unix_s,
	struct credentials *ret_credentials,
	char ret_why[CREDENTIALS_WHY_BYTES]);

/* Overwrites the secrets; fine on a half-filled one. */
void credentials_wipe(struct credentials *credentials);

#endif
