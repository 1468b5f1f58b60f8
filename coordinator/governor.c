/*
 * The governor itself: its life, its memory, and the pump that asks the policy.
 * arrival.c, attempt.c and ending.c are the way of a request.
 */
#include "coordinator/flow.h"

#include "coordinator/log.h"
#include "coordinator/tasks.h"
#include "coordinator/trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { SPARE_MAX = 1024 };

/* ------------------------------------------------------------ memory */

struct request *governor_allocate(struct governor *governor)
{
	struct request *request = governor->spare;

	if (request == NULL)
		return calloc(1, sizeof(*request));
	governor->spare = request->next;
	governor->n_spare--;
	memset(request, 0, sizeof(*request));
	return request;
}

void governor_recycle(struct governor *governor, struct request *request)
{
	if (governor->n_spare >= SPARE_MAX) {
		free(request);
		return;
	}
	request->next = governor->spare;
	governor->spare = request;
	governor->n_spare++;
}

/* ------------------------------------------------------------ the pump */

static void expire(struct request *request)
{
	char message[SHM_MESSAGE_BYTES];

	(void)snprintf(message, sizeof(message),
		request->failed_as != UPSTREAM_OK
			? "the deadline passed while it waited to be tried "
			  "again after %s"
			: "the deadline passed in the queue; it was not sent",
		short_name_of(request->failed_as));
	finish_plainly(request, SHM_DEADLINE, message);
}

/* policy is the first member: a policy_request is its request. */
static_assert(offsetof(struct request, policy) == 0, "cast in request_of");

static struct request *request_of(struct policy_request *policy)
{
	return (struct request *)(void *)policy;
}

static void on_next_decision(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;

	(void)now_ns;
	governor->is_pump_due = true;
}

/* Draining starts nothing; a request that rgovd leaves behind is ACCEPTED in
 * its client's memory, and a successor queues it again. */
static uint64_t admit_all(struct governor *governor, uint64_t now_ns)
{
	struct policy_request *next;
	uint64_t again_ns = UINT64_MAX;

	if (governor->is_draining)
		return again_ns;
	while ((next = policy_admit(governor->policy, now_ns, &again_ns)) !=
		NULL)
		if (next->is_shadow)
			shadow_admitted(next, now_ns);
		else
			start(request_of(next), now_ns);
	return again_ns;
}

static uint64_t expire_all(struct governor *governor, uint64_t now_ns)
{
	struct policy_request *late;
	uint64_t again_ns = UINT64_MAX;

	while ((late = policy_expire(governor->policy, now_ns, &again_ns)) !=
		NULL)
		if (late->is_shadow)
			shadow_expired(late, now_ns);
		else
			expire(request_of(late));
	return again_ns;
}

static void set_timer(struct governor *governor, uint64_t at_ns)
{
	struct loop_timer *timer = &governor->next_decision;

	if (at_ns == UINT64_MAX)
		loop_timer_clear(governor->loop, timer);
	else if (timer->place == 0 || timer->at_ns != at_ns)
		(void)loop_timer_set(governor->loop, timer, at_ns,
			on_next_decision, governor);
}

void governor_advance(struct governor *governor)
{
	uint64_t late_ns, admit_ns, share_ns, now;

	if (!governor->is_pump_due)
		return;
	do {
		governor->is_pump_due = false;
		now = loop_now_ns();
		late_ns = expire_all(governor, now);
		admit_ns = admit_all(governor, now);
	} while (governor->is_pump_due); /* an end frees a place */
	share_ns = sharing_look(governor, now);
	explain_fresh(governor, now);
	admit_ns = late_ns < admit_ns ? late_ns : admit_ns;
	set_timer(governor, share_ns < admit_ns ? share_ns : admit_ns);
	shadow_look(governor);
	show_host(governor, now);
	show_soon(governor);
}

void governor_pump(struct governor *governor)
{
	if (governor->are_ghosts_back)
		ghosts_end_returned(governor);
	governor_advance(governor);
}

/* ------------------------------------------------------------ life */

/* Days turn at midnight UTC.  Looked at only here, at the start and at a
 * reload: what a clock does in between, no day notices. */
static uint64_t day_offset_ns(void)
{
	struct timespec wall;
	uint64_t wall_ns, now_ns = loop_now_ns();

	(void)clock_gettime(CLOCK_REALTIME, &wall);
	wall_ns = (uint64_t)wall.tv_sec * 1000000000u + (uint64_t)wall.tv_nsec;
	return wall_ns > now_ns ? wall_ns - now_ns : 0;
}

/* The board's tables bound what the policy may keep. */
static struct policy_config policy_config_of(const struct config *config)
{
	struct policy_config policy = config->policy;

