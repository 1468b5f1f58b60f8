/* Limits, bounds, lanes, deadlines, reload and recovery: one claim each. */
#include "tests/unit/policy_rig.h"

enum { MANY = 8 };

static void make(struct policy_request *requests, int n, const char *user)
{
	for (int i = 0; i < n; i++)
		requests[i] = rig_request(user);
}

static int admit_all(struct policy *policy, uint64_t now_ns)
{
	struct policy_request *request;
	int n = 0;

	while ((request = rig_admit(policy, now_ns)) != NULL) {
		policy_started(policy, request, now_ns);
		n++;
	}
	return n;
}

static void enqueue_all(struct policy *policy, struct policy_request *requests,
	int n, uint64_t now_ns)
{
	for (int i = 0; i < n; i++)
		CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], now_ns),
			POLICY_ACCEPTED);
}

static void drop_all(struct policy *policy, struct policy_request *requests,
	int n, uint64_t now_ns)
{
	for (int i = 0; i < n; i++)
		rig_drop(policy, &requests[i], now_ns);
	CU_ASSERT_EQUAL(rig_host(policy, now_ns).running, 0);
	CU_ASSERT_EQUAL(rig_host(policy, now_ns).queued, 0);
	CU_ASSERT_EQUAL(rig_host(policy, now_ns).users, 0);
}

/* No more run than the host, the lane and the user allow, and one that ends
 * makes room for exactly one. */
static void concurrency_holds_at_each_level(void)
{
	static const struct {
		uint32_t host, lane, user;
		int expected;
	} cases[] = {{3, 0, 0, 3}, {0, 2, 0, 2}, {0, 0, 1, 1}, {5, 4, 2, 2},
		{1, 4, 3, 1}, {0, 0, 0, MANY}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_model model = {
			.pattern = "*", .max_concurrent = cases[i].lane};
		struct policy_config config = rig_config();
		struct policy_request requests[MANY];
		struct policy *policy;

		config.max_concurrent = cases[i].host;
		config.max_requests_per_user = cases[i].user;
		config.models = &model;
		config.n_models = config.max_lanes = 1;
		policy = rig_create(&config);
		make(requests, MANY, "u");
		enqueue_all(policy, requests, MANY, 0);
		CU_ASSERT_EQUAL(admit_all(policy, 0), cases[i].expected);
		CU_ASSERT_EQUAL(rig_next(policy, 0), RIG_NEVER);
		rig_done(policy, &requests[0], 1);
		CU_ASSERT_EQUAL(admit_all(policy, 1), cases[i].expected < MANY);
		drop_all(policy, requests, MANY, 2);
		policy_free(policy);
	}
}

/* The host's window and a lane's each hold to the nanosecond of their edge. */
static void windows_hold_at_each_level(void)
{
	for (int is_lane = 0; is_lane < 2; is_lane++) {
		struct policy_model model = {
			.pattern = "m", .requests_per_minute = 2};
		struct policy_config config = rig_config();
		struct policy_request requests[3];
		struct policy *policy;

		config.requests_per_minute = is_lane ? 0 : 2;
		config.models = &model;
		config.n_models = (size_t)is_lane;
		policy = rig_create(&config);
		make(requests, 3, "u");
		rig_run(policy, &requests[0], 0);
		rig_done(policy, &requests[0], 1);
		rig_run(policy, &requests[1], 5);
		enqueue_all(policy, &requests[2], 1, 6);
		CU_ASSERT_EQUAL(rig_next(policy, 6), 61 * RIG_S);
		CU_ASSERT_EQUAL(rig_next(policy, 61 * RIG_S - 1), 61 * RIG_S);
		CU_ASSERT_PTR_EQUAL(
			rig_admit(policy, 61 * RIG_S), &requests[2]);
		drop_all(policy, requests, 3, 62 * RIG_S);
		policy_free(policy);
	}
}

