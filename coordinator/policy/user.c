/* Applications, users, seats: found by name, made, forgotten. */
#include "coordinator/policy/user.h"

#include "coordinator/policy/inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static struct team *create_team(
	struct policy_lane *lane, struct policy_app *app)
{
	struct team *team;

	if (order_reserve_team(lane, lane->n_teams + 1) != 0)
		return NULL;
	team = calloc(1, sizeof(*team));
	if (team == NULL)
		return NULL;
	team->app = app;
	team->lane = lane;
	DL_PREPEND(lane->teams, team);
	DL_PREPEND2(app->teams, team, app_prev, app_next);
	lane->n_teams++;
	return team;
}

static struct team *get_team(struct policy_lane *lane, struct policy_app *app)
{
	struct team *team;

	/* As few as there are lanes. */
	for (team = app->teams; team != NULL; team = team->app_next)
		if (team->lane == lane)
			return team;
	return create_team(lane, app);
}

static void release_team(struct team *team)
{
	if (team->n_seats > 0)
		return;
	for (int class = 0; class < POLICY_CLASSES; class ++)
		heap_fini(&team->tiers[class].flows);
	DL_DELETE(team->lane->teams, team);
	DL_DELETE2(team->app->teams, team, app_prev, app_next);
	team->lane->n_teams--;
	free(team);
}

static void free_seat(struct seat *seat)
{
	struct team *team = seat->team;

	assert(seat->running == 0);
	DL_DELETE2(seat->user->seats, seat, user_prev, user_next);
	DL_DELETE2(team->seats, seat, team_prev, team_next);
	team->n_seats--;
	for (int class = 0; class < POLICY_CLASSES; class ++)
		free(seat->flows[class].hold);
	free(seat->learned);
	if (seat->user->budget != NULL)
		team->lane->policy->n_parkable -= POLICY_CLASSES;
	free(seat);
	release_team(team);
}

static struct seat *create_seat(
	struct policy_lane *lane, struct policy_user *user)
{
	struct team *team = get_team(lane, user->app);
	uint32_t n_parkable = user->budget ? POLICY_CLASSES : 0;
	struct seat *seat = NULL;

	if (team == NULL)
		return NULL;
	if (order_reserve_seat(team) == 0 &&
		order_reserve_parked(lane->policy, n_parkable) == 0)
		seat = calloc(1, sizeof(*seat));
	if (seat == NULL) {
		release_team(team);
		return NULL;
	}
	lane->policy->n_parkable += n_parkable;
	seat->user = user;
	seat->team = team;
	DL_PREPEND2(user->seats, seat, user_prev, user_next);
	DL_PREPEND2(team->seats, seat, team_prev, team_next);
	team->n_seats++;
	return seat;
}

static struct policy_app *find_app(
	const struct policy *policy, uint64_t hash, const char *name)
{
	uint64_t cursor = hash;
	struct policy_app *app;

	while ((app = names_next(&policy->app_names, hash, &cursor)) != NULL)
		if (strcmp(app->name, name) == 0)
			break;
	return app;
}

static struct policy_app *create_app(
	struct policy *policy, uint64_t hash, const char *name)
{
	size_t size = strlen(name) + 1;
	struct policy_app *app = calloc(1, sizeof(*app) + size);

	if (app == NULL)
		return NULL;
	app->hash = hash;
	memcpy(app->name, name, size);
	app->weight = settings_app_weight(policy->settings, name);
	if (names_add(&policy->app_names, hash, app) != 0) {
		free(app);
		return NULL;
	}
	return app;
}

static void release_app(struct policy *policy, struct policy_app *app)
{
	if (app->n_users > 0)
		return;
	names_remove(&policy->app_names, app->hash, app);
	free(app);
}

/* Out of its list, whichever it is. */
static void leave_list(struct policy *policy, struct policy_user *user)
{
	if (user->is_active) {
		DL_DELETE(policy->active, user);
		policy->n_active--;
	} else if (user->is_kept) {
		DL_DELETE(policy->kept, user);
		policy->n_kept--;
	} else {
		DL_DELETE(policy->idle, user);
		policy->n_idle--;
	}
	user->is_active = user->is_kept = false;
}

/* An idle one. */
static void free_user(struct policy *policy, struct policy_user *user)
{
	struct seat *seat, *next;

	assert(!user->is_active);
	for (seat = user->seats; seat != NULL; seat = next) {
		next = seat->user_next;
		free_seat(seat);
	}
	leave_list(policy, user);
	names_remove(&policy->user_names, user->hash, user);
	user->app->n_users--;
	release_app(policy, user->app);
	budget_free(user->budget);
	free(user);
}

/* Beyond USERS_IDLE, who still counts is kept.  With each of them one of those
 * kept so far is looked at, so that what is spent goes in the end. */
static void keep_user(struct policy *policy, struct policy_user *user)
{
	struct policy_user *oldest = policy->kept ? policy->kept->prev : NULL;

	leave_list(policy, user);
	user->is_kept = true;
	DL_PREPEND(policy->kept, user);
	policy->n_kept++;
	if (oldest != NULL &&
		(policy->n_kept > USERS_KEPT ||
			!budget_counts(oldest->budget, policy->now_ns)))
		free_user(policy, oldest);
}

static void forget_oldest(struct policy *policy, uint32_t keep)
{
	while (policy->idle != NULL && policy->n_idle > keep) {
		struct policy_user *oldest = policy->idle->prev;

		if (oldest->budget != NULL &&
			budget_counts(oldest->budget, policy->now_ns))
			keep_user(policy, oldest);
		else
			free_user(policy, oldest);
	}
}

