/*
 * rgov.conf: what is read, what is refused and how that is said.  The table of
 * bad files is also the seed of config fuzzing.
 */
#include "coordinator/config_private.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define S 1000000000ull
#define MS 1000000ull

static char dir[64], path[96];
static struct config_error error;

/* The environment of the test: NAME, VALUE, …, NULL. */
static const char *environment[16];

static char *fake_getenv(const char *name)
{
	for (size_t i = 0; environment[i] != NULL; i += 2)
		if (strcmp(environment[i], name) == 0)
			return (char *)(uintptr_t)environment[i + 1];
	return NULL;
}

static void set_environment(const char *name, const char *value)
{
	size_t i = 0;

	while (environment[i] != NULL)
		i += 2;
	environment[i] = name;
	environment[i + 1] = value;
}

static void write_bytes(const char *bytes, size_t n)
{
	FILE *file;

	if (dir[0] == '\0') {
		strcpy(dir, "/tmp/rgov-config-test.XXXXXX");
		if (mkdtemp(dir) == NULL)
			abort();
		snprintf(path, sizeof(path), "%s/t.conf", dir);
	}
	file = fopen(path, "w");
	if (file == NULL || fwrite(bytes, 1, n, file) != n || fclose(file) != 0)
		abort();
}

static void write_text(const char *text)
{
	write_bytes(text, strlen(text));
}

static void remove_files(void)
{
	if (dir[0] != '\0') {
		(void)unlink(path);
		(void)rmdir(dir);
	}
	dir[0] = '\0';
	memset(environment, 0, sizeof(environment));
}

/* What is read in a child process is what is read here, the errors included. */
static int load_twice(struct config_source *source, struct config **ret_config)
{
	static struct config_error childs_error;
	static unsigned int loads;
	struct config *childs = NULL;
	char keys[256];
	int rc = config_load(source, ret_config, &error);

	if (loads++ % 16 >= 3) /* thousands of children take seconds */
		return rc;
	source->in_child = true;
	CU_ASSERT_EQUAL(config_load(source, &childs, &childs_error), rc);
	CU_ASSERT_EQUAL(childs_error.n, error.n);
	for (size_t i = 0; i < error.n && i < CONFIG_ERRORS; i++)
		CU_ASSERT_STRING_EQUAL(childs_error.text[i], error.text[i]);
	if (rc == 0 && childs != NULL)
		CU_ASSERT_EQUAL(
			config_diff(*ret_config, childs, keys, sizeof(keys)),
			0);
	config_free(childs);
	return rc;
}

static int load_with(const struct config_override *overrides, size_t n,
	struct config **ret_config)
{
	struct config_source source = {.file = path,
		.getenv = fake_getenv,
		.overrides = overrides,
		.n_overrides = n};

	*ret_config = NULL;
	return load_twice(&source, ret_config);
}

/* The file's configuration, or NULL with the errors shown. */
static struct config *load(const char *text)
{
	struct config *config;

	write_text(text);
	if (load_with(NULL, 0, &config) != 0)
		printf("     unexpected: %s\n", error.text[0]);
	return config;
}

static bool has_error(const char *expected)
{
	for (size_t i = 0; i < error.n && i < CONFIG_ERRORS; i++)
		if (strcmp(error.text[i], expected) == 0)
			return true;
	return false;
}

/* Refused with PATH:rest among the errors, and nothing handed out. */
static bool refused(const char *text, const char *rest)
{
	char expected[CONFIG_ERROR_BYTES];
	struct config *config;
	int rc;

	write_text(text);
	rc = load_with(NULL, 0, &config);
	snprintf(expected, sizeof(expected), "%s:%s", path, rest);
	if (rc == -EINVAL && config == NULL && has_error(expected))
		return true;
	printf("     file: %s\n     expected: %s\n     rc %d, n %zu: %s\n",
		text, expected, rc, error.n, error.n > 0 ? error.text[0] : "");
	config_free(config);
	return false;
}

/* ------------------------------------------------------------ good files */

/* Without any setting the documented defaults hold. */
static void nothing_said_means_the_defaults(void)
{
	struct config *c = load("");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->name, "default");
	CU_ASSERT_STRING_EQUAL(c->preset, "production-low");
	CU_ASSERT_EQUAL(c->policy.max_concurrent, 3);
	CU_ASSERT_EQUAL(c->policy.requests_per_minute, 30);
	CU_ASSERT_EQUAL(c->policy.max_requests_per_user, 2);
	CU_ASSERT_EQUAL(c->policy.max_queued_per_user, 50);
	CU_ASSERT_EQUAL(c->policy.max_queued, 10000);
	CU_ASSERT_EQUAL(c->policy.max_lanes, 64);
	CU_ASSERT_EQUAL(c->policy.minute_ns, 60 * S);
	CU_ASSERT_EQUAL(c->policy.guard_ns, 500 * MS);
	CU_ASSERT_EQUAL(c->policy.age_after_ns, 30 * S);
	CU_ASSERT_EQUAL(c->policy.batch_share, 0.5);
	CU_ASSERT_EQUAL(c->policy.max_attempts, 3);
	CU_ASSERT_EQUAL(c->policy.throttle_base_ns, 1 * S);
	CU_ASSERT_EQUAL(c->policy.transient_base_ns, 50 * MS);
	CU_ASSERT_EQUAL(c->policy.backoff_cap_ns, 20 * S);
	CU_ASSERT_EQUAL(c->policy.probe_ok_after_ns, 2 * S);
	CU_ASSERT_EQUAL(c->policy.retry_budget, 500);
	CU_ASSERT_EQUAL(c->policy.tokens_per_minute, 0);
	CU_ASSERT_EQUAL(c->policy.tokens_per_day, 0);
	CU_ASSERT_FALSE(c->policy.smooth_starts);
	CU_ASSERT_FALSE(c->policy.refuse_late);
	CU_ASSERT_TRUE(c->policy.adaptive);
	CU_ASSERT_EQUAL(c->policy.n_models, 0);
	CU_ASSERT_EQUAL(c->policy.n_apps, 0);
	CU_ASSERT_EQUAL(c->upstream.n_errors, 0);
	CU_ASSERT_FALSE(c->shadow);
	CU_ASSERT_PTR_NULL(c->record);
	CU_ASSERT_EQUAL(c->max_queued_bytes, 1ull << 30);
	CU_ASSERT_EQUAL(c->max_sessions, 1024);
	CU_ASSERT_EQUAL(c->slots_per_session, 256);
	CU_ASSERT_EQUAL(c->default_timeout_ns, 600 * S);
	CU_ASSERT_EQUAL(c->permit_ttl_ns, 600 * S);
	CU_ASSERT_EQUAL(c->on_client_death, CONFIG_DEATH_ABORT);
	CU_ASSERT_EQUAL(c->loop, LOOP_AUTO);
	CU_ASSERT_EQUAL(c->spin_us, 50);
	CU_ASSERT_EQUAL(c->socket_mode, 0660);
	CU_ASSERT_EQUAL(c->log_format, LOG_LOGFMT);
	CU_ASSERT_EQUAL(c->log_level, LOG_INFO);
	CU_ASSERT_STRING_EQUAL(c->upstream.region, "us-east-1");
	CU_ASSERT_PTR_NULL(c->upstream.endpoint);
	CU_ASSERT_PTR_NULL(c->upstream.ca_file);
	CU_ASSERT_PTR_NULL(c->upstream.profile);
	CU_ASSERT_EQUAL(c->upstream.connect_timeout_ns, 5 * S);
	CU_ASSERT_EQUAL(c->upstream.read_timeout_ns, 3600 * S);
	CU_ASSERT_EQUAL(c->upstream.max_connections, 64);
	CU_ASSERT_EQUAL(c->upstream.max_reply_bytes, 24 << 20);
	config_free(c);
}

