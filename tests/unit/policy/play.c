/* One step after the other, on both; after each everything is compared. */
#include "tests/unit/policy/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void world_fault(struct world *world, const char *format, ...)
{
	va_list args;

	if (world->result.fault[0] != '\0')
		return;
	va_start(args, format);
	(void)vsnprintf(
		world->result.fault, sizeof(world->result.fault), format, args);
	va_end(args);
}

__attribute__((format(printf, 2, 3))) static void tell(
	const struct world *world, const char *format, ...)
{
	va_list args;

	if (!world->is_told)
		return;
	printf("#   %8.6f s  ", (double)world->now_ns / 1e9);
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void note(struct world *world, uint64_t word)
{
	world->result.trace =
		(world->result.trace ^ word) * UINT64_C(0x100000001b3);
}

/* ------------------------------------------------------------ the book */

static void write_down_start(struct world *world, int id)
{
	if (!world->ref.requests[id].is_started)
		world->book.starts[world->book.n_starts++] =
			book_entry(&world->requests[id], world->now_ns);
}

static void write_down_run(struct world *world, int id)
{
	struct book_entry *run = &world->book.runs[world->book.n_runs];

	*run = book_entry(&world->requests[id], world->now_ns);
	run->tokens = policy_reserved(&world->requests[id]);
	world->run_of[id] = world->book.n_runs++;
}

static void write_down_end(struct world *world, int id, uint64_t used)
{
	struct book_entry *run = &world->book.runs[world->run_of[id]];

	run->end_ns = world->now_ns;
	run->back = used < run->tokens ? run->tokens - used : 0;
}

/* All that it reserved may come back now. */
static void write_down_late(struct world *world, int id)
{
	struct book_entry *run = &world->book.runs[world->book.n_runs++];

	*run = world->book.runs[world->run_of[id]];
	run->at_ns = run->end_ns = world->now_ns;
	run->back = run->tokens;
	run->tokens = 0;
}

/* ------------------------------------------------------------ the steps */

static void start(struct world *world, int id)
{
	write_down_start(world, id);
	policy_started(world->real, &world->requests[id], world->now_ns);
	ref_started(&world->ref, id, world->now_ns);
	tell(world, "request %d is sent", id);
}

static int id_of(
	const struct world *world, const struct policy_request *request)
{
	return request == NULL ? REF_NOBODY : (int)(request - world->requests);
}

static uint64_t expire_all(struct world *world)
{
	uint64_t deadline_ns;
	int real, ref;

	do {
		real = id_of(world, policy_expire(world->real, world->now_ns,
					    &deadline_ns));
		ref = ref_expire(&world->ref, world->now_ns);
		SAME(world, "who expires", real, ref);
		note(world, (uint64_t)real + 1000);
		if (real != REF_NOBODY)
			tell(world, "request %d expires", real);
	} while (real != REF_NOBODY && real == ref);
	return deadline_ns;
}

static void admit_all(struct world *world, bool starts)
{
	int real, ref;

	do {
		real = id_of(world, policy_admit(world->real, world->now_ns,
					    &world->next_ns));
		ref = ref_admit(&world->ref, world->now_ns);
		SAME(world, "who starts", real, ref);
		note(world, (uint64_t)real + 2000);
		if (real == REF_NOBODY || real != ref)
			break;
		world->result.decided++;
		tell(world, "request %d starts", real);
		write_down_run(world, real);
		if (world->requests[real].is_permit || starts)
			start(world, real);
	} while (true);
	note(world, world->next_ns);
	if (world->next_ns <= world->now_ns)
		world_fault(world,
			"nobody may start, and it is to be asked at once");
}

static void ask(struct world *world, const struct script_step *step)
{
	struct views before;
	uint64_t deadline_ns = expire_all(world);

	admit_all(world, step->c % 2);
	if (step->c % 8 == 0) {
		uint64_t next_ns;

		compare_look(world, &before);
		(void)policy_admit(world->real, world->now_ns, &next_ns);
		compare_unchanged(world, &before);
	}
	if (deadline_ns < world->next_ns)
		world->next_ns = deadline_ns;
}

/* Which of those in this state; REF_NOBODY: none is. */
static int choose(
	const struct world *world, enum policy_state state, uint32_t which)
{
	uint32_t n = ref_count(&world->ref, state, REF_NOBODY, REF_NOBODY);

	if (n == 0)
		return REF_NOBODY;
	which %= n;
	for (int i = 0; i < REF_REQUESTS; i++)
		if (world->ref.requests[i].state == state && which-- == 0)
			return i;
	return REF_NOBODY;
}

static struct policy_request draw_request(
	const struct world *world, const struct script_step *step)
{
	return (struct policy_request){
		.model_id = script_models[step->how % SCRIPT_MODELS],
		.user = script_users[step->a % SCRIPT_USERS],
		.app = script_apps[step->a / SCRIPT_USERS % SCRIPT_APPS],
		.class = step->b % POLICY_CLASSES,
		.input_tokens = step->b / 8 % 100,
		.output_tokens = step->c % 4 ? step->c / 4 % 150 : 0,
		.deadline_ns = world->now_ns + step->a / 16 % 5000 * MS,
		.is_permit = step->how % 7 == 0,
		.suits_all = step->how % 2,
	};
}

static void submit(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_NEW, 0);
	struct policy_request *request = &world->requests[id < 0 ? 0 : id];
	enum policy_refusal real, ref;
	struct views before;
	uint64_t retry_after_ns;

	if (id == REF_NOBODY)
		return;
	*request = draw_request(world, step);
	compare_look(world, &before);
	ref = ref_enqueue(&world->ref, id, request, world->now_ns);
	real = policy_enqueue(
		world->real, request, world->now_ns, &retry_after_ns);
	SAME(world, "a refusal", real, ref);
	note(world, real);
	if (real != POLICY_ACCEPTED)
		compare_unchanged(world, &before);
	tell(world, "request %d of %s/%s for %s, class %d, %llu + %llu: %s", id,
		request->app, request->user, request->model_id, request->class,
		(unsigned long long)request->input_tokens,
		(unsigned long long)request->output_tokens,
		policy_refusal_text(real));
}

