/*
 * Why a request waits: each limit is named, and the time spent in each reason
 * is what one gets by asking after every decision and adding up.
 */
#include "coordinator/policy/policy.h"

#include "tests/unit/policy_rig.h"

static struct policy_why explain(struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	struct policy_why why;
	uint64_t next_ns;

	while (policy_admit(policy, now_ns, &next_ns) != NULL)
		;
	policy_explain(policy, request, now_ns, &why);
	return why;
}

static uint64_t waited(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	enum policy_reason reason)
{
	uint64_t ns[POLICY_WAIT_REASONS];

	policy_waited(policy, request, now_ns, ns);
	return ns[reason];
}

/* One unit of the accounts is 262 us. */
static bool is_about(uint64_t ns, uint64_t want_ns)
{
	return ns + RIG_MS > want_ns && ns < want_ns + RIG_MS;
}

static void check_second(const struct policy_config *config,
	enum policy_reason reason, uint64_t until_ns)
{
	struct policy *policy = rig_create(config);
	struct policy_request first = rig_request("a");
	struct policy_request second = rig_request("a");
	struct policy_why why;

	rig_run(policy, &first, 10 * RIG_S);
	(void)rig_enqueue(policy, &second, 10 * RIG_S);
	why = explain(policy, &second, 10 * RIG_S);
	CU_ASSERT_EQUAL(why.reason, reason);
	CU_ASSERT_EQUAL(why.until_ns, until_ns);
	CU_ASSERT(is_about(
		waited(policy, &second, 13 * RIG_S, reason), 3 * RIG_S));
	rig_done(policy, &first, 13 * RIG_S);
	(void)explain(policy, &second, 13 * RIG_S);
	why = explain(policy, &second, 100 * RIG_S);
	CU_ASSERT_EQUAL(second.state, POLICY_RUNNING);
	CU_ASSERT_EQUAL(why.until_ns, 100 * RIG_S);
	CU_ASSERT(is_about(waited(policy, &second, 200 * RIG_S, reason),
		second.admitted_ns - 10 * RIG_S));
	rig_drop(policy, &second, 200 * RIG_S);
	policy_free(policy);
}

static void names_the_hosts_limits(void)
{
	struct policy_config config = rig_config();

	config.max_concurrent = 1;
	check_second(&config, POLICY_WAIT_HOST_CONCURRENCY, RIG_NEVER);
	config.max_concurrent = 0;
	config.requests_per_minute = 1;
	check_second(&config, POLICY_WAIT_HOST_REQUESTS, 71 * RIG_S);
}

static void names_the_lanes_limits(void)
{
	struct policy_config config = rig_config();
	struct policy_model model = {.pattern = "*", .max_concurrent = 1};

	config.models = &model;
	config.n_models = 1;
	check_second(&config, POLICY_WAIT_LANE_CONCURRENCY, RIG_NEVER);
	model = (struct policy_model){.pattern = "*", .requests_per_minute = 1};
	check_second(&config, POLICY_WAIT_LANE_REQUESTS, 71 * RIG_S);
	model = (struct policy_model){.pattern = "*", .tokens_per_minute = 15};
	check_second(&config, POLICY_WAIT_LANE_TOKENS, 30 * RIG_S);
}

/* A burst is spread, no longer than it takes to hear a refusal. */
static void names_the_adapted_rate(void)
{
	struct policy_config config = rig_config();
	struct policy_model model = {.pattern = "*", .requests_per_minute = 2};

	config.adaptive = true;
	config.models = &model;
	config.n_models = 1;
	check_second(&config, POLICY_WAIT_LANE_RATE, 12 * RIG_S);
	model = (struct policy_model){.pattern = "*", .tokens_per_minute = 20};
	check_second(&config, POLICY_WAIT_LANE_RATE, 12 * RIG_S);
	config.probe_ok_after_ns = 20 * RIG_S;
	check_second(&config, POLICY_WAIT_LANE_RATE, 13750 * RIG_MS);
}

static void names_the_users_limit(void)
{
	struct policy_config config = rig_config();

	config.max_requests_per_user = 1;
	check_second(&config, POLICY_WAIT_USER_CONCURRENCY, RIG_NEVER);
}

