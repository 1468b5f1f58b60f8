/*
 * Builds a configuration: layers the values of preset, file, environment and
 * command line over the defaults, then checks how they go together.  Single
 * values are config_value.c, the file is config_file.c.
 */
#include "coordinator/config_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ------------------------------------------------------------ memory */

/* Everything of a configuration hangs on one chain, freed as one. */
struct config_memory {
	struct config_memory *next;
	_Alignas(max_align_t) char bytes[];
};

void *config_alloc(struct config_draft *draft, size_t bytes)
{
	struct config_memory *memory = calloc(1, sizeof(*memory) + bytes);

	if (memory == NULL) {
		draft->no_memory = true;
		return NULL;
	}
	memory->next = draft->config->own->memory;
	draft->config->own->memory = memory;
	return memory->bytes;
}

char *config_printf(struct config_draft *draft, const char *format, ...)
{
	va_list args;
	char *text;
	int bytes;

	va_start(args, format);
	bytes = vsnprintf(NULL, 0, format, args);
	va_end(args);
	text = config_alloc(draft, (size_t)bytes + 1);
	if (text == NULL)
		return NULL;
	va_start(args, format);
	(void)vsnprintf(text, (size_t)bytes + 1, format, args);
	va_end(args);
	return text;
}

static struct config *make_config(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (config == NULL)
		return NULL;
	config->own = calloc(1, sizeof(*config->own));
	if (config->own == NULL) {
		free(config);
		return NULL;
	}
	return config;
}

void config_free(struct config *config)
{
	struct config_memory *memory;

	if (config == NULL)
		return;
	while ((memory = config->own->memory) != NULL) {
		config->own->memory = memory->next;
		free(memory);
	}
	free(config->own);
	free(config);
}

/* ------------------------------------------------------------ complaints */

void config_complain(
	struct config_draft *draft, const char *origin, const char *format, ...)
{
	struct config_error *error = draft->error;
	va_list args;
	char *text;
	int used;

	if (error->n++ >= CONFIG_ERRORS)
		return;
	text = error->text[error->n - 1];
	used = snprintf(text, CONFIG_ERROR_BYTES, "%.300s: ", origin);
	va_start(args, format);
	(void)vsnprintf(
		text + used, (size_t)(CONFIG_ERROR_BYTES - used), format, args);
	va_end(args);
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

const char *config_error_first(
	const struct config_error *error, char ret_text[CONFIG_ERROR_BYTES])
{
	if (error->n == 0)
		return strcpy(ret_text, "no error");
	snprintf(ret_text, CONFIG_ERROR_BYTES, "%.460s", error->text[0]);
	if (error->n > 1)
		snprintf(ret_text + strlen(ret_text),
			CONFIG_ERROR_BYTES - strlen(ret_text),
			" (and %zu more)", error->n - 1);
	return ret_text;
}

/* ------------------------------------------------------------ layers */

/* An empty variable counts as absent. */
static const char *variable(const struct config_draft *draft, const char *name)
{
	const char *value = draft->source->getenv == NULL
				    ? NULL
				    : draft->source->getenv(name);

	return value == NULL || value[0] == '\0' ? NULL : value;
}

static void set(struct config_draft *draft, const struct config_key *key,
	enum config_rank rank, const char *text, const char *origin)
{
	struct config *config = draft->config;

