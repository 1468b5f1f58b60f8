/*
 * A task between its start and its end: its body comes back from the disk, its
 * end goes there.  What the disk does not take is tried again every second;
 * until then a task is not begun, or not told as ended.
 */
#include "coordinator/tasks_inside.h"

#include "coordinator/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ parking */

static void park(struct request *request)
{
	struct task *task = request->task;
	struct tasks *tasks = request->governor->tasks;

	task->is_parked = true;
	task->next_parked = NULL;
	*tasks->parked_end = task;
	tasks->parked_end = &task->next_parked;
	tasks_try_again(tasks);
}

bool task_unpark(struct request *request)
{
	struct task *task = request->task;
	struct tasks *tasks = request->governor->tasks;
	struct task **link = &tasks->parked;

	if (task == NULL || !task->is_parked)
		return false;
	while (*link != task)
		link = &(*link)->next_parked;
	*link = task->next_parked;
	if (tasks->parked_end == &task->next_parked)
		tasks->parked_end = link;
	task->is_parked = false;
	return true;
}

/* Once more into the queue; it has been in the policy before. */
static void requeue(struct request *request)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns(), retry_after_ns;
	enum policy_refusal refusal;

	if (request->shadow != NULL) {
		start(request, now);
		return;
	}
	refusal = offer(governor, &request->policy, now, &retry_after_ns);
	if (refusal == POLICY_ACCEPTED) {
		governor->is_pump_due = true;
		show_request(request, BOARD_LIVE_QUEUED);
	} else if (refusal == POLICY_NO_MEMORY) {
		park(request);
	} else {
		finish_plainly(request, result_of_refusal(refusal),
			policy_refusal_text(refusal));
	}
}

static void unpark_all(struct tasks *tasks)
{
	struct task *task = tasks->parked;

	tasks->parked = NULL;
	tasks->parked_end = &tasks->parked;
	while (task != NULL) {
		struct task *next = task->next_parked;

		task->is_parked = false;
		requeue(task->request);
		task = next;
	}
}

/* ------------------------------------------------------------ beginning */

struct begin {
	struct store_job job;
	struct request *request;
};

/* It was admitted for nothing, and waits again. */
static void put_back(struct request *request)
{
	settle_in_policy(request, POLICY_UNUSED, NULL, loop_now_ns());
	free(request->attempt);
	request->attempt = NULL;
	request_move(request, REQUEST_QUEUED);
	show_request(request, BOARD_LIVE_QUEUED);
	park(request);
}

static bool is_the_disk(int error)
{
	return error != 0 && error != -EUCLEAN && error != -EFBIG &&
	       error != -EINVAL;
}

static void on_begun(struct store_job *job)
{
	struct begin *begin = job->owner;
	struct request *request = begin->request;
	struct governor *governor = request->governor;
	struct intake_job *load = &request->attempt->load;

	governor->tasks->n_beginning--;
	if (job->error == 0 && job->outcome == STORE_DONE &&
		!request->is_unwanted && !governor->is_leaving) {
		request->task->state = STORE_RUNNING;
		request->task->started_ns = job->begin.at_ns;
		request->task->runs++;
		intake_hash(governor->intake, load);
	} else if (request->is_unwanted || governor->is_leaving) {
		governor->bodies_in++;
		abandon_start(request, SHM_CANCELLED, NULL);
	} else if (is_the_disk(job->error)) {
		governor->bodies_in++;
		tasks_ail(governor->tasks, job);
		put_back(request);
	} else {
		governor->bodies_in++;
		abandon_start(request, SHM_STORE_FAILED,
			job->error != 0 ? job->why
					: "its record is not there any more");
	}
	store_job_fini(job);
	free(begin);
}

/* Then it would only fail: it waits until a reload or a restart finds some. */
static bool lacks_credentials(const struct governor *governor)
{
	struct upstream_stats stats;

	upstream_read_stats(governor->upstream, &stats);
	return !stats.has_credentials;
}

