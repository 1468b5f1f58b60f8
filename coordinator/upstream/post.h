/*
 * Tells a program of this host that a task has ended: one POST of a small JSON
 * text, over libcurl on the loop, a connection each.
 *
 * Sent once; whether it is sent again is the owner's question.  What may be
 * called is post_url.h's, before; here only this host is ever connected to,
 * whatever a name leads to, without a proxy and without following a redirect.
 */
#ifndef COORDINATOR_UPSTREAM_POST_H
#define COORDINATOR_UPSTREAM_POST_H

#include "coordinator/loop/loop.h"
#include "coordinator/upstream/post_url.h"

struct post;

enum {
	POST_AT_ONCE = 4,
	POST_WAITING_MOST = 10000, /* for one of those places */
};

/*
 * The end; exactly once for each post_send() that returned 0, never from inside
 * it.  http_status: of the answer, redirects and errors too; 0: there was none,
 * and why says what happened ("" otherwise).  post_send() may be called inside.
 */
typedef void post_done_fn(void *owner, int http_status, const char *why);

/* timeout_ns: of each, from its connect to the answer's end.  0, -ENOMEM, -EIO
 * (libcurl does not start).  The loop must outlive it. */
int post_create(struct loop *loop, uint64_t timeout_ns, struct post **ret_post);

/* URL and body are copied.  0; -ENOBUFS: too many wait; -ENOMEM. */
int post_send(struct post *post, const char *url, const char *body,
	size_t body_bytes, post_done_fn *done, void *owner);

/* Ends what runs and what waits (done() is called, and may not send).  Not from
 * inside done().  NULL is fine. */
void post_free(struct post *post);

#endif
