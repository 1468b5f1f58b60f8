/* The public functions: requests, permits, event loops. */
#include "client-lib/rgov.h"

#include "client-lib/handle.h"
#include "client-lib/submit.h"
#include "client-lib/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_CONNECT_MS 2000u
/* An answer to a passed deadline may be under way: wait for it this long. */
#define GRACE_NS (1000u * MS_NS)
/* Is rgovd still there?  Settlements ask that often. */
#define LOOK_AGAIN_NS (10u * MS_NS)
/* What an event loop may be held up for when rgovd is away. */
#define RECONNECT_TRY_NS (20u * MS_NS)

/* ------------------------------------------------------------ open, close */

static bool is_socket(const char *path)
{
	struct stat found;

	return stat(path, &found) == 0 && S_ISSOCK(found.st_mode);
}

/* Where rgovd's socket is looked for, in order; the last one is what an error
 * then names.  NULL: no memory. */
static char *find_socket(const char *name)
{
	const char *own = getenv("RGOV_RUNTIME_DIR");
	const char *session = getenv("XDG_RUNTIME_DIR");
	char *path = NULL;

	if (own != NULL && *own != '\0')
		return asprintf(&path, "%s/%s.sock", own, name) < 0 ? NULL
								    : path;
	if (asprintf(&path, "/run/rgov/%s.sock", name) < 0)
		return NULL;
	if (is_socket(path) || geteuid() == 0)
		return path;
	free(path);
	if (session != NULL && *session != '\0')
		return asprintf(&path, "%s/rgov/%s.sock", session, name) < 0
			       ? NULL
			       : path;
	return asprintf(&path, "/tmp/rgov-%u/%s.sock", (unsigned int)geteuid(),
		       name) < 0
		       ? NULL
		       : path;
}

static const char *name_of(const struct rgov_options *options)
{
	const char *name = options ? options->name : NULL;

	if (name == NULL || *name == '\0')
		name = getenv("RGOV_NAME");
	return name != NULL && *name != '\0' ? name : "default";
}

static char *socket_of(const struct rgov_options *options, const char *name)
{
	const char *path = options ? options->socket_path : NULL;

	if (path == NULL || *path == '\0')
		path = getenv("RGOV_SOCKET");
	return path != NULL && *path != '\0' ? strdup(path) : find_socket(name);
}

static void free_handle(struct rgov *gov)
{
	free(gov->name);
	free(gov->socket_path);
	free(gov->app);
	free(gov);
}

static int no_memory(void)
{
	return fail(-ENOMEM, "no memory for a handle");
}

int rgov_open(const struct rgov_options *options, struct rgov **ret_gov)
{
	const char *name = name_of(options);
	const char *app = options && options->app && *options->app
				  ? options->app
				  : program_invocation_short_name;
	uint32_t connect_ms = options ? options->connect_timeout_ms : 0;
	uint32_t slots = options ? options->slots : 0;
	struct rgov *gov;

	if (options != NULL && options->size != sizeof(*options))
		return fail(-EINVAL, "options.size: expected %zu, found %zu",
			sizeof(*options), options->size);
	if (!shm_name_is_valid(name))
		return fail(-EINVAL,
			"name: expected 1 to %d of A-Z a-z 0-9 . _ -, not "
			"beginning with a dot, found \"%.64s\"",
			SHM_NAME_BYTES - 1, name);
	if (slots > SHM_SLOTS_MAX)
		return fail(-EINVAL, "slots: expected at most %d, found %u",
			SHM_SLOTS_MAX, slots);
	gov = calloc(1, sizeof(*gov));
	if (gov == NULL)
		return no_memory();
	gov->name = strdup(name);
	gov->socket_path = socket_of(options, name);
	gov->app = strdup(app);
	if (!gov->name || !gov->socket_path || !gov->app) {
		free_handle(gov);
		return no_memory();
	}
	gov->connect_timeout_ns =
		(uint64_t)(connect_ms ? connect_ms : DEFAULT_CONNECT_MS) *
		MS_NS;
	gov->slots = slots ? slots : SHM_SLOTS_DEFAULT;
	gov->told_fd = -1;
	(void)handles_add(gov);
	*ret_gov = gov;
	return 0;
}

