/* Who goes before. */
#include "coordinator/policy/ahead.h"

#include "coordinator/policy/inside.h"

#include <math.h>
#include <utlist.h>

enum { LANES = 16 }; /* looked at */

static double most(double a, double b)
{
	return a > b ? a : b;
}

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* Who enters is lifted to this. */
static double floor_of_tier(const struct tier *tier)
{
	uint32_t *place = heap_first(&tier->flows);

	return place ? holder_of(place, struct flow, place)->service
		     : tier->floor;
}

static double floor_of_rank(const struct rank *rank)
{
	uint32_t *place = heap_first(&rank->teams);

	return place ? holder_of(place, struct tier, place)->service
		     : rank->floor;
}

static double service_of_team(const struct team *team, enum policy_class class)
{
	return most(team->tiers[class].service,
		floor_of_rank(&team->lane->ranks[class]));
}

static double cost_of(const struct seat *seat)
{
	const struct mean *cost =
		seat->cost.n ? &seat->cost : &seat->team->lane->cost;

	return cost->n ? most(cost->value, 1) : 1;
}

/* How many of `other` start before the k-th of `seat`, by their service. */
static double turns_of(const struct seat *other, const struct seat *seat,
	enum policy_class class, double own, double floor)
{
	double mine = most(seat->flows[class].service, floor) +
		      own * cost_of(seat) / seat->user->weight;
	double theirs = most(other->flows[class].service, floor);
	double turns = (mine - theirs) * other->user->weight / cost_of(other);

	return turns < 0 ? 0 : turns + 0.5;
}

static void look_at_flow(struct ahead *ahead, const struct seat *seat,
	enum policy_class class, uint64_t now_ns)
{
	const struct flow *flow = &seat->flows[class];
	const struct policy_lane *lane = seat->team->lane;
	const struct policy_user *user = seat->user;
	struct ahead_flow *look = &ahead->flows[ahead->n_flows];

	*look = (struct ahead_flow){
		.queued = flow->n,
		.rate = pace_rate(&flow->pace, lane_pace_ns(lane), now_ns),
		.room = INFINITY,
		.cost = cost_of(seat),
		.turns = INFINITY,
	};
	if (look->queued == 0 && look->rate == 0)
		return;
	if (user->max_running != 0 && lane->hold_ns.n > 0) {
		look->room = most((double)user->max_running - user->running, 0);
		look->drain = user->max_running / lane->hold_ns.value;
	}
	ahead->n_flows++;
}

static void look_at_team(struct ahead *ahead, const struct team *team,
	const struct policy_request *request, enum policy_class class,
	uint64_t now_ns)
{
	const struct seat *seat, *own = request->p.seat;
	bool is_mine = team == own->team && class == request->p.rank;
	struct ahead_group *group =
		&ahead->groups[is_mine ? 0 : ahead->n_groups];
	double floor = floor_of_tier(&team->tiers[class]);

	group->first = ahead->n_flows;
	group->lead = class < request->p.rank
			      ? -INFINITY
			      : service_of_team(team, class) -
					service_of_team(own->team, class);
	DL_FOREACH2(team->seats, seat, team_next)
	{
		uint32_t n = ahead->n_flows;

		if (n == AHEAD_FLOWS)
			break;
		if (is_mine && seat == own)
			continue;
		look_at_flow(ahead, seat, class, now_ns);
		if (is_mine && ahead->n_flows > n)
			ahead->flows[n].turns =
				turns_of(seat, own, class, ahead->own, floor);
	}
	group->n = ahead->n_flows - group->first;
	if (!is_mine && group->n > 0)
		ahead->n_groups++;
}

/* Its place in its own queue.  Those that left the middle still count, up to
 * the number that there is. */
static double own_before(const struct policy_request *request)
{
	const struct flow *flow = &request->p.seat->flows[request->p.rank];
	uint32_t before;

	if (request->state == POLICY_BACKOFF)
		return 0;
	if (request->state == POLICY_NEW)
		return flow->n;
	before = request->p.ticket - flow->first->p.ticket;
	return before < flow->n ? before : flow->n - 1;
}

static double scale_of(
	const struct ahead *ahead, const struct policy_request *request)
{
	double all = 0, seen = ahead->own + 1;

	if (ahead->n_flows < AHEAD_FLOWS)
		return 1;
	for (int class = 0; class <= (int)request->p.rank; class ++)
		all += request->lane->ranks[class].queued;
	for (uint32_t i = 0; i < ahead->n_flows; i++)
		seen += ahead->flows[i].queued;
	return most(all / seen, 1);
}

void ahead_look(struct ahead *ahead, const struct policy_request *request,
	uint64_t now_ns)
{
	const struct seat *own = request->p.seat;
	const struct team *team;

	ahead->n_flows = 0;
	ahead->n_groups = 1;
	ahead->own = own_before(request);
	ahead->own_cost = cost_of(own);
	look_at_team(ahead, own->team, request, request->p.rank, now_ns);
	for (int class = request->p.rank; class >= 0; class --) {
		DL_FOREACH (request->lane->teams, team) {
			if (ahead->n_flows == AHEAD_FLOWS)
				break;
			if (team != own->team || class < (int)request->p.rank)
				look_at_team(ahead, team, request,
					(enum policy_class) class, now_ns);
		}
	}
	ahead->scale = scale_of(ahead, request);
}

/* The group's starts within that time, and their tokens. */
static double starts(const struct ahead *ahead, const struct ahead_group *group,
	double wait_ns, double *ret_tokens)
{
	double sum = 0;

	*ret_tokens = 0;
	for (uint32_t i = group->first; i < group->first + group->n; i++) {
		const struct ahead_flow *flow = &ahead->flows[i];
		double n = least(flow->queued + flow->rate * wait_ns,
			flow->room + flow->drain * wait_ns);

		n = least(n, flow->turns);
		sum += n;
		*ret_tokens += n * flow->cost;
	}
	return sum;
}

double ahead_count(const struct ahead *ahead, double wait_ns)
{
	double tokens, level,
		sum = starts(ahead, &ahead->groups[0], wait_ns, &level);

	level += ahead->own * ahead->own_cost;
	for (uint32_t i = 1; i < ahead->n_groups; i++) {
		const struct ahead_group *group = &ahead->groups[i];
		double n = starts(ahead, group, wait_ns, &tokens);
		double turn = level - group->lead;

		if (n == 0)
			continue;
		turn = turn < 0 ? 0 : turn + tokens / n / 2;
		sum += turn < tokens ? n * turn / tokens : n;
	}
	return sum * ahead->scale + ahead->own;
}

double ahead_elsewhere(const struct policy *policy,
	const struct policy_request *request, double n)
{
	const struct policy_lane *lane;
	double sum = 0;
	int i = 0;

	DL_FOREACH (policy->ready, lane) {
		if (lane != request->lane)
			sum += least(lane->queued, n + 0.5);
		if (++i == LANES)
			break;
	}
	return sum;
}
