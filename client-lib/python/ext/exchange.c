/*
 * One request on its way: submit, wait, and what is made of the end.
 *
 * A wait is cut into slices with the GIL released.  Between two slices, and
 * once more when the end has come, signals are looked at while the ticket is
 * still in hand: whatever a handler raises, the request is given up, or the
 * granted permit is returned, before the exception leaves.
 */
#include "client-lib/python/ext/ext.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

/* One exchange on its way through submit and wait. */
struct exchange {
	struct handle_object *handle;
	struct ext_state *state;
	struct rgov *gov;
	pid_t pid;
	struct ask ask;
	struct rgov_ticket ticket;
	struct ending ending;
};

void ending_init(struct ending *ending)
{
	*ending = (struct ending){.reply.size = sizeof(ending->reply),
		.task.size = sizeof(ending->task)};
}

int ending_wait(struct rgov *gov, enum ask_kind kind,
	const struct rgov_ticket *ticket, uint64_t timeout_ms,
	struct ending *ret_ending)
{
	if (kind == ASKS_CALL || kind == ASKS_PERMIT)
		return rgov_wait(gov, ticket, timeout_ms, &ret_ending->reply);
	return rgov_task_answer(
		gov, ticket, timeout_ms, &ret_ending->task, &ret_ending->reply);
}

double exchange_now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int exchange_check(struct handle_object *handle)
{
	if (PyErr_CheckSignals() < 0)
		return -1;
	if (!handle->closing)
		return 0;
	PyErr_SetString(ext_state_of((PyObject *)handle)->base_error,
		"this governor was closed while the request was out");
	return -1;
}

static int raise_failure(const struct exchange *exchange, int rc)
{
	if (rc == -ESTALE && getpid() != exchange->pid)
		PyErr_SetString(exchange->state->fork_error,
			"the process forked while this request was out: it "
			"stays the parent's");
	else
		(void)answer_raise(exchange->state, rc, exchange->ask.model_id,
			exchange->ask.user);
	return -1;
}

static int submit_once(struct exchange *exchange)
{
	const struct ask *ask = &exchange->ask;

	switch (ask->kind) {
	case ASKS_PERMIT:
		return rgov_submit_permit(
			exchange->gov, &ask->request, &exchange->ticket);
	case ASKS_TASK:
		return rgov_task_ask_submit(exchange->gov, &ask->request,
			&ask->task, &exchange->ticket);
	case ASKS_QUESTION:
		return rgov_task_ask(exchange->gov, ask->verb, &ask->id,
			ask->request.timeout_ms, ask->request.flags,
			&exchange->ticket);
	case ASKS_CALL:
		break;
	}
	return rgov_submit(exchange->gov, &ask->request, &exchange->ticket);
}

/* Without the GIL: submits, and begins to wait in the same breath, since most
 * answers of a busy process come before the first slice is over. */
static int submit_and_look(
	struct exchange *exchange, uint64_t wait_ms, bool *ret_out)
{
	int rc = submit_once(exchange);

	*ret_out = rc == 0;
	if (rc == 0 && wait_ms > 0)
		rc = ending_wait(exchange->gov, exchange->ask.kind,
			&exchange->ticket, wait_ms, &exchange->ending);
	return rc;
}

/*
 * Submits, looking for rgovd in slices until the connect timeout, and waits for
 * wait_ms (0: not at all).  0: the request is out, *ret_rc is what the wait
 * said. -1: it is not, an exception is set.
 */
static int submit(struct exchange *exchange, uint64_t wait_ms, int *ret_rc)
{
	PyThreadState *thread;
	double until_s = 0;
	bool out;
	int rc;

	for (;;) {
		thread = PyEval_SaveThread();
		rc = submit_and_look(exchange, wait_ms, &out);
		PyEval_RestoreThread(thread);
		if (out) {
			*ret_rc = rc;
			return 0;
		}
		if (until_s == 0)
			until_s = exchange_now_s() - WAIT_SLICE_MS * 1e-3 +
				  exchange->handle->connect_timeout_s;
		if (rc != -ECONNREFUSED || exchange_now_s() >= until_s)
			return raise_failure(exchange, rc);
		if (exchange_check(exchange->handle) < 0)
			return -1;
	}
}

