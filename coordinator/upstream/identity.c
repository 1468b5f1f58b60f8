/* The credentials in use. */
#include "coordinator/upstream/identity.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int read_credentials(
	struct identity *identity, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	char why[CREDENTIALS_WHY_BYTES] = "";
	struct credentials found;
	int rc;

	static_assert((int)CREDENTIALS_WHY_BYTES <= (int)UPSTREAM_MESSAGE_BYTES,
		"a reason must fit");
	memset(&found, 0, sizeof(found));
	rc = credentials_load(&credentials_process_environment,
		identity->profile, time(NULL), &found, why);
	if (rc == 0) {
		identity->credentials = found;
		identity->reading++;
	}
	credentials_wipe(&found);
	memcpy(ret_why, why, sizeof(why));
	return rc;
}

int identity_init(struct identity *identity, const char *profile,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	static const char no_memory[] = "no memory";

	memset(identity, 0, sizeof(*identity));
	if (profile != NULL && profile[0] != '\0') {
		identity->profile = strdup(profile);
		if (identity->profile == NULL) {
			memcpy(ret_why, no_memory, sizeof(no_memory));
			return -ENOMEM;
		}
	}
	return read_credentials(identity, ret_why);
}

void identity_replace(struct identity *identity, struct identity *newer)
{
	uint64_t reading = identity->reading + newer->reading;

	identity_fini(identity);
	*identity = *newer;
	identity->reading = reading; /* never one that a call still bears */
	memset(&newer->credentials, 0, sizeof(newer->credentials));
	explicit_bzero(newer, sizeof(*newer));
}

static bool is_expiry(const struct upstream_result *result)
{
	static const char *const codes[] = {
		"ExpiredTokenException", "ExpiredToken", "RequestExpired"};

	if (result->outcome != UPSTREAM_REFUSED)
		return false;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (strcmp(result->code, codes[i]) == 0)
			return true;
	return false;
}

/*
 * Newer keys may lie in the files, and a second try signs with a newer time,
 * so it is worth one.  Calls that were under way with the older keys when the
 * first of them failed need no reading of their own.
 */
void identity_judge(struct identity *identity, uint64_t reading,
	struct upstream_result *result)
{
	bool current = reading == identity->reading;
	char why[UPSTREAM_MESSAGE_BYTES];

	if (!is_expiry(result)) {
		if (current && result->outcome == UPSTREAM_OK)
			identity->read_anew = false;
		return;
	}
	if (current && identity->read_anew)
		return;
	if (current) {
		identity->read_anew = true;
		if (read_credentials(identity, why) != 0)
			return;
	}
	result->outcome = UPSTREAM_TRANSIENT;
}

void identity_fini(struct identity *identity)
{
	credentials_wipe(&identity->credentials);
	free(identity->profile);
	memset(identity, 0, sizeof(*identity));
}
