/*
 * One connection: a socket that never blocks, plain or inside TLS.  It knows
 * nothing of what is said over it, and has no clock: time-outs are the
 * caller's.
 */
#ifndef COORDINATOR_CLUSTER_TRANSPORT_H
#define COORDINATOR_CLUSTER_TRANSPORT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

enum { TRANSPORT_WORDS_BYTES = 160 };

struct transport {
	int fd;   /* -1: none */
	SSL *tls; /* NULL: plain */
	bool is_connected;
	bool wants_write; /* what was asked for last waits for this, not for
			     bytes to read */
};

/*
 * What all connections of one configuration share: authorities to believe.
 * ca_file NULL: those of the system.  NULL: *ret_words says why.
 */
SSL_CTX *transport_tls_create(
	const char *ca_file, char ret_words[TRANSPORT_WORDS_BYTES]);

/*
 * Begins to connect; transport_shake() goes on.  tls NULL: plain; else the
 * server must prove to be `host` (a name or an address).  0 or -errno: then
 * there is nothing to close.
 */
int transport_open(struct transport *transport, const struct sockaddr *address,
	socklen_t bytes, SSL_CTX *tls, const char *host);

/* Whenever the socket is ready, until it returns 0: connected, and known.
 * -EAGAIN: later; else -errno, with words of TLS or "". */
int transport_shake(
	struct transport *transport, char ret_words[TRANSPORT_WORDS_BYTES]);

/* Bytes; 0: the other side has closed (read); -EAGAIN: later, see wants_write;
 * -errno. */
ssize_t transport_read(struct transport *transport, char *to, size_t bytes);
ssize_t transport_write(
	struct transport *transport, const char *from, size_t bytes);

/* Calling it twice is fine. */
void transport_close(struct transport *transport);

#endif
