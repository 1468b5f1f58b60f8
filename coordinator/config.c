/*
 * Makes a configuration, in this order: the file (config_file.c), the layers
 * over the defaults (config_layers.c), the blocks (config_blocks.c), what
 * depends on other settings and what contradicts them (config_check.c).  Single
 * values are config_value.c.
 */
#include "coordinator/config_private.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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

__attribute__((format(printf, 3, 0))) static void note(
	struct config_error *list, const char *origin, const char *format,
	va_list args)
{
	char *text;
	int used;

	if (list->n++ >= CONFIG_ERRORS)
		return;
	text = list->text[list->n - 1];
	used = snprintf(text, CONFIG_ERROR_BYTES, "%.300s: ", origin);
	(void)vsnprintf(
		text + used, (size_t)(CONFIG_ERROR_BYTES - used), format, args);
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

void config_complain(
	struct config_draft *draft, const char *origin, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note(draft->error, origin, format, args);
	va_end(args);
}

void config_warn(
	struct config_draft *draft, const char *origin, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	note(&draft->config->own->warnings, origin, format, args);
	va_end(args);
}

const struct config_error *config_warnings(const struct config *config)
{
	return &config->own->warnings;
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

/* ------------------------------------------------------------ loading */

bool config_name_is_valid(const char *name)
{
	size_t bytes = strlen(name);

	return bytes >= 1 && bytes <= CONFIG_NAME_BYTES && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "abcdefghijklmnopqrstuvwxyz0123456789._-") == bytes;
}

static void choose_name(struct config_draft *draft)
{
	const char *name = draft->source->name;
	const char *origin = "--name";
	char quoted[CONFIG_FOUND_BYTES];

	if (name == NULL) {
		name = config_variable(draft, "RGOV_NAME");
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
		file = config_variable(draft, "RGOV_CONFIG");
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
	if (config->file == NULL)
		return -ENOMEM;
	return source->in_child ? config_child_read(draft, config->file)
				: config_file_read(draft, config->file);
}

static int build(struct config_draft *draft)
{
	int rc;

	choose_name(draft);
	if (draft->config->name == NULL)
		return draft->no_memory ? -ENOMEM : -EINVAL;
	rc = read_file(draft);
	if (draft->no_memory)
		return -ENOMEM;
	/* What could not be read whole would only give misleading errors. */
	if (rc != 0 && draft->entries == NULL)
		return rc;
	config_apply_layers(draft);
	if (draft->no_memory)
		return -ENOMEM;
	config_build_blocks(draft);
	if (rc == 0 && draft->error->n == 0 && !draft->no_memory) {
		config_complete(draft);
		config_check_limits(draft);
		config_check_blocks(draft);
		config_check_patterns(draft);
		config_check_cluster(draft);
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

bool config_lets_read_tasks(const struct config *config, uid_t own_uid,
	uid_t uid, const gid_t *gids, size_t n_gids)
{
	if (uid == own_uid || config_lets_govern(config, own_uid, uid))
		return true;
	for (size_t i = 0; i < n_gids; i++)
		if (lists(&config->tasks.gids, gids[i]))
			return true;
	return false;
}
