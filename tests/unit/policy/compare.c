/* Everything that can be looked at, beside what the reference counts. */
#include "tests/unit/policy/world.h"

#include <string.h>

static bool see_lane(const struct policy_lane_view *view, void *arg)
{
	struct views *views = arg;

	(void)strcpy(views->names[views->n_lanes], view->name);
	views->lanes[views->n_lanes++] = *view;
	return views->n_lanes < REF_LANES;
}

static bool see_user(const struct policy_user_view *view, void *arg)
{
	struct views *views = arg;

	views->users[views->n_users++] = *view;
	return views->n_users < REF_USERS;
}

void compare_look(const struct world *world, struct views *ret_views)
{
	memset(ret_views, 0, sizeof(*ret_views));
	policy_view_host(world->real, world->now_ns, &ret_views->host);
	policy_each_lane(world->real, world->now_ns, see_lane, ret_views);
	policy_each_user(world->real, world->now_ns, see_user, ret_views);
}

static int find_ref_lane(const struct ref *ref, const char *name)
{
	for (int i = 0; i < REF_LANES; i++)
		if (strcmp(ref->lanes[i].name, name) == 0)
			return i;
	return REF_NOBODY;
}

static int find_ref_user(
	const struct ref *ref, const char *app, const char *name)
{
	for (int i = 0; i < REF_USERS; i++)
		if (strcmp(ref->users[i].name, name) == 0 &&
			strcmp(ref->apps[ref->users[i].app], app) == 0)
			return i;
	return REF_NOBODY;
}

static void compare_lane(struct world *world, const struct policy_lane_view *v)
{
	struct ref *ref = &world->ref;
	int id = find_ref_lane(ref, v->name);
	const struct ref_lane *lane = &ref->lanes[id < 0 ? 0 : id];
	const struct ref_bucket *bucket = &lane->scope.bucket;

	if (id == REF_NOBODY) {
		world_fault(world,
			"a lane %s of which the reference knows nothing",
			v->name);
		return;
	}
	SAME(world, v->name, v->running,
		ref_count(ref, POLICY_RUNNING, id, REF_NOBODY));
	SAME(world, v->name, v->queued,
		ref_count(ref, POLICY_QUEUED, id, REF_NOBODY));
	SAME(world, v->name, v->backing_off,
		ref_count(ref, POLICY_BACKOFF, id, REF_NOBODY));
	if (world->now_ns >= lane->scope.full_until_ns)
		SAME(world, v->name, v->starts,
			ref_count_starts(ref, id, REF_NOBODY));
	SAME(world, v->name, v->tokens_available,
		ref_bucket_level(ref, bucket));
	SAME(world, v->name, v->tokens_reserved,
		ref_count_reserved(ref, id, REF_NOBODY));
	SAME(world, v->name, v->tokens_used_today,
		ref_bucket_used_today(ref, bucket));
	SAME(world, v->name, v->admitted, lane->admitted);
	SAME(world, v->name, v->done, lane->done);
	SAME(world, v->name, v->throttled, lane->throttled);
	SAME(world, v->name, v->lost, lane->lost);
	SAME(world, v->name, v->retries, lane->retries);
	SAME(world, v->name, v->retry_budget_left, lane->retry_left);
	SAME(world, v->name, v->starts_allowed,
		lane->starts.limit ? ref_rate_now(ref, &lane->starts)
				   : lane->scope.requests_per_minute);
	SAME(world, v->name, v->tokens_allowed,
		lane->tokens.limit ? ref_rate_now(ref, &lane->tokens)
				   : bucket->limit);
	SAME(world, v->name, v->gate_open, !lane->gate.is_closed);
	SAME(world, v->name, v->gate_opens_ns,
		lane->gate.is_closed ? lane->gate.opens_ns : 0);
}

static void compare_budget(
	struct world *world, const struct policy_user_view *v, int id)
{
	struct ref *ref = &world->ref;
	const struct ref_bucket *bucket = &ref->users[id].scope.bucket;

	SAME(world, v->name, v->starts, ref_count_starts(ref, REF_NOBODY, id));
	SAME(world, v->name, v->tokens_available,
		ref_bucket_level(ref, bucket));
	SAME(world, v->name, v->tokens_used_today,
		ref_bucket_used_today(ref, bucket));
}

static void compare_user(struct world *world, const struct policy_user_view *v)
{
	struct ref *ref = &world->ref;
	int id = find_ref_user(ref, v->app, v->name);
	const struct ref_user *user = &ref->users[id < 0 ? 0 : id];

	if (id == REF_NOBODY) {
		world_fault(world,
			"a user %s of which the reference knows nothing",
			v->name);
		return;
	}
	SAME(world, v->name, v->running,
		ref_count(ref, POLICY_RUNNING, REF_NOBODY, id));
	SAME(world, v->name, v->queued,
		ref_count(ref, POLICY_QUEUED, REF_NOBODY, id) +
			ref_count(ref, POLICY_BACKOFF, REF_NOBODY, id));
	SAME(world, v->name, v->admitted, user->admitted);
	SAME(world, v->name, v->done, user->done);
	SAME(world, v->name, v->refused, user->refused);
	SAME(world, v->name, v->has_budget, user->has_budget);
	if (user->has_budget)
		compare_budget(world, v, id);
	if (v->service != user->service)
		world_fault(world, "%s: service %g, by the reference %g",
			v->name, v->service, user->service);
}

