/* Its life, and what the loop calls. */
#include "coordinator/store/inside.h"

#include "shm-layout/shm_atomic.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------ the loop */

void store_submit(struct store *store, struct store_job *job)
{
	job->error = 0;
	job->why[0] = '\0';
	job->outcome = STORE_DONE;
	job->record = NULL;
	job->reply = NULL;
	job->rows = NULL;
	job->events = NULL;
	job->n_rows = 0;
	job->is_more = job->is_scanned = false;
	if (job->op == STORE_LIST && job->list.limit > STORE_LIST_MAX)
		job->list.limit = STORE_LIST_MAX;
	(void)pthread_mutex_lock(&store->lock);
	store_queue_push(
		store_job_writes(job) ? &store->to_write : &store->to_read,
		job);
	(void)pthread_mutex_unlock(&store->lock);
}

void store_job_fini(struct store_job *job)
{
	bool has_rows = job->rows != NULL;

	for (unsigned int i = 0; has_rows && i < job->n_rows; i++)
		free(job->rows[i]);
	free(job->rows);
	free(job->events);
	free(job->record);
	free(job->reply);
	job->rows = NULL;
	job->events = NULL;
	job->record = NULL;
	job->reply = NULL;
	job->n_rows = 0;
}

unsigned int store_collect(struct store *store)
{
	struct store_job *job;
	unsigned int n = 0;

	if (load_relaxed(store->has_finished) == 0)
		return 0;
	(void)pthread_mutex_lock(&store->lock);
	job = store->finished;
	store->finished = NULL;
	store->finished_end = &store->finished;
	store_relaxed(store->has_finished, 0);
	(void)pthread_mutex_unlock(&store->lock);
	for (; job != NULL; n++) {
		struct store_job *next = job->next;

		job->done(job);
		job = next;
	}
	return n;
}

void store_set_ttl(
	struct store *store, int64_t result_ttl_ns, int64_t record_ttl_ns)
{
	(void)pthread_mutex_lock(&store->lock);
	store->config.result_ttl_ns = result_ttl_ns;
	store->config.record_ttl_ns = record_ttl_ns;
	store->is_tending_due = true;
	(void)pthread_cond_signal(&store->to_write.work);
	(void)pthread_mutex_unlock(&store->lock);
}

static uint64_t size_of(const char *path, const char *end)
{
	char full[PATH_MAX];
	struct stat status;

	(void)snprintf(
		full, sizeof(full), "%.*s%s", (int)sizeof(full) - 8, path, end);
	return stat(full, &status) == 0 ? (uint64_t)status.st_size : 0;
}

void store_read_stats(struct store *store, struct store_stats *ret_stats)
{
	(void)pthread_mutex_lock(&store->lock);
	*ret_stats = store->stats;
	(void)pthread_mutex_unlock(&store->lock);
	ret_stats->file_bytes = size_of(store->path, "");
	ret_stats->wal_bytes = size_of(store->path, "-wal");
}

void store_set_trouble(struct store *store, const char *words)
{
	(void)pthread_mutex_lock(&store->lock);
	(void)snprintf(store->stats.trouble, sizeof(store->stats.trouble), "%s",
		words);
	(void)pthread_mutex_unlock(&store->lock);
}

