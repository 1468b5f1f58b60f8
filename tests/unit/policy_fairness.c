/*
 * The two numbers of docs/policy.md, section 4, over random traffic: how far
 * apart those who always want more can be served, and how long anybody can
 * wait.  SCENARIOS=N plays N of each; SEED=n plays that one alone.
 */
#include "tests/unit/policy_rig.h"

enum { SCENARIOS = 1000 };

static uint64_t scenarios(void)
{
	const char *text = getenv("SCENARIOS");

	if (getenv("SEED") != NULL)
		return 1;
	return text ? strtoull(text, NULL, 0) : SCENARIOS;
}

static bool is_idle(const struct policy_request *request)
{
	return request->state == POLICY_NEW;
}

/* ------------------------------------------------------------ served alike */

/*
 * Two sides, users of one application or two applications with users of their
 * own, always have something queued.  Others come, go, cancel; one of them is
 * greedy.  Everybody uses more or less than reserved.
 */
enum { SIDES = 2, QUEUED = 8, MEMBERS = 3, OTHERS = 24, STEPS = 250 };
enum { LARGEST = 1000 };

struct fair {
	uint64_t seed, random, now_ns;
	struct policy *policy;
	uint32_t max_concurrent;
	double weight[SIDES];
	bool is_apps;   /* the sides are applications */
	int64_t thrift; /* the second uses that many times less */
	struct policy_request sides[SIDES][MEMBERS][QUEUED];
	struct policy_request others[OTHERS];
	/* By its own book: what was used, and what is reserved in flight; the
	 * last is for all others. */
	double served[SIDES + 1];
	double least, most; /* of the difference of the sides */
};

static const char *const members[SIDES][MEMBERS] = {
	{"pair-0", "a-1", "a-2"}, {"pair-1", "b-1", "b-2"}};

static uint32_t draw(struct fair *fair, uint32_t below)
{
	return rig_random(&fair->random, below);
}

static void ask(struct fair *fair, struct policy_request *request,
	const char *user, const char *app)
{
	*request = rig_request(user);
	request->app = app;
	request->input_tokens = 1 + draw(fair, LARGEST / 2);
	request->output_tokens = draw(fair, LARGEST / 2);
	request->deadline_ns = RIG_NEVER;
	CU_ASSERT_EQUAL_FATAL(rig_enqueue(fair->policy, request, fair->now_ns),
		POLICY_ACCEPTED);
}

static int n_members(const struct fair *fair)
{
	return fair->is_apps ? MEMBERS : 1;
}

/* Does what `visit` does to every request of the sides and of the others. */
static void visit_all(struct fair *fair,
	void (*visit)(struct fair *fair, struct policy_request *request))
{
	for (int side = 0; side < SIDES; side++)
		for (int i = 0; i < n_members(fair); i++)
			for (int j = 0; j < QUEUED; j++)
				visit(fair, &fair->sides[side][i][j]);
	for (int i = 0; i < OTHERS; i++)
		visit(fair, &fair->others[i]);
}

/* Whoever has nothing queued asks with what is idle; of the side at least one
 * request is queued all along, since fewer run than it has. */
static void keep_backlogged(struct fair *fair)
{
	for (int side = 0; side < SIDES; side++)
		for (int i = 0; i < n_members(fair); i++)
			for (int j = 0; j < QUEUED; j++)
				if (is_idle(&fair->sides[side][i][j]))
					ask(fair, &fair->sides[side][i][j],
						members[side][i],
						fair->is_apps && side ? "b"
								      : "a");
}

static void stir_others(struct fair *fair)
{
	static const char *const users[] = {
		"greedy", "greedy", "greedy", "o1", "o2", "o3"};
	static const char *const apps[] = {"c", "d", "a"};
	struct policy_request *request = &fair->others[draw(fair, OTHERS)];

	if (is_idle(request))
		ask(fair, request, users[draw(fair, 6)],
			apps[draw(fair, fair->is_apps ? 2 : 3)]);
	else if (request->state == POLICY_QUEUED && draw(fair, 4) == 0)
		policy_remove(fair->policy, request);
}

/* SIDES: neither side's. */
static int side_of(
	const struct fair *fair, const struct policy_request *request)
{
	const struct policy_request *first = &fair->sides[0][0][0];

	if (request < first || request >= first + SIDES * MEMBERS * QUEUED)
		return SIDES;
	return (int)((request - first) / (MEMBERS * QUEUED));
}

/* A side has received so much more, or less. */
static void serve(
	struct fair *fair, const struct policy_request *request, double tokens)
{
	fair->served[side_of(fair, request)] += tokens;
}

