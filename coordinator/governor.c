/*
 * The way of a request.  Each step ends in exactly one of: the request waits
 * (in the intake, the policy, upstream, a worker's hands), or finish().
 */
#include "coordinator/governor.h"

#include "coordinator/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { SPARE_MAX = 1024, SETTLED_TOKENS_MAX = 4000000 };

#define DAY_S 86400

/* Adds to a counter of the board. */
#define COUNT(governor, counter)                                               \
	board_add((governor)->board.board->counters.counter, 1)
#define COUNT_BY(governor, counter, n)                                         \
	board_add((governor)->board.board->counters.counter, (n))

/* ------------------------------------------------------------ memory */

struct request *governor_allocate(struct governor *governor)
{
	struct request *request = governor->spare;

	if (request == NULL)
		return calloc(1, sizeof(*request));
	governor->spare = request->next;
	governor->n_spare--;
	memset(request, 0, sizeof(*request));
	return request;
}

void governor_recycle(struct governor *governor, struct request *request)
{
	if (governor->n_spare >= SPARE_MAX) {
		free(request);
		return;
	}
	request->next = governor->spare;
	governor->spare = request;
	governor->n_spare++;
}

/* ------------------------------------------------------------ the end */

static struct door_reply plain_reply(enum shm_result result)
{
	return (struct door_reply){.result = result,
		.input_tokens = -1,
		.output_tokens = -1,
		.cache_read_tokens = -1,
		.cache_write_tokens = -1};
}

static uint64_t since(uint64_t from_ns, uint64_t now_ns)
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

/*
 * The one end of every request that the policy no longer has: counted, shown,
 * answered, freed.  What is shown comes first: who reads the answer and then
 * the board finds it there.
 */
static void finish(struct request *request, const struct door_reply *reply)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();
	struct door_reply full = *reply;

	full.attempts = request->calls;
	full.was_issued = request->was_issued;
	full.wait_ns = since(request->accepted_ns,
		request->first_start_ns ? request->first_start_ns : now);
	full.execution_ns = since(request->last_start_ns, now);
	count_end(request, full.result, now);
	show_request_gone(request);
	show_host(governor, now);
	show_soon(governor);
	governor->queued_bytes -= request->body_bytes;
	governor->is_pump_due = true;
	if (request->slot != NULL)
		door_complete(request->slot, &full);
	request_move(request, REQUEST_OVER);
	request_free(request);
}

static void finish_plainly(
	struct request *request, enum shm_result result, const char *message)
{
	struct door_reply reply = plain_reply(result);

	reply.message = message;
	finish(request, &reply);
}

/* Refused before the policy had it: it counts as refused, not as failed. */
static void refuse(struct request *request, enum shm_result result,
	const char *code, const char *message, uint64_t retry_after_ns)
{
	struct governor *governor = request->governor;
	struct door_reply reply = plain_reply(result);

	reply.code = code;
	reply.message = message;
	reply.retry_after_ns = retry_after_ns;
	reply.was_issued = request->was_issued; /* by a predecessor */
	COUNT(governor, refused_requests);
	show_soon(governor);
	governor->queued_bytes -= request->body_bytes;
	if (request->slot != NULL)
		door_complete(request->slot, &reply);
	request_move(request, REQUEST_OVER);
	request_free(request);
}

/* ------------------------------------------------------------ enqueue */

static enum shm_result result_of_refusal(enum policy_refusal refusal)
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
		return SHM_DEADLINE;
	case POLICY_NO_MEMORY:
		return SHM_NO_MEMORY;
	}
	return SHM_INVALID;
}

static void enqueue(struct request *request)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();
	uint64_t retry_after_ns = 0;
	enum policy_refusal refusal = policy_enqueue(
		governor->policy, &request->policy, now, &retry_after_ns);

	if (refusal != POLICY_ACCEPTED) {
		refuse(request, result_of_refusal(refusal),
			refusal == POLICY_LANE_CLOSED ? "DailyQuota" : NULL,
			policy_refusal_text(refusal), retry_after_ns);
		return;
	}
	request->accepted_ns = now;
	request_move(request, REQUEST_QUEUED);
	COUNT(governor, total_requests);
	door_mark_accepted(request->slot);
	if (request->kind == SHM_CALL)
		show_request(request, BOARD_LIVE_QUEUED);
	governor->is_pump_due = true;
}

