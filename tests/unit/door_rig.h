/*
 * A real door (coordinator/door) on a real loop in this process, with handlers
 * that do what the model id of a request says:
 *
 *   "echo"       the reply is the body
 *   "bytes:N"    the reply is N bytes, 'r'
 *   "hold"       queued (ACCEPTED) until rig_finish() or a cancel
 *   "issue"      the same, ISSUED
 *   "intake"     kept without a word, as while a large body is read
 *   anything     a permit is granted; a call is answered without a body
 *
 * Driven by the test itself (rig_turn, RIG_UNTIL), so that a test decides what
 * happens between two looks of rgovd; or by a thread (rig_run), for the
 * client library, which blocks.
 */
#ifndef TESTS_UNIT_DOOR_RIG_H
#define TESTS_UNIT_DOOR_RIG_H

#include "coordinator/door/door.h"
#include "coordinator/log.h"
#include "coordinator/loop/loop.h"
#include "shm-layout/shm_board.h"
#include "shm-layout/shm_layout.h"
#include "tests/unit/suite.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

enum { RIG_HELD = 2048 };

/* One kept request: what slot->request points at. */
struct rig_request {
	struct door_slot *slot; /* NULL: not in use */
	bool is_call;
};

struct rig {
	struct loop *loop;
	struct door *door;
	struct door_config config;
	char dir[64], path[96];
	struct rig_request held[RIG_HELD];
	bool lets_in;
	bool is_ungoverned; /* nobody is an administrator */
	bool defers_cancel; /* cancelled() leaves the end to rig_finish() */
	/* What the handlers saw; other threads read. */
	_Atomic unsigned int overtaken; /* the last one's generation */
	_Atomic unsigned int submitted, cancelled, settled, orphaned,
		reattached, verbs, explained;
	_Atomic unsigned int recovered[4]; /* submissions, by enum shm_state */
	_Atomic unsigned int opened,
		died; /* of this door; other threads read */
	struct door_settlement settlement; /* the last */
	char user[SHM_USER_BYTES];         /* of the last submission */

	_Atomic bool is_stopping;
	void (*_Atomic errand)(struct rig *rig); /* for its thread */
	/* Called once, inside the next submitted(). */
	void (*meanwhile)(void *owner);
	void *meanwhile_owner;
};

static inline struct door_reply rig_reply(enum shm_result result)
{
	return (struct door_reply){.result = result,
		.input_tokens = -1,
		.output_tokens = -1,
		.cache_read_tokens = -1,
		.cache_write_tokens = -1};
}

static inline void rig_keep(struct rig *rig, struct door_slot *slot, bool call)
{
	for (int i = 0; i < RIG_HELD; i++) {
		if (rig->held[i].slot == NULL) {
			rig->held[i] = (struct rig_request){slot, call};
			slot->request = &rig->held[i];
			return;
		}
	}
	abort();
}

static inline void rig_drop(struct door_slot *slot)
{
	struct rig_request *request = slot->request;

	request->slot = NULL;
}

/* Ends one kept request. */
static inline void rig_end(struct door_slot *slot, enum shm_result result)
{
	struct door_reply reply = rig_reply(result);

	rig_drop(slot);
	door_complete(slot, &reply);
}

/* Ends all that is kept and not granted; returns how many. */
__attribute__((unused)) static unsigned int rig_finish(
	struct rig *rig, enum shm_result result)
{
	unsigned int n = 0;

	for (int i = 0; i < RIG_HELD; i++) {
		struct door_slot *slot = rig->held[i].slot;

		if (slot == NULL || slot->state == SHM_GRANTED)
			continue;
		rig_end(slot, result);
		n++;
	}
	return n;
}

static inline void rig_echo(
	struct door_slot *slot, const struct door_submission *submission)
{
	struct door_reply reply = rig_reply(SHM_OK);
	unsigned long n = submission->body_bytes;
	bool is_echo = strcmp(submission->model_id, "echo") == 0;
	char *body;

