/* The front: create, reconfigure, and what a request asks for but admission. */
#include "coordinator/policy/policy.h"

#include "coordinator/policy/inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void apply_host(struct policy *policy)
{
	const struct policy_config *config = &policy->settings->config;

	window_set(&policy->window, config->requests_per_minute,
		config->minute_ns + config->guard_ns, config->smooth_starts);
	tokens_set(&policy->tokens, config->tokens_per_minute,
		config->tokens_per_day, config->minute_ns, policy->now_ns);
	tokens_set_days(&policy->tokens, config->day_offset_ns, policy->now_ns);
	policy->batch_limit =
		settings_batch_limit(policy->settings, config->max_concurrent);
	share_limits(policy, NULL);
}

int policy_create(
	const struct policy_config *config, struct policy **ret_policy)
{
	struct policy *policy = calloc(1, sizeof(*policy));

	if (policy == NULL)
		return -ENOMEM;
	policy->jitter = config->seed;
	policy->hash_key[0] = config->seed ^ UINT64_C(0x5bd1e9955bd1e995);
	policy->hash_key[1] = ~config->seed;
	timeline_init(&policy->deadlines,
		offsetof(struct policy_request, p.deadline_place));
	age_init(&policy->age);
	policy->settings = settings_create(config);
	if (policy->settings == NULL || window_init(&policy->window, 0, 0) != 0)
		goto free_policy;
	apply_host(policy);
	policy->fallback = lane_create(policy, "default", NULL, 0);
	if (policy->fallback == NULL)
		goto free_policy;
	*ret_policy = policy;
	return 0;

free_policy:
	policy_free(policy);
	return -ENOMEM;
}

static void apply_users(struct policy *policy, struct policy_user *list)
{
	struct policy_user *user;

	for (user = list; user != NULL; user = user->next) {
		user_configure(policy, user);
		order_user_changed(user);
	}
}

static int prepare_users(struct policy *policy, const struct settings *settings,
	struct policy_user *list)
{
	int rc = 0;

	for (struct policy_user *user = list; user && rc == 0;
		user = user->next)
		rc = user_prepare(policy, settings, user);
	return rc;
}

int policy_reconfigure(
	struct policy *policy, const struct policy_config *config)
{
	struct settings *old = policy->settings;
	struct settings *settings = settings_create(config);

	/* Half of them prepared is as good as none: without limits. */
	if (settings == NULL ||
		prepare_users(policy, settings, policy->active) != 0 ||
		prepare_users(policy, settings, policy->idle) != 0) {
		settings_free(settings);
		return -ENOMEM;
	}
	policy->settings = settings;
	apply_host(policy);
	lane_configure(policy->fallback, NULL, policy->now_ns);
	for (size_t i = 0; i < policy->n_lanes; i++)
		lane_configure(policy->lanes[i],
			settings_model(settings, policy->lanes[i]->name),
			policy->now_ns);
	apply_users(policy, policy->active);
	apply_users(policy, policy->idle);
	apply_users(policy, policy->kept);
	settings_free(old);
	return 0;
}

void policy_free(struct policy *policy)
{
	if (policy == NULL)
		return;
	user_free_all(policy);
	for (size_t i = 0; i < policy->n_lanes; i++)
		lane_free(policy->lanes[i]);
	lane_free(policy->fallback);
	free(policy->lanes);
	names_fini(&policy->lane_names);
	timeline_fini(&policy->deadlines);
	age_fini(&policy->age);
	heap_fini(&policy->due);
	heap_fini(&policy->parked);
	window_fini(&policy->window);
	share_free(policy->share);
	settings_free(policy->settings);
	free(policy);
}

int place_adopt(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	struct user_key key = user_key(policy, request->app, request->user);
	struct policy_lane *lane = lane_get(policy, request->model_id, now_ns);

	assert(request->state == POLICY_NEW);
	assert(request->class < POLICY_CLASSES);
	memset(&request->p, 0, sizeof(request->p));
	if (lane == NULL || place_reserve(policy) != 0)
		return -ENOMEM;
	request->p.seat = user_seat(policy, lane, &key);
	if (request->p.seat == NULL)
		return -ENOMEM;
	order_fetch_end(request->p.seat, request->class);
	request->lane = lane;
	request->user_entry = request->p.seat->user;
	request->p.rank = request->class;
	request->p.arrival = ++policy->arrivals;
	request->attempts = 0;
	request->enqueued_ns = now_ns;
	return 0;
}

/* The first limit of this bucket and day that the excess' request cannot fit.
 */
