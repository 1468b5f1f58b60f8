/*
 * The engine for every kernel and every container: epoll, level-triggered.
 * Each change is one system call at once, so its failures are seen at once.
 */
#include "coordinator/loop/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 128 };

struct epoll_engine {
	struct engine base;
	int epoll_fd;
	bool whole_ms; /* epoll_pwait2() is refused here */
	struct epoll_event batch[BATCH];
};

static struct epoll_engine *mine(struct engine *engine)
{
	return (struct epoll_engine *)engine;
}

static uint32_t to_epoll(unsigned int events)
{
	return (events & LOOP_READ ? (uint32_t)EPOLLIN : 0) |
	       (events & LOOP_WRITE ? (uint32_t)EPOLLOUT : 0);
}

static unsigned int from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? LOOP_READ : 0u) |
	       (events & EPOLLOUT ? LOOP_WRITE : 0u) |
	       (events & (EPOLLERR | EPOLLHUP) ? LOOP_HANGUP : 0u);
}

static int control(struct engine *engine, int operation, uint32_t id, int fd,
	unsigned int events)
{
	struct epoll_event event = {
		.events = to_epoll(events),
		.data.u64 = engine_tag(engine, id),
	};

	if (epoll_ctl(mine(engine)->epoll_fd, operation, fd, &event) != 0)
		return -errno;
	engine->slots[id].armed = events;
	return 0;
}

/*
 * A paused watch leaves the set: epoll would go on reporting its hang-up, and
 * the loop would spin.
 */
static int change(struct engine *engine, uint32_t id)
{
	struct slot *slot = &engine->slots[id];
	unsigned int events = slot->watch->events;

	if (events == slot->armed)
		return 0;
	return control(engine,
		events == 0        ? EPOLL_CTL_DEL
		: slot->armed == 0 ? EPOLL_CTL_ADD
				   : EPOLL_CTL_MOD,
		id, slot->watch->fd, events);
}

/* Asked to watch for nothing, it still finds out whether it could. */
static int add(struct engine *engine, uint32_t id)
{
	struct loop_watch *watch = engine->slots[id].watch;
	int rc = control(engine, EPOLL_CTL_ADD, id, watch->fd, watch->events);

	if (rc != 0 || watch->events != 0)
		return rc;
	return control(engine, EPOLL_CTL_DEL, id, watch->fd, 0);
}

static void remove_watch(struct engine *engine, uint32_t id, int fd)
{
	/* Fails only for a descriptor closed too early, which left the set by
	 * itself. */
	if (engine->slots[id].armed != 0)
		(void)control(engine, EPOLL_CTL_DEL, id, fd, 0);
	engine_release_slot(engine, id);
}

/* Whole milliseconds, rounded up so that no timer finds itself too early. */
static int wait_ms(struct epoll_engine *epoll, uint64_t left_ns)
{
	uint64_t ms = left_ns / 1000000 + (left_ns % 1000000 != 0);

	return epoll_wait(epoll->epoll_fd, epoll->batch, BATCH,
		ms > INT32_MAX ? -1 : (int)ms);
}

static int wait_ns(struct epoll_engine *epoll, uint64_t left_ns)
{
	struct timespec left = {
		.tv_sec = (time_t)(left_ns / 1000000000),
		.tv_nsec = (long)(left_ns % 1000000000),
	};
	int n;

	if (epoll->whole_ms)
		return wait_ms(epoll, left_ns);
	n = epoll_pwait2(epoll->epoll_fd, epoll->batch, BATCH, &left, NULL);
	if (n < 0 && (errno == ENOSYS || errno == EPERM)) {
		epoll->whole_ms = true; /* an older kernel, or a filter */
		n = wait_ms(epoll, left_ns);
	}
	return n;
}

static int step(struct engine *engine, uint64_t until_ns)
{
	struct epoll_engine *epoll = mine(engine);
	uint64_t now_ns =
		until_ns == 0 || until_ns == UINT64_MAX ? 0 : loop_now_ns();
	int ran = 0, n;

	if (until_ns == UINT64_MAX)
		n = epoll_wait(epoll->epoll_fd, epoll->batch, BATCH, -1);
	else if (until_ns <= now_ns)
		n = epoll_wait(epoll->epoll_fd, epoll->batch, BATCH, 0);
	else
		n = wait_ns(epoll, until_ns - now_ns);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		/* Looked up one by one: a callback may have ended the watch of
		 * a later entry. */
		uint32_t id = engine_find(engine, epoll->batch[i].data.u64);

		if (id != 0)
			ran += engine_tell(
				engine, id, from_epoll(epoll->batch[i].events));
	}
	return ran;
}

static void close_engine(struct engine *engine)
{
	(void)close(mine(engine)->epoll_fd);
	free(engine->slots);
	free(mine(engine));
}

int engine_epoll_open(struct engine **ret_engine)
{
	static const struct engine_ops ops = {
		.name = "epoll",
		.close = close_engine,
		.add = add,
		.change = change,
		.remove = remove_watch,
		.step = step,
	};
	struct epoll_engine *epoll = calloc(1, sizeof(*epoll));
	int rc;

	if (epoll == NULL)
		return -ENOMEM;
	epoll->base.ops = &ops;
	epoll->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll->epoll_fd < 0) {
		rc = -errno;
		free(epoll);
		return rc;
	}
	*ret_engine = &epoll->base;
	return 0;
}
