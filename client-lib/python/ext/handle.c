/*
 * The handle: who may use it until when, what event loops need of it, and what
 * there is to look at.  Requests are in exchange.c.
 */
#include "client-lib/python/ext/ext.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct handle_object *handle_of(PyObject *self)
{
	return (struct handle_object *)self;
}

/* ---------------------------------------------------- beginning and end */

struct rgov *handle_claim(struct handle_object *handle, pid_t *ret_pid)
{
	pid_t pid = getpid();

	if (handle->closing) {
		PyErr_SetString(ext_state_of((PyObject *)handle)->base_error,
			"this governor was closed");
		return NULL;
	}
	/* Threads that were inside when the parent forked are not here. */
	if (handle->pid != pid) {
		handle->pid = pid;
		handle->users = 0;
	}
	handle->users++;
	*ret_pid = pid;
	return handle->gov;
}

static void close_unused(struct handle_object *handle)
{
	struct rgov *gov = handle->gov;
	PyThreadState *thread;

	if (!handle->closing || handle->users > 0 || gov == NULL)
		return;
	handle->gov = NULL;
	thread = PyEval_SaveThread();
	rgov_close(gov);
	PyEval_RestoreThread(thread);
}

void handle_release(struct handle_object *handle, pid_t pid)
{
	/* A signal's handler can fork inside the call: then it began elsewhere.
	 */
	if (handle->pid == pid)
		handle->users--;
	close_unused(handle);
}

PyDoc_STRVAR(close_doc,
	"close()\n--\n\n"
	"End the session: what is out is dropped, permits are returned.  Calls "
	"that wait in other threads raise within 0.2 s.  Closing twice is "
	"fine.");

static PyObject *handle_close(PyObject *self, PyObject *unused)
{
	struct handle_object *handle = handle_of(self);

	(void)unused;
	if (handle->pid != getpid())
		handle->users = 0;
	handle->closing = true;
	close_unused(handle);
	Py_RETURN_NONE;
}

static void handle_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	/* Every call holds a reference: nobody is inside. */
	rgov_close(handle_of(self)->gov);
	release(self);
	Py_DECREF(type);
}

PyDoc_STRVAR(handle_doc,
	"Handle(name, socket, app, connect_timeout, slots)\n--\n\n"
	"One registration of this process with rgovd, made at the first "
	"request.  "
	"None, and 0 slots, mean librgov's default; connect_timeout is in "
	"seconds.  ConfigError: a name or a number is wrong.");

/* Opening opens nothing yet: a wrong option and a lack of memory are all that
 * it can find. */
static PyObject *handle_new(
	PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct rgov_options options = {
		.size = sizeof(options), .connect_timeout_ms = WAIT_SLICE_MS};
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct handle_object *handle;
	double connect_s;
	int rc;

	if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
		PyErr_SetString(PyExc_TypeError, "Handle() takes no keywords");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "zzzdI", &options.name,
		    &options.socket_path, &options.app, &connect_s,
		    &options.slots))
		return NULL;
	handle = (struct handle_object *)alloc(type, 0);
	if (handle == NULL)
		return NULL;
	handle->pid = getpid();
	handle->connect_timeout_s = connect_s;
	rc = rgov_open(&options, &handle->gov);
	if (rc == 0)
		return (PyObject *)handle;
	if (rc == -ENOMEM)
		(void)PyErr_NoMemory();
	else
		PyErr_SetString(ext_state_of((PyObject *)handle)->config_error,
			rgov_why());
	Py_DECREF(handle);
	return NULL;
}

/* ---------------------------------------------------- requests */

PyDoc_STRVAR(call_doc,
	"call(operation, model_id, body, user, priority, timeout, headers, "
	"flags, "
	"input_tokens, output_tokens)\n--\n\n"
	"Submit, and wait for the end with the GIL released.  A Reply, or, for "
	"the operation PERMIT, a Ticket that is held.  Refusals and upstream "
	"errors are raised.  Of a task and a question about one: its "
	"TaskStatus; of TASK_FETCH a pair of that and the Reply, the exception "
	"that the task's failure is, or None before its end.  Signal handlers "
	"run within 0.2 s; if one raises, the request is given up, or the "
	"permit returned, first.");

PyDoc_STRVAR(submit_doc,
	"submit(operation, model_id, body, user, priority, timeout, headers, "
	"flags, input_tokens, output_tokens)\n--\n\n"
	"Hand the request in and return its Ticket.  With the flag RING the "
	"descriptor of fd() becomes readable at its end.  Can take the connect "
	"timeout when rgovd is away.");

PyDoc_STRVAR(task_list_doc,
	"task_list(user, text, states, most, older_than)\n--\n\n"
	"A tuple of each task, the newest first, as TaskRow takes it.  None, "
	"and 0, mean any; states: 1 << state each.  Waits with the GIL "
	"released.");