/* The example of the design loads, with each value where policy and upstream
 * look for it. */
static void a_whole_file_is_read(void)
{
	struct config *c = load(
		"preset = \"production-low\"\n"
		"max_concurrent_requests = 3        # host-wide\n"
		"requests_per_minute     = 30\n"
		"max_requests_per_user   = 2        # in flight at once\n"
		"max_queued_per_user     = 50\n"
		"upstream \"bedrock\" { region = \"eu-central-1\"\n"
		"  endpoint = http://127.0.0.1:8790/base }\n"
		"model \"*anthropic.claude-sonnet-4*\" { tokens_per_minute = "
		"400000  output_burndown = 5  max_concurrent_requests = 3 }\n"
		"model 'meta.*' { reserve_with_burndown = yes }\n"
		"user  \"batch-job\"          { weight = 0.5 }\n"
		"user \"*\" {}\n");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->upstream.region, "eu-central-1");
	CU_ASSERT_STRING_EQUAL(
		c->upstream.endpoint, "http://127.0.0.1:8790/base");
	CU_ASSERT_EQUAL_FATAL(c->policy.n_models, 2);
	CU_ASSERT_STRING_EQUAL(
		c->policy.models[0].pattern, "*anthropic.claude-sonnet-4*");
	CU_ASSERT_EQUAL(c->policy.models[0].tokens_per_minute, 400000);
	CU_ASSERT_EQUAL(c->policy.models[0].output_burndown, 5);
	CU_ASSERT_EQUAL(c->policy.models[0].max_concurrent, 3);
	CU_ASSERT_EQUAL(c->policy.models[0].default_max_tokens, 4096);
	CU_ASSERT_FALSE(c->policy.models[0].reserve_with_burndown);
	CU_ASSERT_TRUE(c->policy.models[1].reserve_with_burndown);
	CU_ASSERT_EQUAL(c->policy.models[1].output_burndown, 1);
	CU_ASSERT_EQUAL_FATAL(c->policy.n_users, 2);
	CU_ASSERT_EQUAL(c->policy.users[0].weight, 0.5);
	CU_ASSERT_STRING_EQUAL(c->policy.users[1].pattern, "*");
	CU_ASSERT_EQUAL(c->policy.users[1].weight, 1);
	config_free(c);
}

/* The same of what shapes the order, the budgets and the retries. */
static void blocks_reach_policy_and_upstream(void)
{
	struct config *c =
		load("tokens_per_minute = 500000\ntokens_per_day = 600000000\n"
		     "smooth_starts = on\nrefuse_late = yes\nadaptive = false\n"
		     "shadow = true\nrecord = /tmp/trace.jsonl\n"
		     "application 'uid 33' { weight = 3 }\n"
		     "application 'uid *' { }\n"
		     "error ThrottlingException { retry = throttle }\n"
		     "error '408' { retry = transient }\n"
		     "error ModelError { retry = no }\n"
		     "user u { requests_per_minute = 7 tokens_per_minute = 70\n"
		     " tokens_per_day = 700 }\n"
		     "model plain { }\n"
		     "model 'a.*' { smooth_starts = true\n"
		     " learned_output = reservation\n"
		     " fallback = {'b:0', \"arn:aws:bedrock:x:1:y/b\" }\n"
		     " fallback += c }\n"
		     "model 'b*' { learned_output = no }\n");
	const struct policy_config *policy;
	const struct upstream_error_rule *errors;

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	policy = &c->policy;
	CU_ASSERT_EQUAL(policy->tokens_per_minute, 500000);
	CU_ASSERT_EQUAL(policy->tokens_per_day, 600000000);
	CU_ASSERT_TRUE(policy->smooth_starts);
	CU_ASSERT_TRUE(policy->refuse_late);
	CU_ASSERT_FALSE(policy->adaptive);
	CU_ASSERT_TRUE(c->shadow);
	CU_ASSERT_STRING_EQUAL(c->record, "/tmp/trace.jsonl");
	CU_ASSERT_EQUAL_FATAL(policy->n_apps, 2);
	CU_ASSERT_STRING_EQUAL(policy->apps[0].pattern, "uid 33");
	CU_ASSERT_EQUAL(policy->apps[0].weight, 3);
	CU_ASSERT_EQUAL(policy->apps[1].weight, 1);
	CU_ASSERT_EQUAL_FATAL(c->upstream.n_errors, 3);
	errors = c->upstream.errors;
	CU_ASSERT_STRING_EQUAL(errors[0].code, "ThrottlingException");
	CU_ASSERT_EQUAL(errors[0].retry, UPSTREAM_RETRY_THROTTLE);
	CU_ASSERT_STRING_EQUAL(errors[1].code, "408");
	CU_ASSERT_EQUAL(errors[1].retry, UPSTREAM_RETRY_TRANSIENT);
	CU_ASSERT_EQUAL(errors[2].retry, UPSTREAM_RETRY_NO);
	CU_ASSERT_EQUAL(policy->users[0].requests_per_minute, 7);
	CU_ASSERT_EQUAL(policy->users[0].tokens_per_minute, 70);
	CU_ASSERT_EQUAL(policy->users[0].tokens_per_day, 700);
	CU_ASSERT_EQUAL(policy->models[0].learned_output, POLICY_LEARN_ORDER);
	CU_ASSERT_EQUAL(policy->models[0].n_fallback, 0);
	CU_ASSERT_EQUAL(policy->models[1].learned_output, POLICY_LEARN_RESERVE);
	CU_ASSERT_TRUE(policy->models[1].smooth_starts);
	CU_ASSERT_EQUAL_FATAL(policy->models[1].n_fallback, 3);
	CU_ASSERT_STRING_EQUAL(policy->models[1].fallback[0], "b:0");
	CU_ASSERT_STRING_EQUAL(
		policy->models[1].fallback[1], "arn:aws:bedrock:x:1:y/b");
	CU_ASSERT_STRING_EQUAL(policy->models[1].fallback[2], "c");
	CU_ASSERT_EQUAL(policy->models[2].learned_output, POLICY_LEARN_NOTHING);
	config_free(c);
}

/* Times and sizes take the units of the manual, exactly. */
static void units_are_exact(void)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} spans[] = {{"1", S}, {"1s", S}, {"1500ms", 1500 * MS},
		{"1.5s", 1500 * MS}, {"2m", 120 * S}, {"1h", 3600 * S},
		{"0.25h", 900 * S}, {"90", 90 * S}, {"2000000us", 2 * S}};
	static const struct {
		const char *text;
		uint64_t bytes;
	} sizes[] = {{"1048576", 1 << 20}, {"1024k", 1 << 20}, {"2M", 2 << 20},
		{"2MiB", 2 << 20}, {"1g", 1 << 30}, {"1T", 1ull << 40}};
	char text[80];

	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		struct config *c;

		snprintf(text, sizeof(text), "default_timeout = %s",
			spans[i].text);
		c = load(text);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(c->default_timeout_ns, spans[i].ns);
		config_free(c);
	}
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct config *c;

		snprintf(text, sizeof(text), "max_queued_bytes = \"%s\"",
			sizes[i].text);
		c = load(text);
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(c->max_queued_bytes, sizes[i].bytes);
		config_free(c);
	}
}

/* Comments may stand wherever a blank may, and change no line number. */
static void comments_are_blanks(void)
{
	struct config *c = load("/* one */ // two\n"
				"/* over\n two lines */ max_queued /* here */ ="
				" # and here\n 77 //comment\n"
				"allow_uids = { 1, # first\n 2 /* , 3 */ }\r\n"
				"user /* x */ \"a#b//c\" # y\n { }\n# no end");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(c->policy.max_queued, 77);
	CU_ASSERT_EQUAL(c->allow_uids.n, 2);
	CU_ASSERT_STRING_EQUAL(c->policy.users[0].pattern, "a#b//c");
	config_free(c);
	CU_ASSERT_TRUE(refused("/* one */\n/* two\n*/\nmax_queued = x\n",
		"4: max_queued: expected 1 to 1000000, found x"));
}