	if (origin != NULL &&
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
			set(draft, &config_keys[i], CONFIG_DEFAULT,
				config_keys[i].text, "default");
	for (size_t i = 0; i < sizeof(ambient) / sizeof(ambient[0]); i++) {
		const char *name = ambient[i].variable;
		const char *value = variable(draft, name);

		if (value != NULL)
			set(draft, &config_keys[ambient[i].key], CONFIG_AMBIENT,
				value,
				config_printf(draft, "environment %s", name));
	}
}

static void apply_file(struct config_draft *draft, bool preset_only)
{
	for (const struct config_entry *entry = draft->entries; entry != NULL;
		entry = entry->next)
		if (entry->key->scope <= CONFIG_UPSTREAM &&
			(entry->key->type == CONFIG_PRESET) == preset_only)
			set(draft, entry->key, CONFIG_OF_FILE, entry->text,
				entry->origin);
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
	const char *value = variable(draft, name);

	if (value != NULL)
		set(draft, key, CONFIG_OF_ENVIRONMENT, value,
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

static void apply_overrides(struct config_draft *draft, bool preset_only)
{
	for (size_t i = 0; i < draft->source->n_overrides; i++) {
		const struct config_override *one =
			&draft->source->overrides[i];
		const struct config_key *key = config_key_by_path(one->key);

		if (key == NULL) {
			if (!preset_only)
				complain_unknown(draft, one);
		} else if ((key->type == CONFIG_PRESET) == preset_only) {
			set(draft, key, CONFIG_OF_OPTION, one->value,
				config_printf(draft, "%s", one->option));
		}
	}
}

static void apply_preset(struct config_draft *draft)
{
	const struct config_preset *preset =
		config_preset_find(draft->config->preset);
	const char *origin = config_printf(draft, "preset %s", preset->name);

	set(draft, &config_keys[CONFIG_K_FLAT_max_concurrent_requests],
		CONFIG_OF_PRESET, preset->max_concurrent_requests, origin);
	set(draft, &config_keys[CONFIG_K_FLAT_requests_per_minute],
		CONFIG_OF_PRESET, preset->requests_per_minute, origin);
	set(draft, &config_keys[CONFIG_K_FLAT_max_requests_per_user],
		CONFIG_OF_PRESET, preset->max_requests_per_user, origin);
}

/* Every layer is read, also below a higher one, so that all errors show. */
static void apply_layers(struct config_draft *draft)
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

/* ------------------------------------------------------------ blocks */

static size_t count_blocks(
	const struct config_draft *draft, enum config_scope scope)
{
	size_t n = 0;

	for (const struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next)
		n += block->scope == scope;
	return n;
}

/* The settings of one block into base. */
static void fill_block(
	struct config_draft *draft, struct config_block *block, void *base)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope == block->scope &&
			config_value_set(draft, &config_keys[i], base,
				config_keys[i].text, "default"))
			block->origins[i] = (struct config_origin){
				CONFIG_DEFAULT, "default"};
	for (const struct config_entry *entry = draft->entries; entry != NULL;
		entry = entry->next)
		if (entry->block == block &&
			config_value_set(draft, entry->key, base, entry->text,
				entry->origin))
			block->origins[entry->key - config_keys] =
				(struct config_origin){
					CONFIG_OF_FILE, entry->origin};
}

static void check_title(
	struct config_draft *draft, const struct config_block *block)
{
	size_t most = block->scope == CONFIG_USER ? 63 : 2047;
	char quoted[CONFIG_FOUND_BYTES];
	bool fine = block->title[0] != '\0' && strlen(block->title) <= most;

	for (const char *at = block->title; *at != '\0'; at++)
		fine = fine && *at >= 0x20 && *at <= 0x7e;
	if (block->scope == CONFIG_UPSTREAM &&
		strcmp(block->title, "bedrock") != 0)
		config_complain(draft, block->origin,
			"upstream: expected \"bedrock\", found %s",
			config_value_quote(block->title, quoted));
	else if (!fine)
		config_complain(draft, block->origin,
			"%s: expected a pattern of 1 to %zu printable ASCII "
			"characters, found %s",
			config_scope_name(block->scope), most,
			config_value_quote(block->title, quoted));
}

static void build_blocks(struct config_draft *draft)
{
	struct config *config = draft->config;
	struct config_private *own = config->own;

	own->models = config_alloc(draft,
		(count_blocks(draft, CONFIG_MODEL) + 1) * sizeof(*own->models));
	own->users = config_alloc(draft,
		(count_blocks(draft, CONFIG_USER) + 1) * sizeof(*own->users));
	if (own->models == NULL || own->users == NULL)
		return;
	for (struct config_block *block = own->blocks; block != NULL;
		block = block->next) {
		check_title(draft, block);
		if (block->scope == CONFIG_MODEL) {
			struct policy_model *model =
				&own->models[config->policy.n_models++];

			model->pattern = block->title;
			fill_block(draft, block, model);
		} else if (block->scope == CONFIG_USER) {
			struct policy_user_rule *user =
				&own->users[config->policy.n_users++];

			user->pattern = block->title;
			fill_block(draft, block, user);
		}
	}
	config->policy.models = own->models;
	config->policy.users = own->users;
}

/* ------------------------------------------------------------ together */

static const struct config_origin *origin_of(
	const struct config_draft *draft, enum config_key_index key)
{
	return &draft->config->own->origins[key];
}

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
		set(draft, a, of_a->rank, text_b,
			config_printf(draft, "%s, lowered to %s", of_a->text,
				b->name));
		return false;
	}
	config_complain(draft, a_first ? of_a->text : of_b->text,
		"%s (%s, from %s) is above %s (%s, from %s)", a->name, text_a,
		of_a->text, b->name, text_b, of_b->text);
	return true;
}

static void check_limits(struct config_draft *draft)
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

static void check_blocks(struct config_draft *draft)
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

/* ------------------------------------------------------------ places */

bool config_name_is_valid(const char *name)
{
	size_t bytes = strlen(name);

	return bytes >= 1 && bytes <= CONFIG_NAME_BYTES && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "abcdefghijklmnopqrstuvwxyz0123456789._-") == bytes;
}

