/* Retries, the budget, the gate and its probe: one claim each. */
#include "tests/unit/policy_rig.h"

enum { TEN = 10 };

static struct policy *create(uint64_t seed)
{
	struct policy_config config = rig_config();

	config.seed = seed;
	config.max_attempts = 100;
	return rig_create(&config);
}

static uint64_t opens_ns(struct policy *policy)
{
	return rig_lane(policy, "default", 0).gate_opens_ns;
}

static bool is_open(struct policy *policy)
{
	return rig_lane(policy, "default", 0).gate_open;
}

/* Throttled and queued again; until when the gate is closed. */
static uint64_t throttle(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	CU_ASSERT_TRUE(
		policy_retry(policy, request, POLICY_FAIL_THROTTLE, 0, now_ns));
	return opens_ns(policy);
}

/* Each delay lies below its ceiling, min(base x 2^(n-1), cap), and is spread
 * over all of it. */
static void backoff_is_full_jitter(void)
{
	static const struct {
		enum policy_failure failure;
		uint64_t base_ns;
	} cases[] = {{POLICY_FAIL_THROTTLE, RIG_S},
		{POLICY_FAIL_TRANSIENT, 50 * RIG_MS},
		{POLICY_FAIL_LOST, 50 * RIG_MS}};
	enum { TRACES = 200, FAILURES = 12 };

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		double sum = 0;

		for (uint64_t seed = 0; seed < TRACES; seed++) {
			struct policy *policy = create(seed);
			struct policy_request request = rig_request("u");
			uint64_t now_ns = 0, ceiling_ns = cases[c].base_ns;

			rig_run(policy, &request, 0);
			for (int n = 1; n <= FAILURES; n++) {
				uint64_t next_ns;

				CU_ASSERT_TRUE(policy_retry(policy, &request,
					cases[c].failure, 0, now_ns));
				CU_ASSERT_EQUAL(request.state, POLICY_BACKOFF);
				next_ns = rig_next(policy, now_ns);
				CU_ASSERT(next_ns - now_ns <= ceiling_ns);
				sum += (double)(next_ns - now_ns) /
				       (double)ceiling_ns;
				now_ns = next_ns;
				CU_ASSERT_PTR_EQUAL(
					rig_admit(policy, now_ns), &request);
				policy_started(policy, &request, now_ns);
				ceiling_ns = ceiling_ns * 2 < 20 * RIG_S
						     ? ceiling_ns * 2
						     : 20 * RIG_S;
			}
			rig_done(policy, &request, now_ns);
			policy_free(policy);
		}
		sum /= TRACES * FAILURES;
		CU_ASSERT(sum > 0.45 && sum < 0.55);
	}
}

/* The same seed gives the same delays, another seed others. */
static void the_seed_decides(void)
{
	uint64_t delay_ns[3];

	for (int i = 0; i < 3; i++) {
		struct policy *policy = create(i == 2 ? 8 : 7);
		struct policy_request request = rig_request("u");

		rig_run(policy, &request, 0);
		delay_ns[i] = throttle(policy, &request, 0);
		policy_remove(policy, &request);
		policy_free(policy);
	}
	CU_ASSERT_EQUAL(delay_ns[0], delay_ns[1]);
	CU_ASSERT_NOT_EQUAL(delay_ns[0], delay_ns[2]);
}

/* The server's hint is the least delay, of the request and of the gate. */
static void a_hint_is_a_floor(void)
{
	struct policy *policy = create(7);
	struct policy_request request = rig_request("u");

	rig_run(policy, &request, 0);
	CU_ASSERT_TRUE(policy_retry(
		policy, &request, POLICY_FAIL_THROTTLE, 50 * RIG_S, RIG_S));
	CU_ASSERT_EQUAL(opens_ns(policy), 51 * RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, RIG_S), 51 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 51 * RIG_S), &request);
	/* An absurd hint overflows nothing. */
	CU_ASSERT_FALSE(policy_retry(policy, &request, POLICY_FAIL_THROTTLE,
		UINT64_MAX - 1, 52 * RIG_S));
	rig_done(policy, &request, 53 * RIG_S);
	policy_free(policy);
}

/* No retry beyond max_attempts, past the deadline, or for a permit: the request
 * is still running, and a throttle closes the gate all the same. */
