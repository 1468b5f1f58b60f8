/*
 * Questions about tasks.  One that has not ended is answered from memory, and
 * who waits for its end is told when that is on disk; everything else the store
 * is asked.
 */
#include "coordinator/tasks_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* One that cannot be answered at once. */
struct question {
	struct question *prev, *next; /* of the task's waiters */
	struct governor *governor;
	struct door_slot *slot; /* NULL: nobody waits for it any more */
	struct task *task;      /* whose end it waits for; else the store */
	enum shm_task_verb verb;
	uid_t uid;
	bool reads_all;
	uint8_t id[STORE_ID_BYTES];
	struct loop_timer patience;
	struct store_job job;
	char user[SHM_USER_BYTES + 1];
	char text[SHM_TASK_TEXT_BYTES + 1];
};

/* ------------------------------------------------------------ lines */

struct daemon_task task_line(
	const struct tasks *tasks, const struct store_record *record)
{
	const struct config_tasks *config = &tasks->governor->config->tasks;
	struct daemon_task line = {
		.submitted_ns = (uint64_t)record->submitted_ns,
		.started_ns = (uint64_t)record->started_ns,
		.ended_ns = (uint64_t)record->ended_ns,
		.state = (uint16_t)record->state,
		.runs = record->runs,
	};

	memcpy(line.id, record->id, sizeof(line.id));
	if (!store_is_final(record->state))
		return line;
	line.result = (uint16_t)record->ending.result;
	line.forget_ns = line.ended_ns + config->result_ttl_ns;
	return line;
}

