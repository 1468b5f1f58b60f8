/*
 * librgov's answers as Python objects: a Reply, or the exception that
 * rgov.errors makes of a refusal or an error code.  Which exception stands for
 * what is decided there, not here.
 */
#include "client-lib/python/ext/ext.h"

#include <string.h>

/* Words for people may be cut in the middle of a character. */
static PyObject *text_of(const char *text)
{
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *body_of(const struct rgov_reply *reply)
{
	return PyBytes_FromStringAndSize(
		reply->body, (Py_ssize_t)reply->body_bytes);
}

static PyObject *tokens_of(int64_t tokens)
{
	if (tokens < 0)
		Py_RETURN_NONE;
	return PyLong_FromLongLong(tokens);
}

static double seconds_of(uint64_t ns)
{
	return (double)ns * 1e-9;
}

/*
 * Takes the tuple.  Of Py_BuildValue("(N...)") the references go into it, and a
 * NULL among them fails it; PyObject_CallFunction() with the same letters loses
 * them when it has no memory for its own array.
 */
static PyObject *call(PyObject *callable, PyObject *arguments)
{
	PyObject *result;

	if (arguments == NULL)
		return NULL;
	result = PyObject_Call(callable, arguments, NULL);
	Py_DECREF(arguments);
	return result;
}

PyObject *answer_waits(const struct rgov_reply *reply)
{
	PyObject *waits = PyDict_New();

	for (int i = 0; waits != NULL && i < RGOV_REASONS_ROOM; i++) {
		PyObject *seconds;

		if (reply->waited_ns[i] == 0)
			continue;
		seconds = PyFloat_FromDouble(seconds_of(reply->waited_ns[i]));
		if (seconds == NULL ||
			PyDict_SetItemString(waits,
				rgov_reason_name((enum rgov_reason)i),
				seconds) < 0)
			Py_CLEAR(waits);
		Py_XDECREF(seconds);
	}
	return waits;
}

static PyObject *usage_of(
	struct ext_state *state, const struct rgov_reply *reply)
{
	return call(state->usage_class,
		Py_BuildValue("(NNNN)", tokens_of(reply->input_tokens),
			tokens_of(reply->output_tokens),
			tokens_of(reply->cache_read_tokens),
			tokens_of(reply->cache_write_tokens)));
}

static PyObject *reply_of(struct ext_state *state, PyObject *model_id,
	const struct rgov_reply *reply)
{
	/* First: Python must not be called while an exception is set. */
	PyObject *waits = answer_waits(reply);
	PyObject *usage = waits != NULL ? usage_of(state, reply) : NULL;

	if (usage == NULL) {
		Py_XDECREF(waits);
		return NULL;
	}
	return call(state->reply_class,
		Py_BuildValue("(iNNddINONNId)", reply->http_status,
			body_of(reply), usage, seconds_of(reply->wait_ns),
			seconds_of(reply->execution_ns),
			(unsigned)reply->attempts, text_of(reply->request_id),
			model_id, text_of(reply->model), waits,
			(unsigned)reply->queue_position,
			seconds_of(reply->predicted_wait_ns)));
}

/* Takes the reference; raises the exception that was made, if one was. */
static void *raise_error(PyObject *error)
{
	if (error == NULL)
		return NULL;
	PyErr_SetObject((PyObject *)Py_TYPE(error), error);
	Py_DECREF(error);
	return NULL;
}

static PyObject *retry_after_of(const struct rgov_reply *reply)
{
	if (reply->retry_after_ms == 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)reply->retry_after_ms * 1e-3);
}

/* The one that was asked, or the fallback that an error is of. */
static PyObject *answering_model(
	PyObject *model_id, const struct rgov_reply *reply)
{
	if (reply->model[0] == '\0')
		return Py_NewRef(model_id);
	return text_of(reply->model);
}

PyObject *answer_make(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply)
{
	PyObject *waits;

	if (reply->result == RGOV_R_OK)
		return reply_of(state, model_id, reply);
	waits = answer_waits(reply);
	if (waits == NULL)
		return NULL;
	return raise_error(call(state->error_of_reply,
		Py_BuildValue("(iNOiNNNNINNI)", (int)reply->result,
			answering_model(model_id, reply), user,
			reply->http_status, text_of(reply->code),
			text_of(reply->message), text_of(reply->request_id),
			body_of(reply), (unsigned)reply->attempts,
			retry_after_of(reply), waits,
			(unsigned)reply->queue_position)));
}

void *answer_raise(
	struct ext_state *state, int error, PyObject *model_id, PyObject *user)
{
	PyObject *why = text_of(rgov_why());
	PyObject *words = text_of(rgov_strerror(error));

	if (error < 0)
		error = -error;
	if (model_id == NULL)
		return raise_error(call(state->error_of_errno,
			Py_BuildValue("(iNNss)", error, why, words, "", "")));
	return raise_error(call(state->error_of_errno,
		Py_BuildValue("(iNNOO)", error, why, words, model_id, user)));
}

void *answer_raise_words(struct ext_state *state, int error, const char *words)
{
	return raise_error(PyObject_CallFunction(
		state->error_of_errno, "issss", error, words, "", "", ""));
}
