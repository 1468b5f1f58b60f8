/*
 * Registration, reattachment, and the client's half of submit.
 *
 * Orders: C1 slot word, C2 tail (shm_wake.h), A3 answer; LAYOUT.md lists them.
 */
#include "client-lib/session.h"

#include "client-lib/words.h"
#include "shm-layout/shm_board.h"
#include "shm-layout/shm_wake.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* While rgovd is away: from the first to the slowest retry. */
#define RETRY_FIRST_NS 5000000u
#define RETRY_LAST_NS 100000000u
/* An rgovd that accepted the connection may take this long to answer: to leave
 * in the middle of a reattachment looks to it like a death. */
#define ANSWER_NS 1000000000u
/* One look at a socket that is waited for. */
#define LOOK_MS 1000u
/* Pages of bodies and replies above this are given back when they were used. */
#define LARGE_BODY_BYTES (256u * 1024)

/* What one message brought. */
struct received {
	union {
		struct wire_head head;
		struct wire_welcome welcome;
		struct wire_reattached reattached;
		struct wire_refused refused;
		struct wire_answer answer;
		struct wire_explained explained;
	} message;
	size_t bytes;
	int fds[WIRE_FDS];
	size_t n_fds;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------ the socket */

/* One attempt; -errno. */
static int connect_once(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(-EINVAL,
			"socket path: expected at most %zu bytes, "
			"found %zu: %s",
			sizeof(address.sun_path) - 1, strlen(path), path);
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) !=
		0) {
		int error = -errno;

		(void)close(fd);
		return error;
	}
	return fd;
}

static bool is_worth_a_retry(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -EAGAIN ||
	       error == -EINTR || error == -ECONNRESET || error == -EPIPE;
}

/* False: a signal came. */
static bool pause_ns(uint64_t pause, uint64_t until_ns)
{
	uint64_t now = now_ns();
	struct timespec rest;

	if (now >= until_ns)
		return true;
	if (pause > until_ns - now)
		pause = until_ns - now;
	rest.tv_sec = (time_t)(pause / 1000000000u);
	rest.tv_nsec = (long)(pause % 1000000000u);
	return nanosleep(&rest, NULL) == 0;
}

static int cannot_reach(const char *path, int error)
{
	if (error == -EACCES || error == -EPERM)
		return fail(-EACCES,
			"rgovd at %s: permission denied for uid %u", path,
			(unsigned int)geteuid());
	if (error == -ENOENT)
		return fail(-ECONNREFUSED,
			"rgovd is not running: no socket at %s", path);
	if (error == -ECONNREFUSED)
		return fail(-ECONNREFUSED,
			"rgovd is not running: nobody listens at %s", path);
	return fail(is_worth_a_retry(error) ? -ECONNREFUSED : error,
		"rgovd at %s: %s", path, strerrordesc_np(-error));
}

/* ------------------------------------------------------------ messages */

static void label(char app[SHM_APP_BYTES], const char *text)
{
	size_t n = strnlen(text, SHM_APP_BYTES - 1);

	memcpy(app, text, n);
}

/* The next message that is not a bell, by until_ns.  Bells of a session that is
 * just being made tell nothing: its slots are looked at anyway. */
static int receive(int fd, uint64_t until_ns, struct received *ret)
{
	for (;;) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ns(), left_ms;
		ssize_t n;

		if (now >= until_ns)
			return -ETIMEDOUT;
		left_ms = (until_ns - now) / 1000000u + 1;
		if (poll(&ready, 1,
			    (int)(left_ms < LOOK_MS ? left_ms : LOOK_MS)) <= 0)
			continue;
		n = wire_receive(fd, &ret->message, sizeof(ret->message),
			ret->fds, WIRE_FDS, &ret->n_fds);
		/* A reset is told once, before the words that came with it. */
		if (n == -EAGAIN || n == -EINTR || n == -ECONNRESET)
			continue;
		/* To leave now would be taken for our death. */
		if (n == -ENOMEM || n == -ENOBUFS) {
			(void)pause_ns(RETRY_FIRST_NS, until_ns);
			continue;
		}
		if (n > 1) {
			ret->bytes = (size_t)n;
			return 0;
		}
		wire_close_fds(ret->fds, ret->n_fds);
		ret->n_fds = 0;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : (int)n;
	}
}