void task_begin(struct request *request)
{
	struct begin *begin = lacks_credentials(request->governor)
				      ? NULL
				      : calloc(1, sizeof(*begin));
	struct tasks *tasks = request->governor->tasks;

	if (begin == NULL) {
		request->governor->bodies_in++;
		put_back(request);
		return;
	}
	begin->request = request;
	begin->job.done = on_begun;
	begin->job.owner = begin;
	begin->job.op = STORE_BEGIN;
	memcpy(begin->job.id, request->task->id, sizeof(begin->job.id));
	/* Who may be sent twice may also be forgotten to have run. */
	begin->job.begin.is_durable = !request->is_idempotent;
	begin->job.begin.at_ns = wall_now_ns();
	begin->job.begin.into = request->attempt->body;
	begin->job.begin.into_bytes = request->body_bytes;
	tasks->n_beginning++;
	store_submit(tasks->store, &begin->job);
}

/* ------------------------------------------------------------ notes */

static void on_noted(struct store_job *job)
{
	store_job_fini(job);
	free(job);
}

void task_note(struct task *task, struct tasks *tasks, enum store_event event,
	const char *static_text, bool is_queued)
{
	struct store_job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return; /* a line of its history */
	job->done = on_noted;
	job->op = STORE_NOTE;
	memcpy(job->id, task->id, sizeof(job->id));
	job->note.event = event;
	job->note.at_ns = wall_now_ns();
	job->note.text = static_text;
	job->note.is_queued = is_queued;
	store_submit(tasks->store, job);
}

void task_retried(struct request *request, const char *after)
{
	request->task->state = STORE_QUEUED;
	task_note(request->task, request->governor->tasks, STORE_EVENT_RETRIED,
		after, true);
}

/* ------------------------------------------------------------ ending */

/* An end on its way to the disk. */
struct task_end {
	struct store_job job;
	struct task *task;
	struct tasks *tasks;
	struct task_end *next; /* of those that failed */
	char code[SHM_CODE_BYTES];
	char message[SHM_MESSAGE_BYTES];
	char request_id[SHM_REQUEST_ID_BYTES];
	char model[SHM_OTHER_MODEL_BYTES];
	char reply[];
};

static enum store_state state_of(enum shm_result result)
{
	if (result == SHM_OK)
		return STORE_SUCCEEDED;
	if (result == SHM_CANCELLED)
		return STORE_CANCELLED;
	return result == SHM_DEADLINE ? STORE_EXPIRED : STORE_FAILED;
}

static void describe(struct task_end *end, const struct door_reply *reply)
{
	struct store_ending *ending = &end->job.end.ending;

	task_text(end->code, sizeof(end->code), reply->code);
	task_text(end->message, sizeof(end->message), reply->message);
	task_text(end->request_id, sizeof(end->request_id), reply->request_id);
	task_text(end->model, sizeof(end->model), reply->model);
	*ending = (struct store_ending){
		.result = reply->result,
		.http_status = reply->http_status,
		.attempts = reply->attempts,
		.input_tokens = reply->input_tokens,
		.output_tokens = reply->output_tokens,
		.cache_read_tokens = reply->cache_read_tokens,
		.cache_write_tokens = reply->cache_write_tokens,
		.queued_ns = reply->wait_ns,
		.executing_ns = reply->execution_ns,
		.code = end->code,
		.message = end->message,
		.request_id = end->request_id,
		.model = end->model,
	};
}

static void count_end(const struct task_end *end)
{
	struct governor *governor = end->tasks->governor;

	if (end->job.end.state == STORE_SUCCEEDED)
		COUNT(governor, tasks_succeeded);
	else if (end->job.end.state == STORE_CANCELLED)
		COUNT(governor, tasks_cancelled);
	else
		COUNT(governor, tasks_failed);
}

/* It is on disk, or cannot be any more: who waits for it is told. */
static void conclude(struct task_end *end)
{
	const struct store_job *job = &end->job;
	struct task *task = end->task;
	struct tasks *tasks = end->tasks;
	bool calls_back = task->has_callback;
	uint8_t id[STORE_ID_BYTES];

	count_end(end);
	memcpy(id, task->id, sizeof(id));
	task_tell(task, &(struct store_record){
				.uid = task->uid,
				.state = job->end.state,
				.submitted_ns = task->submitted_ns,
				.started_ns = task->started_ns,
				.ended_ns = job->end.at_ns,
				.runs = task->runs,
				.ending = job->end.ending,
			});
	task_free(tasks, task);
	if (calls_back && job->error == 0)
		task_post(tasks, id);
}