static void refuse_body(
	struct request *request, const struct intake_result *taken)
{
	if (taken->error == -EINVAL)
		refuse(request, SHM_INVALID, "InvalidRequest", taken->why, 0);
	else if (taken->error == -EIO)
		refuse(request, SHM_BODY_CHANGED, "BodyUnreadable",
			"the body is shorter than the request says", 0);
	else
		refuse(request, SHM_NO_MEMORY, NULL, "no memory for the body",
			0);
}

static void take_demand(
	struct request *request, const struct bedrock_demand *demand)
{
	request->policy.input_tokens = (uint64_t)demand->input_tokens;
	request->policy.output_tokens =
		demand->max_tokens > 0 ? (uint64_t)demand->max_tokens : 0;
}

static void refuse_draining(struct request *request)
{
	refuse(request, SHM_DRAINING, "Draining", "rgovd is going down", 0);
}

static void on_body_taken(struct intake_job *job)
{
	struct request *request = job->owner;
	const struct intake_result *taken = &job->result;

	request->intake = NULL;
	request->governor->bodies_in++;
	if (request->is_unwanted) {
		finish_plainly(request, SHM_CANCELLED, NULL);
	} else if (request->governor->is_final) {
		refuse_draining(request);
	} else if (taken->error != 0) {
		refuse_body(request, taken);
	} else {
		memcpy(request->sha256, taken->sha256, sizeof(request->sha256));
		take_demand(request, &taken->demand);
		enqueue(request);
	}
	free(job);
}

static void take_in(struct request *request)
{
	struct governor *governor = request->governor;
	struct intake_job *job = calloc(1, sizeof(*job));

	if (job == NULL) {
		refuse(request, SHM_NO_MEMORY, NULL, "no memory", 0);
		return;
	}
	job->done = on_body_taken;
	job->owner = request;
	job->operation = request->operation;
	job->body_bytes = request->body_bytes;
	request->intake = job;
	governor->bodies_out++;
	intake_start(governor->intake, job, request->slot);
}

/* ------------------------------------------------------------ from the door */

/* A permit that a predecessor had granted is still out. */
static void restore_permit(struct request *request)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();

	COUNT(governor, total_requests);
	COUNT(governor, started_requests);
	/* Known from the board, with its start and its time to live. */
	if (ghost_take(request) != NULL) {
		request_move(request, REQUEST_OVER);
		request_free(request);
		return;
	}
	if (policy_restore_running(governor->policy, &request->policy, now) <
		0) {
		/* Nobody counts it; the worker settles it all the same. */
		LOG(LOG_ERROR, "permit.lost", "no memory to restore a permit",
			F_S("user", request->user));
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
	show_start(request, now);
	permit_begin(request, now);
}

static const char *missing_credentials(const struct governor *governor)
{
	struct upstream_stats stats;

	if (load_relaxed(governor->board.board->header.credentials) != 0)
		return NULL;
	upstream_read_stats(governor->upstream, &stats);
	return stats.has_credentials
		       ? NULL
		       : "rgovd has no credentials; see rgovd(8), CREDENTIALS";
}

/* What can be refused without looking at the body. */
static bool is_refused_at_sight(struct request *request)
{
	struct governor *governor = request->governor;
	char why[UPSTREAM_MESSAGE_BYTES];
	const char *text;

	if (governor->is_final)
		refuse_draining(request);
	else if (request->policy.deadline_ns <= loop_now_ns())
		refuse(request, SHM_DEADLINE, "DeadlineExceeded",
			"the deadline has passed already", 0);
	else if (upstream_check(request_model_id(request),
			 request->headers ? request->headers : "", why) != 0)
		refuse(request, SHM_INVALID, "InvalidRequest", why, 0);
	else if (request->kind == SHM_CALL && request->body_bytes == 0)
		refuse(request, SHM_INVALID, "InvalidRequest",
			"body: expected a JSON object, found nothing", 0);
	else if (request->kind == SHM_CALL &&
		 (text = missing_credentials(governor)) != NULL)
		refuse(request, SHM_NO_CREDENTIALS, "NoCredentials", text, 0);
	else if (governor->queued_bytes > governor->config->max_queued_bytes)
		refuse(request, SHM_QUEUE_FULL, NULL,
			"the queued bodies exceed max_queued_bytes",
			1000000000);
	else
		return false;
	return true;
}

