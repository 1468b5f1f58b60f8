/* rgov-top on a terminal: curses, the keys, the clock of redraws. */
#ifndef RGOV_TOP_TERMINAL_H
#define RGOV_TOP_TERMINAL_H

#include "tools/rgov-top/history.h"
#include "tools/rgov-top/screen.h"

struct terminal_options {
	bool color, ascii;
	unsigned long iterations; /* 0: until a key or a signal ends it */
};

/* Can curses work here (a terminal, and one that can move its cursor)? */
bool terminal_is_usable(void);

/*
 * Shows the view until the user quits or SIGINT, SIGTERM or SIGHUP comes;
 * restores the terminal.  Draws once an interval and after a key, and sleeps
 * otherwise.  0, or -errno: -ENOTTY when the terminal cannot do it.
 */
int terminal_run(struct board_view *view, struct screen *screen,
	const struct terminal_options *options);

#endif
