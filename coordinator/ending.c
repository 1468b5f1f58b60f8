/* The end of a request: counted, shown, answered, freed. */
#include "coordinator/flow.h"

#include "coordinator/tasks.h"
#include "coordinator/trace.h"

struct door_reply plain_reply(enum shm_result result)
{
	return (struct door_reply){.result = result,
		.input_tokens = -1,
		.output_tokens = -1,
		.cache_read_tokens = -1,
		.cache_write_tokens = -1};
}

uint64_t since(uint64_t from_ns, uint64_t now_ns)
{
	return from_ns == 0 || now_ns < from_ns ? 0 : now_ns - from_ns;
}

static void count_end(
	struct request *request, enum shm_result result, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	/* What a successor will answer has not ended. */
	if (governor->is_leaving)
		return;
	if (request->stage == REQUEST_INTAKE)
		COUNT(governor, total_requests); /* no queue had it */
	if (request->is_started) {
		uint64_t execution_ns = since(request->last_start_ns, now_ns);

		COUNT(governor, ended_requests);
		COUNT_BY(governor, execution_time_ns, execution_ns);
		board_sample(
			&governor->board.board->host.execution, execution_ns);
	}
	if (result == SHM_OK)
		COUNT(governor, successful_requests);
	else if (result == SHM_CANCELLED)
		COUNT(governor, cancelled_requests);
	else
		COUNT(governor, failed_requests);
	if (result == SHM_DEADLINE)
		COUNT(governor, deadline_requests);
	if (result == SHM_AMBIGUOUS)
		COUNT(governor, ambiguous_requests);
}

void count_body(struct request *request)
{
	request->governor->queued_bytes += request->body_bytes;
	request->is_counted = true;
}

void uncount_body(struct request *request)
{
	if (request->is_counted)
		request->governor->queued_bytes -= request->body_bytes;
	request->is_counted = false;
}

void settle_in_policy(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	struct policy *policy = request->governor->policy;

	if (request->shadow == NULL)
		policy_finish(policy, &request->policy, outcome, usage, now_ns);
	else if (request->is_unwanted)
		shadow_drop(request, now_ns);
	else
		shadow_settle(request, outcome, usage, now_ns);
}

void finish(struct request *request, const struct door_reply *reply)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();
	struct door_reply full = *reply;
	uint64_t waited_ns[SHM_REASONS_MAX];

	full.attempts = request->calls;
	full.was_issued = request->was_issued;
	full.wait_ns = since(request->accepted_ns,
		request->first_start_ns ? request->first_start_ns : now);
	full.execution_ns = since(request->last_start_ns, now);
	if (request->shadow != NULL)
		shadow_drop(request, now);
	count_end(request, full.result, now);
	if (explain_waits(request, now, waited_ns) > 0) {
		explain_end(request, full.result, waited_ns, now);
		full.waited_ns = waited_ns;
	}
	trace_end(governor->trace, request, &full);
	show_request_gone(request);
	show_host(governor, now);
	show_soon(governor);
	uncount_body(request);
	governor->is_pump_due = true;
	if (request->stage != REQUEST_INTAKE)
		explain_remove(request);
	if (request->task != NULL)
		task_finish(request, &full);
	else if (request->slot != NULL)
		door_complete(request->slot, &full);
	request_move(request, REQUEST_OVER);
	request_free(request);
}

void finish_plainly(
	struct request *request, enum shm_result result, const char *message)
{
	struct door_reply reply = plain_reply(result);

	reply.message = message;
	finish(request, &reply);
}

void refuse(struct request *request, enum shm_result result, const char *code,
	const char *message, uint64_t retry_after_ns)
{
	struct governor *governor = request->governor;
	struct door_reply reply = plain_reply(result);

	reply.code = code;
	reply.message = message;
	reply.retry_after_ns = retry_after_ns;
	reply.was_issued = request->was_issued; /* by a predecessor */
	COUNT(governor, refused_requests);
	trace_refusal(governor->trace, request, &reply);
	show_soon(governor);
	uncount_body(request);
	if (request->task != NULL)
		task_finish(request, &reply);
	else if (request->slot != NULL)
		door_complete(request->slot, &reply);
	request_move(request, REQUEST_OVER);
	request_free(request);
}
