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

/* Appends a text with its final zero; the copy. */
static const char *append(char **at, const char *text)
{
	const char *copy = *at;

	*at = stpcpy(*at, text) + 1;
	return copy;
}

/* False: no memory. */
static bool copy_texts(
	struct request *request, const struct door_submission *submission)
{
	size_t bytes = strlen(submission->user) + strlen(submission->app) +
		       strlen(submission->peer) + strlen(submission->headers) +
		       strlen(submission->model_id) + 5;
	char *at = request->texts;

	if (bytes > sizeof(request->texts))
		at = malloc(bytes);
	if (at == NULL)
		return false;
	request->policy.user = append(&at, submission->user);
	request->policy.app = append(&at, submission->peer);
	request->policy.model_id = append(&at, submission->model_id);
	(void)append(&at, submission->app);     /* request_app() */
	(void)append(&at, submission->headers); /* request_headers() */
	return true;
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
		request_is_call(request) ? submission->body_bytes : 0;
	request->policy = (struct policy_request){
		.class = class_of(submission->class),
		.input_tokens = submission->input_tokens,
		.output_tokens = submission->output_tokens,
		.deadline_ns = submission->deadline_ns,
		.is_permit = submission->kind == SHM_PERMIT,
		.suits_all = submission->operation == SHM_CONVERSE,
		.is_durable = submission->kind == SHM_TASK,
	};
	if (!copy_texts(request, submission)) {
		request_free(request);
		return NULL;
	}
	return request;
}

char *request_next_model(struct request *request)
{
	const char *next =
		policy_next_model(request->governor->policy, &request->policy);

	return next != NULL ? strdup(next) : NULL;
}

void request_has_moved(struct request *request, char *model_id)
{
	struct governor *governor = request->governor;

	free(request->other_model);
	request->other_model = model_id;
	board_add(governor->board.board->counters.fallbacks, 1);
	board_event(&governor->board, "fallback", "%s: now %s",
		request->policy.first_model_id, model_id);
}

void request_free(struct request *request)
{
	char *texts = (char *)(uintptr_t)request->policy.user;

	free(request->attempt); /* or ->intake */
	if (texts != request->texts)
		free(texts);
	free(request->other_model);
	governor_recycle(request->governor, request);
}
