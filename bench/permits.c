/*
 * Permits as fast as rgovd hands them out: CLIENTS processes, each with DEPTH
 * of them outstanding.  With one outstanding it is the round trip while busy,
 * and its median is told too.
 *
 * Each permit is settled as soon as it is there, and the next one asked for.
 */
#include "bench/measure.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEPTH_MAX = 128, CLIENTS_MAX = 64, SAMPLES_MAX = 4000000 };
#define WARM_UP_NS 300000000u

struct client {
	_Alignas(64) _Atomic uint64_t permits;
};

/* Written by the clients, each its own line; read by the parent. */
struct board {
	_Atomic int phase; /* enum phase, the parent's */
	struct client clients[CLIENTS_MAX];
	uint64_t n_samples, samples_ns[SAMPLES_MAX]; /* of client 0 */
};

enum phase { WARM_UP, COUNT, STOP };

static struct board *board;

static const struct rgov_request request = {
	.size = sizeof(request), .model_id = "bench", .user = "bench"};

static int phase_now(void)
{
	/* Relaxed: nothing else is read by it. */
	return atomic_load_explicit(&board->phase, memory_order_relaxed);
}

static void count_one(struct client *client)
{
	(void)atomic_fetch_add_explicit(
		&client->permits, 1, memory_order_relaxed);
}

static void keep(uint64_t took_ns)
{
	if (phase_now() == COUNT && board->n_samples < SAMPLES_MAX)
		board->samples_ns[board->n_samples++] = took_ns;
}

/* One outstanding: each is asked for when the last one was settled. */
static void ask_one_by_one(struct rgov *gov, struct client *client)
{
	bool keeps = client == board->clients;

	while (phase_now() != STOP) {
		struct rgov_reply reply = {.size = sizeof(reply)};
		struct rgov_ticket ticket;
		uint64_t begin = now_ns();
		int rc = rgov_permit(gov, &request, &ticket, &reply);

		if (keeps)
			keep(now_ns() - begin);
		must_be_ok("permit", rc, &reply);
		must_be_ok("settle",
			rgov_settle(gov, &ticket, RGOV_SETTLE_OK, -1, -1),
			NULL);
		count_one(client);
	}
}

static void ask_many(struct rgov *gov, struct client *client, uint64_t depth)
{
	struct rgov_ticket tickets[DEPTH_MAX];

	for (uint64_t i = 0; i < depth; i++)
		must_be_ok("submit",
			rgov_submit_permit(gov, &request, &tickets[i]), NULL);
	for (uint64_t i = 0; phase_now() != STOP; i = (i + 1) % depth) {
		struct rgov_reply reply = {.size = sizeof(reply)};
		int rc = rgov_wait(gov, &tickets[i], UINT64_MAX, &reply);

		must_be_ok("wait", rc, &reply);
		must_be_ok("settle",
			rgov_settle(gov, &tickets[i], RGOV_SETTLE_OK, -1, -1),
			NULL);
		must_be_ok("submit",
			rgov_submit_permit(gov, &request, &tickets[i]), NULL);
		count_one(client);
	}
}

static pid_t start_client(
	const char *socket_path, struct client *client, uint64_t depth)
{
	pid_t pid = fork();
	struct rgov *gov;

	if (pid < 0)
		DIE("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	die_with_parent();
	gov = open_governor(socket_path);
	if (depth == 1)
		ask_one_by_one(gov, client);
	else
		ask_many(gov, client, depth);
	rgov_close(gov);
	_exit(0);
}

static uint64_t count_all(uint64_t clients)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < clients; i++)
		sum += atomic_load_explicit(
			&board->clients[i].permits, memory_order_relaxed);
	return sum;
}

static void measure(pid_t rgovd, uint64_t clients, uint64_t for_ns)
{
	clockid_t clock = cpu_clock_of(rgovd);
	uint64_t begin, permits, cpu, took;

	sleep_ns(WARM_UP_NS);
	begin = now_ns();
	permits = count_all(clients);
	cpu = clock_ns(clock);
	atomic_store_explicit(&board->phase, COUNT, memory_order_relaxed);
	sleep_ns(for_ns);
	permits = count_all(clients) - permits;
	cpu = clock_ns(clock) - cpu;
	took = now_ns() - begin;
	atomic_store_explicit(&board->phase, STOP, memory_order_relaxed);
	printf("{\"permits_per_s\": %.0f, \"rgovd_cpu_us_per_permit\": %.3f",
		(double)permits * 1e9 / (double)took,
		(double)cpu / 1e3 / (double)(permits > 0 ? permits : 1));
}

int main(int argc, char *argv[])
{
	pid_t pids[CLIENTS_MAX];
	uint64_t clients, depth, for_ns;
	pid_t rgovd;
	int status = 0;

	if (argc != 6)
		DIE("usage: SOCKET PID CLIENTS DEPTH MS");
	rgovd = (pid_t)number_from(argv[2], INT32_MAX);
	clients = number_from(argv[3], CLIENTS_MAX);
	depth = number_from(argv[4], DEPTH_MAX);
	if (clients == 0 || depth == 0)
		DIE("expected at least one client and one permit");
	for_ns = number_from(argv[5], 60000) * 1000000;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		DIE("mmap: %s", strerror(errno));
	for (uint64_t i = 0; i < clients; i++)
		pids[i] = start_client(argv[1], &board->clients[i], depth);
	measure(rgovd, clients, for_ns);
	for (uint64_t i = 0; i < clients; i++) {
		if (waitpid(pids[i], &status, 0) != pids[i] || status != 0)
			DIE("a client ended with status %d", status);
	}
	printf(", \"median_us\": %.3f}\n",
		median_us(board->samples_ns, board->n_samples));
	return 0;
}