/* A request refused by one limit has charged nothing in any other. */
static void a_refused_check_charges_nothing(void)
{
	struct policy_model model = {.pattern = "m",
		.requests_per_minute = 10,
		.tokens_per_minute = 100,
		.max_concurrent = 5};
	struct policy_config config = rig_config();
	struct policy_request one = rig_request("u"), two = rig_request("u");
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = 5;
	config.requests_per_minute = 10;
	policy = rig_create(&config);
	one.input_tokens = two.input_tokens = 60;
	rig_run(policy, &one, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &two, 0), POLICY_ACCEPTED);
	for (int i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(rig_next(policy, 0), 12 * RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).running, 1);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).starts, 1);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_available, 40);
	CU_ASSERT_EQUAL(rig_host(policy, 0).starts, 1);
	CU_ASSERT_EQUAL(rig_host(policy, 0).running, 1);
	CU_ASSERT_EQUAL(rig_user(policy, "u").running, 1);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 12 * RIG_S), &two);
	rig_done(policy, &one, 12 * RIG_S);
	rig_done(policy, &two, 12 * RIG_S);
	policy_free(policy);
}

/* A start that was never made gives its place in the windows back, a made one
 * does not, whatever the outcome. */
static void only_real_starts_stay_in_the_window(void)
{
	struct policy_config config = rig_config();
	struct policy_request request = rig_request("u");
	struct policy *policy;

	config.requests_per_minute = 1;
	policy = rig_create(&config);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 0), POLICY_ACCEPTED);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &request);
	CU_ASSERT_EQUAL(rig_host(policy, 0).starts, 1);
	policy_finish(policy, &request, POLICY_UNUSED, NULL, 1);
	CU_ASSERT_EQUAL(rig_host(policy, 1).starts, 0);
	rig_run(policy, &request, 2);
	policy_started(policy, &request, 3); /* a second time is nothing */
	policy_finish(policy, &request, POLICY_UNUSED, NULL, 4);
	CU_ASSERT_EQUAL(rig_host(policy, 4).starts, 1);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 5), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 5), 2 + 61 * RIG_S);
	policy_remove(policy, &request);
	policy_free(policy);
}

/* Tokens are reserved from estimate and maximum, and settled from usage: input,
 * cache writes and output times burndown; cache reads do not count. */
static void tokens_settle_from_usage(void)
{
	static const struct policy_usage usage = {100, 40, 5000, 30};
	static const struct policy_usage no_input = {-1, 40, -1, -1};
	static const struct policy_usage no_output = {100, -1, -1, -1};
	static const struct {
		bool with_burndown;
		uint64_t output; /* asked for */
		enum policy_outcome outcome;
		const struct policy_usage *usage;
		int64_t reserved, used;
	} cases[] = {
		{false, 200, POLICY_DONE, &usage, 210, 100 + 30 + 5 * 40},
		{true, 200, POLICY_DONE, &usage, 1010, 330},
		{false, 0, POLICY_DONE, &usage, 10 + 50, 330},
		{true, 0, POLICY_DONE, &no_input, 260, 10 + 200},
		{false, 200, POLICY_DONE, &no_output, 210, 100 + 200},
		{true, 200, POLICY_DONE, &no_output, 1010, 100 + 1000},
		{false, 200, POLICY_DONE, NULL, 210, 210},
		{false, 200, POLICY_THROTTLED, &usage, 210, 0},
		{false, 200, POLICY_UNUSED, &usage, 210, 0},
		{false, 200, POLICY_LOST, &usage, 210, 210},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_model model = {.pattern = "m",
			.tokens_per_minute = 2000,
			.tokens_per_day = 9000,
			.default_max_tokens = 50,
			.output_burndown = 5,
			.reserve_with_burndown = cases[i].with_burndown};
		struct policy_config config = rig_config();
		struct policy_request request = rig_request("u");
		struct policy_lane_view lane;
		struct policy *policy;

		config.models = &model;
		config.n_models = 1;
		policy = rig_create(&config);
		request.output_tokens = cases[i].output;
		rig_run(policy, &request, 0);
		lane = rig_lane(policy, "m", 0);
		CU_ASSERT_EQUAL(
			lane.tokens_available, 2000 - cases[i].reserved);
		CU_ASSERT_EQUAL(
			(int64_t)lane.tokens_reserved, cases[i].reserved);
		policy_finish(
			policy, &request, cases[i].outcome, cases[i].usage, 0);
		lane = rig_lane(policy, "m", 0);
		CU_ASSERT_EQUAL(lane.tokens_available, 2000 - cases[i].used);
		CU_ASSERT_EQUAL(lane.tokens_used_today, cases[i].used);
		CU_ASSERT_EQUAL(lane.tokens_reserved, 0);
		policy_free(policy);
	}
}

