/*
 * What the files config*.c share, and nobody else includes: the table of
 * settings, a configuration under construction, and its memory.
 */
#ifndef COORDINATOR_CONFIG_PRIVATE_H
#define COORDINATOR_CONFIG_PRIVATE_H

#include "coordinator/config.h"

enum {
	CONFIG_FOUND_BYTES = 80, /* of a wrong value, as quoted in a message */
	CONFIG_VALUE_BYTES = 8192, /* of any value, as text */
	CONFIG_IDS = 256,          /* in one list */
	CONFIG_BLOCKS = 256,       /* of one kind */
	CONFIG_FALLBACKS = 8,      /* of one model */
};

/* The root of the file, or a kind of block. */
enum config_scope {
	CONFIG_FLAT,
	CONFIG_UPSTREAM,
	/* From here on: any number of blocks, each with a title. */
	CONFIG_MODEL,
	CONFIG_USER,
	CONFIG_APPLICATION,
	CONFIG_ERROR,
	CONFIG_SCOPES
};

enum config_type {
	CONFIG_PRESET, /* const char *, a preset's name */
	CONFIG_U32,
	CONFIG_U64,
	CONFIG_SIZE, /* uint64_t, bytes: 512, 64k, 2M, 1G */
	CONFIG_SPAN, /* uint64_t, ns: 250ms, 30s, 2m, 1h, bare seconds */
	CONFIG_REAL, /* double */
	CONFIG_BOOL,
	CONFIG_CHOICE, /* an enum */
	CONFIG_MODE,   /* uint32_t, octal */
	CONFIG_TEXT,   /* const char *, as the following */
	CONFIG_PATH,   /* absolute */
	CONFIG_FILE,   /* absolute, and readable now */
	CONFIG_URL,
	CONFIG_REDIS, /* const char *, never shown without its password masked
		       */
	CONFIG_REGION,
	CONFIG_UIDS, /* struct config_ids: numbers or names */
	CONFIG_GIDS,
	CONFIG_MODELS, /* struct config_texts: model ids */
	CONFIG_URLS,   /* struct config_texts: what URLs begin with */
};

/* A list of texts. */
struct config_texts {
	const char *const *texts;
	size_t n;
};

struct config_key {
	enum config_scope scope;
	enum config_type type;
	bool restart; /* a reload cannot change it */
	const char *name;
	size_t offset;    /* in struct config, or in what a block is */
	const char *text; /* the default; NULL: worked out, or unset */
	double least, most;
	const char *words; /* of a CHOICE: "a|b|c" */
};

#define SETTING(scope, key, ...) CONFIG_K_##scope##_##key,
enum config_key_index {
#include "coordinator/config.def"
	CONFIG_KEYS
};

extern const struct config_key config_keys[CONFIG_KEYS];

/* Where a value came from; a higher one wins. */
enum config_rank {
	CONFIG_DEFAULT,
	CONFIG_AMBIENT, /* a variable of the AWS tools or of systemd */
	CONFIG_OF_PRESET,
	CONFIG_OF_FILE, /* from here on somebody asked for it */
	CONFIG_OF_ENVIRONMENT,
	CONFIG_OF_OPTION,
};

struct config_origin {
	enum config_rank rank;
	const char *text; /* "/etc/rgov/default.conf:12", "--loop" */
};

/* A block of the file. */
struct config_block {
	struct config_block *next; /* in the order of the file */
	enum config_scope scope;
	const char *title;
	const char *origin; /* of its first line */
	void *values;       /* its struct policy_model or the like */
	const void *mark;   /* the parser's, while it parses */
	struct config_origin origins[CONFIG_KEYS];
};

/* One value of the file. */
struct config_entry {
	struct config_entry *next; /* in the order of the file */
	const struct config_key *key;
	struct config_block *block; /* NULL: flat */
	const char *text;
	const char *origin;
	size_t n; /* elements of a list */
};

struct config_private {
	struct config_memory *memory;
	struct config_block *blocks;
	struct config_origin origins[CONFIG_KEYS]; /* FLAT and UPSTREAM */
	struct config_error warnings;
};

/* A configuration under construction. */
struct config_draft {
	struct config *config;
	const struct config_source *source;
	struct config_error *error;
	struct config_entry *entries, *last_entry;
	struct config_block *last_block;
	bool no_memory;
};

/* ------------------------------------------------ memory and complaints */

/* Zeroed memory that lives as long as the configuration.  NULL: no_memory is
 * set. */
