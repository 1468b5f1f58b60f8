/* Durable tasks: submit, look, wait, fetch, cancel.  See rgov.h. */
#include "client-lib/task.h"

#include "client-lib/words.h"

#include <errno.h>
#include <string.h>

static_assert((int)RGOV_T_QUEUED == (int)SHM_TASK_QUEUED &&
		      (int)RGOV_T_EXPIRED == (int)SHM_TASK_EXPIRED &&
		      (int)RGOV_T_EXPIRED == (int)SHM_TASK_STATE_COUNT - 1,
	"rgov_task_state is shm_task_state");
static_assert((int)RGOV_TASK_SHOW == (int)SHM_TASK_LOOK &&
		      (int)RGOV_TASK_WAIT == (int)SHM_TASK_WAIT &&
		      (int)RGOV_TASK_FETCH == (int)SHM_TASK_FETCH &&
		      (int)RGOV_TASK_CANCEL == (int)SHM_TASK_CANCEL,
	"rgov_task_verb is shm_task_verb");

const char *rgov_task_state_name(enum rgov_task_state state)
{
	static const char *const names[] = {
		[RGOV_T_QUEUED] = "queued",
		[RGOV_T_RUNNING] = "running",
		[RGOV_T_SUCCEEDED] = "succeeded",
		[RGOV_T_FAILED] = "failed",
		[RGOV_T_CANCELLED] = "cancelled",
		[RGOV_T_EXPIRED] = "expired",
	};

	return (unsigned int)state < sizeof(names) / sizeof(names[0])
		       ? names[state]
		       : "unknown";
}

/* ------------------------------------------------------------ asking */

static uint16_t put(char *to, const char *from)
{
	uint16_t n = from != NULL ? (uint16_t)strnlen(from, UINT16_MAX) : 0;

	if (n > 0)
		memcpy(to, from, n);
	return n;
}

static int check_options(const struct rgov_task_options *options)
{
	int rc = 0;

	if (options->size != sizeof(*options))
		return fail(-EINVAL, "options.size: expected %zu, found %zu",
			sizeof(*options), options->size);
	if (options->key != NULL)
		rc = check_text("key", options->key, SHM_TASK_KEY_BYTES);
	if (rc == 0 && options->callback != NULL)
		rc = check_text(
			"callback", options->callback, SHM_TASK_CALLBACK_BYTES);
	return rc;
}

static int describe(
	const struct rgov_task_options *options, struct client_task *ret_words)
{
	int rc = options != NULL ? check_options(options) : 0;

	memset(ret_words, 0, sizeof(*ret_words));
	if (rc == 0)
		rc = task_id_make(ret_words->id);
	if (rc < 0 || options == NULL)
		return rc;
	ret_words->timeout_ns = options->timeout_ms > UINT64_MAX / MS_NS
					? UINT64_MAX
					: options->timeout_ms * MS_NS;
	ret_words->key_bytes = put(ret_words->key, options->key);
	ret_words->callback_bytes = put(ret_words->callback, options->callback);
	return 0;
}

int rgov_task_ask_submit(struct rgov *gov, const struct rgov_request *request,
	const struct rgov_task_options *options, struct rgov_ticket *ret_ticket)
{
	struct client_task words;
	int rc = describe(options, &words);

	return rc < 0 ? rc
		      : submit(gov,
				&(struct submission){.request = request,
					.kind = SHM_TASK,
					.task = &words},
				ret_ticket);
}

int rgov_task_ask(struct rgov *gov, enum rgov_task_verb verb,
	const struct rgov_task_id *id, uint64_t timeout_ms, uint32_t flags,
	struct rgov_ticket *ret_ticket)
{
	struct client_task words;
	struct submission submission = {.kind = SHM_TASK_VERB,
		.task = &words,
		.verb = (enum shm_task_verb)verb,
		.flags = flags,
		.timeout_ms = timeout_ms};

	if ((unsigned int)verb > RGOV_TASK_CANCEL ||
		(flags & ~(uint32_t)RGOV_RING) != 0)
		return fail(-EINVAL, "verb or flags: unknown value");
	/* A wait of no time is a look; others take their time. */
	if (timeout_ms == 0 && verb == RGOV_TASK_WAIT)
		submission.verb = SHM_TASK_LOOK;
	if (timeout_ms == 0)
		submission.timeout_ms = TASK_QUESTION_MS;
	memset(&words, 0, sizeof(words));
	memcpy(words.id, id->bytes, sizeof(words.id));
	return submit(gov, &submission, ret_ticket);
}

/* ------------------------------------------------------------ the answer */

static void fill_end(struct rgov_task *task, const struct rgov_reply *reply)
{
	task->http_status = reply->http_status;
	task->attempts = reply->attempts;
	task->input_tokens = reply->input_tokens;
	task->output_tokens = reply->output_tokens;
	task->cache_read_tokens = reply->cache_read_tokens;
	task->cache_write_tokens = reply->cache_write_tokens;
	task->wait_ns = reply->wait_ns;
	task->execution_ns = reply->execution_ns;
	task->retry_after_ms = reply->retry_after_ms;
	memcpy(task->code, reply->code, sizeof(task->code));
	memcpy(task->message, reply->message, sizeof(task->message));
	memcpy(task->request_id, reply->request_id, sizeof(task->request_id));
	memcpy(task->model, reply->model, sizeof(task->model));
}

