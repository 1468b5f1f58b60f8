/*
 * rgov-plan: traffic through the policy under a virtual clock.  Reads files,
 * prints; talks to nobody.
 */
#include "coordinator/config.h"
#include "tools/command-line/options.h"
#include "tools/rgov-plan/report.h"
#include "tools/rgov-plan/scenario.h"
#include "tools/rgov-plan/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum { MOST_SETS = 64, SAMPLES = 1024 };

static const struct option_row option_rows[] = {
#define OPTION(letter, name, argument, help)                                   \
	{NULL, letter, name, argument, help},
#include "tools/rgov-plan/options.def"
#undef OPTION
};
enum { OPTION_ROWS = sizeof(option_rows) / sizeof(option_rows[0]) };

struct settings {
	const char *config, *scenario, *trace, *svg;
	bool skip_bad, json, has_users;
	const char *seed, *duration;
	struct load_group group; /* of the command line */
	struct config_override sets[MOST_SETS];
	char *keys[MOST_SETS]; /* of the sets; on the heap */
	size_t n_sets;
	char what[512]; /* all sets, as one text */
};

/* ------------------------------------------------------------ options */

static void print_help(void)
{
	(void)puts("Usage: rgov-plan [OPTION]... SCENARIO | -t TRACE | "
		   "-n USERS\n"
		   "What would these limits do to this traffic?\n");
	options_print(option_rows, OPTION_ROWS, NULL, stdout);
	(void)puts("\nExit codes: 0; 64 wrong usage; 65 wrong trace or "
		   "scenario; 66 not readable;\n"
		   "73, 74 a file could not be made or written; 78 wrong "
		   "configuration.");
}

static int usage_error(const char *option, const char *want, const char *value)
{
	(void)fprintf(stderr, "rgov-plan: %s: expected %s, found '%s'\n",
		option, want, value);
	return EX_USAGE;
}

static int take_set(struct settings *settings, const char *text)
{
	const char *equals = strchr(text, '=');
	struct config_override *set = &settings->sets[settings->n_sets];
	size_t used = strlen(settings->what);

	if (equals == NULL || equals == text)
		return usage_error("--set", "KEY=VALUE", text);
	if (settings->n_sets == MOST_SETS)
		return usage_error("--set", "at most 64 of them", text);
	settings->keys[settings->n_sets] =
		strndup(text, (size_t)(equals - text));
	if (settings->keys[settings->n_sets] == NULL)
		return EX_SOFTWARE;
	*set = (struct config_override){.key = settings->keys[settings->n_sets],
		.value = equals + 1,
		.option = "--set"};
	settings->n_sets++;
	(void)snprintf(settings->what + used, sizeof(settings->what) - used,
		"%s%s", used > 0 ? ", " : "", text);
	return 0;
}

static const char *name_of(int letter)
{
	for (size_t i = 0; i < OPTION_ROWS; i++)
		if (option_rows[i].letter == letter)
			return option_rows[i].name;
	return "";
}

/* An option that is a setting of a block of users. */
static int take_group(struct settings *settings, int letter, const char *value)
{
	const char *want;
	char name[32], option[34];

	(void)snprintf(option, sizeof(option), "--%s", name_of(letter));
	(void)snprintf(name, sizeof(name), "%s",
		letter == 'n' ? "count" : name_of(letter));
	for (char *at = name; *at != '\0'; at++)
		if (*at == '-')
			*at = '_';
	if (!scenario_set(&settings->group, name, value, &want))
		return usage_error(option, want, value);
	settings->has_users = true;
	return 0;
}

/* 0, or an exit code after saying what is wrong.  Exits for --help. */
static int take_option(struct settings *settings, int letter, const char *value)
{
	switch (letter) {
	case 'c':
		settings->config = value;
		return 0;
	case 's':
		return take_set(settings, value);
	case 't':
		settings->trace = value;
		return 0;
	case 'k':
		settings->skip_bad = true;
		return 0;
	case 'g':
		settings->svg = value;
		return 0;
	case 'j':
		settings->json = true;
		return 0;
	case 'd':
		settings->duration = value;
		return 0;
	case 'e':
		settings->seed = value;
		return 0;
	case 'h':
		print_help();
		exit(0);
	case 'V':
		(void)puts("rgov-plan " RGOV_VERSION);
		exit(0);
	case '?': /* getopt has said what is wrong */
		(void)fputs("Try 'rgov-plan --help'.\n", stderr);
		return EX_USAGE;
	default:
		return take_group(settings, letter, value);
	}
}

