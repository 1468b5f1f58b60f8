/* Lanes: found by model id, made from templates, given up when not needed. */
#include "coordinator/policy/lane.h"

#include "coordinator/policy/inside.h"
#include "coordinator/policy/lane_name.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct policy_lane *lane_create(struct policy *policy, const char *name,
	const struct policy_model *model, uint64_t now_ns)
{
	size_t size = strlen(name) + 1;
	struct policy_lane *lane = calloc(1, sizeof(*lane) + size);

	if (lane == NULL)
		return NULL;
	memcpy(lane->name, name, size);
	lane->policy = policy;
	lane->made = lane->served = ++policy->turns;
	if (window_init(&lane->window, 0, 0) != 0) {
		free(lane);
		return NULL;
	}
	lane_configure(lane, model, now_ns);
	lane->retry_left = lane->retry_budget;
	if (now_ns < policy->full_until_ns) {
		lane->window.full_until_ns = policy->full_until_ns;
		lane->tokens.level = 0;
		lane->tokens.stamp_ns = policy->full_from_ns;
	}
	return lane;
}

void lane_free(struct policy_lane *lane)
{
	if (lane == NULL)
		return;
	assert(!lane->is_ready && lane->running == 0);
	user_leave_lane(lane);
	for (int class = 0; class < POLICY_CLASSES; class ++)
		heap_fini(&lane->ranks[class].teams);
	window_fini(&lane->window);
	free(lane);
}

static void set_retry_budget(struct policy_lane *lane, uint32_t budget)
{
	if (budget > lane->retry_budget)
		lane->retry_left += budget - lane->retry_budget;
	lane->retry_budget = budget;
	if (lane->retry_left > budget)
		lane->retry_left = budget;
}

/* Without a limit of its own it may use the host's, and be throttled there. */
static void set_rates(
	struct policy_lane *lane, const struct policy_model *limits)
{
	const struct policy_config *config = &lane->policy->settings->config;
	uint32_t starts = limits->requests_per_minute
				  ? limits->requests_per_minute
				  : config->requests_per_minute;
	uint64_t tokens = limits->tokens_per_minute ? limits->tokens_per_minute
						    : config->tokens_per_minute;

	adapt_set(&lane->adapt, config->adaptive ? starts : 0,
		config->adaptive ? tokens : 0, config->minute_ns,
		config->minute_ns + config->guard_ns);
}

void lane_configure(struct policy_lane *lane, const struct policy_model *model,
	uint64_t now_ns)
{
	static const struct policy_model no_limits;
	const struct settings *settings = lane->policy->settings;
	const struct policy_config *config = &settings->config;
	const struct policy_model *limits = model ? model : &no_limits;

	lane->model = model;
	window_set(&lane->window, limits->requests_per_minute,
		config->minute_ns + config->guard_ns, limits->smooth_starts);
	tokens_set(&lane->tokens, limits->tokens_per_minute,
		limits->tokens_per_day, config->minute_ns, now_ns);
	tokens_set_days(&lane->tokens, config->day_offset_ns, now_ns);
	tokens_join_day(&lane->tokens, &lane->policy->tokens);
	set_rates(lane, limits);
	lane->max_concurrent = limits->max_concurrent;
	lane->batch_limit =
		settings_batch_limit(settings, limits->max_concurrent);
	set_retry_budget(lane, config->retry_budget);
	share_limits(lane->policy, lane);
}

void lane_look_ahead(const struct policy_lane *lane, uint64_t now_ns,
	struct gate *gate, struct adapt *adapt)
{
	uint64_t ok_after_ns = lane->policy->settings->config.probe_ok_after_ns;
	const struct policy_request *probe = gate->probe;

	gate_look(gate, ok_after_ns, now_ns);
	if (probe != NULL && gate->probe == NULL)
		adapt_accepted(adapt, probe, probe->p.started_ns + ok_after_ns);
}

void lane_look(struct policy_lane *lane, uint64_t now_ns)
{
	lane_look_ahead(lane, now_ns, &lane->gate, &lane->adapt);
}

static struct policy_lane *find(
	const struct policy *policy, uint64_t hash, const char *name)
{
	uint64_t cursor = hash;
	struct policy_lane *lane;

	while ((lane = names_next(&policy->lane_names, hash, &cursor)) != NULL)
		if (strcmp(lane->name, name) == 0)
			break;
	return lane;
}

