/*
 * What a client of librgov does, cut into paths: each is prepared at full speed
 * and then performed between two markers, where a campaign may stop, step or
 * kill the process.  The process is one of ours by fork: librgov.so is mapped
 * as shipped, and no session was ever opened before.
 *
 * Every body is unique, and can be told from its path's name and its number:
 * body_of() in 10-client-instructions.py makes the same.
 */
#ifndef FAULT_CLIENT_PATH_H
#define FAULT_CLIENT_PATH_H

#include "client-lib/rgov.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lanes, as the campaign configures rgovd and the simulator. */
#define MODEL_PLAIN "plain.model" /* answers at once */
#define MODEL_BUSY "busy.model"   /* one at a time, and that one is taken */
#define MODEL_HANG "hang.model"   /* never answers */

enum client_path_needs {
	NEEDS_BUSY = 1,     /* something holds the busy lane */
	NEEDS_RELEASE = 2,  /* ... and lets go when the client is asleep */
	NEEDS_RESTART = 4,  /* a new rgovd, when the client is asleep */
	ENDS_ASLEEP = 8,    /* the path's end is a sleep that nothing ends */
	FORKS_CHILD = 16,   /* the child that it forks goes the path */
	FORKS_WITNESS = 32, /* it forks a child that lives on */
	REISSUES = 64, /* upstream may see a body again: it is idempotent */
};

struct client {
	const struct client_path *path;
	unsigned int number; /* makes its bodies unique */
	int go;              /* a witness reads it before it calls; or -1 */
	struct rgov *gov;
	struct rgov_request request;
	struct rgov_ticket ticket, other;
	struct rgov_reply reply;
	struct rgov_progress progress;
	int rc;
	char *body;
};

struct client_path {
	const char *name;
	unsigned int needs;
	void (*prepare)(struct client *client);
	void (*perform)(struct client *client);
	/* After path_end(), where nobody killed it: did it work? */
	bool (*conclude)(struct client *client);
};

/* Ends with a name of NULL. */
extern const struct client_path client_paths[];
const struct client_path *client_path_find(const char *name);

/* The markers. */
void path_begin(void);
void path_end(void);

/* The whole life of a client; ends the process: 0, or 1 when it did not get
 * what it should.  For stepper_start_function(). */
void client_live(void *client);

/* One call with a body of its own; tells the answer (below).  0 or -errno. */
int client_call(struct rgov *gov, const char *name, unsigned int number);

/* "answer NAME NUMBER SHA256\n" to stdout in one write: what the simulator says
 * it has answered. */
void client_tell(
	const char *name, unsigned int number, const struct rgov_reply *reply);

#endif
