/*
 * Configurations to look at: one as text that could be loaded again, and what
 * differs between two.
 */
#include "coordinator/cluster/redis_url.h"
#include "coordinator/config_private.h"

#include <errno.h>
#include <string.h>

/* Columns before the comment with the origin. */
enum { VALUE_COLUMNS = 44 };

static size_t append_quoted(char *text, size_t used, const char *value)
{
	text[used++] = '"';
	for (; *value != '\0'; value++) {
		if (*value == '"' || *value == '\\')
			text[used++] = '\\';
		text[used++] = *value;
	}
	text[used++] = '"';
	text[used] = '\0';
	return used;
}

/* ${…} is refused in double quotes, so its dollar goes into single ones. */
static void print_quoted(const char *value, char *ret_text)
{
	size_t used = 0;

	if (strstr(value, "${") == NULL) {
		(void)append_quoted(ret_text, 0, value);
		return;
	}
	ret_text[used++] = '\'';
	for (; *value != '\0'; value++) {
		if (*value == '\'' || *value == '\\')
			ret_text[used++] = '\\';
		ret_text[used++] = *value;
	}
	strcpy(ret_text + used, "'");
}

static void dump_value(const struct config_key *key, const void *base,
	const struct config_origin *origin, const char *indent, FILE *out)
{
	char value[CONFIG_VALUE_BYTES];
	char text[2 * CONFIG_VALUE_BYTES + 4];
	bool plain = key->type == CONFIG_U32 || key->type == CONFIG_U64 ||
		     key->type == CONFIG_REAL || key->type == CONFIG_BOOL;

	config_value_print(key, base, value, sizeof(value));
	if (config_value_is_text(key) && value[0] == '\0') {
		fprintf(out, "%s# %s is not set\n", indent, key->name);
		return;
	}
	if (key->type == CONFIG_REDIS) {
		char secret[CONFIG_VALUE_BYTES];

		memcpy(secret, value, sizeof(secret));
		redis_url_mask(secret, value, sizeof(value));
	}
	if (config_value_is_list(key))
		snprintf(text, sizeof(text), "{%s}", value);
	else if (plain)
		snprintf(text, sizeof(text), "%s", value);
	else
		print_quoted(value, text);
	fprintf(out, "%s%s = %-*s # %s\n", indent, key->name,
		VALUE_COLUMNS - (int)(strlen(indent) + strlen(key->name)), text,
		origin->text == NULL ? "default" : origin->text);
}

static void dump_scope(enum config_scope scope, const void *base,
	const struct config_origin *origins, const char *indent, FILE *out)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope == scope)
			dump_value(&config_keys[i], base, &origins[i], indent,
				out);
}

static void dump_block(const struct config_block *block, FILE *out)
{
	char text[2 * CONFIG_VALUE_BYTES + 4];

	print_quoted(block->title, text);
	fprintf(out, "\n%s %s { # %s\n", config_scope_name(block->scope), text,
		block->origin);
	dump_scope(block->scope, block->values, block->origins, "\t", out);
	fprintf(out, "}\n");
}

int config_dump(const struct config *config, FILE *out)
{
	fprintf(out, "# governor \"%s\", configuration file %s\n", config->name,
		config->file != NULL ? config->file : "none");
	dump_scope(CONFIG_FLAT, config, config->own->origins, "", out);
	fprintf(out, "\nupstream \"bedrock\" {\n");
	dump_scope(CONFIG_UPSTREAM, config, config->own->origins, "\t", out);
	fprintf(out, "}\n");
	for (const struct config_block *block = config->own->blocks;
		block != NULL; block = block->next)
		if (block->scope != CONFIG_UPSTREAM)
			dump_block(block, out);
	return fflush(out) != 0 || ferror(out) ? -EIO : 0;
}

/* ------------------------------------------------------------ limits */

static bool is_limit(const struct config_key *key)
{
	if (key->scope == CONFIG_FLAT)
		return (key->offset >= offsetof(struct config, policy) &&
			       key->offset <
				       offsetof(struct config, upstream)) ||
		       key == &config_keys[CONFIG_K_FLAT_default_timeout];
	return key->scope == CONFIG_MODEL || key->scope == CONFIG_USER ||
	       key->scope == CONFIG_APPLICATION;
}