	if (!is_echo)
		n = strtoul(submission->model_id + 6, NULL, 10);
	body = malloc(n + 1);
	if (body == NULL)
		abort();
	memset(body, 'r', n);
	if (is_echo && door_read_body(slot, body, n) != 0)
		reply.result = SHM_BODY_CHANGED;
	door_mark_accepted(slot);
	door_mark_issued(slot);
	reply.body = body;
	reply.body_bytes = n;
	reply.http_status = 200;
	reply.attempts = 1;
	reply.was_issued = true;
	reply.input_tokens = 7;
	reply.request_id = "request";
	door_complete(slot, &reply);
	free(body);
}

static inline void rig_hold(struct rig *rig, struct door_slot *slot,
	const struct door_submission *submission)
{
	rig_keep(rig, slot, submission->kind == SHM_CALL);
	if (strcmp(submission->model_id, "intake") == 0)
		return;
	door_mark_accepted(slot);
	if (strcmp(submission->model_id, "issue") == 0)
		door_mark_issued(slot);
}

static inline void rig_submitted(void *owner, struct door_slot *slot,
	const struct door_submission *submission)
{
	struct rig *rig = owner;
	const char *model = submission->model_id;
	struct door_reply ok = rig_reply(SHM_OK);

	void (*meanwhile)(void *) = rig->meanwhile;

	rig->meanwhile = NULL;
	if (meanwhile != NULL)
		meanwhile(rig->meanwhile_owner);
	rig->submitted++;
	rig->recovered[submission->recovered]++;
	(void)snprintf(rig->user, sizeof(rig->user), "%s", submission->user);
	if (submission->recovered == SHM_GRANTED) {
		rig_keep(rig, slot, false); /* it is out already */
	} else if (submission->recovered == SHM_ISSUED &&
		   !submission->is_idempotent) {
		ok.result = SHM_AMBIGUOUS;
		door_complete(slot, &ok);
	} else if (strcmp(model, "echo") == 0 ||
		   strncmp(model, "bytes:", 6) == 0) {
		rig_echo(slot, submission);
	} else if (strcmp(model, "hold") == 0 || strcmp(model, "issue") == 0 ||
		   strcmp(model, "intake") == 0) {
		rig_hold(rig, slot, submission);
	} else if (submission->kind == SHM_PERMIT) {
		rig_keep(rig, slot, false);
		door_grant(slot, &ok);
	} else {
		door_complete(slot, &ok);
	}
}

static inline void rig_cancelled(void *owner, struct door_slot *slot)
{
	struct rig *rig = owner;

	rig->cancelled++;
	if (!rig->defers_cancel)
		rig_end(slot, SHM_CANCELLED);
}

static inline void rig_settled(void *owner, struct door_slot *slot,
	const struct door_settlement *settlement)
{
	struct rig *rig = owner;

	rig->settlement = *settlement;
	rig_drop(slot);
	door_release(slot);
	rig->settled++; /* last: others look at the settlement after it */
}

static inline void rig_overtaken(void *owner, const struct door_slot *slot,
	const struct door_settlement *settlement)
{
	struct rig *rig = owner;

	rig->settlement = *settlement;
	rig->overtaken = slot->generation;
}

static inline void rig_orphaned(void *owner, struct door_slot *slot)
{
	struct rig *rig = owner;

	rig->orphaned++;
	rig_drop(slot);
}

static inline void rig_reattached(void *owner, const uint8_t id[16])
{
	struct rig *rig = owner;

	(void)id;
	rig->reattached++;
}

static inline bool rig_lets_in(
	void *owner, uid_t uid, const gid_t *gids, size_t n_gids)
{
	struct rig *rig = owner;

	return rig->lets_in && uid == geteuid() && n_gids > 0 &&
	       gids[n_gids - 1] == getegid();
}

static inline bool rig_lets_read_tasks(
	void *owner, uid_t uid, const gid_t *gids, size_t n_gids)
{
	(void)owner;
	(void)gids;
	(void)n_gids;
	return uid == 0;
}

static inline bool rig_lets_govern(void *owner, uid_t uid)
{
	const struct rig *rig = owner;

	return !rig->is_ungoverned && uid == geteuid();
}

