#include "coordinator/shadow.h"

#include "coordinator/flow.h"
#include "coordinator/log.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define REPORT_NS 60000000000u

struct shadow {
	struct policy_request twin;
	struct governor *governor;
	struct shadow *prev, *next;
	struct request *real; /* NULL: it has ended */
	uint64_t real_start_ns;
	uint64_t held_ns; /* how long the real one took, once it has ended */
	struct loop_timer end;
	bool is_fresh; /* has not been passed over yet */
	bool is_one;   /* shadow mode is over: it ends with the real one */
	bool has_usage;
	enum policy_outcome outcome; /* of the real one */
	struct policy_usage usage;
	char texts[];
};

static_assert(offsetof(struct shadow, twin) == 0, "cast in shadow_of");

static struct shadow *shadow_of(struct policy_request *twin)
{
	return (struct shadow *)(void *)twin;
}

/* ------------------------------------------------------------ the report */

static void on_report(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;
	struct shadows *shadows = &governor->shadows;
	double delayed = (double)shadows->delayed;

	(void)now_ns;
	LOG(LOG_INFO, "shadow.report",
		"shadow mode: nothing was held back in the last minute",
		F_I("passed", shadows->passed),
		F_I("delayed", shadows->delayed),
		F_I("refused", shadows->refused),
		F_F("wait_mean_s",
			shadows->delayed == 0
				? 0
				: (double)shadows->wait_ns / delayed / 1e9),
		F_F("wait_max_s", (double)shadows->longest_ns / 1e9));
	shadows->passed = shadows->delayed = shadows->refused = 0;
	shadows->wait_ns = shadows->longest_ns = 0;
}

/* Something happened: it is reported within a minute. */
static void report_soon(struct governor *governor, uint64_t now_ns)
{
	struct loop_timer *timer = &governor->shadows.report;

	if (timer->place == 0)
		(void)loop_timer_set(governor->loop, timer, now_ns + REPORT_NS,
			on_report, governor);
}

static void count_refusal(struct governor *governor, uint64_t now_ns)
{
	COUNT(governor, shadow_refused);
	governor->shadows.refused++;
	governor->shadows.refused_ns = now_ns;
	report_soon(governor, now_ns);
}

void shadow_note_refusal(struct governor *governor, uint64_t now_ns)
{
	COUNT(governor, shadow_queue_full);
	count_refusal(governor, now_ns);
}

static void note_refusal(
	struct governor *governor, enum policy_refusal refusal, uint64_t now_ns)
{
	switch (refusal) {
	case POLICY_ACCEPTED:
		return;
	case POLICY_QUEUE_FULL:
	case POLICY_LANE_CLOSED:
	case POLICY_NO_MEMORY:
		COUNT(governor, shadow_queue_full);
		break;
	case POLICY_USER_LIMIT:
		COUNT(governor, shadow_user_limit);
		break;
	case POLICY_TOO_LARGE:
		COUNT(governor, shadow_too_large);
		break;
	case POLICY_LATE:
	case POLICY_TOO_LATE:
		COUNT(governor, shadow_deadline);
		break;
	}
	count_refusal(governor, now_ns);
}

/* The wait that is shown is the one that would have been. */
static void note_start(const struct shadow *shadow, uint64_t now_ns)
{
	struct governor *governor = shadow->governor;
	struct shadows *shadows = &governor->shadows;
	uint64_t wait_ns =
		shadow->is_fresh ? 0 : since(shadow->twin.enqueued_ns, now_ns);

	COUNT_BY(governor, wait_time_ns, wait_ns);
	board_sample(&governor->board.board->host.wait, wait_ns);
	if (shadow->is_fresh)
		return;
	COUNT(governor, shadow_delayed);
	shadows->delayed++;
	shadows->wait_ns += wait_ns;
	if (shadows->longest_ns < wait_ns)
		shadows->longest_ns = wait_ns;
	report_soon(governor, now_ns);
}

/* ------------------------------------------------------------ the twin */

static const char *append(char **at, const char *text)
{
	const char *copy = *at;

	*at = stpcpy(*at, text) + 1;
	return copy;
}

static struct shadow *create(const struct request *request)
{
	const struct policy_request *real = &request->policy;
	struct shadow *shadow = calloc(1, sizeof(*shadow) + strlen(real->user) +
						  strlen(real->app) +
						  strlen(real->model_id) + 3);
	char *at;

	if (shadow == NULL)
		return NULL;
	at = shadow->texts;
	shadow->governor = request->governor;
	shadow->twin = (struct policy_request){
		.user = append(&at, real->user),
		.app = append(&at, real->app),
		.model_id = append(&at, real->model_id),
		.class = real->class,
		.input_tokens = real->input_tokens,
		.output_tokens = real->output_tokens,
		.deadline_ns = real->deadline_ns,
		.is_permit = real->is_permit,
		.is_shadow = true,
	};
	return shadow;
}

/* The twin leaves the policy, as the real one ended where that is known. */
static void leave(
	struct shadow *shadow, enum policy_outcome outcome, uint64_t now_ns)
{
	struct policy *policy = shadow->governor->policy;
	struct policy_request *twin = &shadow->twin;

	if (twin->state == POLICY_RUNNING)
		policy_finish(policy, twin, outcome,
			shadow->has_usage ? &shadow->usage : NULL, now_ns);
	else if (twin->state != POLICY_NEW)
		policy_remove(policy, twin);
	shadow->governor->is_pump_due = true;
	show_soon(shadow->governor);
}

