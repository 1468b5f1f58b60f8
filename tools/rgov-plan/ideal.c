/*
 * What a plan is compared with: two work-conserving schedules without overhead,
 * refusal, guard or limits of single users, and a bound that no rule can beat.
 * Written apart from the policy, so that it can be its judge.
 */
#include "tools/rgov-plan/plan.h"
#include "tools/rgov-plan/source.h"

#include <errno.h>
#include <stdlib.h>

/* A question on its way. */
struct item {
	struct item *next; /* in its line, or spare */
	struct load_question question;
	uint64_t tickets[2], order;
};

/* Who waits together: a user in a class of a lane, or all of a lane. */
struct line {
	struct item *first, **end;
	double served; /* tokens over weight, where that counts */
	enum policy_class class;
	uint32_t lane;
	size_t place; /* in its lane's heap, from 1; 0: not there */
};

struct lane {
	struct quota quota;
	struct quota_limits limits; /* configured */
	struct line **heap;
	size_t n;
	double floor; /* service of the last one that went */
};

struct contest {
	const struct plan *plan;
	enum plan_schedule schedule;
	struct source source;
	struct events ends;
	struct lane *lanes; /* of the models; the last: of those without */
	size_t n_lanes, n_lines;
	struct line *lines;
	struct quota host;
	struct quota_limits host_limits;
	struct item *spare;
	uint64_t now_ns, wake_ns, first_ns, last_ns, orders;
	bool no_memory;
	struct plan_ideal *ideal;
};

/* ------------------------------------------------------------ the order */

static bool goes_before(const struct line *a, const struct line *b)
{
	if (a->class != b->class)
		return a->class < b->class;
	if (a->served != b->served)
		return a->served < b->served;
	return a->first->order < b->first->order;
}

static void put(struct lane *lane, size_t place, struct line *line)
{
	lane->heap[place - 1] = line;
	line->place = place;
}

/* The line at this place finds its right one. */
static void sift(struct lane *lane, size_t place)
{
	struct line *line = lane->heap[place - 1];
	size_t child;

	while (place > 1 && goes_before(line, lane->heap[place / 2 - 1])) {
		put(lane, place, lane->heap[place / 2 - 1]);
		place /= 2;
	}
	while ((child = 2 * place) <= lane->n) {
		if (child < lane->n &&
			goes_before(lane->heap[child], lane->heap[child - 1]))
			child++;
		if (!goes_before(lane->heap[child - 1], line))
			break;
		put(lane, place, lane->heap[child - 1]);
		place = child;
	}
	put(lane, place, line);
}

static void leave_order(struct lane *lane, struct line *line)
{
	size_t place = line->place;
	struct line *last = lane->heap[--lane->n];

	line->place = 0;
	if (last == line)
		return;
	put(lane, place, last);
	sift(lane, place);
}

static int enter_order(struct lane *lane, struct line *line)
{
	struct line **heap = load_grow(lane->heap, lane->n, sizeof(void *));

	if (heap == NULL)
		return -ENOMEM;
	lane->heap = heap;
	/* Who asked for nothing has no claim on what he missed. */
	if (lane->n > 0 && heap[0]->class == line->class &&
		line->served < heap[0]->served)
		line->served = heap[0]->served;
	else if (line->served < lane->floor)
		line->served = lane->floor;
	put(lane, ++lane->n, line);
	sift(lane, lane->n);
	return 0;
}

static uint32_t lane_index(const struct contest *contest, uint32_t model)
{
	return contest->plan->rules[model] != NULL
		       ? model
		       : (uint32_t)contest->n_lanes - 1;
}

static struct line *line_of(
	struct contest *contest, const struct load_question *question)
{
	uint32_t lane = lane_index(contest, question->model);
	size_t n_users = contest->plan->load->n_users;
	struct line *line;

	if (contest->schedule == PLAN_FIFO)
		line = &contest->lines[lane];
	else
		line = &contest->lines[((size_t)lane * POLICY_CLASSES +
					       question->class) *
					       n_users +
				       question->user];
	line->lane = lane;
	if (contest->schedule == PLAN_FAIR)
		line->class = question->class;
	return line;
}

/* ------------------------------------------------------------ limits */

static uint64_t smaller(uint64_t a, uint64_t b)
{
	return a == 0 || (b > 0 && b < a) ? b : a;
}

/* A minute of the provider's counts as one of ours. */
static struct quota_limits with_provider(
	struct quota_limits limits, const struct load_provider *provider)
{
	limits.requests =
		smaller(limits.requests, provider->requests_per_minute);
	limits.concurrent =
		smaller(limits.concurrent, provider->max_concurrent);
	limits.tokens = smaller(limits.tokens, provider->tokens_per_minute);
	limits.tokens_day =
		smaller(limits.tokens_day, provider->tokens_per_day);
	return limits;
}