static void some_are_not_retried(void)
{
	static const struct {
		uint32_t max_attempts;
		uint64_t hint_ns;
		bool is_permit, is_retried;
	} cases[] = {
		{2, 10 * RIG_S, false, true},
		{1, 10 * RIG_S, false, false},
		{0, 10 * RIG_S, false, false},
		{2, 10 * RIG_S, true, false},
		{2, 100 * RIG_S - 1, false, true},
		{2, 100 * RIG_S, false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_config config = rig_config();
		struct policy_request request = rig_request("u");
		struct policy *policy;

		config.max_attempts = cases[i].max_attempts;
		policy = rig_create(&config);
		request.is_permit = cases[i].is_permit;
		request.deadline_ns = 100 * RIG_S;
		rig_run(policy, &request, 0);
		CU_ASSERT_EQUAL(
			policy_retry(policy, &request, POLICY_FAIL_THROTTLE,
				cases[i].hint_ns, 0),
			cases[i].is_retried);
		CU_ASSERT_FALSE(is_open(policy));
		CU_ASSERT_EQUAL(request.state,
			cases[i].is_retried ? POLICY_BACKOFF : POLICY_RUNNING);
		if (!cases[i].is_retried) /* the same throttle, told again */
			policy_finish(
				policy, &request, POLICY_THROTTLED, NULL, 0);
		CU_ASSERT_EQUAL(rig_lane(policy, "default", 0).throttled, 1);
		CU_ASSERT_EQUAL(opens_ns(policy), cases[i].hint_ns);
		rig_drop(policy, &request, 0);
		policy_free(policy);
	}
}

static uint32_t budget(const struct policy *policy)
{
	return rig_lane(policy, "default", 0).retry_budget_left;
}

/* A throttle's retry costs 5, a transient failure's 14, the probe's nothing; a
 * success returns the last cost, at least 1; never above the budget; when it is
 * spent, no retry, and a failure that is given up returns nothing. */
static void the_budget_pays_for_retries(void)
{
	struct policy_config config = rig_config();
	struct policy_request request = rig_request("u");
	struct policy *policy;

	config.retry_budget = 30;
	config.max_attempts = 100;
	policy = rig_create(&config);
	rig_run(policy, &request, 0);
	rig_done(policy, &request, 0);
	CU_ASSERT_EQUAL(budget(policy), 30);
	rig_run(policy, &request, 0);
	CU_ASSERT_TRUE(
		policy_retry(policy, &request, POLICY_FAIL_TRANSIENT, 0, 0));
	CU_ASSERT_EQUAL(budget(policy), 16);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 30 * RIG_S), &request);
	(void)throttle(policy, &request, 30 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 11);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 60 * RIG_S), &request);
	CU_ASSERT_TRUE(policy_retry(
		policy, &request, POLICY_FAIL_LOST, 0, 60 * RIG_S));
	CU_ASSERT_EQUAL(budget(policy), 11);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 90 * RIG_S), &request);
	rig_done(policy, &request, 90 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 12);
	rig_run(policy, &request, 91 * RIG_S);
	CU_ASSERT_FALSE(policy_retry(
		policy, &request, POLICY_FAIL_LOST, 0, 91 * RIG_S));
	rig_done(policy, &request, 91 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 12);
	rig_run(policy, &request, 92 * RIG_S);
	rig_done(policy, &request, 92 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 13);
	rig_run(policy, &request, 93 * RIG_S);
	policy_finish(policy, &request, POLICY_LOST, NULL, 93 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 13);
	rig_run(policy, &request, 94 * RIG_S);
	(void)throttle(policy, &request, 94 * RIG_S);
	CU_ASSERT_EQUAL(budget(policy), 8);
	policy_remove(policy, &request);
	policy_free(policy);
}

/* A retry is the first of its user's queue when its backoff is over, and until
 * then nobody waits for it. */
static void a_retry_goes_to_the_head(void)
{
	struct policy *policy = create(7);
	struct policy_request first = rig_request("u"),
			      second = rig_request("u"),
			      third = rig_request("u");

	rig_run(policy, &first, 0);
	CU_ASSERT_TRUE(policy_retry(
		policy, &first, POLICY_FAIL_TRANSIENT, 10 * RIG_S, 0));
	CU_ASSERT_EQUAL(rig_lane(policy, "default", 0).backing_off, 1);
	CU_ASSERT_EQUAL(rig_host(policy, 0).queued, 1);
	rig_run(policy, &second, 1);
	rig_done(policy, &second, 2);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &second, 3), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &third, 3), POLICY_ACCEPTED);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &first);
	CU_ASSERT_EQUAL(first.attempts, 2);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &second);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 10 * RIG_S), &third);
	rig_done(policy, &first, 11 * RIG_S);
	rig_done(policy, &second, 11 * RIG_S);
	rig_done(policy, &third, 11 * RIG_S);
	policy_free(policy);
}

/* However often it is tried, fairness charges a request once. */
static void fairness_charges_a_request_once(void)
{
	struct policy *policy = create(7);
	struct policy_request request = rig_request("u");

	rig_run(policy, &request, 0);
	CU_ASSERT_EQUAL(rig_user(policy, "u").service, 10);
	for (uint64_t i = 1; i < 5; i++) {
		CU_ASSERT_TRUE(policy_retry(policy, &request,
			i % 2 ? POLICY_FAIL_LOST : POLICY_FAIL_THROTTLE, 0,
			i * 30 * RIG_S));
		CU_ASSERT_PTR_EQUAL(
			rig_admit(policy, (i + 1) * 30 * RIG_S), &request);
		policy_started(policy, &request, (i + 1) * 30 * RIG_S);
	}
	CU_ASSERT_EQUAL(rig_user(policy, "u").service, 10);
	rig_done(policy, &request, 150 * RIG_S);
	CU_ASSERT_EQUAL(rig_user(policy, "u").service, 10);
	policy_free(policy);
}

/* A failed attempt keeps its place in the window if it was made; its tokens
 * come back, but not those of an ambiguous one. */
