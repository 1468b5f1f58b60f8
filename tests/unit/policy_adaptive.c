/*
 * A lane that finds the provider's quota.  The provider is a model: an exact
 * sliding window of accepted starts or tokens, like bedrock-sim's, whose quota
 * changes while it runs, that throttles at random, or is away.
 */
#include "tests/unit/policy_rig.h"

enum { CALLS = 64, SEEN = 300000 };

struct provider {
	uint64_t seed, span_ns;
	uint32_t random; /* of 1000, throttled for no reason */
	uint64_t quota;  /* starts, or tokens, in one span; 0: none */
	bool is_tokens, is_away;
	struct {
		uint64_t at_ns, amount;
	} accepted[SEEN];
	size_t first, n;
	uint64_t in_window, throttled;
	uint64_t last_throttled_ns;
};

/* One of the calls that are always wanted. */
struct call {
	struct policy_request request;
	uint64_t ends_ns; /* out until then */
	size_t place;     /* among those accepted */
	enum { IDLE, OUT_OK, OUT_REFUSED, OUT_AWAY } state;
	char user[8];
};

struct world {
	struct policy *policy;
	struct provider provider;
	struct call calls[CALLS];
	int n_calls;
	uint64_t now_ns, least_ns, most_ns; /* how long a call takes */
	uint64_t failed, answered, probes, closings;
	uint64_t opens_ns, tokens;
	uint32_t least_allowed;
};

static void slide(struct provider *provider, uint64_t now_ns)
{
	while (provider->first < provider->n &&
		provider->accepted[provider->first].at_ns + provider->span_ns <=
			now_ns)
		provider->in_window -=
			provider->accepted[provider->first++].amount;
}

static bool accepts(struct provider *provider, uint64_t amount, uint64_t now_ns)
{
	bool is_full;

	slide(provider, now_ns);
	is_full = provider->quota != 0 &&
		  provider->in_window + amount > provider->quota;
	if (is_full || rig_random(&provider->seed, 1000) < provider->random) {
		provider->throttled++;
		provider->last_throttled_ns = now_ns;
		return false;
	}
	CU_ASSERT_FATAL(provider->n < SEEN);
	provider->accepted[provider->n].at_ns = now_ns;
	provider->accepted[provider->n++].amount = amount;
	provider->in_window += amount;
	return true;
}

static uint64_t between(struct world *world, uint64_t least, uint64_t most)
{
	return least + rig_random(&world->provider.seed, 1000000) *
			       (most - least) / 1000000;
}

static void send_call(struct world *world, struct call *call)
{
	struct provider *provider = &world->provider;
	uint64_t amount = provider->is_tokens ? call->request.input_tokens : 1;

	policy_started(world->policy, &call->request, world->now_ns);
	call->ends_ns = world->now_ns + 5 * RIG_MS;
	if (provider->is_away) {
		call->state = OUT_AWAY;
	} else if (accepts(provider, amount, world->now_ns)) {
		call->state = OUT_OK;
		call->place = provider->n - 1;
		call->ends_ns = world->now_ns +
				between(world, world->least_ns, world->most_ns);
	} else {
		call->state = OUT_REFUSED;
	}
}

static void end_call(struct world *world, struct call *call)
{
	static const enum policy_failure failures[] = {
		[OUT_REFUSED] = POLICY_FAIL_THROTTLE,
		[OUT_AWAY] = POLICY_FAIL_TRANSIENT};
	int state = (int)call->state;

	call->state = IDLE;
	if (state == OUT_OK) {
		world->answered++;
		rig_done(world->policy, &call->request, world->now_ns);
		return;
	}
	if (policy_retry(world->policy, &call->request, failures[state], 0,
		    world->now_ns))
		return;
	world->failed++;
	policy_finish(world->policy, &call->request, POLICY_UNUSED, NULL,
		world->now_ns);
}

/* All that ends by now, and a new request for each that is idle. */
static uint64_t turn(struct world *world)
{
	uint64_t next_ns = RIG_NEVER;

	for (int i = 0; i < world->n_calls; i++) {
		struct call *call = &world->calls[i];

		if (call->state != IDLE && call->ends_ns <= world->now_ns)
			end_call(world, call);
		if (call->request.state == POLICY_NEW) {
			if (world->provider.is_tokens)
				call->request.input_tokens =
					between(world, world->tokens / 1000,
						world->tokens / 200);
			call->request.deadline_ns = world->now_ns + 600 * RIG_S;
			CU_ASSERT_EQUAL(rig_enqueue(world->policy,
						&call->request, world->now_ns),
				POLICY_ACCEPTED);
		}
		if (call->state != IDLE && call->ends_ns < next_ns)
			next_ns = call->ends_ns;
	}
	return next_ns;
}

