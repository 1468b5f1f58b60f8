/*
 * What a live rgovd holds for its clients, seen from outside: descriptors,
 * mappings and memory in /proc, requests on the board.  A campaign takes it
 * before a client comes and compares when the client is gone.  Needs the right
 * to look into /proc/PID of rgovd, which is not dumpable: root, as a rule.
 */
#ifndef FAULT_HOLDINGS_H
#define FAULT_HOLDINGS_H

#include "shm-layout/shm_board.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct holdings {
	/* Change at once. */
	uint32_t memfds, pidfds;
	uint32_t maps;   /* of memfds */
	uint64_t blocks; /* allocated in those memfds */
	uint32_t running, queued, live;
	/* Shown a little later. */
	uint32_t sessions;
	uint64_t tokens_reserved;
	/* Not compared by holdings_are(): connections to the upstream and the
	 * heap come and go. */
	uint32_t descriptors;
	uint64_t resident_kb;
};

struct rgovd_view {
	const char *name;
	const struct board *board;
	pid_t pid;
};

/* Opens the board of that governor (again, after a restart). 0 or -errno. */
int rgovd_view_open(struct rgovd_view *view, const char *name);
void rgovd_view_close(struct rgovd_view *view);

/* 0 or -errno. */
int holdings_read(const struct rgovd_view *view, struct holdings *ret);

/* Is all the same?  What is shown late counts only `with_late`.  ret_text, when
 * not: which, how many, and how many there should be. */
bool holdings_are(const struct holdings *found, const struct holdings *expected,
	bool with_late, char *ret_text, size_t bytes);

/* The same, looked at until it is so, for timeout_ms at most. */
bool holdings_come_to(const struct rgovd_view *view,
	const struct holdings *expected, bool with_late, int timeout_ms,
	char *ret_text, size_t bytes);

/* Waits until there is one session, at rest, and says what rgovd has then;
 * ret_text otherwise. */
bool holdings_of_one_session(const struct rgovd_view *view, int timeout_ms,
	struct holdings *ret, char *ret_text, size_t bytes);

/* Walks the board (shm_check.h); prints each finding as a line that begins
 * with "violation"; how many. */
unsigned int holdings_check_board(const struct rgovd_view *view, bool is_quiet);

#endif
