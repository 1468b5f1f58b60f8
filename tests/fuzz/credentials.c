/*
 * Where the keys come from: a credentials file, a config file, and the
 * environment, separated by zero bytes.  What is found must be closed within
 * its fields and free of control bytes, and no reason may quote a secret.
 */
#include "coordinator/upstream/credentials.h"
#include "coordinator/upstream/aws_profile.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

enum { VARIABLES = 8 };

static char *variables[VARIABLES];
static char files[2][32];

static const char *get(void *context, const char *name)
{
	size_t n = strlen(name);

	(void)context;
	if (strcmp(name, "AWS_SHARED_CREDENTIALS_FILE") == 0)
		return files[0];
	if (strcmp(name, "AWS_CONFIG_FILE") == 0)
		return files[1];
	for (int i = 0; i < VARIABLES && variables[i] != NULL; i++)
		if (strncmp(variables[i], name, n) == 0 &&
			variables[i][n] == '=')
			return variables[i] + n + 1;
	return NULL;
}

static void judge(const struct credentials *found)
{
	MUST(fuzz_is_printable(
		found->access_key_id, sizeof(found->access_key_id)));
	MUST(fuzz_is_printable(
		found->secret_access_key, sizeof(found->secret_access_key)));
	MUST(fuzz_is_printable(found->token, sizeof(found->token)));
	/* settings.c judges it. */
	MUST(strnlen(found->region, sizeof(found->region)) <
		sizeof(found->region));
	MUST(fuzz_is_printable(found->source, sizeof(found->source)));
	if (found->kind == CREDENTIALS_BEARER)
		MUST(found->token[0] != '\0');
	else
		MUST(found->access_key_id[0] != '\0' &&
			found->secret_access_key[0] != '\0');
}

static void read_file(const char *path, enum aws_profile_file kind)
{
	struct aws_profile profile = {.found = false};
	struct aws_profile_error error = {0};

	if (aws_profile_read(path, kind, "default", &profile, &error) != 0)
		MUST(profile.text == NULL);
	for (size_t i = 0; i < profile.count; i++)
		MUST(strlen(profile.settings[i].name) +
				strlen(profile.settings[i].value) <=
			profile.text_bytes);
	aws_profile_wipe(&profile);
}

static void load(const char *profile, int64_t now_s)
{
	const struct credentials_environment environment = {get, NULL};
	char why[CREDENTIALS_WHY_BYTES] = "";
	struct credentials found;
	int rc = credentials_load(&environment, profile, now_s, &found, why);

	if (rc == 0) {
		judge(&found);
		credentials_wipe(&found);
		return;
	}
	MUST(why[0] != '\0' && fuzz_is_printable(why, sizeof(why)));
	MUST(rc == -ENOKEY || rc == -EKEYEXPIRED || rc == -EINVAL ||
		rc == -ENOTSUP);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	int64_t now_s = INT64_C(1700000000) + fuzz_byte(&fuzz) * 1000000;
	size_t n = 0;

	for (int i = 0; i < 2; i++) {
		char *text = fuzz_text(&fuzz);

		(void)fuzz_file(i, text, strlen(text), files[i]);
		read_file(files[i], (enum aws_profile_file)i);
		free(text);
	}
	memset(variables, 0, sizeof(variables));
	while (fuzz.left > 0 && n < VARIABLES)
		variables[n++] = fuzz_text(&fuzz);
	load(NULL, now_s);
	load("work", now_s);
	for (int i = 0; i < VARIABLES; i++)
		free(variables[i]);
	return 0;
}
