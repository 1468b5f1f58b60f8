#include "tools/rgov-top/table.h"

enum {
	COLUMNS_MAX = 16,
	GAP = 1, /* between columns */
};

void table_select(const struct look *look, enum view_id id,
	const struct table_state *state, const char *filter,
	struct table_rows *ret_rows)
{
	ret_rows->n = view_rows(look, id, filter, ret_rows->rows);
	view_sort(look, id, state->sort, state->descending, ret_rows->rows,
		ret_rows->n);
}

static int total_width(const struct view_table *table, const int *widths)
{
	int total = -GAP;

	for (int i = 0; i < table->n_columns; i++)
		if (widths[i] > 0)
			total += widths[i] + GAP;
	return total;
}

/* The column that goes first; -1: all that is left must stay. */
static int first_to_drop(const struct view_table *table, const int *widths)
{
	int column = -1, dropped = 0;

	for (int i = 0; i < table->n_columns; i++) {
		if (widths[i] > 0 && table->columns[i].dropped > dropped) {
			dropped = table->columns[i].dropped;
			column = i;
		}
	}
	return column;
}

/* The widest text of a column among the rows that will be seen. */
static int widest(const struct canvas *canvas, const struct look *look,
	enum view_id id, int column, const size_t *rows, size_t n)
{
	int most = 0;

	for (size_t i = 0; i < n; i++) {
		struct cell cell;
		int width;

		view_cell(look, id, rows[i], column, &cell);
		width = canvas_width(canvas, cell.text);
		most = width > most ? width : most;
	}
	return most;
}

/* Works out the width of each column; 0: dropped. */
static void fit(const struct canvas *canvas, const struct look *look,
	enum view_id id, const size_t *rows, size_t n, int *widths)
{
	const struct view_table *table = &view_tables[id];
	int column, spare;

	for (int i = 0; i < table->n_columns; i++)
		widths[i] = table->columns[i].width;
	while (total_width(table, widths) > canvas->columns &&
		(column = first_to_drop(table, widths)) >= 0)
		widths[column] = 0;
	for (int i = 0; i < table->n_columns; i++) {
		int wanted;

		spare = canvas->columns - total_width(table, widths);
		if (widths[i] == 0 || spare <= 0 ||
			(table->columns[i].flags & GROWS) == 0)
			continue;
		wanted = widest(canvas, look, id, i, rows, n) - widths[i];
		if (wanted > 0)
			widths[i] += wanted < spare ? wanted : spare;
	}
}

static void draw_cell(struct canvas *canvas, int row, int left, int width,
	int flags, enum style style, const char *text)
{
	int used = canvas_width(canvas, text);
	int start = (flags & LEFT) != 0 || used >= width ? left
							 : left + width - used;

	(void)canvas_put(canvas, row, start, left + width, style, text);
}

static void draw_head(struct canvas *canvas, int row,
	const struct view_table *table, int sort, const int *widths)
{
	int left = 0;

	canvas_paint(canvas, row, STYLE_TITLE);
	for (int i = 0; i < table->n_columns; i++) {
		if (widths[i] == 0)
			continue;
		draw_cell(canvas, row, left, widths[i], table->columns[i].flags,
			i == sort ? STYLE_KEY : STYLE_TITLE,
			table->columns[i].title);
		left += widths[i] + GAP;
	}
}

static void draw_row(struct canvas *canvas, int at, const struct look *look,
	enum view_id id, size_t row, const int *widths)
{
	const struct view_table *table = &view_tables[id];
	int left = 0;

	for (int i = 0; i < table->n_columns; i++) {
		struct cell cell;

		if (widths[i] == 0)
			continue;
		view_cell(look, id, row, i, &cell);
		draw_cell(canvas, at, left, widths[i], table->columns[i].flags,
			cell.style, cell.text);
		left += widths[i] + GAP;
	}
}

int table_draw(struct canvas *canvas, int top, int height,
	const struct look *look, enum view_id id, struct table_state *state,
	const struct table_rows *rows)
{
	const struct view_table *table = &view_tables[id];
	size_t room = height > 1 ? (size_t)height - 1 : 0;
	size_t most = rows->n > room ? rows->n - room : 0;
	size_t n = rows->n < room ? rows->n : room;
	int widths[COLUMNS_MAX] = {0};

	if (state->offset > most)
		state->offset = most;
	fit(canvas, look, id, rows->rows + state->offset, n, widths);
	draw_head(canvas, top, table, state->sort, widths);
	for (size_t i = 0; i < n; i++)
		draw_row(canvas, top + 1 + (int)i, look, id,
			rows->rows[state->offset + i], widths);
	if (n > 0)
		return 1 + (int)n;
	(void)canvas_put(
		canvas, top + 1, 0, canvas->columns, STYLE_DIM, "(none)");
	return 2;
}