	/* One record is the default lane's, one is shared by what finds none.
	 */
	if (policy.max_lanes > SHM_BOARD_LANES - 2)
		policy.max_lanes = SHM_BOARD_LANES - 2;
	policy.region = config->upstream.region;
	policy.day_offset_ns = day_offset_ns();
	if (getrandom(&policy.seed, sizeof(policy.seed), 0) < 0)
		policy.seed = loop_now_ns();
	return policy;
}

void governor_reopen(struct governor *governor)
{
	int rc = trace_open(&governor->trace, governor->config);

	if (rc < 0)
		LOG(LOG_ERROR, "record.lost", "the trace is not opened anew",
			F_S("reason", strerrordesc_np(-rc)));
}

int governor_init(struct governor *governor, struct loop *loop,
	const struct config *config, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct policy_config policy = policy_config_of(config);
	int rc;

	governor->loop = loop;
	governor->config = config;
	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++)
		governor->live_free[i] = (uint16_t)(SHM_BOARD_LIVE - 1 - i);
	governor->n_live_free = SHM_BOARD_LIVE;
	(void)snprintf(ret_why, UPSTREAM_MESSAGE_BYTES, "out of memory");
	rc = policy_create(&policy, &governor->policy);
	if (rc == 0)
		rc = explain_create(&governor->explainer);
	if (rc == 0)
		rc = intake_create(loop, &governor->intake);
	if (rc == 0)
		rc = upstream_create(
			loop, &config->upstream, &governor->upstream, ret_why);
	if (rc == 0 || rc == -ENOKEY)
		governor_reopen(governor);
	return rc == -ENOKEY ? 0 : rc;
}

/* Shadow mode is switched off. */
static void leave_shadow(struct governor *governor)
{
	uint64_t now = loop_now_ns();

	if (!shadow_end(governor, now))
		return;
	restore_full(governor, now, now);
	LOG(LOG_WARN, "shadow.end",
		"more has started than the limits allow: every window counts "
		"as full");
}

int governor_reload(struct governor *governor, const struct config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct policy_config policy = policy_config_of(config);
	struct upstream_stats before;
	struct redis *redis;
	bool was_shadow;
	int rc = sharing_prepare(governor, config, &redis, ret_why);

	if (rc < 0)
		return rc;

	upstream_read_stats(governor->upstream, &before);
	rc = upstream_reload(governor->upstream, &config->upstream, ret_why);
	/* Without credentials it goes on without; but it loses none. */
	if (rc < 0 && (rc != -ENOKEY || before.has_credentials)) {
		redis_free(redis);
		return rc;
	}
	rc = policy_reconfigure(governor->policy, &policy);
	if (rc < 0) {
		/* The upstream goes back to what it was. */
		(void)upstream_reload(governor->upstream,
			&governor->config->upstream, ret_why);
		(void)snprintf(
			ret_why, UPSTREAM_MESSAGE_BYTES, "out of memory");
		redis_free(redis);
		return rc;
	}
	was_shadow = governor->config->shadow;
	governor->config = config;
	governor_reopen(governor);
	tasks_reconfigure(governor);
	sharing_reload(governor, redis);
	governor->is_pump_due = true;
	if (was_shadow && !config->shadow)
		leave_shadow(governor);
	show_config(governor);
	return 0;
}

static void refuse_queued(struct governor *governor)
{
	struct policy_request *queued;
	uint64_t never;

	/* At the end of time every deadline has passed. */
	while ((queued = policy_expire(governor->policy, UINT64_MAX, &never)) !=
		NULL)
		if (queued->is_shadow)
			shadow_expired(queued, loop_now_ns());
		else
			finish_plainly(request_of(queued), SHM_DRAINING,
				"rgovd is going down");
}

void governor_drain(struct governor *governor, bool is_final)
{
	governor->is_draining = true;
	governor->is_final = is_final;
	store_relaxed(governor->board.board->header.draining, 1);
	if (is_final)
		refuse_queued(governor);
	sharing_leave(governor);
}

bool governor_is_quiet(const struct governor *governor)
{
	/* Bodies that are being read are refused when they are there. */
	return governor->calls_out == 0 && tasks_are_quiet(governor) &&
	       sharing_has_left(governor) &&
	       (!governor->is_final ||
		       governor->bodies_in == governor->bodies_out);
}

void governor_leave(struct governor *governor)
{
	loop_timer_clear(governor->loop, &governor->next_decision);
	loop_timer_clear(governor->loop, &governor->publish);
	loop_timer_clear(governor->loop, &governor->permit_expiry);
	shadow_stop(governor);
	sharing_stop(governor);
	governor->is_leaving = true;
	governor->is_draining = true;
}

void governor_fini(struct governor *governor)
{
	upstream_free(governor->upstream);
	intake_free(governor->intake);
	tasks_close(governor);
	ghosts_free(governor);
	while (governor->spare != NULL) {
		struct request *request = governor->spare;

		governor->spare = request->next;
		free(request);
	}
	explain_free(governor->explainer);
	policy_free(governor->policy);
	trace_free(governor->trace);
}