void *config_alloc(struct config_draft *draft, size_t bytes);
char *config_printf(struct config_draft *draft, const char *format, ...)
	__attribute__((format(printf, 2, 3), nonnull(2)));

/* Adds "ORIGIN: …" to the errors, or to what is not wrong but odd. */
void config_complain(struct config_draft *draft, const char *origin,
	const char *format, ...) __attribute__((format(printf, 3, 4)));
void config_warn(struct config_draft *draft, const char *origin,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ------------------------------------------------ keys (config_keys.c) */

/* NULL: there is none in this scope. */
const struct config_key *config_key_find(
	enum config_scope scope, const char *name);

/* "loop" or "upstream.region": a setting outside model and user blocks. */
const struct config_key *config_key_by_path(const char *path);

/* "upstream.region"; the inverse. */
const char *config_key_path(const struct config_key *key, char ret_path[64]);

/* "upstream", "model", …; "" for FLAT. */
const char *config_scope_name(enum config_scope scope);

/* A sentence's end that helps with an unknown name: "; did you mean …?", or "".
 */
const char *config_key_hint(
	enum config_scope scope, const char *name, char ret_hint[160]);

/* The preset's three limits as text; NULL: no such preset. */
struct config_preset {
	const char *name;
	const char *max_concurrent_requests;
	const char *requests_per_minute;
	const char *max_requests_per_user;
};
const struct config_preset *config_preset_find(const char *name);
const char *config_preset_names(char ret_names[128]);

/* ------------------------------------------------ values (config_value.c) */

/*
 * Reads text as key's type into the field at base + key->offset.  False: a
 * complaint was added (or memory is short) and the field is as before.
 */
bool config_value_set(struct config_draft *draft, const struct config_key *key,
	void *base, const char *text, const char *origin);

/* The field as one would write it in the file; "" when unset. */
void config_value_print(const struct config_key *key, const void *base,
	char *ret_text, size_t bytes);

bool config_value_is_list(const struct config_key *key);
bool config_value_is_text(const struct config_key *key);

/* Harmless to print, quoted where it is not one word, cut to size. */
const char *config_value_quote(
	const char *text, char ret_quoted[CONFIG_FOUND_BYTES]);

/* Digits and nothing else. */
bool config_value_whole(const char *text, uint64_t *ret_number);

/* config_judge.c: NULL when text is fine for key, else what was expected. */
const char *config_judge_text(const struct config_key *key, const char *text);

/* config_list.c: names and numbers of users or groups, separated by commas or
 * blanks, to field; or model ids. */
bool config_ids_set(struct config_draft *draft, const struct config_key *key,
	struct config_ids *field, const char *text, const char *origin);
bool config_texts_set(struct config_draft *draft, const struct config_key *key,
	struct config_texts *field, const char *text, const char *origin);

/* ------------------------------------------------ layers, checks */

/* config_layers.c: a variable of the environment; NULL when absent or empty. */
const char *config_variable(const struct config_draft *draft, const char *name);

/* Sets a FLAT or UPSTREAM value with its origin, or complains.  A text or
 * origin of NULL, for which there was no memory, changes nothing. */
void config_set(struct config_draft *draft, const struct config_key *key,
	enum config_rank rank, const char *text, const char *origin);

/* All layers, also what a higher one hides, so that all errors show. */
void config_apply_layers(struct config_draft *draft);

/* config_blocks.c: from the blocks of the file what policy and upstream want.
 */
void config_build_blocks(struct config_draft *draft);

/* config_check.c, for a draft without errors so far. */
void config_complete(struct config_draft *draft);
void config_check_limits(struct config_draft *draft);
void config_check_blocks(struct config_draft *draft);
/* config_cluster.c */
void config_check_cluster(struct config_draft *draft);
/* config_pattern.c */
void config_check_patterns(struct config_draft *draft);

/* ------------------------------------------------ the file */

/* config_text.c: the whole file, comments blanked, ready for libConfuse; what
 * libConfuse would misread is complained about.  0 (the caller frees *ret_text)
 * or -errno. */
int config_text_read(
	struct config_draft *draft, const char *file, char **ret_text);

/* config_file.c: fills entries and blocks.  0 or -errno; see the complaints. */
int config_file_read(struct config_draft *draft, const char *file);

/* config_child.c: the same, in a child process: a parser that does not survive
 * a lack of memory takes nobody along. */
int config_child_read(struct config_draft *draft, const char *file);

#endif
