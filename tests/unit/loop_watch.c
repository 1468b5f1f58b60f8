/* The loop's descriptors: what is told when, under both engines. */
#include "tests/unit/loop_engines.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

/* One end of a socket pair, watched. */
struct end {
	struct loop_watch watch;
	int fd, peer;
	int calls;
	unsigned int seen;
	bool drain;            /* read what is there */
	struct end *unwatch;   /* in the callback */
	bool close_it;         /* the one just unwatched */
	struct end *watch_new; /* after that, in the callback */
};

static void watch_end(struct end *end, unsigned int events);

static void on_ready(struct loop_watch *watch, unsigned int events)
{
	struct end *end = watch->owner;
	struct end *new = end->watch_new;
	struct end *other = end->unwatch;
	char bytes[64];

	end->calls++;
	end->seen |= events;
	if (end->drain)
		(void)!read(end->fd, bytes, sizeof(bytes));
	end->unwatch = end->watch_new = NULL;
	if (other != NULL)
		loop_unwatch(loop, &other->watch);
	if (other != NULL && other->close_it) {
		close(other->fd);
		/* Whoever still looked at it would trip over this. */
		memset(&other->watch, 0xa5, sizeof(other->watch));
	}
	if (new != NULL)
		watch_end(new, LOOP_READ);
}

static void open_end(struct end *end)
{
	int pair[2];

	CU_ASSERT_EQUAL_FATAL(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
			0, pair),
		0);
	*end = (struct end){.fd = pair[0], .peer = pair[1]};
}

static void watch_end(struct end *end, unsigned int events)
{
	CU_ASSERT_EQUAL_FATAL(
		loop_watch(loop, &end->watch, end->fd, events, on_ready, end),
		0);
}

static void close_end(struct end *end)
{
	loop_unwatch(loop, &end->watch);
	close(end->fd);
	if (end->peer >= 0)
		close(end->peer);
}

static void send_byte(struct end *end)
{
	CU_ASSERT_EQUAL(write(end->peer, "x", 1), 1);
}

/* Runs what is ready now, without waiting for anything new. */
static int step_now(void)
{
	return loop_step(loop, 0);
}

/* A readable descriptor is told as LOOP_READ, an idle one not at all. */
static void tells_what_is_readable(void)
{
	struct end a, b;

	open_end(&a);
	open_end(&b);
	watch_end(&a, LOOP_READ);
	watch_end(&b, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	send_byte(&a);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.calls, 1);
	CU_ASSERT_EQUAL(a.seen, LOOP_READ);
	CU_ASSERT_EQUAL(b.calls, 0);
	close_end(&a);
	close_end(&b);
}
ENGINES(tells_what_is_readable)

/* As long as nobody reads, each step tells it again; then no more. */
static void repeats_while_ready(void)
{
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	send_byte(&a);
	for (int i = 1; i <= 5; i++) {
		CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
		CU_ASSERT_EQUAL(a.calls, i);
	}
	a.drain = true;
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	STEP_IN_SILENCE(loop_now_ns() + 5 * MS_NS);
	CU_ASSERT_EQUAL(a.calls, 6);
	close_end(&a);
}
ENGINES(repeats_while_ready)

/* Room to write is told, until the buffer is full. */
static void tells_what_is_writable(void)
{
	static const char block[65536];
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_WRITE);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.seen, LOOP_WRITE);
	while (write(a.fd, block, sizeof(block)) > 0)
		;
	a.calls = 0;
	STEP_IN_SILENCE(loop_now_ns() + 5 * MS_NS);
	CU_ASSERT_EQUAL(a.calls, 0);
	close_end(&a);
}
ENGINES(tells_what_is_writable)

/* Both wishes in one watch are told in one call. */
static void tells_both_at_once(void)
{
	struct end a;

	open_end(&a);
	send_byte(&a);
	watch_end(&a, LOOP_READ | LOOP_WRITE);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.calls, 1);
	CU_ASSERT_EQUAL(a.seen, LOOP_READ | LOOP_WRITE);
	close_end(&a);
}
ENGINES(tells_both_at_once)

/* A hang-up is told without being asked for. */
static void tells_a_hangup(void)
{
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	close(a.peer);
	a.peer = -1;
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT(a.seen & LOOP_HANGUP);
	close_end(&a);
}
ENGINES(tells_a_hangup)

/* A paused watch hears nothing, not even a hang-up, and costs no wake-up. */
static void pauses_and_resumes(void)
{
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	CU_ASSERT_EQUAL(loop_watch_change(loop, &a.watch, 0), 0);
	send_byte(&a);
	close(a.peer);
	a.peer = -1;
	STEP_IN_SILENCE(loop_now_ns() + 5 * MS_NS);
	CU_ASSERT_EQUAL(a.calls, 0);
	CU_ASSERT_EQUAL(loop_watch_change(loop, &a.watch, LOOP_READ), 0);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT(a.seen & LOOP_READ);
	close_end(&a);
}
ENGINES(pauses_and_resumes)

