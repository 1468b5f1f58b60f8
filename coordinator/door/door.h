/*
 * The worker side of rgovd: the socket, the sessions behind it, their slots in
 * and out.  It knows the channel and nothing of policy, HTTP or credentials:
 * what it takes in goes to the handlers, what they decide comes back as door_*
 * calls.
 *
 * Everything a client wrote is input: copied once, judged, and where it breaks
 * the protocol that session alone is closed, counted and logged.
 */
#ifndef COORDINATOR_DOOR_DOOR_H
#define COORDINATOR_DOOR_DOOR_H

#include "coordinator/loop/loop.h"
#include "shm-layout/shm_client.h"
#include "shm-layout/shm_daemon.h"
#include "shm-layout/shm_wire.h"
#include "shm-layout/shm_word.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct door;
struct door_session;

/* ------------------------------------------------------------ slots */

/*
 * One slot of one session, as rgovd itself remembers it.  The handlers hold a
 * pointer to it from submitted() until door_complete(), or until they are told
 * that it is orphaned, whichever comes first.
 */
struct door_slot {
	struct door_session *session;
	void *request; /* the handlers' own; NULL: nothing is out */
	uint32_t index;
	uint32_t generation; /* the last one accepted */
	uint8_t state;       /* enum shm_state, as last published */
	uint8_t flags;       /* enum shm_request_flags of that generation */
	bool is_question;    /* the handlers' own: what `request` is */
};

/* What a client says of a task, or asks about tasks: struct client_task. */
struct door_task_words {
	uint8_t id[SHM_TASK_ID_BYTES];
	uint64_t timeout_ns;
	uint32_t states, most;
	const char *key, *callback, *text; /* "": none */
};

/* What was found in a slot: all copied and judged, texts zero-terminated; valid
 * during the call. */
struct door_submission {
	enum shm_kind kind;
	enum shm_operation operation;
	enum shm_task_verb verb; /* of SHM_TASK_VERB */
	enum shm_class class;
	uint32_t body_bytes;
	uint64_t deadline_ns;
	uint64_t input_tokens, output_tokens;
	const char *model_id, *headers, *user, *app;
	bool is_idempotent;
	/* What a predecessor of this rgovd had done with it: SHM_DONE means
	 * nothing, it is new; SHM_ISSUED: it was sent and no answer is known;
	 * SHM_GRANTED: the permit is out. */
	enum shm_state recovered;
	/* Who asks. */
	const char *peer; /* "uid 1000": fairness above the user */
	uid_t uid;
	bool reads_tasks;                   /* those of other uids, too */
	const struct door_task_words *task; /* NULL: it speaks of none */
};

struct door_settlement {
	bool is_known; /* false: the client said nothing about it */
	enum shm_settlement how;
	int64_t input_tokens, output_tokens; /* -1: unknown */
};

struct door_handlers {
	/* A request was found.  The handler keeps the slot and sets
	 * slot->request, or completes it at once. */
	void (*submitted)(void *owner, struct door_slot *slot,
		const struct door_submission *submission);
	/* It is no longer wanted; the handler completes it (now or soon). */
	void (*cancelled)(void *owner, struct door_slot *slot);
	/* A permit came back; the handler calls door_release(). */
	void (*settled)(void *owner, struct door_slot *slot,
		const struct door_settlement *settlement);
	/* A permit of a predecessor came back while nobody listened (its slot
	 * may be in its next request already): no handler has it. */
	void (*overtaken)(void *owner, const struct door_slot *slot,
		const struct door_settlement *settlement);
	/* Its client died: the slot is gone when this returns. */
	void (*orphaned)(void *owner, struct door_slot *slot);
	/* A session of a predecessor is back; before its slots are looked at.
	 */
	void (*reattached)(void *owner, const uint8_t session_id[16]);
	/* May this peer connect, and may it govern? */
	bool (*lets_in)(
		void *owner, uid_t uid, const gid_t *gids, size_t n_gids);
	bool (*lets_govern)(void *owner, uid_t uid);
	/* May it read and cancel the tasks of other uids? */
	bool (*lets_read_tasks)(
		void *owner, uid_t uid, const gid_t *gids, size_t n_gids);
	/* An administrative verb; words for people into ret_text. 0 or -EINVAL.
	 */
	int (*verb)(void *owner, enum wire_verb verb, uid_t uid, char *ret_text,
		size_t bytes);
	/* Why the request of that number waits; may_govern: anybody's. */
	void (*explain)(void *owner, uint64_t request, uid_t uid,
		bool may_govern, struct wire_explained *ret_answer);
};

/* ------------------------------------------------------------ life */

