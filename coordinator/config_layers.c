/*
 * The layers of a configuration, lowest first: defaults, preset, file,
 * environment, command line.  Each value replaces that of the layer below.
 */
#include "coordinator/config_private.h"

#include <string.h>

/* An empty variable counts as absent. */
const char *config_variable(const struct config_draft *draft, const char *name)
{
	const char *value = draft->source->getenv == NULL
				    ? NULL
				    : draft->source->getenv(name);

	return value == NULL || value[0] == '\0' ? NULL : value;
}

void config_set(struct config_draft *draft, const struct config_key *key,
	enum config_rank rank, const char *text, const char *origin)
{
	struct config *config = draft->config;

	if (text != NULL && origin != NULL &&
		config_value_set(draft, key, config, text, origin))
		config->own->origins[key - config_keys] =
			(struct config_origin){rank, origin};
}

/* Variables of other programs that say where a default comes from. */
static const struct {
	enum config_key_index key;
	const char *variable;
} ambient[] = {
	/* The later one wins. */
	{CONFIG_K_UPSTREAM_region, "AWS_DEFAULT_REGION"},
	{CONFIG_K_UPSTREAM_region, "AWS_REGION"},
	{CONFIG_K_UPSTREAM_endpoint, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"},
	{CONFIG_K_UPSTREAM_ca_file, "AWS_CA_BUNDLE"},
};

/* The names of the Python request manager, beside RGOV_…, which win. */
static const struct {
	enum config_key_index key;
	const char *variable;
} legacy[] = {
	{CONFIG_K_FLAT_preset, "RATE_LIMIT_PRESET"},
	{CONFIG_K_FLAT_max_concurrent_requests, "MAX_CONCURRENT_REQUESTS"},
	{CONFIG_K_FLAT_requests_per_minute, "REQUESTS_PER_MINUTE"},
	{CONFIG_K_FLAT_max_requests_per_user, "MAX_REQUESTS_PER_USER"},
};

static void apply_defaults(struct config_draft *draft)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope <= CONFIG_UPSTREAM &&
			config_keys[i].text != NULL)
			config_set(draft, &config_keys[i], CONFIG_DEFAULT,
				config_keys[i].text, "default");
	for (size_t i = 0; i < sizeof(ambient) / sizeof(ambient[0]); i++) {
		const char *name = ambient[i].variable;
		const char *value = config_variable(draft, name);

		if (value != NULL)
			config_set(draft, &config_keys[ambient[i].key],
				CONFIG_AMBIENT, value,
				config_printf(draft, "environment %s", name));
	}
}

static void apply_file(struct config_draft *draft, bool preset_only)
{
	for (const struct config_entry *entry = draft->entries; entry != NULL;
		entry = entry->next)
		if (entry->key->scope <= CONFIG_UPSTREAM &&
			(entry->key->type == CONFIG_PRESET) == preset_only)
			config_set(draft, entry->key, CONFIG_OF_FILE,
				entry->text, entry->origin);
}

/* "RGOV_UPSTREAM_REGION" of "upstream.region" */
static void variable_name(const struct config_key *key, char ret_name[80])
{
	char path[64];

	snprintf(ret_name, 80, "RGOV_%s", config_key_path(key, path));
	for (char *at = ret_name; *at != '\0'; at++) {
		if (*at == '.')
			*at = '_';
		else if (*at >= 'a' && *at <= 'z')
			*at = (char)(*at - 'a' + 'A');
	}
}

static void apply_variable(struct config_draft *draft,
	const struct config_key *key, const char *name)
{
	const char *value = config_variable(draft, name);

	if (value != NULL)
		config_set(draft, key, CONFIG_OF_ENVIRONMENT, value,
			config_printf(draft, "environment %s", name));
}

static void apply_environment(struct config_draft *draft, bool preset_only)
{
	char name[80];

	for (size_t i = 0; i < sizeof(legacy) / sizeof(legacy[0]); i++)
		if ((config_keys[legacy[i].key].type == CONFIG_PRESET) ==
			preset_only)
			apply_variable(draft, &config_keys[legacy[i].key],
				legacy[i].variable);
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];

		variable_name(key, name);
		if (key->scope <= CONFIG_UPSTREAM &&
			(key->type == CONFIG_PRESET) == preset_only)
			apply_variable(draft, key, name);
	}
}

static void complain_unknown(
	struct config_draft *draft, const struct config_override *one)
{
	const char *dot = strchr(one->key, '.');
	bool upstream = strncmp(one->key, "upstream.", 9) == 0;
	char hint[160], quoted[CONFIG_FOUND_BYTES];

