#include "coordinator/explain.h"

#include "coordinator/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define LEAST_NS 1000000u /* waits below that are not worth a table */

enum {
	BUCKETS = 4096, /* numbers follow each other: they fill evenly */
	FRESH = 64,     /* that came in one round; others are told at once */
	ENDED = 512,
};

/* What is left of a request that waited. */
struct ended {
	uint64_t number, ended_ns, waiting_ns;
	uint32_t result, attempts;
	uint64_t waited_ns[SHM_REASONS_MAX];
	char peer[DOOR_PEER_BYTES];
	char user[SHM_USER_BYTES];
	char model[128];
};

struct explainer {
	/* Chained by prev and next, which a permit that is out needs for
	 * another list. */
	struct request *by_number[BUCKETS];
	uint64_t fresh[FRESH];
	uint32_t n_fresh;
	uint64_t n_ended; /* ever */
	struct ended ended[ENDED];
};

int explain_create(struct explainer **ret_explainer)
{
	struct explainer *explainer = calloc(1, sizeof(*explainer));

	if (explainer == NULL)
		return -ENOMEM;
	*ret_explainer = explainer;
	return 0;
}

void explain_free(struct explainer *explainer)
{
	free(explainer);
}

/* ------------------------------------------------------------ by number */

static struct request **bucket_of(struct explainer *explainer, uint64_t number)
{
	return &explainer->by_number[number % BUCKETS];
}

static struct request *find(struct explainer *explainer, uint64_t number)
{
	struct request *request;

	DL_FOREACH (*bucket_of(explainer, number), request)
		if (request->number == number)
			break;
	return request;
}

void explain_remove(struct request *request)
{
	struct explainer *explainer = request->governor->explainer;

	DL_DELETE(*bucket_of(explainer, request->number), request);
}

/* ------------------------------------------------------------ the slot */

struct policy_why explain_why(const struct request *request, uint64_t now_ns)
{
	struct policy_why why;

	policy_explain(
		request->governor->policy, &request->policy, now_ns, &why);
	return why;
}

static bool is_waiting(const struct request *request)
{
	return request->policy.state == POLICY_QUEUED ||
	       request->policy.state == POLICY_BACKOFF;
}

static void show_place(const struct request *request, uint64_t now_ns,
	const struct policy_why *why, bool is_first)
{
	struct door_place place = {
		.request = request->number,
		.reason = why->reason,
		.position = why->position,
		.as_of_ns = now_ns,
		.until_ns = why->until_ns,
		.predicted_ns = why->predicted_ns,
		.is_first = is_first,
	};

	if (request->slot != NULL)
		door_show_place(request->slot, &place);
}

static void show_first_place(struct request *request, uint64_t now_ns)
{
	struct policy_why why = explain_why(request, now_ns);

	show_place(request, now_ns, &why, true);
	/* A permit, which mostly is granted at once. */
	if (request->live == REQUEST_NO_LIVE)
		show_request(request, BOARD_LIVE_QUEUED);
}

void explain_add(struct request *request)
{
	struct explainer *explainer = request->governor->explainer;

	DL_APPEND(*bucket_of(explainer, request->number), request);
	if (explainer->n_fresh < FRESH)
		explainer->fresh[explainer->n_fresh++] = request->number;
	else if (is_waiting(request))
		show_first_place(request, request->accepted_ns);
}

void explain_fresh(struct governor *governor, uint64_t now_ns)
{
	struct explainer *explainer = governor->explainer;

	for (uint32_t i = 0; i < explainer->n_fresh; i++) {
		/* NULL: it is over already. */
		struct request *request = find(explainer, explainer->fresh[i]);

		if (request != NULL && is_waiting(request))
			show_first_place(request, now_ns);
	}
	explainer->n_fresh = 0;
}

/* ------------------------------------------------------------ waits */

/* Admitted once, and next to at once: nothing to add up. */
static bool was_prompt(const struct request *request)
{
	const struct policy_request *policy = &request->policy;
	bool is_back = request->stage == REQUEST_QUEUED &&
		       policy->state != POLICY_RUNNING;

	return policy->attempts == 1 && !is_back &&
	       since(request->accepted_ns, policy->admitted_ns) < LEAST_NS;
}

/* A final drain ends what is queued at the end of time. */
static bool is_swept_out(const struct request *request)
{
	return request->governor->is_final &&
	       request->stage == REQUEST_QUEUED &&
	       request->policy.state == POLICY_NEW;
}

