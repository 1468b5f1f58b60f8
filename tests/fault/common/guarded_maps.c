/* A small table, and what /proc says. */
#include "tests/fault/common/guarded_maps.h"

#include <err.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

const char *guarded_name_of(const char *path)
{
	if (strncmp(path, "/dev/shm/rgov.", 14) == 0)
		return "board";
	if (strncmp(path, "/memfd:rgov:daemon ", 19) == 0)
		return "control";
	return NULL;
}

const char *guarded_name_of_fd(pid_t pid, int fd)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return NULL;
	path[n] = '\0';
	return guarded_name_of(path);
}

void guarded_maps_add(struct guarded_maps *maps, const char *name, uint64_t at,
	uint64_t bytes)
{
	if (maps->n == GUARDED_MAPS_MAX)
		errx(EX_SOFTWARE, "more than %d maps", GUARDED_MAPS_MAX);
	maps->maps[maps->n++] = (struct guarded_map){name, at, bytes};
}

void guarded_maps_remove(struct guarded_maps *maps, uint64_t at)
{
	for (int i = 0; i < maps->n; i++) {
		if (maps->maps[i].at == at) {
			maps->maps[i] = maps->maps[--maps->n];
			return;
		}
	}
}

const struct guarded_map *guarded_maps_find(
	const struct guarded_maps *maps, uint64_t address)
{
	for (int i = 0; i < maps->n; i++) {
		if (address - maps->maps[i].at < maps->maps[i].bytes)
			return &maps->maps[i];
	}
	return NULL;
}

void guarded_maps_read(struct guarded_maps *maps, pid_t pid)
{
	char path[64], line[PATH_MAX + 128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	file = fopen(path, "re");
	if (file == NULL)
		err(EX_NOPERM, "%s", path);
	while (fgets(line, sizeof(line), file) != NULL) {
		unsigned long from, to;
		char rights[8];
		int name_at = 0;
		const char *name;

		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %n", &from, &to,
			    rights, &name_at) != 3 ||
			name_at == 0)
			continue;
		name = guarded_name_of(line + name_at);
		if (name != NULL && strcmp(rights, "rw-s") == 0)
			guarded_maps_add(maps, name, from, to - from);
	}
	fclose(file);
}
