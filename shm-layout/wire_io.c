#include "shm-layout/wire_io.h"

#include "shm-layout/shm_layout.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for the most descriptors that ever come along. */
union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(WIRE_FDS_MOST * sizeof(int))];
};

struct wire_head wire_head(enum wire_type type)
{
	return (struct wire_head){
		.magic = WIRE_MAGIC,
		.type = (uint16_t)type,
		.layout_version = SHM_LAYOUT_VERSION,
		.layout_hash = shm_layout_hash(),
	};
}

bool wire_head_is_ours(const struct wire_head *head)
{
	return head->magic == WIRE_MAGIC &&
	       head->layout_version == SHM_LAYOUT_VERSION &&
	       head->layout_hash == shm_layout_hash();
}

int wire_send(
	int socket, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	union control control;
	struct iovec part = {.iov_len = n};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	memcpy(&part.iov_base, &bytes, sizeof(bytes)); /* sendmsg reads only */
	if (n_fds > 0) {
		struct cmsghdr *head;

		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		memset(&control, 0, message.msg_controllen);
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0
		       ? -errno
		       : 0;
}

/* The kernel puts no more into the control buffer than there is room for. */
static void take_fds(
	struct msghdr *message, int *ret_fds, size_t max_fds, size_t *ret_n_fds)
{
	for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL;
		head = CMSG_NXTHDR(message, head)) {
		size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (head->cmsg_level != SOL_SOCKET ||
			head->cmsg_type != SCM_RIGHTS ||
			n > max_fds - *ret_n_fds)
			continue;
		memcpy(ret_fds + *ret_n_fds, CMSG_DATA(head), n * sizeof(int));
		*ret_n_fds += n;
	}
}

ssize_t wire_receive(int socket, void *bytes, size_t size, int *ret_fds,
	size_t max_fds, size_t *ret_n_fds)
{
	union control control;
	struct iovec part = {bytes, size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t n;

	*ret_n_fds = 0;
	if (max_fds > 0) {
		message.msg_control = control.space;
		/* Not CMSG_SPACE(): its padding may have room for one more. */
		message.msg_controllen = CMSG_LEN(max_fds * sizeof(int));
	}
	n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	if (max_fds > 0)
		take_fds(&message, ret_fds, max_fds, ret_n_fds);
	/* There was room for more: it is this process that has none. */
	return (message.msg_flags & MSG_CTRUNC) != 0 && *ret_n_fds < max_fds
		       ? -EMFILE
		       : n;
}

bool wire_discard(int socket, int *ret_fds, size_t *ret_n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(WIRE_FDS_MOST * sizeof(int)) +
			   CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char byte;
	struct iovec part = {&byte, 1};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	const int yes = 1;

	*ret_n_fds = 0;
	/* Each message then says who sent it, an empty one too; the end does
	 * not. */
	if (setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) !=
			0 ||
		recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <
			0 ||
		message.msg_controllen == 0)
		return false;
	take_fds(&message, ret_fds, WIRE_FDS_MOST, ret_n_fds);
	return true;
}

void wire_close_fds(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
		fds[i] = -1;
	}
}