struct door_config {
	const char *socket_path; /* its directory exists */
	mode_t socket_mode;
	uint32_t max_sessions;
	uint32_t slots_per_session;
	uint32_t spin_us; /* 0: neither side spins */
	uint32_t cpus;    /* this process may run on */
	int board_fd;     /* read-only; the clients get it */
};

/* Binds and listens; -errno.  The caller holds the lock of this name. */
int door_open(struct loop *loop, const struct door_config *config,
	const struct door_handlers *handlers, void *owner,
	struct door **ret_door);

/* For the sessions to come, and for who may spin. */
void door_set_limits(
	struct door *door, uint32_t slots_per_session, uint32_t spin_us);

/* False: descriptors of clients wait to be closed, and may hang whoever closes
 * them.  A child would have them too, and close them at its end at the latest.
 */
bool door_may_fork(const struct door *door);

/* No more new sessions and no more new requests: they stay in the clients'
 * memory for a successor.  Answers still go out. */
void door_stop_accepting(struct door *door);

/* Closes every session without a word in it (a successor will find them as
 * they are), and removes the socket.  What was out is told as orphaned(). */
void door_close(struct door *door);

/* ------------------------------------------------------------ work */

/*
 * Looks into the rings of the sessions that were active lately and hands out
 * what is there.  Returns the number of entries found; no system call.
 */
unsigned int door_poll(struct door *door);

/*
 * Nothing was found: is it worth to look again instead of sleeping?  Only while
 * requests lately came within the spin time, and CPUs are to spare.
 */
bool door_should_spin(struct door *door, uint64_t now_ns);

/*
 * From here on the clients must ring.  False: something came in between, poll
 * again; true: rgovd may sleep.
 */
bool door_prepare_sleep(struct door *door, uint64_t now_ns);

/* ------------------------------------------------------------ answers */

/* Copies the body into `to`, which has body_bytes.  0; -EIO: the client's file
 * is not as long as it said, or cannot be read.  Any thread may call. */
int door_read_body(const struct door_slot *slot, void *to, size_t body_bytes);

/* A file descriptor and an offset for the same, for another thread: a duplicate
 * that is the caller's to close; -errno. */
int door_dup_body(const struct door_slot *slot, off_t *ret_off);

/* {g, ACCEPTED}: queued. */
void door_mark_accepted(struct door_slot *slot);
/* {g, ISSUED}: before the first byte goes upstream. */
void door_mark_issued(struct door_slot *slot);

/* Where a queued request stands, for its client to look at; as the fields of
 * struct daemon_place. */
struct door_place {
	uint64_t request;
	uint32_t reason, position;
	uint64_t as_of_ns, until_ns, predicted_ns;
	bool is_first; /* what the reply says of its beginning, too */
};
void door_show_place(struct door_slot *slot, const struct door_place *place);
/* What a predecessor said of it is no longer so. */
void door_forget_place(struct door_slot *slot);

/* The end of a request. */
struct door_reply {
	enum shm_result result;
	int http_status;
	uint32_t attempts;
	uint64_t wait_ns, execution_ns, retry_after_ns;
	int64_t input_tokens, output_tokens, cache_read_tokens,
		cache_write_tokens; /* -1: unknown */
	bool was_issued;
	const char *code, *message, *request_id; /* NULL: none */
	const void *body;
	size_t body_bytes;         /* above the region: reply too large */
	const uint64_t *waited_ns; /* SHM_REASONS_MAX of them; NULL: none */
	const char *model; /* that answered; NULL: the one that was asked */
	const struct daemon_task *task; /* NULL: it tells of none */
};

/* {g, GRANTED}: the permit is out; the slot stays the handlers' until
 * door_release(). */
void door_grant(struct door_slot *slot, const struct door_reply *reply);

/* {g, DONE}; slot->request is NULL afterwards. */
void door_complete(struct door_slot *slot, const struct door_reply *reply);

/* A permit is over: {g, DONE}; slot->request is NULL afterwards. */
void door_release(struct door_slot *slot);

/* ------------------------------------------------------------ to look at */

struct door_stats {
	uint32_t sessions;
	uint64_t opened, reattached, refused, died, closed, stale_entries;
};
void door_read_stats(const struct door *door, struct door_stats *ret_stats);

/* Who is at the other end, for the board. */
struct door_client {
	pid_t pid; /* in rgovd's PID namespace; 0: another one */
	uint64_t pid_started;
	uid_t uid;
	uint8_t session_id[16];
};
void door_identify(
	const struct door_session *session, struct door_client *ret_client);

/* "uid 1000" */
enum { DOOR_PEER_BYTES = 16 };
void door_peer_name(uid_t uid, char ret_name[DOOR_PEER_BYTES]);

/* Field 22 of /proc/PID/stat: with the pid it names a process for ever; 0:
 * there is no such process, or it cannot be seen. */
uint64_t door_start_time_of(pid_t pid);

#endif
