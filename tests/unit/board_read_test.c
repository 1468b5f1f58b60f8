/*
 * Reading a board: what is believed, what is refused, and that a writer that
 * died or never rests can neither hang nor fool a reader.
 */
#include "shm-layout/shm_board.h"

#include "shm-layout/shm_layout.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A board as rgovd would make it, in a memfd. */
static struct board *make_board(int *ret_fd)
{
	int fd = memfd_create("board", MFD_CLOEXEC);
	struct board *board;

	if (fd < 0 || ftruncate(fd, sizeof(struct board)) < 0)
		abort();
	board = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);
	if (board == MAP_FAILED)
		abort();
	board->header.layout_version = SHM_LAYOUT_VERSION;
	board->header.layout_hash = shm_layout_hash();
	board->header.total_bytes = sizeof(struct board);
	store_release(board->header.magic, SHM_BOARD_MAGIC);
	*ret_fd = fd;
	return board;
}

static void drop_board(struct board *board, int fd)
{
	(void)munmap(board, sizeof(struct board));
	(void)close(fd);
}

/* What board_map() says, the board being closed again if it is one. */
static int try_map(int fd)
{
	const struct board *board = NULL;
	int rc = board_map(fd, &board);

	CU_ASSERT_EQUAL(board != NULL, rc == 0);
	board_close(board);
	return rc;
}

static void maps_what_rgovd_made(void)
{
	/* A whole board of this layout is mapped, and shows what rgovd writes
	 * afterwards. */
	const struct board *seen;
	int fd;
	struct board *board = make_board(&fd);

	CU_ASSERT_EQUAL_FATAL(board_map(fd, &seen), 0);
	store_relaxed(board->counters.total_requests, 42);
	CU_ASSERT_EQUAL(load_relaxed(seen->counters.total_requests), 42);
	board_close(seen);
	drop_board(board, fd);
}

/* Does /proc say that the mapping at `base` has these permissions? */
static bool is_mapped(const void *base, const char *permissions)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], mode[8];
	unsigned long from;
	bool found = false;

	if (maps == NULL)
		abort();
	while (!found && fgets(line, sizeof(line), maps) != NULL)
		found = sscanf(line, "%lx-%*x %7s", &from, mode) == 2 &&
			from == (unsigned long)base &&
			strcmp(mode, permissions) == 0;
	(void)fclose(maps);
	return found;
}

static void maps_read_only(void)
{
	/* A reader cannot write on the board, whatever bug it has. */
	const struct board *seen;
	int fd;
	struct board *board = make_board(&fd);

	CU_ASSERT_EQUAL_FATAL(board_map(fd, &seen), 0);
	CU_ASSERT_TRUE(is_mapped(seen, "r--s"));
	board_close(seen);
	drop_board(board, fd);
}

static void refuses_a_truncated_board(void)
{
	/* A file shorter than a board is refused before it is touched: no
	 * SIGBUS; an empty one is a board that is being made. */
	static const struct {
		off_t bytes;
		int rc;
	} cases[] = {
		{sizeof(struct board) - 1, -EPROTO},
		{sizeof(struct board) / 2, -EPROTO},
		{sizeof(struct board_header), -EPROTO},
		{1, -EPROTO},
		{0, -EAGAIN},
	};
	int fd;
	struct board *board = make_board(&fd);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CU_ASSERT_EQUAL_FATAL(ftruncate(fd, cases[i].bytes), 0);
		CU_ASSERT_EQUAL(try_map(fd), cases[i].rc);
	}
	drop_board(board, fd);
}

static void refuses_another_layout(void)
{
	/* Another magic, version, fingerprint or size is refused; no magic yet
	 * means: come again. */
	int fd;
	struct board *board = make_board(&fd);
	struct board_header *header = &board->header;

	store_relaxed(header->magic, 0);
	CU_ASSERT_EQUAL(try_map(fd), -EAGAIN);
	store_relaxed(header->magic, SHM_BOARD_MAGIC + 1);
	CU_ASSERT_EQUAL(try_map(fd), -EPROTO);
	store_relaxed(header->magic, SHM_BOARD_MAGIC);
	header->layout_version++;
	CU_ASSERT_EQUAL(try_map(fd), -EPROTO);
	header->layout_version--;
	header->layout_hash++;
	CU_ASSERT_EQUAL(try_map(fd), -EPROTO);
	header->layout_hash--;
	header->total_bytes--;
	CU_ASSERT_EQUAL(try_map(fd), -EPROTO);
	header->total_bytes++;
	CU_ASSERT_EQUAL(try_map(fd), 0);
	drop_board(board, fd);
}

