/*
 * From connect() to a served session, and what it says from then on.
 */
#include "coordinator/door/inside.h"
#include "coordinator/log.h"
#include "shm-layout/wire_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTENER_PAUSE_NS 1000000000u
#define HANDSHAKE_NS 5000000000u /* to say HELLO, and to map */

enum {
	BACKLOG = 128,
	/* One process may have a quarter of the sessions, but these at least.
	 */
	PROCESS_MIN = 64,
	/* Messages taken from one socket before the others have a turn. */
	MESSAGES_PER_TURN = 64,
};

/* ------------------------------------------------------------ handshake */

static void copy_label(char to[SHM_APP_BYTES], const char from[SHM_APP_BYTES])
{
	for (size_t i = 0; i < SHM_APP_BYTES - 1 && from[i] != '\0'; i++) {
		unsigned char byte = (unsigned char)from[i];

		to[i] = byte < 0x20 || byte == 0x7f ? '?' : from[i];
		to[i + 1] = '\0';
	}
	if (to[0] == '\0')
		memcpy(to, "-", 2);
}

static void start_serving(struct door_session *session)
{
	struct door *door = session->door;

	session->stage = SESSION_SERVED;
	loop_timer_clear(door->loop, &session->handshake);
}

static void on_hello(
	struct door_session *session, const struct wire_hello *hello)
{
	struct door *door = session->door;
	struct wire_welcome welcome = {
		.head = wire_head(WIRE_WELCOME), .epoch = 1};
	uint32_t slots = hello->slots;
	int fds[WIRE_FDS];
	int rc;

	if (slots < SHM_SLOTS_MIN)
		slots = SHM_SLOTS_MIN;
	if (slots > door->config.slots_per_session)
		slots = door->config.slots_per_session;
	copy_label(session->app, hello->app);
	rc = session_make_files(session, slots);
	if (rc == 0)
		rc = session_client_fds(session, fds);
	if (rc < 0) {
		leave_refuse(session, WIRE_NO_MEMORY, strerrordesc_np(-rc));
		return;
	}
	fds[WIRE_FD_BOARD] = door->config.board_fd;
	welcome.slots = slots;
	memcpy(welcome.session_id, session->id, sizeof(session->id));
	(void)snprintf(welcome.rgovd_version, sizeof(welcome.rgovd_version),
		"%s", RGOV_VERSION);
	rc = wire_send(
		session->socket, &welcome, sizeof(welcome), fds, WIRE_FDS);
	wire_close_fds(fds, WIRE_REATTACH_FDS);
	session->stage = SESSION_WELCOMED;
	if (rc < 0)
		door_bury(session, "did not take its descriptors");
}

static void on_mapped(struct door_session *session)
{
	struct door *door = session->door;
	int rc = session_seal(session);

	if (rc < 0) {
		door_expel(session, "its control file cannot be sealed");
		return;
	}
	start_serving(session);
	door->stats.opened++;
	active_add(session);
	LOG(LOG_DEBUG, "session.opened", "", F_I("pid", session->pid),
		F_I("uid", session->uid), F_S("app", session->app),
		F_I("slots", session->n_slots));
}

static bool is_served_already(
	const struct door_session *session, const uint8_t id[16])
{
	for (const struct door_session *other = session->door->sessions;
		other != NULL; other = other->next) {
		if (other != session &&
			memcmp(other->id, id, sizeof(other->id)) == 0)
			return true;
	}
	return false;
}

/* The client takes the one for final, and tries again after the other. */
static enum wire_reason reason_of(int error)
{
	return session_is_shortage(error) ? WIRE_NO_MEMORY : WIRE_BAD_MESSAGE;
}

/* A client that has waited too long for us has left, and comes again: if this
 * connection took its session over, its end would be the session's. */
