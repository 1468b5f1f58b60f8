/* The board as rgovd writes it. */
#include "coordinator/door/board.h"

#include "coordinator/loop/loop.h"
#include "shm-layout/shm_layout.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static_assert(sizeof(struct board) % SHM_PAGE == 0, "whole pages");

/* Where glibc keeps POSIX shared memory; shm_open() cannot rename. */
#define SHM_DIRECTORY "/dev/shm"
#define BOARD_MODE 0640

/* ------------------------------------------------------------ the object */

static void path_of(
	const char *name, const char *suffix, char *ret_path, size_t size)
{
	char object[SHM_OBJECT_NAME_BYTES];

	board_object_name(name, object);
	(void)snprintf(ret_path, size, SHM_DIRECTORY "%s%s", object, suffix);
}

/* This boot, as 16 bytes: CLOCK_MONOTONIC of another means nothing. */
static int read_boot_id(uint8_t ret_id[16])
{
	char text[40] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	const char *at = text;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	for (int i = 0; n > 0 && i < 16; i++) {
		unsigned int byte;

		if (*at == '-')
			at++;
		if (sscanf(at, "%2x", &byte) != 1)
			return -EINVAL;
		ret_id[i] = (uint8_t)byte;
		at += 2;
	}
	return n > 0 ? 0 : -EIO;
}

static uint64_t unix_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int map_board(int fd, struct board **ret_board)
{
	void *base;

	/* Reserved now: a full /dev/shm is an error here, not a SIGBUS later.
	 */
	if (fchmod(fd, BOARD_MODE) != 0 ||
		fallocate(fd, 0, 0, sizeof(struct board)) != 0)
		return -errno;
	base = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	*ret_board = base;
	return 0;
}

int board_create(const char *name, struct board_writer *ret_writer)
{
	struct board_writer writer = {.read_fd = -1};
	char path[sizeof(SHM_DIRECTORY) + SHM_OBJECT_NAME_BYTES + 8];
	int fd;
	int rc;

	(void)snprintf(writer.name, sizeof(writer.name), "%s", name);
	path_of(name, "#new", path, sizeof(path));
	(void)unlink(path); /* of one that was killed right here */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		BOARD_MODE);
	if (fd < 0)
		return -errno;
	rc = map_board(fd, &writer.board);
	(void)close(fd);
	if (rc == 0) {
		writer.read_fd = open(path, O_RDONLY | O_CLOEXEC);
		rc = writer.read_fd < 0
			     ? -errno
			     : read_boot_id(writer.board->header.boot_id);
	}
	if (rc < 0) {
		(void)unlink(path);
		board_fini(&writer);
		return rc;
	}
	*ret_writer = writer;
	return 0;
}

int board_publish(struct board_writer *writer)
{
	struct board_header *header = &writer->board->header;
	char from[sizeof(SHM_DIRECTORY) + SHM_OBJECT_NAME_BYTES + 8];
	char to[sizeof(from)];

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->total_bytes = sizeof(struct board);
	header->owner_uid = geteuid();
	header->rgovd_pid = getpid();
	header->started_ns = loop_now_ns();
	header->started_unix_ns = unix_now_ns();
	board_text(header->name, sizeof(header->name), writer->name);
	board_text(header->version, sizeof(header->version), RGOV_VERSION);
	store_relaxed(header->heartbeat_ns, header->started_ns);
	/* Killed before it: the old board stands, the new one has no name. */
	store_release(header->magic, SHM_BOARD_MAGIC); /* B1 */
	path_of(writer->name, "#new", from, sizeof(from));
	path_of(writer->name, "", to, sizeof(to));
	if (rename(from, to) != 0)
		return -errno;
	writer->is_published = true;
	return 0;
}

static void remove_unpublished(const struct board_writer *writer)
{
	char path[sizeof(SHM_DIRECTORY) + SHM_OBJECT_NAME_BYTES + 8];

	path_of(writer->name, "#new", path, sizeof(path));
	(void)unlink(path);
}

void board_fini(struct board_writer *writer)
{
	if (writer->board != NULL && !writer->is_published)
		remove_unpublished(writer);
	if (writer->board != NULL)
		(void)munmap(writer->board, sizeof(struct board));
	if (writer->read_fd >= 0)
		(void)close(writer->read_fd);
	*writer = (struct board_writer){.read_fd = -1};
}