static void opens_by_name(void)
{
	/* A board is found by its governor's name; an unknown or impossible
	 * name has none. */
	const struct board *seen = NULL;
	char name[SHM_NAME_BYTES], object[SHM_OBJECT_NAME_BYTES];
	struct board_header header = {
		.magic = SHM_BOARD_MAGIC,
		.layout_version = SHM_LAYOUT_VERSION,
		.layout_hash = shm_layout_hash(),
		.total_bytes = sizeof(struct board),
	};
	int fd;

	(void)snprintf(name, sizeof(name), "unit-%d", (int)getpid());
	board_object_name(name, object);
	CU_ASSERT_EQUAL(board_open(name, &seen), -ENOENT);
	CU_ASSERT_EQUAL(board_open("../etc/passwd", &seen), -ENOENT);
	CU_ASSERT_EQUAL(board_open("", &seen), -ENOENT);

	fd = shm_open(object, O_RDWR | O_CREAT | O_EXCL, 0600);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(ftruncate(fd, sizeof(struct board)), 0);
	CU_ASSERT_EQUAL(pwrite(fd, &header, sizeof(header), 0),
		(ssize_t)sizeof(header));
	CU_ASSERT_EQUAL(board_open(name, &seen), 0);
	CU_ASSERT_PTR_NOT_NULL(seen);
	board_close(seen);
	(void)shm_unlink(object);
	(void)close(fd);
}

static void is_not_hung_by_a_fifo(void)
{
	/* Something else under the board's name is refused at once. */
	const struct board *seen = NULL;
	char name[SHM_NAME_BYTES], path[128];

	(void)snprintf(name, sizeof(name), "fifo-%d", (int)getpid());
	(void)snprintf(path, sizeof(path), "/dev/shm/rgov.%s", name);
	if (mkfifo(path, 0600) < 0) {
		suite_skip("/dev/shm takes no FIFO here");
		return;
	}
	CU_ASSERT_EQUAL(board_open(name, &seen), -EPROTO);
	CU_ASSERT_PTR_NULL(seen);
	(void)unlink(path);
}

static void skips_a_record_whose_writer_died(void)
{
	/* A writer that died inside one record hides that record only, and the
	 * reader gives up by itself. */
	struct board_lane copy;
	int fd;
	struct board *board = make_board(&fd);

	for (int i = 0; i < 2; i++) {
		struct board_lane *lane = &board->lanes[i];

		lane->running = 7;
		(void)strcpy(lane->name, "model");
	}
	store_release(board->lanes[0].sequence, 5); /* odd: inside */
	store_release(board->lanes[1].sequence, 6);
	CU_ASSERT_FALSE(
		board_read_record(&board->lanes[0], sizeof(copy), &copy));
	CU_ASSERT_TRUE(
		board_read_record(&board->lanes[1], sizeof(copy), &copy));
	CU_ASSERT_EQUAL(copy.running, 7);
	CU_ASSERT_EQUAL(load_relaxed(copy.sequence), 6);
	CU_ASSERT_STRING_EQUAL(copy.name, "model");
	drop_board(board, fd);
}

/* ------------------------------------------------------------ a busy writer */

enum { WORDS = sizeof(struct board_event) / sizeof(uint64_t), ROUNDS = 200000 };

/* The words of a record after the one that holds its sequence. */
static _Atomic uint64_t *words_of(struct board_event *event)
{
	return (_Atomic uint64_t *)(void *)event;
}

static void *write_for_long(void *argument)
{
	struct board_event *event = argument;

	for (uint32_t round = 1; round <= ROUNDS; round++) {
		store_relaxed(event->sequence, 2 * round - 1);
		for (size_t i = 1; i < WORDS; i++)
			store_release(words_of(event)[i], round);
		store_release(event->sequence, 2 * round);
	}
	return NULL;
}

static bool is_whole(struct board_event *copy)
{
	uint64_t first = load_relaxed(words_of(copy)[1]);

	for (size_t i = 2; i < WORDS; i++)
		if (load_relaxed(words_of(copy)[i]) != first)
			return false;
	return load_relaxed(copy->sequence) == 2 * first;
}

