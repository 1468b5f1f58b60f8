/*
 * From the policy's word to the provider and back: a permit is granted, or a
 * call is made; what came of it goes to the policy and to whoever waits.
 */
#include "coordinator/flow.h"

#include "coordinator/log.h"
#include "coordinator/tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_S 86400

/* ------------------------------------------------------------ starting */

static void mark_started(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	uint64_t wait_ns = since(request->accepted_ns, now_ns);

	request->last_start_ns = now_ns;
	if (request->is_started)
		return;
	request->is_started = true;
	request->first_start_ns = now_ns;
	COUNT(governor, started_requests);
	/* What is let through does not wait; its twin's wait is shown. */
	if (request->shadow != NULL)
		return;
	COUNT_BY(governor, wait_time_ns, wait_ns);
	board_sample(&governor->board.board->host.wait, wait_ns);
}

/* Its first byte goes out, or the worker has the permit. */
static void note_start(struct request *request, uint64_t now_ns)
{
	if (request->shadow != NULL)
		shadow_started(request, now_ns);
	else
		policy_started(
			request->governor->policy, &request->policy, now_ns);
}

static void grant(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct door_reply reply = plain_reply(SHM_OK);
	uint64_t waited_ns[SHM_REASONS_MAX];

	note_start(request, now_ns);
	(void)show_start(request, now_ns);
	mark_started(request, now_ns);
	explain_remove(request);
	request_move(request, REQUEST_PERMIT);
	permit_begin(request, now_ns);
	COUNT(governor, permits_granted);
	reply.wait_ns = since(request->accepted_ns, now_ns);
	if (explain_waits(request, now_ns, waited_ns) > 0) {
		explain_end(request, SHM_OK, waited_ns, now_ns);
		reply.waited_ns = waited_ns;
	}
	door_grant(request->slot, &reply);
}

/* In a libcurl callback: nothing of upstream may be called. */
static int on_started(struct upstream_call *call)
{
	struct request *request = call->owner;
	uint64_t now = loop_now_ns();

	/* B3 first: a start on the board that was never sent costs a place
	 * for a minute, the other order would cost the invariant. */
	show_moved_start(request, &request->attempt->start_position, now);
	note_start(request, now);
	mark_started(request, now);
	/* Only now is it known when the window has room again, and when this
	 * probe has proven the lane. */
	request->governor->is_pump_due = true;
	return 0;
}

static void on_done(
	struct upstream_call *call, const struct upstream_result *result);

void abandon_start(
	struct request *request, enum shm_result result, const char *message)
{
	settle_in_policy(request, POLICY_UNUSED, NULL, loop_now_ns());
	finish_plainly(request, result, message);
}

static struct upstream_call call_of(
	const struct request_attempt *attempt, struct request *request)
{
	return (struct upstream_call){
		.operation = request->operation,
		.model_id = request_model_id(request),
		.headers = request_headers(request),
		.body = attempt->body,
		.body_bytes = request->body_bytes,
		.body_sha256 = attempt->load.result.sha256,
		.deadline_ns = request->policy.deadline_ns,
		.owner = request,
		.started = on_started,
		.done = on_done,
	};
}

static void issue(struct request *request)
{
	struct governor *governor = request->governor;
	struct request_attempt *attempt = request->attempt;
	int rc;

	attempt->call = call_of(attempt, request);
	attempt->start_position = show_start(request, loop_now_ns());
	if (request->slot != NULL)
		door_mark_issued(request->slot);
	rc = upstream_start(governor->upstream, &attempt->call);
	if (rc != 0) {
		abandon_start(request,
			rc == -ENOMEM ? SHM_NO_MEMORY : SHM_UPSTREAM_FAILED,
			strerrordesc_np(-rc));
		return;
	}
	request->was_issued = true;
	request->calls++;
	governor->calls_out++;
	COUNT(governor, upstream_calls);
	request_move(request, REQUEST_CALLING);
	show_request(request, BOARD_LIVE_RUNNING);
}

