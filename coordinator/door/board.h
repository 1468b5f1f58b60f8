/*
 * rgovd's side of the board: made under another name, filled, then renamed into
 * place; records written under their sequence locks.  What is shown is decided
 * by others.
 */
#ifndef COORDINATOR_DOOR_BOARD_H
#define COORDINATOR_DOOR_BOARD_H

#include "shm-layout/shm_board.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct board_writer {
	struct board *board; /* mapped; ours alone to write */
	int read_fd;         /* read-only, for the clients */
	char name[SHM_NAME_BYTES];
	bool is_published;
};

/*
 * Makes the board of `name`, unpublished.  -errno: ENOSPC where /dev/shm is
 * full, EACCES, ENOENT where there is no /dev/shm.  Everything is allocated, so
 * that no later store can fail.
 */
int board_create(const char *name, struct board_writer *ret_writer);

/* Signs the header and renames the board into place: B1. */
int board_publish(struct board_writer *writer);

/* Unmaps; a published object stays, for tools and for a successor. */
void board_fini(struct board_writer *writer);

/*
 * The predecessor's board, if there is one of this boot and made by this uid,
 * in a layout that we know.  0; -ENOENT: none, or of another boot; -EPROTO:
 * there, but not to be believed.  Ended by board_close().
 */
int board_open_old(const char *name, const struct board **ret_board);

/* Opens and closes a record's sequence lock (B2) around board_put()s. */
void board_begin(_Atomic uint32_t *sequence);
void board_end(_Atomic uint32_t *sequence);

/* Writes one field of an open record.  Release: not before the odd sequence, or
 * a reader would take new and old for one record. */
#define board_put(field, value)                                                \
	do {                                                                   \
		__typeof__(field) put_ = (value);                              \
		__atomic_store(&(field), &put_, __ATOMIC_RELEASE);             \
	} while (0)
void board_put_bytes(void *to, const void *from, size_t bytes);

/* Appends a start, and moves one; both stored before its first byte (B3). */
uint64_t board_add_start(
	struct board_writer *writer, uint32_t lane, uint64_t started_ns);
void board_move_start(
	struct board_writer *writer, uint64_t position, uint64_t started_ns);

/* Adds one event; kind is one word, text is for people and is cut. */
void board_event(struct board_writer *writer, const char *kind,
	const char *format, ...) __attribute__((format(printf, 3, 4)));

void board_sample(struct board_histogram *histogram, uint64_t ns);

/* Puts a text with '?' for control bytes, cut and closed with a zero. */
void board_text(char *to, size_t size, const char *from);

/* Adds to a counter that only this process writes. */
#define board_add(counter, n)                                                  \
	store_relaxed((counter), load_relaxed(counter) + (uint64_t)(n))

#endif