/* Sometimes nothing, sometimes absurd. */
static int64_t draw_tokens(uint32_t word)
{
	if (word % 16 == 0)
		return -1;
	if (word % 64 == 1)
		return word % 128 == 1 ? INT64_MAX - word : -2 - (int64_t)word;
	return word / 64 % 200;
}

static void finish(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_RUNNING, step->which);
	enum policy_outcome outcome = step->how % 4;
	struct policy_usage usage = {draw_tokens(step->a), draw_tokens(step->b),
		-1, draw_tokens(step->c)};
	const struct ref_request *r;
	uint64_t used = 0;

	if (id == REF_NOBODY)
		return;
	r = &world->ref.requests[id];
	if (outcome == POLICY_DONE) {
		start(world, id);
		used = ref_used(&world->ref, r, &usage);
	} else if (outcome == POLICY_LOST) {
		used = r->reserved;
	}
	write_down_end(world, id, used);
	policy_finish(world->real, &world->requests[id], outcome, &usage,
		world->now_ns);
	ref_finish(&world->ref, id, outcome, &usage, world->now_ns);
	tell(world, "request %d ends, outcome %d, %lld + %lld", id, outcome,
		(long long)usage.input_tokens, (long long)usage.output_tokens);
}

/* The owner's copy of a name of the policy's, which goes at a reload. */
static const char *copy_of(const char *model)
{
	for (int i = 0; i < SCRIPT_MODELS; i++)
		if (strcmp(model, script_models[i]) == 0)
			return script_models[i];
	return model;
}

/* To the first other model that takes it. */
static void divert(struct world *world, int id, enum policy_failure failure)
{
	struct policy_request *request = &world->requests[id];
	const struct ref_request *r = &world->ref.requests[id];
	bool is_running = r->state == POLICY_RUNNING;
	uint64_t kept =
		failure == POLICY_FAIL_LOST && r->is_started ? r->reserved : 0;
	bool real = false, ref = false;

	while (!real && !ref) {
		int next = ref_next_model(&world->ref, id);
		const char *model = policy_next_model(world->real, request);

		SAME(world, "another model", model != NULL, next != REF_NOBODY);
		if (model == NULL || next == REF_NOBODY)
			return;
		model = copy_of(model);
		real = policy_divert(
			world->real, request, model, failure, world->now_ns);
		ref = ref_divert(&world->ref, id, next, failure, world->now_ns);
		SAME(world, "a way to another model", real, ref);
		tell(world, "request %d may go to %s: %s", id, model,
			real ? "yes" : "no");
	}
	if (is_running)
		write_down_end(world, id, kept);
}

