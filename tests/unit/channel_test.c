/*
 * The channel from end to end in one process: librgov in the test's threads, a
 * real door in another.
 */
#include "client-lib/handle.h"
#include "client-lib/rgov.h"
#include "coordinator/door/inside.h"
#include "shm-layout/shm_check.h"
#include "tests/unit/door_rig.h"

#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct rig *rig;
static struct rgov *gov;

static struct rgov *open_handle(uint32_t slots)
{
	struct rgov_options options = {.size = sizeof(options),
		.socket_path = rig->path,
		.app = "channel",
		.slots = slots,
		.connect_timeout_ms = 10000};
	struct rgov *handle = NULL;

	CU_ASSERT_EQUAL_FATAL(rgov_open(&options, &handle), 0);
	return handle;
}

static void start(uint32_t slots, uint32_t spin_us)
{
	rig = rig_run(spin_us);
	gov = open_handle(slots);
}

static void report(void *owner, unsigned int invariant, const char *text)
{
	(void)owner;
	printf("     invariant %u: %s\n", invariant, text);
}

/* What holds at every moment of a session, also in the middle of a test. */
static void check_session(void)
{
	struct shm_check check = {.found = report, .head = UINT64_MAX};
	const struct session *session = gov->session;

	if (session == NULL)
		return;
	CU_ASSERT_EQUAL(
		shm_check_session(&check, session->client,
			session->client_shape.total_bytes, session->daemon,
			session->daemon_shape.total_bytes),
		0);
}

static void stop(void)
{
	check_session();
	rgov_close(gov);
	rig_end_run(rig);
}

static struct rgov_request request_for(
	const char *model, const void *body, size_t n)
{
	return (struct rgov_request){.size = sizeof(struct rgov_request),
		.operation = RGOV_INVOKE_MODEL,
		.priority = RGOV_NORMAL,
		.model_id = model,
		.user = "alice",
		.body = body,
		.body_bytes = n,
		.timeout_ms = 60000};
}

static struct rgov_ticket submit(const char *model)
{
	struct rgov_request request = request_for(model, "{}", 2);
	struct rgov_ticket ticket = {0};

	CU_ASSERT_EQUAL_FATAL(rgov_submit(gov, &request, &ticket), 0);
	return ticket;
}

static struct rgov_reply empty_reply(void)
{
	return (struct rgov_reply){.size = sizeof(struct rgov_reply)};
}

/* Waits for the end, which must come with that result. */
static void assert_ends(
	const struct rgov_ticket *ticket, enum rgov_result result)
{
	struct rgov_reply reply = empty_reply();

	CU_ASSERT_EQUAL_FATAL(rgov_wait(gov, ticket, UINT64_MAX, &reply), 0);
	CU_ASSERT_EQUAL(reply.result, result);
	rgov_reply_fini(&reply);
}

static void wait_for(_Atomic unsigned int *counter, unsigned int least)
{
	while (*counter < least)
		(void)sched_yield();
}

static struct rgov_diagnostics diagnose(void)
{
	struct rgov_diagnostics found = {.size = sizeof(found)};

	CU_ASSERT_EQUAL(rgov_diagnose(gov, &found), 0);
	return found;
}

/* ------------------------------------------------------------ bodies */