static void never_takes_a_torn_record_for_whole(void)
{
	/* While a writer writes one record without rest, every copy that is
	 * called good is of one round. */
	static struct board_event event;
	struct board_event copy;
	pthread_t writer;
	size_t torn = 0;

	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&writer, NULL, write_for_long, &event), 0);
	do {
		if (board_read_record(&event, sizeof(event), &copy))
			torn += !is_whole(&copy);
	} while (load_relaxed(event.sequence) < 2 * ROUNDS);
	CU_ASSERT_EQUAL(pthread_join(writer, NULL), 0);
	CU_ASSERT_EQUAL(torn, 0);
	CU_ASSERT_TRUE(board_read_record(&event, sizeof(event), &copy));
	CU_ASSERT_EQUAL(copy.number, ROUNDS);
}

/* ------------------------------------------------------------ quantiles */

#define NEAR(value, expected)                                                  \
	(fabs((value) - (expected)) <= 1e-9 + 1e-6 * (expected))

static void quantiles_of_nothing_are_zero(void)
{
	/* No samples: 0, and not a division by zero. */
	static const struct board_histogram none;

	CU_ASSERT_EQUAL(board_quantile_s(&none, 0), 0);
	CU_ASSERT_EQUAL(board_quantile_s(&none, 0.5), 0);
	CU_ASSERT_EQUAL(board_quantile_s(&none, 1), 0);
}

static void a_quantile_lies_in_its_bucket(void)
{
	/* One sample in bucket i: every quantile lies between the bucket's
	 * bounds as shm_board.h states them. */
	for (unsigned i = 0; i < SHM_BOARD_BUCKETS; i++) {
		struct board_histogram one = {.buckets = {0}};
		double unit = ldexp(1024e-9, (int)i / 2);
		double from = i == 0 ? 0 : unit * (i % 2 ? 1.5 : 1);
		double to = unit * (i % 2 ? 2 : 1.5);

		store_relaxed(one.buckets[i], 1);
		CU_ASSERT(NEAR(board_quantile_s(&one, 0), from));
		CU_ASSERT(NEAR(board_quantile_s(&one, 0.5), (from + to) / 2));
		CU_ASSERT(NEAR(board_quantile_s(&one, 1), to));
	}
}

static void quantiles_count_samples(void)
{
	/* 90 short and 10 long waits: p50 and p90 are short, p95 is long; a
	 * share beyond 0 to 1 is taken as its bound. */
	struct board_histogram waits = {.buckets = {0}};
	double short_to = ldexp(1024e-9, 5) * 1.5;
	double long_from = ldexp(1024e-9, 20);

	store_relaxed(waits.buckets[10], 90);
	store_relaxed(waits.buckets[40], 10);
	CU_ASSERT(board_quantile_s(&waits, 0.5) < short_to);
	CU_ASSERT(NEAR(board_quantile_s(&waits, 0.9), short_to));
	CU_ASSERT(NEAR(board_quantile_s(&waits, 0.95), long_from * 1.25));
	CU_ASSERT(NEAR(board_quantile_s(&waits, 7), long_from * 1.5));
	CU_ASSERT(NEAR(
		board_quantile_s(&waits, -7), board_quantile_s(&waits, 0)));
}

static void survives_absurd_counts(void)
{
	/* Any content of a histogram gives a finite, sensible number. */
	struct board_histogram full;

	for (unsigned i = 0; i < SHM_BOARD_BUCKETS; i++)
		store_relaxed(full.buckets[i], UINT64_MAX);
	for (int share = 0; share <= 10; share++) {
		double value = board_quantile_s(&full, share / 10.0);

		CU_ASSERT(isfinite(value) && value >= 0 && value < 4400);
	}
}

static void live_states_have_words(void)
{
	/* Each state has its words, a number that is none has "?". */
	CU_ASSERT_STRING_EQUAL(board_live_text(BOARD_LIVE_QUEUED), "queued");
	CU_ASSERT_STRING_EQUAL(
		board_live_text(BOARD_LIVE_PERMIT), "permit out");
	CU_ASSERT_STRING_EQUAL(
		board_live_text((enum board_live_state)77777), "?");
}

SUITE("board_read", T(maps_what_rgovd_made), T(maps_read_only),
	T(refuses_a_truncated_board), T(refuses_another_layout),
	T(opens_by_name), T(is_not_hung_by_a_fifo),
	T(skips_a_record_whose_writer_died),
	T(never_takes_a_torn_record_for_whole),
	T(quantiles_of_nothing_are_zero), T(a_quantile_lies_in_its_bucket),
	T(quantiles_count_samples), T(survives_absurd_counts),
	T(live_states_have_words))
