/*
 * A host's side of a quota that several hosts share: one lease a limit, and
 * what they have in common: the mode, the ask that is out, when to ask again.
 * Rules and proof: docs/cluster.md.
 */
#ifndef COORDINATOR_POLICY_SHARE_H
#define COORDINATOR_POLICY_SHARE_H

#include "coordinator/policy/lease.h"
#include "coordinator/policy/tokens.h"

struct policy;
struct policy_lane;
struct window;

/* What all leases of a host have in common. */
struct share {
	struct lease_terms terms;
	enum lease_mode mode;
	uint64_t since_ns;  /* in this mode */
	uint64_t until_ns;  /* ACTIVE: the end of the lease */
	uint64_t grows_ns;  /* LOST, share: the full share from then on */
	uint64_t refill_ns; /* the own buckets fill from then on */
	bool is_hungry; /* somebody was held by a lease since the last ask */

	/* The ask that is out, or was last. */
	bool is_out, is_idle, says_goodbye;
	uint64_t seq, asked_ns, until_then_ns; /* granted, it ends then */
	uint64_t patience_ns, slot_ns, span_ns, ttl_ns;
	uint64_t due_ns;   /* the next one anyway; not before an answer */
	uint64_t retry_ns; /* not before, whoever is hungry */
	struct lease_row *rows;
	size_t n_rows, rows_room;

	/* Redis' clock was sync_us at some time after sync_ns. */
	uint64_t epoch, sync_us, sync_ns;
	uint64_t complete_ns; /* from then on its log is */
	uint64_t jitter;
	bool is_leaving, is_gone, is_namesake;
	uint32_t syncs_in_row;
	uint32_t hosts; /* present, by the last answer */
	uint64_t answered_ns, answers, syncs, losses;
};

/* Of one limit: the host's or a lane's.  Zero while nothing is shared. */
struct lease {
	bool counts_starts, counts_tokens; /* there is such a limit */
	bool is_quiet;     /* the keeper knows that it is idle */
	bool wants_starts; /* somebody was held since the last ask */
	bool wants_tokens;
	uint32_t units;      /* starts that may be made */
	uint32_t keep;       /* what the keeper reserves at least */
	uint32_t made;       /* admitted in loss since the last ask */
	uint64_t changes;    /* of anything that is told */
	int64_t tokens;      /* that may be spent */
	int64_t spent;       /* ever */
	struct tokens apart; /* LOST, share: the bucket of this host */
	struct {
		uint64_t changes;
		uint32_t starts; /* in the window and held */
		bool is_idle;
	} told;                 /* by the ask that is out */
	struct lease_view view; /* totals, and what others had */
};

/* A limit changed, or sharing began or ended (share NULL). */
void lease_set(struct lease *lease, const struct share *share,
	uint32_t starts_limit, uint64_t tokens_limit, uint64_t minute_ns,
	uint64_t now_ns);

/* Lives the host by its own share? */
bool lease_is_apart(const struct share *share);
/* The lease is over: what it held of tokens begins the host's own bucket. */
void lease_end(struct lease *lease, const struct share *share);
void lease_grant(struct lease *lease, const struct share *share, uint32_t limit,
	const struct lease_grant *grant);

/* When one more start, or so many tokens, fit the lease: 0 now, else the time;
 * UINT64_MAX: not before an answer.  Whoever waits is asked for. */
uint64_t lease_wait_start(struct lease *lease, struct share *share,
	struct window *window, uint64_t now_ns);
uint64_t lease_wait_tokens(struct lease *lease, struct share *share,
	uint64_t amount, uint64_t now_ns);

/* Takes one start and the tokens, whatever there is. */
void lease_take(struct lease *lease, const struct share *share, uint64_t amount,
	uint64_t now_ns);
/* The start was not made. */
void lease_give_back(struct lease *lease, const struct share *share);
/* What was taken as `was` (from a lease: is_leased) was `used` in the end. */
void lease_settle(struct lease *lease, const struct share *share,
	bool is_leased, uint64_t was, uint64_t used, uint64_t now_ns);

/* How many starts from now the lease allows, and how many a window beyond
 * them; false: any. */
bool lease_outlook(const struct lease *lease, const struct share *share,
	const struct window *window, uint64_t now_ns, double *ret_free,
	double *ret_rate);
void lease_look(const struct lease *lease, const struct share *share,
	struct lease_view *ret_view);

/* Time alone may end the lease: to be called before anything is asked of one.
 */
void share_look(struct policy *policy, uint64_t now_ns);
void share_free(struct share *share);

/* One limit with all that belongs to it; lane NULL: the host's. */
struct shared_limit {
	struct policy_lane *lane;
	struct lease *lease;
	struct window *window;
	struct tokens *tokens;
};

/* The i-th of them; false: there are no more. */
bool share_limit(
	struct policy *policy, size_t i, struct shared_limit *ret_limit);
/* An ask for a lease that long is about to be sent: when the keeper will have
 * noticed that no other follows. */
void share_set_growth(struct share *share, uint64_t ttl_ns, uint64_t now_ns);
void share_set_mode(struct share *share, enum lease_mode mode, uint64_t now_ns);
/* Up to a quarter of a slot. */
uint64_t share_jitter(struct share *share);
/* The limits of this lane, or of the host (NULL), are other ones. */
void share_limits(struct policy *policy, struct policy_lane *lane);

#endif
