/*
 * One rgovd a name: a lock on a file beside the board and one beside the
 * socket, held as long as the process lives.  Nothing to clean up after a
 * death, and never stolen.
 */
#ifndef COORDINATOR_LOCK_H
#define COORDINATOR_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct lock {
	int board_fd, socket_fd;
};

/*
 * 0; -EBUSY: another rgovd has it, *ret_holder is its pid (0: in another PID
 * namespace); -errno: the file named in ret_path cannot be made.
 * With `replace` the holder is sent SIGTERM first, and waited for (10 s), then
 * SIGKILL.
 */
int lock_take(const char *name, const char *socket_path, bool replace,
	struct lock *ret_lock, pid_t *ret_holder, char *ret_path, size_t bytes);
void lock_fini(struct lock *lock);

#endif