static void on_submitted(void *owner, struct door_slot *slot,
	const struct door_submission *submission)
{
	struct governor *governor = owner;
	struct request *request = request_create(governor, submission);
	struct door_reply none = plain_reply(SHM_NO_MEMORY);

	if (request == NULL) {
		none.message = "rgovd has no memory";
		door_complete(slot, &none);
		return;
	}
	request->slot = slot;
	request->number = ++governor->numbers;
	slot->request = request;
	governor->queued_bytes += request->body_bytes;
	if (submission->recovered == SHM_GRANTED) {
		restore_permit(request);
		return;
	}
	if (submission->recovered == SHM_ISSUED) {
		request->was_issued = true;
		if (!request->is_idempotent) {
			finish_plainly(request, SHM_AMBIGUOUS,
				"rgovd ended while it was out, and it may not "
				"be sent twice");
			return;
		}
		COUNT(governor, reissued_requests);
	}
	if (is_refused_at_sight(request))
		return;
	if (request->kind == SHM_PERMIT)
		enqueue(request);
	else
		take_in(request);
}

/* Leaves the policy, from wherever it is; true: the caller finishes it now,
 * false: its end is under way. */
static bool withdraw(struct request *request)
{
	struct governor *governor = request->governor;

	request->is_unwanted = true;
	switch (request->stage) {
	case REQUEST_INTAKE:
		return false; /* on_body_taken() sees the flag */
	case REQUEST_QUEUED:
		policy_remove(governor->policy, &request->policy);
		return true;
	case REQUEST_CALLING:
		upstream_abort(governor->upstream, &request->attempt->call);
		return false; /* its done() was called: it is gone */
	case REQUEST_PERMIT:
	case REQUEST_OVER:
		break;
	}
	return false;
}

static void on_cancelled(void *owner, struct door_slot *slot)
{
	struct request *request = slot->request;

	(void)owner;
	if (withdraw(request))
		finish_plainly(request, SHM_CANCELLED, NULL);
}

static void on_orphaned(void *owner, struct door_slot *slot)
{
	struct governor *governor = owner;
	struct request *request = slot->request;

	request->slot = NULL;
	if (request->stage == REQUEST_PERMIT && governor->is_leaving) {
		/* It goes on, on the board. */
		permit_finish(request, POLICY_LOST, NULL);
	} else if (request->stage == REQUEST_PERMIT) {
		COUNT(governor, permits_reclaimed);
		board_event(&governor->board, "reclaim",
			"pid gone: a permit of %s for %s is back",
			request->user, request_model_id(request));
		permit_finish(request, POLICY_LOST, NULL);
	} else if (request->stage == REQUEST_CALLING &&
		   governor->config->on_client_death == CONFIG_DEATH_FINISH) {
		return; /* it ends as it would, and nobody is told */
	} else if (withdraw(request)) {
		finish_plainly(request, SHM_CANCELLED, NULL);
	}
}

/* What a worker says it used.  No call of any model uses more; without a bound
 * one worker could put a lane into days of debt. */
static int64_t believable_tokens(int64_t tokens)
{
	return tokens > SETTLED_TOKENS_MAX ? SETTLED_TOKENS_MAX : tokens;
}

static void on_settled(void *owner, struct door_slot *slot,
	const struct door_settlement *settlement)
{
	struct governor *governor = owner;
	struct request *request = slot->request;
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
			request_model_id(request), request->user);
		break;
	case SHM_SETTLED_FAILED:
		outcome = POLICY_LOST;
		break;
	case SHM_SETTLED_UNUSED:
		outcome = POLICY_UNUSED;
		break;
	}
	permit_finish(request, outcome,
		outcome == POLICY_DONE || outcome == POLICY_LOST ? &usage
								 : NULL);
}

static void on_reattached(void *owner, const uint8_t session_id[16])
{
	ghosts_return(owner, session_id);
}

static bool on_lets_in(void *owner, uid_t uid, const gid_t *gids, size_t n_gids)
{
	struct governor *governor = owner;

	return config_lets_in(governor->config, geteuid(), uid, gids, n_gids);
}

static bool on_lets_govern(void *owner, uid_t uid)
{
	struct governor *governor = owner;

	return config_lets_govern(governor->config, geteuid(), uid);
}

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
	COUNT_BY(governor, wait_time_ns, wait_ns);
	board_sample(&governor->board.board->host.wait, wait_ns);
}

static void grant(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct door_reply reply = plain_reply(SHM_OK);

	policy_started(governor->policy, &request->policy, now_ns);
	show_start(request, now_ns);
	mark_started(request, now_ns);
	request_move(request, REQUEST_PERMIT);
	permit_begin(request, now_ns);
	COUNT(governor, permits_granted);
	reply.wait_ns = since(request->accepted_ns, now_ns);
	door_grant(request->slot, &reply);
}

