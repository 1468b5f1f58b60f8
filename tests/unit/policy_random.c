/*
 * Random scenarios, judged by a naive book-keeper: it writes down every start,
 * counts by looking at everything, and shares no code with the policy.  One
 * seed is one scenario: SEED=n replays it alone.
 */
#include "tests/unit/policy_rig.h"

enum { SCENARIOS = 2000, STEPS = 220, REQUESTS = 40, LANES = 4, STARTS = 4096 };

static const char *const models[LANES] = {"m-a", "m-b", "m-c", "other"};
static const char *const lane_names[LANES] = {"m-a", "m-b", "m-c", "default"};
static const char *const users[] = {"u0", "u1", "u2", "u3", "u4", "u5"};
static const char *const apps[] = {"", "a1"};

struct entry {
	struct policy_request request; /* first: what admit returns is this */
	int lane, user, app;
	enum policy_class charged_class;
	uint64_t reserved;
	bool is_started;
};

struct start {
	uint64_t at_ns;
	int lane;
};

struct scene {
	uint64_t seed, random, now_ns;
	struct policy_config config;
	struct policy_model model;
	struct policy *policy;
	struct entry entries[REQUESTS];
	struct start starts[STARTS];
	size_t n_starts;
	double level[LANES]; /* of the token bucket */
	bool is_judged;      /* limits never changed, nothing restored */
	int faults;
};

