/*
 * board_check NAME [quiet]: walks the board of a governor and prints its broken
 * invariants, one a line; exit 1 when there are any, 66 when there is no board.
 * "quiet": nothing runs and nobody writes; then more must hold.
 */
#include "shm-layout/shm_board.h"
#include "shm-layout/shm_check.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

static void say(void *owner, unsigned int invariant, const char *text)
{
	(void)owner;
	printf("invariant %u: %s\n", invariant, text);
}

int main(int argc, char *argv[])
{
	struct shm_check check = {.found = say, .head = UINT64_MAX};
	const struct board *board;
	unsigned int findings;
	int rc;

	if (argc < 2 || argc > 3 || (argc == 3 && strcmp(argv[2], "quiet"))) {
		fprintf(stderr, "usage: board_check NAME [quiet]\n");
		return EX_USAGE;
	}
	check.is_quiet = argc == 3;
	rc = board_open(argv[1], &board);
	if (rc < 0) {
		fprintf(stderr, "board_check: %s: %s\n", argv[1],
			strerror(-rc));
		return EX_NOINPUT;
	}
	findings = shm_check_board(&check, board);
	board_close(board);
	return findings > 0;
}
