/*
 * The cheapest provider that keeps connections: answers every request with the
 * same 200, from one thread over epoll.  Prints its port; ends with its stdin.
 *
 * Requests have a Content-Length; one that is larger than the buffer, or has
 * none, ends the program: a benchmark that sends it measures something else.
 */
#include "bench/measure.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536, CONNECTIONS_MAX = 256, BATCH = 64 };

struct connection {
	int fd;
	size_t filled;
	char bytes[BUFFER_BYTES];
};

static int epoll_fd;
static struct connection *connections[CONNECTIONS_MAX]; /* by descriptor */

static void watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		DIE("epoll: %s", strerror(errno));
}

static void answer(const struct connection *connection)
{
	static const char body[] =
		"{\"content\":[{\"type\":\"text\",\"text\":\"Hello.\"}],"
		"\"usage\":{\"input_tokens\":12,\"output_tokens\":5}}";
	static char text[1024];
	static int bytes;

	if (bytes == 0)
		bytes = snprintf(text, sizeof(text),
			"HTTP/1.1 200 OK\r\n"
			"Content-Type: application/json\r\n"
			"x-amzn-RequestId: 0f6a4f2e-0000-0000-0000-0000\r\n"
			"Content-Length: %zu\r\n\r\n%s",
			sizeof(body) - 1, body);
	if (send(connection->fd, text, (size_t)bytes, MSG_NOSIGNAL) != bytes)
		DIE("answer: %s", strerror(errno));
}

/* Bytes of the first request, or 0: it is not whole yet. */
static size_t request_bytes(const struct connection *connection)
{
	const char *bytes = connection->bytes;
	const char *end = memmem(bytes, connection->filled, "\r\n\r\n", 4);
	const char *length;
	size_t whole;

	if (end == NULL)
		return 0;
	length = strcasestr(bytes, "\ncontent-length:");
	if (length == NULL || length > end)
		DIE("a request without Content-Length");
	whole = (size_t)(end - bytes) + 4 +
		strtoul(length + sizeof("\ncontent-length:") - 1, NULL, 10);
	if (whole >= BUFFER_BYTES)
		DIE("a request of %zu bytes", whole);
	return whole <= connection->filled ? whole : 0;
}

/* False: the peer has closed. */
static bool serve(struct connection *connection)
{
	ssize_t n = recv(connection->fd, connection->bytes + connection->filled,
		BUFFER_BYTES - 1 - connection->filled, 0);
	size_t whole;

	if (n <= 0)
		return false;
	connection->filled += (size_t)n;
	connection->bytes[connection->filled] = '\0';
	while ((whole = request_bytes(connection)) > 0) {
		answer(connection);
		connection->filled -= whole;
		memmove(connection->bytes, connection->bytes + whole,
			connection->filled + 1);
	}
	return true;
}

static void accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	const int on = 1;

	if (fd < 0 || fd >= CONNECTIONS_MAX)
		DIE("accept: %s", fd < 0 ? strerror(errno) : "too many");
	connections[fd] = calloc(1, sizeof(struct connection));
	if (connections[fd] == NULL)
		DIE("no memory");
	connections[fd]->fd = fd;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	watch(fd);
}

static void drop(int fd)
{
	free(connections[fd]);
	connections[fd] = NULL;
	(void)close(fd);
}

static int open_listener(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, bytes) != 0 ||
		listen(fd, CONNECTIONS_MAX) != 0 ||
		getsockname(fd, (struct sockaddr *)&address, &bytes) != 0)
		DIE("listen: %s", strerror(errno));
	printf("%d\n", ntohs(address.sin_port));
	(void)fflush(stdout);
	return fd;
}

int main(void)
{
	struct epoll_event batch[BATCH];
	int listener = open_listener();

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(listener);
	watch(STDIN_FILENO);
	for (;;) {
		int n = epoll_wait(epoll_fd, batch, BATCH, -1);

		for (int i = 0; i < n; i++) {
			int fd = batch[i].data.fd;

			if (fd == STDIN_FILENO)
				return 0;
			if (fd == listener)
				accept_one(listener);
			else if (!serve(connections[fd]))
				drop(fd);
		}
	}
}