static void what_a_failed_attempt_keeps(void)
{
	static const struct {
		enum policy_failure failure;
		bool is_started;
		uint32_t starts;
		int64_t tokens;
	} cases[] = {
		{POLICY_FAIL_THROTTLE, true, 1, 100},
		{POLICY_FAIL_TRANSIENT, true, 1, 100},
		{POLICY_FAIL_LOST, true, 1, 90},
		{POLICY_FAIL_TRANSIENT, false, 0, 100},
		{POLICY_FAIL_LOST, false, 0, 100},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_model model = {
			.pattern = "m", .tokens_per_minute = 100};
		struct policy_config config = rig_config();
		struct policy_request request = rig_request("u");
		struct policy_lane_view lane;
		struct policy *policy;

		config.models = &model;
		config.n_models = 1;
		policy = rig_create(&config);
		CU_ASSERT_EQUAL(
			rig_enqueue(policy, &request, 0), POLICY_ACCEPTED);
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &request);
		if (cases[i].is_started)
			policy_started(policy, &request, 0);
		CU_ASSERT_TRUE(
			policy_retry(policy, &request, cases[i].failure, 0, 0));
		lane = rig_lane(policy, "m", 0);
		CU_ASSERT_EQUAL(lane.starts, cases[i].starts);
		CU_ASSERT_EQUAL(lane.tokens_available, cases[i].tokens);
		CU_ASSERT_EQUAL(lane.running, 0);
		CU_ASSERT_EQUAL(rig_host(policy, 0).running, 0);
		policy_remove(policy, &request);
		CU_ASSERT_EQUAL(rig_host(policy, 0).queued, 0);
		policy_free(policy);
	}
}

/* A request that backs off expires and is removed like any other. */
static void backing_off_can_end(void)
{
	struct policy *policy = create(7);
	struct policy_request one = rig_request("u"), two = rig_request("u");
	uint64_t next_ns;

	one.deadline_ns = 60 * RIG_S;
	rig_run(policy, &one, 0);
	rig_run(policy, &two, 0);
	CU_ASSERT_TRUE(policy_retry(
		policy, &one, POLICY_FAIL_TRANSIENT, 59 * RIG_S, 0));
	CU_ASSERT_TRUE(policy_retry(
		policy, &two, POLICY_FAIL_TRANSIENT, 59 * RIG_S, 0));
	policy_remove(policy, &two);
	CU_ASSERT_PTR_EQUAL(policy_expire(policy, 60 * RIG_S, &next_ns), &one);
	CU_ASSERT_EQUAL(rig_lane(policy, "default", 0).backing_off, 0);
	CU_ASSERT_EQUAL(rig_next(policy, 60 * RIG_S), RIG_NEVER);
	policy_free(policy);
}

/* ------------------------------------------------------------ the gate */

static char names[TEN][16];

/* Ten users, each with one request in flight at time 0. */
static void run_ten(struct policy *policy, struct policy_request *requests)
{
	for (int i = 0; i < TEN; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "u%d", i);
		requests[i] = rig_request(names[i]);
		rig_run(policy, &requests[i], 0);
	}
}

static void drop_ten(
	struct policy *policy, struct policy_request *requests, uint64_t now_ns)
{
	for (int i = 0; i < TEN; i++)
		rig_drop(policy, &requests[i], now_ns);
	policy_free(policy);
}

/* Ten throttled users cause one closing and one probe, not ten retries; when
 * the probe is answered all go. */
static void ten_throttled_users_cause_one_probe(void)
{
	struct policy *policy = create(7);
	struct policy_request requests[TEN], *probe;
	uint64_t until_ns;
	int n = 0;

	run_ten(policy, requests);
	until_ns = throttle(policy, &requests[0], RIG_S);
	CU_ASSERT(until_ns > RIG_S && until_ns <= 2 * RIG_S);
	for (int i = 1; i < TEN; i++)
		CU_ASSERT_EQUAL(
			throttle(policy, &requests[i], RIG_S), until_ns);
	CU_ASSERT_PTR_NULL(rig_admit(policy, until_ns - 1));
	probe = rig_admit(policy, 10 * RIG_S);
	CU_ASSERT_PTR_NOT_NULL_FATAL(probe);
	CU_ASSERT_EQUAL(rig_next(policy, 10 * RIG_S), RIG_NEVER);
	policy_started(policy, probe, 10 * RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, 10 * RIG_S), 12 * RIG_S);
	rig_done(policy, probe, 11 * RIG_S);
	CU_ASSERT_EQUAL(
		rig_lane(policy, "default", 11 * RIG_S).gate_closings, 1);
	CU_ASSERT_EQUAL(rig_lane(policy, "default", 11 * RIG_S).gate_probes, 1);
	while (rig_admit(policy, 11 * RIG_S) != NULL)
		n++;
	CU_ASSERT_EQUAL(n, TEN - 1);
	drop_ten(policy, requests, 11 * RIG_S);
}

/* A probe that runs for probe_ok_after from its real start opens the gate: a
 * call may take minutes.  One that is still connecting does not. */
