/*
 * The handle behind struct rgov: one per rgov_open(), with at most one session
 * at a time, and the rules of who may touch it.
 *
 * `lock` guards the session pointer, slots, ring and socket; it is never held
 * while sleeping.  `reconnecting` is held by the one thread that talks to a
 * (new) rgovd.  All holders live in this process and die together, so ordinary
 * mutexes do.
 */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include "client-lib/rgov.h"
#include "client-lib/session.h"

#include <pthread.h>
#include <stdatomic.h>

struct rgov {
	struct rgov *next; /* all handles, for the child of a fork */
	char *name, *socket_path, *app;
	uint64_t connect_timeout_ns;
	uint32_t slots;

	pthread_mutex_t lock;
	pthread_mutex_t reconnecting;
	struct session *session; /* NULL: not registered */
	uint64_t fork_number;    /* of the process that made the session */
	int told_fd;             /* what rgov_fd() last said */

	/* Adaptive spinning: see wait.c. */
	_Atomic int spin_credit;

	_Atomic uint64_t sleeps, found_by_slice, found_spinning, bells_rung,
		reconnects;
};

/* Adds and removes a handle for the child of a fork. */
int handles_add(struct rgov *gov);
void handles_remove(struct rgov *gov);

/* Grows with each fork on the way to this process. */
uint64_t fork_number(void);

/*
 * The session, registered anew where there is none or where it belongs to a
 * parent, by until_ns; counted as used, so it stays mapped until
 * handle_leave().
 */
int handle_enter(struct rgov *gov, uint64_t until_ns, struct session **ret);

/* The same for a ticket's session, without ever making one: -ESTALE. */
int handle_enter_ticket(struct rgov *gov, const struct rgov_ticket *ticket,
	struct session **ret);
void handle_leave(struct rgov *gov, struct session *session);

/* Has rgovd gone?  Under the lock, so that the socket is not replaced, and its
 * number another file's, in the middle of the look. */
bool handle_is_cut_off(struct rgov *gov, const struct session *session);

/* Rings once more where the last bell could not be sent.  Under the lock, for
 * the same reason. */
void handle_pay_bell(struct rgov *gov, struct session *session);

/* rgovd is gone: reconnects, until until_ns; -EAGAIN where another thread does.
 * 0: the session is served again; -ECONNRESET: it is lost; -EINTR: a signal
 * came; else not yet: look at the slot and try again. */
int handle_reconnect(
	struct rgov *gov, struct session *session, uint64_t until_ns);

uint64_t clock_now_ns(void);

/* wait.c: sleeps until the answer of the slot's generation, until_ns
 * (-ETIMEDOUT), a signal (-EINTR), the loss of the session (-ECONNRESET) or
 * until another thread has taken the answer (-ESTALE, as after a fork). */
int wait_for_answer(struct rgov *gov, struct session *session, uint32_t slot,
	uint32_t generation, uint64_t until_ns);

#endif
