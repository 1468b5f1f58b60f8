/*
 * The command line of rgovd.  It only reads the words; what settings mean, and
 * whether their values are right, is config.h's.  options.def is the table.
 */
#ifndef COORDINATOR_OPTIONS_H
#define COORDINATOR_OPTIONS_H

#include "coordinator/config.h"

#include <stdbool.h>
#include <stdio.h>

enum { OPTIONS_OVERRIDES = 64 };

/* Points into argv and itself: it stays where it is, and argv too. */
struct options {
	const char *config; /* NULL: not given, as is name */
	const char *name;
	bool replace;
	bool check_config;
	bool dump_config;
	struct config_override overrides[OPTIONS_OVERRIDES];
	size_t n_overrides;
	char keys[OPTIONS_OVERRIDES][64]; /* of --set */
};

enum { OPTIONS_GO_ON = -1 };

/*
 * OPTIONS_GO_ON, or the exit code of a process that has nothing more to do: 0
 * after --help and --version (printed to out), 64 after a usage error (to err).
 */
int options_parse(int argc, char *const argv[], struct options *ret_options,
	FILE *out, FILE *err);

/* The part that config_load() needs, from options and the environment. */
struct config_source options_source(const struct options *options);

/*
 * --check-config and --dump-config, and the end after a bad configuration:
 * prints what config_load() found and returns the exit code: 0, 71 (no memory),
 * 74 (output) or 78. config is NULL where loading failed with rc.
 */
int options_report(const struct options *options, const struct config *config,
	const struct config_error *error, int rc, FILE *out, FILE *err);

#endif
