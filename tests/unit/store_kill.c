/*
 * SIGKILL at any moment: what was told is there, what was not is there whole or
 * not at all.  A child submits, ends and says so through a pipe until it is
 * killed; its parent opens the store and looks.
 */
#include "tests/unit/store_rig.h"

#include <signal.h>
#include <sys/wait.h>

enum { LANES = 16, ROUNDS = 12, MOST = 200000, BODY = 3000 };
enum told { TOLD_PUT = 1, TOLD_END = 2 };

/* ------------------------------------------------------------ the child */

struct lane {
	struct store_job job;
	struct store_record record;
	struct child *child;
};

struct child {
	struct rig *rig;
	int pipe;
	uint64_t next;
	struct lane lanes[LANES];
	char body[BODY];
};

static void tell(struct child *child, uint64_t number, enum told what)
{
	uint64_t word = number << 2 | what;

	if (write(child->pipe, &word, sizeof(word)) != sizeof(word))
		_exit(1);
}

static void go_on(struct lane *lane);

static void on_done(struct store_job *job)
{
	struct lane *lane = job->owner;
	uint64_t number = task_number(lane->record.id);

	if (job->error != 0)
		_exit(2);
	tell(lane->child, number, job->op == STORE_PUT ? TOLD_PUT : TOLD_END);
	if (job->op == STORE_PUT && number % 2 == 0) {
		*job = end_job(
			lane->child->rig, number, STORE_SUCCEEDED, "reply");
		job->done = on_done;
		job->owner = lane;
		store_submit(lane->child->rig->store, job);
		return;
	}
	go_on(lane);
}

static void go_on(struct lane *lane)
{
	lane->record = task_record(lane->child->next++, BODY);
	lane->job = put_job(&lane->record, lane->child->body);
	lane->job.done = on_done;
	lane->job.owner = lane;
	store_submit(lane->child->rig->store, &lane->job);
}

static void run_child(struct rig *rig, int pipe, uint64_t first)
{
	static struct child child;

	child = (struct child){.rig = rig, .pipe = pipe, .next = first};
	memset(child.body, 'b', BODY);
	if (loop_create(LOOP_EPOLL, &rig->loop) != 0 || rig_try_open(rig) != 0)
		_exit(3);
	for (int i = 0; i < LANES; i++) {
		child.lanes[i].child = &child;
		go_on(&child.lanes[i]);
	}
	for (;;) {
		loop_step(rig->loop, loop_now_ns() + 1000000000u);
		store_collect(rig->store);
	}
}

/* ------------------------------------------------------------ the parent */

static uint8_t told[MOST]; /* of each number, enum told */

/* Kills it somewhere in what follows its first word; the number after its last.
 */
static uint64_t listen_and_kill(int pipe, pid_t pid, unsigned int wait_us)
{
	uint64_t word, last = 0;
	bool is_killed = false;
	int status;

	while (read(pipe, &word, sizeof(word)) == sizeof(word)) {
		if (!is_killed) {
			usleep(wait_us);
			kill(pid, SIGKILL);
			is_killed = true;
		}
		if (word >> 2 >= MOST)
			abort();
		told[word >> 2] |= (uint8_t)(word & 3);
		if (word >> 2 > last)
			last = word >> 2;
	}
	waitpid(pid, &status, 0);
	CU_ASSERT(WIFSIGNALED(status));
	if (!WIFSIGNALED(status))
		printf("     the child ended with %d\n", status);
	return last + 1 + LANES;
}

struct seen {
	struct rig *rig;
	uint64_t n;
};

static int see_open(const struct store_record *record, void *arg)
{
	struct seen *seen = arg;
	uint64_t number = task_number(record->id);

	seen->n++;
	/* An end that was told has not been forgotten. */
	CU_ASSERT_EQUAL(told[number] & TOLD_END, 0);
	return 0;
}

/* Each task of these is as the child was told, and whole. */
static void check(struct rig *rig, uint64_t from, uint64_t to)
{
	struct seen seen = {.rig = rig};
	char into[BODY];

	CU_ASSERT_EQUAL(
		store_recover(rig->store, see_open, &seen, rig->why), 0);
	for (uint64_t i = from; i < to; i++) {
		struct store_job look = op_job(STORE_LOOK, i);
		struct store_job begin = op_job(STORE_BEGIN, i);

		look.look.wants_reply = true;
		CU_ASSERT_EQUAL(rig_run(rig, &look), 0);
		if (look.outcome == STORE_UNKNOWN) {
			CU_ASSERT_EQUAL(told[i], 0);
		} else if (store_is_final(look.record->state)) {
			CU_ASSERT_EQUAL(look.record->reply_bytes, 5);
			CU_ASSERT_EQUAL(memcmp(look.reply, "reply", 5), 0);
		} else {
			CU_ASSERT_EQUAL(told[i] & TOLD_END, 0);
			begin.begin.into = into;
			begin.begin.into_bytes = BODY;
			CU_ASSERT_EQUAL(rig_run(rig, &begin), 0);
			CU_ASSERT_EQUAL(into[0], 'b');
			CU_ASSERT_EQUAL(into[BODY - 1], 'b');
		}
		store_job_fini(&look);
	}
}

static void what_was_told_survives_sigkill(void)
{
	struct rig rig;
	uint64_t from = 1;
	unsigned int seed = (unsigned int)loop_now_ns(), n_told = 0;

	if (getenv("SEED") != NULL)
		seed = (unsigned int)atoi(getenv("SEED"));
	printf("     SEED=%u\n", seed);
	rig_init(&rig);
	loop_free(rig.loop); /* each process has its own */
	for (int i = 0; i < ROUNDS; i++) {
		int ends[2];
		uint64_t to;
		pid_t pid;

		if (pipe(ends) != 0 || (pid = fork()) < 0)
			abort();
		if (pid == 0) {
			close(ends[0]);
			run_child(&rig, ends[1], from);
		}
		close(ends[1]);
		to = listen_and_kill(
			ends[0], pid, (unsigned int)rand_r(&seed) % 30000);
		close(ends[0]);
		if (loop_create(LOOP_EPOLL, &rig.loop) != 0)
			abort();
		rig_open(&rig); /* its lock died with it */
		check(&rig, from, to);
		rig_close(&rig);
		loop_free(rig.loop);
		from = to;
	}
	for (int i = 0; i < MOST; i++)
		n_told += told[i] != 0;
	printf("     %u tasks told in %d kills\n", n_told, ROUNDS);
	CU_ASSERT(n_told > 100);
	rig.loop = NULL;
	rig_fini(&rig);
}

SUITE("store kill", T(what_was_told_survives_sigkill))
