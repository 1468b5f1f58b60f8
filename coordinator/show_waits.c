/*
 * The board: what holds the requests that wait, and their users.
 * All records in the table at once, with the lanes: a few times a second while
 * something changes, once a second while somebody waits, never at rest.
 */
#include "coordinator/governor.h"

#include <string.h>

#define REASON(name, words)                                                    \
	static_assert((int)POLICY_WAIT_##name == (int)SHM_WAIT_##name,         \
		"the policy's reasons are the board's");
POLICY_REASONS(REASON)
#undef REASON
static_assert((int)POLICY_WAIT_REASONS == (int)SHM_REASONS, "all of them");

/* A user by the address of its name, which stays while it has requests. */
static struct user_hold *hold_of(struct governor *governor, const char *name)
{
	struct user_hold *holds = governor->user_holds;
	size_t at = ((uintptr_t)name >> 4) % USER_HOLDS;

	/* There are more places than records in the table. */
	while (holds[at].name != NULL && holds[at].name != name)
		at = (at + 1) % USER_HOLDS;
	return &holds[at];
}

/* The first of its requests stands for a user. */
static void note_user(struct governor *governor, const struct request *request,
	const struct policy_why *why, uint64_t now_ns)
{
	struct policy_user_view user;
	struct user_hold *hold;

	policy_view_user(request->policy.user_entry, now_ns, &user);
	hold = hold_of(governor, user.name);
	if (hold->name != NULL && hold->position <= why->position)
		return;
	*hold = (struct user_hold){user.name, why->position, why->reason};
}

static void put_why(struct board_live *live, const struct request *request,
	const struct policy_why *why, uint64_t now_ns)
{
	uint64_t waited_ns[SHM_REASONS_MAX];

	if (explain_waits(request, now_ns, waited_ns) == 0)
		waited_ns[why->reason] = 0;
	board_begin(&live->sequence);
	board_put(live->held_by, why->reason);
	board_put(live->position, why->position);
	board_put(live->as_of_ns, now_ns);
	board_put(live->held_ns, waited_ns[why->reason]);
	board_put(live->held_until_ns, why->until_ns);
	board_put(live->starts_ns, now_ns + why->predicted_ns);
	board_end(&live->sequence);
}

static bool is_waiting(const struct request *request)
{
	return request->policy.state == POLICY_QUEUED ||
	       request->policy.state == POLICY_BACKOFF;
}

void show_waits(struct governor *governor, uint64_t now_ns)
{
	memset(governor->user_holds, 0, sizeof(governor->user_holds));
	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++) {
		const struct request *request = governor->live_requests[i];
		struct policy_why why;

		if (request == NULL || !is_waiting(request))
			continue;
		why = explain_why(request, now_ns);
		put_why(&governor->board.board->live[i], request, &why, now_ns);
		note_user(governor, request, &why, now_ns);
	}
}

enum policy_reason show_user_reason(
	struct governor *governor, const char *user_name)
{
	return hold_of(governor, user_name)->reason;
}