static void bodies_come_back_as_they_were(void)
{
	/* A body of any size, page borders and the largest included, arrives
	 * whole, and so does its reply. */
	static const size_t sizes[] = {0, 1, 2, 4095, 4096, 4097, 65536,
		256 * 1024, 256 * 1024 + 1, 25000000};
	char *body = malloc(25000001);

	CU_ASSERT_PTR_NOT_NULL_FATAL(body);
	for (size_t i = 0; i < 25000001; i++)
		body[i] = (char)(i * 31 + i / 4096);
	start(4, 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rgov_request request = request_for(
			"echo", body + i, sizes[i] - (sizes[i] > i ? i : 0));
		struct rgov_reply reply = empty_reply();

		CU_ASSERT_EQUAL_FATAL(rgov_call(gov, &request, &reply), 0);
		CU_ASSERT_EQUAL(reply.result, RGOV_R_OK);
		CU_ASSERT_EQUAL_FATAL(reply.body_bytes, request.body_bytes);
		CU_ASSERT(request.body_bytes == 0 ||
			  memcmp(reply.body, body + i, reply.body_bytes) == 0);
		CU_ASSERT_EQUAL(reply.input_tokens, 7);
		CU_ASSERT_EQUAL(reply.output_tokens, -1);
		rgov_reply_fini(&reply);
	}
	struct rgov_request request = request_for("echo", body, 25000000);
	struct rgov_reply reply = empty_reply();
	CU_ASSERT_EQUAL_FATAL(rgov_call(gov, &request, &reply), 0);
	CU_ASSERT_EQUAL_FATAL(reply.body_bytes, 25000000);
	CU_ASSERT_EQUAL(memcmp(reply.body, body, 25000000), 0);
	rgov_reply_fini(&reply);
	request.body_bytes++;
	CU_ASSERT_EQUAL(rgov_call(gov, &request, &reply), -EMSGSIZE);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
	free(body);
}

static void a_reply_above_the_region_is_said_to_be(void)
{
	/* The largest reply is the region; one byte more is an answer, too. */
	struct rgov_ticket ticket;
	struct rgov_reply reply = empty_reply();

	start(2, 0);
	ticket = submit("bytes:25165824");
	CU_ASSERT_EQUAL_FATAL(rgov_wait(gov, &ticket, UINT64_MAX, &reply), 0);
	CU_ASSERT_EQUAL(reply.body_bytes, SHM_BODY_REGION);
	CU_ASSERT_EQUAL(((char *)reply.body)[SHM_BODY_REGION - 1], 'r');
	rgov_reply_fini(&reply);
	ticket = submit("bytes:25165825");
	CU_ASSERT_EQUAL_FATAL(rgov_wait(gov, &ticket, UINT64_MAX, &reply), 0);
	CU_ASSERT_EQUAL(reply.result, RGOV_R_REPLY_TOO_LARGE);
	CU_ASSERT_EQUAL(reply.body_bytes, 0);
	CU_ASSERT_EQUAL(reply.input_tokens, 7);
	rgov_reply_fini(&reply);
	stop();
}

static int64_t blocks_of(int fd)
{
	struct stat file;

	return fstat(fd, &file) == 0 ? file.st_blocks : -1;
}

static void claim_a_huge_reply(struct rig *of)
{
	session_daemon_slot(of->door->sessions, 0)->body_bytes = UINT32_MAX;
}

static void a_reply_beyond_its_region_is_none(void)
{
	/* What rgovd says of a reply's size is not believed above the region:
	 * nothing is allocated for it, and the slot goes on. */
	struct rgov_reply reply = empty_reply();
	struct rgov_ticket ticket;

	start(1, 0);
	ticket = submit("x");
	while (!session_has_answer(gov->session, 0, ticket.generation))
		(void)sched_yield();
	rig_do(rig, claim_a_huge_reply);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, UINT64_MAX, &reply), -EIO);
	CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), "expected at most 25165824"));
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	ticket = submit("x");
	assert_ends(&ticket, RGOV_R_OK);
	stop();
}

static void large_pages_go_back(void)
{
	/* The memory of large bodies and replies is given back, also when the
	 * request was abandoned. */
	char *body = calloc(1, 1000000);
	struct rgov_request request = request_for("echo", body, 1000000);

	start(4, 0);
	for (int abandoned = 0; abandoned < 2; abandoned++) {
		struct rgov_reply reply = empty_reply();
		struct rgov_ticket ticket, hold;
		int *fds;

		CU_ASSERT_EQUAL_FATAL(rgov_submit(gov, &request, &ticket), 0);
		fds = gov->session->fds;
		if (abandoned) {
			hold = submit("hold"); /* the one before it has ended */
			wait_for(&rig->recovered[SHM_DONE], 5);
			rgov_abandon(gov, &ticket);
			rgov_abandon(gov, &hold);
			wait_for(&rig->cancelled, 1);
		} else {
			CU_ASSERT_EQUAL(
				rgov_wait(gov, &ticket, UINT64_MAX, &reply), 0);
			CU_ASSERT_EQUAL(reply.body_bytes, 1000000);
			rgov_reply_fini(&reply);
		}
		/* A later request on each slot finds the pages gone. */
		for (int i = 0; i < 2; i++) {
			ticket = submit("x");
			assert_ends(&ticket, RGOV_R_OK);
		}
		CU_ASSERT(blocks_of(fds[WIRE_FD_CLIENT_BODIES]) <= 16);
		while (blocks_of(fds[WIRE_FD_DAEMON_BODIES]) != 0)
			(void)sched_yield();
	}
	stop();
	free(body);
}