/* Is it the expected message?  Otherwise the error that it means. */
static int judge(const struct received *received, enum wire_type type,
	size_t bytes, size_t n_fds)
{
	const struct wire_head *head = &received->message.head;
	const struct wire_refused *refused = &received->message.refused;

	if (received->bytes < sizeof(*head) || head->magic != WIRE_MAGIC)
		return fail(-EPROTO, "the socket's other end is not rgovd");
	if (head->type == WIRE_REFUSED && received->bytes == sizeof(*refused)) {
		(void)fail(0, "rgovd refused: %.*s", SHM_MESSAGE_BYTES - 1,
			refused->text);
		switch (refused->reason) {
		case WIRE_BAD_LAYOUT:
			return -EPROTO;
		case WIRE_NOT_ALLOWED:
			return -EACCES;
		case WIRE_IS_DRAINING:
			return -ECONNREFUSED;
		case WIRE_NO_MEMORY:
			return -ENOMEM;
		case WIRE_TOO_MANY_SESSIONS:
			return -EUSERS;
		default:
			return -ESTALE;
		}
	}
	if (!wire_head_is_ours(head))
		return fail(-EPROTO,
			"layout of rgovd: expected version %d (%016llx), found "
			"%u (%016llx); restart every process with the same "
			"release",
			SHM_LAYOUT_VERSION,
			(unsigned long long)shm_layout_hash(),
			head->layout_version,
			(unsigned long long)head->layout_hash);
	if (head->type != type || received->bytes != bytes ||
		received->n_fds != n_fds)
		return fail(-EPROTO,
			"rgovd: expected message %d with %zu descriptors, "
			"found "
			"%u with %zu",
			(int)type, n_fds, head->type, received->n_fds);
	return 0;
}

/* The words of an error that has none of its own yet. */
static int no_handshake(int error)
{
	return fail(error, "handshake with rgovd: %s", strerrordesc_np(-error));
}

/* Sends a request and takes its answer. */
static int exchange(int fd, const void *bytes, size_t n, const int *fds,
	size_t n_fds, uint64_t until_ns, struct received *ret)
{
	int rc = wire_send(fd, bytes, n, fds, n_fds);

	ret->n_fds = 0;
	ret->message.head.type = 0; /* until there is one */
	if (until_ns < now_ns() + ANSWER_NS)
		until_ns = now_ns() + ANSWER_NS;
	/* rgovd may have refused before it heard us: its words are there. */
	return rc < 0 && rc != -EPIPE && rc != -ECONNRESET
		       ? rc
		       : receive(fd, until_ns, ret);
}

/* ------------------------------------------------------------ mappings */

static void *map_file(int fd, size_t bytes, int protection)
{
	void *base = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return NULL;
	/* A child must not write into its parent's slots; and for a child
	 * without a mapping a touched one is a clean crash, never a theft. */
	(void)madvise(base, bytes, MADV_DONTFORK);
	return base;
}

static void point_into(struct session *session)
{
	session->client_slots =
		client_slots(session->client, &session->client_shape);
	session->texts = client_texts(session->client, &session->client_shape);
	session->tasks = client_tasks(session->client, &session->client_shape);
	session->ring = client_ring(session->client, &session->client_shape);
	session->daemon_slots =
		daemon_slots(session->daemon, &session->daemon_shape);
}

static int map_files(struct session *session)
{
	session->client = map_file(session->fds[WIRE_FD_CLIENT_CONTROL],
		session->client_shape.total_bytes, PROT_READ | PROT_WRITE);
	session->daemon = map_file(session->fds[WIRE_FD_DAEMON_CONTROL],
		session->daemon_shape.total_bytes, PROT_READ);
	if (session->client == NULL || session->daemon == NULL)
		return fail(-ENOMEM, "cannot map the session: %s",
			strerrordesc_np(errno));
	point_into(session);
	return 0;
}

static void sign_header(struct session *session)
{
	struct client_header *header = session->client;

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->slots = session->client_shape.slots;
	store_release(header->magic, SHM_CLIENT_MAGIC);
}