static void a_long_probe_opens_the_gate(void)
{
	struct policy *policy = create(7);
	struct policy_request requests[TEN], *probe;

	run_ten(policy, requests);
	for (int i = 0; i < TEN; i++)
		(void)throttle(policy, &requests[i], 0);
	probe = rig_admit(policy, 30 * RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, 40 * RIG_S), RIG_NEVER);
	policy_started(policy, probe, 40 * RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, 42 * RIG_S - 1), 42 * RIG_S);
	CU_ASSERT_PTR_NOT_NULL(rig_admit(policy, 42 * RIG_S));
	CU_ASSERT_TRUE(is_open(policy));
	CU_ASSERT_PTR_NOT_NULL(rig_admit(policy, 42 * RIG_S));
	/* If it is throttled after all, it has a say like any other. */
	(void)throttle(policy, probe, 43 * RIG_S);
	CU_ASSERT_FALSE(is_open(policy));
	drop_ten(policy, requests, 43 * RIG_S);
}

/* A throttled probe closes the gate again, for longer in the mean each time,
 * though every probe is another request. */
static void throttled_probes_back_off_further(void)
{
	enum { TRACES = 60, ROUNDS = 5 };
	double mean[ROUNDS] = {0};

	for (uint64_t seed = 0; seed < TRACES; seed++) {
		struct policy *policy = create(seed);
		struct policy_request requests[TEN], *probe;
		uint64_t now_ns = 0;

		run_ten(policy, requests);
		for (int i = 1; i < TEN; i++)
			rig_done(policy, &requests[i], 0);
		for (int i = 1; i < TEN; i++)
			CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], 0),
				POLICY_ACCEPTED);
		while (rig_admit(policy, 0) != NULL)
			;
		probe = &requests[0];
		for (int n = 0; n < ROUNDS; n++) {
			mean[n] += (double)(throttle(policy, probe, now_ns) -
					    now_ns) /
				   1e9 / TRACES;
			policy_remove(policy, probe);
			CU_ASSERT_EQUAL(rig_enqueue(policy, probe, now_ns),
				POLICY_ACCEPTED);
			now_ns += 30 * RIG_S;
			probe = rig_admit(policy, now_ns);
			CU_ASSERT_PTR_NOT_NULL_FATAL(probe);
		}
		drop_ten(policy, requests, now_ns);
	}
	for (int n = 0; n < ROUNDS; n++) {
		double expected = n < 4 ? (1 << n) / 2.0 : 16 / 2.0;

		CU_ASSERT(mean[n] > 0.7 * expected);
		CU_ASSERT(mean[n] < 1.3 * expected);
	}
}

/* What was admitted before the gate closed neither opens it nor closes it
 * again, also when it ends after the gate has opened. */
static void old_results_have_no_say(void)
{
	struct policy *policy = create(7);
	struct policy_request requests[TEN], *probe;
	uint64_t until_ns;

	run_ten(policy, requests);
	until_ns = throttle(policy, &requests[0], 0);
	rig_done(policy, &requests[1], 1);
	CU_ASSERT_FALSE(is_open(policy));
	policy_finish(policy, &requests[2], POLICY_THROTTLED, NULL, 2);
	CU_ASSERT_EQUAL(throttle(policy, &requests[3], until_ns), until_ns);
	probe = rig_admit(policy, 30 * RIG_S);
	CU_ASSERT_PTR_NOT_NULL_FATAL(probe);
	rig_done(policy, &requests[4], 31 * RIG_S);
	CU_ASSERT_FALSE(is_open(policy));
	CU_ASSERT_EQUAL(rig_next(policy, 31 * RIG_S), RIG_NEVER);
	rig_done(policy, probe, 32 * RIG_S);
	CU_ASSERT_TRUE(is_open(policy));
	CU_ASSERT_TRUE(policy_retry(
		policy, &requests[5], POLICY_FAIL_THROTTLE, 0, 33 * RIG_S));
	CU_ASSERT_TRUE(is_open(policy));
	drop_ten(policy, requests, 33 * RIG_S);
}

/* A probe that tells nothing hands its part to the next, at once. */
static void a_lost_probe_passes_on(void)
{
	static const enum policy_outcome outcomes[] = {
		POLICY_LOST, POLICY_UNUSED};

	for (int way = 0; way < 2; way++) {
		struct policy *policy = create(7);
		struct policy_request requests[TEN], *probe, *next;

		run_ten(policy, requests);
		for (int i = 0; i < TEN; i++)
			(void)throttle(policy, &requests[i], 0);
		probe = rig_admit(policy, 30 * RIG_S);
		CU_ASSERT_PTR_NOT_NULL_FATAL(probe);
		policy_finish(policy, probe, outcomes[way], NULL, 31 * RIG_S);
		CU_ASSERT_FALSE(is_open(policy));
		next = rig_admit(policy, 31 * RIG_S);
		CU_ASSERT_PTR_NOT_NULL(next);
		CU_ASSERT_PTR_NOT_EQUAL(next, probe);
		CU_ASSERT_PTR_NULL(rig_admit(policy, 31 * RIG_S));
		drop_ten(policy, requests, 31 * RIG_S);
	}
}

/* A probe that fails closes the gate again, longer each time, and nobody passes
 * meanwhile. */
