/* Reasons: who holds what, and for how long. */
#include "coordinator/policy/why.h"

#include "coordinator/policy/inside.h"

#include <stdlib.h>
#include <string.h>

static uint64_t free_ns(const struct why_clock *host, uint64_t now_ns)
{
	bool is_free = host->reason == POLICY_WAIT_TURN;

	return host->free_ns + (is_free ? now_ns - host->since : 0);
}

static void hold(struct why_clock *clock, enum policy_reason reason,
	uint64_t until_ns, uint64_t now_ns)
{
	clock->until_ns = until_ns;
	if (clock->reason == reason)
		return;
	clock->reason = reason;
	clock->begun_ns = now_ns;
}

void why_host(struct policy *policy, enum policy_reason reason,
	uint64_t until_ns, uint64_t now_ns)
{
	struct why_clock *host = &policy->why;

	if (host->reason != reason) {
		host->free_ns = free_ns(host, now_ns);
		if (host->reason != POLICY_WAIT_TURN)
			host->ns[host->reason] += now_ns - host->since;
		host->since = now_ns;
	}
	hold(host, reason, until_ns, now_ns);
}

void why_lane(struct policy_lane *lane, enum policy_reason reason,
	uint64_t until_ns, uint64_t now_ns)
{
	struct why_clock *clock = &lane->why;

	if (clock->reason != reason) {
		uint64_t free = free_ns(&lane->policy->why, now_ns);

		clock->ns[clock->reason] += free - clock->since;
		clock->since = free;
	}
	hold(clock, reason, until_ns, now_ns);
}

/* How long anybody who was always queued in this lane has waited. */
static void read_shared(const struct policy_lane *lane, uint64_t now_ns,
	uint64_t ret_ns[POLICY_WAIT_REASONS])
{
	const struct why_clock *host = &lane->policy->why;

	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		ret_ns[i] = host->ns[i] + lane->why.ns[i];
	if (host->reason != POLICY_WAIT_TURN)
		ret_ns[host->reason] += now_ns - host->since;
	ret_ns[lane->why.reason] += free_ns(host, now_ns) - lane->why.since;
}

/* The same for a flow that was held; the differences between two looks count.
 */
static void read_flow(const struct policy_request *request, uint64_t now_ns,
	uint64_t ret_ns[POLICY_WAIT_REASONS])
{
	const struct why_hold *flow =
		request->p.seat->flows[request->p.rank].hold;

	if (flow->reason != POLICY_WAIT_TURN) {
		memcpy(ret_ns, flow->ns, sizeof(flow->ns));
		ret_ns[flow->reason] += now_ns - flow->since_ns;
		return;
	}
	read_shared(request->lane, now_ns, ret_ns);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		ret_ns[i] += flow->ns[i];
}

/* The clocks of host and lane stop for it, or go on, where they are now. */
static void turn(struct why_hold *flow, const struct policy_lane *lane,
	bool is_held, uint64_t now_ns)
{
	uint64_t ns[POLICY_WAIT_REASONS];

	read_shared(lane, now_ns, ns);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		flow->ns[i] += is_held ? ns[i] : -ns[i];
}

/* Without memory the time counts as if its user were not held. */
void why_flow(struct seat *seat, enum policy_class class,
	enum policy_reason reason, uint64_t until_ns)
{
	const struct policy_lane *lane = seat->team->lane;
	uint64_t now_ns = lane->policy->now_ns;
	struct why_hold **flow = &seat->flows[class].hold;

	if (*flow == NULL && reason != POLICY_WAIT_TURN)
		*flow = calloc(1, sizeof(**flow));
	if (*flow == NULL)
		return;
	(*flow)->until_ns = until_ns;
	if ((*flow)->reason == reason)
		return;
	if ((*flow)->reason == POLICY_WAIT_TURN)
		turn(*flow, lane, true, now_ns);
	else
		(*flow)->ns[(*flow)->reason] += now_ns - (*flow)->since_ns;
	if (reason == POLICY_WAIT_TURN)
		turn(*flow, lane, false, now_ns);
	(*flow)->reason = reason;
	(*flow)->since_ns = now_ns;
}

static uint32_t units(uint64_t ns)
{
	return (uint32_t)(ns >> WHY_UNIT_SHIFT);
}