static void names_the_gate_the_probe_and_the_backoff(void)
{
	struct policy_config config = rig_config();
	struct policy *policy;
	struct policy_request first = rig_request("a");
	struct policy_request second = rig_request("b");
	struct policy_why why;

	config.throttle_base_ns = 0;
	policy = rig_create(&config);
	rig_run(policy, &first, RIG_S);
	CU_ASSERT_TRUE(policy_retry(
		policy, &first, POLICY_FAIL_THROTTLE, 5 * RIG_S, RIG_S));
	(void)rig_enqueue(policy, &second, 2 * RIG_S);
	why = explain(policy, &first, 2 * RIG_S);
	CU_ASSERT_EQUAL(why.reason, POLICY_WAIT_BACKOFF);
	CU_ASSERT_EQUAL(why.until_ns, 6 * RIG_S);
	why = explain(policy, &second, 2 * RIG_S);
	CU_ASSERT_EQUAL(why.reason, POLICY_WAIT_GATE);
	CU_ASSERT_EQUAL(why.until_ns, 6 * RIG_S);
	why = explain(policy, &second, 6 * RIG_S);
	CU_ASSERT_EQUAL(why.reason, POLICY_WAIT_PROBE);
	CU_ASSERT_EQUAL(first.state, POLICY_RUNNING);
	CU_ASSERT(
		is_about(waited(policy, &first, 7 * RIG_S, POLICY_WAIT_BACKOFF),
			5 * RIG_S));
	rig_done(policy, &first, 9 * RIG_S);
	(void)explain(policy, &second, 9 * RIG_S);
	CU_ASSERT_EQUAL(second.state, POLICY_RUNNING);
	CU_ASSERT(is_about(waited(policy, &second, 9 * RIG_S, POLICY_WAIT_GATE),
		4 * RIG_S));
	CU_ASSERT(
		is_about(waited(policy, &second, 9 * RIG_S, POLICY_WAIT_PROBE),
			3 * RIG_S));
	rig_drop(policy, &second, 9 * RIG_S);
	policy_free(policy);
}

static void every_reason_has_words(void)
{
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		CU_ASSERT(
			strlen(policy_reason_text((enum policy_reason)i)) > 3);
}

/* ------------------------------------------------------------ the sums */

enum { REQUESTS = 60 };

struct run {
	uint64_t random, now_ns, counted_ns;
	struct policy *policy;
	struct policy_request requests[REQUESTS];
	/* By asking. */
	uint64_t ns[REQUESTS][POLICY_WAIT_REASONS];
	uint64_t looks[REQUESTS];
	uint64_t seen_ns[POLICY_WAIT_REASONS];
};

static void configure(struct run *run, struct policy_config *config,
	struct policy_model models[2], struct policy_user_rule *rule)
{
	uint64_t *random = &run->random;

	*config = rig_config();
	config->max_concurrent = rig_random(random, 2) ? 6 : 0;
	config->requests_per_minute = rig_random(random, 2) ? 40 : 0;
	config->max_requests_per_user = rig_random(random, 3);
	config->age_after_ns = 20 * RIG_S;
	config->batch_share = 0.2;
	config->seed = run->random;
	for (int i = 0; i < 2; i++)
		models[i] = (struct policy_model){
			.pattern = i ? "*" : "m1",
			.max_concurrent = rig_random(random, 2) ? 3 : 0,
			.requests_per_minute = rig_random(random, 2) ? 20 : 0,
			.tokens_per_minute = rig_random(random, 2) ? 500 : 0,
			.tokens_per_day = rig_random(random, 4) ? 0 : 5000,
		};
	config->models = models;
	config->n_models = 2;
	config->tokens_per_minute = rig_random(random, 3) ? 0 : 700;
	config->tokens_per_day = rig_random(random, 6) ? 0 : 9000;
	*rule = (struct policy_user_rule){
		.pattern = "[ab]",
		.weight = 1,
		.requests_per_minute = rig_random(random, 2) ? 5 : 0,
		.tokens_per_minute = rig_random(random, 2) ? 200 : 0,
		.tokens_per_day = rig_random(random, 2) ? 0 : 2000,
	};
	config->users = rule;
	config->n_users = 1;
	config->adaptive = rig_random(random, 2);
}

/* What each has waited for since the last time, as it was said then. */
static void count(struct run *run)
{
	for (int i = 0; i < REQUESTS; i++) {
		const struct policy_request *request = &run->requests[i];
		struct policy_why why;

		if (request->state != POLICY_QUEUED &&
			request->state != POLICY_BACKOFF)
			continue;
		policy_explain(run->policy, request, run->counted_ns, &why);
		run->ns[i][why.reason] += run->now_ns - run->counted_ns;
		run->seen_ns[why.reason] += run->now_ns - run->counted_ns;
	}
	run->counted_ns = run->now_ns;
}

