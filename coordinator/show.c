/*
 * The board: what is shown, and when.  Counters and host gauges at once, live
 * records with each move, lanes and users a few times a second while they
 * change, the heartbeat once a second.
 */
#include "coordinator/governor.h"

#include "coordinator/hints.h"
#include "coordinator/log.h"
#include "coordinator/tasks.h"
#include "coordinator/trace.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PUBLISH_NS 250000000u /* while something changes */

/* Lanes that found no record of their own share the last one. */
enum { LANE_OTHERS = SHM_BOARD_LANES - 1 };

/* ------------------------------------------------------------ static parts */

void show_config(struct governor *governor)
{
	struct board_header *header = &governor->board.board->header;
	const struct config *config = governor->config;
	struct upstream_stats stats;

	/* A reload does not change these. */
	if (load_relaxed(header->config_generation) == 0) {
		board_text(header->engine, sizeof(header->engine),
			loop_engine_name(governor->loop));
		board_text(header->socket_path, sizeof(header->socket_path),
			config->socket);
		store_relaxed(governor->board.board->host.sessions_limit,
			config->max_sessions);
	}
	upstream_read_stats(governor->upstream, &stats);
	board_text(header->endpoint, sizeof(header->endpoint), stats.endpoint);
	board_text(header->preset, sizeof(header->preset), config->preset);
	header->quota_window_ns = config->policy.minute_ns;
	header->guard_ns = config->policy.guard_ns;
	store_relaxed(header->max_requests_per_user,
		config->policy.max_requests_per_user);
	store_relaxed(header->credentials, stats.has_credentials);
	store_relaxed(header->shadow, config->shadow);
	store_relaxed(header->config_generation,
		load_relaxed(header->config_generation) + 1);
}

/* ------------------------------------------------------------ gauges */

void show_host(struct governor *governor, uint64_t now_ns)
{
	struct board_host *host = &governor->board.board->host;
	struct policy_host_view view;

	if (governor->is_leaving)
		return;
	policy_view_host(governor->policy, now_ns, &view);
	store_relaxed(host->running, view.running);
	store_relaxed(host->running_peak, view.running_peak);
	store_relaxed(host->running_limit, view.running_limit);
	store_relaxed(host->queued, view.queued);
	store_relaxed(host->queued_peak, view.queued_peak);
	store_relaxed(host->queued_limit, view.queued_limit);
	store_relaxed(host->starts, view.starts);
	store_relaxed(host->starts_peak, view.starts_peak);
	store_relaxed(host->starts_limit, view.starts_limit);
	store_relaxed(host->users, view.users);
	store_relaxed(host->oldest_enqueued_ns, view.oldest_enqueued_ns);
}

/* ------------------------------------------------------------ lanes */

static void put_tokens(struct board_lane *lane,
	const struct policy_lane_view *view, uint64_t now_ns)
{
	board_put(lane->tokens_available, view->tokens_available);
	board_put(lane->tokens_limit, view->tokens_limit);
	board_put(lane->tokens_reserved, view->tokens_reserved);
	board_put(lane->tokens_used_today, view->tokens_used_today);
	board_put(lane->tokens_day_limit, view->tokens_day_limit);
	board_put(lane->tokens_day, view->tokens_day);
	board_put(lane->as_of_ns, now_ns);
}

static void put_lane(struct board_lane *lane,
	const struct policy_lane_view *view, uint64_t now_ns)
{
	board_put(lane->running, view->running);
	board_put(lane->running_peak, view->running_peak);
	board_put(lane->running_limit, view->running_limit);
	board_put(lane->queued, view->queued);
	board_put(lane->backing_off, view->backing_off);
	board_put(lane->starts, view->starts);
	board_put(lane->starts_peak, view->starts_peak);
	board_put(lane->starts_limit, view->starts_limit);
	board_put(lane->retry_budget_left, view->retry_budget_left);
	board_put(lane->gate_open, view->gate_open);
	board_put(lane->held_by, view->reason);
	board_put(lane->held_since_ns, view->reason_since_ns);
	put_tokens(lane, view, now_ns);
	show_lease(&lane->lease, &view->lease);
	board_put(lane->admitted, view->admitted);
	board_put(lane->done, view->done);
	board_put(lane->throttled, view->throttled);
	board_put(lane->lost, view->lost);
	board_put(lane->retries, view->retries);
	board_put(lane->absurd_usage, view->absurd_usage);
	board_put(lane->gate_opens_ns, view->gate_opens_ns);
	board_put(lane->gate_closings, view->gate_closings);
	board_put(lane->gate_probes, view->gate_probes);
	board_text(lane->pattern, sizeof(lane->pattern), view->pattern);
}

