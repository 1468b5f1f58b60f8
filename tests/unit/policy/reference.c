/* The calls of the policy, as docs/policy.md says them. */
#include "tests/unit/policy/reference.h"

#include <string.h>

/* Every call begins so: gates open by the clock, whoever looks. */
void ref_clock(struct ref *ref, uint64_t now_ns)
{
	if (now_ns > ref->now_ns)
		ref->now_ns = now_ns;
	for (int i = 0; i < REF_LANES; i++) {
		int probe = ref->lanes[i].gate.probe;

		if (ref_gate_look(ref, &ref->lanes[i].gate))
			ref_adaptive_accepted(ref, probe,
				ref->requests[probe].started_ns +
					ref->config.probe_ok_after_ns);
	}
}

/* ------------------------------------------------------------ enqueue */

static void adopt(struct ref *ref, struct ref_request *r,
	const struct policy_request *asked)
{
	*r = (struct ref_request){.asked = *asked, .rank = asked->class};
	r->lane = ref_lane(ref, asked->model_id);
	r->user = ref_user(ref, asked->app ? asked->app : "", asked->user);
	r->first_model =
		asked->first_model_id ? asked->first_model_id : asked->model_id;
	r->model = asked->model_id;
	r->hops = (int)asked->hops;
	r->arrival = ++ref->arrivals;
	r->enqueued_ns = ref->now_ns;
}

static bool is_above(uint64_t tokens, const struct ref_bucket *bucket)
{
	return (bucket->limit != 0 && tokens > bucket->limit) ||
	       (bucket->day_limit != 0 && tokens > bucket->day_limit);
}

static uint32_t count_waiting(const struct ref *ref, int user)
{
	return ref_count(ref, POLICY_QUEUED, REF_NOBODY, user) +
	       ref_count(ref, POLICY_BACKOFF, REF_NOBODY, user);
}

static enum policy_refusal judge(struct ref *ref, const struct ref_request *r)
{
	const struct ref_gate *gate = &ref->lanes[r->lane].gate;
	const struct ref_user *user = &ref->users[r->user];
	uint64_t tokens = ref_reservation(ref, r);

	if (is_above(tokens, &ref->lanes[r->lane].scope.bucket) ||
		is_above(tokens, &ref->host.bucket) ||
		is_above(tokens, &user->scope.bucket))
		return POLICY_TOO_LARGE;
	if (gate->is_closed && gate->is_day && gate->probe == REF_NOBODY &&
		gate->opens_ns >= r->asked.deadline_ns)
		return POLICY_LANE_CLOSED;
	if (user->max_queued != 0 &&
		count_waiting(ref, r->user) >= user->max_queued)
		return POLICY_USER_LIMIT;
	return POLICY_ACCEPTED;
}

/* A user's time as an active one begins. */
static void activate(struct ref *ref, int user)
{
	if (!ref_is_active(ref, user))
		ref->users[user].active_since = ++ref->events;
}

/* To be asked next: that one's word counts. */
static bool has_another_model(
	const struct ref *ref, int id, enum policy_refusal refusal)
{
	return (refusal == POLICY_TOO_LARGE || refusal == POLICY_LANE_CLOSED) &&
	       ref_next_model(ref, id) != REF_NOBODY;
}

enum policy_refusal ref_enqueue(struct ref *ref, int id,
	const struct policy_request *asked, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];
	enum policy_refusal refusal;

	ref_clock(ref, now_ns);
	if (asked->deadline_ns <= ref->now_ns)
		return POLICY_LATE;
	if (ref->config.max_queued != 0 &&
		count_waiting(ref, REF_NOBODY) >= ref->config.max_queued)
		return POLICY_QUEUE_FULL;
	adopt(ref, r, asked);
	refusal = judge(ref, r);
	if (refusal != POLICY_ACCEPTED) {
		ref->users[r->user].refused +=
			!has_another_model(ref, id, refusal);
		return refusal;
	}
	activate(ref, r->user);
	ref_queue(ref, id, false);
	return POLICY_ACCEPTED;
}

/* ------------------------------------------------------------ leaving */

static bool is_waiting(const struct ref_request *r)
{
	return r->state == POLICY_QUEUED || r->state == POLICY_BACKOFF;
}

void ref_remove(struct ref *ref, int id)
{
	ref_leave(ref, id, POLICY_NEW);
}

