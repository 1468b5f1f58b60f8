/* The timeline: rings with holes, and a heap for what comes out of order. */
#include "coordinator/policy/timeline.h"

#include <errno.h>
#include <stdlib.h>

/*
 * A place is a heap's (below 2^31), or names a ring and a position there:
 *
 *     31  30..28   27..0
 *     1   ring     counter of the entry, modulo 2^28
 */
#define IN_RING (UINT32_C(1) << 31)
#define POSITION_MASK ((UINT32_C(1) << 28) - 1)

enum {
	FIRST_CAPACITY = 64,
	/* An empty ring above this gives its memory back. */
	KEPT_CAPACITY = 4096,
	MOST_CAPACITY = 1 << 27,
};

static uint32_t *place_of(
	const struct timeline *timeline, struct policy_request *request)
{
	return (uint32_t *)(void *)((char *)request + timeline->place);
}

static struct timeline_entry *entry_at(
	const struct timeline_ring *ring, uint32_t position)
{
	return &ring->entries[position & (ring->capacity - 1)];
}

static struct timeline_entry *last_of(const struct timeline_ring *ring)
{
	return entry_at(ring, ring->end - 1);
}

static struct policy_request *first_of_rest(const struct timeline *timeline)
{
	uint32_t *place = heap_first(&timeline->rest);

	return place ? (void *)((char *)place - timeline->place) : NULL;
}

void timeline_init(struct timeline *timeline, size_t place)
{
	*timeline = (struct timeline){.place = place};
	for (uint32_t i = 0; i < TIMELINE_RINGS; i++)
		timeline->rings[i].name = i;
}

void timeline_fini(struct timeline *timeline)
{
	for (int i = 0; i < TIMELINE_RINGS; i++)
		free(timeline->rings[i].entries);
	heap_fini(&timeline->rest);
}

int timeline_reserve(struct timeline *timeline, uint32_t n)
{
	return heap_reserve(&timeline->rest, timeline->rest.n + n);
}

/* ------------------------------------------------------------ rings */

/* Appends; there is room. */
static void append(const struct timeline *timeline, struct timeline_ring *ring,
	struct timeline_entry entry)
{
	*place_of(timeline, entry.request) =
		IN_RING | ring->name << 28 | (ring->end & POSITION_MASK);
	*entry_at(ring, ring->end++) = entry;
}

/* Twice the size.  Every position stays, so no request is touched. */
static bool grow(struct timeline_ring *ring)
{
	struct timeline_ring grown = *ring;

	grown.capacity = ring->capacity ? 2 * ring->capacity : FIRST_CAPACITY;
	if (grown.capacity > MOST_CAPACITY)
		return false;
	grown.entries = malloc(grown.capacity * sizeof(*grown.entries));
	if (grown.entries == NULL)
		return false;
	for (uint32_t i = ring->first; i != ring->end; i++)
		*entry_at(&grown, i) = *entry_at(ring, i);
	free(ring->entries);
	*ring = grown;
	return true;
}

static void close_holes(
	const struct timeline *timeline, struct timeline_ring *ring)
{
	uint32_t end = ring->end;

	ring->end = ring->first;
	for (uint32_t i = ring->first; i != end; i++)
		if (entry_at(ring, i)->request != NULL)
			append(timeline, ring, *entry_at(ring, i));
}

/* Holes are closed where they are three of four: seldom, and for few. */
static bool make_room(
	const struct timeline *timeline, struct timeline_ring *ring)
{
	if (ring->end - ring->first < ring->capacity)
		return true;
	if (ring->live >= ring->capacity / 4)
		return grow(ring);
	close_holes(timeline, ring);
	return true;
}

static void empty(struct timeline_ring *ring)
{
	if (ring->capacity <= KEPT_CAPACITY)
		return;
	free(ring->entries);
	*ring = (struct timeline_ring){.name = ring->name};
}

static void leave_ring(struct timeline_ring *ring, uint32_t position)
{
	entry_at(ring, position)->request = NULL;
	ring->live--;
	while (ring->end != ring->first && last_of(ring)->request == NULL)
		ring->end--;
	while (ring->end != ring->first &&
		entry_at(ring, ring->first)->request == NULL)
		ring->first++;
	if (ring->live == 0)
		empty(ring);
}

void timeline_fetch(
	const struct timeline *timeline, const struct policy_request *request)
{
	const uint32_t *place =
		place_of(timeline, (struct policy_request *)(uintptr_t)request);
	const struct timeline_ring *ring =
		&timeline->rings[*place >> 28 & (TIMELINE_RINGS - 1)];

	if (*place & IN_RING)
		__builtin_prefetch(entry_at(ring, *place & POSITION_MASK));
}

static bool is_before(
	const struct timeline_entry *a, const struct timeline_entry *b)
{
	if (a->time != b->time)
		return a->time < b->time;
	return a->request->p.arrival < b->request->p.arrival;
}

/* The one whose last is nearest before it, else an empty one; NULL: none. */
static struct timeline_ring *ring_for(
	struct timeline *timeline, const struct timeline_entry *entry)
{
	struct timeline_ring *best = NULL;

	for (int i = 0; i < TIMELINE_RINGS; i++) {
		struct timeline_ring *ring = &timeline->rings[i];

		if (ring->live == 0) {
			if (best == NULL)
				best = ring;
		} else if (is_before(last_of(ring), entry) &&
			   (best == NULL || best->live == 0 ||
				   is_before(last_of(best), last_of(ring)))) {
			best = ring;
		}
	}
	return best;
}

/* ------------------------------------------------------------ all of it */

int timeline_enter(struct timeline *timeline, struct policy_request *request,
	uint64_t time)
{
	struct timeline_entry entry = {time, request};
	struct timeline_ring *ring = ring_for(timeline, &entry);

	if (ring != NULL && make_room(timeline, ring)) {
		ring->live++;
		append(timeline, ring, entry);
		timeline->n++;
		return 0;
	}
	if (timeline_reserve(timeline, 1) != 0)
		return -ENOMEM;
	heap_put(&timeline->rest, place_of(timeline, request),
		(struct heap_key){time, request->p.arrival});
	timeline->n++;
	return 0;
}

void timeline_leave(struct timeline *timeline, struct policy_request *request)
{
	uint32_t *place = place_of(timeline, request);
	struct timeline_ring *ring;

	if (*place == 0)
		return;
	timeline->n--;
	if ((*place & IN_RING) == 0) {
		heap_take(&timeline->rest, place);
		return;
	}
	ring = &timeline->rings[*place >> 28 & (TIMELINE_RINGS - 1)];
	leave_ring(ring, *place & POSITION_MASK);
	*place = 0;
}

static struct timeline_entry first_entry(const struct timeline *timeline)
{
	struct timeline_entry best = {
		heap_first_key(&timeline->rest), first_of_rest(timeline)};

	for (int i = 0; i < TIMELINE_RINGS; i++) {
		const struct timeline_ring *ring = &timeline->rings[i];
		const struct timeline_entry *first;

		if (ring->live == 0)
			continue;
		first = entry_at(ring, ring->first);
		if (best.request == NULL || is_before(first, &best))
			best = *first;
	}
	return best;
}

struct policy_request *timeline_first(const struct timeline *timeline)
{
	return first_entry(timeline).request;
}

uint64_t timeline_first_time(const struct timeline *timeline)
{
	return first_entry(timeline).time;
}
