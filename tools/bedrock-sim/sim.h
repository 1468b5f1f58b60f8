/*
 * The whole simulator, and one request on its way through it.
 *
 * server.c moves bytes; judge.c decides.  A request belongs to the thread of
 * its connection, but for the time it sleeps: then the timer thread looks at
 * it, until it has handed it back.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/bedrock-sim/fault.h"
#include "tools/bedrock-sim/headers.h"
#include "tools/bedrock-sim/journal.h"
#include "tools/bedrock-sim/ledger.h"
#include "tools/bedrock-sim/memory.h"
#include "tools/bedrock-sim/options.h"
#include "tools/bedrock-sim/quota.h"
#include "tools/bedrock-sim/reply.h"
#include "tools/bedrock-sim/route.h"
#include "tools/bedrock-sim/timers.h"

struct sim {
	const struct options *options;
	struct journal journal; /* has no lock: see journal.h */
	struct timers *timers;

	pthread_mutex_t lock; /* covers what follows */
	struct quota quota;
	struct ledger ledger;
	uint64_t last_arrival_ns;
	uint64_t connections;    /* since the start; numbers them */
	uint64_t closes_pending; /* close-reused that found a fresh one */
	struct fault outage;     /* strikes every request */
};

/* One connection; only its own thread touches it. */
struct peer {
	uint64_t number;
	uint64_t requests;    /* that have begun on it */
	uint64_t counted_run; /* the run whose report counts it; 0: none */
	bool tls;
};

enum outcome {
	OUTCOME_NONE, /* not judged: the body is not whole */
	OUTCOME_OK,
	OUTCOME_THROTTLED,
	OUTCOME_FAULT,
	OUTCOME_INVALID,
	OUTCOME_AUTH,
};

struct exchange {
	struct sim *sim;
	struct peer *peer;
	char *path, *query; /* as sent; query points into path's memory */
	const char *method; /* the library's, while the request lives */
	struct headers headers;
	struct route route;

	/* From the arrival on. */
	uint64_t run, n, arrived_ns;
	bool reused; /* not the first request of its connection */
	enum quota_verdict quota_verdict;
	struct quota_ticket ticket;

	char *body;
	size_t body_bytes, body_capacity; /* what is kept */
	uint64_t body_total;              /* what came */
	EVP_MD_CTX *body_hash;
	char body_sha256[DIGEST_HEX];
	unsigned char what[DIGEST_BYTES]; /* of model and body */

	/* From the judgement on. */
	enum outcome outcome;
	bool accepted, running;
	bool answered; /* with 200, and counted so */
	struct fault fault;
	struct reply reply;
	uint64_t due_ns; /* when the answer goes out */
};

/* Begins a request; target is that of the request line, as sent. */
struct exchange *exchange_begin(
	struct sim *sim, struct peer *peer, const char *target);
/* More of the body.  False: it is absurdly long; close the connection. */
bool exchange_body(struct exchange *exchange, const void *bytes, size_t n);
/* Ends it, judged or not; `sent` says whether the answer went out whole. */
void exchange_end(struct exchange *exchange, bool sent);

/* Its headers are there: counts it and gives it its place in the quotas. */
void judge_arrival(struct exchange *exchange);
/* Its body is there: fills everything "from the judgement on". */
void judge_request(struct exchange *exchange);
/* Its answer goes out now: it is no longer in progress. */
void judge_answer(struct exchange *exchange);

/* One line of the log about it. */
void exchange_log(const struct exchange *exchange, const char *event,
	uint64_t at_ns, bool ended, bool sent);

#endif