static bool exceeds(struct policy_excess *excess, const struct tokens *tokens,
	enum policy_reason minute, enum policy_reason day)
{
	uint64_t allowed[] = {tokens->limit, tokens->day_limit};
	enum policy_reason limits[] = {minute, day};

	for (int i = 0; i < 2; i++) {
		if (allowed[i] == 0 || excess->asked <= allowed[i])
			continue;
		excess->limit = limits[i];
		excess->allowed = allowed[i];
		return true;
	}
	return false;
}

bool is_too_large(struct policy *policy, const struct policy_request *request)
{
	const struct budget *budget = request->user_entry->budget;
	struct policy_excess excess = {
		.asked = lane_reservation(request->lane, request)};
	bool is = exceeds(&excess, &request->lane->tokens,
			  POLICY_WAIT_LANE_TOKENS, POLICY_WAIT_LANE_DAY) ||
		  exceeds(&excess, &policy->tokens, POLICY_WAIT_HOST_TOKENS,
			  POLICY_WAIT_HOST_DAY) ||
		  (budget != NULL && exceeds(&excess, &budget->tokens,
					     POLICY_WAIT_USER_TOKENS,
					     POLICY_WAIT_USER_DAY));

	if (is)
		policy->excess = excess;
	return is;
}

bool is_closed_for(const struct policy_request *request)
{
	const struct gate *gate = &request->lane->gate;

	return gate->is_closed && gate->probe == NULL && gate->is_day &&
	       gate->opens_ns >= request->deadline_ns;
}

struct policy_excess policy_last_excess(const struct policy *policy)
{
	return policy->excess;
}

/* As its user's last. */
static enum policy_refusal judge_wait(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	uint64_t wait_ns;

	if (!policy->settings->config.refuse_late || request->is_durable)
		return POLICY_ACCEPTED;
	wait_ns = policy_predict_ns(policy, request, now_ns);
	if (wait_ns <= request->deadline_ns - now_ns)
		return POLICY_ACCEPTED;
	*ret_retry_after_ns = wait_ns;
	return POLICY_TOO_LATE;
}

/* With the user known.  The predicted wait is for a place in the queue. */
static enum policy_refusal judge(struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	const struct policy_user *user = request->user_entry;
	const struct gate *gate = &request->lane->gate;

	*ret_retry_after_ns = 0;
	if (is_too_large(policy, request))
		return POLICY_TOO_LARGE;
	if (is_closed_for(request)) {
		*ret_retry_after_ns = gate->opens_ns - now_ns;
		return POLICY_LANE_CLOSED;
	}
	if (user->max_queued != 0 && !request->is_durable &&
		user->queued - user->durable >= user->max_queued) {
		*ret_retry_after_ns = predict_place_ns(policy, request, now_ns);
		return POLICY_USER_LIMIT;
	}
	return judge_wait(policy, request, now_ns, ret_retry_after_ns);
}

/* Another model is asked next: that one's word counts. */
static bool goes_elsewhere(const struct policy *policy,
	const struct policy_request *request, enum policy_refusal refusal)
{
	return (refusal == POLICY_TOO_LARGE || refusal == POLICY_LANE_CLOSED) &&
	       divert_is_possible(policy, request);
}

/* What can be said before its lane and user are known. */
static enum policy_refusal judge_host(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	uint32_t max_queued = policy->settings->config.max_queued;

	*ret_retry_after_ns = 0;
	if (request->deadline_ns <= now_ns)
		return POLICY_LATE;
	if (max_queued == 0 || request->is_durable ||
		policy->queued - policy->durable < max_queued)
		return POLICY_ACCEPTED;
	*ret_retry_after_ns = predict_host_ns(policy);
	return POLICY_QUEUE_FULL;
}

enum policy_refusal policy_judge(struct policy *policy,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	enum policy_refusal refusal;

	now_ns = policy_clock(policy, now_ns);
	refusal = judge_host(policy, request, now_ns, ret_retry_after_ns);
	if (refusal != POLICY_ACCEPTED)
		return refusal;
	if (place_adopt(policy, request, now_ns) != 0)
		return POLICY_NO_MEMORY;
	refusal = judge(policy, request, now_ns, ret_retry_after_ns);
	place_forget(policy, request);
	return refusal;
}

