/* The rate: a base, and a climb from a time on. */
#include "coordinator/policy/rate.h"

/* limit x nanoseconds does not fit 64 bits. */
__extension__ typedef unsigned __int128 wide;

enum {
	STEPS = 10,
	FIRST_PATIENCE = 1,
	LATER_PATIENCE = 10,
	MOST_PATIENCE = 80
};

static uint64_t greater(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What it climbs in a minute, and the least it falls to. */
static uint64_t step_of(const struct rate *rate)
{
	return greater(1, rate->limit / STEPS);
}

void rate_set(struct rate *rate, uint64_t limit, uint64_t minute_ns)
{
	if (limit == rate->limit && minute_ns == rate->minute_ns)
		return;
	*rate = (struct rate){.limit = limit,
		.minute_ns = minute_ns,
		.base = limit,
		.patience = FIRST_PATIENCE};
}

uint64_t rate_now(const struct rate *rate, uint64_t now_ns)
{
	wide climbed;

	if (rate->base >= rate->limit || now_ns <= rate->from_ns)
		return rate->base;
	climbed = (wide)step_of(rate) * (now_ns - rate->from_ns) /
		  rate->minute_ns;
	if (climbed >= rate->limit - rate->base)
		return rate->limit;
	return rate->base + (uint64_t)climbed;
}

uint64_t rate_when(const struct rate *rate, uint64_t level)
{
	uint64_t step = step_of(rate);
	wide ns;

	if (level <= rate->base)
		return 0;
	if (level > rate->limit || rate->from_ns == UINT64_MAX)
		return UINT64_MAX;
	ns = ((wide)(level - rate->base) * rate->minute_ns + step - 1) / step;
	return ns > UINT64_MAX / 4 ? UINT64_MAX : rate->from_ns + (uint64_t)ns;
}

/* A refusal that meant nothing. */
static void refute(struct rate *rate, uint64_t now_ns)
{
	rate->moody_until_ns = now_ns + LATER_PATIENCE * rate->minute_ns;
}

void rate_accepted(struct rate *rate, uint64_t reached, uint64_t now_ns)
{
	rate->proven = greater(rate->proven, reached);
	if (rate->from_ns == UINT64_MAX)
		rate->from_ns = now_ns;
	if (rate->is_doubted)
		refute(rate, now_ns);
	rate->is_doubted = false;
	if (!rate->is_measured || reached <= rate->base)
		return;
	refute(rate, now_ns);
	/* The ceiling was none, or is none any more. */
	rate->base = greater(rate_now(rate, now_ns), rate->restore);
	rate->from_ns = now_ns;
	rate->patience = FIRST_PATIENCE;
	rate->is_measured = false;
}

/* Twice in a row: the quota is another one now. */
static void halve(struct rate *rate, uint64_t used, uint64_t now_ns)
{
	uint64_t half = lesser(rate_now(rate, now_ns), used) / 2;

	rate->base = greater(step_of(rate), half);
	rate->from_ns = UINT64_MAX; /* rate_accepted() */
	rate->proven = 0;
	rate->is_doubted = false;
	rate->moody_until_ns = 0;
	rate->patience = LATER_PATIENCE;
	rate->is_measured = false;
}

void rate_refused(struct rate *rate, uint64_t used, uint64_t reached,
	uint32_t row, uint64_t now_ns)
{
	uint32_t patience = rate->patience;
	uint64_t level;

	if (rate->limit == 0)
		return;
	if (now_ns < rate->moody_until_ns && row-- == 0)
		return;
	if (row > 0) {
		halve(rate, used, now_ns);
		return;
	}
	rate->is_doubted = reached <= rate->proven;
	if (rate->is_doubted)
		return;
	level = rate_now(rate, now_ns);
	/* So far below the rate that chance is likelier: the probe tells. */
	if (reached <= level / 2)
		return;
	rate->restore =
		rate->is_measured ? greater(rate->restore, level) : level;
	rate->base = lesser(greater(step_of(rate), used), rate->limit);
	rate->from_ns = now_ns + patience * rate->minute_ns;
	rate->patience =
		patience < LATER_PATIENCE / 2 ? LATER_PATIENCE : 2 * patience;
	if (rate->patience > MOST_PATIENCE)
		rate->patience = MOST_PATIENCE;
	rate->is_measured = true;
}
