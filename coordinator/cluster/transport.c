/* The socket by system calls, TLS by OpenSSL over it. */
#include "coordinator/cluster/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { KEEPALIVE_S = 60, KEEPALIVE_PROBES = 3 };

/* ------------------------------------------------------------ TLS */

static void tell_tls(const char *what, char ret_words[TRANSPORT_WORDS_BYTES])
{
	unsigned long error = ERR_peek_last_error();
	const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;

	(void)snprintf(ret_words, TRANSPORT_WORDS_BYTES, "%s%s%s", what,
		reason != NULL ? ": " : "", reason != NULL ? reason : "");
	ERR_clear_error();
}

SSL_CTX *transport_tls_create(
	const char *ca_file, char ret_words[TRANSPORT_WORDS_BYTES])
{
	SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
	int ok;

	if (tls == NULL) {
		tell_tls("TLS", ret_words);
		return NULL;
	}
	SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
	(void)SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
	(void)SSL_CTX_set_mode(
		tls, SSL_MODE_ENABLE_PARTIAL_WRITE |
			     SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	ok = ca_file == NULL
		     ? SSL_CTX_set_default_verify_paths(tls)
		     : SSL_CTX_load_verify_locations(tls, ca_file, NULL);
	if (ok == 1)
		return tls;
	tell_tls("certificates of authorities", ret_words);
	SSL_CTX_free(tls);
	return NULL;
}

/* Also that it is the right one: a certificate alone says only who it is. */
static int expect_host(SSL *tls, const char *host)
{
	char name[256];
	X509_VERIFY_PARAM *must = SSL_get0_param(tls);
	unsigned char address[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, host, address) == 1 ||
		inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(must, host) == 1 ? 0
								      : -EINVAL;
	(void)snprintf(name, sizeof(name), "%s", host);
	X509_VERIFY_PARAM_set_hostflags(
		must, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	/* SSL_set_tlsext_host_name() without its cast. */
	return X509_VERIFY_PARAM_set1_host(must, host, 0) == 1 &&
			       SSL_ctrl(tls, SSL_CTRL_SET_TLSEXT_HOSTNAME,
				       TLSEXT_NAMETYPE_host_name, name) == 1
		       ? 0
		       : -EINVAL;
}

static int begin_tls(
	struct transport *transport, SSL_CTX *tls, const char *host)
{
	transport->tls = SSL_new(tls);
	if (transport->tls == NULL)
		return -ENOMEM;
	if (SSL_set_fd(transport->tls, transport->fd) != 1)
		return -ENOMEM;
	return expect_host(transport->tls, host);
}

/* What an operation of OpenSSL wants when it has not succeeded. */
static int judge_tls(struct transport *transport, int result)
{
	switch (SSL_get_error(transport->tls, result)) {
	case SSL_ERROR_WANT_READ:
		transport->wants_write = false;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		transport->wants_write = true;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		return errno != 0 ? -errno : -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static int shake_tls(
	struct transport *transport, char ret_words[TRANSPORT_WORDS_BYTES])
{
	long verdict;
	int result, rc;

	ERR_clear_error();
	errno = 0;
	result = SSL_connect(transport->tls);
	if (result == 1)
		return 0;
	rc = judge_tls(transport, result);
	if (rc == -EAGAIN)
		return rc;
	verdict = SSL_get_verify_result(transport->tls);
	if (verdict != X509_V_OK)
		(void)snprintf(ret_words, TRANSPORT_WORDS_BYTES,
			"its certificate: %s",
			X509_verify_cert_error_string(verdict));
	else
		tell_tls("TLS", ret_words);
	ERR_clear_error();
	return rc == 0 ? -ECONNRESET : rc;
}

/* ------------------------------------------------------------ the socket */

/* Failing is harmless: an answer a little later, an end that is noticed when
 * next something is asked. */
static void tune(int fd)
{
	int on = 1, idle = KEEPALIVE_S, probes = KEEPALIVE_PROBES;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

int transport_open(struct transport *transport, const struct sockaddr *address,
	socklen_t bytes, SSL_CTX *tls, const char *host)
{
	int rc = 0;

	*transport = (struct transport){.wants_write = true};
	transport->fd = socket(address->sa_family,
		SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (transport->fd < 0)
		return -errno;
	if (address->sa_family != AF_UNIX)
		tune(transport->fd);
	if (connect(transport->fd, address, bytes) != 0 && errno != EINPROGRESS)
		rc = -errno;
	if (rc == 0 && tls != NULL)
		rc = begin_tls(transport, tls, host);
	if (rc != 0)
		transport_close(transport);
	return rc;
}

static int finish_connect(struct transport *transport)
{
	struct sockaddr_storage peer;
	socklen_t bytes = sizeof(peer);
	int error = 0;
	socklen_t error_bytes = sizeof(error);

	if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &error,
		    &error_bytes) != 0 ||
		error != 0)
		return error != 0 ? -error : -errno;
	if (getpeername(transport->fd, (struct sockaddr *)&peer, &bytes) != 0)
		return errno == ENOTCONN ? -EAGAIN : -errno;
	transport->is_connected = true;
	transport->wants_write = false;
	return 0;
}

int transport_shake(
	struct transport *transport, char ret_words[TRANSPORT_WORDS_BYTES])
{
	int rc = transport->is_connected ? 0 : finish_connect(transport);

	ret_words[0] = '\0';
	return rc == 0 && transport->tls != NULL
		       ? shake_tls(transport, ret_words)
		       : rc;
}

ssize_t transport_read(struct transport *transport, char *to, size_t bytes)
{
	ssize_t n;

	if (transport->tls == NULL) {
		n = recv(transport->fd, to, bytes, MSG_DONTWAIT);
		transport->wants_write = false;
		return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
	}
	ERR_clear_error();
	errno = 0;
	n = SSL_read(transport->tls, to, (int)bytes);
	return n > 0 ? n : judge_tls(transport, (int)n);
}

ssize_t transport_write(
	struct transport *transport, const char *from, size_t bytes)
{
	ssize_t n;

	if (transport->tls == NULL) {
		n = send(transport->fd, from, bytes,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		transport->wants_write = n < 0;
		return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : n;
	}
	ERR_clear_error();
	errno = 0;
	n = SSL_write(transport->tls, from, (int)bytes);
	if (n > 0)
		return n;
	n = judge_tls(transport, (int)n);
	return n == 0 ? -ECONNRESET : n;
}

void transport_close(struct transport *transport)
{
	/* No close notify: it could block on nobody, and nobody needs it. */
	SSL_free(transport->tls);
	transport->tls = NULL;
	if (transport->fd >= 0)
		(void)close(transport->fd);
	transport->fd = -1;
}
