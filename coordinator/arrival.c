/*
 * From the door to the policy's queue: a submission is judged, its body taken
 * in, and it waits; or it ends here.  Also what its client says of it later.
 */
#include "coordinator/flow.h"

#include "coordinator/hints.h"
#include "coordinator/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SETTLED_TOKENS_MAX = 4000000 };

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
	case POLICY_TOO_LATE:
		return SHM_DEADLINE;
	case POLICY_NO_MEMORY:
		return SHM_NO_MEMORY;
	}
	return SHM_INVALID;
}

/* The setting that refused it, where it is one. */
static const char *code_of_refusal(enum policy_refusal refusal)
{
	switch ((unsigned int)refusal) {
	case POLICY_QUEUE_FULL:
		return "max_queued";
	case POLICY_USER_LIMIT:
		return "max_queued_per_user";
	case POLICY_LANE_CLOSED:
		return "DailyQuota";
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

	policy_view_host(request->governor->policy, now_ns, &view);
	door_show_place(
		request->slot, &(struct door_place){.request = request->number,
				       .position = view.queued + 1,
				       .as_of_ns = now_ns,
				       .until_ns = UINT64_MAX,
				       .predicted_ns = retry_after_ns,
				       .is_first = true});
}

enum policy_refusal offer(struct governor *governor,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	enum policy_refusal refusal = policy_enqueue(
		governor->policy, request, now_ns, ret_retry_after_ns);

	/* Those that came just before it may start at once: then there is room.
	 */
	if ((refusal == POLICY_QUEUE_FULL || refusal == POLICY_USER_LIMIT) &&
		governor->is_pump_due) {
		governor_advance(governor);
		refusal = policy_enqueue(
			governor->policy, request, now_ns, ret_retry_after_ns);
	}
	return refusal;
}

/* It is taken, and waits. */
static void accept_request(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	request->accepted_ns = now_ns;
	request_move(request, REQUEST_QUEUED);
	COUNT(governor, total_requests);
	door_mark_accepted(request->slot);
	explain_add(request);
	governor->is_pump_due = true;
}

/* Shadow mode: it starts, whatever the policy says of its twin. */
static void let_through(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	if (!shadow_follow(request, now_ns)) {
		refuse(request, SHM_NO_MEMORY, NULL, "rgovd has no memory", 0);
		return;
	}
	accept_request(request, now_ns);
	/* Draining: as any other, it is left to the successor. */
	if (!governor->is_draining)
		start(request, now_ns);
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

/* What its lane refuses another model's may take. */
static enum policy_refusal offer_others(struct request *request,
	enum policy_refusal refusal, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	char *model_id;

	while (refusal == POLICY_TOO_LARGE || refusal == POLICY_LANE_CLOSED) {
		model_id = request_next_model(request);
		if (model_id == NULL)
			break;
		request->policy.model_id = model_id;
		refusal = offer(request->governor, &request->policy, now_ns,
			ret_retry_after_ns);
		request_has_moved(request, model_id);
	}
	return refusal;
}

static void enqueue(struct request *request)
{
	uint64_t now = loop_now_ns();
	uint64_t retry_after_ns = 0;
	enum policy_refusal refusal;

	if (request->governor->config->shadow) {
		let_through(request, now);
		return;
	}
	refusal = offer(
		request->governor, &request->policy, now, &retry_after_ns);
	refusal = offer_others(request, refusal, now, &retry_after_ns);
	if (refusal == POLICY_QUEUE_FULL)
		show_no_place(request, now, retry_after_ns);
	if (refusal != POLICY_ACCEPTED) {
		char room[SHM_MESSAGE_BYTES];

		refuse(request, result_of_refusal(refusal),
			code_of_refusal(refusal),
			refusal == POLICY_TOO_LARGE
				? words_of_excess(request, room)
				: policy_refusal_text(refusal),
			retry_after_ns);
		return;
	}
	accept_request(request, now);
	if (request->kind == SHM_CALL) {
		remark_default(request);
		show_request(request, BOARD_LIVE_QUEUED);
	}
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
		memcpy(request->digest, taken->sha256, sizeof(request->digest));
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

static bool is_above_queued_bytes(struct governor *governor)
{
	if (governor->queued_bytes <= governor->config->max_queued_bytes)
		return false;
	if (!governor->config->shadow)
		return true;
	shadow_note_refusal(governor, loop_now_ns());
	return false;
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
			 request_headers(request), why) != 0)
		refuse(request, SHM_INVALID, "InvalidRequest", why, 0);
	else if (request->kind == SHM_CALL && request->body_bytes == 0)
		refuse(request, SHM_INVALID, "InvalidRequest",
			"body: expected a JSON object, found nothing", 0);
	else if (request->kind == SHM_CALL &&
		 (text = missing_credentials(governor)) != NULL)
		refuse(request, SHM_NO_CREDENTIALS, "NoCredentials", text, 0);
	else if (is_above_queued_bytes(governor))
		refuse(request, SHM_QUEUE_FULL, "max_queued_bytes",
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
	if (submission->recovered != SHM_DONE)
		door_forget_place(slot); /* its number was another */
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
		intake_drop(governor->intake, request->intake);
		return false; /* done() ends it: it may be gone */
	case REQUEST_LOADING:
		intake_drop(governor->intake, &request->attempt->load);
		return false;
	case REQUEST_QUEUED:
		if (request->shadow == NULL)
			policy_remove(governor->policy, &request->policy);
		return true;
	case REQUEST_CALLING:
		upstream_abort(governor->upstream, &request->attempt->call);
		return false; /* its done() was called: it is gone */
	case REQUEST_PERMIT:
	case REQUEST_OVERDUE:
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
	if (request->stage == REQUEST_OVERDUE ||
		(request->stage == REQUEST_PERMIT && governor->is_leaving)) {
		/* It stays as it is charged; it goes on, on the board. */
		permit_finish(request, POLICY_LOST, NULL);
	} else if (request->stage == REQUEST_PERMIT) {
		COUNT(governor, permits_reclaimed);
		board_event(&governor->board, "reclaim",
			"pid gone: a permit of %s for %s is back",
			request_user(request), request_model_id(request));
		request->is_unwanted = true;
		permit_finish(request, POLICY_LOST, NULL);
	} else if (request->stage == REQUEST_CALLING &&
		   governor->config->on_client_death == CONFIG_DEATH_FINISH) {
		return; /* it ends as it would, and nobody is told */
	} else if (withdraw(request)) {
		finish_plainly(request, SHM_CANCELLED, NULL);
	}
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

static void settle(
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

static void on_settled(void *owner, struct door_slot *slot,
	const struct door_settlement *settlement)
{
	(void)owner;
	settle(slot->request, settlement);
}

/* While nobody listened; what is not known was ended by its predecessor. */
static void on_overtaken(void *owner, const struct door_slot *slot,
	const struct door_settlement *settlement)
{
	struct request *request = ghost_of(owner, slot);

	if (request != NULL)
		settle(request, settlement);
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

static int on_verb(void *owner, enum wire_verb verb, uid_t uid, char *ret_text,
	size_t bytes)
{
	struct governor *governor = owner;

	(void)uid;
	if (verb == WIRE_PING) {
		(void)snprintf(ret_text, bytes, "rgovd " RGOV_VERSION);
		return 0;
	}
	if (verb == WIRE_HINTS) {
		hints_list(governor, ret_text, bytes);
		return 0;
	}
	if (verb == WIRE_RELOAD && governor->reload != NULL)
		return governor->reload(governor, ret_text, bytes);
	(void)snprintf(ret_text, bytes, "unknown verb %d", (int)verb);
	return -EINVAL;
}

static void on_explain(void *owner, uint64_t request, uid_t uid,
	bool may_govern, struct wire_explained *ret_answer)
{
	explain_answer(owner, request, uid, may_govern, ret_answer);
}

const struct door_handlers *governor_handlers(void)
{
	static const struct door_handlers handlers = {
		.submitted = on_submitted,
		.cancelled = on_cancelled,
		.settled = on_settled,
		.overtaken = on_overtaken,
		.orphaned = on_orphaned,
		.reattached = on_reattached,
		.lets_in = on_lets_in,
		.lets_govern = on_lets_govern,
		.verb = on_verb,
		.explain = on_explain,
	};

	return &handlers;
}
