/*
 * What a call costs without rgov: libcurl's multi socket interface on epoll,
 * DEPTH kept-alive transfers at a time, each easy handle used again as soon as
 * it is done.  Nothing is signed, hashed, limited or shown.
 */
#include "bench/measure.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { DEPTH_MAX = 128, BATCH = 64, REPLY_BYTES = 65536 };

struct transfer {
	CURL *easy;
	size_t reply_bytes;
	char reply[REPLY_BYTES];
};

struct loop {
	CURLM *multi;
	int epoll_fd;
	uint64_t wake_ns; /* libcurl's timer; UINT64_MAX: none */
	uint64_t to_start, to_end;
};

static size_t keep_reply(char *data, size_t size, size_t count, void *owner)
{
	struct transfer *transfer = owner;
	size_t bytes = size * count;

	if (bytes > REPLY_BYTES - transfer->reply_bytes)
		return CURL_WRITEFUNC_ERROR;
	memcpy(transfer->reply + transfer->reply_bytes, data, bytes);
	transfer->reply_bytes += bytes;
	return bytes;
}

static int on_socket(
	CURL *easy, curl_socket_t fd, int what, void *owner, void *assigned)
{
	struct loop *loop = owner;
	struct epoll_event event = {.data.fd = fd};
	static char known;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		(void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
		       (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);
	if (epoll_ctl(loop->epoll_fd, assigned ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
		    fd, &event) != 0)
		DIE("epoll: %s", strerror(errno));
	(void)curl_multi_assign(loop->multi, fd, &known);
	return 0;
}

static int on_timer(CURLM *multi, long timeout_ms, void *owner)
{
	struct loop *loop = owner;

	(void)multi;
	loop->wake_ns = timeout_ms < 0
				? UINT64_MAX
				: now_ns() + (uint64_t)timeout_ms * 1000000;
	return 0;
}

static void start(struct loop *loop, struct transfer *transfer)
{
	transfer->reply_bytes = 0;
	loop->to_start--;
	if (curl_multi_add_handle(loop->multi, transfer->easy) != CURLM_OK)
		DIE("curl_multi_add_handle");
}

static void finish(struct loop *loop, CURL *easy, CURLcode code)
{
	struct transfer *transfer;
	char *private;
	long status = 0;

	(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
	(void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	transfer = (struct transfer *)(void *)private;
	if (code != CURLE_OK || status != 200 || transfer->reply_bytes == 0)
		DIE("transfer: %s, status %ld", curl_easy_strerror(code),
			status);
	(void)curl_multi_remove_handle(loop->multi, easy);
	loop->to_end--;
	if (loop->to_start > 0)
		start(loop, transfer);
}

static void collect(struct loop *loop)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(loop->multi, &left)) != NULL) {
		if (message->msg == CURLMSG_DONE)
			finish(loop, message->easy_handle,
				message->data.result);
	}
}

static int left_ms(const struct loop *loop)
{
	uint64_t now;

	if (loop->wake_ns == UINT64_MAX)
		return -1;
	now = now_ns();
	return loop->wake_ns <= now
		       ? 0
		       : (int)((loop->wake_ns - now + 999999) / 1000000);
}

static void turn(struct loop *loop)
{
	struct epoll_event batch[BATCH];
	int timeout = left_ms(loop);
	int running;
	int n = 0;

	/* A timer that is due needs no look at the sockets first. */
	if (timeout != 0)
		n = epoll_wait(loop->epoll_fd, batch, BATCH, timeout);
	for (int i = 0; i < n; i++) {
		uint32_t events = batch[i].events;
		int mask =
			(events & EPOLLIN ? CURL_CSELECT_IN : 0) |
			(events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			(events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		(void)curl_multi_socket_action(
			loop->multi, batch[i].data.fd, mask, &running);
		collect(loop);
	}
	if (left_ms(loop) == 0) {
		loop->wake_ns = UINT64_MAX;
		(void)curl_multi_socket_action(
			loop->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		collect(loop);
	}
}

static void run(struct loop *loop, struct transfer *transfers, int depth,
	uint64_t calls)
{
	loop->to_start = loop->to_end = calls;
	for (int i = 0; i < depth && loop->to_start > 0; i++)
		start(loop, &transfers[i]);
	while (loop->to_end > 0)
		turn(loop);
}

static struct curl_slist *make_headers(void)
{
	static const char *const lines[] = {"Content-Type: application/json",
		"Accept: application/json", "Expect:"};
	struct curl_slist *list = NULL;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct curl_slist *longer = curl_slist_append(list, lines[i]);

		if (longer == NULL)
			DIE("no memory");
		list = longer;
	}
	return list;
}

static void prepare(struct transfer *transfer, const char *url,
	struct curl_slist *headers, const char *body, uint64_t body_bytes)
{
	CURL *easy = transfer->easy = curl_easy_init();

	if (easy == NULL)
		DIE("curl_easy_init");
	(void)curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	(void)curl_easy_setopt(easy, CURLOPT_URL, url);
	(void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	(void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)body_bytes);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep_reply);
	(void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
}

static void open_loop(struct loop *loop)
{
	loop->wake_ns = UINT64_MAX;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->multi = curl_multi_init();
	if (loop->epoll_fd < 0 || loop->multi == NULL)
		DIE("no loop");
	(void)curl_multi_setopt(
		loop->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)curl_multi_setopt(loop->multi, CURLMOPT_SOCKETDATA, loop);
	(void)curl_multi_setopt(loop->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void)curl_multi_setopt(loop->multi, CURLMOPT_TIMERDATA, loop);
}

int main(int argc, char *argv[])
{
	static struct transfer transfers[DEPTH_MAX];
	struct loop loop = {0};
	struct curl_slist *headers;
	uint64_t body_bytes, calls, cpu;
	int depth;
	char *body;

	if (argc != 6)
		DIE("usage: URL CPU DEPTH CALLS BODY_BYTES");
	run_on_cpu((int)number_from(argv[2], CPU_SETSIZE - 1));
	depth = (int)number_from(argv[3], DEPTH_MAX);
	calls = number_from(argv[4], 10000000);
	body_bytes = number_from(argv[5], 32768);
	body = json_of(body_bytes);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		DIE("curl_global_init");
	headers = make_headers();
	open_loop(&loop);
	for (int i = 0; i < depth; i++)
		prepare(&transfers[i], argv[1], headers, body, body_bytes);
	run(&loop, transfers, depth, (uint64_t)depth * 20); /* connects */
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	run(&loop, transfers, depth, calls);
	cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("{\"cpu_us_per_call\": %.3f}\n",
		(double)cpu / 1e3 / (double)calls);
	for (int i = 0; i < depth; i++)
		curl_easy_cleanup(transfers[i].easy);
	(void)curl_multi_cleanup(loop.multi);
	curl_slist_free_all(headers);
	curl_global_cleanup();
	(void)close(loop.epoll_fd);
	free(body);
	return 0;
}
