/* What the verbs of the command rgov share: how one is invoked, how it speaks.
 */
#ifndef TOOLS_RGOV_COMMAND_H
#define TOOLS_RGOV_COMMAND_H

#include "tools/command-line/options.h"

/* A verb's command line behind the verb. */
struct invocation {
	const char *verb;
	const char *name; /* of the governor; a valid one */
	int argc;
	char **argv; /* argv[0] is "rgov VERB" */
};

/* Each returns the exit code. */
#define VERB(name, arguments, help)                                            \
	int verb_##name(struct invocation *invocation);
#include "tools/rgov/verbs.def"
#undef VERB

/*
 * The next option's letter, its argument in optarg; -1 at the end, optind then
 * points at the operands.  Deals with --name by itself, and with --help and
 * unknown options by ending the process.
 */
int next_option(struct invocation *invocation);

/* Ends the process with EX_USAGE unless at most `most` operands are left. */
void expect_operands(const struct invocation *invocation, int most);

/* "rgov VERB: ..." to stderr; returns `code`. */
int complain(const struct invocation *invocation, int code, const char *format,
	...) __attribute__((format(printf, 3, 4)));

/* The exit code for what librgov returned. */
int exit_code_of_error(int error);

#endif
