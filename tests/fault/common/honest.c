/* The honest client: obeys one letter at a time. */
#include "tests/fault/common/honest.h"

#include "tests/fault/common/client_path.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct state {
	struct rgov *gov;
	struct rgov_ticket permit;
	uint32_t number;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------ inside */

static int hold(struct state *state)
{
	struct rgov_request request = {.size = sizeof(request),
		.model_id = MODEL_BUSY,
		.user = "holder",
		.priority = RGOV_INTERACTIVE,
		.input_tokens = HONEST_HELD_TOKENS - 1,
		.output_tokens = 1,
		.timeout_ms = 60000};
	struct rgov_reply reply = {.size = sizeof(reply)};
	int rc = rgov_permit(state->gov, &request, &state->permit, &reply);

	if (rc == 0 && reply.result != RGOV_R_OK)
		rc = -EIO;
	rgov_reply_fini(&reply);
	return rc;
}

static int obey(struct state *state, char letter)
{
	switch (letter) {
	case 'c':
		return client_call(state->gov, "honest", state->number++);
	case 'h':
		return hold(state);
	case 'r':
		return rgov_settle(
			state->gov, &state->permit, RGOV_SETTLE_OK, 1, 1);
	default:
		return -EINVAL;
	}
}

static void live(int socket, uint32_t first)
{
	struct state state = {.number = first};
	char letter;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (rgov_open(NULL, &state.gov) != 0)
		_exit(2);
	while (read(socket, &letter, 1) == 1) {
		int rc = obey(&state, letter);

		if (write(socket, &rc, sizeof(rc)) != sizeof(rc))
			break;
	}
	rgov_close(state.gov);
	_exit(0);
}

/* ------------------------------------------------------------ outside */

int honest_start(struct honest *honest, uint32_t first)
{
	int ends[2];

	*honest = (struct honest){.socket = -1};
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
		return -errno;
	honest->pid = fork();
	if (honest->pid == 0) {
		(void)close(ends[0]);
		live(ends[1], first);
	}
	(void)close(ends[1]);
	honest->socket = ends[0];
	return honest->pid < 0 ? -errno : 0;
}

static bool ask(struct honest *honest, char letter)
{
	int rc = -EPIPE;

	if (write(honest->socket, &letter, 1) != 1 ||
		read(honest->socket, &rc, sizeof(rc)) != sizeof(rc))
		rc = -EPIPE;
	if (rc == 0)
		return true;
	honest->failed++;
	printf("violation honest client: '%c' ended with %s\n", letter,
		rgov_strerror(rc));
	return false;
}

void honest_call(struct honest *honest)
{
	uint64_t begin_ns = now_ns(), took_ns;

	if (!ask(honest, 'c'))
		return;
	honest->calls++;
	took_ns = now_ns() - begin_ns;
	if (took_ns > honest->slowest_ns)
		honest->slowest_ns = took_ns;
}

void honest_hold(struct honest *honest, bool hold)
{
	if (honest->is_holding == hold)
		return;
	if (ask(honest, hold ? 'h' : 'r'))
		honest->is_holding = hold;
}

void honest_stop(struct honest *honest)
{
	if (honest->socket >= 0)
		(void)close(honest->socket);
	honest->socket = -1;
	if (honest->pid > 0)
		(void)waitpid(honest->pid, NULL, 0);
	honest->pid = 0;
}