/* A watch can begin paused, and end so. */
static void begins_paused(void)
{
	struct end a;

	open_end(&a);
	send_byte(&a);
	watch_end(&a, 0);
	CU_ASSERT_EQUAL(step_now(), 0);
	close_end(&a);
	CU_ASSERT_EQUAL(step_now(), 0);
	CU_ASSERT_EQUAL(a.calls, 0);
}
ENGINES(begins_paused)

/* A change of wishes holds from now on, whatever was armed before. */
static void changes_its_mind(void)
{
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0); /* armed for reading */
	CU_ASSERT_EQUAL(
		loop_watch_change(loop, &a.watch, LOOP_READ | LOOP_WRITE), 0);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.seen, LOOP_WRITE);
	CU_ASSERT_EQUAL(loop_watch_change(loop, &a.watch, LOOP_WRITE), 0);
	CU_ASSERT_EQUAL(loop_watch_change(loop, &a.watch, LOOP_READ), 0);
	a.seen = 0;
	STEP_IN_SILENCE(loop_now_ns() + 5 * MS_NS);
	CU_ASSERT_EQUAL(a.seen, 0);
	send_byte(&a);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.seen, LOOP_READ);
	close_end(&a);
}
ENGINES(changes_its_mind)

/* A change of wishes when news are on the way already: told once a step. */
static void changes_late(void)
{
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	send_byte(&a);
	CU_ASSERT_EQUAL(
		loop_watch_change(loop, &a.watch, LOOP_READ | LOOP_WRITE), 0);
	for (int i = 1; i <= 4; i++) {
		STEP_UNTIL(a.calls >= i);
		CU_ASSERT_EQUAL(a.calls, i);
	}
	CU_ASSERT_EQUAL(a.seen, LOOP_READ | LOOP_WRITE);
	close_end(&a);
}
ENGINES(changes_late)

/* A callback may end its own watch and close the descriptor. */
static void unwatches_itself(void)
{
	struct end a;
	int peer;

	open_end(&a);
	peer = a.peer;
	a.unwatch = &a;
	a.close_it = true;
	watch_end(&a, LOOP_READ);
	send_byte(&a);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(step_now(), 0);
	CU_ASSERT_EQUAL(a.calls, 1);
	close(peer);
}
ENGINES(unwatches_itself)

/* Of two that are ready at once, the first ends the second: it is not told. */
static void unwatches_another(void)
{
	struct end a, b;

	open_end(&a);
	open_end(&b);
	watch_end(&a, LOOP_READ);
	watch_end(&b, LOOP_READ);
	a.unwatch = &b;
	b.unwatch = &a;
	a.close_it = b.close_it = true;
	send_byte(&a);
	send_byte(&b);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(step_now(), 1); /* the one that is left */
	CU_ASSERT((a.calls == 0) != (b.calls == 0));
	close(a.peer);
	close(b.peer);
	if (a.calls != 0) {
		loop_unwatch(loop, &a.watch);
		close(a.fd);
	} else {
		loop_unwatch(loop, &b.watch);
		close(b.fd);
	}
}
ENGINES(unwatches_another)

/* A watch that begins where another one has just ended hears nothing of what
 * was on its way to that one. */
static void hears_only_its_own(void)
{
	for (int variant = 0; variant < 4; variant++) {
		bool in_callback = variant & 1;
		struct end a, b, first;

		open_end(&a);
		open_end(&b);
		open_end(&first);
		first.watch_new = &b;
		first.drain = true;
		watch_end(&first, LOOP_READ);
		watch_end(&a, LOOP_READ);
		CU_ASSERT_EQUAL(step_now(), 0);
		if (variant & 2)
			send_byte(&a);
		send_byte(&first);
		send_byte(&a);
		if (in_callback)
			first.unwatch = &a;
		else
			loop_unwatch(loop, &a.watch);
		STEP_UNTIL(first.calls > 0);
		CU_ASSERT_EQUAL(step_now(), 0);
		CU_ASSERT_EQUAL(b.calls, 0);
		close_end(&a);
		close_end(&b);
		close_end(&first);
	}
}
ENGINES(hears_only_its_own)

/* The number of a closed descriptor comes back at once, for another file: the
 * news of the old one do not reach the new watch, its own do. */
