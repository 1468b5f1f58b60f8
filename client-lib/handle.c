/* Handles, sessions and forks. */
#include "client-lib/handle.h"

#include "client-lib/words.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

uint64_t clock_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------ forks */

/*
 * A page that the kernel empties in every child, however it was made: fork(),
 * clone() and the handlers of pthread_atfork() need not agree.  fork_count
 * is an ordinary copy; where the two differ, a fork lies between.
 */
static _Atomic uint64_t *fork_word;
static _Atomic uint64_t fork_count = 1;

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct rgov *handles;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void renew_locks(struct rgov *gov)
{
	(void)pthread_mutex_init(&gov->lock, NULL);
	(void)pthread_mutex_init(&gov->reconnecting, NULL);
}

/* Before a fork: the list must be whole in the child.  The handles' own locks
 * are not taken (a holder may be slow): their state is thrown away there. */
static void before_fork(void)
{
	(void)pthread_mutex_lock(&handles_lock);
}

static void after_fork_in_parent(void)
{
	(void)pthread_mutex_unlock(&handles_lock);
}

/* The inherited socket is closed at once, or the parent's death would not be
 * seen by rgovd while this child lives. */
static void after_fork_in_child(void)
{
	(void)pthread_mutex_init(&handles_lock, NULL);
	(void)fork_number();
	for (struct rgov *gov = handles; gov != NULL; gov = gov->next) {
		renew_locks(gov);
		if (gov->session != NULL)
			session_forget(gov->session);
		gov->session = NULL;
		gov->told_fd = -1;
	}
}

static void prepare_for_forks(void)
{
	void *page = mmap(NULL, SHM_PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page != MAP_FAILED &&
		madvise(page, SHM_PAGE, MADV_WIPEONFORK) == 0) {
		fork_word = page;
		store_relaxed(*fork_word, load_relaxed(fork_count));
	}
	(void)pthread_atfork(
		before_fork, after_fork_in_parent, after_fork_in_child);
}

uint64_t fork_number(void)
{
	/* Relaxed: a fork is ordered by itself, and in one process both words
	 * only ever agree. */
	uint64_t count = load_relaxed(fork_count);

	if (fork_word != NULL && load_relaxed(*fork_word) != count) {
		/* Threads of a new child may come here together: they all
		 * store the same number. */
		count = count ^ (uint64_t)getpid() << 32;
		count += count == 0;
		store_relaxed(*fork_word, count);
		store_relaxed(fork_count, count);
	}
	return count;
}

int handles_add(struct rgov *gov)
{
	(void)pthread_once(&once, prepare_for_forks);
	renew_locks(gov);
	gov->fork_number = fork_number();
	(void)pthread_mutex_lock(&handles_lock);
	gov->next = handles;
	handles = gov;
	(void)pthread_mutex_unlock(&handles_lock);
	return 0;
}

void handles_remove(struct rgov *gov)
{
	struct rgov **link;

	(void)pthread_mutex_lock(&handles_lock);
	for (link = &handles; *link != NULL; link = &(*link)->next) {
		if (*link == gov) {
			*link = gov->next;
			break;
		}
	}
	(void)pthread_mutex_unlock(&handles_lock);
	(void)pthread_mutex_destroy(&gov->lock);
	(void)pthread_mutex_destroy(&gov->reconnecting);
}

/* ------------------------------------------------------------ sessions */

static uint64_t next_session_number(void)
{
	static _Atomic uint64_t numbers;

	/* Relaxed: only uniqueness matters.  The process is in it, so that a
	 * ticket of a parent is never taken for the child's own. */
	return (atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed) +
		       1) ^
	       (uint64_t)getpid() << 32;
}

static struct session_target target_of(const struct rgov *gov)
{
	return (struct session_target){.socket_path = gov->socket_path,
		.app = gov->app,
		.slots = gov->slots};
}

/* A child made without our fork handlers still holds its parent's session. */
static void drop_foreign_session(struct rgov *gov)
{
	uint64_t number = fork_number();

	if (gov->fork_number == number)
		return;
	if (gov->session != NULL)
		session_forget(gov->session);
	gov->session = NULL;
	gov->told_fd = -1;
	gov->fork_number = number;
}

/* Under the lock: drops a lost session that nobody uses any more. */
static void drop_lost_session(struct rgov *gov)
{
	if (gov->session == NULL || !load_relaxed(gov->session->lost))
		return;
	if (gov->session->users == 0)
		session_free(gov->session);
	/* else the last user frees it: handle_leave() */
	gov->session = NULL;
}

