/*
 * From a client's request to a task on disk.  The acknowledgement is sent after
 * the disk has it, never before: who has it may forget the request.
 */
#include "coordinator/tasks_inside.h"

#include "coordinator/upstream/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One on its way to the disk. */
struct put {
	struct store_job job;
	struct store_record record;
	struct request *request;
	struct task_owner *owner;   /* NULL: handed on */
	struct task *task;          /* to be; memory must not lack then */
	struct loop_timer patience; /* the submitter's deadline */
	char *body;
	/* What the record points to and the request does not have. */
	char key[SHM_TASK_KEY_BYTES + 1];
	char callback[SHM_TASK_CALLBACK_BYTES + 1];
};

/* Before its request. */
static void put_free(struct put *put)
{
	struct governor *governor = put->request->governor;

	loop_timer_clear(governor->loop, &put->patience);
	task_owner_release(governor->tasks, put->owner);
	store_job_fini(&put->job);
	free(put->task);
	free(put->body);
	free(put);
}

/* ------------------------------------------------------------ the answer */

/* Its submitter is told, if he is still there, and is out of it. */
static void acknowledge(struct request *request, const struct daemon_task *line)
{
	struct door_reply reply = plain_reply(SHM_OK);

	reply.task = line;
	if (request->slot != NULL)
		door_complete(request->slot, &reply);
	request->slot = NULL;
	uncount_body(request);
}

/* It is there already. */
static void end_known(
	struct request *request, const uint8_t id[], enum store_state state)
{
	struct task *task = task_find(request->governor->tasks, id);
	struct daemon_task line = {.state = (uint16_t)state};

	memcpy(line.id, id, sizeof(line.id));
	if (task != NULL)
		line = task_line_now(task);
	acknowledge(request, &line);
	request_move(request, REQUEST_OVER);
	request_free(request);
}

static void refuse_put(
	struct put *put, enum shm_result result, const char *message)
{
	struct request *request = put->request;
	char words[SHM_MESSAGE_BYTES];

	(void)snprintf(words, sizeof(words), "%s", message);
	put_free(put);
	refuse(request, result, NULL, words, 0);
}

/* It is on disk: from now on it is a task. */
static void take_over(struct put *put)
{
	struct request *request = put->request;
	struct tasks *tasks = request->governor->tasks;
	struct daemon_task line;

	task_add(tasks, put->task, request, &put->record, put->owner);
	put->task = NULL;
	put->owner = NULL;
	COUNT(request->governor, tasks_accepted);
	line = task_line_now(request->task);
	acknowledge(request, &line);
	put_free(put);
	/* Whoever submitted it may have died meanwhile: it is on disk. */
	request->is_unwanted = false;
	enqueue(request);
}

static void on_put(struct store_job *job)
{
	struct put *put = job->owner;
	struct request *request = put->request;

	request->governor->tasks->n_putting--;
	if (request->governor->is_leaving) {
		put_free(put); /* a successor finds it, or it is not there */
		request_move(request, REQUEST_OVER);
		request_free(request);
	} else if (job->error != 0) {
		refuse_put(put,
			job->error == -ENOMEM ? SHM_NO_MEMORY
					      : SHM_STORE_FAILED,
			job->why);
	} else if (job->outcome == STORE_ALREADY) {
		uint8_t id[STORE_ID_BYTES];
		enum store_state state = job->existing.state;

		memcpy(id, job->existing.id, sizeof(id));
		put_free(put);
		end_known(request, id, state);
	} else if (job->outcome != STORE_DONE) {
		refuse_put(put, SHM_KEY_TAKEN,
			job->outcome == STORE_KEY_TAKEN
				? "another request has that idempotency key"
				: "another task has that id");
	} else {
		take_over(put);
	}
}

/* The disk is slower than its submitter has time; or his body is still being
 * read, and its slot is to be his for another. */
