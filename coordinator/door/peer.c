/* Who is at the other end of a session's socket, as the kernel says. */
#include "coordinator/door/inside.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { GROUPS_MAX = 1024 };

uint64_t door_start_time_of(pid_t pid)
{
	char path[32], text[1024];
	unsigned long long started = 0;
	const char *at;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strrchr(text, ')'); /* the name may hold anything */
	if (at == NULL ||
		sscanf(at + 1,
			" %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u "
			"%*d %*d %*d %*d %*d %*d %llu",
			&started) != 1)
		return 0;
	return started;
}

/* Before Linux 6.5 there is no SO_PEERPIDFD: open the pid, then look at the
 * socket again: if its other end is still there, the pid was not reused before.
 */
int peer_open_pidfd(int socket, pid_t pid)
{
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);
	char byte;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		return pidfd;
	pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (pidfd >= 0 &&
		recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
		(void)close(pidfd);
		return -1;
	}
	return pidfd;
}

void door_peer_name(uid_t uid, char ret_name[DOOR_PEER_BYTES])
{
	(void)snprintf(ret_name, DOOR_PEER_BYTES, "uid %u", (unsigned int)uid);
}

static size_t peer_groups(int socket, gid_t *groups, gid_t primary)
{
	socklen_t size = (GROUPS_MAX - 1) * sizeof(gid_t);
	size_t n = 0;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		n = size / sizeof(gid_t);
	groups[n] = primary;
	return n + 1;
}

bool peer_is_allowed(struct door_session *session)
{
	struct door *door = session->door;
	struct ucred peer = {.pid = 0};
	socklen_t size = sizeof(peer);
	gid_t groups[GROUPS_MAX];
	size_t n;

	if (getsockopt(session->socket, SOL_SOCKET, SO_PEERCRED, &peer,
		    &size) != 0)
		return false;
	session->uid = peer.uid;
	door_peer_name(peer.uid, session->peer);
	session->pid = peer.pid;
	session->pid_started = door_start_time_of(peer.pid);
	n = peer_groups(session->socket, groups, peer.gid);
	session->reads_tasks = door->handlers.lets_read_tasks(
		door->owner, peer.uid, groups, n);
	return door->handlers.lets_in(door->owner, peer.uid, groups, n);
}
