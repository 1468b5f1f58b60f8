/*
 * What a request is told that the policy did not take.
 */
#include "coordinator/flow.h"

#include <stdio.h>

enum shm_result result_of_refusal(enum policy_refusal refusal)
{
	switch (refusal) {
	case POLICY_ACCEPTED:
		return SHM_OK;
	case POLICY_QUEUE_FULL:
	case POLICY_LANE_CLOSED:
		return SHM_QUEUE_FULL;
	case POLICY_USER_LIMIT:
		return SHM_USER_LIMIT;
	case POLICY_TOO_LARGE:
		return SHM_TOO_LARGE;
	case POLICY_LATE:
	case POLICY_TOO_LATE:
		return SHM_DEADLINE;
	case POLICY_NO_MEMORY:
		return SHM_NO_MEMORY;
	}
	return SHM_INVALID;
}

/* The setting that refused it, where it is one. */
static const char *code_of_refusal(
	const struct request *request, enum policy_refusal refusal)
{
	bool is_task = request->kind == SHM_TASK;

	switch ((unsigned int)refusal) {
	case POLICY_QUEUE_FULL:
		return is_task ? "max_tasks" : "max_queued";
	case POLICY_USER_LIMIT:
		return is_task ? "max_tasks_per_user" : "max_queued_per_user";
	case POLICY_LANE_CLOSED:
		return DAILY_QUOTA_CODE;
	case POLICY_TOO_LATE:
		return "PredictedLate";
	default:
		return NULL;
	}
}

/* The place that it would have had. */
static void show_no_place(
	struct request *request, uint64_t now_ns, uint64_t retry_after_ns)
{
	struct policy_host_view view;

	if (request->slot == NULL)
		return; /* a task, whose submitter has gone */
	policy_view_host(request->governor->policy, now_ns, &view);
	door_show_place(
		request->slot, &(struct door_place){.request = request->number,
				       .position = view.queued + 1,
				       .as_of_ns = now_ns,
				       .until_ns = UINT64_MAX,
				       .predicted_ns = retry_after_ns,
				       .is_first = true});
}

/* Which limit it can never fit, with both figures. */
static const char *words_of_excess(
	const struct request *request, char room[SHM_MESSAGE_BYTES])
{
	struct policy_excess excess =
		policy_last_excess(request->governor->policy);
	bool is_user = excess.limit == POLICY_WAIT_USER_TOKENS ||
		       excess.limit == POLICY_WAIT_USER_DAY;
	bool is_host = excess.limit == POLICY_WAIT_HOST_TOKENS ||
		       excess.limit == POLICY_WAIT_HOST_DAY;
	bool is_day = excess.limit == POLICY_WAIT_LANE_DAY ||
		      excess.limit == POLICY_WAIT_HOST_DAY ||
		      excess.limit == POLICY_WAIT_USER_DAY;

	(void)snprintf(room, SHM_MESSAGE_BYTES,
		"asks for %llu tokens, tokens_per_%s of %s%.100s is %llu",
		(unsigned long long)excess.asked, is_day ? "day" : "minute",
		is_host   ? "this host"
		: is_user ? "user "
			  : "model ",
		is_host   ? ""
		: is_user ? request_user(request)
			  : request_model_id(request),
		(unsigned long long)excess.allowed);
	return room;
}

void refuse_place(struct request *request, enum policy_refusal refusal,
	uint64_t now_ns, uint64_t retry_after_ns)
{
	char room[SHM_MESSAGE_BYTES];

	if (refusal == POLICY_QUEUE_FULL)
		show_no_place(request, now_ns, retry_after_ns);
	refuse(request, result_of_refusal(refusal),
		code_of_refusal(request, refusal),
		refusal == POLICY_TOO_LARGE ? words_of_excess(request, room)
					    : policy_refusal_text(refusal),
		retry_after_ns);
}