static void reuses_a_number(void)
{
	for (int round = 0; round < 50; round++) {
		struct end a, b;
		int number;

		open_end(&a);
		watch_end(&a, LOOP_READ);
		if (round % 2)
			CU_ASSERT_EQUAL(step_now(), 0); /* armed */
		send_byte(&a);                          /* and ready */
		loop_unwatch(loop, &a.watch);
		number = a.fd;
		close(a.fd);
		open_end(&b);
		CU_ASSERT_EQUAL(b.fd, number);
		watch_end(&b, LOOP_READ);
		STEP_IN_SILENCE(loop_now_ns() + MS_NS / 10);
		CU_ASSERT_EQUAL(b.calls, 0);
		send_byte(&b);
		STEP_UNTIL(b.calls > 0);
		CU_ASSERT_EQUAL(a.calls, 0);
		close(a.peer);
		close_end(&b);
	}
}
ENGINES(reuses_a_number)

/* Watched, unwatched and watched again between two steps: told once. */
static void forgets_between_steps(void)
{
	struct end a;

	open_end(&a);
	send_byte(&a);
	for (int i = 0; i < 1000; i++) {
		watch_end(&a, LOOP_READ);
		loop_unwatch(loop, &a.watch);
	}
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	CU_ASSERT_EQUAL(a.calls, 1);
	close_end(&a);
}
ENGINES(forgets_between_steps)

/* After unwatch, close and one step the other side sees the end. */
static void lets_go_of_the_file(void)
{
	struct end a;
	char byte;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	loop_unwatch(loop, &a.watch);
	close(a.fd);
	CU_ASSERT_EQUAL(step_now(), 0);
	/* The step hands it over; the kernel may finish a little later. */
	(void)fcntl(a.peer, F_SETFL, 0);
	CU_ASSERT_EQUAL(read(a.peer, &byte, 1), 0);
	close(a.peer);
}
ENGINES(lets_go_of_the_file)

/* The same where news has come that nobody was told of, and somebody else has
 * read it: the watch is on its way to tell, finds nothing, and still ends. */
static void lets_go_of_a_file_with_news(void)
{
	struct end a;
	char byte;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	CU_ASSERT_EQUAL(write(a.peer, "x", 1), 1);
	CU_ASSERT_EQUAL(read(a.fd, &byte, 1), 1);
	loop_unwatch(loop, &a.watch);
	close(a.fd);
	CU_ASSERT_EQUAL(step_now(), 0);
	CU_ASSERT_EQUAL(step_now(), 0);
	/* Not a read that waits: it may be for ever. */
	for (int i = 0; i < 1000 && read(a.peer, &byte, 1) < 0; i++)
		(void)usleep(1000);
	CU_ASSERT_EQUAL(read(a.peer, &byte, 1), 0);
	close(a.peer);
}
ENGINES(lets_go_of_a_file_with_news)

/* What can never be watched is refused, and leaves nothing behind. */
static void refuses_bad_descriptors(void)
{
	struct end a;
	FILE *file = tmpfile();
	int closed;

	open_end(&a);
	closed = dup(a.fd);
	close(closed);
	CU_ASSERT_EQUAL(
		loop_watch(loop, &a.watch, closed, LOOP_READ, on_ready, &a),
		-EBADF);
	CU_ASSERT_EQUAL(a.watch.id, 0);
	CU_ASSERT_EQUAL(loop_watch(loop, &a.watch, fileno(file), LOOP_READ,
				on_ready, &a),
		-EPERM);
	watch_end(&a, LOOP_READ);
	send_byte(&a);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 1);
	close_end(&a);
	fclose(file);
}
ENGINES(refuses_bad_descriptors)

/* 2,000 descriptors, all ready at once: more than any queue of the kernel's
 * holds.  Each is told in a few steps, none is forgotten. */
static void many_at_once(void)
{
	enum { MANY = 2000 };
	struct rlimit limit;
	struct end *ends = calloc(MANY, sizeof(*ends));
	int told = 0;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_max < 2 * MANY + 64) {
		suite_skip("not allowed 4,064 descriptors");
		free(ends);
		return;
	}
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < MANY; i++) {
		open_end(&ends[i]);
		ends[i].drain = true;
		watch_end(&ends[i], LOOP_READ);
	}
	CU_ASSERT_EQUAL(step_now(), 0); /* all armed */
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < MANY; i++)
			send_byte(&ends[i]);
		for (told = 0; told < MANY;) {
			int ran = loop_step(loop, loop_now_ns() + SECOND_NS);

			CU_ASSERT_FATAL(ran > 0);
			told += ran;
		}
		CU_ASSERT_EQUAL(told, MANY);
		for (int i = 0; i < MANY; i++)
			CU_ASSERT_EQUAL(ends[i].calls, round);
	}
	for (int i = 0; i < MANY; i++)
		close_end(&ends[i]);
	CU_ASSERT_EQUAL(step_now(), 0);
	free(ends);
}
ENGINES(many_at_once)

