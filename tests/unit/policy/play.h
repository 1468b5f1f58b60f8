/* Plays a scenario on the policy and on the reference side by side. */
#ifndef TESTS_UNIT_POLICY_PLAY_H
#define TESTS_UNIT_POLICY_PLAY_H

#include "tests/unit/policy/script.h"

struct play_result {
	char fault[256];  /* "": none */
	uint64_t trace;   /* a hash of every decision */
	uint32_t decided; /* admissions */
};

/* Stops at the first fault.  is_told: prints each step. */
struct play_result play(const struct script *script, bool is_told);

#endif
