#include "tools/rgov-top/canvas.h"

#include "tools/board-view/clean_text.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CANVAS_MAX = 100000, TEXT_BYTES = 1024 };

struct canvas *canvas_create(int rows, int columns, bool ascii)
{
	struct canvas *canvas = malloc(sizeof(*canvas));

	if (canvas == NULL)
		return NULL;
	rows = rows < 1 ? 1 : rows > CANVAS_MAX ? CANVAS_MAX : rows;
	columns = columns < 1 ? 1 : columns > 1000 ? 1000 : columns;
	*canvas = (struct canvas){
		.rows = rows,
		.columns = columns,
		.ascii = ascii,
		.cells = malloc(sizeof(struct canvas_cell) * (size_t)rows *
				(size_t)columns),
	};
	if (canvas->cells == NULL) {
		free(canvas);
		return NULL;
	}
	for (int i = 0; i < rows * columns; i++)
		canvas->cells[i] = (struct canvas_cell){L' ', STYLE_PLAIN};
	return canvas;
}

void canvas_free(struct canvas *canvas)
{
	if (canvas == NULL)
		return;
	free(canvas->cells);
	free(canvas);
}

struct canvas_cell *canvas_cell(
	const struct canvas *canvas, int row, int column)
{
	return &canvas->cells[row * canvas->columns + column];
}

/* The next character as this canvas shows it, and its width in columns; 0 at
 * the end. */
static wchar_t next_shown(
	const struct canvas *canvas, const char **text, int *ret_width)
{
	uint32_t character = text_next(text);
	int width;

	*ret_width = 1;
	if (character < 0x80)
		return (wchar_t)character;
	if (canvas->ascii || character == UINT32_MAX)
		return L'?';
	width = wcwidth((wchar_t)character);
	if (width != 1 && width != 2)
		return L'?';
	*ret_width = width;
	return (wchar_t)character;
}

int canvas_put(struct canvas *canvas, int row, int column, int end,
	enum style style, const char *text)
{
	wchar_t character;
	int width;

	if (end > canvas->columns)
		end = canvas->columns;
	if (row < 0 || row >= canvas->rows || column < 0)
		return column;
	while ((character = next_shown(canvas, &text, &width)) != 0 &&
		column + width <= end) {
		*canvas_cell(canvas, row, column) =
			(struct canvas_cell){character, style};
		if (width == 2)
			*canvas_cell(canvas, row, column + 1) =
				(struct canvas_cell){0, style};
		column += width;
	}
	return column;
}

int canvas_printf(struct canvas *canvas, int row, int column, enum style style,
	const char *format, ...)
{
	char text[TEXT_BYTES];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return canvas_put(canvas, row, column, INT_MAX, style, text);
}

int canvas_width(const struct canvas *canvas, const char *text)
{
	int columns = 0, width;

	while (next_shown(canvas, &text, &width) != 0)
		columns += width;
	return columns;
}

void canvas_paint(struct canvas *canvas, int row, enum style style)
{
	if (row < 0 || row >= canvas->rows)
		return;
	for (int column = 0; column < canvas->columns; column++)
		canvas_cell(canvas, row, column)->style = style;
}

/* Columns of a row up to its last character that is no blank. */
static int used_columns(const struct canvas *canvas, int row)
{
	int columns = canvas->columns;

	while (columns > 0 &&
		canvas_cell(canvas, row, columns - 1)->character == L' ')
		columns--;
	return columns;
}

static void print_character(wchar_t character, FILE *out)
{
	char bytes[MB_LEN_MAX];
	mbstate_t state;
	size_t n;

	memset(&state, 0, sizeof(state));
	n = wcrtomb(bytes, character, &state);
	if (n == (size_t)-1)
		(void)fputc('?', out);
	else
		(void)fwrite(bytes, 1, n, out);
}

void canvas_print(const struct canvas *canvas, FILE *out)
{
	int rows = canvas->rows;

	while (rows > 0 && used_columns(canvas, rows - 1) == 0)
		rows--;
	for (int row = 0; row < rows; row++) {
		int columns = used_columns(canvas, row);

		for (int column = 0; column < columns; column++) {
			wchar_t character =
				canvas_cell(canvas, row, column)->character;

			if (character != 0)
				print_character(character, out);
		}
		(void)fputc('\n', out);
	}
}
