/* A sorted list of instants: the exact log behind quotas and the report. */
#include "tools/bedrock-sim/stamps.h"

#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/memory.h"

void stamps_free(struct stamps *stamps)
{
	free(stamps->at_ns);
	*stamps = (struct stamps){0};
}

/* The number of entries at or before at_ns. */
static size_t stamps_until(const struct stamps *stamps, uint64_t at_ns)
{
	size_t low = 0, high = stamps->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (stamps->at_ns[middle] <= at_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void stamps_insert(struct stamps *stamps, uint64_t at_ns)
{
	size_t i = stamps_until(stamps, at_ns);

	stamps->at_ns = memory_grow(stamps->at_ns, &stamps->capacity,
		stamps->count + 1, sizeof(*stamps->at_ns));
	memmove(stamps->at_ns + i + 1, stamps->at_ns + i,
		(stamps->count - i) * sizeof(*stamps->at_ns));
	stamps->at_ns[i] = at_ns;
	stamps->count++;
}

void stamps_remove(struct stamps *stamps, uint64_t at_ns)
{
	size_t i = stamps_until(stamps, at_ns);

	if (i == 0 || stamps->at_ns[i - 1] != at_ns)
		return;
	memmove(stamps->at_ns + i - 1, stamps->at_ns + i,
		(stamps->count - i) * sizeof(*stamps->at_ns));
	stamps->count--;
}

size_t stamps_after(const struct stamps *stamps, uint64_t from_ns)
{
	return stamps->count - stamps_until(stamps, from_ns);
}

void stamps_forget(struct stamps *stamps, uint64_t until_ns)
{
	size_t old = stamps_until(stamps, until_ns);

	/* Moving the rest only when it is the smaller part: O(1) amortised. */
	if (old <= stamps->count / 2)
		return;
	memmove(stamps->at_ns, stamps->at_ns + old,
		(stamps->count - old) * sizeof(*stamps->at_ns));
	stamps->count -= old;
}

size_t stamps_most_in_window(const struct stamps *stamps, uint64_t width_ns)
{
	size_t first = 0, most = 0;

	for (size_t last = 0; last < stamps->count; last++) {
		while (stamps->at_ns[last] - stamps->at_ns[first] >= width_ns)
			first++;
		if (last - first + 1 > most)
			most = last - first + 1;
	}
	return most;
}
