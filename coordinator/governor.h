/*
 * The governor: carries each request from the door through the policy to the
 * provider and back.  It wires the parts together and decides nothing that the
 * policy decides.
 *
 *   door --submitted--> intake --> policy --> upstream --> policy --> door
 *
 * arrival.c, attempt.c and ending.c are that way (flow.h); governor.c its life;
 * refusal.c what those are told who may not go it; permits.c and settle.c what
 * a permit needs beside it; explain.c why one waits; shadow.c what would have
 * been; sharing.c what other hosts leave of a shared quota; show.c,
 * show_users.c and show_cluster.c the board; restore.c what a predecessor left
 * on it.  One thread, the loop's.
 */
#ifndef COORDINATOR_GOVERNOR_H
#define COORDINATOR_GOVERNOR_H

#include "coordinator/config.h"
#include "coordinator/explain.h"
#include "coordinator/remark.h"
#include "coordinator/request.h"
#include "coordinator/shadow.h"
#include "coordinator/sharing.h"

/* A permit of a predecessor whose holder has not come back yet. */
struct ghost {
	struct ghost *prev, *next;
	struct governor *governor;
	struct request *request; /* RUNNING in the policy, without a slot */
	struct loop_watch death;
	int pidfd;    /* -1: only its return or its expiry ends it */
	bool is_back; /* its session is, and names what it still holds */
	uint32_t slot, generation;
	uint8_t session_id[16];
};

/* What holds a user, in this look: its first request. */
enum { USER_HOLDS = 2 * SHM_BOARD_LIVE };
struct user_hold {
	const char *name; /* NULL: free */
	uint32_t position;
	enum policy_reason reason;
};

struct trace;
struct tasks;

struct governor {
	struct loop *loop;
	const struct config *config;
	struct policy *policy;
	struct upstream *upstream;
	struct intake *intake;
	struct door *door;
	struct board_writer board;
	struct trace *trace; /* NULL: nothing is recorded */
	struct explainer *explainer;
	struct tasks *tasks; /* durable ones: tasks.h */

	struct remarks said_default, said_usage;
	uint64_t numbers;      /* of requests */
	uint64_t queued_bytes; /* bodies of requests not yet ended */
	bool is_final;         /* going down for good: refuse */
	bool is_draining;      /* going down: start nothing more */
	bool is_leaving;       /* the board stays as it is, for a successor */
	bool is_pump_due;
	uint32_t calls_out;
	uint32_t bodies_out, bodies_in;  /* handed to the intake, and back */
	struct loop_timer next_decision; /* when the policy wants to be asked */
	struct loop_timer publish; /* lanes and users, while they change */
	struct request *spare;     /* by next */
	uint32_t n_spare;

	struct request *permits; /* in the order of expiry */
	struct loop_timer permit_expiry;
	struct ghost *ghosts;
	bool are_ghosts_back; /* some: ghosts_end_returned() is due */
	struct shadows shadows;
	struct sharing sharing;

	uint16_t live_free[SHM_BOARD_LIVE]; /* a stack of free records */
	uint32_t n_live_free;
	const struct request *live_requests[SHM_BOARD_LIVE]; /* NULL: free */
	uint32_t last_lane;                                  /* a cache */
	uint64_t lane_used_ns[SHM_BOARD_LANES];              /* last start */
	uint32_t n_users_shown;
	struct user_hold user_holds[USER_HOLDS];
	bool is_fading; /* lanes change by themselves as time passes */

	/* main.c's: reads the configuration anew; words into ret_text. */
	int (*reload)(struct governor *governor, char *ret_text, size_t bytes);
};

/* ------------------------------------------------------------ life */

/* The board is made already, and the predecessor's state restored into it and
 * the policy (restore.c); door is opened by the caller with
 * governor_handlers(). */
int governor_init(struct governor *governor, struct loop *loop,
	const struct config *config, char ret_why[UPSTREAM_MESSAGE_BYTES]);
/* Before the door is closed: from now on nothing is shown any more. */
void governor_leave(struct governor *governor);
/* Ends what runs.  The door is closed. */
void governor_fini(struct governor *governor);

const struct door_handlers *governor_handlers(void);

/* A new configuration for all that is decided from now on.  On failure nothing
 * changed; 0 or -errno with words. */
