/*
 * Permits that are out: they expire, their holders die, and some were granted
 * by a predecessor (ghosts).
 */
#include "coordinator/flow.h"

#include "coordinator/log.h"
#include "coordinator/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

/* ------------------------------------------------------------ expiry */

static void on_expiry(struct loop_timer *timer, uint64_t now_ns);

static void set_expiry(struct governor *governor)
{
	struct loop_timer *timer = &governor->permit_expiry;

	if (governor->permits == NULL)
		loop_timer_clear(governor->loop, timer);
	else if (timer->place == 0 ||
		 timer->at_ns > governor->permits->expires_ns)
		(void)loop_timer_set(governor->loop, timer,
			governor->permits->expires_ns, on_expiry, governor);
	/* One that is set already comes too early at the worst. */
}

/* By expiry.  From the end: only after a reload, or of a predecessor, does one
 * live shorter than those before it. */
static void list_permit(struct governor *governor, struct request *request)
{
	struct request *before =
		governor->permits ? governor->permits->prev : NULL;

	while (before != NULL && before->expires_ns > request->expires_ns)
		before = before == governor->permits ? NULL : before->prev;
	DL_APPEND_ELEM(governor->permits, before, request);
}

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

static void expire(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	board_add(governor->board.board->counters.permits_expired, 1);
	board_event(&governor->board, "expire",
		"a permit of %s for %s was never settled",
		request_user(request), request_model_id(request));
	LOG(LOG_WARN, "permit.expired", "it was never settled",
		F_S("user", request_user(request)),
		F_S("app", request_app(request)),
		F_S("model", request_model_id(request)));
	if (request->shadow != NULL) { /* nothing was charged for it */
		permit_finish(request, POLICY_DONE, NULL);
		return;
	}
	/* Settled at its reservation: what it used is not known.  Its slot
	 * stays its holder's, who may still say it. */
	permit_end(request);
	policy_overrun(governor->policy, &request->policy, now_ns);
	trace_permit(governor->trace, request, POLICY_DONE, NULL);
	if (!request->is_ghost)
		count_end(
			governor, POLICY_DONE, now_ns - request->last_start_ns);
	request_move(request, REQUEST_OVERDUE);
	show_request(request, BOARD_LIVE_OVERDUE);
	show_host(governor, now_ns);
	show_soon(governor);
	governor->is_pump_due = true;
}

static void on_expiry(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;

	while (governor->permits != NULL &&
		governor->permits->expires_ns <= now_ns)
		expire(governor->permits, now_ns);
	set_expiry(governor);
}

/* ------------------------------------------------------------ life */

