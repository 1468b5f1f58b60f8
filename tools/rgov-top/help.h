/* The help of rgov-top: its keys, and how to read each figure. */
#ifndef RGOV_TOP_HELP_H
#define RGOV_TOP_HELP_H

#include "tools/rgov-top/canvas.h"

/* Draws it into the first `rows` rows, *offset lines scrolled over; the offset
 * is brought back to where there is something to see. */
void help_draw(struct canvas *canvas, int rows, int *offset);

#endif
