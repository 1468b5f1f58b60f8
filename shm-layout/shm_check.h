/*
 * Walks a session's files or a board and names broken invariants by their
 * numbers in LAYOUT.md.  It only reads, allocates nothing, and believes
 * nothing: any content whatever, also one that changes meanwhile, gives
 * findings at worst.  Not a repair, and not what rgovd itself judges by.
 */
#ifndef SHM_CHECK_H
#define SHM_CHECK_H

#include "shm-layout/shm_client.h"
#include "shm-layout/shm_daemon.h"

#include <stdbool.h>

struct board;

/* One finding: "slot 3: client generation 9, rgovd's 7". */
typedef void shm_finding_fn(
	void *owner, unsigned int invariant, const char *text);

struct shm_check {
	shm_finding_fn *found; /* NULL: only counted */
	void *owner;
	/* No request is out and nobody writes: every slot is answered, every
	 * record whole.  False: only what holds at every moment. */
	bool is_quiet;
	/* Ring entries that rgovd has consumed; UINT64_MAX: not known. */
	uint64_t head;
};

/*
 * The two control files of one session, mapped with the sizes that their
 * descriptors have.  Returns the number of findings.
 */
unsigned int shm_check_session(const struct shm_check *check,
	const struct client_header *client, size_t client_bytes,
	const struct daemon_header *daemon, size_t daemon_bytes);

/* A whole board, as board_open() or board_map() gave it. */
unsigned int shm_check_board(
	const struct shm_check *check, const struct board *board);

#endif
