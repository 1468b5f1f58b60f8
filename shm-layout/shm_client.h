/*
 * The client control file: all that a client says.  The client writes it,
 * rgovd maps it read-only and believes nothing in it: it copies a descriptor
 * once and judges the copy.
 *
 *     0        4096              4096+R          +S             +T
 *     +--------+-----------------+---------------+--------------+--------------+
 *     | header | ring: 8 x 8 x n | slots: 192 x n| texts: 4K x n| tasks: 4K x
 * n|
 *     +--------+-----------------+---------------+--------------+--------------+
 *       (each part starts on a page; n slots; texts are only touched
 *        by the slots in use, tasks by those that speak of tasks)
 *
 * Commit points:
 *   C1 -> D1  slot.word   rgovd sees the descriptor, the settlement, the body
 *   C2 -> D2  ring.tail   rgovd sees the ring entry (seq_cst: shm_wake.h)
 */
#ifndef SHM_CLIENT_H
#define SHM_CLIENT_H

#include "shm-layout/shm_atomic.h"
#include "shm-layout/shm_limits.h"

#include <stddef.h>
#include <stdint.h>

enum shm_kind {
	SHM_CALL = 0,
	SHM_PERMIT = 1,
	SHM_TASK = 2,      /* a durable call: DONE once it is on disk */
	SHM_TASK_VERB = 3, /* asks about tasks: shm_task.h */
};

enum shm_operation { SHM_INVOKE_MODEL = 0, SHM_CONVERSE = 1 };

enum shm_class { SHM_INTERACTIVE = 0, SHM_NORMAL = 1, SHM_BATCH = 2 };

enum shm_request_flags {
	SHM_BELL = 1,           /* ring the session socket at the end */
	SHM_NOT_IDEMPOTENT = 2, /* never issue it a second time */
	SHM_FLAGS_ALL = 3,
};

/* How a permit ended, in the worker's own words. */
enum shm_settlement {
	SHM_SETTLED_OK = 0,
	SHM_SETTLED_THROTTLED =
		1, /* the provider throttled the worker's call */
	SHM_SETTLED_FAILED = 2,
	SHM_SETTLED_UNUSED = 3, /* nothing was sent */
};

/*
 *     0       8           16             24       28
 *     +-------+-----------+--------------+--------+---------+
 *     | magic | version   | layout_hash  | slots  |  zero   |
 *     +-------+-----------+--------------+--------+---------+
 *     64
 *     +------+
 *     | tail |  entries ever written; C2 -> D2
 *     +------+
 */
struct client_header {
	_Atomic uint64_t magic; /* stored last */
	uint32_t layout_version;
	uint32_t zero0;
	uint64_t layout_hash;
	uint32_t slots;
	uint32_t zero1[9];

	_Alignas(SHM_LINE) _Atomic uint64_t tail;
	uint64_t zero2[7];
};
static_assert(sizeof(struct client_header) == 2 * SHM_LINE, "header is ABI");

#define SHM_CLIENT_MAGIC 0x316c63766f6772ull /* "rgovcl1" */

/* One hint: slot index, and the low word it was written with.  The slot
 * word is the truth; the ring carries the order. */
#define SHM_RING_ENTRY(index, word) ((uint64_t)(index) << 32 | (word))
#define SHM_RING_INDEX(entry) ((uint32_t)((entry) >> 32))
#define SHM_RING_WORD(entry) ((uint32_t)(entry))

/*
 * What the client says about one slot.
 *
 *     0      4         8    9   10    11    12       16         24
 *     +------+---------+----+---+-----+-----+--------+----------+--------
 *     | word | waiting |kind|op |class|flags|body_len|deadline  | tokens
 *     +------+---------+----+---+-----+-----+--------+----------+--------
 *       ^ {generation:24, command:8}, stored last: C1 -> D1
 *     64: the settlement of a permit, written before {g, SETTLE}
 *     128: the user
 */
struct client_slot {
	_Alignas(SHM_LINE) _Atomic uint32_t word; /* C1: commits the rest */
	_Atomic uint32_t
		waiting;   /* threads that sleep on the answer: shm_wake.h */
	uint8_t kind;      /* enum shm_kind */
	uint8_t operation; /* enum shm_operation, or shm_task_verb */
	uint8_t class;     /* enum shm_class */
	uint8_t flags;     /* enum shm_request_flags */
	uint32_t body_bytes;
	uint64_t deadline_ns;   /* CLOCK_MONOTONIC; never 0 */
	uint64_t input_tokens;  /* of a permit: the worker's estimate */
	uint64_t output_tokens; /* of a permit: the most it may produce */
	uint16_t model_bytes;
	uint16_t headers_bytes;
	uint16_t user_bytes;
	uint16_t zero0;
	uint64_t zero1[2];

	_Alignas(SHM_LINE) uint32_t settled_generation;
	uint32_t settlement;          /* enum shm_settlement */
	int64_t settled_input_tokens; /* -1: unknown */
	int64_t settled_output_tokens;
	uint64_t zero2[5];

	_Alignas(SHM_LINE) char user[SHM_USER_BYTES]; /* no final zero needed */
};
static_assert(sizeof(struct client_slot) == 3 * SHM_LINE, "slot is ABI");
static_assert(offsetof(struct client_slot, settled_generation) == SHM_LINE,
	"the settlement has a line of its own");

struct client_text {
	char model[SHM_MODEL_BYTES];
	char headers[SHM_HEADERS_BYTES];
};
static_assert(sizeof(struct client_text) == SHM_PAGE, "text is ABI");

/* Where the parts of a file with n slots begin, and its size. */
struct client_shape {
	uint32_t slots, ring_entries;
	size_t ring_off, slots_off, texts_off, tasks_off, total_bytes;
};

#endif