static struct policy_user *create_user(struct policy *policy,
	struct policy_app *app, uint64_t hash, const char *name)
{
	size_t size = strlen(name) + 1;
	struct policy_user *user = calloc(1, sizeof(*user) + size);

	if (user == NULL)
		return NULL;
	user->app = app;
	user->hash = hash;
	memcpy(user->name, name, size);
	if (user_prepare(policy, policy->settings, user) != 0 ||
		names_add(&policy->user_names, hash, user) != 0) {
		budget_free(user->budget);
		free(user);
		return NULL;
	}
	app->n_users++;
	user_configure(policy, user);
	DL_PREPEND(policy->idle, user);
	policy->n_idle++;
	return user;
}

struct user_key user_key(
	const struct policy *policy, const char *app, const char *name)
{
	struct user_key key = {.app = app ? app : "", .name = name};
	uint64_t under_app[2];

	key.app_hash = names_hash(policy->hash_key, key.app);
	under_app[0] = policy->hash_key[0] ^ key.app_hash;
	under_app[1] = policy->hash_key[1];
	key.hash = names_hash(under_app, name);
	names_fetch(&policy->user_names, key.hash);
	return key;
}

struct policy_user *user_find(
	const struct policy *policy, const struct user_key *key)
{
	uint64_t cursor = key->hash;
	struct policy_user *user;

	while ((user = names_next(&policy->user_names, key->hash, &cursor)) !=
		NULL)
		if (strcmp(user->name, key->name) == 0 &&
			strcmp(user->app->name, key->app) == 0)
			break;
	return user;
}

struct seat *user_find_seat(
	const struct policy_user *user, const struct policy_lane *lane)
{
	struct seat *seat;

	for (seat = user->seats; seat != NULL; seat = seat->user_next)
		if (seat->team->lane == lane)
			break;
	return seat;
}

struct policy_user *user_get(struct policy *policy, const struct user_key *key)
{
	struct policy_user *user = user_find(policy, key);
	struct policy_app *app;

	if (user != NULL)
		return user;
	forget_oldest(policy, USERS_IDLE - 1);
	app = find_app(policy, key->app_hash, key->app);
	if (app == NULL)
		app = create_app(policy, key->app_hash, key->app);
	if (app == NULL)
		return NULL;
	user = create_user(policy, app, key->hash, key->name);
	if (user == NULL)
		release_app(policy, app);
	return user;
}

struct seat *user_seat(struct policy *policy, struct policy_lane *lane,
	const struct user_key *key)
{
	struct policy_user *user = user_get(policy, key);
	struct seat *seat;

	if (user == NULL)
		return NULL;
	seat = user_find_seat(user, lane);
	if (seat == NULL)
		return create_seat(lane, user);
	if (seat != user->seats) { /* the next search is short */
		DL_DELETE2(user->seats, seat, user_prev, user_next);
		DL_PREPEND2(user->seats, seat, user_prev, user_next);
	}
	return seat;
}

void user_touch(
	struct policy *policy, struct policy_user *user, uint64_t now_ns)
{
	bool is_active = user->running > 0 || user->queued > 0;

	user->last_ns = now_ns;
	if (is_active == user->is_active)
		return;
	leave_list(policy, user);
	user->is_active = is_active;
	if (is_active) {
		DL_PREPEND(policy->active, user);
		policy->n_active++;
	} else {
		DL_PREPEND(policy->idle, user);
		policy->n_idle++;
		forget_oldest(policy, USERS_IDLE);
	}
}

static uint32_t count_seats(const struct policy_user *user)
{
	uint32_t n = 0;

	for (const struct seat *seat = user->seats; seat;
		seat = seat->user_next)
		n++;
	return n;
}

int user_prepare(struct policy *policy, const struct settings *settings,
	struct policy_user *user)
{
	uint32_t n_parkable = POLICY_CLASSES * count_seats(user);

	if (user->budget != NULL ||
		!budget_is_in(settings_user(settings, user->name)))
		return 0;
	if (order_reserve_parked(policy, n_parkable) != 0)
		return -ENOMEM;
	user->budget = budget_create();
	if (user->budget == NULL)
		return -ENOMEM;
	policy->n_parkable += n_parkable;
	return 0;
}

void user_configure(const struct policy *policy, struct policy_user *user)
{
	const struct policy_config *config = &policy->settings->config;
	const struct policy_user_rule *rule =
		settings_user(policy->settings, user->name);

	user->weight = rule && rule->weight > 0 ? rule->weight : 1;
	user->max_running = rule && rule->max_concurrent
				    ? rule->max_concurrent
				    : config->max_requests_per_user;
	user->max_queued = rule && rule->max_queued
				   ? rule->max_queued
				   : config->max_queued_per_user;
	user->app->weight =
		settings_app_weight(policy->settings, user->app->name);
	if (user->budget == NULL)
		return;
	budget_set(user->budget, rule, config, policy->now_ns);
	tokens_join_day(&user->budget->tokens, &policy->tokens);
}

void user_free_all(struct policy *policy)
{
	assert(policy->n_active == 0);
	while (policy->idle != NULL)
		free_user(policy, policy->idle);
	while (policy->kept != NULL)
		free_user(policy, policy->kept);
	names_fini(&policy->user_names);
	names_fini(&policy->app_names);
}

/* The last seat takes its team along. */
static void dissolve_team(struct team *team)
{
	struct seat *next;

	for (struct seat *seat = team->seats; seat != NULL; seat = next) {
		next = seat->team_next;
		free_seat(seat);
	}
}

void user_leave_lane(struct policy_lane *lane)
{
	struct team *next;

	for (struct team *team = lane->teams; team != NULL; team = next) {
		next = team->next;
		dissolve_team(team);
	}
}
