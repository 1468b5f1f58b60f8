/* The order of the queue: one claim each, then fairness as a property. */
#include "tests/unit/policy_rig.h"

enum { MANY = 60 };

/* One place for all: who goes next is a question of order alone. */
static struct policy *create(uint32_t max_concurrent)
{
	struct policy_config config = rig_config();

	config.max_concurrent = max_concurrent;
	return rig_create(&config);
}

static struct policy_request of_class(const char *user, enum policy_class class)
{
	struct policy_request request = rig_request(user);

	request.class = class;
	return request;
}

static struct policy_request of_cost(const char *user, uint64_t tokens)
{
	struct policy_request request = rig_request(user);

	request.input_tokens = tokens;
	return request;
}

static void enqueue(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	CU_ASSERT_EQUAL_FATAL(
		rig_enqueue(policy, request, now_ns), POLICY_ACCEPTED);
}

/* Admits one, finishes it as reserved; it must be this one. */
static void expect_next(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	struct policy_request *next = rig_admit(policy, now_ns);

	CU_ASSERT_PTR_EQUAL(next, request);
	if (next != NULL)
		rig_done(policy, next, now_ns);
}

/* A class goes before the next one, whoever came first. */
static void classes_are_strict(void)
{
	struct policy *policy = create(1);
	struct policy_request batch = of_class("b", POLICY_BATCH),
			      normal = of_class("n", POLICY_NORMAL),
			      interactive = of_class("i", POLICY_INTERACTIVE);

	enqueue(policy, &batch, 0);
	enqueue(policy, &normal, 0);
	enqueue(policy, &interactive, 0);
	expect_next(policy, &interactive, 0);
	expect_next(policy, &normal, 0);
	expect_next(policy, &batch, 0);
	policy_free(policy);
}

/* With nothing else to tell them apart, the earliest goes. */
static void arrival_decides_at_last(void)
{
	struct policy *policy = create(1);
	struct policy_request requests[5];
	static const char *const users[] = {"e", "a", "d", "b", "c"};

	for (int i = 0; i < 5; i++) {
		requests[i] = rig_request(users[i]);
		enqueue(policy, &requests[i], (uint64_t)i);
	}
	for (int i = 0; i < 5; i++)
		expect_next(policy, &requests[i], 5);
	policy_free(policy);
}

/* Who has received least goes first, counted in tokens, not in requests. */
static void least_service_goes_first(void)
{
	struct policy *policy = create(1);
	struct policy_request large[2], small[MANY];
	int i;

	for (i = 0; i < 2; i++) {
		large[i] = of_cost("large", 100);
		enqueue(policy, &large[i], 0);
	}
	for (i = 0; i < 12; i++) {
		small[i] = of_cost("small", 10);
		enqueue(policy, &small[i], 0);
	}
	expect_next(policy, &large[0], 0);
	for (i = 0; i < 10; i++)
		expect_next(policy, &small[i], 0);
	/* 100 each, nobody in flight: the earlier one. */
	expect_next(policy, &large[1], 0);
	expect_next(policy, &small[10], 0);
	expect_next(policy, &small[11], 0);
	policy_free(policy);
}

/* With equal costs, fewer active requests go first: the old manager's rule. */
static void fewest_in_flight_goes_first(void)
{
	struct policy *policy = create(3);
	struct policy_request a[4], b[2];

	for (int i = 0; i < 4; i++)
		a[i] = rig_request("a");
	for (int i = 0; i < 2; i++)
		b[i] = rig_request("b");
	for (int i = 0; i < 3; i++) {
		enqueue(policy, &a[i], 0);
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &a[i]);
	}
	enqueue(policy, &a[3], 1);
	enqueue(policy, &b[0], 2);
	enqueue(policy, &b[1], 2);
	rig_done(policy, &a[0], 3); /* a: two in flight, b: none */
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 3), &b[0]);
	rig_done(policy, &a[1], 4); /* one each; b has been charged since */
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 4), &a[3]);
	rig_done(policy, &b[0], 5);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 5), &b[1]);
	rig_done(policy, &a[2], 6);
	rig_done(policy, &a[3], 6);
	rig_done(policy, &b[1], 6);
	policy_free(policy);
}

/* A reservation in flight counts as service, and what was not used of it does
 * not when it has ended. */