void permit_begin(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	uint64_t most_ns = now_ns + governor->config->permit_ttl_ns;

	if (request->expires_ns == 0 || request->expires_ns > most_ns)
		request->expires_ns = most_ns;
	list_permit(governor, request);
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

static void end_in_time(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	struct governor *governor = request->governor;

	permit_end(request);
	settle_in_policy(request, outcome, usage, now_ns);
	trace_permit(governor->trace, request, outcome, usage);
	/* A ghost was counted by its predecessor. */
	if (!request->is_ghost && !governor->is_leaving)
		count_end(governor, outcome, now_ns - request->last_start_ns);
}

void permit_finish(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage)
{
	struct governor *governor = request->governor;
	uint64_t now = loop_now_ns();

	if (request->stage == REQUEST_OVERDUE)
		policy_settle_overdue(governor->policy, &request->policy,
			outcome, usage, now);
	else
		end_in_time(request, outcome, usage, now);
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
	if (ghost->request->stage == REQUEST_PERMIT)
		board_add(governor->board.board->counters.permits_reclaimed, 1);
	permit_finish(ghost->request, POLICY_LOST, NULL);
}

/* Is it still the process that the record names?  Else pids came round. */
static bool is_same_process(const struct board_live *record)
{
	return record->pid > 0 && record->pid_started != 0 &&
	       door_start_time_of(record->pid) == record->pid_started;
}

/*
 * The holder's death ends the ghost; without a pid that we can see (another PID
 * namespace), or without a descriptor for it, only its expiry or its return
 * does.  False: it is dead already.
 */
static bool watch_holder(struct ghost *ghost, const struct board_live *record)
{
	if (record->pid <= 0 || record->pid_started == 0)
		return true;
	ghost->pidfd = (int)syscall(SYS_pidfd_open, record->pid, 0);
	if (ghost->pidfd < 0)
		return errno != ESRCH;
	if (!is_same_process(record))
		return false;
	(void)loop_watch(ghost->governor->loop, &ghost->death, ghost->pidfd,
		LOOP_READ, on_holder_death, ghost);
	return true;
}

static struct request *request_of_record(struct governor *governor,
	const struct board_live *record, const char *model_id)
{
	char peer[DOOR_PEER_BYTES];
	struct door_submission submission = {
		.kind = SHM_PERMIT,
		.class =
			record->class <= SHM_BATCH ? record->class : SHM_NORMAL,
		.deadline_ns = record->deadline_ns,
		.input_tokens = record->tokens,
		.model_id = model_id,
		.headers = "",
		.user = record->user,
		.app = record->app,
		.peer = peer,
	};

	door_peer_name(record->uid, peer);
	return request_create(governor, &submission);
}

/* Its time is over, maybe while nobody looked. */
static bool is_overdue(const struct board_live *record, uint64_t now_ns)
{
	return record->state == BOARD_LIVE_OVERDUE ||
	       record->expires_ns <= now_ns;
}

static int restore_held(struct request *request,
	const struct board_live *record, int64_t reserved, uint64_t now_ns)
{
	struct policy *policy = request->governor->policy;

	if (is_overdue(record, now_ns))
		return policy_restore_overdue(policy, &request->policy,
			reserved < 0 ? 0 : (uint64_t)reserved,
			record->started_ns, now_ns);
	return policy_restore_held(
		policy, &request->policy, reserved, record->started_ns, now_ns);
}

void ghost_add(struct governor *governor, const struct board_live *record,
	const char *model_id, int64_t reserved, uint64_t now_ns)
{
	struct ghost *ghost = calloc(1, sizeof(*ghost));
	struct request *request = request_of_record(governor, record, model_id);

	if (ghost == NULL || request == NULL ||
		restore_held(request, record, reserved, now_ns) < 0) {
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
	ghost->slot = record->slot;
	ghost->generation = record->generation;
	memcpy(ghost->session_id, record->session_id,
		sizeof(ghost->session_id));
	DL_APPEND(governor->ghosts, ghost);
	request->number = ++governor->numbers;
	request->accepted_ns = record->enqueued_ns;
	request->first_start_ns = request->last_start_ns = record->started_ns;
	request->is_started = request->is_ghost = true;
	/* Not longer than its predecessor allowed. */
	request->expires_ns = record->expires_ns;
	if (is_overdue(record, now_ns)) {
		if (record->state == BOARD_LIVE_PERMIT)
			board_add(
				governor->board.board->counters.permits_expired,
				1);
		request_move(request, REQUEST_OVERDUE);
		show_request(request, BOARD_LIVE_OVERDUE);
	} else {
		request_move(request, REQUEST_PERMIT);
		permit_begin(request, now_ns);
	}
	show_ghost(request, record);
	if (!watch_holder(ghost, record))
		permit_finish(request, POLICY_LOST, NULL);
}

void ghosts_return(struct governor *governor, const uint8_t session_id[16])
{
	struct ghost *ghost;

	DL_FOREACH (governor->ghosts, ghost) {
		if (memcmp(ghost->session_id, session_id,
			    sizeof(ghost->session_id)) != 0)
			continue;
		ghost->is_back = true;
		governor->are_ghosts_back = true;
		governor->is_pump_due = true;
	}
}

static struct ghost *find_ghost(
	struct governor *governor, const struct door_slot *slot)
{
	struct door_client client;
	struct ghost *ghost;

	door_identify(slot->session, &client);
	DL_FOREACH (governor->ghosts, ghost) {
		if (ghost->is_back && ghost->slot == slot->index &&
			ghost->generation == slot->generation &&
			memcmp(ghost->session_id, client.session_id,
				sizeof(ghost->session_id)) == 0)
			break;
	}
	return ghost;
}

struct request *ghost_of(
	struct governor *governor, const struct door_slot *slot)
{
	struct ghost *ghost = find_ghost(governor, slot);

	return ghost ? ghost->request : NULL;
}

/* The client could have written another descriptor over it.  A model id that
 * was cut on the board is compared as far as it goes. */
static bool stands_for(const struct request *held, const struct request *other)
{
	enum { SHOWN = sizeof(((struct board_live *)0)->model) - 1 };

	return strcmp(request_user(held), request_user(other)) == 0 &&
	       strncmp(request_model_id(held), request_model_id(other),
		       SHOWN) == 0;
}

struct request *ghost_take(const struct request *request)
{
	struct ghost *ghost = find_ghost(request->governor, request->slot);
	struct request *held;

	if (ghost == NULL || !stands_for(ghost->request, request))
		return NULL;
	held = ghost->request;
	free_ghost(ghost);
	held->is_ghost = false;
	held->slot = request->slot;
	held->slot->request = held;
	return held;
}

void ghosts_end_returned(struct governor *governor)
{
	struct ghost *ghost, *next;

	governor->are_ghosts_back = false;
	DL_FOREACH_SAFE (governor->ghosts, ghost, next) {
		if (ghost->is_back)
			permit_finish(ghost->request, POLICY_DONE, NULL);
	}
}

void ghosts_free(struct governor *governor)
{
	while (governor->ghosts != NULL)
		permit_finish(governor->ghosts->request, POLICY_UNUSED, NULL);
}
