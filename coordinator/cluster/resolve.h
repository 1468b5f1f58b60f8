/*
 * The addresses of a host name, looked up beside the loop: a helper thread asks
 * (getaddrinfo() may take half a minute), the loop is told.  One look-up a
 * thread; a numeric address needs none.
 */
#ifndef COORDINATOR_CLUSTER_RESOLVE_H
#define COORDINATOR_CLUSTER_RESOLVE_H

#include "coordinator/loop/loop.h"

#include <netdb.h>

struct resolve;

/* error is 0, or as getaddrinfo()'s; the list is the callee's, ended by
 * freeaddrinfo().  The look-up is over. */
typedef void resolve_done_fn(
	void *owner, int error, struct addrinfo *addresses);

/*
 * Returns 0: done() is called, from the loop and never from inside;
 * *ret_resolve is valid until then or until resolve_cancel().  -errno: it is
 * not.
 */
int resolve_start(struct loop *loop, const char *host, uint16_t port,
	resolve_done_fn *done, void *owner, struct resolve **ret_resolve);

/* done() is not called any more; the thread ends by itself.  NULL is fine. */
void resolve_cancel(struct resolve *resolve);

#endif