/* Is it still the body that was submitted? */
void on_body_loaded(struct intake_job *job)
{
	struct request *request = job->owner;

	request->governor->bodies_in++;
	/* A task is nobody's to take back when rgovd stops. */
	if (request->is_unwanted || request->governor->is_leaving)
		abandon_start(request, SHM_CANCELLED, NULL);
	else if (job->result.error == -ENOMEM)
		abandon_start(request, SHM_NO_MEMORY,
			"rgovd has no memory for the body");
	else if (job->result.error != 0 ||
		 memcmp(job->result.sha256, request->digest,
			 sizeof(request->digest)) != 0)
		abandon_start(request, SHM_BODY_CHANGED,
			"the body is not the one that was submitted");
	else
		issue(request);
}

/* The body again, from the client's memory or from the disk into our own; then
 * it is sent. */
static void load(struct request *request)
{
	struct governor *governor = request->governor;
	struct request_attempt *attempt =
		malloc(sizeof(*attempt) + request->body_bytes);

	if (attempt == NULL) {
		abandon_start(request, SHM_NO_MEMORY,
			"rgovd has no memory for the call");
		return;
	}
	attempt->load = (struct intake_job){.done = on_body_loaded,
		.owner = request,
		.body_bytes = request->body_bytes,
		.into = attempt->body};
	request->attempt = attempt;
	request_move(request, REQUEST_LOADING);
	governor->bodies_out++;
	if (request->task != NULL)
		task_begin(request);
	else
		intake_start(governor->intake, &attempt->load, request->slot);
}

void start(struct request *request, uint64_t now_ns)
{
	if (request->kind == SHM_PERMIT)
		grant(request, now_ns);
	else
		load(request);
}

/* ------------------------------------------------------------ from upstream */

const char *short_name_of(enum upstream_outcome outcome)
{
	switch (outcome) {
	case UPSTREAM_THROTTLED:
	case UPSTREAM_THROTTLED_DAY:
		return "a throttle";
	case UPSTREAM_TRANSIENT:
		return "a transient error";
	case UPSTREAM_AMBIGUOUS:
		return "a lost connection";
	case UPSTREAM_OK:
	case UPSTREAM_REFUSED:
	case UPSTREAM_TIMED_OUT:
	case UPSTREAM_REPLY_TOO_LARGE:
	case UPSTREAM_ABORTED:
		break;
	}
	return "an error";
}

static struct policy_usage usage_of(const struct upstream_result *result)
{
	return (struct policy_usage){result->usage.input_tokens,
		result->usage.output_tokens, result->usage.cache_read_tokens,
		result->usage.cache_write_tokens};
}

/* The daily quota of the provider turns at midnight UTC; BEDROCK says no more.
 */
static uint64_t next_day_ns(uint64_t now_ns)
{
	time_t now = time(NULL);

	return now_ns + (uint64_t)(DAY_S - now % DAY_S) * 1000000000u;
}

static void note_throttle(
	struct request *request, const struct upstream_result *result)
{
	struct governor *governor = request->governor;

	COUNT(governor, throttled_requests);
	board_event(&governor->board, "throttle", "%s: upstream %d %s",
		request_model_id(request), result->http_status, result->code);
	LOG(LOG_WARN, "upstream.throttled", "the provider throttles",
		F_S("model", request_model_id(request)),
		F_S("code", result->code), F_I("attempt", request->calls),
		F_S("request_id", result->request_id));
}

/* Nobody was reached who has seen the request: any other answer may be its own
 * fault. */
static bool is_away(int http_status)
{
	return http_status == 0 || (http_status >= 502 && http_status <= 504);
}

/* False: no other attempt changes anything. */
static bool is_failure(const struct request *request,
	const struct upstream_result *result, enum policy_failure *ret_failure)
{
	switch (result->outcome) {
	case UPSTREAM_THROTTLED:
	case UPSTREAM_THROTTLED_DAY:
		*ret_failure = POLICY_FAIL_THROTTLE;
		return true;
	case UPSTREAM_TRANSIENT:
		*ret_failure = is_away(result->http_status)
				       ? POLICY_FAIL_TRANSIENT
				       : POLICY_FAIL_ERROR;
		return true;
	case UPSTREAM_AMBIGUOUS:
		*ret_failure = POLICY_FAIL_LOST;
		return request->is_idempotent;
	case UPSTREAM_OK:
	case UPSTREAM_REFUSED:
	case UPSTREAM_TIMED_OUT:
	case UPSTREAM_REPLY_TOO_LARGE:
	case UPSTREAM_ABORTED:
		break;
	}
	return false;
}

