/*
 * The checker: silent on what is whole, names each spoilt thing by its number,
 * and survives any content.
 */
#include "shm-layout/shm_check.h"

#include "shm-layout/shm_board.h"
#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_word.h"
#include "suite.h"

enum { SLOTS = 4 };

struct found {
	unsigned int numbers[16]; /* findings, by invariant */
	char last[256];
};

static void note(void *owner, unsigned int invariant, const char *text)
{
	struct found *found = owner;

	if (invariant < 16)
		found->numbers[invariant]++;
	(void)snprintf(found->last, sizeof(found->last), "%s", text);
}

/* Both files of a session at rest, as rgovd and librgov make them. */
struct files {
	struct client_shape client_shape;
	struct daemon_shape daemon_shape;
	struct client_header *client;
	struct daemon_header *daemon;
	struct client_slot *client_slots;
	struct daemon_slot *daemon_slots;
	_Atomic uint64_t *ring;
};

static void *pages(size_t bytes)
{
	void *at = aligned_alloc(SHM_PAGE, bytes);

	if (at == NULL)
		abort();
	return memset(at, 0, bytes);
}

static struct files make_files(void)
{
	struct files files = {.client_shape = client_shape(SLOTS),
		.daemon_shape = daemon_shape(SLOTS)};

	files.client = pages(files.client_shape.total_bytes);
	files.daemon = pages(files.daemon_shape.total_bytes);
	files.client_slots = client_slots(files.client, &files.client_shape);
	files.daemon_slots = daemon_slots(files.daemon, &files.daemon_shape);
	files.ring = client_ring(files.client, &files.client_shape);
	files.client->layout_version = files.daemon->layout_version =
		SHM_LAYOUT_VERSION;
	files.client->layout_hash = files.daemon->layout_hash =
		shm_layout_hash();
	files.client->slots = files.daemon->slots = SLOTS;
	store_release(files.client->magic, SHM_CLIENT_MAGIC);
	store_release(files.daemon->magic, SHM_DAEMON_MAGIC);
	return files;
}

static void free_files(struct files *files)
{
	free(files->client);
	free(files->daemon);
}

static unsigned int check_files(const struct files *files, bool is_quiet,
	uint64_t head, struct found *ret)
{
	struct shm_check check = {.found = note,
		.owner = ret,
		.is_quiet = is_quiet,
		.head = head};

	*ret = (struct found){.last = ""};
	return shm_check_session(&check, files->client,
		files->client_shape.total_bytes, files->daemon,
		files->daemon_shape.total_bytes);
}

static void set_words(struct files *files, uint32_t theirs,
	unsigned int command, uint32_t ours, unsigned int state)
{
	store_release(files->client_slots[3].word, shm_word(theirs, command));
	store_release(files->daemon_slots[3].word, shm_word(ours, state));
}

static void what_is_whole_is_silent(void)
{
	/* A session never used, one with every lawful pair of words, and at
	 * rest: no finding. */
	static const struct {
		uint32_t theirs;
		unsigned int command;
		uint32_t ours;
		unsigned int state;
		bool is_quiet;
	} cases[] = {
		{0, SHM_NONE, 0, SHM_DONE, true},
		{1, SHM_SUBMIT, 0, SHM_DONE, false},
		{1, SHM_SUBMIT, 1, SHM_ACCEPTED, false},
		{1, SHM_CANCEL, 1, SHM_ISSUED, false},
		{1, SHM_SUBMIT, 1, SHM_DONE, true},
		{1, SHM_ACK, 1, SHM_DONE, true},
		{1, SHM_SETTLE, 1, SHM_GRANTED, false},
		{2, SHM_SUBMIT, 1, SHM_GRANTED, false},
		{2, SHM_CANCEL, 1, SHM_GRANTED, false},
		{0, SHM_SUBMIT, 0xffffff, SHM_DONE, false},
		{0, SHM_SUBMIT, 0, SHM_DONE, true},
	};
	struct files files = make_files();
	struct found found;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_words(&files, cases[i].theirs, cases[i].command,
			cases[i].ours, cases[i].state);
		CU_ASSERT_EQUAL(check_files(&files, cases[i].is_quiet,
					UINT64_MAX, &found),
			0);
		CU_ASSERT_STRING_EQUAL(found.last, "");
	}
	free_files(&files);
}