PyDoc_STRVAR(task_history_doc,
	"task_history(id)\n--\n\n"
	"A tuple (at, what, detail) of each event, the oldest first.");

/* ---------------------------------------------------- event loops */

PyDoc_STRVAR(fd_doc, "fd()\n--\n\n"
		     "The descriptor to watch for reading; -1: no session now, "
		     "submit first.");

static PyObject *handle_fd(PyObject *self, PyObject *unused)
{
	struct rgov *gov;
	pid_t pid;
	int fd;

	(void)unused;
	gov = handle_claim(handle_of(self), &pid);
	if (gov == NULL)
		return NULL;
	fd = rgov_fd(gov);
	handle_release(handle_of(self), pid);
	return PyLong_FromLong(fd < 0 ? -1 : fd);
}

PyDoc_STRVAR(dispatch_doc,
	"dispatch()\n--\n\n"
	"Drain the descriptor; then poll() all tickets.  Returns DISPATCHED, "
	"AWAY (rgovd is gone: stop watching, call again a little later) or "
	"LOST "
	"(it came back and does not know this session: all tickets are void).  "
	"Look at fd() again after it.");

static PyObject *handle_dispatch(PyObject *self, PyObject *unused)
{
	PyThreadState *thread;
	struct rgov *gov;
	pid_t pid;
	int rc;

	(void)unused;
	gov = handle_claim(handle_of(self), &pid);
	if (gov == NULL)
		return NULL;
	thread = PyEval_SaveThread();
	rc = rgov_dispatch(gov);
	PyEval_RestoreThread(thread);
	handle_release(handle_of(self), pid);
	if (rc >= 0)
		return PyLong_FromLong(DISPATCHED);
	return PyLong_FromLong(rc == -ESTALE || rc == -ENOTCONN
				       ? DISPATCH_LOST
				       : DISPATCH_AWAY);
}

/* ---------------------------------------------------- to look at */

PyDoc_STRVAR(stats_doc,
	"stats()\n--\n\n"
	"The board's figures as a dict; works without a session and while "
	"rgovd "
	"hangs.  Unavailable: no governor of this name has run since boot.");

static PyObject *stats_dict(const struct rgov_stats *stats)
{
	return Py_BuildValue(
		"{s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:d,s:d,s:K,s:K,s:K,s:K,s:I,s:I,"
		"s:I,s:I,s:i,s:d,s:N,s:s}",
		"total_requests", stats->total_requests, "successful_requests",
		stats->successful_requests, "failed_requests",
		stats->failed_requests, "throttled_requests",
		stats->throttled_requests, "active_requests",
		stats->active_requests, "queue_size", stats->queue_size,
		"active_users", stats->active_users, "avg_wait_time",
		stats->avg_wait_time_s, "avg_execution_time",
		stats->avg_execution_time_s, "refused_requests",
		stats->refused_requests, "cancelled_requests",
		stats->cancelled_requests, "retries", stats->retries,
		"permits_granted", stats->permits_granted,
		"max_concurrent_requests", stats->max_concurrent_requests,
		"requests_per_minute", stats->requests_per_minute,
		"max_requests_per_user", stats->max_requests_per_user,
		"sessions", stats->sessions, "rgovd_pid", stats->rgovd_pid,
		"heartbeat_age", stats->heartbeat_age_s, "draining",
		PyBool_FromLong(stats->draining), "preset", stats->preset);
}

static PyObject *handle_stats(PyObject *self, PyObject *unused)
{
	struct rgov_stats stats = {.size = sizeof(stats)};
	PyThreadState *thread;
	PyObject *result;
	struct rgov *gov;
	pid_t pid;
	int rc;

	(void)unused;
	gov = handle_claim(handle_of(self), &pid);
	if (gov == NULL)
		return NULL;
	thread = PyEval_SaveThread();
	rc = rgov_stats(gov, &stats);
	PyEval_RestoreThread(thread);
	result = rc == 0 ? stats_dict(&stats)
			 : answer_raise(ext_state_of(self), rc, NULL, NULL);
	handle_release(handle_of(self), pid);
	return result;
}

PyDoc_STRVAR(waiting_doc,
	"waiting(max_age)\n--\n\n"
	"The requests of this handle that are out, one tuple each: state, "
	"user, model_id, request, position, reason, reason_text, "
	"predicted_wait, reason_ends_in, age.  rgovd is asked where what it "
	"said is older than max_age seconds; below 0: never.");

static PyObject *seconds_or_none(uint64_t ns)
{
	if (ns == UINT64_MAX)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)ns * 1e-9);
}