static void reservations_count_until_settled(void)
{
	static const struct policy_usage used = {5, 0, -1, -1};
	struct policy *policy = create(2);
	struct policy_request a[3], b[3];

	for (int i = 0; i < 3; i++) {
		a[i] = of_cost("a", 1000);
		b[i] = of_cost("b", 10);
	}
	for (int i = 0; i < 3; i++)
		enqueue(policy, &a[i], 0);
	for (int i = 0; i < 3; i++)
		enqueue(policy, &b[i], 0);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &a[0]);
	expect_next(policy, &b[0], 0);
	expect_next(policy, &b[1], 0);
	policy_finish(policy, &a[0], POLICY_DONE, &used, 1);
	expect_next(policy, &a[1], 1); /* 5 against 20 */
	expect_next(policy, &b[2], 1);
	expect_next(policy, &a[2], 1);
	policy_free(policy);
}

static void share_after_idleness(const char *app)
{
	struct policy *policy = create(1);
	struct policy_request a[MANY], b[10];
	int in_first_ten = 0;

	for (int i = 0; i < MANY; i++) {
		a[i] = rig_request("a");
		enqueue(policy, &a[i], 0);
	}
	for (int i = 0; i < 30; i++)
		expect_next(policy, &a[i], 0);
	for (int i = 0; i < 10; i++) {
		b[i] = rig_request("b");
		b[i].app = app;
		enqueue(policy, &b[i], 1);
	}
	for (int i = 0; i < 10; i++) {
		struct policy_request *next = rig_admit(policy, 1);

		in_first_ten += next->user[0] == 'b';
		rig_done(policy, next, 1);
	}
	CU_ASSERT_EQUAL(in_first_ten, 5);
	for (int i = 0; i < MANY; i++)
		rig_drop(policy, &a[i], 2);
	for (int i = 0; i < 10; i++)
		rig_drop(policy, &b[i], 2);
	policy_free(policy);
}

/* Who was idle while others were served does not have it to catch up: from its
 * return on it shares evenly, user or application. */
static void idleness_earns_no_credit(void)
{
	share_after_idleness("app");
	share_after_idleness("second");
}

/* A user at its cap is passed over, and has earned nothing by it afterwards. */
static void the_cap_skips_and_earns_no_credit(void)
{
	static const struct policy_user_rule rule = {
		.pattern = "capped", .weight = 1, .max_concurrent = 1};
	struct policy_config config = rig_config();
	struct policy_request capped[MANY], other[MANY];
	struct policy *policy;
	int n_capped = 0;

	config.max_concurrent = 2;
	config.users = &rule;
	config.n_users = 1;
	policy = rig_create(&config);
	for (int i = 0; i < MANY; i++) {
		capped[i] = rig_request("capped");
		other[i] = rig_request("other");
		enqueue(policy, &capped[i], 0);
	}
	for (int i = 0; i < MANY; i++)
		enqueue(policy, &other[i], 0);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &capped[0]);
	for (int i = 0; i < 30; i++)
		expect_next(policy, &other[i], 0);
	rig_done(policy, &capped[0], 1);
	for (int i = 0; i < 10; i++) {
		struct policy_request *next = rig_admit(policy, 1);

		n_capped += next->user[0] == 'c';
		rig_done(policy, next, 1);
	}
	CU_ASSERT_EQUAL(n_capped, 5);
	for (int i = 0; i < MANY; i++) {
		rig_drop(policy, &capped[i], 2);
		rig_drop(policy, &other[i], 2);
	}
	policy_free(policy);
}

/* Two applications share evenly, however many users one of them has. */
static void inventing_users_wins_nothing(void)
{
	struct policy *policy = create(1);
	struct policy_request honest[20], invented[MANY];
	static char names[MANY][16];
	int n_honest = 0;

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "i%d", i);
		invented[i] = rig_request(names[i]);
		invented[i].app = "greedy";
		enqueue(policy, &invented[i], 0);
	}
	for (int i = 0; i < 20; i++) {
		honest[i] = rig_request("honest");
		enqueue(policy, &honest[i], 1);
	}
	for (int i = 0; i < 40; i++) {
		struct policy_request *next = rig_admit(policy, 1);

		n_honest += next->user[0] == 'h';
		rig_done(policy, next, 1);
	}
	CU_ASSERT_EQUAL(n_honest, 20);
	for (int i = 0; i < MANY; i++)
		rig_drop(policy, &invented[i], 2);
	policy_free(policy);
}

