/*
 * config_load() without memory: each allocation of rgovd's own code fails once.
 * libConfuse's are spared: it does not survive them (cfg_free_value() follows
 * the section that could not be made).
 */
#include "coordinator/config.h"
#include "tests/unit/suite.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>

/* The linker's: where this program's code begins and ends. */
extern const char __executable_start, etext;

static bool counting;
static unsigned long countdown; /* of the call that fails, from 0 */

void *calloc(size_t n, size_t bytes)
{
	static void *(*next)(size_t, size_t);
	const char *caller = __builtin_return_address(0);
	bool ours = caller > &__executable_start && caller < &etext;

	if (counting && ours && countdown-- == 0) {
		counting = false;
		errno = ENOMEM;
		return NULL;
	}
	if (next == NULL)
		*(void **)&next = dlsym(RTLD_NEXT, "calloc");
	return next(n, bytes);
}

static char *fake_getenv(const char *name)
{
	static char four[] = "4", region[] = "eu-west-1";

	if (strcmp(name, "MAX_CONCURRENT_REQUESTS") == 0)
		return four;
	return strcmp(name, "AWS_REGION") == 0 ? region : NULL;
}

static void write_file(char path[64])
{
	static const char text[] =
		"preset = 'development'\nallow_uids = {1, root}\n"
		"max_queued = 20\n"
		"upstream bedrock { endpoint = \"http://localhost:1/\"\n"
		"profile = a }\n"
		"model \"a*\" { tokens_per_day = 5 }\n"
		"user u { weight = 0.5 }\n";
	int fd;

	strcpy(path, "/tmp/rgov-config-memory.XXXXXX");
	fd = mkstemp(path);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) ||
		close(fd) != 0)
		abort();
}

/* Whichever allocation fails, the answer is -ENOMEM, nothing is handed out, and
 * with all of them the same file loads. */
static void every_allocation_may_fail(void)
{
	static const struct config_override set[] = {
		{"upstream.max_connections", "5", "--set"}};
	static struct config_error error;
	struct config_source source = {
		.getenv = fake_getenv, .overrides = set, .n_overrides = 1};
	char path[64];
	unsigned long n;

	write_file(path);
	source.file = path;
	for (n = 0; n < 10000; n++) {
		struct config *config = NULL;
		bool failed;
		int rc;

		countdown = n;
		counting = true;
		rc = config_load(&source, &config, &error);
		failed = !counting;
		counting = false;
		CU_ASSERT_EQUAL(rc, failed ? -ENOMEM : 0);
		CU_ASSERT_EQUAL(config == NULL, failed);
		config_free(config);
		if (!failed)
			break;
	}
	/* Otherwise calloc was not ours. */
	CU_ASSERT_TRUE(n > 30 && n < 10000);
	unlink(path);
}

SUITE("config_memory", T(every_allocation_may_fail))