static void fail(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_RUNNING, step->which);
	enum policy_failure failure = step->how % 4;
	uint64_t hint_ns = step->a % 4 ? 0 : step->b % 500 * MS;
	const struct ref_request *r;
	bool real, ref, is_lost;

	if (id == REF_NOBODY)
		return;
	r = &world->ref.requests[id];
	is_lost = failure == POLICY_FAIL_LOST && r->is_started;
	real = policy_retry(world->real, &world->requests[id], failure, hint_ns,
		world->now_ns);
	if (real)
		write_down_end(world, id, is_lost ? r->reserved : 0);
	ref = ref_retry(&world->ref, id, failure, hint_ns, world->now_ns);
	SAME(world, "a retry", real, ref);
	note(world, real);
	if (!real && !ref && step->c % 2)
		divert(world, id, failure);
	tell(world, "request %d fails, kind %d: %s", id, failure,
		real ? "is tried again" : "is not");
}

/* A permit's time to live is over. */
static void overrun(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_RUNNING, step->which);

	if (id == REF_NOBODY)
		return;
	write_down_end(world, id, world->ref.requests[id].reserved);
	policy_overrun(world->real, &world->requests[id], world->now_ns);
	ref_overrun(&world->ref, id, world->now_ns);
	tell(world, "request %d is overdue", id);
}

static void settle_late(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_OVERDUE, step->which);
	enum policy_outcome outcome = step->how % 4;
	struct policy_usage usage = {draw_tokens(step->a), draw_tokens(step->b),
		-1, draw_tokens(step->c)};

	if (id == REF_NOBODY)
		return;
	write_down_late(world, id);
	policy_settle_overdue(world->real, &world->requests[id], outcome,
		&usage, world->now_ns);
	ref_settle_overdue(&world->ref, id, outcome, &usage, world->now_ns);
	tell(world, "request %d is settled late, outcome %d, %lld + %lld", id,
		outcome, (long long)usage.input_tokens,
		(long long)usage.output_tokens);
}

static void give_up(struct world *world, const struct script_step *step)
{
	int id = choose(world, step->how % 3 ? POLICY_QUEUED : POLICY_BACKOFF,
		step->which);

	if (id == REF_NOBODY)
		return;
	policy_remove(world->real, &world->requests[id]);
	ref_remove(&world->ref, id);
	tell(world, "request %d is cancelled", id);
}

/* Nobody may go before it was foretold: the reference in a second world. */
static void expect_nobody_before(struct world *world, uint64_t then_ns)
{
	static struct ref second;

	if (!world->is_foretold || then_ns <= world->now_ns ||
		then_ns >= world->next_ns)
		return;
	second = world->ref;
	if (ref_expire(&second, then_ns) != REF_NOBODY)
		return;
	if (ref_admit(&second, then_ns) != REF_NOBODY)
		world_fault(world,
			"foretold for %.9f s, one may start at %.9f already",
			(double)world->next_ns / 1e9, (double)then_ns / 1e9);
}

static void pass(struct world *world, const struct script_step *step)
{
	uint64_t step_ns = (1 + step->b % 300) * MS;
	/* A nanosecond before it was foretold nobody may go. */
	uint64_t early_ns = world->next_ns - 1 > world->now_ns && step->a % 2;

	expect_nobody_before(world, world->next_ns - 1);
	expect_nobody_before(world, world->now_ns + step_ns);
	if (world->next_ns != UINT64_MAX && step->how % 4 == 0)
		world->now_ns = world->next_ns - early_ns;
	else if (step->how % 100 == 1)
		world->now_ns += 86400 * S;
	else
		world->now_ns += step_ns;
	tell(world, "time goes on");
}

