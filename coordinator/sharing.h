/*
 * One quota over several hosts, in the governor: what the policy wants to ask
 * goes to Redis, what Redis grants to the policy.  Loss and return are told.
 * docs/cluster.md has the rules; none of them is here.
 */
#ifndef COORDINATOR_SHARING_H
#define COORDINATOR_SHARING_H

#include "coordinator/cluster/redis.h"
#include "coordinator/config.h"

#include <stdbool.h>

struct governor;

struct sharing {
	struct redis *redis;     /* NULL: this host is alone */
	struct loop_timer timer; /* a lease ends, a good-bye takes too long */
	uint64_t incarnation;
	uint64_t last_incarnation; /* of the predecessor; 0: not known */
	uint64_t seq; /* of the last ask, and how many limits it was about */
	size_t rows;
	struct lease_grant *grants; /* room for so many */
	bool is_restored;
	bool is_leaving, has_left;
	uint64_t given_up_ns; /* the good-bye is not waited for any longer */
	enum lease_mode mode; /* as it was told last */
	bool is_namesake;
};

/* What a predecessor left of its starts. */
enum sharing_past {
	SHARING_KNOWN, /* its board was believed */
	SHARING_NONE,  /* there was no board */
	SHARING_LOST,  /* it is not to be believed */
};

/* Once the policy has what a predecessor left.  -EINVAL, -ENOMEM: ret_why says
 * why. */
int sharing_start(struct governor *governor, enum sharing_past past,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/*
 * A reload in two steps.  The first makes what may fail and changes nothing:
 * *ret_redis (NULL: what is there stays, or nothing is wanted) is the caller's
 * until the second, which takes it, with the new configuration in force.
 */
int sharing_prepare(struct governor *governor, const struct config *config,
	struct redis **ret_redis, char ret_why[UPSTREAM_MESSAGE_BYTES]);
void sharing_reload(struct governor *governor, struct redis *redis);

/* Asks where that is due; after policy_admit().  When to look again. */
uint64_t sharing_look(struct governor *governor, uint64_t now_ns);

/* Says good-bye; over once it was heard, or after a moment. */
void sharing_leave(struct governor *governor);
bool sharing_has_left(const struct governor *governor);

void sharing_stop(struct governor *governor);

#endif
