/* The heap, the timeline and the name table, against naive search. */
#include "coordinator/policy/heap.h"
#include "coordinator/policy/names.h"
#include "coordinator/policy/timeline.h"

#include "tests/unit/policy_rig.h"

enum { MEMBERS = 60, ROUNDS = 20000 };

struct member {
	uint64_t key;
	uint32_t place;
};

static const struct member *least(const struct member *members)
{
	const struct member *first = NULL;

	for (int i = 0; i < MEMBERS; i++)
		if (members[i].place != 0 &&
			(first == NULL || members[i].key < first->key))
			first = &members[i];
	return first;
}

/* After any entries, changes of key and removals the first is the least. */
static void the_first_is_the_least(void)
{
	struct member members[MEMBERS] = {0};
	struct heap heap = {0};
	uint64_t random = rig_seed(3);

	CU_ASSERT_EQUAL_FATAL(heap_reserve(&heap, MEMBERS), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct member *one = &members[rig_random(&random, MEMBERS)];
		const struct member *first;

		if (rig_random(&random, 3)) {
			one->key =
				(uint64_t)rig_random(&random, 1000) * MEMBERS +
				(uint64_t)(one - members);
			heap_put(&heap, &one->place,
				(struct heap_key){one->key, 0});
		} else {
			heap_take(&heap, &one->place);
		}
		first = least(members);
		CU_ASSERT_PTR_EQUAL(
			heap_first(&heap), first ? &first->place : NULL);
		CU_ASSERT_EQUAL(
			heap_first_key(&heap), first ? first->key : UINT64_MAX);
	}
	for (int i = 0; i < MEMBERS; i++)
		heap_take(&heap, &members[i].place);
	heap_fini(&heap);
}

/* Equal first keys are decided by the second. */
static void ties_are_broken(void)
{
	struct heap heap = {0};
	uint32_t a = 0, b = 0;

	CU_ASSERT_EQUAL_FATAL(heap_reserve(&heap, 2), 0);
	heap_put(&heap, &a, (struct heap_key){1, 9});
	heap_put(&heap, &b, (struct heap_key){1, 8});
	CU_ASSERT_PTR_EQUAL(heap_first(&heap), &b);
	heap_put(&heap, &a, (struct heap_key){1, 7});
	CU_ASSERT_PTR_EQUAL(heap_first(&heap), &a);
	heap_take(&heap, &b);
	heap_take(&heap, &a);
	heap_fini(&heap);
}

static bool has(const struct names *names, uint64_t hash, const void *object)
{
	uint64_t cursor = hash;
	const void *found;

	while ((found = names_next(names, hash, &cursor)) != NULL)
		if (found == object)
			return true;
	return false;
}

/* A name is found exactly while it is in the table, however hashes collide and
 * whatever is removed from the middle of a run. */
static void names_are_found_while_there(void)
{
	enum { N = 400 };
	static uint64_t objects[N]; /* 1: in the table */
	struct names names = {0};
	uint64_t random = rig_seed(4);

	memset(objects, 0, sizeof(objects));
	for (int round = 0; round < ROUNDS; round++) {
		uint32_t i = rig_random(&random, N);
		uint64_t hash = UINT64_MAX - i % 50; /* runs that wrap round */

		CU_ASSERT_EQUAL(has(&names, hash, &objects[i]), objects[i]);
		if (objects[i])
			names_remove(&names, hash, &objects[i]);
		else
			CU_ASSERT_EQUAL(
				names_add(&names, hash, &objects[i]), 0);
		objects[i] ^= 1;
	}
	for (uint32_t i = 0; i < N; i++)
		CU_ASSERT_EQUAL(has(&names, UINT64_MAX - i % 50, &objects[i]),
			objects[i]);
	names_fini(&names);
}

