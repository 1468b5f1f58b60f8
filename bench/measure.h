/*
 * What every benchmark needs: a clock, a CPU to run on, a median, an end that
 * says why.  Not for the product: it prints, and it ends the process.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "client-lib/rgov.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define SECOND_NS 1000000000u

/* Ends the program: a benchmark has nothing to save. */
#define DIE(...)                                                               \
	do {                                                                   \
		(void)fprintf(stderr, "%s: ", program_invocation_short_name);  \
		(void)fprintf(stderr, __VA_ARGS__);                            \
		(void)fputc('\n', stderr);                                     \
		exit(1);                                                       \
	} while (0)

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	if (clock_gettime(clock, &now) != 0)
		DIE("clock: %s", strerror(errno));
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* The CPU time of all threads of a process, another's too. */
static inline clockid_t cpu_clock_of(pid_t pid)
{
	clockid_t clock;
	int error = clock_getcpuclockid(pid, &clock);

	if (error != 0)
		DIE("CPU clock of %d: %s", (int)pid, strerror(error));
	return clock;
}

static inline void sleep_ns(uint64_t ns)
{
	struct timespec left = {.tv_sec = (time_t)(ns / SECOND_NS),
		.tv_nsec = (long)(ns % SECOND_NS)};

	while (nanosleep(&left, &left) != 0 && errno == EINTR)
		;
}

static inline void run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		DIE("CPU %d: %s", cpu, strerror(errno));
}

/* A child must not outlive the program that measures. */
static inline void die_with_parent(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static inline int compare_u64(const void *left, const void *right)
{
	uint64_t a, b;

	memcpy(&a, left, sizeof(a));
	memcpy(&b, right, sizeof(b));
	return (a > b) - (a < b);
}

/* Sorts them. */
static inline double median_us(uint64_t *ns, size_t n)
{
	size_t middle = n / 2;

	if (n == 0)
		return 0;
	qsort(ns, n, sizeof(*ns), compare_u64);
	return (double)ns[middle] / 1e3;
}

static inline uint64_t number_from(const char *text, uint64_t most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value > most)
		DIE("expected a number of at most %llu, found \"%s\"",
			(unsigned long long)most, text);
	return value;
}

/* A request body of exactly that many bytes; the caller frees it. */
static inline char *json_of(uint64_t bytes)
{
	static const char head[] = "{\"max_tokens\":64,\"prompt\":\"";
	static const char tail[] = "\"}";
	size_t fixed = sizeof(head) - 1 + sizeof(tail) - 1;
	char *body = bytes < fixed ? NULL : malloc(bytes + 1);

	if (body == NULL)
		DIE("a body of %llu bytes: expected at least %zu, and memory",
			(unsigned long long)bytes, fixed);
	memset(body, 'x', bytes);
	memcpy(body, head, sizeof(head) - 1);
	memcpy(body + bytes - (sizeof(tail) - 1), tail, sizeof(tail));
	return body;
}

static inline struct rgov *open_governor(const char *socket_path)
{
	struct rgov_options options = {.size = sizeof(options),
		.socket_path = socket_path,
		.app = "bench",
		.slots = 256};
	struct rgov *gov;

	if (rgov_open(&options, &gov) < 0)
		DIE("rgov_open: %s", rgov_why());
	return gov;
}

/* rc of a call, and what rgovd said. */
static inline void must_be_ok(
	const char *what, int rc, const struct rgov_reply *reply)
{
	if (rc < 0)
		DIE("%s: %s; %s", what, rgov_strerror(rc), rgov_why());
	if (reply != NULL && reply->result != RGOV_R_OK)
		DIE("%s: %s %s %s", what, rgov_result_name(reply->result),
			reply->code, reply->message);
}

#endif
