/*
 * The provider's limits, judged exactly: starts and tokens in a sliding
 * window, requests in progress.  A lane is what shares one quota: all models,
 * or one model.
 *
 * A request asks when its headers are seen, in the order of arrival, and holds
 * its place from then on.  One that turns out not to be a request of a customer
 * (bad signature, invalid body) takes its place back as if it had never come.
 *
 * Not thread-safe: the simulation's lock covers it.  Times are
 * CLOCK_MONOTONIC.
 */
#ifndef SIM_QUOTA_H
#define SIM_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct quota_limits {
	uint64_t requests, tokens, concurrency; /* 0: not limited */
	uint64_t window_ns;
	bool throttled_count; /* throttled requests use up the window too */
	bool host_wide;       /* one lane for all models */
};

enum quota_verdict {
	QUOTA_GRANTED,
	QUOTA_REQUESTS,    /* too many starts in the window */
	QUOTA_CONCURRENCY, /* too many in progress */
	QUOTA_TOKENS,      /* too many tokens in the window */
};

struct quota_lane;

enum { QUOTA_BUCKETS = 256 };

struct quota {
	struct quota_limits limits;
	struct quota_lane *buckets[QUOTA_BUCKETS];
};

/* What one request holds. */
struct quota_ticket {
	struct quota_lane *lane;
	uint64_t at_ns;
	bool in_window, in_progress, has_tokens;
};

/* The limits on starts and concurrency. */
enum quota_verdict quota_ask(struct quota *quota, const char *model,
	uint64_t now_ns, struct quota_ticket *ret_ticket);
/* The limit on tokens, once the body is known.  Not granted: the ticket is as
 * before. */
enum quota_verdict quota_ask_tokens(
	struct quota *quota, struct quota_ticket *ticket, uint64_t tokens);
/* It is accepted: a start in the report. */
void quota_start(struct quota_ticket *ticket);
/* It used this many tokens instead of those it had asked for. */
void quota_settle(struct quota_ticket *ticket, uint64_t tokens);
/* It is no longer in progress.  Twice is fine. */
void quota_leave(struct quota_ticket *ticket);
/* Everything it holds goes back, its place in the window too. */
void quota_withdraw(struct quota_ticket *ticket);

/* The largest number of starts in any window, over all lanes. */
size_t quota_most_starts(const struct quota *quota);
/* Empties the windows.  What is in progress stays so; tickets stay valid. */
void quota_reset(struct quota *quota);

#endif