static void reload(struct world *world, const struct script_step *step)
{
	const struct script_settings *first = &world->script->settings[0];
	struct script_settings settings =
		world->script->settings[1 + step->how % 2];

	/* A longer window would ask for starts that are forgotten. */
	settings.guard_ms = first->guard_ms;
	/* A rate that adapts keeps its limits: what a start before the reload
	 * says to a new rate is not written down. */
	settings.adaptive = first->adaptive;
	if (first->adaptive) {
		settings.m_requests = first->m_requests;
		settings.m_tokens = first->m_tokens;
		settings.n_requests = first->n_requests;
		settings.n_tokens = first->n_tokens;
		settings.host_requests = first->host_requests;
		settings.host_tokens = first->host_tokens;
	}
	world->is_plain = false;
	world->config =
		script_config(&settings, world->script->seed, &world->blocks);
	if (policy_reconfigure(world->real, &world->config) != 0)
		world_fault(world, "no memory");
	ref_reconfigure(&world->ref, &world->config);
	tell(world, "the settings %u are loaded", 1 + step->how % 2);
}

/* They wait in vain: to another model, or away. */
static void end_doomed(
	struct world *world, struct policy_lane *closed, int lane)
{
	size_t n, n_ref = 0;
	struct policy_request **doomed = policy_doomed(closed, &n);

	for (int i = 0; i < REF_REQUESTS; i++)
		n_ref += ref_is_doomed(&world->ref, i, lane);
	SAME(world, "those that wait in vain", n, n_ref);
	for (size_t i = 0; i < n && n == n_ref; i++) {
		int id = (int)(doomed[i] - world->requests);

		SAME(world, "one that waits in vain",
			ref_is_doomed(&world->ref, id, lane), true);
		divert(world, id, POLICY_FAIL_THROTTLE);
		if (!ref_is_doomed(&world->ref, id, lane))
			continue;
		policy_remove(world->real, doomed[i]);
		ref_remove(&world->ref, id);
	}
	free(doomed);
}

static void close_lane(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_RUNNING, step->which);
	uint64_t until_ns = world->now_ns + step->a % 3000 * MS;

	if (id == REF_NOBODY)
		return;
	policy_close_lane(world->real, world->requests[id].lane, until_ns);
	ref_close_lane(&world->ref, world->ref.requests[id].lane, until_ns);
	tell(world, "the lane of request %d is closed for the day", id);
	if (step->b % 4)
		end_doomed(world, world->requests[id].lane,
			world->ref.requests[id].lane);
}

static void do_step(struct world *world, const struct script_step *step);

static void restore_held(struct world *world, const struct script_step *step)
{
	int id = choose(world, POLICY_NEW, 0);
	struct policy_request *request = &world->requests[id];
	int64_t reserved = step->b % 2 ? (int64_t)(step->b % 300) : -1;
	uint64_t at_ns = world->now_ns - step->c % 1000 * MS;

	*request = draw_request(world, step);
	ref_restore_held(
		&world->ref, id, request, reserved, at_ns, world->now_ns);
	if (policy_restore_held(
		    world->real, request, reserved, at_ns, world->now_ns) != 0)
		world_fault(world, "no memory");
	write_down_run(world, id);
	tell(world, "request %d was running", id);
}

/* What a restarted rgovd finds on the board, before anything else. */
static void restore(struct world *world, const struct script_step *step)
{
	const char *model = script_models[step->a % SCRIPT_MODELS];
	uint64_t at_ns = world->now_ns - step->c % 1200 * MS;

	if (world->is_begun)
		return;
	tell(world, "something is restored, kind %d", step->how % 4);
	world->is_plain = false;
	if (step->how % 4 == 0) {
		policy_restore_full(world->real, at_ns, world->now_ns);
		ref_restore_full(&world->ref, at_ns, world->now_ns);
	} else if (step->how % 4 == 1) {
		(void)policy_restore_start(
			world->real, model, at_ns, world->now_ns);
		ref_restore_start(&world->ref, model, at_ns, world->now_ns);
	} else if (step->how % 4 == 2) {
		struct policy_left left = {
			.available = (int64_t)(step->b % 1000) - 300,
			.used_today = step->b % 500,
			.day = (at_ns + world->config.day_offset_ns) /
			       (86400 * UINT64_C(1000000000)),
			.at_ns = at_ns};

		(void)policy_restore_tokens(
			world->real, model, &left, world->now_ns);
		ref_restore_tokens(&world->ref, model, &left, world->now_ns);
	} else {
		restore_held(world, step);
	}
}

