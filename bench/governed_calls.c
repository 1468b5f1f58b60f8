/*
 * The same calls as bare_curl.c, through rgovd: DEPTH outstanding from one
 * process.  Tells the CPU that rgovd and this worker spent on each.
 */
#include "bench/measure.h"

#include <unistd.h>

enum { DEPTH_MAX = 128 };

struct load {
	struct rgov *gov;
	struct rgov_request request;
	uint64_t depth;
};

static void run(const struct load *load, uint64_t calls)
{
	struct rgov_ticket tickets[DEPTH_MAX];
	uint64_t submitted = 0;

	for (; submitted < load->depth && submitted < calls; submitted++)
		must_be_ok("submit",
			rgov_submit(
				load->gov, &load->request, &tickets[submitted]),
			NULL);
	for (uint64_t ended = 0; ended < calls; ended++) {
		struct rgov_ticket *ticket = &tickets[ended % load->depth];
		struct rgov_reply reply = {.size = sizeof(reply)};
		int rc = rgov_wait(load->gov, ticket, UINT64_MAX, &reply);

		must_be_ok("call", rc, &reply);
		if (reply.body_bytes == 0)
			DIE("call: an empty reply");
		rgov_reply_fini(&reply);
		if (submitted++ < calls)
			must_be_ok("submit",
				rgov_submit(load->gov, &load->request, ticket),
				NULL);
	}
}

int main(int argc, char *argv[])
{
	uint64_t calls, rgovd_cpu, own_cpu, begin;
	struct load load = {.request = {.size = sizeof(load.request),
				    .model_id = "bench.model-v1:0",
				    .user = "bench"}};
	clockid_t rgovd;
	char *body;

	if (argc != 7)
		DIE("usage: SOCKET PID CPU DEPTH CALLS BODY_BYTES");
	rgovd = cpu_clock_of((pid_t)number_from(argv[2], INT32_MAX));
	run_on_cpu((int)number_from(argv[3], CPU_SETSIZE - 1));
	load.depth = number_from(argv[4], DEPTH_MAX);
	calls = number_from(argv[5], 10000000);
	load.request.body_bytes = number_from(argv[6], 32768);
	load.request.body = body = json_of(load.request.body_bytes);
	load.gov = open_governor(argv[1]);
	run(&load, load.depth * 20); /* connects */
	begin = now_ns();
	rgovd_cpu = clock_ns(rgovd);
	own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	run(&load, calls);
	own_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own_cpu;
	rgovd_cpu = clock_ns(rgovd) - rgovd_cpu;
	printf("{\"rgovd_cpu_us_per_call\": %.3f, "
	       "\"worker_cpu_us_per_call\": %.3f, \"calls_per_s\": %.0f}\n",
		(double)rgovd_cpu / 1e3 / (double)calls,
		(double)own_cpu / 1e3 / (double)calls,
		(double)calls * 1e9 / (double)(now_ns() - begin));
	rgov_close(load.gov);
	free(body);
	return 0;
}
