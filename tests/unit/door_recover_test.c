/*
 * A successor of rgovd takes sessions over: what it makes of every pair of
 * (what its predecessor had published, what the client says now), and whom it
 * refuses.  The table is that of LAYOUT.md.
 */
#include "tests/unit/raw_client.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

/* One slot: how the predecessor left it, what the client says by then, and what
 * a successor makes of it. */
struct row {
	const char *about;
	uint32_t ours;
	enum shm_state state;
	uint32_t theirs;
	enum shm_command command;
	enum shm_kind kind;
	uint8_t flags;
	const char *model;
	/* Afterwards. */
	int recovered; /* submissions, as enum shm_state; -1: none */
	uint32_t word_generation;
	enum shm_state word_state;
	int result; /* -1: not looked at */
};
enum { UNTOUCHED = 0x55 };

static const struct row rows[] = {
	{"never used", 0, SHM_DONE, 0, SHM_NONE, 0, 0, "x", -1, 0, SHM_DONE,
		-1},
	{"new", 5, SHM_DONE, 6, SHM_SUBMIT, 0, 0, "hold", SHM_DONE, 6,
		SHM_ACCEPTED, -1},
	{"new, the first", 0, SHM_DONE, 1, SHM_SUBMIT, 0, 0, "hold", SHM_DONE,
		1, SHM_ACCEPTED, -1},
	{"new over the wrap", 0xffffff, SHM_DONE, 0, SHM_SUBMIT, 0, 0, "hold",
		SHM_DONE, 0, SHM_ACCEPTED, -1},
	{"new and cancelled", 5, SHM_DONE, 6, SHM_CANCEL, 0, 0, "hold", -1, 6,
		SHM_DONE, SHM_CANCELLED},
	{"new permit", 5, SHM_DONE, 6, SHM_SUBMIT, SHM_PERMIT, 0, "m", SHM_DONE,
		6, SHM_GRANTED, SHM_OK},
	{"answered", 5, SHM_DONE, 5, SHM_SUBMIT, 0, 0, "x", -1, 5, SHM_DONE,
		-1},
	{"answered, then cancelled", 5, SHM_DONE, 5, SHM_CANCEL, 0, 0, "x", -1,
		5, SHM_DONE, -1},
	{"answered and read", 5, SHM_DONE, 5, SHM_ACK, 0, 0, "x", -1, 5,
		SHM_DONE, -1},
	{"settled and released", 5, SHM_DONE, 5, SHM_SETTLE, SHM_PERMIT, 0, "m",
		-1, 5, SHM_DONE, -1},
	{"queued", 5, SHM_ACCEPTED, 5, SHM_SUBMIT, 0, 0, "hold", SHM_ACCEPTED,
		5, SHM_ACCEPTED, -1},
	{"queued, cancelled", 5, SHM_ACCEPTED, 5, SHM_CANCEL, 0, 0, "hold", -1,
		5, SHM_DONE, SHM_CANCELLED},
	{"queued permit", 5, SHM_ACCEPTED, 5, SHM_SUBMIT, SHM_PERMIT, 0, "m",
		SHM_ACCEPTED, 5, SHM_GRANTED, SHM_OK},
	{"sent, idempotent", 5, SHM_ISSUED, 5, SHM_SUBMIT, 0, 0, "issue",
		SHM_ISSUED, 5, SHM_ISSUED, -1},
	{"sent, not idempotent", 5, SHM_ISSUED, 5, SHM_SUBMIT, 0,
		SHM_NOT_IDEMPOTENT, "issue", SHM_ISSUED, 5, SHM_DONE,
		SHM_AMBIGUOUS},
	{"sent, cancelled", 5, SHM_ISSUED, 5, SHM_CANCEL, 0, 0, "issue", -1, 5,
		SHM_DONE, SHM_CANCELLED},
	{"permit out", 5, SHM_GRANTED, 5, SHM_SUBMIT, SHM_PERMIT, 0, "m",
		SHM_GRANTED, 5, SHM_GRANTED, -1},
	{"permit settled", 5, SHM_GRANTED, 5, SHM_SETTLE, SHM_PERMIT, 0, "m",
		-1, 5, SHM_DONE, UNTOUCHED},
	{"permit settled, the next one being written", 5, SHM_GRANTED, 5,
		SHM_SETTLE, SHM_CALL, 0, "x", -1, 5, SHM_DONE, UNTOUCHED},
	/* Somebody may be reading the grant. */
	{"permit cancelled", 5, SHM_GRANTED, 5, SHM_CANCEL, SHM_PERMIT, 0, "m",
		-1, 5, SHM_DONE, UNTOUCHED},
	{"permit settled, the next one new", 5, SHM_GRANTED, 6, SHM_SUBMIT, 0,
		0, "hold", SHM_DONE, 6, SHM_ACCEPTED, -1},
	{"permit settled, the next one cancelled", 5, SHM_GRANTED, 6,
		SHM_CANCEL, 0, 0, "hold", -1, 6, SHM_DONE, SHM_CANCELLED},
	{"a call that claims a permit", 5, SHM_GRANTED, 5, SHM_SUBMIT, SHM_CALL,
		0, "m", -1, 5, SHM_DONE, SHM_INVALID},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* What must not follow what: the session is closed, alone. */
static const struct row forbidden[] = {
	{"a generation left out", 5, SHM_DONE, 7, SHM_SUBMIT, 0, 0, "x", 0, 0,
		0, 0},
	{"a generation back", 5, SHM_DONE, 4, SHM_SUBMIT, 0, 0, "x", 0, 0, 0,
		0},
	{"a submit before the answer", 5, SHM_ACCEPTED, 6, SHM_SUBMIT, 0, 0,
		"x", 0, 0, 0, 0},
	{"the same, sent", 5, SHM_ISSUED, 6, SHM_SUBMIT, 0, 0, "x", 0, 0, 0, 0},
	{"an unknown state", 5, (enum shm_state)4, 5, SHM_SUBMIT, 0, 0, "x", 0,
		0, 0, 0},
	{"an unknown command", 5, SHM_DONE, 5, (enum shm_command)5, 0, 0, "x",
		0, 0, 0, 0},
	{"a settlement of nothing", 5, SHM_DONE, 6, SHM_SETTLE, 0, 0, "x", 0, 0,
		0, 0},
};

/* The slot as it stood when the predecessor died. */
static void leave_slot(struct raw *raw, uint32_t slot, const struct row *row)
{
	struct client_slot *to = raw_describe(raw, slot, row->kind, row->model);

	to->flags = row->flags;
	raw_word(raw, slot, row->theirs, row->command);
	raw->daemon_slots[slot].result = UNTOUCHED;
	store_release(
		raw->daemon_slots[slot].word, shm_word(row->ours, row->state));
}

static unsigned int recovered_now(const struct rig *rig)
{
	return rig->recovered[0] + rig->recovered[1] + rig->recovered[2] +
	       rig->recovered[3];
}

static void every_row_of_the_table(void)
{
	/* Each pair of words means what LAYOUT.md says; the epoch grows. */
	for (uint32_t i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		struct rig *rig = rig_start();
		struct raw raw;
		uint32_t word = shm_word(row->word_generation, row->word_state);

		raw_open(rig, &raw, 1);
		leave_slot(&raw, 0, row);
		rig_restart(rig);
		CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
		RIG_REST(rig);
		CU_ASSERT_EQUAL(raw_answer(&raw, 0), word);
		CU_ASSERT_EQUAL(recovered_now(rig), row->recovered >= 0);
		if (row->recovered >= 0)
			CU_ASSERT_EQUAL(rig->recovered[row->recovered], 1);
		if (row->result >= 0)
			CU_ASSERT_EQUAL(
				raw_result(&raw, 0), (unsigned int)row->result);
		CU_ASSERT_EQUAL(load_acquire(raw.daemon->epoch), 2);
		CU_ASSERT_EQUAL(rig_stats(rig).reattached, 1);
		CU_ASSERT_EQUAL(rig_stats(rig).closed, 0);
		if (raw_answer(&raw, 0) != word ||
			recovered_now(rig) != (row->recovered >= 0))
			printf("     row: %s\n", row->about);
		raw_close(&raw);
		rig_stop(rig);
	}
}

static void rows_that_cannot_be(void)
{
	/* Words that no honest client and no rgovd leave: the session is
	 * closed, with words (or its client would come back with the same until
	 * its deadlines), and no handler hears of the slot. */
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		struct rig *rig = rig_start();
		char why[SHM_MESSAGE_BYTES] = "";
		struct raw raw;

		raw_open(rig, &raw, 1);
		leave_slot(&raw, 0, &forbidden[i]);
		rig_restart(rig);
		CU_ASSERT_EQUAL(raw_reattach_with(rig, &raw, raw.fds,
					WIRE_REATTACH_FDS, why),
			WIRE_REFUSED);
		CU_ASSERT_PTR_NOT_NULL(strstr(why, "slot 0: "));
		CU_ASSERT_PTR_NOT_NULL(strstr(why, "expected "));
		CU_ASSERT_PTR_NOT_NULL(strstr(why, "found generation "));
		CU_ASSERT_EQUAL(recovered_now(rig), 0);
		CU_ASSERT_EQUAL(rig_stats(rig).closed, 1);
		CU_ASSERT_EQUAL(rig_stats(rig).sessions, 0);
		if (rig_stats(rig).closed != 1)
			printf("     row: %s\n", forbidden[i].about);
		raw_close(&raw);
		rig_stop(rig);
	}
}