/* Its file is ours: what another user put there may say anything. */
static int open_own(const char *name, const struct board **ret_board)
{
	char path[sizeof(SHM_DIRECTORY) + SHM_OBJECT_NAME_BYTES + 8];
	struct stat file;
	int fd;
	int rc;

	path_of(name, "", path, sizeof(path));
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &file) != 0 || file.st_uid != geteuid()
		     ? -EPROTO
		     : board_map(fd, ret_board);
	(void)close(fd);
	return rc;
}

int board_open_old(const char *name, const struct board **ret_board)
{
	const struct board *board = NULL;
	uint8_t boot_id[16];
	int rc = open_own(name, &board);

	if (rc == -ENOENT)
		return rc;
	if (rc < 0)
		return -EPROTO;
	assert(board != NULL);
	if (read_boot_id(boot_id) < 0 || board->header.owner_uid != geteuid())
		rc = -EPROTO;
	else if (memcmp(board->header.boot_id, boot_id, sizeof(boot_id)) != 0)
		rc = -ENOENT;
	if (rc < 0)
		board_close(board);
	else
		*ret_board = board;
	return rc;
}

/* ------------------------------------------------------------ records */

void board_begin(_Atomic uint32_t *sequence)
{
	/* Relaxed: each board_put() that follows releases it. */
	store_relaxed(*sequence, load_relaxed(*sequence) | 1);
}

void board_end(_Atomic uint32_t *sequence)
{
	uint32_t next = load_relaxed(*sequence) + 1;

	store_release(*sequence, next == 0 ? 2 : next); /* B2 */
}

uint64_t board_add_start(
	struct board_writer *writer, uint32_t lane, uint64_t started_ns)
{
	struct board_header *header = &writer->board->header;
	uint64_t position = load_relaxed(header->starts); /* only we write it */
	struct board_start *start =
		&writer->board->start_ring[position % SHM_BOARD_STARTS];

	/* Killed in between: a start too many, never one too few. */
	start->lane = lane;
	store_release(start->started_ns, started_ns);
	store_release(header->starts, position + 1); /* B3 */
	return position;
}

void board_move_start(
	struct board_writer *writer, uint64_t position, uint64_t started_ns)
{
	store_release(writer->board->start_ring[position % SHM_BOARD_STARTS]
			      .started_ns,
		started_ns);
}

void board_event(
	struct board_writer *writer, const char *kind, const char *format, ...)
{
	struct board_header *header = &writer->board->header;
	uint64_t number = load_relaxed(header->events);
	struct board_event *event =
		&writer->board->recent[number % SHM_BOARD_EVENTS];
	char text[sizeof(event->text)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	board_begin(&event->sequence);
	board_put(event->number, number);
	board_put(event->at_ns, loop_now_ns());
	board_put(event->at_unix_ns, unix_now_ns());
	board_text(event->kind, sizeof(event->kind), kind);
	board_text(event->text, sizeof(event->text), text);
	board_end(&event->sequence);
	store_release(header->events, number + 1);
}

/* Bucket 2k or 2k+1 for [2^k, 2^(k+1)) units of 1024 ns; see shm_board.h. */
void board_sample(struct board_histogram *histogram, uint64_t ns)
{
	uint64_t units = ns >> 10;
	int power = units == 0 ? 0 : 63 - __builtin_clzll(units);
	int half = power > 0 && (units >> (power - 1) & 1);
	int bucket = 2 * power + half;

	if (bucket >= SHM_BOARD_BUCKETS)
		bucket = SHM_BOARD_BUCKETS - 1;
	board_add(histogram->buckets[bucket], 1);
}

void board_text(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; n < size - 1 && from[n] != '\0'; n++) {
		unsigned char byte = (unsigned char)from[n];

		board_put(to[n], byte < 0x20 || byte == 0x7f ? '?' : from[n]);
	}
	board_put(to[n], '\0');
}

void board_put_bytes(void *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		board_put(((uint8_t *)to)[i], ((const uint8_t *)from)[i]);
}
