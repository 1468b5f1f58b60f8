/*
 * The shared mappings of a traced rgovd, made read-only behind its back, so
 * that each store to them stops it: the stores are found without single steps.
 * It knows the board and the daemon control files by the names of their files.
 */
#ifndef FAULT_GUARDED_MAPS_H
#define FAULT_GUARDED_MAPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guarded_map {
	const char *name; /* "board", "control" */
	uint64_t at, bytes;
};

enum { GUARDED_MAPS_MAX = 256 };

struct guarded_maps {
	struct guarded_map maps[GUARDED_MAPS_MAX];
	int n;
};

/* "board" or "control" where this is a file whose stores count, else NULL. */
const char *guarded_name_of(const char *path);
/* The same for a descriptor of a process. */
const char *guarded_name_of_fd(pid_t pid, int fd);

/* Enters what the process has mapped writable now. */
void guarded_maps_read(struct guarded_maps *maps, pid_t pid);
void guarded_maps_add(struct guarded_maps *maps, const char *name, uint64_t at,
	uint64_t bytes);
void guarded_maps_remove(struct guarded_maps *maps, uint64_t at);
/* NULL: the address is in none. */
const struct guarded_map *guarded_maps_find(
	const struct guarded_maps *maps, uint64_t address);

#endif