/* What can never fit is refused at once; hostile numbers do not wrap round. */
static void too_large_is_refused_at_once(void)
{
	static const struct {
		uint64_t input, output, minute, day;
		enum policy_refusal refusal;
	} cases[] = {
		{60, 40, 100, 0, POLICY_ACCEPTED},
		{60, 41, 100, 0, POLICY_TOO_LARGE},
		{60, 41, 0, 100, POLICY_TOO_LARGE},
		{UINT64_MAX, 1, 100, 0, POLICY_TOO_LARGE},
		{1, UINT64_MAX, 100, 0, POLICY_TOO_LARGE},
		{UINT64_MAX, UINT64_MAX, 0, 0, POLICY_ACCEPTED},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_model model = {.pattern = "m",
			.tokens_per_minute = cases[i].minute,
			.tokens_per_day = cases[i].day};
		struct policy_config config = rig_config();
		struct policy_request request = rig_request("u");
		struct policy *policy;

		config.models = &model;
		config.n_models = 1;
		policy = rig_create(&config);
		request.input_tokens = cases[i].input;
		request.output_tokens = cases[i].output;
		CU_ASSERT_EQUAL(
			rig_enqueue(policy, &request, 0), cases[i].refusal);
		CU_ASSERT_EQUAL(request.state,
			cases[i].refusal ? POLICY_NEW : POLICY_QUEUED);
		drop_all(policy, &request, 1, 0);
		policy_free(policy);
	}
}

/* Each bound refuses with its own word and a wait, and changes nothing. */
static void bounds_refuse_with_a_wait(void)
{
	struct policy_config config = rig_config();
	struct policy_request requests[5];
	uint64_t retry_after_ns;
	struct policy *policy;

	config.max_queued_per_user = 2;
	config.max_queued = 3;
	policy = rig_create(&config);
	make(requests, 3, "u");
	make(&requests[3], 2, "v");
	enqueue_all(policy, requests, 2, 0);
	CU_ASSERT_EQUAL(
		policy_enqueue(policy, &requests[2], 0, &retry_after_ns),
		POLICY_USER_LIMIT);
	CU_ASSERT(retry_after_ns > 0);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	CU_ASSERT_EQUAL(rig_user(policy, "u").queued, 2);
	enqueue_all(policy, &requests[3], 1, 0);
	CU_ASSERT_EQUAL(
		policy_enqueue(policy, &requests[4], 0, &retry_after_ns),
		POLICY_QUEUE_FULL);
	CU_ASSERT(retry_after_ns > 0);
	CU_ASSERT_EQUAL(rig_host(policy, 0).queued, 3);
	requests[4].deadline_ns = 5;
	CU_ASSERT_EQUAL(
		policy_enqueue(policy, &requests[4], 5, &retry_after_ns),
		POLICY_LATE);
	drop_all(policy, requests, 5, 5);
	policy_free(policy);
}

/* A `user` block sets weight, cap and queue of those who match, the first
 * matching block. */
