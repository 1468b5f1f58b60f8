/*
 * Reading a board.  How: read-only mapping, everything judged before it is
 * believed, nothing waited for.
 *
 * Orders in this file:
 *   B1 -> A1  header.magic     the whole board as it was when it got its name
 *   B2 -> A2  record.sequence  the record is whole; and each word of it is
 *                              loaded with acquire, so that none of them is
 *                              read after the second look at the sequence.  A
 *                              fence would do the same; ThreadSanitizer does
 *                              not know fences.
 */
#include "shm-layout/shm_board.h"

#include "shm-layout/shm_layout.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	READ_TRIES = 256, /* rgovd writes a record in well under 1 us */
	BUCKET_BASE_NS = 1 << 10,
};

/* Any record may be looked at as words: all are made of whole ones. */
typedef uint64_t __attribute__((may_alias)) record_word;

/* 0, or why this mapping, which is large enough to be a board, is not one. */
static int judge(const struct board_header *header)
{
	uint64_t magic = load_acquire(header->magic); /* B1 -> A1 */

	if (magic == 0)
		return -EAGAIN;
	if (magic != SHM_BOARD_MAGIC ||
		header->layout_version != SHM_LAYOUT_VERSION ||
		header->layout_hash != shm_layout_hash() ||
		header->total_bytes != sizeof(struct board))
		return -EPROTO;
	return 0;
}

int board_map(int fd, const struct board **ret_board)
{
	struct stat st;
	void *base;
	int rc;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPROTO;
	if (st.st_size == 0)
		return -EAGAIN;
	/* Looked at before the first touch: beyond the end is a SIGBUS. */
	if ((uint64_t)st.st_size < sizeof(struct board))
		return -EPROTO;
	base = mmap(NULL, sizeof(struct board), PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	rc = judge(base);
	if (rc < 0) {
		(void)munmap(base, sizeof(struct board));
		return rc;
	}
	*ret_board = base;
	return 0;
}

int board_open(const char *name, const struct board **ret_board)
{
	char object[SHM_OBJECT_NAME_BYTES];
	int fd, rc;

	if (!shm_name_is_valid(name))
		return -ENOENT;
	board_object_name(name, object);
	/* O_NONBLOCK: anybody may have put a FIFO there, to hang its readers.
	 */
	fd = shm_open(object, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = board_map(fd, ret_board);
	(void)close(fd);
	return rc;
}

void board_close(const struct board *board)
{
	if (board != NULL)
		(void)munmap((void *)(uintptr_t)board, sizeof(*board));
}

/* One try; false: rgovd wrote meanwhile, or is writing. */
static bool copy_once(const void *record, size_t words, record_word *ret_copy)
{
	const _Atomic uint32_t *sequence = record;
	const record_word *from = record;
	uint32_t before = load_acquire(*sequence); /* B2 -> A2 */

	if (before % 2 != 0)
		return false;
	for (size_t i = 0; i < words; i++)
		ret_copy[i] = __atomic_load_n(&from[i], __ATOMIC_ACQUIRE);
	/* Relaxed: the acquire loads above are done before it. */
	return load_relaxed(*sequence) == before;
}

bool board_read_record(const void *record, size_t bytes, void *ret_copy)
{
	assert(bytes % sizeof(record_word) == 0);
	for (int i = 0; i < READ_TRIES; i++)
		if (copy_once(record, bytes / sizeof(record_word), ret_copy))
			return true;
	return false;
}

/* Where bucket i begins, in seconds; that of the first bucket is 0, as it also
 * takes what is less. */
static double bucket_start_s(size_t i)
{
	double power = (double)(1ull << i / 2) * BUCKET_BASE_NS * 1e-9;

	if (i == 0)
		return 0;
	return i % 2 == 0 ? power : 1.5 * power;
}

double board_quantile_s(const struct board_histogram *histogram, double share)
{
	uint64_t counts[SHM_BOARD_BUCKETS];
	double total = 0, below = 0, rank;
	size_t last = 0;

	/* Relaxed: each bucket is exact; a sample more or less is no matter. */
	for (size_t i = 0; i < SHM_BOARD_BUCKETS; i++) {
		counts[i] = load_relaxed(histogram->buckets[i]);
		total += (double)counts[i];
	}
	if (total <= 0)
		return 0;
	rank = (share < 0 ? 0 : share > 1 ? 1 : share) * total;
	for (size_t i = 0; i < SHM_BOARD_BUCKETS; i++) {
		double n = (double)counts[i], start = bucket_start_s(i);

		if (counts[i] == 0)
			continue;
		last = i;
		if (below + n >= rank)
			return start + (bucket_start_s(i + 1) - start) *
					       (rank - below) / n;
		below += n;
	}
	return bucket_start_s(last + 1); /* rounding: all lie below */
}

const char *board_live_text(enum board_live_state state)
{
	switch (state) {
#define LIVE(name, words)                                                      \
	case BOARD_LIVE_##name:                                                \
		return words;
		BOARD_LIVE_STATES(LIVE)
#undef LIVE
	}
	return "?"; /* the board is another process's: any number may be there
		     */
}

const char *board_cluster_text(enum board_cluster_mode mode)
{
	switch (mode) {
#define CLUSTER(name, words)                                                   \
	case BOARD_CLUSTER_##name:                                             \
		return words;
		BOARD_CLUSTER_MODES(CLUSTER)
#undef CLUSTER
	}
	return "?"; /* as above */
}
