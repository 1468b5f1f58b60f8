/*
 * A client of librgov that does what a campaign says, one command a line, so
 * that a failure can be put into exactly one of its calls.  It allocates
 * nothing by itself: what a shim fails is the library's.
 *
 *     open            a handle; nothing is connected yet
 *     close
 *     call N BYTES MS     a call with the body {"max_tokens":5,"n":N,...}
 *     submit N BYTES MS   the same without waiting
 *     wait            for what was submitted
 *     cancel          what was submitted; then wait
 *     permit MS       held until settled
 *     settle
 *     task N BYTES MS     a durable one: submitted, waited for, fetched
 *
 * Each is answered by one JSON object: {"rc", "result", "status", "slices",
 * "why", "said"}; `said` is the digest of a body as the simulator's answer has
 * it.
 */
#include "client-lib/rgov.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BODY_MAX = 25000000 };

struct puppet {
	struct rgov *gov;
	struct rgov_ticket ticket;
	struct rgov_reply reply;
	unsigned long n, bytes, ms; /* of the command */
};

static char body[BODY_MAX + 1];

/* Padded to the wanted size; shorter than its frame it cannot be. */
static size_t write_body(unsigned long n, size_t bytes)
{
	int head = sprintf(body, "{\"max_tokens\":5,\"n\":%lu,\"pad\":\"", n);
	size_t used = (size_t)head;

	if (bytes > BODY_MAX)
		bytes = BODY_MAX;
	if (bytes > used + 2) {
		memset(body + used, 'x', bytes - used - 2);
		used = bytes - 2;
	}
	memcpy(body + used, "\"}", 2);
	return used + 2;
}

static struct rgov_request request_of(const struct puppet *puppet)
{
	return (struct rgov_request){.size = sizeof(struct rgov_request),
		.model_id = "vendor.model-v1",
		.user = "puppet",
		.body = body,
		.body_bytes = write_body(puppet->n, puppet->bytes),
		.timeout_ms = puppet->ms};
}

static int do_open(struct puppet *puppet)
{
	return rgov_open(NULL, &puppet->gov);
}

static int do_close(struct puppet *puppet)
{
	rgov_close(puppet->gov);
	puppet->gov = NULL;
	return 0;
}

static int do_submit(struct puppet *puppet)
{
	struct rgov_request request = request_of(puppet);

	return rgov_submit(puppet->gov, &request, &puppet->ticket);
}

static int do_wait(struct puppet *puppet)
{
	return rgov_wait(
		puppet->gov, &puppet->ticket, UINT64_MAX, &puppet->reply);
}

static int do_call(struct puppet *puppet)
{
	struct rgov_request request = request_of(puppet);

	return rgov_call(puppet->gov, &request, &puppet->reply);
}

static int do_cancel(struct puppet *puppet)
{
	int rc = rgov_cancel(puppet->gov, &puppet->ticket);

	return rc < 0 ? rc : do_wait(puppet);
}

static int do_permit(struct puppet *puppet)
{
	struct rgov_request request = request_of(puppet);

	request.body = NULL;
	request.body_bytes = 0;
	return rgov_permit(
		puppet->gov, &request, &puppet->ticket, &puppet->reply);
}

static int do_settle(struct puppet *puppet)
{
	return rgov_settle(puppet->gov, &puppet->ticket, RGOV_SETTLE_OK, 3, 4);
}

static bool is_over(const struct rgov_task *task)
{
	return task->answer == RGOV_R_OK && task->state >= RGOV_T_SUCCEEDED;
}

/* Acknowledged it ends, whatever is short meanwhile: who is turned away asks
 * again. */
static int wait_for_end(struct puppet *puppet, struct rgov_task *task)
{
	struct rgov_task_id id = task->id;
	int rc = 0;

	for (int i = 0; i < 5 && (i == 0 || rc < 0 || !is_over(task)); i++)
		rc = rgov_task_wait(puppet->gov, &id, puppet->ms, task);
	if (rc == 0 && task->answer == RGOV_R_OK && !is_over(task))
		task->answer = RGOV_R_DEADLINE;
	task->id = id;
	return rc;
}

static int do_task(struct puppet *puppet)
{
	struct rgov_request request = request_of(puppet);
	struct rgov_task task = {.size = sizeof(task)};
	int rc = rgov_task_submit(puppet->gov, &request, NULL, &task);

	if (rc == 0 && task.answer == RGOV_R_OK)
		rc = wait_for_end(puppet, &task);
	puppet->reply.result = task.answer;
	return rc < 0 || task.answer != RGOV_R_OK
		       ? rc
		       : rgov_task_fetch(
				 puppet->gov, &task.id, &task, &puppet->reply);
}

static const struct {
	const char *name;
	int (*run)(struct puppet *puppet);
} commands[] = {
	{"open", do_open},
	{"close", do_close},
	{"call", do_call},
	{"submit", do_submit},
	{"wait", do_wait},
	{"cancel", do_cancel},
	{"permit", do_permit},
	{"settle", do_settle},
	{"task", do_task},
};

static uint64_t found_by_slice(struct rgov *gov)
{
	struct rgov_diagnostics seen = {.size = sizeof(seen)};

	return gov != NULL && rgov_diagnose(gov, &seen) == 0
		       ? seen.found_by_slice
		       : 0;
}

static void answer(struct puppet *puppet, int rc)
{
	const struct rgov_reply *reply = &puppet->reply;
	const char *said =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;
	char line[1024];
	int n = snprintf(line, sizeof(line),
		"{\"rc\":%d,\"result\":\"%s\",\"status\":%d,\"slices\":%" PRIu64
		",\"why\":\"%s\",\"said\":\"%.64s\"}\n",
		rc, rgov_result_name(reply->result), reply->http_status,
		found_by_slice(puppet->gov),
		rc < 0 ? rgov_why() : reply->message, said ? said + 7 : "");

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		exit(74);
	rgov_reply_fini(&puppet->reply);
}

static void obey(struct puppet *puppet, const char *line)
{
	char verb[16] = "";

	/* Whatever is said now that was not said for this command is stale. */
	(void)rgov_open(&(struct rgov_options){.size = 1}, NULL);
	puppet->reply = (struct rgov_reply){.size = sizeof(puppet->reply)};
	puppet->n = puppet->bytes = puppet->ms = 0;
	if (sscanf(line, "%15s %lu %lu %lu", verb, &puppet->n, &puppet->bytes,
		    &puppet->ms) < 1)
		exit(64);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, verb) == 0) {
			answer(puppet, commands[i].run(puppet));
			return;
		}
	}
	exit(64);
}

int main(void)
{
	struct puppet puppet = {.gov = NULL};
	char line[256];
	ssize_t n;

	/* The campaign waits for each answer, so a read is a command. */
	while ((n = read(STDIN_FILENO, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		obey(&puppet, line);
	}
	return 0;
}
