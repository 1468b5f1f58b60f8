/*
 * A load through the policy, as rgovd would take it through: what comes is
 * enqueued, what the policy admits is sent to a provider that answers,
 * throttles or fails, what failed goes to the policy's retry.  Events happen
 * one after the other; between them the clock jumps.
 */
#include "tools/rgov-plan/plan.h"
#include "tools/rgov-plan/source.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum ending { ENDS_WELL, ENDS_THROTTLED, ENDS_FAILED, ENDS_LATE };

struct job {
	struct policy_request policy; /* the first member: see job_of() */
	struct load_question question;
	size_t scope;
	bool has_started;
	enum ending ending; /* of the attempt that is out */
	bool has_place;     /* at the provider */
	uint64_t place;
	struct measure_ticket ticket;
	struct job *next; /* spare */
};

struct simulation {
	const struct plan *plan;
	struct plan_result *result;
	struct source source;
	struct policy *policy;
	struct events ends;
	struct quota *quotas; /* the provider's: of each model, or the first */
	struct draw_stream chance;
	uint64_t attempts;
	uint64_t wake_ns; /* when the policy wants to be asked again */
	uint64_t now_ns, first_ns, last_ns;
	uint64_t *inside; /* of each user, waiting or running */
	double *served;   /* of each user, while all are inside */
	size_t n_inside;  /* users */
	struct job *spare;
	bool no_memory;
};

static_assert(offsetof(struct job, policy) == 0, "cast in job_of");

static struct job *job_of(struct policy_request *request)
{
	return (struct job *)(void *)request;
}

static struct job *take_job(struct simulation *sim)
{
	struct job *job = sim->spare;

	if (job == NULL)
		return calloc(1, sizeof(*job));
	sim->spare = job->next;
	memset(job, 0, sizeof(*job));
	return job;
}

enum { ROWS = 3 };

/* The rows that a request counts in. */
static void find_rows(const struct simulation *sim, const struct job *job,
	struct plan_row *ret_rows[ROWS])
{
	ret_rows[0] = &sim->result->all;
	ret_rows[1] = &sim->result->classes[job->question.class];
	ret_rows[2] = &sim->result->users[job->question.user];
}

#define COUNT(sim, job, counter)                                               \
	count_in_rows(sim, job, offsetof(struct plan_row, counter))

static void count_in_rows(
	const struct simulation *sim, const struct job *job, size_t counter)
{
	struct plan_row *rows[ROWS];

	find_rows(sim, job, rows);
	for (int i = 0; i < ROWS; i++)
		++*(uint64_t *)(void *)((char *)rows[i] + counter);
}

/* ------------------------------------------------------------ waiting */

static void wait_begins(struct simulation *sim, const struct job *job)
{
	measure_queued(&sim->result->measure, job->scope, 1);
}

static void wait_ends(struct simulation *sim, const struct job *job)
{
	measure_queued(&sim->result->measure, job->scope, -1);
}

/* ------------------------------------------------------------ the end */

static void leave(struct simulation *sim, struct job *job, uint64_t again_ns)
{
	sim->last_ns = sim->now_ns;
	if (--sim->inside[job->question.user] == 0)
		sim->n_inside--;
	if (source_ended(&sim->source, job->question.user, again_ns) < 0)
		sim->no_memory = true;
	job->next = sim->spare;
	sim->spare = job;
}

static void refuse(struct simulation *sim, struct job *job, uint64_t after_ns)
{
	COUNT(sim, job, refused);
	/* Who is refused comes again as he is told to, and not at once. */
	if (after_ns < DRAW_S)
		after_ns = DRAW_S;
	leave(sim, job, sim->now_ns + after_ns);
}

static void arrive(struct simulation *sim)
{
	struct job *job = take_job(sim);
	const struct load *load = sim->plan->load;
	const struct load_question *question;
	uint64_t after_ns = 0;

	if (job == NULL || source_take(&sim->source, &job->question) < 0) {
		sim->no_memory = true;
		return;
	}
	question = &job->question;
	if (sim->first_ns == 0)
		sim->first_ns = sim->now_ns;
	job->scope =
		sim->plan->rules[question->model] ? question->model + 1 : 0;
	job->policy = (struct policy_request){
		.model_id = load->models[question->model],
		.user = load->users[question->user].name,
		.app = load->users[question->user].app,
		.class = question->class,
		.input_tokens = question->input_tokens,
		.output_tokens = question->max_tokens,
		.deadline_ns = sim->now_ns + question->timeout_ns,
		.is_permit = question->is_permit,
	};
	if (sim->inside[question->user]++ == 0)
		sim->n_inside++;
	COUNT(sim, job, requests);
	if (policy_enqueue(sim->policy, &job->policy, sim->now_ns, &after_ns) !=
		POLICY_ACCEPTED)
		refuse(sim, job, after_ns);
	else
		wait_begins(sim, job);
}