static bool has_left(const struct door_session *session)
{
	char byte;
	ssize_t n = recv(session->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* The answer could not be given.  For want of memory: the client may come back,
 * so its files do not say that they have ended. */
static void give_up_reattached(struct door_session *session, int error)
{
	if (error != -ENOBUFS && !session_is_shortage(error)) {
		door_bury(session, "did not take its answer");
		return;
	}
	leave_stop(session);
	leave_free(session);
}

static void on_reattach(
	struct door_session *session, const struct incoming *incoming)
{
	const struct wire_reattach *reattach = &incoming->message.reattach;
	struct door *door = session->door;
	struct wire_reattached done = {.head = wire_head(WIRE_REATTACHED)};
	char why[SHM_MESSAGE_BYTES] = "reattach: expected four descriptors";
	int rc = -EINVAL;

	if (has_left(session)) {
		door_bury(session, "left before its answer");
		return;
	}
	copy_label(session->app, reattach->app);
	if (is_served_already(session, reattach->session_id))
		(void)snprintf(
			why, sizeof(why), "reattach: this session is served");
	else if (incoming->n_fds == WIRE_REATTACH_FDS)
		rc = session_adopt_files(session, reattach->slots,
			reattach->session_id, incoming->fds, why);
	if (rc < 0) {
		leave_refuse(session, reason_of(rc), why);
		return;
	}
	done.epoch = load_relaxed(session->daemon->epoch) + 1;
	store_release(session->daemon->epoch, done.epoch); /* D4 -> C4 */
	door->handlers.reattached(door->owner, session->id);
	rc = ring_recover(session, why);
	if (rc < 0) {
		/* Without words its client would come back with the same. */
		leave_say(session, reason_of(rc), why);
		return;
	}
	start_serving(session);
	door->stats.reattached++;
	active_add(session);
	LOG(LOG_INFO, "session.reattached", "", F_I("pid", session->pid),
		F_S("app", session->app), F_I("epoch", done.epoch));
	rc = wire_send(session->socket, &done, sizeof(done),
		&door->config.board_fd, 1);
	if (rc < 0)
		give_up_reattached(session, rc);
}

/* Of his own requests anybody may ask who is let in. */
static void on_explain(
	struct door_session *session, const struct wire_admin *admin)
{
	struct door *door = session->door;
	struct wire_explained answer = {.head = wire_head(WIRE_EXPLAINED)};

	door->handlers.explain(door->owner, admin->request, session->uid,
		door->handlers.lets_govern(door->owner, session->uid), &answer);
	(void)wire_send(session->socket, &answer, sizeof(answer), NULL, 0);
}

static void on_admin(
	struct door_session *session, const struct wire_admin *admin)
{
	struct door *door = session->door;
	struct wire_answer answer = {.head = wire_head(WIRE_ANSWER)};

	if (!door->handlers.lets_govern(door->owner, session->uid)) {
		answer.failed = 1;
		(void)snprintf(answer.text, sizeof(answer.text),
			"uid %u may not govern; see admin_uids",
			(unsigned int)session->uid);
	} else {
		answer.failed = door->handlers.verb(door->owner, admin->verb,
					session->uid, answer.text,
					sizeof(answer.text)) != 0;
	}
	(void)wire_send(session->socket, &answer, sizeof(answer), NULL, 0);
}

static bool is_whole(const struct incoming *incoming, size_t bytes)
{
	return incoming->bytes == bytes;
}

/* Same magic, version and hash: the rest of the message can be understood. */
static bool speaks_our_layout(
	struct door_session *session, const struct incoming *incoming)
{
	const struct wire_head *head = &incoming->message.head;
	char why[SHM_MESSAGE_BYTES];

	if (incoming->bytes < sizeof(*head) || head->magic != WIRE_MAGIC) {
		leave_refuse(
			session, WIRE_BAD_MESSAGE, "not a message of rgov");
		return false;
	}
	if (wire_head_is_ours(head))
		return true;
	(void)snprintf(why, sizeof(why),
		"layout: rgovd " RGOV_VERSION
		" speaks version %d (%016llx), the "
		"client %u (%016llx); restart every process with one release",
		SHM_LAYOUT_VERSION, (unsigned long long)shm_layout_hash(),
		head->layout_version, (unsigned long long)head->layout_hash);
	leave_refuse(session, WIRE_BAD_LAYOUT, why);
	return false;
}

/* False: the session is gone or over. */
static void on_first_message(
	struct door_session *session, const struct incoming *incoming)
{
	uint16_t type = incoming->message.head.type;

	if (!speaks_our_layout(session, incoming))
		return;
	if (type == WIRE_ADMIN &&
		is_whole(incoming, sizeof(struct wire_admin)) &&
		incoming->message.admin.verb == WIRE_EXPLAIN)
		on_explain(session, &incoming->message.admin);
	else if (type == WIRE_ADMIN &&
		 is_whole(incoming, sizeof(struct wire_admin)))
		on_admin(session, &incoming->message.admin);
	else if (session->door->is_stopped)
		leave_refuse(session, WIRE_IS_DRAINING, "rgovd is going down");
	else if (type == WIRE_HELLO &&
		 is_whole(incoming, sizeof(struct wire_hello)))
		on_hello(session, &incoming->message.hello);
	else if (type == WIRE_REATTACH &&
		 is_whole(incoming, sizeof(struct wire_reattach)))
		on_reattach(session, incoming);
	else
		leave_refuse(session, WIRE_BAD_MESSAGE,
			"expected HELLO, REATTACH or ADMIN");
}

/* ------------------------------------------------------------ the socket */

/* A message of a client that has registered.  False: nothing more to take, or
 * the session is over. */
static bool take_later_message(
	struct door_session *session, const struct incoming *incoming)
{
	if (incoming->n_fds > 0) {
		door_expel(session, "descriptors that nobody asked for");
		return false;
	}
	if (incoming->bytes == 1 && session->stage == SESSION_SERVED) {
		active_add(session);
		/* One bell is the rule, and to look for another costs as much
		 * as to take it: the loop tells when there is one. */
		return false;
	}
	if (incoming->bytes == 1)
		return true;
	if (session->stage == SESSION_WELCOMED &&
		is_whole(incoming, sizeof(struct wire_mapped)) &&
		incoming->message.head.magic == WIRE_MAGIC &&
		incoming->message.head.type == WIRE_MAPPED) {
		on_mapped(session);
		return !session->is_over;
	}
	door_expel(session, "a message that was not expected");
	return false;
}

/* Takes one message.  False: nothing more to take, or the session is gone. */
static bool take_message(struct door_session *session)
{
	struct door *door = session->door;
	struct incoming incoming;
	ssize_t n = hear_message(session, &incoming);
	bool is_more = false;

	/* Without memory the message stays where it is, and the loop tells of
	 * it again. */
	if (n == -EAGAIN || n == -EINTR || n == -ENOMEM || n == -ENOBUFS)
		return false;
	if (n == -EMFILE && session->stage == SESSION_CONNECTED)
		leave_refuse(session, WIRE_NO_MEMORY,
			"rgovd has no descriptors left for the files");
	else if (n == -EMFILE)
		door_expel(session, "descriptors that nobody asked for");
	else if (n <= 0)
		/* An empty message looks like the end, and may bring some. */
		door_bury(session, "socket closed");
	else if (session->stage == SESSION_CONNECTED)
		/* It may be gone: look again in the next step. */
		on_first_message(session, &incoming);
	else
		is_more = take_later_message(session, &incoming);
	hear_dismiss(door, &incoming);
	return is_more;
}

static void on_socket(struct loop_watch *watch, unsigned int events)
{
	struct door_session *session = watch->owner;
	struct door *door = session->door;
	enum session_stage stage = session->stage;

	(void)events; /* hang-ups are found by reading */
	if (stage == SESSION_SERVED)
		active_was_rung(door, loop_now_ns());
	for (int turn = 0; turn < MESSAGES_PER_TURN; turn++) {
		if (!take_message(session))
			break;
	}
	door_reap(door);
}

static void on_death(struct loop_watch *watch, unsigned int events)
{
	(void)events;
	door_bury(watch->owner, "process ended");
}

static void on_slow_handshake(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	door_bury(timer->owner, "no HELLO in time");
}

/* ------------------------------------------------------------ connecting */

static int watch_session(struct door_session *session)
{
	struct door *door = session->door;
	int rc = loop_watch(door->loop, &session->socket_watch, session->socket,
		LOOP_READ, on_socket, session);

	session->pidfd = peer_open_pidfd(session->socket, session->pid);
	if (rc == 0 && session->pidfd >= 0)
		rc = loop_watch(door->loop, &session->pid_watch, session->pidfd,
			LOOP_READ, on_death, session);
	if (rc == 0)
		rc = loop_timer_set(door->loop, &session->handshake,
			loop_now_ns() + HANDSHAKE_NS, on_slow_handshake,
			session);
	return rc;
}

/* Is there no place, or does its process or its user take what others need? */
static bool is_too_many(
	const struct door_session *session, char ret_why[SHM_MESSAGE_BYTES])
{
	const struct door *door = session->door;
	uint32_t most = door->config.max_sessions, kept = most / 8;
	uint32_t of_process = 0, of_user = 0;

	for (const struct door_session *other = door->sessions; other != NULL;
		other = other->next) {
		of_process += session->pid != 0 && other->pid == session->pid;
		of_user += other->uid == session->uid;
	}
	if (door->stats.sessions > most)
		(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
			"all %u sessions are taken; see max_sessions", most);
	else if (of_process > PROCESS_MIN && of_process > most / 4)
		(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
			"this process has %u sessions already, no more than a "
			"quarter of max_sessions",
			of_process - 1);
	else if (door->stats.sessions > most - kept && of_user > kept)
		(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
			"uid %u has %u sessions; the last %u are kept for "
			"others, see max_sessions",
			(unsigned int)session->uid, of_user - 1, kept);
	else
		return false;
	return true;
}

static void admit_session(struct door *door, int socket)
{
	struct door_session *session = calloc(1, sizeof(*session));
	char why[SHM_MESSAGE_BYTES];

	if (session == NULL) {
		(void)close(socket);
		return;
	}
	session->door = door;
	session->socket = socket;
	session->pidfd = session->client_control_fd = -1;
	session->client_bodies_fd = session->daemon_control_fd = -1;
	session->daemon_bodies_fd = -1;
	session->active_place = -1;
	session->next = door->sessions;
	if (door->sessions != NULL)
		door->sessions->prev = session;
	door->sessions = session;
	door->stats.sessions++;
	if (!peer_is_allowed(session)) {
		(void)snprintf(why, sizeof(why),
			"uid %u may not connect; see allow_uids and allow_gids",
			(unsigned int)session->uid);
		leave_refuse(session, WIRE_NOT_ALLOWED, why);
	} else if (is_too_many(session, why)) {
		leave_refuse(session, WIRE_TOO_MANY_SESSIONS, why);
	} else if (watch_session(session) < 0) {
		leave_refuse(
			session, WIRE_NO_MEMORY, "no memory for a session");
	}
}

static void listen_again(struct loop_timer *timer, uint64_t now_ns)
{
	struct door *door = timer->owner;

	(void)now_ns;
	(void)loop_watch_change(door->loop, &door->listener_watch, LOOP_READ);
}

/* Out of descriptors or memory: the callers wait in the backlog.  Without a
 * pause this would be a busy loop. */
static void pause_listening(struct door *door, int error)
{
	LOG(LOG_ERROR, "door.full", "cannot accept; trying again in 1 s",
		F_S("reason", strerrordesc_np(error)));
	(void)loop_watch_change(door->loop, &door->listener_watch, 0);
	(void)loop_timer_set(door->loop, &door->listener_pause,
		loop_now_ns() + LISTENER_PAUSE_NS, listen_again, door);
}

static void on_connect(struct loop_watch *watch, unsigned int events)
{
	struct door *door = watch->owner;

	(void)events;
	for (int turn = 0; turn < MESSAGES_PER_TURN; turn++) {
		/* cppcheck-suppress nullPointer ; accept4(2) allows both */
		int socket = accept4(door->listener, NULL, NULL,
			SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (socket < 0) {
			if (errno != EAGAIN && errno != EINTR &&
				errno != ECONNABORTED)
				pause_listening(door, errno);
			return;
		}
		admit_session(door, socket);
	}
}

/* ------------------------------------------------------------ the door */

static int bind_socket(const struct door_config *config)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t old_mask;
	int error;
	int fd;

	if (strlen(config->socket_path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, config->socket_path,
		strlen(config->socket_path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The lock is ours: what lies there is a dead rgovd's. */
	(void)unlink(config->socket_path);
	/* With its mode from the start: a client that tries in between would
	 * take a refusal for final. */
	old_mask = umask(0777 & ~config->socket_mode);
	error = bind(fd, (const struct sockaddr *)&address, sizeof(address));
	error = error != 0 ? -errno : 0;
	(void)umask(old_mask);
	if (error != 0)
		goto close_socket;
	if (chmod(config->socket_path, config->socket_mode) == 0 &&
		listen(fd, BACKLOG) == 0)
		return fd;
	error = -errno;
	(void)unlink(config->socket_path);

close_socket:
	(void)close(fd);
	return error;
}

static void free_door(struct door *door)
{
	closer_free(door->files);
	closer_free(door->strangers);
	free(door);
}

int door_open(struct loop *loop, const struct door_config *config,
	const struct door_handlers *handlers, void *owner,
	struct door **ret_door)
{
	struct door *door = calloc(1, sizeof(*door));
	int rc;

	if (door == NULL)
		return -ENOMEM;
	door->loop = loop;
	door->config = *config;
	door->handlers = *handlers;
	door->owner = owner;
	door->listener = -1;
	rc = closer_create(&door->files);
	if (rc == 0)
		rc = closer_create(&door->strangers);
	if (rc == 0)
		rc = door->listener = bind_socket(config);
	if (rc >= 0)
		rc = loop_watch(loop, &door->listener_watch, door->listener,
			LOOP_READ, on_connect, door);
	if (rc < 0) {
		if (door->listener >= 0) {
			(void)close(door->listener);
			(void)unlink(config->socket_path);
		}
		free_door(door);
		return rc;
	}
	*ret_door = door;
	return 0;
}

void door_set_limits(
	struct door *door, uint32_t slots_per_session, uint32_t spin_us)
{
	door->config.slots_per_session = slots_per_session;
	door->config.spin_us = spin_us;
}

bool door_may_fork(const struct door *door)
{
	return closer_is_idle(door->strangers);
}

void door_stop_accepting(struct door *door)
{
	door->is_stopped = true;
}

void door_close(struct door *door)
{
	if (door == NULL)
		return;
	loop_unwatch(door->loop, &door->listener_watch);
	loop_timer_clear(door->loop, &door->listener_pause);
	(void)unlink(door->config.socket_path);
	(void)close(door->listener);
	door_reap(door);
	for (struct door_session *session = door->sessions, *next;
		session != NULL; session = next) {
		next = session->next;
		leave_stop(session);
		leave_free(session);
	}
	free_door(door);
}

void door_read_stats(const struct door *door, struct door_stats *ret_stats)
{
	*ret_stats = door->stats;
}

void door_identify(
	const struct door_session *session, struct door_client *ret_client)
{
	ret_client->pid = session->pid;
	ret_client->pid_started = session->pid_started;
	ret_client->uid = session->uid;
	memcpy(ret_client->session_id, session->id, sizeof(session->id));
}