static void a_failed_probe_closes_again(void)
{
	struct policy *policy = create(7);
	struct policy_request requests[TEN], *probe;
	uint64_t now_ns = 30 * RIG_S;

	run_ten(policy, requests);
	for (int i = 0; i < TEN; i++)
		(void)throttle(policy, &requests[i], 0);
	for (int n = 0; n < 50; n++, now_ns += 30 * RIG_S) {
		probe = rig_admit(policy, now_ns);
		CU_ASSERT_PTR_NOT_NULL_FATAL(probe);
		policy_started(policy, probe, now_ns);
		CU_ASSERT_TRUE(policy_retry(policy, probe,
			POLICY_FAIL_TRANSIENT, 10 * RIG_S, now_ns));
		CU_ASSERT(opens_ns(policy) >= now_ns + 10 * RIG_S);
		CU_ASSERT_PTR_NULL(rig_admit(policy, now_ns + 10 * RIG_S - 1));
	}
	drop_ten(policy, requests, now_ns);
}

/* One request alone, and ten at once: an outage of a minute fails nobody, also
 * with few attempts, a small budget and the shortest backoff; the probes are
 * few. */
static void an_outage_fails_nobody(void)
{
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct policy_config config = rig_config();
		struct policy_request requests[TEN], *next;
		struct policy *policy;
		uint64_t now_ns = 0, next_ns;
		int n = seed % 2 ? TEN : 1, done = 0, tries = 0;

		config.seed = seed;
		config.max_attempts = seed % 3 ? 3 : 2;
		config.retry_budget = 30;
		policy = rig_create(&config);
		for (int i = 0; i < n; i++) {
			(void)snprintf(names[i], sizeof(names[i]), "u%d", i);
			requests[i] = rig_request(names[i]);
			CU_ASSERT_EQUAL(rig_enqueue(policy, &requests[i], 0),
				POLICY_ACCEPTED);
		}
		while (done < n) {
			struct policy_request *out[TEN];
			int n_out = 0;

			while ((next = policy_admit(
					policy, now_ns, &next_ns)) != NULL) {
				policy_started(policy, next, now_ns);
				out[n_out++] = next;
			}
			for (int i = 0; i < n_out; i++) {
				if (now_ns >= 60 * RIG_S) {
					rig_done(policy, out[i], now_ns);
					done++;
					continue;
				}
				tries++;
				CU_ASSERT_TRUE_FATAL(policy_retry(policy,
					out[i], POLICY_FAIL_TRANSIENT, 0,
					now_ns + RIG_MS));
			}
			if (n_out == 0)
				now_ns = next_ns;
			else
				now_ns += RIG_MS;
			CU_ASSERT_FATAL(now_ns < 120 * RIG_S);
		}
		CU_ASSERT(tries < n + 40);
		CU_ASSERT_TRUE(is_open(policy));
		policy_free(policy);
	}
}

/* A failure with answers in between is the request's own: it counts, and the
 * gate stays open. */
static void a_single_failure_is_its_own(void)
{
	struct policy_config config = rig_config();
	struct policy_request bad = rig_request("u"), good = rig_request("v");
	struct policy *policy = rig_create(&config);

	rig_run(policy, &bad, 0);
	for (uint64_t n = 1; n <= 3; n++) {
		CU_ASSERT_EQUAL(policy_retry(policy, &bad,
					POLICY_FAIL_TRANSIENT, 0, n * RIG_S),
			n < 3);
		CU_ASSERT_TRUE(is_open(policy));
		rig_run(policy, &good, n * RIG_S);
		rig_done(policy, &good, n * RIG_S);
		if (n < 3)
			CU_ASSERT_PTR_EQUAL(
				rig_admit(policy, (n + 1) * RIG_S), &bad);
	}
	rig_done(policy, &bad, 4 * RIG_S);
	policy_free(policy);
}

/* Runs, fails so, and is at work again or given up. */
static bool fails(struct policy *policy, struct policy_request *request,
	enum policy_failure kind, uint64_t *now_ns)
{
	bool is_retried;

	if (request->state == POLICY_NEW)
		rig_run(policy, request, *now_ns);
	is_retried = policy_retry(policy, request, kind, 0, *now_ns);
	*now_ns += 30 * RIG_S;
	if (is_retried) {
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, *now_ns), request);
	} else {
		rig_done(policy, request, *now_ns);
	}
	return is_retried;
}

/* A 500 counts, alone and as a probe, and holds nobody else. */
static void an_error_is_given_up(void)
{
	struct policy_config config = rig_config();
	struct policy_request ill = rig_request("u"), other = rig_request("v");
	struct policy *policy = rig_create(&config);
	uint64_t now_ns = 0;

	for (int n = 1; n <= 12; n++) {
		CU_ASSERT_EQUAL(fails(policy, &ill, POLICY_FAIL_ERROR, &now_ns),
			n % 3 != 0);
		CU_ASSERT_TRUE(is_open(policy));
	}
	CU_ASSERT_TRUE(fails(policy, &ill, POLICY_FAIL_THROTTLE, &now_ns));
	CU_ASSERT_EQUAL(rig_enqueue(policy, &other, now_ns), POLICY_ACCEPTED);
	CU_ASSERT_PTR_NULL(rig_admit(policy, now_ns)); /* the probe is out */
	CU_ASSERT_TRUE(
		policy_retry(policy, &ill, POLICY_FAIL_ERROR, RIG_S, now_ns));
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, now_ns), &other);
	rig_done(policy, &other, now_ns);
	CU_ASSERT_TRUE(is_open(policy));
	rig_drop(policy, &ill, now_ns);
	policy_free(policy);
}

