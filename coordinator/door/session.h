/*
 * One client process as rgovd sees it: its socket and pidfd, the four files,
 * and what rgovd itself remembers of every slot.  What it wrote into shared
 * memory it never reads back, except in session_recover().
 */
#ifndef COORDINATOR_DOOR_SESSION_H
#define COORDINATOR_DOOR_SESSION_H

#include "coordinator/door/door.h"
#include "shm-layout/shm_layout.h"

enum session_stage {
	SESSION_CONNECTED, /* nothing said yet */
	SESSION_WELCOMED,  /* the descriptors went out */
	SESSION_SERVED,
};

struct door_session {
	struct door *door;
	struct door_session *prev, *next; /* door's list */
	enum session_stage stage;
	int socket, pidfd; /* pidfd -1: the kernel gave none */
	struct loop_watch socket_watch, pid_watch;
	struct loop_timer handshake;
	pid_t pid; /* in rgovd's PID namespace; 0: another one */
	uint64_t pid_started;
	uid_t uid;
	char app[SHM_APP_BYTES];
	char peer[DOOR_PEER_BYTES]; /* its uid in words */
	bool reads_tasks;           /* of other uids, too */
	uint8_t id[16];

	uint32_t n_slots;
	int client_control_fd; /* until it is sealed, then -1 */
	int client_bodies_fd, daemon_control_fd, daemon_bodies_fd;
	struct client_shape client_shape;
	struct daemon_shape daemon_shape;
	struct client_header *client; /* mapped read-only */
	struct daemon_header *daemon;
	uint64_t head; /* ring entries consumed */
	struct door_slot *slots;
	uint8_t *pages_ready; /* of the daemon control file */
	int active_place;     /* in door's active list; -1: not polled */
	bool is_rung;         /* it rang, and no place was free */
	uint64_t last_use;    /* pass number, for the active list */
	bool is_over;         /* expelled; freed at the end of the pass */
};

/* The files of a new session, made and mapped.  -errno; session_fini() cleans.
 */
int session_make_files(struct door_session *session, uint32_t slots);

/* Takes over the files of a session of a predecessor, after judging them.
 * `fds` stay the caller's to close.  -errno with words in ret_why. */
int session_adopt_files(struct door_session *session, uint32_t slots,
	const uint8_t id[16], const int fds[WIRE_REATTACH_FDS],
	char ret_why[SHM_MESSAGE_BYTES]);

/* Is it for want of memory or descriptors, and may work the next time? */
bool session_is_shortage(int error);

/* The client has mapped its control file: nobody maps it for writing again. */
int session_seal(struct door_session *session);

/* Descriptors for the client, of the client's rights only; the caller closes
 * them.  -errno. */
int session_client_fds(
	const struct door_session *session, int ret_fds[WIRE_REATTACH_FDS]);

/* The page of the slot's answers is there, so that a store cannot fail. */
int session_prepare_slot(struct door_session *session, uint32_t slot);
/* Is it?  If not, the slot's word is 0, and not to be looked at. */
bool session_slot_is_ready(const struct door_session *session, uint32_t slot);

/* Unmaps and closes everything; fine for a half-made session.  The pages of the
 * files are given back off the loop. */
void session_fini(struct door_session *session);

static inline const struct client_slot *session_client_slot(
	const struct door_session *session, uint32_t slot)
{
	return client_slots(session->client, &session->client_shape) + slot;
}

static inline const struct client_text *session_client_text(
	const struct door_session *session, uint32_t slot)
{
	return client_texts(session->client, &session->client_shape) + slot;
}

static inline const struct client_task *session_client_task(
	const struct door_session *session, uint32_t slot)
{
	return client_tasks(session->client, &session->client_shape) + slot;
}

static inline struct daemon_slot *session_daemon_slot(
	const struct door_session *session, uint32_t slot)
{
	return daemon_slots(session->daemon, &session->daemon_shape) + slot;
}

#endif
