/*
 * Writes the head of a call into an exchange: URL and header lines, signed or
 * with a bearer key.
 */
#ifndef COORDINATOR_UPSTREAM_REQUEST_H
#define COORDINATOR_UPSTREAM_REQUEST_H

#include "coordinator/upstream/credentials.h"
#include "coordinator/upstream/exchange.h"
#include "coordinator/upstream/settings.h"
#include "coordinator/upstream/sigv4.h"

/*
 * For exchange->call.  0; -EINVAL: what upstream_check() refuses; -E2BIG: more
 * than can be signed; -ENOMEM.
 */
int request_write(struct upstream_exchange *exchange,
	const struct settings *settings, const struct credentials *credentials,
	struct sigv4_key *key);

#endif
