#include "tools/board-view/board_json.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>

/*
 * jansson makes every function fail that is given NULL, so a lack of memory
 * travels up to the last one: only `failed` needs to be looked at.
 */
struct writer {
	json_t *object;
	bool failed;
};

static void put(struct writer *to, const char *name, json_t *value)
{
	if (json_object_set_new(to->object, name, value) < 0)
		to->failed = true;
}

static void put_int(struct writer *to, const char *name, uint64_t value)
{
	/* JSON numbers of this library are signed. */
	put(to, name,
		json_integer(
			value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

static void put_signed(struct writer *to, const char *name, int64_t value)
{
	put(to, name, json_integer(value));
}

/* Rounded to the microsecond or millionth: more digits are noise. */
static void put_real(struct writer *to, const char *name, double value)
{
	put(to, name,
		json_real(isfinite(value) && fabs(value) < 1e15
				  ? round(value * 1e6) / 1e6
				  : 0));
}

static void put_text(struct writer *to, const char *name, const char *text)
{
	put(to, name, json_string(text));
}

static void put_bool(struct writer *to, const char *name, bool value)
{
	put(to, name, json_boolean(value));
}

static struct writer open_object(void)
{
	return (struct writer){.object = json_object()};
}

/* Closes `from` under a name of `to`, or as the next element of an array. */
static void put_object(
	struct writer *to, const char *name, const struct writer *from)
{
	to->failed |= from->failed;
	put(to, name, from->object);
}

static void append(struct writer *owner, json_t *array, struct writer *element)
{
	owner->failed |= element->failed;
	if (json_array_append_new(array, element->object) < 0)
		owner->failed = true;
}

/* ------------------------------------------------------------ parts */

/* The nine keys of the old request manager's get_stats(), in its order. */
static void put_legacy(struct writer *to, const struct board_view *view)
{
	const uint64_t *counters = view->counters;

	put_int(to, "total_requests", counters[VIEW_total_requests]);
	put_int(to, "successful_requests", counters[VIEW_successful_requests]);
	put_int(to, "failed_requests", counters[VIEW_failed_requests]);
	put_int(to, "throttled_requests", counters[VIEW_throttled_requests]);
	put_int(to, "active_requests", load_relaxed(view->host.running));
	put_int(to, "queue_size", load_relaxed(view->host.queued));
	put_int(to, "active_users", load_relaxed(view->host.users));
	put_real(to, "avg_wait_time", view_mean_wait_s(view));
	put_real(to, "avg_execution_time", view_mean_execution_s(view));
}

/* What get_stats() has beside them, under the same names. */
static void put_flat(struct writer *to, const struct board_view *view)
{
	const uint64_t *counters = view->counters;

	put_int(to, "refused_requests", counters[VIEW_refused_requests]);
	put_int(to, "cancelled_requests", counters[VIEW_cancelled_requests]);
	put_int(to, "retries", counters[VIEW_retries]);
	put_int(to, "permits_granted", counters[VIEW_permits_granted]);
	put_int(to, "sessions", load_relaxed(view->host.sessions));
	put_int(to, "max_concurrent_requests",
		load_relaxed(view->host.running_limit));
	put_int(to, "requests_per_minute",
		load_relaxed(view->host.starts_limit));
	put_int(to, "max_requests_per_user",
		load_relaxed(view->header.max_requests_per_user));
}

static void put_limits(struct writer *to, const struct board_view *view)
{
	const struct board_header *header = &view->header;
	struct writer limits = open_object();

	put_int(&limits, "max_concurrent_requests",
		load_relaxed(view->host.running_limit));
	put_int(&limits, "requests_per_minute",
		load_relaxed(view->host.starts_limit));
	put_int(&limits, "max_requests_per_user",
		load_relaxed(header->max_requests_per_user));
	put_int(&limits, "max_queued", load_relaxed(view->host.queued_limit));
	put_int(&limits, "max_sessions",
		load_relaxed(view->host.sessions_limit));
	put_real(&limits, "quota_window_s",
		(double)header->quota_window_ns * 1e-9);
	put_real(&limits, "guard_s", (double)header->guard_ns * 1e-9);
	put_object(to, "limits", &limits);
}

static void put_quantiles(struct writer *to, const char *name,
	const struct board_histogram *histogram)
{
	struct writer quantiles = open_object();

	put_real(&quantiles, "p50", board_quantile_s(histogram, 0.50));
	put_real(&quantiles, "p95", board_quantile_s(histogram, 0.95));
	put_real(&quantiles, "p99", board_quantile_s(histogram, 0.99));
	put_object(to, name, &quantiles);
}

static void put_host_tokens(
	struct writer *host, const struct board_tokens *from)
{
	put_signed(host, "tokens_available", from->available);
	put_int(host, "tokens_limit", from->limit);
	put_int(host, "tokens_reserved", from->reserved);
	put_signed(host, "tokens_used_today", from->used_today);
	put_int(host, "tokens_day_limit", from->day_limit);
}

static void put_host(struct writer *to, const struct board_view *view)
{
	const struct board_host *from = &view->host;
	struct writer host = open_object();

	put_int(&host, "running", load_relaxed(from->running));
	put_int(&host, "running_peak", load_relaxed(from->running_peak));
	put_int(&host, "running_limit", load_relaxed(from->running_limit));
	put_int(&host, "queued", load_relaxed(from->queued));
	put_int(&host, "queued_peak", load_relaxed(from->queued_peak));
	put_int(&host, "queued_limit", load_relaxed(from->queued_limit));
	put_int(&host, "starts", load_relaxed(from->starts));
	put_int(&host, "starts_peak", load_relaxed(from->starts_peak));
	put_int(&host, "starts_limit", load_relaxed(from->starts_limit));
	put_int(&host, "users", load_relaxed(from->users));
	put_int(&host, "sessions", load_relaxed(from->sessions));
	put_int(&host, "sessions_limit", load_relaxed(from->sessions_limit));
	put_int(&host, "tasks", load_relaxed(from->tasks));
	put_int(&host, "tasks_limit", load_relaxed(from->tasks_limit));
	put_int(&host, "store_bytes", load_relaxed(from->store_bytes));
	put_bool(&host, "store_fails", load_relaxed(from->store_fails) != 0);
	put_real(&host, "oldest_wait_s",
		view_age_s(view, load_relaxed(from->oldest_enqueued_ns)));
	put_int(&host, "resident_bytes", load_relaxed(from->resident_bytes));
	put_int(&host, "live_hidden", load_relaxed(view->header.live_hidden));
	put_host_tokens(&host, &view->host_tokens);
	put_quantiles(&host, "wait_s", &from->wait);
	put_quantiles(&host, "execution_s", &from->execution);
	put_object(to, "host", &host);
}

static void put_lease(struct writer *to, const struct board_lease *from)
{
	struct writer lease = open_object();

	if (from->is_shared == 0) {
		json_decref(lease.object);
		return;
	}
	put_int(&lease, "starts_left", from->starts_left);
	if (from->starts_bound != UINT32_MAX)
		put_int(&lease, "starts_bound", from->starts_bound);
	put_int(&lease, "starts_others", from->starts_others);
	put_signed(&lease, "tokens_left", from->tokens_left);
	put_signed(&lease, "tokens_level", from->tokens_level);
	put_int(&lease, "tokens_others", from->tokens_others);
	put_object(to, "lease", &lease);
}

/* One quota over several hosts. */
static void put_cluster(struct writer *to, const struct board_view *view)
{
	const struct board_cluster *from = &view->cluster;
	struct writer cluster = open_object();

	put_text(&cluster, "mode", board_cluster_text(from->mode));
	if (view_is_clustered(view)) {
		put_text(&cluster, "redis", from->redis);
		put_bool(&cluster, "connected", from->is_connected != 0);
		put_text(&cluster, "trouble", from->trouble);
		put_text(&cluster, "reason", from->reason);
		put_text(&cluster, "account", from->account);
		put_text(&cluster, "host", from->host);
		put_bool(&cluster, "namesake", from->is_namesake != 0);
		put_text(&cluster, "on_loss", from->on_loss);
		put_int(&cluster, "hosts", from->hosts);
		put_int(&cluster, "hosts_configured", from->hosts_configured);
		put_real(&cluster, "mode_s", view_age_s(view, from->since_ns));
		if (from->answered_ns != 0)
			put_real(&cluster, "answer_age_s",
				view_age_s(view, from->answered_ns));
		put_real(&cluster, "answer_took_s",
			(double)from->took_ns * 1e-9);
		put_lease(&cluster, &from->lease);
	}
	put_object(to, "cluster", &cluster);
}

static struct writer lane_object(
	const struct board_view *view, const struct board_lane *from)
{
	struct writer lane = open_object();

	put_text(&lane, "name", from->name);
	put_text(&lane, "pattern", from->pattern);
	put_int(&lane, "running", from->running);
	put_int(&lane, "running_peak", from->running_peak);
	put_int(&lane, "running_limit", from->running_limit);
	put_int(&lane, "queued", from->queued);
	put_int(&lane, "backing_off", from->backing_off);
	put_int(&lane, "starts", from->starts);
	put_int(&lane, "starts_peak", from->starts_peak);
	put_int(&lane, "starts_limit", from->starts_limit);
	put_signed(&lane, "tokens_available", from->tokens_available);
	put_int(&lane, "tokens_limit", from->tokens_limit);
	put_int(&lane, "tokens_reserved", from->tokens_reserved);
	put_signed(&lane, "tokens_used_today", from->tokens_used_today);
	put_int(&lane, "tokens_day_limit", from->tokens_day_limit);
	put_int(&lane, "retry_budget_left", from->retry_budget_left);
	put_bool(&lane, "gate_open", from->gate_open != 0);
	put_real(&lane, "gate_opens_in_s",
		from->gate_open != 0
			? 0
			: fmax(0, view_left_s(view, from->gate_opens_ns)));
	put_text(&lane, "held_by",
		from->queued > 0 ? shm_reason_name(from->held_by) : "");
	put_real(&lane, "held_s",
		from->queued > 0 ? view_age_s(view, from->held_since_ns) : 0);
	put_int(&lane, "gate_closings", from->gate_closings);
	put_int(&lane, "gate_probes", from->gate_probes);
	put_int(&lane, "admitted", from->admitted);
	put_int(&lane, "done", from->done);
	put_int(&lane, "throttled", from->throttled);
	put_int(&lane, "lost", from->lost);
	put_int(&lane, "retries", from->retries);
	put_int(&lane, "absurd_usage", from->absurd_usage);
	put_lease(&lane, &from->lease);
	return lane;
}

static void put_budget(struct writer *user, const struct board_user *from)
{
	put_int(user, "starts", from->starts);
	put_int(user, "starts_limit", from->starts_limit);
	put_signed(user, "tokens_available", from->tokens_available);
	put_int(user, "tokens_limit", from->tokens_limit);
	put_signed(user, "tokens_used_today", from->tokens_used_today);
	put_int(user, "tokens_day_limit", from->tokens_day_limit);
}

static struct writer user_object(
	const struct board_view *view, const struct board_user *from)
{
	struct writer user = open_object();

	put_text(&user, "name", from->name);
	put_text(&user, "app", from->app);
	put_int(&user, "running", from->running);
	put_int(&user, "running_limit", from->running_limit);
	put_int(&user, "queued", from->queued);
	put_int(&user, "queued_limit", from->queued_limit);
	put_real(&user, "service", from->service);
	put_real(&user, "weight", from->weight);
	put_text(&user, "held_by",
		from->queued > 0 ? shm_reason_name(from->held_by) : "");
	put_int(&user, "admitted", from->admitted);
	put_int(&user, "done", from->done);
	put_int(&user, "refused", from->refused);
	put_real(&user, "last_s", view_age_s(view, from->last_ns));
	if (from->as_of_ns != 0)
		put_budget(&user, from);
	return user;
}

/* What holds one that waits. */
static void put_why(struct writer *to, const struct board_view *view,
	const struct board_live *from)
{
	put_int(to, "position", from->position);
	put_text(to, "held_by", shm_reason_name(from->held_by));
	put_real(to, "held_s", view_live_held_s(view, from));
	if (from->held_until_ns != UINT64_MAX)
		put_real(to, "held_ends_in_s",
			fmax(0, view_left_s(view, from->held_until_ns)));
	put_real(to, "predicted_s", view_live_predicted_s(view, from));
}

static struct writer live_object(
	const struct board_view *view, const struct board_live *from)
{
	struct writer live = open_object();

	put_int(&live, "request", from->request);
	put_text(&live, "state", board_live_text(from->state));
	put_text(&live, "kind", view_kind_text(from->kind));
	put_text(&live, "operation", view_operation_text(from->operation));
	put_text(&live, "priority", view_class_text(from->class));
	put_text(&live, "user", from->user);
	put_text(&live, "app", from->app);
	put_text(&live, "model", from->model);
	put_signed(&live, "pid", from->pid);
	put_int(&live, "slot", from->slot);
	put_int(&live, "attempts", from->attempts);
	put_int(&live, "tokens", from->tokens);
	put_real(&live, "wait_s", view_live_wait_s(view, from));
	put_real(&live, "execution_s",
		view_live_runs(from) ? view_age_s(view, from->started_ns) : 0);
	put_real(
		&live, "deadline_left_s", view_left_s(view, from->deadline_ns));
	if (from->state == BOARD_LIVE_PERMIT)
		put_real(&live, "expires_in_s",
			view_left_s(view, from->expires_ns));
	if (view_live_waits(from) && from->as_of_ns != 0)
		put_why(&live, view, from);
	return live;
}

static struct writer event_object(
	const struct board_view *view, const struct board_event *from)
{
	struct writer event = open_object();

	put_int(&event, "number", from->number);
	put_real(&event, "at", (double)from->at_unix_ns * 1e-9);
	put_real(&event, "age_s", view_age_s(view, from->at_ns));
	put_text(&event, "kind", from->kind);
	put_text(&event, "text", from->text);
	return event;
}

static void put_tables(struct writer *to, const struct board_view *view)
{
	json_t *lanes = json_array(), *users = json_array();
	json_t *live = json_array(), *events = json_array();

	for (size_t i = 0; i < SHM_BOARD_LANES; i++) {
		if (view->lanes[i].sequence != 0) {
			struct writer w = lane_object(view, &view->lanes[i]);
			append(to, lanes, &w);
		}
	}
	for (size_t i = 0; i < SHM_BOARD_USERS; i++) {
		if (view->users[i].sequence != 0) {
			struct writer w = user_object(view, &view->users[i]);
			append(to, users, &w);
		}
	}
	for (size_t i = 0; i < SHM_BOARD_LIVE; i++) {
		if (view->live[i].state != BOARD_LIVE_FREE) {
			struct writer w = live_object(view, &view->live[i]);
			append(to, live, &w);
		}
	}
	/* The oldest first: the next to be overwritten is the oldest. */
	for (size_t i = 0; i < SHM_BOARD_EVENTS; i++) {
		const struct board_event *event =
			&view->events[(load_relaxed(view->header.events) + i) %
				      SHM_BOARD_EVENTS];

		if (event->sequence != 0) {
			struct writer w = event_object(view, event);
			append(to, events, &w);
		}
	}
	put(to, "lanes", lanes);
	put(to, "users", users);
	put(to, "live", live);
	put(to, "events", events);
}

static void put_counters(struct writer *to, const struct board_view *view)
{
	struct writer counters = open_object();

	for (size_t i = 0; i < VIEW_COUNTERS; i++)
		put_int(&counters, view_counter_texts[i].name,
			view->counters[i]);
	put_object(to, "counters", &counters);
}

static void put_rgovd(struct writer *to, const struct board_view *view)
{
	const struct board_header *header = &view->header;
	struct writer rgovd = open_object();
	char words[128];

	view_health_text(view, words, sizeof(words));
	put_signed(&rgovd, "pid", header->rgovd_pid);
	put_text(&rgovd, "name", view->name);
	put_text(&rgovd, "version", header->version);
	put_text(&rgovd, "engine", header->engine);
	put_text(&rgovd, "health", view_health_name(view->health));
	put_text(&rgovd, "health_text", words);
	put_real(&rgovd, "heartbeat_age_s", view->heartbeat_age_s);
	put_real(&rgovd, "uptime_s", view->uptime_s);
	put_real(&rgovd, "started", (double)header->started_unix_ns * 1e-9);
	put_int(&rgovd, "config_generation",
		load_relaxed(header->config_generation));
	put_bool(&rgovd, "draining", load_relaxed(header->draining) != 0);
	put_bool(&rgovd, "stopped", load_relaxed(header->stopped) != 0);
	put_bool(&rgovd, "credentials", load_relaxed(header->credentials) != 0);
	put_bool(&rgovd, "shadow", load_relaxed(header->shadow) != 0);
	put_text(&rgovd, "preset", header->preset);
	put_text(&rgovd, "socket", header->socket_path);
	put_text(&rgovd, "endpoint", header->endpoint);
	put_int(&rgovd, "unreadable_records", view->unreadable);
	put_object(to, "rgovd", &rgovd);
}

/* Ends the document. */
static int print(json_t *document, bool failed, bool compact, FILE *out)
{
	int rc = 0;

	if (document == NULL || failed)
		rc = -ENOMEM;
	else if (json_dumpf(document, out,
			 JSON_REAL_PRECISION(15) |
				 (compact ? JSON_COMPACT : JSON_INDENT(2))) <
			 0 ||
		 fputc('\n', out) == EOF || fflush(out) == EOF)
		rc = -EIO;
	json_decref(document);
	return rc;
}

int board_json_print_queue(const struct board_view *view, FILE *out)
{
	json_t *array = json_array();
	struct writer owner = {0};

	for (size_t i = 0; i < SHM_BOARD_LIVE; i++) {
		if (view_live_waits(&view->live[i])) {
			struct writer w = live_object(view, &view->live[i]);
			append(&owner, array, &w);
		}
	}
	return print(array, owner.failed, false, out);
}

int board_json_print(const struct board_view *view, bool compact, FILE *out)
{
	struct writer whole = open_object();

	put_legacy(&whole, view);
	put_flat(&whole, view);
	put_limits(&whole, view);
	put_host(&whole, view);
	put_cluster(&whole, view);
	put_tables(&whole, view);
	put_counters(&whole, view);
	put_rgovd(&whole, view);
	return print(whole.object, whole.failed, compact, out);
}