static void compare_requests(struct world *world)
{
	for (int i = 0; i < REF_REQUESTS; i++) {
		const struct policy_request *real = &world->requests[i];
		const struct ref_request *ref = &world->ref.requests[i];

		SAME(world, "a request", real->state, ref->state);
		if (real->state != POLICY_NEW)
			SAME(world, "a request", real->attempts, ref->attempts);
		if (real->state == POLICY_RUNNING)
			SAME(world, "a request", policy_reserved(real),
				ref->reserved);
	}
}

void compare_all(struct world *world)
{
	struct ref *ref = &world->ref;
	struct views views;
	uint32_t users = 0;

	ref_clock(ref, world->now_ns);
	compare_look(world, &views);
	for (int i = 0; i < views.n_lanes; i++)
		compare_lane(world, &views.lanes[i]);
	for (int i = 0; i < views.n_users; i++)
		compare_user(world, &views.users[i]);
	compare_requests(world);
	for (int i = 0; i < REF_USERS; i++)
		users += ref_is_active(ref, i);
	SAME(world, "host", views.host.users, users);
	SAME(world, "host", views.host.running,
		ref_count(ref, POLICY_RUNNING, REF_NOBODY, REF_NOBODY));
	SAME(world, "host", views.host.queued,
		ref_count(ref, POLICY_QUEUED, REF_NOBODY, REF_NOBODY) +
			ref_count(ref, POLICY_BACKOFF, REF_NOBODY, REF_NOBODY));
	SAME(world, "host", views.host.tokens_available,
		ref_bucket_level(ref, &ref->host.bucket));
	SAME(world, "host", views.host.tokens_reserved,
		ref_count_reserved(ref, REF_NOBODY, REF_NOBODY));
	SAME(world, "host", views.host.tokens_used_today,
		ref_bucket_used_today(ref, &ref->host.bucket));
	if (world->now_ns >= ref->full_until_ns)
		SAME(world, "host", views.host.starts,
			ref_count_starts(ref, REF_NOBODY, REF_NOBODY));
}

#define EQUAL(field) a->field == b->field

static bool is_same_host(
	const struct policy_host_view *a, const struct policy_host_view *b)
{
	return EQUAL(running) && EQUAL(queued) && EQUAL(starts) &&
	       EQUAL(users) && EQUAL(oldest_enqueued_ns) &&
	       EQUAL(tokens_available) && EQUAL(tokens_reserved) &&
	       EQUAL(tokens_used_today);
}

static bool is_same_lane(
	const struct policy_lane_view *a, const struct policy_lane_view *b)
{
	return EQUAL(running) && EQUAL(queued) && EQUAL(backing_off) &&
	       EQUAL(starts) && EQUAL(tokens_available) &&
	       EQUAL(tokens_reserved) && EQUAL(tokens_used_today) &&
	       EQUAL(admitted) && EQUAL(done) && EQUAL(throttled) &&
	       EQUAL(lost) && EQUAL(retries) && EQUAL(retry_budget_left) &&
	       EQUAL(gate_open) && EQUAL(gate_opens_ns);
}

static bool is_same_user(
	const struct policy_user_view *a, const struct policy_user_view *b)
{
	return EQUAL(running) && EQUAL(queued) && EQUAL(service) &&
	       EQUAL(admitted) && EQUAL(done) && EQUAL(starts) &&
	       EQUAL(tokens_available) && EQUAL(tokens_used_today);
}

/* Nothing that anybody can look at is different; but for lanes and users that
 * were made, or lanes that were given up, on the way. */
void compare_unchanged(struct world *world, const struct views *before)
{
	struct views after;

	compare_look(world, &after);
	if (!is_same_host(&before->host, &after.host))
		world_fault(world, "a refusal changed the host's counts");
	for (int i = 0; i < before->n_lanes; i++)
		for (int j = 0; j < after.n_lanes; j++)
			if (strcmp(before->names[i], after.names[j]) == 0 &&
				!is_same_lane(
					&before->lanes[i], &after.lanes[j]))
				world_fault(world,
					"a refusal changed the lane %s",
					after.lanes[j].name);
	for (int i = 0; i < before->n_users; i++)
		for (int j = 0; j < after.n_users; j++)
			if (before->users[i].name == after.users[j].name &&
				!is_same_user(
					&before->users[i], &after.users[j]))
				world_fault(world,
					"a refusal changed the user %s",
					after.users[j].name);
}
