/*
 * What a predecessor left on its board: the starts of the last window, the
 * tokens, the permits.  Everything in it was written by an rgovd of this uid
 * and boot (board_open_old() saw to that); a record torn by its death counts as
 * full.
 */
#include "coordinator/governor.h"

#include "coordinator/log.h"

#include <errno.h>
#include <string.h>

/* A lane's model id as its record says; the default lane for the shared one. */
static const char *lane_name(const struct board *board, uint32_t index)
{
	const char *name =
		index < SHM_BOARD_LANES ? board->lanes[index].name : "";

	return name[0] != '\0' ? name : "default";
}

static int restore_starts(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	uint64_t window_ns = governor->config->policy.minute_ns +
			     governor->config->policy.guard_ns;
	uint64_t from_ns = now_ns > window_ns ? now_ns - window_ns : 0;
	uint64_t first = load_acquire(old->header.starts); /* B3 */
	int n = 0;

	/* The oldest first: that is cheapest for the windows. */
	for (uint32_t i = 0; i < SHM_BOARD_STARTS; i++) {
		const struct board_start *start =
			&old->start_ring[(first + i) % SHM_BOARD_STARTS];
		uint64_t at_ns = load_acquire(start->started_ns); /* B3 */

		if (at_ns == 0 || at_ns < from_ns)
			continue;
		if (at_ns > now_ns)
			at_ns = now_ns;
		if (policy_restore_start(governor->policy,
			    lane_name(old, start->lane), at_ns, now_ns) < 0)
			return -ENOMEM;
		/* On the new board too: we may die as well. */
		show_restored_start(
			governor, lane_name(old, start->lane), at_ns, now_ns);
		n++;
	}
	return n;
}

static int restore_lanes(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	for (uint32_t i = 0; i < SHM_BOARD_LANES; i++) {
		struct board_lane lane;

		if (old->lanes[i].name[0] == '\0')
			continue;
		if (!board_read_record(&old->lanes[i], sizeof(lane), &lane))
			return -EPROTO;
		if (lane.tokens_limit == 0 && lane.tokens_day_limit == 0)
			continue;
		if (policy_restore_tokens(governor->policy, lane.name,
			    lane.tokens_available, lane.tokens_used_today,
			    lane.as_of_ns, now_ns) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void close_texts(struct board_live *record)
{
	record->user[sizeof(record->user) - 1] = '\0';
	record->app[sizeof(record->app) - 1] = '\0';
	record->model[sizeof(record->model) - 1] = '\0';
}

static int restore_permits(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	int n = 0;

	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++) {
		struct board_live record;

		/* Torn by a death between the two: the permit was not yet
		 * granted, or was already over. */
		if (!board_read_record(
			    &old->live[i], sizeof(record), &record) ||
			record.state != BOARD_LIVE_PERMIT ||
			record.expires_ns <= now_ns)
			continue;
		close_texts(&record);
		if (record.user[0] == '\0' || record.model[0] == '\0')
			continue;
		ghost_add(governor, &record, now_ns);
		n++;
	}
	return n;
}

int restore_from_board(struct governor *governor, uint64_t now_ns)
{
	const struct board *old;
	int rc = board_open_old(governor->board.name, &old);
	int starts = 0, permits = 0;

	if (rc == -ENOENT)
		return rc; /* the first of this boot: empty windows */
	if (rc == 0) {
		starts = restore_starts(governor, old, now_ns);
		rc = starts < 0 ? starts : restore_lanes(governor, old, now_ns);
		permits = restore_permits(governor, old, now_ns);
		board_close(old);
	}
	if (rc < 0) {
		/* It is there and cannot be believed: never under-count. */
		policy_restore_full(governor->policy, now_ns);
		LOG(LOG_WARN, "board.unreadable",
			"the predecessor's board is of no use: every window "
			"counts as full");
		return rc;
	}
	LOG(LOG_INFO, "board.restored", "took over the predecessor's state",
		F_I("starts", starts), F_I("permits", permits));
	return starts;
}
