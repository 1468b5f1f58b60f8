/*
 * A client for storms and soaks: threads that ask for one thing after another,
 * in every way the library has, until SIGTERM or until somebody kills it.  It
 * forks and execs while requests are out.  It judges nothing; storm_judge.py
 * does, from what is written here before and after each request.
 *
 * usage: storm_client FIRST SEED THREADS [OPS]
 *
 * FIRST: its requests are numbered from there.  OPS: the letters of what may
 * be done, by default all; see OPERATIONS.
 *
 * Output, each line one write to a file opened with O_APPEND:
 *   P pid parent                     a process begins; its own lines follow
 *   B pid id op timeout_ms bytes now_ns      a request is about to be handed in
 *   E pid id rc elapsed_ms digest result     and this is its end
 *   X pid                            it is about to exec: what is out is lost
 *   Q pid sleeps found_by_slice reconnects slots_taken     it ended well
 *
 * The body of request N is {"max_tokens":5,"id":N,"pad":"xx...x"}, of `bytes`
 * bytes; that of a permit is empty.
 */
#include "client-lib/rgov.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	THREADS_MAX = 16,
	BATCH = 4,
	IDS_PER_PROCESS = 100000, /* of the numbers that FIRST begins */
	BODY_SMALL = 400,
	BODY_LARGE = 400000, /* above what rgovd reads on its loop */
	BODY_LARGEST = 3000000,
	TIMEOUT_MS = 30000,
	CHILD_OPERATIONS = 12,
	SWEEPS = 50,
};

/* X(letter, weight, function): what a thread may do next. */
#define OPERATIONS(X)                                                          \
	X('c', 50, do_call)                                                    \
	X('o', 10, do_call_once)                                               \
	X('d', 8, do_short_deadline)                                           \
	X('x', 8, do_cancel)                                                   \
	X('a', 6, do_abandon)                                                  \
	X('b', 8, do_batch)                                                    \
	X('p', 8, do_permit)                                                   \
	X('q', 2, do_drop_permit)                                              \
	X('f', 2, do_fork)                                                     \
	X('e', 1, do_exec)

struct worker {
	pthread_t thread;
	unsigned int seed;
	bool may_fork; /* the main thread's worker alone */
};

/* A request from its B to its E. */
struct one {
	uint64_t id;
	struct timespec begun;
	struct rgov_ticket ticket;
	struct rgov_reply reply;
};

static struct rgov *gov;
static _Atomic uint64_t next_id;
static volatile sig_atomic_t is_over;
static char *const *arguments;
static unsigned int n_children;

/* ------------------------------------------------------------ telling */

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	char line[256];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(74);
}

static long elapsed_ms(const struct timespec *since)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - since->tv_sec) * 1000 +
	       (now.tv_nsec - since->tv_nsec) / 1000000;
}

/* What the simulator's answer says of the body it is for; "-": nothing. */
static const char *digest_of(const struct rgov_reply *reply, char text[65])
{
	const char *said =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;

	(void)snprintf(text, 65, "%.64s", said != NULL ? said + 7 : "-");
	return text;
}

static void tell_begin(struct one *one, char op, uint64_t timeout_ms, size_t n)
{
	one->id = atomic_fetch_add(&next_id, 1);
	one->reply = (struct rgov_reply){.size = sizeof(one->reply)};
	(void)clock_gettime(CLOCK_MONOTONIC, &one->begun);
	tell("B %d %" PRIu64 " %c %" PRIu64 " %zu %lld\n", (int)getpid(),
		one->id, op, timeout_ms, n,
		one->begun.tv_sec * 1000000000LL + one->begun.tv_nsec);
}

static void tell_end(struct one *one, int rc)
{
	char digest[65];

	tell("E %d %" PRIu64 " %d %ld %s %s\n", (int)getpid(), one->id, rc,
		elapsed_ms(&one->begun), digest_of(&one->reply, digest),
		rc == 0 ? rgov_result_name(one->reply.result) : "-");
	rgov_reply_fini(&one->reply);
}

/* ------------------------------------------------------------ chance */

static int below(struct worker *worker, int n)
{
	return rand_r(&worker->seed) % n;
}

static void nap(struct worker *worker, int most_ms)
{
	struct timespec rest = {
		.tv_nsec = (long)below(worker, most_ms * 1000) * 1000};

	(void)nanosleep(&rest, NULL);
}

static size_t draw_bytes(struct worker *worker)
{
	int dice = below(worker, 200);

	return (size_t)(dice == 0  ? BODY_LARGEST
			: dice < 5 ? BODY_LARGE
				   : BODY_SMALL) -
	       (size_t)below(worker, BODY_SMALL / 2);
}

/* ------------------------------------------------------------ requests */