/* Nothing would be forgotten with it that still limits anything. */
static bool is_spent(const struct policy_lane *lane, uint64_t now_ns)
{
	const struct tokens *tokens = &lane->tokens;

	return lane->running == 0 && lane->queued == 0 &&
	       lane->backing_off == 0 && !lane->gate.is_closed &&
	       adapt_part(&lane->adapt, now_ns) >= 1 &&
	       lane->lease.units == 0 && lane->lease.tokens <= 0 &&
	       window_count(&lane->window, now_ns) == 0 &&
	       tokens_available(tokens, now_ns) >= (int64_t)tokens->limit &&
	       (tokens->day_limit == 0 ||
		       tokens_used_today(tokens, now_ns) <= 0);
}

/* Makes room for one more lane; false: there is none. */
static bool make_room(struct policy *policy, uint64_t now_ns)
{
	uint32_t max_lanes = policy->settings->config.max_lanes;

	if (max_lanes == 0 || policy->n_lanes < max_lanes)
		return true;
	for (size_t i = 0; i < policy->n_lanes; i++) {
		struct policy_lane *lane = policy->lanes[i];

		if (!is_spent(lane, now_ns))
			continue;
		names_remove(&policy->lane_names, lane->hash, lane);
		policy->n_lanes--;
		memmove(&policy->lanes[i], &policy->lanes[i + 1],
			(policy->n_lanes - i) * sizeof(struct policy_lane *));
		lane_free(lane);
		return true;
	}
	return false;
}

static int add(struct policy *policy, struct policy_lane *lane)
{
	if (policy->n_lanes == policy->lanes_room) {
		size_t room = policy->lanes_room ? 2 * policy->lanes_room : 8;
		struct policy_lane **lanes = realloc(
			policy->lanes, room * sizeof(struct policy_lane *));

		if (lanes == NULL)
			return -1;
		policy->lanes = lanes;
		policy->lanes_room = room;
	}
	if (names_add(&policy->lane_names, lane->hash, lane) != 0)
		return -1;
	policy->lanes[policy->n_lanes++] = lane;
	return 0;
}

static struct policy_lane *make(struct policy *policy, uint64_t hash,
	const char *name, const struct policy_model *model, uint64_t now_ns)
{
	struct policy_lane *lane;

	if (!make_room(policy, now_ns))
		return policy->fallback;
	lane = lane_create(policy, name, model, now_ns);
	if (lane == NULL)
		return NULL;
	lane->hash = hash;
	if (add(policy, lane) != 0) {
		lane_free(lane);
		return NULL;
	}
	return lane;
}

/* The lane of that name, made where a block matches it.  Else the default one,
 * and *ret_ungoverned is one of that name that has lost its block. */
static struct policy_lane *get(struct policy *policy, const char *name,
	uint64_t now_ns, struct policy_lane **ret_ungoverned)
{
	uint64_t hash = names_hash(policy->hash_key, name);
	struct policy_lane *lane = find(policy, hash, name);
	const struct policy_model *model;

	if (lane != NULL && lane->model != NULL)
		return lane;
	if (lane != NULL) {
		*ret_ungoverned = lane;
		return policy->fallback;
	}
	model = settings_model(policy->settings, name);
	return model ? make(policy, hash, name, model, now_ns)
		     : policy->fallback;
}

struct policy_lane *lane_get(
	struct policy *policy, const char *model_id, uint64_t now_ns)
{
	const struct policy_config *config = &policy->settings->config;
	struct policy_lane *lane, *ungoverned = NULL;
	char room[LANE_NAME_BYTES];
	const char *name;

	if (policy->n_lanes == 0 && config->n_models == 0)
		return policy->fallback;
	name = lane_name_of(model_id, config->region, room);
	lane = get(policy, name, now_ns, &ungoverned);
	if (lane == policy->fallback && name != model_id && !ungoverned)
		lane = get(policy, model_id, now_ns, &ungoverned);
	return lane == policy->fallback && ungoverned ? ungoverned : lane;
}

struct policy_lane *lane_of_turn(const struct policy *policy, uint64_t made)
{
	if (policy->fallback->made == made)
		return policy->fallback;
	for (size_t i = 0; i < policy->n_lanes; i++)
		if (policy->lanes[i]->made == made)
			return policy->lanes[i];
	return NULL;
}

const struct policy_model *lane_block(
	const struct policy *policy, const char *model_id)
{
	const struct settings *settings = policy->settings;
	char room[LANE_NAME_BYTES];
	const char *name =
		lane_name_of(model_id, settings->config.region, room);
	const struct policy_model *model = settings_model(settings, name);

	return model != NULL || name == model_id
		       ? model
		       : settings_model(settings, model_id);
}

static uint64_t at_most(uint64_t tokens)
{
	return tokens < TOKENS_MAX ? tokens : TOKENS_MAX;
}

