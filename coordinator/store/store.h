/*
 * The durable store of tasks: one SQLite file, written by one thread that
 * commits many jobs at once, read by another.
 *
 * It decides nothing: which task runs, who may see it and what becomes of one
 * that ran when rgovd died are questions of the governor.  Bodies, prompts and
 * keys go into the file (0600) and into no message.
 *
 * One thread, the loop's, calls everything here.  All times are nanoseconds of
 * CLOCK_REALTIME, since they survive a reboot.
 *
 * What is told as done is on disk: PUT, END, CALLBACK_DONE and a durable BEGIN
 * are told after fdatasync.  Killed at any instruction: a job that was told is
 * there, one that was not is there whole or not at all.
 */
#ifndef COORDINATOR_STORE_H
#define COORDINATOR_STORE_H

#include "coordinator/loop/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

enum {
	STORE_ID_BYTES = 16,
	STORE_DIGEST_BYTES = 32,
	STORE_WHY_BYTES = 512,
	STORE_KEY_MAX = 128,       /* bytes of an idempotency key */
	STORE_NOTE_MAX = 255,      /* of an event's text; longer ones are cut */
	STORE_BODY_MAX = 32 << 20, /* of a body or a reply: -EFBIG */
	STORE_LIST_MAX = 1000,     /* rows of one LIST */
	STORE_EVENTS_MAX = 100,    /* of one task; later notes are dropped */
};

/* In the file as these numbers: only ever appended to. */
enum store_state {
	STORE_QUEUED,
	STORE_RUNNING,
	STORE_SUCCEEDED, /* this and what follows are final */
	STORE_FAILED,
	STORE_CANCELLED,
	STORE_EXPIRED,
	STORE_STATES
};

static inline bool store_is_final(enum store_state state)
{
	return state >= STORE_SUCCEEDED;
}

/* Whether the outcome was posted to the task's callback. */
enum store_callback {
	STORE_CALLBACK_NONE,    /* it has none, or has not ended */
	STORE_CALLBACK_PENDING, /* it has ended, and nobody was told yet */
	STORE_CALLBACK_DELIVERED,
	STORE_CALLBACK_GIVEN_UP,
};

enum store_reply {
	STORE_REPLY_NONE, /* it has not ended, or ended without a body */
	STORE_REPLY_HELD,
	STORE_REPLY_GONE, /* removed after result_ttl */
};

/* How a task ended.  Texts may be NULL for "". */
struct store_ending {
	int32_t result; /* the owner's number */
	int32_t http_status;
	uint32_t attempts;
	int64_t input_tokens; /* -1: unknown; so the next three */
	int64_t output_tokens;
	int64_t cache_read_tokens;
	int64_t cache_write_tokens;
	uint64_t queued_ns;    /* waited in all */
	uint64_t executing_ns; /* upstream, the last attempt */
	const char *code, *message, *request_id;
	const char *model; /* that answered */
};

/*
 * One task.  Texts are never NULL in what the store gives, may be NULL for ""
 * in what it is given.
 */
struct store_record {
	uint8_t id[STORE_ID_BYTES]; /* UUID version 7 */
	uint32_t uid;               /* who submitted */
	enum store_state state;
	uint8_t operation, class; /* the owner's numbers */
	bool is_idempotent;
	const char *model, *user, *app, *headers;
	const char *key;                    /* idempotency key; "": none */
	const char *callback;               /* URL; "": none */
	uint8_t digest[STORE_DIGEST_BYTES]; /* of the request, as its key
					       compares it */
	uint8_t body_sha256[STORE_DIGEST_BYTES];
	size_t body_bytes; /* of the request, also when it is removed */
	int64_t submitted_ns;
	int64_t started_ns; /* the last start; 0: never */
	int64_t ended_ns;   /* 0: not yet */
	int64_t deadline_ns;
	int64_t input_tokens, output_tokens; /* estimates */
	uint32_t runs;                       /* times it was begun */

	/* The store's: ignored by PUT. */
	enum store_callback callback_state;
	enum store_reply reply_state;
	size_t reply_bytes;         /* also when it is gone */
	struct store_ending ending; /* zeros and "" until it has ended */
};