/* Lists take names and numbers, are sorted, and hold each id once. */
static void lists_take_names_and_numbers(void)
{
	struct config *c = load("allow_uids = { 1000, root, '0', 7 }\n"
				"allow_gids = 12\nadmin_uids = {}\n"
				"allow_uids += { 8 }\n");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL_FATAL(c->allow_uids.n, 4);
	CU_ASSERT_EQUAL(c->allow_uids.ids[0], 0);
	CU_ASSERT_EQUAL(c->allow_uids.ids[1], 7);
	CU_ASSERT_EQUAL(c->allow_uids.ids[2], 8);
	CU_ASSERT_EQUAL(c->allow_uids.ids[3], 1000);
	CU_ASSERT_EQUAL_FATAL(c->allow_gids.n, 1);
	CU_ASSERT_EQUAL(c->allow_gids.ids[0], 12);
	CU_ASSERT_EQUAL(c->admin_uids.n, 0);
	config_free(c);
}

/* ------------------------------------------------------------ bad files */

static const struct {
	const char *text, *expected;
} bad[] = {
	/* unknown names */
	{"\nmax_concurent_requests = 3\n",
		"2: unknown setting max_concurent_requests; did you mean "
		"\"max_concurrent_requests\"?"},
	{"max_concurrent = 3\n",
		"1: unknown setting max_concurrent; did you mean "
		"\"max_concurrent_requests\"?"},
	{"models \"x\" {}\n",
		"1: unknown setting models; did you mean \"model\"?"},
	{"region = \"x\"\n",
		"1: unknown setting region; it belongs into a block: upstream "
		"\"…\" { region = … }"},
	{"user \"x\" {\n\n loop = auto }\n",
		"3: unknown setting loop in a block of kind user; it belongs "
		"outside of the block"},
	{"model \"x\" { tokens_per_minutes = 3 }\n",
		"1: unknown setting tokens_per_minutes in a block of kind "
		"model; did you mean \"tokens_per_minute\"?"},
	{"zzz = 1\n", "1: unknown setting zzz"},
	{"Preset = development\n",
		"1: unknown setting Preset; did you mean \"preset\"?"},
	{"include(\"/etc/passwd\")\n",
		"1: unexpected ( outside of a string (quote the value)"},
	{"include = \"/etc/passwd\"\n", "1: unknown setting include"},
	{"\"user=x|weight\" = 3\n", "1: no sub-section 'x' in 'user'"},
	{"user \"x\" {}\n\"user=x|max_queued\" = 3\n",
		"2: unknown setting max_queued; it belongs into a block: user "
		"\"…\" { max_queued = … }"},
	{"user \"x\" {}\n\"user=x|weight\" = 3\n",
		"2: unknown setting weight; it belongs into a block: user \"…\""
		" { weight = … }"},
	/* numbers */
	{"requests_per_minute = -3\n",
		"1: requests_per_minute: expected 0 to 60000, found -3"},
	{"requests_per_minute = 60001\n",
		"1: requests_per_minute: expected 0 to 60000, found 60001"},
	{"max_queued = 1e9\n",
		"1: max_queued: expected 1 to 1000000, found 1e9"},
	{"max_queued = \"10 abc\"\n",
		"1: max_queued: expected 1 to 1000000, found \"10 abc\""},
	{"max_queued = 10 abc\n", "1: unknown setting abc"},
	{"max_queued = 0x10\n",
		"1: max_queued: expected 1 to 1000000, found 0x10"},
	{"max_queued = 0\n", "1: max_queued: expected 1 to 1000000, found 0"},
	{"max_queued = \"\"\n",
		"1: max_queued: expected 1 to 1000000, found \"\""},
	{"max_queued = 18446744073709551626\n",
		"1: max_queued: expected 1 to 1000000, found "
		"18446744073709551626"},
	{"max_queued = 99999999999999999999999999\n",
		"1: max_queued: expected 1 to 1000000, found "
		"99999999999999999999999999"},
	{"max_queued = 3.5\n",
		"1: max_queued: expected 1 to 1000000, found 3.5"},
	{"spin_us = 101\n", "1: spin_us: expected 0 to 100, found 101"},
	{"batch_share = 0\n", "1: batch_share: expected 0.01 to 1, found 0"},
	{"\ncluster = \"http://:hunter2@r1\"\n",
		"2: cluster: expected redis://host:port/db, "
		"rediss://host:port/db "
		"or unix:///path?db=N"},
	{"cluster = \"redis://:hunter2@r1:x\"\n",
		"1: cluster: expected a port from 1 to 65535 after the host"},
	{"cluster_hosts = 3\ncluster = \"redis://r1/x\"\n",
		"2: cluster: expected a database number from 0 to 1000000 at "
		"the "
		"end"},
	{"\n\ncluster = \"redis://:hunter2@r1\"\n",
		"3: cluster: on_cluster_loss = share needs cluster_hosts (how "
		"many "
		"hosts share the quota), found none"},
	{"cluster = \"redis://r1\"\non_cluster_loss = perhaps\n",
		"2: on_cluster_loss: expected one of share|stop|ignore, found "
		"perhaps"},
	{"cluster = \"redis://r1\"\ncluster_hosts = 2\n"
	 "cluster_account = \"a}b\"\n",
		"3: cluster_account: expected 1 to 64 of A-Z a-z 0-9 . _ / -, "
		"found "
		"\"a}b\""},
	{"cluster = \"redis://r1\"\ncluster_hosts = 2\n"
	 "cluster_host = \"a b\"\n",
		"3: cluster_host: expected 1 to 128 of A-Z a-z 0-9 . _ / -, "
		"found "
		"\"a b\""},
	{"batch_share = nan\n",
		"1: batch_share: expected 0.01 to 1, found nan"},
	{"batch_share = 0.1.2\n",
		"1: batch_share: expected 0.01 to 1, found 0.1.2"},
	{"user \"x\" { weight = 0 }\n",
		"1: weight: expected 0.001 to 1000, found 0"},
	{"user \"x\" {\n weight = -1 }\n",
		"2: weight: expected 0.001 to 1000, found -1"},
	/* times, sizes, modes, words */
	{"guard = \"10 s\"\n", "1: guard: expected 0s to 1m, found \"10 s\""},
	{"guard = 10parsecs\n", "1: guard: expected 0s to 1m, found 10parsecs"},
	{"guard = 1.5ns\n", "1: guard: expected 0s to 1m, found 1.5ns"},
	{"guard = 1.s\n", "1: guard: expected 0s to 1m, found 1.s"},
	{"guard = 1.2345s\n", "1: guard: expected 0s to 1m, found 1.2345s"},
	{"guard = -1s\n", "1: guard: expected 0s to 1m, found -1s"},
	{"permit_ttl = 99999999999h\n",
		"1: permit_ttl: expected 1s to 24h, found 99999999999h"},
	{"quota_window = 99ms\n",
		"1: quota_window: expected 100ms to 1h, found 99ms"},
	{"max_queued_bytes = 2MB\n",
		"1: max_queued_bytes: expected 1M to 1T, found 2MB"},
	{"max_queued_bytes = 99999999999T\n",
		"1: max_queued_bytes: expected 1M to 1T, found 99999999999T"},
	{"socket_mode = 999\n",
		"1: socket_mode: expected 0600 to 0777, found 999"},
	{"socket_mode = 0077\n",
		"1: socket_mode: expected 0600 to 0777, found 0077"},
	{"loop = kqueue\n",
		"1: loop: expected one of auto|io_uring|epoll, found kqueue"},
	{"loop = \"auto|epoll\"\n",
		"1: loop: expected one of auto|io_uring|epoll, found "
		"\"auto|epoll\""},
	{"on_client_death = Abort\n",
		"1: on_client_death: expected one of abort|finish, found "
		"Abort"},
	{"preset = huge\n",
		"1: preset: expected one of development, production-low, "
		"production-high, single-user, found huge"},
	{"model \"x\" { reserve_with_burndown = maybe }\n",
		"1: reserve_with_burndown: expected true or false, found "
		"maybe"},
	/* places and people */
	{"runtime_dir = run\n",
		"1: runtime_dir: expected a path that begins with /, found "
		"run"},
	{"socket = \"~/x.sock\"\n",
		"1: socket: expected a path that begins with /, found "
		"\"~/x.sock\""},
	{"allow_uids = { 1, -2 }\n",
		"1: allow_uids: expected a user of this host, by name or "
		"number, found -2"},
	{"allow_uids = { 4294967295 }\n",
		"1: allow_uids: expected a user of this host, by name or "
		"number, found 4294967295"},
	{"allow_uids = {\n1,\nno_such_user_here }\n",
		"2: allow_uids: expected a user of this host, by name or "
		"number, found no_such_user_here"},
	{"allow_gids = 1x\n",
		"1: allow_gids: expected a group of this host, by name or "
		"number, found 1x"},
	/* upstream */
	{"upstream \"bedrock\" { endpoint = \"http://example.com\" }\n",
		"1: endpoint: expected https://: http:// is for this host "
		"only (127.0.0.1, [::1], localhost), found http://example.com"},
	{"upstream bedrock { endpoint = http://127.0.0.1.evil.example }\n",
		"1: endpoint: expected https://: http:// is for this host "
		"only (127.0.0.1, [::1], localhost), found "
		"http://127.0.0.1.evil.example"},
	{"upstream bedrock { endpoint = \"http://[::2]:80\" }\n",
		"1: endpoint: expected https://: http:// is for this host "
		"only (127.0.0.1, [::1], localhost), found "
		"\"http://[::2]:80\""},
	{"upstream bedrock { endpoint = \"https://u:secret@h\" }\n",
		"1: endpoint: expected a URL without user, query and "
		"fragment"},
	{"upstream bedrock { endpoint = ftp://127.0.0.1 }\n",
		"1: endpoint: expected a URL with https:// (or http:// to "
		"this host), found ftp://127.0.0.1"},
	{"upstream bedrock { endpoint = https://host:0 }\n",
		"1: endpoint: expected a URL like https://host:port/path, "
		"found https://host:0"},
	{"upstream bedrock { endpoint = https://host:65536 }\n",
		"1: endpoint: expected a URL like https://host:port/path, "
		"found https://host:65536"},
	{"upstream bedrock { endpoint = \"https://\" }\n",
		"1: endpoint: expected a URL like https://host:port/path, "
		"found https://"},
	{"upstream bedrock { endpoint = \"https://a b\" }\n",
		"1: endpoint: expected a URL of at most 255 printable "
		"characters, found \"https://a b\""},
	{"upstream bedrock { region = \"us-east-1.evil.com/\" }\n",
		"1: region: expected a region like us-east-1, found "
		"us-east-1.evil.com/"},
	{"upstream bedrock { ca_file = /nowhere/at/all.pem }\n",
		"1: ca_file: expected a file that rgovd can read, found "
		"/nowhere/at/all.pem"},
	{"upstream openai { }\n",
		"1: upstream: expected \"bedrock\", found openai"},
	/* blocks */
	{"model \"\" { }\n",
		"1: model: expected a pattern of 1 to 2047 printable ASCII "
		"characters, found \"\""},
	{"user \"0123456789012345678901234567890123456789012345678901234567890"
	 "123\" {}\n",
		"1: user: expected a pattern of 1 to 63 printable ASCII "
		"characters, found 01234567890123456789012345678901234567890"
		"12345678901234567890123"},
	{"model \"a\" {}\nmodel \"b\" {}\nmodel \"a\" {}\n",
		"3: a second block for a, the first is at %s:1"},
	{"model { }\n", "1: missing title for section 'model'"},
	{"model \"a\" = 3\n", "1: missing opening brace for section 'model'"},
	{"model \"a\" { model \"b\" { } }\n",
		"1: unknown setting model in a block of kind model"},
	{"model m { fallback = {a, b, a} }\n",
		"1: fallback: expected each model id once, found a"},
	{"model m {\n fallback = \"anthropic.*\" }\n",
		"2: fallback: expected model ids of 1 to 512 characters without"
		" blanks, quotes and wildcards, found \"anthropic.*\""},
	{"model m { fallback = {a, \"\"} }\n",
		"1: fallback: expected model ids of 1 to 512 characters without"
		" blanks, quotes and wildcards, found \"\""},
	{"model m { fallback = {a,b,c,d,e,f,g,h,i} }\n",
		"1: fallback: expected at most 8 model ids, found i"},
	{"model m { learned_output = 95 }\n",
		"1: learned_output: expected one of order|reservation|no, "
		"found 95"},
	{"application \"uid 1\" {\n weight = 0 }\n",
		"2: weight: expected 0.001 to 1000, found 0"},
	{"application \"uid 1\" { max_requests = 5 }\n",
		"1: unknown setting max_requests in a block of kind "
		"application; it belongs into a block: user \"…\" { "
		"max_requests = … }"},
	{"application a {}\napplication a {}\n",
		"2: a second block for a, the first is at %s:1"},
	{"error \"Not Found\" { retry = no }\n",
		"1: error: expected the name of an error or a status of 400 to "
		"599, found \"Not Found\""},
	{"error 200 { retry = no }\n",
		"1: error: expected the name of an error or a status of 400 to "
		"599, found 200"},
	{"\nerror 408 { }\n",
		"2: error \"408\": expected retry = throttle|transient|no, "
		"found nothing"},
	{"error 408 { retry = yes }\n",
		"1: retry: expected one of throttle|transient|no, found yes"},
	{"error 408 { retry = no }\nerror 409 { retry = no }\nerror 408 { "
	 "retry = no }\n",
		"3: a second block for 408, the first is at %s:1"},
	{"quota_window = 0\n",
		"1: quota_window: expected 100ms to 1h, found 0"},
	{"record = trace.jsonl\n",
		"1: record: expected a path that begins with /, found "
		"trace.jsonl"},
	{"shadow = maybe\n", "1: shadow: expected true or false, found maybe"},
	/* said twice */
	{"max_queued = 5\n\nmax_queued = 6\n",
		"3: max_queued: was set before, at %s:1"},
	{"allow_uids = {1}\nallow_uids = {2, 3}\n",
		"2: allow_uids: was set before, at %s:1"},
	{"user \"u\" { weight = 1\nweight = 2 }\n",
		"2: weight: was set before, at %s:1"},
	/* what does not go together */
	{"max_requests_per_user = 4\n",
		"1: max_requests_per_user (4, from %s:1) is above "
		"max_concurrent_requests (3, from preset production-low)"},
	{"max_concurrent_requests = 3\n\nmax_requests_per_user = 4\n",
		"3: max_requests_per_user (4, from %s:3) is above "
		"max_concurrent_requests (3, from %s:1)"},
	{"max_queued = 5\nmax_queued_per_user = 6\n",
		"2: max_queued_per_user (6, from %s:2) is above max_queued (5, "
		"from %s:1)"},
	{"throttle_backoff = 10s\nbackoff_cap = 5s\n",
		"1: throttle_backoff (10s, from %s:1) is above backoff_cap "
		"(5s, from %s:2)"},
	{"quota_window = 1s\nguard = 2s\n",
		"2: guard (2s, from %s:2) is above quota_window (1s, from "
		"%s:1)"},
	{"model \"m\" {\n max_concurrent_requests = 9 }\n",
		"2: model \"m\": max_concurrent_requests (9) is above "
		"max_concurrent_requests (3, from preset production-low)"},
	{"user \"m\" {\n max_requests = 9 }\n",
		"2: user \"m\": max_requests (9) is above "
		"max_concurrent_requests (3, from preset production-low)"},
	{"tokens_per_minute = 1000\n\ntokens_per_day = 999\n",
		"1: tokens_per_minute (1000, from %s:1) is above "
		"tokens_per_day (999, from %s:3)"},
	{"tokens_per_minute = 9999\nmodel m {\n tokens_per_minute = 10000 }\n",
		"3: model \"m\": tokens_per_minute (10000) is above "
		"tokens_per_minute (9999, from %s:1)"},
	{"tokens_per_day = 9999\nmodel m {\n tokens_per_day = 10000 }\n",
		"3: model \"m\": tokens_per_day (10000) is above "
		"tokens_per_day (9999, from %s:1)"},
	{"model m { tokens_per_minute = 9999\ntokens_per_day = 9998 }\n",
		"1: model \"m\": tokens_per_minute (9999) is above "
		"tokens_per_day (9998, from %s:2)"},
	{"preset = development model m {\n requests_per_minute = 21 }\n",
		"2: model \"m\": requests_per_minute (21) is above "
		"requests_per_minute (20, from preset development)"},
	{"tokens_per_minute = 99\nuser m {\n tokens_per_minute = 100 }\n",
		"3: user \"m\": tokens_per_minute (100) is above "
		"tokens_per_minute (99, from %s:1)"},
	{"tokens_per_day = 99\nuser m {\n tokens_per_day = 100 }\n",
		"3: user \"m\": tokens_per_day (100) is above tokens_per_day "
		"(99, from %s:1)"},
	{"user m { tokens_per_day = 99\n tokens_per_minute = 100 }\n",
		"2: user \"m\": tokens_per_minute (100) is above "
		"tokens_per_day (99, from %s:1)"},
	{"user m { requests_per_minute = 31 }\n",
		"1: user \"m\": requests_per_minute (31) is above "
		"requests_per_minute (30, from preset production-low)"},
	{"model m {\n tokens_per_minute = 999\n default_max_tokens = 1000 }\n",
		"3: model \"m\": a request that names no maximum reserves "
		"1000 tokens (default_max_tokens, from %s:3) and could never "
		"start: tokens_per_minute is 999, from %s:2"},
	{"tokens_per_day = 4999\nmodel m { default_max_tokens = 1000\n"
	 "output_burndown = 5 reserve_with_burndown = yes }\n",
		"2: model \"m\": a request that names no maximum reserves "
		"5000 tokens (default_max_tokens, from %s:2) and could never "
		"start: tokens_per_day is 4999, from %s:1"},
	/* patterns that hide others */
	{"model '*' {}\nmodel 'anthropic.*' {}\n",
		"2: model \"anthropic.*\": nothing reaches it: \"*\" (%s:1) "
		"stands before it and matches all that it does"},
	{"user b {}\nuser 'a*' {}\nuser '*' {}\nuser ab {}\n",
		"4: user \"ab\": nothing reaches it: \"a*\" (%s:2) stands "
		"before it and matches all that it does"},
	{"application 'uid *' {}\napplication 'uid [0-9]' {}\n",
		"2: application \"uid [0-9]\": nothing reaches it: "
		"\"uid *\" (%s:1) stands before it and matches all that it "
		"does"},
	{"model 'a*c*' {}\nmodel 'ab?c[xy]*' {}\n",
		"2: model \"ab?c[xy]*\": nothing reaches it: \"a*c*\" (%s:1) "
		"stands before it and matches all that it does"},
	{"model '[ab]?' {}\nmodel 'a[xy]' {}\n",
		"2: model \"a[xy]\": nothing reaches it: \"[ab]?\" (%s:1) "
		"stands before it and matches all that it does"},
	/* models that would fall back to themselves */
	{"model 'a.*' {\n fallback = {b.x, a.y} }\n",
		"2: model \"a.*\": fallback: expected models of other blocks, "
		"found a.y, which this one matches"},
	/* syntax */
	{"max_queued\n", "2: premature end of file"},
	{"max_queued 5\n", "1: missing equal sign after option 'max_queued'"},
	{"max_queued = = 5\n", "1: unexpected token '='"},
	{"max_queued = {5}\n", "1: unexpected token '{'"},
	{"= 5\n", "1: unexpected token '='"},
	{"max_queued += 5\n",
		"1: attempt to append to non-list option 'max_queued'"},
	{"\n}\n", "2: } closes nothing"},
	{"\nuser \"x\" {\n\n", "2: the { of this line is not closed"},
	{"preset = \"development\n", "1: the string is not closed on its line"},
	{"preset = 'development\n\n'",
		"1: the string is not closed on its line"},
	{"preset = \"development", "1: the string is not closed on its line"},
	{"\n/* open\n", "2: the comment that begins here has no end"},
	{"model *claude* {}\n",
		"1: unexpected * outside of a string (quote the value)"},
	{"max_queued = 5;\n",
		"1: unexpected ; outside of a string (quote the value)"},
	{"max_queued = \x01"
	 "5\n",
		"1: unexpected byte 0x01 outside of a string"},
	{"\xef\xbb\xbfmax_queued = 5\n",
		"1: unexpected byte 0xef outside of a string"},
	{"socket = \"/tmp/a\\x00b\"\n",
		"1: in a string only \\\\ and an escaped quote may follow a "
		"backslash"},
	{"socket = \"/tmp/\x1b[2J\"\n",
		"1: a string holds no control characters"},
	{"socket = \"/${HOME}/x\"\n",
		"1: ${…} is not expanded here: set the variable of the "
		"setting itself, or write '${' in single quotes"},
	{"socket = ${HOME}\n",
		"1: unexpected $ outside of a string (quote the value)"},
	{"{{{{{{{{{\n", "1: too many blocks inside one another"},
	{"max_queued = a\\\n5\n",
		"1: unexpected \\ outside of a string (quote the value)"},
	{"socket = \"/t\xc3\xa9\"\n",
		"1: socket: expected printable ASCII, found \"/t??\""},
};

