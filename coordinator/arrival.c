/*
 * From the door to the policy's queue: a submission is judged, its body taken
 * in, and it waits; or it ends here.  Also what its client says of it later.
 */
#include "coordinator/flow.h"

#include "coordinator/hints.h"
#include "coordinator/tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------ enqueue */

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

/* It is taken, and waits.  A task has no slot any more. */
static void accept_request(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	request->accepted_ns = now_ns;
	request_move(request, REQUEST_QUEUED);
	COUNT(governor, total_requests);
	if (request->slot != NULL)
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

void enqueue(struct request *request)
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
	if (refusal != POLICY_ACCEPTED) {
		refuse_place(request, refusal, now, retry_after_ns);
		return;
	}
	accept_request(request, now);
	if (request_is_call(request)) {
		remark_default(request);
		show_request(request, BOARD_LIVE_QUEUED);
	}
}

void refuse_body(struct request *request, const struct intake_result *taken)
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

void take_demand(struct request *request, const struct bedrock_demand *demand)
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

bool take_in(struct request *request, void *owner,
	void (*done)(struct intake_job *job), char *into)
{
	struct governor *governor = request->governor;
	struct intake_job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return false;
	job->done = done;
	job->owner = owner;
	job->into = into;
	job->is_scanned = true;
	job->operation = request->operation;
	job->body_bytes = request->body_bytes;
	request->intake = job;
	governor->bodies_out++;
	intake_start(governor->intake, job, request->slot);
	return true;
}

/* ------------------------------------------------------------ from the door */

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
	else if (request_is_call(request) && request->body_bytes == 0)
		refuse(request, SHM_INVALID, "InvalidRequest",
			"body: expected a JSON object, found nothing", 0);
	else if (request_is_call(request) &&
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

static void on_request(struct governor *governor, struct door_slot *slot,
	const struct door_submission *submission)
{
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
	slot->is_question = false;
	count_body(request);
	if (submission->recovered != SHM_DONE)
		door_forget_place(slot); /* its number was another */
	if (submission->recovered == SHM_GRANTED) {
		permit_restore(request);
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
	else if (request->kind == SHM_TASK)
		task_submit(request, submission);
	else if (!take_in(request, request, on_body_taken, NULL))
		refuse(request, SHM_NO_MEMORY, NULL, "no memory", 0);
}

static void on_submitted(void *owner, struct door_slot *slot,
	const struct door_submission *submission)
{
	if (submission->kind == SHM_TASK_VERB)
		task_ask(owner, slot, submission);
	else
		on_request(owner, slot, submission);
}

bool withdraw(struct request *request)
{
	struct governor *governor = request->governor;

	request->is_unwanted = true;
	switch (request->stage) {
	case REQUEST_INTAKE:
		/* NULL: a task that is being written, and will be there. */
		if (request->intake != NULL)
			intake_drop(governor->intake, request->intake);
		return false; /* done() ends it: it may be gone */
	case REQUEST_LOADING:
		intake_drop(governor->intake, &request->attempt->load);
		return false;
	case REQUEST_QUEUED:
		if (request->shadow == NULL && !task_unpark(request))
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

	if (slot->is_question) {
		task_unask(owner, slot, true);
		return;
	}
	if (withdraw(request))
		finish_plainly(request, SHM_CANCELLED, NULL);
}

static void on_orphaned(void *owner, struct door_slot *slot)
{
	struct governor *governor = owner;
	struct request *request = slot->request;

	if (slot->is_question) {
		task_unask(governor, slot, false);
		return;
	}
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

static void on_settled(void *owner, struct door_slot *slot,
	const struct door_settlement *settlement)
{
	(void)owner;
	permit_settle(slot->request, settlement);
}

/* While nobody listened; what is not known was ended by its predecessor. */
static void on_overtaken(void *owner, const struct door_slot *slot,
	const struct door_settlement *settlement)
{
	struct request *request = ghost_of(owner, slot);

	if (request != NULL)
		permit_settle(request, settlement);
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

static bool on_lets_read_tasks(
	void *owner, uid_t uid, const gid_t *gids, size_t n_gids)
{
	struct governor *governor = owner;

	return config_lets_read_tasks(
		governor->config, geteuid(), uid, gids, n_gids);
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
		.lets_read_tasks = on_lets_read_tasks,
		.verb = on_verb,
		.explain = on_explain,
	};

	return &handlers;
}
