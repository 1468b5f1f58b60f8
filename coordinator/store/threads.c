/*
 * Two queues and two threads under one mutex.
 *
 * The writer takes all that is queued as one batch.  When several submitters
 * are about, those whose jobs were just told come back at once: it waits for
 * them, no longer than a part of what a commit takes, so that they go together
 * instead of the first alone and all others after it.  Who is alone never
 * waits: nobody else came with the last batch or during it.
 */
#include "coordinator/store/inside.h"

#include "shm-layout/shm_atomic.h"

#include <limits.h>
#include <signal.h>
#include <time.h>

enum {
	BATCH_JOBS = 512,
	BATCH_BYTES = 16 << 20, /* of bodies; one alone may be larger */
	CROWD_PART = 2, /* of a commit's time is waited at most; and not */
	CROWD_MOST_NS = 2000000, /* longer than this */
	NEVER = INT_MAX,
};
/* Under jobs that never end, too, what has expired goes. */
#define TEND_AT_LEAST_NS 5000000000u

/* ------------------------------------------------------------ queues */

void store_queue_init(struct store_queue *queue)
{
	pthread_condattr_t monotonic;

	queue->end = &queue->first;
	queue->wake_at = 1;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&queue->work, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
}

void store_queue_push(struct store_queue *queue, struct store_job *job)
{
	job->next = NULL;
	*queue->end = job;
	queue->end = &job->next;
	if (++queue->n >= queue->wake_at)
		(void)pthread_cond_signal(&queue->work);
}

struct store_job *store_queue_pop(struct store_queue *queue)
{
	struct store_job *job = queue->first;

	if (job == NULL)
		return NULL;
	queue->first = job->next;
	if (queue->first == NULL)
		queue->end = &queue->first;
	queue->n--;
	job->next = NULL;
	return job;
}

/* Until there are so many, or until then; true: there are. */
static bool queue_wait(struct store *store, struct store_queue *queue,
	unsigned int n, uint64_t until_ns)
{
	struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
		.tv_nsec = (long)(until_ns % 1000000000u)};
	int rc = 0;

	queue->wake_at = n;
	while (queue->n < n && !store->is_ending && !store->is_tending_due &&
		rc == 0)
		rc = until_ns == UINT64_MAX
			     ? pthread_cond_wait(&queue->work, &store->lock)
			     : pthread_cond_timedwait(
				       &queue->work, &store->lock, &until);
	queue->wake_at = NEVER;
	return queue->n >= n;
}

/* Jobs in a row that are through. */
static void finish(struct store *store, struct store_job *jobs, unsigned int n)
{
	struct store_job **end = &jobs;

	while (*end != NULL)
		end = &(*end)->next;
	(void)pthread_mutex_lock(&store->lock);
	*store->finished_end = jobs;
	store->finished_end = end;
	store->stats.jobs += n;
	/* Relaxed: loop_wake() and the lock order it. */
	store_relaxed(store->has_finished, 1);
	(void)pthread_mutex_unlock(&store->lock);
	loop_wake(store->loop);
}

/* ------------------------------------------------------------ the writer */

static size_t bytes_of(const struct store_job *job)
{
	return job->op == STORE_PUT   ? job->put.record->body_bytes
	       : job->op == STORE_END ? job->end.reply_bytes
				      : 0;
}

static struct store_job *take_batch(
	struct store_queue *queue, unsigned int *ret_n)
{
	struct store_job *jobs = NULL, **end = &jobs;
	size_t bytes = 0;
	unsigned int n = 0;

	while (queue->first != NULL && n < BATCH_JOBS && bytes < BATCH_BYTES) {
		*end = store_queue_pop(queue);
		bytes += bytes_of(*end);
		end = &(*end)->next;
		n++;
	}
	*ret_n = n;
	return jobs;
}

/* NULL: nothing to write, look at the rest. */
static struct store_job *next_batch(struct store *store, unsigned int *ret_n)
{
	struct store_queue *queue = &store->to_write;
	struct store_job *jobs;

	(void)pthread_mutex_lock(&store->lock);
	if (store->crowd > 1)
		(void)queue_wait(
			store, queue, store->crowd, store->crowd_until_ns);
	store->crowd = 0;
	if (queue->n == 0 && !store->tending.has_more)
		(void)queue_wait(store, queue, 1, store_tend_at(store));
	jobs = take_batch(queue, ret_n);
	(void)pthread_mutex_unlock(&store->lock);
	return jobs;
}

