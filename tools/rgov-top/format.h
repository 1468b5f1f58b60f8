/* Figures for narrow columns. */
#ifndef RGOV_TOP_FORMAT_H
#define RGOV_TOP_FORMAT_H

#include <stddef.h>
#include <stdint.h>

enum { FORMAT_BYTES = 24 };

/* "0.2s", "12s", "3m20s", "2h05m", "3d04h"; with a sign when negative. */
void format_span(double seconds, char ret_text[FORMAT_BYTES]);

/* "812", "12.3k", "2.0M": at most 6 columns. */
void format_count(double count, char ret_text[FORMAT_BYTES]);

/* "7", or "-" for a limit of 0, which is none. */
void format_limit(uint64_t limit, char ret_text[FORMAT_BYTES]);

#endif
