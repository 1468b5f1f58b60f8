/* The service manager's protocol by hand: it is smaller than libsystemd. */
#include "coordinator/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A path, or @ and an abstract name. */
static int parse_address(struct notify *notify, const char *text)
{
	size_t bytes = strlen(text);

	if (text[0] != '/' && text[0] != '@')
		return -EAFNOSUPPORT;
	if (bytes < 2 || bytes >= sizeof(notify->address.sun_path))
		return -ENAMETOOLONG;
	notify->address.sun_family = AF_UNIX;
	memcpy(notify->address.sun_path, text, bytes);
	if (text[0] == '@')
		notify->address.sun_path[0] = '\0';
	/* An abstract name is as long as the address says; no zero ends it. */
	notify->address_bytes =
		(unsigned int)(offsetof(struct sockaddr_un, sun_path) + bytes +
			       (text[0] == '/'));
	return 0;
}

/* Digits alone, not 0; 0 otherwise. */
static uint64_t number_of(const char *text)
{
	char *end;
	uint64_t number;

	if (text == NULL || text[0] < '0' || text[0] > '9')
		return 0;
	errno = 0;
	number = strtoull(text, &end, 10);
	return errno != 0 || *end != '\0' ? 0 : number;
}

static uint64_t watchdog_of_environment(void)
{
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t us = number_of(getenv("WATCHDOG_USEC"));

	if (us > UINT64_MAX / 1000 ||
		(pid != NULL && number_of(pid) != (uint64_t)getpid()))
		return 0;
	return us * 1000;
}

int notify_init(struct notify *ret_notify)
{
	const char *text = getenv("NOTIFY_SOCKET");
	int rc = 0;

	*ret_notify = (struct notify){.fd = -1};
	if (text != NULL) {
		rc = parse_address(ret_notify, text);
		if (rc == 0)
			ret_notify->fd =
				socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (rc == 0 && ret_notify->fd < 0)
			rc = -errno;
		if (rc == 0)
			ret_notify->watchdog_ns = watchdog_of_environment();
	}
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	return rc;
}

void notify_fini(struct notify *notify)
{
	if (notify->fd >= 0)
		(void)close(notify->fd);
	notify->fd = -1;
}

static int tell(struct notify *notify, const char *message)
{
	ssize_t sent;

	if (notify->fd < 0)
		return 0;
	do
		sent = sendto(notify->fd, message, strlen(message),
			MSG_DONTWAIT | MSG_NOSIGNAL,
			(const struct sockaddr *)&notify->address,
			notify->address_bytes);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int notify_ready(struct notify *notify)
{
	return tell(notify, "READY=1");
}

int notify_reloading(struct notify *notify)
{
	struct timespec now;
	char message[80];

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)snprintf(message, sizeof(message),
		"RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)now.tv_sec * 1000000 +
			(unsigned long long)now.tv_nsec / 1000);
	return tell(notify, message);
}

int notify_stopping(struct notify *notify)
{
	return tell(notify, "STOPPING=1");
}

int notify_watchdog(struct notify *notify)
{
	return tell(notify, "WATCHDOG=1");
}

int notify_status(struct notify *notify, const char *status)
{
	char message[256];

	(void)snprintf(message, sizeof(message), "STATUS=%s", status);
	/* A newline would begin another assignment. */
	for (char *at = message; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20)
			*at = ' ';
	return tell(notify, message);
}

uint64_t notify_watchdog_ns(const struct notify *notify)
{
	return notify->watchdog_ns / 2;
}
