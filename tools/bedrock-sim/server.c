/* The HTTP side: libmicrohttpd's callbacks. */
#include "tools/bedrock-sim/server.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/clock.h"
#include "tools/bedrock-sim/send.h"
#include "tools/bedrock-sim/wire.h"

enum {
	CONNECTIONS_MOST = 100000,
	/* Request line, headers and a piece of the body must fit. */
	CONNECTION_BYTES = 64 * 1024,
};

/* How often a request that hangs looks whether its client has left. */
static const uint64_t hang_look_ns = 20 * 1000 * 1000;

struct listener {
	struct sim *sim;
	bool tls;
};

/* A request and where it stands with the library. */
struct call {
	struct exchange *exchange;
	struct MHD_Connection *connection;
	enum { CALL_HEADERS, CALL_BODY, CALL_ASLEEP, CALL_ANSWERED } stage;
};

static struct peer *peer_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void on_connection(void *cls, struct MHD_Connection *connection,
	void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	struct listener *listener = cls;
	struct peer *peer;

	(void)connection;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		free(*socket_context);
		*socket_context = NULL;
		return;
	}
	peer = memory_zeroed(sizeof(*peer));
	peer->tls = listener->tls;
	(void)pthread_mutex_lock(&listener->sim->lock);
	peer->number = ++listener->sim->connections;
	(void)pthread_mutex_unlock(&listener->sim->lock);
	*socket_context = peer;
}

/* The request line, before the library decodes it. */
static void *on_target(
	void *cls, const char *target, struct MHD_Connection *connection)
{
	struct listener *listener = cls;
	struct peer *peer = peer_of(connection);
	struct call *call;

	if (peer == NULL)
		return NULL;
	call = memory_zeroed(sizeof(*call));
	call->connection = connection;
	call->exchange = exchange_begin(listener->sim, peer, target);
	return call;
}

static enum MHD_Result on_header(
	void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct headers *headers = cls;

	(void)kind;
	headers->list = memory_grow(headers->list, &headers->capacity,
		headers->count + 1, sizeof(*headers->list));
	headers->list[headers->count++] =
		(struct header){.name = name, .value = value ? value : ""};
	return MHD_YES;
}

static enum MHD_Result take_headers(struct call *call, const char *method)
{
	struct exchange *exchange = call->exchange;

	exchange->method = method;
	route_parse(method, exchange->path, &exchange->route);
	if (!route_is_sim(exchange->route.op))
		judge_arrival(exchange);
	(void)MHD_get_connection_values(call->connection, MHD_HEADER_KIND,
		on_header, &exchange->headers);
	call->stage = CALL_BODY;
	return MHD_YES;
}

static bool hangs(const struct exchange *exchange)
{
	return exchange->fault.kind == FAULT_HANG;
}

/*
 * On the timer thread.  A request that hangs holds its connection until the
 * client leaves, which the library would not notice while it is suspended.
 */
static void wake(void *argument)
{
	struct call *call = argument;

	if (hangs(call->exchange) &&
		!wire_peer_left(send_socket(call->connection))) {
		timers_add(call->exchange->sim->timers,
			clock_now_ns() + hang_look_ns, wake, call);
		return;
	}
	/* From here on the call belongs to the connection's thread again. */
	MHD_resume_connection(call->connection);
}

static enum MHD_Result answer(struct call *call)
{
	call->stage = CALL_ANSWERED;
	judge_answer(call->exchange);
	return send_answer(call->connection, call->exchange);
}

static enum MHD_Result take_whole_body(struct call *call)
{
	struct exchange *exchange = call->exchange;

	if (route_is_sim(exchange->route.op)) {
		call->stage = CALL_ANSWERED;
		return send_page(call->connection, exchange);
	}
	judge_request(exchange);
	if (!hangs(exchange) && exchange->due_ns <= clock_now_ns())
		return answer(call);
	call->stage = CALL_ASLEEP;
	/* Suspended before the timer exists: it may fire at once. */
	MHD_suspend_connection(call->connection);
	timers_add(exchange->sim->timers, exchange->due_ns, wake, call);
	return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection,
	const char *url, const char *method, const char *version,
	const char *upload_data, size_t *upload_data_size, void **req_cls)
{
	struct call *call = *req_cls;

	(void)cls;
	(void)connection;
	(void)url;
	(void)version;
	if (call == NULL)
		return MHD_NO;
	switch (call->stage) {
	case CALL_HEADERS:
		return take_headers(call, method);
	case CALL_BODY:
		if (*upload_data_size == 0)
			return take_whole_body(call);
		if (!exchange_body(
			    call->exchange, upload_data, *upload_data_size))
			return MHD_NO;
		*upload_data_size = 0;
		return MHD_YES;
	case CALL_ASLEEP:
		return answer(call);
	case CALL_ANSWERED:
		return MHD_YES;
	}
	return MHD_NO;
}

static void on_completed(void *cls, struct MHD_Connection *connection,
	void **req_cls, enum MHD_RequestTerminationCode code)
{
	struct call *call = *req_cls;

	(void)cls;
	(void)connection;
	if (call == NULL)
		return;
	exchange_end(
		call->exchange, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
	free(call);
	*req_cls = NULL;
}

/* The target is wanted as it was sent. */
static size_t keep_escapes(
	void *cls, struct MHD_Connection *connection, char *text)
{
	(void)cls;
	(void)connection;
	return strlen(text);
}

bool server_start(struct sim *sim, int listen_fd, const struct server_tls *tls)
{
	struct listener *listener = memory_zeroed(sizeof(*listener));
	struct MHD_OptionItem tls_options[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, NULL},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, NULL},
		{MHD_OPTION_END, 0, NULL},
	};
	unsigned flags =
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;

	*listener = (struct listener){.sim = sim, .tls = tls != NULL};
	if (tls != NULL) {
		flags |= MHD_USE_TLS;
		tls_options[0].ptr_value = tls->certificate;
		tls_options[1].ptr_value = tls->key;
	} else {
		tls_options[0].option = MHD_OPTION_END;
	}
	return MHD_start_daemon(flags, 0, NULL, NULL, on_request, listener,
		       MHD_OPTION_LISTEN_SOCKET, listen_fd,
		       MHD_OPTION_URI_LOG_CALLBACK, on_target, listener,
		       MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
		       MHD_OPTION_NOTIFY_CONNECTION, on_connection, listener,
		       MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
		       MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MOST,
		       MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		       (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT,
		       1, MHD_OPTION_ARRAY, tls_options,
		       MHD_OPTION_END) != NULL;
}