static void on_impatient(struct loop_timer *timer, uint64_t now_ns)
{
	struct put *put = timer->owner;
	struct request *request = put->request;
	struct door_reply reply = plain_reply(SHM_DEADLINE);

	(void)now_ns;
	reply.message =
		request->intake != NULL
			? "the deadline passed while the body was read"
			: "the disk was too slow; the task may be there soon";
	if (request->slot != NULL)
		door_complete(request->slot, &reply);
	request->slot = NULL;
	if (request->intake != NULL)
		(void)withdraw(request); /* it may be gone */
}

/* ------------------------------------------------------------ to the disk */

/* What its idempotency key stands for. */
static int digest_request(struct tasks *tasks, const struct request *request,
	const uint8_t body_sha256[DIGEST_BYTES],
	uint8_t ret_digest[DIGEST_BYTES])
{
	const char *model = request_model_id(request);
	const char *user = request_user(request);
	const char *headers = request_headers(request);
	uint8_t operation = (uint8_t)request->operation;
	int rc = digest_begin(tasks->digest);

	if (rc == 0)
		rc = digest_add(tasks->digest, &operation, 1);
	if (rc == 0)
		rc = digest_add(tasks->digest, model, strlen(model) + 1);
	if (rc == 0)
		rc = digest_add(tasks->digest, user, strlen(user) + 1);
	if (rc == 0)
		rc = digest_add(tasks->digest, headers, strlen(headers) + 1);
	if (rc == 0)
		rc = digest_add(tasks->digest, body_sha256, DIGEST_BYTES);
	return rc == 0 ? digest_end(tasks->digest, ret_digest) : rc;
}

static int fill_record(struct put *put, const uint8_t body_sha256[DIGEST_BYTES])
{
	const struct request *request = put->request;
	struct store_record *record = &put->record;

	record->state = STORE_QUEUED;
	record->operation = (uint8_t)request->operation;
	record->class = (uint8_t)request->policy.class;
	record->is_idempotent = request->is_idempotent;
	record->model = request_model_id(request);
	record->user = request_user(request);
	record->app = request_app(request);
	record->headers = request_headers(request);
	record->key = put->key;
	record->callback = put->callback;
	record->body_bytes = request->body_bytes;
	memcpy(record->body_sha256, body_sha256, DIGEST_BYTES);
	return digest_request(
		request->governor->tasks, request, body_sha256, record->digest);
}

/* Would it be refused once it is on disk?  Then it is now. */
static enum policy_refusal judge(
	struct put *put, uint64_t now_ns, uint64_t *ret_retry_after_ns)
{
	struct request *request = put->request;
	struct governor *governor = request->governor;
	const struct tasks *tasks = governor->tasks;
	const struct config_tasks *config = &governor->config->tasks;

	*ret_retry_after_ns = 0;
	if (tasks->n + tasks->n_putting >= config->max_tasks)
		return POLICY_QUEUE_FULL;
	if (task_owner_count(put->owner) > config->max_tasks_per_user)
		return POLICY_USER_LIMIT;
	return governor->config->shadow
		       ? POLICY_ACCEPTED
		       : policy_judge(governor->policy, &request->policy,
				 now_ns, ret_retry_after_ns);
}

static void write_down(struct put *put)
{
	struct request *request = put->request;
	struct governor *governor = request->governor;

	put->job.done = on_put;
	put->job.owner = put;
	put->job.op = STORE_PUT;
	put->job.put.record = &put->record;
	put->job.put.body = put->body;
	governor->tasks->n_putting++;
	store_submit(governor->tasks->store, &put->job);
}

static void on_body_taken(struct intake_job *job)
{
	struct put *put = job->owner;
	struct request *request = put->request;
	uint64_t now = loop_now_ns(), retry_after_ns;
	enum policy_refusal refusal;

	request->intake = NULL;
	request->governor->bodies_in++;
	if (request->is_unwanted) {
		put_free(put);
		finish_plainly(request, SHM_CANCELLED, NULL);
	} else if (job->result.error != 0) {
		put_free(put);
		refuse_body(request, &job->result);
	} else if (fill_record(put, job->result.sha256) != 0) {
		refuse_put(put, SHM_NO_MEMORY, "rgovd has no memory");
	} else {
		memcpy(request->digest, job->result.sha256,
			sizeof(request->digest));
		take_demand(request, &job->result.demand);
		put->record.input_tokens =
			(int64_t)request->policy.input_tokens;
		put->record.output_tokens =
			(int64_t)request->policy.output_tokens;
		refusal = judge(put, now, &retry_after_ns);
		if (refusal == POLICY_ACCEPTED) {
			write_down(put);
		} else {
			put_free(put);
			refuse_place(request, refusal, now, retry_after_ns);
		}
	}
	free(job);
}

