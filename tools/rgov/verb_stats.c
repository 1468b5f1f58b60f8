/*
 * rgov stats: the board's figures, for people, or as JSON.  The nine figures of
 * the old request manager come first.
 */
#include "tools/rgov/rgov_command.h"

#include "tools/board-view/board_json.h"
#include "tools/board-view/board_view.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sysexits.h>

enum { NAME_COLUMNS = 26 };

static void print_count(const char *name, uint64_t count)
{
	(void)printf("%-*s %" PRIu64 "\n", NAME_COLUMNS, name, count);
}

static void print_seconds(const char *name, double seconds)
{
	(void)printf("%-*s %.3f s\n", NAME_COLUMNS, name, seconds);
}

static void print_gauge(
	const char *name, uint32_t now, uint32_t peak, uint32_t limit)
{
	(void)printf("%-*s %" PRIu32 "  peak %" PRIu32, NAME_COLUMNS, name, now,
		peak);
	if (limit != 0)
		(void)printf("  limit %" PRIu32, limit);
	(void)putchar('\n');
}

static void print_legacy(const struct board_view *view)
{
	const uint64_t *counters = view->counters;

	print_count("total_requests", counters[VIEW_total_requests]);
	print_count("successful_requests", counters[VIEW_successful_requests]);
	print_count("failed_requests", counters[VIEW_failed_requests]);
	print_count("throttled_requests", counters[VIEW_throttled_requests]);
	print_count("active_requests", load_relaxed(view->host.running));
	print_count("queue_size", load_relaxed(view->host.queued));
	print_count("active_users", load_relaxed(view->host.users));
	print_seconds("avg_wait_time", view_mean_wait_s(view));
	print_seconds("avg_execution_time", view_mean_execution_s(view));
}

static void print_quantiles(
	const char *name, const struct board_histogram *histogram)
{
	(void)printf("%-*s p50 %.3f s  p95 %.3f s  p99 %.3f s\n", NAME_COLUMNS,
		name, board_quantile_s(histogram, 0.50),
		board_quantile_s(histogram, 0.95),
		board_quantile_s(histogram, 0.99));
}

static void print_host(const struct board_view *view)
{
	const struct board_host *host = &view->host;

	(void)puts("\nhost");
	print_gauge("  running", load_relaxed(host->running),
		load_relaxed(host->running_peak),
		load_relaxed(host->running_limit));
	print_gauge("  queued", load_relaxed(host->queued),
		load_relaxed(host->queued_peak),
		load_relaxed(host->queued_limit));
	print_gauge("  starts in the window", load_relaxed(host->starts),
		load_relaxed(host->starts_peak),
		load_relaxed(host->starts_limit));
	print_count("  most running of a user",
		load_relaxed(view->header.max_requests_per_user));
	print_count("  sessions", load_relaxed(host->sessions));
	print_count("  tasks not ended", load_relaxed(host->tasks));
	print_count(
		"  bytes of tasks on disk", load_relaxed(host->store_bytes));
	if (load_relaxed(host->store_fails) != 0)
		(void)puts("  THE DISK DOES NOT TAKE TASKS: see the log");
	print_seconds("  oldest wait",
		view_age_s(view, load_relaxed(host->oldest_enqueued_ns)));
	print_quantiles("  wait", &host->wait);
	print_quantiles("  execution", &host->execution);
}

static void print_lease(const struct board_lease *lease)
{
	if (lease->is_shared == 0)
		return;
	(void)printf("%-*s %" PRIu32 " starts left, others have %" PRIu32 "\n",
		NAME_COLUMNS, "  lease", lease->starts_left,
		lease->starts_others);
	if (lease->tokens_level != 0 || lease->tokens_left != 0)
		(void)printf("%-*s %" PRId64 " left, others have %" PRIu64
			     ", the account %" PRId64 "\n",
			NAME_COLUMNS, "  leased tokens", lease->tokens_left,
			lease->tokens_others, lease->tokens_level);
}

