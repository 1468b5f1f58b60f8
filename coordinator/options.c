/* rgovd's command line on getopt_long, from one table. */
#include "coordinator/options.h"
#include "shm-layout/shm_limits.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum option_id {
#define OPTION(id, name, letter, value, setting, help) OPTION_##id,
#include "coordinator/options.def"
	OPTION_COUNT
};

struct option_entry {
	const char *name;
	int letter; /* 0: none */
	const char *value;
	const char *setting;
	const char *help;
};

static const struct option_entry table[OPTION_COUNT] = {
#define OPTION(id, name_, letter_, value_, setting_, help_)                    \
	[OPTION_##id] = {.name = name_,                                        \
		.letter = letter_,                                             \
		.value = value_,                                               \
		.setting = setting_,                                           \
		.help = help_},
#include "coordinator/options.def"
};

/* What getopt_long returns: above all letters. */
enum { FIRST_RETURN = 256 };

static void print_help(FILE *out)
{
	fprintf(out, "Usage: rgovd [OPTION]...\n"
		     "Governs the calls of this host to a rate-limited API.\n"
		     "\n");
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		const struct option_entry *one = &table[i];
		char words[64];

		snprintf(words, sizeof(words), "--%s%s%s", one->name,
			one->value != NULL ? " " : "",
			one->value != NULL ? one->value : "");
		if (one->letter != 0)
			fprintf(out, "  -%c, %-22s %s\n", one->letter, words,
				one->help);
		else
			fprintf(out, "      %-22s %s\n", words, one->help);
	}
	fprintf(out, "\n"
		     "Settings and their environment variables: rgov.conf(5).  "
		     "Signals and exit\ncodes: rgovd(8).\n");
}

static void print_version(FILE *out)
{
	fprintf(out,
		"rgovd %s\n"
		"shared memory layout %d\n"
		"loops: io_uring epoll\n",
		RGOV_VERSION, SHM_LAYOUT_VERSION);
}

__attribute__((format(printf, 2, 3))) static int usage(
	FILE *err, const char *format, ...)
{
	va_list args;

	fprintf(err, "rgovd: ");
	va_start(args, format);
	vfprintf(err, format, args);
	va_end(args);
	fprintf(err, "; rgovd --help lists what there is\n");
	return EX_USAGE;
}

static int add_override(struct options *options, const char *key,
	const char *value, const char *option, FILE *err)
{
	if (options->n_overrides == OPTIONS_OVERRIDES)
		return usage(err, "more than %d settings", OPTIONS_OVERRIDES);
	options->overrides[options->n_overrides++] = (struct config_override){
		.key = key, .value = value, .option = option};
	return OPTIONS_GO_ON;
}

static int add_set(struct options *options, const char *text, FILE *err)
{
	const char *equals = strchr(text, '=');
	size_t bytes = equals == NULL ? 0 : (size_t)(equals - text);
	char *key = options->keys[options->n_overrides % OPTIONS_OVERRIDES];

	if (bytes == 0 || bytes >= sizeof(options->keys[0]))
		return usage(err, "--set expects KEY=VALUE, found '%s'", text);
	if (options->n_overrides < OPTIONS_OVERRIDES) {
		memcpy(key, text, bytes);
		key[bytes] = '\0';
	}
	return add_override(options, key, equals + 1, "--set", err);
}

static int set_name(struct options *options, const char *name, FILE *err)
{
	if (!config_name_is_valid(name))
		return usage(err,
			"--name expects 1 to %d letters, digits, '.', '_', "
			"'-', no '.' first, found '%s'",
			CONFIG_NAME_BYTES, name);
	options->name = name;
	return OPTIONS_GO_ON;
}

static int take(struct options *options, enum option_id id, const char *value,
	FILE *out, FILE *err)
{
	static char origins[OPTION_COUNT][24];

	switch (id) {
	case OPTION_CONFIG:
		options->config = value;
		return OPTIONS_GO_ON;
	case OPTION_NAME:
		return set_name(options, value, err);
	case OPTION_SET:
		return add_set(options, value, err);
	case OPTION_LOOP:
	case OPTION_SOCKET:
	case OPTION_LOG_FORMAT:
	case OPTION_LOG_LEVEL:
		snprintf(origins[id], sizeof(origins[id]), "--%s",
			table[id].name);
		return add_override(
			options, table[id].setting, value, origins[id], err);
	case OPTION_REPLACE:
		options->replace = true;
		return OPTIONS_GO_ON;
	case OPTION_CHECK_CONFIG:
		options->check_config = true;
		return OPTIONS_GO_ON;
	case OPTION_DUMP_CONFIG:
		options->dump_config = true;
		return OPTIONS_GO_ON;
	case OPTION_HELP:
		print_help(out);
		return fflush(out) == 0 ? EX_OK : EX_IOERR;
	case OPTION_VERSION:
		print_version(out);
		return fflush(out) == 0 ? EX_OK : EX_IOERR;
	case OPTION_COUNT:
		break;
	}
	return EX_SOFTWARE;
}