static uint32_t in_ms(uint64_t ns)
{
	uint64_t ms = ns / 1000000;

	return ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

struct daemon_task task_line_now(const struct task *task)
{
	const struct request *request = task->request;
	struct daemon_task line = {
		.submitted_ns = (uint64_t)task->submitted_ns,
		.started_ns = (uint64_t)task->started_ns,
		.state = (uint16_t)task->state,
		.runs = task->runs,
	};
	struct policy_why why;

	memcpy(line.id, task->id, sizeof(line.id));
	if (request == NULL || (request->policy.state != POLICY_QUEUED &&
				       request->policy.state != POLICY_BACKOFF))
		return line;
	why = explain_why(request, loop_now_ns());
	line.position = why.position;
	line.predicted_ms = in_ms(why.predicted_ns);
	return line;
}

/* ------------------------------------------------------------ answers */

/* That answered, else that was asked. */
static const char *model_of(const struct store_record *record)
{
	const char *model = record->ending.model;

	return model != NULL && model[0] != '\0' ? model : record->model;
}

/* As the reply of a call, and the line beside it; of one that has not ended the
 * line alone. */
static void answer_record(struct door_slot *slot, const struct tasks *tasks,
	const struct store_record *record, const char *body, size_t body_bytes)
{
	const struct store_ending *ending = &record->ending;
	struct daemon_task line = task_line(tasks, record);
	struct door_reply reply = plain_reply(SHM_OK);

	reply.task = &line;
	if (store_is_final(record->state)) {
		reply.http_status = ending->http_status;
		reply.attempts = ending->attempts;
		reply.wait_ns = ending->queued_ns;
		reply.execution_ns = ending->executing_ns;
		reply.input_tokens = ending->input_tokens;
		reply.output_tokens = ending->output_tokens;
		reply.cache_read_tokens = ending->cache_read_tokens;
		reply.cache_write_tokens = ending->cache_write_tokens;
		reply.was_issued = ending->attempts > 0;
		reply.code = ending->code;
		reply.message = ending->message;
		reply.request_id = ending->request_id;
		reply.model = model_of(record);
		reply.body = body;
		reply.body_bytes = body_bytes;
	}
	door_complete(slot, &reply);
}

static void answer_now(struct door_slot *slot, const struct task *task)
{
	struct daemon_task line = task_line_now(task);
	struct door_reply reply = plain_reply(SHM_OK);

	reply.task = &line;
	door_complete(slot, &reply);
}

static void answer_plainly(
	struct door_slot *slot, enum shm_result result, const char *message)
{
	struct door_reply reply = plain_reply(result);

	reply.message = message;
	door_complete(slot, &reply);
}

static void answer_unknown(struct door_slot *slot)
{
	answer_plainly(slot, SHM_NO_TASK, "there is no task of that id");
}

static void answer_not_yours(struct door_slot *slot)
{
	answer_plainly(slot, SHM_NOT_YOURS,
		"another user of this host submitted that task");
}

static bool may_see(const struct question *question, uid_t uid)
{
	return question->reads_all || question->uid == uid;
}

/* ------------------------------------------------------------ their life */

static void question_free(struct question *question)
{
	loop_timer_clear(question->governor->loop, &question->patience);
	if (question->task != NULL)
		DL_DELETE(question->task->waiters, question);
	store_job_fini(&question->job);
	free(question);
}

/* Its slot's deadline has come: a wait is over, the disk is too slow. */
static void on_impatient(struct loop_timer *timer, uint64_t now_ns)
{
	struct question *question = timer->owner;
	struct door_slot *slot = question->slot;

	(void)now_ns;
	question->slot = NULL;
	if (question->task != NULL) {
		answer_now(slot, question->task);
		question_free(question);
	} else if (slot != NULL) {
		answer_plainly(slot, SHM_DEADLINE, "the disk was too slow");
	}
}

static struct question *question_create(struct governor *governor,
	struct door_slot *slot, const struct door_submission *submission)
{
	struct question *question = calloc(1, sizeof(*question));

	if (question == NULL) {
		answer_plainly(slot, SHM_NO_MEMORY, "rgovd has no memory");
		return NULL;
	}
	question->governor = governor;
	question->slot = slot;
	question->verb = submission->verb;
	question->uid = submission->uid;
	question->reads_all = submission->reads_tasks;
	memcpy(question->id, submission->task->id, sizeof(question->id));
	slot->request = question;
	(void)loop_timer_set(governor->loop, &question->patience,
		submission->deadline_ns, on_impatient, question);
	return question;
}

void task_unask(
	struct governor *governor, struct door_slot *slot, bool is_answered)
{
	struct question *question = slot->request;

	(void)governor;
	question->slot = NULL;
	if (is_answered)
		answer_plainly(slot, SHM_CANCELLED, NULL);
	if (question->task != NULL) /* else the store's job ends it */
		question_free(question);
}

/* ------------------------------------------------------------ waiting */

static void await(struct question *question, struct task *task)
{
	question->task = task;
	DL_APPEND(task->waiters, question);
}

void task_tell(struct task *task, const struct store_record *record)
{
	struct store_record whole = *record;

	memcpy(whole.id, task->id, sizeof(whole.id));
	if (task->waiters != NULL)
		task_remember(task->waiters->governor->tasks, task->id, &whole);
	while (task->waiters != NULL) {
		struct question *question = task->waiters;

		answer_record(question->slot, question->governor->tasks, &whole,
			NULL, 0);
		question_free(question);
	}
}

void task_turn_away(struct task *task)
{
	while (task->waiters != NULL) {
		struct question *question = task->waiters;

		answer_plainly(
			question->slot, SHM_DRAINING, "rgovd is going down");
		question_free(question);
	}
}

/* It is no longer wanted; whoever asked for that waits for its end. */
static void cancel(struct task *task)
{
	struct request *request = task->request;

	if (request == NULL || request->is_unwanted)
		return; /* it ends already */
	task_note(task, request->governor->tasks, STORE_EVENT_CANCEL_ASKED,
		NULL, false);
	if (withdraw(request))
		finish_plainly(request, SHM_CANCELLED, NULL);
}

/* ------------------------------------------------------------ the store */

/* The rows in memory of their own; NULL: no memory. */
static void answer_rows(struct question *question, void *rows, size_t bytes)
{
	struct door_reply reply = plain_reply(SHM_OK);

	reply.body = rows;
	reply.body_bytes = bytes;
	if (rows == NULL)
		answer_plainly(question->slot, SHM_NO_MEMORY,
			"rgovd has no memory for the list");
	else
		door_complete(question->slot, &reply);
	free(rows);
}

static void fill_row(
	struct shm_task_row *row, const struct store_record *record)
{
	memcpy(row->id, record->id, sizeof(row->id));
	row->submitted_ns = (uint64_t)record->submitted_ns;
	row->started_ns = (uint64_t)record->started_ns;
	row->ended_ns = (uint64_t)record->ended_ns;
	row->deadline_ns = (uint64_t)record->deadline_ns;
	row->state = (uint16_t)record->state;
	row->class = record->class;
	row->has_reply = record->reply_state == STORE_REPLY_HELD;
	row->uid = record->uid;
	row->runs = record->runs;
	task_text(row->user, sizeof(row->user), record->user);
	task_text(row->model, sizeof(row->model), record->model);
	task_text(row->key, sizeof(row->key), record->key);
	if (!store_is_final(record->state))
		return;
	row->result = (uint16_t)record->ending.result;
	row->http_status = (uint16_t)record->ending.http_status;
}

static void answer_list(struct question *question, const struct store_job *job)
{
	struct shm_task_row *rows = calloc(job->n_rows + 1u, sizeof(*rows));

	for (unsigned int i = 0; rows != NULL && i < job->n_rows; i++)
		fill_row(&rows[i], job->rows[i]);
	answer_rows(question, rows, job->n_rows * sizeof(*rows));
}

static const char *event_name(enum store_event event)
{
	static const char *const names[STORE_EVENTS] = {
		[STORE_EVENT_SUBMITTED] = "submitted",
		[STORE_EVENT_STARTED] = "started",
		[STORE_EVENT_ENDED] = "ended",
		[STORE_EVENT_CALLBACK] = "callback",
		[STORE_EVENT_REISSUED] = "reissued",
		[STORE_EVENT_RETRIED] = "retried",
		[STORE_EVENT_CANCEL_ASKED] = "cancel asked",
		[STORE_EVENT_AMBIGUOUS] = "ambiguous",
		[STORE_EVENT_NOTE] = "note",
	};

	return (unsigned int)event < STORE_EVENTS ? names[event] : "unknown";
}

static const char *state_name(int64_t state)
{
	static const char *const names[] = {
#define X(state) #state,
		SHM_TASK_STATES(X)
#undef X
	};

	return state >= 0 && state < SHM_TASK_STATE_COUNT ? names[state] : "";
}

/* What the number beside an event means, in words. */
static void fill_event(
	struct shm_task_event *event, const struct store_event_row *row)
{
	char *detail = event->detail;
	size_t bytes = sizeof(event->detail);

	event->at_ns = (uint64_t)row->at_ns;
	task_text(event->what, sizeof(event->what), event_name(row->event));
	if (row->event == STORE_EVENT_STARTED)
		(void)snprintf(
			detail, bytes, "run %lld", (long long)row->detail);
	else if (row->event == STORE_EVENT_ENDED)
		task_text(detail, bytes, state_name(row->detail));
	else if (row->event == STORE_EVENT_CALLBACK)
		task_text(detail, bytes,
			row->detail == STORE_CALLBACK_DELIVERED ? "delivered"
								: "given up");
	else
		task_text(detail, bytes, row->text);
	for (char *at = detail; row->event == STORE_EVENT_ENDED && *at; at++)
		*at = (char)(*at | 0x20); /* QUEUED: queued */
}

static void answer_history(
	struct question *question, const struct store_job *job)
{
	struct shm_task_event *events =
		calloc(job->n_rows + 1u, sizeof(*events));

	for (unsigned int i = 0; events != NULL && i < job->n_rows; i++)
		fill_event(&events[i], &job->events[i]);
	answer_rows(question, events, job->n_rows * sizeof(*events));
}

/* One that has ended. */
static void answer_look(struct question *question, const struct store_job *job)
{
	const struct tasks *tasks = question->governor->tasks;
	const struct store_record *record = job->record;

	if (!may_see(question, record->uid))
		answer_not_yours(question->slot);
	else if (question->verb == SHM_TASK_FETCH &&
		 record->reply_state == STORE_REPLY_GONE)
		answer_plainly(question->slot, SHM_TASK_GONE,
			"its reply was kept for task_result_ttl, and is gone");
	else
		answer_record(question->slot, tasks, record, job->reply,
			job->reply != NULL ? record->reply_bytes : 0);
	if (store_is_final(record->state))
		task_remember(question->governor->tasks, record->id, record);
}

static void on_told(struct store_job *job)
{
	struct question *question = job->owner;
	struct door_slot *slot = question->slot;

	if (slot == NULL) {
		; /* its client has gone, or had no more time */
	} else if (job->error != 0) {
		answer_plainly(slot,
			job->error == -ENOMEM ? SHM_NO_MEMORY
					      : SHM_STORE_FAILED,
			job->why);
	} else if (job->outcome == STORE_UNKNOWN) {
		answer_unknown(slot);
	} else if (question->verb == SHM_TASK_LIST) {
		answer_list(question, job);
	} else if (question->verb == SHM_TASK_HISTORY) {
		answer_history(question, job);
	} else {
		answer_look(question, job);
	}
	question_free(question);
}

static void ask_store(struct question *question, enum store_op op)
{
	struct store_job *job = &question->job;

	job->done = on_told;
	job->owner = question;
	job->op = op;
	memcpy(job->id, question->id, sizeof(job->id));
	store_submit(question->governor->tasks->store, job);
}

static void list(
	struct question *question, const struct door_submission *submission)
{
	const struct door_task_words *words = submission->task;
	struct store_filter *filter = &question->job.list;
	static const uint8_t none[STORE_ID_BYTES];

	task_text(question->user, sizeof(question->user), submission->user);
	task_text(question->text, sizeof(question->text), words->text);
	*filter = (struct store_filter){
		.has_uid = !question->reads_all,
		.uid = question->uid,
		.user = question->user[0] != '\0' ? question->user : NULL,
		.text = question->text[0] != '\0' ? question->text : NULL,
		.states = words->states,
		.has_after = memcmp(words->id, none, sizeof(none)) != 0,
		.limit = words->most == 0                  ? 100
			 : words->most > SHM_TASK_ROWS_MAX ? SHM_TASK_ROWS_MAX
							   : words->most,
	};
	memcpy(filter->after, words->id, sizeof(filter->after));
	ask_store(question, STORE_LIST);
}

/* Its history is told to those alone who may see it: the task in memory says
 * whose it is, else its record is looked at first. */
static void on_history_allowed(struct store_job *job)
{
	struct question *question = job->owner;

	if (question->slot != NULL && job->error == 0 &&
		job->outcome == STORE_DONE &&
		may_see(question, job->record->uid)) {
		store_job_fini(job);
		memset(job, 0, sizeof(*job));
		ask_store(question, STORE_HISTORY);
		return;
	}
	if (question->slot != NULL && job->error == 0 &&
		job->outcome == STORE_DONE) {
		answer_not_yours(question->slot);
		question->slot = NULL;
	}
	on_told(job);
}

/* ------------------------------------------------------------ from the door */

/* What the table knows. */
static void ask_live(struct governor *governor, struct door_slot *slot,
	const struct door_submission *submission, struct task *task)
{
	struct question *question;

	if (submission->uid != task->uid && !submission->reads_tasks) {
		answer_not_yours(slot);
	} else if (submission->verb == SHM_TASK_WAIT ||
		   submission->verb == SHM_TASK_CANCEL) {
		question = question_create(governor, slot, submission);
		if (question == NULL)
			return;
		await(question, task);
		if (submission->verb == SHM_TASK_CANCEL)
			cancel(task);
	} else {
		answer_now(slot, task);
	}
}

static void ask_old(struct governor *governor, struct door_slot *slot,
	const struct door_submission *submission)
{
	struct question *question = question_create(governor, slot, submission);

	if (question == NULL)
		return;
	question->job.look.wants_reply = submission->verb == SHM_TASK_FETCH;
	if (submission->verb == SHM_TASK_LIST) {
		list(question, submission);
		return;
	}
	ask_store(question, STORE_LOOK);
	if (submission->verb == SHM_TASK_HISTORY)
		question->job.done = on_history_allowed;
}

/* True: it has ended lately, and that is the answer. */
static bool ask_recent(struct tasks *tasks, struct door_slot *slot,
	const struct door_submission *submission)
{
	const struct store_record *record =
		submission->verb == SHM_TASK_LOOK ||
				submission->verb == SHM_TASK_WAIT
			? task_recall(tasks, submission->task->id)
			: NULL;

	if (record == NULL)
		return false;
	if (submission->reads_tasks || submission->uid == record->uid)
		answer_record(slot, tasks, record, NULL, 0);
	else
		answer_not_yours(slot);
	return true;
}

void task_ask(struct governor *governor, struct door_slot *slot,
	const struct door_submission *submission)
{
	struct tasks *tasks = governor->tasks;
	struct task *task;

	slot->is_question = true;
	if (tasks->store == NULL) {
		/* Nobody has submitted one yet. */
		if (!governor->config->tasks.are_on)
			answer_plainly(slot, SHM_NO_STORE,
				"tasks are switched off (tasks = false)");
		else if (submission->verb == SHM_TASK_LIST)
			answer_plainly(slot, SHM_OK, NULL);
		else
			answer_unknown(slot);
		return;
	}
	task = task_find(tasks, submission->task->id);
	if (task != NULL && submission->verb != SHM_TASK_LIST &&
		submission->verb != SHM_TASK_HISTORY)
		ask_live(governor, slot, submission, task);
	else if (!ask_recent(tasks, slot, submission))
		ask_old(governor, slot, submission);
}
