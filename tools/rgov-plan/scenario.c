/*
 * libConfuse keeps every value as text; a callback judges it while the line is
 * known, and afterwards the blocks are read one after the other.
 */
#include "tools/rgov-plan/scenario.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind {
	K_COUNT, /* uint64_t */
	K_U32,
	K_SEED,
	K_TIME,   /* double, s */
	K_LATER,  /* the same, above 0 */
	K_SHARE,  /* double */
	K_WEIGHT, /* double */
	K_BOOL,
	K_NAME, /* char * */
	K_CLASS,
	K_KIND,
	K_ARRIVAL, /* of a group */
	K_LATENCY, /* struct draw_spread */
	K_TOKENS,
	KINDS
};

#define ARRIVAL_WORDS                                                          \
	"poisson:N a minute above 0, every:TIME above 0, burst:N, closed:TIME"
#define LATENCY_WORDS                                                          \
	"fixed:TIME, uniform:A,B, exp:MEAN or lognormal:MEDIAN,SIGMA"

static const char *const expected[KINDS] = {
	[K_COUNT] = "a whole number of 0 to 1000000000000",
	[K_U32] = "a whole number of 0 to 1000000000",
	[K_SEED] = "a whole number",
	[K_TIME] = "a time of 0 to 366d, as 250ms, 30s, 2m, 1h",
	[K_LATER] = "a time above 0, as 250ms, 30s, 2m, 1h",
	[K_SHARE] = "a share of 0 to 1",
	[K_WEIGHT] = "a number of 0.001 to 1000",
	[K_BOOL] = "true or false",
	[K_NAME] = "1 to 63 of A-Z a-z 0-9 . _ : @ + / -",
	[K_CLASS] = "interactive, normal or batch",
	[K_KIND] = "call or permit",
	[K_ARRIVAL] = ARRIVAL_WORDS,
	[K_LATENCY] = LATENCY_WORDS,
	[K_TOKENS] = "tokens, or two numbers MIN,MAX",
};

struct key {
	const char *block; /* "" for the file itself */
	const char *name;
	enum kind kind;
	size_t offset;
};

struct outage_block {
	double for_s;
};

#define IN(block, name, kind, type, field)                                     \
	{                                                                      \
		block, name, kind, offsetof(struct type, field)                \
	}
static const struct key keys[] = {
	IN("", "duration", K_LATER, load, duration_s),
	IN("", "seed", K_SEED, load, seed),
	IN("users", "count", K_U32, load_group, count),
	IN("users", "weight", K_WEIGHT, load_group, weight),
	IN("users", "app", K_NAME, load_group, app),
	IN("users", "class", K_CLASS, load_group, class),
	IN("users", "kind", K_KIND, load_group, is_permit),
	IN("users", "model", K_NAME, load_group, model),
	IN("users", "arrival", K_ARRIVAL, load_group, arrival),
	IN("users", "requests", K_COUNT, load_group, requests),
	IN("users", "start", K_TIME, load_group, start_s),
	IN("users", "latency", K_LATENCY, load_group, latency),
	IN("users", "input_tokens", K_TOKENS, load_group, input_tokens),
	IN("users", "max_tokens", K_COUNT, load_group, max_tokens),
	IN("users", "output_tokens", K_TOKENS, load_group, output_tokens),
	IN("users", "timeout", K_LATER, load_group, timeout_s),
	IN("provider", "requests_per_minute", K_U32, load_provider,
		requests_per_minute),
	IN("provider", "tokens_per_minute", K_COUNT, load_provider,
		tokens_per_minute),
	IN("provider", "tokens_per_day", K_COUNT, load_provider,
		tokens_per_day),
	IN("provider", "max_concurrent_requests", K_U32, load_provider,
		max_concurrent),
	IN("provider", "window", K_LATER, load_provider, window_s),
	IN("provider", "host_wide", K_BOOL, load_provider, host_wide),
	IN("provider", "throttled_count", K_BOOL, load_provider,
		throttled_count),
	IN("provider", "throttle", K_SHARE, load_provider, throttle),
	IN("provider", "transient", K_SHARE, load_provider, transient),
	IN("provider", "error_latency", K_TIME, load_provider, error_latency_s),
	IN("outage", "for", K_LATER, outage_block, for_s),
};
#undef IN
enum { KEYS = sizeof(keys) / sizeof(keys[0]) };