/* The hash is SipHash-1-3: it depends on the key, the length and each byte. */
static void the_hash_is_keyed(void)
{
	static const uint64_t key[2] = {
		UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
	static const uint64_t other[2] = {1, 2};

	CU_ASSERT_EQUAL(names_hash(key, ""), UINT64_C(0xabac0158050fc4dc));
	CU_ASSERT_NOT_EQUAL(names_hash(key, "a"), names_hash(other, "a"));
	CU_ASSERT_NOT_EQUAL(
		names_hash(key, "12345678"), names_hash(key, "12345679"));
	CU_ASSERT_NOT_EQUAL(
		names_hash(key, "123456789"), names_hash(key, "12345678"));
}

/* ------------------------------------------------------------ timeline */

enum { WAITERS = 300 };

static const struct policy_request *earliest(
	const struct policy_request *waiters)
{
	const struct policy_request *first = NULL;

	for (int i = 0; i < WAITERS; i++) {
		const struct policy_request *one = &waiters[i];

		if (one->p.deadline_place == 0)
			continue;
		if (first == NULL || one->deadline_ns < first->deadline_ns ||
			(one->deadline_ns == first->deadline_ns &&
				one->p.arrival < first->p.arrival))
			first = one;
	}
	return first;
}

/* One enters, or leaves.  `spread`: how far from order the times are. */
static void stir(struct timeline *timeline, struct policy_request *one,
	uint64_t clock, uint64_t *random, uint32_t spread)
{
	if (one->p.deadline_place != 0) {
		timeline_leave(timeline, one);
		return;
	}
	one->deadline_ns = clock + rig_random(random, spread);
	one->p.arrival = clock;
	CU_ASSERT_EQUAL(timeline_enter(timeline, one, one->deadline_ns), 0);
}

/* Whatever comes and goes, in order or not, the first is the earliest, and of
 * equal ones the one that arrived first. */
static void the_first_is_the_earliest(void)
{
	static const uint32_t spreads[] = {1, 3, 50, 100000};
	static struct policy_request waiters[WAITERS];
	uint64_t random = rig_seed(5);

	for (size_t s = 0; s < sizeof(spreads) / sizeof(*spreads); s++) {
		struct timeline timeline;

		memset(waiters, 0, sizeof(waiters));
		timeline_init(&timeline,
			offsetof(struct policy_request, p.deadline_place));
		for (uint64_t i = 1; i < ROUNDS; i++) {
			uint32_t who = rig_random(&random, WAITERS);
			const struct policy_request *first;

			stir(&timeline, &waiters[who], i, &random, spreads[s]);
			first = earliest(waiters);
			CU_ASSERT_PTR_EQUAL(timeline_first(&timeline), first);
			CU_ASSERT_EQUAL(timeline_first_time(&timeline),
				first ? first->deadline_ns : UINT64_MAX);
		}
		for (int i = 0; i < WAITERS; i++)
			timeline_leave(&timeline, &waiters[i]);
		CU_ASSERT_PTR_NULL(timeline_first(&timeline));
		timeline_fini(&timeline);
	}
}

/* One that stays for ever does not make the ring grow with those that pass. */
static void holes_are_closed(void)
{
	enum { PASSING = 100000 };
	static struct policy_request stays, passes;
	struct timeline timeline;

	timeline_init(
		&timeline, offsetof(struct policy_request, p.deadline_place));
	CU_ASSERT_EQUAL(timeline_enter(&timeline, &stays, 1), 0);
	for (uint64_t i = 2; i < PASSING; i += 2) {
		static struct policy_request other;

		CU_ASSERT_EQUAL(timeline_enter(&timeline, &passes, i), 0);
		CU_ASSERT_EQUAL(timeline_enter(&timeline, &other, i + 1), 0);
		timeline_leave(&timeline, &passes);
		timeline_leave(&timeline, &other);
	}
	for (int i = 0; i < TIMELINE_RINGS; i++)
		CU_ASSERT_TRUE(timeline.rings[i].capacity <= 64);
	timeline_leave(&timeline, &stays);
	timeline_fini(&timeline);
}

SUITE("policy_tables", T(the_first_is_the_least), T(ties_are_broken),
	T(names_are_found_while_there), T(the_hash_is_keyed),
	T(the_first_is_the_earliest), T(holes_are_closed))
