/*
 * The tokens of one lane: a bucket with continuous refill and a total per day.
 * Exact in whole numbers, however often one looks.  The bucket holds one
 * minute's limit at most and may go into debt.
 */
#ifndef COORDINATOR_POLICY_TOKENS_H
#define COORDINATOR_POLICY_TOKENS_H

#include <stdbool.h>
#include <stdint.h>

#define TOKENS_DAY_NS (86400 * UINT64_C(1000000000))
/* What a request may name; above it is the same as this. */
#define TOKENS_MAX (UINT64_C(1) << 40)

struct tokens {
	uint64_t limit;     /* per minute, and the capacity; 0: none */
	uint64_t day_limit; /* 0: none */
	uint64_t minute_ns;
	int64_t level; /* at stamp_ns; below 0: debt */
	uint64_t part; /* of the next token, in 1/minute_ns */
	uint64_t stamp_ns;
	uint64_t reserved; /* by requests in flight */
	uint64_t day;      /* which one: (now + day_offset_ns) / 86400 s */
	uint64_t day_offset_ns;
	int64_t day_used;
};

/* New limits; also the first ones, then the bucket is full. */
void tokens_set(struct tokens *tokens, uint64_t limit, uint64_t day_limit,
	uint64_t minute_ns, uint64_t now_ns);

/* Where the days begin: the present total is that of the day that it is by the
 * new offset, or of the one after it where that has begun already. */
void tokens_set_days(
	struct tokens *tokens, uint64_t day_offset_ns, uint64_t now_ns);
/* The same day as the host's total, which may be ahead of the clock: a
 * reservation is of one day for all that it is charged to. */
void tokens_join_day(struct tokens *tokens, const struct tokens *host);
/* The number of the day at that time. */
uint64_t tokens_day_at(const struct tokens *tokens, uint64_t at_ns);

/*
 * When `amount` fits: 0 now, else the time; UINT64_MAX: not before something is
 * settled.  An amount above the capacity (the limit fell after it was queued)
 * fits a full bucket, or an unused day, so that it cannot wait for ever.
 */
uint64_t tokens_wait(struct tokens *tokens, uint64_t amount, uint64_t now_ns);

/* When that many in all can have been taken, one request after the other: also
 * more than the bucket holds. */
uint64_t tokens_in(
	const struct tokens *tokens, uint64_t amount, uint64_t now_ns);
/* Is that a wait for the day's turn? */
bool tokens_wait_for_day(const struct tokens *tokens, uint64_t wait_ns);

/* Takes it, whatever there is. */
void tokens_reserve(struct tokens *tokens, uint64_t amount, uint64_t now_ns);
/* Ends a reservation made on `day`: `used` is what it cost in the end. */
void tokens_settle(struct tokens *tokens, uint64_t amount, uint64_t used,
	uint64_t day, uint64_t now_ns);

/* The same for one that was ended before, at `was`. */
void tokens_correct(struct tokens *tokens, uint64_t was, uint64_t used,
	uint64_t day, uint64_t now_ns);

/* A reservation that is part of what tokens_restore() restored. */
void tokens_adopt(struct tokens *tokens, uint64_t amount);

/* What the bucket held at at_ns (not after now_ns), and the total of `day`
 * then. */
void tokens_restore(struct tokens *tokens, int64_t level, int64_t day_used,
	uint64_t day, uint64_t at_ns, uint64_t now_ns);

/* 0 without a limit. */
int64_t tokens_available(const struct tokens *tokens, uint64_t now_ns);
int64_t tokens_used_today(const struct tokens *tokens, uint64_t now_ns);
/* Of which day. */
uint64_t tokens_day(const struct tokens *tokens, uint64_t now_ns);

#endif