/* The same user name under two applications is two users. */
static void a_user_belongs_to_its_application(void)
{
	struct policy *policy = create(0);
	struct policy_request one = rig_request("same"),
			      two = rig_request("same");

	two.app = "other";
	rig_run(policy, &one, 0);
	rig_run(policy, &two, 0);
	CU_ASSERT_EQUAL(rig_host(policy, 0).users, 2);
	CU_ASSERT_PTR_NOT_EQUAL(one.user_entry, two.user_entry);
	rig_done(policy, &one, 0);
	rig_done(policy, &two, 0);
	policy_free(policy);
}

/* Service is shared in proportion to weight. */
static void weights_are_proportional(void)
{
	static const struct policy_user_rule rules[] = {
		{.pattern = "heavy", .weight = 3},
		{.pattern = "light", .weight = 1}};
	struct policy_config config = rig_config();
	struct policy_request heavy[MANY], light[MANY];
	struct policy *policy;
	int n_heavy = 0;

	config.max_concurrent = 1;
	config.users = rules;
	config.n_users = 2;
	policy = rig_create(&config);
	for (int i = 0; i < MANY; i++) {
		heavy[i] = rig_request("heavy");
		light[i] = rig_request("light");
		enqueue(policy, &heavy[i], 0);
		enqueue(policy, &light[i], 0);
	}
	for (int i = 0; i < 40; i++) {
		struct policy_request *next = rig_admit(policy, 0);

		n_heavy += next->user[0] == 'h';
		rig_done(policy, next, 0);
	}
	CU_ASSERT_EQUAL(n_heavy, 30);
	for (int i = 0; i < MANY; i++) {
		rig_drop(policy, &heavy[i], 0);
		rig_drop(policy, &light[i], 0);
	}
	policy_free(policy);
}

/* Requests of no known cost are shared too: each costs at least 1. */
static void requests_without_tokens_are_shared(void)
{
	struct policy *policy = create(1);
	struct policy_request a[4], b[4];

	for (int i = 0; i < 4; i++) {
		a[i] = of_cost("a", 0);
		enqueue(policy, &a[i], 0);
	}
	for (int i = 0; i < 4; i++) {
		b[i] = of_cost("b", 0);
		enqueue(policy, &b[i], 0);
	}
	for (int i = 0; i < 4; i++) {
		expect_next(policy, &a[i], 0);
		expect_next(policy, &b[i], 0);
	}
	policy_free(policy);
}

/* A large request that is first waits for its tokens, and no stream of small
 * ones from new users takes them away from it. */
static void a_large_request_is_not_starved(void)
{
	struct policy_model model = {.pattern = "m", .tokens_per_minute = 600};
	struct policy_config config = rig_config();
	struct policy_request large = of_cost("large", 500), small[MANY];
	static char names[MANY][16];
	struct policy *policy;
	uint64_t now_ns = 0;
	int i;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	small[0] = of_cost("first", 600); /* empties the bucket */
	rig_run(policy, &small[0], 0);
	rig_done(policy, &small[0], 0);
	enqueue(policy, &large, 0);
	for (i = 1; i < MANY && large.state == POLICY_QUEUED; i++) {
		struct policy_request *next;

		now_ns = (uint64_t)i * RIG_S;
		(void)snprintf(names[i], sizeof(names[i]), "s%d", i);
		small[i] = of_cost(names[i], 10);
		enqueue(policy, &small[i], now_ns);
		next = rig_admit(policy, now_ns);
		CU_ASSERT(next == NULL || next == &large);
	}
	CU_ASSERT_EQUAL(large.state, POLICY_RUNNING);
	CU_ASSERT_EQUAL(now_ns, 50 * RIG_S);
	rig_drop(policy, &large, now_ns);
	for (int j = 1; j < i; j++)
		rig_drop(policy, &small[j], now_ns);
	policy_free(policy);
}

/* After age_after in one class a request counts as the next one up, batch
 * twice: to the nanosecond. */
