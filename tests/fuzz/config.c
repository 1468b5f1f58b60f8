/*
 * The configuration: the file's text, then, behind zero bytes, variables of
 * the environment ("NAME=value") and settings of the command line
 * ("key=value" after a '-').  What is accepted is printed, and read again it
 * must be the same configuration.
 */
#include "coordinator/config.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

enum { WORDS = 8 };

/* The names and values of one run; an empty name ends them. */
static char *variables[WORDS], *overrides[WORDS];

static char *get_variable(const char *name)
{
	size_t n = strlen(name);

	for (int i = 0; i < WORDS && variables[i] != NULL; i++)
		if (strncmp(variables[i], name, n) == 0 &&
			variables[i][n] == '=')
			return variables[i] + n + 1;
	return NULL;
}

static void take_words(struct fuzz *fuzz)
{
	size_t n_variables = 0, n_overrides = 0;

	memset(variables, 0, sizeof(variables));
	memset(overrides, 0, sizeof(overrides));
	while (fuzz->left > 0 && n_variables < WORDS && n_overrides < WORDS) {
		char *word = fuzz_text(fuzz);

		if (word[0] == '-')
			overrides[n_overrides++] = word;
		else
			variables[n_variables++] = word;
	}
}

static size_t split_overrides(struct config_override *ret_overrides)
{
	size_t n = 0;

	for (int i = 0; i < WORDS && overrides[i] != NULL; i++) {
		char *value = strchr(overrides[i], '=');

		if (value == NULL)
			continue;
		*value = '\0';
		ret_overrides[n++] = (struct config_override){
			overrides[i] + 1, value + 1, "--set"};
	}
	return n;
}

static void free_words(void)
{
	for (int i = 0; i < WORDS; i++) {
		free(variables[i]);
		free(overrides[i]);
	}
}

static void judge_errors(int rc, const struct config_error *error)
{
	char first[CONFIG_ERROR_BYTES];

	MUST(rc == -ENOMEM || error->n > 0);
	for (size_t i = 0; i < error->n && i < CONFIG_ERRORS; i++)
		MUST(fuzz_is_printable(error->text[i], CONFIG_ERROR_BYTES));
	(void)config_error_first(error, first);
}

/* What --dump-config prints is a configuration, and this one. */
static void read_again(const struct config *config)
{
	char *text, path[32], keys[256];
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);
	struct config *same;
	struct config_error error;
	struct config_source source = {.name = config->name};

	MUST(out != NULL && config_dump(config, out) == 0 && fclose(out) == 0);
	source.file = fuzz_file(1, text, bytes, path);
	if (config_load(&source, &same, &error) != 0) {
		(void)fprintf(
			stderr, "%s\n%.*s", error.text[0], (int)bytes, text);
		abort();
	}
	if (config_diff(config, same, keys, sizeof(keys)) != 0) {
		(void)fprintf(stderr, "not the same: %s\n%.*s", keys,
			(int)bytes, text);
		abort();
	}
	config_free(same);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	struct config_override set[WORDS];
	char *text = fuzz_text(&fuzz), path[32];
	struct config_error error = {0};
	struct config *config;
	struct config_source source = {.name = "fuzz",
		.file = fuzz_file(0, text, strlen(text), path),
		.getenv = get_variable,
		.overrides = set};
	int rc;

	take_words(&fuzz);
	source.n_overrides = split_overrides(set);
	rc = config_load(&source, &config, &error);
	if (rc != 0) {
		judge_errors(rc, &error);
	} else {
		read_again(config);
		config_free(config);
	}
	free_words();
	free(text);
	return 0;
}
