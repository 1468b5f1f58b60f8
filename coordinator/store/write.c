/*
 * The jobs that write, each inside a transaction of batch.c.  A code other than
 * SQLITE_OK means that nothing of the job may stay; batch.c sees to that.
 */
#include "coordinator/store/inside.h"

#include <assert.h>
#include <string.h>

/* A row of FIND. */
static void read_existing(sqlite3_stmt *row, struct store_job *job)
{
	const void *id = sqlite3_column_blob(row, 0);

	if (id != NULL && sqlite3_column_bytes(row, 0) == STORE_ID_BYTES)
		memcpy(job->existing.id, id, STORE_ID_BYTES);
	job->existing.state = (enum store_state)sqlite3_column_int(row, 1);
}

/* No row was changed: there is none, or it stands where the job cannot apply.
 */
static int judge_missing(struct store_sql *sql, struct store_job *job)
{
	sqlite3_stmt *find = store_sql_get(sql, STORE_SQL_FIND);
	int rc;

	(void)sqlite3_bind_blob(
		find, 1, job->id, STORE_ID_BYTES, SQLITE_STATIC);
	rc = sqlite3_step(find);
	job->outcome = rc == SQLITE_ROW ? STORE_ALREADY : STORE_UNKNOWN;
	if (rc == SQLITE_ROW)
		read_existing(find, job);
	(void)sqlite3_reset(find);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ------------------------------------------------------------ PUT */

static bool is_same(sqlite3_stmt *row, const struct store_record *record)
{
	const void *digest = sqlite3_column_blob(row, 3);

	return sqlite3_column_int64(row, 2) == (int64_t)record->uid &&
	       sqlite3_column_bytes(row, 3) == STORE_DIGEST_BYTES &&
	       memcmp(digest, record->digest, STORE_DIGEST_BYTES) == 0;
}

/* SQLITE_ROW: found, and judged; SQLITE_DONE: not found. */
static int judge(
	sqlite3_stmt *find, struct store_job *job, enum store_outcome otherwise)
{
	int rc = sqlite3_step(find);

	if (rc == SQLITE_ROW) {
		job->outcome = otherwise;
		if (is_same(find, job->put.record)) {
			job->outcome = STORE_ALREADY;
			read_existing(find, job);
		}
	}
	(void)sqlite3_reset(find);
	(void)sqlite3_clear_bindings(find);
	return rc;
}

/* Its id or its key is there. */
static int judge_existing(struct store_sql *sql, struct store_job *job)
{
	const struct store_record *record = job->put.record;
	sqlite3_stmt *find = store_sql_get(sql, STORE_SQL_FIND);
	int rc;

	(void)sqlite3_bind_blob(
		find, 1, record->id, STORE_ID_BYTES, SQLITE_STATIC);
	rc = judge(find, job, STORE_ID_TAKEN);
	if (rc == SQLITE_DONE) {
		find = store_sql_get(sql, STORE_SQL_FIND_KEY);
		(void)sqlite3_bind_int64(find, 1, record->uid);
		(void)sqlite3_bind_text(
			find, 2, record->key, -1, SQLITE_STATIC);
		rc = judge(find, job, STORE_KEY_TAKEN);
	}
	/* Neither: an index says what the table does not. */
	return rc == SQLITE_ROW    ? SQLITE_OK
	       : rc == SQLITE_DONE ? SQLITE_CORRUPT
				   : rc;
}

static int put(struct store_sql *sql, struct store_job *job)
{
	const struct store_record *record = job->put.record;
	sqlite3_stmt *statement = store_sql_get(sql, STORE_SQL_PUT);
	int rc;

	store_row_bind_put(statement, record);
	rc = store_sql_run(statement);
	if (rc != SQLITE_OK)
		return rc;
	if (sqlite3_changes(sql->db) == 0)
		return judge_existing(sql, job);
	return store_parts_put(sql, STORE_REQUEST,
		sqlite3_last_insert_rowid(sql->db), job->put.body,
		record->body_bytes);
}

/* ------------------------------------------------------------ the others */

/* What a changed row says of itself. */
struct changed {
	int64_t seq, event, runs, body_bytes;
};

/* Runs a statement that gives its row back where there was one to change. */
static int change(struct store_sql *sql, enum store_statement which,
	struct store_job *job, struct changed *ret)
{
	sqlite3_stmt *statement = store_sql_get(sql, which);
	int rc;

	(void)sqlite3_bind_blob(
		statement, 1, job->id, STORE_ID_BYTES, SQLITE_STATIC);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW) {
		ret->seq = sqlite3_column_int64(statement, 0);
		ret->event = sqlite3_column_int64(statement, 1);
		if (which == STORE_SQL_START) {
			ret->runs = sqlite3_column_int64(statement, 2);
			ret->body_bytes = sqlite3_column_int64(statement, 3);
		}
		rc = sqlite3_step(statement);
	}
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	if (rc != SQLITE_DONE)
		return rc;
	return ret->seq == 0 ? judge_missing(sql, job) : SQLITE_OK;
}

