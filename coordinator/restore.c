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

#define DAY_NS (86400 * UINT64_C(1000000000))

/* A lane's model id as its record says; the default lane for the shared one. */
static const char *lane_name(const struct board *board, uint32_t index)
{
	const char *name =
		index < SHM_BOARD_LANES ? board->lanes[index].name : "";

	return name[0] != '\0' ? name : "default";
}

/* As far as a window looks back. */
static uint64_t window_ns(const struct governor *governor)
{
	return governor->config->policy.minute_ns +
	       governor->config->policy.guard_ns;
}

static int restore_starts(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	uint64_t span_ns = window_ns(governor);
	uint64_t from_ns = now_ns > span_ns ? now_ns - span_ns : 0;
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

/* Torn by a death inside, so nobody writes any more: the copy is as it is, and
 * what it says of a bucket is that it is empty. */
static bool read_or_copy(const void *record, size_t bytes, void *ret_copy)
{
	if (board_read_record(record, bytes, ret_copy))
		return true;
	memcpy(ret_copy, record, bytes);
	return false;
}

static bool has_tokens(const struct board_lane *lane)
{
	return lane->tokens_limit != 0 || lane->tokens_day_limit != 0;
}

static int restore_lanes(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	for (uint32_t i = 0; i < SHM_BOARD_LANES; i++) {
		struct policy_left left;
		struct board_lane lane;
		bool is_whole =
			read_or_copy(&old->lanes[i], sizeof(lane), &lane);

		lane.name[sizeof(lane.name) - 1] = '\0';
		if (lane.name[0] == '\0' || !has_tokens(&lane))
			continue;
		left = (struct policy_left){
			.available = is_whole ? lane.tokens_available : 0,
			.used_today = lane.tokens_used_today,
			.day = lane.tokens_day,
			.at_ns = is_whole ? lane.as_of_ns : now_ns};
		if (policy_restore_tokens(
			    governor->policy, lane.name, &left, now_ns) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void restore_host(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	struct board_tokens host;
	bool is_whole = read_or_copy(&old->host_tokens, sizeof(host), &host);
	struct policy_left left = {.available = is_whole ? host.available : 0,
		.used_today = host.used_today,
		.day = host.day,
		.at_ns = is_whole ? host.as_of_ns : now_ns};

	if (host.sequence != 0 && (host.limit != 0 || host.day_limit != 0))
		policy_restore_host(governor->policy, &left, now_ns);
}

/* What the users with budgets have left.  Their starts count as made now. */
static int restore_users(
	struct governor *governor, const struct board *old, uint64_t now_ns)
{
	for (uint32_t i = 0; i < SHM_BOARD_USERS; i++) {
		struct board_user user;
		bool is_whole =
			read_or_copy(&old->users[i], sizeof(user), &user);
		struct policy_left left = {
			.available = is_whole ? user.tokens_available : 0,
			.used_today = user.tokens_used_today,
			.day = user.tokens_day,
			.at_ns = is_whole ? user.as_of_ns : now_ns,
			.starts = is_whole ? user.starts : user.starts_limit};

		user.name[sizeof(user.name) - 1] = '\0';
		user.app[sizeof(user.app) - 1] = '\0';
		if (user.name[0] == '\0' || user.as_of_ns == 0)
			continue;
		if (policy_restore_user(governor->policy, user.app, user.name,
			    &left, now_ns) < 0)
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

/* The id where the record of its lane has it whole. */
static const char *model_id_of(
	const struct board_live *record, const struct board_lane *lane)
{
	size_t shown = sizeof(record->model) - 1;

	return strlen(record->model) == shown &&
			       strncmp(record->model, lane->name, shown) == 0
		       ? lane->name
		       : record->model;
}

static void restore_permit(struct governor *governor, const struct board *old,
	struct board_live *record, uint64_t now_ns)
{
	const struct board_lane *lane =
		&old->lanes[record->lane % SHM_BOARD_LANES];
	bool is_charged = has_tokens(lane) && record->reserved < INT64_MAX;

	ghost_add(governor, record, model_id_of(record, lane),
		is_charged ? (int64_t)record->reserved : -1, now_ns);
}

/* A permit whose time is over may still be settled, for a day. */
static bool is_held(const struct board_live *record, uint64_t now_ns)
{
	return (record->state == BOARD_LIVE_PERMIT ||
		       record->state == BOARD_LIVE_OVERDUE) &&
	       record->expires_ns + DAY_NS > now_ns;
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
			!is_held(&record, now_ns))
			continue;
		close_texts(&record);
		if (record.user[0] == '\0' || record.model[0] == '\0')
			continue;
		restore_permit(governor, old, &record, now_ns);
		n++;
	}
	return n;
}

void restore_full(struct governor *governor, uint64_t from_ns, uint64_t now_ns)
{
	governor->board.board->header.full_until_ns =
		(from_ns < now_ns ? from_ns : now_ns) + window_ns(governor);
	policy_restore_full(governor->policy, from_ns, now_ns);
}

/* Ours must be higher, whatever the clock says. */
static void restore_cluster(struct governor *governor, const struct board *old)
{
	struct board_cluster cluster;

	if (read_or_copy(&old->cluster, sizeof(cluster), &cluster))
		governor->sharing.last_incarnation = cluster.incarnation;
}

static int restore_all(struct governor *governor, const struct board *old,
	int *ret_permits, uint64_t now_ns)
{
	uint64_t until_ns = old->header.full_until_ns;
	int starts, rc;

	/* First: what is known to have been spent since is known better. */
	if (until_ns > now_ns)
		restore_full(governor, until_ns - window_ns(governor), now_ns);
	starts = restore_starts(governor, old, now_ns);
	rc = starts < 0 ? starts : restore_lanes(governor, old, now_ns);
	restore_host(governor, old, now_ns);
	restore_cluster(governor, old);
	if (rc == 0)
		rc = restore_users(governor, old, now_ns);
	*ret_permits = restore_permits(governor, old, now_ns);
	/* On the new board too: we may die before anything else is shown. */
	show_lanes(governor, now_ns);
	show_users(governor, now_ns);
	return rc < 0 ? rc : starts;
}

int restore_from_board(struct governor *governor, uint64_t now_ns)
{
	const struct board *old;
	int rc = board_open_old(governor->board.name, &old);
	int permits = 0;

	if (rc == -ENOENT)
		return rc; /* the first of this boot: empty windows */
	if (rc == 0) {
		rc = restore_all(governor, old, &permits, now_ns);
		board_close(old);
	}
	if (rc < 0) {
		/* It is there and cannot be believed: never under-count. */
		restore_full(governor, now_ns, now_ns);
		LOG(LOG_WARN, "board.unreadable",
			"the predecessor's board is of no use: every window "
			"counts as full");
		return rc;
	}
	LOG(LOG_INFO, "board.restored", "took over the predecessor's state",
		F_I("starts", rc), F_I("permits", permits));
	return rc;
}