static void all_slots_at_once(void)
{
	/* A session whose slots stand at every row: each is taken for itself,
	 * and the hints left in the ring change nothing. */
	struct rig *rig = rig_start();
	struct raw raw;

	raw_open(rig, &raw, ROWS);
	for (uint32_t i = 0; i < ROWS; i++)
		leave_slot(&raw, i, &rows[i]);
	rig_restart(rig);
	/* Written while nobody was there. */
	for (uint32_t i = 0; i < ROWS; i++)
		raw_entry(&raw, i, shm_word(rows[i].theirs, rows[i].command));
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	/* And once more, as if written while the slots were looked at. */
	for (uint32_t i = 0; i < ROWS; i++)
		raw_entry(&raw, i, shm_word(rows[i].theirs, rows[i].command));
	RIG_REST(rig);
	for (uint32_t i = 0; i < ROWS; i++)
		CU_ASSERT_EQUAL(raw_answer(&raw, i),
			shm_word(rows[i].word_generation, rows[i].word_state));
	CU_ASSERT_EQUAL(rig_stats(rig).closed, 0);
	CU_ASSERT(rig_stats(rig).stale_entries > 0);
	raw_close(&raw);
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	rig_stop(rig);
}

static void submit_in_slot_0(void *owner)
{
	raw_submit(owner, 0, 1, SHM_CALL, "hold");
}