/* getopt's own tables.  The leading colon tells a missing value apart. */
static void fill_tables(
	struct option ret_long[OPTION_COUNT + 1], char *ret_letters)
{
	*ret_letters++ = ':';
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		ret_long[i] = (struct option){.name = table[i].name,
			.has_arg = table[i].value != NULL ? required_argument
							  : no_argument,
			.val = FIRST_RETURN + (int)i};
		if (table[i].letter == 0)
			continue;
		*ret_letters++ = (char)table[i].letter;
		if (table[i].value != NULL)
			*ret_letters++ = ':';
	}
	*ret_letters = '\0';
	ret_long[OPTION_COUNT] = (struct option){0};
}

/* What getopt_long returned, as an option; OPTION_COUNT: none of ours. */
static enum option_id identify(int returned)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if (returned == FIRST_RETURN + i ||
			(table[i].letter != 0 && returned == table[i].letter))
			return (enum option_id)i;
	return OPTION_COUNT;
}

static int complain(int returned, char *const argv[], FILE *err)
{
	enum option_id id = identify(optopt);

	if (returned == ':')
		return usage(err, "--%s expects %s",
			id == OPTION_COUNT ? "?" : table[id].name,
			id == OPTION_COUNT ? "a value" : table[id].value);
	if (optopt >= FIRST_RETURN)
		return usage(err, "--%s takes no value",
			id == OPTION_COUNT ? "?" : table[id].name);
	if (optopt != 0)
		return usage(err, "unknown option '-%c'", optopt);
	return usage(err, "unknown or ambiguous option '%s'", argv[optind - 1]);
}

int options_parse(int argc, char *const argv[], struct options *ret_options,
	FILE *out, FILE *err)
{
	struct option long_options[OPTION_COUNT + 1];
	char letters[2 * OPTION_COUNT + 2];
	int rc = OPTIONS_GO_ON;
	int returned;

	fill_tables(long_options, letters);
	memset(ret_options, 0, sizeof(*ret_options));
	optind = 0; /* glibc: begin anew */
	opterr = 0;
	while (rc == OPTIONS_GO_ON &&
		(returned = getopt_long(
			 argc, argv, letters, long_options, NULL)) != -1) {
		enum option_id id = identify(returned);

		rc = id == OPTION_COUNT
			     ? complain(returned, argv, err)
			     : take(ret_options, id, optarg, out, err);
	}
	if (rc == OPTIONS_GO_ON && optind < argc)
		rc = usage(err, "unexpected '%s'", argv[optind]);
	return rc;
}

struct config_source options_source(const struct options *options)
{
	return (struct config_source){.name = options->name,
		.file = options->config,
		.getenv = getenv,
		.overrides = options->overrides,
		.n_overrides = options->n_overrides,
		.in_child = true};
}

static void warn(const struct config *config, FILE *err)
{
	const struct config_error *warnings = config_warnings(config);

	for (size_t i = 0; i < warnings->n && i < CONFIG_ERRORS; i++)
		fprintf(err, "warning: %s\n", warnings->text[i]);
	if (warnings->n > CONFIG_ERRORS)
		fprintf(err, "and %zu warnings more\n",
			warnings->n - CONFIG_ERRORS);
}

int options_report(const struct options *options, const struct config *config,
	const struct config_error *error, int rc, FILE *out, FILE *err)
{
	if (rc == -ENOMEM) {
		fprintf(err, "rgovd: no memory for the configuration\n");
		return EX_OSERR;
	}
	if (config == NULL) {
		for (size_t i = 0; i < error->n && i < CONFIG_ERRORS; i++)
			fprintf(err, "%s\n", error->text[i]);
		if (error->n > CONFIG_ERRORS)
			fprintf(err, "and %zu errors more\n",
				error->n - CONFIG_ERRORS);
		return EX_CONFIG;
	}
	warn(config, err);
	if (options->dump_config)
		return config_dump(config, out) == 0 ? EX_OK : EX_IOERR;
	if (options->check_config)
		fprintf(out, "configuration OK\n");
	return fflush(out) == 0 ? EX_OK : EX_IOERR;
}
