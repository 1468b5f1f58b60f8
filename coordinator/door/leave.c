/* The end of a session: it is refused, expelled, or its client is gone. */
#include "coordinator/door/inside.h"
#include "coordinator/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Of sessions refused or expelled: an attack needs no more to show. */
enum { LINES_PER_SECOND = 20 };

static void unlink_session(struct door_session *session)
{
	if (session->prev != NULL)
		session->prev->next = session->next;
	else
		session->door->sessions = session->next;
	if (session->next != NULL)
		session->next->prev = session->prev;
}

/* What has ended here never comes back: its files still say which permits were
 * out, and would be believed a second time.  Not yet served is no excuse: it
 * may have ended in the middle of its recovery. */
static void mark_ended(struct door_session *session)
{
	if (session->daemon != NULL)
		store_release(session->daemon->magic, SHM_DAEMON_ENDED);
}

void leave_stop(struct door_session *session)
{
	struct door *door = session->door;

	if (session->is_over)
		return;
	session->is_over = true;
	active_remove(session);
	loop_unwatch(door->loop, &session->socket_watch);
	loop_unwatch(door->loop, &session->pid_watch);
	loop_timer_clear(door->loop, &session->handshake);
	unlink_session(session);
	door->stats.sessions--;
}

static void orphan_slots(struct door_session *session)
{
	struct door *door = session->door;

	for (uint32_t i = 0; session->slots != NULL && i < session->n_slots;
		i++) {
		struct door_slot *slot = &session->slots[i];

		if (slot->request != NULL)
			door->handlers.orphaned(door->owner, slot);
		slot->request = NULL;
	}
}

void leave_free(struct door_session *session)
{
	orphan_slots(session);
	hear_last(session);
	session_fini(session);
	free(session);
}

/* One line for each, but a client that comes again and again fills no disk: the
 * counters have them all. */
static void complain(
	const struct door_session *session, const char *event, const char *why)
{
	struct door *door = session->door;
	uint64_t second = loop_now_ns() / 1000000000u;

	if (second != door->said_second)
		door->said_now = 0;
	door->said_second = second;
	if (door->said_now++ >= LINES_PER_SECOND) {
		door->unsaid++;
		return;
	}
	LOG(LOG_WARN, event, why, F_I("pid", session->pid),
		F_I("uid", session->uid),
		F_S("app", session->app[0] != '\0' ? session->app : "-"),
		F_I("unsaid", door->unsaid));
	door->unsaid = 0;
}

static void put_aside(struct door_session *session)
{
	struct door *door = session->door;

	leave_stop(session);
	session->next = door->over;
	door->over = session;
}

void door_expel(struct door_session *session, const char *why)
{
	if (session->is_over)
		return;
	session->door->stats.closed++;
	complain(session, "session.expelled", why);
	mark_ended(session);
	put_aside(session);
}

void door_drop(struct door_session *session, const char *why)
{
	if (session->is_over)
		return;
	complain(session, "session.dropped", why);
	put_aside(session);
}

void door_reap(struct door *door)
{
	while (door->over != NULL) {
		struct door_session *session = door->over;

		door->over = session->next;
		leave_free(session);
	}
}

void door_bury(struct door_session *session, const char *how)
{
	struct door *door = session->door;

	if (session->stage == SESSION_SERVED) {
		door->stats.died++;
		LOG(LOG_DEBUG, "session.died", how, F_I("pid", session->pid),
			F_S("app", session->app));
	}
	mark_ended(session);
	leave_stop(session);
	leave_free(session);
}

/* ------------------------------------------------------------ talking */

void leave_say(const struct door_session *session, enum wire_reason reason,
	const char *why)
{
	struct wire_refused refused = {
		.head = wire_head(WIRE_REFUSED), .reason = reason};

	(void)snprintf(refused.text, sizeof(refused.text), "%s", why);
	(void)wire_send(session->socket, &refused, sizeof(refused), NULL, 0);
}

void leave_refuse(
	struct door_session *session, enum wire_reason reason, const char *why)
{
	session->door->stats.refused++;
	complain(session, "session.refused", why);
	leave_say(session, reason, why);
	leave_stop(session);
	leave_free(session);
}
