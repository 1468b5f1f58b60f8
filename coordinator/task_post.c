/*
 * The end of a task, told by HTTP to a program of this host: at least once, as
 * long as that program answers within the hour.  It is told how the task ended,
 * not its reply: that is to be fetched, by who may.
 */
#include "coordinator/tasks_inside.h"

#include "coordinator/log.h"
#include "coordinator/upstream/post.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum { TRIES = 12, JSON_BYTES = 8192 };
/* Doubled after each try: 1 s to 34 min, about 68 min in all. */
#define FIRST_PAUSE_NS 1000000000u
#define TIMEOUT_NS (10 * UINT64_C(1000000000))

struct delivery {
	struct delivery *prev, *next;
	struct tasks *tasks;
	uint8_t id[STORE_ID_BYTES];
	int tries;
	struct loop_timer again;
	struct store_job job;
};

bool task_may_call_back(const struct tasks *tasks, const char *url,
	char ret_why[POST_WHY_BYTES])
{
	const struct config_tasks *config = &tasks->governor->config->tasks;

	return post_url_check(url, config->callbacks, config->n_callbacks,
		       ret_why) == 0;
}

/* ------------------------------------------------------------ what is told */

static const char *state_text(enum store_state state)
{
	static const char *const texts[STORE_STATES] = {
		[STORE_QUEUED] = "queued",
		[STORE_RUNNING] = "running",
		[STORE_SUCCEEDED] = "succeeded",
		[STORE_FAILED] = "failed",
		[STORE_CANCELLED] = "cancelled",
		[STORE_EXPIRED] = "expired",
	};

	return texts[state];
}

static void id_text(const uint8_t id[], char ret_text[37])
{
	int at = 0;

	for (int i = 0; i < STORE_ID_BYTES; i++)
		at += snprintf(ret_text + at, 37 - (size_t)at, "%s%02x",
			i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			id[i]);
}

static double seconds(int64_t ns)
{
	return (double)ns / 1e9;
}

/* A JSON text; its length. */
static size_t describe(
	const struct store_record *record, char ret_json[JSON_BYTES])
{
	const struct store_ending *ending = &record->ending;
	char id[37], code[512], message[2048], user[512];
	int n;

	id_text(record->id, id);
	code[log_quote(ending->code, code, sizeof(code))] = '\0';
	message[log_quote(ending->message, message, sizeof(message))] = '\0';
	user[log_quote(record->user, user, sizeof(user))] = '\0';
	n = snprintf(ret_json, JSON_BYTES,
		"{\"task_id\":\"%s\",\"state\":\"%s\",\"user\":%s,"
		"\"submitted\":%.3f,\"started\":%.3f,\"ended\":%.3f,"
		"\"http_status\":%d,\"code\":%s,\"message\":%s,"
		"\"attempts\":%u,\"runs\":%u,\"input_tokens\":%lld,"
		"\"output_tokens\":%lld}",
		id, state_text(record->state), user,
		seconds(record->submitted_ns), seconds(record->started_ns),
		seconds(record->ended_ns), ending->http_status, code, message,
		ending->attempts, record->runs, (long long)ending->input_tokens,
		(long long)ending->output_tokens);
	return (size_t)n;
}

/* ------------------------------------------------------------ delivering */

static void delivery_free(struct delivery *delivery)
{
	struct tasks *tasks = delivery->tasks;

	loop_timer_clear(tasks->governor->loop, &delivery->again);
	DL_DELETE(tasks->deliveries, delivery);
	store_job_fini(&delivery->job);
	free(delivery);
}

static void on_written(struct store_job *job)
{
	struct delivery *delivery = job->owner;

	if (job->error != 0)
		tasks_ail(delivery->tasks, job); /* told twice, at the worst */
	delivery_free(delivery);
}