/* The provider's hint; of a daily quota the day's turn. */
static uint64_t hint_of(const struct upstream_result *result, uint64_t now_ns)
{
	uint64_t day_ns = result->outcome == UPSTREAM_THROTTLED_DAY
				  ? next_day_ns(now_ns) - now_ns
				  : 0;

	return day_ns > result->retry_after_ns ? day_ns
					       : result->retry_after_ns;
}

/* Does it go on with another model?  It waits, or an attempt failed so. */
static bool is_diverted(struct request *request, enum policy_failure failure)
{
	struct governor *governor = request->governor;
	char *model_id;

	/* Without memory for the name, or a lane that takes it: the next. */
	while ((model_id = request_next_model(request)) != NULL) {
		if (policy_divert(governor->policy, &request->policy, model_id,
			    failure, loop_now_ns())) {
			request_has_moved(request, model_id);
			return true;
		}
		free(model_id);
	}
	return false;
}

/* Its lane is closed until after its deadline. */
static void end_doomed(struct request *request, uint64_t until_ns)
{
	struct door_reply reply = plain_reply(SHM_QUEUE_FULL);

	if (is_diverted(request, POLICY_FAIL_THROTTLE)) {
		show_request(request, BOARD_LIVE_QUEUED);
		return;
	}
	policy_remove(request->governor->policy, &request->policy);
	reply.code = DAILY_QUOTA_CODE;
	reply.message = policy_refusal_text(POLICY_LANE_CLOSED);
	reply.retry_after_ns = until_ns - loop_now_ns();
	finish(request, &reply);
}

/* Who waits there cannot all wait until the day turns. */
static void close_for_the_day(struct request *request)
{
	struct governor *governor = request->governor;
	struct policy_lane *lane = request->policy.lane;
	uint64_t until_ns = next_day_ns(loop_now_ns());
	struct policy_request **doomed;
	size_t n;

	policy_close_lane(governor->policy, lane, until_ns);
	doomed = policy_doomed(lane, &n);
	for (size_t i = 0; i < n; i++)
		end_doomed((struct request *)(void *)doomed[i], until_ns);
	free(doomed);
}

/* What waits for a model that cannot answer goes on with another one. */
static void move_stranded(struct governor *governor)
{
	struct policy_request **stranded;
	size_t n;

	stranded = policy_stranded(governor->policy, &n);
	for (size_t i = 0; i < n; i++) {
		struct request *request = (struct request *)(void *)stranded[i];

		if (is_diverted(request, POLICY_FAIL_TRANSIENT))
			show_request(request, BOARD_LIVE_QUEUED);
	}
	free(stranded);
}

/* Is it tried again?  Then it is in the policy's hands. */
static bool is_retried(
	struct request *request, const struct upstream_result *result)
{
	struct governor *governor = request->governor;
	uint64_t now_ns = loop_now_ns();
	enum policy_failure failure;

	if (!is_failure(request, result, &failure))
		return false;
	/* Told in any case: a throttle closes the gate for everyone. */
	if (!policy_retry(governor->policy, &request->policy, failure,
		    hint_of(result, now_ns), now_ns) &&
		!is_diverted(request, failure))
		return false;
	/* Nobody waits for it: it had its chance. */
	if (!request_is_wanted(request)) {
		policy_remove(governor->policy, &request->policy);
		finish_plainly(request, SHM_CANCELLED, NULL);
		return true;
	}
	COUNT(governor, retries);
	if (request->task != NULL)
		task_retried(request, short_name_of(result->outcome));
	else
		/* for a successor: it is not out */
		door_mark_accepted(request->slot);
	request->failed_as = result->outcome;
	request_move(request, REQUEST_QUEUED);
	show_request(request, BOARD_LIVE_BACKOFF);
	return true;
}