#define JUDGE(scene, truth)                                                    \
	do {                                                                   \
		if (!(truth)) {                                                \
			CU_FAIL(#truth);                                       \
			printf("# SEED=%llu at %.3f s: %s\n",                  \
				(unsigned long long)(scene)->seed,             \
				(double)(scene)->now_ns / 1e9, #truth);        \
			(scene)->faults++;                                     \
		}                                                              \
	} while (0)

static uint32_t draw(struct scene *scene, uint32_t below)
{
	return rig_random(&scene->random, below);
}

/* 0 (no limit) half of the time. */
static uint32_t draw_limit(struct scene *scene, uint32_t most)
{
	return draw(scene, 2) ? 1 + draw(scene, most) : 0;
}

static uint64_t span(const struct scene *scene)
{
	return scene->config.minute_ns + scene->config.guard_ns;
}

static const struct policy_model *limits(const struct scene *scene, int lane)
{
	static const struct policy_model none;

	return lane < LANES - 1 ? &scene->model : &none;
}

static void draw_limits(struct scene *scene)
{
	scene->config.max_concurrent = draw_limit(scene, 6);
	scene->config.requests_per_minute = draw_limit(scene, 20);
	scene->config.max_requests_per_user = draw_limit(scene, 3);
	scene->config.batch_share = draw(scene, 3) / 2.0;
	scene->model.requests_per_minute = draw_limit(scene, 12);
	scene->model.max_concurrent = draw_limit(scene, 4);
	scene->model.tokens_per_minute =
		draw(scene, 2) ? 200 + draw(scene, 1000) : 0;
}

static void open_scene(struct scene *scene, uint64_t seed)
{
	*scene = (struct scene){.seed = seed, .random = seed};
	scene->config = rig_config();
	scene->config.minute_ns = RIG_S;
	scene->config.guard_ns = draw(scene, 2) ? 50 * RIG_MS : 0;
	scene->config.age_after_ns = draw(scene, 2) ? RIG_S : 0;
	scene->config.throttle_base_ns = 200 * RIG_MS;
	scene->config.probe_ok_after_ns = 100 * RIG_MS;
	scene->config.max_queued_per_user = draw_limit(scene, 10);
	scene->config.max_queued = draw_limit(scene, 30);
	scene->config.seed = seed;
	scene->model.pattern = "m-*";
	scene->config.models = &scene->model;
	scene->config.n_models = 1;
	scene->now_ns = draw(scene, 1000) * RIG_MS;
	scene->is_judged = draw(scene, 2);
	draw_limits(scene);
	for (int lane = 0; lane < LANES; lane++)
		scene->level[lane] = (double)scene->model.tokens_per_minute;
	scene->policy = rig_create(&scene->config);
}

/* ------------------------------------------------------------ the counts */

struct count {
	uint32_t running, lane, user, batch, lane_batch;
	uint32_t starts, lane_starts; /* in the window, pending included */
};

static void count_starts(
	const struct scene *scene, int lane, struct count *count)
{
	for (size_t i = 0; i < scene->n_starts; i++) {
		const struct start *start = &scene->starts[i];

		if (start->at_ns + span(scene) <= scene->now_ns)
			continue;
		count->starts++;
		count->lane_starts += start->lane == lane;
	}
}

static struct count count_all(
	const struct scene *scene, const struct entry *mine)
{
	struct count count = {0};

	for (int i = 0; i < REQUESTS; i++) {
		const struct entry *other = &scene->entries[i];
		bool is_batch = other->charged_class == POLICY_BATCH;

		if (other == mine || other->request.state != POLICY_RUNNING)
			continue;
		count.running++;
		count.lane += other->lane == mine->lane;
		count.user +=
			other->user == mine->user && other->app == mine->app;
		count.batch += is_batch;
		count.lane_batch += is_batch && other->lane == mine->lane;
		count.starts += !other->is_started;
		count.lane_starts +=
			!other->is_started && other->lane == mine->lane;
	}
	count_starts(scene, mine->lane, &count);
	return count;
}

static bool is_below(uint32_t count, uint32_t limit)
{
	return limit == 0 || count < limit;
}

static uint32_t batch_limit(const struct scene *scene, uint32_t limit)
{
	double share = scene->config.batch_share;

	if (limit == 0 || share <= 0 || share >= 1)
		return 0;
	return share * limit < 1 ? 1 : (uint32_t)(share * limit);
}

static uint64_t cost(const struct entry *entry)
{
	return entry->request.input_tokens + entry->request.output_tokens;
}

static bool has_tokens(const struct scene *scene, const struct entry *entry)
{
	uint64_t limit = limits(scene, entry->lane)->tokens_per_minute;
	uint64_t need = cost(entry) < limit ? cost(entry) : limit;

	return limit == 0 || scene->level[entry->lane] + 1 >= (double)need;
}

/* Within every limit but its lane's tokens. */
static bool is_within(
	const struct scene *scene, const struct entry *entry, bool is_batch)
{
	const struct policy_config *config = &scene->config;
	const struct policy_model *model = limits(scene, entry->lane);
	struct count count = count_all(scene, entry);

	return is_below(count.running, config->max_concurrent) &&
	       is_below(count.starts, config->requests_per_minute) &&
	       is_below(count.user, config->max_requests_per_user) &&
	       is_below(count.lane, model->max_concurrent) &&
	       is_below(count.lane_starts, model->requests_per_minute) &&
	       (!is_batch ||
		       (is_below(count.batch,
				batch_limit(scene, config->max_concurrent)) &&
			       is_below(count.lane_batch,
				       batch_limit(
					       scene, model->max_concurrent))));
}

/* --------------------------------------------------- what must be true */

static void judge_admitted(struct scene *scene, struct entry *entry)
{
	struct policy_request *request = &entry->request;

	JUDGE(scene, request->state == POLICY_RUNNING);
	JUDGE(scene, request->deadline_ns > scene->now_ns);
	entry->charged_class = request->p.rank;
	entry->is_started = false;
	JUDGE(scene, is_within(scene, entry, request->p.rank == POLICY_BATCH));
	JUDGE(scene, has_tokens(scene, entry));
	entry->reserved = cost(entry);
	scene->level[entry->lane] -= (double)entry->reserved;
}

static bool is_capped(const struct scene *scene, const struct entry *entry)
{
	return !is_below(count_all(scene, entry).user,
		scene->config.max_requests_per_user);
}

/*
 * Nobody may go.  Then no lane has an open gate and only such requests queued
 * as could go: one that cannot may be the first, and the lane waits for it.
 */
static void judge_idle_lane(struct scene *scene, int lane)
{
	int could_go = 0;

	for (int i = 0; i < REQUESTS; i++) {
		struct entry *entry = &scene->entries[i];

		if (entry->request.state != POLICY_QUEUED ||
			entry->lane != lane || is_capped(scene, entry))
			continue;
		if (!is_within(scene, entry,
			    entry->request.p.rank == POLICY_BATCH))
			return;
		/* A token less than the rounding of this judge. */
		scene->level[lane] -= 2;
		if (!has_tokens(scene, entry)) {
			scene->level[lane] += 2;
			return;
		}
		scene->level[lane] += 2;
		could_go++;
	}
	JUDGE(scene, could_go == 0);
}

static bool note_gate(const struct policy_lane_view *view, void *arg)
{
	bool *is_open = arg;

	for (int lane = 0; lane < LANES; lane++)
		if (strcmp(view->name, lane_names[lane]) == 0)
			is_open[lane] = view->gate_open;
	return true;
}

static void judge_idle(struct scene *scene)
{
	bool is_open[LANES] = {true, true, true, true};

	policy_each_lane(scene->policy, scene->now_ns, note_gate, is_open);
	for (int lane = 0; lane < LANES; lane++)
		if (is_open[lane])
			judge_idle_lane(scene, lane);
}

/* Every window of the log, as the upstream would see it. */
static void judge_windows(struct scene *scene)
{
	if (!scene->is_judged)
		return;
	for (size_t first = 0; first < scene->n_starts; first++) {
		uint32_t host = 0, lane = 0;

		for (size_t i = first; i < scene->n_starts; i++) {
			if (scene->starts[i].at_ns >=
				scene->starts[first].at_ns + span(scene))
				break;
			host++;
			lane += scene->starts[i].lane ==
				scene->starts[first].lane;
		}
		JUDGE(scene,
			is_below(host - 1, scene->config.requests_per_minute));
		JUDGE(scene, is_below(lane - 1,
				     limits(scene, scene->starts[first].lane)
					     ->requests_per_minute));
	}
}

/* ------------------------------------------------------------ the steps */

static void refill(struct scene *scene, uint64_t elapsed_ns)
{
	double limit = (double)scene->model.tokens_per_minute;

	for (int lane = 0; lane < LANES; lane++) {
		scene->level[lane] += limit * (double)elapsed_ns /
				      (double)scene->config.minute_ns;
		if (scene->level[lane] > limit)
			scene->level[lane] = limit;
	}
}

static void settle(struct scene *scene, struct entry *entry, uint64_t used)
{
	scene->level[entry->lane] += (double)entry->reserved - (double)used;
	refill(scene, 0);
}

static void start(struct scene *scene, struct entry *entry)
{
	policy_started(scene->policy, &entry->request, scene->now_ns);
	if (entry->is_started || scene->n_starts == STARTS)
		return;
	entry->is_started = true;
	scene->starts[scene->n_starts++] =
		(struct start){.at_ns = scene->now_ns, .lane = entry->lane};
}

/* Expires and admits until nothing moves; the time to ask again. */
static uint64_t settle_queue(struct scene *scene)
{
	struct policy_request *request;
	uint64_t deadline_ns, next_ns;

	while ((request = policy_expire(
			scene->policy, scene->now_ns, &deadline_ns)) != NULL)
		JUDGE(scene, request->deadline_ns <= scene->now_ns);
	while ((request = policy_admit(
			scene->policy, scene->now_ns, &next_ns)) != NULL) {
		judge_admitted(scene, (struct entry *)request);
		if (draw(scene, 2))
			start(scene, (struct entry *)request);
	}
	judge_idle(scene);
	JUDGE(scene, next_ns > scene->now_ns);
	return next_ns < deadline_ns ? next_ns : deadline_ns;
}

/* Time passes and nothing else: nobody may go before it was foretold. */
static void advance(struct scene *scene, uint64_t next_ns)
{
	uint64_t step_ns = (1 + draw(scene, 300)) * RIG_MS, ask_again_ns;

	if (draw(scene, 3) == 0 && next_ns != RIG_NEVER)
		step_ns = next_ns - scene->now_ns;
	scene->now_ns += step_ns;
	refill(scene, step_ns);
	if (scene->now_ns < next_ns)
		JUDGE(scene, policy_admit(scene->policy, scene->now_ns,
				     &ask_again_ns) == NULL);
}

static void submit(struct scene *scene, struct entry *entry)
{
	entry->lane = (int)draw(scene, LANES);
	entry->user = (int)draw(scene, 6);
	entry->app = (int)draw(scene, 2);
	entry->request.model_id = models[entry->lane];
	entry->request.user = users[entry->user];
	entry->request.app = apps[entry->app];
	entry->request.class = (enum policy_class)draw(scene, POLICY_CLASSES);
	entry->request.input_tokens = draw(scene, 100);
	entry->request.output_tokens = draw(scene, 150);
	entry->request.deadline_ns =
		scene->now_ns + (1 + draw(scene, 5000)) * RIG_MS;
	if (rig_enqueue(scene->policy, &entry->request, scene->now_ns) !=
		POLICY_ACCEPTED)
		JUDGE(scene, entry->request.state == POLICY_NEW);
}

static void end(struct scene *scene, struct entry *entry)
{
	enum policy_outcome outcome = (enum policy_outcome)draw(scene, 4);
	struct policy_usage usage = {(int64_t)draw(scene, 200),
		(int64_t)draw(scene, 200), -1, (int64_t)draw(scene, 20)};
	uint64_t used = 0;

	if (outcome == POLICY_DONE) {
		start(scene, entry);
		used = (uint64_t)(usage.input_tokens + usage.output_tokens +
				  usage.cache_write_tokens);
	} else if (outcome == POLICY_LOST) {
		used = entry->reserved;
	}
	policy_finish(
		scene->policy, &entry->request, outcome, &usage, scene->now_ns);
	settle(scene, entry, used);
}

static void fail(struct scene *scene, struct entry *entry)
{
	enum policy_failure failure = (enum policy_failure)draw(scene, 3);
	bool is_kept = failure == POLICY_FAIL_LOST && entry->is_started;

	if (policy_retry(scene->policy, &entry->request, failure,
		    draw(scene, 4) ? 0 : draw(scene, 500) * RIG_MS,
		    scene->now_ns))
		settle(scene, entry, is_kept ? entry->reserved : 0);
	else
		JUDGE(scene, entry->request.state == POLICY_RUNNING);
}

static void change_limits(struct scene *scene)
{
	uint64_t tokens = scene->model.tokens_per_minute;

	if (scene->is_judged || draw(scene, 10))
		return;
	draw_limits(scene);
	/* The naive bucket does not follow a change of its capacity. */
	scene->model.tokens_per_minute = tokens;
	CU_ASSERT_EQUAL(policy_reconfigure(scene->policy, &scene->config), 0);
}

static void step(struct scene *scene)
{
	struct entry *entry = &scene->entries[draw(scene, REQUESTS)];

	switch (entry->request.state) {
	case POLICY_NEW:
		submit(scene, entry);
		break;
	case POLICY_QUEUED:
	case POLICY_BACKOFF:
		if (draw(scene, 4) == 0)
			policy_remove(scene->policy, &entry->request);
		break;
	case POLICY_RUNNING:
		if (draw(scene, 3) == 0)
			start(scene, entry);
		else if (draw(scene, 3) == 0)
			fail(scene, entry);
		else
			end(scene, entry);
		break;
	}
	change_limits(scene);
}

static bool is_quiet(const struct policy_lane_view *view, void *arg)
{
	struct scene *scene = arg;

	JUDGE(scene, view->running == 0 && view->queued == 0);
	JUDGE(scene, view->backing_off == 0 && view->tokens_reserved == 0);
	return true;
}

static void close_scene(struct scene *scene)
{
	struct policy_host_view host;

	for (int i = 0; i < REQUESTS; i++)
		rig_drop(scene->policy, &scene->entries[i].request,
			scene->now_ns);
	policy_view_host(scene->policy, scene->now_ns, &host);
	JUDGE(scene, host.running == 0 && host.queued == 0 && host.users == 0);
	JUDGE(scene, host.oldest_enqueued_ns == 0);
	policy_each_lane(scene->policy, scene->now_ns, is_quiet, scene);
	judge_windows(scene);
	policy_free(scene->policy);
}

static int play(uint64_t seed)
{
	static struct scene scene;
	uint64_t next_ns = 0;

	open_scene(&scene, seed);
	for (int i = 0; i < STEPS && scene.faults == 0; i++) {
		uint32_t burst = 1 + draw(&scene, 4);

		while (burst-- > 0)
			step(&scene);
		next_ns = settle_queue(&scene);
		advance(&scene, next_ns);
		next_ns = settle_queue(&scene);
	}
	close_scene(&scene);
	return scene.faults;
}

/* In no scenario does a window, a concurrency or a bucket go above its limit,
 * is anything admitted late, does a lane idle that could work, or anything stay
 * reserved or counted at quiet. */
static void no_limit_is_ever_broken(void)
{
	const char *text = getenv("SEED");
	uint64_t first = text ? strtoull(text, NULL, 0) : 1;
	int faults = 0;

	for (uint64_t i = 0; i < (text ? 1 : SCENARIOS) && faults < 5; i++)
		faults += play(first + i);
	printf("# seeds from %llu\n", (unsigned long long)first);
	CU_ASSERT_EQUAL(faults, 0);
}

SUITE("policy_random", T(no_limit_is_ever_broken))