static double reserved(const struct policy_request *request)
{
	return (double)(request->input_tokens + request->output_tokens);
}

/* As reserved, below, above, or lost; a third of those that run. */
static void end_some(struct fair *fair, struct policy_request *request)
{
	struct policy_usage usage = {1 + draw(fair, LARGEST), 0, -1, -1};

	if (request->state != POLICY_RUNNING || draw(fair, 3) != 0)
		return;
	if (draw(fair, 10) == 0) {
		policy_finish(
			fair->policy, request, POLICY_LOST, NULL, fair->now_ns);
		return;
	}
	if (side_of(fair, request) == 1)
		usage.input_tokens = 1 + usage.input_tokens / fair->thrift;
	serve(fair, request, (double)usage.input_tokens - reserved(request));
	policy_finish(fair->policy, request, POLICY_DONE, &usage, fair->now_ns);
}

static void drop(struct fair *fair, struct policy_request *request)
{
	rig_drop(fair->policy, request, fair->now_ns);
}

static void measure(struct fair *fair)
{
	double difference = fair->served[0] / fair->weight[0] -
			    fair->served[1] / fair->weight[1];

	if (difference < fair->least)
		fair->least = difference;
	if (difference > fair->most)
		fair->most = difference;
}

static void step(struct fair *fair)
{
	struct policy_request *request;

	fair->now_ns += draw(fair, 100) * RIG_MS;
	keep_backlogged(fair);
	stir_others(fair);
	while ((request = rig_admit(fair->policy, fair->now_ns)) != NULL)
		serve(fair, request, reserved(request));
	visit_all(fair, end_some);
	keep_backlogged(fair);
	measure(fair);
}

static void open_fair(struct fair *fair, uint64_t seed)
{
	struct policy_user_rule users[] = {{.pattern = "pair-0", .weight = 1},
		{.pattern = "pair-1", .weight = 1}};
	struct policy_config config = rig_config();

	*fair = (struct fair){.seed = seed, .random = seed};
	fair->is_apps = seed % 2;
	/* So that a side has more than can run. */
	fair->max_concurrent = 1 + draw(fair, QUEUED - 2);
	fair->thrift = 1 + draw(fair, 8);
	fair->weight[0] = 1;
	fair->weight[1] = fair->is_apps ? 1 : 1 + draw(fair, 4);
	users[1].weight = fair->weight[1];
	config.max_concurrent = fair->max_concurrent;
	config.users = users;
	config.n_users = 2;
	fair->policy = rig_create(&config);
}

/* The widest gap that opened, in parts of the bound. */
static double play_fair(uint64_t seed)
{
	static struct fair fair;
	double bound;

	open_fair(&fair, seed);
	for (int i = 0; i < STEPS; i++)
		step(&fair);
	visit_all(&fair, drop);
	policy_free(fair.policy);
	bound = (fair.max_concurrent + 1) * (double)LARGEST *
		(1 / fair.weight[0] + 1 / fair.weight[1]);
	return (fair.most - fair.least) / bound;
}

/* Two users, or two applications, that always have something queued differ in
 * service over weight by at most (concurrency + 1) largest requests over each
 * one's weight, whatever all others do. */
static void the_backlogged_are_served_alike(void)
{
	uint64_t first = rig_seed(1);
	double widest = 0;

	for (uint64_t i = 0; i < scenarios(); i++) {
		double gap = play_fair(first + i);

		if (gap > 1)
			printf("# SEED=%llu: %.2f of the bound\n",
				(unsigned long long)(first + i), gap);
		CU_ASSERT(gap <= 1);
		if (gap > widest)
			widest = gap;
	}
	printf("# widest gap: %.2f of the bound\n", widest);
	CU_ASSERT(widest > 0);
}

/* ------------------------------------------------------------ nobody starves
 */

/*
 * A crowd that asks without a pause, most of it for interactive, some users new
 * all the time; each request runs for RUN_NS.  Whoever asks for batch must
 * still be served.
 */
enum { CROWD = 40, QUEUE = 3, USERS = 6, TURNS = 400, UNIT = 100 };
#define RUN_NS (100 * RIG_MS)
#define AGE_NS RIG_S

struct crowd {
	uint64_t random, now_ns;
	struct policy *policy;
	uint32_t max_concurrent, apps, lanes, queue;
	uint64_t spread; /* of costs, above and below UNIT */
	struct policy_request requests[CROWD];
	uint64_t ends_ns[CROWD];
	double longest; /* wait, of the bound */
};

