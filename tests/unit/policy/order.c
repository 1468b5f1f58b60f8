/* Who goes first: docs/policy.md, section 4. */
#include "tests/unit/policy/reference.h"

/* ------------------------------------------------------------ queues */

static bool is_queued(
	const struct ref_request *r, int lane, int user, enum policy_class rank)
{
	return r->state == POLICY_QUEUED && r->lane == lane &&
	       r->user == user && r->rank == rank;
}

/* The head of a queue; REF_NOBODY: it is empty. */
static int head_of(
	const struct ref *ref, int lane, int user, enum policy_class rank)
{
	int head = REF_NOBODY;

	for (int i = 0; i < REF_REQUESTS; i++)
		if (is_queued(&ref->requests[i], lane, user, rank) &&
			(head == REF_NOBODY ||
				ref->requests[i].turn <
					ref->requests[head].turn))
			head = i;
	return head;
}

void ref_queue(struct ref *ref, int id, bool at_head)
{
	struct ref_request *r = &ref->requests[id];

	r->state = POLICY_QUEUED;
	r->turn = at_head ? --ref->head : ++ref->tail;
	if (head_of(ref, r->lane, r->user, r->rank) == id)
		ref_look_at_queue(ref, r->lane, r->user, r->rank);
}

void ref_leave(struct ref *ref, int id, enum policy_state state)
{
	struct ref_request *r = &ref->requests[id];
	int head = head_of(ref, r->lane, r->user, r->rank);

	r->state = state;
	if (head == id)
		ref_look_at_queue(ref, r->lane, r->user, r->rank);
}

/* ------------------------------------------------------- in or out of it */

/* By what its user may have: a request of so many tokens. */
static bool is_held(struct ref *ref, int user, uint64_t tokens)
{
	struct ref_scope *scope = &ref->users[user].scope;
	uint32_t running = ref_count(ref, POLICY_RUNNING, REF_NOBODY, user);

	return (scope->max_concurrent != 0 &&
		       running >= scope->max_concurrent) ||
	       !ref_has_start(ref, scope, REF_NOBODY, user) ||
	       !ref_bucket_covers(ref, &scope->bucket, tokens);
}

/*
 * Who enters is lifted to the least of those present; with nobody present, to
 * where the last one left.  `all` is every account of the same level.
 */
static void move(struct ref_account *account, bool is_present,
	struct ref_account *const *all, int n, double *floor)
{
	const struct ref_account *low = NULL;

	for (int i = 0; i < n; i++)
		if (all[i]->is_present && all[i] != account &&
			(low == NULL || all[i]->service < low->service))
			low = all[i];
	if (is_present && !account->is_present) {
		double least = low ? low->service : *floor;

		if (account->service < least)
			account->service = least;
	}
	if (!is_present && account->is_present && low == NULL)
		*floor = account->service;
	account->is_present = is_present;
}

static void move_user(struct ref *ref, int lane_id, int user,
	enum policy_class rank, bool is_present)
{
	struct ref_lane *lane = &ref->lanes[lane_id];
	int app = ref->users[user].app, n = 0;
	struct ref_account *all[REF_USERS];

	for (int i = 0; i < REF_USERS; i++)
		if (ref->users[i].name[0] != '\0' && ref->users[i].app == app)
			all[n++] = &lane->users[i][rank];
	move(&lane->users[user][rank], is_present, all, n,
		&lane->user_floor[app][rank]);
}

/* An application is present while any of its users is. */
static void move_app(
	struct ref *ref, int lane_id, int app, enum policy_class rank)
{
	struct ref_lane *lane = &ref->lanes[lane_id];
	struct ref_account *all[REF_APPS];
	bool is_present = false;

	for (int i = 0; i < REF_USERS; i++)
		is_present |= ref->users[i].app == app &&
			      lane->users[i][rank].is_present;
	for (int i = 0; i < REF_APPS; i++)
		all[i] = &lane->apps[i][rank];
	move(&lane->apps[app][rank], is_present, all, REF_APPS,
		&lane->app_floor[rank]);
}