static void what_comes_during_the_scan_is_found(void)
{
	/* While the second slot is looked at, the first, which was empty then,
	 * gets a request: its entry lies behind the tail that was taken. */
	struct rig *rig = rig_start();
	struct raw raw;

	raw_open(rig, &raw, 2);
	(void)raw_describe(&raw, 1, SHM_CALL, "hold");
	rig_restart(rig);
	raw_word(&raw, 1, 1, SHM_SUBMIT);
	rig->meanwhile = submit_in_slot_0;
	rig->meanwhile_owner = &raw;
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	RIG_REST(rig);
	CU_ASSERT_EQUAL(raw_answer(&raw, 0), shm_word(1, SHM_ACCEPTED));
	CU_ASSERT_EQUAL(raw_answer(&raw, 1), shm_word(1, SHM_ACCEPTED));
	raw_close(&raw);
	rig_stop(rig);
}

static blkcnt_t blocks_of(int fd)
{
	struct stat found;

	return fstat(fd, &found) == 0 ? found.st_blocks : -1;
}

static void slots_never_used_take_no_memory(void)
{
	/* A look at a page that was never written would make it, and a session
	 * of a thousand slots use one. */
	struct rig *rig = rig_start();
	struct raw raw;
	blkcnt_t before;

	raw_open(rig, &raw, 64);
	raw_submit(&raw, 0, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_GRANTED));
	raw_submit(&raw, 40, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 40) == shm_word(1, SHM_GRANTED));
	before = blocks_of(raw.fds[WIRE_FD_DAEMON_CONTROL]);
	rig_restart(rig);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	RIG_REST(rig);
	CU_ASSERT_EQUAL(rig->recovered[SHM_GRANTED], 2);
	CU_ASSERT_EQUAL(blocks_of(raw.fds[WIRE_FD_DAEMON_CONTROL]), before);
	/* They are there when they are needed. */
	raw_submit(&raw, 63, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 63) == shm_word(1, SHM_GRANTED));
	raw_close(&raw);
	rig_stop(rig);
}