/* In what is expected, "%s:" stands for the path of the file. */
static void expand(const char *text, char *ret_text, size_t bytes)
{
	size_t used = 0;

	while (*text != '\0' && used + 1 < bytes)
		if (strncmp(text, "%s", 2) == 0) {
			used += (size_t)snprintf(
				ret_text + used, bytes - used, "%s", path);
			text += 2;
		} else {
			ret_text[used++] = *text++;
		}
	ret_text[used] = '\0';
}

/* Each bad file is refused with the line and what is wrong with it. */
static void bad_files_say_file_and_line(void)
{
	char expected[CONFIG_ERROR_BYTES];

	write_text("");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		expand(bad[i].expected, expected, sizeof(expected));
		CU_ASSERT_TRUE(refused(bad[i].text, expected));
	}
}

/* After a file that broke off inside of a string or block the next one is read
 * as if nothing had been. */
static void a_broken_file_leaves_nothing_behind(void)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct config *c;

		write_text(bad[i].text);
		CU_ASSERT_NOT_EQUAL(load_with(NULL, 0, &c), 0);
		c = load("max_queued = 77\nuser \"x\" { weight = 2 }\n");
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(c->policy.max_queued, 77);
		CU_ASSERT_EQUAL(c->policy.n_users, 1);
		config_free(c);
	}
}

