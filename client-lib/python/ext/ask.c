/*
 * Python's arguments to what librgov takes.  Only shapes and conversions are
 * judged here; what a model id, user or header may contain is librgov's
 * business.
 */
#include "client-lib/python/ext/ext.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* How many arguments each kind has. */
enum { CALL_ARGS = 10, TASK_ARGS = 13, QUESTION_ARGS = 6 };

/* Deadlines are nanoseconds in 64 bits; nobody waits for thirty years. */
static const double TIMEOUT_MAX_S = 1e9;

/* The str's UTF-8, borrowed from it; a C string ends at a zero, so none may
 * hide what follows it. */
static int parse_text(struct ext_state *state, PyObject *object,
	const char *what, const char **ret_text)
{
	Py_ssize_t bytes;
	const char *text;
	char words[64];

	if (!PyUnicode_Check(object)) {
		PyErr_Format(PyExc_TypeError, "%s must be str, not %R", what,
			(PyObject *)Py_TYPE(object));
		return -1;
	}
	text = PyUnicode_AsUTF8AndSize(object, &bytes);
	if (text != NULL && strlen(text) == (size_t)bytes) {
		*ret_text = text;
		return 0;
	}
	if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	(void)PyOS_snprintf(words, sizeof(words), "%s has %s in it", what,
		text != NULL ? "a zero byte" : "a lone surrogate");
	(void)answer_raise_words(state, EINVAL, words);
	return -1;
}

/* bytes and str are lent as they are: both are immutable, so the loan stays
 * good while the GIL is released. */
static int parse_body(PyObject *object, struct rgov_request *request)
{
	Py_ssize_t bytes = 0;

	if (object == Py_None)
		return 0;
	if (PyBytes_Check(object)) {
		request->body = PyBytes_AsString(object);
		bytes = PyBytes_Size(object);
	} else if (PyUnicode_Check(object)) {
		request->body = PyUnicode_AsUTF8AndSize(object, &bytes);
	} else {
		PyErr_Format(PyExc_TypeError,
			"body must be bytes or str, not %R",
			(PyObject *)Py_TYPE(object));
	}
	if (request->body == NULL)
		return -1;
	request->body_bytes = (size_t)bytes;
	return 0;
}

/* Seconds; None: the default.  A deadline that has passed makes no request. */
static int parse_timeout(
	struct ext_state *state, PyObject *object, uint64_t *ret_ms)
{
	double seconds;

	*ret_ms = 0;
	if (object == Py_None)
		return 0;
	seconds = PyFloat_AsDouble(object);
	if (seconds == -1.0 && PyErr_Occurred() != NULL)
		return -1;
	if (isnan(seconds)) {
		(void)answer_raise_words(
			state, EINVAL, "timeout is not a number");
		return -1;
	}
	if (seconds <= 0) {
		(void)answer_raise_words(state, ETIMEDOUT,
			"timeout is not above 0 s: the deadline has passed");
		return -1;
	}
	if (seconds > TIMEOUT_MAX_S)
		seconds = TIMEOUT_MAX_S;
	*ret_ms = (uint64_t)ceil(seconds * 1000);
	return 0;
}

/* None or 0 and more; 0 means "not known". */
static int parse_tokens(
	struct ext_state *state, PyObject *object, uint64_t *ret_tokens)
{
	long long tokens = 0;

	if (object != Py_None)
		tokens = PyLong_AsLongLong(object);
	if (tokens == -1 && PyErr_Occurred() != NULL)
		return -1;
	if (tokens < 0) {
		(void)answer_raise_words(
			state, EINVAL, "a number of tokens is below 0");
		return -1;
	}
	*ret_tokens = (uint64_t)tokens;
	return 0;
}

static int parse_small(PyObject *object, int *ret_value)
{
	long value = PyLong_AsLong(object);

	if (value == -1 && PyErr_Occurred() != NULL)
		return -1;
	*ret_value = (int)value;
	return 0;
}

static int parse_numbers(
	struct ext_state *state, PyObject *const *args, struct ask *ask)
{
	int priority, flags;

