/*
 * Which URLs may be called when a task has ended: plain HTTP to this host, and
 * only what the operator listed.  Whoever submits a task names the URL, and
 * rgovd would reach what he cannot.
 *
 * Pure: no socket, no resolver.  That the name leads to this host is looked at
 * once more when it is called, see post.h.
 */
#ifndef COORDINATOR_UPSTREAM_POST_URL_H
#define COORDINATOR_UPSTREAM_POST_URL_H

#include <stddef.h>

enum { POST_URL_BYTES = 2048, POST_WHY_BYTES = 256 };

/*
 * May the URL be called?  It must begin with one of the prefixes: the same
 * host as written, the same port, and a path that is the prefix's own or below
 * it ("/hooks" allows "/hooks", "/hooks?a=1" and "/hooks/done", not "/hooksx").
 *
 * 0, or -EINVAL (ret_why says what is wrong with it, and does not quote it),
 * -EACCES (no prefix allows it), -ENOMEM.
 */
int post_url_check(const char *url, const char *const *prefixes, size_t n,
	char ret_why[POST_WHY_BYTES]);

/* Is it a prefix that could allow anything?  As above, without -EACCES. */
int post_url_check_prefix(const char *prefix, char ret_why[POST_WHY_BYTES]);

#endif
