/*
 * The settings together: works out those that depend on others or on the host,
 * and finds limits that contradict each other.
 */
#include "coordinator/config_private.h"

#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static const struct config_origin *origin_of(
	const struct config_draft *draft, enum config_key_index key)
{
	return &draft->config->own->origins[key];
}

/* The guard of a full minute would eat a short window of a test. */
static void fit_guard(struct config_draft *draft)
{
	struct policy_config *policy = &draft->config->policy;
	struct config_origin *origin =
		&draft->config->own->origins[CONFIG_K_FLAT_guard];

	if (origin->rank >= CONFIG_OF_FILE ||
		policy->guard_ns <= policy->minute_ns / 4)
		return;
	policy->guard_ns = policy->minute_ns / 4;
	origin->text = "default, a quarter of quota_window";
}

/* systemd gives a service its directory; root has /run. */
static void choose_runtime_dir(struct config_draft *draft)
{
	const struct config_key *key = &config_keys[CONFIG_K_FLAT_runtime_dir];
	const char *given = config_variable(draft, "RUNTIME_DIRECTORY");
	const char *session = config_variable(draft, "XDG_RUNTIME_DIR");

	if (given != NULL)
		config_set(draft, key, CONFIG_AMBIENT,
			config_printf(
				draft, "%.*s", (int)strcspn(given, ":"), given),
			"environment RUNTIME_DIRECTORY");
	else if (geteuid() == 0)
		config_set(draft, key, CONFIG_DEFAULT, "/run/rgov", "default");
	else if (session != NULL)
		config_set(draft, key, CONFIG_AMBIENT,
			config_printf(draft, "%s/rgov", session),
			"environment XDG_RUNTIME_DIR");
	else
		config_set(draft, key, CONFIG_DEFAULT,
			config_printf(draft, "/tmp/rgov-%u", geteuid()),
			"default");
}

/* As the runtime directory; root has /var/lib. */
static void choose_state_dir(struct config_draft *draft)
{
	const struct config_key *key = &config_keys[CONFIG_K_FLAT_state_dir];
	const char *given = config_variable(draft, "STATE_DIRECTORY");
	const char *state = config_variable(draft, "XDG_STATE_HOME");
	const char *home = config_variable(draft, "HOME");

	if (given != NULL)
		config_set(draft, key, CONFIG_AMBIENT,
			config_printf(
				draft, "%.*s", (int)strcspn(given, ":"), given),
			"environment STATE_DIRECTORY");
	else if (geteuid() == 0)
		config_set(
			draft, key, CONFIG_DEFAULT, "/var/lib/rgov", "default");
	else if (state != NULL)
		config_set(draft, key, CONFIG_AMBIENT,
			config_printf(draft, "%s/rgov", state),
			"environment XDG_STATE_HOME");
	else if (home != NULL)
		config_set(draft, key, CONFIG_AMBIENT,
			config_printf(draft, "%s/.local/state/rgov", home),
			"environment HOME");
	else
		config_set(
			draft, key, CONFIG_DEFAULT, "/var/lib/rgov", "default");
}

void config_complete(struct config_draft *draft)
{
	struct config *config = draft->config;
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	fit_guard(draft);
	if (config->runtime_dir == NULL)
		choose_runtime_dir(draft);
	if (config->tasks.state_dir == NULL)
		choose_state_dir(draft);
	if (config->socket == NULL && config->runtime_dir != NULL)
		config_set(draft, &config_keys[CONFIG_K_FLAT_socket],
			CONFIG_DEFAULT,
			config_printf(draft, "%s/%s.sock", config->runtime_dir,
				config->name),
			"default");
	if (config->socket != NULL && strlen(config->socket) > most)
		config_complain(draft,
			origin_of(draft, CONFIG_K_FLAT_socket)->text,
			"socket: expected a path of at most %zu bytes, found "
			"%zu: %.120s",
			most, strlen(config->socket), config->socket);
}

/* ------------------------------------------------------------ limits */

/*
 * Two limits where low may not be above high.  A low one that nobody asked for
 * is lowered; a contradiction is an error at the one with the higher rank.
 */
static void contradict(struct config_draft *draft, enum config_key_index low,
	enum config_key_index high)
{
	const struct config_key *a = &config_keys[low];
	const struct config_key *b = &config_keys[high];
	const struct config_origin *of_a = origin_of(draft, low);
	const struct config_origin *of_b = origin_of(draft, high);
	char text_a[64], text_b[64];
	bool a_first = of_a->rank >= of_b->rank;

	config_value_print(a, draft->config, text_a, sizeof(text_a));
	config_value_print(b, draft->config, text_b, sizeof(text_b));
	if (of_a->rank < CONFIG_OF_FILE && of_b->rank >= CONFIG_OF_FILE) {
		config_set(draft, a, of_a->rank, text_b,
			config_printf(draft, "%s, lowered to %s", of_a->text,
				b->name));
		return;
	}
	config_complain(draft, a_first ? of_a->text : of_b->text,
		"%s (%s, from %s) is above %s (%s, from %s)", a->name, text_a,
		of_a->text, b->name, text_b, of_b->text);
}

