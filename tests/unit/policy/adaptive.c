/* The adaptive rate: docs/policy.md, section 6, in its letters. */
#include "tests/unit/policy/reference.h"

enum { REFUSALS = 8, SLOTS = 64, PACE = 8, LATER_PATIENCE = 10 };
enum { MOST_PATIENCE = 80 };

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* S, and F. */
static uint64_t step(const struct ref_rate *rate)
{
	return most(1, rate->limit / 10);
}

void ref_rate_set(struct ref_rate *rate, uint64_t limit)
{
	if (limit != rate->limit)
		*rate = (struct ref_rate){
			.limit = limit, .base = limit, .patience = 1};
}

static uint64_t rate_at(
	const struct ref *ref, const struct ref_rate *rate, uint64_t now_ns)
{
	if (rate->base >= rate->limit || now_ns <= rate->from_ns)
		return rate->base;
	return least(
		rate->limit, rate->base + (uint64_t)((ref_wide)step(rate) *
						     (now_ns - rate->from_ns) /
						     ref->config.minute_ns));
}

uint64_t ref_rate_now(const struct ref *ref, const struct ref_rate *rate)
{
	return rate_at(ref, rate, ref->now_ns);
}

/* ------------------------------------------------------------ what is used */

static uint64_t slot_of(const struct ref *ref, uint64_t time_ns)
{
	uint64_t slot_ns =
		(ref->config.minute_ns + ref->config.guard_ns) / SLOTS;

	return time_ns / most(slot_ns, 1);
}

/* Without that request's own; REF_NOBODY: of all. */
static uint64_t used_tokens(const struct ref *ref, int lane, int but)
{
	uint64_t now = slot_of(ref, ref->now_ns), sum = 0;

	for (uint32_t i = 0; i < ref->n_charges; i++) {
		const struct ref_charge *charge = &ref->charges[i];

		if (charge->made == ref->lanes[lane].made &&
			slot_of(ref, charge->at_ns) + SLOTS >= now &&
			(but == REF_NOBODY ||
				ref->requests[but].charge != (int)i))
			sum += charge->tokens;
	}
	return sum;
}

static uint64_t used_starts(const struct ref *ref, int lane)
{
	uint64_t minute_ns = ref->config.minute_ns, n = 0, refused = 0;
	uint32_t known = ref->lanes[lane].n_refused;

	for (uint32_t i = 0; i < ref->n_starts; i++)
		n += ref->starts[i].lane == lane &&
		     ref->starts[i].at_ns + minute_ns > ref->now_ns;
	for (uint32_t i = known > REFUSALS ? known - REFUSALS : 0; i < known;
		i++)
		refused += ref->lanes[lane].refused_ns[i] + minute_ns >
			   ref->now_ns;
	return n > refused ? n - refused : 0;
}

/* ------------------------------------------------------------ admission */

bool ref_adaptive_covers(const struct ref *ref, int id, uint64_t tokens)
{
	const struct ref_lane *lane = &ref->lanes[id];
	uint64_t starts = ref_rate_now(ref, &lane->starts);
	uint64_t level = ref_rate_now(ref, &lane->tokens);

	if (ref->now_ns < lane->paced_ns)
		return false;
	if (lane->starts.limit != 0 && starts < lane->starts.limit &&
		ref_count_starts(ref, id, REF_NOBODY) >= starts)
		return false;
	return lane->tokens.limit == 0 ||
	       used_tokens(ref, id, REF_NOBODY) + least(tokens, level) <= level;
}

/* Of a rate of which so much is used: how long nobody starts after `amount`. */
static uint64_t pause_ns(const struct ref *ref, const struct ref_rate *rate,
	uint64_t used, uint64_t amount)
{
	uint64_t level = ref_rate_now(ref, rate);

	if (rate->limit == 0 || used < level / 2)
		return 0;
	return (uint64_t)((ref_wide)ref->config.minute_ns *
			  least(amount, level) / (PACE * (ref_wide)level));
}

void ref_adaptive_charge(struct ref *ref, int id)
{
	struct ref_request *r = &ref->requests[id];

	r->charge = (int)ref->n_charges;
	ref->charges[ref->n_charges++] =
		(struct ref_charge){.at_ns = ref->now_ns,
			.tokens = r->reserved,
			.made = ref->lanes[r->lane].made};
}