/* ------------------------------------------------------------ values */

static bool read_number(
	const char *text, double least, double most, bool is_whole, double *ret)
{
	char *end;

	if (text[0] == '\0' ||
		strspn(text, is_whole ? "0123456789" : "0123456789.") !=
			strlen(text))
		return false;
	*ret = strtod(text, &end);
	return *end == '\0' && *ret >= least && *ret <= most;
}

static bool read_word(
	const char *text, const char *const *words, size_t n, size_t *ret)
{
	for (*ret = 0; *ret < n; ++*ret)
		if (strcmp(text, words[*ret]) == 0)
			return true;
	return false;
}

/* No wildcard: the name is also a pattern, for its weight. */
static bool is_name(const char *text)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789._:@+/-";

	return text[0] != '\0' && strlen(text) <= 63 &&
	       strspn(text, allowed) == strlen(text);
}

static bool set_name(char **field, const char *text)
{
	if (!is_name(text))
		return false;
	free(*field);
	*field = strdup(text);
	return *field != NULL;
}

static bool set_arrival(struct load_group *group, const char *text)
{
	const char *colon = strchr(text, ':');
	static const char *const words[] = {
		"poisson", "every", "burst", "closed"};
	double number;
	char word[16];
	size_t i;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(word))
		return false;
	(void)snprintf(word, sizeof(word), "%.*s", (int)(colon - text), text);
	if (!read_word(word, words, 4, &i))
		return false;
	group->arrival = (enum load_arrival)i;
	switch (group->arrival) {
	case LOAD_POISSON:
		if (!read_number(colon + 1, 1e-9, 1e9, false, &number))
			return false;
		group->arrival_rate = number / 60;
		return true;
	case LOAD_BURST:
		if (!read_number(colon + 1, 1, 1e9, true, &number))
			return false;
		group->arrival_n = (uint64_t)number;
		return true;
	case LOAD_EVERY:
	case LOAD_CLOSED:
		break;
	}
	return draw_read_time(colon + 1, &group->arrival_s) &&
	       (group->arrival == LOAD_CLOSED || group->arrival_s >= 1e-6);
}

static bool set_class(enum policy_class *field, const char *text)
{
	static const char *const words[] = {"interactive", "normal", "batch"};
	size_t i;

	if (!read_word(text, words, POLICY_CLASSES, &i))
		return false;
	*field = (enum policy_class)i;
	return true;
}

static bool set_either(
	bool *field, const char *text, const char *no, const char *yes)
{
	const char *const words[] = {no, yes};
	size_t i;

	if (!read_word(text, words, 2, &i))
		return false;
	*field = i == 1;
	return true;
}

static bool set_number(const struct key *key, void *field, const char *text)
{
	double number;

	switch (key->kind) {
	case K_COUNT:
	case K_SEED:
		if (!read_number(text, 0, 1e12, true, &number))
			return false;
		*(uint64_t *)field = (uint64_t)number;
		return true;
	case K_U32:
		if (!read_number(text, 0, 1e9, true, &number))
			return false;
		*(uint32_t *)field = (uint32_t)number;
		return true;
	case K_SHARE:
		return read_number(text, 0, 1, false, field);
	case K_WEIGHT:
		return read_number(text, 0.001, 1000, false, field);
	case K_TIME:
		return draw_read_time(text, field);
	case K_LATER:
		return draw_read_time(text, field) && *(double *)field > 0;
	case K_BOOL:
	case K_NAME:
	case K_CLASS:
	case K_KIND:
	case K_ARRIVAL:
	case K_LATENCY:
	case K_TOKENS:
	case KINDS:
		break;
	}
	return false;
}

/* What the key says, in the struct of its block at base. */
static bool set(const struct key *key, void *base, const char *text)
{
	void *field = (char *)base + key->offset;

	switch (key->kind) {
	case K_BOOL:
		return set_either(field, text, "false", "true");
	case K_NAME:
		return set_name(field, text);
	case K_CLASS:
		return set_class(field, text);
	case K_KIND:
		return set_either(field, text, "call", "permit");
	case K_ARRIVAL:
		return set_arrival(base, text);
	case K_LATENCY:
		return draw_read_latency(text, field);
	case K_TOKENS:
		return draw_read_tokens(text, field);
	case K_COUNT:
	case K_U32:
	case K_SEED:
	case K_TIME:
	case K_LATER:
	case K_SHARE:
	case K_WEIGHT:
	case KINDS:
		break;
	}
	return set_number(key, field, text);
}

