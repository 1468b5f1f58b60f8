/*
 * A client of librgov with threads, for the scenarios: each thread performs
 * calls one after the other, each with a body of its own, and says what came
 * back.  It judges nothing; the scenario does.
 *
 * usage: c_client [--fork] THREADS CALLS
 *
 * --fork: a child does the same with the handle of its parent, at the same
 * time; its calls are numbered from 1000000.
 *
 * Output, one JSON object a line: a call's {"n", "rc", "result", "status",
 * "why", "text"}, and at the end of each process its {"pid", "sleeps",
 * "found_by_slice", "slots_taken"}.  The body of call n is
 * {"max_tokens":5,"n":n}.
 */
#include "client-lib/rgov.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS_MAX = 64, CHILD_FROM = 1000000 };

struct work {
	pthread_t thread;
	struct rgov *gov;
	int first, calls;
};

/* One write a line: threads and processes share the output. */
static void print_line(const char *line)
{
	size_t bytes = strlen(line);

	if (write(STDOUT_FILENO, line, bytes) != (ssize_t)bytes)
		exit(74);
}

/* "sha256 …" with its digits, as the simulator's answer has it; else "". */
static const char *digest_said(
	const struct rgov_reply *reply, char ret_text[80])
{
	const char *said =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;

	snprintf(ret_text, 80, "%.71s", said != NULL ? said : "");
	return ret_text;
}

static void call_once(struct rgov *gov, int n)
{
	char body[64], user[32], digest[80], line[512];
	struct rgov_request request = {
		.size = sizeof(request),
		.model_id = "vendor.model-v1",
		.user = user,
		.body = body,
		.timeout_ms = 60000,
	};
	struct rgov_reply reply = {.size = sizeof(reply)};
	int rc;

	request.body_bytes = (size_t)snprintf(
		body, sizeof(body), "{\"max_tokens\":5,\"n\":%d}", n);
	snprintf(user, sizeof(user), "user-%d", n % 7);
	rc = rgov_call(gov, &request, &reply);
	snprintf(line, sizeof(line),
		"{\"n\":%d,\"rc\":%d,\"result\":\"%s\",\"status\":%d,"
		"\"why\":\"%s\",\"text\":\"%s\"}\n",
		n, rc, rgov_result_name(reply.result), reply.http_status,
		rc == 0 ? "" : rgov_strerror(rc), digest_said(&reply, digest));
	print_line(line);
	rgov_reply_fini(&reply);
}

static void *work_run(void *argument)
{
	struct work *work = argument;

	for (int i = 0; i < work->calls; i++)
		call_once(work->gov, work->first + i);
	return NULL;
}

static void print_diagnostics(struct rgov *gov)
{
	struct rgov_diagnostics seen = {.size = sizeof(seen)};
	char line[256];

	if (rgov_diagnose(gov, &seen) != 0)
		exit(70);
	snprintf(line, sizeof(line),
		"{\"pid\":%d,\"sleeps\":%" PRIu64 ",\"found_by_slice\":%" PRIu64
		",\"slots_taken\":%u}\n",
		(int)getpid(), seen.sleeps, seen.found_by_slice,
		seen.slots_taken);
	print_line(line);
}

static void run_threads(struct rgov *gov, int threads, int calls, int first)
{
	static struct work works[THREADS_MAX];

	for (int i = 0; i < threads; i++) {
		works[i] = (struct work){
			.gov = gov, .first = first + i * calls, .calls = calls};
		if (pthread_create(
			    &works[i].thread, NULL, work_run, &works[i]) != 0)
			exit(71);
	}
	for (int i = 0; i < threads; i++)
		pthread_join(works[i].thread, NULL);
	print_diagnostics(gov);
}

int main(int argc, char **argv)
{
	int forks = argc > 1 && strcmp(argv[1], "--fork") == 0;
	int threads, calls, status = 0;
	struct rgov *gov;
	pid_t child = -1;

	if (argc - forks != 3) {
		fprintf(stderr, "usage: c_client [--fork] THREADS CALLS\n");
		return 64;
	}
	threads = atoi(argv[1 + forks]);
	calls = atoi(argv[2 + forks]);
	if (threads < 1 || threads > THREADS_MAX || calls < 1)
		return 64;
	if (rgov_open(NULL, &gov) != 0)
		return 70;
	if (forks) {
		call_once(gov, -1); /* so that there is a session to inherit */
		child = fork();
		if (child < 0)
			return 71;
	}
	run_threads(gov, threads, calls, child == 0 ? CHILD_FROM : 0);
	rgov_close(gov);
	if (child > 0 && waitpid(child, &status, 0) != child)
		return 71;
	return status != 0;
}
