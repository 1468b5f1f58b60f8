/*
 * Why a request waits, and what it has waited for: told to its client in its
 * slot, to whoever asks by its number, and with its end.  What the reasons are
 * the policy says (policy_explain(), policy_waited()); show.c has the board.
 */
#ifndef COORDINATOR_EXPLAIN_H
#define COORDINATOR_EXPLAIN_H

#include "coordinator/request.h"

struct explainer;

int explain_create(struct explainer **ret_explainer); /* -ENOMEM */
void explain_free(struct explainer *explainer);

/* The policy has it now: it can be asked for by its number. */
void explain_add(struct request *request);
/* It is on its way no more: over, or a permit that is out. */
void explain_remove(struct request *request);

/* After a round of admissions: those that came and could not start at once
 * learn where they stand.  Who starts at once costs nothing here. */
void explain_fresh(struct governor *governor, uint64_t now_ns);

/* How it stands with a queued request. */
struct policy_why explain_why(const struct request *request, uint64_t now_ns);

/*
 * How long a request has waited until it was last admitted, or until now, and
 * for what; reasons of less than 1 ms are left out.  0: for nothing (then
 * nothing may be written): who starts at once costs nothing here.
 */
uint64_t explain_waits(const struct request *request, uint64_t now_ns,
	uint64_t ret_ns[SHM_REASONS_MAX]);

/* A request that has waited ends: counted, and kept for a while, so that one
 * can ask afterwards. */
void explain_end(const struct request *request, enum shm_result result,
	const uint64_t waited_ns[SHM_REASONS_MAX], uint64_t now_ns);

/* Answers a question for the request of that number; uid asks, who may ask for
 * his own only unless he governs. */
void explain_answer(struct governor *governor, uint64_t number, uid_t uid,
	bool may_govern, struct wire_explained *ret_answer);

#endif