/* Of a text, what fits. */
static int cut(const char *text)
{
	return (int)strnlen(text, STORE_NOTE_MAX);
}

static int add_event(struct store_sql *sql, const struct changed *changed,
	int64_t at_ns, enum store_event event, int64_t detail, const char *text)
{
	sqlite3_stmt *add = store_sql_get(sql, STORE_SQL_EVENT);

	if (text == NULL)
		text = "";
	(void)sqlite3_bind_int64(
		add, 1, changed->seq << STORE_EVENT_BITS | changed->event);
	(void)sqlite3_bind_int64(add, 2, at_ns);
	(void)sqlite3_bind_int64(add, 3, event);
	(void)sqlite3_bind_int64(add, 4, detail);
	(void)sqlite3_bind_text(add, 5, text, cut(text), SQLITE_STATIC);
	return store_sql_run(add);
}

static int begin(struct store_sql *sql, struct store_job *job)
{
	struct changed changed = {.seq = 0};
	int rc;

	(void)sqlite3_bind_int64(
		store_sql_get(sql, STORE_SQL_START), 2, job->begin.at_ns);
	rc = change(sql, STORE_SQL_START, job, &changed);
	if (rc != SQLITE_OK || job->outcome != STORE_DONE)
		return rc;
	rc = add_event(sql, &changed, job->begin.at_ns, STORE_EVENT_STARTED,
		changed.runs, NULL);
	if (rc != SQLITE_OK || job->begin.into == NULL)
		return rc;
	if ((int64_t)job->begin.into_bytes != changed.body_bytes)
		return SQLITE_MISMATCH;
	return store_parts_get(sql, STORE_REQUEST, changed.seq, job->begin.into,
		job->begin.into_bytes);
}

static int end(struct store_sql *sql, struct store_job *job)
{
	struct changed changed = {.seq = 0};
	int rc;

	store_row_bind_end(store_sql_get(sql, STORE_SQL_END), job);
	rc = change(sql, STORE_SQL_END, job, &changed);
	if (rc != SQLITE_OK || job->outcome != STORE_DONE)
		return rc;
	rc = add_event(sql, &changed, job->end.at_ns, STORE_EVENT_ENDED,
		job->end.state, NULL);
	if (rc == SQLITE_OK)
		rc = store_parts_drop(sql, STORE_REQUEST, changed.seq);
	if (rc == SQLITE_OK)
		rc = store_parts_put(sql, STORE_REPLY, changed.seq,
			job->end.reply, job->end.reply_bytes);
	return rc;
}

static int queue_again(struct store_sql *sql, struct store_job *job)
{
	sqlite3_stmt *requeue = store_sql_get(sql, STORE_SQL_REQUEUE);

	(void)sqlite3_bind_blob(
		requeue, 1, job->id, STORE_ID_BYTES, SQLITE_STATIC);
	return store_sql_run(requeue);
}

static int note(struct store_sql *sql, struct store_job *job)
{
	struct changed changed = {.seq = 0};
	int rc = job->note.is_queued ? queue_again(sql, job) : SQLITE_OK;

	if (rc == SQLITE_OK)
		rc = change(sql, STORE_SQL_NOTE, job, &changed);
	if (rc != SQLITE_OK || job->outcome != STORE_DONE)
		return rc;
	return add_event(sql, &changed, job->note.at_ns, job->note.event,
		job->note.detail, job->note.text);
}

static int callback_done(struct store_sql *sql, struct store_job *job)
{
	enum store_callback state = job->callback.is_delivered
					    ? STORE_CALLBACK_DELIVERED
					    : STORE_CALLBACK_GIVEN_UP;
	struct changed changed = {.seq = 0};
	int rc;

	(void)sqlite3_bind_int(
		store_sql_get(sql, STORE_SQL_CALLBACK), 2, state);
	rc = change(sql, STORE_SQL_CALLBACK, job, &changed);
	if (rc != SQLITE_OK || job->outcome != STORE_DONE)
		return rc;
	return add_event(sql, &changed, job->callback.at_ns,
		STORE_EVENT_CALLBACK, state, job->callback.text);
}

int store_write(struct store_sql *sql, struct store_job *job)
{
	static int (*const run[STORE_OPS])(
		struct store_sql *, struct store_job *) = {
		[STORE_PUT] = put,
		[STORE_BEGIN] = begin,
		[STORE_END] = end,
		[STORE_NOTE] = note,
		[STORE_CALLBACK_DONE] = callback_done,
	};

	assert(store_job_writes(job));
	job->outcome = STORE_DONE;
	return run[job->op](sql, job);
}
