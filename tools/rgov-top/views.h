/*
 * The tables that rgov-top can show, and their cells.  What stands in a table,
 * not where: table.h places it.
 */
#ifndef RGOV_TOP_VIEWS_H
#define RGOV_TOP_VIEWS_H

#include "tools/board-view/board_view.h"
#include "tools/rgov-top/canvas.h"
#include "tools/rgov-top/history.h"

enum view_id {
#define VIEW(id, title, sort, descending, words) VIEW_ID_##id,
#include "tools/rgov-top/views.def"
	VIEW_IDS
};

enum column_flags { LEFT = 1, GROWS = 2 };

struct view_column {
	const char *title;
	int width;   /* columns, at least */
	int dropped; /* 0: never; the highest first */
	int flags;
	const char *help;
};

struct view_table {
	const char *title;
	const char *words;
	const struct view_column *columns;
	int n_columns;
	int sort; /* column, at first */
	bool descending;
};
extern const struct view_table view_tables[VIEW_IDS];

/* What is looked at: the board now, and its last minute. */
struct look {
	const struct board_view *board;
	const struct history_delta *recent;
};

struct cell {
	char text[192];
	double number; /* to sort by; NAN: sort by the text */
	enum style style;
};

/* As many as any table can have. */
enum { VIEW_ROWS_MAX = SHM_BOARD_LIVE };

/* The rows of a table that contain the filter (in any case; "": all), by their
 * place on the board.  Returns their number. */
size_t view_rows(const struct look *look, enum view_id id, const char *filter,
	size_t ret_rows[VIEW_ROWS_MAX]);

void view_cell(const struct look *look, enum view_id id, size_t row, int column,
	struct cell *ret_cell);

/* Sorts rows by a column; equal ones keep their order. */
void view_sort(const struct look *look, enum view_id id, int column,
	bool descending, size_t *rows, size_t n);

/* Green below 70 %, yellow to 90 %, red above; plain without a limit. */
enum style view_share_style(double now, double limit);

#endif
