/*
 * One table of options makes getopt's tables and the text of --help; and a
 * near miss for a word that is not known.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include <getopt.h>
#include <stddef.h>
#include <stdio.h>

struct option_row {
	const char *verb; /* NULL: of the program, or of every verb */
	int letter;       /* also what getopt_long() returns; above 255: the
			     option has no short form */
	const char *name;
	const char *argument; /* metavariable with its unit; NULL: takes none */
	const char *help;     /* with the default, if there is one */
};

enum { OPTIONS_MAX = 32 };

struct option_tables {
	char letters[2 * OPTIONS_MAX + 2];
	struct option names[OPTIONS_MAX + 1];
};

/* What getopt_long() needs for the rows of a verb and those of all verbs. */
void options_prepare(const struct option_row *rows, size_t n, const char *verb,
	struct option_tables *ret_tables);

/* The rows of a verb, as --help shows them; verb NULL: those of all verbs. */
void options_print(
	const struct option_row *rows, size_t n, const char *verb, FILE *out);

/* The candidate that is nearest to a mistyped word; NULL: none is near. */
const char *options_nearest(
	const char *word, const char *const *candidates, size_t n);

/* A decimal number within bounds.  0 or -EINVAL: text is not one. */
int options_number(
	const char *text, double least, double most, double *ret_number);

#endif
