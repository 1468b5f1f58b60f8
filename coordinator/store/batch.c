/*
 * Group commit: many jobs in one transaction, and one wait for the disk.
 *
 * First without savepoints, which cost as much as a small job.  Should one job
 * fail, the transaction is begun again with a savepoint round each, so that it
 * fails alone.
 *
 * A batch in which nobody waits for the disk is committed with synchronous =
 * NORMAL: it survives a kill, and a power cut may take it, whole, with what
 * came after it and was not synced either.
 *
 * When an fsync fails the kernel may count the pages as written.  What was
 * committed with NORMAL before could then be missing in the middle of the log,
 * and hide what follows from the next recovery.  So after such a failure
 * nothing is acknowledged until all of the log is in the file itself.
 */
#include "coordinator/store/inside.h"

#include <errno.h>
#include <stdio.h>

static const char *const job_names[STORE_OPS] = {
	[STORE_PUT] = "the task cannot be stored",
	[STORE_BEGIN] = "the task's start cannot be stored",
	[STORE_END] = "the task's end cannot be stored",
	[STORE_NOTE] = "the task's history cannot be stored",
	[STORE_CALLBACK_DONE] = "the task's callback cannot be stored",
};

static void fail(struct store *store, struct store_job *job, int code)
{
	job->error = store_sql_explain(
		&store->writer, code, job_names[job->op], job->why);
}

static void fail_all(struct store *store, struct store_job *jobs, int code)
{
	for (struct store_job *job = jobs; job != NULL; job = job->next)
		if (job->error == 0)
			fail(store, job, code);
}

static void roll_back(struct store *store)
{
	if (!sqlite3_get_autocommit(store->writer.db))
		(void)store_sql_do(&store->writer, STORE_SQL_ROLLBACK);
}

/* All of them, or the code of the first that failed. */
static int perform(struct store *store, struct store_job *jobs)
{
	int rc = SQLITE_OK;

	for (struct store_job *job = jobs; rc == SQLITE_OK && job != NULL;
		job = job->next)
		if (job->error == 0)
			rc = store_write(&store->writer, job);
	return rc;
}

/* SQLITE_ABORT: it has failed, and taken the whole transaction with it. */
static int perform_alone(struct store *store, struct store_job *job)
{
	struct store_sql *sql = &store->writer;
	int rc = store_sql_do(sql, STORE_SQL_SAVEPOINT);

	if (rc != SQLITE_OK)
		return rc;
	rc = store_write(sql, job);
	if (rc == SQLITE_OK)
		return store_sql_do(sql, STORE_SQL_RELEASE);
	fail(store, job, rc);
	if (sqlite3_get_autocommit(sql->db))
		return SQLITE_ABORT;
	rc = store_sql_do(sql, STORE_SQL_ROLLBACK_JOB);
	return rc == SQLITE_OK ? store_sql_do(sql, STORE_SQL_RELEASE) : rc;
}

static int perform_each(struct store *store, struct store_job *jobs)
{
	int rc = store_sql_do(&store->writer, STORE_SQL_BEGIN);

	for (struct store_job *job = jobs; rc == SQLITE_OK && job != NULL;
		job = job->next)
		if (job->error == 0)
			rc = perform_alone(store, job);
	return rc;
}

/* Where some fail, the others: a few times, since each may take the transaction
 * with it and all of them may fail for the same reason. */
static int perform_others(struct store *store, struct store_job *jobs, int why)
{
	int rc = SQLITE_ABORT;

	for (int i = 0; rc == SQLITE_ABORT && i < 4; i++)
		rc = perform_each(store, jobs);
	return rc == SQLITE_ABORT ? why : rc;
}

/* Never prepared: SQLite obeys this pragma already when it compiles it. */
static int set_sync(struct store *store, bool is_full)
{
	int rc = SQLITE_OK;

	if (store->is_full_sync != is_full)
		rc = sqlite3_exec(store->writer.db,
			is_full ? "PRAGMA synchronous = FULL"
				: "PRAGMA synchronous = NORMAL",
			NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		store->is_full_sync = is_full;
	return rc;
}

static int transact(struct store *store, struct store_job *jobs, bool is_full)
{
	struct store_sql *sql = &store->writer;
	int rc = store->is_suspect ? store_tend_flush(store) : SQLITE_OK;

	if (rc == SQLITE_OK)
		rc = set_sync(store, is_full);
	if (rc == SQLITE_OK)
		rc = store_sql_do(sql, STORE_SQL_BEGIN);
	if (rc != SQLITE_OK)
		return rc;
	rc = perform(store, jobs);
	if (rc != SQLITE_OK) {
		roll_back(store);
		rc = perform_others(store, jobs, rc);
	}
	return rc == SQLITE_OK ? store_sql_do(sql, STORE_SQL_COMMIT) : rc;
}

static void count(struct store *store, struct store_job *jobs, bool is_full,
	uint64_t took_ns)
{
	struct store_stats *stats = &store->stats;
	uint64_t n = 0, failed = 0;

	for (struct store_job *job = jobs; job != NULL; job = job->next) {
		n++;
		failed += job->error != 0;
	}
	(void)pthread_mutex_lock(&store->lock);
	stats->failed_jobs += failed;
	stats->commits++;
	stats->synced_commits += is_full;
	stats->largest_batch =
		n > stats->largest_batch ? n : stats->largest_batch;
	stats->last_commit_ns = took_ns;
	(void)pthread_mutex_unlock(&store->lock);
}

/* Fit for the file? */
static int check(struct store_job *job)
{
	size_t bytes = job->op == STORE_PUT   ? job->put.record->body_bytes
		       : job->op == STORE_END ? job->end.reply_bytes
					      : 0;

	job->error = bytes > STORE_BODY_MAX ? -EFBIG : 0;
	if (job->op == STORE_END && !store_is_final(job->end.state))
		job->error = -EINVAL;
	if (job->error != 0)
		(void)snprintf(job->why, sizeof(job->why), "%s: %s",
			job_names[job->op],
			job->error == -EFBIG ? "the body is too large"
					     : "that is no end");
	return job->error;
}

void store_batch_commit(struct store *store, struct store_job *jobs)
{
	uint64_t begun_ns = loop_now_ns();
	bool is_full = false, has_any = false;
	int rc = SQLITE_OK;

	for (struct store_job *job = jobs; job != NULL; job = job->next) {
		if (check(job) != 0)
			continue;
		has_any = true;
		is_full = is_full || store_job_syncs(job);
	}
	if (has_any)
		rc = transact(store, jobs, is_full);
	if (rc != SQLITE_OK) {
		fail_all(store, jobs, rc);
		roll_back(store);
		store->is_suspect = store->is_suspect ||
				    rc == SQLITE_IOERR_FSYNC ||
				    rc == SQLITE_IOERR_DIR_FSYNC;
		store_set_trouble(store, jobs->why);
	} else {
		store_set_trouble(store, "");
	}
	count(store, jobs, is_full, loop_now_ns() - begun_ns);
}
