/* Users' budgets, the host's tokens, smooth starts, days, applications'
 * weights, names of lanes, usage that cannot be, permits that are overdue. */
#include "coordinator/policy/lane_name.h"
#include "tests/unit/policy_rig.h"

#define DAY (86400 * RIG_S)

static struct policy *create(struct policy_config *config,
	const struct policy_model *model, const struct policy_user_rule *user)
{
	config->models = model;
	config->n_models = model != NULL;
	config->users = user;
	config->n_users = user != NULL;
	return rig_create(config);
}

static struct policy_request ask(
	const char *user, const char *model, uint64_t tokens)
{
	struct policy_request request = rig_request(user);

	request.model_id = model;
	request.input_tokens = tokens;
	request.deadline_ns = 10 * DAY;
	return request;
}

/* ------------------------------------------------------------ budgets */

/* A user whose requests per minute are used up holds nobody else back, in no
 * lane, and comes back to the nanosecond. */
static void a_users_window_is_its_own(void)
{
	struct policy_user_rule rule = {
		.pattern = "a", .weight = 1, .requests_per_minute = 2};
	struct policy_model model = {.pattern = "m*"};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, &model, &rule);
	struct policy_request a[3] = {
		ask("a", "m1", 1), ask("a", "m2", 1), ask("a", "m1", 1)};
	struct policy_request b = ask("b", "m1", 1);

	rig_run(policy, &a[0], 0);
	rig_run(policy, &a[1], 5);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &a[2], 6), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 6), 61 * RIG_S);
	rig_run(policy, &b, 7);
	rig_done(policy, &a[0], 8);
	CU_ASSERT_EQUAL(rig_next(policy, 61 * RIG_S - 1), 61 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 61 * RIG_S), &a[2]);
	/* Admitted and never sent: its place comes back. */
	policy_finish(policy, &a[2], POLICY_UNUSED, NULL, 61 * RIG_S);
	CU_ASSERT_EQUAL(rig_user(policy, "a").starts_limit, 2);
	rig_done(policy, &a[1], 62 * RIG_S);
	rig_done(policy, &b, 62 * RIG_S);
	policy_free(policy);
}

/* Its tokens per minute and per day count over all lanes; a settlement gives
 * back at once. */
static void a_users_tokens_are_over_all_lanes(void)
{
	struct policy_user_rule rule = {.pattern = "a",
		.weight = 1,
		.tokens_per_minute = 600,
		.tokens_per_day = 1000};
	struct policy_model model = {.pattern = "m*"};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, &model, &rule);
	struct policy_request one = ask("a", "m1", 400);
	struct policy_request two = ask("a", "m2", 400);
	struct policy_request three = ask("a", "m3", 400);
	struct policy_request huge = ask("a", "m1", 601);
	struct policy_usage little = {100, 0, -1, -1};

	CU_ASSERT_EQUAL(rig_enqueue(policy, &huge, 0), POLICY_TOO_LARGE);
	CU_ASSERT_EQUAL(
		policy_last_excess(policy).limit, POLICY_WAIT_USER_TOKENS);
	CU_ASSERT_EQUAL(policy_last_excess(policy).asked, 601);
	CU_ASSERT_EQUAL(policy_last_excess(policy).allowed, 600);
	rig_run(policy, &one, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &two, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 0), 20 * RIG_S);
	policy_finish(policy, &one, POLICY_DONE, &little, 1);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 1), &two);
	rig_done(policy, &two, 2);
	CU_ASSERT_EQUAL(rig_user(policy, "a").tokens_used_today, 500);
	/* 500 are left today: one more, then only tomorrow. */
	rig_run(policy, &three, 60 * RIG_S);
	rig_done(policy, &three, 60 * RIG_S);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &one, 200 * RIG_S), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 200 * RIG_S), DAY);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, DAY), &one);
	rig_done(policy, &one, DAY);
	policy_free(policy);
}

