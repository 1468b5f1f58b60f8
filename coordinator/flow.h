/*
 * The steps of a request that more than one file takes.  Each ends in exactly
 * one of: the request waits (in the intake, the policy, upstream, a worker's
 * hands), or finish() or refuse(), which free it.
 */
#ifndef COORDINATOR_FLOW_H
#define COORDINATOR_FLOW_H

#include "coordinator/governor.h"

/* Adds to a counter of the board. */
#define COUNT(governor, counter)                                               \
	board_add((governor)->board.board->counters.counter, 1)
#define COUNT_BY(governor, counter, n)                                         \
	board_add((governor)->board.board->counters.counter, (n))

/* arrival.c: asks the policy for a place in its queue. */
enum policy_refusal offer(struct governor *governor,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns);

/* attempt.c: the policy has admitted it (RUNNING there), or it is let through.
 */
void start(struct request *request, uint64_t now_ns);

/* arrival.c: the policy, asked before, has a place for it; or it is let
 * through, or it ends. */
void enqueue(struct request *request);
/* arrival.c: it leaves the policy, from wherever it is; true: the caller
 * finishes it now, false: its end is under way. */
bool withdraw(struct request *request);
/* arrival.c: what its body asks for. */
void take_demand(struct request *request, const struct bedrock_demand *demand);
/* arrival.c: its body is read, hashed and scanned; then job->done(), who frees
 * the job.  False: no memory, and nothing was begun. */
bool take_in(struct request *request, void *owner,
	void (*done)(struct intake_job *job), char *into);
/* arrival.c: its body cannot be taken. */
void refuse_body(struct request *request, const struct intake_result *taken);
/* attempt.c: its body is there, or why it is not. */
void on_body_loaded(struct intake_job *job);
/* attempt.c: it was admitted, and nothing of it went out. */
void abandon_start(
	struct request *request, enum shm_result result, const char *message);

/* ending.c: its body counts in queued_bytes, until it is answered. */
void count_body(struct request *request);
void uncount_body(struct request *request);

/* ending.c: what it held of the limits is settled. */
void settle_in_policy(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns);

/* attempt.c: for people, as in "after a throttle". */
/* The provider's daily quota is used up. */
#define DAILY_QUOTA_CODE "DailyQuota"
const char *short_name_of(enum upstream_outcome outcome);

/* ending.c: an answer without anything from the provider. */
struct door_reply plain_reply(enum shm_result result);

/*
 * ending.c: the one end of every request that the policy no longer has:
 * counted, shown, answered, freed.  What is shown comes first: who reads the
 * answer and then the board finds it there.
 */
void finish(struct request *request, const struct door_reply *reply);
void finish_plainly(
	struct request *request, enum shm_result result, const char *message);

/* ending.c: refused before the policy had it: counts as refused, not as failed.
 */
void refuse(struct request *request, enum shm_result result, const char *code,
	const char *message, uint64_t retry_after_ns);

/* refusal.c: how that is answered. */
enum shm_result result_of_refusal(enum policy_refusal refusal);
/* refusal.c: the policy did not take it; its client is told which limit it was.
 */
void refuse_place(struct request *request, enum policy_refusal refusal,
	uint64_t now_ns, uint64_t retry_after_ns);

/* settle.c: a permit that a predecessor had granted is still out. */
void permit_restore(struct request *request);
/* settle.c: its worker says how it ended; also one that is overdue. */
void permit_settle(
	struct request *request, const struct door_settlement *settlement);

/* Nanoseconds since a moment; 0 where it never came. */
uint64_t since(uint64_t from_ns, uint64_t now_ns);

#endif