/* In the default lane, where another model id was answered last: one id's
 * failures count and close nothing, those of two do; one that is alone closes
 * it, and so does any in a lane of its own. */
static void one_id_is_no_outage_of_others(void)
{
	for (int with = 0; with < 4; with++) {
		struct policy_model block = {.pattern = "m"};
		struct policy_config config = rig_config();
		struct policy_request ill = rig_request("u"),
				      well = rig_request("v");
		struct policy *policy;
		uint64_t now_ns = 0;
		int tries = 0;

		config.models = &block;
		config.n_models = with == 3;
		policy = rig_create(&config);
		well.model_id = with == 1 ? "m" : "n";
		rig_run(policy, &well, 0);
		rig_done(policy, &well, 0);
		if (with == 2)
			(void)fails(
				policy, &well, POLICY_FAIL_TRANSIENT, &now_ns);
		while (tries < 20 &&
			fails(policy, &ill, POLICY_FAIL_TRANSIENT, &now_ns))
			tries++;
		CU_ASSERT_EQUAL(tries, with == 0 ? 2 : 20);
		rig_drop(policy, &ill, now_ns);
		rig_drop(policy, &well, now_ns);
		policy_free(policy);
	}
}

/* However often it is throttled, a request that can wait does not fail. */
static void throttles_use_up_no_attempts(void)
{
	struct policy_config config = rig_config();
	struct policy_request request = rig_request("u");
	struct policy *policy;
	uint64_t now_ns = 0;

	policy = rig_create(&config);
	rig_run(policy, &request, 0);
	for (int n = 0; n < 50; n++) {
		(void)throttle(policy, &request, now_ns);
		now_ns += 30 * RIG_S;
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, now_ns), &request);
	}
	CU_ASSERT_EQUAL(budget(policy), 495);
	rig_done(policy, &request, now_ns);
	policy_free(policy);
}

/* A throttle reported by a permit closes the gate for all. */
static void a_permit_closes_the_gate(void)
{
	struct policy *policy = create(7);
	struct policy_request permit = rig_request("p"),
			      call = rig_request("u");

	permit.is_permit = true;
	rig_run(policy, &permit, 0);
	policy_finish(policy, &permit, POLICY_THROTTLED, NULL, 0);
	CU_ASSERT_FALSE(is_open(policy));
	CU_ASSERT_EQUAL(rig_enqueue(policy, &call, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_next(policy, 0), opens_ns(policy));
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, RIG_S), &call);
	rig_done(policy, &call, RIG_S);
	CU_ASSERT_TRUE(is_open(policy));
	policy_free(policy);
}

/* One lane's gate is not another's. */
static void gates_are_per_lane(void)
{
	struct policy_model model = {.pattern = "m-*"};
	struct policy_config config = rig_config();
	struct policy_request one = rig_request("u"), two = rig_request("u");
	struct policy *policy;

	config.models = &model;
	config.n_models = 1;
	policy = rig_create(&config);
	one.model_id = "m-1";
	two.model_id = "m-2";
	rig_run(policy, &one, 0);
	CU_ASSERT_TRUE(
		policy_retry(policy, &one, POLICY_FAIL_THROTTLE, RIG_S, 0));
	rig_run(policy, &two, 0);
	CU_ASSERT_FALSE(rig_lane(policy, "m-1", 0).gate_open);
	CU_ASSERT_TRUE(rig_lane(policy, "m-2", 0).gate_open);
	policy_remove(policy, &one);
	rig_done(policy, &two, 0);
	policy_free(policy);
}

/* A lane closed for the day refuses who cannot wait, keeps who can, and starts
 * again with one probe. */
static void a_closed_day_refuses(void)
{
	struct policy *policy = create(7);
	struct policy_request running = rig_request("u"),
			      early = rig_request("u"), late = rig_request("u"),
			      later = rig_request("v");
	uint64_t retry_after_ns;

	rig_run(policy, &running, 0);
	policy_close_lane(policy, running.lane, 500 * RIG_S);
	early.deadline_ns = 500 * RIG_S;
	late.deadline_ns = later.deadline_ns = 900 * RIG_S;
	CU_ASSERT_EQUAL(
		policy_enqueue(policy, &early, 100 * RIG_S, &retry_after_ns),
		POLICY_LANE_CLOSED);
	CU_ASSERT_EQUAL(retry_after_ns, 400 * RIG_S);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &late, 100 * RIG_S), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(
		rig_enqueue(policy, &later, 100 * RIG_S), POLICY_ACCEPTED);
	rig_done(policy, &running, 101 * RIG_S);
	CU_ASSERT_EQUAL(rig_next(policy, 102 * RIG_S), 500 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 500 * RIG_S), &late);
	CU_ASSERT_EQUAL(rig_next(policy, 500 * RIG_S), RIG_NEVER);
	rig_done(policy, &late, 501 * RIG_S);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 501 * RIG_S), &later);
	rig_done(policy, &later, 501 * RIG_S);
	policy_free(policy);
}

