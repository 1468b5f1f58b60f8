#include "coordinator/lock.h"

#include "shm-layout/shm_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { REPLACE_WAIT_MS = 10000 };

/* A POSIX lock, not flock(): it can say who holds it.  The file is opened once
 * in the life of the process, as any close() of it would release the lock. */
static struct flock whole_file(void)
{
	return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
}

/* The lock on an open file; -EBUSY with the holder. */
static int try_lock(int fd, pid_t *ret_holder)
{
	struct flock lock = whole_file();

	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return -errno;
	lock = whole_file();
	*ret_holder = 0;
	if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
		*ret_holder = lock.l_pid > 0 ? lock.l_pid : 0;
	return -EBUSY;
}

/* By pidfd: a pid that was reused meanwhile is never hit. */
static void end_holder(int fd, pid_t holder)
{
	int pidfd = (int)syscall(SYS_pidfd_open, holder, 0);
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	pid_t still = 0;

	if (pidfd < 0)
		return;
	if (try_lock(fd, &still) == -EBUSY && still == holder) {
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
		if (poll(&gone, 1, REPLACE_WAIT_MS) == 0) {
			(void)syscall(
				SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
			(void)poll(&gone, 1, REPLACE_WAIT_MS);
		}
	}
	(void)close(pidfd);
}

static int lock_file(
	const char *path, bool replace, int *ret_fd, pid_t *ret_holder)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return -errno;
	rc = try_lock(fd, ret_holder);
	if (rc == -EBUSY && replace && *ret_holder > 0) {
		end_holder(fd, *ret_holder);
		rc = try_lock(fd, ret_holder);
	}
	if (rc < 0)
		(void)close(fd);
	else
		*ret_fd = fd;
	return rc;
}

int lock_take(const char *name, const char *socket_path, bool replace,
	struct lock *ret_lock, pid_t *ret_holder, char *ret_path, size_t bytes)
{
	struct lock lock = {-1, -1};
	char object[SHM_OBJECT_NAME_BYTES];
	int rc;

	board_object_name(name, object);
	(void)snprintf(ret_path, bytes, "/dev/shm%s#lock", object);
	rc = lock_file(ret_path, replace, &lock.board_fd, ret_holder);
	if (rc < 0)
		return rc;
	(void)snprintf(ret_path, bytes, "%s.lock", socket_path);
	rc = lock_file(ret_path, replace, &lock.socket_fd, ret_holder);
	if (rc < 0) {
		lock_fini(&lock);
		return rc;
	}
	*ret_lock = lock;
	return 0;
}

void lock_fini(struct lock *lock)
{
	if (lock->board_fd >= 0)
		(void)close(lock->board_fd);
	if (lock->socket_fd >= 0)
		(void)close(lock->socket_fd);
	*lock = (struct lock){-1, -1};
}
