/* Open addressing, linear probing, at most half full, no tombstones. */
#include "coordinator/policy/names.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 64 };

static uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

struct sip {
	uint64_t a, b, c, d;
};

/* In registers: three names are hashed for every request. */
__attribute__((always_inline)) static inline void sip_round(struct sip *v)
{
	v->a += v->b;
	v->b = rotate(v->b, 13) ^ v->a;
	v->a = rotate(v->a, 32);
	v->c += v->d;
	v->d = rotate(v->d, 16) ^ v->c;
	v->a += v->d;
	v->d = rotate(v->d, 21) ^ v->a;
	v->c += v->b;
	v->b = rotate(v->b, 17) ^ v->c;
	v->c = rotate(v->c, 32);
}

__attribute__((always_inline)) static inline void sip_word(
	struct sip *v, uint64_t word)
{
	v->d ^= word;
	sip_round(v);
	v->a ^= word;
}

uint64_t names_hash(const uint64_t key[2], const char *name)
{
	struct sip v = {key[0] ^ UINT64_C(0x736f6d6570736575),
		key[1] ^ UINT64_C(0x646f72616e646f6d),
		key[0] ^ UINT64_C(0x6c7967656e657261),
		key[1] ^ UINT64_C(0x7465646279746573)};
	size_t len = strlen(name), at;
	uint64_t word;

	for (at = 0; at + sizeof(word) <= len; at += sizeof(word)) {
		memcpy(&word, name + at, sizeof(word));
		sip_word(&v, word);
	}
	word = 0;
	memcpy(&word, name + at, len - at);
	sip_word(&v, word | (uint64_t)len << 56);
	v.c ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&v);
	return v.a ^ v.b ^ v.c ^ v.d;
}

void *names_next(const struct names *names, uint64_t hash, uint64_t *cursor)
{
	const struct names_cell *cell;

	if (names->capacity == 0)
		return NULL;
	do {
		cell = &names->cells[*cursor & (names->capacity - 1)];
		if (cell->object == NULL)
			return NULL;
		++*cursor;
	} while (cell->hash != hash);
	return cell->object;
}

static void place(struct names *names, struct names_cell cell)
{
	size_t at = cell.hash & (names->capacity - 1);

	while (names->cells[at].object != NULL)
		at = (at + 1) & (names->capacity - 1);
	names->cells[at] = cell;
}

static int grow(struct names *names)
{
	struct names grown = {.n = names->n,
		.capacity =
			names->capacity ? names->capacity * 2 : FIRST_CAPACITY};

	grown.cells = calloc(grown.capacity, sizeof(*grown.cells));
	if (grown.cells == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < names->capacity; i++)
		if (names->cells[i].object != NULL)
			place(&grown, names->cells[i]);
	free(names->cells);
	*names = grown;
	return 0;
}

int names_add(struct names *names, uint64_t hash, void *object)
{
	if (2 * (names->n + 1) > names->capacity && grow(names) != 0)
		return -ENOMEM;
	place(names, (struct names_cell){.hash = hash, .object = object});
	names->n++;
	return 0;
}

/* Moves back what a gap would hide from a search. */
static void close_gap(struct names *names, size_t gap)
{
	size_t mask = names->capacity - 1, at = gap;

	for (;;) {
		at = (at + 1) & mask;
		if (names->cells[at].object == NULL)
			break;
		if (((at - names->cells[at].hash) & mask) < ((at - gap) & mask))
			continue;
		names->cells[gap] = names->cells[at];
		gap = at;
	}
	names->cells[gap] = (struct names_cell){0};
}

void names_remove(struct names *names, uint64_t hash, const void *object)
{
	size_t at = hash & (names->capacity - 1);

	while (names->cells[at].object != object) {
		assert(names->cells[at].object != NULL);
		at = (at + 1) & (names->capacity - 1);
	}
	close_gap(names, at);
	names->n--;
}

void names_fini(struct names *names)
{
	free(names->cells);
	*names = (struct names){0};
}