static void free_shadow(struct shadow *shadow)
{
	struct governor *governor = shadow->governor;

	if (shadow->real != NULL)
		shadow->real->shadow = NULL;
	DL_DELETE(governor->shadows.list, shadow);
	loop_timer_clear(governor->loop, &shadow->end);
	free(shadow);
}

static void finish_twin(struct shadow *shadow, uint64_t now_ns)
{
	leave(shadow, shadow->outcome, now_ns);
	free_shadow(shadow);
}

static void on_end(struct loop_timer *timer, uint64_t now_ns)
{
	finish_twin(timer->owner, now_ns);
}

/* It has its place, and it is known for how long. */
static void hold(struct shadow *shadow, uint64_t now_ns)
{
	uint64_t end_ns = shadow->twin.admitted_ns + shadow->held_ns;

	if (shadow->is_one || end_ns <= now_ns ||
		loop_timer_set(shadow->governor->loop, &shadow->end, end_ns,
			on_end, shadow) < 0)
		finish_twin(shadow, now_ns);
}

/* ------------------------------------------------------------ its life */

bool shadow_follow(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct shadow *shadow = create(request);
	uint64_t retry_after_ns;

	if (shadow == NULL)
		return false;
	shadow->real = request;
	shadow->is_fresh = true;
	shadow->real_start_ns = now_ns;
	request->shadow = shadow;
	COUNT(governor, shadow_passed);
	governor->shadows.passed++;
	report_soon(governor, now_ns);
	note_refusal(governor,
		offer(governor, &shadow->twin, now_ns, &retry_after_ns),
		now_ns);
	/* Not before: to make room, offer() may have started others. */
	DL_PREPEND(governor->shadows.list, shadow);
	governor->is_pump_due = true;
	return true;
}

void shadow_started(struct request *request, uint64_t now_ns)
{
	request->shadow->real_start_ns = now_ns;
}

void shadow_admitted(struct policy_request *twin, uint64_t now_ns)
{
	struct shadow *shadow = shadow_of(twin);

	policy_started(shadow->governor->policy, twin, now_ns);
	note_start(shadow, now_ns);
	if (shadow->real == NULL)
		hold(shadow, now_ns);
}

void shadow_expired(struct policy_request *twin, uint64_t now_ns)
{
	struct shadow *shadow = shadow_of(twin);

	COUNT(shadow->governor, shadow_deadline);
	count_refusal(shadow->governor, now_ns);
	if (shadow->real == NULL)
		free_shadow(shadow);
}

void shadow_settle(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage, uint64_t now_ns)
{
	struct shadow *shadow = request->shadow;

	request->shadow = NULL;
	shadow->real = NULL;
	shadow->held_ns = since(shadow->real_start_ns, now_ns);
	shadow->outcome = outcome;
	/* A governed call would have been answered. */
	if (outcome == POLICY_THROTTLED && !shadow->is_one)
		shadow->outcome = POLICY_DONE;
	else if (outcome == POLICY_DONE && usage != NULL) {
		shadow->usage = *usage;
		shadow->has_usage = true;
	}
	if (shadow->twin.state == POLICY_RUNNING)
		hold(shadow, now_ns);
	else if (shadow->twin.state == POLICY_NEW)
		free_shadow(shadow);
}

void shadow_drop(struct request *request, uint64_t now_ns)
{
	struct shadow *shadow = request->shadow;

	leave(shadow, request->is_started ? POLICY_LOST : POLICY_UNUSED,
		now_ns);
	free_shadow(shadow);
}

/* The fresh ones are at the head of the list. */
void shadow_look(struct governor *governor)
{
	struct shadow *shadow = governor->shadows.list;

	for (; shadow != NULL && shadow->is_fresh; shadow = shadow->next)
		shadow->is_fresh = false;
}

/* ------------------------------------------------------------ its end */

/* The real one runs: its twin is there for it, with its start counted. */
static void count_real(struct shadow *shadow, uint64_t now_ns)
{
	struct policy *policy = shadow->governor->policy;
	struct policy_request *twin = &shadow->twin;

	shadow->is_one = true;
	if (twin->state == POLICY_RUNNING)
		return;
	if (twin->state != POLICY_NEW)
		policy_remove(policy, twin);
	if (policy_restore_running(policy, twin, now_ns) < 0)
		LOG(LOG_ERROR, "shadow.lost",
			"no memory to count a call that runs",
			F_S("model", twin->model_id));
}

bool shadow_end(struct governor *governor, uint64_t now_ns)
{
	struct shadows *shadows = &governor->shadows;
	const struct policy_config *config = &governor->config->policy;
	uint64_t window_ns = config->minute_ns + config->guard_ns;
	bool is_uncounted = shadows->refused_ns != 0 &&
			    now_ns - shadows->refused_ns < window_ns;
	struct shadow *shadow, *next;

	DL_FOREACH_SAFE (shadows->list, shadow, next) {
		is_uncounted |= shadow->twin.state == POLICY_QUEUED;
		if (shadow->real != NULL)
			count_real(shadow, now_ns);
		else
			finish_twin(shadow, now_ns);
	}
	return is_uncounted;
}

void shadow_stop(struct governor *governor)
{
	uint64_t now = loop_now_ns();
	struct shadow *shadow, *next;

	DL_FOREACH_SAFE (governor->shadows.list, shadow, next) {
		leave(shadow, POLICY_UNUSED, now);
		if (shadow->real == NULL)
			free_shadow(shadow);
	}
	loop_timer_clear(governor->loop, &governor->shadows.report);
}
