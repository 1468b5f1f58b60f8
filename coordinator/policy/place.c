/* Moves a request from one state to the next, with all its accounts. */
#include "coordinator/policy/inside.h"

#include <assert.h>

int place_reserve(struct policy *policy)
{
	/* What runs may come back. */
	uint32_t n = policy->running + 1;
	int rc = timeline_reserve(&policy->deadlines, n);

	return rc != 0 ? rc : heap_reserve(&policy->due, policy->due.n + n);
}

int place_reserve_start(
	struct policy *policy, const struct policy_request *request)
{
	struct budget *budget = request->user_entry->budget;
	int rc = place_reserve(policy); /* it may come back */

	if (rc == 0)
		rc = window_reserve(&policy->window);
	if (rc == 0)
		rc = window_reserve(&request->lane->window);
	if (rc == 0 && budget != NULL)
		rc = window_reserve(&budget->window);
	return rc;
}

/* Into its lane's order, at the head for a retry. */
static void queue(
	struct policy *policy, struct policy_request *request, bool at_head)
{
	request->state = POLICY_QUEUED;
	request->lane->queued++;
	age_enter(&policy->age, request);
	order_enter(request, at_head);
}

/* The waiting part of policy and user: queued or backing off. */
static void count_waiting(struct policy *policy, struct policy_request *request)
{
	/* Here was what it needed while it ran. */
	request->p.deadline_place = request->p.age_place = 0;
	request->p.due_place = 0;
	request->user_entry->queued++;
	policy->queued++;
	request->user_entry->durable += request->is_durable;
	policy->durable += request->is_durable;
	if (policy->queued > policy->queued_peak)
		policy->queued_peak = policy->queued;
	/* Reserved by place_reserve(). */
	(void)timeline_enter(&policy->deadlines, request, request->deadline_ns);
}

static void uncount_waiting(
	struct policy *policy, struct policy_request *request)
{
	request->user_entry->queued--;
	policy->queued--;
	request->user_entry->durable -= request->is_durable;
	policy->durable -= request->is_durable;
	timeline_leave(&policy->deadlines, request);
}

void place_enter(struct policy *policy, struct policy_request *request)
{
	count_waiting(policy, request);
	queue(policy, request, false);
	pace_count(&request->p.seat->flows[request->p.rank].pace,
		lane_pace_ns(request->lane), policy->now_ns);
}

void place_withdraw(struct policy *policy, struct policy_request *request)
{
	if (request->state == POLICY_QUEUED) {
		age_leave(&policy->age, request);
		order_leave(request);
		request->lane->queued--;
	} else {
		assert(request->state == POLICY_BACKOFF);
		heap_take(&policy->due, &request->p.due_place);
		request->lane->backing_off--;
		why_wake(request);
	}
	uncount_waiting(policy, request);
}

void place_drop(struct policy *policy, struct policy_request *request)
{
	place_withdraw(policy, request);
	place_forget(policy, request);
}

void place_forget(struct policy *policy, struct policy_request *request)
{
	struct policy_user *user = request->user_entry;

	request->state = POLICY_NEW;
	request->lane = NULL;
	request->user_entry = NULL;
	user_touch(policy, user, policy->now_ns);
}

static void count_running(struct policy *policy, struct policy_request *request)
{
	struct policy_lane *lane = request->lane;

	policy->running++;
	lane->running++;
	if (policy->running > policy->running_peak)
		policy->running_peak = policy->running;
	if (lane->running > lane->running_peak)
		lane->running_peak = lane->running;
	if (request->p.rank == POLICY_BATCH) {
		policy->batch_running++;
		lane->batch_running++;
	}
	lane->admitted++;
	request->user_entry->admitted++;
}

/* What it needs while it runs comes after it has left its queue. */
static void run(struct policy *policy, struct policy_request *request,
	uint64_t tokens, uint64_t cost, uint64_t day, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;

	order_start(request, cost > 0 ? cost : 1);
	request->p.reserved_tokens = tokens;
	request->p.day = (uint32_t)day;
	request->p.started_ns = 0;
	gate_pass(&lane->gate, request);
	request->state = POLICY_RUNNING;
	if (request->attempts < UINT16_MAX)
		request->attempts++;
	request->admitted_ns = now_ns;
	if (policy->first_ns == 0)
		policy->first_ns = now_ns;
	count_running(policy, request);
	user_touch(policy, request->user_entry, now_ns);
}

void place_fetch(
	const struct policy *policy, const struct policy_request *request)
{
	fetch_lines(request->user_entry, sizeof(struct policy_user));
	if (request->p.seat->learned != NULL)
		fetch_lines(request->p.seat->learned, sizeof(struct learn));
	timeline_fetch(&policy->deadlines, request);
	age_fetch(&policy->age, request);
	if (request->p.next != NULL) /* the first from now on */
		fetch_lines(&request->p.next->p, sizeof(request->p));
}

/* How they were paid, as flags. */
static uint8_t take_leases(struct policy *policy, struct policy_lane *lane,
	uint64_t tokens, uint64_t now_ns)
{
	if (policy->share == NULL)
		return 0;
	lease_take(&policy->lease, policy->share, tokens, now_ns);
	lease_take(&lane->lease, policy->share, tokens, now_ns);
	return lease_is_apart(policy->share) ? 0 : POLICY_LEASED;
}

