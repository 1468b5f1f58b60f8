/*
 * What has happened since the start or the last reset, and the report of it.
 *
 * Not thread-safe: the simulation's lock covers it.
 */
#ifndef SIM_LEDGER_H
#define SIM_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/bedrock-sim/memory.h"
#include "tools/bedrock-sim/quota.h"
#include "tools/bedrock-sim/stamps.h"

/* COUNT(field): every counter of the report, in its order. */
#define LEDGER_COUNTS(COUNT)                                                   \
	COUNT(arrivals)      /* requests whose headers were seen */            \
	COUNT(accepted)      /* valid, signed, within quota: work was begun */ \
	COUNT(throttled)     /* refused by a quota */                          \
	COUNT(faults)        /* struck by an injected fault */                 \
	COUNT(invalid)       /* no route, or a bad body or model id */         \
	COUNT(auth_failures) /* bad signature or key */                        \
	COUNT(incomplete)    /* the client left before its body was whole */   \
	COUNT(aborted)       /* the client left before the answer was sent */  \
	COUNT(ok)            /* answered 200 in full */                        \
	COUNT(connections)   /* that carried an arrival */                     \
	COUNT(tls_connections)                                                 \
	COUNT(duplicates)       /* accepted, same model and body as before */  \
	COUNT(duplicates_of_ok) /* the same, when that one was answered ok */

struct ledger_seen;

struct ledger {
	uint64_t run; /* 1, and one more at each reset */
	uint64_t begin_ns;
#define COUNT(field) uint64_t field;
	LEDGER_COUNTS(COUNT)
#undef COUNT
	uint64_t running, max_concurrent; /* accepted, not yet answered */
	struct stamps arrivals_at;
	struct ledger_seen *seen; /* open addressing; capacity a power of 2 */
	size_t seen_count, seen_capacity;
};

/* Notes an accepted request by what it asks: the first bytes of a SHA-256. */
void ledger_accept(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES]);
/*
 * It is answered with 200.  Counted before the answer goes out, so that whoever
 * has the answer finds it counted.
 */
void ledger_answered(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES]);
/* Its client had left: it was not, after all. */
void ledger_unanswered(
	struct ledger *ledger, const unsigned char what[DIGEST_BYTES]);
/* Everything to zero but what is running. */
void ledger_reset(struct ledger *ledger, uint64_t now_ns);
/* The report as JSON, a newline at its end; free() ends it. */
char *ledger_report(const struct ledger *ledger, const struct quota *quota,
	uint64_t now_ns);

#endif
