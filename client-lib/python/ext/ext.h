/*
 * What the files of the extension rgov._rgov share.  The extension gives Python
 * librgov's handle and tickets, with the GIL released wherever a call can
 * sleep; everything that needs neither (defaults, JSON, event loops) is Python.
 *
 * Limited API of 3.10: no global variable, all types are made from specs, what
 * a module needs is in its struct ext_state.
 */
#ifndef PYTHON_EXT_H
#define PYTHON_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "client-lib/rgov.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	/* A signal's handler, and close(), must be heard within this time,
	 * while a request waits and while rgovd is being looked for. */
	WAIT_SLICE_MS = 200,
	/* Beside those of enum rgov_operation: a permit; added to one of them,
	 * that it is a task; added to a verb of enum rgov_task_verb, a question
	 * about one. */
	ASK_PERMIT = 2,
	ASK_TASK = 16,
	ASK_QUESTION = 32,
};

/* What dispatch() says. */
enum { DISPATCHED = 0, DISPATCH_AWAY = 1, DISPATCH_LOST = 2 };

struct ext_state {
	PyObject *handle_type;
	PyObject *ticket_type;
	PyObject *reply_class;    /* rgov.reply.Reply */
	PyObject *usage_class;    /* rgov.reply.Usage */
	PyObject *status_of_task; /* rgov.status._of_task */
	PyObject *error_of_reply; /* rgov.errors._from_reply */
	PyObject *error_of_task;  /* rgov.errors._from_task_answer */
	PyObject *error_of_errno; /* rgov.errors._from_errno */
	PyObject *base_error;     /* rgov.errors.Error */
	PyObject *config_error;   /* rgov.errors.ConfigError */
	PyObject *fork_error;     /* rgov.errors.ForkError */
	PyObject *permit_lost;    /* rgov.errors.PermitLost */
};

/* The state of the module that made the type of this object. */
struct ext_state *ext_state_of(PyObject *object);

/* ----------------------------------------------------------- handle.c */

/*
 * One struct rgov.  It is closed when close() was called and nobody is inside a
 * call any more; all fields are guarded by the GIL.
 */
struct handle_object {
	PyObject_HEAD struct rgov *gov; /* NULL: closed */
	unsigned users;                 /* calls that use gov at this moment */
	bool closing;
	pid_t pid; /* whose users are counted: after a fork they are not ours */
	double connect_timeout_s; /* how long rgovd is looked for */
};

extern PyType_Spec handle_spec;

/* Begins to use the handle; NULL: it is closed, an exception is set.  Each
 * success is ended by handle_release() with the same *ret_pid. */
struct rgov *handle_claim(struct handle_object *handle, pid_t *ret_pid);
void handle_release(struct handle_object *handle, pid_t pid);

/* -------------------------------------------------------------- ask.c */

enum ask_kind { ASKS_CALL, ASKS_PERMIT, ASKS_TASK, ASKS_QUESTION };

/* A request made of Python's arguments, which it borrows from. */
struct ask {
	enum ask_kind kind;
	struct rgov_request request;   /* of a question its timeout and flags */
	struct rgov_task_options task; /* of a task */
	struct rgov_task_id id;        /* of a question, as is the verb */
	enum rgov_task_verb verb;
	PyObject *model_id,
		*user; /* borrowed str, for messages and the reply */
};

/*
 * (operation, model_id, body, user, priority, timeout, headers, flags,
 *  input_tokens, output_tokens), of a task also (task_timeout, key, callback);
 * of a question (operation, id, timeout, flags, model_id, user): as _rgov.pyi
 * says.  0, or -1 with an exception set.  The pointers live as long as the
 * arguments do.
 */
int ask_parse(struct ext_state *state, PyObject *const *args, Py_ssize_t n_args,
	struct ask *ret_ask);

static inline bool ask_is_fetch(const struct ask *ask)
{
	return ask->kind == ASKS_QUESTION && ask->verb == RGOV_TASK_FETCH;
}

/* The 16 bytes of a task's id.  0, or -1 with an exception set. */
int ask_parse_id(PyObject *object, struct rgov_task_id *ret_id);