int governor_reload(struct governor *governor, const struct config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/* The trace goes to its file anew: somebody moved the old one. */
void governor_reopen(struct governor *governor);

/* After any callback: expires, admits, starts, answers; sets the next timer.
 * Cheap when nothing is due. */
void governor_pump(struct governor *governor);
/* The same in the middle of one: a session that is back may not have named all
 * of its permits yet, so none of them ends here. */
void governor_advance(struct governor *governor);

/* Nothing more is started; is_final: what is queued is refused as draining,
 * otherwise it stays in the clients' memory for a successor. */
void governor_drain(struct governor *governor, bool is_final);
/* Has everything ended that had started? (permits are the workers') */
bool governor_is_quiet(const struct governor *governor);

/* A zeroed request, from the spare ones where there are; NULL: no memory. */
struct request *governor_allocate(struct governor *governor);
void governor_recycle(struct governor *governor, struct request *request);

/* ------------------------------------------------------------ permits.c */

/* The permit goes out: listed, to expire (not later than its expires_ns, where
 * that is set). */
void permit_begin(struct request *request, uint64_t now_ns);
/* It is back, or lost; the request is still the caller's. */
void permit_end(struct request *request);
/* Ends it in the policy and for its client; also one that is overdue, whose
 * holder says now what it used, or died (LOST). */
void permit_finish(struct request *request, enum policy_outcome outcome,
	const struct policy_usage *usage);
/* A permit of a predecessor, found on its board: counts until its session is
 * back, its process dies, or it expires.  reserved: of the tokens that were
 * restored; negative: its lane's were not. */
void ghost_add(struct governor *governor, const struct board_live *record,
	const char *model_id, int64_t reserved, uint64_t now_ns);
/* The session is back, and is about to say what it holds. */
void ghosts_return(struct governor *governor, const uint8_t session_id[16]);
/* The permit that this request, which came back with its slot, stands for: the
 * caller's, with the slot, and no ghost any more.  NULL: it is not known. */
struct request *ghost_take(const struct request *request);
/* The session is back, and the slot that held a permit is in its next request
 * already: the permit of that generation; NULL: it is not known. */
struct request *ghost_of(
	struct governor *governor, const struct door_slot *slot);
/* What a returned session did not name was given back while nobody listened:
 * settled at its reservation.  Once a session's slots have been looked at. */
void ghosts_end_returned(struct governor *governor);
void ghosts_free(struct governor *governor);

/* ------------------------------------------------------------ show.c */

/* Fills the parts of the board that a configuration determines. */
void show_config(struct governor *governor);
/* The host's gauges: running, queued, starts. */
void show_host(struct governor *governor, uint64_t now_ns);
/* All lanes as they are now. */
void show_lanes(struct governor *governor, uint64_t now_ns);
/* All users, and the host's tokens; of one request, those alone that it has
 * spent. */
void show_users(struct governor *governor, uint64_t now_ns);
void show_host_tokens(struct governor *governor, uint64_t now_ns);
void show_budgets(struct request *request, uint64_t now_ns);
/* Lanes and users change: publish them soon. */
void show_soon(struct governor *governor);
/* Once a second: heartbeat, own memory, counters of the parts. */
void show_heartbeat(struct governor *governor, uint64_t now_ns);
/* The live record of a request, in its present stage. */
void show_request(struct request *request, enum board_live_state state);
void show_request_gone(struct request *request);
/* show_cluster.c: the shared quota; now, and as its answers come. */
void show_cluster(struct governor *governor, uint64_t now_ns);
void show_lease(struct board_lease *to, const struct lease_view *view);
/* show_waits.c: what holds all that wait, and their users. */
void show_waits(struct governor *governor, uint64_t now_ns);
enum policy_reason show_user_reason(
	struct governor *governor, const char *user_name);
/* Who holds the permit of a ghost, as its predecessor's record said. */
void show_ghost(struct request *request, const struct board_live *record);
/* Records a start and what it reserves before its first byte; where it stands
 * on the board.  Then moves it; B3. */
uint64_t show_start(struct request *request, uint64_t now_ns);
void show_moved_start(
	struct request *request, uint64_t *position, uint64_t now_ns);
/* A start of a predecessor. */
void show_restored_start(struct governor *governor, const char *lane_name,
	uint64_t started_ns, uint64_t now_ns);

/* ------------------------------------------------------------ restore.c */

/* Takes over the windows, tokens and permits of the board that a predecessor
 * left, before the new one is published.  Returns the number of starts, or
 * -errno where there was none to be believed. */
int restore_from_board(struct governor *governor, uint64_t now_ns);
/* Every window counts as full from then on, and a successor must know. */
void restore_full(struct governor *governor, uint64_t from_ns, uint64_t now_ns);

#endif