static int judge_arguments(const struct settings *settings)
{
	int ways = (settings->scenario != NULL) + settings->has_users;

	if (settings->trace != NULL && settings->has_users)
		return usage_error("--trace", "no users beside it", "some");
	if (ways > 1)
		return usage_error(
			"--users", "no scenario beside it", settings->scenario);
	if (ways == 0 && settings->trace == NULL) {
		(void)fputs("rgov-plan: expected a SCENARIO, --trace or "
			    "--users, found none\n"
			    "Try 'rgov-plan --help'.\n",
			stderr);
		return EX_USAGE;
	}
	if (settings->skip_bad && settings->trace == NULL)
		return usage_error("--skip-bad", "--trace beside it", "none");
	return 0;
}

static int take_arguments(struct settings *settings, int argc, char **argv)
{
	struct option_tables tables;
	int letter, rc;

	load_init_group(&settings->group);
	settings->group.requests = 1;
	options_prepare(option_rows, OPTION_ROWS, NULL, &tables);
	while ((letter = getopt_long(argc, argv, tables.letters, tables.names,
			NULL)) != -1) {
		rc = take_option(settings, letter, optarg);
		if (rc != 0)
			return rc;
	}
	if (optind < argc)
		settings->scenario = argv[optind++];
	if (optind < argc)
		return usage_error("arguments", "one SCENARIO", argv[optind]);
	return judge_arguments(settings);
}

/* ------------------------------------------------------------ the load */

static int fail(const char *on, int rc, int code)
{
	(void)fprintf(stderr, "rgov-plan: %s: %s\n", on, strerror(-rc));
	return rc == -ENOMEM ? EX_SOFTWARE : code;
}

static int read_trace(const struct settings *settings, struct load *load)
{
	struct trace_reading reading = {
		settings->trace, settings->skip_bad, stderr};
	bool is_stdin = strcmp(settings->trace, "-") == 0;
	FILE *in = is_stdin ? stdin : fopen(settings->trace, "re");
	int rc;

	if (in == NULL)
		return fail(settings->trace, -errno, EX_NOINPUT);
	rc = trace_read(in, &reading, load);
	if (!is_stdin)
		(void)fclose(in);
	if (rc == -EINVAL) /* it was told */
		return EX_DATAERR;
	return rc < 0 ? fail(settings->trace, rc, EX_NOINPUT) : 0;
}

static int read_scenario(const struct settings *settings, struct load *load)
{
	char error[LOAD_ERROR_BYTES] = "";
	int rc = scenario_read(settings->scenario, load, error);

	if (rc == 0)
		return 0;
	if (rc == -ENOMEM)
		return fail(settings->scenario, rc, EX_SOFTWARE);
	(void)fprintf(stderr, "rgov-plan: %s\n", error);
	return rc == -EINVAL ? EX_DATAERR : EX_NOINPUT;
}

static int take_group_as_load(struct settings *settings, struct load *load)
{
	const char *why = scenario_judge(&settings->group);

	if (why != NULL) {
		(void)fprintf(stderr, "rgov-plan: %s\n", why);
		return EX_USAGE;
	}
	load->groups = calloc(1, sizeof(*load->groups));
	if (load->groups == NULL)
		return fail("users", -ENOMEM, EX_SOFTWARE);
	load->n_groups = 1;
	load->groups[0] = settings->group;
	load->groups[0].name = strdup("user");
	return load->groups[0].name == NULL
		       ? fail("users", -ENOMEM, EX_SOFTWARE)
		       : 0;
}

static int take_numbers(const struct settings *settings, struct load *load)
{
	double number;

	if (settings->duration != NULL &&
		(!draw_read_time(settings->duration, &load->duration_s) ||
			load->duration_s <= 0))
		return usage_error("--duration", "a time, as 600 or 10m",
			settings->duration);
	if (settings->seed == NULL)
		return 0;
	if (options_number(settings->seed, 0, 1e12, &number) < 0)
		return usage_error("--seed", "a whole number", settings->seed);
	load->seed = (uint64_t)number;
	return 0;
}

static int make_load(struct settings *settings, struct load *load)
{
	int code = 0;

	load_init(load);
	if (settings->trace != NULL)
		code = read_trace(settings, load);
	if (code == 0 && settings->scenario != NULL)
		code = read_scenario(settings, load);
	if (code == 0 && settings->has_users)
		code = take_group_as_load(settings, load);
	if (code == 0)
		code = take_numbers(settings, load);
	if (code == 0 && load->trace == NULL && load_make_users(load) < 0)
		code = fail("users", -ENOMEM, EX_SOFTWARE);
	return code;
}

/* ------------------------------------------------------------ the limits */

