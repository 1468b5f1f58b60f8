/*
 * A sorted list of instants (CLOCK_MONOTONIC, ns): the exact log behind quotas
 * and the report.  Nothing is rounded or put into buckets.
 *
 * Not thread-safe: the simulation's lock covers every list.
 */
#ifndef SIM_STAMPS_H
#define SIM_STAMPS_H

#include <stddef.h>
#include <stdint.h>

struct stamps {
	uint64_t *at_ns;
	size_t count, capacity;
};

void stamps_free(struct stamps *stamps);
/* Equal instants are kept apart.  Cheap when at_ns is the newest or nearly. */
void stamps_insert(struct stamps *stamps, uint64_t at_ns);
/* Takes out one entry of exactly this instant, if there is one. */
void stamps_remove(struct stamps *stamps, uint64_t at_ns);
/* Entries in the half-open window (from_ns, end of time). */
size_t stamps_after(const struct stamps *stamps, uint64_t from_ns);
/* Forgets the entries up to and including until_ns. */
void stamps_forget(struct stamps *stamps, uint64_t until_ns);
/* The largest number of entries in any window (t - width_ns, t]. */
size_t stamps_most_in_window(const struct stamps *stamps, uint64_t width_ns);

#endif