/* Every prefix of a good file, and the file with any byte replaced, is either
 * read or refused with a message; nothing worse happens. */
static void damaged_files_are_refused_or_read(void)
{
	static const char good[] =
		"preset='development' # c\nallow_uids={1,root}\n"
		"upstream bedrock{endpoint=\"http://localhost:1/\"}\n"
		"model \"a*\"{tokens_per_day=5}/*x*/user u{weight=.5}\n";
	static const char hostile[] = "\0\n\"'{}=,#/\\$\xff";
	char text[sizeof(good)];

	for (size_t i = 0; i < sizeof(good) - 1; i++)
		for (size_t k = 0; k < sizeof(hostile); k++) {
			struct config *c;
			bool cut = k == sizeof(hostile) - 1;
			int rc;

			memcpy(text, good, sizeof(good));
			text[i] = hostile[k];
			write_bytes(text, cut ? i : sizeof(good) - 1);
			rc = load_with(NULL, 0, &c);
			CU_ASSERT_EQUAL(rc == 0, c != NULL);
			CU_ASSERT_EQUAL(rc == 0, error.n == 0);
			config_free(c);
		}
}

/* All wrong values are reported at once, and those that do not fit counted. */
static void all_wrong_values_are_reported(void)
{
	char text[4096] = "";
	char first[CONFIG_ERROR_BYTES];
	struct config *c;
	size_t used = 0;

	write_text("max_queued = x\nspin_us = 999\nmax_lanes = 65\n");
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	CU_ASSERT_EQUAL(error.n, 3);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.text[2], ":3: max_lanes:"));
	config_error_first(&error, first);
	CU_ASSERT_PTR_NOT_NULL(strstr(first, ":1: max_queued:"));
	CU_ASSERT_PTR_NOT_NULL(strstr(first, " (and 2 more)"));
	for (int i = 0; i < 40; i++)
		used += (size_t)sprintf(
			text + used, "user \"u%d\" { weight = x }\n", i);
	write_text(text);
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	CU_ASSERT_EQUAL(error.n, 40);
}