/* In the file as these numbers: only ever appended to. */
enum store_event {
	STORE_EVENT_SUBMITTED, /* written by PUT, */
	STORE_EVENT_STARTED,   /* BEGIN: detail is the run, */
	STORE_EVENT_ENDED,     /* END: detail is the state, */
	STORE_EVENT_CALLBACK,  /* CALLBACK_DONE: detail is its state */
	STORE_EVENT_REISSUED,  /* the rest by NOTE */
	STORE_EVENT_RETRIED,
	STORE_EVENT_CANCEL_ASKED,
	STORE_EVENT_AMBIGUOUS,
	STORE_EVENT_NOTE,
	STORE_EVENTS
};

struct store_event_row {
	int64_t at_ns;
	enum store_event event;
	int64_t detail;
	char text[STORE_NOTE_MAX + 1];
};

enum store_op {
	STORE_PUT,
	STORE_BEGIN,
	STORE_END,
	STORE_NOTE,
	STORE_CALLBACK_DONE,
	STORE_LOOK,
	STORE_LIST,
	STORE_HISTORY,
	STORE_OPS
};

/* What became of a job whose error is 0. */
enum store_outcome {
	STORE_DONE,
	STORE_ALREADY,   /* PUT: the same request is there: existing says
			    which; END: it has ended: existing.state */
	STORE_KEY_TAKEN, /* PUT: the key stands for another request */
	STORE_ID_TAKEN,  /* PUT: the id stands for another request */
	STORE_UNKNOWN,   /* all but PUT and LIST: no such task */
};

/* What LIST shows; zero but for limit: the newest of everybody. */
struct store_filter {
	bool has_uid;
	uint32_t uid;
	const char *user; /* NULL: any */
	uint32_t states;  /* bits 1 << enum store_state; 0: any */
	const char *text; /* in model, user or key; NULL: any */
	bool has_after;   /* ids below this one only */
	uint8_t after[STORE_ID_BYTES];
	unsigned int limit; /* rows; at most STORE_LIST_MAX */
};

/*
 * One job; lives in its owner's object until done().  The owner sets done, op,
 * id (or record) and the part of its op; what it points to stays as it is until
 * done().  It begins with zeros: results of an earlier use are not freed.
 */
struct store_job {
	void (*done)(struct store_job *job);
	void *owner;
	enum store_op op;
	uint8_t id[STORE_ID_BYTES]; /* all but PUT and LIST */
	union {
		struct {
			const struct store_record *record; /* state is QUEUED */
			const char *body;                  /* body_bytes */
		} put;
		struct {
			bool is_durable; /* told after it is on disk */
			int64_t at_ns;
			char *into; /* body_bytes of the record are read there;
				       NULL: no body is read */
			size_t into_bytes;
		} begin;
		struct {
			enum store_state state; /* final */
			int64_t at_ns;
			struct store_ending ending;
			const char *reply;
			size_t reply_bytes; /* 0: none is kept */
		} end;
		struct {
			enum store_event event;
			int64_t at_ns, detail;
			const char *text; /* NULL: "" */
			bool is_queued;   /* it is QUEUED again, too, unless it
					     has ended */
		} note;
		struct {
			bool is_delivered; /* else given up */
			int64_t at_ns;
			const char *text; /* for its history; NULL: "" */
		} callback;
		struct {
			bool wants_reply;
		} look;
		struct store_filter list;
	};

	/* From done() on. */
	int error; /* 0, or -errno with words in why: -ENOSPC, -EROFS, -EIO,
		      -EBUSY: the disk, nothing was changed, try again later;
		      -EUCLEAN: the file is damaged; -EFBIG, -ENOMEM,
		      -EINVAL; -ECANCELED: the store was closed */
	char why[STORE_WHY_BYTES];
	enum store_outcome outcome;
	struct {
		uint8_t id[STORE_ID_BYTES];
		enum store_state state;
	} existing; /* PUT, END: STORE_ALREADY */
	/* Memory of the job: what the owner takes it sets to NULL; the rest
	 * goes with store_job_fini(). */
	struct store_record *record;    /* LOOK */
	char *reply;                    /* LOOK with wants_reply, HELD */
	struct store_record **rows;     /* LIST; the newest ids first */
	struct store_event_row *events; /* HISTORY, in their order */
	unsigned int n_rows;            /* of rows or events */
	bool is_more;                   /* LIST: there are more */

