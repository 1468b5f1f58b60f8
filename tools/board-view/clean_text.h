/*
 * What stands on the board was chosen by clients (user names, labels, model
 * ids): before it reaches a terminal it is made harmless.
 */
#ifndef TOOLS_CLEAN_TEXT_H
#define TOOLS_CLEAN_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Makes a field of `bytes` bytes a string of valid UTF-8 that ends inside it.
 * Each byte of a control character, of a character that changes the direction
 * or has no width, or of anything that is not UTF-8 becomes '?'.
 */
void text_clean(char *text, size_t bytes);

/*
 * The next character of valid or invalid UTF-8; *text moves on by 1 to 4 bytes.
 * 0 at the end; UINT32_MAX for a byte that begins no valid character.
 */
uint32_t text_next(const char **text);

#endif
