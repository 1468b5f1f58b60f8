/* What the words of `rgov task` share: one question about durable tasks. */
#ifndef TOOLS_RGOV_TASK_COMMAND_H
#define TOOLS_RGOV_TASK_COMMAND_H

#include "tools/rgov/request.h"

#include <jansson.h>
#include <stdbool.h>

struct task_command {
	struct invocation *invocation;
	struct rgov *gov;
	const char *const *operands; /* behind the word; NULL ends them */
	bool is_json;
	bool waits;
	uint64_t timeout_ms; /* 0: not said */
	struct rgov_request request;
	struct rgov_task_options task;
	struct rgov_task_filter filter;
	struct rgov_task_id id;         /* the operand, where it is one */
	struct rgov_task_id older_than; /* what filter may point to */
	char headers[REQUEST_HEADERS_BYTES];
	char *body;
};

/* Each returns the exit code. */
int task_submit(struct task_command *command);
int task_show(struct task_command *command);
int task_wait(struct task_command *command);
int task_result(struct task_command *command);
int task_cancel(struct task_command *command);
int task_list(struct task_command *command);
int task_history(struct task_command *command);

/* verb_task_ask.c: waits for the end of the task, whose id is `id`, and prints
 * its reply; the exit code. */
int task_wait_and_print(struct task_command *command);

/* verb_task.c: what librgov returned, or rgovd answered, in words. */
int task_complain(const struct task_command *command, int error);
int task_complain_of_answer(
	const struct task_command *command, const struct rgov_task *task);

/* task_print.c.  The texts of what is printed are made harmless first.  0, or
 * the exit code after a complaint. */
int task_print(const struct task_command *command, struct rgov_task *task);
int task_print_rows(
	const struct task_command *command, struct rgov_task_row *rows, int n);
int task_print_events(const struct task_command *command,
	struct rgov_task_event *events, int n);

#endif