static void limits_now(struct contest *contest, const struct lane *lane,
	struct quota_limits *ret_host, struct quota_limits *ret_lane)
{
	uint64_t until_ns;
	const struct load_provider *provider =
		plan_provider(contest->plan->load, contest->now_ns, &until_ns);

	*ret_host = contest->host_limits;
	*ret_lane = lane->limits;
	if (provider == NULL)
		return;
	if (until_ns < contest->wake_ns)
		contest->wake_ns = until_ns;
	if (provider->host_wide)
		*ret_host = with_provider(*ret_host, provider);
	else
		*ret_lane = with_provider(*ret_lane, provider);
}

static bool may_start(struct contest *contest, struct lane *lane)
{
	const struct load_question *question = &lane->heap[0]->first->question;
	uint64_t tokens = plan_reserves(contest->plan, question);
	struct quota_limits host, own;
	uint64_t next_ns;
	bool is_free;

	limits_now(contest, lane, &host, &own);
	is_free = quota_ask(&contest->host, &host, tokens, contest->now_ns,
			  &next_ns) == QUOTA_FREE &&
		  quota_ask(&lane->quota, &own, tokens, contest->now_ns,
			  &next_ns) == QUOTA_FREE;
	if (!is_free && next_ns < contest->wake_ns)
		contest->wake_ns = next_ns;
	return is_free;
}

/* ------------------------------------------------------------ the way */

static void enter(struct contest *contest, struct item *item)
{
	struct line *line = line_of(contest, &item->question);

	item->next = NULL;
	item->order = contest->orders++;
	if (line->first == NULL)
		line->end = &line->first;
	*line->end = item;
	line->end = &item->next;
	if (line->place == 0 &&
		enter_order(&contest->lanes[line->lane], line) < 0)
		contest->no_memory = true;
}

static void arrive(struct contest *contest)
{
	struct item *item = contest->spare;

	if (item != NULL)
		contest->spare = item->next;
	else
		item = calloc(1, sizeof(*item));
	if (item == NULL ||
		source_take(&contest->source, &item->question) < 0) {
		contest->no_memory = true;
		free(item);
		return;
	}
	if (contest->first_ns == 0)
		contest->first_ns = contest->now_ns;
	enter(contest, item);
}

static double charge_of(
	const struct contest *contest, const struct item *item, uint64_t tokens)
{
	return (double)(tokens > 0 ? tokens : 1) /
	       contest->plan->weights[item->question.user];
}

static void start(struct contest *contest, struct lane *lane)
{
	struct line *line = lane->heap[0];
	struct item *item = line->first;
	uint64_t tokens = plan_reserves(contest->plan, &item->question);
	double wait_s =
		(double)(contest->now_ns - item->question.arrival_ns) / 1e9;

	line->first = item->next;
	lane->floor = line->served;
	if (contest->schedule == PLAN_FAIR)
		line->served += charge_of(contest, item, tokens);
	if (line->first == NULL)
		leave_order(lane, line);
	else
		sift(lane, line->place);
	if (plan_wait(&contest->ideal->all, wait_s) < 0 ||
		quota_start(&contest->host, tokens, contest->now_ns,
			&item->tickets[0]) < 0 ||
		quota_start(&lane->quota, tokens, contest->now_ns,
			&item->tickets[1]) < 0 ||
		events_add(&contest->ends,
			contest->now_ns + item->question.latency_ns, item) < 0)
		contest->no_memory = true;
}

static void end(struct contest *contest, struct item *item)
{
	const struct load_question *question = &item->question;
	struct line *line = line_of(contest, question);
	struct lane *lane = &contest->lanes[line->lane];
	uint64_t reserved = plan_reserves(contest->plan, question);
	uint64_t used = plan_uses(contest->plan, question);

	quota_end(&contest->host, item->tickets[0], reserved, used);
	quota_end(&lane->quota, item->tickets[1], reserved, used);
	if (contest->schedule == PLAN_FAIR) {
		line->served += charge_of(contest, item, used) -
				charge_of(contest, item, reserved);
		if (line->place != 0)
			sift(lane, line->place);
	}
	contest->last_ns = contest->now_ns;
	if (source_ended(&contest->source, question->user, contest->now_ns) < 0)
		contest->no_memory = true;
	item->next = contest->spare;
	contest->spare = item;
}

/* Of the lanes that can start one, that whose first goes before the others. */
static struct lane *choose(struct contest *contest)
{
	struct lane *best = NULL;

	for (size_t i = 0; i < contest->n_lanes; i++) {
		struct lane *lane = &contest->lanes[i];

		if (lane->n > 0 && may_start(contest, lane) &&
			(best == NULL ||
				goes_before(lane->heap[0], best->heap[0])))
			best = lane;
	}
	return best;
}