static void user_blocks_apply(void)
{
	static const struct policy_user_rule rules[] = {
		{.pattern = "batch-*",
			.weight = 0.5,
			.max_concurrent = 1,
			.max_queued = 2},
		{.pattern = "*", .weight = 2}};
	struct policy_config config = rig_config();
	struct policy_request batch = rig_request("batch-job"),
			      other = rig_request("web");
	struct policy *policy;

	config.users = rules;
	config.n_users = 2;
	config.max_requests_per_user = 7;
	config.max_queued_per_user = 9;
	policy = rig_create(&config);
	rig_run(policy, &batch, 0);
	rig_run(policy, &other, 0);
	CU_ASSERT_EQUAL(rig_user(policy, "batch-job").weight, 0.5);
	CU_ASSERT_EQUAL(rig_user(policy, "batch-job").running_limit, 1);
	CU_ASSERT_EQUAL(rig_user(policy, "batch-job").queued_limit, 2);
	CU_ASSERT_EQUAL(rig_user(policy, "web").weight, 2);
	CU_ASSERT_EQUAL(rig_user(policy, "web").running_limit, 7);
	CU_ASSERT_EQUAL(rig_user(policy, "web").queued_limit, 9);
	rig_done(policy, &batch, 0);
	rig_done(policy, &other, 0);
	policy_free(policy);
}

static bool count_lane(const struct policy_lane_view *view, void *arg)
{
	(void)view;
	++*(int *)arg;
	return true;
}

static int count_lanes(const struct policy *policy)
{
	int n = 0;

	policy_each_lane(policy, 0, count_lane, &n);
	return n;
}

static const char *lane_of(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	CU_ASSERT_EQUAL(rig_enqueue(policy, request, now_ns), POLICY_ACCEPTED);
	return policy_lane_name(request->lane);
}

/* Each matching model id has its own lane, up to max_lanes; the rest shares the
 * default one.  A lane that limits nothing any more makes room for another. */
static void lanes_come_from_templates(void)
{
	struct policy_model model = {
		.pattern = "m-*", .requests_per_minute = 5};
	struct policy_config config = rig_config();
	struct policy_request requests[5];
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_lanes = 2;
	policy = rig_create(&config);
	make(requests, 5, "u");
	requests[0].model_id = "m-1";
	requests[1].model_id = "m-2";
	requests[2].model_id = "m-3";
	requests[3].model_id = "x";
	requests[4].model_id = "m-1";
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[0], 0), "m-1");
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[1], 0), "m-2");
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[2], 0), "default");
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[3], 0), "default");
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[4], 0), "m-1");
	CU_ASSERT_EQUAL(count_lanes(policy), 3);
	CU_ASSERT_EQUAL(rig_lane(policy, "m-1", 0).starts_limit, 5);
	CU_ASSERT_STRING_EQUAL(rig_lane(policy, "m-1", 0).pattern, "m-*");
	CU_ASSERT_STRING_EQUAL(rig_lane(policy, "default", 0).pattern, "");
	CU_ASSERT_EQUAL(admit_all(policy, 0), 5);
	drop_all(policy, requests, 5, 1);
	/* Their windows still count. */
	CU_ASSERT_STRING_EQUAL(lane_of(policy, &requests[2], 2), "default");
	policy_remove(policy, &requests[2]);
	CU_ASSERT_STRING_EQUAL(
		lane_of(policy, &requests[2], 100 * RIG_S), "m-3");
	CU_ASSERT_EQUAL(count_lanes(policy), 3);
	drop_all(policy, requests, 5, 100 * RIG_S);
	policy_free(policy);
}

/* A lane that waits for its window or tokens does not keep another waiting. */
static void no_lane_blocks_another(void)
{
	struct policy_model models[] = {
		{.pattern = "m-1", .requests_per_minute = 1},
		{.pattern = "m-2", .tokens_per_minute = 15},
		{.pattern = "m-3"}};
	struct policy_config config = rig_config();
	struct policy_request requests[6];
	struct policy *policy;

	config.models = models;
	config.n_models = 3;
	policy = rig_create(&config);
	make(requests, 6, "u");
	for (int i = 0; i < 6; i++)
		requests[i].model_id = models[i / 2].pattern;
	enqueue_all(policy, requests, 6, 0);
	CU_ASSERT_EQUAL(admit_all(policy, 0), 4);
	CU_ASSERT_EQUAL(requests[1].state, POLICY_QUEUED);
	CU_ASSERT_EQUAL(requests[3].state, POLICY_QUEUED);
	/* 5 tokens are missing, at 15 a minute: before the window opens. */
	CU_ASSERT_EQUAL(rig_next(policy, 0), 20 * RIG_S);
	drop_all(policy, requests, 6, 0);
	policy_free(policy);
}

