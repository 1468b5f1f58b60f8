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
	struct rgov_reply reply;
};

static double now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Shall the wait go on?  0, or -1 with an exception set: a handler raised, or
 * the handle was closed by another thread. */
static int check_waiting(const struct exchange *exchange)
{
	if (PyErr_CheckSignals() < 0)
		return -1;
	if (!exchange->handle->closing)
		return 0;
	PyErr_SetString(exchange->state->base_error,
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
	return exchange->ask.is_permit
		       ? rgov_submit_permit(exchange->gov,
				 &exchange->ask.request, &exchange->ticket)
		       : rgov_submit(exchange->gov, &exchange->ask.request,
				 &exchange->ticket);
}

/* Without the GIL: submits, and begins to wait in the same breath, since most
 * answers of a busy process come before the first slice is over. */
static int submit_and_look(
	struct exchange *exchange, uint64_t wait_ms, bool *ret_out)
{
	int rc = submit_once(exchange);

	*ret_out = rc == 0;
	if (rc == 0 && wait_ms > 0)
		rc = rgov_wait(exchange->gov, &exchange->ticket, wait_ms,
			&exchange->reply);
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
			until_s = now_s() - WAIT_SLICE_MS * 1e-3 +
				  exchange->handle->connect_timeout_s;
		if (rc != -ECONNREFUSED || now_s() >= until_s)
			return raise_failure(exchange, rc);
		if (check_waiting(exchange) < 0)
			return -1;
	}
}

/* Whatever came, somebody raised: nothing may stay taken.  A ticket that is
 * used up already is no matter. */
static void give_up(struct exchange *exchange)
{
	rgov_abandon(exchange->gov, &exchange->ticket);
	rgov_reply_fini(&exchange->reply);
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
		if (check_waiting(exchange) < 0) {
			give_up(exchange);
			return -1;
		}
		thread = PyEval_SaveThread();
		rc = rgov_wait(exchange->gov, &exchange->ticket, WAIT_SLICE_MS,
			&exchange->reply);
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
		.state = ext_state_of(self),
		.reply.size = sizeof(exchange->reply)};
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
		ticket_hold(ticket, &exchange->reply);
	return ticket;
}

PyObject *exchange_call(
	PyObject *self, PyObject *const *args, Py_ssize_t n_args)
{
	struct exchange exchange;
	PyObject *result = NULL;

	if (exchange_begin(self, args, n_args, &exchange) < 0)
		return NULL;
	if (submit_and_wait(&exchange) == 0) {
		if (exchange.ask.is_permit &&
			exchange.reply.result == RGOV_R_OK)
			result = ticket_of_exchange(&exchange, true);
		else
			result = answer_make(exchange.state,
				exchange.ask.model_id, exchange.ask.user,
				&exchange.reply);
		rgov_reply_fini(&exchange.reply);
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
