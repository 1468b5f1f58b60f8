/* libcurl's multi socket interface on the loop. */
#include "coordinator/upstream/http.h"

#include <errno.h>
#include <stdlib.h>

/* One socket of libcurl's.  Lives from the first CURL_POLL_… to
 * CURL_POLL_REMOVE, then waits among the spare ones. */
struct http_socket {
	struct loop_watch watch;
	struct http *http;
	struct http_socket *next_spare;
};

/*
 * After every call that lets libcurl work.  Each message is copied out before
 * its transfer is touched: removing one, from here or from further in, takes
 * its messages along.
 */
static void collect(struct http *http, CURLMcode code)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
		if (message->msg != CURLMSG_DONE)
			continue;
		http->events.finished(http->events.owner, message->easy_handle,
			message->data.result);
	}
	/* UNTESTED: no memory */
	if (code != CURLM_OK)
		http->events.broken(http->events.owner);
}

static void on_ready(struct loop_watch *watch, unsigned int events)
{
	struct http_socket *sock = watch->owner;
	struct http *http = sock->http;
	int mask = (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
		   (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0) |
		   (events & LOOP_HANGUP ? CURL_CSELECT_ERR : 0);
	int running;

	collect(http, curl_multi_socket_action(
			      http->multi, watch->fd, mask, &running));
}

static void on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct http *http = timer->owner;
	int running;

	(void)now_ns;
	collect(http, curl_multi_socket_action(
			      http->multi, CURL_SOCKET_TIMEOUT, 0, &running));
}

static struct http_socket *claim_socket(struct http *http)
{
	struct http_socket *sock = http->spare;

	if (sock == NULL)
		return calloc(1, sizeof(*sock));
	http->spare = sock->next_spare;
	return sock;
}

static void release_socket(struct http *http, struct http_socket *sock)
{
	loop_unwatch(http->loop, &sock->watch);
	sock->next_spare = http->spare;
	http->spare = sock;
}

static int watch_socket(
	struct http *http, curl_socket_t fd, unsigned int events)
{
	struct http_socket *sock = claim_socket(http);

	if (sock == NULL)
		return -1;
	sock->http = http;
	if (loop_watch(http->loop, &sock->watch, fd, events, on_ready, sock) !=
		0) {
		release_socket(http, sock);
		return -1;
	}
	(void)curl_multi_assign(http->multi, fd, sock);
	return 0;
}

/* libcurl's wish for one of its sockets.  -1 breaks the multi handle. */
static int on_socket(
	CURL *easy, curl_socket_t fd, int what, void *owner, void *assigned)
{
	struct http *http = owner;
	struct http_socket *sock = assigned;
	unsigned int events = (what & CURL_POLL_IN ? LOOP_READ : 0u) |
			      (what & CURL_POLL_OUT ? LOOP_WRITE : 0u);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (sock != NULL)
			release_socket(http, sock);
		return 0;
	}
	if (sock == NULL)
		return watch_socket(http, fd, events);
	return loop_watch_change(http->loop, &sock->watch, events) == 0 ? 0
									: -1;
}

/* libcurl's wish to be called; 0 means as soon as it is not inside itself. */
static int on_timer_wish(CURLM *multi, long timeout_ms, void *owner)
{
	struct http *http = owner;
	uint64_t at_ns = 1;

	(void)multi;
	if (timeout_ms < 0) {
		loop_timer_clear(http->loop, &http->timer);
		return 0;
	}
	if (timeout_ms > 0)
		at_ns = loop_now_ns() + (uint64_t)timeout_ms * 1000000;
	return loop_timer_set(http->loop, &http->timer, at_ns, on_timer, http);
}

static CURLM *open_multi(struct http *http)
{
	CURLM *multi = curl_multi_init();

	if (multi == NULL)
		return NULL;
	(void)curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
	(void)curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer_wish);
	(void)curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
	(void)curl_multi_setopt(
		multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	return multi;
}

int http_init(struct http *http, struct loop *loop,
	const struct http_events *events, unsigned int max_connections)
{
	*http = (struct http){.loop = loop, .events = *events};
	http->multi = open_multi(http);
	if (http->multi == NULL)
		return -ENOMEM;
	http_limit(http, max_connections);
	return 0;
}

void http_limit(struct http *http, unsigned int max_connections)
{
	long limit = (long)max_connections;

	http->max_connections = max_connections;
	(void)curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, limit);
	(void)curl_multi_setopt(
		http->multi, CURLMOPT_MAX_HOST_CONNECTIONS, limit);
	(void)curl_multi_setopt(
		http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limit);
}

int http_reopen(struct http *http)
{
	CURLM *multi = open_multi(http);

	if (multi == NULL)
		return -ENOMEM;
	(void)curl_multi_cleanup(http->multi);
	loop_timer_clear(http->loop, &http->timer);
	http->multi = multi;
	http_limit(http, http->max_connections);
	return 0;
}

int http_add(struct http *http, CURL *easy)
{
	return curl_multi_add_handle(http->multi, easy) == CURLM_OK ? 0
								    : -ENOMEM;
}

void http_remove(struct http *http, CURL *easy)
{
	(void)curl_multi_remove_handle(http->multi, easy);
}

void http_fini(struct http *http)
{
	if (http->multi != NULL)
		(void)curl_multi_cleanup(http->multi);
	if (http->loop != NULL)
		loop_timer_clear(http->loop, &http->timer);
	while (http->spare != NULL) {
		struct http_socket *sock = http->spare;

		http->spare = sock->next_spare;
		free(sock);
	}
	*http = (struct http){0};
}
