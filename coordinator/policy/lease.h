/*
 * One quota over several hosts: what a host says to the keeper of the account
 * (a script inside Redis) and what it hears.  Pure structs: coordinator/cluster
 * carries them, the policy makes and takes them.  docs/cluster.md has the
 * rules.
 *
 * An ask says all that its host has done, not what changed: it may be lost,
 * applied without an answer, or repeated, and nothing is counted twice.  Ages,
 * never times: the clocks of the hosts do not matter.
 */
#ifndef COORDINATOR_POLICY_LEASE_H
#define COORDINATOR_POLICY_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The window in so many parts; ages are told in these. */
enum { LEASE_SLOTS = 128 };

/* on_cluster_loss */
enum lease_loss {
	LEASE_SHARE,  /* limit / hosts, never more than the quota in sum */
	LEASE_STOP,   /* nothing starts */
	LEASE_IGNORE, /* the whole limit, no promise */
};

enum lease_mode {
	LEASE_OFF,     /* limits are this host's own */
	LEASE_JOINING, /* Redis answers, and does not yet know everybody */
	LEASE_ACTIVE,  /* granted by Redis */
	LEASE_LOST,    /* no answer: as on_cluster_loss says */
};

/* What the configuration and the transport tell. */
struct lease_terms {
	uint32_t hosts; /* that share; 0: not said, then there are no shares */
	enum lease_loss loss;
	uint64_t forget_ns; /* a host silent for so long holds nothing */
	/* Names this run of rgovd among those of the same host: grows from one
	 * to the next (the wall clock at its start,
	 * microseconds). */
	uint64_t incarnation;
	/* The starts of the last window are known: from the board of the
	 * predecessor, or because there was none.  False, this host is taken
	 * to have used its share, and a new Redis waits a window for it. */
	bool is_restored;
};

/* One limit: the host's or a lane's, its starts and its tokens. */
struct lease_row {
	const char *lane; /* NULL: the host's */
	uint64_t life;    /* a lane that is made anew is another one */
	uint32_t starts_limit;
	uint32_t ages[LEASE_SLOTS]; /* starts that are that many slots old */
	uint32_t starts_held;       /* granted and not yet made */
	uint32_t starts_wanted;     /* beside them */
	uint64_t tokens_limit;
	int64_t tokens_spent; /* under leases, ever, by this incarnation */
	uint64_t tokens_held; /* granted and not spent */
	uint64_t tokens_wanted;
	uint64_t tokens_needed; /* less is of no use: the first in order */
};

struct lease_ask {
	uint64_t seq; /* 1, 2, …; the answer brings it back */
	uint64_t incarnation;
	uint64_t epoch;     /* of Redis' knowledge; 0: not known */
	uint64_t before_us; /* Redis' clock: later it must not be applied */
	uint64_t ttl_us;    /* the host is known to be there for so long */
	uint64_t window_us, slot_us, minute_us, forget_us;
	uint64_t patience_ns; /* no answer within: ask again */
	uint32_t hosts;
	enum lease_loss loss;
	bool is_lost;     /* it lives by on_cluster_loss until the answer */
	bool is_complete; /* the ages are all there is, back one window */
	bool is_leaving;  /* good-bye: holds nothing from now on */
	/* Each limit that has something to say; all of them after a change of
	 * epoch.  The policy's memory, until its next call. */
	const struct lease_row *rows;
	size_t n_rows;
};

enum lease_status {
	LEASE_GRANTED,
	LEASE_PENDING,  /* heard; nothing is granted before all are known */
	LEASE_SYNC,     /* not applied: the epoch or the time was another */
	LEASE_NAMESAKE, /* not applied: a newer run uses this host's name */
};

/* Of one row of the ask, in its order. */
struct lease_grant {
	int64_t starts;  /* more; below 0: give so many back */
	uint64_t tokens; /* more */
	uint64_t starts_others, tokens_others; /* what they have now */
	int64_t tokens_level;                  /* of the account */
	uint64_t next_us; /* from now: when there may be more; 0: not known */
};

struct lease_answer {
	uint64_t seq;
	enum lease_status status;
	uint64_t now_us, epoch;
	uint32_t hosts; /* known and not silent, this one included */
	const struct lease_grant *grants; /* none unless GRANTED */
	size_t n_grants;
};

/* To look at: one limit.  Starts of leases, tokens of leases. */
struct lease_view {
	bool is_shared;
	uint32_t starts_left;  /* may start now without asking */
	uint32_t starts_bound; /* while LOST: in a window; UINT32_MAX: none */
	uint64_t starts_granted, starts_returned; /* totals */
	uint64_t starts_others;                   /* at the last answer */
	int64_t tokens_left, tokens_level;
	uint64_t tokens_granted, tokens_others;
};

#endif
