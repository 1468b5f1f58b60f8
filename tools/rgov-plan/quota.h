/*
 * A sliding window of starts and of tokens, with requests in progress: the
 * limits of a provider, of the best possible schedule, and what the use of a
 * limit is measured by.
 */
#ifndef PLAN_QUOTA_H
#define PLAN_QUOTA_H

#include "tools/rgov-plan/draw.h"

#include <stddef.h>

struct quota_entry {
	uint64_t at_ns, tokens;
};

struct quota {
	uint64_t window_ns, day_offset_ns;
	struct quota_entry *entries; /* a ring, by time */
	size_t room, first, n;
	uint64_t forgotten; /* entries that have left; n more are there */
	uint64_t tokens;    /* of those there */
	uint64_t running;
	uint64_t day, today; /* tokens of the day */
};

/* 0: none */
struct quota_limits {
	uint64_t requests, concurrent, tokens, tokens_day;
};

enum quota_verdict {
	QUOTA_FREE,
	QUOTA_CONCURRENT, /* not before one ends */
	QUOTA_REQUESTS,
	QUOTA_TOKENS,
	QUOTA_DAY,
};

void quota_free(struct quota *quota);

/* The oldest entry leaves; false: none does until now_ns. */
bool quota_forget(struct quota *quota, uint64_t now_ns, uint64_t *ret_left_ns);

/* May one of so many tokens start?  If not, ask again then.  One that exceeds
 * the limit may when nothing else is there. */
enum quota_verdict quota_ask(struct quota *quota,
	const struct quota_limits *limits, uint64_t tokens, uint64_t now_ns,
	uint64_t *ret_next_ns);

/* Counts; *ret_ticket names the entry.  0 or -ENOMEM. */
int quota_start(struct quota *quota, uint64_t tokens, uint64_t now_ns,
	uint64_t *ret_ticket);
/* One of `reserved` tokens ends, and has used so many. */
void quota_end(
	struct quota *quota, uint64_t ticket, uint64_t reserved, uint64_t used);

#endif