static void a_settlement_is_taken_with_the_next_submit(void)
{
	/* While rgovd lives: SETTLE(g) and SUBMIT(g+1) before it looked. */
	struct rig *rig = rig_start();
	struct client_slot *slot;
	struct raw raw;

	raw_open(rig, &raw, 1);
	raw_submit(&raw, 0, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_GRANTED));
	slot = &raw.client_slots[0];
	slot->settlement = SHM_SETTLED_THROTTLED;
	slot->settled_input_tokens = 3;
	slot->settled_output_tokens = 4;
	slot->settled_generation = 1;
	raw_command(&raw, 0, 1, SHM_SETTLE);
	raw_submit(&raw, 0, 2, SHM_CALL, "x");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(2, SHM_DONE));
	CU_ASSERT_EQUAL(rig->settled, 1);
	CU_ASSERT_TRUE(rig->settlement.is_known);
	CU_ASSERT_EQUAL(rig->settlement.how, SHM_SETTLED_THROTTLED);
	CU_ASSERT_EQUAL(rig->settlement.input_tokens, 3);
	raw_close(&raw);
	rig_stop(rig);
}

static void a_settlement_before_the_next_submit_is_told(void)
{
	/* Both came while nobody was there: the permit's generation is told,
	 * with what its client said of it, and the next request is new. */
	struct rig *rig = rig_start();
	struct client_slot *slot;
	struct raw raw;

	raw_open(rig, &raw, 1);
	raw_submit(&raw, 0, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_GRANTED));
	rig_restart(rig);
	slot = &raw.client_slots[0];
	slot->settlement = SHM_SETTLED_OK;
	slot->settled_input_tokens = 3;
	slot->settled_output_tokens = 4;
	slot->settled_generation = 1;
	raw_submit(&raw, 0, 2, SHM_CALL, "x");
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(2, SHM_DONE));
	CU_ASSERT_EQUAL(rig->overtaken, 1);
	CU_ASSERT_TRUE(rig->settlement.is_known);
	CU_ASSERT_EQUAL(rig->settlement.input_tokens, 3);
	raw_close(&raw);
	rig_stop(rig);
}

/* ------------------------------------------------------------ sleepers */

struct sleeper {
	struct raw *raw;
	int woken; /* what the futex call said */
	_Atomic pid_t thread;
};

static void *sleep_on_slot(void *argument)
{
	struct sleeper *sleeper = argument;
	struct timespec limit = {.tv_sec = 10};
	uint32_t seen = wake_announce_sleep(
		sleeper->raw->client_slots, sleeper->raw->daemon_slots);

	if (seen == shm_word(1, SHM_ACCEPTED))
		sleeper->woken = (int)syscall(SYS_futex,
			&sleeper->raw->daemon_slots[0].word, FUTEX_WAIT, seen,
			&limit, NULL, 0);
	return NULL;
}

static void a_sleeper_is_woken_by_the_successor(void)
{
	/* Who fell asleep under one rgovd is woken by the answer of the next:
	 * the word is in the same memory. */
	struct rig *rig = rig_start();
	struct sleeper sleeper = {.woken = -1};
	pthread_t thread;
	struct raw raw;

	raw_open(rig, &raw, 1);
	raw_submit(&raw, 0, 1, SHM_CALL, "hold");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_ACCEPTED));
	sleeper.raw = &raw;
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, sleep_on_slot, &sleeper), 0);
	while (load_acquire(raw.client_slots[0].waiting) == 0)
		(void)sched_yield();
	rig_restart(rig);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	CU_ASSERT_EQUAL(rig_finish(rig, SHM_OK), 1);
	(void)pthread_join(thread, NULL);
	/* EAGAIN where it came too late to sleep at all. */
	CU_ASSERT(sleeper.woken == 0 || errno == EAGAIN);
	CU_ASSERT_EQUAL(raw_answer(&raw, 0), shm_word(1, SHM_DONE));
	raw_close(&raw);
	rig_stop(rig);
}