static bool is_due_before(
	const struct ref_request *a, const struct ref_request *b)
{
	if (a->asked.deadline_ns != b->asked.deadline_ns)
		return a->asked.deadline_ns < b->asked.deadline_ns;
	return a->arrival < b->arrival;
}

/* The waiting request of the earliest deadline. */
static int most_urgent(const struct ref *ref)
{
	int urgent = REF_NOBODY;

	for (int i = 0; i < REF_REQUESTS; i++) {
		const struct ref_request *r = &ref->requests[i];

		if (is_waiting(r) &&
			(urgent == REF_NOBODY ||
				is_due_before(r, &ref->requests[urgent])))
			urgent = i;
	}
	return urgent;
}

int ref_expire(struct ref *ref, uint64_t now_ns)
{
	int id;

	ref_clock(ref, now_ns);
	id = most_urgent(ref);
	if (id == REF_NOBODY ||
		ref->requests[id].asked.deadline_ns > ref->now_ns)
		return REF_NOBODY;
	ref_remove(ref, id);
	return id;
}

/* ------------------------------------------------------------ admission */

static bool is_below(uint32_t count, uint32_t limit)
{
	return limit == 0 || count < limit;
}

/* May one more count as batch, of this limit of concurrency? */
static bool has_batch_share(const struct ref *ref, uint32_t limit, int lane)
{
	double share = ref->config.batch_share, most = share * limit;

	if (limit == 0 || share <= 0 || share >= 1)
		return true;
	return ref_count_batch(ref, lane) < (most < 1 ? 1 : (uint32_t)most);
}

static bool lane_can_start(struct ref *ref, int id, const struct ref_request *r)
{
	struct ref_lane *lane = &ref->lanes[id];
	struct ref_scope *scope = &lane->scope;

	return ref_gate_lets_pass(ref, &lane->gate) &&
	       is_below(ref_count(ref, POLICY_RUNNING, id, REF_NOBODY),
		       scope->max_concurrent) &&
	       ref_has_start(ref, scope, id, REF_NOBODY) &&
	       ref_adaptive_covers(ref, id, ref_reservation(ref, r)) &&
	       (r->rank != POLICY_BATCH ||
		       (has_batch_share(
				ref, ref->host.max_concurrent, REF_NOBODY) &&
			       has_batch_share(
				       ref, scope->max_concurrent, id))) &&
	       ref_bucket_covers(ref, &scope->bucket, ref_reservation(ref, r));
}

/* The better class, then the lane that was served less recently. */
static bool goes_before(const struct ref *ref, const struct ref_request *a,
	const struct ref_request *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank;
	return ref->lanes[a->lane].turn < ref->lanes[b->lane].turn;
}

/* Of the lanes that can start their first. */
static int pick(struct ref *ref)
{
	int best = REF_NOBODY;

	for (int i = 0; i < REF_LANES; i++) {
		int id = ref->lanes[i].name[0] ? ref_first(ref, i) : REF_NOBODY;

		if (id != REF_NOBODY &&
			lane_can_start(ref, i, &ref->requests[id]) &&
			(best == REF_NOBODY ||
				goes_before(ref, &ref->requests[id],
					&ref->requests[best])))
			best = id;
	}
	return best;
}

/* RUNNING, charged everywhere at once but for the tokens. */
static void run(struct ref *ref, int id, uint64_t tokens, uint64_t expected)
{
	struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];

	r->state = POLICY_RUNNING;
	r->is_counted = r->is_failed = r->is_measured = false;
	r->reserved = r->measured = tokens;
	ref_adaptive_charge(ref, id);
	r->charged = expected > 0 ? expected : 1;
	r->attempts++;
	r->admitted_ns = ref->now_ns;
	r->epoch = lane->gate.epoch;
	r->made = lane->made;
	if (lane->gate.is_closed)
		lane->gate.probe = id;
	lane->admitted++;
	ref->users[r->user].admitted++;
	ref_charge(ref, r, (double)r->charged);
	ref_look_at_user(ref, r->user);
}

/* The lane's are charged already where they were restored. */
static void take_tokens(
	struct ref *ref, struct ref_request *r, uint64_t tokens, bool in_lane)
{
	struct ref_user *user = &ref->users[r->user];