/* The head decides: with another one first, the queue may go. */
static void a_held_queue_follows_its_first(void)
{
	struct policy_user_rule rule = {
		.pattern = "a", .weight = 1, .tokens_per_minute = 600};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, NULL, &rule);
	struct policy_request run = ask("a", "m", 500);
	struct policy_request large = ask("a", "m", 300);
	struct policy_request small = ask("a", "m", 50);

	rig_run(policy, &run, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &large, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &small, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 0), 20 * RIG_S);
	policy_remove(policy, &large);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &small);
	rig_done(policy, &run, 1);
	rig_done(policy, &small, 1);
	policy_free(policy);
}

/* What a user has spent is remembered when thousands come after it. */
static void a_spent_budget_is_not_forgotten(void)
{
	struct policy_user_rule rule = {
		.pattern = "spender", .weight = 1, .requests_per_minute = 1};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, NULL, &rule);
	struct policy_request first = ask("spender", "m", 1);

	rig_run(policy, &first, 0);
	rig_done(policy, &first, 0);
	for (int i = 0; i < 10000; i++) {
		char name[16];
		struct policy_request other;

		(void)snprintf(name, sizeof(name), "u%d", i);
		other = ask(name, "m", 1);
		rig_run(policy, &other, RIG_S);
		rig_done(policy, &other, RIG_S);
	}
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &first, 2 * RIG_S), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 2 * RIG_S), 61 * RIG_S);
	policy_remove(policy, &first);
	policy_free(policy);
}

/* What a predecessor left of a budget is what is left. */
static void a_budget_survives(void)
{
	struct policy_user_rule rule = {.pattern = "a",
		.weight = 1,
		.requests_per_minute = 3,
		.tokens_per_minute = 600,
		.tokens_per_day = 700};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, NULL, &rule);
	struct policy_left left = rig_left(100, 500, 90 * RIG_S);
	struct policy_request held = ask("a", "m", 60);
	struct policy_request next = ask("a", "m", 150);

	left.starts = 2;
	CU_ASSERT_EQUAL(
		policy_restore_user(policy, "app", "a", &left, 100 * RIG_S), 0);
	CU_ASSERT_EQUAL(rig_user(policy, "a").tokens_used_today, 500);
	/* A permit of then is in all of that. */
	CU_ASSERT_EQUAL(
		policy_restore_held(policy, &held, 60, 95 * RIG_S, 100 * RIG_S),
		0);
	CU_ASSERT_EQUAL(rig_user(policy, "a").tokens_used_today, 500);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &next, 100 * RIG_S), 0);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 100 * RIG_S), &next);
	policy_started(policy, &next, 100 * RIG_S);
	rig_done(policy, &next, 100 * RIG_S);
	next.input_tokens = 20;
	CU_ASSERT_EQUAL(rig_enqueue(policy, &next, 100 * RIG_S), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 100 * RIG_S), 161 * RIG_S);
	policy_finish(policy, &held, POLICY_UNUSED, NULL, 100 * RIG_S);
	CU_ASSERT_EQUAL(rig_user(policy, "a").tokens_used_today, 590);
	policy_remove(policy, &next);
	policy_free(policy);
}

/* ------------------------------------------------------------ the host */

/* The host's tokens are over all lanes, and asked for the one that is next
 * alone: nobody of its class overtakes it. */
