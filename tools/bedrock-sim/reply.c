/* The texts of the answers, in the service's shapes. */
#include "tools/bedrock-sim/reply.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/memory.h"

enum { BYTES_PER_TOKEN = 4 };

static const char unknown_operation[] =
	"{\"Output\":{\"__type\":"
	"\"com.amazon.coral.service#UnknownOperationException\"},"
	"\"Version\":\"1.0\"}";

void reply_fini(struct reply *reply)
{
	free(reply->body);
	*reply = (struct reply){0};
}

/* Takes the object. */
static void set_body(struct reply *reply, json_t *object)
{
	if (object == NULL)
		memory_none();
	reply->body = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
	if (reply->body == NULL)
		memory_none();
	reply->length = strlen(reply->body);
	json_decref(object);
}

/* A header may quote what a client sent: JSON takes only UTF-8. */
static json_t *text_of_anyone(const char *text)
{
	json_t *string = json_string(text);
	char *plain;

	if (string != NULL)
		return string;
	plain = memory_text(text);
	for (char *at = plain; *at != '\0'; at++)
		if ((unsigned char)*at >= 128)
			*at = '?';
	string = json_string(plain);
	free(plain);
	return string;
}

void reply_error(struct reply *ret_reply, int status, const char *type,
	const char *message)
{
	*ret_reply = (struct reply){.status = status, .type = type};
	set_body(ret_reply,
		json_pack("{s:o}", "message", text_of_anyone(message)));
}

void reply_unknown_operation(struct reply *ret_reply)
{
	*ret_reply = (struct reply){
		.status = 200,
		.body = memory_text(unknown_operation),
		.length = sizeof(unknown_operation) - 1,
	};
}

void reply_fault(struct reply *ret_reply, enum fault_kind kind)
{
	const struct fault_kind_facts *facts = fault_facts(kind);

	if (facts->message == NULL) {
		reply_unknown_operation(ret_reply);
		return;
	}
	*ret_reply =
		(struct reply){.status = facts->status, .type = facts->type};
	if (kind == FAULT_429_TYPE_IN_BODY) {
		ret_reply->type = NULL;
		set_body(ret_reply,
			json_pack("{s:s,s:s}", "__type",
				"com.amazon.bedrock#ThrottlingException",
				"message", facts->message));
	} else if (kind == FAULT_424) {
		set_body(ret_reply,
			json_pack("{s:s,s:i,s:s}", "message", facts->message,
				"originalStatusCode", 500, "resourceName",
				"arn:aws:sagemaker:us-east-1:000000000000:"
				"endpoint/e"));
	} else {
		set_body(ret_reply,
			json_pack("{s:s}", "message", facts->message));
	}
}

/*
 * Begins with the digest of the body, so that a caller can tell its own answer
 * from another's; filled up to about the size that many tokens have.
 */
static char *answer_text(const char *body_sha256, uint64_t tokens)
{
	static const char filler[] = " lorem ipsum dolor sit amet";
	size_t wanted = (size_t)tokens * BYTES_PER_TOKEN;
	size_t length = 0;
	char *text = memory_zeroed(wanted + DIGEST_HEX + 64);

	length += (size_t)sprintf(text,
		"bedrock-sim answers the body with sha256 %s.", body_sha256);
	for (size_t i = 0; length < wanted; i++)
		text[length++] = filler[i % (sizeof(filler) - 1)];
	return text;
}

static json_t *claude_json(
	const struct reply_model *model, const char *text, uint64_t tokens)
{
	bool cut = tokens < model->output_tokens;

	return json_pack("{s:s+%,s:s,s:s,s:s,s:[{s:s,s:s}],s:s,s:n,"
			 "s:{s:I,s:i,s:i,s:I}}",
		"id", "msg_bdrk_", model->body_sha256, (size_t)20, "type",
		"message", "role", "assistant", "model", model->route->model,
		"content", "type", "text", "text", text, "stop_reason",
		cut ? "max_tokens" : "end_turn", "stop_sequence", "usage",
		"input_tokens", (json_int_t)model->facts->input_tokens,
		"cache_creation_input_tokens", 0, "cache_read_input_tokens", 0,
		"output_tokens", (json_int_t)tokens);
}

/* Converse, and the invoke of vendors that share its shape. */
static json_t *converse_json(
	const struct reply_model *model, const char *text, uint64_t tokens)
{
	json_int_t input = (json_int_t)model->facts->input_tokens;
	bool cut = tokens < model->output_tokens;

	return json_pack("{s:{s:I},s:{s:{s:[{s:s}],s:s}},s:s,"
			 "s:{s:i,s:i,s:I,s:I,s:I}}",
		"metrics", "latencyMs", (json_int_t)model->latency_ms, "output",
		"message", "content", "text", text, "role", "assistant",
		"stopReason", cut ? "max_tokens" : "end_turn", "usage",
		"cacheReadInputTokens", 0, "cacheWriteInputTokens", 0,
		"inputTokens", input, "outputTokens", (json_int_t)tokens,
		"totalTokens", input + (json_int_t)tokens);
}

void reply_of_model(struct reply *ret_reply, const struct reply_model *model)
{
	uint64_t most = model->facts->max_tokens;
	uint64_t tokens =
		model->output_tokens < most ? model->output_tokens : most;
	char *text = answer_text(model->body_sha256, tokens);

	*ret_reply = (struct reply){
		.status = 200,
		.has_counts = model->route->op == ROUTE_INVOKE,
		.input_tokens = model->facts->input_tokens,
		.output_tokens = tokens,
		.latency_ms = model->latency_ms,
	};
	set_body(ret_reply, model->facts->is_claude
				    ? claude_json(model, text, tokens)
				    : converse_json(model, text, tokens));
	free(text);
}