/* The record of a lane: found by name, or taken from one that is out of use for
 * longer than any window looks back. */
static uint32_t lane_record(
	struct governor *governor, const char *name, uint64_t now_ns)
{
	struct board *board = governor->board.board;
	uint64_t old_ns = 2 * (governor->config->policy.minute_ns +
				      governor->config->policy.guard_ns);
	/* Until it is published; not what its record said of another one. */
	const struct policy_lane_view fresh = {
		.pattern = "", .gate_open = true};
	uint32_t found = LANE_OTHERS;
	char shown[sizeof(board->lanes[0].name)];

	/* Nearly always; a name that is shown otherwise takes the long way. */
	if (strcmp(board->lanes[governor->last_lane].name, name) == 0)
		return governor->last_lane;
	board_text(shown, sizeof(shown), name);
	for (uint32_t i = 0; i < LANE_OTHERS; i++) {
		struct board_lane *lane = &board->lanes[i];

		if (strcmp(lane->name, shown) == 0)
			return governor->last_lane = i;
		if (found == LANE_OTHERS &&
			(lane->name[0] == '\0' ||
				governor->lane_used_ns[i] + old_ns < now_ns))
			found = i;
	}
	if (found != LANE_OTHERS) {
		struct board_lane *lane = &board->lanes[found];

		board_begin(&lane->sequence);
		put_lane(lane, &fresh, 0);
		board_text(lane->name, sizeof(lane->name), shown);
		board_end(&lane->sequence);
		hints_note_lane(governor, name);
	}
	return governor->last_lane = found;
}

static bool show_lane(const struct policy_lane_view *view, void *argument)
{
	struct governor *governor = argument;
	uint64_t now = loop_now_ns();
	uint32_t index = lane_record(governor, view->name, now);
	struct board_lane *lane = &governor->board.board->lanes[index];

	governor->is_fading |=
		view->starts > 0 || view->queued > 0 || !view->gate_open ||
		view->tokens_available != (int64_t)view->tokens_limit;
	if (index == LANE_OTHERS)
		return true;
	governor->lane_used_ns[index] = now;
	board_begin(&lane->sequence);
	put_lane(lane, view, now);
	board_end(&lane->sequence);
	return true;
}

void show_lanes(struct governor *governor, uint64_t now_ns)
{
	policy_each_lane(governor->policy, now_ns, show_lane, governor);
}

/* ------------------------------------------------------------ publishing */

static void show_parts(struct governor *governor)
{
	struct board *board = governor->board.board;
	struct door_stats door;
	struct upstream_stats upstream;

	if (governor->door == NULL)
		return;
	door_read_stats(governor->door, &door);
	upstream_read_stats(governor->upstream, &upstream);
	store_relaxed(board->host.sessions, door.sessions);
	store_relaxed(board->counters.sessions_opened, door.opened);
	store_relaxed(board->counters.sessions_reattached, door.reattached);
	store_relaxed(board->counters.sessions_refused, door.refused);
	store_relaxed(board->counters.sessions_died, door.died);
	store_relaxed(board->counters.sessions_closed, door.closed);
	store_relaxed(board->counters.stale_entries, door.stale_entries);
	store_relaxed(board->counters.connections_opened,
		upstream.connections_opened);
	store_relaxed(board->counters.log_lines_lost, log_lost());
	store_relaxed(
		board->counters.record_lines_lost, trace_lost(governor->trace));
}

static void publish(struct governor *governor, uint64_t now_ns)
{
	if (governor->is_leaving)
		return;
	governor->is_fading = false;
	show_waits(governor, now_ns);
	show_lanes(governor, now_ns);
	show_users(governor, now_ns);
	show_cluster(governor, now_ns);
	show_parts(governor);
	show_host(governor, now_ns);
}

