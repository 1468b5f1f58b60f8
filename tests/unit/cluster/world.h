/*
 * Several hosts and one Redis in virtual time.  The hosts are whole policies,
 * each with a clock of its own; Redis is a real server that runs the real
 * script and is told the time; the network between them delays, loses and
 * repeats nothing but what it is told to.  What really started anywhere is
 * judged against the account's limits.
 */
#ifndef TESTS_UNIT_CLUSTER_WORLD_H
#define TESTS_UNIT_CLUSTER_WORLD_H

#include "coordinator/cluster/wire.h"
#include "coordinator/policy/policy.h"

#include <hiredis/hiredis.h>

enum {
	WORLD_HOSTS = 6,
	WORLD_LANES = 2,
	WORLD_LIMITS = 1 + WORLD_LANES,
	WORLD_MESSAGES = 8,
};

#define WORLD_S UINT64_C(1000000000)
#define WORLD_MS UINT64_C(1000000)

/* A redis-server of our own on a UNIX socket. */
struct redis_rig {
	int pid;
	char dir[64];
	redisContext *context;
	char sha[48];
};

/* False: there is no redis-server here. */
bool redis_start(struct redis_rig *rig);
void redis_stop(struct redis_rig *rig);
/* -1: an error, which is printed where is_loud. */
long long redis_number(struct redis_rig *rig, const char *command);

struct call {
	struct policy_request request;
	enum { CALL_FREE, CALL_QUEUED, CALL_CONNECTING, CALL_RUNNING } state;
	uint64_t event_ns; /* world's clock */
	uint64_t tokens;
	int lane;
};

/* An ask under way, then its answer. */
struct message {
	bool is_used, is_answer, loses_answer;
	uint64_t at_ns;
	struct wire_words words;
	uint64_t seq;
	size_t n_rows;
	struct lease_grant grants[WORLD_LIMITS];
	struct lease_answer answer;
};

struct host {
	bool is_up, is_cut, is_leaving;
	bool knows_cut; /* its transport sees that it is cut off */
	int number;
	struct policy *policy;
	uint64_t incarnation;
	int64_t clock_ns; /* own clock at the world's 0 */
	int drift_ppm;
	struct call *calls;
	size_t n_calls, next_call;
	uint32_t backlog;    /* always so many queued */
	uint64_t arrival_ns; /* next; mean_ns 0: none */
	uint64_t mean_ns;
	uint64_t policy_ns; /* when to ask the policy again; world's clock */
	struct message messages[WORLD_MESSAGES];
	uint64_t starts, asks; /* in all */
	/* Of its starts: to be restored, as the board has them. */
	uint64_t *stamps;
	int *stamp_lanes;
	size_t n_stamps, stamps_room;
};

struct account {
	uint32_t starts_limit;
	uint64_t tokens_limit;
	uint64_t *stamps; /* those of the window */
	size_t first, n, room;
	uint32_t peak;
	double level; /* tokens */
	uint64_t level_ns;
	double least; /* the lowest level */
};

struct world {
	struct redis_rig *redis;
	uint64_t rng, now_ns;
	int64_t redis_us; /* Redis' clock less the world's */
	bool is_redis_down;
	int run; /* names the server's life */
	uint64_t incarnations;
	uint32_t n_hosts;
	struct host hosts[WORLD_HOSTS];
	struct account limits[WORLD_LIMITS];
	struct policy_config config;
	struct policy_model models[WORLD_LANES];
	struct lease_terms terms;
	uint32_t max_delay_us; /* of a message */
	uint32_t loss_permille, late_permille;
	uint64_t service_ns;    /* a call runs so long at most */
	uint64_t ends_every_ns; /* calls end at multiples of it */
	uint64_t connect_ns; /* so long between admission and start, at most */
	uint32_t tokens;     /* a call reserves 1 to so many */
	uint64_t violations, errors, script_calls;
	char why[256];         /* the first violation */
	const char *saved[64]; /* DUMPs of the keys, for world_go_back() */
	size_t saved_lengths[64];
	char saved_keys[64][96];
	size_t n_saved;
};

uint64_t world_random(struct world *world, uint64_t below);
/* config and terms may be set before hosts are. */
void world_init(struct world *world, struct redis_rig *redis, uint64_t seed);
void world_fini(struct world *world);
void world_limit(
	struct world *world, int limit, uint32_t starts, uint64_t tokens);

/* With what the board of its last run says, or without it. */
void host_up(struct world *world, struct host *host, bool has_board);
void host_kill(struct host *host);
/* Cut off from Redis, or no longer. */
void host_cut(struct world *world, struct host *host, bool is_cut);

void world_empty_redis(struct world *world);
void world_save(struct world *world);
void world_go_back(struct world *world); /* to what was saved */

/* Until then. */
void world_run(struct world *world, uint64_t until_ns);

#endif