/* ------------------------------------------------------------ life */

static uint64_t most_file_bytes(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 ? limit.rlim_cur
						    : RLIM_INFINITY;
}

static struct session *allocate(uint32_t slots)
{
	struct session *session = calloc(1, sizeof(*session));

	if (session == NULL)
		return NULL;
	store_relaxed(session->socket, -1);
	for (int i = 0; i < WIRE_REATTACH_FDS; i++)
		session->fds[i] = -1;
	session->most_file_bytes = most_file_bytes();
	session->client_shape = client_shape(slots);
	session->daemon_shape = daemon_shape(slots);
	session->slots = calloc(slots, sizeof(*session->slots));
	session->free_slots = calloc(slots, sizeof(*session->free_slots));
	if (session->slots == NULL || session->free_slots == NULL) {
		session_free(session);
		return NULL;
	}
	for (uint32_t i = 0; i < slots; i++)
		session->free_slots[i] = slots - 1 - i;
	session->n_free = slots;
	return session;
}

/* Takes over the descriptors of a WELCOME. */
static int adopt(struct received *received, int socket, struct session **ret)
{
	const struct wire_welcome *welcome = &received->message.welcome;
	const struct wire_mapped mapped = {wire_head(WIRE_MAPPED)};
	struct session *session;
	int rc;

	if (welcome->slots < SHM_SLOTS_MIN || welcome->slots > SHM_SLOTS_MAX)
		return fail(-EPROTO, "rgovd: expected 1 to %d slots, found %u",
			SHM_SLOTS_MAX, welcome->slots);
	session = allocate(welcome->slots);
	if (session == NULL)
		return fail(-ENOMEM, "no memory for a session");
	memcpy(session->id, welcome->session_id, sizeof(session->id));
	memcpy(session->fds, received->fds, sizeof(session->fds));
	(void)board_map(received->fds[WIRE_FD_BOARD], &session->board);
	(void)close(received->fds[WIRE_FD_BOARD]);
	received->n_fds = 0;
	rc = map_files(session);
	if (rc == 0) {
		sign_header(session);
		rc = wire_send(socket, &mapped, sizeof(mapped), NULL, 0);
		if (rc < 0)
			(void)no_handshake(rc);
	}
	if (rc < 0) {
		session_free(session);
		return rc;
	}
	store_relaxed(session->socket, socket);
	*ret = session;
	return 0;
}

static int register_over(int socket, const struct session_target *target,
	uint64_t until_ns, struct session **ret_session)
{
	struct wire_hello hello = {
		.head = wire_head(WIRE_HELLO), .slots = target->slots};
	struct received received;
	int rc;

	label(hello.app, target->app);
	rc = exchange(
		socket, &hello, sizeof(hello), NULL, 0, until_ns, &received);
	if (rc < 0)
		return no_handshake(rc);
	rc = judge(
		&received, WIRE_WELCOME, sizeof(struct wire_welcome), WIRE_FDS);
	if (rc == 0)
		rc = adopt(&received, socket, ret_session);
	wire_close_fds(received.fds, received.n_fds);
	return rc;
}

static int reattach_over(int socket, const struct session *session,
	const struct session_target *target, uint64_t until_ns,
	struct session_link *ret_link)
{
	struct wire_reattach reattach = {.head = wire_head(WIRE_REATTACH),
		.slots = session->client_shape.slots};
	struct received received;
	int rc;

	label(reattach.app, target->app);
	memcpy(reattach.session_id, session->id, sizeof(reattach.session_id));
	rc = exchange(socket, &reattach, sizeof(reattach), session->fds,
		WIRE_REATTACH_FDS, until_ns, &received);
	ret_link->socket = socket;
	ret_link->board = NULL;
	/* Without a descriptor for the board: it is only looked at. */
	if (rc == -EMFILE && received.message.head.type == WIRE_REATTACHED)
		return 0;
	if (rc < 0)
		return no_handshake(rc);
	rc = judge(
		&received, WIRE_REATTACHED, sizeof(struct wire_reattached), 1);
	if (rc == 0)
		(void)board_map(received.fds[0], &ret_link->board);
	wire_close_fds(received.fds, received.n_fds);
	return rc;
}

