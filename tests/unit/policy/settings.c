/* Settings, and what is found or made by name: docs/policy.md, sections 1, 8.
 */
#include "tests/unit/policy/reference.h"

#include <assert.h>
#include <fnmatch.h>
#include <string.h>

/* ------------------------------------------------------------ settings */

const struct policy_model *ref_block(
	const struct ref *ref, const char *model_id)
{
	for (size_t i = 0; i < ref->config.n_models; i++)
		if (fnmatch(ref->config.models[i].pattern, model_id, 0) == 0)
			return &ref->config.models[i];
	return NULL;
}

static void configure_host(struct ref *ref)
{
	ref->host.max_concurrent = ref->config.max_concurrent;
	ref->host.requests_per_minute = ref->config.requests_per_minute;
	ref->host.smooth = ref->config.smooth_starts;
	ref_bucket_set(ref, &ref->host.bucket, ref->config.tokens_per_minute,
		ref->config.tokens_per_day,
		ref_count_reserved(ref, REF_NOBODY, REF_NOBODY));
}

/* What a rate adapts: the lane's own limit, or the host's. */
static uint64_t own_or(const struct ref *ref, uint64_t own, uint64_t host)
{
	if (!ref->config.adaptive)
		return 0;
	return own ? own : host;
}

static void configure_lane(struct ref *ref, int id)
{
	static const struct policy_model none;
	struct ref_lane *lane = &ref->lanes[id];
	const struct policy_model *model =
		id == 0 ? NULL : ref_block(ref, lane->name);
	const struct policy_model *limits = model ? model : &none;

	lane->model = model;
	lane->scope.max_concurrent = limits->max_concurrent;
	lane->scope.requests_per_minute = limits->requests_per_minute;
	lane->scope.smooth = limits->smooth_starts;
	ref_bucket_set(ref, &lane->scope.bucket, limits->tokens_per_minute,
		limits->tokens_per_day,
		ref_count_reserved(ref, id, REF_NOBODY));
	ref_rate_set(&lane->starts, own_or(ref, limits->requests_per_minute,
					    ref->config.requests_per_minute));
	ref_rate_set(&lane->tokens, own_or(ref, limits->tokens_per_minute,
					    ref->config.tokens_per_minute));
	/* A larger budget is given at once; a smaller one cuts. */
	if (ref->config.retry_budget > lane->retry_budget)
		lane->retry_left +=
			ref->config.retry_budget - lane->retry_budget;
	lane->retry_budget = ref->config.retry_budget;
	if (lane->retry_left > lane->retry_budget)
		lane->retry_left = lane->retry_budget;
}

static void configure_user(struct ref *ref, int id)
{
	static const struct policy_user_rule none;
	const struct policy_user_rule *rule = &none;
	struct ref_user *user = &ref->users[id];

	for (size_t i = ref->config.n_users; i-- > 0;)
		if (fnmatch(ref->config.users[i].pattern, user->name, 0) == 0)
			rule = &ref->config.users[i];
	user->weight = rule->weight > 0 ? rule->weight : 1;
	user->max_queued = rule->max_queued ? rule->max_queued
					    : ref->config.max_queued_per_user;
	user->scope.max_concurrent =
		rule->max_concurrent ? rule->max_concurrent
				     : ref->config.max_requests_per_user;
	user->scope.requests_per_minute = rule->requests_per_minute;
	user->has_budget |= rule->requests_per_minute != 0 ||
			    rule->tokens_per_minute != 0 ||
			    rule->tokens_per_day != 0;
	ref_bucket_set(ref, &user->scope.bucket, rule->tokens_per_minute,
		rule->tokens_per_day, ref_count_budgeted(ref, id));
}

static void configure_app(struct ref *ref, int app)
{
	ref->app_weight[app] = 1;
	for (size_t i = ref->config.n_apps; i-- > 0;)
		if (fnmatch(ref->config.apps[i].pattern, ref->apps[app], 0) ==
				0 &&
			ref->config.apps[i].weight > 0)
			ref->app_weight[app] = ref->config.apps[i].weight;
}

/* ------------------------------------------------- lanes, users, by name */

bool ref_is_active(const struct ref *ref, int user)
{
	return ref_count(ref, POLICY_QUEUED, REF_NOBODY, user) +
		       ref_count(ref, POLICY_BACKOFF, REF_NOBODY, user) +
		       ref_count(ref, POLICY_RUNNING, REF_NOBODY, user) >
	       0;
}

/* A total made later is of the host's day, which may be ahead of the clock. */
static void join_day(const struct ref *ref, struct ref_bucket *bucket)
{
	if (bucket->day < ref->host.bucket.day)
		bucket->day = ref->host.bucket.day;
}

static void make_lane(struct ref *ref, int id, const char *name)
{
	struct ref_lane *lane = &ref->lanes[id];

	*lane = (struct ref_lane){.made = ++ref->events};
	lane->turn = lane->made;
	lane->gate.probe = REF_NOBODY;
	(void)strcpy(lane->name, name);
	configure_lane(ref, id);
	join_day(ref, &lane->scope.bucket);
	if (ref->now_ns < ref->full_until_ns) {
		lane->scope.full_until_ns = ref->full_until_ns;
		lane->scope.bucket.parts = 0;
		lane->scope.bucket.at_ns = ref->full_from_ns;
	}
}