void rgov_close(struct rgov *gov)
{
	if (gov == NULL)
		return;
	if (gov->session != NULL && gov->fork_number == fork_number())
		session_free(gov->session);
	else if (gov->session != NULL)
		session_forget(gov->session);
	handles_remove(gov);
	free_handle(gov);
}

int rgov_submit(struct rgov *gov, const struct rgov_request *request,
	struct rgov_ticket *ret_ticket)
{
	return submit(gov,
		&(struct submission){.request = request, .kind = SHM_CALL},
		ret_ticket);
}

int rgov_submit_permit(struct rgov *gov, const struct rgov_request *request,
	struct rgov_ticket *ret_ticket)
{
	return submit(gov,
		&(struct submission){.request = request, .kind = SHM_PERMIT},
		ret_ticket);
}

/* ------------------------------------------------------------ collect */

static int read_reply_body(const struct session *session, uint32_t slot,
	struct rgov_reply *reply, size_t n)
{
	char *body;
	size_t got = 0;

	if (n > SHM_BODY_REGION)
		return fail(-EIO, "reply: expected at most %d bytes, found %zu",
			SHM_BODY_REGION, n);
	body = malloc(n + 1);
	if (body == NULL)
		return fail(-ENOMEM, "no memory for a reply of %zu bytes", n);
	while (got < n) {
		ssize_t more = pread(session->fds[WIRE_FD_DAEMON_BODIES],
			body + got, n - got, (off_t)(shm_body_off(slot) + got));

		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0) {
			free(body);
			return fail(-EIO, "reply of %zu bytes: only %zu there",
				n, got);
		}
		got += (size_t)more;
	}
	body[n] = '\0';
	reply->body = body;
	reply->body_bytes = n;
	return 0;
}

/* The answer is there, so nobody writes its place any more. */
static void read_waits(const struct daemon_slot *from, uint32_t generation,
	struct rgov_reply *reply)
{
	for (uint32_t i = 0; i < SHM_REASONS; i++)
		if (from->waited >> i & 1)
			reply->waited_ns[i] = from->waited_ns[i];
	if (from->place.generation == generation) {
		reply->queue_position = from->place.first_position;
		reply->predicted_wait_ns = from->place.first_predicted_ns;
	}
	if (from->has_model == 1)
		memcpy(reply->model, from->model, sizeof(reply->model) - 1);
}

/* The answer is there (A3), and rgovd does not touch it before the next submit.
 */
static int read_reply(const struct session *session,
	const struct rgov_ticket *ticket, struct rgov_reply *reply,
	struct daemon_task *line)
{
	const struct daemon_slot *from = &session->daemon_slots[ticket->slot];

	*reply = (struct rgov_reply){
		.size = sizeof(*reply),
		.result = from->result,
		.http_status = from->http_status,
		.attempts = from->attempts,
		.input_tokens = from->input_tokens,
		.output_tokens = from->output_tokens,
		.cache_read_tokens = from->cache_read_tokens,
		.cache_write_tokens = from->cache_write_tokens,
		.wait_ns = from->wait_ns,
		.execution_ns = from->execution_ns,
		.retry_after_ms = from->retry_after_ns / MS_NS,
	};
	if (line != NULL)
		*line = from->task;
	read_waits(from, ticket->generation, reply);
	memcpy(reply->code, from->code, sizeof(reply->code) - 1);
	memcpy(reply->message, from->message, sizeof(reply->message) - 1);
	memcpy(reply->request_id, from->request_id,
		sizeof(reply->request_id) - 1);
	return from->body_bytes == 0 ? 0
				     : read_reply_body(session, ticket->slot,
					       reply, from->body_bytes);
}

/* Under the lock: is the ticket's request still out, and nobody else's? */
static bool is_out(
	const struct session *session, const struct rgov_ticket *ticket)
{
	const struct slot *own = &session->slots[ticket->slot];

	return own->use == SLOT_OUT && own->generation == ticket->generation;
}

/* A cancelled permit is never held, even where the grant came first: rgovd
 * takes the cancel for a settlement as unused. */
