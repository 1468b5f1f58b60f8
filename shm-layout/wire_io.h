/*
 * Messages of shm_wire.h over a socket, with their descriptors: the same for
 * both ends.  Never blocks, never raises SIGPIPE.
 */
#ifndef SHM_WIRE_IO_H
#define SHM_WIRE_IO_H

#include "shm-layout/shm_wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The most descriptors that Linux carries along with one message. */
enum { WIRE_FDS_MOST = 253 };

/* The head of a message of this build. */
struct wire_head wire_head(enum wire_type type);

/* Same magic, version and hash: the rest can be understood. */
bool wire_head_is_ours(const struct wire_head *head);

/* Sends one message; the descriptors stay the caller's.  0 or -errno. */
int wire_send(
	int socket, const void *bytes, size_t n, const int *fds, size_t n_fds);

/*
 * Takes one message and at most max_fds descriptors, which are the caller's to
 * close (with max_fds 0 the kernel drops what was sent along).  Returns its
 * bytes, 0 when the other end is gone, or -errno; -EMFILE: the message was
 * taken, but this process has no descriptors left for all that came along.
 * Those that it had are the caller's all the same: only it knows whether they
 * may be closed at once.
 */
ssize_t wire_receive(int socket, void *bytes, size_t size, int *ret_fds,
	size_t max_fds, size_t *ret_n_fds);

/*
 * Takes one message for the sake of its descriptors alone, at most
 * WIRE_FDS_MOST.  False: there is none left; unlike wire_receive() it tells an
 * empty message from the end.  The socket is not good for receiving afterwards.
 */
bool wire_discard(int socket, int *ret_fds, size_t *ret_n_fds);

void wire_close_fds(int *fds, size_t n);

#endif
