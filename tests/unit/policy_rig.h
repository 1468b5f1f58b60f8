/*
 * What the policy's tests share: a configuration without limits, requests,
 * virtual time, and short ways to the views.
 */
#ifndef TESTS_UNIT_POLICY_RIG_H
#define TESTS_UNIT_POLICY_RIG_H

#include "coordinator/policy/policy.h"
#include "tests/unit/suite.h"

#define RIG_S UINT64_C(1000000000)
#define RIG_MS UINT64_C(1000000)
#define RIG_NEVER UINT64_MAX

#define RIG __attribute__((unused)) static

/* No limit anywhere; the minute is 60 s, the guard 1 s. */
RIG struct policy_config rig_config(void)
{
	return (struct policy_config){
		.minute_ns = 60 * RIG_S,
		.guard_ns = RIG_S,
		.max_attempts = 3,
		.throttle_base_ns = RIG_S,
		.transient_base_ns = 50 * RIG_MS,
		.backoff_cap_ns = 20 * RIG_S,
		.probe_ok_after_ns = 2 * RIG_S,
		.retry_budget = 500,
		.seed = 7,
	};
}

RIG struct policy *rig_create(const struct policy_config *config)
{
	struct policy *policy = NULL;

	CU_ASSERT_EQUAL_FATAL(policy_create(config, &policy), 0);
	return policy;
}

/* A normal request of `user`, 10 tokens in, due in an hour from nought. */
RIG struct policy_request rig_request(const char *user)
{
	return (struct policy_request){
		.model_id = "m",
		.user = user,
		.app = "app",
		.class = POLICY_NORMAL,
		.input_tokens = 10,
		.deadline_ns = 3600 * RIG_S,
	};
}

RIG enum policy_refusal rig_enqueue(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	uint64_t retry_after_ns;

	return policy_enqueue(policy, request, now_ns, &retry_after_ns);
}

RIG struct policy_request *rig_admit(struct policy *policy, uint64_t now_ns)
{
	uint64_t next_ns;

	return policy_admit(policy, now_ns, &next_ns);
}

/* When to ask again; nobody may go now. */
RIG uint64_t rig_next(struct policy *policy, uint64_t now_ns)
{
	uint64_t next_ns = 0;

	CU_ASSERT_PTR_NULL(policy_admit(policy, now_ns, &next_ns));
	return next_ns;
}

/* Enqueued, admitted and sent at once. */
RIG void rig_run(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	CU_ASSERT_EQUAL_FATAL(
		rig_enqueue(policy, request, now_ns), POLICY_ACCEPTED);
	CU_ASSERT_PTR_EQUAL_FATAL(rig_admit(policy, now_ns), request);
	policy_started(policy, request, now_ns);
}

RIG void rig_done(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	policy_finish(policy, request, POLICY_DONE, NULL, now_ns);
}

/* Out, whatever it is doing. */
RIG void rig_drop(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	if (request->state == POLICY_RUNNING)
		rig_done(policy, request, now_ns);
	else if (request->state != POLICY_NEW)
		policy_remove(policy, request);
}

/* What was left at at_ns, where days begin at nought. */
RIG struct policy_left rig_left(
	int64_t available, int64_t used_today, uint64_t at_ns)
{
	return (struct policy_left){.available = available,
		.used_today = used_today,
		.day = at_ns / (86400 * RIG_S),
		.at_ns = at_ns};
}

RIG int rig_restore_tokens(struct policy *policy, int64_t available,
	int64_t used_today, uint64_t at_ns, uint64_t now_ns)
{
	struct policy_left left = rig_left(available, used_today, at_ns);

	return policy_restore_tokens(policy, "m", &left, now_ns);
}

struct rig_find {
	const char *name;
	struct policy_lane_view lane;
	struct policy_user_view user;
	bool is_found;
};

RIG bool rig_see_lane(const struct policy_lane_view *view, void *arg)
{
	struct rig_find *find = arg;

	find->is_found = strcmp(view->name, find->name) == 0;
	if (find->is_found)
		find->lane = *view;
	return !find->is_found;
}

RIG struct policy_lane_view rig_lane(
	const struct policy *policy, const char *name, uint64_t now_ns)
{
	struct rig_find find = {.name = name};

	policy_each_lane(policy, now_ns, rig_see_lane, &find);
	CU_ASSERT_TRUE(find.is_found);
	return find.lane;
}

RIG bool rig_see_user(const struct policy_user_view *view, void *arg)
{
	struct rig_find *find = arg;

	find->is_found = strcmp(view->name, find->name) == 0;
	if (find->is_found)
		find->user = *view;
	return !find->is_found;
}

RIG struct policy_user_view rig_user(
	const struct policy *policy, const char *name)
{
	struct rig_find find = {.name = name};

	policy_each_user(policy, 0, rig_see_user, &find);
	CU_ASSERT_TRUE(find.is_found);
	return find.user;
}

RIG struct policy_host_view rig_host(
	const struct policy *policy, uint64_t now_ns)
{
	struct policy_host_view view;

	policy_view_host(policy, now_ns, &view);
	return view;
}

/* A generator of the tests' own. */
RIG uint32_t rig_random(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) +
		 UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % below);
}

/* SEED= of the environment, or a fixed one; printed, so that it can be
 * replayed. */
RIG uint64_t rig_seed(uint64_t otherwise)
{
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : otherwise;

	printf("# SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

#endif
