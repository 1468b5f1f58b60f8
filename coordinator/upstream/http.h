/*
 * libcurl's multi handle, driven by the loop: its sockets are watches, its
 * timer is a timer, and what has finished is handed out between libcurl's own
 * calls, where everything may be done.  Knows nothing of requests.
 */
#ifndef COORDINATOR_UPSTREAM_HTTP_H
#define COORDINATOR_UPSTREAM_HTTP_H

#include "coordinator/loop/loop.h"

#include <stdbool.h>
#include <stddef.h>

#include <curl/curl.h>

struct http_socket;

struct http_events {
	/* The transfer has ended; it is still added.  Anything may be done but
	 * http_fini(). */
	void (*finished)(void *owner, CURL *easy, CURLcode code);
	/* libcurl has given up on this multi handle (no memory): nothing that
	 * is added will ever finish.  Remove all, then http_reopen(). */
	void (*broken)(void *owner);
	void *owner;
};

struct http {
	struct loop *loop;
	CURLM *multi;
	struct loop_timer timer;
	struct http_socket **sockets; /* by descriptor */
	size_t sockets_size;
	struct http_socket *spare; /* kept for the next sockets */
	bool has_streams;          /* HTTP/2, as the last answer says */
	struct http_events events;
	unsigned int max_connections;
};

/* 0 or -ENOMEM. */
int http_init(struct http *http, struct loop *loop,
	const struct http_events *events, unsigned int max_connections);

/* Holds for connections opened from now on. */
void http_limit(struct http *http, unsigned int max_connections);

/* Closes all connections.  Nothing may be added.  On -ENOMEM all stays. */
int http_reopen(struct http *http);

/* Once for each easy handle, before it is added.  0 or -ENOMEM. */
int http_adopt(struct http *http, CURL *easy);

/* 0 or -ENOMEM.  Nothing of the transfer happens before the next loop step. */
int http_add(struct http *http, CURL *easy);

/* Ends the transfer where it is.  Not from inside libcurl's callbacks. */
void http_remove(struct http *http, CURL *easy);

/* Nothing may be added.  A zero one is fine. */
void http_fini(struct http *http);

#endif
