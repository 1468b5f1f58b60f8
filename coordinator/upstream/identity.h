/*
 * As whom rgovd calls: the credentials in use, and when they are read anew.
 * Where they come from is the business of credentials.h.
 */
#ifndef COORDINATOR_UPSTREAM_IDENTITY_H
#define COORDINATOR_UPSTREAM_IDENTITY_H

#include "coordinator/upstream/credentials.h"
#include "coordinator/upstream/upstream.h"

struct identity {
	struct credentials credentials;
	uint64_t reading; /* the number of this one; 0: no credentials */
	char *profile;    /* NULL: as the environment says */
	bool read_anew; /* because they had expired; nothing succeeded since */
};

/*
 * Reads credentials.  0; else the error of credentials_load() and the reason:
 * then it is an identity without credentials.  -ENOMEM: as well.
 */
int identity_init(struct identity *identity, const char *profile,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/* Takes over all of `newer`, which is then empty. */
void identity_replace(struct identity *identity, struct identity *newer);

/*
 * Looks at the result of a call made with that reading.  When the provider
 * calls the credentials expired, they are read anew, once until a call succeeds
 * again, and the result becomes transient.
 */
void identity_judge(struct identity *identity, uint64_t reading,
	struct upstream_result *result);

/* A zero one is fine. */
void identity_fini(struct identity *identity);

#endif