/* Connects and speaks until it works, is refused, or the time is up. */
static int reach(const struct session_target *target, uint64_t until_ns,
	const struct session *old, struct session **ret_session,
	struct session_link *ret_link)
{
	uint64_t pause = RETRY_FIRST_NS;

	for (;;) {
		int rc = connect_once(target->socket_path);

		if (rc >= 0) {
			int fd = rc;

			rc = old ? reattach_over(
					   fd, old, target, until_ns, ret_link)
				 : register_over(
					   fd, target, until_ns, ret_session);
			if (rc == 0)
				return 0;
			(void)close(fd);
			if (rc == -ETIMEDOUT)
				return fail(-ECONNREFUSED,
					"rgovd at %s does not answer",
					target->socket_path);
			if (!is_worth_a_retry(rc))
				return rc;
		} else if (!is_worth_a_retry(rc)) {
			return rc == -EINVAL
				       ? rc
				       : cannot_reach(target->socket_path, rc);
		}
		if (now_ns() >= until_ns)
			return cannot_reach(target->socket_path, rc);
		if (!pause_ns(pause, until_ns) && old != NULL)
			return -EINTR; /* of the caller's wait */
		pause = pause * 2 < RETRY_LAST_NS ? pause * 2 : RETRY_LAST_NS;
	}
}

int session_open(const struct session_target *target, uint64_t until_ns,
	struct session **ret_session)
{
	struct session_link none; /* of a session that comes back */

	return reach(target, until_ns, NULL, ret_session, &none);
}

int session_reconnect(const struct session *session,
	const struct session_target *target, uint64_t until_ns,
	struct session_link *ret_link)
{
	assert(session != NULL);
	return reach(target, until_ns, session, NULL, ret_link);
}

void session_install(struct session *session, const struct session_link *link)
{
	int old = load_relaxed(session->socket);

	store_relaxed(session->socket, link->socket);
	if (old >= 0)
		(void)close(old);
	if (link->board != NULL) {
		board_close(session->board);
		session->board = link->board;
	}
	/* Whoever published while the old socket was dead could not ring. */
	session_ring(session);
}

/* Over a connection of its own: the answer of that type. */
static int ask(const char *socket_path, const struct wire_admin *admin,
	uint64_t until_ns, enum wire_type type, size_t bytes,
	struct received *ret_received)
{
	int fd = connect_once(socket_path);
	int rc;

	if (fd < 0)
		return cannot_reach(socket_path, fd);
	rc = exchange(
		fd, admin, sizeof(*admin), NULL, 0, until_ns, ret_received);
	if (rc == 0)
		rc = judge(ret_received, type, bytes, 0);
	else if (is_worth_a_retry(rc)) /* it died while we asked */
		rc = cannot_reach(socket_path, rc);
	wire_close_fds(ret_received->fds, ret_received->n_fds);
	(void)close(fd);
	return rc == -ETIMEDOUT
		       ? fail(-ECONNREFUSED, "rgovd at %s does not answer",
				 socket_path)
		       : rc;
}

int session_ask(const char *socket_path, enum wire_verb verb, uint64_t until_ns,
	char *ret_text, size_t bytes)
{
	struct wire_admin admin = {.head = wire_head(WIRE_ADMIN), .verb = verb};
	struct received received;
	const struct wire_answer *answer = &received.message.answer;
	int rc = ask(socket_path, &admin, until_ns, WIRE_ANSWER,
		sizeof(*answer), &received);

	if (rc < 0)
		return rc;
	(void)snprintf(ret_text, bytes, "%.*s", (int)sizeof(answer->text) - 1,
		answer->text);
	return answer->failed ? fail(-EINVAL, "%s", ret_text) : 0;
}

int session_explain(const char *socket_path, uint64_t request,
	uint64_t until_ns, struct wire_explained *ret_answer)
{
	struct wire_admin admin = {.head = wire_head(WIRE_ADMIN),
		.verb = WIRE_EXPLAIN,
		.request = request};
	struct received received;
	int rc = ask(socket_path, &admin, until_ns, WIRE_EXPLAINED,
		sizeof(*ret_answer), &received);

	if (rc == 0)
		*ret_answer = received.message.explained;
	return rc;
}