	config_complain(draft, one->option, "unknown setting %s%s",
		config_value_quote(one->key, quoted),
		config_key_hint(upstream ? CONFIG_UPSTREAM : CONFIG_FLAT,
			upstream ? dot + 1 : one->key, hint));
}

/* "model" of "model.PATTERN.requests_per_minute"; CONFIG_FLAT: of no block. */
static enum config_scope block_scope_of(const char *path)
{
	for (int s = CONFIG_MODEL; s < CONFIG_SCOPES; s++) {
		const char *name = config_scope_name((enum config_scope)s);
		size_t n = strlen(name);

		/* A pattern may have dots of its own. */
		if (strncmp(path, name, n) == 0 && path[n] == '.' &&
			strrchr(path, '.') > path + n)
			return (enum config_scope)s;
	}
	return CONFIG_FLAT;
}

/* The block of this title, or a new one after the others; NULL: no memory. */
static struct config_block *block_of(struct config_draft *draft,
	enum config_scope scope, const char *title, const char *origin)
{
	struct config_block **at = &draft->config->own->blocks;

	if (title == NULL || origin == NULL)
		return NULL;
	for (; *at != NULL; at = &(*at)->next)
		if ((*at)->scope == scope && strcmp((*at)->title, title) == 0)
			return *at;
	*at = config_alloc(draft, sizeof(**at));
	if (*at == NULL)
		return NULL;
	(*at)->scope = scope;
	(*at)->title = title;
	(*at)->origin = origin;
	return *at;
}

/* As if it stood at the end of the file, in its block. */
static void override_in_block(struct config_draft *draft,
	enum config_scope scope, const struct config_override *one)
{
	const char *title = strchr(one->key, '.') + 1;
	const char *name = strrchr(one->key, '.') + 1;
	const char *origin = config_printf(draft, "%s", one->option);
	struct config_entry **at = &draft->entries;
	struct config_block *block;
	char hint[160], quoted[CONFIG_FOUND_BYTES];

	if (config_key_find(scope, name) == NULL) {
		config_complain(draft, one->option, "unknown setting %s%s",
			config_value_quote(one->key, quoted),
			config_key_hint(scope, name, hint));
		return;
	}
	block = block_of(draft, scope,
		config_printf(draft, "%.*s", (int)(name - 1 - title), title),
		origin);
	if (block == NULL)
		return;
	while (*at != NULL)
		at = &(*at)->next;
	*at = config_alloc(draft, sizeof(**at));
	if (*at == NULL)
		return;
	**at = (struct config_entry){.key = config_key_find(scope, name),
		.block = block,
		.text = config_printf(draft, "%s", one->value),
		.origin = origin,
		.n = 1};
}

static void apply_overrides(struct config_draft *draft, bool preset_only)
{
	for (size_t i = 0; i < draft->source->n_overrides; i++) {
		const struct config_override *one =
			&draft->source->overrides[i];
		const struct config_key *key = config_key_by_path(one->key);
		enum config_scope scope = block_scope_of(one->key);

		if (scope != CONFIG_FLAT) {
			if (!preset_only)
				override_in_block(draft, scope, one);
		} else if (key == NULL) {
			if (!preset_only)
				complain_unknown(draft, one);
		} else if ((key->type == CONFIG_PRESET) == preset_only) {
			config_set(draft, key, CONFIG_OF_OPTION, one->value,
				config_printf(draft, "%s", one->option));
		}
	}
}

static void apply_preset(struct config_draft *draft)
{
	const struct config_preset *preset =
		config_preset_find(draft->config->preset);
	const char *origin = config_printf(draft, "preset %s", preset->name);

	config_set(draft, &config_keys[CONFIG_K_FLAT_max_concurrent_requests],
		CONFIG_OF_PRESET, preset->max_concurrent_requests, origin);
	config_set(draft, &config_keys[CONFIG_K_FLAT_requests_per_minute],
		CONFIG_OF_PRESET, preset->requests_per_minute, origin);
	config_set(draft, &config_keys[CONFIG_K_FLAT_max_requests_per_user],
		CONFIG_OF_PRESET, preset->max_requests_per_user, origin);
}

/* Every layer is read, also below a higher one, so that all errors show. */
void config_apply_layers(struct config_draft *draft)
{
	apply_defaults(draft);
	apply_file(draft, true);
	apply_environment(draft, true);
	apply_overrides(draft, true);
	if (draft->config->preset == NULL)
		return; /* no memory for the defaults */
	apply_preset(draft);
	apply_file(draft, false);
	apply_environment(draft, false);
	apply_overrides(draft, false);
}
