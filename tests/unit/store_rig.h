/* A store in a scratch directory, and jobs that are waited for. */
#ifndef TESTS_UNIT_STORE_RIG_H
#define TESTS_UNIT_STORE_RIG_H

#include "coordinator/store/store.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#define HOUR_NS ((int64_t)3600 * 1000000000)

struct rig {
	char dir[64], path[96];
	struct loop *loop;
	struct store *store;
	struct store_config config;
	_Atomic int64_t wall_ns;
	char why[STORE_WHY_BYTES];
};

static int64_t rig_wall(void *arg)
{
	return ((struct rig *)arg)->wall_ns;
}

/* A directory and a loop; no store yet. */
__attribute__((unused)) static void rig_init(struct rig *rig)
{
	const char *tmp = getenv("TMPDIR");

	memset(rig, 0, sizeof(*rig));
	rig->wall_ns = 1000 * HOUR_NS;
	snprintf(rig->dir, sizeof(rig->dir), "%.40s/rgov-store.XXXXXX",
		tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(rig->dir) == NULL || loop_create(LOOP_EPOLL, &rig->loop))
		abort();
	snprintf(rig->path, sizeof(rig->path), "%s/a.tasks.db", rig->dir);
	rig->config = (struct store_config){.result_ttl_ns = 24 * HOUR_NS,
		.record_ttl_ns = 168 * HOUR_NS,
		.wall_now_ns = rig_wall,
		.wall_arg = rig};
}

__attribute__((unused)) static int rig_try_open(struct rig *rig)
{
	return store_open(
		rig->path, &rig->config, rig->loop, &rig->store, rig->why);
}

__attribute__((unused)) static void rig_open(struct rig *rig)
{
	int rc = rig_try_open(rig);

	if (rc != 0) {
		printf("     cannot open: %s (%d)\n", rig->why, rc);
		abort();
	}
}

__attribute__((unused)) static void rig_close(struct rig *rig)
{
	store_close(rig->store);
	rig->store = NULL;
}

static int rig_unlink(
	const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

__attribute__((unused)) static void rig_fini(struct rig *rig)
{
	rig_close(rig);
	loop_free(rig->loop);
	nftw(rig->dir, rig_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

static void rig_done(struct store_job *job)
{
	*(int *)job->owner += 1;
}

/* Submits n jobs, and waits for all of them. */
__attribute__((unused)) static void rig_run_all(
	struct rig *rig, struct store_job *jobs, int n)
{
	int done = 0;

	for (int i = 0; i < n; i++) {
		jobs[i].done = rig_done;
		jobs[i].owner = &done;
		store_submit(rig->store, &jobs[i]);
	}
	while (done < n) {
		loop_step(rig->loop, loop_now_ns() + 1000000000u);
		store_collect(rig->store);
	}
}

__attribute__((unused)) static int rig_run(
	struct rig *rig, struct store_job *job)
{
	rig_run_all(rig, job, 1);
	return job->error;
}

/* ------------------------------------------------------------ tasks */

/* The number of a task is the time in its id, too. */
__attribute__((unused)) static void task_id(
	uint64_t number, uint8_t ret_id[STORE_ID_BYTES])
{
	memset(ret_id, 0, STORE_ID_BYTES);
	for (int i = 0; i < 6; i++)
		ret_id[i] = (uint8_t)(number >> (40 - 8 * i));
	ret_id[6] = 0x70;
	ret_id[8] = 0x80;
}

__attribute__((unused)) static uint64_t task_number(
	const uint8_t id[STORE_ID_BYTES])
{
	uint64_t number = 0;

	for (int i = 0; i < 6; i++)
		number = number << 8 | id[i];
	return number;
}

__attribute__((unused)) static struct store_record task_record(
	uint64_t number, size_t body_bytes)
{
	struct store_record record = {.uid = 1000,
		.model = "anthropic.claude-sonnet-4-20250514-v1:0",
		.user = "alice",
		.app = "web",
		.headers = "",
		.body_bytes = body_bytes,
		.is_idempotent = true,
		.submitted_ns = 1000 * HOUR_NS + (int64_t)number,
		.deadline_ns = 1024 * HOUR_NS,
		.input_tokens = 1200,
		.output_tokens = 4096};

	task_id(number, record.id);
	memset(record.digest, (int)number, sizeof(record.digest));
	memset(record.body_sha256, 7, sizeof(record.body_sha256));
	return record;
}

__attribute__((unused)) static struct store_job put_job(
	const struct store_record *record, const char *body)
{
	return (struct store_job){
		.op = STORE_PUT, .put = {.record = record, .body = body}};
}

__attribute__((unused)) static struct store_job op_job(
	enum store_op op, uint64_t number)
{
	struct store_job job = {.op = op};

	task_id(number, job.id);
	return job;
}

__attribute__((unused)) static int put_task(
	struct rig *rig, uint64_t number, const char *body)
{
	struct store_record record =
		task_record(number, body != NULL ? strlen(body) : 0);
	struct store_job job = put_job(&record, body);

	return rig_run(rig, &job);
}

__attribute__((unused)) static struct store_job end_job(const struct rig *rig,
	uint64_t number, enum store_state state, const char *reply)
{
	struct store_job job = op_job(STORE_END, number);

	job.end.state = state;
	job.end.at_ns = rig->wall_ns;
	job.end.reply = reply;
	job.end.reply_bytes = reply != NULL ? strlen(reply) : 0;
	job.end.ending = (struct store_ending){.result = 0,
		.http_status = 200,
		.attempts = 2,
		.input_tokens = 11,
		.output_tokens = 22,
		.cache_read_tokens = -1,
		.cache_write_tokens = -1,
		.queued_ns = 5,
		.executing_ns = 6,
		.code = "",
		.message = "",
		.request_id = "r-1",
		.model = "m"};
	return job;
}

__attribute__((unused)) static int end_task(struct rig *rig, uint64_t number,
	enum store_state state, const char *reply)
{
	struct store_job job = end_job(rig, number, state, reply);

	return rig_run(rig, &job);
}

/* The record, the caller's; NULL: unknown. */
__attribute__((unused)) static struct store_record *look_at(
	struct rig *rig, uint64_t number)
{
	struct store_job job = op_job(STORE_LOOK, number);

	CU_ASSERT_EQUAL(rig_run(rig, &job), 0);
	return job.record;
}

#endif