static void the_hosts_tokens_are_over_all_lanes(void)
{
	struct policy_model model = {.pattern = "m*"};
	struct policy_config config = rig_config();
	struct policy_request one = ask("a", "m1", 500);
	struct policy_request large = ask("b", "m2", 400);
	struct policy_request small = ask("c", "m3", 10);
	struct policy_request huge = ask("c", "m2", 601);
	struct policy *policy;

	config.tokens_per_minute = 600;
	config.tokens_per_day = 950;
	policy = create(&config, &model, NULL);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &huge, 0), POLICY_TOO_LARGE);
	CU_ASSERT_EQUAL(
		policy_last_excess(policy).limit, POLICY_WAIT_HOST_TOKENS);
	rig_run(policy, &one, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &large, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &small, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 0), 30 * RIG_S);
	CU_ASSERT_EQUAL(rig_host(policy, 0).tokens_available, 100);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 30 * RIG_S), &large);
	/* 900 of 950 today; the small one fits, and no other. */
	CU_ASSERT_EQUAL(rig_next(policy, 30 * RIG_S), 31 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 31 * RIG_S), &small);
	rig_done(policy, &one, 40 * RIG_S);
	rig_done(policy, &large, 40 * RIG_S);
	rig_done(policy, &small, 40 * RIG_S);
	CU_ASSERT_EQUAL(rig_host(policy, 40 * RIG_S).tokens_used_today, 910);
	one.input_tokens = 41;
	CU_ASSERT_EQUAL(rig_enqueue(policy, &one, 500 * RIG_S), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 500 * RIG_S), DAY);
	policy_remove(policy, &one);
	policy_free(policy);
}

/* Starts are the window over the limit apart; what is admitted and not yet sent
 * is the latest. */
static void smooth_starts_are_apart(void)
{
	for (int is_lane = 0; is_lane < 2; is_lane++) {
		struct policy_model model = {.pattern = "m",
			.requests_per_minute = is_lane ? 4 : 0,
			.smooth_starts = is_lane};
		struct policy_config config = rig_config();
		struct policy_request one = ask("a", "m", 1);
		struct policy_request two = ask("b", "m", 1);
		const uint64_t step = (61 * RIG_S + 3) / 4;
		struct policy *policy;

		config.requests_per_minute = is_lane ? 0 : 4;
		config.smooth_starts = !is_lane;
		policy = create(&config, &model, NULL);
		CU_ASSERT_EQUAL(rig_enqueue(policy, &one, 0), POLICY_ACCEPTED);
		CU_ASSERT_EQUAL(rig_enqueue(policy, &two, 0), POLICY_ACCEPTED);
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &one);
		CU_ASSERT_EQUAL(rig_next(policy, 0), RIG_NEVER);
		policy_started(policy, &one, 7);
		CU_ASSERT_EQUAL(rig_next(policy, 7), 7 + step);
		CU_ASSERT_EQUAL(rig_next(policy, 6 + step), 7 + step);
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, 7 + step), &two);
		rig_done(policy, &one, 8 + step);
		rig_done(policy, &two, 8 + step);
		policy_free(policy);
	}
}

/* ------------------------------------------------------------ days */

/* The day turns where the offset says; a clock that is set back by less than a
 * day gives none twice, and one set back by years holds nobody for years. */
static void days_turn_by_the_offset(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_day = 100};
	struct policy_config config = rig_config();
	struct policy_request one = ask("a", "m", 100);
	struct policy *policy;

	config.day_offset_ns = 5 * DAY - 10 * RIG_S;
	policy = create(&config, &model, NULL);
	rig_run(policy, &one, RIG_S);
	rig_done(policy, &one, RIG_S);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &one, RIG_S), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, RIG_S), 10 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &one);
	rig_done(policy, &one, 10 * RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", 10 * RIG_S).tokens_day, 5);
	/* Back before midnight: the new day's total stays, and no second one
	 * comes at its midnight. */
	config.day_offset_ns -= 20 * RIG_S;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &one, 10 * RIG_S), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 10 * RIG_S), 30 * RIG_S + DAY);
	/* Back by years: today's, until its midnight. */
	config.day_offset_ns = 30 * RIG_S;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 10 * RIG_S), DAY - 30 * RIG_S);
	config.day_offset_ns = 3650 * DAY + 30 * RIG_S;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &one);
	rig_done(policy, &one, 10 * RIG_S);
	config.day_offset_ns = 30 * RIG_S;
	CU_ASSERT_EQUAL(policy_reconfigure(policy, &config), 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &one, 10 * RIG_S), 0);
	CU_ASSERT_EQUAL(rig_next(policy, 10 * RIG_S), DAY - 30 * RIG_S);
	policy_remove(policy, &one);
	policy_free(policy);
}

