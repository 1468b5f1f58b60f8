/*
 * The board as one JSON document: what `rgov stats --json` and `rgov-top
 * --json` print.  Its names are stable; rgov(1) describes them.
 */
#ifndef TOOLS_BOARD_JSON_H
#define TOOLS_BOARD_JSON_H

#include "tools/board-view/board_view.h"

#include <stdbool.h>
#include <stdio.h>

/* One document and a newline; compact: on one line.  0, -ENOMEM, or -EIO when
 * it could not be written. */
int board_json_print(const struct board_view *view, bool compact, FILE *out);

/* What is queued or backing off, as in `live`: an array. */
int board_json_print_queue(const struct board_view *view, FILE *out);

#endif
