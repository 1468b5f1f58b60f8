/*
 * The table of settings and presets, and finding one in it, also when it was
 * misspelt.  What a value may be is config_value.c.
 */
#include "coordinator/config_private.h"
#include "shm-layout/shm_limits.h"

#include <assert.h>
#include <string.h>

#define S 1e9
#define MS 1e6

#define OFFSET_FLAT(field) offsetof(struct config, field)
#define OFFSET_UPSTREAM(field) offsetof(struct config, field)
#define OFFSET_MODEL(field) offsetof(struct policy_model, field)
#define OFFSET_USER(field) offsetof(struct policy_user_rule, field)
#define OFFSET_APPLICATION(field) offsetof(struct policy_app_rule, field)
#define OFFSET_ERROR(field) offsetof(struct upstream_error_rule, field)
#define ENTRY(scope_, key, type_, field, text_, least_, most_, words_, fixed)  \
	[CONFIG_K_##scope_##_##key] = {.scope = CONFIG_##scope_,               \
		.type = CONFIG_##type_,                                        \
		.restart = fixed,                                              \
		.name = #key,                                                  \
		.offset = OFFSET_##scope_(field),                              \
		.text = text_,                                                 \
		.least = least_,                                               \
		.most = most_,                                                 \
		.words = words_},
#define SETTING(...) ENTRY(__VA_ARGS__, false)
#define RESTART(...) ENTRY(__VA_ARGS__, true)
const struct config_key config_keys[CONFIG_KEYS] = {
#include "coordinator/config.def"
};

static_assert(sizeof(size_t) == sizeof(uint64_t), "SIZE fields are 64 bits");
static_assert(sizeof(enum loop_engine) == sizeof(int) &&
		      sizeof(enum log_format) == sizeof(int) &&
		      sizeof(enum log_level) == sizeof(int) &&
		      sizeof(enum config_client_death) == sizeof(int) &&
		      sizeof(enum lease_loss) == sizeof(int) &&
		      sizeof(enum policy_learned) == sizeof(int) &&
		      sizeof(enum upstream_retry) == sizeof(int),
	"CHOICE fields are stored as int");
static_assert(offsetof(struct policy_model, n_fallback) -
			      offsetof(struct policy_model, fallback) ==
		      offsetof(struct config_texts, n),
	"a list of texts is a struct config_texts");
static_assert(offsetof(struct config, tasks.n_callbacks) -
			      offsetof(struct config, tasks.callbacks) ==
		      offsetof(struct config_texts, n),
	"and so is this one");
static_assert((int)CONFIG_NAME_BYTES == (int)SHM_NAME_BYTES - 1,
	"a name fits the board and the wire");

static const struct config_preset presets[] = {
	{"development", "2", "20", "2"},
	{"production-low", "3", "30", "2"},
	{"production-high", "5", "80", "3"},
	{"single-user", "1", "20", "1"},
};

const struct config_preset *config_preset_find(const char *name)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		if (strcmp(presets[i].name, name) == 0)
			return &presets[i];
	return NULL;
}

const char *config_preset_names(char ret_names[128])
{
	size_t used = 0;

	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		used += (size_t)snprintf(ret_names + used, 128 - used, "%s%s",
			i > 0 ? ", " : "", presets[i].name);
	return ret_names;
}

const char *config_scope_name(enum config_scope scope)
{
	switch (scope) {
	case CONFIG_FLAT:
		return "";
	case CONFIG_UPSTREAM:
		return "upstream";
	case CONFIG_MODEL:
		return "model";
	case CONFIG_USER:
		return "user";
	case CONFIG_APPLICATION:
		return "application";
	case CONFIG_ERROR:
		return "error";
	case CONFIG_SCOPES:
		break;
	}
	return "";
}

const struct config_key *config_key_find(
	enum config_scope scope, const char *name)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope == scope &&
			strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	return NULL;
}

const struct config_key *config_key_by_path(const char *path)
{
	static const char prefix[] = "upstream.";

	if (strncmp(path, prefix, strlen(prefix)) == 0)
		return config_key_find(CONFIG_UPSTREAM, path + strlen(prefix));
	return config_key_find(CONFIG_FLAT, path);
}

const char *config_key_path(const struct config_key *key, char ret_path[64])
{
	const char *scope = config_scope_name(key->scope);

	snprintf(ret_path, 64, "%s%s%s", scope, scope[0] != '\0' ? "." : "",
		key->name);
	return ret_path;
}

/* ------------------------------------------------------------ hints */

enum { LONGEST_NAME = 40, NO_MATCH = 1000 };

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Letters to insert, drop, change or swap (with the next) between two names. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t rows[3][LONGEST_NAME + 1];
	size_t n = strlen(a), m = strlen(b);

	if (n > LONGEST_NAME || m > LONGEST_NAME)
		return NO_MATCH;
	for (size_t j = 0; j <= m; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *row = rows[i % 3];
		const size_t *above = rows[(i - 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			row[j] = least(least(above[j], row[j - 1]) + 1,
				above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
				a[i - 2] == b[j - 1])
				row[j] = least(
					row[j], rows[(i - 2) % 3][j - 2] + 1);
		}
	}
	return rows[n % 3][m];
}

/* How far a misspelt name is from a real one; a part of it is near too. */
static size_t distance(const char *wrong, const char *right)
{
	size_t far = edit_distance(wrong, right);

	if (far <= 1 + strlen(right) / 5)
		return far;
	if (strlen(wrong) >= 4 &&
		(strstr(right, wrong) != NULL || strstr(wrong, right) != NULL))
		return 10 + far;
	return NO_MATCH;
}

/* The nearest setting of a scope, or block of the root. */
static const char *nearest(enum config_scope scope, const char *name)
{
	const char *best = NULL;
	size_t best_far = NO_MATCH;

	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const char *right = config_keys[i].name;
		size_t far = distance(name, right);

		if (config_keys[i].scope == scope && far < best_far) {
			best = right;
			best_far = far;
		}
	}
	for (int s = CONFIG_UPSTREAM; scope == CONFIG_FLAT && s < CONFIG_SCOPES;
		s++) {
		const char *right = config_scope_name((enum config_scope)s);
		size_t far = distance(name, right);

		if (far < best_far) {
			best = right;
			best_far = far;
		}
	}
	return best;
}

const char *config_key_hint(
	enum config_scope scope, const char *name, char ret_hint[160])
{
	const char *best = nearest(scope, name);

	ret_hint[0] = '\0';
	for (int s = CONFIG_FLAT; s < CONFIG_SCOPES; s++) {
		if ((enum config_scope)s == scope ||
			config_key_find((enum config_scope)s, name) == NULL)
			continue;
		if (s == CONFIG_FLAT)
			snprintf(ret_hint, 160,
				"; it belongs outside of the block");
		else
			snprintf(ret_hint, 160,
				"; it belongs into a block: %s \"…\" { %s = … "
				"}",
				config_scope_name((enum config_scope)s), name);
		return ret_hint;
	}
	if (best != NULL)
		snprintf(ret_hint, 160, "; did you mean \"%s\"?", best);
	return ret_hint;
}
