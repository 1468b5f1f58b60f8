/*
 * The whole channel with both ends as threads on one mapping: librgov's threads
 * and a real door in one process, where a second mmap() of the same memfd gives
 * the first one's address.  ThreadSanitizer then sees every word that the two
 * sides share, and whether its order is given by the labels of LAYOUT.md alone:
 * sockets and pipes order nothing here (io_sync=0).
 *
 * Linked with --wrap=mmap,--wrap=munmap.
 */
#include "client-lib/rgov.h"
#include "tests/unit/door_rig.h"

#include <sys/stat.h>

enum { THREADS = 4, HANDLES = 2, ROUNDS = 1200, RESTARTS = 12, FILES = 64 };

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "io_sync=0";
}

/* ------------------------------------------------------------ one mapping */

static struct mapping {
	dev_t device;
	ino_t inode;
	void *base; /* NULL: not in use */
	size_t bytes;
	int users;
} mappings[FILES];
static pthread_mutex_t mappings_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned int shared; /* second mappings that were the first */

void *__real_mmap(
	void *at, size_t bytes, int protection, int flags, int fd, off_t from);
int __real_munmap(void *at, size_t bytes);
void *__wrap_mmap(
	void *at, size_t bytes, int protection, int flags, int fd, off_t from);
int __wrap_munmap(void *at, size_t bytes);

static void *map_new(struct mapping *to, const struct stat *file, size_t bytes,
	int fd, int protection)
{
	/* The other side may want to write. */
	void *base = __real_mmap(
		NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED) /* a read-only descriptor: nobody writes */
		base = __real_mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
	if (base != MAP_FAILED)
		*to = (struct mapping){
			file->st_dev, file->st_ino, base, bytes, 1};
	return base;
}

static void *map_shared(
	const struct stat *file, size_t bytes, int fd, int protection)
{
	struct mapping *unused = NULL;

	for (struct mapping *m = mappings; m < mappings + FILES; m++) {
		if (m->base == NULL) {
			unused = unused ? unused : m;
		} else if (m->device == file->st_dev &&
			   m->inode == file->st_ino && m->bytes == bytes) {
			m->users++;
			shared++;
			return m->base;
		}
	}
	if (unused == NULL)
		abort();
	return map_new(unused, file, bytes, fd, protection);
}

void *__wrap_mmap(
	void *at, size_t bytes, int protection, int flags, int fd, off_t from)
{
	struct stat file;
	void *base;

	if (fd < 0 || flags != MAP_SHARED || from != 0 ||
		fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
		return __real_mmap(at, bytes, protection, flags, fd, from);
	pthread_mutex_lock(&mappings_lock);
	base = map_shared(&file, bytes, fd, protection);
	pthread_mutex_unlock(&mappings_lock);
	return base;
}

int __wrap_munmap(void *at, size_t bytes)
{
	int rc = 0;
	struct mapping *m = mappings;

	pthread_mutex_lock(&mappings_lock);
	while (m < mappings + FILES && m->base != at)
		m++;
	if (m == mappings + FILES || --m->users == 0)
		rc = __real_munmap(at, bytes);
	if (m < mappings + FILES && m->users == 0)
		m->base = NULL;
	pthread_mutex_unlock(&mappings_lock);
	return rc;
}

/* ------------------------------------------------------------ the clients */

struct worker {
	pthread_t thread;
	struct rgov *gov;
	unsigned int number;
	const char *wrong; /* what went wrong first */
};

static struct rig *rig;
static struct rgov *handles[HANDLES];
static struct worker workers[THREADS];

static void expect(struct worker *worker, bool is_so, const char *what)
{
	if (!is_so && worker->wrong == NULL)
		worker->wrong = what;
}

static struct rgov_request request_for(const char *model, const void *body)
{
	return (struct rgov_request){.size = sizeof(struct rgov_request),
		.model_id = model,
		.user = "alice",
		.body = body,
		.body_bytes = body ? strlen(body) : 0,
		.timeout_ms = 60000};
}

static void call(struct worker *worker, const char *model, const char *body)
{
	struct rgov_request request = request_for(model, body);
	struct rgov_reply reply = {.size = sizeof(reply)};
	int rc = rgov_call(worker->gov, &request, &reply);

	expect(worker, rc == 0 && reply.result == RGOV_R_OK, "a call");
	if (strcmp(model, "echo") == 0)
		expect(worker,
			reply.body_bytes == strlen(body) &&
				memcmp(reply.body, body, strlen(body)) == 0,
			"the body of an echo");
	rgov_reply_fini(&reply);
}

/* In the middle it may be asked for, and looked at. */
static void cancel(struct worker *worker, const char *model, uint32_t flags)
{
	struct rgov_request request = request_for(model, "{}");
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_ticket ticket;
	int rc;

	request.flags = flags;
	if (rgov_submit(worker->gov, &request, &ticket) != 0) {
		expect(worker, false, "a submit");
		return;
	}
	rc = rgov_wait(worker->gov, &ticket, 0, &reply);
	expect(worker, rc == -EAGAIN, "a look at what is held");
	if ((flags & RGOV_RING) != 0)
		(void)rgov_dispatch(worker->gov);
	expect(worker, rgov_cancel(worker->gov, &ticket) == 0, "a cancel");
	rc = rgov_wait(worker->gov, &ticket, UINT64_MAX, &reply);
	expect(worker, rc == 0 && reply.result == RGOV_R_CANCELLED,
		"the end of what was cancelled");
	rgov_reply_fini(&reply);
}

static void give_up(struct worker *worker)
{
	struct rgov_request request = request_for("hold", "{}");
	struct rgov_ticket ticket;

	if (rgov_submit(worker->gov, &request, &ticket) == 0)
		rgov_abandon(worker->gov, &ticket);
	else
		expect(worker, false, "a submit to give up");
}

static void hold_permit(struct worker *worker)
{
	struct rgov_request request = request_for("permit", NULL);
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_ticket ticket;
	int rc = rgov_permit(worker->gov, &request, &ticket, &reply);

	expect(worker, rc == 0 && reply.result == RGOV_R_OK, "a permit");
	if (rc == 0)
		expect(worker,
			rgov_settle(worker->gov, &ticket, RGOV_SETTLE_OK, 3,
				4) == 0,
			"a settlement");
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		switch ((round + worker->number) % 8) {
		case 0:
			cancel(worker, "hold", 0);
			break;
		case 1:
			hold_permit(worker);
			break;
		case 2:
			call(worker, "bytes:300000", "{}");
			break;
		case 3:
			give_up(worker);
			break;
		case 4:
			cancel(worker, "issue", RGOV_RING);
			break;
		default:
			call(worker, "echo", "some body");
			break;
		}
	}
	return NULL;
}