/* A request is out of the queue at its deadline, never admitted after it, and
 * they expire in the order of their deadlines. */
static void deadlines_are_kept(void)
{
	struct policy_config config = rig_config();
	struct policy_request requests[MANY];
	struct policy *policy;
	uint64_t next_ns;

	policy = rig_create(&config);
	CU_ASSERT_PTR_NULL(policy_expire(policy, 0, &next_ns));
	CU_ASSERT_EQUAL(next_ns, RIG_NEVER);
	make(requests, MANY, "u");
	for (uint64_t i = 0; i < MANY; i++)
		requests[i].deadline_ns = (i * 5 % MANY + 1) * RIG_S;
	enqueue_all(policy, requests, MANY, 0);
	CU_ASSERT_PTR_NULL(policy_expire(policy, RIG_S - 1, &next_ns));
	CU_ASSERT_EQUAL(next_ns, RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, RIG_S), RIG_S); /* expire first */
	for (uint64_t s = 1; s <= MANY; s++) {
		struct policy_request *late =
			policy_expire(policy, MANY * RIG_S, &next_ns);

		CU_ASSERT_PTR_NOT_NULL_FATAL(late);
		CU_ASSERT_EQUAL(late->deadline_ns, s * RIG_S);
		CU_ASSERT_EQUAL(late->state, POLICY_NEW);
	}
	drop_all(policy, requests, MANY, MANY * RIG_S);
	policy_free(policy);
}

/* A reload under load: lowered limits let nobody in until the excess is gone,
 * raised ones at once; windows, queues and counters stay. */
static void a_reload_keeps_what_is_counted(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 1000};
	struct policy_config config = rig_config();
	struct policy_request requests[MANY];
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = 4;
	config.requests_per_minute = 100;
	policy = rig_create(&config);
	make(requests, MANY, "u");
	enqueue_all(policy, requests, MANY, 0);
	CU_ASSERT_EQUAL(admit_all(policy, 0), 4);
	config.max_concurrent = 2;
	config.requests_per_minute = 5;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	rig_done(policy, &requests[0], 1);
	rig_done(policy, &requests[1], 1);
	CU_ASSERT_EQUAL(rig_next(policy, 1), RIG_NEVER);
	rig_done(policy, &requests[2], 1);
	CU_ASSERT_EQUAL(admit_all(policy, 1), 1);
	CU_ASSERT_EQUAL(rig_host(policy, 1).starts, 5);
	rig_done(policy, &requests[3], 1);
	CU_ASSERT_EQUAL(rig_next(policy, 1), 61 * RIG_S);
	config.max_requests_per_user = 1;
	config.requests_per_minute = 0;
	model.tokens_per_minute = 30;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 1), RIG_NEVER);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 1).tokens_limit, 30);
	config.max_requests_per_user = 0;
	config.max_concurrent = 0;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(admit_all(policy, 1), 3);
	drop_all(policy, requests, MANY, 2);
	policy_free(policy);
}

/* A queued request that a reload made too large goes when the bucket is full:
 * it does not block its lane until its deadline. */
static void what_became_too_large_still_goes(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 1000};
	struct policy_config config = rig_config();
	struct policy_request one = rig_request("u"), two = rig_request("u");
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	one.input_tokens = two.input_tokens = 900;
	rig_run(policy, &one, 0);
	rig_done(policy, &one, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &two, 0), POLICY_ACCEPTED);
	model.tokens_per_minute = 120;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 0), 10 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &two);
	rig_done(policy, &two, 10 * RIG_S);
	policy_free(policy);
}

