/*
 * What the writer does when nobody wants anything: removes what has expired,
 * gives free pages back to the file system, keeps the write-ahead log short.
 * In steps so small that a job which arrives meanwhile hardly notices.  Nothing
 * here is told to anybody, so nothing waits for the disk; a step that is lost
 * is done again.
 */
#include "coordinator/store/inside.h"

#include <limits.h>
#include <string.h>

#define S_NS 1000000000

enum {
	STEP_ROWS = 200,
	STEP_BYTES = 8 << 20, /* of replies removed in one step */
	LOG_FRAMES = 1000,    /* pages in the log: then it is worked in */
	/* Free pages that are kept for what comes: so many, and a quarter of
	 * the file. */
	KEEP_PAGES = 4096,
};

/* A clock may be set: what is due later than this is looked at again then. */
#define LONGEST_WAIT_NS (600ull * S_NS)
/* Expired things are gathered so long; and after a failure. */
#define SHORTEST_WAIT_NS (1ull * S_NS)
#define AFTER_TROUBLE_NS (30ull * S_NS)

/* ------------------------------------------------------------ the log */

/* What the file itself lacks of the log. */
static int work_in(struct store *store, int how)
{
	uint64_t begun_ns = loop_now_ns(), took_ns;
	int in_log = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(
		store->writer.db, NULL, how, &in_log, &done);

	took_ns = loop_now_ns() - begun_ns;
	if (rc == SQLITE_OK)
		store->log_frames = in_log - done;
	(void)pthread_mutex_lock(&store->lock);
	store->stats.checkpoints++;
	if (took_ns > store->stats.longest_checkpoint_ns)
		store->stats.longest_checkpoint_ns = took_ns;
	(void)pthread_mutex_unlock(&store->lock);
	return rc;
}

void store_tend_log(struct store *store)
{
	if (store->log_frames >= LOG_FRAMES)
		(void)work_in(store, SQLITE_CHECKPOINT_PASSIVE);
}

int store_tend_flush(struct store *store)
{
	int rc = work_in(store, SQLITE_CHECKPOINT_TRUNCATE);

	if (rc == SQLITE_OK)
		store->is_suspect = false;
	return rc;
}

/* ------------------------------------------------------------ expiry */

struct old {
	int64_t seqs[STEP_ROWS];
	int n;
	int64_t next_ns; /* the end of the first that is not among them */
};