/* ------------------------------------------------------------ the rest */

/* An application of weight 3 receives three times what one of weight 1 does,
 * however many users each has. */
static void applications_have_weights(void)
{
	static const struct policy_app_rule rules[] = {
		{.pattern = "big", .weight = 3}};
	struct policy_config config = rig_config();
	struct policy_request requests[80];
	struct policy *policy;
	int big = 0;

	config.max_concurrent = 1;
	config.apps = rules;
	config.n_apps = 1;
	policy = create(&config, NULL, NULL);
	for (int i = 0; i < 80; i++) {
		requests[i] = ask(i % 4 ? "x" : "y", "m", 10);
		requests[i].app = i < 40 ? "big" : "small";
		CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], 0), 0);
	}
	for (int i = 0; i < 40; i++) {
		struct policy_request *next = rig_admit(policy, 1);

		big += next->app[0] == 'b';
		rig_done(policy, next, 1);
	}
	CU_ASSERT(big >= 29 && big <= 31);
	for (int i = 0; i < 80; i++)
		rig_drop(policy, &requests[i], 2);
	policy_free(policy);
}

static void arns_name_the_lanes_of_their_ids(void)
{
	static const struct {
		const char *id, *region, *lane;
	} cases[] = {
		{"plain-v1:0", "r", "plain-v1:0"},
		{"us.a.b-v1:0", "r", "us.a.b-v1:0"},
		{"arn:aws:bedrock:r::foundation-model/a.b-v1:0", "r",
			"a.b-v1:0"},
		{"arn:aws-cn:bedrock:r:123:inference-profile/us.a.b", "r",
			"us.a.b"},
		{"arn:aws:bedrock:q::foundation-model/a.b", "r", "q/a.b"},
		{"arn:aws:bedrock:rr::foundation-model/a.b", "r", "rr/a.b"},
		{"arn:aws:bedrock:r:1:inference-profile/a.b", NULL, "r/a.b"},
		{"arn:aws:bedrock:r:1:application-inference-profile/x1", "r",
			"r/x1"},
		{"arn:aws:bedrock:r:1:provisioned-model/x1", "r", NULL},
		{"arn:aws:bedrock::1:inference-profile/x1", "r", NULL},
		{"arn:aws:bedrock::1:inference-profile/x1", NULL, NULL},
		{"arn:aws:bedrock:r:1:foundation-model/", "r", NULL},
		{"arn:aws:sagemaker:r:1:foundation-model/a", "r", NULL},
		{"arn:aws:bedrock:r:1", "r", NULL},
		{"arn:aws:bedrock:r", "r", NULL},
		{"arn:aws", "r", NULL},
		{"arn:", NULL, NULL},
		{"", "", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char room[LANE_NAME_BYTES];
		const char *lane =
			lane_name_of(cases[i].id, cases[i].region, room);

		CU_ASSERT_STRING_EQUAL(
			lane, cases[i].lane ? cases[i].lane : cases[i].id);
	}
}

/* One quota, one lane, whichever name asks; a block may match the id as well,
 * and a lane is found again by its name. */
static void arns_share_a_lane(void)
{
	static const char arn[] =
		"arn:aws:bedrock:r:1:inference-profile/us.m-v1";
	static const char own[] = "arn:aws:bedrock:r:1:provisioned-model/p";
	static const struct policy_model models[] = {
		{.pattern = "us.m*", .requests_per_minute = 1},
		{.pattern = "arn:*", .max_concurrent = 1},
	};
	struct policy_config config = rig_config();
	struct policy_request plain = ask("a", "us.m-v1", 1);
	struct policy_request same = ask("a", arn, 1);
	struct policy_request other = ask("a", own, 1);
	struct policy *policy;

	config.region = "r";
	config.models = models;
	config.n_models = 2;
	policy = rig_create(&config);
	rig_run(policy, &plain, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &same, 0), POLICY_ACCEPTED);
	CU_ASSERT_PTR_EQUAL(same.lane, plain.lane);
	CU_ASSERT_STRING_EQUAL(policy_lane_name(same.lane), "us.m-v1");
	CU_ASSERT_EQUAL(rig_next(policy, 0), 61 * RIG_S);
	rig_run(policy, &other, 0);
	CU_ASSERT_STRING_EQUAL(policy_lane_name(other.lane), own);
	CU_ASSERT_EQUAL(policy_restore_start(policy, own, 1, 2), 0);
	CU_ASSERT_EQUAL(rig_lane(policy, own, 2).starts, 2);
	policy_remove(policy, &same);
	rig_done(policy, &plain, 2);
	rig_done(policy, &other, 2);
	policy_free(policy);
}

