/*
 * The findings of `rgov doctor`: one line each, `ok|warn|FAIL  what: found;
 * what to do`.  The checks of the governor are in doctor_governor.c, those of
 * the host in doctor_host.c.
 */
#ifndef TOOLS_RGOV_DOCTOR_H
#define TOOLS_RGOV_DOCTOR_H

#include "tools/board-view/board_view.h"

enum finding { FINDING_OK, FINDING_WARN, FINDING_FAIL };

struct doctor {
	const char *name;
	const char *socket_path; /* of the command line; NULL: as librgov */
	struct board_view *view; /* NULL: there is none */
	unsigned counts[FINDING_FAIL + 1];
};

/* Prints a line and counts it. */
void doctor_report(struct doctor *doctor, enum finding finding,
	const char *what, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Each prints one line or more. */
void check_board(struct doctor *doctor); /* first: opens the view */
void check_heartbeat(struct doctor *doctor);
void check_socket(struct doctor *doctor);
void check_credentials(struct doctor *doctor);
void check_cluster(struct doctor *doctor);

void check_shared_memory(struct doctor *doctor);
void check_limits(struct doctor *doctor);
void check_clock(struct doctor *doctor);
void check_io_uring(struct doctor *doctor);
void check_environment(struct doctor *doctor);
void check_gunicorn(struct doctor *doctor);

#endif
