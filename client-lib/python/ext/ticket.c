/*
 * A ticket: a request that is out, looked at by an event loop, or a permit that
 * is held.  Whoever lets go of one loses nothing: its finalizer gives the
 * request up, and returns a granted permit unused, without waiting for
 * anything.
 */
#include "client-lib/python/ext/ext.h"

#include <errno.h>
#include <unistd.h>

static struct ticket_object *ticket_of(PyObject *self)
{
	return (struct ticket_object *)self;
}

PyObject *ticket_new(struct ext_state *state, struct handle_object *handle,
	const struct ask *ask, const struct rgov_ticket *ticket)
{
	PyTypeObject *type = (PyTypeObject *)state->ticket_type;
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	PyObject *self = alloc(type, 0);
	struct ticket_object *new = ticket_of(self);

	if (self == NULL)
		return NULL;
	Py_INCREF(handle);
	Py_INCREF(ask->model_id);
	Py_INCREF(ask->user);
	new->handle = handle;
	new->model_id = ask->model_id;
	new->user = ask->user;
	new->ticket = *ticket;
	new->kind = ask->kind;
	new->is_fetch = ask_is_fetch(ask);
	new->id = ask->id;
	new->state = TICKET_OUT;
	new->pid = getpid();
	return self;
}

void ticket_hold(PyObject *self, const struct rgov_reply *reply)
{
	struct ticket_object *ticket = ticket_of(self);

	ticket->state = TICKET_HELD;
	ticket->wait_s = (double)reply->wait_ns * 1e-9;
	ticket->predicted_s = (double)reply->predicted_wait_ns * 1e-9;
	ticket->position = reply->queue_position;
	ticket->waits = answer_waits(reply);
	if (ticket->waits == NULL)
		PyErr_Clear();
}

/* Neither waits nor runs any Python code: good for a finalizer.  With the
 * handle closed rgovd has taken everything back already. */
static void let_go(struct ticket_object *self)
{
	struct rgov *gov;

	if (self->state == TICKET_ENDED)
		return;
	gov = self->handle->closing ? NULL : self->handle->gov;
	if (gov != NULL && self->pid == getpid()) {
		if (self->state == TICKET_HELD && self->is_used)
			(void)rgov_settle(
				gov, &self->ticket, RGOV_SETTLE_OK, -1, -1);
		else
			rgov_abandon(gov, &self->ticket);
	}
	self->state = TICKET_ENDED;
}

static void ticket_dealloc(PyObject *self)
{
	struct ticket_object *ticket = ticket_of(self);
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	let_go(ticket);
	Py_DECREF(ticket->handle);
	Py_DECREF(ticket->model_id);
	Py_DECREF(ticket->user);
	Py_XDECREF(ticket->waits);
	release(self);
	Py_DECREF(type);
}

/* 0, or -1 with ForkError set. */
static int check_process(struct ticket_object *self)
{
	if (self->pid == getpid())
		return 0;
	PyErr_Format(ext_state_of((PyObject *)self)->fork_error,
		"this %s belongs to process %d, and this is process %d: a "
		"child "
		"asks for its own",
		self->kind == ASKS_PERMIT ? "permit" : "request",
		(int)self->pid, (int)getpid());
	return -1;
}

/* What the end of the wait means: None, the ticket itself (a permit, granted),
 * a Reply, what task_answer() makes, or an exception. */
static PyObject *take_end(
	struct ticket_object *self, int rc, const struct ending *ending)
{
	struct ext_state *state = ext_state_of((PyObject *)self);

	if (rc == -EAGAIN || rc == -EINTR)
		Py_RETURN_NONE;
	if (rc < 0) {
		self->state = TICKET_ENDED;
		return answer_raise(state, rc, self->model_id, self->user);
	}
	if (self->kind == ASKS_PERMIT && ending->reply.result == RGOV_R_OK) {
		ticket_hold((PyObject *)self, &ending->reply);
		Py_INCREF(self);
		return (PyObject *)self;
	}
	self->state = TICKET_ENDED;
	if (self->kind == ASKS_TASK || self->kind == ASKS_QUESTION)
		return task_answer(state, self->is_fetch, &self->id,
			self->model_id, self->user, ending);
	return answer_make(state, self->model_id, self->user, &ending->reply);
}

PyDoc_STRVAR(poll_doc,
	"poll()\n--\n\n"
	"Look once, without waiting.  None: not yet.  A Reply: the answer of a "
	"call.  The ticket itself: the permit is granted and held.  Of a task "
	"what call() returns.  A refusal or an upstream error is raised.");

