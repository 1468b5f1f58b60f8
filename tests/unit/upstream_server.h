/*
 * A raw server on loopback for the tests of upstream: one thread accepts, one
 * more a connection runs the script of the test, byte for byte.
 */
#ifndef TESTS_UNIT_UPSTREAM_SERVER_H
#define TESTS_UNIT_UPSTREAM_SERVER_H

#include "tests/unit/suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum { SERVER_HEAD_BYTES = 32768, SERVER_MAX_CONNECTIONS = 256 };

struct server;

struct server_connection {
	struct server *server;
	int fd;
	int number; /* from 1, in the order of arrival */
	pthread_t thread;
	/* The present request. */
	char head[SERVER_HEAD_BYTES];
	size_t body_bytes;
	uint64_t body_sum; /* of its bytes */
};

typedef void server_script(struct server_connection *connection);

struct server {
	int fd;
	uint16_t port;
	server_script *script;
	pthread_t thread;
	pthread_mutex_t lock;
	struct server_connection *connections[SERVER_MAX_CONNECTIONS];
	atomic_int connection_count, ended;
	atomic_int requests; /* whole ones */
	atomic_int heads;
	char last_head[SERVER_HEAD_BYTES]; /* under the lock */
	uint64_t last_body_sum;
	size_t last_body_bytes;
	atomic_bool release; /* for scripts that wait */
};

static inline void server_send(
	struct server_connection *connection, const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t sent = send(connection->fd, text, left, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		text += sent;
		left -= (size_t)sent;
	}
}

/* Closes with a reset instead of an end. */
static inline void server_reset(struct server_connection *connection)
{
	struct linger now = {.l_onoff = 1};

	setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* The head alone; false: the connection has ended. */
static inline bool server_read_head(struct server_connection *connection)
{
	size_t used = 0;

	for (;;) {
		if (used == SERVER_HEAD_BYTES - 1 ||
			recv(connection->fd, connection->head + used, 1, 0) !=
				1)
			return false;
		connection->head[++used] = '\0';
		if (used >= 4 &&
			strcmp(connection->head + used - 4, "\r\n\r\n") == 0)
			break;
	}
	atomic_fetch_add(&connection->server->heads, 1);
	return true;
}

static inline bool server_read_body(struct server_connection *connection)
{
	struct server *server = connection->server;
	const char *length =
		strcasestr(connection->head, "\r\ncontent-length:");
	size_t left = length ? strtoul(length + 17, NULL, 10) : 0;
	unsigned char block[65536];

	connection->body_bytes = left;
	connection->body_sum = 0;
	while (left > 0) {
		ssize_t got = recv(connection->fd, block,
			left < sizeof(block) ? left : sizeof(block), 0);

		if (got <= 0)
			return false;
		for (ssize_t i = 0; i < got; i++)
			connection->body_sum += block[i];
		left -= (size_t)got;
	}
	pthread_mutex_lock(&server->lock);
	strcpy(server->last_head, connection->head);
	server->last_body_sum = connection->body_sum;
	server->last_body_bytes = connection->body_bytes;
	pthread_mutex_unlock(&server->lock);
	atomic_fetch_add(&server->requests, 1);
	return true;
}

static inline bool server_read_request(struct server_connection *connection)
{
	return server_read_head(connection) && server_read_body(connection);
}

/* Waits for the other side to end, or the server. */
static inline void server_wait_end(struct server_connection *connection)
{
	char byte;

	while (recv(connection->fd, &byte, 1, 0) > 0)
		;
}

static void *server_connection_main(void *argument)
{
	struct server_connection *connection = argument;
	struct server *server = connection->server;

	server->script(connection);
	pthread_mutex_lock(&server->lock);
	close(connection->fd);
	connection->fd = -1;
	pthread_mutex_unlock(&server->lock);
	atomic_fetch_add(&server->ended, 1);
	return NULL;
}

static void *server_main(void *argument)
{
	struct server *server = argument;
	int fd;

	while ((fd = accept(server->fd, NULL, NULL)) >= 0) {
		struct server_connection *connection =
			calloc(1, sizeof(*connection));
		int number = atomic_load(&server->connection_count);

		connection->server = server;
		connection->fd = fd;
		connection->number = number + 1;
		server->connections[number] = connection;
		atomic_store(&server->connection_count, number + 1);
		pthread_create(&connection->thread, NULL,
			server_connection_main, connection);
	}
	return NULL;
}

static inline void server_listen(struct server *server, int backlog)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	memset(server, 0, sizeof(*server));
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_FATAL(
		bind(server->fd, (struct sockaddr *)&address, length) == 0 &&
		listen(server->fd, backlog) == 0);
	getsockname(server->fd, (struct sockaddr *)&address, &length);
	server->port = ntohs(address.sin_port);
}

static inline void server_start(struct server *server, server_script *script)
{
	server_listen(server, 256);
	server->script = script;
	pthread_mutex_init(&server->lock, NULL);
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&server->thread, NULL, server_main, server), 0);
}

static inline void server_stop(struct server *server)
{
	int count;

	atomic_store(&server->release, true);
	shutdown(server->fd, SHUT_RDWR);
	pthread_join(server->thread, NULL);
	close(server->fd);
	count = atomic_load(&server->connection_count);
	for (int i = 0; i < count; i++) {
		struct server_connection *connection = server->connections[i];

		pthread_mutex_lock(&server->lock);
		if (connection->fd >= 0)
			shutdown(connection->fd, SHUT_RDWR);
		pthread_mutex_unlock(&server->lock);
		pthread_join(connection->thread, NULL);
		free(connection);
	}
	pthread_mutex_destroy(&server->lock);
}

#endif
