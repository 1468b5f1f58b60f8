/* One thread, one queue of descriptors under a mutex. */
#include "coordinator/door/closer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROOM_FIRST = 64, PATIENCE_S = 1 };

struct closer {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news; /* for the one that waits: never both do */
	int *fds; /* a ring that grows: there are no more than may be open */
	size_t room, first, n;
	bool is_closing, is_ending, has_ended;
};

/* Its own client may have asked that the close of a socket waits until all is
 * acknowledged; who gave it away cannot want that of us. */
static void close_quickly(int fd)
{
	const struct linger none = {.l_onoff = 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	(void)close(fd);
}

/* -1: the end. */
static int next(struct closer *closer)
{
	int fd = -1;

	(void)pthread_mutex_lock(&closer->lock);
	closer->is_closing = false;
	while (closer->n == 0 && !closer->is_ending)
		(void)pthread_cond_wait(&closer->news, &closer->lock);
	if (closer->n > 0) {
		fd = closer->fds[closer->first];
		closer->first = (closer->first + 1) % closer->room;
		closer->n--;
		closer->is_closing = true;
	}
	(void)pthread_mutex_unlock(&closer->lock);
	return fd;
}

static void *work(void *argument)
{
	struct closer *closer = argument;
	int fd;

	while ((fd = next(closer)) >= 0)
		close_quickly(fd);
	(void)pthread_mutex_lock(&closer->lock);
	closer->has_ended = true;
	(void)pthread_cond_signal(&closer->news);
	(void)pthread_mutex_unlock(&closer->lock);
	return NULL;
}

static int start_thread(struct closer *closer)
{
	sigset_t all, old;
	int error;

	/* Signals are the main thread's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&closer->thread, NULL, work, closer);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0) /* for top(1) */
		(void)pthread_setname_np(closer->thread, "rgovd-closer");
	return -error;
}

static void free_parts(struct closer *closer)
{
	(void)pthread_cond_destroy(&closer->news);
	(void)pthread_mutex_destroy(&closer->lock);
	free(closer->fds);
	free(closer);
}

int closer_create(struct closer **ret_closer)
{
	struct closer *closer = calloc(1, sizeof(*closer));
	int rc;

	if (closer == NULL)
		return -ENOMEM;
	(void)pthread_mutex_init(&closer->lock, NULL);
	(void)pthread_cond_init(&closer->news, NULL);
	closer->room = ROOM_FIRST;
	closer->fds = malloc(ROOM_FIRST * sizeof(*closer->fds));
	rc = closer->fds != NULL ? start_thread(closer) : -ENOMEM;
	if (rc < 0) {
		free_parts(closer);
		return rc;
	}
	*ret_closer = closer;
	return 0;
}

static bool make_room(struct closer *closer)
{
	size_t room = 2 * closer->room;
	int *fds = malloc(room * sizeof(*fds));

	if (fds == NULL)
		return false;
	for (size_t i = 0; i < closer->n; i++)
		fds[i] = closer->fds[(closer->first + i) % closer->room];
	free(closer->fds);
	closer->fds = fds;
	closer->room = room;
	closer->first = 0;
	return true;
}

bool closer_take(struct closer *closer, int fd)
{
	bool has_room;

	(void)pthread_mutex_lock(&closer->lock);
	has_room = closer->n < closer->room || make_room(closer);
	if (has_room) {
		closer->fds[(closer->first + closer->n) % closer->room] = fd;
		closer->n++;
		(void)pthread_cond_signal(&closer->news);
	}
	(void)pthread_mutex_unlock(&closer->lock);
	return has_room;
}

bool closer_is_idle(struct closer *closer)
{
	bool is_idle;

	(void)pthread_mutex_lock(&closer->lock);
	is_idle = closer->n == 0 && !closer->is_closing;
	(void)pthread_mutex_unlock(&closer->lock);
	return is_idle;
}

/* Under the lock: tells it to end, and waits a little until it does.  Not by a
 * join with a time limit: ThreadSanitizer knows none by this clock. */
static bool ends_soon(struct closer *closer)
{
	struct timespec until;
	int error = 0;

	closer->is_ending = true;
	(void)pthread_cond_signal(&closer->news);
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_S;
	while (!closer->has_ended && error == 0)
		error = pthread_cond_clockwait(
			&closer->news, &closer->lock, CLOCK_MONOTONIC, &until);
	return closer->has_ended;
}

void closer_free(struct closer *closer)
{
	bool has_ended;

	if (closer == NULL)
		return;
	(void)pthread_mutex_lock(&closer->lock);
	has_ended = ends_soon(closer);
	(void)pthread_mutex_unlock(&closer->lock);
	if (has_ended) {
		(void)pthread_join(closer->thread, NULL);
		free_parts(closer);
	} else {
		(void)pthread_detach(closer->thread); /* it needs the rest */
	}
}