/* Those of this batch will be back, and those behind it wait already. */
static void expect_crowd(struct store *store, const struct store_job *jobs,
	unsigned int n, uint64_t begun_ns)
{
	uint64_t now_ns = loop_now_ns(), wait_ns;
	bool is_synced = false;

	for (; jobs != NULL; jobs = jobs->next)
		is_synced = is_synced || store_job_syncs(jobs);
	if (!is_synced)
		return;
	wait_ns = (now_ns - begun_ns) / CROWD_PART;
	if (wait_ns > CROWD_MOST_NS)
		wait_ns = CROWD_MOST_NS;
	(void)pthread_mutex_lock(&store->lock);
	store->crowd = n + store->to_write.n;
	if (store->crowd > BATCH_JOBS)
		store->crowd = BATCH_JOBS;
	(void)pthread_mutex_unlock(&store->lock);
	store->crowd_until_ns = now_ns + wait_ns;
}

static void perform(struct store *store, struct store_job *jobs, unsigned int n)
{
	uint64_t begun_ns = loop_now_ns();

	store_batch_commit(store, jobs);
	store_tend_after(store, jobs);
	expect_crowd(store, jobs, n, begun_ns);
	finish(store, jobs, n); /* the jobs may be gone */
	store_tend_log(store);
}

static bool is_ending(struct store *store)
{
	bool is;

	(void)pthread_mutex_lock(&store->lock);
	is = store->is_ending;
	(void)pthread_mutex_unlock(&store->lock);
	return is;
}

static void *write_jobs(void *arg)
{
	struct store *store = arg;

	for (;;) {
		unsigned int n;
		struct store_job *jobs = next_batch(store, &n);

		if (jobs != NULL)
			perform(store, jobs, n);
		else if (is_ending(store))
			break;
		if (jobs == NULL || loop_now_ns() > store->tending.stepped_ns +
							    TEND_AT_LEAST_NS)
			store->tending.has_more = store_tend(store);
	}
	return NULL;
}

/* ------------------------------------------------------------ the reader */

static struct store_job *next_to_read(struct store *store)
{
	struct store_job *job = NULL;

	(void)pthread_mutex_lock(&store->lock);
	while (store->to_read.n == 0 && !store->is_ending)
		(void)pthread_cond_wait(&store->to_read.work, &store->lock);
	if (!store->is_ending)
		job = store_queue_pop(&store->to_read);
	(void)pthread_mutex_unlock(&store->lock);
	return job;
}

static void *read_jobs(void *arg)
{
	struct store *store = arg;
	struct store_job *job;

	while ((job = next_to_read(store)) != NULL) {
		bool again;
		int rc = store_read(&store->reader, job, &again);

		if (rc != SQLITE_OK) {
			store_job_fini(job);
			job->error = store_sql_explain(&store->reader, rc,
				"the tasks cannot be read", job->why);
		} else if (again) { /* behind the others */
			(void)pthread_mutex_lock(&store->lock);
			store_queue_push(&store->to_read, job);
			(void)pthread_mutex_unlock(&store->lock);
			continue;
		}
		finish(store, job, 1);
	}
	return NULL;
}

/* ------------------------------------------------------------ life */

int store_threads_start(struct store *store)
{
	static void *(*const work[])(void *) = {write_jobs, read_jobs};
	static const char *const names[] = {"rgovd-store", "rgovd-store-r"};
	sigset_t all, old;
	int error = 0;

	/* Signals are the main thread's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned int i = 0; error == 0 && i < 2; i++) {
		error = pthread_create(
			&store->threads[i], NULL, work[i], store);
		if (error != 0)
			break;
		(void)pthread_setname_np(store->threads[i], names[i]);
		store->n_threads++;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -error;
}

void store_threads_stop(struct store *store)
{
	(void)pthread_mutex_lock(&store->lock);
	store->is_ending = true;
	(void)pthread_cond_signal(&store->to_write.work);
	(void)pthread_cond_signal(&store->to_read.work);
	(void)pthread_mutex_unlock(&store->lock);
	for (unsigned int i = 0; i < store->n_threads; i++)
		(void)pthread_join(store->threads[i], NULL);
}