/* How a request of any kind ended; begun with ending_init(). */
struct ending {
	struct rgov_reply reply;
	struct rgov_task task; /* of a task and a question */
};

void ending_init(struct ending *ending);
/* Waits as rgov_wait() does, for a ticket of that kind. */
int ending_wait(struct rgov *gov, enum ask_kind kind,
	const struct rgov_ticket *ticket, uint64_t timeout_ms,
	struct ending *ret_ending);

/* ----------------------------------------------------------- ticket.c */

/* A request that is out, or a permit that is held. */
struct ticket_object {
	PyObject_HEAD struct handle_object *handle; /* owned */
	struct rgov_ticket ticket;
	PyObject *model_id, *user; /* owned str */
	/* Of a granted permit, in rgovd's queue; waits: owned, NULL: none. */
	double wait_s, predicted_s;
	PyObject *waits;
	unsigned position;
	pid_t pid; /* a child's finalizer must do nothing */
	enum { TICKET_OUT, TICKET_HELD, TICKET_ENDED } state;
	enum ask_kind kind;
	bool is_fetch; /* of a question, as is the id */
	bool is_used;  /* its holder may have made the call */
	struct rgov_task_id id;
};

extern PyType_Spec ticket_spec;

/* A ticket object for a request that is out (or a permit that is held); NULL
 * with an exception set, and then the request is still the caller's. */
PyObject *ticket_new(struct ext_state *state, struct handle_object *handle,
	const struct ask *ask, const struct rgov_ticket *ticket);

/* The permit was granted, as the reply says.  Cannot fail: for want of memory
 * it says nothing of what it waited for. */
void ticket_hold(PyObject *ticket, const struct rgov_reply *reply);

/* --------------------------------------------------------- exchange.c */

/* Shall a wait go on?  0, or -1 with an exception set: a handler raised, or the
 * handle was closed by another thread. */
int exchange_check(struct handle_object *handle);
/* CLOCK_MONOTONIC. */
double exchange_now_s(void);

/* Handle.call() and Handle.submit(), as _rgov.pyi says; METH_FASTCALL. */
PyObject *exchange_call(
	PyObject *self, PyObject *const *args, Py_ssize_t n_args);
PyObject *exchange_submit(
	PyObject *self, PyObject *const *args, Py_ssize_t n_args);

/* ----------------------------------------------------------- answer.c */

/* A success as a Reply; anything else is raised (NULL).  Does not end reply. */
PyObject *answer_make(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply);

/* The same, but the exception is what is returned.  NULL: it could not be made.
 */
PyObject *answer_object(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply);

/* For all who make objects of librgov's answers.  call() takes the tuple. */
PyObject *answer_call(PyObject *callable, PyObject *arguments);
PyObject *answer_text(const char *text);
PyObject *answer_usage(struct ext_state *state, int64_t input_tokens,
	int64_t output_tokens, int64_t cache_read_tokens,
	int64_t cache_write_tokens);
/* Takes the reference; raises the exception that was made, if one was. */
void *answer_raise_object(PyObject *error);

/* What it waited for: name to seconds, only what is above 0, so mostly empty.
 */
PyObject *answer_waits(const struct rgov_reply *reply);

/* Raises what librgov's -error means (model_id NULL: of no request); always
 * NULL.  Call it before anything else on this thread can call librgov: it asks
 * rgov_why(). */
void *answer_raise(
	struct ext_state *state, int error, PyObject *model_id, PyObject *user);

/* The same in words of our own. */
void *answer_raise_words(struct ext_state *state, int error, const char *words);

/* ------------------------------------------------------------- task.c */

/* About the task of that id (of a new one: zero), a TaskStatus; for a fetch a
 * pair of it and what answer_object() makes of the end, or None before the end.
 * A question that was refused is raised. */
PyObject *task_answer(struct ext_state *state, bool is_fetch,
	const struct rgov_task_id *id, PyObject *model_id, PyObject *user,
	const struct ending *ending);

/* Handle.task_list() and Handle.task_history(), as _rgov.pyi says. */
PyObject *task_list(PyObject *self, PyObject *args);
PyObject *task_history(PyObject *self, PyObject *args);

#endif
