/* arn:PARTITION:bedrock:REGION:ACCOUNT:KIND/ID */
#include "coordinator/policy/lane_name.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What follows `prefix` in text; NULL: it begins otherwise. */
static const char *after(const char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* Past the next colon; NULL: there is none. */
static const char *past_colon(const char *text)
{
	const char *colon = strchr(text, ':');

	return colon ? colon + 1 : NULL;
}

/* The ID of an ARN whose quota is known; NULL: of no such kind. */
static const char *id_of(const char *resource, bool *ret_is_private)
{
	const char *id = after(resource, "foundation-model/");

	*ret_is_private = false;
	if (id == NULL)
		id = after(resource, "inference-profile/");
	if (id == NULL) {
		id = after(resource, "application-inference-profile/");
		*ret_is_private = true;
	}
	return id != NULL && *id != '\0' ? id : NULL;
}

static bool is_same(const char *region, int n, const char *own)
{
	return own != NULL && strlen(own) == (size_t)n &&
	       memcmp(region, own, (size_t)n) == 0;
}

const char *lane_name_of(
	const char *model_id, const char *region, char room[LANE_NAME_BYTES])
{
	const char *at = after(model_id, "arn:"), *called, *id;
	bool is_private;
	int n;

	at = at ? past_colon(at) : NULL;
	called = at ? after(at, "bedrock:") : NULL;
	at = called ? past_colon(called) : NULL;
	if (at == NULL || at - called < 2 || at - called > LANE_NAME_BYTES)
		return model_id;
	n = (int)(at - called) - 1;
	at = past_colon(at);
	id = at ? id_of(at, &is_private) : NULL;
	if (id == NULL)
		return model_id;
	if (!is_private && is_same(called, n, region))
		return id;
	if (snprintf(room, LANE_NAME_BYTES, "%.*s/%s", n, called, id) >=
		LANE_NAME_BYTES)
		return model_id;
	return room;
}
