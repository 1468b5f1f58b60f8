/* What a request body says, and whether the service would take it. */
#include "tools/bedrock-sim/body.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { BYTES_PER_TOKEN = 4, TOKENS_MOST = 10000000 };

/* Where a complaint goes. */
struct complaint {
	char *text;
	size_t size;
	bool is_claude; /* Claude's complaints have a form of their own */
};

static bool complain(
	struct complaint *complaint, const char *field, const char *problem)
{
	(void)snprintf(complaint->text, complaint->size,
		complaint->is_claude ? "Malformed input request: #: key [%s] "
				       "%s, please reformat your input and "
				       "try again."
				     : "1 validation error detected: Value at "
				       "'%s' failed to satisfy constraint: %s",
		field, problem);
	return false;
}

/* A role and a content that is a list of blocks, or for Claude a text. */
static bool message_check(const json_t *message, struct complaint *complaint)
{
	const char *role = json_string_value(json_object_get(message, "role"));
	const json_t *content = json_object_get(message, "content");

	if (role == NULL ||
		(strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
		return complain(complaint, "messages.role",
			"must be user or assistant");
	if (complaint->is_claude && json_is_string(content))
		return true;
	if (!json_is_array(content) || json_array_size(content) == 0)
		return complain(complaint, "messages.content",
			"must be a list of content blocks");
	return true;
}

static bool messages_check(const json_t *body, struct complaint *complaint)
{
	const json_t *messages = json_object_get(body, "messages");
	const json_t *message;
	size_t i;

	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return complain(complaint, "messages",
			"is required and must be a list that is not empty");
	json_array_foreach(messages, i,
		message) if (!message_check(message, complaint)) return false;
	return true;
}

static bool tokens_check(const json_t *value, const char *field,
	struct complaint *complaint, uint64_t *ret_tokens)
{
	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
		json_integer_value(value) > TOKENS_MOST)
		return complain(complaint, field,
			"is required and must be a whole number above 0");
	*ret_tokens = (uint64_t)json_integer_value(value);
	return true;
}

static bool claude_check(const json_t *body, struct complaint *complaint,
	struct body_facts *facts)
{
	if (!json_is_string(json_object_get(body, "anthropic_version")))
		return complain(complaint, "anthropic_version",
			"is required and must be a text");
	return tokens_check(json_object_get(body, "max_tokens"), "max_tokens",
		       complaint, &facts->max_tokens) &&
	       messages_check(body, complaint);
}

static bool converse_check(const json_t *body, struct complaint *complaint,
	struct body_facts *facts)
{
	const json_t *inference = json_object_get(body, "inferenceConfig");
	const json_t *tokens = json_object_get(inference, "maxTokens");

	if (inference != NULL && !json_is_object(inference))
		return complain(
			complaint, "inferenceConfig", "must be an object");
	if (tokens != NULL && !tokens_check(tokens, "inferenceConfig.maxTokens",
				      complaint, &facts->max_tokens))
		return false;
	return messages_check(body, complaint);
}

/* Other vendors' bodies are opaque, but for the usual place of the limit. */
static bool other_check(const json_t *body, struct body_facts *facts)
{
	json_int_t tokens =
		json_integer_value(json_object_get(body, "max_tokens"));

	if (tokens > 0 && tokens <= TOKENS_MOST)
		facts->max_tokens = (uint64_t)tokens;
	return true;
}

/* The vendor is in the id, or, behind an application profile, in the body. */
static bool is_claude(const struct route *route, const json_t *body)
{
	return route->op == ROUTE_INVOKE &&
	       (strstr(route->model, "anthropic.") != NULL ||
		       json_object_get(body, "anthropic_version") != NULL);
}

bool body_check(const struct route *route, const char *body, size_t length,
	struct body_facts *ret_facts, char *message, size_t message_size)
{
	json_t *json = json_loadb(body, length, JSON_ALLOW_NUL, NULL);
	struct body_facts facts = {
		.input_tokens = length / BYTES_PER_TOKEN + 1,
		.max_tokens = BODY_DEFAULT_MAX_TOKENS,
	};
	struct complaint complaint = {.text = message, .size = message_size};
	bool valid;

	if (!json_is_object(json)) {
		(void)snprintf(message, message_size,
			"Malformed input request, please reformat your input "
			"and try again.");
		json_decref(json);
		return false;
	}
	facts.is_claude = complaint.is_claude = is_claude(route, json);
	if (route->op == ROUTE_CONVERSE)
		valid = converse_check(json, &complaint, &facts);
	else if (facts.is_claude)
		valid = claude_check(json, &complaint, &facts);
	else
		valid = other_check(json, &facts);
	json_decref(json);
	if (valid)
		*ret_facts = facts;
	return valid;
}