/* Many answers of one user in one lane, alike. */
static void learn(struct world *world, const struct script_step *step)
{
	struct script_step asking = {.kind = SCRIPT_SUBMIT,
		.asks = true,
		.how = step->how,
		.a = step->a | 1 << 15,
		.c = step->c | 1};
	struct script_step answer = {.kind = SCRIPT_FINISH, .b = step->b};

	for (int i = 0; i < 24 && world->result.fault[0] == '\0'; i++) {
		asking.b = step->b + (uint32_t)i;
		do_step(world, &asking);
		answer.b += 64;
		do_step(world, &answer);
	}
}

static void do_step(struct world *world, const struct script_step *step)
{
	static void (*const acts[])(
		struct world *, const struct script_step *) = {
		[SCRIPT_LEARN] = learn,
		[SCRIPT_SUBMIT] = submit,
		[SCRIPT_FINISH] = finish,
		[SCRIPT_FAIL] = fail,
		[SCRIPT_OVERRUN] = overrun,
		[SCRIPT_SETTLE] = settle_late,
		[SCRIPT_REMOVE] = give_up,
		[SCRIPT_PASS] = pass,
		[SCRIPT_RELOAD] = reload,
		[SCRIPT_CLOSE] = close_lane,
		[SCRIPT_RESTORE] = restore,
	};
	int id;

	if (world->result.fault[0] != '\0')
		return;
	if (step->kind != SCRIPT_START) {
		acts[step->kind](world, step);
	} else {
		id = choose(world, POLICY_RUNNING, step->which);
		if (id != REF_NOBODY)
			start(world, id);
	}
	world->is_begun |= step->kind != SCRIPT_RESTORE;
	compare_all(world);
	if (world->result.fault[0] != '\0')
		return;
	world->is_foretold = step->asks || step->kind == SCRIPT_PASS;
	if (world->is_foretold) {
		ask(world, step);
		compare_all(world);
	}
}

/* ------------------------------------------------------------ the end */

/* Both drop what they have. */
static void leave(struct world *world)
{
	for (int i = 0; i < REF_REQUESTS; i++) {
		if (world->requests[i].state == POLICY_RUNNING) {
			policy_finish(world->real, &world->requests[i],
				POLICY_UNUSED, NULL, world->now_ns);
			ref_finish(&world->ref, i, POLICY_UNUSED, NULL,
				world->now_ns);
		} else if (world->requests[i].state == POLICY_OVERDUE) {
			policy_settle_overdue(world->real, &world->requests[i],
				POLICY_LOST, NULL, world->now_ns);
			ref_settle_overdue(&world->ref, i, POLICY_LOST, NULL,
				world->now_ns);
		} else if (world->requests[i].state != POLICY_NEW) {
			policy_remove(world->real, &world->requests[i]);
			ref_remove(&world->ref, i);
		}
	}
}

static void judge(struct world *world)
{
	const char *above = NULL;
	struct views views;

	compare_all(world);
	compare_look(world, &views);
	if (views.host.running + views.host.queued + views.host.users != 0 ||
		views.host.oldest_enqueued_ns != 0)
		world_fault(world, "something is left at quiet");
	for (int i = 0; i < views.n_lanes; i++)
		if (views.lanes[i].tokens_reserved != 0)
			world_fault(world, "%s: reservations are left at quiet",
				views.lanes[i].name);
	if (world->is_plain)
		above = book_judge(&world->book, &world->config,
			&world->script->settings[0]);
	if (above != NULL)
		world_fault(world, "%s", above);
}

struct play_result play(const struct script *script, bool is_told)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	world.script = script;
	world.is_told = is_told;
	world.is_plain = true;
	world.now_ns = 86400 * S - script->seed % 64 * 100 * MS;
	world.next_ns = world.now_ns;
	world.config = script_config(
		&script->settings[0], script->seed, &world.blocks);
	if (policy_create(&world.config, &world.real) != 0) {
		world_fault(&world, "no memory");
		return world.result;
	}
	ref_create(&world.ref, &world.config);
	ask(&world, &script->steps[0]); /* tells both what time it is */
	for (int i = 0; i < script->n_steps && !world.result.fault[0]; i++)
		do_step(&world, &script->steps[i]);
	leave(&world);
	if (world.result.fault[0] == '\0')
		judge(&world);
	if (world.result.fault[0] != '\0')
		tell(&world, "%s", world.result.fault);
	policy_free(world.real);
	return world.result;
}