/* Usage that cannot be is not said: charged as reserved, and counted. */
static void absurd_usage_is_not_said(void)
{
	static const int64_t absurd[] = {
		-2, INT64_MIN, INT64_MAX, (INT64_C(1) << 53) + 1};

	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
		struct policy_model model = {
			.pattern = "m", .tokens_per_minute = 1000};
		struct policy_config config = rig_config();
		struct policy *policy = create(&config, &model, NULL);
		struct policy_request request = ask("a", "m", 100);
		struct policy_usage both = {absurd[i], absurd[i], -1, -1};
		struct policy_usage half = {50, absurd[i], -1, absurd[i]};
		struct policy_usage none = {-1, -1, -1, -1};

		request.output_tokens = 20;
		CU_ASSERT_FALSE(policy_usage_is_absurd(&none));
		CU_ASSERT_TRUE(policy_usage_is_absurd(&half));
		rig_run(policy, &request, 0);
		policy_finish(policy, &request, POLICY_DONE, &both, 0);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_available, 880);
		rig_run(policy, &request, 0);
		policy_finish(policy, &request, POLICY_DONE, &half, 0);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_available, 810);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).absurd_usage, 2);
		policy_free(policy);
	}
}

/* ------------------------------------------------------------ overdue */

/* A late settlement leaves everything as one in time would have: bucket, day,
 * host, user, service. */
static void a_late_settlement_corrects(void)
{
	static const struct policy_usage usage = {100, 30, -1, -1};
	static const struct {
		enum policy_outcome outcome;
		const struct policy_usage *usage;
		int64_t used;
		double service;
	} cases[] = {{POLICY_DONE, &usage, 130, 130},
		{POLICY_DONE, NULL, 400, 400}, {POLICY_LOST, NULL, 400, 400},
		{POLICY_UNUSED, NULL, 0, 0}, {POLICY_THROTTLED, NULL, 0, 1}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_model model = {.pattern = "m",
			.tokens_per_minute = 1000,
			.tokens_per_day = 5000};
		struct policy_user_rule rule = {.pattern = "a",
			.weight = 1,
			.tokens_per_minute = 800,
			.tokens_per_day = 5000};
		struct policy_config config = rig_config();
		struct policy_request permit = ask("a", "m", 400);
		struct policy_user_view user;
		struct policy *policy;

		config.tokens_per_minute = 2000;
		policy = create(&config, &model, &rule);
		permit.is_permit = true;
		rig_run(policy, &permit, 0);
		policy_overrun(policy, &permit, 0);
		CU_ASSERT_EQUAL(permit.state, POLICY_OVERDUE);
		CU_ASSERT_EQUAL(rig_host(policy, 0).running, 0);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_available, 600);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_reserved, 0);
		policy_settle_overdue(
			policy, &permit, cases[i].outcome, cases[i].usage, 0);
		CU_ASSERT_EQUAL(permit.state, POLICY_NEW);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_available,
			1000 - cases[i].used);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).tokens_used_today,
			cases[i].used);
		CU_ASSERT_EQUAL(rig_host(policy, 0).tokens_available,
			2000 - cases[i].used);
		user = rig_user(policy, "a");
		CU_ASSERT_EQUAL(user.tokens_available, 800 - cases[i].used);
		CU_ASSERT_EQUAL(user.tokens_used_today, cases[i].used);
		CU_ASSERT_EQUAL(user.service, cases[i].service);
		CU_ASSERT_EQUAL(rig_lane(policy, "m", 0).gate_open,
			cases[i].outcome != POLICY_THROTTLED);
		policy_free(policy);
	}
}