/* In a libcurl callback: nothing of upstream may be called. */
static int on_started(struct upstream_call *call)
{
	struct request *request = call->owner;
	uint64_t now = loop_now_ns();

	/* B3 first: a start on the board that was never sent costs a place
	 * for a minute, the other order would cost the invariant. */
	show_moved_start(request, now);
	policy_started(request->governor->policy, &request->policy, now);
	mark_started(request, now);
	/* Only now is it known when the window has room again, and when this
	 * probe has proven the lane. */
	request->governor->is_pump_due = true;
	return 0;
}

static void on_done(
	struct upstream_call *call, const struct upstream_result *result);

/* The body again, from the client's memory, and still the submitted one?  NULL:
 * not so; *ret_result says how. */
static struct request_attempt *prepare_attempt(
	struct request *request, enum shm_result *ret_result)
{
	struct governor *governor = request->governor;
	struct request_attempt *attempt =
		calloc(1, sizeof(*attempt) + request->body_bytes);
	uint8_t sha256[DIGEST_BYTES];

	*ret_result = SHM_NO_MEMORY;
	if (attempt == NULL)
		return NULL;
	*ret_result = SHM_BODY_CHANGED;
	if (door_read_body(request->slot, attempt->body, request->body_bytes) <
			0 ||
		intake_hash(governor->intake, attempt->body,
			request->body_bytes, sha256) < 0 ||
		memcmp(sha256, request->sha256, sizeof(sha256)) != 0) {
		free(attempt);
		return NULL;
	}
	attempt->call = (struct upstream_call){
		.operation = request->operation,
		.model_id = request_model_id(request),
		.headers = request->headers ? request->headers : "",
		.body = attempt->body,
		.body_bytes = request->body_bytes,
		.body_sha256 = request->sha256,
		.deadline_ns = request->policy.deadline_ns,
		.owner = request,
		.started = on_started,
		.done = on_done,
	};
	return attempt;
}

/* It was admitted, and nothing of it went out. */
static void abandon_start(
	struct request *request, enum shm_result result, const char *message)
{
	policy_finish(request->governor->policy, &request->policy,
		POLICY_UNUSED, NULL, loop_now_ns());
	finish_plainly(request, result, message);
}

static void call(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	enum shm_result result = SHM_NO_MEMORY;
	struct request_attempt *attempt = prepare_attempt(request, &result);
	int rc;

	if (attempt == NULL) {
		abandon_start(request, result,
			result == SHM_BODY_CHANGED
				? "the body is not the one that was submitted"
				: "rgovd has no memory for the call");
		return;
	}
	show_start(request, now_ns);
	door_mark_issued(request->slot);
	rc = upstream_start(governor->upstream, &attempt->call);
	if (rc != 0) {
		free(attempt);
		abandon_start(request,
			rc == -ENOMEM ? SHM_NO_MEMORY : SHM_UPSTREAM_FAILED,
			strerrordesc_np(-rc));
		return;
	}
	request->attempt = attempt;
	request->was_issued = true;
	request->calls++;
	governor->calls_out++;
	COUNT(governor, upstream_calls);
	request_move(request, REQUEST_CALLING);
	show_request(request, BOARD_LIVE_RUNNING);
}

static void start(struct request *request, uint64_t now_ns)
{
	if (request->kind == SHM_PERMIT)
		grant(request, now_ns);
	else
		call(request, now_ns);
}

/* ------------------------------------------------------------ from upstream */

static const char *short_name_of(enum upstream_outcome outcome)
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
	if (result->outcome == UPSTREAM_THROTTLED_DAY)
		policy_close_lane(governor->policy, request->policy.lane,
			next_day_ns(loop_now_ns()));
}

/* Is it tried again?  Then it is in the policy's hands. */
static bool is_retried(
	struct request *request, const struct upstream_result *result)
{
	struct governor *governor = request->governor;
	enum policy_failure failure = POLICY_FAIL_TRANSIENT;