static enum shm_result result_of(
	const struct request *request, const struct upstream_result *result)
{
	switch (result->outcome) {
	case UPSTREAM_OK:
		return SHM_OK;
	case UPSTREAM_AMBIGUOUS:
		return request->is_idempotent ? SHM_UPSTREAM_FAILED
					      : SHM_AMBIGUOUS;
	case UPSTREAM_REPLY_TOO_LARGE:
		return SHM_REPLY_TOO_LARGE;
	case UPSTREAM_ABORTED:
		return SHM_CANCELLED;
	case UPSTREAM_THROTTLED:
	case UPSTREAM_THROTTLED_DAY:
	case UPSTREAM_TIMED_OUT:
	case UPSTREAM_TRANSIENT:
	case UPSTREAM_REFUSED:
		break;
	}
	if (result->http_status > 0)
		return SHM_UPSTREAM_ERROR;
	return request->policy.deadline_ns <= loop_now_ns()
		       ? SHM_DEADLINE
		       : SHM_UPSTREAM_FAILED;
}

static enum policy_outcome outcome_of(
	const struct request *request, const struct upstream_result *result)
{
	switch (result->outcome) {
	case UPSTREAM_OK:
	case UPSTREAM_REPLY_TOO_LARGE:
		return POLICY_DONE;
	case UPSTREAM_REFUSED:
	case UPSTREAM_TRANSIENT:
		/* Without an answer the provider has not seen it. */
		return result->http_status > 0 ? POLICY_DONE : POLICY_UNUSED;
	case UPSTREAM_THROTTLED:
	case UPSTREAM_THROTTLED_DAY:
		return POLICY_THROTTLED;
	case UPSTREAM_AMBIGUOUS:
	case UPSTREAM_TIMED_OUT:
		return POLICY_LOST;
	case UPSTREAM_ABORTED:
		break;
	}
	/* Aborted before its first byte: the provider knows nothing of it.
	 * (What is let through was never admitted, and starts once.) */
	return request->last_start_ns >= request->policy.admitted_ns &&
			       request->is_started
		       ? POLICY_LOST
		       : POLICY_UNUSED;
}

/* Of what cannot be, nothing is told. */
static int64_t possible_tokens(int64_t tokens)
{
	return tokens < 0 || tokens > INT64_C(1) << 53 ? -1 : tokens;
}

static void count_tokens(
	struct governor *governor, const struct upstream_result *result)
{
	int64_t input = possible_tokens(result->usage.input_tokens);
	int64_t output = possible_tokens(result->usage.output_tokens);

	if (input > 0)
		COUNT_BY(governor, input_tokens, input);
	if (output > 0)
		COUNT_BY(governor, output_tokens, output);
}

static void deliver(
	struct request *request, const struct upstream_result *result)
{
	struct governor *governor = request->governor;
	struct policy_usage usage = usage_of(result);
	struct door_reply reply = {
		.result = result_of(request, result),
		.http_status = result->http_status,
		.retry_after_ns = result->retry_after_ns,
		.input_tokens = possible_tokens(usage.input_tokens),
		.output_tokens = possible_tokens(usage.output_tokens),
		.cache_read_tokens = possible_tokens(usage.cache_read_tokens),
		.cache_write_tokens = possible_tokens(usage.cache_write_tokens),
		.code = result->code,
		.message = result->message,
		.request_id = result->request_id,
		.model = request->other_model,
		.body = result->body,
		.body_bytes = result->body_bytes,
	};

	remark_usage(request, &usage);
	settle_in_policy(
		request, outcome_of(request, result), &usage, loop_now_ns());
	count_tokens(governor, result);
	finish(request, &reply);
}

static void on_done(
	struct upstream_call *call, const struct upstream_result *result)
{
	struct request *request = call->owner;
	struct governor *governor = request->governor;
	struct request_attempt *attempt = request->attempt;

	request->attempt = NULL;
	governor->calls_out--;
	governor->is_pump_due = true;
	if (result->outcome == UPSTREAM_THROTTLED ||
		result->outcome == UPSTREAM_THROTTLED_DAY)
		note_throttle(request, result);
	if (result->outcome == UPSTREAM_THROTTLED_DAY &&
		request->shadow == NULL)
		close_for_the_day(request);
	/* What is let through ends as the provider says. */
	if (request->shadow != NULL || !is_retried(request, result))
		deliver(request, result);
	if (result->outcome != UPSTREAM_OK)
		move_stranded(governor);
	free(attempt); /* the result may point into it */
}