static void check(struct run *run, int i)
{
	uint64_t ns[POLICY_WAIT_REASONS], sum = 0, own = 0;

	policy_waited(run->policy, &run->requests[i], run->now_ns, ns);
	for (int reason = 0; reason < POLICY_WAIT_REASONS; reason++) {
		/* Half a unit lost or won at each coming and going. */
		uint64_t off = ns[reason] > run->ns[i][reason]
				       ? ns[reason] - run->ns[i][reason]
				       : run->ns[i][reason] - ns[reason];

		CU_ASSERT(off <= 5 * RIG_MS);
		sum += ns[reason];
		own += run->ns[i][reason];
	}
	CU_ASSERT(sum <= own + 10 * RIG_MS && own <= sum + 10 * RIG_MS);
}

static void begin(struct run *run, int i)
{
	static const char *const users[] = {"a", "b", "c", "d"};
	struct policy_request *request = &run->requests[i];

	*request = rig_request(users[rig_random(&run->random, 4)]);
	request->model_id = rig_random(&run->random, 2) ? "m1" : "m2";
	request->class = rig_random(&run->random, POLICY_CLASSES);
	request->input_tokens = 1 + rig_random(&run->random, 100);
	request->deadline_ns =
		run->now_ns +
		(1 + rig_random(&run->random, 200)) * UINT64_C(987654321);
	memset(run->ns[i], 0, sizeof(run->ns[i]));
	(void)rig_enqueue(run->policy, request, run->now_ns);
}

static void end(struct run *run, int i)
{
	struct policy_request *request = &run->requests[i];
	uint32_t how = rig_random(&run->random, 8);

	if (how < 3 &&
		policy_retry(run->policy, request,
			how ? POLICY_FAIL_TRANSIENT : POLICY_FAIL_THROTTLE, 0,
			run->now_ns))
		return;
	rig_done(run->policy, request, run->now_ns);
}

static void step(struct run *run)
{
	int i = (int)rig_random(&run->random, REQUESTS);
	struct policy_request *request = &run->requests[i];
	uint64_t next_ns;

	run->now_ns += rig_random(&run->random, 900) * UINT64_C(1234567);
	count(run);
	/* A removal has no time of its own. */
	while (policy_expire(run->policy, run->now_ns, &next_ns) != NULL)
		;
	if (request->state != POLICY_NEW)
		check(run, i);
	if (request->state == POLICY_NEW)
		begin(run, i);
	else if (request->state == POLICY_RUNNING)
		end(run, i);
	else if (rig_random(&run->random, 20) == 0)
		policy_remove(run->policy, request);
	while ((request = policy_admit(run->policy, run->now_ns, &next_ns)) !=
		NULL)
		policy_started(run->policy, request, run->now_ns);
}

static void play(struct run *run)
{
	struct policy_config config;
	struct policy_model models[2];
	struct policy_user_rule rule;

	configure(run, &config, models, &rule);
	run->policy = rig_create(&config);
	for (int i = 0; i < 2000; i++)
		step(run);
	for (int i = 0; i < REQUESTS; i++)
		rig_drop(run->policy, &run->requests[i], run->now_ns);
	policy_free(run->policy);
}

static void the_times_are_those_of_the_reasons_given(void)
{
	uint64_t seed = rig_seed(11), seen_ns[POLICY_WAIT_REASONS] = {0};

	for (int i = 0; i < 200; i++) {
		struct run run = {
			.random = (seed + i) * UINT64_C(0x9e3779b97f4a7c15)};

		play(&run);
		for (int j = 0; j < POLICY_WAIT_REASONS; j++)
			seen_ns[j] += run.seen_ns[j];
	}
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		printf("# %9.0f s  %s\n", (double)seen_ns[i] / 1e9,
			policy_reason_text((enum policy_reason)i));
	/* The lane could have started somebody else: never for long. */
	CU_ASSERT_EQUAL(seen_ns[POLICY_WAIT_TURN], 0);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		CU_ASSERT(i == POLICY_WAIT_TURN ||
			  i == POLICY_WAIT_DAY_CLOSED ||
			  i >= POLICY_WAIT_CLUSTER_REQUESTS || seen_ns[i] > 0);
}

SUITE("policy: why", T(names_the_hosts_limits), T(names_the_lanes_limits),
	T(names_the_adapted_rate), T(names_the_users_limit),
	T(names_the_gate_the_probe_and_the_backoff), T(every_reason_has_words),
	T(the_times_are_those_of_the_reasons_given))
