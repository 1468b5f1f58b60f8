/* Windows, buckets, days, costs, the gate: docs/policy.md, sections 1, 3, 5. */
#include "tests/unit/policy/reference.h"

#include <assert.h>
#include <string.h>

#define DAY_NS (86400 * UINT64_C(1000000000))
#define MOST_TOKENS (UINT64_C(1) << 40)

/* ------------------------------------------------------------ counting */

static bool is_in(const struct ref_request *r, int lane, int user)
{
	return (lane == REF_NOBODY || r->lane == lane) &&
	       (user == REF_NOBODY || r->user == user);
}

uint32_t ref_count(
	const struct ref *ref, enum policy_state state, int lane, int user)
{
	uint32_t n = 0;

	for (int i = 0; i < REF_REQUESTS; i++)
		n += ref->requests[i].state == state &&
		     is_in(&ref->requests[i], lane, user);
	return n;
}

uint32_t ref_count_batch(const struct ref *ref, int lane)
{
	uint32_t n = 0;

	for (int i = 0; i < REF_REQUESTS; i++)
		n += ref->requests[i].state == POLICY_RUNNING &&
		     ref->requests[i].rank == POLICY_BATCH &&
		     is_in(&ref->requests[i], lane, REF_NOBODY);
	return n;
}

uint64_t ref_count_reserved(const struct ref *ref, int lane, int user)
{
	uint64_t n = 0;

	for (int i = 0; i < REF_REQUESTS; i++)
		if (ref->requests[i].state == POLICY_RUNNING &&
			is_in(&ref->requests[i], lane, user))
			n += ref->requests[i].reserved;
	return n;
}

uint64_t ref_count_budgeted(const struct ref *ref, int user)
{
	uint64_t n = 0;

	for (int i = 0; i < REF_REQUESTS; i++)
		if (ref->requests[i].state == POLICY_RUNNING &&
			ref->requests[i].is_budgeted &&
			is_in(&ref->requests[i], REF_NOBODY, user))
			n += ref->requests[i].reserved;
	return n;
}

/* ------------------------------------------------------------ windows */

static uint64_t window_ns(const struct ref *ref)
{
	return ref->config.minute_ns + ref->config.guard_ns;
}

static bool is_start_in(const struct ref_start *start, int lane, int user)
{
	if (start->lane == REF_RESTORED && user == REF_NOBODY)
		return false;
	return (lane == REF_NOBODY || start->lane == lane) &&
	       (user == REF_NOBODY || start->user == user);
}

static uint32_t count_pending(const struct ref *ref, int lane, int user)
{
	uint32_t n = 0;

	for (int i = 0; i < REF_REQUESTS; i++)
		n += ref->requests[i].state == POLICY_RUNNING &&
		     !ref->requests[i].is_started &&
		     is_in(&ref->requests[i], lane, user) &&
		     (user == REF_NOBODY || ref->requests[i].is_budgeted);
	return n;
}

uint32_t ref_count_starts(const struct ref *ref, int lane, int user)
{
	uint32_t n = count_pending(ref, lane, user);

	for (uint32_t i = 0; i < ref->n_starts; i++)
		n += ref->starts[i].at_ns + window_ns(ref) > ref->now_ns &&
		     is_start_in(&ref->starts[i], lane, user);
	return n;
}

static uint64_t latest_start(const struct ref *ref, int lane, int user)
{
	uint64_t latest_ns = 0;

	for (uint32_t i = 0; i < ref->n_starts; i++)
		if (ref->starts[i].at_ns > latest_ns &&
			is_start_in(&ref->starts[i], lane, user))
			latest_ns = ref->starts[i].at_ns;
	return latest_ns;
}

/* Nothing pending, and the latest start long enough ago. */
static bool is_smooth(const struct ref *ref, const struct ref_scope *scope,
	int lane, int user)
{
	uint64_t apart_ns = (window_ns(ref) + scope->requests_per_minute - 1) /
			    scope->requests_per_minute;

	return ref_count_starts(ref, lane, user) == 0 ||
	       (count_pending(ref, lane, user) == 0 &&
		       latest_start(ref, lane, user) + apart_ns <= ref->now_ns);
}