	if (parse_small(args[4], &priority) < 0 ||
		parse_timeout(state, args[5], &ask->request.timeout_ms) < 0 ||
		parse_small(args[7], &flags) < 0 ||
		parse_tokens(state, args[8], &ask->request.input_tokens) < 0 ||
		parse_tokens(state, args[9], &ask->request.output_tokens) < 0)
		return -1;
	ask->request.priority = (enum rgov_priority)priority;
	ask->request.flags = (uint32_t)flags;
	return 0;
}

static int parse_call(
	struct ext_state *state, PyObject *const *args, struct ask *ask)
{
	ask->model_id = args[1];
	ask->user = args[3];
	if (parse_text(state, args[1], "model_id", &ask->request.model_id) <
			0 ||
		parse_body(args[2], &ask->request) < 0 ||
		parse_text(state, args[3], "user", &ask->request.user) < 0 ||
		(args[6] != Py_None && parse_text(state, args[6], "headers",
					       &ask->request.headers) < 0))
		return -1;
	return parse_numbers(state, args, ask);
}

static int parse_task(
	struct ext_state *state, PyObject *const *args, struct ask *ask)
{
	ask->task.size = sizeof(ask->task);
	if (parse_call(state, args, ask) < 0 ||
		parse_timeout(state, args[10], &ask->task.timeout_ms) < 0 ||
		(args[11] != Py_None && parse_text(state, args[11], "key",
						&ask->task.key) < 0) ||
		(args[12] != Py_None && parse_text(state, args[12], "callback",
						&ask->task.callback) < 0))
		return -1;
	return 0;
}

int ask_parse_id(PyObject *object, struct rgov_task_id *ret_id)
{
	const char *bytes = PyBytes_AsString(object);

	if (bytes == NULL)
		return -1;
	if (PyBytes_Size(object) != sizeof(ret_id->bytes)) {
		PyErr_SetString(PyExc_ValueError, "an id has 16 bytes");
		return -1;
	}
	memcpy(ret_id->bytes, bytes, sizeof(ret_id->bytes));
	return 0;
}

static int parse_question(
	struct ext_state *state, PyObject *const *args, struct ask *ask)
{
	const char *text;
	int flags;

	ask->model_id = args[4];
	ask->user = args[5];
	if (ask_parse_id(args[1], &ask->id) < 0 ||
		parse_timeout(state, args[2], &ask->request.timeout_ms) < 0 ||
		parse_small(args[3], &flags) < 0 ||
		parse_text(state, args[4], "model_id", &text) < 0 ||
		parse_text(state, args[5], "user", &text) < 0)
		return -1;
	ask->request.flags = (uint32_t)flags;
	return 0;
}

/* What an operation's number says.  The number of arguments it takes. */
static Py_ssize_t sort_out(int operation, struct ask *ask)
{
	if (operation == ASK_PERMIT) {
		ask->kind = ASKS_PERMIT;
		return CALL_ARGS;
	}
	if (operation & ASK_QUESTION) {
		ask->kind = ASKS_QUESTION;
		ask->verb = (enum rgov_task_verb)(operation - ASK_QUESTION);
		return QUESTION_ARGS;
	}
	ask->kind = operation & ASK_TASK ? ASKS_TASK : ASKS_CALL;
	ask->request.operation = (enum rgov_operation)(operation & ~ASK_TASK);
	return ask->kind == ASKS_TASK ? TASK_ARGS : CALL_ARGS;
}

int ask_parse(struct ext_state *state, PyObject *const *args, Py_ssize_t n_args,
	struct ask *ret_ask)
{
	struct ask ask = {.request.size = sizeof(ask.request)};
	Py_ssize_t wanted = CALL_ARGS;
	int operation, rc;

	if (n_args > 0) {
		if (parse_small(args[0], &operation) < 0)
			return -1;
		wanted = sort_out(operation, &ask);
	}
	if (n_args != wanted) {
		PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd",
			wanted, n_args);
		return -1;
	}
	if (ask.kind == ASKS_QUESTION)
		rc = parse_question(state, args, &ask);
	else if (ask.kind == ASKS_TASK)
		rc = parse_task(state, args, &ask);
	else
		rc = parse_call(state, args, &ask);
	if (rc == 0)
		*ret_ask = ask;
	return rc;
}
