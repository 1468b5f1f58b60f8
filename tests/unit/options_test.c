/* rgovd's command line: what is taken, what is refused, what is printed. */
#include "coordinator/options.h"
#include "tests/unit/suite.h"

#include <errno.h>

static struct options options;
static char *out_text, *err_text;

/* Parses the words after "rgovd"; what was printed is in the two texts. */
static int parse(const char *const *words)
{
	char *argv[80] = {(char *)(uintptr_t) "rgovd"};
	size_t bytes;
	FILE *out, *err;
	int argc = 1;
	int rc;

	free(out_text);
	free(err_text);
	out = open_memstream(&out_text, &bytes);
	err = open_memstream(&err_text, &bytes);
	for (; words[argc - 1] != NULL; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	rc = options_parse(argc, argv, &options, out, err);
	fclose(out);
	fclose(err);
	return rc;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

/* Every option arrives, in its long form and its letter. */
static void options_are_taken(void)
{
	struct config_source source;

	CU_ASSERT_EQUAL(
		PARSE("--config", "/x", "--name=blue", "--replace", "--loop",
			"epoll", "--set", "max_queued=5", "-s",
			"upstream.endpoint=http://[::1]/=x", "--socket", "/s",
			"--log-format=json", "--log-level", "debug"),
		OPTIONS_GO_ON);
	CU_ASSERT_STRING_EQUAL(options.config, "/x");
	CU_ASSERT_STRING_EQUAL(options.name, "blue");
	CU_ASSERT_TRUE(options.replace);
	CU_ASSERT_FALSE(options.check_config);
	source = options_source(&options);
	CU_ASSERT_EQUAL_FATAL(source.n_overrides, 6);
	CU_ASSERT_STRING_EQUAL(source.overrides[0].key, "loop");
	CU_ASSERT_STRING_EQUAL(source.overrides[0].value, "epoll");
	CU_ASSERT_STRING_EQUAL(source.overrides[0].option, "--loop");
	CU_ASSERT_STRING_EQUAL(source.overrides[1].key, "max_queued");
	CU_ASSERT_STRING_EQUAL(source.overrides[2].key, "upstream.endpoint");
	CU_ASSERT_STRING_EQUAL(source.overrides[2].value, "http://[::1]/=x");
	CU_ASSERT_STRING_EQUAL(source.overrides[4].key, "log_format");
	CU_ASSERT_EQUAL(PARSE("-c", "/y", "-n", "a", "-tT"), OPTIONS_GO_ON);
	CU_ASSERT_STRING_EQUAL(options.config, "/y");
	CU_ASSERT_TRUE(options.check_config);
	CU_ASSERT_TRUE(options.dump_config);
	CU_ASSERT_EQUAL(options.n_overrides, 0);
}

static const struct {
	const char *words[3];
	const char *says;
} wrong[] = {
	{{"--no-such"}, "rgovd: unknown or ambiguous option '--no-such';"},
	{{"--lo"}, "rgovd: unknown or ambiguous option '--lo';"},
	{{"-x"}, "rgovd: unknown option '-x';"},
	{{"--config"}, "rgovd: --config expects FILE;"},
	{{"-c"}, "rgovd: --config expects FILE;"},
	{{"--replace=yes"}, "rgovd: --replace takes no value;"},
	{{"stray"}, "rgovd: unexpected 'stray';"},
	{{"--", "-t"}, "rgovd: unexpected '-t';"},
	{{"--set", "novalue"}, "rgovd: --set expects KEY=VALUE, found 'nov"},
	{{"--set", "=5"}, "rgovd: --set expects KEY=VALUE, found '=5';"},
	{{"--name", "../x"}, "rgovd: --name expects 1 to 31 letters"},
	{{"--name="}, "rgovd: --name expects 1 to 31 letters"},
};

/* A usage error is 64, on stderr alone, and quotes what was not understood. */
static void wrong_words_are_quoted_back(void)
{
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CU_ASSERT_EQUAL(parse(wrong[i].words), 64);
		CU_ASSERT_EQUAL(
			strncmp(err_text, wrong[i].says, strlen(wrong[i].says)),
			0);
		CU_ASSERT_STRING_EQUAL(out_text, "");
	}
}

/* More settings than there is room for are refused, not dropped. */
static void too_many_settings_are_refused(void)
{
	const char *words[OPTIONS_OVERRIDES + 3] = {0};

	for (size_t i = 0; i < OPTIONS_OVERRIDES; i++)
		words[i] = "--set=max_queued=5";
	CU_ASSERT_EQUAL(parse(words), OPTIONS_GO_ON);
	CU_ASSERT_EQUAL(options.n_overrides, OPTIONS_OVERRIDES);
	words[OPTIONS_OVERRIDES] = "-smax_queued=6";
	CU_ASSERT_EQUAL(parse(words), 64);
	CU_ASSERT_PTR_NOT_NULL(strstr(err_text, "more than 64 settings"));
}

/* --help names every option and --version the layout, on stdout, with 0. */
static void help_and_version_are_answers(void)
{
	CU_ASSERT_EQUAL(PARSE("--help"), 0);
	CU_ASSERT_STRING_EQUAL(err_text, "");
#define OPTION(id, name, letter, value, setting, help)                         \
	CU_ASSERT_PTR_NOT_NULL(strstr(out_text, "--" name));
#include "coordinator/options.def"
	for (char *line = strtok(out_text, "\n"); line != NULL;
		line = strtok(NULL, "\n"))
		CU_ASSERT_TRUE(strlen(line) <= 90);
	CU_ASSERT_EQUAL(PARSE("-V"), 0);
	CU_ASSERT_EQUAL(
		strncmp(out_text, "rgovd " RGOV_VERSION "\nshared memory", 18),
		0);
}

static int report(
	const struct config *config, const struct config_error *error, int rc)
{
	size_t bytes;
	FILE *out, *err;

	free(out_text);
	free(err_text);
	out = open_memstream(&out_text, &bytes);
	err = open_memstream(&err_text, &bytes);
	rc = options_report(&options, config, error, rc, out, err);
	fclose(out);
	fclose(err);
	return rc;
}

/* Errors go to stderr, one a line, with 78; a good configuration says so. */
static void the_configuration_is_reported(void)
{
	static struct config_error error;
	struct config_source source;
	struct config *config = NULL;
	int rc;

	CU_ASSERT_EQUAL(PARSE("-t", "-c", "/dev/null", "--set", "max_queued=x",
				"--loop", "y"),
		OPTIONS_GO_ON);
	source = options_source(&options);
	source.getenv = NULL;
	rc = config_load(&source, &config, &error);
	CU_ASSERT_EQUAL(report(config, &error, rc), 78);
	CU_ASSERT_STRING_EQUAL(err_text,
		"--set: max_queued: expected 1 to 1000000, found x\n"
		"--loop: loop: expected one of auto|io_uring|epoll, found "
		"y\n");
	CU_ASSERT_STRING_EQUAL(out_text, "");
	CU_ASSERT_EQUAL(report(NULL, &error, -ENOMEM), 71);
	CU_ASSERT_EQUAL(PARSE("-t", "-c", "/dev/null"), OPTIONS_GO_ON);
	source = options_source(&options);
	source.getenv = NULL;
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &config, &error), 0);
	CU_ASSERT_EQUAL(report(config, &error, 0), 0);
	CU_ASSERT_STRING_EQUAL(out_text, "configuration OK\n");
	options.dump_config = true;
	CU_ASSERT_EQUAL(report(config, &error, 0), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out_text, "\nmax_queued = 10000 "));
	config_free(config);
	free(out_text);
	free(err_text);
	out_text = err_text = NULL;
}

SUITE("options", T(options_are_taken), T(wrong_words_are_quoted_back),
	T(too_many_settings_are_refused), T(help_and_version_are_answers),
	T(the_configuration_is_reported))