/* Files that are none, or too large, are refused at once; one that was named
 * must be there, the usual one need not. */
static void strange_files_are_refused(void)
{
	struct config_source source = {.getenv = fake_getenv};
	struct config *c = NULL;
	char fifo[128];

	write_text("");
	source.file = "/nowhere/rgov.conf";
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -ENOENT);
	CU_ASSERT_STRING_EQUAL(
		error.text[0], "/nowhere/rgov.conf: No such file or directory");
	source.file = dir;
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EISDIR);
	source.file = "/proc/self/mem"; /* a file; reading it fails */
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EIO);
	source.file = "/dev/zero";
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	CU_ASSERT_EQUAL_FATAL(mkfifo(fifo, 0600), 0);
	source.file = fifo;
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	(void)unlink(fifo);
	source.file = path;
	CU_ASSERT_EQUAL_FATAL(truncate(path, (1 << 20) + 1), 0);
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.text[0], "larger than"));
	write_bytes("a\nb\0c", 5);
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.text[0], ":2: a NUL byte"));
	source.file = NULL;
	source.dir = "/nowhere";
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &c, &error), 0);
	CU_ASSERT_PTR_NULL(c->file);
	config_free(c);
	source.file = "/dev/null";
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &c, &error), 0);
	config_free(c);
}

/* A flood of blocks or list elements is bounded. */
static void floods_are_refused(void)
{
	size_t bytes = 1 << 15;
	char *text = malloc(bytes);
	struct config *c;
	size_t used = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	for (int i = 0; i < 257; i++)
		used += (size_t)sprintf(text + used, "model m%d{}\n", i);
	write_bytes(text, used);
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.text[0], "more than 256 blocks"));
	used = (size_t)sprintf(text, "allow_uids={0");
	while (used < bytes - 16)
		used += (size_t)sprintf(text + used, ",1");
	used += (size_t)sprintf(text + used, "}\n");
	write_bytes(text, used);
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(error.text[0], "allow_uids: expected at most 256"));
	for (used = 0; used < bytes - 20;)
		used += (size_t)sprintf(text + used, "allow_uids={1,2}\n");
	write_bytes(text, used);
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	free(text);
}

/* A pattern that only may hide another is fine, and so is one of another kind;
 * models may name each other as fallback. */
static void what_can_be_reached_is_no_error(void)
{
	static const char *const good[] = {
		"model 'a?c' {}\nmodel 'a*c' {}\n",
		"model 'a[bc]' {}\nmodel 'a?' {}\n",
		"model 'a[bc]' {}\nmodel 'a[cd]' {}\n",
		"model '*b*' {}\nmodel '[abc]' {}\n",
		"model 'ab' {}\nmodel 'a*' {}\nmodel '*' {}\n",
		"model 'a*' {}\nmodel 'b*' {}\n",
		"model '*' {}\nuser 'u*' {}\napplication 'u*' {}\n",
		"model '?*' {}\nmodel '*' {}\n",
		"model 'a*' { fallback = b }\nmodel 'b*' { fallback = a }\n",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct config *c = load(good[i]);

		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(config_warnings(c)->n, 0);
		config_free(c);
	}
}