static void hide_cancelled_grant(
	const struct slot *own, struct rgov_reply *reply)
{
	if (own->cancelled && own->is_permit && reply->result == RGOV_R_OK)
		reply->result = RGOV_R_CANCELLED;
}

/* It answered itself.  Its name is in this process's own file, where the next
 * submit writes: only while the slot is ours. */
static void name_model_asked(
	const struct session *session, uint32_t slot, struct rgov_reply *reply)
{
	size_t n = session->client_slots[slot].model_bytes;

	if (n > sizeof(reply->model) - 1)
		n = sizeof(reply->model) - 1;
	memcpy(reply->model, session->texts[slot].model, n);
}

/* The request's end goes to this caller.  False: another thread has waited for
 * the same ticket, or given it up, meanwhile; what was read is not ours. */
static bool finish_slot(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket, struct rgov_reply *reply)
{
	struct slot *own = &session->slots[ticket->slot];
	bool must_ring = false, is_ours;

	(void)pthread_mutex_lock(&gov->lock);
	is_ours = is_out(session, ticket);
	if (is_ours) {
		/* Under the lock: a cancel comes before it, or finds the permit
		 * held. */
		hide_cancelled_grant(own, reply);
		if (reply->model[0] == '\0')
			name_model_asked(session, ticket->slot, reply);
		if (own->is_permit && reply->result == RGOV_R_OK)
			own->use = SLOT_HELD;
		else
			must_ring = session_finish_slot(session, ticket->slot);
	}
	if (must_ring)
		submit_ring(gov, session);
	(void)pthread_mutex_unlock(&gov->lock);
	return is_ours;
}

static int used_up(void)
{
	return fail(-ESTALE, "this ticket is used up");
}

static int collect(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket, struct rgov_reply *reply,
	struct daemon_task *line)
{
	int rc = read_reply(session, ticket, reply, line);

	if (finish_slot(gov, session, ticket, reply))
		return rc;
	rgov_reply_fini(reply);
	return used_up();
}

static void abandon_slot(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket);

/* Until when this wait may last, and whether that is the request's own end. */
static uint64_t wait_limit(const struct rgov_ticket *ticket,
	uint64_t timeout_ms, bool *ret_is_last)
{
	uint64_t last = ticket->deadline_ns + GRACE_NS;
	uint64_t limit = timeout_ms > (UINT64_MAX / 2) / MS_NS
				 ? UINT64_MAX / 2
				 : clock_now_ns() + timeout_ms * MS_NS;

	*ret_is_last = limit >= last;
	return *ret_is_last ? last : limit;
}

/* Only looks where the time is up already: no spin, no system call. */
static int wait_until(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket, uint64_t timeout_ms,
	uint64_t until_ns)
{
	if (timeout_ms > 0)
		return wait_for_answer(gov, session, ticket->slot,
			ticket->generation, until_ns);
	return session_has_answer(session, ticket->slot, ticket->generation)
		       ? 0
		       : -ETIMEDOUT;
}

static int wait_in(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket, uint64_t timeout_ms,
	struct rgov_reply *ret_reply, struct daemon_task *ret_line)
{
	bool is_last;
	uint64_t until_ns;
	int rc;

	(void)pthread_mutex_lock(&gov->lock);
	rc = is_out(session, ticket) ? 0 : -ESTALE;
	(void)pthread_mutex_unlock(&gov->lock);
	if (rc < 0)
		return used_up();
	handle_pay_bell(gov, session);
	until_ns = wait_limit(ticket, timeout_ms, &is_last);
	rc = wait_until(gov, session, ticket, timeout_ms, until_ns);
	if (rc == 0)
		return collect(gov, session, ticket, ret_reply, ret_line);
	if (rc == -ETIMEDOUT && !is_last)
		return -EAGAIN;
	if (rc == -ETIMEDOUT) {
		abandon_slot(gov, session, ticket);
		return fail(-ETIMEDOUT,
			"the deadline passed and rgovd at %s does not answer",
			gov->socket_path);
	}
	if (rc == -ESTALE)
		return used_up();
	if (rc == -ECONNRESET)
		return fail(-ECONNRESET,
			"rgovd came back but does not know this process: %s",
			rgov_why());
	return rc;
}