/* Restored starts count in the host's window and their lane's. */
static void restored_starts_count(void)
{
	struct policy_model model = {.pattern = "m", .requests_per_minute = 2};
	struct policy_config config = rig_config();
	struct policy_request request = rig_request("u");
	uint64_t now_ns = 100 * RIG_S;
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.requests_per_minute = 10;
	policy = rig_create(&config);
	CU_ASSERT_EQUAL(
		policy_restore_start(policy, "m", 90 * RIG_S, now_ns), 0);
	CU_ASSERT_EQUAL(
		policy_restore_start(policy, "m", 50 * RIG_S, now_ns), 0);
	CU_ASSERT_EQUAL(
		policy_restore_start(policy, "m", 30 * RIG_S, now_ns), 0);
	CU_ASSERT_EQUAL(
		policy_restore_start(policy, "other", 60 * RIG_S, now_ns), 0);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", now_ns).starts, 2);
	CU_ASSERT_EQUAL(rig_lane(policy, "default", now_ns).starts, 1);
	CU_ASSERT_EQUAL(rig_host(policy, now_ns).starts, 3);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, now_ns), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, now_ns), 111 * RIG_S);
	policy_remove(policy, &request);
	CU_ASSERT_EQUAL(
		rig_restore_tokens(policy, -5, 77, 40 * RIG_S, now_ns), 0);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", now_ns).tokens_used_today, 77);
	policy_free(policy);
}

/* Restored tokens refill from their stamp. */
static void restored_tokens_refill(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 600};
	struct policy_config config = rig_config();
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	CU_ASSERT_EQUAL(
		rig_restore_tokens(policy, -100, 0, 90 * RIG_S, 100 * RIG_S),
		0);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 100 * RIG_S).tokens_available, 0);
	policy_free(policy);
}

/* State that could not be read counts as full, in lanes to come too, for one
 * window; what has no limit is not stopped. */
static void unreadable_state_counts_as_full(void)
{
	struct policy_model models[] = {
		{.pattern = "m", .requests_per_minute = 2},
		{.pattern = "t", .tokens_per_minute = 600},
		{.pattern = "free"}};
	struct policy_config config = rig_config();
	struct policy_request requests[3];
	struct policy *policy;

	config.models = models;
	config.n_models = 3;
	policy = rig_create(&config);
	make(requests, 3, "u");
	for (int i = 0; i < 3; i++)
		requests[i].model_id = models[i].pattern;
	policy_restore_full(policy, 10 * RIG_S, 10 * RIG_S);
	enqueue_all(policy, requests, 3, 12 * RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 12 * RIG_S).starts, 2);
	CU_ASSERT_EQUAL(rig_lane(policy, "t", 12 * RIG_S).tokens_available, 20);
	CU_ASSERT_EQUAL(admit_all(policy, 12 * RIG_S), 2);
	CU_ASSERT_EQUAL(rig_next(policy, 12 * RIG_S), 71 * RIG_S);
	CU_ASSERT_EQUAL(admit_all(policy, 71 * RIG_S), 1);
	drop_all(policy, requests, 3, 72 * RIG_S);
	policy_free(policy);
}

/* A request that ran when the last one died is running again, above any limit,
 * and charged everywhere. */
static void restored_requests_run_above_the_limits(void)
{
	struct policy_model model = {.pattern = "m",
		.tokens_per_minute = 15,
		.max_concurrent = 1,
		.requests_per_minute = 1};
	struct policy_config config = rig_config();
	struct policy_request requests[3];
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = config.max_requests_per_user = 1;
	config.requests_per_minute = 1;
	policy = rig_create(&config);
	make(requests, 3, "u");
	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(
			policy_restore_running(policy, &requests[i], RIG_S), 0);
	CU_ASSERT_EQUAL(requests[1].state, POLICY_RUNNING);
	CU_ASSERT_EQUAL(requests[1].attempts, 1);
	CU_ASSERT_EQUAL(rig_host(policy, RIG_S).running, 2);
	CU_ASSERT_EQUAL(rig_host(policy, RIG_S).starts, 2);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_available, -5);
	CU_ASSERT_EQUAL(rig_user(policy, "u").running, 2);
	enqueue_all(policy, &requests[2], 1, RIG_S);
	rig_done(policy, &requests[0], RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, RIG_S), RIG_NEVER);
	rig_done(policy, &requests[1], RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, RIG_S), 62 * RIG_S);
	drop_all(policy, requests, 3, RIG_S);
	policy_free(policy);
}

