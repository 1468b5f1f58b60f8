/*
 * A letter is on one list at a time: `waiting`, then `sent` while libcurl has
 * it, then on none while its done() is called, then freed.
 */
#include "coordinator/upstream/post.h"

#include "coordinator/upstream/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <utlist.h>

/* More than any answer to a notice has; what comes after it is not read. */
enum { MAX_HEAD_BYTES = 65536, MAX_REPLY_BYTES = 65536 };

struct letter {
	struct post *post;
	CURL *easy; /* NULL: waits */
	bool added; /* to the multi handle */
	size_t head_bytes, reply_bytes;
	bool head_complete;
	bool elsewhere; /* the address was not this host's */
	post_done_fn *done;
	void *owner;
	struct letter *prev, *next;
	char error[CURL_ERROR_SIZE];
	char url[POST_URL_BYTES];
	size_t body_bytes;
	char body[];
};

struct post {
	struct loop *loop;
	struct http http;
	uint64_t timeout_ns;
	struct curl_slist *head;
	struct letter *waiting, *sent;
	unsigned int n_waiting, n_sent;
	struct loop_timer later; /* sends what waits, from outside */
	bool closing;
};

/* ---- libcurl's callbacks; none of them calls libcurl ---- */

static bool is_this_host(const struct sockaddr *address)
{
	struct sockaddr_in ip4;
	struct sockaddr_in6 ip6;

	if (address->sa_family == AF_INET) {
		memcpy(&ip4, address, sizeof(ip4));
		return ntohl(ip4.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family != AF_INET6)
		return false;
	memcpy(&ip6, address, sizeof(ip6));
	return IN6_IS_ADDR_LOOPBACK(&ip6.sin6_addr);
}

static curl_socket_t open_socket(
	void *owner, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct letter *letter = owner;

	(void)purpose;
	if (!is_this_host(&address->addr)) {
		letter->elsewhere = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
		address->protocol);
}

static size_t skip_head(char *line, size_t size, size_t count, void *owner)
{
	struct letter *letter = owner;
	size_t bytes = size * count;

	/* A provisional answer's head ends, and another one begins. */
	if (bytes >= 5 && memcmp(line, "HTTP/", 5) == 0)
		letter->head_complete = false;
	else if (bytes <= 2)
		letter->head_complete = true;
	letter->head_bytes += bytes;
	return letter->head_bytes <= MAX_HEAD_BYTES ? bytes : 0;
}

static size_t skip_reply(char *data, size_t size, size_t count, void *owner)
{
	struct letter *letter = owner;
	size_t bytes = size * count;

	(void)data;
	letter->reply_bytes += bytes;
	return letter->reply_bytes <= MAX_REPLY_BYTES ? bytes
						      : CURL_WRITEFUNC_ERROR;
}

/* ---- the end of one ---- */

static void send_waiting(struct post *post);

static void take_off_wire(struct letter *letter)
{
	struct post *post = letter->post;

	if (letter->added)
		http_remove(&post->http, letter->easy);
	letter->added = false;
	curl_easy_cleanup(letter->easy);
	letter->easy = NULL;
	DL_DELETE(post->sent, letter);
	post->n_sent--;
}

static void tell(struct letter *letter, int http_status, const char *why)
{
	letter->done(letter->owner, http_status, why);
	free(letter);
}

static const char *reason(const struct letter *letter, CURLcode code)
{
	if (letter->elsewhere)
		return "the address is not of this host";
	if (letter->head_bytes > MAX_HEAD_BYTES)
		return "the head of the answer is too large";
	return letter->error[0] != '\0' ? letter->error
					: curl_easy_strerror(code);
}

/* The status says it all: an answer that was cut, by us or by its sender, is
 * one. */
static void on_finished(void *owner, CURL *easy, CURLcode code)
{
	struct post *post = owner;
	struct letter *letter;
	char why[POST_WHY_BYTES] = "";
	char *private;
	long status = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
	(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	letter = (struct letter *)(void *)private;
	if (status < 200 || !letter->head_complete)
		status = 0;
	if (status == 0) /* copied: it may lie in the handle */
		(void)snprintf(why, sizeof(why), "%s", reason(letter, code));
	take_off_wire(letter);
	tell(letter, (int)status, why);
	send_waiting(post);
}

/* UNTESTED: libcurl found no memory.  What runs is lost, what waits is not. */
static void on_broken(void *owner)
{
	struct post *post = owner;
	struct letter *lost = NULL, *letter, *next;

	DL_FOREACH_SAFE (post->sent, letter, next) {
		take_off_wire(letter);
		DL_APPEND(lost, letter);
	}
	(void)http_reopen(&post->http);
	DL_FOREACH_SAFE (lost, letter, next)
		tell(letter, 0, "no memory for the connections");
	send_waiting(post);
}

/* ---- the start of one ---- */

static long to_ms(uint64_t ns)
{
	uint64_t ms = ns / 1000000;

	return ms == 0 ? 1 : ms > INT32_MAX ? INT32_MAX : (long)ms;
}

/* QUICK_EXIT: a name that is being resolved does not hold our end up.  A fresh
 * connection each: libcurl sends again only what went over a used one. */
static CURLcode set_options(struct letter *letter)
{
	CURL *easy = letter->easy;
	const char *body = letter->body;
	CURLcode rc = CURLE_OK;

#define SET(option, value)                                                     \
	rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value)
	SET(CURLOPT_PRIVATE, letter);
	SET(CURLOPT_ERRORBUFFER, letter->error);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, letter);
	SET(CURLOPT_HEADERFUNCTION, skip_head);
	SET(CURLOPT_HEADERDATA, letter);
	SET(CURLOPT_WRITEFUNCTION, skip_reply);
	SET(CURLOPT_WRITEDATA, letter);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http");
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_USERAGENT, "rgovd/" RGOV_VERSION);
	SET(CURLOPT_TIMEOUT_MS, to_ms(letter->post->timeout_ns));
	SET(CURLOPT_URL, letter->url);
	SET(CURLOPT_HTTPHEADER, letter->post->head);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)letter->body_bytes);
	SET(CURLOPT_POSTFIELDS, body);
