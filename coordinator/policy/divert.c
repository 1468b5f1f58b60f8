/* Fallback: a request whose lane cannot serve it goes on with another model. */
#include "coordinator/policy/inside.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct word {
	const char *text;
	size_t bytes;
};

static struct word word_until(const char *text, const char *ends)
{
	return (struct word){text, strcspn(text, ends)};
}

static bool is_word(struct word word, const char *text)
{
	return word.bytes == strlen(text) &&
	       memcmp(word.text, text, word.bytes) == 0;
}

/* Of an inference profile: "us.anthropic.claude…". */
static bool is_region_prefix(struct word word)
{
	static const char *const prefixes[] = {"us", "eu", "apac", "global",
		"us-gov", "jp", "au", "ca", "amer"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (is_word(word, prefixes[i]))
			return true;
	return false;
}

/* Models of one family take the same bodies: the vendor, and of Amazon's the
 * kind of model too. */
static struct word family_of(const char *model_id)
{
	const char *slash = strrchr(model_id, '/');
	const char *id = slash ? slash + 1 : model_id;
	struct word vendor = word_until(id, ".");

	if (is_region_prefix(vendor) && id[vendor.bytes] == '.') {
		id += vendor.bytes + 1;
		vendor = word_until(id, ".");
	}
	if (is_word(vendor, "amazon") && id[vendor.bytes] == '.')
		vendor.bytes += 1 + strcspn(id + vendor.bytes + 1, ".-:");
	return vendor;
}

static bool is_same_family(const char *one, const char *other)
{
	struct word a = family_of(one), b = family_of(other);

	return a.bytes == b.bytes && memcmp(a.text, b.text, a.bytes) == 0;
}

static const char *first_model(const struct policy_request *request)
{
	return request->first_model_id ? request->first_model_id
				       : request->model_id;
}

/* Number n of the chain: has it been tried before, or does it not fit? */
static bool is_passed_over(const struct policy_request *request,
	const char *const *chain, uint32_t n)
{
	const char *first = first_model(request);

	if (strcmp(chain[n], first) == 0)
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (strcmp(chain[n], chain[i]) == 0)
			return true;
	return !request->suits_all && !is_same_family(first, chain[n]);
}

/* The first from number n on that may be tried; the length of the chain: none.
 */
static uint32_t find_next(const struct policy *policy,
	const struct policy_request *request, const struct policy_model **ret)
{
	const struct policy_model *model =
		lane_block(policy, first_model(request));
	uint32_t n = request->hops;

	*ret = model;
	if (model == NULL || request->is_permit)
		return UINT32_MAX;
	while (n < model->n_fallback &&
		is_passed_over(request, model->fallback, n))
		n++;
	return n < model->n_fallback ? n : UINT32_MAX;
}

bool divert_is_possible(
	const struct policy *policy, const struct policy_request *request)
{
	const struct policy_model *model;

	return find_next(policy, request, &model) != UINT32_MAX;
}

const char *policy_next_model(
	const struct policy *policy, struct policy_request *request)
{
	const struct policy_model *model;
	uint32_t n = find_next(policy, request, &model);

	if (n == UINT32_MAX)
		return NULL;
	request->first_model_id = first_model(request);
	request->hops = (uint8_t)(n + 1);
	return model->fallback[n];
}

/* Where a request stands. */
struct stand {
	const char *model_id;
	struct policy_lane *lane;
	struct seat *seat;
};

static struct stand stand_of(const struct policy_request *request)
{
	return (struct stand){
		request->model_id, request->lane, request->p.seat};
}

static void stand_at(struct policy_request *request, struct stand stand)
{
	request->model_id = stand.model_id;
	request->lane = stand.lane;
	request->p.seat = stand.seat;
}

/* Would the other lane take it? */
static bool is_welcome(struct policy *policy, struct policy_request *request,
	struct stand other)
{
	struct stand here = stand_of(request);
	bool is;

	stand_at(request, other);
	is = !is_too_large(policy, request) && !is_closed_for(request);
	stand_at(request, here);
	return is;
}

/* Out of its lane, and charged for what it was. */
static void leave(struct policy *policy, struct policy_request *request,
	enum policy_failure kind, uint64_t now_ns)
{
	uint64_t used = 0;

	request->lane->diverted++;
	if (request->state != POLICY_RUNNING) {
		place_withdraw(policy, request);
		return;
	}
	if (kind == POLICY_FAIL_LOST &&
		(request->p.flags & POLICY_STARTED) != 0) {
		used = request->p.reserved_tokens;
		request->lane->lost++;
	}
	place_stop(policy, request, used, 0, now_ns);
}

bool policy_divert(struct policy *policy, struct policy_request *request,
	const char *model_id, enum policy_failure kind, uint64_t now_ns)
{
	struct stand other = {.model_id = model_id};
	struct user_key key = user_key(policy, request->app, request->user);
	uint32_t price =
		request->state == POLICY_RUNNING ? retry_price(kind) : 0;

	assert(request->state != POLICY_NEW);
	now_ns = policy_clock(policy, now_ns);
	other.lane = lane_get(policy, model_id, now_ns);
	if (other.lane == NULL || place_reserve(policy) != 0)
		return false;
	lane_look(other.lane, now_ns);
	other.seat = user_seat(policy, other.lane, &key);
	if (other.seat == NULL || !is_welcome(policy, request, other) ||
		!retry_pay(request, price))
		return false;
	leave(policy, request, kind, now_ns);
	stand_at(request, other);
	request->p.failures = request->p.retry_cost = 0;
	/* Due at once, and so to the head of its user's queue. */
	place_back_off(policy, request, now_ns);
	return true;
}

/* --------------------------------------------- who waits in a lane in vain */

struct list {
	bool (*belongs)(const struct policy_request *request);
	struct policy_request **items;
	size_t n, room;
};

static void add(struct list *list, struct policy_request *request)
{
	if (list->n < list->room && list->belongs(request))
		list->items[list->n++] = request;
}

static void add_queued(struct list *list, const struct policy_lane *lane)
{
	const struct team *team;
	const struct seat *seat;

	DL_FOREACH (lane->teams, team)
		DL_FOREACH2(team->seats, seat, team_next)
	for (int i = 0; i < POLICY_CLASSES; i++)
		for (struct policy_request *r = seat->flows[i].first; r != NULL;
			r = r->p.next)
			add(list, r);
}

static void add_backing_off(struct list *list, const struct policy_lane *lane)
{
	const struct heap *due = &lane->policy->due;

	for (uint32_t i = 1; i <= due->n; i++) {
		struct policy_request *request = holder_of(due->cells[i].place,
			struct policy_request, p.due_place);

		if (request->lane == lane)
			add(list, request);
	}
}

static void add_waiting(struct list *list, const struct policy_lane *lane)
{
	add_queued(list, lane);
	if (lane->backing_off != 0)
		add_backing_off(list, lane);
}

/* Room for so many; false: nobody, or no memory. */
static bool begin_list(struct list *list, size_t room)
{
	list->room = room;
	list->items =
		room ? malloc(room * sizeof(struct policy_request *)) : NULL;
	return list->items != NULL;
}

struct policy_request **policy_doomed(
	const struct policy_lane *lane, size_t *ret_n)
{
	struct list list = {.belongs = is_closed_for};

	if (begin_list(&list, (size_t)lane->queued + lane->backing_off))
		add_waiting(&list, lane);
	*ret_n = list.n;
	return list.items;
}

/* Its gate has closed as often as a request may fail. */
static bool is_down(const struct policy_lane *lane)
{
	const struct policy_config *config = &lane->policy->settings->config;

	return lane->gate.is_closed && !lane->gate.is_day &&
	       lane->gate.failures >= config->max_attempts;
}

static bool is_stranded(const struct policy_request *request)
{
	return divert_is_possible(request->lane->policy, request);
}

static bool has_fallback(const struct policy *policy)
{
	const struct policy_config *config = &policy->settings->config;

	for (size_t i = 0; i < config->n_models; i++)
		if (config->models[i].n_fallback > 0)
			return true;
	return false;
}

struct policy_request **policy_stranded(
	const struct policy *policy, size_t *ret_n)
{
	struct list list = {.belongs = is_stranded};
	size_t room = 0;

	*ret_n = 0;
	if (!has_fallback(policy))
		return NULL;
	for (size_t i = 0; i < policy->n_lanes; i++)
		if (is_down(policy->lanes[i]))
			room += (size_t)policy->lanes[i]->queued +
				policy->lanes[i]->backing_off;
	if (!begin_list(&list, room))
		return NULL;
	for (size_t i = 0; i < policy->n_lanes; i++)
		if (is_down(policy->lanes[i]))
			add_waiting(&list, policy->lanes[i]);
	*ret_n = list.n;
	return list.items;
}
