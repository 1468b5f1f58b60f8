#include "tools/rgov-top/screen.h"

#include "tools/rgov-top/help.h"
#include "tools/rgov-top/panel.h"

#include <limits.h>
#include <string.h>
#include <strings.h>

/* What the overview shows, from top to bottom. */
static const enum view_id parts[] = {
	VIEW_ID_LANES, VIEW_ID_USERS, VIEW_ID_LIVE, VIEW_ID_EVENTS};
enum { PARTS = sizeof(parts) / sizeof(parts[0]), PLAIN_EVENTS = 10 };

/* Selected rows: too many for a stack; one thread draws. */
static struct table_rows selected[PARTS];

void screen_init(struct screen *screen)
{
	*screen = (struct screen){.shown = SCREEN_OVERVIEW, .interval_s = 1};
	for (int id = 0; id < VIEW_IDS; id++) {
		screen->tables[id].sort = view_tables[id].sort;
		screen->tables[id].descending = view_tables[id].descending;
	}
}

enum view_id screen_table(const struct screen *screen)
{
	return screen->shown == SCREEN_OVERVIEW ? VIEW_ID_LIVE
						: (enum view_id)screen->shown;
}

int screen_view_by_name(const char *name)
{
	if (strcasecmp(name, "overview") == 0)
		return SCREEN_OVERVIEW;
	for (int id = 0; id < VIEW_IDS; id++)
		if (strcasecmp(name, view_tables[id].title) == 0)
			return id;
	return -2;
}

/* ------------------------------------------------------------ overview */

static int least(int a, int b)
{
	return a < b ? a : b;
}

/* Shares the rows: a quarter each at first, then the live requests take what
 * the others leave, then the others. */
static void share_rows(int rows, int heights[PARTS])
{
	static const int in_turn[PARTS] = {2, 0, 1, 3};
	int wanted[PARTS], left = rows;

	for (int i = 0; i < PARTS; i++) {
		wanted[i] = 1 + (selected[i].n == 0 ? 1 : (int)selected[i].n);
		heights[i] = least(wanted[i], rows / PARTS);
		left -= heights[i];
	}
	for (int turn = 0; turn < PARTS; turn++) {
		int i = in_turn[turn],
		    more = least(left, wanted[i] - heights[i]);

		heights[i] += more;
		left -= more;
	}
}

static void select_parts(const struct screen *screen, const struct look *look)
{
	for (int i = 0; i < PARTS; i++)
		table_select(look, parts[i], &screen->tables[parts[i]],
			screen->filter, &selected[i]);
}

static void draw_overview(struct screen *screen, struct canvas *canvas, int top,
	int rows, const struct look *look)
{
	int heights[PARTS];

	select_parts(screen, look);
	share_rows(rows, heights);
	for (int i = 0; i < PARTS; i++) {
		(void)table_draw(canvas, top, heights[i], look, parts[i],
			&screen->tables[parts[i]], &selected[i]);
		top += heights[i];
	}
}

static void draw_table(struct screen *screen, struct canvas *canvas, int top,
	int rows, const struct look *look)
{
	enum view_id id = screen_table(screen);

	table_select(
		look, id, &screen->tables[id], screen->filter, &selected[0]);
	(void)table_draw(
		canvas, top, rows, look, id, &screen->tables[id], &selected[0]);
}

/* ------------------------------------------------------------ terminal */

/* The names of the views, the one shown marked; then what is set. */
static void draw_views(
	const struct screen *screen, struct canvas *canvas, int row)
{
	enum view_id id = screen_table(screen);
	const struct table_state *state = &screen->tables[id];
	int column = 0;

	for (int view = SCREEN_OVERVIEW; view < VIEW_IDS; view++) {
		const char *title = view == SCREEN_OVERVIEW
					    ? "Overview"
					    : view_tables[view].title;

		column = canvas_printf(canvas, row, column,
			view == screen->shown ? STYLE_KEY : STYLE_DIM,
			view == screen->shown ? "[%d %s]" : " %d %s ", view + 2,
			title);
	}
	column = canvas_printf(canvas, row, column + 1, STYLE_PLAIN,
		"sort %s%s", view_tables[id].columns[state->sort].title,
		state->descending ? " v" : " ^");
	if (screen->filter[0] != '\0')
		(void)canvas_printf(canvas, row, column + 1, STYLE_WARN, "/%s",
			screen->filter);
}