	r->day[0] = ref_bucket_take(ref, &ref->host.bucket, tokens);
	if (in_lane)
		r->day[1] = ref_bucket_take(
			ref, &ref->lanes[r->lane].scope.bucket, tokens);
	r->is_budgeted = user->has_budget;
	if (r->is_budgeted)
		r->day[2] = ref_bucket_take(ref, &user->scope.bucket, tokens);
}

static void settle_tokens(struct ref *ref, struct ref_request *r, uint64_t used)
{
	ref_bucket_settle(ref, &ref->host.bucket, r->reserved, used, r->day[0]);
	ref_bucket_settle(ref, &ref->lanes[r->lane].scope.bucket, r->reserved,
		used, r->day[1]);
	if (r->is_budgeted)
		ref_bucket_settle(ref, &ref->users[r->user].scope.bucket,
			r->reserved, used, r->day[2]);
}

int ref_admit(struct ref *ref, uint64_t now_ns)
{
	struct ref_request *r;
	int id;

	ref_clock(ref, now_ns);
	id = most_urgent(ref);
	if (id != REF_NOBODY &&
		ref->requests[id].asked.deadline_ns <= ref->now_ns)
		return REF_NOBODY; /* expiry has the word first */
	ref_wake(ref);
	ref_age(ref);
	ref_release(ref);
	if (!is_below(ref_count(ref, POLICY_RUNNING, REF_NOBODY, REF_NOBODY),
		    ref->host.max_concurrent) ||
		!ref_has_start(ref, &ref->host, REF_NOBODY, REF_NOBODY))
		return REF_NOBODY;
	id = pick(ref);
	if (id == REF_NOBODY)
		return REF_NOBODY;
	r = &ref->requests[id];
	if (!ref_bucket_covers(ref, &ref->host.bucket, ref_reservation(ref, r)))
		return REF_NOBODY;
	r->is_started = false;
	take_tokens(ref, r, ref_reservation(ref, r), true);
	run(ref, id, ref_reservation(ref, r), ref_expected(ref, r));
	ref->lanes[r->lane].turn = ++ref->events;
	ref_adaptive_admitted(ref, id);
	return id;
}

/* ------------------------------------------------------------ the end */

void ref_started(struct ref *ref, int id, uint64_t now_ns)
{
	ref_clock(ref, now_ns);
	if (ref->requests[id].is_started)
		return;
	ref_adaptive_started(ref, id);
	ref_note_start(ref, id);
	ref_look_at_user(ref, ref->requests[id].user);
}

/* Out of flight.  A start that was never made is forgotten with it. */
static void stop(struct ref *ref, int id, enum policy_state state,
	uint64_t used, uint64_t cost)
{
	struct ref_request *r = &ref->requests[id];

	settle_tokens(ref, r, used);
	ref_adaptive_ended(ref, id, used);
	ref_charge(ref, r, (double)cost - (double)r->charged);
	r->state = state;
	ref_look_at_user(ref, r->user);
}

static void refund_retry(struct ref_lane *lane, const struct ref_request *r)
{
	lane->retry_left += r->retry_cost > 1 ? r->retry_cost : 1;
	if (lane->retry_left > lane->retry_budget)
		lane->retry_left = lane->retry_budget;
}

static void learn(struct ref *ref, const struct ref_request *r,
	const struct policy_usage *usage)
{
	struct ref_lane *lane = &ref->lanes[r->lane];

	if (usage == NULL || !ref_is_said(usage->output_tokens))
		return;
	ref_count_output(&lane->learned, (uint64_t)usage->output_tokens);
	ref_count_output(
		&lane->learned_of[r->user], (uint64_t)usage->output_tokens);
}

void ref_finish(struct ref *ref, int id, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];
	uint64_t used = 0, cost = 0;

	ref_clock(ref, now_ns);
	if (outcome == POLICY_DONE) {
		used = ref_used(ref, r, usage);
		cost = used > 0 ? used : 1;
		lane->done++;
		ref->users[r->user].done++;
		learn(ref, r, usage);
		if (!r->is_failed) {
			refund_retry(lane, r);
			if (r->epoch == lane->gate.epoch) {
				lane->failed = 0;
				lane->answered_id = r->model;
				ref_adaptive_accepted(ref, id, ref->now_ns);
			}
		}
	} else if (outcome == POLICY_LOST) {
		used = r->reserved;
		cost = used > 0 ? used : 1;
		lane->lost++;
	} else if (outcome == POLICY_THROTTLED) {
		if (!r->is_counted)
			(void)ref_failed(ref, id, POLICY_FAIL_THROTTLE, 0);
		cost = 1;
	}
	ref_gate_ended(
		&lane->gate, id, outcome == POLICY_DONE && !r->is_failed);
	stop(ref, id, POLICY_NEW, used, cost);
}

