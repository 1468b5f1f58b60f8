/*
 * The configuration file through libConfuse: which settings and blocks stand
 * on which lines.  Every value stays text here; what it means is judged later,
 * so that one run reports all wrong values.  Only this file knows libConfuse,
 * whose scanner keeps its state in globals: one file at a time.
 */
#include "coordinator/config_private.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* libConfuse hands no argument to its callbacks. */
static struct parse {
	struct config_draft *draft;
	const char *file;
	cfg_t *root;
	size_t n_blocks;
} parse;

static const char *line_origin(const cfg_t *cfg)
{
	const char *origin =
		config_printf(parse.draft, "%s:%d", parse.file, cfg->line);

	return origin != NULL ? origin : parse.file;
}

static enum config_scope scope_of(const cfg_t *cfg)
{
	for (int s = CONFIG_UPSTREAM; s < CONFIG_SCOPES; s++)
		if (cfg != parse.root &&
			strcmp(cfg->name,
				config_scope_name((enum config_scope)s)) == 0)
			return (enum config_scope)s;
	return CONFIG_FLAT;
}

/* The block that a section of libConfuse is; made when first seen. */
static struct config_block *block_of(const cfg_t *cfg)
{
	struct config_draft *draft = parse.draft;
	struct config_block *block = draft->last_block;

	/* Blocks do not nest: the last one is the only one that can be open.
	 * Its mark is cleared at its end, as libConfuse may reuse the memory.
	 */
	if (block != NULL && block->mark == cfg)
		return block;
	block = config_alloc(draft, sizeof(*block));
	if (block == NULL)
		return NULL;
	block->scope = scope_of(cfg);
	block->title = config_printf(draft, "%s", cfg->title);
	/* The root stands on the line of the opening brace meanwhile. */
	block->origin = line_origin(parse.root);
	block->mark = cfg;
	if (draft->last_block == NULL)
		draft->config->own->blocks = block;
	else
		draft->last_block->next = block;
	draft->last_block = block;
	parse.n_blocks++;
	return block->title == NULL ? NULL : block;
}

static struct config_entry *find_entry(
	const struct config_key *key, const struct config_block *block)
{
	struct config_entry *entry = parse.draft->entries;

	while (entry != NULL && (entry->key != key || entry->block != block))
		entry = entry->next;
	return entry;
}

static int add_entry(const struct config_key *key, struct config_block *block,
	const char *text, const char *origin)
{
	struct config_draft *draft = parse.draft;
	struct config_entry *entry = config_alloc(draft, sizeof(*entry));

	if (entry == NULL)
		return -1;
	*entry = (struct config_entry){.key = key,
		.block = block,
		.text = config_printf(draft, "%s", text),
		.origin = origin,
		.n = 1};
	if (draft->entries == NULL)
		draft->entries = entry;
	else
		draft->last_entry->next = entry;
	draft->last_entry = entry;
	return entry->text == NULL ? -1 : 0;
}

/* A further element of a list that is there already. */
static int extend_entry(struct config_entry *list, const char *text)
{
	/* Past the bound the judge of the value complains, once. */
	if (list->n > CONFIG_IDS)
		return 0;
	list->n++;
	list->text = config_printf(parse.draft, "%s,%s", list->text, text);
	return list->text == NULL ? -1 : 0;
}

static void complain_unknown(cfg_t *cfg, const char *name)
{
	enum config_scope scope = scope_of(cfg);
	char hint[160], quoted[CONFIG_FOUND_BYTES];

	config_complain(parse.draft, line_origin(cfg),
		"unknown setting %s%s%s%s", config_value_quote(name, quoted),
		scope == CONFIG_FLAT ? "" : " in a block of kind ",
		config_scope_name(scope), config_key_hint(scope, name, hint));
}

/* A quoted name like "user=x|weight" reaches into another block. */
static bool belongs(const cfg_t *cfg, const cfg_opt_t *opt)
{
	const cfg_opt_t *own = cfg->opts;

	while (own->name != NULL && own != opt)
		own++;
	return own == opt;
}

/* libConfuse read a value (or an element of a list). */
static int take_value(
	cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	const struct config_key *key =
		config_key_find(scope_of(cfg), opt->name);
	struct config_block *block = NULL;
	struct config_entry *before;
	const char *origin = line_origin(cfg);

	/* libConfuse copies it and nobody reads the copy. */
	*(const char **)result = "";
	if (key == NULL || !belongs(cfg, opt)) {
		complain_unknown(cfg, opt->name);
		return -1;
	}
	if (cfg != parse.root) {
		block = block_of(cfg);
		if (block == NULL)
			return -1;
	}
	before = find_entry(key, block);
	if (before == NULL)
		return add_entry(key, block, value, origin);
	/* Elements come one by one; the first finds the list just emptied. */
	if (config_value_is_list(key) && opt->nvalues > 1)
		return extend_entry(before, value);
	config_complain(parse.draft, origin, "%s: was set before, at %s",
		key->name, before->origin);
	return 0;
}

