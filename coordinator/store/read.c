/*
 * The jobs that read, on a connection of their own: they see what was committed
 * when each began.  A long list is made in slices, so that no other reader
 * waits for it and the write-ahead log can be started anew in between.
 */
#include "coordinator/store/inside.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_ROWS = 4000 };

/* ------------------------------------------------------------ LOOK */

static int read_reply(struct store_sql *sql, struct store_job *job, int64_t seq)
{
	size_t bytes = job->record->reply_bytes;

	if (bytes > STORE_BODY_MAX)
		return SQLITE_CORRUPT;
	job->reply = malloc(bytes);
	if (job->reply == NULL)
		return SQLITE_NOMEM;
	return store_parts_get(sql, STORE_REPLY, seq, job->reply, bytes);
}

static int copy_row(sqlite3_stmt *row, struct store_record **ret)
{
	struct store_record record;

	store_row_view(row, &record);
	*ret = store_row_copy(&record);
	return *ret == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int look(struct store_sql *sql, struct store_job *job)
{
	sqlite3_stmt *look = store_sql_get(sql, STORE_SQL_LOOK);
	int rc;

	(void)sqlite3_bind_blob(
		look, 1, job->id, STORE_ID_BYTES, SQLITE_STATIC);
	rc = sqlite3_step(look);
	if (rc == SQLITE_ROW) {
		rc = copy_row(look, &job->record);
		/* The statement stays open: record and reply are of one moment.
		 */
		if (rc == SQLITE_OK && job->look.wants_reply &&
			job->record->reply_state == STORE_REPLY_HELD)
			rc = read_reply(sql, job, store_row_seq(look));
	} else if (rc == SQLITE_DONE) {
		job->outcome = STORE_UNKNOWN;
		rc = SQLITE_OK;
	}
	(void)sqlite3_reset(look);
	return rc;
}

/* ------------------------------------------------------------ LIST */

static bool contains(const char *text, const char *part)
{
	return strstr(text, part) != NULL;
}

static bool is_wanted(
	const struct store_filter *filter, const struct store_record *record)
{
	if (filter->has_uid && record->uid != filter->uid)
		return false;
	if (filter->states != 0 && !(filter->states >> record->state & 1))
		return false;
	if (filter->user != NULL && strcmp(filter->user, record->user) != 0)
		return false;
	return filter->text == NULL || contains(record->model, filter->text) ||
	       contains(record->user, filter->text) ||
	       contains(record->key, filter->text);
}

/* From where the last slice ended. */
static sqlite3_stmt *begin_slice(struct store_sql *sql, struct store_job *job)
{
	const struct store_filter *filter = &job->list;
	sqlite3_stmt *list = store_sql_get(
		sql, filter->has_uid ? STORE_SQL_LIST_UID : STORE_SQL_LIST);

	if (!job->is_scanned) {
		memset(job->reached, 0xff, STORE_ID_BYTES);
		if (filter->has_after)
			memcpy(job->reached, filter->after, STORE_ID_BYTES);
		job->is_scanned = true;
	}
	(void)sqlite3_bind_blob(
		list, 1, job->reached, STORE_ID_BYTES, SQLITE_TRANSIENT);
	(void)sqlite3_bind_int(list, 2, SLICE_ROWS);
	if (filter->has_uid)
		(void)sqlite3_bind_int64(list, 3, filter->uid);
	return list;
}

/* One row more; is_more instead where the list is full already. */
static int take_row(struct store_job *job, const struct store_record *record)
{
	if (job->n_rows == job->list.limit) {
		job->is_more = true;
		return SQLITE_OK;
	}
	job->rows[job->n_rows] = store_row_copy(record);
	if (job->rows[job->n_rows] == NULL)
		return SQLITE_NOMEM;
	job->n_rows++;
	return SQLITE_OK;
}

static int list(struct store_sql *sql, struct store_job *job, bool *ret_again)
{
	sqlite3_stmt *list;
	int rc = SQLITE_OK, seen = 0;

	if (job->rows == NULL)
		job->rows = calloc(
			job->list.limit + 1, sizeof(struct store_record *));
	if (job->rows == NULL)
		return SQLITE_NOMEM;
	list = begin_slice(sql, job);
	while (!job->is_more && (rc = sqlite3_step(list)) == SQLITE_ROW) {
		struct store_record record;

		seen++;
		store_row_view(list, &record);
		memcpy(job->reached, record.id, STORE_ID_BYTES);
		if (is_wanted(&job->list, &record) &&
			(rc = take_row(job, &record)) != SQLITE_OK)
			break;
	}
	(void)sqlite3_reset(list);
	*ret_again = !job->is_more && rc == SQLITE_DONE && seen == SLICE_ROWS;
	return job->is_more || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ------------------------------------------------------------ HISTORY */

enum { EVENTS_MOST = 1 << STORE_EVENT_BITS };

static void read_event(sqlite3_stmt *row, struct store_event_row *ret)
{
	const unsigned char *text = sqlite3_column_text(row, 3);

	ret->at_ns = sqlite3_column_int64(row, 0);
	ret->event = (enum store_event)sqlite3_column_int(row, 1);
	ret->detail = sqlite3_column_int64(row, 2);
	(void)strncpy(ret->text, text == NULL ? "" : (const char *)text,
		STORE_NOTE_MAX);
}

static int read_events(
	struct store_sql *sql, struct store_job *job, int64_t seq)
{
	sqlite3_stmt *events = store_sql_get(sql, STORE_SQL_EVENTS);
	int rc;

	(void)sqlite3_bind_int64(events, 1, seq << STORE_EVENT_BITS);
	(void)sqlite3_bind_int64(
		events, 2, ((seq + 1) << STORE_EVENT_BITS) - 1);
	while ((rc = sqlite3_step(events)) == SQLITE_ROW &&
		job->n_rows < EVENTS_MOST)
		read_event(events, &job->events[job->n_rows++]);
	(void)sqlite3_reset(events);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Its submission is in the record, and no event of its own. */
static int read_history(
	struct store_sql *sql, struct store_job *job, sqlite3_stmt *found)
{
	job->events = calloc(EVENTS_MOST, sizeof(*job->events));
	if (job->events == NULL)
		return SQLITE_NOMEM;
	job->events[0] = (struct store_event_row){
		.at_ns = sqlite3_column_int64(found, 5),
		.event = STORE_EVENT_SUBMITTED};
	job->n_rows = 1;
	return read_events(sql, job, sqlite3_column_int64(found, 4));
}

static int history(struct store_sql *sql, struct store_job *job)
{
	sqlite3_stmt *find = store_sql_get(sql, STORE_SQL_FIND);
	int rc;

	(void)sqlite3_bind_blob(
		find, 1, job->id, STORE_ID_BYTES, SQLITE_STATIC);
	rc = sqlite3_step(find);
	if (rc == SQLITE_ROW) {
		rc = read_history(sql, job, find);
	} else if (rc == SQLITE_DONE) {
		job->outcome = STORE_UNKNOWN;
		rc = SQLITE_OK;
	}
	(void)sqlite3_reset(find);
	return rc;
}

int store_read(struct store_sql *sql, struct store_job *job, bool *ret_again)
{
	*ret_again = false;
	job->outcome = STORE_DONE;
	if (job->op == STORE_LOOK)
		return look(sql, job);
	if (job->op == STORE_HISTORY)
		return history(sql, job);
	assert(job->op == STORE_LIST);
	return list(sql, job, ret_again);
}
