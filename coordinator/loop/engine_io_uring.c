/*
 * The engine that needs one system call where epoll needs several: io_uring,
 * with one-shot polls that are armed again after the callback, so that they
 * behave like level-triggered epoll.
 *
 * What a watch wants and what the kernel has been asked for (slot->armed) may
 * differ until the next step: changed slots wait on a list, which step() turns
 * into submissions.  So a change of mind costs nothing, a full submission queue
 * delays and loses nothing, and loop_unwatch() cannot fail.
 *
 *     want    armed   submission
 *     ----    -----   ----------
 *     same    same    none
 *     some    none    POLL_ADD
 *     other   some    ASYNC_CANCEL; a new generation; POLL_ADD
 *     none    some    ASYNC_CANCEL; a new generation
 *
 * A completion of an older generation finds nobody.  The kernel holds on to a
 * polled file until the ASYNC_CANCEL, that is until the next step.
 */
#include "coordinator/loop/engine.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
	SUBMISSIONS = 256,
	/* More than that overflow into the kernel's own list: slower, not lost
	 * (IORING_FEAT_NODROP). */
	COMPLETIONS = 2048,
	NOBODY = 0, /* the tag of an ASYNC_CANCEL */
};

struct uring_engine {
	struct engine base;
	struct io_uring ring;
	uint32_t first_dirty, last_dirty; /* slots, 0: none */
	uint8_t remove_flags;
};

static struct uring_engine *mine(struct engine *engine)
{
	return (struct uring_engine *)engine;
}

static unsigned int to_poll(unsigned int events)
{
	return (events & LOOP_READ ? (unsigned int)POLLIN : 0) |
	       (events & LOOP_WRITE ? (unsigned int)POLLOUT : 0);
}

static unsigned int from_poll(int events)
{
	return (events & POLLIN ? LOOP_READ : 0u) |
	       (events & POLLOUT ? LOOP_WRITE : 0u) |
	       (events & (POLLERR | POLLHUP | POLLNVAL) ? LOOP_HANGUP : 0u);
}

static void mark_dirty(struct uring_engine *uring, uint32_t id)
{
	struct slot *slot = &uring->base.slots[id];

	if (slot->dirty)
		return;
	slot->dirty = true;
	slot->next = 0;
	if (uring->first_dirty == 0)
		uring->first_dirty = id;
	else
		uring->base.slots[uring->last_dirty].next = id;
	uring->last_dirty = id;
}

static uint32_t take_dirty(struct uring_engine *uring)
{
	uint32_t id = uring->first_dirty;
	struct slot *slot = &uring->base.slots[id];

	uring->first_dirty = slot->next;
	slot->next = 0;
	slot->dirty = false;
	return id;
}

/* epoll refuses what can never become ready or is not there; so do we. */
static int add(struct engine *engine, uint32_t id)
{
	struct stat status;

	if (fstat(engine->slots[id].watch->fd, &status) != 0)
		return -errno;
	if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))
		return -EPERM;
	mark_dirty(mine(engine), id);
	return 0;
}

static int change(struct engine *engine, uint32_t id)
{
	mark_dirty(mine(engine), id);
	return 0;
}

static void remove_watch(struct engine *engine, uint32_t id, int fd)
{
	(void)fd;
	mark_dirty(mine(engine), id);
}

static void disarm(struct uring_engine *uring, uint32_t id)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	/* Not POLL_REMOVE: it fails where news is on its way to us, and where
	 * that turns out to be nothing, the poll would stay for ever, and with
	 * it the file that we have closed. */
	io_uring_prep_cancel64(sqe, engine_tag(&uring->base, id), 0);
	io_uring_sqe_set_data64(sqe, NOBODY);
	io_uring_sqe_set_flags(sqe, uring->remove_flags);
	uring->base.slots[id].generation++;
	uring->base.slots[id].armed = 0;
}

static void arm(struct uring_engine *uring, uint32_t id)
{
	struct slot *slot = &uring->base.slots[id];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	io_uring_prep_poll_add(
		sqe, slot->watch->fd, to_poll(slot->watch->events));
	io_uring_sqe_set_data64(sqe, engine_tag(&uring->base, id));
	slot->armed = slot->watch->events;
}

static void settle(struct uring_engine *uring, uint32_t id)
{
	struct slot *slot = &uring->base.slots[id];
	unsigned int want = slot->watch != NULL ? slot->watch->events : 0;

	if (slot->armed != 0 && slot->armed != want)
		disarm(uring, id);
	if (slot->armed != want)
		arm(uring, id);
	if (slot->watch == NULL)
		engine_release_slot(&uring->base, id);
}

/* Stops early when the kernel takes no more; the rest stays on the list. */
static void settle_all(struct uring_engine *uring)
{
	while (uring->first_dirty != 0) {
		if (io_uring_sq_space_left(&uring->ring) < 2)
			(void)io_uring_submit(&uring->ring);
		if (io_uring_sq_space_left(&uring->ring) < 2)
			return;
		settle(uring, take_dirty(uring));
	}
}

