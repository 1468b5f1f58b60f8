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

void config_complete(struct config_draft *draft)
{
	struct config *config = draft->config;
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	fit_guard(draft);
	if (config->runtime_dir == NULL)
		choose_runtime_dir(draft);
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
static bool contradict(struct config_draft *draft, enum config_key_index low,
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
		return false;
	}
	config_complain(draft, a_first ? of_a->text : of_b->text,
		"%s (%s, from %s) is above %s (%s, from %s)", a->name, text_a,
		of_a->text, b->name, text_b, of_b->text);
	return true;
}

void config_check_limits(struct config_draft *draft)
{
	struct policy_config *policy = &draft->config->policy;

	if (policy->max_concurrent != 0 &&
		policy->max_requests_per_user > policy->max_concurrent)
		contradict(draft, CONFIG_K_FLAT_max_requests_per_user,
			CONFIG_K_FLAT_max_concurrent_requests);
	if (policy->max_queued_per_user > policy->max_queued)
		contradict(draft, CONFIG_K_FLAT_max_queued_per_user,
			CONFIG_K_FLAT_max_queued);
	if (policy->guard_ns > policy->minute_ns)
		contradict(
			draft, CONFIG_K_FLAT_guard, CONFIG_K_FLAT_quota_window);
	if (policy->throttle_base_ns > policy->backoff_cap_ns)
		contradict(draft, CONFIG_K_FLAT_throttle_backoff,
			CONFIG_K_FLAT_backoff_cap);
	if (policy->transient_base_ns > policy->backoff_cap_ns)
		contradict(draft, CONFIG_K_FLAT_transient_backoff,
			CONFIG_K_FLAT_backoff_cap);
}

/* A block's limit above the host-wide one would never have an effect. */
static void check_block_limit(struct config_draft *draft,
	const struct config_block *block, enum config_key_index low,
	uint32_t value, enum config_key_index high, uint32_t bound)
{
	const struct config_origin *of_high = origin_of(draft, high);

	if (bound != 0 && value > bound)
		config_complain(draft, block->origins[low].text,
			"%s \"%s\": %s (%u) is above %s (%u, from %s)",
			config_scope_name(block->scope), block->title,
			config_keys[low].name, value, config_keys[high].name,
			bound, of_high->text);
}

void config_check_blocks(struct config_draft *draft)
{
	const struct policy_config *policy = &draft->config->policy;
	const struct policy_model *model = policy->models;
	const struct policy_user_rule *user = policy->users;

	for (const struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next) {
		if (block->scope == CONFIG_MODEL) {
			check_block_limit(draft, block,
				CONFIG_K_MODEL_max_concurrent_requests,
				model->max_concurrent,
				CONFIG_K_FLAT_max_concurrent_requests,
				policy->max_concurrent);
			model++;
		} else if (block->scope == CONFIG_USER) {
			check_block_limit(draft, block,
				CONFIG_K_USER_max_requests,
				user->max_concurrent,
				CONFIG_K_FLAT_max_concurrent_requests,
				policy->max_concurrent);
			check_block_limit(draft, block,
				CONFIG_K_USER_max_queued, user->max_queued,
				CONFIG_K_FLAT_max_queued, policy->max_queued);
			user++;
		}
	}
}