bool session_is_cut_off(const struct session *session)
{
	/* Not a look at the next message: a bell that nobody took would hide
	 * the end behind it. */
	struct pollfd end = {
		.fd = load_relaxed(session->socket), .events = POLLRDHUP};

	return end.fd < 0 || poll(&end, 1, 0) > 0;
}

void session_ring(struct session *session)
{
	int socket = load_relaxed(session->socket);
	bool is_owed = socket >= 0 &&
		       send(socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		       (errno == ENOBUFS || errno == ENOMEM);

	store_relaxed(session->owes_bell, is_owed);
}

static void close_descriptors(struct session *session)
{
	int socket = load_relaxed(session->socket);

	if (socket >= 0)
		(void)close(socket);
	store_relaxed(session->socket, -1);
	wire_close_fds(session->fds, WIRE_REATTACH_FDS);
}

static void free_memory(struct session *session)
{
	free(session->slots);
	free(session->free_slots);
	free(session);
}

void session_free(struct session *session)
{
	if (session == NULL)
		return;
	close_descriptors(session);
	if (session->client != NULL)
		(void)munmap(
			session->client, session->client_shape.total_bytes);
	if (session->daemon != NULL)
		(void)munmap(
			session->daemon, session->daemon_shape.total_bytes);
	board_close(session->board);
	free_memory(session);
}

void session_forget(struct session *session)
{
	close_descriptors(session);
	board_close(session->board);
	free_memory(session);
}

/* ------------------------------------------------------------ slots */

/* Takes back the abandoned slots whose end has come. */
static void sweep_abandoned(struct session *session)
{
	for (uint32_t i = 0; i < session->client_shape.slots; i++) {
		if (session->slots[i].use == SLOT_ABANDONED &&
			session_has_answer(
				session, i, session->slots[i].generation) &&
			session_finish_slot(session, i))
			session_ring(session);
	}
}

int session_take_slot(struct session *session, uint32_t *ret_slot)
{
	if (session->n_abandoned > 0)
		sweep_abandoned(session);
	if (session->n_free == 0)
		return fail(-EAGAIN, "all %u slots of this process are taken",
			session->client_shape.slots);
	*ret_slot = session->free_slots[--session->n_free];
	session->slots[*ret_slot].use = SLOT_FILLING;
	return 0;
}

void session_release_slot(struct session *session, uint32_t slot)
{
	if (session->slots[slot].use == SLOT_ABANDONED)
		session->n_abandoned--;
	session->slots[slot].use = SLOT_FREE;
	session->free_slots[session->n_free++] = slot;
}

void session_punch_body(
	const struct session *session, uint32_t slot, uint64_t bytes)
{
	if (bytes > LARGE_BODY_BYTES)
		(void)fallocate(session->fds[WIRE_FD_CLIENT_BODIES],
			FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)shm_body_off(slot), (off_t)bytes);
}

bool session_finish_slot(struct session *session, uint32_t slot)
{
	bool must_ring = false;

	session_punch_body(session, slot, session->slots[slot].body_bytes);
	/* The reply's pages are rgovd's to punch. */
	if (session->daemon_slots[slot].body_bytes > LARGE_BODY_BYTES)
		must_ring = session_command(session, slot, SHM_ACK);
	session_release_slot(session, slot);
	return must_ring;
}

bool session_command(
	struct session *session, uint32_t slot, enum shm_command command)
{
	uint32_t word = shm_word(session->slots[slot].generation, command);
	uint64_t mask = session->client_shape.ring_entries - 1;

	/* Killed before C1: nothing was said.  Between C1 and C2: the word is
	 * the truth, but its hint is missing; nobody lives who waits for it. */
	store_release(session->client_slots[slot].word, word); /* C1 -> D1 */
	/* Relaxed: C2 publishes it. */
	store_relaxed(session->ring[session->tail & mask],
		SHM_RING_ENTRY(slot, word));
	session->tail++;
	return wake_publish_tail(
		session->client, session->daemon, session->tail);
}
