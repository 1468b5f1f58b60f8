#include "coordinator/request.h"

#include "coordinator/governor.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TO(stage) (1u << REQUEST_##stage)

static const unsigned int allowed[] = {
#define X(stage, words, next) [REQUEST_##stage] = (next),
	REQUEST_STAGES(X)
#undef X
};

void request_move(struct request *request, enum request_stage stage)
{
	assert((allowed[request->stage] >> stage & 1) != 0);
	request->stage = stage;
}

static enum policy_class class_of(enum shm_class class)
{
	switch (class) {
	case SHM_INTERACTIVE:
		return POLICY_INTERACTIVE;
	case SHM_NORMAL:
		return POLICY_NORMAL;
	case SHM_BATCH:
		return POLICY_BATCH;
	}
	return POLICY_NORMAL;
}

/* False: no memory. */
static bool copy_texts(
	struct request *request, const struct door_submission *submission)
{
	size_t model_bytes = strlen(submission->model_id);

	memcpy(request->user, submission->user, strlen(submission->user) + 1);
	memcpy(request->app, submission->app, strlen(submission->app) + 1);
	memcpy(request->peer, submission->peer, strlen(submission->peer) + 1);
	if (model_bytes < sizeof(request->model_id))
		memcpy(request->model_id, submission->model_id,
			model_bytes + 1);
	else
		request->long_model_id = strdup(submission->model_id);
	if (submission->headers[0] != '\0')
		request->headers = strdup(submission->headers);
	return (request->long_model_id != NULL ||
		       model_bytes < sizeof(request->model_id)) &&
	       (request->headers != NULL || submission->headers[0] == '\0');
}

struct request *request_create(
	struct governor *governor, const struct door_submission *submission)
{
	struct request *request = governor_allocate(governor);

	if (request == NULL)
		return NULL;
	request->governor = governor;
	request->kind = submission->kind;
	request->operation = submission->operation == SHM_CONVERSE
				     ? UPSTREAM_CONVERSE
				     : UPSTREAM_INVOKE_MODEL;
	request->is_idempotent = submission->is_idempotent;
	request->live = REQUEST_NO_LIVE;
	/* A permit has none, whatever its client says. */
	request->body_bytes =
		submission->kind == SHM_CALL ? submission->body_bytes : 0;
	if (!copy_texts(request, submission)) {
		request_free(request);
		return NULL;
	}
	request->policy = (struct policy_request){
		.model_id = request_model_id(request),
		.user = request->user,
		.app = request->peer,
		.class = class_of(submission->class),
		.input_tokens = submission->input_tokens,
		.output_tokens = submission->output_tokens,
		.deadline_ns = submission->deadline_ns,
		.is_permit = submission->kind == SHM_PERMIT,
	};
	return request;
}

void request_free(struct request *request)
{
	free(request->attempt);
	free(request->intake);
	free(request->headers);
	free(request->long_model_id);
	governor_recycle(request->governor, request);
}