/* ------------------------------------------------------------ permits */

enum { THREADS = 8, PERMITS = 10000 };

static void *take_permits(void *argument)
{
	struct rgov_request request = request_for("m", NULL, 0);
	unsigned int *failures = argument;

	for (int i = 0; i < PERMITS / THREADS; i++) {
		struct rgov_reply reply = empty_reply();
		struct rgov_ticket ticket;
		int rc = rgov_permit(gov, &request, &ticket, &reply);

		if (rc != 0 || reply.result != RGOV_R_OK ||
			rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 2) != 0)
			++*failures;
		rgov_reply_fini(&reply);
	}
	return NULL;
}

static void permits_from_threads(uint32_t spin_us)
{
	pthread_t threads[THREADS];
	unsigned int failures[THREADS] = {0};

	start(THREADS, spin_us);
	for (int i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL,
					      take_permits, &failures[i]),
			0);
	for (int i = 0; i < THREADS; i++) {
		(void)pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(failures[i], 0);
	}
	wait_for(&rig->settled, PERMITS);
	CU_ASSERT_EQUAL(rig->submitted, PERMITS);
	CU_ASSERT_EQUAL(rig->settled, PERMITS);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	/* No answer was found by a look at the clock instead of a wake-up. */
	CU_ASSERT_EQUAL(diagnose().found_by_slice, 0);
	stop();
}

static void ten_thousand_permits_asleep(void)
{
	/* From eight threads, all slots in use: each is granted and settled
	 * once, and no wake-up is lost. */
	permits_from_threads(0);
}

static void ten_thousand_permits_spinning(void)
{
	/* The same while both sides may spin. */
	permits_from_threads(20);
}

/* What stood in memory when a store met a page that may not be written. */
static struct {
	void *page;
	size_t bytes;
	uint64_t tail;
	uint32_t word;
	int faults;
} caught;

static void on_fault(int number)
{
	const struct session *session = gov->session;

	(void)number;
	caught.faults++;
	caught.tail = load_relaxed(session->client->tail);
	caught.word = load_relaxed(session->client_slots[0].word);
	if (mprotect(caught.page, caught.bytes, PROT_READ | PROT_WRITE) != 0)
		abort();
}

static void a_submit_stores_in_order(void)
{
	/* The slot's word, then the ring entry, then the tail: at the moment of
	 * the entry's store the word is there and the tail is not. */
	struct sigaction action = {.sa_handler = on_fault}, before;
	struct rgov_ticket ticket;
	uint64_t tail;

	start(1, 0);
	ticket = submit("x");
	assert_ends(&ticket, RGOV_R_OK);
	tail = gov->session->tail;
	caught.page = gov->session->ring;
	caught.bytes = SHM_PAGE;
	caught.faults = 0;
	CU_ASSERT_EQUAL_FATAL(sigaction(SIGSEGV, &action, &before), 0);
	CU_ASSERT_EQUAL_FATAL(
		mprotect(caught.page, caught.bytes, PROT_READ), 0);
	ticket = submit("x");
	CU_ASSERT_EQUAL(sigaction(SIGSEGV, &before, NULL), 0);
	CU_ASSERT_EQUAL(caught.faults, 1);
	CU_ASSERT_EQUAL(caught.tail, tail);
	CU_ASSERT_EQUAL(caught.word, shm_word(ticket.generation, SHM_SUBMIT));
	/* Where the order is another, the entry is lost: ring once more. */
	CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
	{
		struct rgov_reply reply = empty_reply();

		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, UINT64_MAX, &reply), 0);
		rgov_reply_fini(&reply);
	}
	stop();
}