static void draw_keys(
	const struct screen *screen, struct canvas *canvas, int row)
{
	if (screen->typing) {
		(void)canvas_printf(canvas, row, 0, STYLE_BOLD,
			"filter: %s_   (Enter: keep, Esc: none)",
			screen->filter);
		return;
	}
	if (screen->help) {
		(void)canvas_put(canvas, row, 0, INT_MAX, STYLE_TITLE,
			"j/k scroll  any other key: back");
		return;
	}
	(void)canvas_printf(canvas, row, 0,
		screen->paused ? STYLE_WARN : STYLE_DIM,
		"%s  ? help  1-7 view  j/k scroll  < > sort  r reverse  "
		"/ filter  + - %.3gs",
		screen->paused ? "PAUSED (Space)" : "q quit  Space pause",
		screen->interval_s);
}

static void draw_too_small(struct canvas *canvas)
{
	(void)canvas_printf(canvas, 0, 0, STYLE_BAD,
		"rgov-top needs %dx%d, has %dx%d", SCREEN_COLUMNS_MIN,
		SCREEN_ROWS_MIN, canvas->columns, canvas->rows);
}

void screen_draw(
	struct screen *screen, struct canvas *canvas, const struct look *look)
{
	int panel = panel_rows(look), rows = canvas->rows - panel - 2;

	if (canvas->rows < SCREEN_ROWS_MIN ||
		canvas->columns < SCREEN_COLUMNS_MIN) {
		draw_too_small(canvas);
		return;
	}
	draw_keys(screen, canvas, canvas->rows - 1);
	if (screen->help) {
		help_draw(canvas, canvas->rows - 1, &screen->help_offset);
		return;
	}
	panel_draw(canvas, look);
	draw_views(screen, canvas, panel);
	if (screen->shown == SCREEN_OVERVIEW)
		draw_overview(screen, canvas, panel + 1, rows, look);
	else
		draw_table(screen, canvas, panel + 1, rows, look);
}

/* ------------------------------------------------------------ plain */

/* A table after a blank line; returns the row behind it. */
static int append_table(struct screen *screen, struct canvas *canvas, int top,
	const struct look *look, enum view_id id, const struct table_rows *rows)
{
	return top + 1 +
	       table_draw(canvas, top + 1, (int)rows->n + 1, look, id,
		       &screen->tables[id], rows);
}

struct canvas *screen_plain(
	struct screen *screen, const struct look *look, int columns, bool ascii)
{
	int n = screen->shown == SCREEN_OVERVIEW ? PARTS : 1;
	int rows = panel_rows(look), top = rows;
	enum view_id id = screen_table(screen);
	struct canvas *canvas;

	if (n == PARTS)
		select_parts(screen, look);
	else
		table_select(look, id, &screen->tables[id], screen->filter,
			&selected[0]);
	if (n == PARTS && selected[PARTS - 1].n > PLAIN_EVENTS)
		selected[PARTS - 1].n = PLAIN_EVENTS;
	for (int i = 0; i < n; i++)
		rows += 3 + (int)selected[i].n;
	canvas = canvas_create(rows, columns, ascii);
	if (canvas == NULL)
		return NULL;
	panel_draw(canvas, look);
	for (int i = 0; i < n; i++)
		top = append_table(screen, canvas, top, look,
			n == PARTS ? parts[i] : id, &selected[i]);
	return canvas;
}