static char *make_body(uint64_t id, size_t bytes)
{
	char *body = malloc(bytes + 1);
	int n;

	if (body == NULL)
		exit(71);
	memset(body, 'x', bytes);
	n = snprintf(body, bytes,
		"{\"max_tokens\":5,\"id\":%" PRIu64 ",\"pad\":\"", id);
	body[n] = 'x';
	memcpy(body + bytes - 2, "\"}", 3);
	return body;
}

/* What is large is charged to a user of its own: others would wait for it. */
static void name_user(uint64_t id, size_t bytes, char user[32])
{
	if (bytes > BODY_SMALL)
		(void)snprintf(user, 32, "large-%" PRIu64, id);
	else
		(void)snprintf(user, 32, "lean-%d", (int)(id % 23));
}

/* B, and the request is in; on failure E as well. */
static int submit(struct worker *worker, struct one *one, char op,
	uint64_t timeout_ms, uint32_t flags)
{
	size_t bytes = draw_bytes(worker);
	char *body, user[32];
	struct rgov_request request = {.size = sizeof(request),
		.priority = RGOV_NORMAL,
		.model_id = "vendor.model-v1",
		.user = user,
		.body_bytes = bytes,
		.timeout_ms = timeout_ms,
		.flags = flags};
	int rc;

	tell_begin(one, op, timeout_ms, bytes);
	body = make_body(one->id, bytes);
	name_user(one->id, bytes, user);
	request.body = body;
	rc = rgov_submit(gov, &request, &one->ticket);
	free(body);
	if (rc < 0)
		tell_end(one, rc);
	return rc;
}

/* Looks now and then, as an application with handlers of signals does. */
static void wait_for(struct one *one)
{
	int rc;

	do
		rc = rgov_wait(gov, &one->ticket, 500, &one->reply);
	while (rc == -EAGAIN || rc == -EINTR);
	tell_end(one, rc);
}

static void call(
	struct worker *worker, char op, uint64_t timeout_ms, uint32_t flags)
{
	struct one one;

	if (submit(worker, &one, op, timeout_ms, flags) == 0)
		wait_for(&one);
}

static void do_call(struct worker *worker)
{
	call(worker, 'c', TIMEOUT_MS, 0);
}

static void do_call_once(struct worker *worker)
{
	call(worker, 'o', TIMEOUT_MS, RGOV_NOT_IDEMPOTENT);
}

static void do_short_deadline(struct worker *worker)
{
	call(worker, 'd', 1 + (uint64_t)below(worker, 150), 0);
}

static void do_cancel(struct worker *worker)
{
	struct one one;

	if (submit(worker, &one, 'x', TIMEOUT_MS, 0) != 0)
		return;
	nap(worker, 60);
	(void)rgov_cancel(gov, &one.ticket);
	wait_for(&one);
}

static void do_abandon(struct worker *worker)
{
	struct one one;

	if (submit(worker, &one, 'a', TIMEOUT_MS, 0) != 0)
		return;
	nap(worker, 60);
	rgov_abandon(gov, &one.ticket);
	tell("E %d %" PRIu64 " 0 0 - abandoned\n", (int)getpid(), one.id);
}

/* Several out at once, collected in another order. */
static void do_batch(struct worker *worker)
{
	struct one ones[BATCH];
	bool is_in[BATCH];

	for (int i = 0; i < BATCH; i++)
		is_in[i] = submit(worker, &ones[i], 'b', TIMEOUT_MS, 0) == 0;
	for (int i = BATCH - 1; i >= 0; i--) {
		if (is_in[i])
			wait_for(&ones[i]);
	}
}

/* ------------------------------------------------------------ permits */

static bool hold_permit(struct one *one, char op)
{
	char user[32];
	struct rgov_request request = {.size = sizeof(request),
		.priority = RGOV_NORMAL,
		.model_id = "vendor.model-v1",
		.user = user,
		.timeout_ms = TIMEOUT_MS,
		.output_tokens = 10};
	int rc;

	tell_begin(one, op, TIMEOUT_MS, 0);
	name_user(one->id, 0, user);
	rc = rgov_permit(gov, &request, &one->ticket, &one->reply);
	if (rc != 0 || one->reply.result != RGOV_R_OK) {
		tell_end(one, rc);
		return false;
	}
	return true;
}

static void do_permit(struct worker *worker)
{
	struct one one;

	if (!hold_permit(&one, 'p'))
		return;
	nap(worker, 40);
	tell_end(&one, rgov_settle(gov, &one.ticket, RGOV_SETTLE_OK, 3, 4));
}

static void do_drop_permit(struct worker *worker)
{
	struct one one;

	if (!hold_permit(&one, 'q'))
		return;
	nap(worker, 10);
	rgov_abandon(gov, &one.ticket);
	tell_end(&one, 0);
}