void ref_look_at_queue(
	struct ref *ref, int lane, int user, enum policy_class rank)
{
	int head = head_of(ref, lane, user, rank);
	struct ref_account *account = &ref->lanes[lane].users[user][rank];

	account->looked_ns = ref->now_ns;
	if (head != REF_NOBODY)
		account->looked_tokens =
			ref_reservation(ref, &ref->requests[head]);
	move_user(ref, lane, user, rank,
		head != REF_NOBODY &&
			!is_held(ref, user, account->looked_tokens));
	move_app(ref, lane, ref->users[user].app, rank);
}

void ref_look_at_user(struct ref *ref, int user)
{
	for (int lane = 0; lane < REF_LANES; lane++)
		for (int rank = 0; rank < POLICY_CLASSES; rank++)
			if (ref->lanes[lane].name[0] != '\0')
				ref_look_at_queue(ref, lane, user, rank);
}

/* Since when has the queue been free?  Between two looks only time goes by, and
 * that frees once: found by halving. */
static uint64_t free_since(struct ref *ref, int head)
{
	const struct ref_request *r = &ref->requests[head];
	const struct ref_account *account =
		&ref->lanes[r->lane].users[r->user][r->rank];
	uint64_t held_ns = account->looked_ns, free_ns = ref->now_ns;
	uint64_t now_ns = ref->now_ns;

	while (free_ns - held_ns > 1) {
		ref->now_ns = held_ns + (free_ns - held_ns) / 2;
		if (is_held(ref, r->user, account->looked_tokens))
			held_ns = ref->now_ns;
		else
			free_ns = ref->now_ns;
	}
	ref->now_ns = now_ns;
	return free_ns;
}

/* Is it the first of a queue that was held, and is that no longer? */
static bool is_freed(struct ref *ref, int id)
{
	const struct ref_request *r = &ref->requests[id];
	const struct ref_account *account =
		&ref->lanes[r->lane].users[r->user][r->rank];

	return r->state == POLICY_QUEUED && !account->is_present &&
	       head_of(ref, r->lane, r->user, r->rank) == id &&
	       !is_held(ref, r->user, account->looked_tokens);
}

/* The one that was freed first; of those the one that came first. */
static int first_freed(struct ref *ref)
{
	int first = REF_NOBODY;
	uint64_t first_ns = 0;

	for (int i = 0; i < REF_REQUESTS; i++) {
		uint64_t since_ns = is_freed(ref, i) ? free_since(ref, i) : 0;

		if (since_ns == 0)
			continue;
		if (first == REF_NOBODY || since_ns < first_ns ||
			(since_ns == first_ns &&
				ref->requests[i].arrival <
					ref->requests[first].arrival)) {
			first = i;
			first_ns = since_ns;
		}
	}
	return first;
}

void ref_release(struct ref *ref)
{
	int id;

	while ((id = first_freed(ref)) != REF_NOBODY)
		ref_look_at_queue(ref, ref->requests[id].lane,
			ref->requests[id].user, ref->requests[id].rank);
}

void ref_charge(struct ref *ref, const struct ref_request *r, double tokens)
{
	struct ref_user *user = &ref->users[r->user];
	struct ref_lane *lane = &ref->lanes[r->lane];

	lane->users[r->user][r->rank].service += tokens / user->weight;
	lane->apps[user->app][r->rank].service +=
		tokens / ref->app_weight[user->app];
	user->service += tokens;
}

/* ------------------------------------------------------------ the first */

struct standing {
	double service;
	uint32_t running;
	uint64_t arrival;
};

static bool is_before(struct standing a, struct standing b)
{
	if (a.service != b.service)
		return a.service < b.service;
	if (a.running != b.running)
		return a.running < b.running;
	return a.arrival < b.arrival;
}

/* The user of the application that goes first; REF_NOBODY: none may. */
static int first_user(struct ref *ref, int lane, int app,
	enum policy_class rank, struct standing *ret_standing)
{
	int first = REF_NOBODY;