/* A permit that was out when the last one died holds, of the tokens that were
 * restored, what it had reserved: they are charged once.  Where they were not
 * restored it is charged now. */
static void restored_permits_hold_what_they_reserved(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 600};
	struct policy_config config = rig_config();
	struct policy_request requests[2];
	struct policy_usage usage = {20, 30, -1, -1};
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	make(requests, 2, "u");
	requests[0].input_tokens = requests[1].input_tokens = 100;
	CU_ASSERT_EQUAL(rig_restore_tokens(policy, 200, 400, RIG_S, RIG_S), 0);
	CU_ASSERT_EQUAL(
		policy_restore_held(policy, &requests[0], 250, RIG_S, RIG_S),
		0);
	CU_ASSERT_EQUAL(policy_reserved(&requests[0]), 250);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_available, 200);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_reserved, 250);
	policy_finish(policy, &requests[0], POLICY_DONE, &usage, RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_available, 400);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_used_today, 200);
	CU_ASSERT_EQUAL(
		policy_restore_held(policy, &requests[1], -1, RIG_S, RIG_S), 0);
	CU_ASSERT(rig_lane(policy, "m", RIG_S).tokens_available <= 300);
	policy_finish(policy, &requests[1], POLICY_UNUSED, NULL, RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_available, 400);
	policy_free(policy);
}

/* With refuse_late who would start after its deadline is told when to come
 * back, at the enqueue; nothing but its user's count changes. */
static void the_late_are_refused_at_once(void)
{
	struct policy_config config = rig_config();
	struct policy_request blocker = rig_request("x"), late, first, second;
	uint64_t after_ns = 0;
	struct policy *policy;

	config.max_concurrent = 1;
	config.refuse_late = true;
	policy = rig_create(&config);
	rig_run(policy, &blocker, 0);
	rig_done(policy, &blocker, 10 * RIG_S);
	rig_run(policy, &blocker, 10 * RIG_S);
	first = second = late = rig_request("u");
	first.deadline_ns = second.deadline_ns = 25 * RIG_S;
	late.deadline_ns = 18 * RIG_S;
	CU_ASSERT_EQUAL(policy_enqueue(policy, &late, 10 * RIG_S, &after_ns),
		POLICY_TOO_LATE);
	CU_ASSERT(after_ns >= 10 * RIG_S && after_ns < 16 * RIG_S);
	CU_ASSERT_EQUAL(late.state, POLICY_NEW);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	CU_ASSERT_EQUAL(rig_host(policy, 10 * RIG_S).queued, 0);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &first, 10 * RIG_S), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &second, 10 * RIG_S), POLICY_TOO_LATE);
	config.refuse_late = false;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &late, 10 * RIG_S), POLICY_ACCEPTED);
	rig_done(policy, &blocker, 10 * RIG_S);
	rig_drop(policy, &first, 10 * RIG_S);
	rig_drop(policy, &late, 10 * RIG_S);
	policy_free(policy);
}

/* The predicted wait is never nothing, grows with the queue, and knows a closed
 * gate. */
static void waits_are_predicted(void)
{
	struct policy_config config = rig_config();
	struct policy_request requests[4], blocker = rig_request("x");
	uint64_t wait_ns[2];
	struct policy *policy;

	config.max_concurrent = 1;
	policy = rig_create(&config);
	rig_run(policy, &blocker, 0);
	rig_done(policy, &blocker, RIG_S);
	rig_run(policy, &blocker, RIG_S);
	for (int i = 0; i < 4; i++) {
		requests[i] = rig_request("u");
		CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], RIG_S),
			POLICY_ACCEPTED);
		if (i % 3 == 0)
			wait_ns[i / 3] =
				policy_predict_ns(policy, &requests[i], RIG_S);
	}
	/* And a little for who may come. */
	CU_ASSERT(wait_ns[0] >= RIG_S && wait_ns[0] < RIG_S * 5 / 4);
	CU_ASSERT(wait_ns[1] >= 4 * RIG_S && wait_ns[1] < 5 * RIG_S);
	CU_ASSERT_FALSE(policy_retry(
		policy, &blocker, POLICY_FAIL_THROTTLE, RIG_NEVER / 2, RIG_S));
	CU_ASSERT(
		policy_predict_ns(policy, &requests[0], RIG_S) > RIG_NEVER / 2);
	rig_done(policy, &blocker, RIG_S);
	drop_all(policy, requests, 4, RIG_S);
	policy_free(policy);
}