static void *sleep_on_an_answer(void *argument)
{
	struct sleeper *sleeper = argument;
	struct timespec limit = {.tv_sec = 10};

	sleeper->thread = (pid_t)syscall(SYS_gettid);
	(void)wake_announce_sleep(
		sleeper->raw->client_slots, sleeper->raw->daemon_slots);
	sleeper->woken =
		(int)syscall(SYS_futex, &sleeper->raw->daemon_slots[0].word,
			FUTEX_WAIT, shm_word(1, SHM_DONE), &limit, NULL, 0);
	return NULL;
}

static bool sleeps(pid_t thread)
{
	char path[64], state = '?';
	FILE *stat;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	stat = fopen(path, "re");
	if (stat != NULL) {
		if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
			state = '?';
		(void)fclose(stat);
	}
	return state == 'S';
}

static void a_missing_wake_up_is_made_good(void)
{
	/* The predecessor died between the answer's word and its FUTEX_WAKE:
	 * the successor wakes the sleeper, whose own thread noticed nothing. */
	struct rig *rig = rig_start();
	struct sleeper sleeper = {.woken = -1};
	pthread_t thread;
	struct raw raw;

	raw_open(rig, &raw, 1);
	raw_submit(&raw, 0, 1, SHM_CALL, "x");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_DONE));
	sleeper.raw = &raw;
	CU_ASSERT_EQUAL_FATAL(
		pthread_create(&thread, NULL, sleep_on_an_answer, &sleeper), 0);
	while (load_acquire(raw.client_slots[0].waiting) == 0 ||
		!sleeps(sleeper.thread))
		(void)sched_yield();
	rig_restart(rig);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	(void)pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(sleeper.woken, 0);
	raw_close(&raw);
	rig_stop(rig);
}

/* ------------------------------------------------------------ refusals */

/* A memfd as rgovd makes them, or not quite. */
static int forge(uint64_t bytes, unsigned int seals)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 ||
		(seals != 0 && fcntl(fd, F_ADD_SEALS, seals) != 0))
		abort();
	return fd;
}

