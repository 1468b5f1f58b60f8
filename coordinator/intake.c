/* One helper thread, two lists under one mutex. */
#include "coordinator/intake.h"

#include "shm-layout/shm_atomic.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Up to here the loop does it by itself: about 0.3 ms of work. */
#define INLINE_BYTES (256u * 1024)
/* Read and hashed at a time; in between the helper looks whether anybody still
 * wants the body. */
#define CHUNK_BYTES (256u * 1024)

struct intake {
	struct loop *loop;
	struct digest *digest; /* the loop's */
	char *scratch;         /* INLINE_BYTES, the loop's */
	struct digest *helpers_digest;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct intake_job *todo, **todo_end;
	struct intake_job *finished;
	_Atomic int n_finished; /* a hint, so that collect needs no lock */
	int is_ending;
};

/* What it asks for; of a body that is only loaded again nobody asks. */
static int scan(struct intake_job *job, const char *body)
{
	return job->is_scanned ? bedrock_scan_request(job->operation, body,
					 job->body_bytes, &job->result.demand,
					 job->result.why)
			       : 0;
}

/* Where it lies; none where it is there already: intake_hash(). */
#define NO_FILE (-1)

/* ------------------------------------------------------------ the helper */

static int read_all(int fd, off_t from, char *to, size_t n)
{
	while (n > 0) {
		ssize_t got = pread(fd, to, n, from);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EIO;
		to += got;
		from += got;
		n -= (size_t)got;
	}
	return 0;
}

/* Relaxed: a late look costs one more chunk. */
static bool is_dropped(const struct intake_job *job)
{
	return load_relaxed(job->is_dropped);
}

static int read_and_hash(
	struct digest *digest, struct intake_job *job, char *body)
{
	int rc = digest_begin(digest);

	for (size_t at = 0; rc == 0 && at < job->body_bytes;) {
		size_t n = job->body_bytes - at;

		if (n > CHUNK_BYTES)
			n = CHUNK_BYTES;
		rc = is_dropped(job) ? -ECANCELED
		     : job->fd == NO_FILE
			     ? 0
			     : read_all(job->fd, job->off + (off_t)at,
				       body + at, n);
		if (rc == 0)
			rc = digest_add(digest, body + at, n);
		at += n;
	}
	return rc == 0 ? digest_end(digest, job->result.sha256) : rc;
}

static void close_file(struct intake_job *job)
{
	if (job->fd != NO_FILE)
		(void)close(job->fd);
}

static void take_in(struct digest *digest, struct intake_job *job)
{
	char *body = job->into ? job->into : malloc(job->body_bytes);
	int rc = -ENOMEM;

	if (body != NULL)
		rc = read_and_hash(digest, job, body);
	if (rc == 0)
		rc = is_dropped(job) ? -ECANCELED : scan(job, body);
	job->result.error = rc;
	if (body != job->into)
		free(body);
	close_file(job);
}

static struct intake_job *next_job(struct intake *intake)
{
	struct intake_job *job;

	(void)pthread_mutex_lock(&intake->lock);
	while (intake->todo == NULL && !intake->is_ending)
		(void)pthread_cond_wait(&intake->work, &intake->lock);
	job = intake->is_ending ? NULL : intake->todo;
	if (job != NULL) {
		intake->todo = job->next;
		if (intake->todo == NULL)
			intake->todo_end = &intake->todo;
	}
	(void)pthread_mutex_unlock(&intake->lock);
	return job;
}

static void *work(void *argument)
{
	struct intake *intake = argument;
	struct intake_job *job;

	while ((job = next_job(intake)) != NULL) {
		take_in(intake->helpers_digest, job);
		(void)pthread_mutex_lock(&intake->lock);
		job->next = intake->finished;
		intake->finished = job;
		/* Relaxed: loop_wake() and the lock order it. */
		store_relaxed(intake->n_finished, 1);
		(void)pthread_mutex_unlock(&intake->lock);
		loop_wake(intake->loop);
	}
	return NULL;
}

/* ------------------------------------------------------------ the loop */

static int start_thread(struct intake *intake)
{
	sigset_t all, old;
	int error;

	/* Signals are the main thread's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&intake->thread, NULL, work, intake);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0) /* for top(1) */
		(void)pthread_setname_np(intake->thread, "rgovd-intake");
	return -error;
}

/* The memory; the thread comes last. */
static int allocate_parts(struct intake *intake)
{
	intake->digest = digest_create();
	intake->helpers_digest = digest_create();
	intake->scratch = malloc(INLINE_BYTES);
	return intake->digest != NULL && intake->helpers_digest != NULL &&
			       intake->scratch != NULL
		       ? 0
		       : -ENOMEM;
}