/* docs/policy.md, section 4; in the same letters. */
static uint64_t bound_ns(const struct crowd *crowd)
{
	uint64_t largest = UNIT + crowd->spread, least = UNIT - crowd->spread;
	uint64_t k =
		(2 * (largest + 2 * crowd->max_concurrent * crowd->spread) +
			least - 1) /
		least;
	uint64_t turns = crowd->lanes * crowd->queue * (1 + k * (USERS - 1)) *
			 (1 + k * (crowd->apps - 1));

	return 2 * AGE_NS + turns * RUN_NS;
}

static void judge_wait(
	struct crowd *crowd, const struct policy_request *request)
{
	double part = (double)(crowd->now_ns - request->enqueued_ns) /
		      (double)bound_ns(crowd);

	if (part > crowd->longest)
		crowd->longest = part;
}

static uint64_t draw_cost(struct crowd *crowd)
{
	return UNIT - crowd->spread +
	       rig_random(&crowd->random, (uint32_t)(2 * crowd->spread + 1));
}

static void come(struct crowd *crowd, struct policy_request *request)
{
	static const char *const users[] = {"u0", "u1", "u2", "u3", "u4", "u5"};
	static const char *const apps[] = {"a", "b"};
	static const char *const models[] = {"m-1", "m-2"};
	uint32_t user = rig_random(&crowd->random, USERS);

	*request = rig_request(users[user]);
	request->app = apps[user % crowd->apps];
	request->model_id = models[rig_random(&crowd->random, crowd->lanes)];
	/* One user asks for batch alone, among interactive ones. */
	request->class = user == 0 ? POLICY_BATCH : POLICY_INTERACTIVE;
	request->input_tokens = draw_cost(crowd);
	request->deadline_ns = RIG_NEVER;
	(void)rig_enqueue(crowd->policy, request, crowd->now_ns);
}

static void end_due(struct crowd *crowd)
{
	for (int i = 0; i < CROWD; i++) {
		struct policy_usage usage = {
			(int64_t)draw_cost(crowd), 0, -1, -1};

		if (crowd->requests[i].state == POLICY_RUNNING &&
			crowd->ends_ns[i] <= crowd->now_ns)
			policy_finish(crowd->policy, &crowd->requests[i],
				POLICY_DONE, &usage, crowd->now_ns);
	}
}

static void turn(struct crowd *crowd)
{
	struct policy_request *request;

	end_due(crowd);
	for (int i = 0; i < CROWD; i++)
		if (is_idle(&crowd->requests[i]))
			come(crowd, &crowd->requests[i]);
	while ((request = rig_admit(crowd->policy, crowd->now_ns)) != NULL) {
		crowd->ends_ns[request - crowd->requests] =
			crowd->now_ns + RUN_NS;
		judge_wait(crowd, request);
	}
	for (int i = 0; i < CROWD; i++)
		if (crowd->requests[i].state == POLICY_QUEUED)
			judge_wait(crowd, &crowd->requests[i]);
	crowd->now_ns += RUN_NS;
}

/* The longest wait, in parts of the bound. */
static double play_crowd(uint64_t seed)
{
	static struct crowd crowd;
	struct policy_model model = {.pattern = "m-*"};
	struct policy_config config = rig_config();

	crowd = (struct crowd){.random = seed};
	crowd.max_concurrent = 1 + rig_random(&crowd.random, 3);
	crowd.apps = 1 + rig_random(&crowd.random, 2);
	crowd.lanes = 1 + rig_random(&crowd.random, 2);
	crowd.queue = 1 + rig_random(&crowd.random, QUEUE);
	crowd.spread = rig_random(&crowd.random, 2) ? UNIT / 4 : 0;
	model.learned_output = POLICY_LEARN_NOTHING;
	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = crowd.max_concurrent;
	config.max_queued_per_user = crowd.queue;
	config.age_after_ns = AGE_NS;
	crowd.policy = rig_create(&config);
	for (int i = 0; i < TURNS; i++)
		turn(&crowd);
	for (int i = 0; i < CROWD; i++)
		rig_drop(crowd.policy, &crowd.requests[i], crowd.now_ns);
	policy_free(crowd.policy);
	return crowd.longest;
}

/* Nobody waits longer than the stated bound, in whatever class. */
static void nobody_starves(void)
{
	uint64_t first = rig_seed(1);
	double longest = 0;

	for (uint64_t i = 0; i < scenarios(); i++) {
		double part = play_crowd(first + i);

		if (part > 1)
			printf("# SEED=%llu: %.2f of the bound\n",
				(unsigned long long)(first + i), part);
		CU_ASSERT(part <= 1);
		if (part > longest)
			longest = part;
	}
	printf("# longest wait: %.2f of the bound\n", longest);
	CU_ASSERT(longest > 0);
}

SUITE("policy_fairness", T(the_backlogged_are_served_alike), T(nobody_starves))
