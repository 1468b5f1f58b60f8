/*
 * The loop itself: chooses the engine, keeps the timers, and turns an eventfd
 * into loop_wake().
 */
#include "coordinator/loop/loop.h"

#include "coordinator/loop/engine.h"
#include "coordinator/loop/timers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct loop {
	struct engine *engine;
	struct timers timers;
	struct loop_watch wake; /* its fd is the eventfd */
	int refusal;            /* of io_uring, under LOOP_AUTO; 0: none */
	bool woken;             /* in this step */
	bool stepping;
};

uint64_t loop_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void take_wake(struct loop_watch *watch, unsigned int events)
{
	struct loop *loop = watch->owner;
	uint64_t count;

	(void)events;
	(void)!read(watch->fd, &count, sizeof(count));
	loop->woken = true;
}

void loop_wake(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN: 2^64 - 2 wakes are waiting already. */
	(void)!write(loop->wake.fd, &one, sizeof(one));
}

static int open_engine(struct loop *loop, enum loop_engine engine)
{
	int rc;

	if (engine == LOOP_EPOLL)
		return engine_epoll_open(&loop->engine);
	rc = engine_io_uring_open(&loop->engine);
	if (engine == LOOP_IO_URING || rc == 0)
		return rc;
	loop->refusal = rc;
	return engine_epoll_open(&loop->engine);
}

int loop_create(enum loop_engine engine, struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int fd, rc;

	if (loop == NULL)
		return -ENOMEM;
	rc = open_engine(loop, engine);
	if (rc != 0)
		goto free_loop;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0) {
		rc = -errno;
		goto close_engine;
	}
	rc = loop_watch(loop, &loop->wake, fd, LOOP_READ, take_wake, loop);
	if (rc != 0)
		goto close_eventfd;
	*ret_loop = loop;
	return 0;

close_eventfd:
	(void)close(fd);
close_engine:
	loop->engine->ops->close(loop->engine);
free_loop:
	free(loop);
	return rc;
}

void loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	assert(!loop->stepping);
	loop->engine->ops->close(loop->engine);
	(void)close(loop->wake.fd);
	timers_fini(&loop->timers);
	free(loop);
}

const char *loop_engine_name(const struct loop *loop)
{
	return loop->engine->ops->name;
}

int loop_refusal(const struct loop *loop)
{
	return loop->refusal;
}

int loop_watch(struct loop *loop, struct loop_watch *watch, int fd,
	unsigned int events, loop_watch_fn *ready, void *owner)
{
	struct engine *engine = loop->engine;
	uint32_t id;
	int rc;

	assert(watch->id == 0);
	id = engine_claim_slot(engine);
	if (id == 0)
		return -ENOMEM;
	watch->ready = ready;
	watch->owner = owner;
	watch->fd = fd;
	watch->events = events & (LOOP_READ | LOOP_WRITE);
	engine->slots[id].watch = watch;
	rc = engine->ops->add(engine, id);
	if (rc != 0) {
		engine_release_slot(engine, id);
		return rc;
	}
	watch->id = id;
	return 0;
}

int loop_watch_change(
	struct loop *loop, struct loop_watch *watch, unsigned int events)
{
	unsigned int before = watch->events;
	int rc;

	assert(watch->id != 0);
	watch->events = events & (LOOP_READ | LOOP_WRITE);
	if (watch->events == before)
		return 0;
	rc = loop->engine->ops->change(loop->engine, watch->id);
	if (rc != 0)
		watch->events = before;
	return rc;
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	uint32_t id = watch->id;

	if (id == 0)
		return;
	watch->id = 0;
	loop->engine->slots[id].watch = NULL;
	loop->engine->ops->remove(loop->engine, id, watch->fd);
}

int loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ns,
	loop_timer_fn *expired, void *owner)
{
	int rc = timers_set(&loop->timers, timer, at_ns);

	if (rc != 0)
		return rc;
	timer->expired = expired;
	timer->owner = owner;
	return 0;
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	timers_clear(&loop->timers, timer);
}

/* Descriptors before timers: an answer that is there beats its deadline. */
static int pass(struct loop *loop, uint64_t until_ns)
{
	uint64_t timer_ns = timers_next_ns(&loop->timers);
	int told = loop->engine->ops->step(
		loop->engine, timer_ns < until_ns ? timer_ns : until_ns);
	int expired = 0;

	if (told < 0 && told != -EINTR)
		return told;
	/* The wake is ours: not a callback that anybody asked for. */
	if (loop->woken && told > 0)
		told--;
	if (timers_next_ns(&loop->timers) != UINT64_MAX)
		expired = timers_run(&loop->timers, loop_now_ns());
	if (told == -EINTR && expired > 0)
		return expired;
	return told + expired;
}

int loop_step(struct loop *loop, uint64_t until_ns)
{
	int ran;

	assert(!loop->stepping);
	loop->stepping = true;
	loop->woken = false;
	/* Again where only late news of ended watches had ended the sleep. */
	do
		ran = pass(loop, until_ns);
	while (ran == 0 && !loop->woken && until_ns != 0 &&
		loop_now_ns() < until_ns);
	loop->stepping = false;
	return ran == -EINTR ? 0 : ran;
}
