/*
 * The event loop of rgovd: file descriptors that become ready, and timers.
 * One interface, two engines (io_uring, epoll) that behave alike.
 *
 * Not a scheduler and not thread-safe: one thread owns a loop and runs every
 * callback, except loop_wake(), which any thread may call.
 */
#ifndef COORDINATOR_LOOP_H
#define COORDINATOR_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;

enum loop_engine { LOOP_AUTO, LOOP_IO_URING, LOOP_EPOLL };

/* What a watch asks for, and what its callback is told. */
enum loop_events {
	LOOP_READ = 1,
	LOOP_WRITE = 2,
	LOOP_HANGUP = 4, /* told, never asked for: error or hang-up */
};

typedef void loop_watch_fn(struct loop_watch *watch, unsigned int events);
typedef void loop_timer_fn(struct loop_timer *timer, uint64_t now_ns);

/*
 * Lives in its owner's object; zero before its first loop_watch().  The engine
 * keeps no pointer to it after loop_unwatch(), so the owner may free it then,
 * also from inside its own or another callback.
 */
struct loop_watch {
	loop_watch_fn *ready;
	void *owner; /* for the callback */
	int fd;
	unsigned int events;
	uint32_t id; /* the engine's; 0: not watched */
};

/* Lives in its owner's object; zero before its first loop_timer_set(). */
struct loop_timer {
	loop_timer_fn *expired;
	void *owner;
	uint64_t at_ns;
	uint32_t place; /* in the heap, from 1; 0: not set */
};

/*
 * LOOP_AUTO takes io_uring where the kernel lets it (containers often do not)
 * and epoll otherwise.  Asked for by name, an engine that is refused is an
 * error: -errno.  The thread that creates a loop is the one that steps it.
 */
int loop_create(enum loop_engine engine, struct loop **ret_loop);

/* Not from inside a callback.  Watches and timers still set are forgotten, no
 * descriptor of theirs is closed.  NULL is fine. */
void loop_free(struct loop *loop);

/* "io_uring" or "epoll" */
const char *loop_engine_name(const struct loop *loop);

/* Why LOOP_AUTO took epoll: what the kernel says to io_uring, -errno; else 0.
 */
int loop_refusal(const struct loop *loop);

/*
 * Level-triggered: called in each step as long as the descriptor is ready.
 * One watch a descriptor.  The descriptor must stay open until loop_unwatch().
 * Returns 0 or -errno; on failure nothing is watched.
 */
int loop_watch(struct loop *loop, struct loop_watch *watch, int fd,
	unsigned int events, loop_watch_fn *ready, void *owner);

/* Asks for other events from now on; 0 keeps the watch but pauses it: then
 * not even a hang-up is told.  0 or -errno; on failure nothing has changed. */
int loop_watch_change(
	struct loop *loop, struct loop_watch *watch, unsigned int events);

/*
 * After it, the callback is not called again.  A zero watch is fine.  The
 * descriptor may be closed at once; what a close means to the other side may
 * have to wait for the next loop_step().
 */
void loop_unwatch(struct loop *loop, struct loop_watch *watch);

/*
 * Sets or moves the timer: once, at at_ns (CLOCK_MONOTONIC) or soon after; set
 * from a timer's callback, in the next step at the earliest.  0 or -ENOMEM,
 * the latter never for a timer that is set.  Clearing one that is not set is
 * fine.
 */
int loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns,
	loop_timer_fn *expired, void *owner);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer);

/*
 * Runs the callbacks of all that is ready and of all timers that are due; when
 * there is none, sleeps until there is one, but not past until_ns (0: does
 * not sleep at all, and costs no system call where the engine can look without
 * one; UINT64_MAX: no limit).  An interrupted sleep (EINTR) is an ordinary
 * return.  Descriptors come before timers.  Not from inside a callback.
 * Returns the number of callbacks run, or -errno when the engine is broken.
 */
int loop_step(struct loop *loop, uint64_t until_ns);

/* Ends the present or the next sleep of loop_step().  Any thread, any time. */
void loop_wake(struct loop *loop);

/* CLOCK_MONOTONIC */
uint64_t loop_now_ns(void);

#endif