static void impossible_words_are_named(void)
{
	/* Each unlawful pair of words, by the number of what it breaks. */
	static const struct {
		uint32_t theirs;
		unsigned int command;
		uint32_t ours;
		unsigned int state;
		bool is_quiet;
		unsigned int invariant;
	} cases[] = {
		{9, SHM_SUBMIT, 7, SHM_DONE, false, 5},
		{6, SHM_SUBMIT, 7, SHM_DONE, false, 5},
		{2, SHM_SUBMIT, 0xffffff, SHM_DONE, false, 5},
		{8, SHM_SUBMIT, 7, SHM_ACCEPTED, false, 3},
		{8, SHM_CANCEL, 7, SHM_ISSUED, false, 3},
		{7, SHM_SUBMIT, 7, 4, false, 3},
		{7, SHM_SUBMIT, 7, 255, false, 3},
		{7, 5, 7, SHM_DONE, false, 8},
		{7, SHM_NONE, 7, SHM_DONE, false, 8},
		{8, SHM_ACK, 7, SHM_DONE, false, 8},
		{8, SHM_SETTLE, 7, SHM_DONE, false, 8},
		{7, SHM_SUBMIT, 7, SHM_ISSUED, true, 7},
		{8, SHM_SUBMIT, 7, SHM_DONE, true, 7},
		{7, SHM_SUBMIT, 7, SHM_GRANTED, true, 7},
	};
	struct files files = make_files();
	struct found found;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		set_words(&files, cases[i].theirs, cases[i].command,
			cases[i].ours, cases[i].state);
		CU_ASSERT(check_files(&files, cases[i].is_quiet, UINT64_MAX,
				  &found) >= 1);
		CU_ASSERT_EQUAL(found.numbers[cases[i].invariant], 1);
		CU_ASSERT_PTR_NOT_NULL(strstr(found.last, "slot 3: "));
	}
	set_words(&files, 9, SHM_SUBMIT, 7, SHM_DONE);
	CU_ASSERT_EQUAL(check_files(&files, false, UINT64_MAX, &found), 1);
	CU_ASSERT_STRING_EQUAL(
		found.last, "slot 3: client generation 9, rgovd's 7");
	free_files(&files);
}