uint64_t explain_waits(const struct request *request, uint64_t now_ns,
	uint64_t ret_ns[SHM_REASONS_MAX])
{
	uint64_t all_ns = 0;

	/* What was let through in shadow mode was never enqueued. */
	if (request->accepted_ns == 0 || request->policy.enqueued_ns == 0 ||
		request->is_ghost || was_prompt(request) ||
		is_swept_out(request))
		return 0;
	memset(ret_ns, 0, SHM_REASONS_MAX * sizeof(ret_ns[0]));
	policy_waited(
		request->governor->policy, &request->policy, now_ns, ret_ns);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++) {
		/* Less is how the policy rounds. */
		if (ret_ns[i] < LEAST_NS)
			ret_ns[i] = 0;
		all_ns += ret_ns[i];
	}
	return all_ns;
}

static _Atomic uint64_t *counter_of(
	struct board_counters *counters, enum shm_reason reason)
{
	switch (reason) {
#define REASON(NAME, name, words)                                              \
	case SHM_WAIT_##NAME:                                                  \
		return &counters->waited_##name##_ns;
#include "shm-layout/shm_reasons.def"
#undef REASON
	case SHM_REASONS:
		break;
	}
	return NULL;
}

static void keep(struct ended *ended, const struct request *request,
	enum shm_result result, const uint64_t waited_ns[SHM_REASONS_MAX],
	uint64_t now_ns)
{
	ended->number = request->number;
	ended->ended_ns = now_ns;
	ended->waiting_ns = 0;
	for (int i = 0; i < SHM_REASONS; i++)
		ended->waiting_ns += waited_ns[i];
	ended->result = result;
	ended->attempts = request->calls;
	memcpy(ended->waited_ns, waited_ns, sizeof(ended->waited_ns));
	board_text(ended->peer, sizeof(ended->peer), request->policy.app);
	board_text(ended->user, sizeof(ended->user), request_user(request));
	board_text(
		ended->model, sizeof(ended->model), request_model_id(request));
}

void explain_end(const struct request *request, enum shm_result result,
	const uint64_t waited_ns[SHM_REASONS_MAX], uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct explainer *explainer = governor->explainer;

	if (governor->is_leaving)
		return;
	for (unsigned int reason = 0; reason < SHM_REASONS; reason++)
		if (waited_ns[reason] != 0)
			board_add(*counter_of(&governor->board.board->counters,
					  reason),
				waited_ns[reason]);
	keep(&explainer->ended[explainer->n_ended++ % ENDED], request, result,
		waited_ns, now_ns);
}

/* ------------------------------------------------------------ answers */

static enum board_live_state state_of(const struct request *request)
{
	if (request->policy.state == POLICY_BACKOFF)
		return BOARD_LIVE_BACKOFF;
	if (is_waiting(request))
		return BOARD_LIVE_QUEUED;
	if (request->stage == REQUEST_OVERDUE)
		return BOARD_LIVE_OVERDUE;
	return request->stage == REQUEST_PERMIT ? BOARD_LIVE_PERMIT
						: BOARD_LIVE_RUNNING;
}

/* How full the limits of the host, a lane or a user are. */
struct fill {
	uint64_t running, running_limit, starts, starts_limit;
	int64_t available;
	uint64_t tokens_limit;
	int64_t used_today;
	uint64_t day_limit;
};

struct figure {
	uint64_t used, limit;
};

static struct fill host_fill(const struct policy *policy, uint64_t now_ns)
{
	struct policy_host_view view;

	policy_view_host(policy, now_ns, &view);
	return (struct fill){view.running, view.running_limit, view.starts,
		view.starts_limit, view.tokens_available, view.tokens_limit,
		view.tokens_used_today, view.tokens_day_limit};
}

static struct fill lane_fill(const struct policy_lane *lane, uint64_t now_ns)
{
	struct policy_lane_view view;

	policy_view_lane(lane, now_ns, &view);
	return (struct fill){view.running, view.running_limit, view.starts,
		view.starts_limit, view.tokens_available, view.tokens_limit,
		view.tokens_used_today, view.tokens_day_limit};
}

static struct fill user_fill(const struct policy_user *user, uint64_t now_ns)
{
	struct policy_user_view view;

	policy_view_user(user, now_ns, &view);
	return (struct fill){view.running, view.running_limit, view.starts,
		view.starts_limit, view.tokens_available, view.tokens_limit,
		view.tokens_used_today, view.tokens_day_limit};
}

/* In the order of the reasons of each of the three. */
enum { CONCURRENCY, REQUESTS, TOKENS, DAY };

static struct figure pick(const struct fill *fill, unsigned int which)
{
	uint64_t gone =
		fill->available >= (int64_t)fill->tokens_limit
			? 0
			: fill->tokens_limit - (uint64_t)fill->available;

	switch (which) {
	case CONCURRENCY:
		return (struct figure){fill->running, fill->running_limit};
	case REQUESTS:
		return (struct figure){fill->starts, fill->starts_limit};
	case TOKENS:
		return (struct figure){gone, fill->tokens_limit};
	default:
		return (struct figure){
			fill->used_today < 0 ? 0 : (uint64_t)fill->used_today,
			fill->day_limit};
	}
}

