/* rgov task list, history: tables. */
#include "tools/rgov/task_command.h"

#include <stdlib.h>

int task_list(struct task_command *command)
{
	struct rgov_task_row *rows = NULL;
	int n = rgov_task_list(command->gov, &command->filter, &rows);

	if (n < 0)
		return task_complain(command, n);
	n = task_print_rows(command, rows, n);
	free(rows);
	return n;
}

int task_history(struct task_command *command)
{
	struct rgov_task_event *events = NULL;
	int n = rgov_task_history(command->gov, &command->id, &events);

	if (n < 0)
		return task_complain(command, n);
	n = task_print_events(command, events, n);
	free(events);
	return n;
}