/* Whatever came, somebody raised: nothing may stay taken.  A ticket that is
 * used up already is no matter. */
static void give_up(struct exchange *exchange)
{
	rgov_abandon(exchange->gov, &exchange->ticket);
	rgov_reply_fini(&exchange->ending.reply);
}

/* 0: the reply is there, or the permit is held.  -1: an exception is set, and
 * nothing is left of the request. */
static int submit_and_wait(struct exchange *exchange)
{
	PyThreadState *thread;
	int rc;

	if (submit(exchange, WAIT_SLICE_MS, &rc) < 0)
		return -1;
	while (rc == -EAGAIN || rc == -EINTR) {
		if (exchange_check(exchange->handle) < 0) {
			give_up(exchange);
			return -1;
		}
		thread = PyEval_SaveThread();
		rc = ending_wait(exchange->gov, exchange->ask.kind,
			&exchange->ticket, WAIT_SLICE_MS, &exchange->ending);
		PyEval_RestoreThread(thread);
	}
	if (rc < 0) {
		(void)raise_failure(exchange, rc);
		give_up(exchange);
		return -1;
	}
	/* The slot is still ours to give back: later it would be too late. */
	if (PyErr_CheckSignals() < 0) {
		give_up(exchange);
		return -1;
	}
	return 0;
}

static int exchange_begin(PyObject *self, PyObject *const *args,
	Py_ssize_t n_args, struct exchange *ret_exchange)
{
	struct exchange *exchange = ret_exchange;

	*exchange = (struct exchange){.handle = (struct handle_object *)self,
		.state = ext_state_of(self)};
	ending_init(&exchange->ending);
	if (ask_parse(exchange->state, args, n_args, &exchange->ask) < 0)
		return -1;
	exchange->gov = handle_claim(exchange->handle, &exchange->pid);
	return exchange->gov == NULL ? -1 : 0;
}

static PyObject *ticket_of_exchange(struct exchange *exchange, bool is_held)
{
	PyObject *ticket = ticket_new(exchange->state, exchange->handle,
		&exchange->ask, &exchange->ticket);

	if (ticket == NULL)
		give_up(exchange);
	else if (is_held)
		ticket_hold(ticket, &exchange->ending.reply);
	return ticket;
}

static PyObject *answer_of_exchange(struct exchange *exchange)
{
	const struct ask *ask = &exchange->ask;

	if (ask->kind == ASKS_TASK || ask->kind == ASKS_QUESTION)
		return task_answer(exchange->state, ask_is_fetch(ask), &ask->id,
			ask->model_id, ask->user, &exchange->ending);
	if (ask->kind == ASKS_PERMIT &&
		exchange->ending.reply.result == RGOV_R_OK)
		return ticket_of_exchange(exchange, true);
	return answer_make(exchange->state, ask->model_id, ask->user,
		&exchange->ending.reply);
}

PyObject *exchange_call(
	PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
	struct exchange exchange;
	PyObject *result = NULL;

	if (exchange_begin(self, args, n_args, &exchange) < 0)
		return NULL;
	if (submit_and_wait(&exchange) == 0) {
		result = answer_of_exchange(&exchange);
		rgov_reply_fini(&exchange.ending.reply);
	}
	handle_release(exchange.handle, exchange.pid);
	return result;
}

PyObject *exchange_submit(
	PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
	struct exchange exchange;
	PyObject *result = NULL;
	int rc;

	if (exchange_begin(self, args, n_args, &exchange) < 0)
		return NULL;
	if (submit(&exchange, 0, &rc) == 0)
		result = ticket_of_exchange(&exchange, false);
	handle_release(exchange.handle, exchange.pid);
	return result;
}
