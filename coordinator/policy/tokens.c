/* The bucket: a level at a stamp; the refill since is worked out when asked. */
#include "coordinator/policy/tokens.h"

#include <assert.h>

/* limit x nanoseconds does not fit 64 bits. */
__extension__ typedef unsigned __int128 wide;

/* More than this fills any bucket from any debt. */
#define MOST (INT64_MAX / 4)

/* The time in which `amount` more trickle in, rounded up. */
static uint64_t refill_ns(const struct tokens *tokens, uint64_t amount)
{
	wide parts = (wide)amount * tokens->minute_ns - tokens->part;
	wide ns = (parts + tokens->limit - 1) / tokens->limit;

	return ns > UINT64_MAX / 4 ? UINT64_MAX / 4 : (uint64_t)ns;
}

/* A full bucket holds no part of a token beside. */
static void add(struct tokens *tokens, int64_t amount)
{
	tokens->level += amount;
	if (tokens->level < (int64_t)tokens->limit)
		return;
	tokens->level = (int64_t)tokens->limit;
	tokens->part = 0;
}

static void refill(struct tokens *tokens, uint64_t now_ns)
{
	wide parts, gain;

	if (tokens->limit == 0 || now_ns <= tokens->stamp_ns)
		return;
	parts = (wide)(now_ns - tokens->stamp_ns) * tokens->limit +
		tokens->part;
	gain = parts / tokens->minute_ns;
	tokens->part = (uint64_t)(parts % tokens->minute_ns);
	tokens->stamp_ns = now_ns;
	add(tokens, (int64_t)(gain < MOST ? gain : MOST));
}

uint64_t tokens_day_at(const struct tokens *tokens, uint64_t at_ns)
{
	return (at_ns + tokens->day_offset_ns) / TOKENS_DAY_NS;
}

static void turn_day(struct tokens *tokens, uint64_t now_ns)
{
	uint64_t day = tokens_day_at(tokens, now_ns);

	if (day > tokens->day) {
		tokens->day = day;
		tokens->day_used = 0;
	}
}

/* The clock was set back: by one day, the total waits for its day to pass; by
 * more, it would wait too long. */
static void fit_day(struct tokens *tokens, uint64_t now_ns)
{
	uint64_t day = tokens_day_at(tokens, now_ns);

	if (tokens->day > day + 1)
		tokens->day = day;
	turn_day(tokens, now_ns);
}

void tokens_set_days(
	struct tokens *tokens, uint64_t day_offset_ns, uint64_t now_ns)
{
	turn_day(tokens, now_ns);
	tokens->day_offset_ns = day_offset_ns;
	fit_day(tokens, now_ns);
}

void tokens_join_day(struct tokens *tokens, const struct tokens *host)
{
	if (tokens->day >= host->day)
		return;
	tokens->day = host->day;
	tokens->day_used = 0;
}

void tokens_set(struct tokens *tokens, uint64_t limit, uint64_t day_limit,
	uint64_t minute_ns, uint64_t now_ns)
{
	if (limit > MOST)
		limit = MOST;
	refill(tokens, now_ns);
	turn_day(tokens, now_ns);
	if (minute_ns != tokens->minute_ns || tokens->limit == 0)
		tokens->part = 0;
	if (tokens->limit == 0) {
		tokens->level = (int64_t)limit - (int64_t)tokens->reserved;
		tokens->stamp_ns = now_ns;
	}
	tokens->limit = limit;
	add(tokens, 0);
	tokens->day_limit = day_limit;
	tokens->minute_ns = minute_ns;
}

static uint64_t minute_wait(
	struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	int64_t need;

	if (tokens->limit == 0)
		return 0;
	refill(tokens, now_ns);
	need = (int64_t)(amount < tokens->limit ? amount : tokens->limit);
	if (tokens->level >= need)
		return 0;
	return tokens->stamp_ns +
	       refill_ns(tokens, (uint64_t)(need - tokens->level));
}

static uint64_t next_day_ns(const struct tokens *tokens)
{
	return (tokens->day + 1) * TOKENS_DAY_NS - tokens->day_offset_ns;
}

static uint64_t day_wait(
	struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	turn_day(tokens, now_ns);
	if (tokens->day_limit == 0 || tokens->day_used <= 0)
		return 0;
	if ((uint64_t)tokens->day_used + amount <= tokens->day_limit)
		return 0;
	return next_day_ns(tokens);
}

uint64_t tokens_in(
	const struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	struct tokens copy = *tokens;
	uint64_t day_ns = day_wait(&copy, amount, now_ns);

	if (copy.limit != 0) {
		refill(&copy, now_ns);
		if (copy.level < (int64_t)amount)
			now_ns += refill_ns(&copy,
				(uint64_t)((int64_t)amount - copy.level));
	}
	return now_ns > day_ns ? now_ns : day_ns;
}

bool tokens_wait_for_day(const struct tokens *tokens, uint64_t wait_ns)
{
	return tokens->day_limit != 0 && wait_ns == next_day_ns(tokens);
}

uint64_t tokens_wait(struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	uint64_t minute_ns = minute_wait(tokens, amount, now_ns);
	uint64_t day_ns = day_wait(tokens, amount, now_ns);

	return minute_ns > day_ns ? minute_ns : day_ns;
}

void tokens_reserve(struct tokens *tokens, uint64_t amount, uint64_t now_ns)
{
	turn_day(tokens, now_ns);
	tokens->reserved += amount;
	tokens->day_used += (int64_t)amount;
	if (tokens->limit == 0)
		return;
	refill(tokens, now_ns);
	tokens->level -= (int64_t)amount;
}

void tokens_settle(struct tokens *tokens, uint64_t amount, uint64_t used,
	uint64_t day, uint64_t now_ns)
{
	assert(tokens->reserved >= amount);
	tokens->reserved -= amount;
	tokens_correct(tokens, amount, used, day, now_ns);
}

void tokens_correct(struct tokens *tokens, uint64_t was, uint64_t used,
	uint64_t day, uint64_t now_ns)
{
	int64_t back = (int64_t)was - (int64_t)used;

	turn_day(tokens, now_ns);
	/* What was reserved yesterday was yesterday's; an excess is today's. */
	if (day == tokens->day || back < 0)
		tokens->day_used -= back;
	if (tokens->limit == 0)
		return;
	refill(tokens, now_ns);
	add(tokens, back);
}

void tokens_restore(struct tokens *tokens, int64_t level, int64_t day_used,
	uint64_t day, uint64_t at_ns, uint64_t now_ns)
{
	int64_t most = (int64_t)tokens->limit;

	tokens->level = level < most ? level : most;
	if (tokens->level < -(int64_t)TOKENS_MAX)
		tokens->level = -(int64_t)TOKENS_MAX;
	tokens->stamp_ns = at_ns;
	refill(tokens, now_ns);
	tokens->day = day;
	tokens->day_used = day_used;
	fit_day(tokens, now_ns);
}

void tokens_adopt(struct tokens *tokens, uint64_t amount)
{
	tokens->reserved += amount;
}

int64_t tokens_available(const struct tokens *tokens, uint64_t now_ns)
{
	struct tokens copy = *tokens;

	refill(&copy, now_ns);
	return copy.limit ? copy.level : 0;
}

int64_t tokens_used_today(const struct tokens *tokens, uint64_t now_ns)
{
	struct tokens copy = *tokens;

	turn_day(&copy, now_ns);
	return copy.day_used;
}

uint64_t tokens_day(const struct tokens *tokens, uint64_t now_ns)
{
	struct tokens copy = *tokens;

	turn_day(&copy, now_ns);
	return copy.day;
}