/* Nothing would be forgotten with it that still limits anything. */
static bool is_spent(struct ref *ref, int id)
{
	struct ref_lane *lane = &ref->lanes[id];
	struct ref_bucket *bucket = &lane->scope.bucket;

	return ref_count(ref, POLICY_QUEUED, id, REF_NOBODY) == 0 &&
	       ref_count(ref, POLICY_BACKOFF, id, REF_NOBODY) == 0 &&
	       ref_count(ref, POLICY_RUNNING, id, REF_NOBODY) == 0 &&
	       !lane->gate.is_closed &&
	       ref_rate_now(ref, &lane->starts) >= lane->starts.limit &&
	       ref_rate_now(ref, &lane->tokens) >= lane->tokens.limit &&
	       ref_count_starts(ref, id, REF_NOBODY) == 0 &&
	       (lane->scope.requests_per_minute == 0 ||
		       ref->now_ns >= lane->scope.full_until_ns) &&
	       ref_bucket_level(ref, bucket) >= (int64_t)bucket->limit &&
	       (bucket->day_limit == 0 ||
		       ref_bucket_used_today(ref, bucket) <= 0);
}

/* For one more lane: a free place, that of a spent one, or REF_NOBODY. */
static int find_room(struct ref *ref)
{
	int n = 0, free = REF_NOBODY, spent = REF_NOBODY;

	for (int i = REF_LANES - 1; i > 0; i--) {
		if (ref->lanes[i].name[0] == '\0')
			free = i;
		else
			n++;
	}
	if (ref->config.max_lanes == 0 || n < (int)ref->config.max_lanes)
		return free;
	for (int i = 1; i < REF_LANES; i++)
		if (ref->lanes[i].name[0] != '\0' && is_spent(ref, i) &&
			(spent == REF_NOBODY ||
				ref->lanes[i].made < ref->lanes[spent].made))
			spent = i;
	return spent;
}

int ref_lane(struct ref *ref, const char *model_id)
{
	int id;

	for (id = 1; id < REF_LANES; id++)
		if (strcmp(ref->lanes[id].name, model_id) == 0)
			return id;
	if (ref_block(ref, model_id) == NULL)
		return 0;
	id = find_room(ref);
	if (id == REF_NOBODY)
		return 0;
	make_lane(ref, id, model_id);
	return id;
}

static int get_app(struct ref *ref, const char *name)
{
	for (int i = 0; i < REF_APPS; i++) {
		if (ref->app_weight[i] != 0 && strcmp(ref->apps[i], name) == 0)
			return i;
		if (ref->app_weight[i] != 0)
			continue;
		(void)strcpy(ref->apps[i], name);
		configure_app(ref, i);
		return i;
	}
	assert(!"more applications than REF_APPS");
	return 0;
}

int ref_user(struct ref *ref, const char *app_name, const char *name)
{
	int app = get_app(ref, app_name);

	for (int i = 0; i < REF_USERS; i++) {
		struct ref_user *user = &ref->users[i];

		if (user->name[0] == '\0') {
			(void)strcpy(user->name, name);
			user->app = app;
			configure_user(ref, i);
			join_day(ref, &user->scope.bucket);
			return i;
		}
		if (user->app == app && strcmp(user->name, name) == 0)
			return i;
	}
	assert(!"more users than REF_USERS");
	return 0;
}

/* ------------------------------------------------- create, reconfigure */

void ref_create(struct ref *ref, const struct policy_config *config)
{
	*ref = (struct ref){.config = *config, .generator = config->seed};
	for (int i = 0; i < REF_LANES; i++)
		ref->lanes[i].gate.probe = REF_NOBODY;
	configure_host(ref);
	make_lane(ref, 0, "default");
}

/* The user who is active for the shortest time, of those for longer than
 * `since`. */
static int next_active(const struct ref *ref, uint64_t since)
{
	int next = REF_NOBODY;

	for (int i = 0; i < REF_USERS; i++)
		if (ref_is_active(ref, i) &&
			ref->users[i].active_since < since &&
			(next == REF_NOBODY ||
				ref->users[i].active_since >
					ref->users[next].active_since))
			next = i;
	return next;
}

void ref_reconfigure(struct ref *ref, const struct policy_config *config)
{
	uint64_t since = UINT64_MAX;
	int id;

	/* Up to now by the old settings. */
	ref_bucket_refill(ref, &ref->host.bucket);
	for (int i = 0; i < REF_LANES; i++)
		ref_bucket_refill(ref, &ref->lanes[i].scope.bucket);
	for (int i = 0; i < REF_USERS; i++)
		ref_bucket_refill(ref, &ref->users[i].scope.bucket);
	ref->config = *config;
	configure_host(ref);
	for (int i = 0; i < REF_LANES; i++)
		if (ref->lanes[i].name[0] != '\0')
			configure_lane(ref, i);
	for (int i = 0; i < REF_APPS; i++)
		if (ref->app_weight[i] != 0)
			configure_app(ref, i);
	while ((id = next_active(ref, since)) != REF_NOBODY) {
		since = ref->users[id].active_since;
		configure_user(ref, id);
		ref_look_at_user(ref, id);
	}
	for (id = 0; id < REF_USERS; id++)
		if (ref->users[id].name[0] != '\0' && !ref_is_active(ref, id))
			configure_user(ref, id);
}
