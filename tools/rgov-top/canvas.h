/*
 * A rectangle of styled characters: what a screen looks like, before anybody
 * asks whether it goes to a terminal or to a file.
 */
#ifndef RGOV_TOP_CANVAS_H
#define RGOV_TOP_CANVAS_H

#include <stdbool.h>
#include <stdio.h>
#include <wchar.h>

enum style {
	STYLE_PLAIN,
	STYLE_DIM,
	STYLE_BOLD,
	STYLE_GOOD,
	STYLE_WARN,
	STYLE_BAD,
	STYLE_TITLE, /* the head of a table */
	STYLE_KEY,   /* the view that is shown */
	STYLES
};

struct canvas_cell {
	wchar_t character; /* 0: the second half of a wide one */
	enum style style;
};

struct canvas {
	int rows, columns;
	bool ascii; /* everything else is shown as '?' */
	struct canvas_cell *cells;
};

/* A blank one; NULL: no memory.  At least 1 by 1. */
struct canvas *canvas_create(int rows, int columns, bool ascii);
void canvas_free(struct canvas *canvas);

struct canvas_cell *canvas_cell(
	const struct canvas *canvas, int row, int column);

/* Writes text from a column on, cut at `end` (a column) and at the edge.
 * Returns the column behind it.  Rows outside are ignored. */
int canvas_put(struct canvas *canvas, int row, int column, int end,
	enum style style, const char *text);
int canvas_printf(struct canvas *canvas, int row, int column, enum style style,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Columns that text takes. */
int canvas_width(const struct canvas *canvas, const char *text);

/* Gives a whole row a style, what stands in it included. */
void canvas_paint(struct canvas *canvas, int row, enum style style);

/* The characters alone, without trailing blanks and blank lines at the end. */
void canvas_print(const struct canvas *canvas, FILE *out);

#endif