	if (result->outcome == UPSTREAM_THROTTLED)
		failure = POLICY_FAIL_THROTTLE;
	else if (result->outcome == UPSTREAM_AMBIGUOUS)
		failure = POLICY_FAIL_LOST;
	else if (result->outcome != UPSTREAM_TRANSIENT)
		return false;
	if (failure == POLICY_FAIL_LOST && !request->is_idempotent)
		return false;
	/* Told in any case: a throttle closes the gate for everyone. */
	if (!policy_retry(governor->policy, &request->policy, failure,
		    result->retry_after_ns, loop_now_ns()))
		return false;
	/* Nobody waits for it, or rgovd goes: it had its chance. */
	if (request->slot == NULL) {
		policy_remove(governor->policy, &request->policy);
		finish_plainly(request, SHM_CANCELLED, NULL);
		return true;
	}
	COUNT(governor, retries);
	door_mark_accepted(request->slot); /* for a successor: it is not out */
	request->last_code = short_name_of(result->outcome);
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
	/* Aborted before its first byte: the provider knows nothing of it. */
	return request->last_start_ns >= request->policy.admitted_ns &&
			       request->is_started
		       ? POLICY_LOST
		       : POLICY_UNUSED;
}

static void count_tokens(
	struct governor *governor, const struct upstream_result *result)
{
	if (result->usage.input_tokens > 0)
		COUNT_BY(governor, input_tokens, result->usage.input_tokens);
	if (result->usage.output_tokens > 0)
		COUNT_BY(governor, output_tokens, result->usage.output_tokens);
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
		.input_tokens = usage.input_tokens,
		.output_tokens = usage.output_tokens,
		.cache_read_tokens = usage.cache_read_tokens,
		.cache_write_tokens = usage.cache_write_tokens,
		.code = result->code,
		.message = result->message,
		.request_id = result->request_id,
		.body = result->body,
		.body_bytes = result->body_bytes,
	};

	policy_finish(governor->policy, &request->policy,
		outcome_of(request, result), &usage, loop_now_ns());
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
	if (!is_retried(request, result))
		deliver(request, result);
	free(attempt); /* the result may point into it */
}

/* ------------------------------------------------------------ the pump */

static void expire(struct request *request)
{
	char message[SHM_MESSAGE_BYTES];

	(void)snprintf(message, sizeof(message),
		request->last_code
			? "the deadline passed while it waited to be tried "
			  "again after %s"
			: "the deadline passed in the queue; it was not sent",
		request->last_code);
	finish_plainly(request, SHM_DEADLINE, message);
}

/* policy is the first member: a policy_request is its request. */
static_assert(offsetof(struct request, policy) == 0, "cast in request_of");

static struct request *request_of(struct policy_request *policy)
{
	return (struct request *)(void *)policy;
}

static void on_next_decision(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;

	(void)now_ns;
	governor->is_pump_due = true;
}

/* Draining starts nothing; a request that rgovd leaves behind is ACCEPTED in
 * its client's memory, and a successor queues it again. */
static uint64_t admit_all(struct governor *governor, uint64_t now_ns)
{
	struct policy_request *next;
	uint64_t again_ns = UINT64_MAX;

	if (governor->is_draining)
		return again_ns;
	while ((next = policy_admit(governor->policy, now_ns, &again_ns)) !=
		NULL)
		start(request_of(next), now_ns);
	return again_ns;
}

static uint64_t expire_all(struct governor *governor, uint64_t now_ns)
{
	struct policy_request *late;
	uint64_t again_ns = UINT64_MAX;

	while ((late = policy_expire(governor->policy, now_ns, &again_ns)) !=
		NULL)
		expire(request_of(late));
	return again_ns;
}

static void set_timer(struct governor *governor, uint64_t at_ns)
{
	struct loop_timer *timer = &governor->next_decision;

	if (at_ns == UINT64_MAX)
		loop_timer_clear(governor->loop, timer);
	else if (timer->place == 0 || timer->at_ns != at_ns)
		(void)loop_timer_set(governor->loop, timer, at_ns,
			on_next_decision, governor);
}

void governor_pump(struct governor *governor)
{
	uint64_t late_ns, admit_ns, now;

	if (!governor->is_pump_due)
		return;
	if (governor->are_ghosts_back)
		ghosts_end_returned(governor);
	do {
		governor->is_pump_due = false;
		now = loop_now_ns();
		late_ns = expire_all(governor, now);
		admit_ns = admit_all(governor, now);
	} while (governor->is_pump_due); /* an end frees a place */
	set_timer(governor, late_ns < admit_ns ? late_ns : admit_ns);
	show_host(governor, now);
	show_soon(governor);
}

/* ------------------------------------------------------------ life */

