/*
 * The order: heaps of heaps.  One function, refresh(), makes a flow's
 * membership and key true after anything changed; everybody calls it.
 */
#include "coordinator/policy/order.h"

#include "coordinator/policy/inside.h"

#include <assert.h>
#include <string.h>
#include <utlist.h>

/* The bits of a double, turned so that they sort as the number does. */
static uint64_t sortable(double number)
{
	uint64_t bits;

	memcpy(&bits, &number, sizeof(bits));
	return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static struct flow *first_flow(const struct tier *tier)
{
	uint32_t *place = heap_first(&tier->flows);

	return place ? holder_of(place, struct flow, place) : NULL;
}

static struct tier *first_tier(const struct rank *rank)
{
	uint32_t *place = heap_first(&rank->teams);

	return place ? holder_of(place, struct tier, place) : NULL;
}

/* With equal service: fewest in flight, then the earliest arrival. */
static struct heap_key key_of(
	double service, uint32_t running, uint64_t arrival)
{
	uint64_t few = running < UINT16_MAX ? running : UINT16_MAX;

	return (struct heap_key){sortable(service), few << 48 | arrival};
}

static int by_turn(const struct policy_lane *a, const struct policy_lane *b)
{
	return a->served < b->served ? -1 : 1;
}

/* policy->ready: the lanes in which somebody is in order; as few as there are
 * lanes.  One that comes back has its old turn. */
static void refresh_ready(struct policy_lane *lane)
{
	bool is_ready = false;

	for (int class = 0; class < POLICY_CLASSES; class ++)
		is_ready |= lane->ranks[class].teams.n > 0;
	if (is_ready == lane->is_ready)
		return;
	lane->is_ready = is_ready;
	why_lane(lane, POLICY_WAIT_TURN, 0, lane->policy->now_ns);
	if (is_ready)
		DL_INSERT_INORDER(lane->policy->ready, lane, by_turn);
	else
		DL_DELETE(lane->policy->ready, lane);
}

/*
 * Who enters is lifted to the least of those present: idleness, or a time at
 * the cap, earns no credit.  With nobody present the last to leave is the
 * measure.
 */
static void refresh_tier(struct team *team, enum policy_class class)
{
	struct tier *tier = &team->tiers[class];
	struct rank *rank = &team->lane->ranks[class];
	const struct tier *least = first_tier(rank);
	double floor = least ? least->service : rank->floor;

	if (tier->flows.n > 0) {
		if (tier->place == 0 && tier->service < floor)
			tier->service = floor;
		heap_put(&rank->teams, &tier->place,
			key_of(tier->service, team->running,
				first_flow(tier)->arrival));
	} else {
		heap_take(&rank->teams, &tier->place);
		if (rank->teams.n == 0)
			rank->floor = tier->service;
	}
	refresh_ready(team->lane);
}

/* What keeps it out of the order; POLICY_WAIT_TURN: nothing.  *ret_until_ns is
 * when that ends; UINT64_MAX: not before something of the user changes. */
static enum policy_reason hold_of(const struct seat *seat,
	const struct flow *flow, uint64_t *ret_until_ns)
{
	const struct policy_lane *lane = seat->team->lane;
	struct budget *budget = seat->user->budget;

	*ret_until_ns = UINT64_MAX;
	if (flow->first == NULL)
		return POLICY_WAIT_TURN;
	if (user_is_capped(seat->user))
		return POLICY_WAIT_USER_CONCURRENCY;
	if (budget == NULL)
		return POLICY_WAIT_TURN;
	return budget_hold(budget, lane_reservation(lane, flow->first),
		lane->policy->now_ns, ret_until_ns);
}

/* If time alone will bring it back, it is parked. */
static void park(const struct seat *seat, struct flow *flow,
	enum policy_reason hold, uint64_t until_ns)
{
	struct heap *parked = &seat->team->lane->policy->parked;

	if (hold != POLICY_WAIT_TURN && until_ns != UINT64_MAX)
		heap_put(parked, &flow->parked,
			(struct heap_key){until_ns, flow->arrival});
	else
		heap_take(parked, &flow->parked);
}

static void refresh(struct seat *seat, enum policy_class class)
{
	struct flow *flow = &seat->flows[class];
	struct tier *tier = &seat->team->tiers[class];
	const struct flow *least = first_flow(tier);
	double floor = least ? least->service : tier->floor;
	uint64_t until_ns;
	enum policy_reason hold = hold_of(seat, flow, &until_ns);

	why_flow(seat, class, hold, until_ns);
	park(seat, flow, hold, until_ns);
	if (flow->first != NULL && hold == POLICY_WAIT_TURN) {
		if (flow->place == 0 && flow->service < floor)
			flow->service = floor;
		heap_put(&tier->flows, &flow->place,
			key_of(flow->service, seat->running, flow->arrival));
	} else if (flow->place != 0) {
		heap_take(&tier->flows, &flow->place);
		if (tier->flows.n == 0)
			tier->floor = flow->service;
	} else if (tier->place == 0) {
		return;
	}
	refresh_tier(seat->team, class);
}

static void refresh_seat(struct seat *seat)
{
	for (int class = 0; class < POLICY_CLASSES; class ++)
		refresh(seat, class);
}

int order_reserve_seat(struct team *team)
{
	int rc = 0;

	for (int class = 0; class < POLICY_CLASSES && rc == 0; class ++)
		rc = heap_reserve(&team->tiers[class].flows, team->n_seats + 1);
	return rc;
}

int order_reserve_team(struct policy_lane *lane, uint32_t n_teams)
{
	int rc = 0;

	for (int class = 0; class < POLICY_CLASSES && rc == 0; class ++)
		rc = heap_reserve(&lane->ranks[class].teams, n_teams);
	return rc;
}

static void append(struct flow *flow, struct policy_request *request)
{
	request->p.ticket = flow->last ? flow->last->p.ticket + 1 : 0;
	request->p.prev = flow->last;
	request->p.next = NULL;
	if (flow->last != NULL) {
		flow->last->p.next = request;
	} else {
		flow->first = request;
		flow->arrival = request->p.arrival;
	}
	flow->last = request;
}

static void prepend(struct flow *flow, struct policy_request *request)
{
	request->p.ticket = flow->first ? flow->first->p.ticket - 1 : 0;
	request->p.prev = NULL;
	request->p.next = flow->first;
	if (flow->first != NULL)
		flow->first->p.prev = request;
	else
		flow->last = request;
	flow->first = request;
	flow->arrival = request->p.arrival;
}

static void unlink_request(struct policy_request *request)
{
	struct flow *flow = &request->p.seat->flows[request->p.rank];
	struct policy_request *prev = request->p.prev, *next = request->p.next;

	why_flip(request);
	flow->n--;
	request->lane->ranks[request->p.rank].queued--;
	if (next != NULL)
		next->p.prev = prev;
	else
		flow->last = prev;
	if (prev != NULL) {
		prev->p.next = next;
		return;
	}
	flow->first = next;
	flow->arrival = next ? next->p.arrival : 0;
}

/* Those who ask lately stand where ahead_look() sees them. */
static void bring_forward(struct seat *seat)
{
	struct team *team = seat->team;
	struct policy_lane *lane = team->lane;

	if (seat != team->seats) {
		DL_DELETE2(team->seats, seat, team_prev, team_next);
		DL_PREPEND2(team->seats, seat, team_prev, team_next);
	}
	if (team != lane->teams) {
		DL_DELETE(lane->teams, team);
		DL_PREPEND(lane->teams, team);
	}
}

/* Behind others nothing changes for the order. */
void order_enter(struct policy_request *request, bool at_head)
{
	struct flow *flow = &request->p.seat->flows[request->p.rank];

	if (at_head)
		prepend(flow, request);
	else
		append(flow, request);
	flow->n++;
	request->lane->ranks[request->p.rank].queued++;
	why_flip(request);
	if (flow->first != request)
		return;
	if (flow->n == 1)
		bring_forward(request->p.seat);
	refresh(request->p.seat, request->p.rank);
}

void order_leave(struct policy_request *request)
{
	bool was_first = request->p.prev == NULL;

	unlink_request(request);
	if (was_first)
		refresh(request->p.seat, request->p.rank);
}

/* The first flow of the lane, and its class. */
static const struct flow *first_in_order(
	const struct policy_lane *lane, int *ret_class)
{
	for (int class = 0; class < POLICY_CLASSES; class ++) {
		const struct tier *tier = first_tier(&lane->ranks[class]);

		*ret_class = class;
		if (tier != NULL)
			return first_flow(tier);
	}
	return NULL;
}

struct policy_request *order_first(const struct policy_lane *lane)
{
	int class;
	const struct flow *flow = first_in_order(lane, &class);

	return flow ? flow->first : NULL;
}

void order_fetch_end(const struct seat *seat, enum policy_class class)
{
	if (seat->flows[class].last != NULL)
		fetch_lines(&seat->flows[class].last->p, 64);
}

void order_fetch(const struct policy_lane *lane)
{
	int class;
	const struct flow *flow = first_in_order(lane, &class);

	if (flow == NULL)
		return;
	fetch_lines(flow->first, sizeof(*flow->first));
	fetch_lines((const char *)(flow - class) - offsetof(struct seat, flows),
		sizeof(struct seat));
}

void order_user_changed(struct policy_user *user)
{
	for (struct seat *seat = user->seats; seat; seat = seat->user_next)
		refresh_seat(seat);
}

int order_reserve_parked(struct policy *policy, uint32_t n)
{
	return n == 0 ? 0
		      : heap_reserve(&policy->parked, policy->n_parkable + n);
}

void order_wake_parked(struct policy *policy, uint64_t now_ns)
{
	while (heap_first_key(&policy->parked) <= now_ns) {
		const struct flow *flow = holder_of(
			heap_first(&policy->parked), struct flow, parked);
		const struct policy_request *first = flow->first;

		refresh(first->p.seat, first->p.rank);
	}
}

static void charge(struct seat *seat, enum policy_class class, double tokens)
{
	struct team *team = seat->team;

	seat->flows[class].service += tokens / seat->user->weight;
	team->tiers[class].service += tokens / team->app->weight;
	seat->user->service += tokens;
}

void order_start(struct policy_request *request, uint64_t cost)
{
	struct seat *seat = request->p.seat;

	if (request->state == POLICY_QUEUED)
		unlink_request(request);
	request->p.charged = cost;
	charge(seat, request->p.rank, (double)cost);
	seat->running++;
	seat->team->running++;
	seat->user->running++;
	refresh_seat(seat);
	if (user_is_capped(seat->user) || seat->user->budget != NULL)
		order_user_changed(seat->user);
}

void order_stop(struct policy_request *request, uint64_t cost)
{
	struct seat *seat = request->p.seat;
	bool was_capped = user_is_capped(seat->user);

	charge(seat, request->p.rank,
		(double)cost - (double)request->p.charged);
	request->p.charged = 0;
	assert(seat->running > 0);
	seat->running--;
	seat->team->running--;
	seat->user->running--;
	refresh_seat(seat);
	if (was_capped || seat->user->budget != NULL)
		order_user_changed(seat->user);
}

void order_correct(
	struct seat *seat, enum policy_class class, uint64_t was, uint64_t cost)
{
	charge(seat, class, (double)cost - (double)was);
	refresh(seat, class);
}
