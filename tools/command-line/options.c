#include "tools/command-line/options.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	HELP_COLUMN = 30,
	WORD_BYTES = 32, /* longer words are not compared */
};

static bool is_of(const struct option_row *row, const char *verb)
{
	return row->verb == NULL ||
	       (verb != NULL && strcmp(row->verb, verb) == 0);
}

void options_prepare(const struct option_row *rows, size_t n, const char *verb,
	struct option_tables *ret_tables)
{
	char *letters;
	size_t names = 0;

	*ret_tables = (struct option_tables){0};
	letters = ret_tables->letters;
	for (size_t i = 0; i < n; i++) {
		if (!is_of(&rows[i], verb))
			continue;
		assert(names < OPTIONS_MAX);
		ret_tables->names[names++] = (struct option){
			.name = rows[i].name,
			.has_arg = rows[i].argument != NULL,
			.val = rows[i].letter,
		};
		if (rows[i].letter > 255)
			continue;
		*letters++ = (char)rows[i].letter;
		if (rows[i].argument != NULL)
			*letters++ = ':';
	}
}

static void print_row(const struct option_row *row, FILE *out)
{
	int width = row->letter > 255 ? fprintf(out, "      --%s", row->name)
				      : fprintf(out, "  -%c, --%s", row->letter,
						row->name);

	if (row->argument != NULL)
		width += fprintf(out, " %s", row->argument);
	if (width > HELP_COLUMN - 2)
		width = fprintf(out, "\n") - 1;
	(void)fprintf(out, "%*s", HELP_COLUMN - width, "");
	/* A line break in the text goes on in the same column. */
	for (const char *at = row->help; *at != '\0'; at++) {
		(void)fputc(*at, out);
		if (*at == '\n')
			(void)fprintf(out, "%*s", HELP_COLUMN, "");
	}
	(void)fputc('\n', out);
}

void options_print(
	const struct option_row *rows, size_t n, const char *verb, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		if (is_of(&rows[i], verb))
			print_row(&rows[i], out);
}

static size_t least_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein's distance of two words. */
static size_t distance(const char *a, const char *b)
{
	size_t row[WORD_BYTES + 1], n = strlen(b);

	if (n >= WORD_BYTES || strlen(a) >= WORD_BYTES)
		return WORD_BYTES;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t above = row[j];

			row[j] = least_of(least_of(above, row[j - 1]) + 1,
				diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n];
}

const char *options_nearest(
	const char *word, const char *const *candidates, size_t n)
{
	const char *nearest = NULL;
	size_t least = 3; /* more than two slips: another word */

	for (size_t i = 0; i < n; i++) {
		size_t slips = distance(word, candidates[i]);

		if (slips < least && slips < strlen(candidates[i])) {
			least = slips;
			nearest = candidates[i];
		}
	}
	return nearest;
}

int options_number(
	const char *text, double least, double most, double *ret_number)
{
	char *end;
	double number;

	errno = 0;
	number = strtod(text, &end);
	if (end == text || *end != '\0' || errno != 0 || !isfinite(number) ||
		number < least || number > most)
		return -EINVAL;
	*ret_number = number;
	return 0;
}
