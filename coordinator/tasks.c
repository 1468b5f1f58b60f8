/* The table of the tasks that have not ended, and the store behind it. */
#include "coordinator/tasks_inside.h"

#include "coordinator/log.h"
#include "coordinator/upstream/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#define HASH_FUNCTION HASH_FNV /* the usual one falls through switches */
/* Its own way to be without memory is exit(). */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define AGAIN_NS 1000000000u

struct task_owner {
	UT_hash_handle hh;
	uint32_t n;
	size_t bytes; /* of the key */
	char key[];   /* uid and user */
};

static_assert((int)STORE_QUEUED == (int)SHM_TASK_QUEUED &&
		      (int)STORE_EXPIRED == (int)SHM_TASK_EXPIRED &&
		      (int)STORE_STATES == (int)SHM_TASK_STATE_COUNT,
	"a state is the same on disk and between processes");
static_assert((int)STORE_ID_BYTES == (int)SHM_TASK_ID_BYTES, "and an id");

/* ------------------------------------------------------------ clocks */

int64_t wall_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* What has passed is now. */
uint64_t monotonic_of(int64_t wall_ns)
{
	int64_t ahead_ns = wall_ns - wall_now_ns();

	return loop_now_ns() + (ahead_ns > 0 ? (uint64_t)ahead_ns : 0);
}

/* ------------------------------------------------------------ owners */

struct task_owner *task_owner_take(
	struct tasks *tasks, uid_t uid, const char *user)
{
	struct task_owner *owner = NULL;
	char key[sizeof(uid) + SHM_USER_BYTES + 1];
	size_t bytes = sizeof(uid) + strnlen(user, SHM_USER_BYTES);

	memcpy(key, &uid, sizeof(uid));
	memcpy(key + sizeof(uid), user, bytes - sizeof(uid));
	HASH_FIND(hh, tasks->owners, key, bytes, owner);
	if (owner == NULL) {
		owner = calloc(1, sizeof(*owner) + bytes);
		if (owner == NULL)
			return NULL;
		memcpy(owner->key, key, bytes);
		owner->bytes = bytes;
		HASH_ADD_KEYPTR(hh, tasks->owners, owner->key, bytes, owner);
		if (owner->hh.tbl == NULL) { /* no memory for it there */
			free(owner);
			return NULL;
		}
	}
	owner->n++;
	return owner;
}

void task_owner_release(struct tasks *tasks, struct task_owner *owner)
{
	if (owner == NULL || --owner->n > 0)
		return;
	HASH_DELETE(hh, tasks->owners, owner);
	free(owner);
}

uint32_t task_owner_count(const struct task_owner *owner)
{
	return owner->n;
}

/* ------------------------------------------------------------ the table */

/* Clients make the ids: with numbers that none knows, no one can choose those
 * of one bucket. */
static struct task **bucket_of(const struct tasks *tasks, const uint8_t id[])
{
	uint64_t halves[2], hash;

	memcpy(halves, id, sizeof(halves));
	hash = (halves[0] ^ tasks->secret[0]) * (tasks->secret[1] | 1);
	hash = (hash ^ hash >> 32 ^ halves[1]) * (tasks->secret[2] | 1);
	return &tasks->buckets[hash >> 48];
}

struct task *task_find(const struct tasks *tasks, const uint8_t id[])
{
	struct task *task;

	if (tasks->buckets == NULL)
		return NULL;
	for (task = *bucket_of(tasks, id); task != NULL; task = task->next)
		if (memcmp(task->id, id, STORE_ID_BYTES) == 0)
			break;
	return task;
}

void task_add(struct tasks *tasks, struct task *task, struct request *request,
	const struct store_record *record, struct task_owner *owner)
{
	struct task **bucket = bucket_of(tasks, record->id);

	memcpy(task->id, record->id, sizeof(task->id));
	task->request = request;
	request->task = task;
	task->owner = owner;
	task->uid = record->uid;
	task->submitted_ns = record->submitted_ns;
	task->started_ns = record->started_ns;
	task->runs = record->runs;
	task->state = STORE_QUEUED;
	task->has_callback = record->callback[0] != '\0';
	task->next = *bucket;
	*bucket = task;
	tasks->n++;
	store_relaxed(tasks->governor->board.board->host.tasks, tasks->n);
}

void task_free(struct tasks *tasks, struct task *task)
{
	struct task **link = bucket_of(tasks, task->id);

	while (*link != task)
		link = &(*link)->next;
	*link = task->next;
	tasks->n--;
	store_relaxed(tasks->governor->board.board->host.tasks, tasks->n);
	task_turn_away(task);
	task_owner_release(tasks, task->owner);
	free(task);
}

/* ------------------------------------------------------------ the disk */

static void on_again(struct loop_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	tasks_retry(timer->owner);
}

void tasks_try_again(struct tasks *tasks)
{
	if (tasks->again.place != 0)
		return;
	(void)loop_timer_set(tasks->governor->loop, &tasks->again,
		loop_now_ns() + AGAIN_NS, on_again, tasks);
}