/* What nobody asked for and cannot work is said, and no error. */
static void defaults_that_cannot_work_are_said(void)
{
	struct config *c = load("\nmodel m { tokens_per_minute = 1000 }\n");
	const struct config_error *warnings;

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	warnings = config_warnings(c);
	CU_ASSERT_EQUAL_FATAL(warnings->n, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(warnings->text[0], "t.conf:2: model"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(warnings->text[0], "reserves 4096 tokens"));
	config_free(c);
	c = load("model m { tokens_per_minute = 4096 }\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(config_warnings(c)->n, 0);
	config_free(c);
}

/* ------------------------------------------------------------ precedence */

/* preset < file < environment < command line, for each setting by itself. */
static void the_higher_layer_wins(void)
{
	static const struct config_override set[] = {
		{"requests_per_minute", "11", "--set"},
		{"requests_per_minute", "12", "--set"},
		{"upstream.region", "eu-west-1", "--set"},
		{"loop", "epoll", "--loop"}};
	struct config *c;

	write_text("preset = production-high\nmax_queued = 70\n"
		   "requests_per_minute = 70\nmax_requests_per_user = 1\n"
		   "max_queued_per_user = 7\n");
	set_environment("RGOV_MAX_QUEUED", "60");
	set_environment("RGOV_REQUESTS_PER_MINUTE", "60");
	set_environment("RGOV_UPSTREAM_REGION", "us-west-2");
	set_environment("RGOV_MAX_QUEUED_PER_USER", "");
	CU_ASSERT_EQUAL_FATAL(load_with(set, 4, &c), 0);
	CU_ASSERT_EQUAL(c->policy.max_concurrent, 5);
	CU_ASSERT_EQUAL(c->policy.max_requests_per_user, 1);
	CU_ASSERT_EQUAL(c->policy.max_queued, 60);
	CU_ASSERT_EQUAL(c->policy.requests_per_minute, 12);
	CU_ASSERT_EQUAL(c->policy.max_queued_per_user, 7);
	CU_ASSERT_STRING_EQUAL(c->upstream.region, "eu-west-1");
	CU_ASSERT_EQUAL(c->loop, LOOP_EPOLL);
	config_free(c);
}

/* The old manager's variables work; its preset chooses the table's row; the
 * name with RGOV_ wins over the old one. */
static void the_old_variables_work(void)
{
	static const struct {
		const char *name;
		uint32_t concurrent, minute, user;
	} presets[] = {{"development", 2, 20, 2}, {"production-low", 3, 30, 2},
		{"production-high", 5, 80, 3}, {"single-user", 1, 20, 1}};
	struct config *c;

	for (size_t i = 0; i < 4; i++) {
		memset(environment, 0, sizeof(environment));
		set_environment("RATE_LIMIT_PRESET", presets[i].name);
		c = load("");
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		CU_ASSERT_EQUAL(
			c->policy.max_concurrent, presets[i].concurrent);
		CU_ASSERT_EQUAL(
			c->policy.requests_per_minute, presets[i].minute);
		CU_ASSERT_EQUAL(
			c->policy.max_requests_per_user, presets[i].user);
		config_free(c);
	}
	memset(environment, 0, sizeof(environment));
	set_environment("MAX_CONCURRENT_REQUESTS", "9");
	set_environment("REQUESTS_PER_MINUTE", "99");
	set_environment("RGOV_REQUESTS_PER_MINUTE", "98");
	set_environment("MAX_REQUESTS_PER_USER", "8");
	c = load("max_concurrent_requests = 4\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(c->policy.max_concurrent, 9);
	CU_ASSERT_EQUAL(c->policy.requests_per_minute, 98);
	CU_ASSERT_EQUAL(c->policy.max_requests_per_user, 8);
	config_free(c);
}

/* A wrong value names the variable or option it came from, also where a higher
 * layer would have hidden it. */
static void wrong_layers_name_themselves(void)
{
	static const struct config_override set[] = {
		{"max_queued", "100", "--set"}, {"lop", "x", "--set"},
		{"upstream.regoin", "x", "--set"}, {"loop", "x", "--loop"}};
	struct config *c;

	write_text("max_queued = -1\n");
	set_environment("REQUESTS_PER_MINUTE", "many");
	CU_ASSERT_EQUAL(load_with(set, 4, &c), -EINVAL);
	CU_ASSERT_TRUE(has_error("environment REQUESTS_PER_MINUTE: "
				 "requests_per_minute: expected 0 to 60000, "
				 "found many"));
	CU_ASSERT_TRUE(has_error(
		"--set: unknown setting lop; did you mean \"loop\"?"));
	CU_ASSERT_TRUE(has_error("--set: unknown setting upstream.regoin; did "
				 "you mean \"region\"?"));
	CU_ASSERT_TRUE(has_error("--loop: loop: expected one of "
				 "auto|io_uring|epoll, found x"));
	CU_ASSERT_EQUAL(error.n, 5);
}

/* A limit that only the preset set gives way to one that somebody asked for;
 * two that somebody asked for are a contradiction. */
static void a_preset_gives_way(void)
{
	struct config *c = load("max_concurrent_requests = 1\n");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(c->policy.max_requests_per_user, 1);
	config_free(c);
	c = load("max_queued = 5\nquota_window = 1s\nbackoff_cap = 10ms\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(c->policy.max_queued_per_user, 5);
	CU_ASSERT_EQUAL(c->policy.guard_ns, 250 * MS);
	CU_ASSERT_EQUAL(c->policy.throttle_base_ns, 10 * MS);
	CU_ASSERT_EQUAL(c->policy.transient_base_ns, 10 * MS);
	config_free(c);
	set_environment("MAX_CONCURRENT_REQUESTS", "1");
	write_text("max_requests_per_user = 2\n");
	CU_ASSERT_EQUAL(load_with(NULL, 0, &c), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.text[0],
		"environment MAX_CONCURRENT_REQUESTS: max_requests_per_user "
		"(2, from "));
	c = load("max_concurrent_requests = 2\nmax_requests_per_user = 0\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	config_free(c);
	memset(environment, 0, sizeof(environment));
	c = load("max_concurrent_requests = 0\nmax_requests_per_user = 9\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	config_free(c);
}

/* ------------------------------------------------------------ places */

/* The name is part of file names: nothing else than a plain one passes. */
static void names_are_plain(void)
{
	static const char *const wrong[] = {"", ".", ".x", "a/b", "../x", "a b",
		"a\n", "01234567890123456789012345678901", "é"};
	struct config_source source = {.dir = "/nowhere"};
	struct config *c = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		CU_ASSERT_FALSE(config_name_is_valid(wrong[i]));
		source.name = wrong[i];
		CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	}
	CU_ASSERT_TRUE(config_name_is_valid("a-B_1."));
	CU_ASSERT_TRUE(config_name_is_valid("0123456789012345678901234567890"));
}

/* The socket lies in the runtime directory, which systemd's variable names
 * first, and must fit a socket address. */
static void the_socket_has_its_place(void)
{
	struct config_source source = {
		.name = "blue", .dir = "/nowhere", .getenv = fake_getenv};
	struct config *c;

	set_environment("RUNTIME_DIRECTORY", "/run/one:/run/two");
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &c, &error), 0);
	CU_ASSERT_STRING_EQUAL(c->runtime_dir, "/run/one");
	CU_ASSERT_STRING_EQUAL(c->socket, "/run/one/blue.sock");
	config_free(c);
	memset(environment, 0, sizeof(environment));
	set_environment("XDG_RUNTIME_DIR", "/run/user/7");
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &c, &error), 0);
	CU_ASSERT_STRING_EQUAL(c->runtime_dir,
		geteuid() == 0 ? "/run/rgov" : "/run/user/7/rgov");
	config_free(c);
	set_environment("RGOV_RUNTIME_DIR",
		"/0123456789012345678901234567890123456789012345678901234567890"
		"123456789012345678901234567890123456789");
	CU_ASSERT_EQUAL(config_load(&source, &c, &error), -EINVAL);
	CU_ASSERT_PTR_NOT_NULL(strstr(
		error.text[0], "socket: expected a path of at most 107 bytes"));
}

/* Region, endpoint and name may come from the environment; the file's word on
 * the endpoint is above that of the AWS tools' variables. */
static void aws_variables_are_defaults(void)
{
	struct config *c;

	set_environment("AWS_DEFAULT_REGION", "eu-north-1");
	set_environment("AWS_REGION", "eu-south-1");
	set_environment(
		"AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "http://127.0.0.1:1");
	set_environment("RGOV_NAME", "green");
	c = load("upstream bedrock { endpoint = http://localhost:2 }\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->upstream.region, "eu-south-1");
	CU_ASSERT_STRING_EQUAL(c->upstream.endpoint, "http://localhost:2");
	CU_ASSERT_STRING_EQUAL(c->name, "green");
	config_free(c);
}

/* Empty lists leave it to the socket's mode; a list lets in whom it names, and
 * root and rgovd itself always. */
static void lists_decide_who_comes_in(void)
{
	static const gid_t none[] = {5}, member[] = {5, 33};
	struct config *c = load("");

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_TRUE(config_lets_in(c, 900, 1234, none, 1));
	CU_ASSERT_FALSE(config_lets_govern(c, 900, 1234));
	CU_ASSERT_TRUE(config_lets_govern(c, 900, 0));
	CU_ASSERT_TRUE(config_lets_govern(c, 900, 900));
	config_free(c);
	c = load("allow_uids={7}\nallow_gids={33}\nadmin_uids={8}\n");
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_FALSE(config_lets_in(c, 900, 1234, none, 1));
	CU_ASSERT_TRUE(config_lets_in(c, 900, 1234, member, 2));
	CU_ASSERT_TRUE(config_lets_in(c, 900, 7, NULL, 0));
	CU_ASSERT_TRUE(config_lets_in(c, 900, 0, NULL, 0));
	CU_ASSERT_TRUE(config_lets_in(c, 900, 900, NULL, 0));
	CU_ASSERT_TRUE(config_lets_govern(c, 900, 8));
	CU_ASSERT_FALSE(config_lets_govern(c, 900, 0));
	config_free(c);
}

/* ------------------------------------------------------------ to look at */

static char *dump(const struct config *config)
{
	char *text = NULL;
	size_t bytes;
	FILE *out = open_memstream(&text, &bytes);

	CU_ASSERT_EQUAL(config_dump(config, out), 0);
	fclose(out);
	return text;
}

/* The dump names the origin of each value and, loaded, gives the same again. */
static void the_dump_can_be_loaded(void)
{
	struct config *a, *b;
	char *text, keys[256], origin[160];

	set_environment("MAX_REQUESTS_PER_USER", "1");
	a = load("preset = development\nallow_uids = {3,4}\n"
		 "socket = '/tmp/$\\'{x'\nguard = 250ms\nbatch_share = 0.3\n"
		 "user 'we\"ird ${x}' { weight = 0.001 }\n"
		 "model \"a*\" { tokens_per_minute = 1000000000000\n"
		 " fallback = { 'b:0', c } learned_output = no }\n"
		 "application \"uid 3\" { weight = 5 }\n"
		 "error 424 { retry = transient }\n"
		 "upstream bedrock { profile = \"a \\\\ b\" idle_close = 61 }");
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	text = dump(a);
	snprintf(origin, sizeof(origin), "# %s:4\n", path);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, origin));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# preset development\n"));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(text, "# environment MAX_REQUESTS_PER_USER\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# default\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# endpoint is not set\n"));
	memset(environment, 0, sizeof(environment));
	b = load(text);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_EQUAL(config_diff(a, b, keys, sizeof(keys)), 0);
	CU_ASSERT_STRING_EQUAL(keys, "");
	CU_ASSERT_STRING_EQUAL(b->upstream.profile, "a \\ b");
	CU_ASSERT_STRING_EQUAL(b->policy.users[0].pattern, "we\"ird ${x}");
	config_free(a);
	config_free(b);
	free(text);
}