static void submit(struct delivery *delivery, enum store_op op,
	void (*done)(struct store_job *job))
{
	struct store_job *job = &delivery->job;

	store_job_fini(job);
	job->error = 0;
	job->done = done;
	job->owner = delivery;
	job->op = op;
	memcpy(job->id, delivery->id, sizeof(job->id));
	store_submit(delivery->tasks->store, job);
}

static void write_down(struct delivery *delivery, bool is_delivered)
{
	struct store_job *job = &delivery->job;

	store_job_fini(job);
	memset(job, 0, sizeof(*job));
	job->callback.is_delivered = is_delivered;
	job->callback.at_ns = wall_now_ns();
	submit(delivery, STORE_CALLBACK_DONE, on_written);
}

static void look(struct delivery *delivery);

static void on_again(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	look(timer->owner);
}

static void try_later(struct delivery *delivery, const char *why)
{
	uint64_t pause_ns = (uint64_t)FIRST_PAUSE_NS << delivery->tries;

	if (++delivery->tries >= TRIES) {
		LOG(LOG_WARN, "task.callback",
			"nobody took the end of a task; given up",
			F_S("reason", why));
		write_down(delivery, false);
		return;
	}
	(void)loop_timer_set(delivery->tasks->governor->loop, &delivery->again,
		loop_now_ns() + pause_ns, on_again, delivery);
}

static void on_posted(void *owner, int http_status, const char *why)
{
	struct delivery *delivery = owner;
	char status[32];

	if (delivery->tasks->governor->is_leaving) {
		delivery_free(delivery); /* a successor tells it */
		return;
	}
	if (http_status >= 200 && http_status < 300) {
		write_down(delivery, true);
		return;
	}
	(void)snprintf(status, sizeof(status), "HTTP %d", http_status);
	try_later(delivery, http_status != 0 ? status : why);
}

static int send_it(struct delivery *delivery, const struct store_record *record)
{
	struct tasks *tasks = delivery->tasks;
	char json[JSON_BYTES];
	size_t bytes = describe(record, json);
	int rc = 0;

	if (tasks->post == NULL)
		rc = post_create(
			tasks->governor->loop, TIMEOUT_NS, &tasks->post);
	return rc == 0 ? post_send(tasks->post, record->callback, json, bytes,
				 on_posted, delivery)
		       : rc;
}

static void on_looked(struct store_job *job)
{
	struct delivery *delivery = job->owner;
	char why[STORE_WHY_BYTES];
	int rc = job->error;

	if (delivery->tasks->governor->is_leaving ||
		job->outcome != STORE_DONE ||
		(rc == 0 && job->record->callback_state !=
				    STORE_CALLBACK_PENDING)) {
		delivery_free(delivery);
		return;
	}
	/* The list of what is allowed may have changed since its submit. */
	if (rc == 0 && !task_may_call_back(
			       delivery->tasks, job->record->callback, why)) {
		LOG(LOG_WARN, "task.callback", why);
		write_down(delivery, false);
		return;
	}
	if (rc == 0)
		rc = send_it(delivery, job->record);
	if (rc != 0)
		try_later(delivery, strerrordesc_np(-rc));
}

static void look(struct delivery *delivery)
{
	store_job_fini(&delivery->job); /* of the last try */
	memset(&delivery->job, 0, sizeof(delivery->job));
	submit(delivery, STORE_LOOK, on_looked);
}

void task_post(struct tasks *tasks, const uint8_t id[])
{
	struct delivery *delivery = calloc(1, sizeof(*delivery));

	if (delivery == NULL)
		return; /* the next start tells it */
	delivery->tasks = tasks;
	memcpy(delivery->id, id, sizeof(delivery->id));
	DL_APPEND(tasks->deliveries, delivery);
	look(delivery);
}

void tasks_stop_posts(struct tasks *tasks)
{
	struct delivery *delivery, *next;

	post_free(tasks->post);
	tasks->post = NULL;
	/* What waits for its next try; jobs of the store end by themselves. */
	DL_FOREACH_SAFE (tasks->deliveries, delivery, next)
		if (delivery->again.place != 0)
			delivery_free(delivery);
}
