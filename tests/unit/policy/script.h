/*
 * A random scenario of the policy: settings and steps, drawn from a seed.  A
 * step names what it acts on by a number that is taken modulo what there is, so
 * that any subset of the steps is a scenario too: what fails is made small by
 * leaving steps out and taking limits away, and printed.
 */
#ifndef TESTS_UNIT_POLICY_SCRIPT_H
#define TESTS_UNIT_POLICY_SCRIPT_H

#include "coordinator/policy/policy.h"

#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)

enum {
	SCRIPT_STEPS = 90,
	SCRIPT_SETTINGS = 3, /* the first ones, and two that are reloaded */
	SCRIPT_MODELS = 5,
	SCRIPT_USERS = 5,
	SCRIPT_APPS = 2,
};

extern const char *const script_models[SCRIPT_MODELS];
extern const char *const script_users[SCRIPT_USERS];
extern const char *const script_apps[SCRIPT_APPS];

/* KNOB(name, how often of 8 it is set, most): a setting; 0 is without it.  m is
 * the block of most models, n another one's; u0 and u1 are users with rules. */
#define SCRIPT_KNOBS(KNOB)                                                     \
	KNOB(adaptive, 4, 1)                                                   \
	KNOB(guard_ms, 4, 100)                                                 \
	KNOB(host_concurrent, 4, 6)                                            \
	KNOB(host_requests, 3, 20)                                             \
	KNOB(host_smooth, 2, 1)                                                \
	KNOB(host_tokens, 3, 2000)                                             \
	KNOB(host_day, 1, 3000)                                                \
	KNOB(user_concurrent, 3, 3)                                            \
	KNOB(user_queued, 3, 8)                                                \
	KNOB(queued, 2, 16)                                                    \
	KNOB(lanes, 2, 3)                                                      \
	KNOB(day_offset_s, 4, 86399)                                           \
	KNOB(age_ms, 4, 2000)                                                  \
	KNOB(batch_share_percent, 4, 100)                                      \
	KNOB(attempts, 7, 4)                                                   \
	KNOB(retry_budget, 4, 60)                                              \
	KNOB(m_concurrent, 4, 4)                                               \
	KNOB(m_requests, 4, 12)                                                \
	KNOB(m_smooth, 2, 1)                                                   \
	KNOB(m_tokens, 4, 1200)                                                \
	KNOB(m_day, 2, 3000)                                                   \
	KNOB(m_fallback, 3, 4)                                                 \
	KNOB(m_default_output, 4, 100)                                         \
	KNOB(m_burndown, 3, 10)                                                \
	KNOB(m_reserve_burndown, 3, 1)                                         \
	KNOB(m_learned, 4, 2)                                                  \
	KNOB(n_concurrent, 4, 2)                                               \
	KNOB(n_requests, 3, 5)                                                 \
	KNOB(n_tokens, 3, 600)                                                 \
	KNOB(u0_weight, 4, 8)                                                  \
	KNOB(u0_concurrent, 2, 2)                                              \
	KNOB(u0_queued, 1, 5)                                                  \
	KNOB(u0_requests, 2, 6)                                                \
	KNOB(u0_tokens, 2, 800)                                                \
	KNOB(u0_day, 1, 2000)                                                  \
	KNOB(u1_weight, 3, 8)                                                  \
	KNOB(u1_requests, 2, 3)                                                \
	KNOB(u1_tokens, 2, 500)                                                \
	KNOB(app_weight, 3, 8)

struct script_settings {
#define KNOB(name, of_8, most) uint32_t name;
	SCRIPT_KNOBS(KNOB)
#undef KNOB
};

/* KIND(name, how often of 100) */
#define SCRIPT_KINDS(KIND)                                                     \
	KIND(LEARN, 1)                                                         \
	KIND(OVERRUN, 2)                                                       \
	KIND(SETTLE, 2)                                                        \
	KIND(SUBMIT, 30)                                                       \
	KIND(START, 13)                                                        \
	KIND(FINISH, 13)                                                       \
	KIND(FAIL, 8)                                                          \
	KIND(REMOVE, 3)                                                        \
	KIND(PASS, 25)                                                         \
	KIND(RELOAD, 1)                                                        \
	KIND(CLOSE, 1)                                                         \
	KIND(RESTORE, 1)

enum script_kind {
#define KIND(name, of_100) SCRIPT_##name,
	SCRIPT_KINDS(KIND)
#undef KIND
};

struct script_step {
	enum script_kind kind;
	bool asks; /* who may start, afterwards */
	uint32_t which, how, a, b, c;
};

struct script {
	uint64_t seed;
	struct script_settings settings[SCRIPT_SETTINGS];
	struct script_step steps[SCRIPT_STEPS];
	int n_steps;
};

/* Blocks that a policy_config points to. */
struct script_blocks {
	struct policy_model models[2];
	struct policy_user_rule users[2];
	struct policy_app_rule apps[1];
};

void script_draw(struct script *script, uint64_t seed);
/* The settings as a configuration; the blocks must stay as long. */
struct policy_config script_config(const struct script_settings *settings,
	uint64_t seed, struct script_blocks *blocks);
void script_print_settings(const struct script_settings *settings);
const char *script_kind_name(enum script_kind kind);

/* The smallest script found that still fails. */
void script_shrink(
	struct script *script, bool (*fails)(const struct script *script));

#endif