/* A throttle of an epoch that is over has no say; a new day's total is not
 * yesterday's to give back to. */
static void what_is_too_late_changes_nothing(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_day = 5000};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, &model, NULL);
	struct policy_request old = ask("a", "m", 400);
	struct policy_request other = ask("b", "m", 400);

	rig_run(policy, &old, 0);
	rig_run(policy, &other, 0);
	policy_overrun(policy, &old, RIG_S);
	policy_finish(policy, &other, POLICY_THROTTLED, NULL, RIG_S);
	rig_run(policy, &other, 30 * RIG_S); /* the probe */
	rig_done(policy, &other, 31 * RIG_S);
	CU_ASSERT_TRUE(rig_lane(policy, "m", 31 * RIG_S).gate_open);
	rig_run(policy, &other, DAY);
	policy_settle_overdue(policy, &old, POLICY_THROTTLED, NULL, DAY);
	CU_ASSERT_TRUE(rig_lane(policy, "m", DAY).gate_open);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", DAY).tokens_used_today, 400);
	rig_done(policy, &other, DAY);
	policy_free(policy);
}

/* After a restart: the bucket is corrected, nobody's service is. */
static void an_overdue_permit_survives(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 1000};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, &model, NULL);
	struct policy_request permit = ask("a", "m", 400);
	struct policy_usage usage = {100, 0, -1, -1};

	CU_ASSERT_EQUAL(rig_restore_tokens(policy, 500, 0, RIG_S, RIG_S), 0);
	CU_ASSERT_EQUAL(
		policy_restore_overdue(policy, &permit, 400, 1, RIG_S), 0);
	CU_ASSERT_EQUAL(permit.state, POLICY_OVERDUE);
	CU_ASSERT_EQUAL(rig_host(policy, RIG_S).running, 0);
	policy_settle_overdue(policy, &permit, POLICY_DONE, &usage, RIG_S);
	CU_ASSERT_EQUAL(rig_lane(policy, "m", RIG_S).tokens_available, 800);
	CU_ASSERT_EQUAL(rig_user(policy, "a").service, 0);
	policy_free(policy);
}

/* A late settlement lets a user go that its budget holds. */
static void a_late_settlement_frees_the_user(void)
{
	struct policy_user_rule rule = {
		.pattern = "a", .weight = 1, .tokens_per_minute = 600};
	struct policy_config config = rig_config();
	struct policy *policy = create(&config, NULL, &rule);
	struct policy_request permit = ask("a", "m", 500);
	struct policy_request next = ask("a", "m", 400);

	rig_run(policy, &permit, 0);
	policy_overrun(policy, &permit, 1);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &next, 1), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 1), 30 * RIG_S);
	policy_settle_overdue(policy, &permit, POLICY_UNUSED, NULL, 2);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 2), &next);
	rig_done(policy, &next, 3);
	policy_free(policy);
}

SUITE("policy_budgets", T(a_users_window_is_its_own),
	T(a_users_tokens_are_over_all_lanes), T(a_held_queue_follows_its_first),
	T(a_spent_budget_is_not_forgotten), T(a_budget_survives),
	T(the_hosts_tokens_are_over_all_lanes), T(smooth_starts_are_apart),
	T(days_turn_by_the_offset), T(applications_have_weights),
	T(arns_name_the_lanes_of_their_ids), T(arns_share_a_lane),
	T(absurd_usage_is_not_said), T(a_late_settlement_corrects),
	T(what_is_too_late_changes_nothing), T(an_overdue_permit_survives),
	T(a_late_settlement_frees_the_user))