static void look(struct world *world)
{
	struct policy_lane_view lane =
		rig_lane(world->policy, "m", world->now_ns);

	if (lane.gate_opens_ns != world->opens_ns && !lane.gate_open)
		world->closings++;
	world->opens_ns = lane.gate_opens_ns;
	if (lane.starts_allowed < world->least_allowed)
		world->least_allowed = lane.starts_allowed;
}

/* Until then. */
static void run(struct world *world, uint64_t until_ns)
{
	while (world->now_ns < until_ns) {
		uint64_t next_ns = turn(world), ask_ns;
		struct policy_request *request;

		while (policy_expire(world->policy, world->now_ns, &ask_ns))
			world->failed++;
		while ((request = policy_admit(world->policy, world->now_ns,
				&ask_ns)) != NULL) {
			struct call *call =
				(struct call *)(void *)((char *)request -
							offsetof(struct call,
								request));

			world->probes +=
				!rig_lane(world->policy, "m", world->now_ns)
					 .gate_open;
			send_call(world, call);
			if (call->ends_ns < next_ns)
				next_ns = call->ends_ns;
		}
		look(world);
		if (ask_ns < next_ns)
			next_ns = ask_ns;
		world->now_ns =
			next_ns > world->now_ns ? next_ns : world->now_ns + 1;
	}
}

static struct world *create(
	uint64_t seed, uint32_t starts, uint64_t tokens, int n_calls)
{
	static struct world world;
	struct policy_model model = {.pattern = "m",
		.requests_per_minute = starts,
		.tokens_per_minute = tokens};
	struct policy_config config = rig_config();

	memset(&world, 0, sizeof(world));
	config.models = &model;
	config.n_models = 1;
	config.adaptive = true;
	config.seed = seed;
	world.policy = rig_create(&config);
	world.provider.seed = seed;
	world.provider.span_ns = config.minute_ns;
	world.provider.is_tokens = tokens != 0;
	world.provider.quota = tokens != 0 ? tokens : starts;
	world.n_calls = n_calls;
	world.least_ns = 200 * RIG_MS;
	world.most_ns = 4 * RIG_S;
	world.tokens = tokens;
	world.least_allowed = UINT32_MAX;
	for (int i = 0; i < n_calls; i++) {
		(void)snprintf(world.calls[i].user, sizeof(world.calls[i].user),
			"u%d", i % 5);
		world.calls[i].request = rig_request(world.calls[i].user);
	}
	return &world;
}

static void destroy(struct world *world)
{
	for (int i = 0; i < world->n_calls; i++)
		rig_drop(
			world->policy, &world->calls[i].request, world->now_ns);
	policy_free(world->policy);
}

/* Tokens or starts accepted between two times, of what the quota allows. */
static double used_part(
	const struct provider *provider, uint64_t from_ns, uint64_t to_ns)
{
	double used = 0;

	for (size_t i = 0; i < provider->n; i++)
		if (provider->accepted[i].at_ns > from_ns &&
			provider->accepted[i].at_ns <= to_ns)
			used += (double)provider->accepted[i].amount;
	return used / (double)provider->quota /
	       ((double)(to_ns - from_ns) / (double)provider->span_ns);
}

#define MINUTE (60 * RIG_S)
/* With the guard; of tokens a 64th more. */
#define WINDOW(tokens) (61 * RIG_S * ((tokens) ? 65 : 64) / 64)

static const struct {
	uint32_t starts;
	uint64_t tokens;
	int n_calls;
} lanes[] = {{10, 0, 6}, {30, 0, 6}, {80, 0, 12}, {1000, 0, 60}, {0, 30000, 30},
	{0, 1000000, 60}};

enum { LANES = sizeof(lanes) / sizeof(lanes[0]), SEEDS = 25 };

/* The quota is cut in half: three throttles at most, then at least 95 % of the
 * new one is used; before it, none; and one probe for each closing. */