static void settling_twice_is_stale(void)
{
	/* A permit is given back once; what is told of it arrives. */
	struct rgov_request request = request_for("m", NULL, 0);
	struct rgov_reply reply = empty_reply();
	struct rgov_ticket ticket;

	start(1, 0);
	CU_ASSERT_EQUAL_FATAL(rgov_permit(gov, &request, &ticket, &reply), 0);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 0, &reply), -ESTALE);
	CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), -ESTALE);
	CU_ASSERT_EQUAL(
		rgov_settle(gov, &ticket, RGOV_SETTLE_THROTTLED, 11, -1), 0);
	CU_ASSERT_EQUAL(
		rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 1), -ESTALE);
	wait_for(&rig->settled, 1);
	CU_ASSERT_TRUE(rig->settlement.is_known);
	CU_ASSERT_EQUAL(rig->settlement.how, SHM_SETTLED_THROTTLED);
	CU_ASSERT_EQUAL(rig->settlement.input_tokens, 11);
	CU_ASSERT_EQUAL(rig->settlement.output_tokens, -1);
	/* Abandoned, it is given back as unused. */
	CU_ASSERT_EQUAL_FATAL(rgov_permit(gov, &request, &ticket, &reply), 0);
	rgov_abandon(gov, &ticket);
	wait_for(&rig->settled, 2);
	CU_ASSERT_EQUAL(rig->settlement.how, SHM_SETTLED_UNUSED);
	CU_ASSERT_EQUAL(
		rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 1), -ESTALE);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

static void a_cancelled_permit_is_not_held(void)
{
	/* Where the grant came before the cancel, the caller learns that it was
	 * cancelled, and rgovd has the permit back, unused. */
	struct rgov_request request = request_for("m", NULL, 0);
	struct rgov_ticket ticket;

	start(1, 0);
	CU_ASSERT_EQUAL_FATAL(rgov_submit_permit(gov, &request, &ticket), 0);
	while (load_acquire(gov->session->daemon_slots[ticket.slot].word) !=
		shm_word(ticket.generation, SHM_GRANTED))
		(void)sched_yield();
	CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
	assert_ends(&ticket, RGOV_R_CANCELLED);
	wait_for(&rig->settled, 1);
	CU_ASSERT_EQUAL(rig->settlement.how, SHM_SETTLED_UNUSED);
	CU_ASSERT_EQUAL(
		rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 1), -ESTALE);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

/* ------------------------------------------------------------ giving up */

static void cancel_in_each_state(void)
{
	/* Before rgovd looked, queued, sent, its body being read, and answered:
	 * the end comes in each, once. */
	static const char *const models[] = {"hold", "issue", "intake"};
	struct rgov_ticket ticket;
	struct rgov_reply reply = empty_reply();

	start(1, 0);
	for (unsigned int i = 0; i < 3; i++) {
		ticket = submit(models[i]);
		wait_for(&rig->submitted, i + 1);
		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 0, &reply), -EAGAIN);
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
		assert_ends(&ticket, RGOV_R_CANCELLED);
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), -ESTALE);
		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 0, &reply), -ESTALE);
	}
	CU_ASSERT_EQUAL(rig->cancelled, 3);
	ticket = submit("x");
	while (rgov_wait(gov, &ticket, 0, &reply) == -EAGAIN)
		(void)sched_yield();
	CU_ASSERT_EQUAL(reply.result, RGOV_R_OK);
	/* Early: mostly before rgovd has looked at all. */
	for (int i = 0; i < 1000; i++) {
		ticket = submit("hold");
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
		assert_ends(&ticket, RGOV_R_CANCELLED);
	}
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

static void abandoned_slots_come_back(void)
{
	/* Nobody waits, and still no slot is lost. */
	struct rgov_reply reply = empty_reply();
	struct rgov_request request = request_for("hold", "{}", 2);
	struct rgov_ticket ticket;

	start(4, 0);
	for (int i = 0; i < 200; i++) {
		while (rgov_submit(gov, &request, &ticket) == -EAGAIN)
			(void)sched_yield();
		rgov_abandon(gov, &ticket);
		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 0, &reply), -ESTALE);
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), -ESTALE);
		rgov_abandon(gov, &ticket);
	}
	for (int i = 0; i < 4; i++)
		while (rgov_submit(gov, &request, &ticket) == -EAGAIN)
			(void)sched_yield();
	CU_ASSERT_EQUAL(rgov_submit(gov, &request, &ticket), -EAGAIN);
	stop();
}

