/*
 * What rgovd says of durable tasks, as Python objects.  Which exception a
 * refused question is, and what a status looks like, are decided in rgov.errors
 * and rgov.status.
 */
#include "client-lib/python/ext/ext.h"

#include <errno.h>
#include <stdlib.h>

static double seconds_of(uint64_t ns)
{
	return (double)ns * 1e-9;
}

static PyObject *id_text(const struct rgov_task_id *id)
{
	char text[RGOV_TASK_ID_BYTES];

	rgov_task_id_text(id, text);
	return answer_text(text);
}

static PyObject *usage_of(struct ext_state *state, const struct rgov_task *task)
{
	return answer_usage(state, task->input_tokens, task->output_tokens,
		task->cache_read_tokens, task->cache_write_tokens);
}

static PyObject *status_of(
	struct ext_state *state, const struct rgov_task *task)
{
	/* First: Python must not be called while an exception is set. */
	PyObject *usage = usage_of(state, task);

	if (usage == NULL)
		return NULL;
	return answer_call(state->status_of_task,
		Py_BuildValue("(NiddddIdIINddisNNNNd)", id_text(&task->id),
			(int)task->state, seconds_of(task->submitted_ns),
			seconds_of(task->started_ns),
			seconds_of(task->ended_ns), seconds_of(task->forget_ns),
			(unsigned)task->position,
			seconds_of(task->predicted_ns), (unsigned)task->runs,
			(unsigned)task->attempts, usage,
			seconds_of(task->wait_ns),
			seconds_of(task->execution_ns), task->http_status,
			rgov_result_name(task->result), answer_text(task->code),
			answer_text(task->message),
			answer_text(task->request_id), answer_text(task->model),
			(double)task->retry_after_ms * 1e-3));
}

static PyObject *error_of(struct ext_state *state,
	const struct rgov_task_id *id, PyObject *model_id, PyObject *user,
	const struct rgov_task *task)
{
	return answer_call(state->error_of_task,
		Py_BuildValue("(iNOONNd)", (int)task->answer, id_text(id),
			model_id, user, answer_text(task->code),
			answer_text(task->message),
			(double)task->retry_after_ms * 1e-3));
}

/* The pair of a fetch; takes the reference to the status. */
static PyObject *with_outcome(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct ending *ending, PyObject *status)
{
	PyObject *outcome;

	if (ending->task.state < RGOV_T_SUCCEEDED)
		return Py_BuildValue("(NO)", status, Py_None);
	outcome = answer_object(state, model_id, user, &ending->reply);
	if (outcome != NULL)
		return Py_BuildValue("(NN)", status, outcome);
	Py_DECREF(status);
	return NULL;
}

PyObject *task_answer(struct ext_state *state, bool is_fetch,
	const struct rgov_task_id *id, PyObject *model_id, PyObject *user,
	const struct ending *ending)
{
	PyObject *status;

	if (ending->task.answer != RGOV_R_OK)
		return answer_raise_object(
			error_of(state, id, model_id, user, &ending->task));
	status = status_of(state, &ending->task);
	if (status == NULL || !is_fetch)
		return status;
	return with_outcome(state, model_id, user, ending, status);
}

/* ------------------------------------------------------------ tables */

static const char *const priorities[] = {[RGOV_INTERACTIVE] = "interactive",
	[RGOV_NORMAL] = "normal",
	[RGOV_BATCH] = "batch"};

/* In the order of rgov.status.TaskRow's maker. */
static PyObject *row_of(const struct rgov_task_row *row)
{
	return Py_BuildValue("(NisisiIIddddNNN)", id_text(&row->id),
		(int)row->state, rgov_result_name(row->result),
		row->http_status,
		row->priority <= RGOV_BATCH ? priorities[row->priority] : "",
		row->has_reply, (unsigned)row->uid, (unsigned)row->runs,
		seconds_of(row->submitted_ns), seconds_of(row->started_ns),
		seconds_of(row->ended_ns), seconds_of(row->deadline_ns),
		answer_text(row->user), answer_text(row->model),
		answer_text(row->key));
}

static PyObject *event_of(const struct rgov_task_event *event)
{
	return Py_BuildValue("(dNN)", seconds_of(event->at_ns),
		answer_text(event->what), answer_text(event->detail));
}