/* ------------------------------------------------------------ fallback */

static const char *const chain[] = {"us.anthropic.b", "amazon.nova-pro",
	"anthropic.a", "anthropic.b", "us.anthropic.b", "anthropic.c"};

static struct policy *create_chain(uint32_t retry_budget)
{
	struct policy_model models[] = {
		{.pattern = "anthropic.a",
			.fallback = chain,
			.n_fallback = sizeof(chain) / sizeof(chain[0])},
		{.pattern = "*", .tokens_per_minute = 100},
	};
	struct policy_config config = rig_config();

	config.models = models;
	config.n_models = 2;
	config.retry_budget = retry_budget;
	return rig_create(&config);
}

/* The chain of the model first asked for, each once and of its family; or of
 * all families where the body suits them. */
static void a_chain_does_not_loop(void)
{
	static const char *const expected[2][5] = {
		{"us.anthropic.b", "anthropic.b", "anthropic.c"},
		{"us.anthropic.b", "amazon.nova-pro", "anthropic.b",
			"anthropic.c"}};
	struct policy *policy = create_chain(500);

	for (int all = 0; all < 2; all++) {
		struct policy_request request = rig_request("u");
		const char *next;
		int n = 0;

		request.model_id = "anthropic.a";
		request.suits_all = all;
		while ((next = policy_next_model(policy, &request)) != NULL) {
			CU_ASSERT_STRING_EQUAL_FATAL(next, expected[all][n++]);
			request.model_id = next;
		}
		CU_ASSERT_EQUAL(n, 3 + all);
		request = rig_request("u");
		request.model_id = "anthropic.z"; /* has no chain */
		CU_ASSERT_PTR_NULL(policy_next_model(policy, &request));
	}
	policy_free(policy);
}

/* Given up here, it goes on there: at once, as the first of its user, charged
 * once; the lane that it leaves is paid. */
static void a_request_is_diverted(void)
{
	struct policy *policy = create_chain(17);
	struct policy_request request = rig_request("u"),
			      other = rig_request("u");
	uint64_t now_ns = 0;
	const char *next;

	request.model_id = "anthropic.a";
	other.model_id = "us.anthropic.b";
	rig_run(policy, &request, 0);
	/* With another model to go to throttles count. */
	for (int n = 0; n < 2; n++) {
		CU_ASSERT_TRUE(policy_retry(
			policy, &request, POLICY_FAIL_THROTTLE, 0, now_ns));
		now_ns += 30 * RIG_S;
		CU_ASSERT_PTR_EQUAL(rig_admit(policy, now_ns), &request);
		policy_started(policy, &request, now_ns);
	}
	CU_ASSERT_FALSE(policy_retry(
		policy, &request, POLICY_FAIL_THROTTLE, 0, now_ns));
	CU_ASSERT_EQUAL(rig_enqueue(policy, &other, now_ns), POLICY_ACCEPTED);
	next = policy_next_model(policy, &request);
	CU_ASSERT_FALSE(policy_divert(
		policy, &request, next, POLICY_FAIL_TRANSIENT, now_ns));
	CU_ASSERT_STRING_EQUAL(request.model_id, "anthropic.a");
	CU_ASSERT_EQUAL(request.state, POLICY_RUNNING);
	CU_ASSERT_TRUE(policy_divert(
		policy, &request, next, POLICY_FAIL_THROTTLE, now_ns));
	CU_ASSERT_STRING_EQUAL(request.model_id, "us.anthropic.b");
	CU_ASSERT_EQUAL(rig_lane(policy, "anthropic.a", now_ns).diverted, 1);
	CU_ASSERT_EQUAL(rig_lane(policy, "anthropic.a", now_ns).running, 0);
	CU_ASSERT_EQUAL(
		rig_lane(policy, "anthropic.a", now_ns).retry_budget_left, 7);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, now_ns), &request);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, now_ns), &other);
	CU_ASSERT_EQUAL(request.attempts, 4);
	CU_ASSERT_EQUAL(
		rig_lane(policy, "us.anthropic.b", now_ns).tokens_reserved, 20);
	rig_done(policy, &request, now_ns);
	rig_done(policy, &other, now_ns);
	CU_ASSERT_EQUAL(rig_user(policy, "u").service, 20);
	CU_ASSERT_EQUAL(rig_host(policy, now_ns).running, 0);
	policy_free(policy);
}

/* A lane that would refuse it does not get it. */
static void who_is_unwelcome_is_not_diverted(void)
{
	struct policy *policy = create_chain(500);
	struct policy_request request = rig_request("u"),
			      day = rig_request("v");

	request.model_id = "anthropic.a";
	request.input_tokens = 101;
	rig_run(policy, &request, 0);
	CU_ASSERT_FALSE(policy_divert(
		policy, &request, "us.anthropic.b", POLICY_FAIL_THROTTLE, 0));
	rig_done(policy, &request, 0);
	request.input_tokens = 10;
	day.model_id = "us.anthropic.b";
	rig_run(policy, &day, 0);
	policy_close_lane(policy, day.lane, 4000 * RIG_S);
	rig_done(policy, &day, 0);
	rig_run(policy, &request, 0);
	CU_ASSERT_FALSE(policy_divert(
		policy, &request, "us.anthropic.b", POLICY_FAIL_THROTTLE, 0));
	CU_ASSERT_TRUE(policy_divert(
		policy, &request, "anthropic.b", POLICY_FAIL_THROTTLE, 0));
	policy_remove(policy, &request);
	policy_free(policy);
}