static void print_cluster(const struct board_view *view)
{
	const struct board_cluster *cluster = &view->cluster;
	char words[512];

	if (!view_is_clustered(view))
		return;
	(void)puts("\ncluster");
	(void)printf("%-*s %s for %.0f s, on loss %s\n", NAME_COLUMNS, "  mode",
		board_cluster_text(cluster->mode),
		view_age_s(view, cluster->since_ns), cluster->on_loss);
	(void)printf("%-*s %" PRIu32 " of %" PRIu32 ", this one is %s\n",
		NAME_COLUMNS, "  hosts", cluster->hosts,
		cluster->hosts_configured, cluster->host);
	(void)printf("%-*s %s, account %s\n", NAME_COLUMNS, "  redis",
		cluster->redis, cluster->account);
	if (cluster->answered_ns == 0)
		(void)printf("%-*s none yet\n", NAME_COLUMNS, "  last answer");
	else
		(void)printf("%-*s %.1f s ago, took %.1f ms\n", NAME_COLUMNS,
			"  last answer", view_age_s(view, cluster->answered_ns),
			(double)cluster->took_ns * 1e-6);
	print_lease(&cluster->lease);
	view_cluster_text(view, words, sizeof(words));
	if (words[0] != '\0')
		(void)printf("%-*s %s\n", NAME_COLUMNS, "  trouble", words);
}

static void print_lanes(const struct board_view *view)
{
	(void)puts("\nlanes: running/limit queued starts/limit throttled gate");
	for (size_t i = 0; i < SHM_BOARD_LANES; i++) {
		const struct board_lane *lane = &view->lanes[i];

		if (load_relaxed(lane->sequence) == 0)
			continue;
		(void)printf("  %s  %" PRIu32 "/%" PRIu32 "  %" PRIu32
			     "  %" PRIu32 "/%" PRIu32 "  %" PRIu64 "  %s\n",
			lane->name, lane->running, lane->running_limit,
			lane->queued, lane->starts, lane->starts_limit,
			lane->throttled,
			lane->gate_open != 0 ? "open" : "closed");
	}
}

static void print_users(const struct board_view *view)
{
	(void)puts("\nusers: running/limit queued/limit done refused");
	for (size_t i = 0; i < SHM_BOARD_USERS; i++) {
		const struct board_user *user = &view->users[i];

		if (load_relaxed(user->sequence) == 0)
			continue;
		(void)printf("  %s  %" PRIu32 "/%" PRIu32 "  %" PRIu32
			     "/%" PRIu32 "  %" PRIu64 "  %" PRIu64 "\n",
			user->name, user->running, user->running_limit,
			user->queued, user->queued_limit, user->done,
			user->refused);
	}
}

static void print_counters(const struct board_view *view)
{
	(void)puts("\ncounters");
	for (size_t i = 0; i < VIEW_COUNTERS; i++)
		(void)printf("  %-*s %" PRIu64 " %s\n", NAME_COLUMNS - 2,
			view_counter_texts[i].name, view->counters[i],
			view_counter_texts[i].unit);
}

static void print_rgovd(const struct board_view *view)
{
	const struct board_header *header = &view->header;

	(void)puts("\nrgovd");
	(void)printf("%-*s %d, version %s, %s\n", NAME_COLUMNS, "  pid",
		(int)header->rgovd_pid, header->version, header->engine);
	(void)printf("%-*s %s\n", NAME_COLUMNS, "  health",
		view_health_name(view->health));
	print_seconds("  up", view->uptime_s);
	(void)printf("%-*s %s, config %" PRIu32 "\n", NAME_COLUMNS, "  preset",
		header->preset, load_relaxed(header->config_generation));
	(void)printf(
		"%-*s %s\n", NAME_COLUMNS, "  socket", header->socket_path);
	(void)printf("%-*s %s\n", NAME_COLUMNS, "  endpoint", header->endpoint);
}

static int print_all(const struct board_view *view)
{
	if (load_relaxed(view->header.shadow) != 0)
		(void)puts("SHADOW: nothing is held back; what runs, waits and "
			   "starts below is what would\n");
	print_legacy(view);
	print_host(view);
	print_cluster(view);
	print_lanes(view);
	print_users(view);
	print_counters(view);
	print_rgovd(view);
	return fflush(stdout) == EOF || ferror(stdout) ? -EIO : 0;
}

int verb_stats(struct invocation *invocation)
{
	struct board_view *view;
	bool json = false;
	char words[512];
	int rc;

	while (next_option(invocation) != -1)
		json = true; /* 'j', the only one */
	expect_operands(invocation, 0);
	rc = view_open(invocation->name, &view);
	if (rc < 0) {
		view_open_error(invocation->name, rc, words, sizeof(words));
		return complain(invocation, EX_UNAVAILABLE, "%s", words);
	}
	rc = json ? board_json_print(view, false, stdout) : print_all(view);
	if (rc < 0) {
		rc = complain(invocation, rc == -ENOMEM ? EX_OSERR : EX_IOERR,
			"cannot print: %s", strerror(-rc));
	} else if (view->health != VIEW_OK) {
		view_health_text(view, words, sizeof(words));
		(void)complain(invocation, 0, "%s", words);
	}
	view_free(view);
	return rc;
}