static void a_halved_quota_is_found(void)
{
	for (int l = 0; l < LANES; l++) {
		double least = 9;
		uint64_t most = 0, sum = 0, over = 0, late_ns = 0;

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct world *world = create(seed, lanes[l].starts,
				lanes[l].tokens, lanes[l].n_calls);
			struct provider *provider = &world->provider;
			double part;

			run(world, 5 * MINUTE + seed * RIG_S);
			uint64_t before = provider->throttled;
			uint64_t at_ns = world->now_ns;
			provider->quota /= 2;
			run(world, at_ns + 4 * MINUTE +
					   6 * WINDOW(lanes[l].tokens));
			uint64_t n = provider->throttled - before;
			part = used_part(provider, at_ns + 4 * MINUTE,
				at_ns + 4 * MINUTE +
					6 * WINDOW(lanes[l].tokens));
			if (getenv("V"))
				printf("# %d %d: before %d, %d throttles, last "
				       "%.1f, part %.4f probes %d closings %d "
				       "failed %d\n",
					l, (int)seed, (int)before, (int)n,
					(double)(provider->last_throttled_ns -
						 at_ns) /
						1e9,
					part, (int)world->probes,
					(int)world->closings,
					(int)world->failed);
			least = part < least ? part : least;
			most = n > most ? n : most;
			sum += n;
			over += n > 3;
			if (provider->last_throttled_ns - at_ns > late_ns)
				late_ns = provider->last_throttled_ns - at_ns;
			CU_ASSERT_EQUAL(world->failed, 0);
			CU_ASSERT(world->probes <= world->closings);
			destroy(world);
		}
		printf("# %u starts, %llu tokens: %.2f throttles, at most %llu "
		       "(%llu over 3), last %.0f s; least part %.4f\n",
			lanes[l].starts, (unsigned long long)lanes[l].tokens,
			(double)sum / SEEDS, (unsigned long long)most,
			(unsigned long long)over, (double)late_ns / 1e9, least);
		CU_ASSERT(least >= 0.95);
	}
}

/* One in twenty is throttled though no quota is reached: nobody fails, one
 * probe a closing, and most of the quota is used all the same. */
static void chance_does_not_stop_a_lane(void)
{
	for (int l = 0; l < LANES; l++) {
		double sum = 0, least = 9;

		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct world *world = create(seed, lanes[l].starts,
				lanes[l].tokens, lanes[l].n_calls);
			double part;

			world->provider.random = 50;
			run(world, 20 * MINUTE);
			part = used_part(&world->provider, 0, 20 * MINUTE);
			sum += part;
			least = part < least ? part : least;
			CU_ASSERT_EQUAL(world->failed, 0);
			CU_ASSERT(world->probes <= world->closings);
			destroy(world);
		}
		printf("# one in twenty, %u starts, %llu tokens: %.3f used, at "
		       "least %.3f\n",
			lanes[l].starts, (unsigned long long)lanes[l].tokens,
			sum / SEEDS, least);
		/* Where the probes take longer than it takes to be throttled
		 * again the gate is what holds the lane; but not to nothing. */
		if (lanes[l].starts == 1000 || lanes[l].tokens == 1000000) {
			CU_ASSERT(least > 0.08);
		} else {
			CU_ASSERT(sum / SEEDS >
				  (lanes[l].starts != 0 ? 0.85 : 0.6));
			CU_ASSERT(least > 0.2);
		}
	}
}

/* A minute without a provider: nobody fails, the probes are few, and it goes on
 * at the full rate. */
static void an_outage_costs_a_minute(void)
{
	for (int l = 0; l < LANES; l++) {
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct world *world = create(seed, lanes[l].starts,
				lanes[l].tokens, lanes[l].n_calls);
			uint64_t probes;

			run(world, 3 * MINUTE);
			world->provider.is_away = true;
			run(world, 4 * MINUTE);
			world->provider.is_away = false;
			probes = world->probes;
			run(world, 10 * MINUTE);
			CU_ASSERT_EQUAL(world->failed, 0);
			CU_ASSERT(probes < 40);
			CU_ASSERT_EQUAL(world->provider.throttled, 0);
			CU_ASSERT(used_part(&world->provider, 5 * MINUTE,
					  10 * MINUTE) > 0.9);
			destroy(world);
		}
	}
}

SUITE("policy_adaptive", T(a_halved_quota_is_found),
	T(chance_does_not_stop_a_lane), T(an_outage_costs_a_minute))