static void fill_task(struct rgov_task *task, const struct rgov_reply *reply,
	const struct daemon_task *line)
{
	*task = (struct rgov_task){.size = sizeof(*task),
		.answer = reply->result,
		.state = line->state,
		.submitted_ns = line->submitted_ns,
		.started_ns = line->started_ns,
		.ended_ns = line->ended_ns,
		.forget_ns = line->forget_ns,
		.runs = line->runs,
		.position = line->position,
		.predicted_ns = (uint64_t)line->predicted_ms * MS_NS,
		.result = line->result};
	memcpy(task->id.bytes, line->id, sizeof(task->id.bytes));
	fill_end(task, reply);
}

static int check_task(const struct rgov_task *task)
{
	return task->size == sizeof(*task)
		       ? 0
		       : fail(-EINVAL, "task.size: expected %zu, found %zu",
				 sizeof(*task), task->size);
}

/* NULL: it is not wanted. */
static int check_reply(const struct rgov_reply *reply)
{
	return reply == NULL || reply->size == sizeof(*reply)
		       ? 0
		       : fail(-EINVAL, "reply.size: expected %zu, found %zu",
				 sizeof(*reply), reply->size);
}

/* The reply of a task, not of the question about it. */
static void hand_over(struct rgov_reply *from, const struct rgov_task *task,
	struct rgov_reply *ret_reply)
{
	if (ret_reply == NULL) {
		rgov_reply_fini(from);
		return;
	}
	*ret_reply = *from;
	if (task->answer == RGOV_R_OK)
		ret_reply->result = task->result;
}

int rgov_task_answer(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t timeout_ms, struct rgov_task *ret_task,
	struct rgov_reply *ret_reply)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct daemon_task line = {.state = 0};
	int rc = check_task(ret_task);

	if (rc == 0)
		rc = check_reply(ret_reply);
	if (rc == 0)
		rc = wait_for_reply(gov, ticket, timeout_ms, &reply, &line);
	if (rc < 0)
		return rc;
	fill_task(ret_task, &reply, &line);
	hand_over(&reply, ret_task, ret_reply);
	return 0;
}

/* ------------------------------------------------------------ both in one */

static int answer_to_the_end(struct rgov *gov, const struct rgov_ticket *ticket,
	struct rgov_task *ret_task, struct rgov_reply *ret_reply)
{
	int rc;

	do
		rc = rgov_task_answer(
			gov, ticket, UINT64_MAX, ret_task, ret_reply);
	while (rc == -EINTR);
	return rc;
}

int task_question(struct rgov *gov, const struct submission *submission,
	struct rgov_reply *ret_reply, struct daemon_task *ret_line)
{
	struct rgov_ticket ticket;
	int rc = submit(gov, submission, &ticket);

	*ret_reply = (struct rgov_reply){.size = sizeof(*ret_reply)};
	if (rc < 0)
		return rc;
	do
		rc = wait_for_reply(
			gov, &ticket, UINT64_MAX, ret_reply, ret_line);
	while (rc == -EINTR);
	return rc;
}

int rgov_task_submit(struct rgov *gov, const struct rgov_request *request,
	const struct rgov_task_options *options, struct rgov_task *ret_task)
{
	struct rgov_ticket ticket;
	int rc = check_task(ret_task);

	if (rc == 0)
		rc = rgov_task_ask_submit(gov, request, options, &ticket);
	return rc < 0 ? rc : answer_to_the_end(gov, &ticket, ret_task, NULL);
}

static int ask(struct rgov *gov, enum rgov_task_verb verb,
	const struct rgov_task_id *id, uint64_t timeout_ms,
	struct rgov_task *ret_task, struct rgov_reply *ret_reply)
{
	struct rgov_ticket ticket;
	int rc = check_task(ret_task);

	/* Before it is asked: an answer that nobody takes keeps its slot. */
	if (rc == 0)
		rc = check_reply(ret_reply);
	if (rc == 0)
		rc = rgov_task_ask(gov, verb, id, timeout_ms, 0, &ticket);
	return rc < 0 ? rc
		      : answer_to_the_end(gov, &ticket, ret_task, ret_reply);
}

int rgov_task_show(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task *ret_task)
{
	return ask(gov, RGOV_TASK_SHOW, id, 0, ret_task, NULL);
}

int rgov_task_wait(struct rgov *gov, const struct rgov_task_id *id,
	uint64_t timeout_ms, struct rgov_task *ret_task)
{
	return ask(gov, RGOV_TASK_WAIT, id, timeout_ms, ret_task, NULL);
}

int rgov_task_fetch(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task *ret_task, struct rgov_reply *ret_reply)
{
	return ask(gov, RGOV_TASK_FETCH, id, 0, ret_task, ret_reply);
}

int rgov_task_cancel(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task *ret_task)
{
	return ask(gov, RGOV_TASK_CANCEL, id, 0, ret_task, NULL);
}