/* Which of the four is not what rgovd gave out, and how. */
static void forged_files_are_refused(void)
{
	/* Another size, missing seals, a seal against writing, a plain file, a
	 * pipe: refused in words that name the file; nothing stays open. */
	enum { OWN = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };
	static const char *const names[] = {"client control", "client bodies",
		"daemon control", "daemon bodies"};
	struct rig *rig = rig_start();
	char why[SHM_MESSAGE_BYTES];
	struct raw raw;
	int before;

	raw_open(rig, &raw, 4);
	rig_restart(rig);
	(void)raw_reattach_with(rig, &raw, raw.fds, 0, NULL);
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	before = open_descriptors();
	for (int file = 0; file < WIRE_REATTACH_FDS; file++) {
		uint64_t bytes[] = {raw.client_shape.total_bytes,
			shm_bodies_bytes(4), raw.daemon_shape.total_bytes,
			shm_bodies_bytes(4)};
		int pipe_fds[2];
		int bad[6];

		CU_ASSERT_EQUAL_FATAL(pipe(pipe_fds), 0);
		bad[0] = forge(bytes[file] + SHM_PAGE, OWN);
		bad[1] = forge(bytes[file] - SHM_PAGE, OWN);
		bad[2] = forge(bytes[file], 0);
		bad[3] = forge(bytes[file], F_SEAL_GROW | F_SEAL_SEAL);
		bad[4] = forge(bytes[file],
			F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
		bad[5] = pipe_fds[0];
		for (int i = 0; i < 6; i++) {
			int fds[WIRE_REATTACH_FDS];

			memcpy(fds, raw.fds, sizeof(fds));
			fds[file] = bad[i];
			CU_ASSERT_EQUAL(raw_reattach_with(rig, &raw, fds,
						WIRE_REATTACH_FDS, why),
				WIRE_REFUSED);
			CU_ASSERT_PTR_NOT_NULL(strstr(why, names[file]));
			(void)close(bad[i]);
		}
		(void)close(pipe_fds[1]);
	}
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	RIG_UNTIL(rig, open_descriptors() == before);
	CU_ASSERT_EQUAL(recovered_now(rig), 0);
	raw_close(&raw);
	rig_stop(rig);
}

static void wrong_sessions_are_refused(void)
{
	/* A forged id, another number of slots, descriptors that are missing or
	 * change places, a session that is served already: refused.  The right
	 * ones are still taken afterwards. */
	struct rig *rig = rig_start();
	struct raw raw, other;
	char why[SHM_MESSAGE_BYTES];
	int swapped[WIRE_REATTACH_FDS];

	raw_open(rig, &raw, 4);
	raw_submit(&raw, 0, 1, SHM_CALL, "hold");
	RIG_REST(rig);
	rig_restart(rig);
	raw.id[15] ^= 1;
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REFUSED);
	raw.id[15] ^= 1;
	raw.slots = 5;
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REFUSED);
	raw.slots = 0;
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REFUSED);
	raw.slots = UINT32_MAX;
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REFUSED);
	raw.slots = 4;
	for (size_t n = 0; n < WIRE_REATTACH_FDS; n++)
		CU_ASSERT_EQUAL(raw_reattach_with(rig, &raw, raw.fds, n, why),
			WIRE_REFUSED);
	memcpy(swapped, raw.fds, sizeof(swapped));
	swapped[1] = raw.fds[3];
	swapped[3] = raw.fds[1];
	(void)raw_reattach_with(rig, &raw, swapped, WIRE_REATTACH_FDS, why);
	RIG_UNTIL(rig, rig_stats(rig).sessions <= 1);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	CU_ASSERT_EQUAL(rig->recovered[SHM_ACCEPTED] >= 1, 1);
	other = raw;
	other.socket = raw_connect(rig);
	CU_ASSERT_EQUAL(
		raw_reattach_with(rig, &other, raw.fds, WIRE_REATTACH_FDS, why),
		WIRE_REFUSED);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "served"));
	(void)close(other.socket);
	CU_ASSERT_TRUE(rig_finish(rig, SHM_OK) >= 1);
	CU_ASSERT_EQUAL(raw_answer(&raw, 0), shm_word(1, SHM_DONE));
	raw_close(&raw);
	rig_stop(rig);
}

static void a_session_that_has_ended_stays_ended(void)
{
	/* Its files still say that a permit is out: taken over once more, that
	 * permit would come to those given out since.  Neither the rgovd that
	 * ended it nor a successor believes them, whether its client went or
	 * was expelled. */
	struct rig *rig = rig_start();

	for (int turn = 0; turn < 4; turn++) {
		char why[SHM_MESSAGE_BYTES] = "";
		struct raw raw;

		raw_open(rig, &raw, 2);
		raw_submit(&raw, 0, 1, SHM_PERMIT, "m");
		RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_GRANTED));
		if (turn & 1)
			raw_entry(&raw, UINT32_MAX, 0);
		else
			(void)shutdown(raw.socket, SHUT_RDWR);
		RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
		if (turn & 2)
			rig_restart(rig);
		CU_ASSERT_EQUAL(raw_reattach_with(rig, &raw, raw.fds,
					WIRE_REATTACH_FDS, why),
			WIRE_REFUSED);
		CU_ASSERT_PTR_NOT_NULL(strstr(why, "ended"));
		raw_close(&raw);
	}
	CU_ASSERT_EQUAL(recovered_now(rig), 4); /* as new, when submitted */
	CU_ASSERT_EQUAL(rig->orphaned, 4);
	rig_stop(rig);
}