int wait_for_reply(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t timeout_ms, struct rgov_reply *ret_reply,
	struct daemon_task *ret_line)
{
	struct session *session;
	int rc;

	if (ret_reply->size != sizeof(*ret_reply))
		return fail(-EINVAL, "reply.size: expected %zu, found %zu",
			sizeof(*ret_reply), ret_reply->size);
	rc = handle_enter_ticket(gov, ticket, &session);
	if (rc < 0)
		return rc;
	rc = wait_in(gov, session, ticket, timeout_ms, ret_reply, ret_line);
	handle_leave(gov, session);
	return rc;
}

int rgov_wait(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t timeout_ms, struct rgov_reply *ret_reply)
{
	return wait_for_reply(gov, ticket, timeout_ms, ret_reply, NULL);
}

static int wait_to_the_end(struct rgov *gov, const struct rgov_ticket *ticket,
	struct rgov_reply *ret_reply)
{
	int rc;

	do
		rc = rgov_wait(gov, ticket, UINT64_MAX, ret_reply);
	while (rc == -EINTR);
	return rc;
}

int rgov_call(struct rgov *gov, const struct rgov_request *request,
	struct rgov_reply *ret_reply)
{
	struct rgov_ticket ticket;
	int rc = rgov_submit(gov, request, &ticket);

	return rc < 0 ? rc : wait_to_the_end(gov, &ticket, ret_reply);
}

int rgov_permit(struct rgov *gov, const struct rgov_request *request,
	struct rgov_ticket *ret_ticket, struct rgov_reply *ret_reply)
{
	int rc = rgov_submit_permit(gov, request, ret_ticket);

	return rc < 0 ? rc : wait_to_the_end(gov, ret_ticket, ret_reply);
}

void rgov_reply_fini(struct rgov_reply *reply)
{
	free(reply->body);
	reply->body = NULL;
	reply->body_bytes = 0;
}

/* ------------------------------------------------------------ give up */

static void write_settlement(struct session *session, uint32_t slot,
	enum shm_settlement how, int64_t input_tokens, int64_t output_tokens)
{
	struct client_slot *to = &session->client_slots[slot];

	to->settlement = (uint32_t)how;
	to->settled_input_tokens = input_tokens;
	to->settled_output_tokens = output_tokens;
	/* Committed by C1, with the command that follows. */
	to->settled_generation = session->slots[slot].generation;
}

/* Under the lock. */
static void post_cancel(
	struct rgov *gov, struct session *session, uint32_t slot)
{
	struct slot *own = &session->slots[slot];

	if (own->cancelled)
		return;
	own->cancelled = true;
	if (own->is_permit)
		write_settlement(session, slot, SHM_SETTLED_UNUSED, -1, -1);
	(void)submit_command(gov, session, slot, SHM_CANCEL);
}

static void abandon_slot(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket)
{
	(void)pthread_mutex_lock(&gov->lock);
	if (is_out(session, ticket)) {
		post_cancel(gov, session, ticket->slot);
		session->slots[ticket->slot].use = SLOT_ABANDONED;
		session->n_abandoned++;
	}
	(void)pthread_mutex_unlock(&gov->lock);
}

int rgov_cancel(struct rgov *gov, const struct rgov_ticket *ticket)
{
	struct session *session;
	int rc = handle_enter_ticket(gov, ticket, &session);

	if (rc < 0)
		return rc;
	(void)pthread_mutex_lock(&gov->lock);
	if (is_out(session, ticket))
		post_cancel(gov, session, ticket->slot);
	else
		rc = used_up();
	(void)pthread_mutex_unlock(&gov->lock);
	handle_leave(gov, session);
	return rc;
}

/* Under the lock: is it time to look at the socket again?  Each time would cost
 * a busy process more than the settlement itself. */
static bool is_look_due(struct session *session)
{
	uint64_t now = clock_now_ns();

	if (now - session->looked_ns < LOOK_AGAIN_NS)
		return false;
	session->looked_ns = now;
	return true;
}