static void on_publish(struct loop_timer *timer, uint64_t now_ns)
{
	publish(timer->owner, now_ns);
}

void show_soon(struct governor *governor)
{
	if (governor->publish.place != 0 || governor->is_leaving)
		return;
	(void)loop_timer_set(governor->loop, &governor->publish,
		loop_now_ns() + PUBLISH_NS, on_publish, governor);
}

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%*u %lu", &pages) != 1)
		pages = 0;
	(void)fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void show_heartbeat(struct governor *governor, uint64_t now_ns)
{
	struct board *board = governor->board.board;

	store_relaxed(board->host.resident_bytes, resident_bytes());
	if (governor->is_fading)
		publish(governor, now_ns);
	show_cluster(governor, now_ns);
	show_parts(governor);
	tasks_show(governor);
	show_host(governor, now_ns);
	store_relaxed(board->header.heartbeat_ns, now_ns);
}

/* ------------------------------------------------------------ live records */

/* How many live requests the table has no room for now. */
static void set_hidden(struct request *request, bool is_hidden)
{
	struct board_header *header = &request->governor->board.board->header;

	if (request->is_hidden != is_hidden)
		board_add(header->live_hidden, is_hidden ? 1 : -1);
	request->is_hidden = is_hidden;
}

/* Permits always find a record (the configuration bounds them); queued calls,
 * and permits that are overdue, leave a quarter of the table to what runs. */
static bool take_record(struct request *request, enum board_live_state state)
{
	struct governor *governor = request->governor;
	bool is_short = governor->n_live_free < SHM_BOARD_LIVE / 4;

	if (state == BOARD_LIVE_OVERDUE && is_short) {
		show_request_gone(request);
		return false;
	}
	if (request->live != REQUEST_NO_LIVE)
		return true;
	if (governor->n_live_free == 0 ||
		(state == BOARD_LIVE_QUEUED && is_short)) {
		set_hidden(request, true);
		return false;
	}
	set_hidden(request, false);
	request->live = governor->live_free[--governor->n_live_free];
	governor->live_requests[request->live] = request;
	return true;
}

static void put_client(
	struct board_live *live, const struct door_session *session)
{
	struct door_client client;

	door_identify(session, &client);
	board_put(live->pid, client.pid);
	board_put(live->pid_started, client.pid_started);
	board_put(live->uid, client.uid);
	board_put_bytes(
		live->session_id, client.session_id, sizeof(live->session_id));
}

static void fill_record(struct board_live *live, const struct request *request)
{
	board_put(live->slot, request->slot ? request->slot->index : 0);
	board_put(live->generation,
		request->slot ? request->slot->generation : 0);
	board_put(live->request, request->number);
	board_put(live->enqueued_ns, request->accepted_ns);
	board_put(live->deadline_ns, request->policy.deadline_ns);
	board_put(live->tokens,
		request->policy.input_tokens + request->policy.output_tokens);
	board_put(live->class, (uint8_t)request->policy.class);
	board_put(live->kind, (uint8_t)request->kind);
	board_put(live->operation, (uint8_t)request->operation);
	board_put(live->position, 0);
	board_put(live->as_of_ns, 0); /* show_waits() fills them */
	board_text(live->user, sizeof(live->user), request_user(request));
	board_text(live->app, sizeof(live->app), request_app(request));
	board_text(live->model, sizeof(live->model), request_model_id(request));
	if (request->slot != NULL)
		put_client(live, request->slot->session);
}

/* What was let through is in no lane, but its start counts in one. */
static const char *lane_of(const struct request *request)
{
	return request->shadow == NULL
		       ? policy_lane_name(request->policy.lane)
		       : policy_lane_name_of(request->governor->policy,
				 request_model_id(request), loop_now_ns());
}

/* What a successor needs to know of a permit beside. */
static void put_permit(struct board_live *live, const struct request *request)
{
	board_put(live->lane, lane_record(request->governor, lane_of(request),
				      request->last_start_ns));
	/* What was let through was never charged: it is, then. */
	board_put(live->reserved, request->shadow != NULL
					  ? UINT64_MAX
					  : policy_reserved(&request->policy));
}