static void see_scope(enum config_scope scope, const char *title,
	const void *base,
	void (*see)(void *arg, const char *path, const char *value), void *arg)
{
	char path[2 * CONFIG_VALUE_BYTES], value[CONFIG_VALUE_BYTES];

	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];

		if (key->scope != scope || !is_limit(key) ||
			config_value_is_list(key))
			continue;
		config_value_print(key, base, value, sizeof(value));
		if (scope == CONFIG_FLAT)
			snprintf(path, sizeof(path), "%s", key->name);
		else
			snprintf(path, sizeof(path), "%s.%s.%s",
				config_scope_name(scope), title, key->name);
		see(arg, path, value);
	}
}

void config_each_limit(const struct config *config,
	void (*see)(void *arg, const char *path, const char *value), void *arg)
{
	see_scope(CONFIG_FLAT, "", config, see, arg);
	for (const struct config_block *block = config->own->blocks;
		block != NULL; block = block->next)
		see_scope(block->scope, block->title, block->values, see, arg);
}

/* ------------------------------------------------------------ differences */

struct names {
	char *text;
	size_t bytes, used, n;
};

static void add_name(struct names *names, const char *name)
{
	int wrote;

	if (names->used < names->bytes) {
		wrote = snprintf(names->text + names->used,
			names->bytes - names->used, "%s%s",
			names->n > 0 ? ", " : "", name);
		names->used += (size_t)wrote;
	}
	names->n++;
}

static bool values_differ(
	const struct config_key *key, const void *a, const void *b)
{
	char left[CONFIG_VALUE_BYTES], right[CONFIG_VALUE_BYTES];

	config_value_print(key, a, left, sizeof(left));
	config_value_print(key, b, right, sizeof(right));
	return strcmp(left, right) != 0;
}

static bool scopes_differ(enum config_scope scope, const void *a, const void *b)
{
	for (size_t i = 0; i < CONFIG_KEYS; i++)
		if (config_keys[i].scope == scope &&
			values_differ(&config_keys[i], a, b))
			return true;
	return false;
}

/* The next block of a kind, from this one on. */
static const struct config_block *of_kind(
	const struct config_block *block, enum config_scope scope)
{
	while (block != NULL && block->scope != scope)
		block = block->next;
	return block;
}

/* Their order counts: the first that matches wins. */
static bool blocks_differ(const struct config *old, const struct config *new,
	enum config_scope scope)
{
	const struct config_block *a = of_kind(old->own->blocks, scope);
	const struct config_block *b = of_kind(new->own->blocks, scope);

	while (a != NULL && b != NULL) {
		if (strcmp(a->title, b->title) != 0 ||
			scopes_differ(scope, a->values, b->values))
			return true;
		a = of_kind(a->next, scope);
		b = of_kind(b->next, scope);
	}
	return a != b;
}

static size_t diff(const struct config *old, const struct config *new,
	bool restart_only, char *ret_keys, size_t bytes)
{
	struct names names = {.text = ret_keys, .bytes = bytes};
	char path[64];

	if (bytes > 0)
		ret_keys[0] = '\0';
	if (strcmp(old->name, new->name) != 0)
		add_name(&names, "name");
	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];

		if (key->scope <= CONFIG_UPSTREAM &&
			(key->restart || !restart_only) &&
			values_differ(key, old, new))
			add_name(&names, config_key_path(key, path));
	}
	for (int s = CONFIG_MODEL; s < CONFIG_SCOPES && !restart_only; s++)
		if (blocks_differ(old, new, (enum config_scope)s))
			add_name(&names,
				config_scope_name((enum config_scope)s));
	return names.n;
}

size_t config_diff_needs_restart(const struct config *old,
	const struct config *new, char *ret_keys, size_t bytes)
{
	return diff(old, new, true, ret_keys, bytes);
}

size_t config_diff(const struct config *old, const struct config *new,
	char *ret_keys, size_t bytes)
{
	return diff(old, new, false, ret_keys, bytes);
}