/* ------------------------------------------------------------ provider */

static struct quota *quota_of(struct simulation *sim, const struct job *job,
	const struct load_provider *provider)
{
	struct quota *quota =
		&sim->quotas[provider->host_wide ? 0 : job->question.model];

	quota->window_ns = (uint64_t)(provider->window_s * 1e9);
	quota->day_offset_ns = sim->plan->config.day_offset_ns;
	return quota;
}

static bool happens(
	const struct simulation *sim, enum draw_purpose purpose, double share)
{
	return share > 0 &&
	       draw_fraction(sim->chance, purpose, sim->attempts) < share;
}

/* How the attempt will end, by the provider's quota and faults. */
static enum ending ask_provider(struct simulation *sim, struct job *job,
	const struct load_provider *provider)
{
	const struct quota_limits limits = {provider->requests_per_minute,
		provider->max_concurrent, provider->tokens_per_minute,
		provider->tokens_per_day};
	struct quota *quota = quota_of(sim, job, provider);
	uint64_t tokens = plan_reserves(sim->plan, &job->question);
	uint64_t until_ns;
	bool is_free;

	if (plan_is_out(sim->plan->load, sim->now_ns, &until_ns) ||
		happens(sim, DRAW_TRANSIENT, provider->transient))
		return ENDS_FAILED;
	is_free = !happens(sim, DRAW_THROTTLE, provider->throttle) &&
		  quota_ask(quota, &limits, tokens, sim->now_ns, &until_ns) ==
			  QUOTA_FREE;
	if (!is_free && !provider->throttled_count)
		return ENDS_THROTTLED;
	if (quota_start(quota, tokens, sim->now_ns, &job->place) < 0)
		sim->no_memory = true;
	else if (is_free)
		job->has_place = true;
	else
		quota_end(quota, job->place, tokens, 0);
	return is_free ? ENDS_WELL : ENDS_THROTTLED;
}

static void leave_provider(struct simulation *sim, struct job *job)
{
	uint64_t until_ns;
	const struct load_provider *provider =
		plan_provider(sim->plan->load, sim->now_ns, &until_ns);

	if (!job->has_place)
		return;
	job->has_place = false;
	quota_end(quota_of(sim, job, provider), job->place,
		plan_reserves(sim->plan, &job->question),
		plan_uses(sim->plan, &job->question));
}

/* ------------------------------------------------------------ an attempt */

/* When it ends, and how. */
static uint64_t send(struct simulation *sim, struct job *job)
{
	uint64_t until_ns, end_ns = sim->now_ns + job->question.latency_ns;
	const struct load_provider *provider =
		plan_provider(sim->plan->load, sim->now_ns, &until_ns);

	sim->attempts++;
	job->ending =
		provider == NULL ? ENDS_WELL : ask_provider(sim, job, provider);
	if (job->ending != ENDS_WELL)
		return sim->now_ns +
		       (uint64_t)(provider->error_latency_s * 1e9);
	/* rgovd aborts a call at its deadline, and no permit. */
	if (!job->question.is_permit && end_ns > job->policy.deadline_ns) {
		job->ending = ENDS_LATE;
		end_ns = job->policy.deadline_ns;
	}
	return end_ns;
}

static void note_first_start(struct simulation *sim, struct job *job)
{
	double wait_s = (double)(sim->now_ns - job->question.arrival_ns) / 1e9;
	struct plan_row *rows[ROWS];

	job->has_started = true;
	find_rows(sim, job, rows);
	for (int i = 0; i < ROWS; i++)
		if (plan_wait(rows[i], wait_s) < 0)
			sim->no_memory = true;
}

