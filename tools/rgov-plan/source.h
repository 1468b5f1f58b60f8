/*
 * The questions of a load in the order they come.  Those of a closed loop come
 * when the one before has ended, so the schedule has a part in it; what they
 * ask is the same in each.
 */
#ifndef PLAN_SOURCE_H
#define PLAN_SOURCE_H

#include "tools/rgov-plan/events.h"
#include "tools/rgov-plan/load.h"

struct source_asker;

struct source {
	const struct load *load;
	uint64_t timeout_ns; /* where nothing else is said */
	struct source_asker *askers;
	struct events next;
	size_t trace_at;
};

/* asked: of each user, what another run asked, to be asked again; NULL: as the
 * load says.  0 or -ENOMEM. */
int source_init(struct source *source, const struct load *load,
	uint64_t timeout_ns, const uint64_t *asked);
void source_fini(struct source *source);

/* When the next one comes; UINT64_MAX: none, unless one ends. */
uint64_t source_next_ns(const struct source *source);
/* 0 or -ENOMEM. */
int source_take(struct source *source, struct load_question *ret_question);
/* A question of this user is over; the next one comes not before then.  0 or
 * -ENOMEM. */
int source_ended(struct source *source, uint32_t user, uint64_t now_ns);
/* How many questions this user has asked. */
uint64_t source_asked(const struct source *source, uint32_t user);

#endif
