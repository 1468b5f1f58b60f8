/*
 * A quiet host: SESSIONS connected sessions, one of which holds the only permit
 * while another process waits for it.  Tells rgovd's memory, and how often
 * rgovd and the waiting worker wake up in SECONDS, and what CPU that takes.
 */
#include "bench/measure.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SESSIONS_MAX = 1000 };
/* What connecting left to do (rgovd publishes four times a second while
 * something changes) is over by then. */
#define SETTLE_NS 1500000000u

static const struct rgov_request request = {.size = sizeof(request),
	.model_id = "bench",
	.user = "bench",
	.timeout_ms = 300000};

struct reading {
	uint64_t wake_ups, cpu_ns, at_ns;
};

/* One figure of a status file of /proc, 0 where it is not there. */
static uint64_t figure_in(const char *path, const char *key)
{
	char line[256];
	uint64_t figure = 0;
	FILE *file = fopen(path, "re");

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, key, strlen(key)) == 0)
			figure = strtoull(line + strlen(key), NULL, 10);
	}
	(void)fclose(file);
	return figure;
}

/* Of all threads: a sleep that ended is a switch that was voluntary. */
static uint64_t wake_ups_of(pid_t pid)
{
	char path[512];
	struct dirent *task;
	uint64_t sum = 0;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (tasks == NULL)
		DIE("%s: %s", path, strerror(errno));
	while ((task = readdir(tasks)) != NULL) {
		if (task->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status",
			(int)pid, task->d_name);
		sum += figure_in(path, "voluntary_ctxt_switches:");
	}
	(void)closedir(tasks);
	return sum;
}

static struct reading read_process(pid_t pid)
{
	return (struct reading){.wake_ups = wake_ups_of(pid),
		.cpu_ns = clock_ns(cpu_clock_of(pid)),
		.at_ns = now_ns()};
}

static void print_rates(const char *who, struct reading from, struct reading to,
	const char *end)
{
	double seconds = (double)(to.at_ns - from.at_ns) / 1e9;

	printf("\"%s_wakeups_per_s\": %.3f, \"%s_cpu_ms_per_s\": %.4f%s", who,
		(double)(to.wake_ups - from.wake_ups) / seconds, who,
		(double)(to.cpu_ns - from.cpu_ns) / 1e6 / seconds, end);
}

/* Connects: the handle is lazy. */
static struct rgov_ticket take_permit(struct rgov *gov)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_ticket ticket;

	must_be_ok(
		"permit", rgov_permit(gov, &request, &ticket, &reply), &reply);
	return ticket;
}

static void connect_all(const char *socket_path, struct rgov *govs[], int n)
{
	for (int i = 0; i < n; i++) {
		struct rgov_ticket ticket;

		govs[i] = open_governor(socket_path);
		ticket = take_permit(govs[i]);
		/* The last one keeps the only permit there is. */
		if (i < n - 1)
			must_be_ok("settle",
				rgov_settle(govs[i], &ticket, RGOV_SETTLE_OK,
					-1, -1),
				NULL);
	}
}

static pid_t start_waiter(const char *socket_path)
{
	pid_t pid = fork();

	if (pid < 0)
		DIE("fork: %s", strerror(errno));
	if (pid > 0)
		return pid;
	die_with_parent();
	(void)take_permit(open_governor(socket_path));
	DIE("a second permit was granted");
}

int main(int argc, char *argv[])
{
	static struct rgov *govs[SESSIONS_MAX];
	struct reading rgovd_from, waiter_from;
	char status[64];
	pid_t rgovd, waiter;
	int sessions;

	if (argc != 5)
		DIE("usage: SOCKET PID SESSIONS SECONDS");
	rgovd = (pid_t)number_from(argv[2], INT32_MAX);
	sessions = (int)number_from(argv[3], SESSIONS_MAX);
	(void)snprintf(status, sizeof(status), "/proc/%d/status", (int)rgovd);
	connect_all(argv[1], govs, sessions);
	waiter = start_waiter(argv[1]);
	sleep_ns(SETTLE_NS);
	rgovd_from = read_process(rgovd);
	waiter_from = read_process(waiter);
	sleep_ns(number_from(argv[4], 600) * SECOND_NS);
	printf("{");
	print_rates("rgovd", rgovd_from, read_process(rgovd), ", ");
	print_rates("worker", waiter_from, read_process(waiter), ", ");
	printf("\"rgovd_rss_mib\": %.2f, \"rgovd_rss_anon_mib\": %.2f}\n",
		(double)figure_in(status, "VmRSS:") / 1024,
		(double)figure_in(status, "RssAnon:") / 1024);
	(void)kill(waiter, SIGKILL);
	(void)waitpid(waiter, NULL, 0);
	for (int i = 0; i < sessions; i++)
		rgov_close(govs[i]);
	return 0;
}
