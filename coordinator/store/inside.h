/*
 * What the files of the store share; nobody else includes it.
 *
 *   store.c    life, what the loop calls
 *   threads.c  two queues, a thread that writes and one that reads
 *   file.c     the file itself: the lock, whether it is ours, a new one
 *   schema.c   tables, migration
 *   sql.c      a connection and its statements; SQLite's errors in our words
 *   batch.c    group commit
 *   write.c    the jobs that write          read.c   those that read
 *   row.c      a record as a row            parts.c  bodies and replies
 *   tend.c     what expires, what the file gives back, the log's length
 *
 * The loop's thread owns struct store up to `lock`; what follows is shared
 * under it.  A connection belongs to one thread once the threads run.
 */
#ifndef COORDINATOR_STORE_INSIDE_H
#define COORDINATOR_STORE_INSIDE_H

#include "coordinator/store/store.h"

#include <pthread.h>
#include <sqlite3.h>

enum {
	STORE_APPLICATION_ID = 0x72674f76, /* "rgOv" */
	STORE_PAGE_BYTES = 4096,
	STORE_WRITER_CACHE_KIB = 6144,
	STORE_READER_CACHE_KIB = 2048,
};

/* ------------------------------------------------------------ sql.c */

/* X(name, SQL) */
#define STORE_STATEMENTS(X)                                                    \
	X(BEGIN, "BEGIN IMMEDIATE")                                            \
	X(COMMIT, "COMMIT")                                                    \
	X(ROLLBACK, "ROLLBACK")                                                \
	X(SAVEPOINT, "SAVEPOINT job")                                          \
	X(ROLLBACK_JOB, "ROLLBACK TO job")                                     \
	X(RELEASE, "RELEASE job")                                              \
	X(PUT, "INSERT INTO task(id, uid, state, operation, class, "           \
	       "is_idempotent, model, user, app, headers, key, callback, "     \
	       "digest, body_sha256, body_bytes, submitted_ns, deadline_ns, "  \
	       "estimate_in, estimate_out) "                                   \
	       "VALUES(?,?,0,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) "                \
	       "ON CONFLICT DO NOTHING")                                       \
	X(FIND, "SELECT id, state, uid, digest, seq, submitted_ns "            \
		"FROM task WHERE id = ?")                                      \
	X(FIND_KEY, "SELECT id, state, uid, digest FROM task "                 \
		    "WHERE uid = ? AND key = ?")                               \
	X(START,                                                               \
		"UPDATE task SET state = 1, started_ns = ?2, runs = runs + 1," \
		" events = events + (events < 200) "                           \
		"WHERE id = ?1 AND state < 2 "                                 \
		"RETURNING seq, events, runs, body_bytes")                     \
	X(END, "UPDATE task SET events = events + 1, state = ?2, "             \
	       "ended_ns = ?3, result = ?4, http_status = ?5, "                \
	       "attempts = ?6, used_in = ?7, used_out = ?8, "                  \
	       "cache_read = ?9, cache_write = ?10, queued_ns = ?11, "         \
	       "executing_ns = ?12, code = ?13, message = ?14, "               \
	       "request_id = ?15, answered_by = ?16, reply_bytes = ?17, "      \
	       "reply_state = ?17 > 0, callback_state = callback <> '' "       \
	       "WHERE id = ?1 AND state < 2 RETURNING seq, events")            \
	X(NOTE, "UPDATE task SET events = events + (events < 100) "            \
		"WHERE id = ? RETURNING seq, events")                          \
	X(REQUEUE, "UPDATE task SET state = 0 WHERE id = ? AND state = 1")     \
	X(CALLBACK,                                                            \
		"UPDATE task SET events = events + 1, callback_state = ?2 "    \
		"WHERE id = ?1 AND callback_state = 1 RETURNING seq, events")  \
	X(EVENT, "INSERT OR IGNORE INTO event VALUES(?,?,?,?,?)")              \
	X(EVENTS, "SELECT at_ns, event, detail, text FROM event "              \
		  "WHERE place BETWEEN ? AND ? ORDER BY place")                \
	X(EVENTS_DROP, "DELETE FROM event WHERE place BETWEEN ? AND ?")        \
	X(REQUEST_PUT, "INSERT INTO request_part VALUES(?,?)")                 \
	X(REQUEST_GET, "SELECT bytes FROM request_part "                       \
		       "WHERE place BETWEEN ? AND ? ORDER BY place")           \
	X(REQUEST_DROP,                                                        \
		"DELETE FROM request_part WHERE place BETWEEN ? AND ?")        \
	X(REPLY_PUT, "INSERT INTO reply_part VALUES(?,?)")                     \
	X(REPLY_GET, "SELECT bytes FROM reply_part "                           \
		     "WHERE place BETWEEN ? AND ? ORDER BY place")             \
	X(REPLY_DROP, "DELETE FROM reply_part WHERE place BETWEEN ? AND ?")    \
	X(LOOK, "SELECT " STORE_COLUMNS " FROM task WHERE id = ?")             \
	X(LIST, "SELECT " STORE_COLUMNS " FROM task "                          \
		"WHERE id < ? ORDER BY id DESC LIMIT ?")                       \
	X(LIST_UID, "SELECT " STORE_COLUMNS " FROM task INDEXED BY task_uid "  \
		    "WHERE uid = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2")    \
	X(RECOVER, "SELECT " STORE_COLUMNS " FROM task INDEXED BY task_open "  \
		   "WHERE state < 2 ORDER BY seq")                             \
	X(RECOVER_CALLBACKS,                                                   \
		"SELECT " STORE_COLUMNS " FROM task INDEXED BY task_callback " \
		"WHERE callback_state = 1 ORDER BY seq")                       \
	X(OLD_REPLIES, "SELECT seq, ended_ns, reply_bytes FROM task "          \
		       "INDEXED BY task_reply WHERE reply_state = 1 AND "      \
		       "ended_ns <= ? ORDER BY ended_ns LIMIT ?")              \
	X(REPLY_GONE, "UPDATE task SET reply_state = 2 WHERE seq = ?")         \
	X(OLD_RECORDS,                                                         \
		"SELECT seq, ended_ns, reply_bytes FROM task "                 \
		"INDEXED BY task_ended WHERE state >= 2 AND ended_ns <= ? "    \
		"ORDER BY ended_ns LIMIT ?")                                   \
	X(FORGET, "DELETE FROM task WHERE seq = ?")                            \
	X(FREE_PAGES, "PRAGMA freelist_count")                                 \
	X(PAGES, "PRAGMA page_count")                                          \
	X(VACUUM, "PRAGMA incremental_vacuum(256)")

