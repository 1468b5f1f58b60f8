/*
 * What rgovd tells its service manager: sd_notify(3)'s protocol, datagrams to
 * the socket named by NOTIFY_SOCKET.  Without that variable every call does
 * nothing and succeeds.  Never blocks; a lost message is never an error that
 * matters to rgovd, but is returned for the log.
 */
#ifndef COORDINATOR_NOTIFY_H
#define COORDINATOR_NOTIFY_H

#include <stdint.h>
#include <sys/un.h>

struct notify {
	int fd; /* -1: nobody listens */
	struct sockaddr_un address;
	unsigned int address_bytes;
	uint64_t watchdog_ns;
};

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment,
 * so that children do not speak for rgovd: call it before there are threads. 0,
 * or -errno where the address is of no use; then *ret_notify is as without one.
 */
int notify_init(struct notify *ret_notify);

/* Also for one whose init failed. */
void notify_fini(struct notify *notify);

/* All of these: 0 or -errno. */
int notify_ready(struct notify *notify); /* also after a reload */
int notify_reloading(struct notify *notify);
int notify_stopping(struct notify *notify);
int notify_watchdog(struct notify *notify);
/* "3/3 running, 12 queued", shown by systemctl status; one line, may be cut. */
int notify_status(struct notify *notify, const char *status);

/* How often to call notify_watchdog(): half of what the manager waits, 0:
 * never. */
uint64_t notify_watchdog_ns(const struct notify *notify);

#endif
