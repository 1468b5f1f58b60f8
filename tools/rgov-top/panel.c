#include "tools/rgov-top/panel.h"

#include "tools/rgov-top/format.h"

#include <stdarg.h>
#include <time.h>

/* A line that is filled from the left: a part is written whole or not at all.
 */
struct line {
	struct canvas *canvas;
	int row, column, end;
};

__attribute__((format(printf, 3, 4))) static void add(
	struct line *line, enum style style, const char *format, ...)
{
	char text[256];
	va_list arguments;
	int width;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	width = canvas_width(line->canvas, text);
	if (line->column + width > line->end)
		return;
	line->column = canvas_put(line->canvas, line->row, line->column,
			       line->end, style, text) +
		       2;
}

/* At the right edge, if the line has room for it. */
static void draw_clock(const struct line *line)
{
	int column = line->canvas->columns - 8;
	time_t now = time(NULL);
	struct tm local;
	char text[16];

	if (line->column > column || localtime_r(&now, &local) == NULL ||
		strftime(text, sizeof(text), "%H:%M:%S", &local) == 0)
		return;
	(void)canvas_put(line->canvas, line->row, column, line->canvas->columns,
		STYLE_PLAIN, text);
}

/* Whose board it is, and how rgovd does; trouble may take the whole line. */
static void draw_rgovd(struct line *line, const struct board_view *board)
{
	char words[160], span[FORMAT_BYTES];

	view_health_text(board, words, sizeof(words));
	if (board->health != VIEW_OK) {
		add(line, STYLE_BOLD, "%s:", board->name);
		line->column =
			canvas_put(line->canvas, line->row, line->column - 1,
				line->canvas->columns,
				board->health == VIEW_DRAINING ? STYLE_WARN
							       : STYLE_BAD,
				words) +
			2;
		return;
	}
	add(line, STYLE_BOLD, "rgov-top %s", board->name);
	add(line, STYLE_GOOD, "rgovd %d %s", (int)board->header.rgovd_pid,
		words);
	format_span(board->heartbeat_age_s, span);
	add(line, STYLE_PLAIN, "heartbeat %s", span);
}

static void draw_health(struct canvas *canvas, const struct board_view *board)
{
	const struct board_header *header = &board->header;
	struct line line = {canvas, 0, 0, canvas->columns - 10};
	char span[FORMAT_BYTES];

	draw_rgovd(&line, board);
	if (load_relaxed(header->shadow) != 0)
		add(&line, STYLE_BAD, "SHADOW");
	format_span(board->uptime_s, span);
	add(&line, STYLE_PLAIN, "up %s", span);
	add(&line, STYLE_PLAIN, "%s", header->engine);
	add(&line, STYLE_PLAIN, "%s", header->preset);
	add(&line, STYLE_PLAIN, "config %u",
		load_relaxed(header->config_generation));
	add(&line, STYLE_DIM, "%s", header->version);
	draw_clock(&line);
}

/* now / limit, peak, and a bar where there is a limit. */
static void draw_gauge(const struct line *place, const char *label,
	uint32_t now, uint32_t peak, uint32_t limit)
{
	enum { LABEL = 8, FIGURES = 20 };
	struct canvas *canvas = place->canvas;
	enum style style = view_share_style(now, limit);
	int bar = place->end - place->column - LABEL - FIGURES;
	int column = place->column + LABEL;
	char now_text[FORMAT_BYTES], peak_text[FORMAT_BYTES];
	char limit_text[FORMAT_BYTES];

	(void)canvas_put(
		canvas, place->row, place->column, column, STYLE_PLAIN, label);
	(void)canvas_put(
		canvas, place->row, column, place->end, STYLE_DIM, "[");
	for (int i = 0; i < bar - 2; i++) {
		bool full = limit != 0 &&
			    (double)now * (bar - 2) > (double)limit * i;

		(void)canvas_put(canvas, place->row, column + 1 + i, place->end,
			full ? style : STYLE_DIM, full ? "|" : ".");
	}
	column += bar - 1;
	(void)canvas_put(
		canvas, place->row, column, place->end, STYLE_DIM, "]");
	format_count(now, now_text);
	format_count(peak, peak_text);
	format_limit(limit, limit_text);
	column = canvas_printf(canvas, place->row, column + 2, style, "%s/%s",
		now_text, limit_text);
	(void)canvas_printf(canvas, place->row, column + 1, STYLE_DIM,
		"peak %s", peak_text);
}

static void draw_gauges(struct canvas *canvas, const struct board_view *board)
{
	const struct board_host *host = &board->host;
	int half = canvas->columns / 2;
	struct line left = {canvas, 1, 0, half - 1};
	struct line right = {canvas, 1, half + 1, canvas->columns};
	char span[FORMAT_BYTES], limit[FORMAT_BYTES];
	double oldest_s =
		view_age_s(board, load_relaxed(host->oldest_enqueued_ns));

	draw_gauge(&left, "Running", load_relaxed(host->running),
		load_relaxed(host->running_peak),
		load_relaxed(host->running_limit));
	draw_gauge(&right, "Queue", load_relaxed(host->queued),
		load_relaxed(host->queued_peak),
		load_relaxed(host->queued_limit));
	left.row = right.row = 2;
	draw_gauge(&left, "Starts", load_relaxed(host->starts),
		load_relaxed(host->starts_peak),
		load_relaxed(host->starts_limit));
	format_span(oldest_s, span);
	add(&right, oldest_s > 60 ? STYLE_WARN : STYLE_PLAIN, "Oldest  %s",
		span);
	if (load_relaxed(board->header.credentials) == 0)
		add(&right, STYLE_BAD, "no credentials!");
	if (load_relaxed(host->store_fails) != 0)
		add(&right, STYLE_BAD, "disk fails!");
	if (load_relaxed(host->tasks) > 0)
		add(&right, STYLE_PLAIN, "tasks %u", load_relaxed(host->tasks));
	if (board->unreadable > 0)
		add(&right, STYLE_WARN, "unreadable %u", board->unreadable);
	add(&right, STYLE_PLAIN, "users %u", load_relaxed(host->users));
	format_limit(load_relaxed(host->sessions_limit), limit);
	add(&right, STYLE_PLAIN, "sessions %u/%s", load_relaxed(host->sessions),
		limit);
}