/* Holds nothing any more; what it was charged is remembered. */
void ref_overrun(struct ref *ref, int id, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];

	ref_finish(ref, id, POLICY_DONE, NULL, now_ns);
	r->state = POLICY_OVERDUE;
	r->charged = r->reserved > 0 ? r->reserved : 1;
}

/* As if it came at the end: tokens, service, the gate.  A lane that was given
 * up meanwhile has nothing to correct. */
void ref_settle_overdue(struct ref *ref, int id, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];
	bool has_lane = ref->lanes[r->lane].made == r->made;
	uint64_t used = r->reserved, cost = r->charged;

	ref_clock(ref, now_ns);
	r->state = POLICY_NEW;
	if (!has_lane)
		r->lane = REF_GONE;
	if (outcome == POLICY_DONE) {
		used = ref_used(ref, r, usage);
		cost = used > 0 ? used : 1;
	} else if (outcome == POLICY_THROTTLED) {
		if (has_lane)
			(void)ref_failed(ref, id, POLICY_FAIL_THROTTLE, 0);
		used = 0;
		cost = 1;
	} else if (outcome == POLICY_UNUSED) {
		used = cost = 0;
	}
	settle_tokens(ref, r, used);
	if (has_lane)
		ref_charge(ref, r, (double)cost - (double)r->charged);
	ref_look_at_user(ref, r->user);
}

/* Attempts, time, and the lane's budget. */
static bool may_retry(
	struct ref *ref, struct ref_request *r, struct ref_failure failure)
{
	struct ref_lane *lane = &ref->lanes[r->lane];

	if (r->asked.is_permit || ref->config.max_attempts <= 1)
		return false;
	r->failures +=
		failure.counts ||
		ref_next_model(ref, (int)(r - ref->requests)) != REF_NOBODY;
	if (r->failures >= ref->config.max_attempts ||
		ref->now_ns + failure.delay_ns >= r->asked.deadline_ns)
		return false;
	if (lane->retry_budget != 0 && lane->retry_left < failure.cost)
		return false;
	if (lane->retry_budget != 0)
		lane->retry_left -= failure.cost;
	r->retry_cost = failure.cost;
	return true;
}

bool ref_retry(struct ref *ref, int id, enum policy_failure kind,
	uint64_t hint_ns, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];
	bool is_lost = kind == POLICY_FAIL_LOST && r->is_started;
	struct ref_failure failure;

	ref_clock(ref, now_ns);
	failure = ref_failed(ref, id, kind, hint_ns);
	r->is_failed = true;
	if (!may_retry(ref, r, failure))
		return false;
	lane->lost += is_lost;
	lane->retries++;
	r->not_before_ns = ref->now_ns + failure.delay_ns;
	stop(ref, id, POLICY_BACKOFF, is_lost ? r->reserved : 0, 0);
	return true;
}

/* Of these ids, which have no vendor, each is a family of its own. */
static bool is_passed_over(
	const struct ref_request *r, const struct policy_model *block, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(block->fallback[i], block->fallback[n]) == 0)
			return true;
	return !r->asked.suits_all ||
	       strcmp(block->fallback[n], r->first_model) == 0;
}

int ref_next_model(const struct ref *ref, int id)
{
	const struct ref_request *r = &ref->requests[id];
	const struct policy_model *block = ref_block(ref, r->first_model);
	int n = r->hops;

	if (block == NULL || r->asked.is_permit)
		return REF_NOBODY;
	while (n < (int)block->n_fallback && is_passed_over(r, block, n))
		n++;
	return n < (int)block->n_fallback ? n : REF_NOBODY;
}