void tasks_ail(struct tasks *tasks, const struct store_job *job)
{
	COUNT(tasks->governor, store_failures);
	if (tasks->is_ailing)
		return;
	tasks->is_ailing = true;
	board_event(&tasks->governor->board, "store", "%s", job->why);
	LOG(LOG_ERROR, "store.failed",
		"the disk does not take what becomes of tasks; tried again "
		"every second",
		F_S("reason", job->why));
}

unsigned int tasks_collect(struct governor *governor)
{
	struct tasks *tasks = governor->tasks;
	unsigned int n;

	if (tasks->store == NULL)
		return 0;
	n = store_collect(tasks->store);
	/* There was no memory for the timer. */
	if (tasks->failed_ends != NULL || tasks->unended != NULL ||
		tasks->parked != NULL)
		tasks_try_again(tasks);
	if (n > 0 && tasks->is_ailing && tasks->failed_ends == NULL &&
		tasks->parked == NULL && tasks->n_ending == 0) {
		tasks->is_ailing = false;
		LOG(LOG_INFO, "store.well", "the disk takes tasks again");
	}
	return n;
}

void tasks_show(const struct governor *governor)
{
	struct board_host *host = &governor->board.board->host;
	const struct tasks *tasks = governor->tasks;
	struct store_stats stats;

	store_relaxed(host->tasks_limit, governor->config->tasks.max_tasks);
	if (tasks == NULL || tasks->store == NULL)
		return;
	store_read_stats(tasks->store, &stats);
	store_relaxed(host->tasks, tasks->n);
	store_relaxed(host->store_bytes, stats.file_bytes + stats.wal_bytes);
	store_relaxed(host->store_fails, tasks->is_ailing);
}

bool tasks_are_quiet(const struct governor *governor)
{
	return governor->tasks->n_ending == 0 &&
	       governor->tasks->n_putting == 0 &&
	       governor->tasks->n_beginning == 0;
}

/* ------------------------------------------------------------ opening */

static void path_of(const struct governor *governor, char *ret, size_t bytes)
{
	(void)snprintf(ret, bytes, "%s/%s.tasks.db",
		governor->config->tasks.state_dir, governor->config->name);
}

static int open_store(struct tasks *tasks, char ret_why[STORE_WHY_BYTES])
{
	struct governor *governor = tasks->governor;
	const struct config_tasks *config = &governor->config->tasks;
	struct store_config store = {
		.result_ttl_ns = (int64_t)config->result_ttl_ns,
		.record_ttl_ns = (int64_t)config->record_ttl_ns,
	};
	char path[512];

	(void)snprintf(ret_why, STORE_WHY_BYTES, "rgovd has no memory");
	if (tasks->buckets == NULL)
		tasks->buckets = calloc(TASK_BUCKETS, sizeof(struct task *));
	if (tasks->buckets == NULL)
		return -ENOMEM;
	path_of(governor, path, sizeof(path));
	return store_open(path, &store, governor->loop, &tasks->store, ret_why);
}

/* ------------------------------------------------------------ recovery */

static struct request *request_of_record(
	struct governor *governor, const struct store_record *record)
{
	char peer[DOOR_PEER_BYTES];
	struct door_submission submission = {
		.kind = SHM_TASK,
		.operation = record->operation,
		.class = record->class,
		.body_bytes = (uint32_t)record->body_bytes,
		.deadline_ns = monotonic_of(record->deadline_ns),
		.input_tokens = (uint64_t)record->input_tokens,
		.output_tokens = (uint64_t)record->output_tokens,
		.model_id = record->model,
		.headers = record->headers,
		.user = record->user,
		.app = record->app,
		.peer = peer,
		.is_idempotent = record->is_idempotent,
	};
	struct request *request;

	door_peer_name(record->uid, peer);
	request = request_create(governor, &submission);
	if (request == NULL)
		return NULL;
	request->number = ++governor->numbers;
	memcpy(request->digest, record->body_sha256, sizeof(request->digest));
	return request;
}

/* It ran when its rgovd died. */
static void resume(struct request *request)
{
	struct governor *governor = request->governor;
	struct task *task = request->task;

	request->was_issued = true;
	if (!request->is_idempotent) {
		task_note(task, governor->tasks, STORE_EVENT_AMBIGUOUS,
			"rgovd ended while it was out, and it may not be sent "
			"twice",
			false);
		finish_plainly(request, SHM_AMBIGUOUS,
			"rgovd ended while it was out, and it may not be sent "
			"twice");
		return;
	}
	COUNT(governor, tasks_reissued);
	task_note(task, governor->tasks, STORE_EVENT_REISSUED,
		"rgovd ended while it was out", true);
	enqueue(request);
}

static int take_back(const struct store_record *record, void *arg)
{
	struct tasks *tasks = arg;
	struct request *request = request_of_record(tasks->governor, record);
	struct task_owner *owner =
		task_owner_take(tasks, record->uid, record->user);
	struct task *task = calloc(1, sizeof(*task));

	if (request == NULL || owner == NULL || task == NULL) {
		free(task);
		task_owner_release(tasks, owner);
		if (request != NULL)
			request_free(request);
		return -ENOMEM;
	}
	task_add(tasks, task, request, record, owner);
	if (record->state == STORE_RUNNING)
		resume(request);
	else
		enqueue(request);
	return 0;
}

