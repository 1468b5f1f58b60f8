/*
 * What is true in every scenario.  The policy is played beside a second one,
 * written naively from docs/policy.md (tests/unit/policy/), and both must
 * decide the same: who starts, who is refused, who expires, every count that
 * anybody can look at.
 *
 * SCENARIOS=N plays N of them; SEED=n plays that one alone.  One that fails is
 * made small and printed.
 */
#include "tests/unit/policy/play.h"
#include "tests/unit/suite.h"

enum { SCENARIOS = 10000, FAULTS_SHOWN = 3, REPLAYED = 16 };

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static bool fails(const struct script *script)
{
	return play(script, false).fault[0] != '\0';
}

static void show(struct script *script)
{
	script_shrink(script, fails);
	printf("# SEED=%llu, made small:\n", (unsigned long long)script->seed);
	for (int i = 0; i < SCRIPT_SETTINGS; i++)
		script_print_settings(&script->settings[i]);
	(void)play(script, true);
	CU_FAIL("the policy and the reference differ");
}

/* Every decision and every count is the reference's, no limit is exceeded, a
 * refusal changes nothing, nothing is lost, nothing is left at quiet, and
 * the same seed gives the same trace. */
static void it_decides_as_the_reference(void)
{
	bool is_one = getenv("SEED") != NULL;
	uint64_t first = from_environment("SEED", 1);
	uint64_t n = is_one ? 1 : from_environment("SCENARIOS", SCENARIOS);
	uint64_t decided = 0;
	int faults = 0;

	for (uint64_t i = 0; i < n && faults < FAULTS_SHOWN; i++) {
		struct script script;
		struct play_result result;

		script_draw(&script, first + i);
		result = play(&script, false);
		decided += result.decided;
		if (i % REPLAYED == 0)
			CU_ASSERT_EQUAL(
				play(&script, false).trace, result.trace);
		if (result.fault[0] == '\0')
			continue;
		faults++;
		show(&script);
	}
	printf("# SEED=%llu and on, %llu scenarios, %llu starts\n",
		(unsigned long long)first, (unsigned long long)n,
		(unsigned long long)decided);
	CU_ASSERT(faults > 0 || is_one || decided > n);
}

SUITE("policy_properties", T(it_decides_as_the_reference))