#undef SET
	return rc;
}

static void put_on_wire(struct letter *letter)
{
	struct post *post = letter->post;

	DL_APPEND(post->sent, letter);
	post->n_sent++;
	letter->easy = curl_easy_init();
	if (letter->easy != NULL && set_options(letter) == CURLE_OK &&
		http_adopt(&post->http, letter->easy) == 0)
		letter->added = http_add(&post->http, letter->easy) == 0;
	if (letter->added)
		return;
	/* UNTESTED: no memory */
	take_off_wire(letter);
	tell(letter, 0, "no memory");
}

static void send_waiting(struct post *post)
{
	while (post->waiting != NULL && post->n_sent < POST_AT_ONCE &&
		!post->closing) {
		struct letter *letter = post->waiting;

		DL_DELETE(post->waiting, letter);
		post->n_waiting--;
		put_on_wire(letter);
	}
}

static void on_later(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	send_waiting(timer->owner);
}

static struct letter *write_letter(
	const char *url, const char *body, size_t body_bytes)
{
	size_t url_bytes = strnlen(url, POST_URL_BYTES);
	struct letter *letter = calloc(1, sizeof(*letter) + body_bytes);

	if (letter == NULL)
		return NULL;
	/* One that is too long fails as no URL: see post_url_check(). */
	if (url_bytes < POST_URL_BYTES)
		memcpy(letter->url, url, url_bytes);
	if (body_bytes > 0)
		memcpy(letter->body, body, body_bytes);
	letter->body_bytes = body_bytes;
	return letter;
}

int post_send(struct post *post, const char *url, const char *body,
	size_t body_bytes, post_done_fn *done, void *owner)
{
	struct letter *letter;

	if (post->n_waiting >= POST_WAITING_MOST || post->closing)
		return -ENOBUFS;
	letter = write_letter(url, body, body_bytes);
	/* From a timer: done() is never called from in here. */
	if (letter == NULL || loop_timer_set(post->loop, &post->later, 1,
				      on_later, post) != 0) {
		free(letter);
		return -ENOMEM;
	}
	letter->post = post;
	letter->done = done;
	letter->owner = owner;
	DL_APPEND(post->waiting, letter);
	post->n_waiting++;
	return 0;
}

/* ---- the object ---- */

/* Above 1 MB libcurl would ask for permission first. */
static struct curl_slist *write_head(void)
{
	struct curl_slist *head =
		curl_slist_append(NULL, "Content-Type: application/json");
	struct curl_slist *all =
		head == NULL ? NULL : curl_slist_append(head, "Expect:");

	if (all == NULL)
		curl_slist_free_all(head);
	return all;
}

int post_create(struct loop *loop, uint64_t timeout_ns, struct post **ret_post)
{
	struct post *post = calloc(1, sizeof(*post));
	const struct http_events events = {
		.finished = on_finished, .broken = on_broken, .owner = post};

	if (post == NULL)
		return -ENOMEM;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(post);
		return -EIO;
	}
	post->loop = loop;
	post->timeout_ns = timeout_ns;
	post->head = write_head();
	if (post->head == NULL ||
		http_init(&post->http, loop, &events, POST_AT_ONCE) != 0) {
		post_free(post);
		return -ENOMEM;
	}
	*ret_post = post;
	return 0;
}

void post_free(struct post *post)
{
	struct letter *letter, *next;

	if (post == NULL)
		return;
	post->closing = true;
	DL_FOREACH_SAFE (post->sent, letter, next) {
		take_off_wire(letter);
		tell(letter, 0, "rgovd ends");
	}
	DL_FOREACH_SAFE (post->waiting, letter, next)
		tell(letter, 0, "rgovd ends");
	loop_timer_clear(post->loop, &post->later);
	http_fini(&post->http);
	curl_slist_free_all(post->head);
	free(post);
	curl_global_cleanup();
}
