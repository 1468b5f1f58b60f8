/*
 * Durable tasks as clients see them.
 *
 * usage: task_clients submit SOCKET CLIENTS MS BODY_BYTES
 *            so many processes submit, each the next one when the last was
 *            acknowledged: how many a second
 *        task_clients look SOCKET ROUNDS PAUSE_US
 *            the round trip of a permit, of a question about a task that waits
 *            and of one about a task that has ended, in turn
 *
 * Prints one line of JSON.  rgovd must let permits of "bench" pass and hold
 * tasks of "held" back.
 */
#include "bench/measure.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CLIENTS_MAX = 64, ROUNDS_MAX = 100000 };
#define WARM_UP_NS 300000000u

struct client {
	_Alignas(64) _Atomic uint64_t tasks;
};

static struct client *clients; /* each writes its own line */

static void must_be_taken(
	const char *what, int rc, const struct rgov_task *task)
{
	if (rc < 0)
		DIE("%s: %s; %s", what, rgov_strerror(rc), rgov_why());
	if (task->answer != RGOV_R_OK)
		DIE("%s: %s: %s", what, rgov_result_name(task->answer),
			task->message);
}

static struct rgov_task submit(
	struct rgov *gov, const char *model, const char *body)
{
	struct rgov_request request = {.size = sizeof(request),
		.model_id = model,
		.user = "bench",
		.body = body,
		.body_bytes = strlen(body)};
	struct rgov_task task = {.size = sizeof(task)};

	must_be_taken(
		"submit", rgov_task_submit(gov, &request, NULL, &task), &task);
	return task;
}

/* ------------------------------------------------------------ submit */

static pid_t start_client(
	const char *socket_path, struct client *client, uint64_t body_bytes)
{
	pid_t pid = fork();
	struct rgov *gov;
	char *body;

	if (pid < 0)
		DIE("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	die_with_parent();
	gov = open_governor(socket_path);
	body = json_of(body_bytes);
	for (;;) {
		(void)submit(gov, "held", body);
		(void)atomic_fetch_add_explicit(
			&client->tasks, 1, memory_order_relaxed);
	}
}

static uint64_t count_all(uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += atomic_load_explicit(
			&clients[i].tasks, memory_order_relaxed);
	return sum;
}

static void measure_submits(char *argv[])
{
	uint64_t n = number_from(argv[1], CLIENTS_MAX);
	uint64_t for_ns = number_from(argv[2], 60000) * 1000000;
	uint64_t body_bytes = number_from(argv[3], 1 << 20);
	pid_t pids[CLIENTS_MAX];
	uint64_t begin, tasks;

	clients = mmap(NULL, n * sizeof(*clients), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (clients == MAP_FAILED)
		DIE("mmap: %s", strerror(errno));
	for (uint64_t i = 0; i < n; i++)
		pids[i] = start_client(argv[0], &clients[i], body_bytes);
	sleep_ns(WARM_UP_NS);
	begin = now_ns();
	tasks = count_all(n);
	sleep_ns(for_ns);
	tasks = count_all(n) - tasks;
	begin = now_ns() - begin;
	for (uint64_t i = 0; i < n; i++) {
		(void)kill(pids[i], SIGKILL);
		(void)waitpid(pids[i], NULL, 0);
	}
	(void)printf("{\"acknowledged_per_s\": %.0f}\n",
		(double)tasks * 1e9 / (double)begin);
}

/* ------------------------------------------------------------ look */

static uint64_t permit_ns(struct rgov *gov)
{
	static const struct rgov_request request = {
		.size = sizeof(request), .model_id = "bench", .user = "bench"};
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_ticket ticket;
	uint64_t begin = now_ns();
	int rc = rgov_permit(gov, &request, &ticket, &reply);
	uint64_t took = now_ns() - begin;

	must_be_ok("permit", rc, &reply);
	must_be_ok("settle", rgov_settle(gov, &ticket, RGOV_SETTLE_OK, -1, -1),
		NULL);
	return took;
}

static uint64_t look_ns(struct rgov *gov, const struct rgov_task_id *id)
{
	struct rgov_task task = {.size = sizeof(task)};
	uint64_t begin = now_ns();
	int rc = rgov_task_show(gov, id, &task);
	uint64_t took = now_ns() - begin;

	must_be_taken("show", rc, &task);
	return took;
}

static void measure_looks(char *argv[])
{
	static uint64_t permit[ROUNDS_MAX], live[ROUNDS_MAX], ended[ROUNDS_MAX];
	struct rgov *gov = open_governor(argv[0]);
	uint64_t rounds = number_from(argv[1], ROUNDS_MAX);
	uint64_t pause_ns = number_from(argv[2], 1000000) * 1000;
	char *body = json_of(200);
	struct rgov_task waits = submit(gov, "held", body);
	struct rgov_task over = submit(gov, "held", body);

	waits = submit(gov, "held", body); /* not the one that starts */
	must_be_taken("cancel", rgov_task_cancel(gov, &over.id, &over), &over);
	for (uint64_t i = 0; i < rounds; i++) {
		sleep_ns(pause_ns);
		permit[i] = permit_ns(gov);
		sleep_ns(pause_ns);
		live[i] = look_ns(gov, &waits.id);
		sleep_ns(pause_ns);
		ended[i] = look_ns(gov, &over.id);
	}
	(void)printf("{\"permit_us\": %.3f, \"look_live_us\": %.3f, "
		     "\"look_ended_us\": %.3f}\n",
		median_us(permit, rounds), median_us(live, rounds),
		median_us(ended, rounds));
	free(body);
	rgov_close(gov);
}

int main(int argc, char *argv[])
{
	if (argc == 6 && strcmp(argv[1], "submit") == 0)
		measure_submits(argv + 2);
	else if (argc == 5 && strcmp(argv[1], "look") == 0)
		measure_looks(argv + 2);
	else
		DIE("usage: submit SOCKET CLIENTS MS BODY_BYTES | "
		    "look SOCKET ROUNDS PAUSE_US");
	return 0;
}