static void start_all(struct contest *contest)
{
	struct lane *lane;
	uint64_t until_ns;

	contest->wake_ns = UINT64_MAX;
	if (plan_is_out(contest->plan->load, contest->now_ns, &until_ns)) {
		contest->wake_ns = until_ns;
		return;
	}
	while (!contest->no_memory && (lane = choose(contest)) != NULL)
		start(contest, lane);
}

static uint64_t earliest(const struct contest *contest)
{
	uint64_t at_ns = contest->wake_ns;

	if (events_next_ns(&contest->ends) < at_ns)
		at_ns = events_next_ns(&contest->ends);
	if (source_next_ns(&contest->source) < at_ns)
		at_ns = source_next_ns(&contest->source);
	return at_ns;
}

static void turn(struct contest *contest)
{
	uint64_t at_ns;

	while (!contest->no_memory &&
		(at_ns = earliest(contest)) != UINT64_MAX) {
		if (at_ns > contest->now_ns)
			contest->now_ns = at_ns;
		while (events_next_ns(&contest->ends) <= contest->now_ns)
			end(contest, events_take(&contest->ends));
		while (!contest->no_memory &&
			source_next_ns(&contest->source) <= contest->now_ns)
			arrive(contest);
		start_all(contest);
	}
}

/* ------------------------------------------------------------ the whole */

static uint64_t window_of(const struct plan *plan)
{
	return plan->load->n_providers > 0
		       ? (uint64_t)(plan->load->providers[0].window_s * 1e9)
		       : plan->config.minute_ns;
}

static int prepare(struct contest *contest, const uint64_t *asked)
{
	const struct plan *plan = contest->plan;
	const struct policy_config *config = &plan->config;

	contest->n_lanes = plan->load->n_models + 1;
	contest->n_lines = contest->n_lanes;
	if (contest->schedule == PLAN_FAIR)
		contest->n_lines *= POLICY_CLASSES * (plan->load->n_users + 1);
	contest->lanes = calloc(contest->n_lanes, sizeof(*contest->lanes));
	contest->lines = calloc(contest->n_lines, sizeof(*contest->lines));
	if (contest->lanes == NULL || contest->lines == NULL)
		return -ENOMEM;
	contest->host_limits = (struct quota_limits){
		config->requests_per_minute, config->max_concurrent,
		config->tokens_per_minute, config->tokens_per_day};
	contest->host.window_ns = window_of(plan);
	contest->host.day_offset_ns = config->day_offset_ns;
	for (size_t i = 0; i < contest->n_lanes; i++) {
		const struct policy_model *rule =
			i < plan->load->n_models ? plan->rules[i] : NULL;

		contest->lanes[i].quota.window_ns = contest->host.window_ns;
		contest->lanes[i].quota.day_offset_ns = config->day_offset_ns;
		if (rule != NULL)
			contest->lanes[i].limits = (struct quota_limits){
				rule->requests_per_minute, rule->max_concurrent,
				rule->tokens_per_minute, rule->tokens_per_day};
	}
	return source_init(
		&contest->source, plan->load, plan->timeout_ns, asked);
}

static void clean_up(struct contest *contest)
{
	struct item *next;

	for (struct item *item = contest->spare; item != NULL; item = next) {
		next = item->next;
		free(item);
	}
	for (size_t i = 0; contest->lanes != NULL && i < contest->n_lanes;
		i++) {
		quota_free(&contest->lanes[i].quota);
		free(contest->lanes[i].heap);
	}
	quota_free(&contest->host);
	free(contest->lanes);
	free(contest->lines);
	events_free(&contest->ends);
	source_fini(&contest->source);
}

int plan_idealize(const struct plan *plan, enum plan_schedule schedule,
	const uint64_t *asked, struct plan_ideal *ret_ideal)
{
	struct contest contest = {.plan = plan,
		.schedule = schedule,
		.now_ns = LOAD_BEGIN_NS,
		.wake_ns = UINT64_MAX,
		.ideal = ret_ideal};
	int rc;

	*ret_ideal = (struct plan_ideal){0};
	if (schedule == PLAN_BOUND)
		return plan_bound(plan, asked, &ret_ideal->total_s);
	rc = prepare(&contest, asked);
	if (rc == 0)
		turn(&contest);
	if (rc == 0 && contest.no_memory)
		rc = -ENOMEM;
	if (rc == 0) {
		plan_sort(&ret_ideal->all);
		ret_ideal->total_s =
			(double)(contest.last_ns - contest.first_ns) / 1e9;
	}
	clean_up(&contest);
	return rc;
}
