/*
 * Places one table on a canvas: which columns fit, how wide they are, which
 * rows are seen.
 */
#ifndef RGOV_TOP_TABLE_H
#define RGOV_TOP_TABLE_H

#include "tools/rgov-top/views.h"

struct table_state {
	int sort; /* column */
	bool descending;
	size_t offset; /* rows scrolled over; kept within the table by drawing
			*/
};

/* The rows that are to be shown, in order. */
struct table_rows {
	size_t n, rows[VIEW_ROWS_MAX];
};

void table_select(const struct look *look, enum view_id id,
	const struct table_state *state, const char *filter,
	struct table_rows *ret_rows);

/* Draws the head and as many rows as `height` (at least 2) leaves.  Returns
 * the canvas rows used. */
int table_draw(struct canvas *canvas, int top, int height,
	const struct look *look, enum view_id id, struct table_state *state,
	const struct table_rows *rows);

#endif