/* What a reason that holds has added since its clock was set. */
static uint32_t units_since(uint64_t ns, uint64_t since_ns)
{
	return units(ns + since_ns) - units(ns);
}

/* The common case of flip(), at both ends of every wait: a lane's clock has
 * nothing of the host's reasons but those of the cluster. */
static void flip_free(const struct policy_lane *lane, uint64_t now_ns,
	uint32_t waited[POLICY_WAIT_REASONS])
{
	const struct why_clock *host = &lane->policy->why, *own = &lane->why;

	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		waited[i] = units(own->ns[i]) - waited[i];
	for (int i = POLICY_WAIT_HOST_CONCURRENCY; i <= POLICY_WAIT_HOST_DAY;
		i++)
		waited[i] += units(host->ns[i]);
	for (int i = POLICY_WAIT_CLUSTER_REQUESTS;
		i <= POLICY_WAIT_CLUSTER_TOKENS; i++)
		waited[i] += units(host->ns[i]);
	waited[own->reason] += units_since(
		own->ns[own->reason], free_ns(host, now_ns) - own->since);
	if (host->reason != POLICY_WAIT_TURN)
		waited[host->reason] += units_since(
			host->ns[host->reason], now_ns - host->since);
}

/* From what it has waited to what the clocks were at its coming, less that;
 * and back. */
static void flip(const struct policy_request *request, uint64_t now_ns,
	uint32_t waited[POLICY_WAIT_REASONS])
{
	uint64_t ns[POLICY_WAIT_REASONS];

	if (request->p.seat->flows[request->p.rank].hold == NULL) {
		flip_free(request->lane, now_ns, waited);
		return;
	}
	read_flow(request, now_ns, ns);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		waited[i] = units(ns[i]) - waited[i];
}

const struct why_clock *why_of_lane(const struct policy_lane *lane)
{
	const struct why_clock *host = &lane->policy->why;

	return lane->is_ready && host->reason != POLICY_WAIT_TURN ? host
								  : &lane->why;
}

void why_flip(struct policy_request *request)
{
	flip(request, request->lane->policy->now_ns, request->p.waited);
}

void why_back_off(struct policy_request *request)
{
	request->p.waited[POLICY_WAIT_BACKOFF] -=
		units(request->lane->policy->now_ns);
}

void why_wake(struct policy_request *request)
{
	request->p.waited[POLICY_WAIT_BACKOFF] +=
		units(request->lane->policy->now_ns);
}

void policy_waited(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	uint64_t ret_ns[POLICY_WAIT_REASONS])
{
	uint32_t waited[POLICY_WAIT_REASONS];

	memcpy(waited, request->p.waited, sizeof(waited));
	if (now_ns < policy->now_ns)
		now_ns = policy->now_ns;
	if (request->state == POLICY_QUEUED)
		flip(request, now_ns, waited);
	else if (request->state == POLICY_BACKOFF)
		waited[POLICY_WAIT_BACKOFF] += units(now_ns);
	for (int i = 0; i < POLICY_WAIT_REASONS; i++)
		ret_ns[i] = (uint64_t)waited[i] << WHY_UNIT_SHIFT;
}

static void explain_queued(
	const struct policy_request *request, struct policy_why *why)
{
	const struct why_hold *flow =
		request->p.seat->flows[request->p.rank].hold;
	const struct why_clock *clock = why_of_lane(request->lane);
	bool is_held = flow != NULL && flow->reason != POLICY_WAIT_TURN;

	why->reason = is_held ? flow->reason : clock->reason;
	why->until_ns = is_held ? flow->until_ns : clock->until_ns;
}

void policy_explain(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns,
	struct policy_why *ret_why)
{
	*ret_why = (struct policy_why){.until_ns = now_ns};
	if (request->state == POLICY_QUEUED) {
		explain_queued(request, ret_why);
	} else if (request->state == POLICY_BACKOFF) {
		ret_why->reason = POLICY_WAIT_BACKOFF;
		ret_why->until_ns =
			policy->due.cells[request->p.due_place].key.first;
	} else {
		return;
	}
	predict(policy, request, now_ns, &ret_why->position,
		&ret_why->predicted_ns);
}

const char *policy_reason_text(enum policy_reason reason)
{
	static const char *const texts[] = {
#define REASON(name, words) [POLICY_WAIT_##name] = words,
		POLICY_REASONS(REASON)
#undef REASON
	};

	return texts[reason];
}
