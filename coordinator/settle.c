/*
 * What workers say of their permits: that one of a predecessor's is still out,
 * and what one used in the end.
 */
#include "coordinator/flow.h"

#include "coordinator/log.h"

enum { SETTLED_TOKENS_MAX = 4000000 };

void permit_restore(struct request *request)
{
	struct governor *governor = request->governor;
	struct request *held = ghost_take(request);
	uint64_t now = loop_now_ns();

	/* One that is overdue was counted to its end. */
	if (held == NULL || held->stage != REQUEST_OVERDUE) {
		COUNT(governor, total_requests);
		COUNT(governor, started_requests);
	}
	/* Known from the board, with its start and its time to live. */
	if (held != NULL) {
		request_move(request, REQUEST_OVER);
		request_free(request);
		return;
	}
	if (policy_restore_running(governor->policy, &request->policy, now) <
		0) {
		/* Nobody counts it; the worker settles it all the same. */
		LOG(LOG_ERROR, "permit.lost", "no memory to restore a permit",
			F_S("user", request_user(request)));
		COUNT(governor, ended_requests);
		COUNT(governor, failed_requests);
		door_release(request->slot);
		request_move(request, REQUEST_OVER);
		request_free(request);
		return;
	}
	request->accepted_ns = now;
	request->first_start_ns = request->last_start_ns = now;
	request->is_started = true;
	request_move(request, REQUEST_PERMIT);
	(void)show_start(request, now);
	permit_begin(request, now);
}

/* What a worker says it used.  No call of any model uses more; without a bound
 * one worker could put a lane into days of debt.  What cannot be at all is left
 * to the policy. */
static int64_t believable_tokens(int64_t tokens)
{
	return tokens > SETTLED_TOKENS_MAX && tokens <= INT64_C(1) << 53
		       ? SETTLED_TOKENS_MAX
		       : tokens;
}

void permit_settle(
	struct request *request, const struct door_settlement *settlement)
{
	struct governor *governor = request->governor;
	struct policy_usage usage = {
		believable_tokens(settlement->input_tokens),
		believable_tokens(settlement->output_tokens), -1, -1};
	enum policy_outcome outcome = POLICY_DONE;

	switch (settlement->how) {
	case SHM_SETTLED_OK:
		break;
	case SHM_SETTLED_THROTTLED:
		outcome = POLICY_THROTTLED;
		COUNT(governor, throttled_requests);
		board_event(&governor->board, "throttle",
			"%s: reported by a permit of %s",
			request_model_id(request), request_user(request));
		break;
	case SHM_SETTLED_FAILED:
		outcome = POLICY_LOST;
		break;
	case SHM_SETTLED_UNUSED:
		outcome = POLICY_UNUSED;
		break;
	}
	remark_usage(request, &usage);
	if (request->stage == REQUEST_OVERDUE) {
		COUNT(governor, permits_settled_late);
		board_event(&governor->board, "late",
			"a permit of %s for %s was settled after it had "
			"expired",
			request_user(request), request_model_id(request));
	}
	permit_finish(request, outcome,
		outcome == POLICY_DONE || outcome == POLICY_LOST ? &usage
								 : NULL);
}
