/* Draws scenarios and makes them small. */
#include "tests/unit/policy/script.h"

#include <stdio.h>
#include <string.h>

const char *const script_models[SCRIPT_MODELS] = {
	"m-a", "m-b", "m-c", "n-a", "other"};
const char *const script_users[SCRIPT_USERS] = {"u0", "u1", "u2", "u3", "u4"};
const char *const script_apps[SCRIPT_APPS] = {"", "a1"};

static uint32_t draw(uint64_t *state, uint32_t below)
{
	*state = *state * UINT64_C(6364136223846793005) +
		 UINT64_C(1442695040888963407);
	return (uint32_t)((*state >> 33) % below);
}

static void draw_settings(struct script_settings *settings, uint64_t *state)
{
#define KNOB(name, of_8, most)                                                 \
	settings->name = draw(state, 8) < (of_8) ? 1 + draw(state, most) : 0;
	SCRIPT_KNOBS(KNOB)
#undef KNOB
}

static enum script_kind draw_kind(uint64_t *state)
{
	static const uint32_t of_100[] = {
#define KIND(name, n) n,
		SCRIPT_KINDS(KIND)
#undef KIND
	};
	uint32_t drawn = draw(state, 100);
	int kind = 0;

	while (drawn >= of_100[kind])
		drawn -= of_100[kind++];
	return (enum script_kind)kind;
}

void script_draw(struct script *script, uint64_t seed)
{
	uint64_t state = seed;

	*script = (struct script){.seed = seed, .n_steps = SCRIPT_STEPS};
	(void)draw(&state, 2); /* seeds that differ in low bits alone */
	for (int i = 0; i < SCRIPT_SETTINGS; i++)
		draw_settings(&script->settings[i], &state);
	for (int i = 0; i < SCRIPT_STEPS; i++) {
		enum script_kind kind = draw_kind(&state);

		script->steps[i] = (struct script_step){.kind = kind,
			.asks = draw(&state, 4) != 0,
			.which = draw(&state, 1 << 20),
			.how = draw(&state, 1 << 20),
			.a = draw(&state, 1 << 20),
			.b = draw(&state, 1 << 20),
			.c = draw(&state, 1 << 20)};
	}
}

/* Powers of two, so that sums of tokens over weights are exact and a tie is a
 * tie in whatever order they were added. */
static double weight_of(uint32_t knob)
{
	static const double weights[] = {
		1, 0.25, 0.5, 2, 4, 1024, 1.0 / 1024, 2, 0.5};

	return weights[knob];
}

static const enum policy_learned uses_of_learned[] = {
	POLICY_LEARN_NOTHING, POLICY_LEARN_ORDER, POLICY_LEARN_RESERVE};

/* One twice, one that may be the first asked for. */
static const char *const chain[] = {"n-a", "m-b", "n-a", "other"};

static void set_blocks(
	const struct script_settings *s, struct script_blocks *blocks)
{
	blocks->models[0] = (struct policy_model){.pattern = "m-*",
		.requests_per_minute = s->m_requests,
		.tokens_per_minute = s->m_tokens,
		.tokens_per_day = s->m_day,
		.max_concurrent = s->m_concurrent,
		.default_max_tokens = s->m_default_output,
		.output_burndown = s->m_burndown / 2.0,
		.reserve_with_burndown = s->m_reserve_burndown,
		.smooth_starts = s->m_smooth,
		.fallback = chain,
		.n_fallback = s->m_fallback,
		.learned_output = uses_of_learned[s->m_learned]};
	blocks->models[1] = (struct policy_model){.pattern = "n-*",
		.requests_per_minute = s->n_requests,
		.tokens_per_minute = s->n_tokens,
		.max_concurrent = s->n_concurrent,
		.learned_output = POLICY_LEARN_NOTHING};
	blocks->users[0] = (struct policy_user_rule){.pattern = "u0",
		.weight = weight_of(s->u0_weight),
		.max_concurrent = s->u0_concurrent,
		.max_queued = s->u0_queued,
		.requests_per_minute = s->u0_requests,
		.tokens_per_minute = s->u0_tokens,
		.tokens_per_day = s->u0_day};
	blocks->users[1] = (struct policy_user_rule){.pattern = "u1",
		.weight = weight_of(s->u1_weight),
		.requests_per_minute = s->u1_requests,
		.tokens_per_minute = s->u1_tokens};
	blocks->apps[0] = (struct policy_app_rule){
		.pattern = "a1", .weight = weight_of(s->app_weight)};
}