/* Limits of which the low one would have no effect above the high one. */
static const struct {
	enum config_key_index low, high;
} host_limits[] =
	{
		{CONFIG_K_FLAT_max_requests_per_user,
			CONFIG_K_FLAT_max_concurrent_requests},
		{CONFIG_K_FLAT_max_queued_per_user, CONFIG_K_FLAT_max_queued},
		{CONFIG_K_FLAT_tokens_per_minute, CONFIG_K_FLAT_tokens_per_day},
		{CONFIG_K_FLAT_guard, CONFIG_K_FLAT_quota_window},
		{CONFIG_K_FLAT_throttle_backoff, CONFIG_K_FLAT_backoff_cap},
		{CONFIG_K_FLAT_transient_backoff, CONFIG_K_FLAT_backoff_cap},
},
  block_limits[] = {
	  {CONFIG_K_MODEL_tokens_per_minute, CONFIG_K_MODEL_tokens_per_day},
	  {CONFIG_K_USER_tokens_per_minute, CONFIG_K_USER_tokens_per_day},
	  {CONFIG_K_MODEL_max_concurrent_requests,
		  CONFIG_K_FLAT_max_concurrent_requests},
	  {CONFIG_K_MODEL_requests_per_minute,
		  CONFIG_K_FLAT_requests_per_minute},
	  {CONFIG_K_MODEL_tokens_per_minute, CONFIG_K_FLAT_tokens_per_minute},
	  {CONFIG_K_MODEL_tokens_per_day, CONFIG_K_FLAT_tokens_per_day},
	  {CONFIG_K_USER_max_requests, CONFIG_K_FLAT_max_concurrent_requests},
	  {CONFIG_K_USER_max_queued, CONFIG_K_FLAT_max_queued},
	  {CONFIG_K_USER_requests_per_minute,
		  CONFIG_K_FLAT_requests_per_minute},
	  {CONFIG_K_USER_tokens_per_minute, CONFIG_K_FLAT_tokens_per_minute},
	  {CONFIG_K_USER_tokens_per_day, CONFIG_K_FLAT_tokens_per_day},
};

static uint64_t number(enum config_key_index key, const void *base)
{
	const void *at = (const char *)base + config_keys[key].offset;

	return config_keys[key].type == CONFIG_U32 ? *(const uint32_t *)at
						   : *(const uint64_t *)at;
}

void config_check_limits(struct config_draft *draft)
{
	const struct config *config = draft->config;

	for (size_t i = 0; i < sizeof(host_limits) / sizeof(host_limits[0]);
		i++) {
		uint64_t bound = number(host_limits[i].high, config);

		if (bound != 0 && number(host_limits[i].low, config) > bound)
			contradict(
				draft, host_limits[i].low, host_limits[i].high);
	}
}

/* The values and origins that a block's key is compared in. */
struct side {
	const void *base;
	const struct config_origin *origins;
};

static struct side side_of(const struct config_draft *draft,
	const struct config_block *block, enum config_key_index key)
{
	if (config_keys[key].scope == block->scope)
		return (struct side){block->values, block->origins};
	return (struct side){draft->config, draft->config->own->origins};
}

static void check_block_limit(struct config_draft *draft,
	const struct config_block *block, enum config_key_index low,
	enum config_key_index high)
{
	struct side above = side_of(draft, block, high);
	uint64_t value = number(low, block->values);
	uint64_t bound = number(high, above.base);

	if (bound != 0 && value > bound)
		config_complain(draft, block->origins[low].text,
			"%s \"%s\": %s (%llu) is above %s (%llu, from %s)",
			config_scope_name(block->scope), block->title,
			config_keys[low].name, (unsigned long long)value,
			config_keys[high].name, (unsigned long long)bound,
			above.origins[high].text);
}

/* A request that names no maximum reserves default_max_tokens: can it start?
 * Nobody may have thought of the default; then it is only said. */
static void check_default_tokens(
	struct config_draft *draft, const struct config_block *block)
{
	static const enum config_key_index bounds[] = {
		CONFIG_K_MODEL_tokens_per_minute, CONFIG_K_MODEL_tokens_per_day,
		CONFIG_K_FLAT_tokens_per_minute, CONFIG_K_FLAT_tokens_per_day};
	const struct policy_model *model = block->values;
	const struct config_origin *origin =
		&block->origins[CONFIG_K_MODEL_default_max_tokens];
	double reserved = model->default_max_tokens;

	if (model->reserve_with_burndown)
		reserved *= model->output_burndown;
	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		struct side above = side_of(draft, block, bounds[i]);
		uint64_t bound = number(bounds[i], above.base);
		bool is_asked = origin->rank >= CONFIG_OF_FILE;

		if (bound == 0 || reserved <= (double)bound)
			continue;
		(is_asked ? config_complain : config_warn)(draft,
			is_asked ? origin->text : block->origin,
			"model \"%s\": a request that names no maximum "
			"reserves %.0f tokens (default_max_tokens, from %s) "
			"and could never start: %s is %llu, from %s",
			block->title, reserved, origin->text,
			config_keys[bounds[i]].name, (unsigned long long)bound,
			above.origins[bounds[i]].text);
		return;
	}
}

void config_check_blocks(struct config_draft *draft)
{
	for (const struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next) {
		for (size_t i = 0;
			i < sizeof(block_limits) / sizeof(block_limits[0]); i++)
			if (config_keys[block_limits[i].low].scope ==
				block->scope)
				check_block_limit(draft, block,
					block_limits[i].low,
					block_limits[i].high);
		if (block->scope == CONFIG_MODEL)
			check_default_tokens(draft, block);
	}
}