/* The oldest that ended until then.  One that is no longer than a step. */
static int find_old(struct store *store, enum store_statement which,
	int64_t until_ns, struct old *ret)
{
	sqlite3_stmt *find = store_sql_get(&store->writer, which);
	int64_t bytes = 0;
	int rc;

	ret->n = 0;
	ret->next_ns = INT64_MAX;
	(void)sqlite3_bind_int64(find, 1, INT64_MAX);
	(void)sqlite3_bind_int(find, 2, STEP_ROWS + 1);
	while ((rc = sqlite3_step(find)) == SQLITE_ROW) {
		int64_t ended_ns = sqlite3_column_int64(find, 1);

		if (ended_ns > until_ns || ret->n == STEP_ROWS ||
			bytes > STEP_BYTES) {
			ret->next_ns = ended_ns;
			break;
		}
		bytes += sqlite3_column_int64(find, 2);
		ret->seqs[ret->n++] = store_row_seq(find);
	}
	(void)sqlite3_reset(find);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int run_with(
	struct store_sql *sql, enum store_statement which, int64_t seq)
{
	sqlite3_stmt *statement = store_sql_get(sql, which);

	(void)sqlite3_bind_int64(statement, 1, seq);
	return store_sql_run(statement);
}

static int drop_reply(struct store_sql *sql, int64_t seq)
{
	int rc = store_parts_drop(sql, STORE_REPLY, seq);

	return rc == SQLITE_OK ? run_with(sql, STORE_SQL_REPLY_GONE, seq) : rc;
}

static int forget(struct store_sql *sql, int64_t seq)
{
	sqlite3_stmt *events = store_sql_get(sql, STORE_SQL_EVENTS_DROP);
	int rc;

	(void)sqlite3_bind_int64(events, 1, seq << STORE_EVENT_BITS);
	(void)sqlite3_bind_int64(
		events, 2, ((seq + 1) << STORE_EVENT_BITS) - 1);
	rc = store_sql_run(events);
	if (rc == SQLITE_OK)
		rc = store_parts_drop(sql, STORE_REPLY, seq);
	return rc == SQLITE_OK ? run_with(sql, STORE_SQL_FORGET, seq) : rc;
}

static int each(struct store_sql *sql, const struct old *old,
	int (*act)(struct store_sql *sql, int64_t seq))
{
	int rc = old->n > 0 ? store_sql_do(sql, STORE_SQL_BEGIN) : SQLITE_OK;

	for (int i = 0; rc == SQLITE_OK && i < old->n; i++)
		rc = act(sql, old->seqs[i]);
	if (rc == SQLITE_OK && old->n > 0)
		rc = store_sql_do(sql, STORE_SQL_COMMIT);
	if (!sqlite3_get_autocommit(sql->db))
		(void)store_sql_do(sql, STORE_SQL_ROLLBACK);
	return rc;
}

static int expire(struct store *store, enum store_statement which,
	int64_t ttl_ns, int (*act)(struct store_sql *sql, int64_t seq),
	uint64_t *counter)
{
	int64_t now_ns = store_wall_ns(store);
	struct old old;
	int rc = find_old(store, which, now_ns - ttl_ns, &old);

	if (rc == SQLITE_OK)
		rc = each(&store->writer, &old, act);
	if (rc != SQLITE_OK)
		return rc;
	if (old.next_ns != INT64_MAX &&
		old.next_ns + ttl_ns < store->tending.due_ns)
		store->tending.due_ns = old.next_ns + ttl_ns;
	(void)pthread_mutex_lock(&store->lock);
	*counter += (uint64_t)old.n;
	(void)pthread_mutex_unlock(&store->lock);
	store->tending.is_vacuum_due |= old.n > 0;
	return SQLITE_OK;
}

/* ------------------------------------------------------------ space */

static int shrink(struct store *store)
{
	struct store_sql *sql = &store->writer;
	int64_t free_pages = 0, pages = 0;
	int rc = store_sql_number(sql, STORE_SQL_FREE_PAGES, &free_pages);

	if (rc == SQLITE_OK)
		rc = store_sql_number(sql, STORE_SQL_PAGES, &pages);
	if (rc != SQLITE_OK)
		return rc;
	store->tending.is_vacuum_due = free_pages > KEEP_PAGES + pages / 4;
	(void)pthread_mutex_lock(&store->lock);
	store->stats.free_bytes = (uint64_t)free_pages * STORE_PAGE_BYTES;
	(void)pthread_mutex_unlock(&store->lock);
	return store->tending.is_vacuum_due
		       ? store_sql_do(sql, STORE_SQL_VACUUM)
		       : SQLITE_OK;
}

/* ------------------------------------------------------------ when */

static void read_ttl(struct store *store, int64_t ret_ttl_ns[2])
{
	(void)pthread_mutex_lock(&store->lock);
	ret_ttl_ns[0] = store->config.result_ttl_ns;
	ret_ttl_ns[1] = store->config.record_ttl_ns;
	store->is_tending_due = false;
	(void)pthread_mutex_unlock(&store->lock);
	store->tending.shortest_ttl_ns =
		ret_ttl_ns[0] < ret_ttl_ns[1] ? ret_ttl_ns[0] : ret_ttl_ns[1];
}

static int step(struct store *store)
{
	int64_t ttl_ns[2];
	int rc;

	read_ttl(store, ttl_ns);
	store->tending.due_ns = INT64_MAX;
	rc = expire(store, STORE_SQL_OLD_REPLIES, ttl_ns[0], drop_reply,
		&store->stats.replies_expired);
	if (rc == SQLITE_OK)
		rc = expire(store, STORE_SQL_OLD_RECORDS, ttl_ns[1], forget,
			&store->stats.records_expired);
	if (rc == SQLITE_OK && store->tending.is_vacuum_due)
		rc = shrink(store);
	return rc;
}

bool store_tend(struct store *store)
{
	char why[STORE_WHY_BYTES];
	int rc = step(store);

	store->tending.stepped_ns = loop_now_ns();
	store_tend_log(store);
	if (rc == SQLITE_OK)
		return store->tending.is_vacuum_due ||
		       store->tending.due_ns <= store_wall_ns(store);
	(void)store_sql_explain(
		&store->writer, rc, "what has expired cannot be removed", why);
	store_set_trouble(store, why);
	store->tending.is_vacuum_due = false;
	store->tending.stepped_ns += AFTER_TROUBLE_NS;
	store->tending.due_ns = INT64_MIN;
	return false;
}

uint64_t store_tend_at(struct store *store)
{
	uint64_t soonest = store->tending.stepped_ns + SHORTEST_WAIT_NS;
	uint64_t at;
	int64_t left_ns;

	if (store->tending.due_ns == INT64_MAX)
		return UINT64_MAX;
	left_ns = store->tending.due_ns - store_wall_ns(store);
	if (store->tending.due_ns == INT64_MIN || left_ns < 0)
		left_ns = 0;
	at = (uint64_t)left_ns < LONGEST_WAIT_NS
		     ? loop_now_ns() + (uint64_t)left_ns
		     : loop_now_ns() + LONGEST_WAIT_NS;
	return at > soonest ? at : soonest;
}

void store_tend_after(struct store *store, const struct store_job *jobs)
{
	int64_t ttl_ns = store->tending.shortest_ttl_ns;

	for (const struct store_job *job = jobs; job != NULL; job = job->next)
		if (job->op == STORE_END && job->error == 0 &&
			job->end.at_ns + ttl_ns < store->tending.due_ns)
			store->tending.due_ns = job->end.at_ns + ttl_ns;
}