int64_t store_wall_ns(const struct store *store)
{
	struct timespec now;

	if (store->config.wall_now_ns != NULL)
		return store->config.wall_now_ns(store->config.wall_arg);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ------------------------------------------------------------ recovery */

static int tell_rows(struct store_sql *sql, enum store_statement which,
	store_record_fn *tell, void *arg, char ret_why[STORE_WHY_BYTES])
{
	sqlite3_stmt *all = store_sql_get(sql, which);
	int rc = SQLITE_OK, told = 0;

	while (told == 0 && (rc = sqlite3_step(all)) == SQLITE_ROW) {
		struct store_record record;

		store_row_view(all, &record);
		told = tell(&record, arg);
	}
	if (told == 0 && rc != SQLITE_DONE)
		told = store_sql_explain(
			sql, rc, "the tasks cannot be read", ret_why);
	return told;
}

/* On a connection of its own: who is told may submit, and the threads work. */
static int tell_all(struct store *store, enum store_statement which,
	store_record_fn *tell, void *arg, char ret_why[STORE_WHY_BYTES])
{
	struct store_sql sql = {.db = NULL};
	int rc = store_sql_open(&sql, store->path, 0, STORE_READER_CACHE_KIB);

	if (rc == SQLITE_OK)
		rc = store_sql_prepare(&sql, which);
	rc = rc == SQLITE_OK ? tell_rows(&sql, which, tell, arg, ret_why)
			     : store_sql_explain(&sql, rc,
				       "the tasks cannot be read", ret_why);
	store_sql_close(&sql);
	return rc;
}

int store_recover(struct store *store, store_record_fn *tell, void *arg,
	char ret_why[STORE_WHY_BYTES])
{
	return tell_all(store, STORE_SQL_RECOVER, tell, arg, ret_why);
}

int store_recover_callbacks(struct store *store, store_record_fn *tell,
	void *arg, char ret_why[STORE_WHY_BYTES])
{
	return tell_all(store, STORE_SQL_RECOVER_CALLBACKS, tell, arg, ret_why);
}

/* ------------------------------------------------------------ life */

static int note_log(void *arg, sqlite3 *db, const char *name, int frames)
{
	(void)db;
	(void)name;
	((struct store *)arg)->log_frames = frames;
	return SQLITE_OK;
}

static int open_reader(struct store *store, char ret_why[STORE_WHY_BYTES])
{
	int rc = store_sql_open(
		&store->reader, store->path, 0, STORE_READER_CACHE_KIB);

	if (rc == SQLITE_OK)
		rc = sqlite3_exec(store->reader.db,
			"PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0",
			NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = store_sql_prepare_all(&store->reader);
	return rc == SQLITE_OK ? 0
			       : store_sql_explain(&store->reader, rc,
					 "the store cannot be read", ret_why);
}

static void free_parts(struct store *store)
{
	/* The last connection works the log into the file. */
	store_sql_close(&store->reader);
	store_sql_close(&store->writer);
	if (store->lock_fd >= 0)
		(void)close(store->lock_fd);
	(void)pthread_cond_destroy(&store->to_write.work);
	(void)pthread_cond_destroy(&store->to_read.work);
	(void)pthread_mutex_destroy(&store->lock);
	free(store->path);
	free(store);
}

static struct store *allocate(
	const char *path, const struct store_config *config, struct loop *loop)
{
	struct store *store = calloc(1, sizeof(*store));

	if (store == NULL)
		return NULL;
	store->loop = loop;
	store->config = *config;
	store->lock_fd = -1;
	store->finished_end = &store->finished;
	store->tending.due_ns = INT64_MAX;
	store->is_full_sync = true; /* as store_sql_open() left it */
	store->is_tending_due = true;
	(void)pthread_mutex_init(&store->lock, NULL);
	store_queue_init(&store->to_write);
	store_queue_init(&store->to_read);
	store->path = strdup(path);
	if (store->path == NULL) {
		free_parts(store);
		return NULL;
	}
	return store;
}

int store_open(const char *path, const struct store_config *config,
	struct loop *loop, struct store **ret_store,
	char ret_why[STORE_WHY_BYTES])
{
	struct store *store = allocate(path, config, loop);
	int rc;

	(void)snprintf(ret_why, STORE_WHY_BYTES, "rgovd has no memory");
	if (store == NULL)
		return -ENOMEM;
	rc = store_file_lock(path, &store->lock_fd, ret_why);
	if (rc == 0)
		rc = store_file_open(path, &store->writer, ret_why);
	if (rc == 0)
		rc = open_reader(store, ret_why);
	if (rc == 0) {
		(void)sqlite3_wal_hook(store->writer.db, note_log, store);
		rc = store_threads_start(store);
	}
	if (rc < 0) {
		if (store->n_threads > 0)
			store_threads_stop(store);
		free_parts(store);
		return rc;
	}
	*ret_store = store;
	return 0;
}

/* Those that no thread will see. */
static void cancel_left(struct store_queue *queue)
{
	struct store_job *job;

	while ((job = store_queue_pop(queue)) != NULL) {
		store_job_fini(job); /* the rows of a list so far */
		job->error = -ECANCELED;
		(void)strcpy(job->why, "the store is closed");
		job->done(job);
	}
}

void store_close(struct store *store)
{
	if (store == NULL)
		return;
	store_threads_stop(store);
	/* A done() may submit another. */
	(void)store_collect(store);
	cancel_left(&store->to_write);
	cancel_left(&store->to_read);
	free_parts(store);
}