/* -ESTALE: it is not held.  1: it is given back, and whether rgovd still
 * listens should be looked at. */
static int settle_in(struct rgov *gov, struct session *session,
	const struct rgov_ticket *ticket, enum shm_settlement how,
	int64_t input_tokens, int64_t output_tokens)
{
	const struct slot *own = &session->slots[ticket->slot];
	int rc = -ESTALE;

	(void)pthread_mutex_lock(&gov->lock);
	if (own->use == SLOT_HELD && own->generation == ticket->generation) {
		write_settlement(session, ticket->slot, how, input_tokens,
			output_tokens);
		rc = submit_command(gov, session, ticket->slot, SHM_SETTLE) ||
		     is_look_due(session);
		session_release_slot(session, ticket->slot);
	}
	(void)pthread_mutex_unlock(&gov->lock);
	return rc;
}

void rgov_abandon(struct rgov *gov, const struct rgov_ticket *ticket)
{
	struct session *session;

	if (handle_enter_ticket(gov, ticket, &session) < 0)
		return;
	/* One of the two finds it: out, or a permit that is held. */
	abandon_slot(gov, session, ticket);
	(void)settle_in(gov, session, ticket, SHM_SETTLED_UNUSED, -1, -1);
	handle_leave(gov, session);
}

/* Was rgovd restarted since?  This process may wait for nothing for a long
 * time, and until then the permit would count.  An event loop sees it by
 * itself. */
static void bring_back(struct rgov *gov, struct session *session)
{
	bool is_watched;

	(void)pthread_mutex_lock(&gov->lock);
	is_watched = gov->told_fd >= 0;
	(void)pthread_mutex_unlock(&gov->lock);
	if (!is_watched && handle_is_cut_off(gov, session))
		(void)handle_reconnect(
			gov, session, clock_now_ns() + RECONNECT_TRY_NS);
}

int rgov_settle(struct rgov *gov, const struct rgov_ticket *ticket,
	enum rgov_settlement how, int64_t input_tokens, int64_t output_tokens)
{
	struct session *session;
	int rc = handle_enter_ticket(gov, ticket, &session);

	if (rc < 0)
		return rc;
	rc = settle_in(gov, session, ticket, (enum shm_settlement)how,
		input_tokens, output_tokens);
	if (rc > 0)
		bring_back(gov, session);
	handle_leave(gov, session);
	return rc >= 0 ? 0
		       : fail(rc, "this ticket is not a permit that is held");
}

/* ------------------------------------------------------------ event loops */

int rgov_fd(struct rgov *gov)
{
	int fd = -ENOTCONN;

	(void)pthread_mutex_lock(&gov->lock);
	if (gov->session != NULL && gov->fork_number == fork_number() &&
		load_relaxed(gov->session->socket) >= 0)
		gov->told_fd = fd = load_relaxed(gov->session->socket);
	(void)pthread_mutex_unlock(&gov->lock);
	return fd >= 0 ? fd : fail(fd, "no session yet: submit first");
}

static void drain(int fd)
{
	char bells[64];

	/* One message a bell; a message longer than a bell cannot come. */
	while (recv(fd, bells, sizeof(bells), MSG_DONTWAIT) > 0)
		;
}

int rgov_dispatch(struct rgov *gov)
{
	struct session *session = NULL;
	int told_fd, rc = 0;

	(void)pthread_mutex_lock(&gov->lock);
	told_fd = gov->told_fd;
	if (gov->session != NULL && gov->fork_number == fork_number()) {
		session = gov->session;
		session->users++;
		if (load_relaxed(session->socket) >= 0)
			drain(load_relaxed(session->socket));
	}
	(void)pthread_mutex_unlock(&gov->lock);
	if (session == NULL)
		return fail(-ENOTCONN, "no session yet: submit first");
	if (handle_is_cut_off(gov, session))
		rc = handle_reconnect(
			gov, session, clock_now_ns() + RECONNECT_TRY_NS);
	if (rc == 0)
		rc = load_relaxed(session->socket) != told_fd;
	handle_leave(gov, session);
	return rc;
}