/* `change` has the settings of `provider`. */
static const struct key *find_key(const char *block, const char *name)
{
	if (strcmp(block, "change") == 0)
		block = "provider";
	for (size_t i = 0; i < KEYS; i++)
		if (strcmp(keys[i].block, block) == 0 &&
			strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

bool scenario_set(struct load_group *group, const char *name, const char *text,
	const char **ret_expected)
{
	const struct key *key = find_key("users", name);

	*ret_expected = expected[key->kind];
	return set(key, group, text);
}

const char *scenario_judge(const struct load_group *group)
{
	const struct draw_spread *latency = &group->latency;
	bool may_take_none = latency->a == 0 && latency->b == 0;

	if (group->count == 0 || group->count > LOAD_MOST_USERS)
		return "count: expected 1 to 1000000, found another number";
	if (group->arrival == LOAD_CLOSED && group->arrival_s == 0 &&
		group->requests == 0 && may_take_none)
		return "arrival: expected requests, a latency or a pause: "
		       "without any it never ends";
	if (group->max_tokens > 0 && group->output_tokens.a > 0 &&
		group->output_tokens.a > (double)group->max_tokens)
		return "output_tokens: expected not more than max_tokens";
	return NULL;
}

/* ------------------------------------------------------------ the file */

/* libConfuse hands no argument to its callbacks. */
static struct reading {
	const char *file;
	char *error;
	bool is_wrong;
	int lines; /* of the file */
} reading;

__attribute__((format(printf, 2, 3))) static void complain(
	int line, const char *format, ...)
{
	char words[LOAD_ERROR_BYTES / 2];
	va_list arguments;

	if (reading.is_wrong)
		return; /* the first one counts */
	reading.is_wrong = true;
	va_start(arguments, format);
	(void)vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	for (char *at = words; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	if (line > 0)
		(void)snprintf(reading.error, LOAD_ERROR_BYTES, "%.200s:%d: %s",
			reading.file, line, words);
	else
		(void)snprintf(reading.error, LOAD_ERROR_BYTES, "%.200s: %s",
			reading.file, words);
}

__attribute__((format(printf, 2, 0))) static void on_error(
	cfg_t *cfg, const char *format, va_list arguments)
{
	char words[LOAD_ERROR_BYTES / 2];

	(void)vsnprintf(words, sizeof(words), format, arguments);
	if (cfg->line >= reading.lines && strstr(words, "'end'") != NULL)
		complain(
			reading.lines, "expected }, found the end of the file");
	else
		complain(cfg->line, "%s", words);
}

union values {
	struct load load;
	struct load_group group;
	struct load_provider provider;
	struct outage_block outage;
	char *name;
};

static int judge_value(cfg_t *cfg, cfg_opt_t *option)
{
	const char *block = strcmp(cfg->name, "root") == 0 ? "" : cfg->name;
	const struct key *key = find_key(block, cfg_opt_name(option));
	const char *text = cfg_opt_getnstr(option, 0);
	union values scratch = {0};
	bool is_right = text != NULL && key != NULL && set(key, &scratch, text);

	if (is_right && key->kind == K_NAME)
		free(*(char **)(void *)((char *)&scratch + key->offset));
	if (!is_right && key != NULL)
		complain(cfg->line, "%s: expected %s, found '%.80s'", key->name,
			expected[key->kind], text ? text : "");
	return is_right ? 0 : -1;
}

static void read_block(cfg_t *cfg, const char *block, void *base)
{
	if (strcmp(block, "change") == 0)
		block = "provider";
	for (size_t i = 0; i < KEYS; i++) {
		const char *text;

		if (strcmp(keys[i].block, block) != 0)
			continue;
		text = cfg_getstr(cfg, keys[i].name);
		if (text != NULL)
			(void)set(&keys[i], base, text);
	}
}

static int read_users(cfg_t *root, struct load *load)
{
	double n_users = 0;

	for (unsigned int i = 0; i < cfg_size(root, "users"); i++) {
		cfg_t *cfg = cfg_getnsec(root, "users", i);
		struct load_group *groups = load_grow(
			load->groups, load->n_groups, sizeof(*groups));
		struct load_group *group;
		const char *why;

		if (groups == NULL)
			return -ENOMEM;
		load->groups = groups;
		group = &groups[load->n_groups++];
		load_init_group(group);
		if (!set_name(&group->name, cfg_title(cfg)))
			complain(cfg->line, "users: expected a name of %s",
				expected[K_NAME]);
		read_block(cfg, "users", group);
		why = scenario_judge(group);
		if (why != NULL)
			complain(cfg->line, "users \"%s\": %s", cfg_title(cfg),
				why);
		n_users += group->count;
	}
	if (load->n_groups == 0)
		complain(0, "users: expected at least one block, found none");
	if (n_users > LOAD_MOST_USERS)
		complain(0, "users: expected at most %d together, found %.0f",
			LOAD_MOST_USERS, n_users);
	return 0;
}

/* The title of `change` and `outage`; the later ones must come later. */
static uint64_t read_moment(cfg_t *cfg, uint64_t after_ns)
{
	double s = 0;
	uint64_t at_ns;

	if (!draw_read_time(cfg_title(cfg), &s))
		complain(cfg->line, "%s: expected %s, found '%.80s'", cfg->name,
			expected[K_TIME], cfg_title(cfg));
	at_ns = LOAD_BEGIN_NS + (uint64_t)(s * 1e9);
	if (at_ns < after_ns)
		complain(cfg->line,
			"%s \"%s\": expected a time after that of the one "
			"before",
			cfg->name, cfg_title(cfg));
	return at_ns;
}

static int add_provider(struct load *load, const struct load_provider *provider)
{
	struct load_provider *providers = load_grow(
		load->providers, load->n_providers, sizeof(*providers));

	if (providers == NULL)
		return -ENOMEM;
	load->providers = providers;
	providers[load->n_providers++] = *provider;
	return 0;
}

static int read_provider(cfg_t *root, struct load *load)
{
	struct load_provider provider = {
		.window_s = 60, .host_wide = true, .error_latency_s = 0.05};
	bool is_there = cfg_size(root, "provider") + cfg_size(root, "change") +
				cfg_size(root, "outage") >
			0;

	if (!is_there)
		return 0;
	if (cfg_size(root, "provider") > 0)
		read_block(cfg_getsec(root, "provider"), "provider", &provider);
	if (add_provider(load, &provider) < 0)
		return -ENOMEM;
	for (unsigned int i = 0; i < cfg_size(root, "change"); i++) {
		cfg_t *cfg = cfg_getnsec(root, "change", i);

		provider.at_ns = read_moment(cfg, provider.at_ns);
		read_block(cfg, "change", &provider);
		if (add_provider(load, &provider) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int read_outages(cfg_t *root, struct load *load)
{
	uint64_t after_ns = 0;

	for (unsigned int i = 0; i < cfg_size(root, "outage"); i++) {
		cfg_t *cfg = cfg_getnsec(root, "outage", i);
		struct load_outage *outages = load_grow(
			load->outages, load->n_outages, sizeof(*outages));
		struct outage_block block = {0};

		if (outages == NULL)
			return -ENOMEM;
		load->outages = outages;
		read_block(cfg, "outage", &block);
		if (block.for_s == 0)
			complain(cfg->line,
				"outage \"%s\": expected for = a "
				"time, found nothing",
				cfg_title(cfg));
		outages[load->n_outages].at_ns = read_moment(cfg, after_ns);
		after_ns = outages[load->n_outages].at_ns +
			   (uint64_t)(block.for_s * 1e9);
		outages[load->n_outages++].until_ns = after_ns;
	}
	return 0;
}

static void make_options(const char *block, cfg_opt_t *ret_options)
{
	size_t n = 0;

	if (strcmp(block, "change") == 0)
		block = "provider";
	for (size_t i = 0; i < KEYS; i++)
		if (strcmp(keys[i].block, block) == 0)
			ret_options[n++] = (cfg_opt_t)CFG_STR(
				keys[i].name, NULL, CFGF_NONE);
	ret_options[n] = (cfg_opt_t)CFG_END();
}

static cfg_t *make_parser(void)
{
	static const char *const blocks[] = {
		"users", "provider", "change", "outage"};
	cfg_opt_t inner[4][KEYS + 1], outer[KEYS + 6];
	char path[64];
	cfg_t *root;
	size_t n = 0;

	make_options("", outer);
	while (outer[n].name != NULL)
		n++;
	outer[n++] = (cfg_opt_t)CFG_STR("end", NULL, CFGF_NONE);
	for (size_t b = 0; b < 4; b++) {
		make_options(blocks[b], inner[b]);
		outer[n++] = (cfg_opt_t)CFG_SEC(blocks[b], inner[b],
			b == 1 ? CFGF_NONE
			       : CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
		if (b == 1)
			outer[n - 1].flags |= CFGF_NODEFAULT;
	}
	outer[n] = (cfg_opt_t)CFG_END();
	root = cfg_init(outer, CFGF_NONE);
	if (root == NULL)
		return NULL;
	for (size_t i = 0; i < KEYS; i++)
		for (size_t b = 0; b < 4; b++) {
			const char *block = keys[i].block;

			if (block[0] != '\0' &&
				find_key(blocks[b], keys[i].name) != &keys[i])
				continue;
			(void)snprintf(path, sizeof(path), "%s%s%s",
				block[0] ? blocks[b] : "", block[0] ? "|" : "",
				keys[i].name);
			(void)cfg_set_validate_func(root, path, judge_value);
		}
	(void)cfg_set_error_function(root, on_error);
	return root;
}

static int read_all(cfg_t *root, struct load *load)
{
	int rc = 0;

	if (load->trace == NULL) {
		read_block(root, "", load);
		rc = read_users(root, load);
	}
	if (rc == 0)
		rc = read_provider(root, load);
	if (rc == 0)
		rc = read_outages(root, load);
	return rc;
}

enum { MOST_BYTES = 1 << 20 };

/* libConfuse does not mind a block that is never closed; inside of one, this
 * last setting is wrong. */
static const char last_setting[] = "\nend = here\n";

static int count_lines(const char *text)
{
	int lines = 0;

	for (; *text != '\0'; text++)
		lines += *text == '\n';
	return lines - 1;
}

/* The whole file and the last setting; the caller frees it. */
static int read_text(const char *file, char **ret_text)
{
	FILE *in = fopen(file, "re");
	char *text;
	size_t n;
	int rc = 0;

	if (in == NULL)
		return -errno;
	text = malloc(MOST_BYTES + sizeof(last_setting));
	if (text == NULL) {
		(void)fclose(in);
		return -ENOMEM;
	}
	n = fread(text, 1, MOST_BYTES, in);
	if (ferror(in))
		rc = -errno;
	else if (n == MOST_BYTES || memchr(text, '\0', n) != NULL)
		rc = -EINVAL;
	(void)fclose(in);
	if (rc < 0) {
		free(text);
		return rc;
	}
	memcpy(text + n, last_setting, sizeof(last_setting));
	*ret_text = text;
	return 0;
}

int scenario_read(
	const char *file, struct load *load, char ret_error[LOAD_ERROR_BYTES])
{
	char *text = NULL;
	cfg_t *root;
	int rc = read_text(file, &text);

	if (rc == -ENOMEM)
		return rc;
	reading = (struct reading){file, ret_error, false, 0};
	if (rc < 0) {
		complain(0, "%s",
			rc == -EINVAL ? "expected text, found a "
					"zero byte or too much of it"
				      : strerror(-rc));
		return rc;
	}
	assert(text != NULL);
	reading.lines = count_lines(text);
	root = make_parser();
	if (root == NULL) {
		free(text);
		return -ENOMEM;
	}
	if (cfg_parse_buf(root, text) != CFG_SUCCESS)
		complain(0, "expected settings and blocks, found something "
			    "else");
	free(text);
	rc = reading.is_wrong ? -EINVAL : read_all(root, load);
	if (rc == 0 && reading.is_wrong)
		rc = -EINVAL;
	(void)cfg_free(root);
	return rc;
}