/* In the order in which row.c reads them. */
#define STORE_COLUMNS                                                          \
	"seq, id, uid, state, operation, class, is_idempotent, model, user, "  \
	"app, headers, key, callback, digest, body_sha256, body_bytes, "       \
	"submitted_ns, deadline_ns, estimate_in, estimate_out, started_ns, "   \
	"runs, ended_ns, result, http_status, attempts, used_in, used_out, "   \
	"cache_read, cache_write, queued_ns, executing_ns, code, message, "    \
	"request_id, answered_by, reply_state, reply_bytes, callback_state"

enum store_statement {
#define X(name, sql) STORE_SQL_##name,
	STORE_STATEMENTS(X)
#undef X
		STORE_SQL_COUNT
};

struct store_sql {
	sqlite3 *db;
	sqlite3_stmt *statements[STORE_SQL_COUNT];
};

/* These return SQLite's codes; 0 is fine. */
int store_sql_open(
	struct store_sql *sql, const char *path, int flags, int cache_kib);
int store_sql_prepare(struct store_sql *sql, enum store_statement which);
int store_sql_prepare_all(struct store_sql *sql);
void store_sql_close(struct store_sql *sql);
/* Ready to be bound. */
sqlite3_stmt *store_sql_get(struct store_sql *sql, enum store_statement which);
/* One step of a statement that gives no row; lets go of what is bound. */
int store_sql_run(sqlite3_stmt *statement);
int store_sql_do(struct store_sql *sql, enum store_statement which);
/* One that gives a number. */
int store_sql_number(
	struct store_sql *sql, enum store_statement which, int64_t *ret_number);
/* -errno for a code of this connection, just returned. */
int store_sql_errno(const struct store_sql *sql, int code);
/* The same with words for people. */
int store_sql_explain(const struct store_sql *sql, int code, const char *what,
	char ret_why[STORE_WHY_BYTES]);

/* ------------------------------------------------------------ schema.c */

enum { STORE_SCHEMA_VERSION = 2 };

/* What brings a file from version i to i + 1. */
extern const char *const store_schema_steps[STORE_SCHEMA_VERSION];
/* Brings it up to date, in one transaction. */
int store_schema_migrate(struct store_sql *sql, int from);

/* ------------------------------------------------------------ file.c */

