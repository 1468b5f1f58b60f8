/*
 * A board in shared memory that takes bytes of a run anywhere, and is clean
 * again for the next.
 */
#ifndef TESTS_FUZZ_BOARD_H
#define TESTS_FUZZ_BOARD_H

#include "shm-layout/shm_board.h"
#include "shm-layout/shm_layout.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>

enum { PATCHES = 64 };

static char board_name[SHM_NAME_BYTES];
static struct board *board;
static struct {
	size_t at, bytes;
} patches[PATCHES];
static size_t n_patches;

static void remove_board(void)
{
	char object[SHM_OBJECT_NAME_BYTES];

	board_object_name(board_name, object);
	(void)shm_unlink(object);
}

static void board_sign(void)
{
	struct board_header *header = &board->header;

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->total_bytes = sizeof(*board);
	store_release(header->magic, SHM_BOARD_MAGIC);
}

static void board_prepare(void)
{
	char object[SHM_OBJECT_NAME_BYTES];
	int fd;

	if (board != NULL)
		return;
	(void)snprintf(
		board_name, sizeof(board_name), "fuzz-%d", (int)getpid());
	board_object_name(board_name, object);
	fd = shm_open(object, O_RDWR | O_CREAT | O_EXCL, 0600);
	MUST(fd >= 0 && ftruncate(fd, sizeof(*board)) == 0);
	(void)atexit(remove_board);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED,
		fd, 0);
	MUST(board != MAP_FAILED);
	(void)close(fd);
}

struct table {
	void *first;
	size_t record, n;
};

/* Where bytes of the run go: the first records of a table, and its last. */
static struct table table_of(uint8_t which)
{
	const struct table tables[] = {
		{&board->header, sizeof(board->header), 1},
		{&board->counters, sizeof(board->counters), 1},
		{&board->host, sizeof(board->host), 1},
		{board->lanes, sizeof(board->lanes[0]), SHM_BOARD_LANES},
		{board->users, sizeof(board->users[0]), SHM_BOARD_USERS},
		{board->live, sizeof(board->live[0]), SHM_BOARD_LIVE},
		{board->recent, sizeof(board->recent[0]), SHM_BOARD_EVENTS},
		{board->start_ring, sizeof(board->start_ring[0]),
			SHM_BOARD_STARTS},
	};

	return tables[which % (sizeof(tables) / sizeof(tables[0]))];
}

static void remember_patch(const void *at, size_t bytes)
{
	patches[n_patches].at = (size_t)((const char *)at - (char *)board);
	patches[n_patches++].bytes = bytes;
}

static void board_patch(struct fuzz *fuzz)
{
	uint8_t which = fuzz_byte(fuzz), place = fuzz_byte(fuzz);
	struct table table = table_of(which);
	size_t record = place == 0xff ? table.n - 1 : place % 8 % table.n;
	size_t at = fuzz_number(fuzz, 2) % table.record;
	size_t bytes = 1 + fuzz_byte(fuzz) % 64;
	char *to = (char *)table.first + record * table.record;

	if (bytes > table.record - at)
		bytes = table.record - at;
	remember_patch(to, table.record);
	(void)fuzz_bytes(fuzz, to + at, bytes);
	/* Most records are in use, and whole. */
	if (which < 0xf0 && table.n > 1)
		*(uint32_t *)(void *)to = 2;
}

static void board_wipe(void)
{
	while (n_patches > 0) {
		n_patches--;
		memset((char *)board + patches[n_patches].at, 0,
			patches[n_patches].bytes);
	}
	memset(&board->header, 0, sizeof(board->header));
}

#endif
