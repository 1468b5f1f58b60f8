/*
 * libcurl's multi socket interface on the loop.
 *
 * A connection that rests in libcurl's pool is watched too.  What arrives there
 * is an answer that nobody asked for, or the other side's end: libcurl would
 * take the first for the answer to the next request.  So the connection is
 * shut down at once, and libcurl, which looks before it uses one again, finds
 * it dead.  Not under HTTP/2: there each answer names its request.
 */
#include "coordinator/upstream/http.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FIRST_SOCKETS = 64,
	DRAIN_TURNS = 256,
};

/*
 * One socket of libcurl's, in http->sockets at its descriptor.  That of a
 * connection lives from opened() to closed(), any other (the resolver's, or one
 * that did not come to be connected) to CURL_POLL_REMOVE; then it waits among
 * the spare ones.
 */
struct http_socket {
	struct loop_watch watch;
	struct http *http;
	struct http_socket *next_spare;
	curl_socket_t fd;
	ino_t inode; /* of a connection; else 0 */
	bool was_read;
	bool rests; /* in libcurl's pool */
};

/* All connections go to one endpoint: what one speaks, all do. */
static void note_version(struct http *http, CURL *easy)
{
	long version = CURL_HTTP_VERSION_NONE;

	(void)curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
	if (version != CURL_HTTP_VERSION_NONE)
		http->has_streams = version >= CURL_HTTP_VERSION_2_0;
}

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
		note_version(http, message->easy_handle);
		http->events.finished(http->events.owner, message->easy_handle,
			message->data.result);
	}
	/* UNTESTED: no memory */
	if (code != CURLM_OK)
		http->events.broken(http->events.owner);
}

/* libcurl closes without a word what it has never connected: is the descriptor
 * still the socket that was opened? */
static bool is_still_ours(const struct http_socket *sock)
{
	struct stat now;

	return fstat(sock->fd, &now) == 0 && now.st_ino == sock->inode;
}

/* From here on nothing can be sent, and a look finds the end. */
static void spoil(int fd)
{
	char unasked[4096];

	(void)shutdown(fd, SHUT_RDWR);
	for (int i = 0; i < DRAIN_TURNS; i++)
		if (recv(fd, unasked, sizeof(unasked), MSG_DONTWAIT) <= 0)
			break;
}

static void on_unasked(struct http_socket *sock)
{
	char byte;

	/* The event may be about what has been read meanwhile: look. */
	if (recv(sock->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
		(errno == EAGAIN || errno == EINTR))
		return;
	if (is_still_ours(sock) && !sock->http->has_streams)
		spoil(sock->fd);
	loop_unwatch(sock->http->loop, &sock->watch);
}

static void on_ready(struct loop_watch *watch, unsigned int events)
{
	struct http_socket *sock = watch->owner;
	struct http *http = sock->http;
	int mask = (events & LOOP_READ ? CURL_CSELECT_IN : 0) |
		   (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0) |
		   (events & LOOP_HANGUP ? CURL_CSELECT_ERR : 0);
	int running;

	if (sock->rests) {
		on_unasked(sock);
		return;
	}
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

static struct http_socket *find_socket(
	const struct http *http, curl_socket_t fd)
{
	return (size_t)fd < http->sockets_size ? http->sockets[fd] : NULL;
}

/* Room for the descriptor; false: no memory. */
static bool make_room(struct http *http, curl_socket_t fd)
{
	size_t size =
		http->sockets_size == 0 ? FIRST_SOCKETS : http->sockets_size;
	struct http_socket **sockets;

	if ((size_t)fd < http->sockets_size)
		return true;
	while (size <= (size_t)fd)
		size *= 2;
	sockets =
		reallocarray(http->sockets, size, sizeof(struct http_socket *));
	if (sockets == NULL)
		return false;
	for (size_t i = http->sockets_size; i < size; i++)
		sockets[i] = NULL;
	http->sockets = sockets;
	http->sockets_size = size;
	return true;
}

static struct http_socket *claim_socket(struct http *http, curl_socket_t fd)
{
	struct http_socket *sock = http->spare;

	if (!make_room(http, fd))
		return NULL;
	if (sock != NULL)
		http->spare = sock->next_spare;
	else
		sock = calloc(1, sizeof(*sock));
	if (sock == NULL)
		return NULL;
	sock->http = http;
	sock->fd = fd;
	sock->inode = 0;
	sock->was_read = sock->rests = false;
	http->sockets[fd] = sock;
	return sock;
}

static void release_socket(struct http *http, struct http_socket *sock)
{
	loop_unwatch(http->loop, &sock->watch);
	http->sockets[sock->fd] = NULL;
	sock->next_spare = http->spare;
	http->spare = sock;
}

static int watch_socket(struct http_socket *sock, unsigned int events)
{
	struct loop *loop = sock->http->loop;

	return sock->watch.id != 0
		       ? loop_watch_change(loop, &sock->watch, events)
		       : loop_watch(loop, &sock->watch, sock->fd, events,
				 on_ready, sock);
}

/* No transfer uses it any more. */
static void put_down(struct http_socket *sock)
{
	struct http *http = sock->http;

	if (sock->inode == 0 || !sock->was_read)
		release_socket(http, sock);
	else if (http->has_streams || watch_socket(sock, LOOP_READ) != 0)
		loop_unwatch(http->loop, &sock->watch);
	else
		sock->rests = true;
}

/* libcurl's wish for one of its sockets.  -1 breaks the multi handle. */
static int on_socket(
	CURL *easy, curl_socket_t fd, int what, void *owner, void *assigned)
{
	struct http *http = owner;
	struct http_socket *sock = find_socket(http, fd);
	unsigned int events = (what & CURL_POLL_IN ? LOOP_READ : 0u) |
			      (what & CURL_POLL_OUT ? LOOP_WRITE : 0u);

	(void)easy;
	(void)assigned;
	if (what == CURL_POLL_REMOVE) {
		if (sock != NULL)
			put_down(sock);
		return 0;
	}
	if (sock == NULL)
		sock = claim_socket(http, fd);
	if (sock == NULL)
		return -1;
	sock->rests = false;
	sock->was_read |= (events & LOOP_READ) != 0;
	return watch_socket(sock, events) == 0 ? 0 : -1;
}

/* Without memory the connection is used all the same, and rests unwatched. */
static int opened(void *owner, curl_socket_t fd, curlsocktype purpose)
{
	struct http_socket *stale = find_socket(owner, fd), *sock;
	struct stat now;

	(void)purpose;
	if (stale != NULL)
		release_socket(owner, stale);
	sock = claim_socket(owner, fd);
	if (sock != NULL && fstat(fd, &now) == 0)
		sock->inode = now.st_ino;
	return CURL_SOCKOPT_OK;
}

static int closed(void *owner, curl_socket_t fd)
{
	struct http_socket *sock = find_socket(owner, fd);

	if (sock != NULL)
		release_socket(owner, sock);
	return close(fd);
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
	http->has_streams = false;
	http_limit(http, http->max_connections);
	return 0;
}

int http_adopt(struct http *http, CURL *easy)
{
	return curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, opened) ==
				       CURLE_OK &&
			       curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA,
				       http) == CURLE_OK &&
			       curl_easy_setopt(easy,
				       CURLOPT_CLOSESOCKETFUNCTION,
				       closed) == CURLE_OK &&
			       curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA,
				       http) == CURLE_OK
		       ? 0
		       : -ENOMEM;
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
	free(http->sockets);
	*http = (struct http){0};
}