enum policy_refusal policy_enqueue(struct policy *policy,
	struct policy_request *request, uint64_t now_ns,
	uint64_t *ret_retry_after_ns)
{
	enum policy_refusal refusal;

	now_ns = policy_clock(policy, now_ns);
	refusal = judge_host(policy, request, now_ns, ret_retry_after_ns);
	if (refusal != POLICY_ACCEPTED)
		return refusal;
	if (place_adopt(policy, request, now_ns) != 0)
		return POLICY_NO_MEMORY;
	refusal = judge(policy, request, now_ns, ret_retry_after_ns);
	if (refusal != POLICY_ACCEPTED) {
		if (!goes_elsewhere(policy, request, refusal))
			request->user_entry->refused++;
		place_forget(policy, request);
		return refusal;
	}
	place_enter(policy, request);
	user_touch(policy, request->user_entry, now_ns);
	return POLICY_ACCEPTED;
}

struct policy_request *policy_expire(
	struct policy *policy, uint64_t now_ns, uint64_t *ret_next_ns)
{
	struct policy_request *request;

	now_ns = policy_clock(policy, now_ns);
	*ret_next_ns = timeline_first_time(&policy->deadlines);
	if (*ret_next_ns > now_ns || policy->queued == 0)
		return NULL;
	request = timeline_first(&policy->deadlines);
	place_drop(policy, request);
	return request;
}

void policy_started(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	assert(request->state == POLICY_RUNNING);
	if (request->p.flags & POLICY_STARTED)
		return;
	now_ns = policy_clock(policy, now_ns);
	request->p.flags |= POLICY_STARTED;
	request->p.started_ns = now_ns;
	adapt_started(request->lane, request, now_ns);
	window_start(&policy->window, now_ns);
	window_start(&request->lane->window, now_ns);
	if ((request->p.flags & POLICY_BUDGETED) == 0)
		return;
	window_start(&request->user_entry->budget->window, now_ns);
	order_user_changed(request->user_entry);
}

/* Answered, and not with an error that a retry might have mended. */
static void succeeded(const struct policy *policy, struct policy_lane *lane,
	const struct policy_request *request, uint64_t now_ns)
{
	retry_refund(request);
	if (!gate_hears(&lane->gate, request))
		return;
	retry_answered(policy, lane, request);
	adapt_accepted(&lane->adapt, request, now_ns);
}

void policy_finish(struct policy *policy, struct policy_request *request,
	enum policy_outcome outcome, const struct policy_usage *usage,
	uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	uint64_t used = 0, cost = 0;

	assert(request->state == POLICY_RUNNING);
	now_ns = policy_clock(policy, now_ns);
	lane_look(lane, now_ns);
	switch (outcome) {
	case POLICY_DONE:
		used = lane_used(lane, request, usage);
		cost = used > 0 ? used : 1;
		lane_learn(lane, request, usage);
		lane->done++;
		request->user_entry->done++;
		if (!(request->p.flags & POLICY_FAILED))
			succeeded(policy, lane, request, now_ns);
		break;
	case POLICY_THROTTLED:
		if (!(request->p.flags & POLICY_COUNTED))
			(void)retry_failed(policy, request,
				POLICY_FAIL_THROTTLE, 0, now_ns);
		cost = 1;
		break;
	case POLICY_LOST:
		used = request->p.reserved_tokens;
		cost = used > 0 ? used : 1;
		lane->lost++;
		break;
	case POLICY_UNUSED:
		break;
	}
	gate_passed(&lane->gate, request,
		outcome == POLICY_DONE && !(request->p.flags & POLICY_FAILED));
	place_stop(policy, request, used, cost, now_ns);
	place_forget(policy, request);
}

void policy_remove(struct policy *policy, struct policy_request *request)
{
	place_drop(policy, request);
}

void policy_close_lane(
	struct policy *policy, struct policy_lane *lane, uint64_t until_ns)
{
	lane_look(lane, policy->now_ns);
	gate_close(&lane->gate, until_ns);
	lane->gate.is_day = true;
}

const char *policy_refusal_text(enum policy_refusal refusal)
{
	static const char *const texts[] = {
		[POLICY_ACCEPTED] = "accepted",
		[POLICY_QUEUE_FULL] = "the queue is full",
		[POLICY_USER_LIMIT] = "the user has too many requests queued",
		[POLICY_TOO_LARGE] =
			"more tokens than its model's limit allows",
		[POLICY_LATE] = "the deadline has passed",
		[POLICY_NO_MEMORY] = "out of memory",
		[POLICY_LANE_CLOSED] = "the model's daily quota is used up",
		[POLICY_TOO_LATE] = "it would not start before its deadline",
	};

	return texts[refusal];
}
