/*
 * The board: the POSIX shared memory object /rgov.NAME.  Only rgovd writes it;
 * tools and clients map it read-only and can be wrong, never in the way.
 * It outlives rgovd: the successor takes the request windows and the list of
 * permits from it, then replaces it by a new one under the same name.
 *
 *     +--------+----------+------+----------+----------+----------+--------+
 *     | header | counters | host | lanes    | users    | live     | events |
 *     |        |          |      | 64       | 256      | 2048     | 256    |
 *     +--------+----------+------+----------+----------+----------+--------+
 *     | starts: 131072 x 16, an append ring                                |
 *     +--------------------------------------------------------------------+
 *
 * Commit points:
 *   B1  header.magic    stored last, before the board gets its name
 *   B2  record.sequence a sequence lock: odd while rgovd writes the record
 *   B3  start.started_ns, header.starts: stored before the start's first byte
 *
 * Never on the board: bodies, prompts, provider messages, credentials.
 */
#ifndef SHM_BOARD_H
#define SHM_BOARD_H

#include "shm-layout/shm_atomic.h"
#include "shm-layout/shm_limits.h"
#include "shm-layout/shm_reasons.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHM_BOARD_MAGIC 0x31646f62766f6772ull /* "rgovbod1" */

/* Counters are stored one by one, relaxed: each is exact, a set of them may be
 * a few nanoseconds apart. */
struct board_counters {
#define COUNTER(name, unit, help) _Atomic uint64_t name;
#include "shm-layout/board_counters.def"
#undef COUNTER
};

/* Log-linear: bucket 2k and 2k+1 cover [2^k, 1.5*2^k) and [1.5*2^k, 2^(k+1))
 * times 2^10 ns; the first also takes what is less, the last what is more. */
struct board_histogram {
	_Atomic uint64_t buckets[SHM_BOARD_BUCKETS];
};

struct board_header {
	_Atomic uint64_t magic; /* B1: stored last */
	uint32_t layout_version;
	uint32_t zero0;
	uint64_t layout_hash;
	uint64_t total_bytes;
	uint8_t boot_id[16]; /* stamps are CLOCK_MONOTONIC of this boot */
	uint32_t owner_uid;
	int32_t rgovd_pid;
	uint64_t started_ns;      /* CLOCK_MONOTONIC */
	uint64_t started_unix_ns; /* CLOCK_REALTIME, for people only */
	char name[SHM_NAME_BYTES];
	char version[32];
	char engine[16];
	char socket_path[128];
	char endpoint[128];
	char preset[32];
	uint64_t quota_window_ns; /* 60 s, less against a simulator */
	uint64_t guard_ns;
	uint64_t full_until_ns; /* what was before is not known: every window
				 * counts as full until then; 0: it is */
	uint64_t zero1[3];

	/* Change while it runs. */
	_Alignas(SHM_LINE) _Atomic uint64_t
		heartbeat_ns;    /* at least each second */
	_Atomic uint64_t starts; /* starts ever; B3 */
	_Atomic uint32_t config_generation;
	_Atomic uint32_t draining; /* 1: no new requests */
	_Atomic uint32_t stopped;  /* 1: it went down in good order */
	_Atomic uint32_t max_requests_per_user;
	_Atomic uint64_t events;      /* events ever */
	_Atomic uint64_t live_hidden; /* now: the table is full */
	_Atomic uint32_t credentials; /* 1: there are some */
	_Atomic uint32_t shadow;      /* 1: nothing is held back */
	uint64_t zero3[1];
};
static_assert(sizeof(struct board_header) % SHM_LINE == 0, "header is ABI");

/* now / peak / limit; in each limit 0 means none */
struct board_host {
	_Alignas(SHM_LINE) _Atomic uint32_t running, running_peak,
		running_limit;
	_Atomic uint32_t queued, queued_peak, queued_limit;
	_Atomic uint32_t starts, starts_peak, starts_limit; /* in a window */
	_Atomic uint32_t users; /* with something queued or running */
	_Atomic uint32_t sessions, sessions_limit;
	/* Durable ones that have not ended; they count in `queued` and not in
	 * its limit. */
	_Atomic uint32_t tasks, tasks_limit;
	_Atomic uint32_t store_fails; /* 1: the disk does not take them */
	_Atomic uint64_t store_bytes; /* on disk; 0: there is none yet */
	_Atomic uint64_t oldest_enqueued_ns; /* 0: the queue is empty */
	_Atomic uint64_t resident_bytes;
	struct board_histogram wait, execution;
};

