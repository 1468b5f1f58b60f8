/*
 * The table of watches: which slot is whose, and whether a tag from the kernel
 * still means somebody.
 */
#include "coordinator/loop/engine.h"

#include <stdlib.h>

enum { FIRST_SLOTS = 64 };

static int grow(struct engine *engine)
{
	uint32_t old = engine->slot_count;
	uint32_t count = old == 0 ? FIRST_SLOTS : old * 2;
	struct slot *slots = reallocarray(engine->slots, count, sizeof(*slots));

	if (slots == NULL)
		return -1;
	for (uint32_t id = old; id < count; id++)
		slots[id] = (struct slot){
			.generation = 1,
			.next = id + 1 < count ? id + 1 : engine->first_free,
		};
	engine->slots = slots;
	engine->slot_count = count;
	engine->first_free = old == 0 ? 1 : old;
	return 0;
}

uint32_t engine_claim_slot(struct engine *engine)
{
	uint32_t id;

	if (engine->first_free == 0 && grow(engine) != 0)
		return 0;
	id = engine->first_free;
	engine->first_free = engine->slots[id].next;
	engine->slots[id].next = 0;
	return id;
}

void engine_release_slot(struct engine *engine, uint32_t id)
{
	struct slot *slot = &engine->slots[id];

	slot->watch = NULL;
	slot->generation++;
	slot->armed = 0;
	slot->next = engine->first_free;
	engine->first_free = id;
}

uint64_t engine_tag(const struct engine *engine, uint32_t id)
{
	return (uint64_t)engine->slots[id].generation << 32 | id;
}

uint32_t engine_find(const struct engine *engine, uint64_t tag)
{
	uint32_t id = (uint32_t)tag;

	if (id == 0 || id >= engine->slot_count ||
		engine->slots[id].watch == NULL ||
		engine_tag(engine, id) != tag)
		return 0;
	return id;
}

int engine_tell(struct engine *engine, uint32_t id, unsigned int events)
{
	struct loop_watch *watch = engine->slots[id].watch;

	if (watch->events == 0)
		return 0;
	events &= watch->events | LOOP_HANGUP;
	if (events == 0)
		return 0;
	watch->ready(watch, events);
	return 1;
}