static PyObject *ticket_poll(PyObject *self, PyObject *unused)
{
	struct ticket_object *ticket = ticket_of(self);
	struct ending ending;
	PyObject *result;
	struct rgov *gov;
	pid_t pid;
	int rc;

	(void)unused;
	if (check_process(ticket) < 0)
		return NULL;
	if (ticket->state != TICKET_OUT) {
		PyErr_SetString(ext_state_of(self)->base_error,
			"this request has ended already");
		return NULL;
	}
	gov = handle_claim(ticket->handle, &pid);
	if (gov == NULL)
		return NULL;
	ending_init(&ending);
	/* With the GIL: it does not sleep, and an event loop that looks at a
	 * hundred tickets must not stand in the queue for the GIL each time. */
	rc = ending_wait(gov, ticket->kind, &ticket->ticket, 0, &ending);
	result = take_end(ticket, rc, &ending);
	rgov_reply_fini(&ending.reply);
	handle_release(ticket->handle, pid);
	return result;
}

PyDoc_STRVAR(use_doc,
	"use()\n--\n\n"
	"The permit is in the caller's hands: dropped from now on, it is "
	"settled "
	"as a call of unknown usage and not returned unused, since rgovd must "
	"not count too little.");

static PyObject *ticket_use(PyObject *self, PyObject *unused)
{
	(void)unused;
	ticket_of(self)->is_used = true;
	Py_RETURN_NONE;
}

PyDoc_STRVAR(abandon_doc,
	"abandon()\n--\n\n"
	"Give the request up, or the permit back.  Never blocks; does nothing "
	"when it has ended, and nothing in a forked child.");

static PyObject *ticket_abandon(PyObject *self, PyObject *unused)
{
	(void)unused;
	let_go(ticket_of(self));
	Py_RETURN_NONE;
}

PyDoc_STRVAR(settle_doc,
	"settle(how, input_tokens, output_tokens)\n--\n\n"
	"Give the permit back with what was used; -1: not known.  Never "
	"blocks.  "
	"PermitLost: it is not held any more.  ForkError: it is the parent's.");

static PyObject *ticket_settle(PyObject *self, PyObject *args)
{
	struct ticket_object *ticket = ticket_of(self);
	struct handle_object *handle = ticket->handle;
	long long input, output;
	int how, rc;

	if (!PyArg_ParseTuple(args, "iLL", &how, &input, &output))
		return NULL;
	if (check_process(ticket) < 0)
		return NULL;
	if (ticket->state != TICKET_HELD || handle->closing) {
		PyErr_SetString(ext_state_of(self)->permit_lost,
			handle->closing ? "the governor's handle was closed, "
					  "which gave the permit back"
					: "the permit is settled already");
		return NULL;
	}
	ticket->state = TICKET_ENDED;
	rc = rgov_settle(handle->gov, &ticket->ticket,
		(enum rgov_settlement)how, input, output);
	if (rc < 0) {
		PyErr_Format(ext_state_of(self)->permit_lost,
			"the permit is not held any more: %s",
			rgov_strerror(rc));
		return NULL;
	}
	Py_RETURN_NONE;
}

static PyObject *ticket_held(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(ticket_of(self)->state == TICKET_HELD);
}

static PyObject *ticket_wait_time(PyObject *self, void *unused)
{
	(void)unused;
	return PyFloat_FromDouble(ticket_of(self)->wait_s);
}

static PyObject *ticket_predicted_wait(PyObject *self, void *unused)
{
	(void)unused;
	return PyFloat_FromDouble(ticket_of(self)->predicted_s);
}

static PyObject *ticket_queue_position(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(ticket_of(self)->position);
}

static PyObject *ticket_waited_for(PyObject *self, void *unused)
{
	PyObject *waits = ticket_of(self)->waits;

	(void)unused;
	return waits != NULL ? PyDict_Copy(waits) : PyDict_New();
}

static PyMethodDef ticket_methods[] = {
	{"poll", ticket_poll, METH_NOARGS, poll_doc},
	{"use", ticket_use, METH_NOARGS, use_doc},
	{"abandon", ticket_abandon, METH_NOARGS, abandon_doc},
	{"settle", ticket_settle, METH_VARARGS, settle_doc},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef ticket_fields[] = {
	{"held", ticket_held, NULL, "True: a permit, granted and not settled.",
		NULL},
	{"wait_time", ticket_wait_time, NULL,
		"Seconds a granted permit waited in rgovd's queue.", NULL},
	{"waited_for", ticket_waited_for, NULL,
		"What it waited for, name to seconds.", NULL},
	{"queue_position", ticket_queue_position, NULL,
		"Its place in the queue when it came; 0: it could start.",
		NULL},
	{"predicted_wait", ticket_predicted_wait, NULL,
		"Seconds it was expected to wait when it came.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(ticket_doc, "A request that is out, or a permit that is held.  "
			 "Made by Handle.submit() "
			 "and Handle.call() only.");

static PyType_Slot ticket_slots[] = {
	{Py_tp_doc, (void *)(uintptr_t)ticket_doc},
	{Py_tp_dealloc, (void *)ticket_dealloc},
	{Py_tp_methods, ticket_methods},
	{Py_tp_getset, ticket_fields},
	{0, NULL},
};

PyType_Spec ticket_spec = {
	.name = "rgov._rgov.Ticket",
	.basicsize = sizeof(struct ticket_object),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = ticket_slots,
};
