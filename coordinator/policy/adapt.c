/* Two rates, and which of them a refusal means. */
#include "coordinator/policy/adapt.h"

#include "coordinator/policy/inside.h"

/* Starts that follow each other are this part of the mean distance apart. */
enum { PACE = 8 };

__extension__ typedef unsigned __int128 wide;

void adapt_set(struct adapt *adapt, uint32_t starts, uint64_t tokens,
	uint64_t minute_ns, uint64_t window_ns)
{
	rate_set(&adapt->starts, starts, minute_ns);
	rate_set(&adapt->tokens, tokens, minute_ns);
	meter_set(&adapt->meter, window_ns);
}

uint64_t adapt_wait_starts(
	struct adapt *adapt, struct window *window, uint64_t now_ns)
{
	uint64_t most = rate_now(&adapt->starts, now_ns), wait_ns;

	if (now_ns < adapt->paced_ns)
		return adapt->paced_ns;
	if (adapt->starts.limit == 0 || most >= adapt->starts.limit)
		return 0; /* the window itself has said so */
	wait_ns = window_wait_below(window, (uint32_t)most, now_ns);
	if (wait_ns == 0)
		return 0;
	return earlier(wait_ns, rate_when(&adapt->starts, most + 1));
}

/* Slots leave the meter while the rate climbs: the first time at which both
 * together let it pass. */
uint64_t adapt_wait_tokens(
	struct adapt *adapt, uint64_t amount, uint64_t now_ns)
{
	uint64_t most = rate_now(&adapt->tokens, now_ns), from_ns = now_ns;
	uint64_t used, until_ns, when_ns;

	if (adapt->tokens.limit == 0)
		return 0;
	used = meter_used(&adapt->meter, now_ns);
	if (used + (amount < most ? amount : most) <= most)
		return 0;
	for (uint32_t i = 0; used > 0; i++, from_ns = until_ns) {
		until_ns = meter_leaves(&adapt->meter, i);
		when_ns = rate_when(&adapt->tokens, used + amount);
		when_ns = when_ns > from_ns ? when_ns : from_ns;
		if (when_ns < until_ns)
			return when_ns;
		used -= meter_left(&adapt->meter, i);
	}
	return from_ns;
}

/* Of a rate of which so much is used. */
static uint64_t pause_after(const struct rate *rate, uint64_t used,
	uint64_t amount, uint64_t now_ns)
{
	uint64_t most = rate_now(rate, now_ns);

	if (rate->limit == 0 || used < most / 2)
		return 0;
	amount = amount < most ? amount : most;
	return (uint64_t)((wide)rate->minute_ns * amount / (PACE * (wide)most));
}

void adapt_admitted(struct policy_lane *lane, uint64_t tokens, uint64_t most_ns,
	uint64_t now_ns)
{
	struct adapt *adapt = &lane->adapt;
	uint64_t starts_ns = 0, tokens_ns, pause_ns;

	if (adapt->starts.limit != 0)
		starts_ns = pause_after(&adapt->starts,
			window_count(&lane->window, now_ns), 1, now_ns);
	tokens_ns = pause_after(&adapt->tokens,
		meter_used(&adapt->meter, now_ns), tokens, now_ns);
	pause_ns = starts_ns > tokens_ns ? starts_ns : tokens_ns;
	adapt->paced_ns = now_ns + earlier(pause_ns, most_ns);
}

static uint64_t starts_used(const struct policy_lane *lane, uint64_t now_ns)
{
	const struct adapt *adapt = &lane->adapt;
	uint64_t minute_ns = adapt->starts.minute_ns;
	uint32_t used = window_count_in(&lane->window, minute_ns, now_ns);
	uint32_t n = adapt->refused < ADAPT_REFUSALS ? adapt->refused
						     : ADAPT_REFUSALS;

	for (uint32_t i = 0; i < n; i++)
		if (adapt->refused_ns[i] + minute_ns > now_ns && used > 0)
			used--;
	return used;
}

void adapt_started(struct policy_lane *lane, struct policy_request *request,
	uint64_t now_ns)
{
	uint64_t tokens = meter_used(&lane->adapt.meter, now_ns);
	uint64_t own = 0;

	if (lane->adapt.starts.limit != 0)
		request->p.used_starts = (uint32_t)starts_used(lane, now_ns);
	/* Since its admission, if that was not too long ago. */
	if (meter_counts(&lane->adapt.meter, request->admitted_ns, now_ns))
		own = request->p.reserved_tokens;
	request->p.used_tokens = tokens > own ? tokens - own : 0;
	request->p.flags |= POLICY_MEASURED;
}

void adapt_accepted(struct adapt *adapt, const struct policy_request *request,
	uint64_t now_ns)
{
	adapt->row = 0;
	if (!(request->p.flags & POLICY_MEASURED))
		return;
	if (adapt->starts.limit != 0)
		rate_accepted(&adapt->starts,
			(uint64_t)request->p.used_starts + 1, now_ns);
	if (adapt->tokens.limit != 0)
		rate_accepted(&adapt->tokens,
			request->p.used_tokens + request->p.reserved_tokens,
			now_ns);
}

/* Which was nearer to what is in force? */
static bool means_tokens(const struct adapt *adapt,
	const struct policy_request *request, uint64_t now_ns)
{
	uint64_t starts = (uint64_t)request->p.used_starts + 1;
	uint64_t tokens = request->p.used_tokens + request->p.reserved_tokens;

	if (adapt->tokens.limit == 0 || adapt->starts.limit == 0)
		return adapt->starts.limit == 0;
	return (wide)tokens * rate_now(&adapt->starts, now_ns) >
	       (wide)starts * rate_now(&adapt->tokens, now_ns);
}

void adapt_refused(struct policy_lane *lane,
	const struct policy_request *request, bool is_heard, uint64_t now_ns)
{
	struct adapt *adapt = &lane->adapt;
	uint32_t row = adapt->row;

	if (!(request->p.flags & POLICY_MEASURED))
		return;
	adapt->refused_ns[adapt->refused++ % ADAPT_REFUSALS] =
		request->p.started_ns;
	if (!is_heard)
		return;
	adapt->row++;
	if (means_tokens(adapt, request, now_ns))
		rate_refused(&adapt->tokens, request->p.used_tokens,
			request->p.used_tokens + request->p.reserved_tokens,
			row, now_ns);
	else
		rate_refused(&adapt->starts, request->p.used_starts,
			(uint64_t)request->p.used_starts + 1, row, now_ns);
}

static double part_of(const struct rate *rate, uint64_t now_ns)
{
	if (rate->limit == 0)
		return 1;
	return (double)rate_now(rate, now_ns) / (double)rate->limit;
}

double adapt_part(const struct adapt *adapt, uint64_t now_ns)
{
	double starts = part_of(&adapt->starts, now_ns);
	double tokens = part_of(&adapt->tokens, now_ns);

	return starts < tokens ? starts : tokens;
}