static void a_session_expelled_in_its_recovery_stays_ended(void)
{
	/* Its first slot says that a permit is out, its second what cannot be.
	 * With the second made good it does not come for the permit again. */
	struct rig *rig = rig_start();
	char why[SHM_MESSAGE_BYTES] = "";
	struct raw raw;

	raw_open(rig, &raw, 2);
	raw_submit(&raw, 0, 1, SHM_PERMIT, "m");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_GRANTED));
	rig_restart(rig);
	for (uint32_t generation = 2; generation-- > 0;) {
		raw_word(&raw, 1, 2 * generation,
			generation > 0 ? SHM_SUBMIT : SHM_NONE);
		CU_ASSERT_EQUAL(raw_reattach_with(rig, &raw, raw.fds,
					WIRE_REATTACH_FDS, why),
			WIRE_REFUSED);
	}
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "ended"));
	CU_ASSERT_EQUAL(rig->recovered[SHM_GRANTED], 1);
	CU_ASSERT_EQUAL(rig_stats(rig).closed, 1);
	raw_close(&raw);
	rig_stop(rig);
}

/* The header that rgovd would have written for this client. */
static void forge_header(struct raw *raw, uint32_t slots)
{
	struct daemon_header *header = (struct daemon_header *)raw->client;

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->slots = slots;
	header->owner_uid = getuid();
	memcpy(header->session_id, raw->id, sizeof(raw->id));
	store_release(header->magic, SHM_DAEMON_MAGIC);
}

static void one_file_does_not_pass_for_another(void)
{
	/* A client control file of 1 slot is as large as a daemon control file
	 * of 16, is rgovd's own, and its client may write and seal it: permits
	 * that were never granted could be in it, and any session's name. */
	enum { SLOTS = 16 };
	struct rig *rig = rig_start();
	int fds[WIRE_REATTACH_FDS];
	char why[SHM_MESSAGE_BYTES] = "";
	struct raw forged, raw;

	raw_welcome(rig, &forged, 1);
	CU_ASSERT_EQUAL_FATAL(forged.client_shape.total_bytes,
		daemon_shape(SLOTS).total_bytes);
	forge_header(&forged, SLOTS);
	CU_ASSERT_EQUAL(fcntl(forged.fds[WIRE_FD_CLIENT_CONTROL], F_ADD_SEALS,
				F_SEAL_SEAL),
		0);
	raw_open(rig, &raw, SLOTS);
	rig_restart(rig);
	memcpy(fds, raw.fds, sizeof(fds));
	fds[WIRE_FD_DAEMON_CONTROL] = forged.fds[WIRE_FD_CLIENT_CONTROL];
	memcpy(raw.id, forged.id, sizeof(raw.id));
	CU_ASSERT_EQUAL(
		raw_reattach_with(rig, &raw, fds, WIRE_REATTACH_FDS, why),
		WIRE_REFUSED);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "daemon control"));
	raw_close(&forged);
	raw_close(&raw);
	rig_stop(rig);
}

static void a_spoilt_header_is_refused(void)
{
	/* The daemon file must say what rgovd wrote there: layout, slots, id,
	 * uid. */
	struct rig *rig = rig_start();

	for (int field = 0; field < 5; field++) {
		struct raw raw;

		raw_open(rig, &raw, 2);
		if (field == 0)
			store_release(raw.daemon->magic, 0);
		else if (field == 1)
			raw.daemon->layout_version++;
		else if (field == 2)
			raw.daemon->layout_hash++;
		else if (field == 3)
			raw.daemon->slots++;
		else
			raw.daemon->owner_uid++;
		rig_restart(rig);
		CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REFUSED);
		raw_close(&raw);
	}
	rig_stop(rig);
}

static void an_unsealed_file_is_sealed(void)
{
	/* Where the predecessor died before it sealed, the successor does: the
	 * client can no more punch holes into what rgovd reads. */
	struct rig *rig = rig_start();
	struct raw raw;

	raw_welcome(rig, &raw, 2);
	CU_ASSERT_EQUAL(fallocate(raw.fds[WIRE_FD_CLIENT_CONTROL],
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				SHM_PAGE, SHM_PAGE),
		0);
	rig_restart(rig);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	CU_ASSERT_NOT_EQUAL(fallocate(raw.fds[WIRE_FD_CLIENT_CONTROL],
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    SHM_PAGE, SHM_PAGE),
		0);
	CU_ASSERT_NOT_EQUAL(
		ftruncate(raw.fds[WIRE_FD_CLIENT_CONTROL], SHM_PAGE), 0);
	CU_ASSERT_NOT_EQUAL(
		ftruncate(raw.fds[WIRE_FD_CLIENT_BODIES], SHM_PAGE), 0);
	raw_submit(&raw, 0, 1, SHM_CALL, "x");
	RIG_UNTIL(rig, raw_answer(&raw, 0) == shm_word(1, SHM_DONE));
	raw_close(&raw);
	rig_stop(rig);
}