bool ref_divert(struct ref *ref, int id, int next, enum policy_failure kind,
	uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id], there = *r;
	struct ref_lane *from = &ref->lanes[r->lane];
	uint32_t cost = kind == POLICY_FAIL_THROTTLE ? 5 : 14;
	bool is_running = r->state == POLICY_RUNNING;
	bool is_lost = is_running && kind == POLICY_FAIL_LOST && r->is_started;
	enum policy_refusal refusal;

	ref_clock(ref, now_ns);
	r->hops = next + 1;
	there.lane =
		ref_lane(ref, ref_block(ref, r->first_model)->fallback[next]);
	refusal = judge(ref, &there);
	if (refusal == POLICY_TOO_LARGE || refusal == POLICY_LANE_CLOSED ||
		(is_running && from->retry_budget != 0 &&
			from->retry_left < cost))
		return false;
	if (is_running && from->retry_budget != 0)
		from->retry_left -= cost;
	from->lost += is_lost;
	if (is_running)
		stop(ref, id, POLICY_BACKOFF, is_lost ? r->reserved : 0, 0);
	else
		ref_leave(ref, id, POLICY_BACKOFF);
	r->lane = there.lane;
	r->model = ref_block(ref, r->first_model)->fallback[next];
	r->failures = r->retry_cost = 0;
	r->not_before_ns = ref->now_ns;
	return true;
}

void ref_close_lane(struct ref *ref, int lane, uint64_t until_ns)
{
	ref_gate_close(&ref->lanes[lane].gate, until_ns);
	ref->lanes[lane].gate.is_day = true;
}

/* It waits in that lane, and cannot until it opens again. */
bool ref_is_doomed(const struct ref *ref, int id, int lane)
{
	const struct ref_request *r = &ref->requests[id];
	const struct ref_gate *gate = &ref->lanes[lane].gate;

	return is_waiting(r) && r->lane == lane && gate->is_closed &&
	       gate->is_day && gate->probe == REF_NOBODY &&
	       gate->opens_ns >= r->asked.deadline_ns;
}

/* ------------------------------------------------------------ recovery */

void ref_restore_start(struct ref *ref, const char *model_id,
	uint64_t started_ns, uint64_t now_ns)
{
	ref_clock(ref, now_ns);
	ref->starts[ref->n_starts++] = (struct ref_start){
		.at_ns = started_ns < ref->now_ns ? started_ns : ref->now_ns,
		.lane = ref_lane(ref, model_id),
		.user = REF_NOBODY};
}

void ref_restore_tokens(struct ref *ref, const char *model_id,
	const struct policy_left *left, uint64_t now_ns)
{
	ref_clock(ref, now_ns);
	ref_bucket_restore(
		ref, &ref->lanes[ref_lane(ref, model_id)].scope.bucket, left);
}

/* Empty then, and refilled since. */
static void fill(struct ref *ref, struct ref_scope *scope)
{
	struct ref_bucket *bucket = &scope->bucket;

	scope->full_until_ns = ref->full_until_ns;
	bucket->parts = 0;
	bucket->at_ns = ref->full_from_ns;
	ref_bucket_refill(ref, bucket);
}

void ref_restore_full(struct ref *ref, uint64_t from_ns, uint64_t now_ns)
{
	ref_clock(ref, now_ns);
	ref->full_from_ns = from_ns < ref->now_ns ? from_ns : ref->now_ns;
	ref->full_until_ns = ref->full_from_ns + ref->config.minute_ns +
			     ref->config.guard_ns;
	fill(ref, &ref->host);
	for (int i = 0; i < REF_LANES; i++)
		if (ref->lanes[i].name[0] != '\0')
			fill(ref, &ref->lanes[i].scope);
}

/* Its start is among those restored; its lane's tokens are too where it says
 * so.  The host's and its user's are charged anew. */
void ref_restore_held(struct ref *ref, int id,
	const struct policy_request *asked, int64_t reserved,
	uint64_t started_ns, uint64_t now_ns)
{
	struct ref_request *r = &ref->requests[id];
	uint64_t tokens;

	ref_clock(ref, now_ns);
	adopt(ref, r, asked);
	activate(ref, r->user);
	tokens = reserved < 0 ? ref_reservation(ref, r) : (uint64_t)reserved;
	r->day[1] = ref_day_of(ref, started_ns);
	take_tokens(ref, r, tokens, reserved < 0);
	if (r->is_budgeted)
		ref->starts[ref->n_starts++] =
			(struct ref_start){.at_ns = started_ns,
				.lane = REF_RESTORED,
				.user = r->user};
	r->is_started = true;
	r->started_ns = ref->now_ns;
	run(ref, id, tokens, tokens);
}
