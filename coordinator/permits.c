/*
 * Permits that are out: they expire, their holders die, and some were granted
 * by a predecessor (ghosts).
 */
#include "coordinator/governor.h"

#include "coordinator/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

/* ------------------------------------------------------------ expiry */

static void on_expiry(struct loop_timer *timer, uint64_t now_ns);

/* Permits stand in the order of expiry (they all live equally long; after a
 * reload that shortens the time, a later one may have to wait for an earlier).
 */
static void set_expiry(struct governor *governor)
{
	if (governor->permits == NULL)
		loop_timer_clear(governor->loop, &governor->permit_expiry);
	else if (governor->permit_expiry.place == 0)
		(void)loop_timer_set(governor->loop, &governor->permit_expiry,
			governor->permits->expires_ns, on_expiry, governor);
	/* A timer that is set already comes too early at the worst. */
}

static void expire(struct request *request)
{
	struct governor *governor = request->governor;

	board_add(governor->board.board->counters.permits_expired, 1);
	board_event(&governor->board, "expire",
		"a permit of %s for %s was never settled", request->user,
		request_model_id(request));
	LOG(LOG_WARN, "permit.expired", "it was never settled",
		F_S("user", request->user), F_S("app", request->app),
		F_S("model", request_model_id(request)));
	/* Settled at its reservation: what it used is not known. */
	permit_finish(request, POLICY_DONE, NULL);
}

static void on_expiry(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;

	while (governor->permits != NULL &&
		governor->permits->expires_ns <= now_ns)
		expire(governor->permits);
	set_expiry(governor);
}

/* ------------------------------------------------------------ life */

void permit_begin(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	request->expires_ns = now_ns + governor->config->permit_ttl_ns;
	DL_APPEND(governor->permits, request);
	set_expiry(governor);
	/* On the board before the worker knows: it must survive us. */
	show_request(request, BOARD_LIVE_PERMIT);
}

void permit_end(struct request *request)
{
	DL_DELETE(request->governor->permits, request);
}

/* A ghost's permit expires like any other. */
static void forget_ghost_of(const struct request *request);

static void count_end(struct governor *governor, enum policy_outcome outcome,
	uint64_t held_ns)
{
	struct board_counters *counters = &governor->board.board->counters;

	board_add(counters->ended_requests, 1);
	board_add(counters->execution_time_ns, held_ns);
	board_sample(&governor->board.board->host.execution, held_ns);
	if (outcome == POLICY_DONE)
		board_add(counters->successful_requests, 1);
	else if (outcome == POLICY_UNUSED)
		board_add(counters->cancelled_requests, 1);
	else
		board_add(counters->failed_requests, 1);
}

void permit_finish(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();

	permit_end(request);
	policy_finish(governor->policy, &request->policy, outcome, usage, now);
	/* A ghost was counted by its predecessor. */
	if (!request->is_ghost)
		count_end(governor, outcome, now - request->last_start_ns);
	show_request_gone(request);
	show_host(governor, now);
	show_soon(governor);
	governor->is_pump_due = true;
	if (request->slot != NULL)
		door_release(request->slot);
	else
		forget_ghost_of(request);
	request_move(request, REQUEST_OVER);
	request_free(request);
}

/* ------------------------------------------------------------ ghosts */

static void free_ghost(struct ghost *ghost)
{
	DL_DELETE(ghost->governor->ghosts, ghost);
	loop_unwatch(ghost->governor->loop, &ghost->death);
	if (ghost->pidfd >= 0)
		(void)close(ghost->pidfd);
	free(ghost);
}

static void forget_ghost_of(const struct request *request)
{
	struct ghost *ghost;

	DL_SEARCH_SCALAR(request->governor->ghosts, ghost, request, request);
	if (ghost != NULL)
		free_ghost(ghost);
}

static void on_holder_death(struct loop_watch *watch, unsigned int events)
{
	struct ghost *ghost = watch->owner;
	struct governor *governor = ghost->governor;

	(void)events;
	board_add(governor->board.board->counters.permits_reclaimed, 1);
	permit_finish(ghost->request, POLICY_LOST, NULL);
}

/* Is it still the process that the record names?  Else pids came round. */
static bool is_same_process(const struct board_live *record)
{
	return record->pid > 0 && record->pid_started != 0 &&
	       door_start_time_of(record->pid) == record->pid_started;
}

/* The holder's death ends the ghost; without a pid that we can see (another PID
 * namespace), only its expiry or its return does. */
static bool watch_holder(struct ghost *ghost, const struct board_live *record)
{
	if (record->pid <= 0 || record->pid_started == 0)
		return true;
	ghost->pidfd = (int)syscall(SYS_pidfd_open, record->pid, 0);
	if (ghost->pidfd < 0 || !is_same_process(record))
		return false; /* dead already */
	return loop_watch(ghost->governor->loop, &ghost->death, ghost->pidfd,
		       LOOP_READ, on_holder_death, ghost) == 0;
}

static struct request *request_of_record(
	struct governor *governor, const struct board_live *record)
{
	struct door_submission submission = {
		.kind = SHM_PERMIT,
		.class =
			record->class <= SHM_BATCH ? record->class : SHM_NORMAL,
		.deadline_ns = record->deadline_ns,
		.input_tokens = record->tokens,
		.model_id = record->model,
		.headers = "",
		.user = record->user,
		.app = record->app,
		.uid = record->uid,
	};

	return request_create(governor, &submission);
}

void ghost_add(struct governor *governor, const struct board_live *record,
	uint64_t now_ns)
{
	struct ghost *ghost = calloc(1, sizeof(*ghost));
	struct request *request = request_of_record(governor, record);

	if (ghost == NULL || request == NULL ||
		policy_restore_running(
			governor->policy, &request->policy, now_ns) < 0) {
		LOG(LOG_ERROR, "permit.lost", "no memory to restore a permit",
			F_S("user", record->user));
		if (request != NULL)
			request_free(request);
		free(ghost);
		return;
	}
	ghost->governor = governor;
	ghost->request = request;
	ghost->pidfd = -1;
	memcpy(ghost->session_id, record->session_id,
		sizeof(ghost->session_id));
	DL_APPEND(governor->ghosts, ghost);
	request->number = ++governor->numbers;
	request->accepted_ns = record->enqueued_ns;
	request->first_start_ns = request->last_start_ns = record->started_ns;
	request->is_started = request->is_ghost = true;
	request_move(request, REQUEST_PERMIT);
	permit_begin(request, now_ns);
	/* Not longer than its predecessor allowed. */
	if (record->expires_ns < request->expires_ns) {
		request->expires_ns = record->expires_ns;
		DL_DELETE(governor->permits, request);
		DL_PREPEND(governor->permits, request);
		loop_timer_clear(governor->loop, &governor->permit_expiry);
		set_expiry(governor);
	}
	show_ghost(request, record);
	if (!watch_holder(ghost, record))
		permit_finish(request, POLICY_LOST, NULL);
}

void ghosts_drop(struct governor *governor, const uint8_t session_id[16])
{
	struct ghost *ghost, *next;

	DL_FOREACH_SAFE (governor->ghosts, ghost, next) {
		if (memcmp(ghost->session_id, session_id,
			    sizeof(ghost->session_id)) == 0)
			permit_finish(ghost->request, POLICY_UNUSED, NULL);
	}
}

void ghosts_free(struct governor *governor)
{
	while (governor->ghosts != NULL)
		permit_finish(governor->ghosts->request, POLICY_UNUSED, NULL);
}
