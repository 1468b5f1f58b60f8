/* rgov task submit: the request goes to rgovd's disk. */
#include "tools/rgov/task_command.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

static int print_id(const struct task_command *command)
{
	char text[RGOV_TASK_ID_BYTES];

	rgov_task_id_text(&command->id, text);
	/* With --wait the reply has stdout for itself. */
	if (command->waits)
		return complain(command->invocation, 0, "task %s", text);
	if (puts(text) != EOF && fflush(stdout) == 0)
		return 0;
	return complain(command->invocation, EX_IOERR, "cannot print: %s",
		strerror(errno));
}

static int hand_in(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	int rc = rgov_task_submit(
		command->gov, &command->request, &command->task, &task);

	if (rc < 0)
		return task_complain(command, rc);
	if (task.answer != RGOV_R_OK)
		return task_complain_of_answer(command, &task);
	command->id = task.id;
	if (command->is_json && !command->waits)
		return task_print(command, &task);
	return print_id(command);
}

int task_submit(struct task_command *command)
{
	int rc;

	command->request.model_id = command->operands[0];
	command->task.timeout_ms = command->timeout_ms;
	rc = request_body(command->invocation, &command->request,
		command->operands[1], &command->body);
	if (rc == 0)
		rc = hand_in(command);
	if (rc == 0 && command->waits)
		rc = task_wait_and_print(command);
	return rc;
}