static int post_again(const struct store_record *record, void *arg)
{
	task_post(arg, record->id);
	return 0;
}

/*
 * No board, but a store that was written to within the last window: this host
 * was started anew.  What has started before is not known, so every window
 * counts as full from then on.
 */
static void believe_disk(struct governor *governor, const char *path)
{
	char wal[600];
	struct stat file;
	int64_t written_ns, age_ns;
	uint64_t now = loop_now_ns();

	(void)snprintf(wal, sizeof(wal), "%s-wal", path);
	if (stat(wal, &file) != 0 && stat(path, &file) != 0)
		return;
	written_ns = (int64_t)file.st_mtim.tv_sec * 1000000000 +
		     file.st_mtim.tv_nsec;
	age_ns = wall_now_ns() - written_ns;
	if (age_ns < 0)
		age_ns = 0;
	if ((uint64_t)age_ns >= governor->config->policy.minute_ns +
					governor->config->policy.guard_ns)
		return;
	restore_full(governor, now - (uint64_t)age_ns, now);
	LOG(LOG_WARN, "board.lost",
		"the board is not there, and tasks were at work a moment ago: "
		"every window counts as full");
}

static int recover(struct tasks *tasks, char why[STORE_WHY_BYTES])
{
	int rc = open_store(tasks, why);

	if (rc == 0)
		rc = store_recover(tasks->store, take_back, tasks, why);
	if (rc == 0)
		rc = store_recover_callbacks(
			tasks->store, post_again, tasks, why);
	if (rc == 0 && tasks->n > 0)
		LOG(LOG_INFO, "tasks.recovered", "", F_I("tasks", tasks->n));
	return rc;
}

/* What is in a file that was not there, or not to be opened, at the start is
 * taken back now. */
struct store *tasks_store(struct tasks *tasks, char ret_why[STORE_WHY_BYTES])
{
	if (tasks->store == NULL && recover(tasks, ret_why) != 0 &&
		tasks->store != NULL)
		LOG(LOG_ERROR, "store.failed",
			"tasks of the store wait for the next start",
			F_S("reason", ret_why));
	return tasks->store;
}

int tasks_open(
	struct governor *governor, bool was_lost, char *ret_why, size_t bytes)
{
	struct tasks *tasks = calloc(1, sizeof(*tasks));
	char path[512], why[STORE_WHY_BYTES] = "rgovd has no memory";
	int rc = -ENOMEM;

	governor->tasks = tasks;
	if (tasks != NULL) {
		if (getrandom(tasks->secret, sizeof(tasks->secret), 0) < 0)
			tasks->secret[0] = loop_now_ns();
		tasks->governor = governor;
		tasks->parked_end = &tasks->parked;
		tasks->digest = digest_create();
	}
	if (tasks != NULL && tasks->digest != NULL) {
		struct stat file;

		path_of(governor, path, sizeof(path));
		rc = 0;
		if (governor->config->tasks.are_on && stat(path, &file) == 0) {
			if (was_lost)
				believe_disk(governor, path);
			rc = recover(tasks, why);
		}
	}
	if (rc < 0)
		(void)snprintf(ret_why, bytes, "%s", why);
	return rc;
}

void tasks_reconfigure(struct governor *governor)
{
	const struct config_tasks *config = &governor->config->tasks;
	char path[512], why[STORE_WHY_BYTES];

	path_of(governor, path, sizeof(path));
	if (governor->tasks->store != NULL)
		store_set_ttl(governor->tasks->store,
			(int64_t)config->result_ttl_ns,
			(int64_t)config->record_ttl_ns);
	else if (config->are_on && access(path, F_OK) == 0 &&
		 tasks_store(governor->tasks, why) == NULL)
		LOG(LOG_ERROR, "store.failed", why);
}

/* ------------------------------------------------------------ closing */

/* It waits: out of the policy, and left to a successor. */
static void leave(struct task *task)
{
	if (task->request != NULL && task->request->stage == REQUEST_QUEUED &&
		withdraw(task->request))
		finish_plainly(task->request, SHM_DRAINING, NULL);
}

static void leave_all(struct tasks *tasks)
{
	for (int i = 0; tasks->buckets != NULL && i < TASK_BUCKETS; i++)
		for (struct task *task = tasks->buckets[i], *next; task != NULL;
			task = next) {
			next = task->next;
			leave(task);
		}
}

void tasks_close(struct governor *governor)
{
	struct tasks *tasks = governor->tasks;

	if (tasks == NULL)
		return;
	loop_timer_clear(governor->loop, &tasks->again);
	leave_all(tasks);
	tasks_forget_ends(tasks);
	tasks_stop_posts(tasks);
	store_close(tasks->store);
	tasks_forget_recent(tasks);
	digest_free(tasks->digest);
	free(tasks->buckets);
	free(tasks);
	governor->tasks = NULL;
}