/* Takes the reference to the item.  The list, or NULL: without it. */
static PyObject *append(PyObject *list, PyObject *item)
{
	int rc = item == NULL ? -1 : PyList_Append(list, item);

	Py_XDECREF(item);
	if (rc == 0)
		return list;
	Py_DECREF(list);
	return NULL;
}

/* What is asked for, and the table that came. */
struct look {
	struct rgov_task_filter filter;
	struct rgov_task_id id; /* a history's; of a list: older than it */
	struct rgov_task_row *rows;
	struct rgov_task_event *events;
};

typedef int (*look_function)(struct rgov *gov, struct look *look);

static int look_for_rows(struct rgov *gov, struct look *look)
{
	return rgov_task_list(gov, &look->filter, &look->rows);
}

static int look_for_events(struct rgov *gov, struct look *look)
{
	return rgov_task_history(gov, &look->id, &look->events);
}

static int raise_failure(
	struct ext_state *state, int error, const struct look *look)
{
	struct rgov_task task = {.answer = RGOV_R_OK};
	PyObject *none;

	if (error == -ENOENT)
		task.answer = RGOV_R_NO_TASK;
	else if (error == -EPERM)
		task.answer = RGOV_R_NOT_YOURS;
	else if (error == -EIO)
		task.answer = RGOV_R_STORE_FAILED;
	if (task.answer == RGOV_R_OK) {
		(void)answer_raise(state, error, NULL, NULL);
		return -1;
	}
	(void)PyOS_snprintf(
		task.message, sizeof(task.message), "%s", rgov_why());
	none = answer_text("");
	if (none != NULL)
		(void)answer_raise_object(
			error_of(state, &look->id, none, none, &task));
	Py_XDECREF(none);
	return -1;
}

/* Looks for rgovd in slices, until the connect timeout.  The number of entries,
 * or -1 with an exception set. */
static int look_in_slices(struct handle_object *handle, struct rgov *gov,
	look_function look_once, struct look *look)
{
	struct ext_state *state = ext_state_of((PyObject *)handle);
	double until_s = 0;
	PyThreadState *thread;
	int rc;

	for (;;) {
		thread = PyEval_SaveThread();
		rc = look_once(gov, look);
		PyEval_RestoreThread(thread);
		if (rc >= 0)
			return rc;
		if (until_s == 0)
			until_s = exchange_now_s() - WAIT_SLICE_MS * 1e-3 +
				  handle->connect_timeout_s;
		if (rc != -EINTR &&
			(rc != -ECONNREFUSED || exchange_now_s() >= until_s))
			return raise_failure(state, rc, look);
		if (exchange_check(handle) < 0)
			return -1;
	}
}

static PyObject *list_of(const struct look *look, int n)
{
	PyObject *list = PyList_New(0);

	for (int i = 0; list != NULL && i < n; i++)
		list = append(list, look->rows != NULL
					    ? row_of(&look->rows[i])
					    : event_of(&look->events[i]));
	return list;
}

static PyObject *look_up(
	PyObject *self, look_function look_once, struct look *look)
{
	struct handle_object *handle = (struct handle_object *)self;
	PyObject *list = NULL;
	struct rgov *gov;
	pid_t pid;
	int n;

	gov = handle_claim(handle, &pid);
	if (gov == NULL)
		return NULL;
	n = look_in_slices(handle, gov, look_once, look);
	if (n >= 0)
		list = list_of(look, n);
	free(look->rows);
	free(look->events);
	handle_release(handle, pid);
	return list;
}

PyObject *task_list(PyObject *self, PyObject *args)
{
	struct look look = {.filter.size = sizeof(look.filter)};
	PyObject *older_than;

	if (!PyArg_ParseTuple(args, "zzIIO", &look.filter.user,
		    &look.filter.text, &look.filter.states, &look.filter.most,
		    &older_than))
		return NULL;
	if (older_than != Py_None) {
		if (ask_parse_id(older_than, &look.id) < 0)
			return NULL;
		look.filter.older_than = &look.id;
	}
	return look_up(self, look_for_rows, &look);
}

PyObject *task_history(PyObject *self, PyObject *args)
{
	struct look look = {0};
	PyObject *id;

	if (!PyArg_ParseTuple(args, "O", &id) || ask_parse_id(id, &look.id) < 0)
		return NULL;
	return look_up(self, look_for_events, &look);
}