/* Takes the lock; its descriptor, to be closed.  -errno with words. */
int store_file_lock(
	const char *path, int *ret_fd, char ret_why[STORE_WHY_BYTES]);
/* Judges the file, or makes it, and opens it for writing. */
int store_file_open(
	const char *path, struct store_sql *sql, char ret_why[STORE_WHY_BYTES]);

/* ------------------------------------------------------------ parts.c */

enum store_body { STORE_REQUEST, STORE_REPLY };

int store_parts_put(struct store_sql *sql, enum store_body which, int64_t seq,
	const char *body, size_t bytes);
/* All of it, exactly; SQLITE_CORRUPT where it has another size. */
int store_parts_get(struct store_sql *sql, enum store_body which, int64_t seq,
	char *into, size_t bytes);
int store_parts_drop(struct store_sql *sql, enum store_body which, int64_t seq);

/* ------------------------------------------------------------ row.c */

/* Of a statement that gives STORE_COLUMNS and stands on a row; its texts live
 * until the next step. */
void store_row_view(sqlite3_stmt *row, struct store_record *ret_record);
/* The same in one piece of memory; NULL: none left. */
struct store_record *store_row_copy(const struct store_record *record);
int64_t store_row_seq(sqlite3_stmt *row);
void store_row_bind_put(sqlite3_stmt *put, const struct store_record *record);
void store_row_bind_end(sqlite3_stmt *end, const struct store_job *job);

/* ------------------------------------------------------------ jobs */

/* write.c, read.c: perform one, and set its outcome; SQLite's code. */
int store_write(struct store_sql *sql, struct store_job *job);
int store_read(struct store_sql *sql, struct store_job *job, bool *ret_again);
/* What an event's place is made of; read.c, write.c, tend.c. */
enum { STORE_EVENT_BITS = 8 };

static inline bool store_job_writes(const struct store_job *job)
{
	return job->op < STORE_LOOK;
}

/* Must it wait for the disk? */
static inline bool store_job_syncs(const struct store_job *job)
{
	return job->op == STORE_BEGIN ? job->begin.is_durable
				      : job->op != STORE_NOTE;
}

/* ------------------------------------------------------------ tend.c */

struct store_tending {
	int64_t due_ns; /* wall clock: something expires; INT64_MAX: nothing */
	uint64_t stepped_ns; /* monotonic: the last step */
	int64_t shortest_ttl_ns;
	bool is_vacuum_due;
	bool has_more; /* another step is due at once */
};

struct store_queue {
	struct store_job *first, **end;
	unsigned int n;
	unsigned int wake_at; /* so many, and the thread is woken */
	pthread_cond_t work;
};

struct store {
	struct loop *loop;
	struct store_sql writer, reader;
	pthread_t threads[2]; /* writer, reader */
	unsigned int n_threads;
	int lock_fd;
	char *path;
	_Atomic int has_finished; /* a hint, so that collect needs no lock */

	/* The writer thread's. */
	bool is_full_sync;  /* of its connection, now */
	bool is_suspect;    /* an fsync failed: see batch.c */
	int log_frames;     /* in the write-ahead log */
	unsigned int crowd; /* jobs that may come together */
	uint64_t crowd_until_ns;
	struct store_tending tending;

	pthread_mutex_t lock;
	struct store_config config;
	struct store_queue to_write, to_read;
	struct store_job *finished, **finished_end;
	struct store_stats stats;
	bool is_ending;
	bool is_tending_due;
};

/* threads.c; the queues under the lock. */
void store_queue_init(struct store_queue *queue);
void store_queue_push(struct store_queue *queue, struct store_job *job);
struct store_job *store_queue_pop(struct store_queue *queue); /* NULL: empty */
int store_threads_start(struct store *store);                 /* -errno */
/* The writer does what is queued first. */
void store_threads_stop(struct store *store);

/* batch.c: performs and commits them; each has its error afterwards. */
void store_batch_commit(struct store *store, struct store_job *jobs);

/* One bounded step of what is due; true: there is more, now. */
bool store_tend(struct store *store);
/* When to look again, monotonic; UINT64_MAX: nothing will be due. */
uint64_t store_tend_at(struct store *store);
/* A batch is through. */
void store_tend_after(struct store *store, const struct store_job *jobs);
/* Shortens the write-ahead log where it has grown. */
void store_tend_log(struct store *store);
/* Whether all of it is in the file now. */
int store_tend_flush(struct store *store);

int64_t store_wall_ns(const struct store *store);
void store_set_trouble(struct store *store, const char *words);

#endif