/* Refused by its first lane, it is asked for in the next one of its chain: only
 * the last word is a refusal of its user. */
static void who_goes_elsewhere_is_not_refused(void)
{
	struct policy *policy = create_chain(500);
	struct policy_request request = rig_request("u");
	const char *next;

	request.model_id = "us.anthropic.b";
	request.input_tokens = 101;
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 0), POLICY_TOO_LARGE);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	request.model_id = "anthropic.a";
	rig_run(policy, &request, 0);
	policy_close_lane(policy, request.lane, 4000 * RIG_S);
	rig_done(policy, &request, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 0), POLICY_LANE_CLOSED);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	next = policy_next_model(policy, &request);
	CU_ASSERT_STRING_EQUAL(next, "us.anthropic.b");
	request.model_id = next;
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 0), POLICY_TOO_LARGE);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	request.model_id = policy_next_model(policy, &request);
	request.input_tokens = 10;
	CU_ASSERT_EQUAL(rig_enqueue(policy, &request, 0), POLICY_ACCEPTED);
	policy_remove(policy, &request);
	CU_ASSERT_EQUAL(rig_user(policy, "u").refused, 1);
	policy_free(policy);
}

/* The daily quota is used up: of those that wait in the lane, queued or backing
 * off, who is due before it opens is told of; one goes to another model. */
static void who_waits_for_a_closed_day_is_doomed(void)
{
	struct policy *policy = create_chain(500);
	struct policy_request first = rig_request("u"),
			      second = rig_request("u"),
			      late = rig_request("v"), other = rig_request("v");
	struct policy_request **doomed;
	size_t n;

	first.model_id = second.model_id = late.model_id = "anthropic.a";
	other.model_id = "anthropic.z";
	second.input_tokens = 101;
	late.deadline_ns = 5000 * RIG_S;
	rig_run(policy, &first, 0);
	CU_ASSERT_PTR_NULL(policy_doomed(first.lane, &n));
	(void)throttle(policy, &first, 0);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &second, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &late, 0), POLICY_ACCEPTED);
	CU_ASSERT_EQUAL(rig_enqueue(policy, &other, 0), POLICY_ACCEPTED);
	policy_close_lane(policy, first.lane, 4000 * RIG_S);
	doomed = policy_doomed(first.lane, &n);
	CU_ASSERT_EQUAL_FATAL(n, 2);
	CU_ASSERT_PTR_EQUAL(doomed[0], &second);
	CU_ASSERT_PTR_EQUAL(doomed[1], &first);
	free(doomed);
	CU_ASSERT_FALSE(policy_divert(
		policy, &second, "anthropic.b", POLICY_FAIL_THROTTLE, 0));
	policy_remove(policy, &second);
	CU_ASSERT_TRUE(policy_divert(
		policy, &first, "anthropic.b", POLICY_FAIL_THROTTLE, 0));
	CU_ASSERT_EQUAL(
		rig_lane(policy, "anthropic.a", 0).retry_budget_left, 495);
	CU_ASSERT_EQUAL(rig_lane(policy, "anthropic.a", 0).backing_off, 0);
	CU_ASSERT_EQUAL(rig_lane(policy, "anthropic.a", 0).queued, 1);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &other);
	CU_ASSERT_PTR_EQUAL(rig_admit(policy, 0), &first);
	CU_ASSERT_STRING_EQUAL(policy_lane_name(first.lane), "anthropic.b");
	rig_done(policy, &first, 0);
	rig_done(policy, &other, 0);
	policy_remove(policy, &late);
	CU_ASSERT_EQUAL(rig_host(policy, 0).queued, 0);
	policy_free(policy);
}

SUITE("policy_retry", T(backoff_is_full_jitter), T(the_seed_decides),
	T(a_hint_is_a_floor), T(some_are_not_retried),
	T(the_budget_pays_for_retries), T(a_retry_goes_to_the_head),
	T(fairness_charges_a_request_once), T(what_a_failed_attempt_keeps),
	T(backing_off_can_end), T(ten_throttled_users_cause_one_probe),
	T(a_long_probe_opens_the_gate), T(throttled_probes_back_off_further),
	T(old_results_have_no_say), T(a_lost_probe_passes_on),
	T(a_failed_probe_closes_again), T(an_outage_fails_nobody),
	T(a_single_failure_is_its_own), T(an_error_is_given_up),
	T(one_id_is_no_outage_of_others), T(who_goes_elsewhere_is_not_refused),
	T(throttles_use_up_no_attempts), T(a_chain_does_not_loop),
	T(a_request_is_diverted), T(who_is_unwelcome_is_not_diverted),
	T(a_permit_closes_the_gate), T(who_waits_for_a_closed_day_is_doomed),
	T(gates_are_per_lane), T(a_closed_day_refuses))
