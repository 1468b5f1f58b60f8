/* The board as rgovd writes it: made, published, replaced, filled. */
#include "coordinator/door/board.h"

#include "shm-layout/shm_check.h"
#include "shm-layout/shm_layout.h"
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A name that no governor of this machine has. */
static const char *test_name(void)
{
	static char name[SHM_NAME_BYTES];

	(void)snprintf(name, sizeof(name), "test-%d", (int)getpid());
	return name;
}

static void remove_board(void)
{
	char object[SHM_OBJECT_NAME_BYTES];

	board_object_name(test_name(), object);
	(void)shm_unlink(object);
}

static struct board_writer make(void)
{
	struct board_writer writer;

	CU_ASSERT_EQUAL_FATAL(board_create(test_name(), &writer), 0);
	return writer;
}

static struct board_writer make_published(void)
{
	struct board_writer writer = make();

	CU_ASSERT_EQUAL_FATAL(board_publish(&writer), 0);
	return writer;
}

static unsigned int findings(const struct board *board)
{
	struct shm_check check = {.is_quiet = true, .head = UINT64_MAX};

	return shm_check_board(&check, board);
}

static void has_its_name_when_it_is_whole(void)
{
	/* Nobody finds a board before it is published; then it is whole, says
	 * whose it is, and can be read by owner and group alone. */
	const struct board *seen = NULL;
	struct board_writer writer;
	struct stat file;

	remove_board();
	writer = make();
	CU_ASSERT_EQUAL(board_open(test_name(), &seen), -ENOENT);
	CU_ASSERT_EQUAL(board_publish(&writer), 0);
	CU_ASSERT_EQUAL_FATAL(board_open(test_name(), &seen), 0);
	CU_ASSERT_EQUAL(seen->header.owner_uid, geteuid());
	CU_ASSERT_EQUAL(seen->header.rgovd_pid, getpid());
	CU_ASSERT_STRING_EQUAL(seen->header.name, test_name());
	CU_ASSERT_EQUAL(findings(seen), 0);
	CU_ASSERT_EQUAL_FATAL(fstat(writer.read_fd, &file), 0);
	CU_ASSERT_EQUAL(file.st_mode & 07777, 0640);
	/* All of it is there: no later store can fail. */
	CU_ASSERT(file.st_blocks * 512 >= (off_t)sizeof(struct board));
	CU_ASSERT_EQUAL(fcntl(writer.read_fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	board_close(seen);
	board_fini(&writer);
	remove_board();
}

static void is_replaced_and_never_repaired(void)
{
	/* A successor's board is another object; who has the old one mapped
	 * keeps it as it was. */
	struct board_writer first = make_published();
	const struct board *old, *seen;
	struct board_writer second;

	CU_ASSERT_EQUAL_FATAL(board_open(test_name(), &old), 0);
	store_relaxed(first.board->counters.total_requests, 7);
	board_fini(&first);
	second = make_published();
	CU_ASSERT_EQUAL_FATAL(board_open(test_name(), &seen), 0);
	CU_ASSERT_EQUAL(load_relaxed(seen->counters.total_requests), 0);
	CU_ASSERT_EQUAL(load_relaxed(old->counters.total_requests), 7);
	board_close(seen);
	board_close(old);
	board_fini(&second);
	remove_board();
}

static void one_killed_while_making_it_is_in_nobodys_way(void)
{
	/* What a killed rgovd left half-made is neither seen nor in the way. */
	struct board_writer killed = make();
	struct board_writer writer = make_published();

	CU_ASSERT_EQUAL(findings(writer.board), 0);
	(void)munmap(killed.board, sizeof(struct board));
	(void)close(killed.read_fd);
	board_fini(&writer);
	remove_board();
}

static void an_old_one_is_believed_only_of_this_boot_and_uid(void)
{
	/* Another boot: as if there were none.  Another owner or layout: there,
	 * but not to be believed. */
	struct board_writer writer;
	const struct board *old = NULL;

	remove_board();
	CU_ASSERT_EQUAL(board_open_old(test_name(), &old), -ENOENT);
	writer = make_published();
	CU_ASSERT_EQUAL(board_open_old(test_name(), &old), 0);
	board_close(old);
	writer.board->header.boot_id[3] ^= 1;
	CU_ASSERT_EQUAL(board_open_old(test_name(), &old), -ENOENT);
	writer.board->header.boot_id[3] ^= 1;
	writer.board->header.owner_uid++;
	CU_ASSERT_EQUAL(board_open_old(test_name(), &old), -EPROTO);
	writer.board->header.owner_uid--;
	writer.board->header.layout_hash++;
	CU_ASSERT_EQUAL(board_open_old(test_name(), &old), -EPROTO);
	board_fini(&writer);
	remove_board();
}

static void a_record_in_the_making_is_not_read(void)
{
	/* Between begin and end no reader takes it; afterwards all do.  The
	 * sequence never comes back to 0, which means never used. */
	struct board_writer writer = make();
	struct board_user *user = &writer.board->users[0], copy;

	board_begin(&user->sequence);
	user->running = 5;
	CU_ASSERT_FALSE(board_read_record(user, sizeof(copy), &copy));
	board_end(&user->sequence);
	CU_ASSERT_TRUE(board_read_record(user, sizeof(copy), &copy));
	CU_ASSERT_EQUAL(copy.running, 5);
	store_relaxed(user->sequence, UINT32_MAX - 1);
	board_begin(&user->sequence);
	board_end(&user->sequence);
	CU_ASSERT_EQUAL(load_relaxed(user->sequence), 2);
	/* Its writer died inside: the next one closes it all the same. */
	store_relaxed(user->sequence, 7);
	board_begin(&user->sequence);
	board_end(&user->sequence);
	CU_ASSERT_EQUAL(load_relaxed(user->sequence), 8);
	(void)board_publish(&writer);
	board_fini(&writer);
	remove_board();
}

static void starts_are_a_ring(void)
{
	/* Each start at its own position, over the end of the ring; one that
	 * moves keeps its place. */
	struct board_writer writer = make_published();
	struct board *board = writer.board;
	uint64_t position = 0;

	CU_ASSERT_EQUAL(board_add_start(&writer, 3, 100), 0);
	CU_ASSERT_EQUAL(findings(board), 0);
	board_move_start(&writer, 0, 150);
	CU_ASSERT_EQUAL(load_relaxed(board->start_ring[0].started_ns), 150);
	CU_ASSERT_EQUAL(board->start_ring[0].lane, 3);
	for (int i = 0; i < SHM_BOARD_STARTS; i++)
		position = board_add_start(&writer, 1, 1000 + (uint64_t)i);
	CU_ASSERT_EQUAL(position, SHM_BOARD_STARTS);
	CU_ASSERT_EQUAL(load_relaxed(board->header.starts), position + 1);
	CU_ASSERT_EQUAL(load_relaxed(board->start_ring[0].started_ns),
		1000 + SHM_BOARD_STARTS - 1);
	board_move_start(&writer, position, 5);
	CU_ASSERT_EQUAL(load_relaxed(board->start_ring[0].started_ns), 5);
	CU_ASSERT_EQUAL(findings(board), 0);
	board_fini(&writer);
	remove_board();
}

static void events_are_a_ring(void)
{
	/* The last 256, each with its number; control bytes and long texts are
	 * made harmless. */
	struct board_writer writer = make_published();
	struct board *board = writer.board;
	char text[400];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < SHM_BOARD_EVENTS + 10; i++)
		board_event(&writer, "kind", "%d\n%s", i, text);
	CU_ASSERT_EQUAL(
		load_relaxed(board->header.events), SHM_BOARD_EVENTS + 10);
	CU_ASSERT_EQUAL(board->recent[9].number, SHM_BOARD_EVENTS + 9);
	CU_ASSERT_EQUAL(board->recent[10].number, 10);
	CU_ASSERT_EQUAL(memcmp(board->recent[10].text, "10?xxx", 6), 0);
	CU_ASSERT_EQUAL(strlen(board->recent[10].text),
		sizeof(board->recent[10].text) - 1);
	CU_ASSERT_EQUAL(findings(board), 0);
	board_fini(&writer);
	remove_board();
}

static void samples_are_found_again(void)
{
	/* A sample lies in the bucket that the reader takes it for: its median
	 * is within a factor of 1.5, from a microsecond to days. */
	static struct board_histogram histogram;
	static const uint64_t all[] = {
		0, 1, 1023, UINT64_MAX, UINT64_C(1) << 62};

	for (uint64_t ns = 2048; ns < UINT64_C(1) << 41; ns += ns / 7 + 1) {
		double s;

		memset(&histogram, 0, sizeof(histogram));
		board_sample(&histogram, ns);
		s = board_quantile_s(&histogram, 0.5);
		CU_ASSERT(s * 1e9 > (double)ns / 1.51 &&
			  s * 1e9 < (double)ns * 1.51);
	}
	memset(&histogram, 0, sizeof(histogram));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		board_sample(&histogram, all[i]);
	CU_ASSERT_EQUAL(load_relaxed(histogram.buckets[0]), 3);
	CU_ASSERT_EQUAL(
		load_relaxed(histogram.buckets[SHM_BOARD_BUCKETS - 1]), 2);
}

static void texts_are_cut_and_closed(void)
{
	/* Whatever comes in: no control byte, and a final zero. */
	static const struct {
		const char *from, *to;
	} cases[] = {{"", ""}, {"abc", "abc"}, {"1234567", "1234567"},
		{"12345678", "1234567"}, {"a\nb\x7f\x1b", "a?b??"},
		{"\xc3\xa4", "\xc3\xa4"}};
	char to[8];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(to, 'z', sizeof(to));
		board_text(to, sizeof(to), cases[i].from);
		CU_ASSERT_STRING_EQUAL(to, cases[i].to);
	}
}

SUITE("board_write", T(has_its_name_when_it_is_whole),
	T(is_replaced_and_never_repaired),
	T(one_killed_while_making_it_is_in_nobodys_way),
	T(an_old_one_is_believed_only_of_this_boot_and_uid),
	T(a_record_in_the_making_is_not_read), T(starts_are_a_ring),
	T(events_are_a_ring), T(samples_are_found_again),
	T(texts_are_cut_and_closed))
