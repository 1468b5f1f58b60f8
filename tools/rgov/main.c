/*
 * rgov: the command for people and scripts, one verb a file.  Results to
 * stdout, words to stderr, exit codes of sysexits.
 */
#include "tools/rgov/rgov_command.h"

#include "shm-layout/shm_layout.h"
#include "tools/board-view/board_view.h"

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

static const struct option_row option_rows[] = {
#define OPTION(verb, letter, name, argument, help)                             \
	{verb, letter, name, argument, help},
#include "tools/rgov/options.def"
#undef OPTION
};
enum { OPTION_ROWS = sizeof(option_rows) / sizeof(option_rows[0]) };

struct verb {
	const char *name, *arguments, *help;
	int (*run)(struct invocation *invocation);
};

static const struct verb verbs[] = {
#define VERB(name, arguments, help) {#name, arguments, help, verb_##name},
#include "tools/rgov/verbs.def"
#undef VERB
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* ------------------------------------------------------------ help */

/* Text with the continuation lines under the first. */
static void print_indented(const char *text, int column)
{
	for (; *text != '\0'; text++) {
		(void)putchar(*text);
		if (*text == '\n')
			(void)printf("%*s", column, "");
	}
	(void)putchar('\n');
}

static void print_overview(void)
{
	enum { COLUMN = 12 };

	(void)puts("Usage: rgov VERB [OPTION]... [ARGUMENT]...\n"
		   "Asks a governor (rgovd), or looks at its board.\n");
	for (size_t i = 0; i < VERBS; i++) {
		(void)printf("  %-*s", COLUMN - 2, verbs[i].name);
		print_indented(verbs[i].help, COLUMN);
	}
	(void)puts("\nOptions of every verb:");
	options_print(option_rows, OPTION_ROWS, NULL, stdout);
	(void)puts("\n'rgov help VERB' explains one.  Exit codes: 0; 64 wrong "
		   "usage; 65 the request is\nwrong; 69 rgovd or the provider "
		   "is unavailable; 75 try again; 77 not allowed;\n78 wrong "
		   "configuration.");
}

static void print_verb(const struct verb *verb)
{
	(void)printf("Usage: rgov %s [OPTION]... %s\n", verb->name,
		strcmp(verb->arguments, "[--json]") == 0 ? ""
							 : verb->arguments);
	print_indented(verb->help, 0);
	(void)putchar('\n');
	options_print(option_rows, OPTION_ROWS, verb->name, stdout);
}

/* An unknown verb, quoted, with the one that may have been meant. */
static int unknown_verb(const char *word)
{
	const char *names[VERBS], *nearest;

	for (size_t i = 0; i < VERBS; i++)
		names[i] = verbs[i].name;
	nearest = options_nearest(word, names, VERBS);
	(void)fprintf(stderr, "rgov: unknown verb '%s'", word);
	if (nearest != NULL)
		(void)fprintf(stderr, "; did you mean '%s'?", nearest);
	(void)fputs("\nTry 'rgov help'.\n", stderr);
	return EX_USAGE;
}

int verb_help(struct invocation *invocation)
{
	const struct verb *verb;

	while (next_option(invocation) != -1)
		;
	expect_operands(invocation, 1);
	if (optind == invocation->argc) {
		print_overview();
		return 0;
	}
	verb = find_verb(invocation->argv[optind]);
	if (verb == NULL)
		return unknown_verb(invocation->argv[optind]);
	print_verb(verb);
	return 0;
}

/* ------------------------------------------------------------ for verbs */

int complain(
	const struct invocation *invocation, int code, const char *format, ...)
{
	va_list arguments;

	(void)fflush(stdout); /* what was found comes before what was not */
	(void)fprintf(stderr, "rgov %s: ", invocation->verb);
	va_start(arguments, format);
	(void)vfprintf(stderr, format, arguments);
	va_end(arguments);
	(void)fputc('\n', stderr);
	return code;
}

int next_option(struct invocation *invocation)
{
	static struct option_tables tables;
	static const char *prepared;
	int letter;

	if (prepared != invocation->verb) {
		options_prepare(
			option_rows, OPTION_ROWS, invocation->verb, &tables);
		prepared = invocation->verb;
		optind = 1;
	}
	letter = getopt_long(invocation->argc, invocation->argv, tables.letters,
		tables.names, NULL);
	if (letter == 'h') {
		const struct verb *verb = find_verb(invocation->verb);

		assert(verb != NULL); /* it runs */
		print_verb(verb);
		exit(0);
	}
	if (letter == '?') {
		(void)fprintf(
			stderr, "Try 'rgov help %s'.\n", invocation->verb);
		exit(EX_USAGE);
	}
	if (letter != 'S')
		return letter;
	if (!shm_name_is_valid(optarg))
		exit(complain(invocation, EX_USAGE,
			"--name: expected 1 to 31 letters, digits, '.', '_' or "
			"'-', found '%s'",
			optarg));
	invocation->name = optarg;
	return next_option(invocation);
}

void expect_operands(const struct invocation *invocation, int most)
{
	if (invocation->argc - optind <= most)
		return;
	exit(complain(invocation, EX_USAGE, "unexpected argument '%s'",
		invocation->argv[optind + most]));
}

int exit_code_of_error(int error)
{
	switch (-error) {
	case EACCES:
	case EPERM:
		return EX_NOPERM;
	case EINVAL:
	case EMSGSIZE:
		return EX_DATAERR;
	case EAGAIN:
	case ETIMEDOUT:
	case ENOSPC:
		return EX_TEMPFAIL;
	case ECONNREFUSED:
	case EPROTO:
	case ENOENT:
		return EX_UNAVAILABLE;
	case ENOMEM:
		return EX_OSERR;
	default:
		return EX_SOFTWARE;
	}
}

int main(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : NULL;
	const struct verb *verb;
	char program[64];

	(void)setlocale(LC_CTYPE, "");
	if (word == NULL) {
		(void)fputs(
			"rgov: expected a verb\nTry 'rgov help'.\n", stderr);
		return EX_USAGE;
	}
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		word = "help";
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		word = "version";
	verb = find_verb(word);
	if (verb == NULL)
		return unknown_verb(word);
	(void)snprintf(program, sizeof(program), "rgov %s", verb->name);
	argv[1] = program; /* what getopt's messages begin with */
	return verb->run(&(struct invocation){
		.verb = verb->name,
		.name = view_default_name(),
		.argc = argc - 1,
		.argv = argv + 1,
	});
}