void ref_adaptive_admitted(struct ref *ref, int id)
{
	const struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];
	uint64_t starts = ref_count_starts(ref, r->lane, REF_NOBODY);
	uint64_t tokens = used_tokens(ref, r->lane, REF_NOBODY);

	lane->paced_ns = ref->now_ns +
			 least(ref->config.probe_ok_after_ns,
				 most(pause_ns(ref, &lane->starts, starts, 1),
					 pause_ns(ref, &lane->tokens, tokens,
						 r->reserved)));
}

/* Its start is about to count. */
void ref_adaptive_started(struct ref *ref, int id)
{
	struct ref_request *r = &ref->requests[id];

	r->is_measured = true;
	r->used_starts = used_starts(ref, r->lane);
	r->used_tokens = used_tokens(ref, r->lane, id);
}

void ref_adaptive_ended(struct ref *ref, int id, uint64_t used)
{
	ref->charges[ref->requests[id].charge].tokens = used;
}

/* ------------------------------------------- what the provider says to it */

static void accept(const struct ref *ref, struct ref_rate *rate,
	uint64_t reached, uint64_t now_ns)
{
	if (rate->limit == 0)
		return;
	rate->proven = most(rate->proven, reached);
	if (rate->from_ns == UINT64_MAX)
		rate->from_ns = now_ns;
	if (rate->is_doubted || (rate->is_measured && reached > rate->base))
		rate->moody_until_ns =
			now_ns + LATER_PATIENCE * ref->config.minute_ns;
	rate->is_doubted = false;
	if (!rate->is_measured || reached <= rate->base)
		return;
	rate->base = most(rate_at(ref, rate, now_ns), rate->before);
	rate->from_ns = now_ns;
	rate->patience = 1;
	rate->is_measured = false;
}

void ref_adaptive_accepted(struct ref *ref, int id, uint64_t now_ns)
{
	const struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];

	lane->row = 0;
	if (!r->is_measured)
		return;
	accept(ref, &lane->starts, r->used_starts + 1, now_ns);
	accept(ref, &lane->tokens, r->used_tokens + r->measured, now_ns);
}

static void refuse(const struct ref *ref, struct ref_rate *rate, uint64_t used,
	uint64_t reached, uint32_t row)
{
	uint64_t level = ref_rate_now(ref, rate);

	if (rate->limit == 0)
		return;
	if (ref->now_ns < rate->moody_until_ns) {
		if (row == 0)
			return;
		row--;
	}
	if (row > 0) {
		rate->base = most(step(rate), least(level, used) / 2);
		rate->from_ns = UINT64_MAX; /* until one is accepted */
		rate->proven = 0;
		rate->patience = LATER_PATIENCE;
		rate->is_measured = rate->is_doubted = false;
		rate->moody_until_ns = 0;
		return;
	}
	rate->is_doubted = reached <= rate->proven;
	if (rate->is_doubted)
		return;
	if (reached <= level / 2)
		return;
	rate->before = rate->is_measured ? most(rate->before, level) : level;
	rate->base = least(rate->limit, most(step(rate), used));
	rate->from_ns = ref->now_ns + rate->patience * ref->config.minute_ns;
	rate->patience =
		least(MOST_PATIENCE, most(LATER_PATIENCE, 2 * rate->patience));
	rate->is_measured = true;
}

/* Which of the two is meant? */
static bool means_tokens(const struct ref *ref, const struct ref_lane *lane,
	const struct ref_request *r)
{
	if (lane->tokens.limit == 0 || lane->starts.limit == 0)
		return lane->starts.limit == 0;
	return (ref_wide)(r->used_tokens + r->measured) *
		       ref_rate_now(ref, &lane->starts) >
	       (ref_wide)(r->used_starts + 1) *
		       ref_rate_now(ref, &lane->tokens);
}

void ref_adaptive_refused(struct ref *ref, int id, bool is_heard)
{
	const struct ref_request *r = &ref->requests[id];
	struct ref_lane *lane = &ref->lanes[r->lane];
	uint32_t row = lane->row;

	if (!r->is_measured)
		return;
	lane->refused_ns[lane->n_refused++] = r->started_ns;
	if (!is_heard)
		return;
	lane->row++;
	if (means_tokens(ref, lane, r))
		refuse(ref, &lane->tokens, r->used_tokens,
			r->used_tokens + r->measured, row);
	else
		refuse(ref, &lane->starts, r->used_starts, r->used_starts + 1,
			row);
}