static bool is_probe(const struct simulation *sim, const struct job *job)
{
	struct policy_lane_view view;

	if (sim->result->throttled == 0)
		return false; /* no gate was ever closed */
	policy_view_lane(job->policy.lane, sim->now_ns, &view);
	return !view.gate_open;
}

static void start(struct simulation *sim, struct job *job)
{
	uint32_t user = job->question.user;

	policy_started(sim->policy, &job->policy, sim->now_ns);
	if (sim->n_inside == sim->plan->load->n_users)
		sim->served[user] +=
			(double)plan_uses(sim->plan, &job->question) /
			sim->plan->weights[user];
	sim->result->probes += is_probe(sim, job);
	wait_ends(sim, job);
	if (!job->has_started)
		note_first_start(sim, job);
	if (measure_start(&sim->result->measure, job->scope,
		    policy_reserved(&job->policy), &job->ticket) < 0 ||
		events_add(&sim->ends, send(sim, job), job) < 0)
		sim->no_memory = true;
}

static void give_up(struct simulation *sim, struct job *job)
{
	bool is_throttled = job->ending == ENDS_THROTTLED;

	policy_finish(sim->policy, &job->policy,
		is_throttled ? POLICY_THROTTLED : POLICY_DONE, NULL,
		sim->now_ns);
	COUNT(sim, job, failed);
	leave(sim, job, sim->now_ns);
}

static void fail(struct simulation *sim, struct job *job)
{
	enum policy_failure failure = POLICY_FAIL_TRANSIENT;

	if (job->ending == ENDS_THROTTLED) {
		failure = POLICY_FAIL_THROTTLE;
		sim->result->throttled++;
		COUNT(sim, job, throttled);
	}
	/* A worker with a permit only tells. */
	if (job->question.is_permit || !policy_retry(sim->policy, &job->policy,
					       failure, 0, sim->now_ns)) {
		give_up(sim, job);
		return;
	}
	sim->result->retries++;
	wait_begins(sim, job);
}

static void end(struct simulation *sim, struct job *job)
{
	bool is_well = job->ending == ENDS_WELL;

	leave_provider(sim, job);
	measure_end(&sim->result->measure, job->scope, &job->ticket,
		is_well || job->ending == ENDS_LATE
			? plan_uses(sim->plan, &job->question)
			: 0);
	if (job->ending == ENDS_THROTTLED || job->ending == ENDS_FAILED) {
		fail(sim, job);
		return;
	}
	policy_finish(sim->policy, &job->policy,
		is_well ? POLICY_DONE : POLICY_LOST,
		is_well ? &job->question.used : NULL, sim->now_ns);
	if (!is_well)
		COUNT(sim, job, deadline);
	leave(sim, job, sim->now_ns);
}

/* ------------------------------------------------------------ turning */

static void expire_all(struct simulation *sim)
{
	struct policy_request *late;
	uint64_t again_ns = UINT64_MAX;

	while ((late = policy_expire(sim->policy, sim->now_ns, &again_ns)) !=
		NULL) {
		struct job *job = job_of(late);

		wait_ends(sim, job);
		COUNT(sim, job, deadline);
		leave(sim, job, sim->now_ns);
	}
	sim->wake_ns = again_ns;
}

static void decide(struct simulation *sim)
{
	struct policy_request *next;
	uint64_t again_ns = UINT64_MAX;

	expire_all(sim);
	while (!sim->no_memory && (next = policy_admit(sim->policy, sim->now_ns,
					   &again_ns)) != NULL)
		start(sim, job_of(next));
	if (!sim->no_memory && again_ns < sim->wake_ns)
		sim->wake_ns = again_ns;
}

static uint64_t earliest(const struct simulation *sim)
{
	uint64_t at_ns = sim->wake_ns;

	if (events_next_ns(&sim->ends) < at_ns)
		at_ns = events_next_ns(&sim->ends);
	if (source_next_ns(&sim->source) < at_ns)
		at_ns = source_next_ns(&sim->source);
	return at_ns;
}

static void turn(struct simulation *sim)
{
	uint64_t at_ns;

	while (!sim->no_memory && (at_ns = earliest(sim)) != UINT64_MAX) {
		if (at_ns > sim->now_ns)
			sim->now_ns = at_ns;
		measure_advance(&sim->result->measure, sim->now_ns);
		while (events_next_ns(&sim->ends) <= sim->now_ns)
			end(sim, events_take(&sim->ends));
		while (!sim->no_memory &&
			source_next_ns(&sim->source) <= sim->now_ns)
			arrive(sim);
		decide(sim);
	}
}

