/*
 * A whole screen: the panel, then one table or the overview of four, or the
 * help; for a terminal also the line of views and the line of keys.
 */
#ifndef RGOV_TOP_SCREEN_H
#define RGOV_TOP_SCREEN_H

#include "tools/rgov-top/table.h"

enum { SCREEN_OVERVIEW = -1, SCREEN_ROWS_MIN = 24, SCREEN_COLUMNS_MIN = 80 };

struct screen {
	int shown; /* enum view_id, or SCREEN_OVERVIEW */
	struct table_state tables[VIEW_IDS];
	char filter[64];
	bool typing; /* the filter */
	bool paused;
	bool help;
	int help_offset;
	double interval_s;
};

void screen_init(struct screen *screen);

/* The table that scrolling and sorting are about. */
enum view_id screen_table(const struct screen *screen);

/* For a terminal; fills the canvas. */
void screen_draw(
	struct screen *screen, struct canvas *canvas, const struct look *look);

/* For a file: as many rows as there are; NULL: no memory.  The caller frees
 * the canvas. */
struct canvas *screen_plain(struct screen *screen, const struct look *look,
	int columns, bool ascii);

/* The view of that name ("overview", "lanes", …); -2: there is none. */
int screen_view_by_name(const char *name);

#endif
