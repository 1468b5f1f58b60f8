/* What is done to a connection's socket, behind the HTTP library's back. */
#include "tools/bedrock-sim/wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int set_option(int fd, int level, int option)
{
	int on = 1;

	return setsockopt(fd, level, option, &on, sizeof(on));
}

static int listen_on(int fd, int *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);

	/* Accepted sockets inherit TCP_NODELAY. */
	if (set_option(fd, SOL_SOCKET, SO_REUSEADDR) != 0 ||
		set_option(fd, IPPROTO_TCP, TCP_NODELAY) != 0 ||
		bind(fd, (struct sockaddr *)&address, length) != 0 ||
		listen(fd, 4096) != 0 ||
		getsockname(fd, (struct sockaddr *)&address, &length) != 0)
		return -errno;
	*port = ntohs(address.sin_port);
	return 0;
}

int wire_listen(int *port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	rc = listen_on(fd, port);
	if (rc == 0)
		return fd;
	(void)close(fd);
	return rc;
}

void wire_reset(int fd)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	/*
	 * Linux answers this with an immediate RST.  SO_LINGER 0 would not do:
	 * the library calls shutdown() before close(), and the peer would see
	 * an orderly end first.
	 */
	(void)connect(fd, &nowhere, sizeof(nowhere));
}

void wire_garble(int fd)
{
	static const char garbage[] =
		"\x00\xff\x16\x7f*&^ this is not HTTP \r\n\r\n\x80\x81\x82";

	(void)send(
		fd, garbage, sizeof(garbage) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(fd, SHUT_WR);
}

bool wire_peer_left(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};

	return poll(&poll_fd, 1, 0) > 0;
}
