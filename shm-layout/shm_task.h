/*
 * Durable tasks, as processes speak of them: a task is a call that rgovd keeps
 * on disk until it has ended, and its end for a while.  A slot request of kind
 * SHM_TASK submits one, of kind SHM_TASK_VERB asks about one or many.
 *
 * Times are CLOCK_REALTIME, nanoseconds: they outlive a reboot.
 */
#ifndef SHM_TASK_H
#define SHM_TASK_H

#include "shm-layout/shm_limits.h"

#include <assert.h>
#include <stdint.h>

/* X(state); the order is ABI. */
#define SHM_TASK_STATES(X)                                                     \
	X(QUEUED)                                                              \
	X(RUNNING)                                                             \
	X(SUCCEEDED)                                                           \
	X(FAILED)                                                              \
	X(CANCELLED)                                                           \
	X(EXPIRED) /* its deadline came before its end */

enum shm_task_state {
#define X(state) SHM_TASK_##state,
	SHM_TASK_STATES(X)
#undef X
		SHM_TASK_STATE_COUNT
};

/* What is asked: `operation` of a slot of kind SHM_TASK_VERB. */
enum shm_task_verb {
	SHM_TASK_LOOK = 0, /* how it stands */
	SHM_TASK_WAIT,     /* the same once it has ended, or when the slot's
			      deadline has come */
	SHM_TASK_FETCH,    /* the same, with the reply where it has ended */
	SHM_TASK_CANCEL,   /* the same, and it is no longer wanted */
	SHM_TASK_LIST,     /* the reply's body: struct shm_task_row each */
	SHM_TASK_HISTORY,  /* the reply's body: struct shm_task_event each */
	SHM_TASK_VERBS
};

/*
 * What a client says beside the descriptor of its slot, in the slot's page of
 * the last part of the client control file.  No text needs a final zero.
 */
struct client_task {
	uint8_t id[SHM_TASK_ID_BYTES]; /* SHM_TASK: the new one's, UUIDv7, by
				  the client; LIST: older than it, zero: all */
	uint64_t timeout_ns; /* SHM_TASK: from now on; 0: task_timeout */
	uint32_t states;     /* LIST: 1 << state each; 0: all */
	uint32_t most;       /* LIST: rows at most; 0: 100 */
	uint16_t key_bytes;  /* SHM_TASK: 0 is none */
	uint16_t callback_bytes;
	uint16_t text_bytes; /* LIST: in model id, user or key; 0: any */
	uint16_t zero0;
	uint64_t zero1[2];
	char key[SHM_TASK_KEY_BYTES];
	char callback[SHM_TASK_CALLBACK_BYTES];
	char text[SHM_TASK_TEXT_BYTES];
	char zero2[SHM_PAGE - 56 - SHM_TASK_KEY_BYTES -
		   SHM_TASK_CALLBACK_BYTES - SHM_TASK_TEXT_BYTES];
};
static_assert(sizeof(struct client_task) == SHM_PAGE, "task is ABI");

/* What rgovd says of a task, in the slot of the question; 0: not yet. */
struct daemon_task {
	uint8_t id[SHM_TASK_ID_BYTES]; /* of a repeated key the first one's */
	uint64_t submitted_ns, started_ns,
		ended_ns;   /* started: the last time */
	uint64_t forget_ns; /* then its reply is removed; 0: not ended */
	uint16_t state;     /* enum shm_task_state */
	uint16_t result;    /* enum shm_result, of one that has ended */
	uint32_t runs;      /* how often it was given to the provider's queue */
	uint32_t position;  /* while queued, 1: the next of its model */
	uint32_t predicted_ms; /* how much longer it may wait */
};
static_assert(sizeof(struct daemon_task) == SHM_LINE, "task is a line");

/* One task of a list; its texts end with a zero. */
struct shm_task_row {
	uint8_t id[SHM_TASK_ID_BYTES];
	uint64_t submitted_ns, started_ns, ended_ns, deadline_ns;
	uint16_t state, result, http_status;
	uint8_t class;     /* enum shm_class */
	uint8_t has_reply; /* 1: FETCH finds one */
	uint32_t uid;      /* who submitted it */
	uint32_t runs;
	char user[SHM_USER_BYTES];
	char model[SHM_OTHER_MODEL_BYTES]; /* a longer one is cut */
	char key[SHM_TASK_KEY_BYTES];      /* a longest one is cut by one */
};
static_assert(sizeof(struct shm_task_row) == 512, "row is ABI");

/* One event of a task's history, the oldest first. */
struct shm_task_event {
	uint64_t at_ns;
	char what[24]; /* "submitted", "started", "reissued", "retried", … */
	char detail[96];
};
static_assert(sizeof(struct shm_task_event) == 128, "event is ABI");

#endif
