/*
 * What passes over the session socket (AF_UNIX, SOCK_SEQPACKET): registration,
 * reattachment, administration, and bells.  A message of one byte is a bell;
 * every other message begins with struct wire_head.
 *
 *   client                                rgovd
 *     HELLO                       -->
 *                                 <--       WELCOME + 5 descriptors
 *     (maps)  MAPPED              -->       seals, begins to serve
 *
 *     REATTACH + 4 descriptors    -->       (a successor of the rgovd that
 *                                 <--       REATTACHED + board   made them)
 *     ADMIN                       -->
 *                                 <--       ANSWER; to EXPLAIN: EXPLAINED
 *
 * Instead of any answer: REFUSED with a reason and words for people.
 */
#ifndef SHM_WIRE_H
#define SHM_WIRE_H

#include "shm-layout/shm_limits.h"
#include "shm-layout/shm_reasons.h"

#include <assert.h>
#include <stdint.h>

#define WIRE_MAGIC 0x766f6772u /* "rgov" */

enum wire_type {
	WIRE_HELLO = 1,
	WIRE_WELCOME,
	WIRE_MAPPED,
	WIRE_REATTACH,
	WIRE_REATTACHED,
	WIRE_ADMIN,
	WIRE_ANSWER,
	WIRE_REFUSED,
	WIRE_EXPLAINED,
};

/* The same at the same place in every layout version to come. */
struct wire_head {
	uint32_t magic;
	uint16_t type;
	uint16_t layout_version;
	uint64_t layout_hash;
};
static_assert(sizeof(struct wire_head) == 16, "head is ABI for ever");

/* Order of the descriptors that come with WELCOME; REATTACH has all but the
 * board. */
enum wire_fds {
	WIRE_FD_CLIENT_CONTROL,
	WIRE_FD_CLIENT_BODIES,
	WIRE_FD_DAEMON_CONTROL,
	WIRE_FD_DAEMON_BODIES,
	WIRE_FD_BOARD,
	WIRE_FDS,
	WIRE_REATTACH_FDS = WIRE_FD_BOARD
};

struct wire_hello {
	struct wire_head head;
	uint32_t slots; /* wanted; rgovd may give fewer */
	uint32_t zero;
	char app[SHM_APP_BYTES]; /* label for people and fairness */
};

struct wire_welcome {
	struct wire_head head;
	uint32_t slots;
	uint32_t epoch;
	uint8_t session_id[16];
	char rgovd_version[32];
};

struct wire_mapped {
	struct wire_head head;
};

struct wire_reattach {
	struct wire_head head;
	uint32_t slots;
	uint32_t zero;
	uint8_t session_id[16];
	char app[SHM_APP_BYTES];
};

struct wire_reattached {
	struct wire_head head;
	uint32_t epoch;
	uint32_t zero;
};

enum wire_reason {
	WIRE_BAD_LAYOUT = 1,
	WIRE_NOT_ALLOWED,
	WIRE_TOO_MANY_SESSIONS,
	WIRE_IS_DRAINING,
	WIRE_BAD_MESSAGE,
	WIRE_NO_MEMORY,
};

struct wire_refused {
	struct wire_head head; /* with rgovd's own version and hash */
	uint32_t reason;
	uint32_t zero;
	char text[SHM_MESSAGE_BYTES];
};

/* Anybody who is let in may ask for an explanation, of his own requests. */
enum wire_verb { WIRE_RELOAD = 1, WIRE_PING, WIRE_EXPLAIN, WIRE_HINTS };

struct wire_admin {
	struct wire_head head;
	uint32_t verb;
	uint32_t zero;
	uint64_t request; /* to be explained: its number */
};

struct wire_answer {
	struct wire_head head;
	uint32_t failed; /* 0: done as asked */
	uint32_t zero;
	char text[1024];
};

enum wire_outcome { WIRE_FOUND, WIRE_UNKNOWN, WIRE_NOT_YOURS };

/* Why a request waits, or what it has waited for.  All times are spans. */
struct wire_explained {
	struct wire_head head;
	uint32_t outcome; /* enum wire_outcome; else only `request` counts */
	uint32_t state;   /* enum board_live_state; FREE: it has ended */
	uint64_t request;
	uint32_t reason; /* enum shm_reason; it and the next: while it waits */
	uint32_t position;
	uint64_t until_ns; /* time alone may end that; UINT64_MAX: not */
	uint64_t predicted_ns;
	uint64_t used, limit; /* of what the reason names; limit 0: no figure */
	uint64_t waiting_ns;  /* since it came; once started: until then */
	uint64_t since_ns;    /* running: its last start; ended: its end */
	uint32_t result;      /* enum shm_result: ended */
	uint32_t attempts;
	uint64_t waited_ns[SHM_REASONS_MAX];
	char user[SHM_USER_BYTES];
	char model[SHM_OTHER_MODEL_BYTES]; /* a longer one is cut */
};

#endif