/* systemd gives a service its directory; root has /run. */
static void choose_runtime_dir(struct config_draft *draft)
{
	const struct config_key *key = &config_keys[CONFIG_K_FLAT_runtime_dir];
	const char *given = variable(draft, "RUNTIME_DIRECTORY");
	const char *session = variable(draft, "XDG_RUNTIME_DIR");

	if (given != NULL)
		set(draft, key, CONFIG_AMBIENT,
			config_printf(
				draft, "%.*s", (int)strcspn(given, ":"), given),
			"environment RUNTIME_DIRECTORY");
	else if (geteuid() == 0)
		set(draft, key, CONFIG_DEFAULT, "/run/rgov", "default");
	else if (session != NULL)
		set(draft, key, CONFIG_AMBIENT,
			config_printf(draft, "%s/rgov", session),
			"environment XDG_RUNTIME_DIR");
	else
		set(draft, key, CONFIG_DEFAULT,
			config_printf(draft, "/tmp/rgov-%u", geteuid()),
			"default");
}

static void complete_places(struct config_draft *draft)
{
	struct config *config = draft->config;
	const size_t most = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;

	if (config->runtime_dir == NULL)
		choose_runtime_dir(draft);
	if (config->socket == NULL && config->runtime_dir != NULL)
		set(draft, &config_keys[CONFIG_K_FLAT_socket], CONFIG_DEFAULT,
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

/* ------------------------------------------------------------ loading */

static void choose_name(struct config_draft *draft)
{
	const char *name = draft->source->name;
	const char *origin = "--name";
	char quoted[CONFIG_FOUND_BYTES];

	if (name == NULL) {
		name = variable(draft, "RGOV_NAME");
		origin = "environment RGOV_NAME";
	}
	if (name == NULL)
		name = "default";
	if (!config_name_is_valid(name)) {
		config_complain(draft, origin,
			"expected a name of 1 to %d letters, digits, . _ - "
			"and no . first, found %s",
			CONFIG_NAME_BYTES, config_value_quote(name, quoted));
		return;
	}
	draft->config->name = config_printf(draft, "%s", name);
}

/* A file that was asked for must be there; the usual one need not. */
static int read_file(struct config_draft *draft)
{
	const struct config_source *source = draft->source;
	struct config *config = draft->config;
	const char *file = source->file;

	if (file == NULL)
		file = variable(draft, "RGOV_CONFIG");
	if (file != NULL) {
		config->file = config_printf(draft, "%s", file);
	} else {
		file = config_printf(draft, "%s/%s.conf",
			source->dir != NULL ? source->dir : "/etc/rgov",
			config->name);
		if (file == NULL)
			return -ENOMEM;
		if (access(file, F_OK) != 0 && errno == ENOENT)
			return 0;
		config->file = file;
	}
	return config->file == NULL ? -ENOMEM
				    : config_file_read(draft, config->file);
}

static int build(struct config_draft *draft)
{
	int rc;

	choose_name(draft);
	if (draft->config->name == NULL)
		return draft->no_memory ? -ENOMEM : -EINVAL;
	rc = read_file(draft);
	/* What could not be read whole would only give misleading errors. */
	if (rc != 0 && draft->entries == NULL)
		return rc;
	apply_layers(draft);
	build_blocks(draft);
	if (rc == 0 && draft->error->n == 0 && !draft->no_memory) {
		complete_places(draft);
		fit_guard(draft);
		check_limits(draft);
		check_blocks(draft);
	}
	if (draft->no_memory)
		return -ENOMEM;
	if (rc != 0)
		return rc;
	return draft->error->n > 0 ? -EINVAL : 0;
}

int config_load(const struct config_source *source, struct config **ret_config,
	struct config_error *ret_error)
{
	struct config_draft draft = {.source = source, .error = ret_error};
	int rc;

	ret_error->n = 0;
	draft.config = make_config();
	if (draft.config == NULL)
		return -ENOMEM;
	rc = build(&draft);
	if (rc != 0) {
		config_free(draft.config);
		return rc;
	}
	*ret_config = draft.config;
	return 0;
}

/* ------------------------------------------------------------ who may */

static bool lists(const struct config_ids *ids, uint32_t id)
{
	for (size_t i = 0; i < ids->n; i++)
		if (ids->ids[i] == id)
			return true;
	return false;
}

bool config_lets_in(const struct config *config, uid_t own_uid, uid_t uid,
	const gid_t *gids, size_t n_gids)
{
	if (config->allow_uids.n == 0 && config->allow_gids.n == 0)
		return true;
	if (uid == 0 || uid == own_uid || lists(&config->allow_uids, uid))
		return true;
	for (size_t i = 0; i < n_gids; i++)
		if (lists(&config->allow_gids, gids[i]))
			return true;
	return false;
}

bool config_lets_govern(const struct config *config, uid_t own_uid, uid_t uid)
{
	if (config->admin_uids.n > 0)
		return lists(&config->admin_uids, uid);
	return uid == 0 || uid == own_uid;
}