/* The host's tokens over all lanes: for a successor too. */
struct board_tokens {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2; 0: never used */
	uint32_t zero0;
	int64_t available; /* may be negative; 0 without a limit */
	uint64_t limit, reserved;
	int64_t used_today;
	uint64_t day_limit;
	uint64_t day;      /* the number of that day */
	uint64_t as_of_ns; /* when all this was so */
};
static_assert(sizeof(struct board_tokens) == SHM_LINE, "tokens are ABI");

/* What a lease of a shared quota leaves of one limit of requests and one of
 * tokens; others: the other hosts, at the last answer. */
struct board_lease {
	uint32_t is_shared;    /* 0: the rest says nothing */
	uint32_t starts_left;  /* may be made without asking */
	uint32_t starts_bound; /* while APART: in a window; UINT32_MAX: none */
	uint32_t starts_others;
	int64_t tokens_left, tokens_level; /* the latter of the account */
	uint64_t tokens_others;
};

/* One quota over several hosts.  CLUSTER(mode, what people are shown) */
#define BOARD_CLUSTER_MODES(CLUSTER)                                           \
	CLUSTER(ALONE, "alone")     /* the limits are this host's own */       \
	CLUSTER(PENDING, "pending") /* Redis does not yet know all hosts */    \
	CLUSTER(LEASED, "leased")                                              \
	CLUSTER(APART, "apart") /* no answer: on_cluster_loss holds */

enum board_cluster_mode {
#define CLUSTER(mode, words) BOARD_CLUSTER_##mode,
	BOARD_CLUSTER_MODES(CLUSTER)
#undef CLUSTER
};

struct board_cluster {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2; 0: never used */
	uint32_t mode;                    /* enum board_cluster_mode */
	uint32_t hosts, hosts_configured; /* that Redis knows; cluster_hosts */
	uint32_t is_namesake; /* another rgovd uses this host's name */
	uint32_t is_connected;
	uint64_t since_ns;    /* in this mode */
	uint64_t until_ns;    /* LEASED: it ends, unless renewed */
	uint64_t grows_ns;    /* APART: the whole share from then on; 0: none */
	uint64_t answered_ns; /* 0: no answer yet */
	uint64_t took_ns;     /* the last answer */
	uint64_t incarnation; /* a successor takes a higher one */
	struct board_lease lease; /* of the host's own limits */
	char on_loss[8];          /* "share", "stop", "ignore" */
	char trouble[16];         /* with Redis; "none" */
	char trouble_text[96], reason[SHM_CLUSTER_TEXT_BYTES];
	char redis[SHM_CLUSTER_TEXT_BYTES]; /* without its password */
	char account[72], host[136];
	uint64_t as_of_ns;
};
static_assert(sizeof(struct board_cluster) % SHM_LINE == 0, "cluster is ABI");

struct board_lane {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2; 0: never used */
	uint32_t running, running_peak, running_limit;
	uint32_t queued, backing_off;
	uint32_t starts, starts_peak, starts_limit;
	uint32_t retry_budget_left;
	uint32_t gate_open;
	uint32_t held_by; /* enum shm_reason, while something is queued */
	int64_t tokens_available;
	uint64_t tokens_limit, tokens_reserved;
	int64_t tokens_used_today;
	uint64_t tokens_day_limit;
	uint64_t as_of_ns; /* when all this was so */
	uint64_t admitted, done, throttled, lost, retries;
	uint64_t gate_opens_ns;
	char name[SHM_MODEL_BYTES + SHM_LINE]; /* the model id, whole */
	char pattern[64];
	uint64_t held_since_ns; /* by that */
	uint64_t tokens_day;    /* the number of the day of tokens_used_today */
	uint64_t absurd_usage;  /* answers that said what cannot be */
	uint64_t gate_closings, gate_probes;
	struct board_lease lease;
	uint64_t zero1[1];
};
static_assert(sizeof(struct board_lane) == 38 * SHM_LINE, "lane is ABI");

struct board_user {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2; 0: never used */
	uint32_t running, running_limit, queued, queued_limit;
	uint32_t held_by; /* enum shm_reason, while something is queued */
	double service, weight;
	uint64_t admitted, done, refused;
	uint64_t last_ns;
	char name[SHM_USER_BYTES];
	char app[SHM_APP_BYTES];
	/* Its budget over all lanes, as a lane's; in each limit 0 means none.
	 */
	uint32_t starts, starts_limit;
	int64_t tokens_available;
	uint64_t tokens_limit;
	int64_t tokens_used_today;
	uint64_t tokens_day_limit, tokens_day;
	uint64_t as_of_ns; /* when all this was so; 0: no budget */
};
static_assert(sizeof(struct board_user) == 4 * SHM_LINE, "user is ABI");

