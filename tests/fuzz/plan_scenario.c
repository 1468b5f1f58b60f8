/*
 * The reader of scenarios: what it takes makes sense, what it does not take it
 * says in one printable line.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/rgov-plan/scenario.h"

#include <errno.h>

static void judge_group(const struct load_group *group)
{
	MUST(group->count > 0 && group->count <= LOAD_MOST_USERS);
	MUST(group->name != NULL && group->name[0] != '\0');
	MUST(group->latency.a >= 0 && group->latency.b >= 0);
	MUST(group->input_tokens.b >= group->input_tokens.a);
	MUST(group->weight == 0 || group->weight >= 0.001);
	MUST(group->arrival != LOAD_POISSON || group->arrival_rate > 0);
	MUST(group->arrival != LOAD_EVERY || group->arrival_s > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	size_t n;
	char *text = fuzz_rest(&fuzz, &n), path[32];
	char error[LOAD_ERROR_BYTES] = "";
	struct load load;
	int rc;

	load_init(&load);
	rc = scenario_read(fuzz_file(0, text, n, path), &load, error);
	MUST(rc == 0 || rc == -EINVAL);
	if (rc < 0)
		MUST(error[0] != '\0' &&
			fuzz_is_printable(error, sizeof(error)));
	for (size_t i = 0; rc == 0 && i < load.n_groups; i++)
		judge_group(&load.groups[i]);
	load_free(&load);
	free(text);
	return 0;
}