static int on_verb(void *owner, enum wire_verb verb, uid_t uid, char *ret_text,
	size_t bytes)
{
	struct governor *governor = owner;

	(void)uid;
	if (verb == WIRE_PING) {
		(void)snprintf(ret_text, bytes, "rgovd " RGOV_VERSION);
		return 0;
	}
	if (verb == WIRE_RELOAD && governor->reload != NULL)
		return governor->reload(governor, ret_text, bytes);
	(void)snprintf(ret_text, bytes, "unknown verb %d", (int)verb);
	return -EINVAL;
}

const struct door_handlers *governor_handlers(void)
{
	static const struct door_handlers handlers = {
		.submitted = on_submitted,
		.cancelled = on_cancelled,
		.settled = on_settled,
		.orphaned = on_orphaned,
		.reattached = on_reattached,
		.lets_in = on_lets_in,
		.lets_govern = on_lets_govern,
		.verb = on_verb,
	};

	return &handlers;
}

/* The board's tables bound what the policy may keep. */
static struct policy_config policy_config_of(const struct config *config)
{
	struct policy_config policy = config->policy;

	/* One record is the default lane's, one is shared by what finds none.
	 */
	if (policy.max_lanes > SHM_BOARD_LANES - 2)
		policy.max_lanes = SHM_BOARD_LANES - 2;
	if (getrandom(&policy.seed, sizeof(policy.seed), 0) < 0)
		policy.seed = loop_now_ns();
	return policy;
}

int governor_init(struct governor *governor, struct loop *loop,
	const struct config *config, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct policy_config policy = policy_config_of(config);
	int rc;

	governor->loop = loop;
	governor->config = config;
	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++)
		governor->live_free[i] = (uint16_t)(SHM_BOARD_LIVE - 1 - i);
	governor->n_live_free = SHM_BOARD_LIVE;
	(void)snprintf(ret_why, UPSTREAM_MESSAGE_BYTES, "out of memory");
	rc = policy_create(&policy, &governor->policy);
	if (rc == 0)
		rc = intake_create(loop, &governor->intake);
	if (rc == 0)
		rc = upstream_create(
			loop, &config->upstream, &governor->upstream, ret_why);
	return rc == -ENOKEY ? 0 : rc;
}

int governor_reload(struct governor *governor, const struct config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct policy_config policy = policy_config_of(config);
	struct upstream_stats before;
	int rc;

	upstream_read_stats(governor->upstream, &before);
	rc = upstream_reload(governor->upstream, &config->upstream, ret_why);
	/* Without credentials it goes on without; but it loses none. */
	if (rc < 0 && (rc != -ENOKEY || before.has_credentials))
		return rc;
	rc = policy_reconfigure(governor->policy, &policy);
	if (rc < 0) {
		/* The upstream goes back to what it was. */
		(void)upstream_reload(governor->upstream,
			&governor->config->upstream, ret_why);
		(void)snprintf(
			ret_why, UPSTREAM_MESSAGE_BYTES, "out of memory");
		return rc;
	}
	governor->config = config;
	governor->is_pump_due = true;
	show_config(governor);
	return 0;
}

static void refuse_queued(struct governor *governor)
{
	struct policy_request *queued;
	uint64_t never;

	/* At the end of time every deadline has passed. */
	while ((queued = policy_expire(governor->policy, UINT64_MAX, &never)) !=
		NULL)
		finish_plainly(request_of(queued), SHM_DRAINING,
			"rgovd is going down");
}

void governor_drain(struct governor *governor, bool is_final)
{
	governor->is_draining = true;
	governor->is_final = is_final;
	store_relaxed(governor->board.board->header.draining, 1);
	if (is_final)
		refuse_queued(governor);
}

bool governor_is_quiet(const struct governor *governor)
{
	/* Bodies that are being read are refused when they are there. */
	return governor->calls_out == 0 &&
	       (!governor->is_final ||
		       governor->bodies_in == governor->bodies_out);
}

void governor_leave(struct governor *governor)
{
	loop_timer_clear(governor->loop, &governor->next_decision);
	loop_timer_clear(governor->loop, &governor->publish);
	loop_timer_clear(governor->loop, &governor->permit_expiry);
	governor->is_leaving = true;
	governor->is_draining = true;
}

void governor_fini(struct governor *governor)
{
	upstream_free(governor->upstream);
	intake_free(governor->intake);
	ghosts_free(governor);
	while (governor->spare != NULL) {
		struct request *request = governor->spare;

		governor->spare = request->next;
		free(request);
	}
	policy_free(governor->policy);
}