struct policy_config script_config(const struct script_settings *s,
	uint64_t seed, struct script_blocks *blocks)
{
	set_blocks(s, blocks);
	return (struct policy_config){
		.max_concurrent = s->host_concurrent,
		.requests_per_minute = s->host_requests,
		.tokens_per_minute = s->host_tokens,
		.tokens_per_day = s->host_day,
		.smooth_starts = s->host_smooth,
		.adaptive = s->adaptive,
		.max_requests_per_user = s->user_concurrent,
		.max_queued_per_user = s->user_queued,
		.max_queued = s->queued,
		.max_lanes = s->lanes,
		/* Not a divisor of anything, so that tokens come in parts. */
		.minute_ns = S + 7,
		.guard_ns = s->guard_ms * MS,
		.day_offset_ns = s->day_offset_s * S,
		.age_after_ns = s->age_ms * MS,
		.batch_share = s->batch_share_percent / 100.0,
		.max_attempts = s->attempts,
		.throttle_base_ns = 200 * MS,
		.transient_base_ns = 50 * MS,
		.backoff_cap_ns = S,
		.probe_ok_after_ns = 100 * MS,
		.retry_budget = s->retry_budget,
		.seed = seed,
		.models = blocks->models,
		.n_models = 2,
		.users = blocks->users,
		.n_users = 2,
		.apps = blocks->apps,
		.n_apps = 1,
	};
}

void script_print_settings(const struct script_settings *settings)
{
	printf("#   settings:");
#define KNOB(name, of_8, most)                                                 \
	if (settings->name != 0)                                               \
		printf(" " #name "=%u", settings->name);
	SCRIPT_KNOBS(KNOB)
#undef KNOB
	printf("\n");
}

const char *script_kind_name(enum script_kind kind)
{
	static const char *const names[] = {
#define KIND(name, of_100) #name,
		SCRIPT_KINDS(KIND)
#undef KIND
	};

	return names[kind];
}

/* ------------------------------------------------------------ shrinking */

/* Leaves out n steps from `from` on, if it still fails then. */
static bool cut(struct script *script, int from, int n,
	bool (*fails)(const struct script *script))
{
	struct script smaller = *script;

	memmove(&smaller.steps[from], &smaller.steps[from + n],
		(size_t)(script->n_steps - from - n) * sizeof(*smaller.steps));
	smaller.n_steps -= n;
	if (!fails(&smaller))
		return false;
	*script = smaller;
	return true;
}

static bool cut_steps(
	struct script *script, bool (*fails)(const struct script *script))
{
	bool any = false;

	for (int n = (script->n_steps + 1) / 2; n > 0; n /= 2)
		for (int from = script->n_steps - n; from >= 0; from -= n)
			if (from + n <= script->n_steps)
				any |= cut(script, from, n, fails);
	return any;
}

static bool clear_knobs(
	struct script *script, bool (*fails)(const struct script *script))
{
	const size_t n = sizeof(script->settings) / (sizeof(uint32_t));
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		struct script simpler = *script;
		uint32_t *knob = (uint32_t *)simpler.settings + i;

		if (*knob == 0)
			continue;
		*knob = 0;
		if (!fails(&simpler))
			continue;
		*script = simpler;
		any = true;
	}
	return any;
}

void script_shrink(
	struct script *script, bool (*fails)(const struct script *script))
{
	bool any = true;

	while (any) {
		any = cut_steps(script, fails);
		any |= clear_knobs(script, fails);
	}
}
