/*
 * What the files of door/ share: the door itself and the steps from the socket
 * to a served session.  Nobody outside door/ includes this.
 */
#ifndef COORDINATOR_DOOR_INSIDE_H
#define COORDINATOR_DOOR_INSIDE_H

#include "coordinator/door/closer.h"
#include "coordinator/door/session.h"
#include "shm-layout/wire_io.h"

enum {
	ACTIVE_MAX = 16, /* sessions that are polled while rgovd is awake */
	/* Ring entries, and bytes of bodies to be read and hashed, taken from
	 * one session before the others have a turn: about 0.5 ms of work. */
	ENTRIES_PER_TURN = 64,
	BYTES_PER_TURN = 512 * 1024,
};

struct door {
	struct loop *loop;
	struct door_config config;
	struct door_handlers handlers;
	void *owner;
	int listener;
	struct loop_watch listener_watch;
	struct loop_timer listener_pause;
	bool is_stopped;
	struct door_session *sessions;
	struct door_session *active[ACTIVE_MAX];
	int n_active;
	uint32_t n_rung; /* sessions that wait for a turn: is_rung */
	uint64_t pass;
	size_t turn_bytes;         /* of bodies, in this turn of a session */
	struct door_session *over; /* expelled in this pass, by `next` */
	/* Spinning: active.c. */
	int spin_credit;
	uint64_t slept_ns, quiet_ns;
	struct door_stats stats;
	/* Of the log: complain(). */
	uint64_t said_second, unsaid;
	uint32_t said_now;
	struct closer *files;     /* closes memory: it takes time at most */
	struct closer *strangers; /* closes what may hang */
	/* The texts of the submission that is being handed out. */
	char model_id[SHM_MODEL_BYTES + 1];
	char headers[SHM_HEADERS_BYTES + 1];
	char user[SHM_USER_BYTES + 1];
	struct client_task task; /* one copy: only the copy is judged */
	char key[SHM_TASK_KEY_BYTES + 1];
	char callback[SHM_TASK_CALLBACK_BYTES + 1];
	char text[SHM_TASK_TEXT_BYTES + 1];
};

/* A message as it came: hear.c. */
struct incoming {
	union {
		struct wire_head head;
		struct wire_hello hello;
		struct wire_mapped mapped;
		struct wire_reattach reattach;
		struct wire_admin admin;
		/* Longer than any: a message that fills it is too long. */
		char space[1024];
	} message;
	size_t bytes;
	int fds[WIRE_FDS_MOST];
	size_t n_fds;
};

/* Bytes received, 0: the other end is gone, -errno.  There is room for all
 * descriptors that can come: what the kernel drops it closes at once. */
ssize_t hear_message(
	const struct door_session *session, struct incoming *ret_incoming);
/* Closes what came along, off the loop where it may hang. */
void hear_dismiss(struct door *door, struct incoming *incoming);
/* Nothing more comes in, and what has come is dropped. */
void hear_last(struct door_session *session);

/* leave.c: it is served no more; its slots are still there. */
void leave_stop(struct door_session *session);
/* leave.c: after leave_stop(): what is out is orphaned, and all is closed. */
void leave_free(struct door_session *session);
/* leave.c: tells its client why; it is not over by that. */
void leave_say(const struct door_session *session, enum wire_reason reason,
	const char *why);
/* leave.c: says why, counts and logs it, and ends and frees the session. */
void leave_refuse(
	struct door_session *session, enum wire_reason reason, const char *why);
/* Ends a session for what its client did; counts and logs it.  It is served no
 * more, and freed by door_reap(), so that the caller may finish with it. */
void door_expel(struct door_session *session, const char *why);
/* The same for a lack of memory of ours: its client may bring it back. */
void door_drop(struct door_session *session, const char *why);
void door_reap(struct door *door);
/* Ends and frees a session whose client is gone. */
void door_bury(struct door_session *session, const char *how);

/* peer.c: notes who connected; may it? */
bool peer_is_allowed(struct door_session *session);
/* peer.c: tells of its death; -1: the kernel gives none. */
int peer_open_pidfd(int socket, pid_t pid);

/* ring.c: hands out what the ring names, at most a turn's worth.  Returns the
 * entries taken, or -1: the session was expelled and is gone. */
int ring_take(struct door_session *session);
/* ring.c: the tail is where a successor begins, then every slot is looked at.
 * -EPROTO, -ENOMEM: expelled, with words. */
int ring_recover(struct door_session *session, char ret_why[SHM_MESSAGE_BYTES]);
/* Are there entries? */
bool ring_is_empty(const struct door_session *session);

/* active.c: the sessions that need not ring. */
void active_add(struct door_session *session);
void active_remove(struct door_session *session);
/* A bell came: did the sleep pay? */
void active_was_rung(struct door *door, uint64_t now_ns);

/* answer.c: DONE for a slot that no handler has. */
void answer_at_once(
	struct door_slot *slot, enum shm_result result, const char *message);
/* answer.c: whoever sleeps on it looks again. */
void answer_wake(const struct door_slot *slot);
/* answer.c: the pages of a large reply that was read. */
void answer_punch(const struct door_slot *slot);

#endif
