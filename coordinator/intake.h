/*
 * Takes in the body of a call: reads it, hashes it, scans it for what it asks
 * for, and drops it; later reads it once more, to be sent.  Small bodies at
 * once, large ones on a helper thread, so that no other session waits for a
 * hash of 25 MB.
 */
#ifndef COORDINATOR_INTAKE_H
#define COORDINATOR_INTAKE_H

#include "coordinator/door/door.h"
#include "coordinator/upstream/bedrock.h"
#include "coordinator/upstream/digest.h"

#include <stdbool.h>

struct intake;

/* What is known of a body afterwards. */
struct intake_result {
	int error; /* 0; -EINVAL: not JSON, see why; -EIO: it cannot be read;
		      -ENOMEM; -ECANCELED: it was dropped */
	uint8_t sha256[DIGEST_BYTES];
	struct bedrock_demand demand;
	char why[UPSTREAM_MESSAGE_BYTES];
};

/* One body on its way; lives in its owner's object. */
struct intake_job {
	void (*done)(struct intake_job *job);
	void *owner;
	enum upstream_operation operation;
	size_t body_bytes;
	char *into;      /* kept there; NULL: dropped */
	bool is_scanned; /* for what it asks for; else only hashed */
	struct intake_result result; /* from done() on */

	/* Private. */
	int fd;
	off_t off;
	struct intake_job *next;
	_Atomic bool is_dropped; /* set by the loop, seen by the helper */
};

/* Starts the helper thread; it is idle until a large body comes.  -errno. */
int intake_create(struct loop *loop, struct intake **ret_intake);

/* Waits for the job in hand; those not yet begun end with -ECANCELED. */
void intake_free(struct intake *intake);

/*
 * Takes in the slot's body.  job->done() is called before this returns (a small
 * body), or later from intake_collect().  The job must live until then.
 */
void intake_start(struct intake *intake, struct intake_job *job,
	const struct door_slot *slot);

/* The same for a body that lies in job->into already, whoever put it there:
 * it is hashed (and scanned). */
void intake_hash(struct intake *intake, struct intake_job *job);

/*
 * Nobody wants it any more: done() is called before this returns, or, where the
 * helper has it in hand, from the next intake_collect() but for what the helper
 * was at.  Both with -ECANCELED; a job that is through keeps its result.
 */
void intake_drop(struct intake *intake, struct intake_job *job);

/* Calls done() for the jobs that the helper has finished; returns how many.
 * The helper wakes the loop, so call it after each loop_step(). */
unsigned int intake_collect(struct intake *intake);

#endif