bool ref_has_start(const struct ref *ref, const struct ref_scope *scope,
	int lane, int user)
{
	if (scope->requests_per_minute == 0)
		return true;
	if (ref->now_ns < scope->full_until_ns)
		return false;
	if (ref_count_starts(ref, lane, user) >= scope->requests_per_minute)
		return false;
	return !scope->smooth || is_smooth(ref, scope, lane, user);
}

void ref_note_start(struct ref *ref, int id)
{
	struct ref_request *r = &ref->requests[id];

	assert(ref->n_starts < REF_STARTS);
	ref->starts[ref->n_starts++] = (struct ref_start){.at_ns = ref->now_ns,
		.lane = r->lane,
		.user = r->is_budgeted ? r->user : REF_NOBODY};
	r->is_started = true;
	r->started_ns = ref->now_ns;
}

/* ------------------------------------------------------------ tokens */

uint64_t ref_day_of(const struct ref *ref, uint64_t time_ns)
{
	return (time_ns + ref->config.day_offset_ns) / DAY_NS;
}

static ref_wide full(const struct ref *ref, const struct ref_bucket *bucket)
{
	return (ref_wide)bucket->limit * ref->config.minute_ns;
}

void ref_bucket_refill(const struct ref *ref, struct ref_bucket *bucket)
{
	if (bucket->at_ns < ref->now_ns) {
		bucket->parts +=
			(ref_wide)bucket->limit * (ref->now_ns - bucket->at_ns);
		bucket->at_ns = ref->now_ns;
	}
	if (bucket->parts > full(ref, bucket))
		bucket->parts = full(ref, bucket);
	if (bucket->day < ref_day_of(ref, ref->now_ns)) {
		bucket->day = ref_day_of(ref, ref->now_ns);
		bucket->day_used = 0;
	}
}

