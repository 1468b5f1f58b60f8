/*
 * The blocks of the file: each becomes one element of an array that policy or
 * upstream is given.  What their patterns hide from each other is
 * config_pattern.c, what their limits contradict config_check.c.
 */
#include "coordinator/config_private.h"

#include <assert.h>
#include <string.h>

/* ------------------------------------------------------------ titles */

/* "ThrottlingException", "503" */
static bool is_code(const char *title)
{
	uint64_t status;

	if (config_value_whole(title, &status))
		return status >= 400 && status <= 599;
	return strspn(title, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "abcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       strlen(title) &&
	       strlen(title) < UPSTREAM_CODE_BYTES && title[0] != '\0' &&
	       strchr("0123456789._-", title[0]) == NULL;
}

static size_t longest_pattern(enum config_scope scope)
{
	return scope == CONFIG_MODEL ? 2047 : 63;
}

static bool is_pattern(enum config_scope scope, const char *title)
{
	for (const char *at = title; *at != '\0'; at++)
		if (*at < 0x20 || *at > 0x7e)
			return false;
	return title[0] != '\0' && strlen(title) <= longest_pattern(scope);
}

static void check_title(
	struct config_draft *draft, const struct config_block *block)
{
	char quoted[CONFIG_FOUND_BYTES];

	config_value_quote(block->title, quoted);
	if (block->scope == CONFIG_UPSTREAM) {
		if (strcmp(block->title, "bedrock") != 0)
			config_complain(draft, block->origin,
				"upstream: expected \"bedrock\", found %s",
				quoted);
	} else if (block->scope == CONFIG_ERROR) {
		if (!is_code(block->title))
			config_complain(draft, block->origin,
				"error: expected the name of an error or a "
				"status of 400 to 599, found %s",
				quoted);
	} else if (!is_pattern(block->scope, block->title)) {
		config_complain(draft, block->origin,
			"%s: expected a pattern of 1 to %zu printable ASCII "
			"characters, found %s",
			config_scope_name(block->scope),
			longest_pattern(block->scope), quoted);
	}
}

/* ------------------------------------------------------------ values */

static void set(struct config_draft *draft, struct config_block *block,
	const struct config_key *key, struct config_origin origin,
	const char *text)
{
	if (config_value_set(draft, key, block->values, text, origin.text))
		block->origins[key - config_keys] = origin;
}

static void check_complete(
	struct config_draft *draft, const struct config_block *block)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];
		bool is_said = false;

		if (key->scope != block->scope || key->text != NULL)
			continue;
		for (const struct config_entry *entry = draft->entries;
			entry != NULL; entry = entry->next)
			is_said = is_said ||
				  (entry->block == block && entry->key == key);
		if (!is_said)
			config_complain(draft, block->origin,
				"%s \"%s\": expected %s = %s, found nothing",
				config_scope_name(block->scope), block->title,
				key->name, key->words);
	}
}

static void fill(struct config_draft *draft, struct config_block *block)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope == block->scope &&
			config_keys[i].text != NULL)
			set(draft, block, &config_keys[i],
				(struct config_origin){
					CONFIG_DEFAULT, "default"},
				config_keys[i].text);
	for (const struct config_entry *entry = draft->entries; entry != NULL;
		entry = entry->next)
		if (entry->block == block)
			set(draft, block, entry->key,
				(struct config_origin){
					CONFIG_OF_FILE, entry->origin},
				entry->text);
	check_complete(draft, block);
}

/* ------------------------------------------------------------ arrays */

/* The blocks of one kind, in the order of the file. */
struct array {
	size_t bytes; /* of one */
	void *values;
	size_t n;
};

/* A pattern or code is the first member of each. */
static_assert(offsetof(struct policy_model, pattern) == 0 &&
		      offsetof(struct policy_user_rule, pattern) == 0 &&
		      offsetof(struct policy_app_rule, pattern) == 0 &&
		      offsetof(struct upstream_error_rule, code) == 0,
	"a title is stored as the first member");

static void add(struct config_draft *draft, struct array *array,
	struct config_block *block)
{
	block->values = (char *)array->values + array->n++ * array->bytes;
	*(const char **)block->values = block->title;
	fill(draft, block);
}

static size_t count(const struct config_draft *draft, enum config_scope scope)
{
	size_t n = 0;

	for (const struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next)
		n += block->scope == scope;
	return n;
}

const char *config_model_origin(const struct config *config, size_t i)
{
	const struct config_block *block = config->own->blocks;

	while (block != NULL && (block->scope != CONFIG_MODEL || i-- > 0))
		block = block->next;
	return block != NULL ? block->origin : "";
}

void config_build_blocks(struct config_draft *draft)
{
	struct policy_config *policy = &draft->config->policy;
	struct upstream_config *upstream = &draft->config->upstream;
	struct array of[CONFIG_SCOPES] = {
		[CONFIG_MODEL] = {.bytes = sizeof(*policy->models)},
		[CONFIG_USER] = {.bytes = sizeof(*policy->users)},
		[CONFIG_APPLICATION] = {.bytes = sizeof(*policy->apps)},
		[CONFIG_ERROR] = {.bytes = sizeof(*upstream->errors)},
	};

	for (int s = CONFIG_MODEL; s < CONFIG_SCOPES; s++) {
		of[s].values = config_alloc(draft,
			(count(draft, (enum config_scope)s) + 1) * of[s].bytes);
		if (of[s].values == NULL)
			return;
	}
	for (struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next) {
		check_title(draft, block);
		if (block->scope >= CONFIG_MODEL)
			add(draft, &of[block->scope], block);
	}
	policy->models = of[CONFIG_MODEL].values;
	policy->n_models = of[CONFIG_MODEL].n;
	policy->users = of[CONFIG_USER].values;
	policy->n_users = of[CONFIG_USER].n;
	policy->apps = of[CONFIG_APPLICATION].values;
	policy->n_apps = of[CONFIG_APPLICATION].n;
	upstream->errors = of[CONFIG_ERROR].values;
	upstream->n_errors = of[CONFIG_ERROR].n;
}