void place_run(
	struct policy *policy, struct policy_request *request, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	struct budget *budget = request->user_entry->budget;
	uint64_t tokens = lane_reservation(lane, request);

	if (request->state == POLICY_QUEUED) {
		age_leave(&policy->age, request);
		lane->queued--;
		uncount_waiting(policy, request);
	}
	window_hold(&policy->window);
	window_hold(&lane->window);
	tokens_reserve(&lane->tokens, tokens, now_ns);
	tokens_reserve(&policy->tokens, tokens, now_ns);
	meter_add(&lane->adapt.meter, tokens, now_ns);
	adapt_admitted(lane, tokens, policy->settings->config.probe_ok_after_ns,
		now_ns);
	request->p.flags = take_leases(policy, lane, tokens, now_ns);
	if (budget != NULL) {
		window_hold(&budget->window);
		tokens_reserve(&budget->tokens, tokens, now_ns);
		request->p.flags |= POLICY_BUDGETED;
	}
	run(policy, request, tokens, lane_expected(lane, request),
		lane->tokens.day, now_ns);
}

/* Charged already where what a predecessor left was restored. */
static void hold_tokens(
	struct tokens *bucket, bool is_in, uint64_t tokens, uint64_t now_ns)
{
	if (is_in)
		tokens_adopt(bucket, tokens);
	else
		tokens_reserve(bucket, tokens, now_ns);
}

static void hold_budget(struct policy_request *request, uint64_t tokens,
	uint64_t started_ns, uint64_t now_ns)
{
	struct budget *budget = request->user_entry->budget;

	if (budget == NULL)
		return;
	hold_tokens(&budget->tokens, budget->is_restored, tokens, now_ns);
	/* No memory: one start too few is known, of the past. */
	if (!budget->is_restored)
		(void)window_restore(&budget->window, started_ns, now_ns);
	request->p.flags |= POLICY_BUDGETED;
}

void place_hold(struct policy *policy, struct policy_request *request,
	int64_t reserved, uint64_t started_ns, uint64_t now_ns)
{
	struct tokens *bucket = &request->lane->tokens;
	uint64_t tokens = reserved < 0
				  ? lane_reservation(request->lane, request)
				  : (uint64_t)reserved;

	hold_tokens(bucket, reserved >= 0, tokens, now_ns);
	hold_tokens(&policy->tokens, policy->is_restored, tokens, now_ns);
	meter_add(&request->lane->adapt.meter, tokens, now_ns);
	request->p.flags = POLICY_STARTED;
	hold_budget(request, tokens, started_ns, now_ns);
	run(policy, request, tokens, tokens,
		reserved < 0 ? bucket->day : tokens_day_at(bucket, started_ns),
		now_ns);
	request->p.started_ns = now_ns;
}

/* For predictions. */
static void note_end(struct policy *policy,
	const struct policy_request *request, uint64_t used, uint64_t now_ns)
{
	double hold_ns = (double)(now_ns - request->admitted_ns);

	mean_add(&request->lane->hold_ns, hold_ns);
	mean_add(&policy->hold_ns, hold_ns);
	if (used == 0)
		return;
	mean_add(&policy->cost, (double)used);
	mean_add(&request->lane->cost, (double)used);
	mean_add(&request->p.seat->cost, (double)used);
}

static void stop_leases(struct policy *policy,
	const struct policy_request *request, uint64_t used, uint64_t now_ns)
{
	struct lease *leases[] = {&policy->lease, &request->lane->lease};
	bool is_leased = (request->p.flags & POLICY_LEASED) != 0;

	for (int i = 0; i < 2; i++) {
		if (!(request->p.flags & POLICY_STARTED))
			lease_give_back(leases[i], policy->share);
		lease_settle(leases[i], policy->share, is_leased,
			request->p.reserved_tokens, used, now_ns);
	}
}

static void stop_charges(struct policy *policy, struct policy_request *request,
	uint64_t used, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;
	struct budget *budget = request->user_entry->budget;
	uint64_t was = request->p.reserved_tokens, day = request->p.day;
	bool is_started = (request->p.flags & POLICY_STARTED) != 0;

	if (!is_started) {
		window_give_back(&policy->window);
		window_give_back(&lane->window);
	}
	if (policy->share != NULL)
		stop_leases(policy, request, used, now_ns);
	tokens_settle(&lane->tokens, was, used, day, now_ns);
	tokens_settle(&policy->tokens, was, used, day, now_ns);
	if ((request->p.flags & POLICY_BUDGETED) == 0)
		return;
	if (!is_started)
		window_give_back(&budget->window);
	tokens_settle(&budget->tokens, was, used, day, now_ns);
}

void place_stop(struct policy *policy, struct policy_request *request,
	uint64_t used, uint64_t cost, uint64_t now_ns)
{
	struct policy_lane *lane = request->lane;

	assert(request->state == POLICY_RUNNING);
	stop_charges(policy, request, used, now_ns);
	meter_settle(&lane->adapt.meter, request->admitted_ns,
		request->p.reserved_tokens, used, now_ns);
	request->p.reserved_tokens = 0;
	policy->running--;
	lane->running--;
	if (request->p.rank == POLICY_BATCH) {
		policy->batch_running--;
		lane->batch_running--;
	}
	order_stop(request, cost);
	note_end(policy, request, used, now_ns);
}

void place_back_off(struct policy *policy, struct policy_request *request,
	uint64_t not_before_ns)
{
	request->state = POLICY_BACKOFF;
	request->lane->backing_off++;
	why_back_off(request);
	count_waiting(policy, request);
	heap_put(&policy->due, &request->p.due_place,
		(struct heap_key){not_before_ns, request->p.arrival});
}

void place_wake_due(struct policy *policy, uint64_t now_ns)
{
	while (heap_first_key(&policy->due) <= now_ns) {
		struct policy_request *request =
			holder_of(heap_first(&policy->due),
				struct policy_request, p.due_place);

		heap_take(&policy->due, &request->p.due_place);
		request->lane->backing_off--;
		why_wake(request);
		queue(policy, request, true);
	}
}