static void waiting_raises_the_class(void)
{
	static const struct {
		enum policy_class class;
		uint64_t waited_ns;
		enum policy_class rival;
		bool goes_first;
	} cases[] = {
		{POLICY_BATCH, 10 * RIG_S - 1, POLICY_NORMAL, false},
		{POLICY_BATCH, 10 * RIG_S, POLICY_NORMAL, true},
		{POLICY_BATCH, 20 * RIG_S - 1, POLICY_INTERACTIVE, false},
		{POLICY_BATCH, 20 * RIG_S, POLICY_INTERACTIVE, true},
		{POLICY_NORMAL, 10 * RIG_S - 1, POLICY_INTERACTIVE, false},
		{POLICY_NORMAL, 10 * RIG_S, POLICY_INTERACTIVE, true},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_config config = rig_config();
		struct policy_request waiting, rival, blocker;
		struct policy *policy;

		config.max_concurrent = 1;
		config.age_after_ns = 10 * RIG_S;
		policy = rig_create(&config);
		blocker = of_class("x", POLICY_INTERACTIVE);
		waiting = of_class("w", cases[i].class);
		rival = of_class("r", cases[i].rival);
		rig_run(policy, &blocker, RIG_S);
		enqueue(policy, &waiting, RIG_S);
		CU_ASSERT_PTR_NULL(
			rig_admit(policy, RIG_S + cases[i].waited_ns));
		enqueue(policy, &rival, RIG_S + cases[i].waited_ns);
		rig_done(policy, &blocker, RIG_S + cases[i].waited_ns);
		expect_next(policy, cases[i].goes_first ? &waiting : &rival,
			RIG_S + cases[i].waited_ns);
		rig_drop(policy, &waiting, RIG_S + cases[i].waited_ns);
		rig_drop(policy, &rival, RIG_S + cases[i].waited_ns);
		policy_free(policy);
	}
}

/* Batch takes its share of the concurrency and no more, one at least; the rest
 * is free for others; aged batch is batch no more. */
static void batch_leaves_room(void)
{
	static const struct {
		double share;
		uint32_t concurrent, expected;
	} cases[] = {{0.5, 4, 2}, {0.5, 5, 2}, {0.1, 4, 1}, {0.75, 8, 6},
		{1, 4, 4}, {0, 4, 4}, {0.5, 0, 10}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_config config = rig_config();
		struct policy_request batch[10], normal;
		struct policy *policy;
		uint32_t n = 0;

		config.max_concurrent = cases[i].concurrent;
		config.batch_share = cases[i].share;
		config.age_after_ns = 10 * RIG_S;
		policy = rig_create(&config);
		for (int j = 0; j < 10; j++) {
			batch[j] = of_class("b", POLICY_BATCH);
			enqueue(policy, &batch[j], 0);
		}
		while (rig_admit(policy, 0) != NULL)
			n++;
		CU_ASSERT_EQUAL(n, cases[i].expected);
		normal = of_class("n", POLICY_NORMAL);
		enqueue(policy, &normal, 0);
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0),
			n < cases[i].concurrent || cases[i].concurrent == 0
				? &normal
				: NULL);
		if (n + 1 < cases[i].concurrent) {
			CU_ASSERT_EQUAL(rig_next(policy, 0), 10 * RIG_S);
			CU_ASSERT_PTR_NOT_NULL(rig_admit(policy, 10 * RIG_S));
		}
		for (int j = 0; j < 10; j++)
			rig_drop(policy, &batch[j], 11 * RIG_S);
		rig_drop(policy, &normal, 11 * RIG_S);
		policy_free(policy);
	}
}

/* A lane's concurrency has a batch share of its own. */
static void a_lane_has_its_batch_share(void)
{
	struct policy_model model = {.pattern = "m", .max_concurrent = 4};
	struct policy_config config = rig_config();
	struct policy_request batch[4];
	struct policy *policy;
	int n = 0;

	config.models = &model;
	config.n_models = 1;
	config.batch_share = 0.5;
	policy = rig_create(&config);
	for (int i = 0; i < 4; i++) {
		batch[i] = of_class("b", POLICY_BATCH);
		enqueue(policy, &batch[i], 0);
	}
	while (rig_admit(policy, 0) != NULL)
		n++;
	CU_ASSERT_EQUAL(n, 2);
	for (int i = 0; i < 4; i++)
		rig_drop(policy, &batch[i], 0);
	policy_free(policy);
}

/* Where the host is short, lanes with the same class take turns, and a class
 * goes first across lanes. */
static void lanes_take_turns(void)
{
	static const char *const models[] = {"m-1", "m-2", "m-3"};
	struct policy_model model = {.pattern = "m-*"};
	struct policy_config config = rig_config();
	struct policy_request requests[3][4], urgent = rig_request("u");
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = 1;
	policy = rig_create(&config);
	for (int lane = 0; lane < 3; lane++) {
		for (int i = 0; i < 4; i++) {
			requests[lane][i] = rig_request("u");
			requests[lane][i].model_id = models[lane];
			enqueue(policy, &requests[lane][i], 0);
		}
	}
	for (int i = 0; i < 2; i++)
		for (int lane = 0; lane < 3; lane++)
			expect_next(policy, &requests[lane][i], 0);
	urgent.class = POLICY_INTERACTIVE;
	urgent.model_id = models[2];
	enqueue(policy, &urgent, 0);
	expect_next(policy, &urgent, 0);
	for (int i = 2; i < 4; i++)
		for (int lane = 0; lane < 3; lane++)
			rig_drop(policy, &requests[lane][i], 0);
	policy_free(policy);
}

