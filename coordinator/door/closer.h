/*
 * Closes descriptors on a thread of its own.  The last close of what a client
 * made may take its time, or for ever: a socket lingers over what nobody reads,
 * a file system that the client serves itself (FUSE) is asked to flush, and
 * gigabytes of pages are given back.  The loop must not wait for any of it.
 */
#ifndef COORDINATOR_DOOR_CLOSER_H
#define COORDINATOR_DOOR_CLOSER_H

#include <stdbool.h>

struct closer;

/* Starts the thread; it is idle until there is something to close.  -errno. */
int closer_create(struct closer **ret_closer);

/* Takes the descriptor over; never blocks.  False: no memory, it is still the
 * caller's. */
bool closer_take(struct closer *closer, int fd);

/* Has it closed all that it took?  False as long as one hangs. */
bool closer_is_idle(struct closer *closer);

/* Closes what it still has, but does not wait long for one that hangs: that one
 * ends with the process.  NULL is fine. */
void closer_free(struct closer *closer);

#endif
