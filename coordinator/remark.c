#include "coordinator/remark.h"

#include "coordinator/governor.h"
#include "coordinator/log.h"

/* FNV-1a, 64 bit: two models with one hash share a remark, no more. */
static uint64_t hash_of(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	return hash;
}

static bool is_new(struct remarks *remarks, const char *model_id)
{
	uint64_t hash = hash_of(model_id);

	for (uint64_t i = 0; i < REMARKS && i < remarks->n; i++)
		if (remarks->hashes[i] == hash)
			return false;
	remarks->hashes[remarks->n++ % REMARKS] = hash;
	return true;
}

void remark_default(struct request *request)
{
	struct governor *governor = request->governor;
	const char *model = request_model_id(request);
	uint32_t most;

	if (request->policy.output_tokens != 0)
		return;
	most = policy_default_output(&request->policy);
	if (most == 0 || !is_new(&governor->said_default, model))
		return;
	board_event(&governor->board, "default",
		"%s: a request without max_tokens counts as %u", model, most);
	LOG(LOG_WARN, "model.default_max_tokens",
		"a request names no max_tokens: default_max_tokens is "
		"reserved for each such; said once per model",
		F_S("model", model), F_I("default_max_tokens", most),
		F_S("user", request_user(request)));
}

void remark_usage(struct request *request, const struct policy_usage *usage)
{
	struct governor *governor = request->governor;
	const char *model = request_model_id(request);

	if (!policy_usage_is_absurd(usage) ||
		!is_new(&governor->said_usage, model))
		return;
	board_event(&governor->board, "usage",
		"%s: usage of %lld in, %lld out cannot be", model,
		(long long)usage->input_tokens,
		(long long)usage->output_tokens);
	LOG(LOG_WARN, "usage.absurd",
		"usage that cannot be counts as not said, so as reserved; "
		"said once per model",
		F_S("model", model),
		F_S("by", request->kind == SHM_PERMIT ? "a permit's holder"
						      : "the provider"),
		F_I("input_tokens", usage->input_tokens),
		F_I("output_tokens", usage->output_tokens),
		F_I("cache_read_tokens", usage->cache_read_tokens),
		F_I("cache_write_tokens", usage->cache_write_tokens),
		F_S("user", request_user(request)));
}
