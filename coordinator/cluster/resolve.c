/*
 * A look-up belongs to two: the loop's side and the thread.  Who leaves last
 * frees it.
 *
 * Orders in this file:
 *   R1 -> A1  resolve.users  who leaves last sees all that the other one wrote
 *   R2 -> A2  resolve.is_known  the loop sees error and addresses
 */
#include "coordinator/cluster/resolve.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREAD_STACK_BYTES = 256 * 1024 };

struct resolve {
	atomic_uint users;
	atomic_bool is_known;
	int event_fd;
	int error;
	struct addrinfo *addresses;
	char host[256], port[8];

	/* The loop's side. */
	struct loop *loop;
	struct loop_watch watch;
	resolve_done_fn *done;
	void *owner;
};

static void leave(struct resolve *resolve)
{
	/* R1, and A1 for the last one */
	if (atomic_fetch_sub_explicit(
		    &resolve->users, 1, memory_order_acq_rel) > 1)
		return;
	if (resolve->addresses != NULL)
		freeaddrinfo(resolve->addresses);
	(void)close(resolve->event_fd);
	free(resolve);
}

static int look_up(const struct resolve *resolve, int flags,
	struct addrinfo **ret_addresses)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags,
	};

	return getaddrinfo(resolve->host, resolve->port, &hints, ret_addresses);
}

static void tell(struct resolve *resolve)
{
	/* R2 -> A2 */
	atomic_store_explicit(&resolve->is_known, true, memory_order_release);
	/* A counter of 1 always fits. */
	(void)eventfd_write(resolve->event_fd, 1);
}

static void *run(void *argument)
{
	struct resolve *resolve = argument;

	resolve->error = look_up(resolve, AI_ADDRCONFIG, &resolve->addresses);
	tell(resolve);
	leave(resolve);
	return NULL;
}

static void on_known(struct loop_watch *watch, unsigned int events)
{
	struct resolve *resolve = watch->owner;
	struct addrinfo *addresses;

	(void)events;
	/* A2 */
	if (!atomic_load_explicit(&resolve->is_known, memory_order_acquire))
		return;
	addresses = resolve->addresses;
	resolve->addresses = NULL;
	loop_unwatch(resolve->loop, &resolve->watch);
	resolve->done(resolve->owner, resolve->error, addresses);
	leave(resolve);
}

/* Signals are the loop's: the thread has them blocked from its birth. */
static int start_thread(struct resolve *resolve)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	pthread_t thread;
	int rc = pthread_attr_init(&attributes);

	if (rc != 0)
		return -rc;
	(void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread, &attributes, run, resolve);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attributes);
	return -rc;
}

static struct resolve *make(const char *host, uint16_t port)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));

	if (resolve == NULL)
		return NULL;
	resolve->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resolve->event_fd < 0) {
		free(resolve);
		return NULL;
	}
	atomic_init(&resolve->users, 1);
	(void)snprintf(resolve->host, sizeof(resolve->host), "%s", host);
	(void)snprintf(resolve->port, sizeof(resolve->port), "%u", port);
	return resolve;
}

int resolve_start(struct loop *loop, const char *host, uint16_t port,
	resolve_done_fn *done, void *owner, struct resolve **ret_resolve)
{
	struct resolve *resolve = make(host, port);
	int rc;

	if (resolve == NULL)
		return -ENOMEM;
	resolve->loop = loop;
	resolve->done = done;
	resolve->owner = owner;
	rc = loop_watch(loop, &resolve->watch, resolve->event_fd, LOOP_READ,
		on_known, resolve);
	if (rc == 0 &&
		look_up(resolve, AI_NUMERICHOST, &resolve->addresses) == 0) {
		tell(resolve);
	} else if (rc == 0) {
		atomic_store_explicit(&resolve->users, 2, memory_order_relaxed);
		rc = start_thread(resolve);
		if (rc != 0)
			atomic_store_explicit(
				&resolve->users, 1, memory_order_relaxed);
	}
	if (rc != 0) {
		resolve_cancel(resolve);
		return rc;
	}
	*ret_resolve = resolve;
	return 0;
}

void resolve_cancel(struct resolve *resolve)
{
	if (resolve == NULL)
		return;
	loop_unwatch(resolve->loop, &resolve->watch);
	leave(resolve);
}