/* Rounded up. */
static uint64_t times(uint64_t tokens, double factor)
{
	double product = (double)at_most(tokens) * factor;
	uint64_t whole;

	if (product >= (double)TOKENS_MAX)
		return TOKENS_MAX;
	whole = (uint64_t)product;
	return (double)whole < product ? whole + 1 : whole;
}

static double burndown(const struct policy_lane *lane)
{
	if (lane->model == NULL || !(lane->model->output_burndown > 0))
		return 1;
	return lane->model->output_burndown;
}

static uint64_t most_output(
	const struct policy_lane *lane, const struct policy_request *request)
{
	if (request->output_tokens != 0 || lane->model == NULL)
		return request->output_tokens;
	return lane->model->default_max_tokens;
}

static uint64_t reserved_output(
	const struct policy_lane *lane, const struct policy_request *request)
{
	bool with_burndown = lane->model && lane->model->reserve_with_burndown;

	return times(
		most_output(lane, request), with_burndown ? burndown(lane) : 1);
}

static enum policy_learned use_of_learned(const struct policy_lane *lane)
{
	return lane->model ? lane->model->learned_output : POLICY_LEARN_ORDER;
}

uint64_t lane_expected(
	const struct policy_lane *lane, const struct policy_request *request)
{
	uint32_t own = request->p.seat->learned_output;
	uint64_t output = reserved_output(lane, request), most;
	uint32_t learned = own ? own : lane->learned.p95;

	if (learned != 0 && use_of_learned(lane) != POLICY_LEARN_NOTHING) {
		most = times(learned, burndown(lane));
		output = output < most ? output : most;
	}
	return at_most(at_most(request->input_tokens) + output);
}

uint64_t lane_reservation(
	const struct policy_lane *lane, const struct policy_request *request)
{
	if (use_of_learned(lane) == POLICY_LEARN_RESERVE)
		return lane_expected(lane, request);
	return at_most(at_most(request->input_tokens) +
		       reserved_output(lane, request));
}

/* Without memory the user has the lane's. */
void lane_learn(struct policy_lane *lane, const struct policy_request *request,
	const struct policy_usage *usage)
{
	struct seat *seat = request->p.seat;

	if (usage == NULL || usage->output_tokens < 0 ||
		usage->output_tokens > INT64_C(1) << 53)
		return;
	learn_count(&lane->learned, (uint64_t)usage->output_tokens);
	if (seat->learned == NULL)
		seat->learned = calloc(1, sizeof(*seat->learned));
	if (seat->learned == NULL)
		return;
	learn_count(seat->learned, (uint64_t)usage->output_tokens);
	seat->learned_output = seat->learned->p95;
}

/* -1 is "not said"; no doubt can count beyond 2^53, and nobody has fewer than
 * none. */
static bool is_absurd(int64_t tokens)
{
	return tokens < -1 || tokens > INT64_C(1) << 53;
}

bool policy_usage_is_absurd(const struct policy_usage *usage)
{
	return is_absurd(usage->input_tokens) ||
	       is_absurd(usage->output_tokens) ||
	       is_absurd(usage->cache_read_tokens) ||
	       is_absurd(usage->cache_write_tokens);
}

static bool is_said(int64_t tokens)
{
	return tokens >= 0 && !is_absurd(tokens);
}

uint64_t lane_used(struct policy_lane *lane,
	const struct policy_request *request, const struct policy_usage *usage)
{
	uint64_t reserved = request->p.reserved_tokens;
	uint64_t input = at_most(request->input_tokens), output,
		 cache_write = 0;

	if (usage != NULL && policy_usage_is_absurd(usage))
		lane->absurd_usage++;
	if (usage == NULL || (!is_said(usage->input_tokens) &&
				     !is_said(usage->output_tokens)))
		return reserved;
	output = reserved > input ? reserved - input : 0;
	if (is_said(usage->input_tokens))
		input = at_most((uint64_t)usage->input_tokens);
	if (is_said(usage->output_tokens))
		output = times((uint64_t)usage->output_tokens, burndown(lane));
	if (is_said(usage->cache_write_tokens))
		cache_write = at_most((uint64_t)usage->cache_write_tokens);
	return at_most(input + cache_write + output);
}

uint32_t policy_default_output(const struct policy_request *request)
{
	const struct policy_model *model = request->lane->model;

	return model ? model->default_max_tokens : 0;
}

uint64_t policy_reserved(const struct policy_request *request)
{
	return request->p.reserved_tokens;
}

const char *policy_lane_name(const struct policy_lane *lane)
{
	return lane->name;
}

const char *policy_lane_name_of(
	struct policy *policy, const char *model_id, uint64_t now_ns)
{
	const struct policy_lane *lane =
		lane_get(policy, model_id, policy_clock(policy, now_ns));

	return lane != NULL ? lane->name : policy->fallback->name;
}