static void free_parts(struct intake *intake)
{
	digest_free(intake->digest);
	digest_free(intake->helpers_digest);
	free(intake->scratch);
	(void)pthread_cond_destroy(&intake->work);
	(void)pthread_mutex_destroy(&intake->lock);
	free(intake);
}

int intake_create(struct loop *loop, struct intake **ret_intake)
{
	struct intake *intake = calloc(1, sizeof(*intake));
	int rc;

	if (intake == NULL)
		return -ENOMEM;
	intake->loop = loop;
	intake->todo_end = &intake->todo;
	(void)pthread_mutex_init(&intake->lock, NULL);
	(void)pthread_cond_init(&intake->work, NULL);
	rc = allocate_parts(intake);
	if (rc == 0)
		rc = start_thread(intake);
	if (rc < 0) {
		free_parts(intake);
		return rc;
	}
	*ret_intake = intake;
	return 0;
}

/* One that the helper will not see. */
static void end_unread(struct intake_job *job)
{
	close_file(job);
	job->result.error = -ECANCELED;
	job->done(job);
}

static void drop_jobs(struct intake *intake)
{
	for (struct intake_job *job = intake->todo, *next; job != NULL;
		job = next) {
		next = job->next;
		end_unread(job);
	}
}

void intake_free(struct intake *intake)
{
	if (intake == NULL)
		return;
	(void)pthread_mutex_lock(&intake->lock);
	intake->is_ending = 1;
	(void)pthread_cond_signal(&intake->work);
	(void)pthread_mutex_unlock(&intake->lock);
	(void)pthread_join(intake->thread, NULL);
	(void)intake_collect(intake);
	drop_jobs(intake);
	free_parts(intake);
}

/* slot NULL: it is there already. */
static void take_in_now(struct intake *intake, struct intake_job *job,
	const struct door_slot *slot)
{
	char *body = job->into ? job->into : intake->scratch;

	job->result.error =
		slot != NULL ? door_read_body(slot, body, job->body_bytes) : 0;
	if (job->result.error == 0)
		job->result.error = digest_sha256(intake->digest, body,
			job->body_bytes, job->result.sha256);
	if (job->result.error == 0)
		job->result.error = scan(job, body);
	job->done(job); /* the job may be gone */
}

static void hand_over(struct intake *intake, struct intake_job *job)
{
	job->next = NULL;
	(void)pthread_mutex_lock(&intake->lock);
	*intake->todo_end = job;
	intake->todo_end = &job->next;
	(void)pthread_cond_signal(&intake->work);
	(void)pthread_mutex_unlock(&intake->lock);
}

void intake_start(struct intake *intake, struct intake_job *job,
	const struct door_slot *slot)
{
	job->result = (struct intake_result){.error = 0};
	store_relaxed(job->is_dropped, false);
	if (job->body_bytes <= INLINE_BYTES) {
		take_in_now(intake, job, slot);
		return;
	}
	/* A descriptor of its own: the session may end meanwhile. */
	job->fd = door_dup_body(slot, &job->off);
	if (job->fd < 0) {
		job->result.error = -ENOMEM;
		job->done(job);
		return;
	}
	hand_over(intake, job);
}

void intake_hash(struct intake *intake, struct intake_job *job)
{
	job->result = (struct intake_result){.error = 0};
	store_relaxed(job->is_dropped, false);
	job->fd = NO_FILE;
	if (job->body_bytes <= INLINE_BYTES)
		take_in_now(intake, job, NULL);
	else
		hand_over(intake, job);
}

/* True: the helper has not begun it, and will not. */
static bool take_back(struct intake *intake, const struct intake_job *job)
{
	struct intake_job **link;
	bool found;

	(void)pthread_mutex_lock(&intake->lock);
	for (link = &intake->todo; *link != NULL && *link != job;
		link = &(*link)->next)
		;
	found = *link != NULL;
	if (found)
		*link = job->next;
	if (found && *link == NULL)
		intake->todo_end = link;
	(void)pthread_mutex_unlock(&intake->lock);
	return found;
}

void intake_drop(struct intake *intake, struct intake_job *job)
{
	store_relaxed(job->is_dropped, true);
	if (take_back(intake, job))
		end_unread(job);
}

unsigned int intake_collect(struct intake *intake)
{
	struct intake_job *job;
	unsigned int n = 0;

	if (load_relaxed(intake->n_finished) == 0)
		return 0;
	(void)pthread_mutex_lock(&intake->lock);
	job = intake->finished;
	intake->finished = NULL;
	store_relaxed(intake->n_finished, 0);
	(void)pthread_mutex_unlock(&intake->lock);
	for (; job != NULL; n++) {
		struct intake_job *next = job->next;

		job->done(job);
		job = next;
	}
	return n;
}
