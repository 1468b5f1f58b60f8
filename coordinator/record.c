/*
 * Two buffers under one mutex, which is never held over a system call: the loop
 * fills one while the thread writes the other.
 */
#include "coordinator/record.h"

#include "shm-layout/shm_atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 20, END_S = 1 };

/* What the thread is given at once. */
struct batch {
	char *bytes;
	size_t used;
	bool opens; /* another file, before the byte at `from` */
	size_t from;
	char *file, *first; /* of that; file NULL: none */
};

struct record {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct batch filling; /* under the lock, as the following */
	bool is_ending;

	struct batch writing; /* the thread's own, as the following */
	int fd;               /* -1: no file */
	bool is_torn;         /* the file's last line has no end */

	/* Relaxed: each is complete in itself. */
	_Atomic uint64_t lost;
	_Atomic int error;
	bool has_file; /* the loop's own */
};

/* ------------------------------------------------------------ the thread */

static uint64_t count_lines(const char *bytes, size_t n)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < n; i++)
		lines += bytes[i] == '\n';
	return lines;
}

static void lose(struct record *record, uint64_t lines, int error)
{
	(void)atomic_fetch_add_explicit(
		&record->lost, lines, memory_order_relaxed);
	store_relaxed(record->error, error);
}

/* How much of it was written; the rest failed. */
static size_t write_all(int fd, const char *bytes, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t wrote = write(fd, bytes + done, n - done);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			break;
		done += (size_t)wrote;
	}
	return done;
}

/* A line that is there in part goes again, if nobody wrote behind it. */
static void take_back(struct record *record, size_t part)
{
	off_t end = lseek(record->fd, 0, SEEK_CUR);
	struct stat status;

	record->is_torn = end < (off_t)part ||
			  fstat(record->fd, &status) != 0 ||
			  status.st_size != end ||
			  ftruncate(record->fd, end - (off_t)part) != 0;
}

static void write_lines(struct record *record, const char *bytes, size_t n)
{
	size_t done, whole;
	int error;

	if (record->fd < 0 || n == 0)
		return;
	if (record->is_torn && write_all(record->fd, "\n", 1) == 1)
		record->is_torn = false;
	done = record->is_torn ? 0 : write_all(record->fd, bytes, n);
	if (done == n) {
		store_relaxed(record->error, 0);
		return;
	}
	error = errno != 0 ? errno : EIO;
	for (whole = done; whole > 0 && bytes[whole - 1] != '\n';)
		whole--;
	if (done > whole)
		take_back(record, done - whole);
	lose(record, count_lines(bytes + whole, n - whole), error);
}

/* Only a plain file: anything else could hold the thread for ever. */
static int open_plain(const char *file, bool *ret_is_torn)
{
	int fd = open(file,
		O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		0600);
	struct stat status;
	char last = '\n';

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
		(void)close(fd);
		return -EINVAL;
	}
	/* What a predecessor left when it was killed. */
	*ret_is_torn =
		status.st_size > 0 &&
		(pread(fd, &last, 1, status.st_size - 1) != 1 || last != '\n');
	return fd;
}

static void open_other(struct record *record, struct batch *batch)
{
	if (record->fd >= 0)
		(void)close(record->fd);
	record->fd = -1;
	if (batch->file != NULL) {
		record->fd = open_plain(batch->file, &record->is_torn);
		if (record->fd < 0)
			lose(record, 0, -record->fd);
		else
			write_lines(record, batch->first, strlen(batch->first));
	}
	free(batch->file);
	free(batch->first);
}

/* Lines for a file that could not be opened are lost, too. */
static void write_batch(struct record *record)
{
	struct batch *batch = &record->writing;
	bool wants_file = batch->opens && batch->file != NULL;
	size_t from = 0;

	if (batch->opens) {
		write_lines(record, batch->bytes, batch->from);
		from = batch->from;
		open_other(record, batch);
	}
	write_lines(record, batch->bytes + from, batch->used - from);
	if (record->fd < 0 && (wants_file || !batch->opens))
		lose(record,
			count_lines(batch->bytes + from, batch->used - from),
			load_relaxed(record->error));
	*batch = (struct batch){.bytes = batch->bytes};
}