/* What a live request is doing.  LIVE(state, what people are shown) */
#define BOARD_LIVE_STATES(LIVE)                                                \
	LIVE(FREE, "free")                                                     \
	LIVE(QUEUED, "queued")                                                 \
	LIVE(RUNNING, "running")                                               \
	LIVE(BACKOFF, "backing off")                                           \
	LIVE(PERMIT, "permit out")                                             \
	LIVE(OVERDUE, "permit overdue")

enum board_live_state {
#define LIVE(state, words) BOARD_LIVE_##state,
	BOARD_LIVE_STATES(LIVE)
#undef LIVE
};

/*
 * One live request.  A permit's record is published before the permit is
 * granted: after a restart of rgovd it counts until its holder comes back, dies
 * (pid and its start time name the process), or expires_ns passes.  An overdue
 * one counts no longer, but its holder may still settle it.
 */
struct board_live {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2 */
	uint32_t state; /* enum board_live_state */
	int32_t pid;    /* of the client, as rgovd sees it */
	uint32_t slot;
	uint64_t pid_started; /* field 22 of /proc/PID/stat; 0: unknown */
	uint64_t request;     /* number since rgovd's start */
	uint64_t enqueued_ns;
	uint64_t started_ns; /* the last start; 0: none */
	uint64_t deadline_ns;
	uint64_t expires_ns; /* of a permit */
	uint64_t tokens;     /* reserved: input estimate + output maximum */
	uint32_t generation;
	uint32_t attempts;
	uint8_t session_id[16];
	uint8_t class, kind, operation, zero0;
	uint32_t uid; /* of the client */
	char user[SHM_USER_BYTES];
	char app[SHM_APP_BYTES];
	char model[128];   /* a longer one is cut */
	uint64_t reserved; /* by a permit, of its lane's tokens_available; what
			    * an overdue one was charged */
	uint32_t lane;     /* of a permit: which one of lanes[] */

	/* Of a queued one, as it was at as_of_ns (0: not known yet); renewed
	 * with the lanes, at least once a second for the first in the table. */
	uint32_t held_by;  /* enum shm_reason */
	uint32_t position; /* in its lane */
	uint32_t zero1;
	uint64_t as_of_ns;
	uint64_t held_ns;       /* for that reason, all in all */
	uint64_t held_until_ns; /* time alone may end that; UINT64_MAX: not */
	uint64_t starts_ns;     /* the predicted start */
	uint64_t zero2[4];
};
static_assert(sizeof(struct board_live) == 7 * SHM_LINE, "live is ABI");

/* The last events, the newest at (events - 1) % SHM_BOARD_EVENTS. */
struct board_event {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* B2 */
	uint32_t zero0;
	uint64_t number; /* events before it */
	uint64_t at_ns;
	uint64_t at_unix_ns;
	char kind[16]; /* "throttle", "session", "reload", … */
	char text[144];
};
static_assert(sizeof(struct board_event) == 3 * SHM_LINE, "event is ABI");

/*
 * One start, at position (n % SHM_BOARD_STARTS).  The lane is named by its
 * index in lanes[].  requests_per_minute is bounded by the configuration to
 * 60000, so that the ring always covers a whole window and its guard.
 */
struct board_start {
	_Atomic uint64_t started_ns; /* B3; 0: never used */
	uint32_t lane;
	uint32_t zero0;
};
static_assert(sizeof(struct board_start) == 16, "start is ABI");

struct board {
	struct board_header header;
	_Alignas(SHM_LINE) struct board_counters counters;
	struct board_host host;
	struct board_tokens host_tokens;
	struct board_cluster cluster;
	struct board_lane lanes[SHM_BOARD_LANES];
	struct board_user users[SHM_BOARD_USERS];
	struct board_live live[SHM_BOARD_LIVE];
	struct board_event recent[SHM_BOARD_EVENTS];
	_Alignas(SHM_PAGE) struct board_start start_ring[SHM_BOARD_STARTS];
};

/* ------------------------------------------------------------ readers */

/*
 * Maps the board of the governor `name` read-only.  0, or -ENOENT: no such
 * board; -EACCES: not for this user; -EPROTO: another layout version, or not a
 * board at all; -EAGAIN: it is being made.
 */
int board_open(const char *name, const struct board **ret_board);
/* The same for a descriptor, which stays the caller's. */
int board_map(int fd, const struct board **ret_board);
void board_close(const struct board *board);

/*
 * Copies one record that a sequence lock guards; `record` points at its
 * sequence.  False after a bounded number of tries: rgovd writes it all the
 * time, or died inside; *ret_copy then says nothing.
 */
bool board_read_record(const void *record, size_t bytes, void *ret_copy);

/* The value below which `share` (0 to 1) of the samples lie, in seconds; 0 when
 * there are none. */
double board_quantile_s(const struct board_histogram *histogram, double share);

const char *board_live_text(enum board_live_state state);
const char *board_cluster_text(enum board_cluster_mode mode);

#endif
