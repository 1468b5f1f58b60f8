/*
 * librgov's answers as Python objects: a Reply, or the exception that
 * rgov.errors makes of a refusal or an error code.  Which exception stands for
 * what is decided there, not here.
 */
#include "client-lib/python/ext/ext.h"

#include <string.h>

/* Words for people may be cut in the middle of a character. */
PyObject *answer_text(const char *text)
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
 * Of Py_BuildValue("(N...)") the references go into it, and a
 * NULL among them fails it; PyObject_CallFunction() with the same letters loses
 * them when it has no memory for its own array.
 */
PyObject *answer_call(PyObject *callable, PyObject *arguments)
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

PyObject *answer_usage(struct ext_state *state, int64_t input_tokens,
	int64_t output_tokens, int64_t cache_read_tokens,
	int64_t cache_write_tokens)
{
	return answer_call(state->usage_class,
		Py_BuildValue("(NNNN)", tokens_of(input_tokens),
			tokens_of(output_tokens), tokens_of(cache_read_tokens),
			tokens_of(cache_write_tokens)));
}

static PyObject *reply_of(struct ext_state *state, PyObject *model_id,
	const struct rgov_reply *reply)
{
	/* First: Python must not be called while an exception is set. */
	PyObject *waits = answer_waits(reply);
	PyObject *usage = NULL;

	if (waits != NULL)
		usage = answer_usage(state, reply->input_tokens,
			reply->output_tokens, reply->cache_read_tokens,
			reply->cache_write_tokens);
	if (usage == NULL) {
		Py_XDECREF(waits);
		return NULL;
	}
	return answer_call(state->reply_class,
		Py_BuildValue("(iNNddINONNId)", reply->http_status,
			body_of(reply), usage, seconds_of(reply->wait_ns),
			seconds_of(reply->execution_ns),
			(unsigned)reply->attempts,
			answer_text(reply->request_id), model_id,
			answer_text(reply->model), waits,
			(unsigned)reply->queue_position,
			seconds_of(reply->predicted_wait_ns)));
}

void *answer_raise_object(PyObject *error)
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
	return answer_text(reply->model);
}

static PyObject *error_of(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply)
{
	PyObject *waits = answer_waits(reply);

	if (waits == NULL)
		return NULL;
	return answer_call(state->error_of_reply,
		Py_BuildValue("(iNOiNNNNINNI)", (int)reply->result,
			answering_model(model_id, reply), user,
			reply->http_status, answer_text(reply->code),
			answer_text(reply->message),
			answer_text(reply->request_id), body_of(reply),
			(unsigned)reply->attempts, retry_after_of(reply), waits,
			(unsigned)reply->queue_position));
}

PyObject *answer_object(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply)
{
	return reply->result == RGOV_R_OK
		       ? reply_of(state, model_id, reply)
		       : error_of(state, model_id, user, reply);
}

PyObject *answer_make(struct ext_state *state, PyObject *model_id,
	PyObject *user, const struct rgov_reply *reply)
{
	PyObject *object = answer_object(state, model_id, user, reply);

	return reply->result == RGOV_R_OK ? object
					  : answer_raise_object(object);
}

void *answer_raise(
	struct ext_state *state, int error, PyObject *model_id, PyObject *user)
{
	PyObject *why = answer_text(rgov_why());
	PyObject *words = answer_text(rgov_strerror(error));

	if (error < 0)
		error = -error;
	if (model_id == NULL)
		return answer_raise_object(answer_call(state->error_of_errno,
			Py_BuildValue("(iNNss)", error, why, words, "", "")));
	return answer_raise_object(answer_call(state->error_of_errno,
		Py_BuildValue("(iNNOO)", error, why, words, model_id, user)));
}

void *answer_raise_words(struct ext_state *state, int error, const char *words)
{
	return answer_raise_object(PyObject_CallFunction(
		state->error_of_errno, "issss", error, words, "", "", ""));
}