	for (int i = 0; i < REF_USERS; i++) {
		struct ref_account *account = &ref->lanes[lane].users[i][rank];
		struct standing standing;

		if (ref->users[i].app != app || !account->is_present)
			continue;
		standing = (struct standing){account->service,
			ref_count(ref, POLICY_RUNNING, lane, i),
			ref->requests[head_of(ref, lane, i, rank)].arrival};
		if (first != REF_NOBODY && !is_before(standing, *ret_standing))
			continue;
		first = i;
		*ret_standing = standing;
	}
	return first;
}

static uint32_t count_app(const struct ref *ref, int lane, int app)
{
	uint32_t n = 0;

	for (int i = 0; i < REF_USERS; i++)
		if (ref->users[i].app == app)
			n += ref_count(ref, POLICY_RUNNING, lane, i);
	return n;
}

static int first_of_rank(struct ref *ref, int lane, enum policy_class rank)
{
	struct standing best = {0};
	int first = REF_NOBODY;

	for (int app = 0; app < REF_APPS; app++) {
		struct standing standing;
		int user = first_user(ref, lane, app, rank, &standing);

		if (user == REF_NOBODY)
			continue;
		/* Its own place is by its own service and number; of equal ones
		 * the first user's first request decides. */
		standing.service = ref->lanes[lane].apps[app][rank].service;
		standing.running = count_app(ref, lane, app);
		if (first != REF_NOBODY && !is_before(standing, best))
			continue;
		best = standing;
		first = head_of(ref, lane, user, rank);
	}
	return first;
}

int ref_first(struct ref *ref, int lane)
{
	int first = REF_NOBODY;

	for (int rank = 0; rank < POLICY_CLASSES && first == REF_NOBODY; rank++)
		first = first_of_rank(ref, lane, rank);
	return first;
}

/* ------------------------------------------------------- ageing, waking */

/* When the request counts as the next class up. */
static uint64_t due_ns(const struct ref *ref, const struct ref_request *r)
{
	return r->enqueued_ns +
	       (r->asked.class - r->rank + 1) * ref->config.age_after_ns;
}

static bool ages_before(const struct ref *ref, const struct ref_request *a,
	const struct ref_request *b)
{
	if (due_ns(ref, a) != due_ns(ref, b))
		return due_ns(ref, a) < due_ns(ref, b);
	if (a->asked.class != b->asked.class)
		return a->asked.class < b->asked.class;
	return a->arrival < b->arrival;
}

static int next_to_age(const struct ref *ref)
{
	int next = REF_NOBODY;

	for (int i = 0; i < REF_REQUESTS; i++) {
		const struct ref_request *r = &ref->requests[i];

		if (r->state == POLICY_QUEUED && r->rank > 0 &&
			due_ns(ref, r) <= ref->now_ns &&
			(next == REF_NOBODY ||
				ages_before(ref, r, &ref->requests[next])))
			next = i;
	}
	return next;
}

void ref_age(struct ref *ref)
{
	int id;

	if (ref->config.age_after_ns == 0)
		return;
	while ((id = next_to_age(ref)) != REF_NOBODY) {
		struct ref_request *r = &ref->requests[id];

		ref_leave(ref, id, POLICY_NEW);
		r->rank--;
		ref_queue(ref, id, false);
	}
}

static bool wakes_before(
	const struct ref_request *a, const struct ref_request *b)
{
	if (a->not_before_ns != b->not_before_ns)
		return a->not_before_ns < b->not_before_ns;
	return a->arrival < b->arrival;
}

static int next_to_wake(const struct ref *ref)
{
	int next = REF_NOBODY;

	for (int i = 0; i < REF_REQUESTS; i++) {
		const struct ref_request *r = &ref->requests[i];

		if (r->state == POLICY_BACKOFF &&
			r->not_before_ns <= ref->now_ns &&
			(next == REF_NOBODY ||
				wakes_before(r, &ref->requests[next])))
			next = i;
	}
	return next;
}

void ref_wake(struct ref *ref)
{
	int id;

	while ((id = next_to_wake(ref)) != REF_NOBODY)
		ref_queue(ref, id, true);
}