/* ------------------------------------------------------------ the whole */

static double jain(const double *served, size_t n)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < n; i++) {
		sum += served[i];
		squares += served[i] * served[i];
	}
	return squares > 0 ? sum * sum / ((double)n * squares) : -1;
}

static int prepare_measure(struct simulation *sim, size_t n_samples)
{
	const struct plan *plan = sim->plan;
	const struct policy_config *config = &plan->config;
	struct measure *measure = &sim->result->measure;

	if (measure_init(measure, plan->load->n_models + 1, config->minute_ns,
		    LOAD_BEGIN_NS, n_samples) < 0)
		return -ENOMEM;
	measure->scopes[0].limits = (struct quota_limits){
		config->requests_per_minute, config->max_concurrent,
		config->tokens_per_minute, config->tokens_per_day};
	for (size_t m = 0; m < plan->load->n_models; m++) {
		const struct policy_model *rule = plan->rules[m];

		measure->scopes[m + 1].name = plan->load->models[m];
		if (rule != NULL)
			measure->scopes[m + 1].limits = (struct quota_limits){
				rule->requests_per_minute, rule->max_concurrent,
				rule->tokens_per_minute, rule->tokens_per_day};
	}
	return 0;
}

static int prepare(struct simulation *sim, size_t n_samples)
{
	const struct load *load = sim->plan->load;
	struct plan_result *result = sim->result;

	result->users = calloc(load->n_users + 1, sizeof(*result->users));
	result->asked = calloc(load->n_users + 1, sizeof(*result->asked));
	sim->inside = calloc(load->n_users + 1, sizeof(*sim->inside));
	sim->served = calloc(load->n_users + 1, sizeof(*sim->served));
	sim->quotas = calloc(load->n_models + 1, sizeof(*sim->quotas));
	if (result->users == NULL || result->asked == NULL ||
		sim->inside == NULL || sim->served == NULL ||
		sim->quotas == NULL || prepare_measure(sim, n_samples) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < load->n_users; i++) {
		result->users[i].name = load->users[i].name;
		result->users[i].app = load->users[i].app;
	}
	if (source_init(&sim->source, load, sim->plan->timeout_ns, NULL) < 0)
		return -ENOMEM;
	return policy_create(&sim->plan->config, &sim->policy);
}

static void conclude(struct simulation *sim)
{
	struct plan_result *result = sim->result;
	size_t n = sim->plan->load->n_users;

	result->total_s = (double)(sim->last_ns - sim->first_ns) / 1e9;
	result->jain = n > 0 ? jain(sim->served, n) : -1;
	plan_sort(&result->all);
	for (int c = 0; c < POLICY_CLASSES; c++)
		plan_sort(&result->classes[c]);
	for (uint32_t i = 0; i < n; i++) {
		result->asked[i] = source_asked(&sim->source, i);
		plan_sort(&result->users[i]);
	}
}

/* The policy wants every request out first; after a lack of memory some are
 * still in it, and the process ends. */
static void clean_up(struct simulation *sim)
{
	struct job *next;

	if (!sim->no_memory)
		policy_free(sim->policy);
	for (struct job *job = sim->spare; job != NULL; job = next) {
		next = job->next;
		free(job);
	}
	for (size_t m = 0; sim->quotas != NULL && m < sim->plan->load->n_models;
		m++)
		quota_free(&sim->quotas[m]);
	free(sim->quotas);
	free(sim->inside);
	free(sim->served);
	events_free(&sim->ends);
	source_fini(&sim->source);
}

int plan_simulate(const struct plan *plan, size_t n_samples,
	struct plan_result *ret_result)
{
	struct simulation sim = {.plan = plan,
		.result = ret_result,
		.chance = {plan->load->seed, UINT64_MAX},
		.wake_ns = UINT64_MAX,
		.now_ns = LOAD_BEGIN_NS};
	int rc;

	*ret_result = (struct plan_result){.jain = -1};
	rc = prepare(&sim, n_samples);
	if (rc == 0)
		turn(&sim);
	if (rc == 0 && sim.no_memory)
		rc = -ENOMEM;
	if (rc == 0)
		conclude(&sim);
	clean_up(&sim);
	return rc;
}