/* libConfuse reached the end of a block. */
static int end_block(cfg_t *cfg, cfg_opt_t *opt)
{
	struct config_block *block =
		block_of(cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1));

	(void)cfg;
	if (block == NULL)
		return -1;
	block->mark = NULL;
	if (parse.n_blocks <= CONFIG_BLOCKS)
		return 0;
	config_complain(parse.draft, block->origin, "more than %d blocks",
		CONFIG_BLOCKS);
	return -1;
}

static void complain_twice(cfg_t *cfg, const char *title)
{
	const struct config_block *first = NULL;
	char quoted[CONFIG_FOUND_BYTES];
	size_t n = 0;

	for (const struct config_block *block =
			parse.draft->config->own->blocks;
		block != NULL; block = block->next)
		if (strcmp(block->title, title) == 0 && n++ == 0)
			first = block;
	/* Blocks of two kinds may share a title: then either may be the first.
	 */
	config_complain(parse.draft, line_origin(cfg),
		"a second block for %s%s%s", config_value_quote(title, quoted),
		n == 1 ? ", the first is at " : "",
		n == 1 ? first->origin : "");
}

/* What libConfuse itself complains about; it stops reading then. */
__attribute__((format(printf, 2, 0))) static void take_error(
	cfg_t *cfg, const char *format, va_list args)
{
	char text[CONFIG_ERROR_BYTES];
	va_list again;

	va_copy(again, args);
	if (strcmp(format, "no such option '%s'") == 0)
		complain_unknown(cfg, va_arg(again, const char *));
	else if (strcmp(format, "found duplicate title '%s'") == 0)
		complain_twice(cfg, va_arg(again, const char *));
	else {
		vsnprintf(text, sizeof(text), format, args);
		config_complain(parse.draft, line_origin(cfg), "%s", text);
	}
	va_end(again);
}

/* ------------------------------------------------------------ its tables */

static void fill_options(enum config_scope scope, cfg_opt_t *options)
{
	size_t n = 0;

	for (size_t i = 0; i < CONFIG_KEYS; i++) {
		const struct config_key *key = &config_keys[i];
		cfg_opt_t one = CFG_STR_CB(key->name, NULL,
			CFGF_NODEFAULT |
				(config_value_is_list(key) ? CFGF_LIST
							   : CFGF_NONE),
			take_value);

		if (key->scope == scope)
			options[n++] = one;
	}
	options[n] = (cfg_opt_t)CFG_END();
}

static cfg_opt_t section(enum config_scope scope, cfg_opt_t *options)
{
	cfg_opt_t one = CFG_SEC(config_scope_name(scope), options,
		CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES | CFGF_NODEFAULT);

	fill_options(scope, options);
	one.validcb = end_block;
	return one;
}

/* libConfuse copies the tables. */
static cfg_t *make_parser(void)
{
	static cfg_opt_t root[CONFIG_KEYS + CONFIG_SCOPES];
	static cfg_opt_t blocks[CONFIG_SCOPES][CONFIG_KEYS + 1];
	size_t n = 0;

	fill_options(CONFIG_FLAT, root);
	while (root[n].name != NULL)
		n++;
	for (int s = CONFIG_UPSTREAM; s < CONFIG_SCOPES; s++)
		root[n++] = section((enum config_scope)s, blocks[s]);
	root[n] = (cfg_opt_t)CFG_END();
	return cfg_init(root, CFGF_NONE);
}

static int run_parser(cfg_t *cfg, char *text)
{
	FILE *stream = fmemopen(text, strlen(text), "r");
	int rc;

	if (stream == NULL)
		return -errno;
	rc = cfg_parse_fp(cfg, stream) == CFG_SUCCESS ? 0 : -EINVAL;
	(void)fclose(stream);
	return rc;
}

int config_file_read(struct config_draft *draft, const char *file)
{
	size_t complaints = draft->error->n;
	char *text;
	int rc = config_text_read(draft, file, &text);
	cfg_t *cfg;

	if (rc != 0)
		return rc;
	cfg = make_parser();
	if (cfg == NULL) {
		free(text);
		return -ENOMEM;
	}
	(void)cfg_set_error_function(cfg, take_error);
	parse = (struct parse){.draft = draft, .file = file, .root = cfg};
	rc = run_parser(cfg, text);
	free(text);
	/* Also puts the scanner back, which a broken file leaves in a string.
	 */
	(void)cfg_free(cfg);
	parse = (struct parse){0};
	if (draft->no_memory || (rc != 0 && draft->error->n == complaints))
		return -ENOMEM;
	return rc;
}