static void on_ended(struct store_job *job)
{
	struct task_end *end = job->owner;
	struct tasks *tasks = end->tasks;

	tasks->n_ending--;
	if (is_the_disk(job->error) && !tasks->governor->is_leaving) {
		tasks_ail(tasks, job);
		end->next = tasks->failed_ends;
		tasks->failed_ends = end;
		tasks_try_again(tasks);
		return;
	}
	if (job->error != 0 || job->outcome != STORE_DONE)
		LOG(LOG_ERROR, "task.end", "the end of a task is not on disk",
			F_S("reason", job->error != 0 ? job->why
						      : "it is not there, or "
							"has ended before"));
	conclude(end);
	store_job_fini(job);
	free(end);
}

static void submit_end(struct task_end *end)
{
	end->tasks->n_ending++;
	store_submit(end->tasks->store, &end->job);
}

/* The reply goes with it; without memory for it, it has failed. */
static struct task_end *end_create(const struct door_reply *reply)
{
	size_t bytes = reply->body != NULL ? reply->body_bytes : 0;
	struct task_end *end = malloc(sizeof(*end) + bytes);

	if (end == NULL)
		return NULL;
	memset(end, 0, sizeof(*end));
	if (bytes > 0)
		memcpy(end->reply, reply->body, bytes);
	end->job.end.reply = end->reply;
	end->job.end.reply_bytes = bytes;
	end->job.end.state = state_of(reply->result);
	describe(end, reply);
	return end;
}

static struct task_end *end_without_reply(enum shm_result result)
{
	struct door_reply reply =
		plain_reply(result == SHM_OK ? SHM_NO_MEMORY : result);

	reply.message = "rgovd had no memory to keep the reply";
	return end_create(&reply);
}

static void write_end(
	struct task_end *end, struct task *task, struct tasks *tasks)
{
	end->task = task;
	end->tasks = tasks;
	end->job.done = on_ended;
	end->job.owner = end;
	end->job.op = STORE_END;
	end->job.end.at_ns = wall_now_ns();
	memcpy(end->job.id, task->id, sizeof(end->job.id));
	submit_end(end);
}

/* Not even for the words: as soon as there is some. */
static void end_later(
	struct task *task, struct tasks *tasks, enum shm_result result)
{
	task->unended_as = result;
	task->next_parked = tasks->unended;
	tasks->unended = task;
	tasks_try_again(tasks);
}

void task_finish(struct request *request, const struct door_reply *reply)
{
	struct governor *governor = request->governor;
	struct tasks *tasks = governor->tasks;
	struct task *task = request->task;
	struct task_end *end;

	(void)task_unpark(request);
	request->task = NULL;
	task->request = NULL;
	/* It has not ended: a successor goes on with it. */
	if (governor->is_leaving || reply->result == SHM_DRAINING) {
		task_free(tasks, task);
		return;
	}
	end = end_create(reply);
	if (end == NULL)
		end = end_without_reply(reply->result);
	if (end != NULL)
		write_end(end, task, tasks);
	else
		end_later(task, tasks, reply->result);
}

/* ------------------------------------------------------------ again */

static void end_unended(struct tasks *tasks)
{
	struct task *task = tasks->unended;

	tasks->unended = NULL;
	while (task != NULL) {
		struct task *next = task->next_parked;
		struct task_end *end = end_without_reply(task->unended_as);

		if (end != NULL)
			write_end(end, task, tasks);
		else
			end_later(task, tasks, task->unended_as);
		task = next;
	}
}

void tasks_retry(struct tasks *tasks)
{
	struct task_end *end = tasks->failed_ends;

	tasks->failed_ends = NULL;
	while (end != NULL) {
		struct task_end *next = end->next;

		store_job_fini(&end->job);
		end->job.error = 0;
		submit_end(end);
		end = next;
	}
	end_unended(tasks);
	/* Going down: what is parked is left to a successor. */
	if (!tasks->governor->is_draining)
		unpark_all(tasks);
}

void tasks_forget_ends(struct tasks *tasks)
{
	while (tasks->failed_ends != NULL) {
		struct task_end *end = tasks->failed_ends;

		tasks->failed_ends = end->next;
		task_free(tasks, end->task);
		store_job_fini(&end->job);
		free(end);
	}
	while (tasks->unended != NULL) {
		struct task *task = tasks->unended;

		tasks->unended = task->next_parked;
		task_free(tasks, task);
	}
}
