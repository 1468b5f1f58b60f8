/* The heap and the name table, against naive search. */
#include "coordinator/policy/heap.h"
#include "coordinator/policy/names.h"

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
				(struct heap_key){one->key, 0, 0});
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

/* Equal first keys are decided by the second, then the third. */
static void ties_are_broken_in_turn(void)
{
	struct heap heap = {0};
	uint32_t a = 0, b = 0, c = 0;

	CU_ASSERT_EQUAL_FATAL(heap_reserve(&heap, 3), 0);
	heap_put(&heap, &a, (struct heap_key){1, 2, 1});
	heap_put(&heap, &b, (struct heap_key){1, 1, 9});
	heap_put(&heap, &c, (struct heap_key){1, 1, 8});
	CU_ASSERT_PTR_EQUAL(heap_first(&heap), &c);
	heap_take(&heap, &c);
	CU_ASSERT_PTR_EQUAL(heap_first(&heap), &b);
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

SUITE("policy_tables", T(the_first_is_the_least), T(ties_are_broken_in_turn),
	T(names_are_found_while_there), T(the_hash_is_keyed))