static void add_count(
	struct line *line, enum style if_any, double count, const char *what)
{
	char text[FORMAT_BYTES];

	format_count(count, text);
	add(line, count > 0 ? if_any : STYLE_PLAIN, "%s %s", text, what);
}

static void draw_totals(struct canvas *canvas, const struct board_view *board)
{
	const uint64_t *counters = board->counters;
	struct line line = {canvas, 3, 0, canvas->columns};

	add(&line, STYLE_PLAIN, "Ended ");
	add_count(&line, STYLE_PLAIN,
		(double)counters[VIEW_successful_requests], "ok");
	add_count(&line, STYLE_WARN, (double)counters[VIEW_failed_requests],
		"failed");
	add_count(&line, STYLE_BAD, (double)counters[VIEW_throttled_requests],
		"throttled");
	add_count(&line, STYLE_WARN, (double)counters[VIEW_refused_requests],
		"refused");
	add_count(&line, STYLE_PLAIN, (double)counters[VIEW_cancelled_requests],
		"cancelled");
	add_count(
		&line, STYLE_PLAIN, (double)counters[VIEW_retries], "retries");
	add_count(&line, STYLE_PLAIN, (double)counters[VIEW_permits_granted],
		"permits");
	add_count(&line, STYLE_PLAIN, (double)counters[VIEW_connections_opened],
		"connections");
}

static void draw_quantiles(
	struct line *line, const struct board_histogram *waits, const char *of)
{
	static const int shares[] = {50, 95, 99};
	char span[FORMAT_BYTES];

	add(line, STYLE_PLAIN, "Wait%s", of);
	for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
		format_span(board_quantile_s(waits, shares[i] / 100.0), span);
		add(line, STYLE_PLAIN, "p%d %s", shares[i], span);
	}
}

/* Rates of the last minute; of rgovd's whole life while there is no past. */
static void draw_rates(struct canvas *canvas, const struct look *look)
{
	const struct history_delta *recent = look->recent;
	const struct board_view *board = look->board;
	struct line line = {canvas, 4, 0, canvas->columns};
	bool has_past = recent->span_s >= 0.5;
	double span_s = has_past ? recent->span_s : board->uptime_s;
	double ok = has_past
			    ? recent->counters[VIEW_successful_requests]
			    : (double)board->counters[VIEW_successful_requests];
	char span[FORMAT_BYTES];

	format_span(span_s, span);
	add(&line, STYLE_PLAIN, "%s %s ", has_past ? "Last" : "Since start",
		span);
	add(&line, STYLE_PLAIN, "%.1f ok/min",
		span_s > 0 ? ok * 60 / span_s : 0);
	if (has_past) {
		add_count(&line, STYLE_WARN,
			recent->counters[VIEW_failed_requests], "failed");
		add_count(&line, STYLE_BAD,
			recent->counters[VIEW_throttled_requests], "throttled");
	}
	if (has_past && recent->counters[VIEW_started_requests] > 0)
		draw_quantiles(&line, &recent->waits, "");
	else
		draw_quantiles(&line, &board->host.wait,
			has_past ? " since start" : "");
}

/* Trouble takes the rest of the line. */
static void draw_cluster(struct canvas *canvas, const struct board_view *board)
{
	const struct board_cluster *cluster = &board->cluster;
	const struct board_lease *lease = &cluster->lease;
	struct line line = {canvas, 5, 0, canvas->columns};
	bool is_leased = cluster->mode == BOARD_CLUSTER_LEASED;
	char words[512], span[FORMAT_BYTES];

	add(&line, STYLE_PLAIN, "Cluster");
	add(&line, is_leased ? STYLE_GOOD : STYLE_BAD, "%s%s%s",
		board_cluster_text(cluster->mode),
		cluster->mode == BOARD_CLUSTER_APART ? ": " : "",
		cluster->mode == BOARD_CLUSTER_APART ? cluster->on_loss : "");
	view_cluster_text(board, words, sizeof(words));
	if (words[0] != '\0') {
		(void)canvas_put(canvas, line.row, line.column, canvas->columns,
			STYLE_BAD, words);
		return;
	}
	add(&line, STYLE_PLAIN, "hosts %u/%u", cluster->hosts,
		cluster->hosts_configured);
	if (lease->is_shared != 0)
		add(&line, STYLE_PLAIN, "left %u others %u", lease->starts_left,
			lease->starts_others);
	format_span(view_age_s(board, cluster->answered_ns), span);
	if (cluster->answered_ns != 0)
		add(&line, STYLE_PLAIN, "answer %s ago, %.1f ms", span,
			(double)cluster->took_ns * 1e-6);
	add(&line, STYLE_DIM, "%s", cluster->redis);
}

int panel_rows(const struct look *look)
{
	return view_is_clustered(look->board) ? 6 : 5;
}

void panel_draw(struct canvas *canvas, const struct look *look)
{
	draw_health(canvas, look->board);
	draw_gauges(canvas, look->board);
	draw_totals(canvas, look->board);
	draw_rates(canvas, look);
	if (view_is_clustered(look->board))
		draw_cluster(canvas, look->board);
}