/* ------------------------------------------------------------ the tests */

static void open_handles(void)
{
	for (int i = 0; i < HANDLES; i++) {
		struct rgov_options options = {.size = sizeof(options),
			.socket_path = rig->path,
			.app = "one mapping",
			.slots = 16,
			.connect_timeout_ms = 10000};

		CU_ASSERT_EQUAL_FATAL(rgov_open(&options, &handles[i]), 0);
	}
}

static void start_workers(void)
{
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.gov = handles[i % HANDLES], .number = i};
		CU_ASSERT_EQUAL_FATAL(pthread_create(&workers[i].thread, NULL,
					      work, &workers[i]),
			0);
	}
}

static void join_workers(void)
{
	for (int i = 0; i < THREADS; i++) {
		(void)pthread_join(workers[i].thread, NULL);
		CU_ASSERT_PTR_NULL(workers[i].wrong);
		if (workers[i].wrong != NULL)
			printf("     %s went wrong\n", workers[i].wrong);
	}
}

static void stop(void)
{
	for (int i = 0; i < HANDLES; i++)
		rgov_close(handles[i]);
	rig_end_run(rig);
}

static uint64_t found_by_slice(void)
{
	uint64_t sum = 0;

	for (int i = 0; i < HANDLES; i++) {
		struct rgov_diagnostics found = {.size = sizeof(found)};

		CU_ASSERT_EQUAL(rgov_diagnose(handles[i], &found), 0);
		sum += found.found_by_slice;
	}
	return sum;
}

/* Submit, wait, cancel, give up, permit, settle and acknowledge from several
 * threads of two sessions, with rgovd asleep between them and spinning: no
 * word of the two sides is read unordered. */
static void both_ends_agree(uint32_t spin_us)
{
	unsigned int before = shared;

	rig = rig_run(spin_us);
	open_handles();
	start_workers();
	join_workers();
	CU_ASSERT_EQUAL(found_by_slice(), 0);
	/* Two control files for each session, at least. */
	CU_ASSERT(shared - before >= 2 * HANDLES);
	stop();
}

static void asleep(void)
{
	both_ends_agree(0);
}

static void spinning(void)
{
	both_ends_agree(20);
}

/* The same while one rgovd follows the other: recovery reads what the clients
 * are writing. */
static void across_restarts(void)
{
	rig = rig_run(20);
	open_handles();
	start_workers();
	for (unsigned int i = 0; i < RESTARTS; i++) {
		unsigned int seen = rig->submitted;

		rig_do(rig, rig_restart);
		/* Some work in between; not all may be left. */
		for (int look = 0; look < 1000 && rig->submitted < seen + 50;
			look++)
			(void)usleep(1000);
	}
	join_workers();
	stop();
}

SUITE("one_mapping", T(asleep), T(spinning), T(across_restarts))