static int sleep_until(struct uring_engine *uring, uint64_t left_ns)
{
	struct __kernel_timespec left = {
		.tv_sec = (long long)(left_ns / 1000000000),
		.tv_nsec = (long long)(left_ns % 1000000000),
	};
	struct io_uring_cqe *cqe;

	return io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1,
		left_ns == UINT64_MAX ? NULL : &left, NULL);
}

/* Hands over what is to be submitted, and sleeps where that is wanted. */
static int enter(struct uring_engine *uring, uint64_t until_ns)
{
	uint64_t left_ns = until_ns;
	int rc = 0;

	if (until_ns != 0 && until_ns != UINT64_MAX) {
		uint64_t now_ns = loop_now_ns();

		left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
	}
	/* What the kernel did not take must be tried again, not slept on. */
	if (left_ns != 0 && uring->first_dirty == 0)
		rc = sleep_until(uring, left_ns);
	else if (io_uring_sq_ready(&uring->ring) != 0)
		rc = io_uring_submit(&uring->ring);
	/* EBUSY, EAGAIN: the submissions stay in the queue for the next step,
	 * which first makes room by taking the completions. */
	if (rc == -ETIME || rc == -EBUSY || rc == -EAGAIN)
		return 0;
	return rc < 0 ? rc : 0;
}

static int complete(struct uring_engine *uring, uint64_t tag, int result)
{
	uint32_t id = engine_find(&uring->base, tag);

	if (id == 0)
		return 0;
	uring->base.slots[id].armed = 0;
	mark_dirty(uring, id); /* armed again after the callback */
	if (result == -ECANCELED || result == -ENOMEM || result == -EAGAIN)
		return 0;
	return engine_tell(
		&uring->base, id, result < 0 ? LOOP_HANGUP : from_poll(result));
}

/*
 * Only what is there now: what the callbacks make ready is for the next step.
 * The look itself enters the kernel only where the ring says that completions
 * wait there.
 */
static int reap(struct uring_engine *uring)
{
	struct io_uring_cqe *cqe;
	unsigned int left;
	int ran = 0;

	if (io_uring_peek_cqe(&uring->ring, &cqe) != 0)
		return 0;
	left = io_uring_cq_ready(&uring->ring);
	while (left-- > 0 && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		uint64_t tag = io_uring_cqe_get_data64(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		ran += complete(uring, tag, result);
	}
	return ran;
}

static int step(struct engine *engine, uint64_t until_ns)
{
	struct uring_engine *uring = mine(engine);
	int rc, ran;

	settle_all(uring);
	rc = enter(uring, until_ns);
	if (rc < 0 && rc != -EINTR)
		return rc;
	ran = reap(uring);
	return ran != 0 ? ran : rc;
}

static void close_engine(struct engine *engine)
{
	io_uring_queue_exit(&mine(engine)->ring);
	free(engine->slots);
	free(mine(engine));
}

/*
 * In the order of preference: completions made only when we ask, then without
 * interrupting us, then as kernels before 5.19 do it.  With the first two, a
 * flag in the ring tells that there is something to ask for.
 */
static int open_ring(struct io_uring *ring)
{
	static const unsigned int ways[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	const unsigned int needed = IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG;
	int rc = -ENOSYS;

	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct io_uring_params params = {
			.flags = ways[i] | IORING_SETUP_CQSIZE |
				 IORING_SETUP_CLAMP,
			.cq_entries = COMPLETIONS,
		};

		rc = io_uring_queue_init_params(SUBMISSIONS, ring, &params);
		if (rc == -EINVAL)
			continue;
		if (rc != 0)
			return rc;
		if ((params.features & needed) == needed)
			return 0;
		io_uring_queue_exit(ring);
		return -ENOSYS;
	}
	return rc;
}

/* Some filters let a ring be made and refuse its use: better known now than at
 * the first step. */
static int try_ring(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int rc;

	io_uring_prep_nop(io_uring_get_sqe(ring));
	rc = io_uring_submit_and_wait(ring, 1);
	if (rc < 0)
		return rc;
	rc = io_uring_peek_cqe(ring, &cqe);
	if (rc == 0)
		io_uring_cqe_seen(ring, cqe);
	return rc;
}

int engine_io_uring_open(struct engine **ret_engine)
{
	static const struct engine_ops ops = {
		.name = "io_uring",
		.close = close_engine,
		.add = add,
		.change = change,
		.remove = remove_watch,
		.step = step,
	};
	struct uring_engine *uring = calloc(1, sizeof(*uring));
	int rc;

	if (uring == NULL)
		return -ENOMEM;
	uring->base.ops = &ops;
	rc = open_ring(&uring->ring);
	if (rc != 0)
		goto free_uring;
	rc = try_ring(&uring->ring);
	if (rc != 0)
		goto close_ring;
	/* Where the kernel can, a cancel that worked says nothing. */
	if (uring->ring.features & IORING_FEAT_CQE_SKIP)
		uring->remove_flags = IOSQE_CQE_SKIP_SUCCESS;
	*ret_engine = &uring->base;
	return 0;

close_ring:
	io_uring_queue_exit(&uring->ring);
free_uring:
	free(uring);
	return rc;
}
