/* What comes over a session's socket, and what comes along with it. */
#include "coordinator/door/inside.h"
#include "coordinator/log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a client sent may hang when it is closed; only memory cannot, but it may
 * be much. */
static void dismiss(struct door *door, int fd)
{
	bool is_memory = fcntl(fd, F_GET_SEALS) >= 0;

	if (!closer_take(is_memory ? door->files : door->strangers, fd))
		LOG(LOG_ERROR, "door.stuck",
			"no memory to close a client's descriptor: it stays "
			"open");
}

void hear_dismiss(struct door *door, struct incoming *incoming)
{
	for (size_t i = 0; i < incoming->n_fds; i++)
		dismiss(door, incoming->fds[i]);
	incoming->n_fds = 0;
}

ssize_t hear_message(const struct door_session *session, struct incoming *ret)
{
	ssize_t n = wire_receive(session->socket, &ret->message,
		sizeof(ret->message), ret->fds, WIRE_FDS_MOST, &ret->n_fds);

	ret->bytes = n > 0 ? (size_t)n : 0;
	return n;
}

/*
 * Nothing more comes in, and what has come is taken out: a socket that is
 * closed with something unread in it resets its other end, which then reads an
 * error before our words; and the kernel closes the descriptors in it.
 */
void hear_last(struct door_session *session)
{
	struct incoming incoming;

	(void)shutdown(session->socket, SHUT_RD);
	while (wire_discard(session->socket, incoming.fds, &incoming.n_fds))
		hear_dismiss(session->door, &incoming);
}
