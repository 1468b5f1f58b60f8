/* rgov task show, wait, result, cancel: questions about one task. */
#include "tools/rgov/ending.h"
#include "tools/rgov/task_command.h"

#include <sysexits.h>

static bool has_ended(const struct rgov_task *task)
{
	return task->state >= RGOV_T_SUCCEEDED;
}

/* What a function of librgov returned: 0, or the exit code. */
static int judge(const struct task_command *command,
	const struct rgov_task *task, int rc)
{
	if (rc < 0)
		return task_complain(command, rc);
	if (task->answer != RGOV_R_OK)
		return task_complain_of_answer(command, task);
	return 0;
}

int task_show(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	int rc = rgov_task_show(command->gov, &command->id, &task);

	rc = judge(command, &task, rc);
	return rc != 0 ? rc : task_print(command, &task);
}

int task_cancel(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	int rc = rgov_task_cancel(command->gov, &command->id, &task);

	rc = judge(command, &task, rc);
	return rc != 0 ? rc : task_print(command, &task);
}

/* Until it has ended, or the time is over. */
static int await(const struct task_command *command, struct rgov_task *ret_task)
{
	/* That of a submit is the task's. */
	bool is_bounded = command->timeout_ms != 0 && !command->waits;

	return judge(command, ret_task,
		rgov_task_wait(command->gov, &command->id,
			is_bounded ? command->timeout_ms : UINT64_MAX,
			ret_task));
}

static int not_yet(
	const struct task_command *command, const struct rgov_task *task)
{
	return complain(command->invocation, EX_TEMPFAIL,
		"it has not ended: it is %s",
		rgov_task_state_name(task->state));
}

int task_wait(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	int rc = await(command, &task);

	if (rc == 0)
		rc = task_print(command, &task);
	if (rc != 0)
		return rc;
	return has_ended(&task)
		       ? ending_exit_code(task.result, task.http_status)
		       : not_yet(command, &task);
}

int task_result(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	struct rgov_reply reply = {.size = sizeof(reply)};
	int rc = rgov_task_fetch(command->gov, &command->id, &task, &reply);

	rc = judge(command, &task, rc);
	if (rc == 0 && !has_ended(&task))
		rc = not_yet(command, &task);
	else if (rc == 0)
		rc = ending_print(command->invocation, &reply);
	rgov_reply_fini(&reply);
	return rc;
}

int task_wait_and_print(struct task_command *command)
{
	struct rgov_task task = {.size = sizeof(task)};
	int rc = await(command, &task);

	return rc != 0 ? rc : task_result(command);
}
