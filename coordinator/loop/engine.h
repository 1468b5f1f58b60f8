/*
 * What loop.c asks of an engine, and the table of watches that both engines
 * share.  Only for the files of this folder.
 *
 * A watch is known to the kernel by a tag: its slot's number and the slot's
 * generation.  The generation moves on whenever the kernel may still hold
 * something that nobody wants to hear about any more, so what comes late finds
 * nobody: neither a freed watch nor the slot's next user.
 */
#ifndef COORDINATOR_LOOP_ENGINE_H
#define COORDINATOR_LOOP_ENGINE_H

#include "coordinator/loop/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct slot {
	struct loop_watch *watch; /* NULL: free, or on its way to be */
	uint32_t generation;
	uint32_t next;  /* in the one list that it is on; 0: the last */
	uint32_t armed; /* enum loop_events that the kernel watches for now */
	bool dirty;     /* io_uring: on the list of slots to be looked at */
};

struct engine {
	const struct engine_ops *ops;
	struct slot *slots; /* [0] is never used: 0 means none */
	uint32_t slot_count;
	uint32_t first_free;
};

struct engine_ops {
	const char *name;
	void (*close)(struct engine *engine);
	/* The slot's watch is filled in; on failure the caller frees the slot.
	 */
	int (*add)(struct engine *engine, uint32_t id);
	/* watch->events has changed. */
	int (*change)(struct engine *engine, uint32_t id);
	/* The slot's watch is NULL by now.  The engine frees the slot. */
	void (*remove)(struct engine *engine, uint32_t id, int fd);
	/*
	 * Sleeps until until_ns at most (0: not at all), and runs the callbacks
	 * of what was ready.  Returns their number, which is 0 also when only
	 * late news had come; -EINTR; another -errno when it is broken.
	 */
	int (*step)(struct engine *engine, uint64_t until_ns);
};

int engine_io_uring_open(struct engine **ret_engine);
int engine_epoll_open(struct engine **ret_engine);

/* ---- slots, for both (engine.c) ---- */

/* A free slot's number, or 0: no memory. */
uint32_t engine_claim_slot(struct engine *engine);

/* Makes its tag stale and the slot free for another watch. */
void engine_release_slot(struct engine *engine, uint32_t id);

uint64_t engine_tag(const struct engine *engine, uint32_t id);

/* The slot's number, or 0: the tag is stale. */
uint32_t engine_find(const struct engine *engine, uint64_t tag);

/*
 * Tells the watch of a live slot, if it wants to hear that.  The callback may
 * do anything, also free the watch: the slots may have moved afterwards.
 * Returns the number of callbacks run, 0 or 1.
 */
int engine_tell(struct engine *engine, uint32_t id, unsigned int events);

#endif