struct race {
	struct rgov_ticket ticket;
	pthread_barrier_t start;
	bool is_last;
	int ended[2]; /* waits that returned the end */
};

static void *race_wait(void *argument)
{
	struct race *race = argument;

	for (;;) {
		struct rgov_reply reply = empty_reply();

		(void)pthread_barrier_wait(&race->start);
		if (race->is_last)
			return NULL;
		race->ended[0] +=
			rgov_wait(gov, &race->ticket, UINT64_MAX, &reply) == 0;
		rgov_reply_fini(&reply);
		(void)pthread_barrier_wait(&race->start);
	}
}

static void one_of_two_waiters_gets_the_end(void)
{
	/* Two threads wait for one ticket, and a third submits meanwhile: one
	 * gets the reply, the other -ESTALE, and no slot is given out twice. */
	struct race race = {.is_last = false};
	struct rgov_ticket other;
	pthread_t thread;
	int before = 0;

	start(2, 0);
	(void)pthread_barrier_init(&race.start, NULL, 2);
	(void)pthread_create(&thread, NULL, race_wait, &race);
	for (int i = 0; i < 2000; i++) {
		struct rgov_reply reply = empty_reply();

		race.ticket = submit("x");
		(void)pthread_barrier_wait(&race.start);
		race.ended[1] +=
			rgov_wait(gov, &race.ticket, UINT64_MAX, &reply) == 0;
		rgov_reply_fini(&reply);
		other = submit("x");
		assert_ends(&other, RGOV_R_OK);
		(void)pthread_barrier_wait(&race.start);
		CU_ASSERT_EQUAL_FATAL(
			race.ended[0] + race.ended[1], before + 1);
		before++;
		CU_ASSERT_EQUAL_FATAL(diagnose().slots_taken, 0);
	}
	race.is_last = true;
	(void)pthread_barrier_wait(&race.start);
	(void)pthread_join(thread, NULL);
	(void)pthread_barrier_destroy(&race.start);
	stop();
}

static void a_race_of_wait_and_abandon(void)
{
	/* The same with a thread that gives the ticket up while another waits
	 * for it. */
	struct race race = {.is_last = false};
	pthread_t thread;

	start(2, 0);
	(void)pthread_barrier_init(&race.start, NULL, 2);
	(void)pthread_create(&thread, NULL, race_wait, &race);
	for (int i = 0; i < 2000; i++) {
		struct rgov_ticket other;

		race.ticket = submit("x");
		(void)pthread_barrier_wait(&race.start);
		rgov_abandon(gov, &race.ticket);
		other = submit("x");
		assert_ends(&other, RGOV_R_OK);
		(void)pthread_barrier_wait(&race.start);
	}
	race.is_last = true;
	(void)pthread_barrier_wait(&race.start);
	(void)pthread_join(thread, NULL);
	(void)pthread_barrier_destroy(&race.start);
	{
		struct rgov_ticket all[2] = {submit("x"), submit("x")};

		CU_ASSERT_NOT_EQUAL(all[0].slot, all[1].slot);
		assert_ends(&all[0], RGOV_R_OK);
		assert_ends(&all[1], RGOV_R_OK);
	}
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

static void *wait_cancelled(void *argument)
{
	assert_ends(argument, RGOV_R_CANCELLED);
	return NULL;
}

static void one_waiter_gives_up_the_other_is_woken(void)
{
	/* Two threads sleep on one ticket; the one whose time is up first must
	 * not take the other's wake-up along. */
	start(2, 0);
	for (int i = 0; i < 5; i++) {
		struct rgov_ticket ticket = submit("hold");
		uint64_t sleeps = diagnose().sleeps;
		struct rgov_reply reply = empty_reply();
		pthread_t thread;

		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&thread, NULL, wait_cancelled, &ticket),
			0);
		while (diagnose().sleeps == sleeps)
			(void)sched_yield();
		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 5, &reply), -EAGAIN);
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
		CU_ASSERT_EQUAL(pthread_join(thread, NULL), 0);
	}
	CU_ASSERT_EQUAL(diagnose().found_by_slice, 0);
	stop();
}