/* The oldest of the queue is known through ageing, retries and removals, also
 * when a retry comes back between older and younger ones. */
static void the_oldest_is_known(void)
{
	struct policy_model model = {.pattern = "m-1", .max_concurrent = 1};
	struct policy_config config = rig_config();
	struct policy_request blocker = rig_request("x"),
			      stuck = rig_request("x"), old = rig_request("a"),
			      young = rig_request("b"),
			      later = rig_request("b"),
			      batch = rig_request("c");
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	config.max_concurrent = 2;
	config.age_after_ns = 100 * RIG_S;
	policy = rig_create(&config);
	blocker.model_id = stuck.model_id = "m-1";
	batch.class = POLICY_BATCH;
	rig_run(policy, &blocker, 1 * RIG_S);
	enqueue(policy, &stuck, 2 * RIG_S);
	rig_run(policy, &old, 3 * RIG_S);
	enqueue(policy, &young, 4 * RIG_S);
	CU_ASSERT_TRUE(policy_retry(
		policy, &old, POLICY_FAIL_TRANSIENT, 10 * RIG_S, 5 * RIG_S));
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 5 * RIG_S), &young);
	enqueue(policy, &batch, 6 * RIG_S);
	enqueue(policy, &later, 7 * RIG_S);
	CU_ASSERT_PTR_NULL(rig_admit(policy, 20 * RIG_S));
	CU_ASSERT_EQUAL(old.state, POLICY_QUEUED);
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 2 * RIG_S);
	CU_ASSERT_PTR_NULL(rig_admit(policy, 120 * RIG_S));
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 2 * RIG_S);
	policy_remove(policy, &stuck);
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 3 * RIG_S);
	policy_remove(policy, &old);
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 6 * RIG_S);
	policy_remove(policy, &batch);
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 7 * RIG_S);
	policy_remove(policy, &later);
	CU_ASSERT_EQUAL(rig_host(policy, 0).oldest_enqueued_ns, 0);
	rig_done(policy, &blocker, 120 * RIG_S);
	rig_done(policy, &young, 120 * RIG_S);
	policy_free(policy);
}

/* What one took while nobody else wanted it is not held against it: users, or
 * applications, that meet at an empty queue share evenly from there. */
static void taking_what_is_free_costs_nothing_later(void)
{
	for (int is_two_apps = 0; is_two_apps < 2; is_two_apps++) {
		struct policy *policy = create(1);
		struct policy_request a[10], b[10];
		int n_a = 0;

		for (int i = 0; i < 10; i++) {
			a[i] = rig_request("a");
			b[i] = rig_request("b");
			b[i].app = is_two_apps ? "second" : "app";
			rig_run(policy, &a[i], 0);
			rig_done(policy, &a[i], 0);
		}
		for (int i = 0; i < 10; i++)
			enqueue(policy, &b[i], 1);
		for (int i = 0; i < 10; i++)
			enqueue(policy, &a[i], 1);
		for (int i = 0; i < 10; i++) {
			struct policy_request *next = rig_admit(policy, 1);

			n_a += next->user[0] == 'a';
			rig_done(policy, next, 1);
		}
		CU_ASSERT_EQUAL(n_a, 5);
		for (int i = 0; i < 10; i++) {
			rig_drop(policy, &a[i], 2);
			rig_drop(policy, &b[i], 2);
		}
		policy_free(policy);
	}
}

SUITE("policy_order", T(classes_are_strict), T(arrival_decides_at_last),
	T(least_service_goes_first), T(fewest_in_flight_goes_first),
	T(reservations_count_until_settled), T(idleness_earns_no_credit),
	T(the_cap_skips_and_earns_no_credit), T(inventing_users_wins_nothing),
	T(a_user_belongs_to_its_application), T(weights_are_proportional),
	T(requests_without_tokens_are_shared),
	T(a_large_request_is_not_starved), T(waiting_raises_the_class),
	T(batch_leaves_room), T(a_lane_has_its_batch_share),
	T(lanes_take_turns), T(the_oldest_is_known),
	T(taking_what_is_free_costs_nothing_later))