static void spoilt_content_is_named(void)
{
	/* Numbers out of range, texts not closed, padding that was written. */
	struct files files = make_files();
	struct client_slot *theirs = &files.client_slots[3];
	struct daemon_slot *ours = &files.daemon_slots[3];
	struct found found;

#define FINDS(spoil, mend, invariant)                                          \
	do {                                                                   \
		spoil;                                                         \
		CU_ASSERT_EQUAL(                                               \
			check_files(&files, false, UINT64_MAX, &found), 1);    \
		CU_ASSERT_EQUAL(found.numbers[invariant], 1);                  \
		mend;                                                          \
	} while (0)

	set_words(&files, 1, SHM_SUBMIT, 1, SHM_DONE);
	FINDS(theirs->kind = 4, theirs->kind = 0, 1);
	FINDS(theirs->flags = 4, theirs->flags = 0, 1);
	FINDS(theirs->model_bytes = 2049, theirs->model_bytes = 0, 1);
	FINDS(theirs->user_bytes = 64, theirs->user_bytes = 0, 1);
	FINDS(theirs->body_bytes = SHM_BODY_MAX + 1, theirs->body_bytes = 0, 1);
	FINDS(theirs->zero1[1] = 1, theirs->zero1[1] = 0, 12);
	FINDS(theirs->zero2[4] = 1, theirs->zero2[4] = 0, 12);
	FINDS(store_relaxed(theirs->waiting, UINT32_MAX),
		store_relaxed(theirs->waiting, 0), 8);
	FINDS(ours->result = SHM_RESULTS, ours->result = 0, 3);
	FINDS(ours->body_bytes = SHM_BODY_REGION + 1, ours->body_bytes = 0, 6);
	FINDS(ours->issued = 2, ours->issued = 0, 6);
	FINDS(memset(ours->code, 'x', sizeof(ours->code)),
		memset(ours->code, 0, sizeof(ours->code)), 6);
	FINDS(memset(ours->message, 'x', sizeof(ours->message)),
		memset(ours->message, 0, sizeof(ours->message)), 6);
	FINDS(ours->task.state = SHM_TASK_STATE_COUNT, ours->task.state = 0, 6);
	FINDS(ours->task.result = SHM_RESULTS, ours->task.result = 0, 6);
	FINDS(ours->waited = 1u << SHM_REASONS, ours->waited = 0, 6);
	FINDS(ours->has_model = 2, ours->has_model = 0, 6);
	ours->has_model = 1;
	FINDS(memset(ours->model, 'x', sizeof(ours->model)),
		memset(ours->model, 0, sizeof(ours->model)), 6);
	FINDS(ours->place.reason = SHM_REASONS, ours->place.reason = 0, 6);
	FINDS(ours->place.zero0 = 1, ours->place.zero0 = 0, 12);
	FINDS(files.client->zero1[8] = 1, files.client->zero1[8] = 0, 12);
	FINDS(files.daemon->zero3[5] = 1, files.daemon->zero3[5] = 0, 12);
	FINDS(files.client->slots = 5, files.client->slots = SLOTS, 12);
	FINDS(files.client->layout_hash++, files.client->layout_hash--, 12);
	FINDS(files.daemon->layout_version++, files.daemon->layout_version--,
		12);
	FINDS(store_relaxed(files.daemon->polling, 7),
		store_relaxed(files.daemon->polling, 0), 8);
	/* What is wrong in a slot that was never used is nobody's. */
	set_words(&files, 0, 0, 0, 0);
	theirs->kind = 9;
	CU_ASSERT_EQUAL(check_files(&files, true, UINT64_MAX, &found), 0);
	free_files(&files);
}

