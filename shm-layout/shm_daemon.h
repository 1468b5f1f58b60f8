/*
 * The daemon control file: all that rgovd answers to one client.  rgovd writes
 * it, the client maps it read-only and sleeps on its words.
 *
 *     0        4096
 *     +--------+------------------+
 *     | header | slots: 1024 x n  |
 *     +--------+------------------+
 *
 * Commit points:
 *   D3 -> C3  slot.word     the client sees the whole reply (seq_cst:
 * shm_wake.h) D4 -> C4  header.epoch  the client sees that a successor has
 * recovered it
 *   D5 -> C5  slot.place.sequence  a sequence lock: odd while rgovd writes it
 */
#ifndef SHM_DAEMON_H
#define SHM_DAEMON_H

#include "shm-layout/shm_atomic.h"
#include "shm-layout/shm_limits.h"
#include "shm-layout/shm_reasons.h"
#include "shm-layout/shm_task.h"

#include <stddef.h>
#include <stdint.h>

/* How a request ended.  The order is ABI. */
enum shm_result {
	SHM_OK = 0,              /* a reply, or a permit */
	SHM_UPSTREAM_ERROR = 1,  /* the provider answered an error */
	SHM_UPSTREAM_FAILED = 2, /* no usable answer: code says what */
	SHM_DEADLINE = 3, /* it passed; `issued` says whether it was sent */
	SHM_CANCELLED = 4,
	SHM_QUEUE_FULL = 5, /* host-wide */
	SHM_USER_LIMIT = 6, /* this user's queue */
	SHM_TOO_LARGE = 7,  /* can never fit the lane */
	SHM_DRAINING = 8,   /* rgovd is going down */
	SHM_INVALID = 9,    /* the request is wrong: message says what */
	SHM_NO_CREDENTIALS = 10,
	SHM_BODY_CHANGED = 11, /* the body is not the submitted one */
	SHM_REPLY_TOO_LARGE = 12,
	SHM_AMBIGUOUS = 13,    /* it was sent; nobody knows what became of it */
	SHM_NO_MEMORY = 14,    /* rgovd has none */
	SHM_NO_TASK = 15,      /* there is no task of that id (any more) */
	SHM_TASK_GONE = 16,    /* its reply was kept for task_result_ttl */
	SHM_NOT_YOURS = 17,    /* another uid's task */
	SHM_KEY_TAKEN = 18,    /* another request has that idempotency key */
	SHM_STORE_FAILED = 19, /* the disk: message says what */
	SHM_NO_STORE = 20,     /* tasks are switched off */
	SHM_RESULTS
};

struct daemon_header {
	_Atomic uint64_t magic; /* stored last; SHM_DAEMON_ENDED at the end */
	uint32_t layout_version;
	uint32_t zero0;
	uint64_t layout_hash;
	uint32_t slots;
	uint32_t owner_uid;     /* of the client */
	uint8_t session_id[16]; /* random; named again at a reattach */
	uint64_t zero1[2];

	/* Written by rgovd on every pass, read on every submit. */
	_Alignas(SHM_LINE) _Atomic uint32_t polling; /* shm_wake.h */
	_Atomic uint32_t
		epoch; /* D4: grows with each recovery of this session */
	_Atomic uint32_t
		spin_us; /* how long a waiter may spin; 0: CPUs are short */
	uint32_t zero2;
	uint64_t zero3[6];
};
static_assert(sizeof(struct daemon_header) == 2 * SHM_LINE, "header is ABI");

#define SHM_DAEMON_MAGIC 0x316d64766f6772ull /* "rgovdm1" */
/* In its place once rgovd has ended the session (its client died, or broke the
 * protocol): no rgovd takes it over any more. */
#define SHM_DAEMON_ENDED 0x646e6564766f6772ull /* "rgovdend" */

/*
 * Where a request stands in the queue.  Written while its client may look: when
 * it could not start at once, and anew when somebody asks (WIRE_EXPLAIN).  Of
 * another generation than the slot's word: nothing was said yet, or there was
 * nothing to say.  Stamps are CLOCK_MONOTONIC.
 */
struct daemon_place {
	_Alignas(SHM_LINE) _Atomic uint32_t sequence; /* D5 */
	uint32_t generation;
	uint64_t request; /* number since rgovd's start */
	uint32_t reason;  /* enum shm_reason, at as_of_ns */
	uint32_t position;
	uint64_t as_of_ns;
	uint64_t until_ns;     /* time alone may change the reason then;
				  UINT64_MAX: not time alone */
	uint64_t predicted_ns; /* how much longer it may wait */
	/* The same when it came, for the reply. */
	uint64_t first_predicted_ns;
	uint32_t first_position;
	uint32_t zero0;
};
static_assert(sizeof(struct daemon_place) == SHM_LINE, "place is ABI");

/*
 * What rgovd says about one slot.
 *
 *     0      4        8          12         16          24
 *     +------+--------+----------+----------+-----------+------
 *     | word | result | attempts | body     | wait      | ...
 *     +------+--------+----------+----------+-----------+------
 *       ^ {generation:24, state:8}; the futex of the waiter: D3 -> C3
 *     64 code, 128 request id, 192 message, 448 task, 512 place (D5),
 *     576 waited, 768 model
 *
 * A reply that waited for nothing and was answered by the model that was asked
 * touches neither waited nor model.
 */
struct daemon_slot {
	_Alignas(SHM_LINE) _Atomic uint32_t word; /* D3: commits the rest */
	uint16_t result;                          /* enum shm_result */
	uint16_t http_status;                     /* 0: none */
	uint32_t attempts;       /* upstream calls made for it */
	uint32_t body_bytes;     /* in region i of the daemon bodies */
	uint64_t wait_ns;        /* accepted until first started */
	uint64_t execution_ns;   /* last start until the end */
	uint64_t retry_after_ns; /* of a refusal: when to come back */
	int32_t input_tokens;    /* -1: the provider did not say */
	int32_t output_tokens;
	int32_t cache_read_tokens;
	int32_t cache_write_tokens;
	uint16_t issued;    /* 1: it was sent upstream at least once */
	uint16_t has_model; /* 1: another model answered than was asked */
	uint32_t waited;    /* a bit for each reason that waited_ns tells of */

	char code[SHM_CODE_BYTES];
	char request_id[SHM_REQUEST_ID_BYTES];
	char message[SHM_MESSAGE_BYTES];

	/* Of SHM_TASK and SHM_TASK_VERB; of a call it is kept for streaming,
	 * and zero. */
	_Alignas(SHM_LINE) struct daemon_task task;
	struct daemon_place place;
	uint64_t waited_ns[SHM_REASONS_MAX]; /* by enum shm_reason */
	char model[SHM_OTHER_MODEL_BYTES];   /* that answered: has_model */
};
static_assert(sizeof(struct daemon_slot) == 1024, "slot is ABI");

struct daemon_shape {
	uint32_t slots;
	size_t slots_off, total_bytes;
};

#endif