static inline int rig_verb(void *owner, enum wire_verb verb, uid_t uid,
	char *ret_text, size_t bytes)
{
	struct rig *rig = owner;

	(void)uid;
	rig->verbs++;
	(void)snprintf(ret_text, bytes, "verb %d", (int)verb);
	return verb == WIRE_PING ? 0 : -EINVAL;
}

/* Something that clients can map as a board. */
static inline int rig_board(void)
{
	int fd = memfd_create("board", MFD_CLOEXEC);
	struct board *board;

	if (fd < 0 || ftruncate(fd, sizeof(*board)) != 0)
		abort();
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED,
		fd, 0);
	if (board == MAP_FAILED)
		abort();
	board->header.layout_version = SHM_LAYOUT_VERSION;
	board->header.layout_hash = shm_layout_hash();
	board->header.total_bytes = sizeof(*board);
	store_release(board->header.magic, SHM_BOARD_MAGIC);
	(void)munmap(board, sizeof(*board));
	return fd;
}

/* Knows the numbers below 100; above, they are somebody else's.  Those of
 * requests that it keeps, from 1 on, learn a new place. */
static inline void rig_explain(void *owner, uint64_t request, uid_t uid,
	bool may_govern, struct wire_explained *ret_answer)
{
	struct rig *rig = owner;

	rig->explained++;
	if (request - 1 < RIG_HELD && rig->held[request - 1].slot != NULL)
		door_show_place(rig->held[request - 1].slot,
			&(struct door_place){.request = request,
				.reason = SHM_WAIT_TURN,
				.position = 1,
				.as_of_ns = loop_now_ns(),
				.until_ns = UINT64_MAX});
	ret_answer->request = request;
	ret_answer->outcome = may_govern || (request < 100 && uid == getuid())
				      ? WIRE_FOUND
				      : WIRE_NOT_YOURS;
}

static inline void rig_open_door(struct rig *rig)
{
	static const struct door_handlers handlers = {
		.submitted = rig_submitted,
		.cancelled = rig_cancelled,
		.settled = rig_settled,
		.overtaken = rig_overtaken,
		.orphaned = rig_orphaned,
		.reattached = rig_reattached,
		.lets_in = rig_lets_in,
		.lets_govern = rig_lets_govern,
		.lets_read_tasks = rig_lets_read_tasks,
		.verb = rig_verb,
		.explain = rig_explain,
	};

	CU_ASSERT_EQUAL_FATAL(
		door_open(rig->loop, &rig->config, &handlers, rig, &rig->door),
		0);
}

/* The engine is the one that RGOV_LOOP names, as in the scenarios. */
static inline struct rig *rig_start(void)
{
	const char *name = getenv("RGOV_LOOP");
	enum loop_engine engine = LOOP_AUTO;
	struct rig *rig = calloc(1, sizeof(*rig));

	if (rig == NULL)
		abort();
	if (name != NULL && strcmp(name, "epoll") == 0)
		engine = LOOP_EPOLL;
	log_open(LOG_LOGFMT, LOG_ERROR);
	(void)strcpy(rig->dir, "/tmp/rgov-door-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(rig->dir));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/t.sock", rig->dir);
	CU_ASSERT_EQUAL_FATAL(loop_create(engine, &rig->loop), 0);
	rig->lets_in = true;
	rig->config = (struct door_config){.socket_path = rig->path,
		.socket_mode = 0600,
		.max_sessions = 64,
		.slots_per_session = 64,
		.cpus = 2,
		.board_fd = rig_board()};
	rig_open_door(rig);
	return rig;
}

/* A successor: the sessions go without a word in them, the socket is new. */
static inline void rig_restart(struct rig *rig)
{
	door_close(rig->door);
	rig_open_door(rig);
}

static inline void rig_stop(struct rig *rig)
{
	door_close(rig->door);
	/* What a closed descriptor means to others may wait for a step. */
	(void)loop_step(rig->loop, 0);
	loop_free(rig->loop);
	(void)close(rig->config.board_fd);
	(void)rmdir(rig->dir);
	free(rig);
}