/* Before anything has ended nobody is told "at once": as long again as it has
 * taken by now, for each place before. */
static void first_waits_are_predicted(void)
{
	struct policy_config config = rig_config();
	struct policy_request requests[2], blocker = rig_request("x");
	struct policy *policy;

	config.max_concurrent = 1;
	policy = rig_create(&config);
	rig_run(policy, &blocker, RIG_S);
	for (int i = 0; i < 2; i++) {
		requests[i] = rig_request("u");
		CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], RIG_S),
			POLICY_ACCEPTED);
	}
	CU_ASSERT(policy_predict_ns(policy, &requests[0], 21 * RIG_S) >=
		  20 * RIG_S);
	CU_ASSERT(policy_predict_ns(policy, &requests[1], 21 * RIG_S) >=
		  40 * RIG_S);
	rig_done(policy, &blocker, 21 * RIG_S);
	drop_all(policy, requests, 2, 21 * RIG_S);
	policy_free(policy);
}

static bool count_user(const struct policy_user_view *view, void *arg)
{
	(void)view;
	++*(int *)arg;
	return true;
}

static int count_users(const struct policy *policy)
{
	int n = 0;

	policy_each_user(policy, 0, count_user, &n);
	return n;
}

/* Users who are gone are forgotten but for a bounded number, whatever names are
 * invented, also when they are only refused or were all there at once; who is
 * there is never forgotten. */
static void user_objects_are_bounded(void)
{
	enum { NAMES = 10000, KEPT = 4096 };
	static struct policy_request requests[NAMES];
	static char names[NAMES][16];
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 100};
	struct policy_config config = rig_config();
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	for (int i = 0; i < NAMES; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "%d", i);
		requests[i] = rig_request(names[i]);
		requests[i].app = names[i];
		requests[i].input_tokens = 101;
		CU_ASSERT_EQUAL(
			rig_enqueue(policy, &requests[i], 0), POLICY_TOO_LARGE);
	}
	CU_ASSERT_EQUAL(count_users(policy), KEPT);
	for (int i = 0; i < NAMES; i++) {
		requests[i].input_tokens = 1;
		CU_ASSERT_EQUAL(
			rig_enqueue(policy, &requests[i], 0), POLICY_ACCEPTED);
	}
	CU_ASSERT_EQUAL(rig_host(policy, 0).users, NAMES);
	for (int i = 1; i < NAMES; i++)
		policy_remove(policy, &requests[i]);
	CU_ASSERT_EQUAL(count_users(policy), KEPT + 1);
	CU_ASSERT_EQUAL(rig_user(policy, "0").queued, 1);
	policy_remove(policy, &requests[0]);
	CU_ASSERT_EQUAL(count_users(policy), KEPT);
	policy_free(policy);
}

SUITE("policy_limits", T(concurrency_holds_at_each_level),
	T(windows_hold_at_each_level), T(a_refused_check_charges_nothing),
	T(only_real_starts_stay_in_the_window), T(tokens_settle_from_usage),
	T(too_large_is_refused_at_once), T(bounds_refuse_with_a_wait),
	T(user_blocks_apply), T(lanes_come_from_templates),
	T(no_lane_blocks_another), T(deadlines_are_kept),
	T(a_reload_keeps_what_is_counted), T(what_became_too_large_still_goes),
	T(restored_starts_count), T(restored_tokens_refill),
	T(unreadable_state_counts_as_full),
	T(restored_requests_run_above_the_limits),
	T(restored_permits_hold_what_they_reserved),
	T(the_late_are_refused_at_once), T(waits_are_predicted),
	T(first_waits_are_predicted), T(user_objects_are_bounded))
