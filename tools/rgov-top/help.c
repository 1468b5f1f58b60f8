#include "tools/rgov-top/help.h"

#include "tools/rgov-top/panel.h"
#include "tools/rgov-top/views.h"

#include <string.h>

struct entry {
	const char *name, *text;
};

static const struct entry keys[] = {
	{"q F10 ^C", "quit"},
	{"? h F1", "this help"},
	{"Tab 1-7", "another view"},
	{"j k arrows", "scroll by one; in the overview, the live requests"},
	{"PgUp PgDn g G", "scroll by a page, to the top, to the end"},
	{"< >", "sort by another column; r: the other way round"},
	{"/", "show only rows that contain a text; Esc: all again"},
	{"Space", "hold the picture still, and go on"},
	{"+ -", "look more or less often"},
};

static const struct entry figures[] = {
#define FIGURE(name, text) {name, text},
	PANEL_FIGURES(FIGURE)
#undef FIGURE
};

/* Where the next line of the help goes. */
struct pen {
	struct canvas *canvas;
	int line; /* of the whole text */
	int offset, rows;
};

enum { NAME_COLUMNS = 15 };

static void write_part(struct pen *pen, int column, enum style style,
	const char *text, int bytes)
{
	int row = pen->line - pen->offset;

	if (row >= 0 && row < pen->rows)
		(void)canvas_printf(
			pen->canvas, row, column, style, "%.*s", bytes, text);
}

/* Bytes of text that go on one line: up to the last blank that fits. */
static int line_bytes(const char *text, int width)
{
	int fits = 0;

	if ((int)strlen(text) <= width)
		return (int)strlen(text);
	for (int i = 0; i <= width; i++)
		if (text[i] == ' ')
			fits = i;
	return fits > 0 ? fits : width;
}

static void write_entry(struct pen *pen, const char *name, const char *text)
{
	int width = pen->canvas->columns - NAME_COLUMNS - 2;

	write_part(pen, 1, STYLE_BOLD, name, (int)strlen(name));
	while (*text != '\0') {
		int bytes = line_bytes(text, width);

		write_part(pen, NAME_COLUMNS + 1, STYLE_PLAIN, text, bytes);
		pen->line++;
		text += bytes;
		text += *text == ' ';
	}
}

static void write_heading(struct pen *pen, const char *title, const char *words)
{
	char text[160];

	(void)snprintf(text, sizeof(text), "%s: %s", title, words);
	pen->line += pen->line > 0;
	write_part(pen, 0, STYLE_KEY, text, (int)strlen(text));
	pen->line++;
}

static void write_all(struct pen *pen)
{
	write_heading(pen, "Keys", "what one can press");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		write_entry(pen, keys[i].name, keys[i].text);
	write_heading(
		pen, "Panel", "green below 70 % of a limit, red above 90 %");
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
		write_entry(pen, figures[i].name, figures[i].text);
	for (int id = 0; id < VIEW_IDS; id++) {
		const struct view_table *table = &view_tables[id];

		write_heading(pen, table->title, table->words);
		for (int i = 0; i < table->n_columns; i++)
			write_entry(pen, table->columns[i].title,
				table->columns[i].help);
	}
}

void help_draw(struct canvas *canvas, int rows, int *offset)
{
	struct pen measure = {canvas, 0, 0, 0};
	struct pen pen = {canvas, 0, 0, rows};

	write_all(&measure);
	if (*offset > measure.line - rows)
		*offset = measure.line - rows;
	if (*offset < 0)
		*offset = 0;
	pen.offset = *offset;
	write_all(&pen);
}