static void closing_with_requests_out(void)
{
	/* rgovd is told of each that is dropped, and nothing stays open. */
	struct rgov_request permit = request_for("m", NULL, 0);
	struct rgov_reply reply = empty_reply();
	struct rgov_ticket ticket;
	int before;

	start(8, 0);
	ticket = submit("x");
	assert_ends(&ticket, RGOV_R_OK);
	rgov_close(gov);
	while (rig->died == 0)
		(void)sched_yield();
	before = open_descriptors();
	gov = open_handle(8);
	for (unsigned int i = 0; i < 5; i++)
		(void)submit("hold");
	CU_ASSERT_EQUAL(rgov_permit(gov, &permit, &ticket, &reply), 0);
	wait_for(&rig->submitted, 7);
	rgov_close(gov);
	wait_for(&rig->orphaned, 6);
	/* What the first session had may have been on its way out before. */
	while (open_descriptors() > before)
		(void)sched_yield();
	gov = open_handle(1);
	stop();
}

/* ------------------------------------------------------------ event loops */

static bool becomes_readable(int fd)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};

	return poll(&ready, 1, 10000) == 1;
}

static void a_bell_rings_where_asked_for(void)
{
	/* With RGOV_RING the descriptor tells of the end, without it does not;
	 * dispatch drains it. */
	struct rgov_request request = request_for("x", "{}", 2);
	struct rgov_ticket ticket;
	int fd;

	start(4, 0);
	CU_ASSERT_EQUAL(rgov_fd(gov), -ENOTCONN);
	CU_ASSERT_EQUAL(rgov_dispatch(gov), -ENOTCONN);
	ticket = submit("x");
	fd = rgov_fd(gov);
	CU_ASSERT_FATAL(fd >= 0);
	assert_ends(&ticket, RGOV_R_OK);
	request.flags = RGOV_RING;
	for (int i = 0; i < 100; i++) {
		struct rgov_reply reply = empty_reply();
		int rc;

		CU_ASSERT_EQUAL(rgov_submit(gov, &request, &ticket), 0);
		do {
			CU_ASSERT_FATAL(becomes_readable(fd));
			CU_ASSERT_EQUAL(rgov_dispatch(gov), 0);
			rc = rgov_wait(gov, &ticket, 0, &reply);
		} while (rc == -EAGAIN);
		CU_ASSERT_EQUAL(rc, 0);
		rgov_reply_fini(&reply);
	}
	struct pollfd quiet = {.fd = fd, .events = POLLIN};
	CU_ASSERT_EQUAL(poll(&quiet, 1, 0), 0);
	stop();
}

static void an_event_loop_survives_a_restart(void)
{
	/* The descriptor becomes readable, dispatch says that there is a new
	 * one, and the requests that were out end. */
	struct rgov_request request = request_for("hold", "{}", 2);
	struct rgov_reply reply = empty_reply();
	struct rgov_ticket ticket;
	int fd, rc;

	start(4, 0);
	request.flags = RGOV_RING;
	CU_ASSERT_EQUAL(rgov_submit(gov, &request, &ticket), 0);
	fd = rgov_fd(gov);
	wait_for(&rig->submitted, 1);
	rig_do(rig, rig_restart);
	CU_ASSERT_FATAL(becomes_readable(fd));
	while ((rc = rgov_dispatch(gov)) < 0)
		(void)sched_yield();
	CU_ASSERT_EQUAL(rc, 1);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 0, &reply), -EAGAIN);
	fd = rgov_fd(gov);
	CU_ASSERT_EQUAL(rgov_dispatch(gov), 0);
	CU_ASSERT_EQUAL(rig->recovered[SHM_ACCEPTED], 1);
	CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
	CU_ASSERT_FATAL(becomes_readable(fd));
	assert_ends(&ticket, RGOV_R_CANCELLED);
	CU_ASSERT_EQUAL(diagnose().reconnects, 1);
	stop();
}

