/*
 * A disk that takes its time: every fsync() and fdatasync() lasts
 * SLOW_DISK_US microseconds longer.  LD_PRELOAD.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void dawdle(void)
{
	const char *text = getenv("SLOW_DISK_US");
	long us = text != NULL ? atol(text) : 0;
	struct timespec left = {us / 1000000, us % 1000000 * 1000};

	(void)nanosleep(&left, NULL);
}

static int sync_by(const char *name, int fd)
{
	int (*real)(int) = NULL;

	*(void **)&real = dlsym(RTLD_NEXT, name);
	dawdle();
	return real(fd);
}

#define EXPORT __attribute__((visibility("default")))

EXPORT int fsync(int fd)
{
	return sync_by("fsync", fd);
}

EXPORT int fdatasync(int fd)
{
	return sync_by("fdatasync", fd);
}