/* Of the limit that a reason names; limit 0: it names none. */
static struct figure figure_of(const struct request *request,
	enum policy_reason reason, uint64_t now_ns)
{
	struct fill fill;

	if (reason >= POLICY_WAIT_HOST_CONCURRENCY &&
		reason <= POLICY_WAIT_HOST_DAY) {
		fill = host_fill(request->governor->policy, now_ns);
		return pick(&fill, reason - POLICY_WAIT_HOST_CONCURRENCY);
	}
	if (reason >= POLICY_WAIT_LANE_CONCURRENCY &&
		reason <= POLICY_WAIT_LANE_DAY) {
		fill = lane_fill(request->policy.lane, now_ns);
		return pick(&fill, reason - POLICY_WAIT_LANE_CONCURRENCY);
	}
	if (reason >= POLICY_WAIT_USER_CONCURRENCY &&
		reason <= POLICY_WAIT_USER_DAY) {
		fill = user_fill(request->policy.user_entry, now_ns);
		return pick(&fill, reason - POLICY_WAIT_USER_CONCURRENCY);
	}
	return (struct figure){0, 0};
}
static_assert(
	POLICY_WAIT_HOST_DAY - POLICY_WAIT_HOST_CONCURRENCY == DAY &&
		POLICY_WAIT_LANE_DAY - POLICY_WAIT_LANE_CONCURRENCY == DAY &&
		POLICY_WAIT_USER_DAY - POLICY_WAIT_USER_CONCURRENCY == DAY,
	"every one has these four");

static void put_why(const struct request *request, uint64_t now_ns,
	struct wire_explained *answer)
{
	struct policy_why why = explain_why(request, now_ns);
	struct figure figure = figure_of(request, why.reason, now_ns);

	show_place(request, now_ns, &why, false);
	answer->reason = why.reason;
	answer->position = why.position;
	answer->until_ns = why.until_ns == UINT64_MAX
				   ? UINT64_MAX
				   : since(now_ns, why.until_ns);
	answer->predicted_ns = why.predicted_ns;
	answer->used = figure.used;
	answer->limit = figure.limit;
}

static void answer_live(const struct request *request, uint64_t now_ns,
	struct wire_explained *answer)
{
	answer->state = state_of(request);
	answer->attempts = request->calls;
	answer->waiting_ns = explain_waits(request, now_ns, answer->waited_ns);
	answer->since_ns = since(request->last_start_ns, now_ns);
	board_text(answer->user, sizeof(answer->user), request_user(request));
	board_text(answer->model, sizeof(answer->model),
		request_model_id(request));
	if (is_waiting(request))
		put_why(request, now_ns, answer);
}

static void answer_ended(const struct ended *ended, uint64_t now_ns,
	struct wire_explained *answer)
{
	answer->state = BOARD_LIVE_FREE;
	answer->result = ended->result;
	answer->attempts = ended->attempts;
	answer->waiting_ns = ended->waiting_ns;
	answer->since_ns = since(ended->ended_ns, now_ns);
	memcpy(answer->waited_ns, ended->waited_ns, sizeof(ended->waited_ns));
	memcpy(answer->user, ended->user, sizeof(ended->user));
	memcpy(answer->model, ended->model, sizeof(ended->model));
}

static const struct request *find_live(
	struct governor *governor, uint64_t number)
{
	const struct request *request = find(governor->explainer, number);

	if (request != NULL)
		return request;
	DL_FOREACH (governor->permits, request)
		if (request->number == number)
			break;
	return request;
}

static const struct ended *find_ended(
	const struct explainer *explainer, uint64_t number)
{
	for (size_t i = 0; i < ENDED; i++)
		if (explainer->ended[i].number == number)
			return &explainer->ended[i];
	return NULL;
}

void explain_answer(struct governor *governor, uint64_t number, uid_t uid,
	bool may_govern, struct wire_explained *ret_answer)
{
	uint64_t now = loop_now_ns();
	const struct request *live = find_live(governor, number);
	const struct ended *ended = find_ended(governor->explainer, number);
	char asker[DOOR_PEER_BYTES];
	const char *owner = live    ? live->policy.app
			    : ended ? ended->peer
				    : NULL;

	door_peer_name(uid, asker);
	ret_answer->request = number;
	if (number == 0 || owner == NULL)
		ret_answer->outcome = WIRE_UNKNOWN;
	else if (!may_govern && strcmp(owner, asker) != 0)
		ret_answer->outcome = WIRE_NOT_YOURS;
	else if (live != NULL)
		answer_live(live, now, ret_answer);
	else
		answer_ended(ended, now, ret_answer);
}