/* ------------------------------------------------------------ processes */

static void tell_process(void)
{
	tell("P %d %d\n", (int)getpid(), (int)getppid());
}

static uint32_t slots_taken(void)
{
	struct rgov_diagnostics seen = {.size = sizeof(seen)};

	if (rgov_diagnose(gov, &seen) != 0)
		exit(70);
	return seen.slots_taken;
}

/* What was given up is swept by the next submits, once its end has come. */
static void sweep_abandoned(struct worker *worker)
{
	for (int i = 0; i < SWEEPS && slots_taken() > 0; i++)
		do_call(worker);
}

static void tell_diagnostics(struct worker *worker)
{
	struct rgov_diagnostics seen = {.size = sizeof(seen)};

	sweep_abandoned(worker);
	if (rgov_diagnose(gov, &seen) != 0)
		exit(70);
	tell("Q %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %u\n", (int)getpid(),
		seen.sleeps, seen.found_by_slice, seen.reconnects,
		seen.slots_taken);
}

static void do_exec(struct worker *worker)
{
	char first[24];

	if (!worker->may_fork)
		return;
	(void)snprintf(first, sizeof(first), "%" PRIu64,
		atomic_fetch_add(&next_id, 0) + IDS_PER_PROCESS / 10);
	tell("X %d\n", (int)getpid());
	execl("/proc/self/exe", "storm_client", first, arguments[2],
		arguments[3], arguments[4], (char *)NULL);
	exit(71);
}

static void operate(struct worker *worker);

/* With the handle of its parent, whose requests are out: it registers anew. */
__attribute__((noreturn)) static void be_child(struct worker *worker)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	tell_process();
	worker->seed ^= (unsigned int)getpid();
	worker->may_fork = false;
	for (int i = 0; i < CHILD_OPERATIONS && !is_over; i++)
		operate(worker);
	tell_diagnostics(worker);
	_exit(0);
}

static void do_fork(struct worker *worker)
{
	pid_t child;

	if (!worker->may_fork)
		return;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	n_children++;
	child = fork();
	if (child == 0) {
		atomic_fetch_add(&next_id, n_children * IDS_PER_PROCESS);
		be_child(worker);
	}
	if (child < 0)
		exit(71);
}

/* ------------------------------------------------------------ life */

struct operation {
	char letter;
	int weight;
	void (*run)(struct worker *);
};

#define ROW(letter, weight, run) {letter, weight, run},
static const struct operation operations[] = {OPERATIONS(ROW)};
enum { N_OPERATIONS = sizeof(operations) / sizeof(operations[0]) };

static bool is_wanted(const struct operation *operation)
{
	return arguments[4] == NULL ||
	       strchr(arguments[4], operation->letter) != NULL;
}

static void operate(struct worker *worker)
{
	int sum = 0, at;

	for (int i = 0; i < N_OPERATIONS; i++)
		sum += is_wanted(&operations[i]) ? operations[i].weight : 0;
	at = below(worker, sum);
	for (int i = 0; i < N_OPERATIONS; i++) {
		if (!is_wanted(&operations[i]))
			continue;
		at -= operations[i].weight;
		if (at < 0) {
			operations[i].run(worker);
			return;
		}
	}
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	while (!is_over)
		operate(worker);
	return NULL;
}

static void on_sigterm(int number)
{
	(void)number;
	is_over = 1;
}

int main(int argc, char *argv[])
{
	static struct worker workers[THREADS_MAX];
	struct sigaction end = {
		.sa_handler = on_sigterm, .sa_flags = SA_RESTART};
	int threads;

	if (argc < 4 || argc > 5) {
		fprintf(stderr,
			"usage: storm_client FIRST SEED THREADS [OPS]\n");
		return 64;
	}
	arguments = argv;
	threads = atoi(argv[3]);
	if (threads < 1 || threads > THREADS_MAX)
		return 64;
	atomic_store(&next_id, strtoull(argv[1], NULL, 10));
	if (sigaction(SIGTERM, &end, NULL) != 0 || rgov_open(NULL, &gov) != 0)
		return 70;
	tell_process();
	for (int i = 0; i < threads; i++) {
		workers[i].seed =
			(unsigned int)(strtoull(argv[1], NULL, 10) ^
				       strtoull(argv[2], NULL, 10) << 8) +
			(unsigned int)i;
		workers[i].may_fork = i == 0;
		if (i > 0 && pthread_create(&workers[i].thread, NULL, work,
				     &workers[i]) != 0)
			return 71;
	}
	work(&workers[0]);
	for (int i = 1; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	while (wait(NULL) > 0)
		;
	tell_diagnostics(&workers[0]);
	rgov_close(gov);
	return 0;
}
