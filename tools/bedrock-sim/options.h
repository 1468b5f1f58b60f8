/* The command line of bedrock-sim, checked: what it says is possible. */
#ifndef SIM_OPTIONS_H
#define SIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bedrock-sim/dice.h"
#include "tools/bedrock-sim/fault.h"

enum { PORT_NONE = -1 };

struct range {
	uint64_t low, high;
};

struct options {
	int port, tls_port; /* PORT_NONE: not served; 0: choose */
	const char *cert, *key, *port_file;
	bool auth_strict;
	const char *access_key, *secret_key, *region;
	const char *session_token, *expired_token, *bearer; /* or NULL */
	uint64_t requests_per_minute, tokens_per_minute,
		concurrency; /* 0: no */
	double minute_s;
	bool throttled_count, host_wide;
	uint64_t retry_after_ms; /* 0: no header */
	struct latency latency;
	bool latency_by_body;
	struct range output_tokens;
	uint64_t seed;
	struct fault_plan faults;
	bool allow_fault_header;
	const char *log, *report; /* or NULL */
};

/*
 * Fills *ret_options.  Ends the program with status 64 and a sentence that
 * quotes the word when it is not usable; with 0 after --help and --version.
 * What it fills points into argv.
 */
void options_parse(int argc, char **argv, struct options *ret_options);

#endif