/* Those of the file, else of the trace's header; then those of --set. */
static int load_config(const struct settings *settings, const struct load *load,
	bool with_sets, struct config **ret_config)
{
	size_t n_header = settings->config ? 0 : load->n_settings;
	size_t n_sets = with_sets ? settings->n_sets : 0;
	struct config_override *overrides =
		calloc(n_header + n_sets + 1, sizeof(*overrides));
	struct config_source source = {
		.file = settings->config ? settings->config : "/dev/null",
		.overrides = overrides,
		.n_overrides = n_header + n_sets};
	struct config_error error = {0};
	int rc;

	if (overrides == NULL)
		return fail("configuration", -ENOMEM, EX_SOFTWARE);
	for (size_t i = 0; i < n_header; i++)
		overrides[i] = (struct config_override){load->settings[i].key,
			load->settings[i].value, settings->trace};
	if (n_sets > 0)
		memcpy(overrides + n_header, settings->sets,
			n_sets * sizeof(*overrides));
	rc = config_load(&source, ret_config, &error);
	free(overrides);
	for (size_t i = 0; rc < 0 && i < error.n && i < CONFIG_ERRORS; i++)
		(void)fprintf(stderr, "rgov-plan: %s\n", error.text[i]);
	if (rc < 0 && error.n == 0)
		return fail(source.file, rc, EX_CONFIG);
	return rc < 0 ? EX_CONFIG : 0;
}

/* ------------------------------------------------------------ the runs */

struct run {
	struct config *config;
	struct plan plan;
};

static int run_once(const struct settings *settings, const struct load *load,
	bool with_sets, struct run *run, struct report_run *ret_report)
{
	size_t n_samples = settings->svg != NULL ? SAMPLES : 0;
	int rc, code = load_config(settings, load, with_sets, &run->config);

	if (code != 0)
		return code;
	ret_report->plan = &run->plan;
	rc = plan_init(&run->plan, load, &run->config->policy,
		run->config->default_timeout_ns);
	if (rc == 0)
		rc = plan_simulate(&run->plan, n_samples, &ret_report->result);
	for (int s = 0; rc == 0 && s < PLAN_SCHEDULES; s++)
		rc = plan_idealize(&run->plan, (enum plan_schedule)s,
			ret_report->result.asked, &ret_report->ideals[s]);
	return rc < 0 ? fail("simulation", rc, EX_SOFTWARE) : 0;
}

static int write_svg(const struct settings *settings,
	const struct report_run *reports, size_t n)
{
	FILE *out = fopen(settings->svg, "we");
	bool is_lost;
	int error;

	if (out == NULL)
		return fail(settings->svg, -errno, EX_CANTCREAT);
	report_svg(reports, n, settings->what, out);
	is_lost = ferror(out) != 0;
	error = is_lost ? EIO : 0;
	if (fclose(out) != 0)
		error = errno;
	return error != 0 ? fail(settings->svg, -error, EX_IOERR) : 0;
}

static int report(const struct settings *settings,
	const struct report_run *reports, size_t n)
{
	int code = 0;

	if (settings->svg != NULL)
		code = write_svg(settings, reports, n);
	if (code != 0)
		return code;
	if (!settings->json)
		report_text(reports, n, settings->what, stdout);
	else if (report_json(reports, n, settings->what, stdout) < 0)
		return fail("report", -ENOMEM, EX_SOFTWARE);
	if (fflush(stdout) != 0 || ferror(stdout))
		return fail("stdout", -errno, EX_IOERR);
	return 0;
}

static int run_all(const struct settings *settings, const struct load *load)
{
	struct run runs[2] = {0};
	struct report_run reports[2] = {0};
	size_t n = settings->n_sets > 0 ? 2 : 1;
	int code = 0;

	for (size_t i = 0; code == 0 && i < n; i++)
		code = run_once(settings, load, i == 1, &runs[i], &reports[i]);
	if (code == 0)
		code = report(settings, reports, n);
	for (size_t i = 0; i < n; i++) {
		plan_result_fini(&reports[i].result, load->n_users);
		for (int s = 0; s < PLAN_SCHEDULES; s++)
			free(reports[i].ideals[s].all.waits);
		plan_fini(&runs[i].plan);
		config_free(runs[i].config);
	}
	return code;
}

int main(int argc, char **argv)
{
	static struct settings settings;
	static struct load load;
	int code = take_arguments(&settings, argc, argv);

	/* A reader that has gone is an error to say, not a death. */
	(void)signal(SIGPIPE, SIG_IGN);
	if (code == 0)
		code = make_load(&settings, &load);
	if (code == 0)
		code = run_all(&settings, &load);
	for (size_t i = 0; i < settings.n_sets; i++)
		free(settings.keys[i]);
	load_free(&load);
	return code;
}
