/*
 * What a scenario is played in: the policy, the reference, the requests of
 * both, the time, and the first fault that was found.
 */
#ifndef TESTS_UNIT_POLICY_WORLD_H
#define TESTS_UNIT_POLICY_WORLD_H

#include "tests/unit/policy/book.h"
#include "tests/unit/policy/play.h"
#include "tests/unit/policy/reference.h"

struct views {
	struct policy_host_view host;
	struct policy_lane_view lanes[REF_LANES];
	struct policy_user_view users[REF_USERS];
	char names[REF_LANES][64]; /* of the lanes, which may go */
	int n_lanes, n_users;
};

struct world {
	const struct script *script;
	bool is_told;
	struct play_result result;

	struct script_blocks blocks;
	struct policy_config config;
	struct policy *real;
	struct ref ref;
	struct policy_request requests[REF_REQUESTS];
	uint64_t now_ns, next_ns;
	bool is_foretold; /* next_ns is known, and nothing happened since */
	bool is_begun;    /* nothing can be restored any more */
	bool is_plain;    /* limits never changed, nothing restored */

	struct book book;
	int run_of[REF_REQUESTS]; /* where it stands in there */
};

/* Only the first is kept. */
__attribute__((format(printf, 2, 3))) void world_fault(
	struct world *world, const char *format, ...);

#define SAME(world, what, real, ref)                                           \
	do {                                                                   \
		if ((real) != (ref))                                           \
			world_fault(world,                                     \
				"%s: %s is %lld, by the reference %lld", what, \
				#real, (long long)(real), (long long)(ref));   \
	} while (0)

/* ------------------------------------------------------------ compare.c */

/* All that anybody can look at. */
void compare_look(const struct world *world, struct views *ret_views);
/* Is each of it as the reference counts? */
void compare_all(struct world *world);
/* Nothing is different from before, where nothing was done. */
void compare_unchanged(struct world *world, const struct views *before);

#endif