static void an_unheard_bell_hides_no_restart(void)
{
	/* A bell that nobody took still lies in the socket when rgovd goes:
	 * who waits without an event loop finds out as soon as ever. */
	struct rgov_request request = request_for("x", "{}", 2);
	struct rgov_reply reply = empty_reply();
	struct rgov_ticket ticket;

	start(4, 0);
	request.flags = RGOV_RING;
	CU_ASSERT_EQUAL(rgov_submit(gov, &request, &ticket), 0);
	assert_ends(&ticket, RGOV_R_OK);
	CU_ASSERT_FATAL(becomes_readable(rgov_fd(gov)));
	ticket = submit("hold");
	wait_for(&rig->submitted, 2);
	rig_do(rig, rig_restart);
	for (int look = 0; look < 20 && diagnose().reconnects == 0; look++)
		CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 300, &reply), -EAGAIN);
	CU_ASSERT_EQUAL(diagnose().reconnects, 1);
	CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
	assert_ends(&ticket, RGOV_R_CANCELLED);
	stop();
}

/* ------------------------------------------------------------ restarts */

static void *call_for_ever(void *argument)
{
	struct rgov_request request = request_for("echo", "{\"a\": 1}", 8);
	_Atomic bool *stop_it = argument;
	unsigned long failures = 0;

	while (!*stop_it) {
		struct rgov_reply reply = empty_reply();

		if (rgov_call(gov, &request, &reply) != 0 ||
			reply.result != RGOV_R_OK || reply.body_bytes != 8 ||
			memcmp(reply.body, "{\"a\": 1}", 8) != 0)
			failures++;
		rgov_reply_fini(&reply);
	}
	return (void *)failures;
}

