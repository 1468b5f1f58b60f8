/*
 * One registration of this process with rgovd: the socket, the mappings, the
 * private state of the slots.  It survives a restart of rgovd (the memory lives
 * in these descriptors) and is never used by another process than its maker.
 *
 * Not the public interface: rgov.h.  Waiting is in wait.c.
 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_word.h"
#include "shm-layout/wire_io.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct board;

enum slot_use {
	SLOT_FREE,
	SLOT_FILLING,   /* a thread writes its body and descriptor */
	SLOT_OUT,       /* submitted; somebody will wait for it */
	SLOT_HELD,      /* a permit that was granted to the caller */
	SLOT_ABANDONED, /* submitted; nobody will wait for it */
};

/* What only this process knows of a slot. */
struct slot {
	enum slot_use use;
	uint32_t generation; /* of the last submit */
	bool is_permit;
	bool cancelled;
	bool is_question; /* about tasks */
	bool text_ready;  /* its page of model and headers is allocated */
	bool task_ready;  /* and the one of what is said of tasks */
	uint64_t body_bytes;
};

struct session {
	uint64_t number; /* unique in this process, never 0 */
	uint32_t users;  /* waiters and others that look at the mappings */
	/* Written under the handle's lock, looked at without it (relaxed: who
	 * sees the old one looks again a slice later). */
	_Atomic bool lost;  /* rgovd will not have it back */
	_Atomic int socket; /* -1: rgovd is away */
	int fds[WIRE_REATTACH_FDS];
	uint8_t id[16];
	struct client_shape client_shape;
	struct daemon_shape daemon_shape;
	struct client_header *client;
	struct daemon_header *daemon; /* mapped read-only */
	struct client_slot *client_slots;
	struct client_text *texts;
	struct client_task *tasks;
	struct daemon_slot *daemon_slots; /* mapped read-only */
	_Atomic uint64_t *ring;
	const struct board *board; /* NULL: could not be mapped */
	uint64_t looked_ns;        /* when, at the socket */
	uint64_t tail;
	struct slot *slots;
	uint32_t *free_slots; /* a stack: the lowest are used first and most */
	uint32_t n_free;
	uint32_t n_abandoned;
	/* A bell that the kernel had no memory for; relaxed: the next look, or
	 * the next bell, pays it. */
	_Atomic bool owes_bell;
	uint64_t most_file_bytes; /* of this process, RLIMIT_FSIZE */
};

/* Where and as what to register. */
struct session_target {
	const char *socket_path;
	const char *app;
	uint32_t slots;
};

/*
 * Connects and registers, by until_ns (CLOCK_MONOTONIC) at the latest; while
 * rgovd is not there it tries again and again.  0; -ECONNREFUSED, -EPROTO,
 * -EACCES, -ENOMEM as rgov_call(), with the words in rgov_why().
 */
int session_open(const struct session_target *target, uint64_t until_ns,
	struct session **ret_session);

/*
 * rgovd went away: connects to its successor and passes the descriptors back.
 * Returns the new socket and board; the caller installs them with
 * session_install().  Errors as session_open(); -ESTALE: the successor refuses
 * this session for good.
 */
struct session_link {
	int socket;
	const struct board *board;
};
int session_reconnect(const struct session *session,
	const struct session_target *target, uint64_t until_ns,
	struct session_link *ret_link);
void session_install(struct session *session, const struct session_link *link);

/* An administrative verb over a connection of its own.  rgovd's words go to
 * ret_text; -EINVAL: it could not do it. */
int session_ask(const char *socket_path, enum wire_verb verb, uint64_t until_ns,
	char *ret_text, size_t bytes);

/* Why the request of that number waits, the same way. */
int session_explain(const char *socket_path, uint64_t request,
	uint64_t until_ns, struct wire_explained *ret_answer);

/* Has the other end of the socket gone?  Never blocks. */
bool session_is_cut_off(const struct session *session);

/* Wakes rgovd; under the handle's lock.  Failure needs no care: the socket is
 * full (it is rung already), or cut off (the reconnecting thread rings again),
 * or the bell is owed. */
void session_ring(struct session *session);

void session_free(struct session *session);

/* In the child of a fork: closes what was inherited; the mappings were not. */
void session_forget(struct session *session);

/* ------------------------------------------------------------ slots */

/* A free slot, its use set to SLOT_FILLING; -EAGAIN: none.  Under the lock. */
int session_take_slot(struct session *session, uint32_t *ret_slot);
void session_release_slot(struct session *session, uint32_t slot);

/* Commits {generation, command} of the slot and tells rgovd in order (C1, C2).
 * Under the lock.  True: rgovd sleeps and must be rung. */
bool session_command(
	struct session *session, uint32_t slot, enum shm_command command);

/* What is left to do with a slot whose end has come: the pages of a large body
 * and of a large reply go back, and it is free.  Under the lock.  True: rgovd
 * must be rung. */
bool session_finish_slot(struct session *session, uint32_t slot);

/* The pages of a body of that size go back. */
void session_punch_body(
	const struct session *session, uint32_t slot, uint64_t bytes);

static inline bool session_has_answer(
	const struct session *session, uint32_t slot, uint32_t generation)
{
	/* A3: acquire pairs with D3, so that the reply is whole. */
	return shm_word_is_answer(
		load_acquire(session->daemon_slots[slot].word), generation);
}

/* Is rgovd at a later generation?  Then this one's answer is gone: another
 * thread took it or gave it up. */
static inline bool session_is_past(
	const struct session *session, uint32_t slot, uint32_t generation)
{
	/* Relaxed: nothing but the word is looked at. */
	uint32_t ahead = shm_generations_between(generation,
		shm_generation(load_relaxed(session->daemon_slots[slot].word)));

	return ahead != 0 && ahead <= SHM_GENERATION_MASK / 2;
}

#endif