static void the_ring_is_bounded(void)
{
	/* The tail at most a ring ahead of what was taken; at rest, not at all;
	 * entries name slots that are there. */
	struct files files = make_files();
	uint64_t entries = files.client_shape.ring_entries;
	struct found found;

	store_release(files.client->tail, 3 * entries);
	CU_ASSERT_EQUAL(check_files(&files, false, 2 * entries, &found), 0);
	CU_ASSERT_EQUAL(check_files(&files, false, 2 * entries - 1, &found), 1);
	CU_ASSERT_EQUAL(found.numbers[8], 1);
	CU_ASSERT_EQUAL(check_files(&files, false, 3 * entries + 1, &found), 1);
	CU_ASSERT_EQUAL(check_files(&files, true, 3 * entries, &found), 0);
	CU_ASSERT_EQUAL(check_files(&files, true, 3 * entries - 1, &found), 1);
	CU_ASSERT_EQUAL(found.numbers[7], 1);
	store_relaxed(files.ring[entries - 1], SHM_RING_ENTRY(SLOTS, 0));
	CU_ASSERT_EQUAL(check_files(&files, false, UINT64_MAX, &found), 1);
	CU_ASSERT_EQUAL(found.numbers[8], 1);
	/* Not yet written: not looked at. */
	store_release(files.client->tail, entries - 1);
	CU_ASSERT_EQUAL(check_files(&files, false, UINT64_MAX, &found), 0);
	free_files(&files);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void any_content_is_survived(void)
{
	/* Random files under good and bad headers, and files that are too
	 * short: findings, no crash. */
	const char *text = getenv("SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : 0x9e3779b97f4a7c15u;
	struct shm_check check = {.head = 0, .is_quiet = true};
	struct files files = make_files();
	struct found found;

	printf("     SEED=%llu\n", (unsigned long long)seed);
	for (int round = 0; round < 200; round++) {
		uint64_t *client = (uint64_t *)(void *)files.client;
		uint64_t *daemon = (uint64_t *)(void *)files.daemon;
		size_t from = round % 4 == 0 ? 0 : SHM_PAGE / 8;

		for (size_t i = from; i < files.client_shape.texts_off / 8; i++)
			client[i] = next_random(&seed);
		for (size_t i = from; i < files.daemon_shape.total_bytes / 8;
			i++)
			daemon[i] = next_random(&seed);
		CU_ASSERT(check_files(&files, round % 2, round, &found) > 0);
		if (from == 0) {
			struct files good = make_files();

			memcpy(files.client, good.client, SHM_PAGE);
			memcpy(files.daemon, good.daemon, SHM_PAGE);
			free_files(&good);
		}
	}
	for (size_t n = 0; n < 2 * SHM_PAGE; n += 40)
		CU_ASSERT(shm_check_session(&check, files.client, n,
				  files.daemon, n) > 0);
	free_files(&files);
}

/* ------------------------------------------------------------ boards */

static struct board *make_board(void)
{
	struct board *board = pages(sizeof(*board));

	board->header.layout_version = SHM_LAYOUT_VERSION;
	board->header.layout_hash = shm_layout_hash();
	board->header.total_bytes = sizeof(*board);
	store_release(board->header.magic, SHM_BOARD_MAGIC);
	return board;
}

static unsigned int check_board(
	const struct board *board, bool is_quiet, struct found *ret)
{
	struct shm_check check = {
		.found = note, .owner = ret, .is_quiet = is_quiet};

	*ret = (struct found){.last = ""};
	return shm_check_board(&check, board);
}

/* One permit out, two calls that run, and their figures. */
static void fill_board(struct board *board)
{
	for (uint32_t i = 0; i < 3; i++) {
		struct board_live *live = &board->live[i * 7];

		live->state = i == 0 ? BOARD_LIVE_PERMIT : BOARD_LIVE_RUNNING;
		live->request = i + 1;
		live->slot = i;
		live->expires_ns = 5;
		live->session_id[0] = 1;
		(void)strcpy(live->user, "alice");
		(void)strcpy(live->model, "m");
		store_relaxed(live->sequence, 2);
		store_relaxed(board->start_ring[i].started_ns, i + 1);
	}
	store_relaxed(board->header.starts, 3);
	store_relaxed(board->host.running, 3);
	store_relaxed(board->counters.total_requests, 5);
	store_relaxed(board->counters.successful_requests, 2);
	store_relaxed(board->counters.started_requests, 5);
	store_relaxed(board->counters.ended_requests, 2);
	board->recent[0].number = 0;
	(void)strcpy(board->recent[0].kind, "session");
	store_relaxed(board->header.events, 1);
}

static void a_whole_board_is_silent(void)
{
	/* Empty, and with permits, calls, starts and events. */
	struct board *board = make_board();
	struct found found;

	CU_ASSERT_EQUAL(check_board(board, true, &found), 0);
	fill_board(board);
	CU_ASSERT_EQUAL(check_board(board, true, &found), 0);
	CU_ASSERT_STRING_EQUAL(found.last, "");
	free(board);
}

static void a_spoilt_board_is_named(void)
{
	/* Each broken relation, by its number. */
	struct board *board = make_board();
	struct board_live *live = &board->live[7];
	struct found found;

#define BOARD_FINDS(spoil, mend, invariant)                                    \
	do {                                                                   \
		spoil;                                                         \
		CU_ASSERT(check_board(board, true, &found) >= 1);              \
		CU_ASSERT(found.numbers[invariant] >= 1);                      \
		mend;                                                          \
		CU_ASSERT_EQUAL(check_board(board, true, &found), 0);          \
	} while (0)

	fill_board(board);
	BOARD_FINDS(store_relaxed(live->sequence, 3),
		store_relaxed(live->sequence, 4), 6);
	BOARD_FINDS(live->state = 6, live->state = BOARD_LIVE_RUNNING, 6);
	BOARD_FINDS(live->state = BOARD_LIVE_FREE,
		live->state = BOARD_LIVE_RUNNING, 7);
	BOARD_FINDS(live->state = BOARD_LIVE_QUEUED,
		live->state = BOARD_LIVE_RUNNING, 7);
	BOARD_FINDS(live->slot = 0, live->slot = 1, 10);
	BOARD_FINDS(live->slot = SHM_SLOTS_MAX, live->slot = 1, 6);
	BOARD_FINDS(live->request = 0, live->request = 2, 6);
	BOARD_FINDS(memset(live->user, 'x', sizeof(live->user)),
		memset(live->user + 1, 0, sizeof(live->user) - 1), 6);
	BOARD_FINDS(board->live[0].expires_ns = 0,
		board->live[0].expires_ns = 5, 7);
	BOARD_FINDS(store_relaxed(board->counters.failed_requests, 4),
		store_relaxed(board->counters.failed_requests, 0), 3);
	BOARD_FINDS(store_relaxed(board->counters.ended_requests, 6),
		store_relaxed(board->counters.ended_requests, 2), 3);
	BOARD_FINDS(store_relaxed(board->start_ring[1].started_ns, 0),
		store_relaxed(board->start_ring[1].started_ns, 2), 11);
	BOARD_FINDS(store_relaxed(board->start_ring[900].started_ns, 1),
		store_relaxed(board->start_ring[900].started_ns, 0), 11);
	BOARD_FINDS(board->start_ring[2].lane = SHM_BOARD_LANES,
		board->start_ring[2].lane = 0, 11);
	BOARD_FINDS(
		board->recent[0].number = 1, board->recent[0].number = 0, 6);
	BOARD_FINDS(
		board->header.layout_hash++, board->header.layout_hash--, 12);
	BOARD_FINDS(
		memset(board->header.preset, 'x', sizeof(board->header.preset)),
		memset(board->header.preset, 0, sizeof(board->header.preset)),
		6);
	BOARD_FINDS(
		live->held_by = SHM_REASONS, live->held_by = SHM_WAIT_TURN, 6);
	BOARD_FINDS(board->lanes[0].held_by = SHM_REASONS,
		board->lanes[0].held_by = SHM_WAIT_TURN, 6);
	BOARD_FINDS(board->users[0].held_by = SHM_REASONS,
		board->users[0].held_by = SHM_WAIT_TURN, 6);
	BOARD_FINDS(board->lanes[63].zero1[0] = 1,
		board->lanes[63].zero1[0] = 0, 12);
	/* Where live requests are hidden, their number is not compared; and
	 * while rgovd writes, nothing is that it may be about to mend. */
	live->state = BOARD_LIVE_FREE;
	CU_ASSERT_EQUAL(check_board(board, false, &found), 0);
	store_relaxed(board->header.live_hidden, 1);
	CU_ASSERT_EQUAL(check_board(board, true, &found), 0);
	free(board);
}

static void any_board_is_survived(void)
{
	/* Random content: findings, no crash. */
	uint64_t seed = 88172645463325252u;
	struct board *board = make_board();
	uint64_t *words = (uint64_t *)(void *)board;
	struct found found;

	for (size_t i = 0; i < sizeof(*board) / 8; i++)
		words[i] = next_random(&seed);
	CU_ASSERT(check_board(board, true, &found) > 0);
	memset(board, 0xff, sizeof(*board));
	CU_ASSERT(check_board(board, false, &found) > 0);
	free(board);
}

SUITE("shm_check", T(what_is_whole_is_silent), T(impossible_words_are_named),
	T(spoilt_content_is_named), T(the_ring_is_bounded),
	T(any_content_is_survived), T(a_whole_board_is_silent),
	T(a_spoilt_board_is_named), T(any_board_is_survived))