static int register_anew(struct rgov *gov, uint64_t until_ns)
{
	struct session_target target = target_of(gov);
	struct session *session = NULL;
	int rc = 0;

	(void)pthread_mutex_lock(&gov->reconnecting);
	(void)pthread_mutex_lock(&gov->lock);
	drop_lost_session(gov);
	if (gov->session != NULL) /* another thread was faster */
		goto unlock;
	(void)pthread_mutex_unlock(&gov->lock);

	rc = session_open(&target, until_ns, &session);

	(void)pthread_mutex_lock(&gov->lock);
	if (rc == 0) {
		session->number = next_session_number();
		gov->session = session;
	}
unlock:
	(void)pthread_mutex_unlock(&gov->lock);
	(void)pthread_mutex_unlock(&gov->reconnecting);
	return rc;
}

int handle_enter(struct rgov *gov, uint64_t until_ns, struct session **ret)
{
	for (;;) {
		int rc;

		(void)pthread_mutex_lock(&gov->lock);
		drop_foreign_session(gov);
		if (gov->session != NULL && !load_relaxed(gov->session->lost)) {
			gov->session->users++;
			*ret = gov->session;
			(void)pthread_mutex_unlock(&gov->lock);
			return 0;
		}
		(void)pthread_mutex_unlock(&gov->lock);
		rc = register_anew(gov, until_ns);
		if (rc < 0)
			return rc;
	}
}

int handle_enter_ticket(struct rgov *gov, const struct rgov_ticket *ticket,
	struct session **ret)
{
	int rc = -ESTALE;

	(void)pthread_mutex_lock(&gov->lock);
	drop_foreign_session(gov);
	if (gov->session != NULL && gov->session->number == ticket->session &&
		ticket->slot < gov->session->client_shape.slots &&
		gov->session->slots[ticket->slot].generation ==
			ticket->generation) {
		gov->session->users++;
		*ret = gov->session;
		rc = 0;
	}
	(void)pthread_mutex_unlock(&gov->lock);
	return rc == 0 ? 0 : fail(rc, "no such ticket in this process");
}

void handle_leave(struct rgov *gov, struct session *session)
{
	bool last;

	if (fork_number() != gov->fork_number)
		return; /* a fork came between: the session is not ours */
	(void)pthread_mutex_lock(&gov->lock);
	last = --session->users == 0 && session != gov->session;
	(void)pthread_mutex_unlock(&gov->lock);
	if (last)
		session_free(session);
}

bool handle_is_cut_off(struct rgov *gov, const struct session *session)
{
	bool is_cut_off;

	(void)pthread_mutex_lock(&gov->lock);
	is_cut_off = session_is_cut_off(session);
	(void)pthread_mutex_unlock(&gov->lock);
	return is_cut_off;
}

void handle_pay_bell(struct rgov *gov, struct session *session)
{
	if (!load_relaxed(session->owes_bell))
		return;
	(void)pthread_mutex_lock(&gov->lock);
	session_ring(session);
	(void)pthread_mutex_unlock(&gov->lock);
}

/* Did the successor refuse the session?  All else (a signal, no memory, no
 * descriptors, nobody there) may be better the next time. */
static bool is_final(int error)
{
	return error == -ESTALE || error == -EPROTO || error == -EACCES ||
	       error == -EUSERS;
}

int handle_reconnect(
	struct rgov *gov, struct session *session, uint64_t until_ns)
{
	struct session_target target = target_of(gov);
	struct session_link link;
	int rc = 0;

	if (pthread_mutex_trylock(&gov->reconnecting) != 0)
		return -EAGAIN; /* another thread is at it: look at the slot */
	if (load_relaxed(session->lost)) {
		rc = -ECONNRESET;
	} else if (session_is_cut_off(session)) {
		rc = session_reconnect(session, &target, until_ns, &link);
		(void)pthread_mutex_lock(&gov->lock);
		if (rc == 0) {
			session_install(session, &link);
			atomic_fetch_add_explicit(
				&gov->reconnects, 1, memory_order_relaxed);
		} else if (is_final(rc)) {
			store_relaxed(session->lost, true);
			rc = -ECONNRESET;
		}
		(void)pthread_mutex_unlock(&gov->lock);
	}
	(void)pthread_mutex_unlock(&gov->reconnecting);
	return rc;
}
