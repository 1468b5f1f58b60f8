/*
 * Shadow mode: requests are let through at once, and a twin of each goes
 * through the policy in its place.  The twin waits as its request would have
 * waited, holds its place for as long as the call really took, and is settled
 * with what it really used: so its wait, or its refusal, is what governing
 * would have cost.
 *
 *   request   starts at once --- runs: d ------> answered
 *   twin      enqueued --- waits ---> starts --- holds its place: d ---> ends
 *
 * A request that has a shadow is not in the policy itself.  No retries, no
 * fallback: what the provider says goes to the caller, and closes no gate,
 * since a governed call would hardly have been throttled.
 */
#ifndef COORDINATOR_SHADOW_H
#define COORDINATOR_SHADOW_H

#include "coordinator/loop/loop.h"
#include "coordinator/policy/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct governor;
struct request;
struct shadow;

/* The governor's part. */
struct shadows {
	struct shadow *list; /* the newest first */
	uint64_t refused_ns; /* when one was refused last; 0: never */
	struct loop_timer report;
	/* Since the last report. */
	uint64_t passed, delayed, refused, wait_ns, longest_ns;
};

/* Gives the request a shadow, and that a place in the policy's queue, where
 * there is one.  The request is to be started, whatever the policy says.
 * False: no memory. */
bool shadow_follow(struct request *request, uint64_t now_ns);

/* It would have been refused for another reason than the policy's. */
void shadow_note_refusal(struct governor *governor, uint64_t now_ns);

/* The request is about to be sent. */
void shadow_started(struct request *request, uint64_t now_ns);

/* The request ends, as this; its twin goes on without it. */
void shadow_settle(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns);

/* Nobody wants the request any more: the twin ends as well. */
void shadow_drop(struct request *request, uint64_t now_ns);

/* The policy has admitted a twin; it was late for its deadline. */
void shadow_admitted(struct policy_request *twin, uint64_t now_ns);
void shadow_expired(struct policy_request *twin, uint64_t now_ns);

/* After everything that could start has started: who is left waits. */
void shadow_look(struct governor *governor);

/* Switched off: calls that run count in the policy from now on.  True: some
 * starts that the provider saw were never counted there. */
bool shadow_end(struct governor *governor, uint64_t now_ns);

/* rgovd goes: all twins leave the policy. */
void shadow_stop(struct governor *governor);

#endif