static void a_served_file_is_sealed(void)
{
	/* Once MAPPED was heard: no hole, no other mapping to write through, no
	 * seal that would break rgovd's own. */
	enum {
		WANTED = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE |
			 F_SEAL_SEAL
	};
	struct rig *rig = rig_start();
	struct raw raw;
	int file;

	raw_open(rig, &raw, 2);
	RIG_UNTIL(rig, rig_stats(rig).opened == 1);
	file = raw.fds[WIRE_FD_CLIENT_CONTROL];
	CU_ASSERT_EQUAL(fcntl(file, F_GET_SEALS) & WANTED, WANTED);
	CU_ASSERT_NOT_EQUAL(
		fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			SHM_PAGE, SHM_PAGE),
		0);
	CU_ASSERT(mmap(NULL, SHM_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file,
			  0) == MAP_FAILED);
	raw_close(&raw);
	rig_stop(rig);
}

static void the_clients_own_files_are_read_only_to_it(void)
{
	/* What rgovd writes comes to the client without the right to write. */
	struct rig *rig = rig_start();
	struct raw raw;

	raw_open(rig, &raw, 2);
	for (int i = WIRE_FD_DAEMON_CONTROL; i <= WIRE_FD_BOARD; i++) {
		if (i < WIRE_FD_BOARD)
			CU_ASSERT_EQUAL(fcntl(raw.fds[i], F_GETFL) & O_ACCMODE,
				O_RDONLY);
		CU_ASSERT(i == WIRE_FD_BOARD ||
			  mmap(NULL, SHM_PAGE, PROT_READ | PROT_WRITE,
				  MAP_SHARED, raw.fds[i], 0) == MAP_FAILED);
	}
	raw_close(&raw);
	rig_stop(rig);
}

static void going_down_leaves_new_requests_alone(void)
{
	/* After door_stop_accepting() a new request is not looked at; a
	 * successor finds it in the client's memory. */
	struct rig *rig = rig_start();
	struct raw raw;

	raw_open(rig, &raw, 2);
	raw_submit(&raw, 0, 1, SHM_CALL, "hold");
	RIG_REST(rig);
	door_stop_accepting(rig->door);
	raw_submit(&raw, 1, 1, SHM_CALL, "x");
	RIG_REST(rig);
	CU_ASSERT_EQUAL(rig->submitted, 1);
	CU_ASSERT_EQUAL(raw_answer(&raw, 1), 0);
	CU_ASSERT_EQUAL(rig_finish(rig, SHM_OK), 1);
	CU_ASSERT_EQUAL(raw_answer(&raw, 0), shm_word(1, SHM_DONE));
	rig_restart(rig);
	CU_ASSERT_EQUAL(raw_reattach(rig, &raw), WIRE_REATTACHED);
	CU_ASSERT_EQUAL(raw_answer(&raw, 1), shm_word(1, SHM_DONE));
	raw_close(&raw);
	rig_stop(rig);
}

SUITE("door_recover", T(every_row_of_the_table), T(rows_that_cannot_be),
	T(all_slots_at_once), T(what_comes_during_the_scan_is_found),
	T(slots_never_used_take_no_memory),
	T(a_settlement_is_taken_with_the_next_submit),
	T(a_settlement_before_the_next_submit_is_told),
	T(a_sleeper_is_woken_by_the_successor),
	T(a_missing_wake_up_is_made_good), T(forged_files_are_refused),
	T(wrong_sessions_are_refused), T(a_session_that_has_ended_stays_ended),
	T(a_session_expelled_in_its_recovery_stays_ended),
	T(one_file_does_not_pass_for_another), T(a_spoilt_header_is_refused),
	T(an_unsealed_file_is_sealed), T(a_served_file_is_sealed),
	T(the_clients_own_files_are_read_only_to_it),
	T(going_down_leaves_new_requests_alone))