void ref_bucket_set(struct ref *ref, struct ref_bucket *bucket, uint64_t limit,
	uint64_t day_limit, uint64_t reserved)
{
	ref_bucket_refill(ref, bucket);
	if (bucket->limit == 0)
		bucket->parts = ((ref_wide)limit - (ref_wide)reserved) *
				ref->config.minute_ns;
	bucket->limit = limit;
	bucket->day_limit = day_limit;
	ref_bucket_fit_day(ref, bucket);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What is larger than the bucket goes when that is full; than the day, when
 * that is unused. */
bool ref_bucket_covers(
	const struct ref *ref, const struct ref_bucket *bucket, uint64_t tokens)
{
	struct ref_bucket copy = *bucket;

	ref_bucket_refill(ref, &copy);
	if (copy.limit != 0 &&
		copy.parts < (ref_wide)least(tokens, copy.limit) *
				     ref->config.minute_ns)
		return false;
	return copy.day_limit == 0 || copy.day_used <= 0 ||
	       (uint64_t)copy.day_used + tokens <= copy.day_limit;
}

uint64_t ref_bucket_take(
	const struct ref *ref, struct ref_bucket *bucket, uint64_t tokens)
{
	ref_bucket_refill(ref, bucket);
	if (bucket->limit != 0)
		bucket->parts -= (ref_wide)tokens * ref->config.minute_ns;
	bucket->day_used += (int64_t)tokens;
	return bucket->day;
}

/* What was reserved yesterday was yesterday's; an excess is today's. */
void ref_bucket_settle(const struct ref *ref, struct ref_bucket *bucket,
	uint64_t reserved, uint64_t used, uint64_t day)
{
	ref_bucket_refill(ref, bucket);
	if (day == bucket->day || used > reserved)
		bucket->day_used += (int64_t)used - (int64_t)reserved;
	if (bucket->limit != 0)
		bucket->parts += ((ref_wide)reserved - (ref_wide)used) *
				 ref->config.minute_ns;
	ref_bucket_refill(ref, bucket);
}

/* The clock was set back: by a day, the total waits for its own day to pass; by
 * more, it is today's. */
void ref_bucket_fit_day(const struct ref *ref, struct ref_bucket *bucket)
{
	uint64_t day = ref_day_of(ref, ref->now_ns);

	if (bucket->day > day + 1)
		bucket->day = day;
	ref_bucket_refill(ref, bucket);
}

/* The level and the day's total as they were at left->at_ns. */
void ref_bucket_restore(const struct ref *ref, struct ref_bucket *bucket,
	const struct policy_left *left)
{
	int64_t level = left->available;

	if (level > (int64_t)bucket->limit)
		level = (int64_t)bucket->limit;
	bucket->parts = (ref_wide)level * ref->config.minute_ns;
	bucket->at_ns = left->at_ns < ref->now_ns ? left->at_ns : ref->now_ns;
	bucket->day = left->day;
	bucket->day_used = left->used_today;
	ref_bucket_fit_day(ref, bucket);
}

int64_t ref_bucket_used_today(
	const struct ref *ref, const struct ref_bucket *bucket)
{
	struct ref_bucket copy = *bucket;

	ref_bucket_refill(ref, &copy);
	return copy.day_used;
}

/* Whole tokens, rounded down. */
int64_t ref_bucket_level(const struct ref *ref, const struct ref_bucket *bucket)
{
	struct ref_bucket copy = *bucket;
	ref_wide minute_ns = ref->config.minute_ns;
	int64_t level;

	if (bucket->limit == 0)
		return 0;
	ref_bucket_refill(ref, &copy);
	level = (int64_t)(copy.parts / minute_ns);
	return copy.parts < level * minute_ns ? level - 1 : level;
}

/* ------------------------------------------------------------ costs */

static uint64_t times(uint64_t tokens, double factor)
{
	double product = (double)least(tokens, MOST_TOKENS) * factor;
	uint64_t whole = (uint64_t)product;

	if (product >= (double)MOST_TOKENS)
		return MOST_TOKENS;
	return (double)whole < product ? whole + 1 : whole;
}

static double burndown(const struct policy_model *model)
{
	return model && model->output_burndown > 0 ? model->output_burndown : 1;
}

static uint64_t most_output(
	const struct policy_model *model, const struct ref_request *r)
{
	if (r->asked.output_tokens == 0 && model != NULL)
		return model->default_max_tokens;
	return r->asked.output_tokens;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return least(
		least(a, MOST_TOKENS) + least(b, MOST_TOKENS), MOST_TOKENS);
}

static uint64_t reserved_output(
	const struct policy_model *model, const struct ref_request *r)
{
	bool with_burndown = model && model->reserve_with_burndown;

	return times(
		most_output(model, r), with_burndown ? burndown(model) : 1);
}

static enum policy_learned use_of_learned(const struct policy_model *model)
{
	return model ? model->learned_output : POLICY_LEARN_ORDER;
}

uint64_t ref_expected(const struct ref *ref, const struct ref_request *r)
{
	const struct ref_lane *lane = &ref->lanes[r->lane];
	uint64_t output = reserved_output(lane->model, r);
	uint64_t learned = ref_learned(&lane->learned_of[r->user]);

	if (learned == 0)
		learned = ref_learned(&lane->learned);
	if (learned != 0 && use_of_learned(lane->model) != POLICY_LEARN_NOTHING)
		output = least(output, times(learned, burndown(lane->model)));
	return sum(r->asked.input_tokens, output);
}

uint64_t ref_reservation(const struct ref *ref, const struct ref_request *r)
{
	const struct policy_model *model = ref->lanes[r->lane].model;

	if (use_of_learned(model) == POLICY_LEARN_RESERVE)
		return ref_expected(ref, r);
	return sum(r->asked.input_tokens, reserved_output(model, r));
}

/* What the provider counted and can be meant. */
bool ref_is_said(int64_t tokens)
{
	return tokens >= 0 && tokens <= INT64_C(1) << 53;
}

uint64_t ref_used(const struct ref *ref, const struct ref_request *r,
	const struct policy_usage *usage)
{
	uint64_t input = r->asked.input_tokens, cache = 0;
	uint64_t output = r->reserved > input ? r->reserved - input : 0;

	if (usage == NULL || (!ref_is_said(usage->input_tokens) &&
				     !ref_is_said(usage->output_tokens)))
		return r->reserved;
	if (ref_is_said(usage->input_tokens))
		input = (uint64_t)usage->input_tokens;
	if (ref_is_said(usage->output_tokens))
		output = times((uint64_t)usage->output_tokens,
			burndown(ref->lanes[r->lane].model));
	if (ref_is_said(usage->cache_write_tokens))
		cache = (uint64_t)usage->cache_write_tokens;
	return sum(sum(input, cache), output);
}

/* ------------------------------------------------------------ the gate */

static void open_gate(struct ref_gate *gate)
{
	gate->is_closed = false;
	gate->failures = 0;
	gate->probe = REF_NOBODY;
}

/* Opens when the probe has lasted long enough. */
bool ref_gate_look(struct ref *ref, struct ref_gate *gate)
{
	const struct ref_request *probe;

	if (!gate->is_closed || gate->probe == REF_NOBODY)
		return false;
	probe = &ref->requests[gate->probe];
	if (!probe->is_started ||
		probe->started_ns + ref->config.probe_ok_after_ns > ref->now_ns)
		return false;
	open_gate(gate);
	return true;
}

bool ref_gate_lets_pass(const struct ref *ref, const struct ref_gate *gate)
{
	return !gate->is_closed ||
	       (gate->probe == REF_NOBODY && gate->opens_ns <= ref->now_ns);
}

void ref_gate_close(struct ref_gate *gate, uint64_t until_ns)
{
	gate->is_closed = true;
	gate->is_day = false;
	gate->failures++;
	gate->opens_ns = until_ns;
	gate->epoch++;
	gate->probe = REF_NOBODY;
}

void ref_gate_ended(struct ref_gate *gate, int id, bool is_answered)
{
	if (gate->probe != id)
		return;
	gate->probe = REF_NOBODY;
	if (is_answered)
		open_gate(gate);
}

/* splitmix64; its top 53 bits, in [0, 1). */
static double draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return (double)(z >> 11) / (double)(UINT64_C(1) << 53);
}