static bool has_work(const struct record *record)
{
	return record->filling.used > 0 || record->filling.opens;
}

static void *work(void *argument)
{
	struct record *record = argument;

	(void)pthread_mutex_lock(&record->lock);
	while (true) {
		struct batch filled;

		while (!has_work(record) && !record->is_ending)
			(void)pthread_cond_wait(&record->work, &record->lock);
		if (!has_work(record))
			break;
		filled = record->filling;
		record->filling = record->writing;
		record->writing = filled;
		(void)pthread_mutex_unlock(&record->lock);
		write_batch(record);
		(void)pthread_mutex_lock(&record->lock);
	}
	(void)pthread_mutex_unlock(&record->lock);
	return NULL;
}

/* ------------------------------------------------------------ the loop */

static int start_thread(struct record *record)
{
	sigset_t all, old;
	int error;

	/* Signals are the main thread's business. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&record->thread, NULL, work, record);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0) /* for top(1) */
		(void)pthread_setname_np(record->thread, "rgovd-record");
	return -error;
}

static void release(struct record *record)
{
	if (record->fd >= 0)
		(void)close(record->fd);
	free(record->filling.bytes);
	free(record->writing.bytes);
	free(record);
}

int record_create(struct record **ret_record)
{
	struct record *record = calloc(1, sizeof(*record));
	int rc = -ENOMEM;

	if (record == NULL)
		return -ENOMEM;
	record->fd = -1;
	record->filling.bytes = malloc(BUFFER_BYTES);
	record->writing.bytes = malloc(BUFFER_BYTES);
	(void)pthread_mutex_init(&record->lock, NULL);
	(void)pthread_cond_init(&record->work, NULL);
	if (record->filling.bytes != NULL && record->writing.bytes != NULL)
		rc = start_thread(record);
	if (rc < 0) {
		release(record);
		return rc;
	}
	*ret_record = record;
	return 0;
}

int record_open(struct record *record, const char *file, const char *first)
{
	char *file_copy = file ? strdup(file) : NULL;
	char *first_copy = file ? strdup(first) : NULL;
	struct batch *batch = &record->filling;

	if (file != NULL && (file_copy == NULL || first_copy == NULL)) {
		free(file_copy);
		free(first_copy);
		return -ENOMEM;
	}
	(void)pthread_mutex_lock(&record->lock);
	/* The last word counts: what came between two of them goes with it. */
	if (batch->opens) {
		free(batch->file);
		free(batch->first);
	} else {
		batch->from = batch->used;
	}
	batch->opens = true;
	batch->file = file_copy;
	batch->first = first_copy;
	(void)pthread_cond_signal(&record->work);
	(void)pthread_mutex_unlock(&record->lock);
	record->has_file = file != NULL;
	return 0;
}

void record_line(struct record *record, const char *line, size_t bytes)
{
	struct batch *batch = &record->filling;
	bool fits;

	if (!record->has_file)
		return;
	(void)pthread_mutex_lock(&record->lock);
	fits = bytes + 1 <= BUFFER_BYTES - batch->used;
	if (fits) {
		memcpy(batch->bytes + batch->used, line, bytes);
		batch->used += bytes;
		batch->bytes[batch->used++] = '\n';
		(void)pthread_cond_signal(&record->work);
	}
	(void)pthread_mutex_unlock(&record->lock);
	if (!fits)
		lose(record, 1, ENOBUFS);
}

uint64_t record_lost(const struct record *record, int *ret_error)
{
	*ret_error = load_relaxed(record->error);
	return load_relaxed(record->lost);
}

void record_free(struct record *record)
{
	struct timespec until;

	if (record == NULL)
		return;
	(void)pthread_mutex_lock(&record->lock);
	record->is_ending = true;
	(void)pthread_cond_signal(&record->work);
	(void)pthread_mutex_unlock(&record->lock);
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += END_S;
	/* A disk that hangs has the thread: the process ends without it. */
	if (pthread_timedjoin_np(record->thread, NULL, &until) == 0)
		release(record);
}