/* The password of `cluster` is in force, and nowhere to be seen; another one is
 * a change all the same. */
static void the_password_of_the_cluster_is_not_shown(void)
{
	struct config *a, *b;
	char *text, keys[256];

	a = load("cluster = \"rediss://me:hunter2@r1:7/3\"\ncluster_hosts = "
		 "3");
	b = load("cluster = \"rediss://me:hunter3@r1:7/3\"\ncluster_hosts = "
		 "3");
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_STRING_EQUAL(a->cluster.url, "rediss://me:hunter2@r1:7/3");
	CU_ASSERT_EQUAL(a->cluster.on_loss, LEASE_SHARE);
	CU_ASSERT_PTR_NOT_NULL(strchr(a->cluster.host, '/'));
	text = dump(a);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "\"rediss://me:***@r1:7/3\""));
	CU_ASSERT_PTR_NULL(strstr(text, "hunter"));
	CU_ASSERT_EQUAL(config_diff(a, b, keys, sizeof(keys)), 1);
	CU_ASSERT_STRING_EQUAL(keys, "cluster");
	free(text);
	config_free(a);
	config_free(b);
}

/* What changed is named, apart from that what needs a restart; a short buffer
 * cuts the names, not the count. */
static void changes_are_named(void)
{
	struct config *a = load("max_queued = 9000\nmax_sessions = 5\n"
				"model \"m\" {}\nuser \"u\" {}\n");
	struct config *b = load("max_queued = 9001\nmax_sessions = 6\n"
				"socket = /tmp/s\nloop = epoll\n"
				"upstream bedrock { region = eu-west-1 }\n"
				"model \"m\" { tokens_per_day = 5 }\n"
				"user \"v\" {}\n"
				"application x {}\nerror 408 { retry = no }\n");
	char keys[256], few[12];

	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_EQUAL(config_diff_needs_restart(a, b, keys, sizeof(keys)), 3);
	CU_ASSERT_STRING_EQUAL(keys, "max_sessions, loop, socket");
	CU_ASSERT_EQUAL(config_diff(a, b, keys, sizeof(keys)), 9);
	CU_ASSERT_STRING_EQUAL(keys,
		"max_queued, max_sessions, loop, socket, upstream.region, "
		"model, user, application, error");
	CU_ASSERT_EQUAL(config_diff(a, b, few, sizeof(few)), 9);
	CU_ASSERT_STRING_EQUAL(few, "max_queued,");
	CU_ASSERT_EQUAL(config_diff(a, b, NULL, 0), 9);
	config_free(a);
	config_free(b);
}

/* The sample loads, and every value in it is the default. */
static void the_sample_is_the_defaults(void)
{
	struct config_source source = {
		.file = "packaging/rgovd.conf", .getenv = fake_getenv};
	struct config *c, *plain;
	char keys[1024], line[256], *uncommented;
	size_t bytes;
	FILE *in = fopen("packaging/rgovd.conf", "r");
	FILE *out = open_memstream(&uncommented, &bytes);

	CU_ASSERT_PTR_NOT_NULL_FATAL(in);
	/* As the service has it; without, it depends on who runs the test. */
	set_environment("RUNTIME_DIRECTORY", "/run/rgov");
	/* "#key = value" is a setting, "# text" is prose. */
	while (fgets(line, sizeof(line), in) != NULL)
		fputs(line[0] == '#' && line[1] != ' ' ? line + 1 : line, out);
	fclose(in);
	fclose(out);
	CU_ASSERT_EQUAL_FATAL(config_load(&source, &plain, &error), 0);
	c = load(uncommented);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(config_diff(plain, c, keys, sizeof(keys)), 4);
	CU_ASSERT_STRING_EQUAL(keys, "model, user, application, error");
	CU_ASSERT_EQUAL(c->policy.n_models, 1);
	CU_ASSERT_EQUAL(c->policy.n_users, 1);
	config_free(c);
	config_free(plain);
	free(uncommented);
}

static void isolated(void (*test)(void))
{
	test();
	remove_files();
}

#define ISOLATED(name)                                                         \
	static void run_##name(void)                                           \
	{                                                                      \
		isolated(name);                                                \
	}
ISOLATED(nothing_said_means_the_defaults)
ISOLATED(a_whole_file_is_read)
ISOLATED(blocks_reach_policy_and_upstream)
ISOLATED(units_are_exact)
ISOLATED(comments_are_blanks)
ISOLATED(lists_take_names_and_numbers)
ISOLATED(bad_files_say_file_and_line)
ISOLATED(a_broken_file_leaves_nothing_behind)
ISOLATED(damaged_files_are_refused_or_read)
ISOLATED(all_wrong_values_are_reported)
ISOLATED(strange_files_are_refused)
ISOLATED(floods_are_refused)
ISOLATED(what_can_be_reached_is_no_error)
ISOLATED(defaults_that_cannot_work_are_said)
ISOLATED(the_higher_layer_wins)
ISOLATED(the_old_variables_work)
ISOLATED(wrong_layers_name_themselves)
ISOLATED(a_preset_gives_way)
ISOLATED(names_are_plain)
ISOLATED(the_socket_has_its_place)
ISOLATED(aws_variables_are_defaults)
ISOLATED(lists_decide_who_comes_in)
ISOLATED(the_dump_can_be_loaded)
ISOLATED(the_password_of_the_cluster_is_not_shown)
ISOLATED(changes_are_named)
ISOLATED(the_sample_is_the_defaults)

#undef T
#define T(function)                                                            \
	{                                                                      \
#function, run_##function                                      \
	}
SUITE("config", T(nothing_said_means_the_defaults), T(a_whole_file_is_read),
	T(blocks_reach_policy_and_upstream), T(units_are_exact),
	T(comments_are_blanks), T(lists_take_names_and_numbers),
	T(bad_files_say_file_and_line), T(a_broken_file_leaves_nothing_behind),
	T(damaged_files_are_refused_or_read), T(all_wrong_values_are_reported),
	T(strange_files_are_refused), T(floods_are_refused),
	T(what_can_be_reached_is_no_error),
	T(defaults_that_cannot_work_are_said), T(the_higher_layer_wins),
	T(the_old_variables_work), T(wrong_layers_name_themselves),
	T(a_preset_gives_way), T(names_are_plain), T(the_socket_has_its_place),
	T(aws_variables_are_defaults), T(lists_decide_who_comes_in),
	T(the_dump_can_be_loaded), T(the_password_of_the_cluster_is_not_shown),
	T(changes_are_named), T(the_sample_is_the_defaults))
