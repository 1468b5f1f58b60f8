/*
 * The log: one JSON object a line, each written whole by one write(2).
 */
#ifndef SIM_JOURNAL_H
#define SIM_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

struct journal {
	int fd; /* -1: no log is kept */
	uint64_t begin_ns;
	bool failed; /* it was said on stderr */
};

struct journal_line {
	uint64_t run, n;
	const char *event;
	uint64_t at_ns; /* CLOCK_MONOTONIC */
	uint64_t connection;
	bool reused, tls;
	const char *op, *model; /* need no escape in JSON */
	const char *body_sha256;
	uint64_t body_bytes;
	int status;
	const char *type, *detail; /* "TYPE" or "TYPE:DETAIL"; detail or NULL */
	double latency_s;          /* negative: null */
};

/* path NULL: keeps no log.  Appends.  -errno when it cannot be opened. */
int journal_open(struct journal *journal, const char *path, uint64_t begin_ns);
/* Any thread; lines of two threads do not mix. */
void journal_write(struct journal *journal, const struct journal_line *line);

#endif