static void *wake_from_afar(void *unused)
{
	(void)unused;
	loop_wake(loop);
	return NULL;
}

/* Another thread ends the sleep, or the next one when there is none. */
static void wakes(void)
{
	pthread_t thread;

	for (int i = 0; i < 20; i++) {
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&thread, NULL, wake_from_afar, NULL), 0);
		if (i % 2)
			pthread_join(thread, NULL);
		/* No callback of ours ran; without the wake, no end. */
		CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 0);
		if (i % 2 == 0)
			pthread_join(thread, NULL);
	}
	loop_wake(loop);
	loop_wake(loop);
	CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 0);
	/* Two wakes before one sleep are one. */
	STEP_IN_SILENCE(loop_now_ns() + 2 * MS_NS);
}
ENGINES(wakes)

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms = alarms + 1;
}

/* A signal ends the sleep as an ordinary return. */
static void survives_signals(void)
{
	struct sigaction action = {.sa_handler = on_alarm}, before;
	struct itimerval soon = {.it_value.tv_usec = 5000,
				 .it_interval.tv_usec = 5000},
			 never = {0};

	sigaction(SIGALRM, &action, &before);
	alarms = 0;
	setitimer(ITIMER_REAL, &soon, NULL);
	/* The ring of an earlier test, torn down by the kernel in its own
	 * time, may interrupt one sleep more. */
	do {
		CU_ASSERT_EQUAL(loop_step(loop, UINT64_MAX), 0);
	} while (alarms == 0);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
}
ENGINES(survives_signals)

enum { LOOKED_AT = 64 };

/* Which of the first descriptors are open: -1 no, else their flags. */
static void list_descriptors(int flags[LOOKED_AT])
{
	for (int fd = 0; fd < LOOKED_AT; fd++)
		flags[fd] = fcntl(fd, F_GETFD);
}

/* The loop's own descriptors do not reach a program that is executed, and are
 * gone with it. */
static void keeps_its_descriptors(void)
{
	int before[LOOKED_AT], during[LOOKED_AT], after[LOOKED_AT], found = 0;
	struct loop *other;

	list_descriptors(before);
	CU_ASSERT_EQUAL_FATAL(
		loop_create(strcmp(loop_engine_name(loop), "epoll") == 0
				    ? LOOP_EPOLL
				    : LOOP_IO_URING,
			&other),
		0);
	list_descriptors(during);
	loop_free(other);
	list_descriptors(after);
	for (int fd = 0; fd < LOOKED_AT; fd++) {
		CU_ASSERT_EQUAL(before[fd], after[fd]);
		if (before[fd] != -1 || during[fd] == -1)
			continue;
		found++;
		CU_ASSERT(during[fd] & FD_CLOEXEC);
	}
	CU_ASSERT_EQUAL(found, 2);
}
ENGINES(keeps_its_descriptors)

static uint64_t cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * SECOND_NS + (uint64_t)used.tv_nsec;
}

/* A long sleep with watches that are armed wakes up for nothing. */
static void idles(void)
{
	struct rusage before, after;
	uint64_t cpu_before_ns;
	struct end a;

	open_end(&a);
	watch_end(&a, LOOP_READ);
	CU_ASSERT_EQUAL(step_now(), 0);
	getrusage(RUSAGE_THREAD, &before);
	cpu_before_ns = cpu_ns();
	STEP_IN_SILENCE(loop_now_ns() + 100 * MS_NS);
	getrusage(RUSAGE_THREAD, &after);
	/* One sleep is one switch; a look every few ms would be dozens. */
	CU_ASSERT(after.ru_nvcsw - before.ru_nvcsw <= 8);
	CU_ASSERT(cpu_ns() - cpu_before_ns < 20 * MS_NS);
	close_end(&a);
}
ENGINES(idles)

SUITE("loop_watch", BOTH(tells_what_is_readable), BOTH(repeats_while_ready),
	BOTH(tells_what_is_writable), BOTH(tells_both_at_once),
	BOTH(tells_a_hangup), BOTH(pauses_and_resumes), BOTH(begins_paused),
	BOTH(changes_its_mind), BOTH(changes_late), BOTH(unwatches_itself),
	BOTH(unwatches_another), BOTH(hears_only_its_own),
	BOTH(reuses_a_number), BOTH(forgets_between_steps),
	BOTH(lets_go_of_the_file), BOTH(lets_go_of_a_file_with_news),
	BOTH(refuses_bad_descriptors), BOTH(many_at_once), BOTH(wakes),
	BOTH(survives_signals), BOTH(keeps_its_descriptors), BOTH(idles))