/* After failure n, from 1. */
uint64_t ref_backoff(struct ref *ref, enum policy_failure failure, uint32_t n,
	uint64_t hint_ns)
{
	uint64_t most_ns = failure == POLICY_FAIL_THROTTLE
				   ? ref->config.throttle_base_ns
				   : ref->config.transient_base_ns;
	uint64_t delay_ns;

	while (--n > 0 && most_ns < ref->config.backoff_cap_ns)
		most_ns *= 2;
	most_ns = least(most_ns, ref->config.backoff_cap_ns);
	delay_ns = (uint64_t)((double)most_ns * draw(&ref->generator));
	return delay_ns > hint_ns ? delay_ns : hint_ns;
}

/* May it be the lane's failure?  In the default one that of a single model id
 * is not, where another one was answered. */
static bool is_lanes(struct ref_lane *lane, const char *model, bool is_default)
{
	if (lane->failed == 0)
		lane->failed_id = model;
	else if (strcmp(lane->failed_id, model) != 0)
		lane->failed_id = "";
	return !is_default || lane->failed_id[0] == '\0' ||
	       lane->answered_id == NULL ||
	       strcmp(lane->answered_id, model) == 0;
}

struct ref_failure ref_failed(
	struct ref *ref, int id, enum policy_failure kind, uint64_t hint_ns)
{
	struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];
	struct ref_gate *gate = &lane->gate;
	bool is_throttle = kind == POLICY_FAIL_THROTTLE;
	bool is_error = kind == POLICY_FAIL_ERROR, may_close = is_throttle;
	bool is_heard = r->epoch == gate->epoch;
	bool is_probe = gate->probe == id, was_closed = gate->is_closed;
	uint32_t outage = ref->config.max_attempts == 2 ? 2 : 3;
	uint32_t n = r->attempts;
	bool closes;
	struct ref_failure failure;

	if (is_heard && !is_throttle && !is_error)
		may_close = is_lanes(lane, r->model, r->lane == 0);
	if (is_heard && !is_error)
		lane->failed = is_throttle ? 0 : lane->failed + 1;
	closes = is_heard && may_close &&
		 (is_throttle || is_probe || lane->failed >= outage);
	if (closes && n < gate->failures + 1)
		n = gate->failures + 1;
	failure.delay_ns = ref_backoff(ref, kind, n, hint_ns);
	failure.counts = is_error ||
			 (!is_throttle && !closes && (!was_closed || is_probe));
	failure.cost =
		is_throttle ? (is_probe ? 0 : 5) : (failure.counts ? 14 : 0);
	if (is_throttle) {
		r->is_counted = true;
		lane->throttled++;
		ref_adaptive_refused(ref, id, is_heard);
	}
	if (closes)
		ref_gate_close(gate, ref->now_ns + failure.delay_ns);
	else
		ref_gate_ended(gate, id, false);
	return failure;
}