static void calls_go_on_over_restarts(void)
{
	/* Eight threads call while rgovd is replaced again and again: every
	 * call ends with its own reply, through the same sleeping futexes. */
	_Atomic bool stop_it = false;
	pthread_t threads[THREADS];
	void *failures;

	start(THREADS, 0);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_create(
			&threads[i], NULL, call_for_ever, &stop_it);
	wait_for(&rig->submitted, THREADS);
	for (unsigned int i = 1; i <= 10; i++) {
		rig_do(rig, rig_restart);
		wait_for(&rig->reattached, i);
	}
	stop_it = true;
	for (int i = 0; i < THREADS; i++) {
		(void)pthread_join(threads[i], &failures);
		CU_ASSERT_EQUAL((unsigned long)failures, 0);
	}
	CU_ASSERT_EQUAL(load_relaxed(gov->session->daemon->epoch), 11);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

/* ------------------------------------------------------------ forks */

static void a_child_registers_anew(void)
{
	/* After a fork in the middle the child has a session of its own, does
	 * not know the parent's tickets, and the parent's request ends for the
	 * parent. */
	struct rgov_ticket ticket, held;
	struct rgov_reply reply = empty_reply();
	int status = -1;
	pid_t child;

	start(4, 0);
	ticket = submit("x");
	held = submit("hold");
	wait_for(&rig->submitted, 2);
	child = fork();
	if (child == 0) {
		struct rgov_request request = request_for("echo", "{}", 2);
		bool is_stale = rgov_wait(gov, &held, 0, &reply) == -ESTALE &&
				rgov_cancel(gov, &held) == -ESTALE;
		bool is_served = rgov_call(gov, &request, &reply) == 0 &&
				 reply.result == RGOV_R_OK &&
				 reply.body_bytes == 2;

		rgov_reply_fini(&reply);
		rgov_close(gov);
		_exit((is_stale ? 0 : 1) + (is_served ? 0 : 2));
	}
	(void)waitpid(child, &status, 0);
	CU_ASSERT_EQUAL(status, 0);
	while (rig->died < 1)
		(void)sched_yield();
	CU_ASSERT_EQUAL(rig->opened, 2);
	CU_ASSERT_EQUAL(rig->orphaned, 0);
	assert_ends(&ticket, RGOV_R_OK);
	CU_ASSERT_EQUAL(rgov_cancel(gov, &held), 0);
	assert_ends(&held, RGOV_R_CANCELLED);
	CU_ASSERT_EQUAL(diagnose().reconnects, 0);
	stop();
}

/* ------------------------------------------------------------ the wrap */

/* As if slot 0 had been used that often: at rest, both sides agree. */
static void age_slot(struct rig *of)
{
	struct door_session *session = of->door->sessions;
	uint32_t generation = SHM_GENERATION_MASK - 10;

	gov->session->slots[0].generation = generation;
	session->slots[0].generation = generation;
	store_release(gov->session->client_slots[0].word,
		shm_word(generation, SHM_SUBMIT));
	store_release(session_daemon_slot(session, 0)->word,
		shm_word(generation, SHM_DONE));
}

static void generations_wrap(void)
{
	/* Over 2^24 and on, with calls, cancels, permits and large replies. */
	struct rgov_request permit = request_for("m", NULL, 0);
	struct rgov_ticket ticket;

	start(1, 0);
	ticket = submit("x");
	assert_ends(&ticket, RGOV_R_OK);
	rig_do(rig, age_slot);
	for (int i = 0; i < 10; i++) {
		struct rgov_reply reply = empty_reply();

		ticket = submit("x");
		assert_ends(&ticket, RGOV_R_OK);
		ticket = submit("hold");
		CU_ASSERT_EQUAL(rgov_cancel(gov, &ticket), 0);
		assert_ends(&ticket, RGOV_R_CANCELLED);
		CU_ASSERT_EQUAL(rgov_permit(gov, &permit, &ticket, &reply), 0);
		CU_ASSERT_EQUAL(
			rgov_settle(gov, &ticket, RGOV_SETTLE_OK, 1, 1), 0);
		ticket = submit("bytes:300000");
		assert_ends(&ticket, RGOV_R_OK);
	}
	CU_ASSERT_EQUAL(ticket.generation, 29);
	CU_ASSERT_EQUAL(diagnose().slots_taken, 0);
	stop();
}

/* ------------------------------------------------------------ absence */

static void nobody_there_is_said_in_time(void)
{
	/* Without rgovd: an error within the connect time-out, that names the
	 * socket. */
	struct rgov_options options = {.size = sizeof(options),
		.socket_path = "/tmp/rgov-nobody/here.sock",
		.connect_timeout_ms = 50};
	struct rgov_request request = request_for("x", "{}", 2);
	struct rgov_reply reply = empty_reply();
	uint64_t began_ns = loop_now_ns();

	CU_ASSERT_EQUAL_FATAL(rgov_open(&options, &gov), 0);
	CU_ASSERT_EQUAL(rgov_call(gov, &request, &reply), -ECONNREFUSED);
	CU_ASSERT(loop_now_ns() - began_ns >= 50000000);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(rgov_why(), "/tmp/rgov-nobody/here.sock"));
	rgov_close(gov);
}

static void who_may_not_connect_is_told(void)
{
	/* -EACCES at once, in rgovd's words, not a time-out. */
	struct rgov_request request = request_for("x", "{}", 2);
	struct rgov_reply reply = empty_reply();

	start(1, 0);
	rig->lets_in = false;
	for (int i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL(rgov_call(gov, &request, &reply), -EACCES);
		CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), "allow_uids"));
	}
	stop();
}

SUITE("channel", T(bodies_come_back_as_they_were),
	T(a_reply_above_the_region_is_said_to_be),
	T(a_reply_beyond_its_region_is_none), T(large_pages_go_back),
	T(ten_thousand_permits_asleep), T(ten_thousand_permits_spinning),
	T(a_submit_stores_in_order), T(settling_twice_is_stale),
	T(a_cancelled_permit_is_not_held), T(cancel_in_each_state),
	T(abandoned_slots_come_back), T(one_of_two_waiters_gets_the_end),
	T(a_race_of_wait_and_abandon),
	T(one_waiter_gives_up_the_other_is_woken), T(closing_with_requests_out),
	T(a_bell_rings_where_asked_for), T(an_event_loop_survives_a_restart),
	T(an_unheard_bell_hides_no_restart), T(calls_go_on_over_restarts),
	T(a_child_registers_anew), T(generations_wrap),
	T(nobody_there_is_said_in_time), T(who_may_not_connect_is_told))