static inline struct door_stats rig_stats(const struct rig *rig)
{
	struct door_stats stats;

	door_read_stats(rig->door, &stats);
	return stats;
}

/* What is ready and what the clients said; how much there was. */
static inline unsigned int rig_step(struct rig *rig, uint64_t until_ns)
{
	int ready = loop_step(rig->loop, until_ns);

	if (ready < 0)
		abort();
	ready += (int)door_poll(rig->door);
	rig->opened = (unsigned int)rig_stats(rig).opened;
	rig->died = (unsigned int)rig_stats(rig).died;
	return (unsigned int)ready;
}

/* One turn of rgovd's main loop, which sleeps at most until then. */
static inline unsigned int rig_turn(struct rig *rig, uint64_t until_ns)
{
	unsigned int n = rig_step(rig, until_ns);
	uint64_t now = loop_now_ns();

	if (n == 0 && !door_should_spin(rig->door, now))
		(void)door_prepare_sleep(rig->door, now);
	return n;
}

/* Turns until the condition holds; 10 s without it is a failure. */
#define RIG_UNTIL(rig, condition)                                              \
	do {                                                                   \
		uint64_t give_up_ns = loop_now_ns() + UINT64_C(10000000000);   \
		while (!(condition) && loop_now_ns() < give_up_ns)             \
			(void)rig_turn((rig), loop_now_ns() + 1000000);        \
		CU_ASSERT_FATAL(condition);                                    \
	} while (0)

/* Until rgovd has nothing more to do and would sleep. */
#define RIG_REST(rig)                                                          \
	do {                                                                   \
	} while (rig_turn((rig), 0) > 0)

/* ------------------------------------------------------------ in a thread */

/* The thread that steps a loop creates it: rig and door are the thread's. */
struct rig_thread {
	uint32_t spin_us;
	pthread_t thread;
	struct rig *_Atomic rig;
};

static inline void *rig_serve(void *argument)
{
	struct rig_thread *thread = argument;
	struct rig *rig = rig_start();
	uint64_t until_ns = 0;

	rig->config.spin_us = thread->spin_us;
	rig->config.slots_per_session = 1024;
	door_set_limits(rig->door, 1024, thread->spin_us);
	thread->rig = rig;
	while (!rig->is_stopping) {
		bool is_quiet = rig_step(rig, until_ns) == 0;
		uint64_t now = loop_now_ns();

		if (rig->errand != NULL) {
			rig->errand(rig);
			rig->errand = (void (*)(struct rig *))0;
		}
		until_ns = is_quiet && !door_should_spin(rig->door, now) &&
					   door_prepare_sleep(rig->door, now)
				   ? UINT64_MAX
				   : 0;
	}
	rig_stop(rig);
	return NULL;
}

static struct rig_thread rig_server;

__attribute__((unused)) static struct rig *rig_run(uint32_t spin_us)
{
	rig_server.spin_us = spin_us;
	rig_server.rig = NULL;
	CU_ASSERT_EQUAL_FATAL(pthread_create(&rig_server.thread, NULL,
				      rig_serve, &rig_server),
		0);
	while (rig_server.rig == NULL)
		(void)sched_yield();
	return rig_server.rig;
}

/* Has the rig's thread run this between two turns, and waits for it. */
__attribute__((unused)) static void rig_do(
	struct rig *rig, void (*errand)(struct rig *rig))
{
	rig->errand = errand;
	loop_wake(rig->loop);
	while (rig->errand != NULL)
		(void)sched_yield();
}

__attribute__((unused)) static void rig_end_run(struct rig *rig)
{
	rig->is_stopping = true;
	loop_wake(rig->loop);
	(void)pthread_join(rig_server.thread, NULL);
}

/* ------------------------------------------------------------ leaks */

/* Descriptors that this process has open. */
__attribute__((unused)) static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (dir == NULL)
		abort();
	while (readdir(dir) != NULL)
		n++;
	(void)closedir(dir);
	return n;
}

#endif