void show_request(struct request *request, enum board_live_state state)
{
	struct governor *governor = request->governor;
	bool is_new = request->live == REQUEST_NO_LIVE;
	struct board_live *live;

	if (governor->is_leaving || !take_record(request, state))
		return;
	live = &governor->board.board->live[request->live];
	board_begin(&live->sequence);
	if (is_new)
		fill_record(live, request);
	board_put(live->state, state);
	board_put(live->attempts, request->calls);
	board_put(live->started_ns, request->last_start_ns);
	board_put(live->expires_ns,
		request->kind == SHM_PERMIT ? request->expires_ns : 0);
	if (state == BOARD_LIVE_PERMIT)
		put_permit(live, request);
	else if (state == BOARD_LIVE_OVERDUE)
		board_put(live->reserved, policy_reserved(&request->policy));
	board_end(&live->sequence);
}

void show_ghost(struct request *request, const struct board_live *record)
{
	struct board_live *live;

	if (request->live == REQUEST_NO_LIVE)
		return;
	live = &request->governor->board.board->live[request->live];
	board_begin(&live->sequence);
	board_put(live->pid, record->pid);
	board_put(live->pid_started, record->pid_started);
	board_put(live->uid, record->uid);
	board_put(live->slot, record->slot);
	board_put(live->generation, record->generation);
	board_put_bytes(
		live->session_id, record->session_id, sizeof(live->session_id));
	board_end(&live->sequence);
}

void show_request_gone(struct request *request)
{
	struct governor *governor = request->governor;
	struct board_live *live;

	if (governor->is_leaving)
		return;
	set_hidden(request, false);
	if (request->live == REQUEST_NO_LIVE)
		return;
	live = &governor->board.board->live[request->live];
	board_begin(&live->sequence);
	board_put(live->state, BOARD_LIVE_FREE);
	board_end(&live->sequence);
	governor->live_free[governor->n_live_free++] = request->live;
	governor->live_requests[request->live] = NULL;
	request->live = REQUEST_NO_LIVE;
}

/* ------------------------------------------------------------ starts */

#define NO_START UINT64_MAX /* was not recorded */

/* Unlimited lanes would wash the others' starts out of the ring. */
static bool is_recorded(const struct request *request)
{
	return request->shadow != NULL ||
	       policy_counts_starts(
		       request->governor->policy, &request->policy);
}

static uint64_t add_start(struct governor *governor, const char *lane_name,
	uint64_t started_ns, uint64_t now_ns)
{
	uint32_t lane = lane_record(governor, lane_name, now_ns);

	governor->lane_used_ns[lane] = now_ns;
	return board_add_start(&governor->board, lane, started_ns);
}

/* What is reserved by now: a successor must not find a fuller bucket.  What
 * comes back is shown later, with the rest of the lane. */
static void show_tokens(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct policy_lane_view view;
	struct board_lane *lane;
	uint32_t index;

	if (!policy_counts_tokens(&request->policy))
		return;
	policy_view_lane(request->policy.lane, now_ns, &view);
	index = lane_record(governor, view.name, now_ns);
	if (index == LANE_OTHERS)
		return;
	governor->lane_used_ns[index] = now_ns;
	lane = &governor->board.board->lanes[index];
	board_begin(&lane->sequence);
	put_tokens(lane, &view, now_ns);
	board_end(&lane->sequence);
}

uint64_t show_start(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	if (governor->is_leaving)
		return NO_START;
	/* What was let through has charged nothing. */
	if (request->shadow == NULL) {
		show_tokens(request, now_ns);
		show_budgets(request, now_ns);
	}
	return is_recorded(request)
		       ? add_start(governor, lane_of(request), now_ns, now_ns)
		       : NO_START;
}

void show_restored_start(struct governor *governor, const char *lane_name,
	uint64_t started_ns, uint64_t now_ns)
{
	(void)add_start(governor, lane_name, started_ns, now_ns);
}

void show_moved_start(
	struct request *request, uint64_t *position, uint64_t now_ns)
{
	/* A reload may have set its limit only now. */
	if (*position == NO_START)
		*position = show_start(request, now_ns);
	else if (!request->governor->is_leaving)
		board_move_start(&request->governor->board, *position, now_ns);
}