static PyObject *row_of(
	const struct rgov_outstanding *out, const struct rgov_progress *found)
{
	static const char *const states[] = {[RGOV_S_SUBMITTED] = "submitted",
		[RGOV_S_QUEUED] = "queued",
		[RGOV_S_SENT] = "sent",
		[RGOV_S_ENDED] = "ended"};

	if (found->request == 0)
		return Py_BuildValue("(sssOOOOOOO)", states[found->state],
			out->user, out->model_id, Py_None, Py_None, Py_None,
			Py_None, Py_None, Py_None, Py_None);
	return Py_BuildValue("(sssKIssNNN)", states[found->state], out->user,
		out->model_id, (unsigned long long)found->request,
		(unsigned)found->position, rgov_reason_name(found->reason),
		rgov_reason_text(found->reason),
		seconds_or_none(found->predicted_ns),
		seconds_or_none(found->until_ns),
		seconds_or_none(found->age_ns));
}

/* 0, or -1 with an exception set. */
static int add_row(struct rgov *gov, const struct rgov_outstanding *out,
	uint64_t max_age_ms, PyObject *list)
{
	struct rgov_progress found = {.size = sizeof(found)};
	PyThreadState *thread = PyEval_SaveThread();
	int rc = rgov_progress(gov, &out->ticket, max_age_ms, &found);
	PyObject *row;

	PyEval_RestoreThread(thread);
	if (rc < 0)
		return 0; /* it has ended meanwhile */
	row = row_of(out, &found);
	if (row == NULL)
		return -1;
	rc = PyList_Append(list, row);
	Py_DECREF(row);
	return rc;
}

static PyObject *handle_waiting(PyObject *self, PyObject *args)
{
	struct rgov_outstanding *out = NULL;
	PyObject *list = NULL;
	double max_age_s;
	struct rgov *gov;
	pid_t pid;
	int n;

	if (!PyArg_ParseTuple(args, "d", &max_age_s))
		return NULL;
	gov = handle_claim(handle_of(self), &pid);
	if (gov == NULL)
		return NULL;
	n = rgov_outstanding(gov, &out);
	if (n < 0)
		(void)answer_raise(ext_state_of(self), n, NULL, NULL);
	else
		list = PyList_New(0);
	for (int i = 0; list != NULL && i < n; i++)
		if (add_row(gov, &out[i],
			    max_age_s < 0 || max_age_s > 1e9
				    ? UINT64_MAX
				    : (uint64_t)(max_age_s * 1e3),
			    list) < 0)
			Py_CLEAR(list);
	free(out);
	handle_release(handle_of(self), pid);
	return list;
}

PyDoc_STRVAR(diagnose_doc,
	"diagnose()\n--\n\n"
	"This handle's own use of librgov since it was made, as a dict.");

static PyObject *handle_diagnose(PyObject *self, PyObject *unused)
{
	struct rgov_diagnostics found = {.size = sizeof(found)};
	struct rgov *gov;
	pid_t pid;

	(void)unused;
	gov = handle_claim(handle_of(self), &pid);
	if (gov == NULL)
		return NULL;
	(void)rgov_diagnose(gov, &found);
	handle_release(handle_of(self), pid);
	return Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:I,s:I}", "sleeps",
		found.sleeps, "found_by_slice", found.found_by_slice,
		"found_spinning", found.found_spinning, "bells_rung",
		found.bells_rung, "reconnects", found.reconnects, "slots",
		found.slots, "slots_taken", found.slots_taken);
}

/* ---------------------------------------------------- the type */

/* Through void (*)(void): the table's type does not know METH_FASTCALL. */
#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef handle_methods[] = {
	{"call", FASTCALL(exchange_call), METH_FASTCALL, call_doc},
	{"submit", FASTCALL(exchange_submit), METH_FASTCALL, submit_doc},
	{"fd", handle_fd, METH_NOARGS, fd_doc},
	{"dispatch", handle_dispatch, METH_NOARGS, dispatch_doc},
	{"stats", handle_stats, METH_NOARGS, stats_doc},
	{"waiting", handle_waiting, METH_VARARGS, waiting_doc},
	{"task_list", task_list, METH_VARARGS, task_list_doc},
	{"task_history", task_history, METH_VARARGS, task_history_doc},
	{"diagnose", handle_diagnose, METH_NOARGS, diagnose_doc},
	{"close", handle_close, METH_NOARGS, close_doc},
	{NULL, NULL, 0, NULL},
};

static PyType_Slot handle_slots[] = {
	{Py_tp_doc, (void *)(uintptr_t)handle_doc},
	{Py_tp_new, (void *)handle_new},
	{Py_tp_dealloc, (void *)handle_dealloc},
	{Py_tp_methods, handle_methods},
	{0, NULL},
};

PyType_Spec handle_spec = {
	.name = "rgov._rgov.Handle",
	.basicsize = sizeof(struct handle_object),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = handle_slots,
};
