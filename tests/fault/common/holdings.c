/* rgovd, seen from outside. */
#include "tests/fault/common/holdings.h"

#include "shm-layout/shm_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int rgovd_view_open(struct rgovd_view *view, const char *name)
{
	int rc = board_open(name, &view->board);

	view->name = name;
	if (rc == 0)
		view->pid = view->board->header.rgovd_pid;
	return rc;
}

void rgovd_view_close(struct rgovd_view *view)
{
	board_close(view->board);
	view->board = NULL;
}

/* ------------------------------------------------------------ /proc */

static bool is_memfd(const char *path)
{
	return strncmp(path, "/memfd:", 7) == 0;
}

static void note_descriptor(
	int dir, const char *name, struct holdings *holdings)
{
	char target[128];
	struct stat st;
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return; /* "." and "..", or closed meanwhile */
	target[n] = '\0';
	holdings->descriptors++;
	if (strstr(target, "[pidfd]") != NULL)
		holdings->pidfds++;
	if (!is_memfd(target))
		return;
	holdings->memfds++;
	if (fstatat(dir, name, &st, 0) == 0)
		holdings->blocks += (uint64_t)st.st_blocks;
}

static int read_descriptors(pid_t pid, struct holdings *holdings)
{
	struct dirent *entry;
	char path[32];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (dir == NULL)
		return -errno;
	while ((entry = readdir(dir)) != NULL)
		note_descriptor(dirfd(dir), entry->d_name, holdings);
	(void)closedir(dir);
	return 0;
}

static int read_maps(pid_t pid, struct holdings *holdings)
{
	char path[32], *line = NULL;
	size_t size = 0;
	FILE *maps;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	if (maps == NULL)
		return -errno;
	while (getline(&line, &size, maps) > 0)
		if (strstr(line, "/memfd:") != NULL)
			holdings->maps++;
	free(line);
	(void)fclose(maps);
	return 0;
}

static int read_resident(pid_t pid, struct holdings *holdings)
{
	unsigned long pages = 0;
	char path[32];
	FILE *statm;

	(void)snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	statm = fopen(path, "re");
	if (statm == NULL)
		return -errno;
	if (fscanf(statm, "%*u %lu", &pages) != 1)
		pages = 0;
	(void)fclose(statm);
	holdings->resident_kb = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
	return 0;
}

/* ------------------------------------------------------------ the board */

static void read_board(const struct board *board, struct holdings *holdings)
{
	struct board_lane lane;

	holdings->running = load_relaxed(board->host.running);
	holdings->queued = load_relaxed(board->host.queued);
	holdings->sessions = load_relaxed(board->host.sessions);
	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++)
		holdings->live += board->live[i].state != BOARD_LIVE_FREE;
	for (uint32_t i = 0; i < SHM_BOARD_LANES; i++)
		if (board_read_record(&board->lanes[i], sizeof(lane), &lane))
			holdings->tokens_reserved += lane.tokens_reserved;
}

int holdings_read(const struct rgovd_view *view, struct holdings *ret)
{
	int rc;

	*ret = (struct holdings){0};
	rc = read_descriptors(view->pid, ret);
	if (rc == 0)
		rc = read_maps(view->pid, ret);
	if (rc == 0)
		rc = read_resident(view->pid, ret);
	if (rc == 0)
		read_board(view->board, ret);
	return rc;
}

/* ------------------------------------------------------------ comparing */

bool holdings_are(const struct holdings *found, const struct holdings *expected,
	bool with_late, char *ret_text, size_t bytes)
{
	const struct {
		const char *what;
		uint64_t found, expected;
		bool is_late;
	} rows[] = {
		{"memfds", found->memfds, expected->memfds, false},
		{"pidfds", found->pidfds, expected->pidfds, false},
		{"maps", found->maps, expected->maps, false},
		{"memfd blocks", found->blocks, expected->blocks, false},
		{"running", found->running, expected->running, false},
		{"queued", found->queued, expected->queued, false},
		{"live", found->live, expected->live, false},
		{"sessions", found->sessions, expected->sessions, true},
		{"tokens reserved", found->tokens_reserved,
			expected->tokens_reserved, true},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		if (rows[i].found == rows[i].expected ||
			(rows[i].is_late && !with_late))
			continue;
		(void)snprintf(ret_text, bytes, "%s: %llu instead of %llu",
			rows[i].what, (unsigned long long)rows[i].found,
			(unsigned long long)rows[i].expected);
		return false;
	}
	return true;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool holdings_come_to(const struct rgovd_view *view,
	const struct holdings *expected, bool with_late, int timeout_ms,
	char *ret_text, size_t bytes)
{
	const struct timespec pause = {.tv_nsec = 100000};
	uint64_t until_ms = now_ms() + (uint64_t)timeout_ms;
	struct holdings found;
	int rc;

	for (;;) {
		rc = holdings_read(view, &found);
		if (rc == 0 && holdings_are(&found, expected, with_late,
				       ret_text, bytes))
			return true;
		if (rc < 0)
			(void)snprintf(
				ret_text, bytes, "rgovd: %s", strerror(-rc));
		if (now_ms() >= until_ms)
			return false;
		(void)nanosleep(&pause, NULL);
	}
}

bool holdings_of_one_session(const struct rgovd_view *view, int timeout_ms,
	struct holdings *ret, char *ret_text, size_t bytes)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t until_ms = now_ms() + (uint64_t)timeout_ms;
	/* Its control file is closed once it is sealed, and stays mapped. */
	struct holdings one = {
		.memfds = 3, .pidfds = 1, .maps = 2, .sessions = 1};

	while (now_ms() < until_ms) {
		if (holdings_read(view, ret) == 0) {
			one.blocks = ret->blocks; /* that is its own affair */
			if (holdings_are(ret, &one, true, ret_text, bytes))
				return true;
		}
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

static void say(void *owner, unsigned int invariant, const char *text)
{
	(void)owner;
	printf("violation board: invariant %u: %s\n", invariant, text);
}

unsigned int holdings_check_board(const struct rgovd_view *view, bool is_quiet)
{
	struct shm_check check = {
		.found = say, .head = UINT64_MAX, .is_quiet = is_quiet};

	return shm_check_board(&check, view->board);
}
