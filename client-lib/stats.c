/* What can be looked at: the board's figures, and this process's own. */
#include "client-lib/handle.h"
#include "client-lib/words.h"
#include "shm-layout/shm_board.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static double mean_s(uint64_t sum_ns, uint64_t n)
{
	return n == 0 ? 0.0 : (double)sum_ns / (double)n / 1e9;
}

/* Relaxed throughout: each figure is exact, a set of them may be a moment
 * apart. */
static void read_counters(
	const struct board_counters *from, struct rgov_stats *to)
{
	to->total_requests = load_relaxed(from->total_requests);
	to->successful_requests = load_relaxed(from->successful_requests);
	to->failed_requests = load_relaxed(from->failed_requests);
	to->throttled_requests = load_relaxed(from->throttled_requests);
	to->refused_requests = load_relaxed(from->refused_requests);
	to->cancelled_requests = load_relaxed(from->cancelled_requests);
	to->retries = load_relaxed(from->retries);
	to->permits_granted = load_relaxed(from->permits_granted);
	to->avg_wait_time_s = mean_s(load_relaxed(from->wait_time_ns),
		load_relaxed(from->started_requests));
	to->avg_execution_time_s = mean_s(load_relaxed(from->execution_time_ns),
		load_relaxed(from->ended_requests));
}

static void read_host(const struct board *board, struct rgov_stats *to)
{
	const struct board_host *host = &board->host;
	const struct board_header *header = &board->header;
	uint64_t heartbeat = load_relaxed(header->heartbeat_ns);
	uint64_t now = clock_now_ns();

	to->active_requests = load_relaxed(host->running);
	to->queue_size = load_relaxed(host->queued);
	to->active_users = load_relaxed(host->users);
	to->max_concurrent_requests = load_relaxed(host->running_limit);
	to->requests_per_minute = load_relaxed(host->starts_limit);
	to->max_requests_per_user = load_relaxed(header->max_requests_per_user);
	to->sessions = load_relaxed(host->sessions);
	to->rgovd_pid = header->rgovd_pid;
	to->heartbeat_age_s =
		now > heartbeat ? (double)(now - heartbeat) / 1e9 : 0.0;
	to->draining = load_relaxed(header->draining) != 0;
	memcpy(to->preset, header->preset, sizeof(to->preset) - 1);
}

static void read_board(const struct board *board, struct rgov_stats *ret_stats)
{
	*ret_stats = (struct rgov_stats){.size = sizeof(*ret_stats)};
	read_counters(&board->counters, ret_stats);
	read_host(board, ret_stats);
}

/* The session's own board where there is one: in a container it may be the only
 * way to it.  False: no session, or its board was replaced meanwhile. */
static bool read_own_board(struct rgov *gov, struct rgov_stats *ret_stats)
{
	bool found = false;

	(void)pthread_mutex_lock(&gov->lock);
	if (gov->session != NULL && gov->fork_number == fork_number() &&
		gov->session->board != NULL &&
		!session_is_cut_off(gov->session)) {
		read_board(gov->session->board, ret_stats);
		found = true;
	}
	(void)pthread_mutex_unlock(&gov->lock);
	return found;
}

int rgov_stats(struct rgov *gov, struct rgov_stats *ret_stats)
{
	const struct board *board;
	int rc;

	if (ret_stats->size != sizeof(*ret_stats))
		return fail(-EINVAL, "stats.size: expected %zu, found %zu",
			sizeof(*ret_stats), ret_stats->size);
	if (read_own_board(gov, ret_stats))
		return 0;
	rc = board_open(gov->name, &board);
	if (rc < 0)
		return fail(rc, "board /dev/shm/rgov.%s: %s", gov->name,
			rc == -ENOENT
				? "no rgovd of this name has run since boot"
				: rgov_strerror(rc));
	read_board(board, ret_stats);
	board_close(board);
	return 0;
}

int rgov_reload(struct rgov *gov, char *text, size_t text_bytes)
{
	return session_ask(gov->socket_path, WIRE_RELOAD,
		clock_now_ns() + gov->connect_timeout_ns, text, text_bytes);
}

int rgov_diagnose(struct rgov *gov, struct rgov_diagnostics *ret_diagnostics)
{
	struct rgov_diagnostics *to = ret_diagnostics;

	if (to->size != sizeof(*to))
		return fail(-EINVAL,
			"diagnostics.size: expected %zu, found %zu",
			sizeof(*to), to->size);
	to->sleeps = load_relaxed(gov->sleeps);
	to->found_by_slice = load_relaxed(gov->found_by_slice);
	to->found_spinning = load_relaxed(gov->found_spinning);
	to->bells_rung = load_relaxed(gov->bells_rung);
	to->reconnects = load_relaxed(gov->reconnects);
	to->slots = gov->slots;
	to->slots_taken = 0;
	(void)pthread_mutex_lock(&gov->lock);
	if (gov->session != NULL && gov->fork_number == fork_number()) {
		to->slots = gov->session->client_shape.slots;
		to->slots_taken = to->slots - gov->session->n_free;
	}
	(void)pthread_mutex_unlock(&gov->lock);
	return 0;
}
