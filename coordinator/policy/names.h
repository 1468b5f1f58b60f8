/*
 * A hash table from names to objects.  The hash is keyed (SipHash-1-3), since
 * workers choose user names.  The table keeps hashes and pointers only: the
 * caller compares the names.  Owns no object.
 */
#ifndef COORDINATOR_POLICY_NAMES_H
#define COORDINATOR_POLICY_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct names_cell {
	uint64_t hash;
	void *object; /* NULL: free */
};

/* All zero is an empty table. */
struct names {
	struct names_cell *cells;
	size_t capacity, n; /* capacity: 0 or a power of two */
};

uint64_t names_hash(const uint64_t key[2], const char *name);

/*
 * Each object with this hash: start with *cursor = hash, call until NULL.  The
 * table must not change meanwhile.
 */
void *names_next(const struct names *names, uint64_t hash, uint64_t *cursor);

/* A search for this hash follows soon. */
static inline void names_fetch(const struct names *names, uint64_t hash)
{
	if (names->capacity != 0)
		__builtin_prefetch(&names->cells[hash & (names->capacity - 1)]);
}

/* -ENOMEM. */
int names_add(struct names *names, uint64_t hash, void *object);
/* The object must be there. */
void names_remove(struct names *names, uint64_t hash, const void *object);
void names_fini(struct names *names);

#endif