/* ------------------------------------------------------------ from the door */

static bool is_zero(const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

/* The deadline of the slot is that of the acknowledgement. */
static void set_deadlines(
	struct put *put, const struct door_submission *submission)
{
	struct request *request = put->request;
	struct governor *governor = request->governor;
	uint64_t timeout_ns = submission->task->timeout_ns != 0
				      ? submission->task->timeout_ns
				      : governor->config->tasks.timeout_ns;

	if (timeout_ns > INT64_MAX / 4)
		timeout_ns = INT64_MAX / 4;
	put->record.submitted_ns = wall_now_ns();
	put->record.deadline_ns =
		put->record.submitted_ns + (int64_t)timeout_ns;
	request->policy.deadline_ns = loop_now_ns() + timeout_ns;
	(void)loop_timer_set(governor->loop, &put->patience,
		submission->deadline_ns, on_impatient, put);
}

static struct put *put_create(
	struct request *request, const struct door_submission *submission)
{
	struct tasks *tasks = request->governor->tasks;
	struct put *put = calloc(1, sizeof(*put));

	if (put == NULL)
		return NULL;
	put->request = request;
	put->body = malloc(request->body_bytes);
	put->task = calloc(1, sizeof(*put->task));
	put->owner =
		task_owner_take(tasks, submission->uid, request_user(request));
	if (put->body == NULL || put->task == NULL || put->owner == NULL) {
		put_free(put);
		return NULL;
	}
	memcpy(put->record.id, submission->task->id, sizeof(put->record.id));
	put->record.uid = submission->uid;
	(void)snprintf(put->key, sizeof(put->key), "%s", submission->task->key);
	(void)snprintf(put->callback, sizeof(put->callback), "%s",
		submission->task->callback);
	set_deadlines(put, submission);
	return put;
}

/* True: it was refused. */
static bool is_refused(
	struct request *request, const struct door_submission *submission)
{
	struct tasks *tasks = request->governor->tasks;
	char why[STORE_WHY_BYTES];

	if (!request->governor->config->tasks.are_on)
		refuse(request, SHM_NO_STORE, NULL,
			"tasks are switched off (tasks = false)", 0);
	else if (is_zero(submission->task->id, SHM_TASK_ID_BYTES))
		refuse(request, SHM_INVALID, "InvalidRequest",
			"task id: expected a UUID, found zeros", 0);
	else if (submission->task->callback[0] != '\0' &&
		 !task_may_call_back(tasks, submission->task->callback, why))
		refuse(request, SHM_INVALID, "InvalidRequest", why, 0);
	else if (tasks_store(tasks, why) == NULL)
		refuse(request, SHM_STORE_FAILED, NULL, why, 0);
	else
		return false;
	return true;
}

void task_submit(
	struct request *request, const struct door_submission *submission)
{
	struct task *known;
	struct put *put;

	if (is_refused(request, submission))
		return;
	/* Of a slot whose acknowledgement a predecessor did not send. */
	known = task_find(request->governor->tasks, submission->task->id);
	if (known != NULL && known->uid == submission->uid) {
		end_known(request, known->id, known->state);
		return;
	}
	put = put_create(request, submission);
	if (put == NULL) {
		refuse(request, SHM_NO_MEMORY, NULL, "rgovd has no memory", 0);
		return;
	}
	if (!take_in(request, put, on_body_taken, put->body))
		refuse_put(put, SHM_NO_MEMORY, "rgovd has no memory");
}
