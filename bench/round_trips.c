/*
 * The round trip of an immediately granted permit beside those of bare
 * ping-pongs between two processes (futex, POSIX semaphore, eventfd, UNIX
 * socket): all sleepers asleep before each trip, one trip of each in turn, so
 * that all of them see the same machine.
 *
 * rgovd is bound to its CPU by whoever starts it, and must not spin.
 */
#include "bench/measure.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ASK, ANSWER, WAYS };

/* Shared by the two ends; each way has a cache line of its own. */
struct shared {
	struct {
		_Alignas(64) _Atomic uint32_t word;
	} futex[WAYS];
	struct {
		_Alignas(64) sem_t sem;
	} semaphore[WAYS];
	int event[WAYS];
	int pair[WAYS]; /* the end that gives this way */
};

static struct shared *shared;

/* ------------------------------------------------------------ rivals */

static void give_futex(int way)
{
	_Atomic uint32_t *word = &shared->futex[way].word;

	atomic_store_explicit(word, 1, memory_order_release);
	(void)syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void take_futex(int way)
{
	_Atomic uint32_t *word = &shared->futex[way].word;

	while (atomic_exchange_explicit(word, 0, memory_order_acquire) == 0)
		(void)syscall(SYS_futex, word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static void give_semaphore(int way)
{
	(void)sem_post(&shared->semaphore[way].sem);
}

static void take_semaphore(int way)
{
	while (sem_wait(&shared->semaphore[way].sem) != 0)
		;
}

static void give_event(int way)
{
	const uint64_t one = 1;

	if (write(shared->event[way], &one, sizeof(one)) < 0)
		DIE("eventfd: %s", strerror(errno));
}

static void take_event(int way)
{
	uint64_t count;

	if (read(shared->event[way], &count, sizeof(count)) < 0)
		DIE("eventfd: %s", strerror(errno));
}

static void give_socket(int way)
{
	if (send(shared->pair[way], "", 1, MSG_NOSIGNAL) < 0)
		DIE("socket: %s", strerror(errno));
}

static void take_socket(int way)
{
	char byte;

	if (recv(shared->pair[WAYS - 1 - way], &byte, 1, 0) != 1)
		DIE("socket: %s", strerror(errno));
}

static const struct rival {
	const char *name;
	void (*give)(int way);
	void (*take)(int way);
} rivals[] = {
	{"futex", give_futex, take_futex},
	{"semaphore", give_semaphore, take_semaphore},
	{"eventfd", give_event, take_event},
	{"socket", give_socket, take_socket},
};

enum { RIVALS = sizeof(rivals) / sizeof(rivals[0]), PERMIT = RIVALS, KINDS };

static void share(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		DIE("mmap: %s", strerror(errno));
	for (int way = 0; way < WAYS; way++) {
		shared->event[way] = eventfd(0, EFD_CLOEXEC);
		if (shared->event[way] < 0 ||
			sem_init(&shared->semaphore[way].sem, 1, 0) != 0)
			DIE("eventfd, semaphore: %s", strerror(errno));
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
		    shared->pair) != 0)
		DIE("socketpair: %s", strerror(errno));
}

static pid_t start_echo(const struct rival *rival, int cpu)
{
	pid_t pid = fork();

	if (pid < 0)
		DIE("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	die_with_parent();
	run_on_cpu(cpu);
	for (;;) {
		rival->take(ASK);
		rival->give(ANSWER);
	}
}

/* ------------------------------------------------------------ trips */

/* One kind in one run. */
struct series {
	uint64_t *trips_ns;
	uint64_t slept; /* trips in which this side gave up its CPU */
};

struct plan {
	struct rgov *gov;
	uint64_t runs, trips, pause_ns;
};

static uint64_t sleeps_so_far(void)
{
	struct rusage usage;

	(void)getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_nvcsw;
}

static uint64_t trip_permit(struct rgov *gov, uint64_t *ret_sleeps)
{
	static const struct rgov_request request = {
		.size = sizeof(request), .model_id = "bench", .user = "bench"};
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_ticket ticket;
	uint64_t sleeps = sleeps_so_far();
	uint64_t begin = now_ns();
	int rc = rgov_permit(gov, &request, &ticket, &reply);
	uint64_t took = now_ns() - begin;

	must_be_ok("permit", rc, &reply);
	*ret_sleeps = sleeps_so_far() - sleeps;
	must_be_ok("settle", rgov_settle(gov, &ticket, RGOV_SETTLE_OK, -1, -1),
		NULL);
	return took;
}

static uint64_t trip_rival(const struct rival *rival, uint64_t *ret_sleeps)
{
	uint64_t sleeps = sleeps_so_far();
	uint64_t begin = now_ns();
	uint64_t took;

	rival->give(ASK);
	rival->take(ANSWER);
	took = now_ns() - begin;
	*ret_sleeps = sleeps_so_far() - sleeps;
	return took;
}

/*
 * Whoever is to be woken next goes to sleep.  On one CPU it needs no more than
 * to be let run; the caches then stay warm, which on a shared machine a pause
 * does not leave them.
 */
static void let_sleep(uint64_t pause_ns)
{
	if (pause_ns > 0)
		sleep_ns(pause_ns);
	else
		(void)sched_yield();
}

static void travel(
	const struct plan *plan, struct series series[KINDS], uint64_t trip)
{
	for (int kind = 0; kind < KINDS; kind++) {
		uint64_t sleeps = 0;

		let_sleep(plan->pause_ns);
		series[kind].trips_ns[trip] =
			kind == PERMIT ? trip_permit(plan->gov, &sleeps)
				       : trip_rival(&rivals[kind], &sleeps);
		series[kind].slept += sleeps > 0;
	}
}

static void print_run(const struct plan *plan, struct series series[KINDS])
{
	for (int kind = 0; kind < KINDS; kind++) {
		const char *name =
			kind == PERMIT ? "permit" : rivals[kind].name;

		printf("%s\"%s_us\": %.3f, \"%s_slept\": %.4f",
			kind == 0 ? "{" : ", ", name,
			median_us(series[kind].trips_ns, plan->trips), name,
			(double)series[kind].slept / (double)plan->trips);
		series[kind].slept = 0;
	}
	printf("}\n");
	(void)fflush(stdout);
}

static void run_all(const struct plan *plan)
{
	struct series series[KINDS] = {0};

	for (int kind = 0; kind < KINDS; kind++) {
		series[kind].trips_ns = calloc(plan->trips, sizeof(uint64_t));
		if (series[kind].trips_ns == NULL)
			DIE("no memory");
	}
	travel(plan, series, 0); /* connects, warms up */
	for (uint64_t run = 0; run < plan->runs; run++) {
		for (uint64_t trip = 0; trip < plan->trips; trip++)
			travel(plan, series, trip);
		print_run(plan, series);
	}
	for (int kind = 0; kind < KINDS; kind++)
		free(series[kind].trips_ns);
}

int main(int argc, char *argv[])
{
	pid_t echoes[RIVALS];
	struct plan plan;

	if (argc != 7)
		DIE("usage: SOCKET CPU PEER_CPU RUNS TRIPS PAUSE_US");
	plan = (struct plan){
		.runs = number_from(argv[4], 1000),
		.trips = number_from(argv[5], 1000000),
		.pause_ns = number_from(argv[6], 1000000) * 1000,
	};
	share();
	for (int i = 0; i < RIVALS; i++)
		echoes[i] = start_echo(
			&rivals[i], (int)number_from(argv[3], CPU_SETSIZE - 1));
	run_on_cpu((int)number_from(argv[2], CPU_SETSIZE - 1));
	plan.gov = open_governor(argv[1]);
	run_all(&plan);
	rgov_close(plan.gov);
	for (int i = 0; i < RIVALS; i++) {
		(void)kill(echoes[i], SIGKILL);
		(void)waitpid(echoes[i], NULL, 0);
	}
	return 0;
}