	/* Private. */
	struct store_job *next;
	bool is_scanned; /* LIST: a part of the file has been looked through,
			    up to reached */
	uint8_t reached[STORE_ID_BYTES];
};

struct store_config {
	int64_t result_ttl_ns; /* of a reply, after its task's end */
	int64_t record_ttl_ns; /* of a record; at least result_ttl_ns */
	/* CLOCK_REALTIME; NULL: the system's.  Called by the store's thread. */
	int64_t (*wall_now_ns)(void *arg);
	void *wall_arg;
};

/*
 * Opens the file, makes it where there is none (its directory, too: 0700; the
 * parent of that must exist), brings an older schema up to date, takes the
 * store's lock PATH.lock and starts its threads.  Blocks: well under a second,
 * whatever the file holds.
 *
 * 0, or -errno with words in ret_why that say what was expected, what was found
 * and what to do; the file is as it was:
 *   -EBUSY         another process has the store; named
 *   -EMEDIUMTYPE   not SQLite, or another program's
 *   -EPROTO        of a later version of rgovd
 *   -EUCLEAN       damaged
 *   -EROFS, -EACCES, -ENOSPC, -EIO, -ENOTDIR, -ENOMEM, …   what the system says
 */
int store_open(const char *path, const struct store_config *config,
	struct loop *loop, struct store **ret_store,
	char ret_why[STORE_WHY_BYTES]);

/* Does what is queued for writing, ends the other jobs with -ECANCELED; done()
 * is called for each before this returns.  Blocks.  NULL is fine. */
void store_close(struct store *store);

/*
 * Tells every task that has not ended, in the order of submission, RUNNING
 * where it was begun.  The record and its texts are gone when the callback
 * returns; it may submit jobs; one that returns other than 0 ends it: returned.
 * Blocks.  Once, after store_open().  0 or -errno with words.
 */
typedef int store_record_fn(const struct store_record *record, void *arg);
int store_recover(struct store *store, store_record_fn *tell, void *arg,
	char ret_why[STORE_WHY_BYTES]);

/* The same for every task that has ended and whose callback is PENDING. */
int store_recover_callbacks(struct store *store, store_record_fn *tell,
	void *arg, char ret_why[STORE_WHY_BYTES]);

/*
 * Takes the job: done() is called later, from store_collect() or store_close(),
 * never from here.  Jobs that write take effect in the order of this call; a
 * job that reads sees whatever was told as done before it was submitted.
 */
void store_submit(struct store *store, struct store_job *job);

/* Frees the results that were not taken.  Zeros are fine. */
void store_job_fini(struct store_job *job);

/* Calls done() for the jobs that are through; returns how many.  The threads
 * wake the loop, so call it after each loop_step(). */
unsigned int store_collect(struct store *store);

/* Other times to live, from now on; also: the wall clock was set. */
void store_set_ttl(
	struct store *store, int64_t result_ttl_ns, int64_t record_ttl_ns);

/* For the board and tests. */
struct store_stats {
	uint64_t jobs;           /* told */
	uint64_t failed_jobs;    /* with an error */
	uint64_t commits;        /* of jobs */
	uint64_t synced_commits; /* those of them that waited for the disk */
	uint64_t largest_batch;
	uint64_t last_commit_ns; /* how long it took */
	uint64_t checkpoints;
	uint64_t longest_checkpoint_ns;
	uint64_t replies_expired, records_expired;
	uint64_t file_bytes, free_bytes; /* free: inside the file */
	uint64_t wal_bytes;
	char trouble[STORE_WHY_BYTES]; /* the last commit or clean-up that
					  failed; "" after one that did not */
};
void store_read_stats(struct store *store, struct store_stats *ret_stats);

#endif
