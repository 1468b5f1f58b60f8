/*
 * The store of tasks alone, without rgovd round it.
 *
 * usage: task_store rate DIRECTORY
 *            acknowledged tasks a second with 32 outstanding, with one, and
 *            beside them in turn: one transaction each, and an append with
 *            fdatasync each
 *        task_store one DIRECTORY
 *            what those two give, once
 *        task_store fill DIRECTORY FINISHED QUEUED
 *        task_store start DIRECTORY
 *            opens what is there: time, memory, and the rate it has then
 *
 * Prints one line of JSON.  The directory is on the disk that is measured.
 */
#include "bench/measure.h"
#include "coordinator/store/inside.h"

#include <fcntl.h>
#include <unistd.h>

enum {
	MANY = 32,
	MOST = 512,
	BODY_BYTES = 2000,
	REPLY_BYTES = 600,
	ROUNDS = 5,
	TASKS = 16000, /* a round with many outstanding */
	SINGLES = 1500,
};

static char body[BODY_BYTES], reply[REPLY_BYTES];

struct lane {
	struct store_job job;
	struct store_record record;
	struct crowd *crowd;
};

/* Jobs that are submitted again as soon as they are told. */
struct crowd {
	struct store *store;
	struct loop *loop;
	struct lane lanes[MOST];
	bool is_finishing; /* each task ends, too */
	uint64_t left, out, number;
};

static double seconds_since(uint64_t begun_ns)
{
	return (double)(loop_now_ns() - begun_ns) / 1e9;
}

/* As a client makes it: time first, then chance. */
static void make_record(struct store_record *record, uint64_t number)
{
	static uint64_t random = 88172645463325252u;
	uint64_t ms = 1700000000000u + number / 8;

	random += number;
	random ^= random << 13;
	random ^= random >> 7;
	random ^= random << 17;
	*record = (struct store_record){.uid = 1000,
		.model = "anthropic.claude-sonnet-4-20250514-v1:0",
		.user = "alice",
		.app = "web",
		.body_bytes = BODY_BYTES,
		.is_idempotent = true,
		.submitted_ns = (int64_t)(ms * 1000000),
		/* In the year 2100: what waits must not have expired. */
		.deadline_ns = INT64_C(4102444800000000000),
		.input_tokens = 500,
		.output_tokens = 4096};
	for (int i = 0; i < 6; i++)
		record->id[i] = (uint8_t)(ms >> (40 - 8 * i));
	memcpy(record->id + 8, &random, 8);
	record->id[6] = (uint8_t)(0x70 | (number & 15));
	memcpy(record->digest, &random, 8);
	memcpy(record->body_sha256, &random, 8);
}

static int64_t now_wall_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void go_on(struct lane *lane);

static void on_done(struct store_job *job)
{
	struct lane *lane = job->owner;

	if (job->error != 0)
		DIE("%s", job->why);
	lane->crowd->out--;
	go_on(lane);
}

static void go_on(struct lane *lane)
{
	struct crowd *crowd = lane->crowd;
	bool ends = crowd->is_finishing && lane->job.op == STORE_PUT &&
		    lane->job.owner != NULL;

	if (!ends && crowd->left == 0)
		return;
	if (ends) {
		lane->job = (struct store_job){.op = STORE_END};
		memcpy(lane->job.id, lane->record.id, STORE_ID_BYTES);
		lane->job.end.state = STORE_SUCCEEDED;
		lane->job.end.at_ns = now_wall_ns();
		lane->job.end.reply = reply;
		lane->job.end.reply_bytes = REPLY_BYTES;
	} else {
		crowd->left--;
		make_record(&lane->record, crowd->number++);
		lane->job = (struct store_job){.op = STORE_PUT};
		lane->job.put.record = &lane->record;
		lane->job.put.body = body;
	}
	lane->job.done = on_done;
	lane->job.owner = lane;
	crowd->out++;
	store_submit(crowd->store, &lane->job);
}

/* Tasks a second. */
static double run_crowd(struct crowd *crowd, unsigned int lanes, uint64_t n)
{
	uint64_t begun_ns = loop_now_ns();

	crowd->left = n;
	for (unsigned int i = 0; i < lanes; i++) {
		crowd->lanes[i] = (struct lane){.crowd = crowd};
		go_on(&crowd->lanes[i]);
	}
	while (crowd->out > 0) {
		(void)loop_step(crowd->loop, loop_now_ns() + 1000000000u);
		(void)store_collect(crowd->store);
	}
	return (double)n / seconds_since(begun_ns);
}

static void open_store(const char *path, struct crowd *crowd)
{
	const struct store_config config = {
		.result_ttl_ns = 365 * 86400ll * 1000000000,
		.record_ttl_ns = 365 * 86400ll * 1000000000};
	char why[STORE_WHY_BYTES];

	if (loop_create(LOOP_AUTO, &crowd->loop) != 0 ||
		store_open(path, &config, crowd->loop, &crowd->store, why) != 0)
		DIE("%s", why);
}

static void close_store(struct crowd *crowd)
{
	store_close(crowd->store);
	loop_free(crowd->loop);
}

/* ------------------------------------------------------------ beside it */

static double run_appends(const char *path)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	uint64_t begun_ns = loop_now_ns();

	for (int i = 0; i < SINGLES; i++)
		if (write(fd, body, sizeof(body)) < 0 || fdatasync(fd) != 0)
			DIE("cannot write %s", path);
	(void)close(fd);
	(void)unlink(path);
	return SINGLES / seconds_since(begun_ns);
}

static double run_transactions(const char *path, uint64_t *number)
{
	struct store_sql sql = {.db = NULL};
	char why[STORE_WHY_BYTES];
	uint64_t begun_ns;
	double rate;

	if (store_file_open(path, &sql, why) != 0)
		DIE("%s", why);
	begun_ns = loop_now_ns();
	for (int i = 0; i < SINGLES; i++) {
		struct store_record record;
		struct store_job job = {.op = STORE_PUT,
			.put = {.record = &record, .body = body}};

		make_record(&record, (*number)++);
		if (store_sql_do(&sql, STORE_SQL_BEGIN) != SQLITE_OK ||
			store_write(&sql, &job) != SQLITE_OK ||
			store_sql_do(&sql, STORE_SQL_COMMIT) != SQLITE_OK)
			DIE("a transaction failed");
		if (i % 200 == 199)
			(void)sqlite3_wal_checkpoint_v2(sql.db, NULL,
				SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	}
	rate = SINGLES / seconds_since(begun_ns);
	store_sql_close(&sql);
	return rate;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

static void measure_rates(const char *directory)
{
	static struct crowd crowd;
	char path[256], file[256];
	double many[ROUNDS], one[ROUNDS], each[ROUNDS], append[ROUNDS];
	struct store_stats stats;

	(void)snprintf(path, sizeof(path), "%s/rate.tasks.db", directory);
	(void)snprintf(file, sizeof(file), "%s/rate.appended", directory);
	for (int i = 0; i < ROUNDS; i++) {
		open_store(path, &crowd);
		many[i] = run_crowd(&crowd, MANY, TASKS);
		store_read_stats(crowd.store, &stats);
		one[i] = run_crowd(&crowd, 1, SINGLES);
		close_store(&crowd);
		each[i] = run_transactions(path, &crowd.number);
		append[i] = run_appends(file);
	}
	(void)printf("{\"outstanding_32_per_s\": %.0f, "
		     "\"outstanding_1_per_s\": %.0f, "
		     "\"transaction_each_per_s\": %.0f, "
		     "\"fdatasync_each_per_s\": %.0f, "
		     "\"tasks_per_commit\": %.1f, "
		     "\"longest_checkpoint_ms\": %.1f}\n",
		median(many), median(one), median(each), median(append),
		(double)stats.jobs / (double)stats.commits,
		(double)stats.longest_checkpoint_ns / 1e6);
}

static void measure_one(const char *directory)
{
	static struct crowd crowd;
	char path[256], file[256];

	(void)snprintf(path, sizeof(path), "%s/one.tasks.db", directory);
	(void)snprintf(file, sizeof(file), "%s/one.appended", directory);
	(void)printf("{\"transaction_each_per_s\": %.0f, "
		     "\"fdatasync_each_per_s\": %.0f}\n",
		run_transactions(path, &crowd.number), run_appends(file));
}

/* ------------------------------------------------------------ a full one */

static void fill(const char *path, uint64_t finished, uint64_t queued)
{
	static struct crowd crowd;
	double first, second;

	open_store(path, &crowd);
	crowd.is_finishing = true;
	first = run_crowd(&crowd, MOST, finished);
	crowd.is_finishing = false;
	second = run_crowd(&crowd, MOST, queued);
	close_store(&crowd);
	(void)printf("{\"finished_per_s\": %.0f, \"queued_per_s\": %.0f}\n",
		first, second);
}

static int count(const struct store_record *record, void *arg)
{
	(void)record;
	++*(uint64_t *)arg;
	return 0;
}

static double resident_mib(void)
{
	char line[128];
	double kib = 0;
	FILE *status = fopen("/proc/self/status", "r");

	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
		(void)sscanf(line, "VmRSS: %lf", &kib);
	if (status != NULL)
		(void)fclose(status);
	return kib / 1024;
}

static void measure_start(const char *path)
{
	static struct crowd crowd;
	uint64_t begun_ns = loop_now_ns(), told = 0;
	char why[STORE_WHY_BYTES];
	double open_s, told_s, rates[ROUNDS], rss;
	struct store_stats stats;

	open_store(path, &crowd);
	open_s = seconds_since(begun_ns);
	if (store_recover(crowd.store, count, &told, why) != 0)
		DIE("%s", why);
	told_s = seconds_since(begun_ns) - open_s;
	rss = resident_mib();
	/* Later than all that is there, and other ids each time. */
	crowd.number = ((uint64_t)now_wall_ns() / 1000000 - 1700000000000u) * 8;
	for (int i = 0; i < ROUNDS; i++)
		rates[i] = run_crowd(&crowd, MANY, TASKS);
	store_read_stats(crowd.store, &stats);
	(void)printf("{\"open_s\": %.3f, \"recover_s\": %.3f, "
		     "\"told\": %llu, \"rss_mib\": %.1f, "
		     "\"rss_after_mib\": %.1f, \"file_mib\": %.0f, "
		     "\"outstanding_32_per_s\": %.0f, "
		     "\"longest_checkpoint_ms\": %.1f}\n",
		open_s, told_s, (unsigned long long)told, rss, resident_mib(),
		(double)stats.file_bytes / (1 << 20), median(rates),
		(double)stats.longest_checkpoint_ns / 1e6);
	close_store(&crowd);
}

int main(int argc, char **argv)
{
	char path[256];

	if (argc < 3)
		DIE("usage: task_store rate|fill|start DIRECTORY …");
	memset(body, 'b', sizeof(body));
	memset(reply, 'r', sizeof(reply));
	(void)snprintf(path, sizeof(path), "%s/full.tasks.db", argv[2]);
	if (strcmp(argv[1], "rate") == 0)
		measure_rates(argv[2]);
	else if (strcmp(argv[1], "one") == 0)
		measure_one(argv[2]);
	else if (strcmp(argv[1], "fill") == 0 && argc == 5)
		fill(path, strtoull(argv[3], NULL, 10),
			strtoull(argv[4], NULL, 10));
	else if (strcmp(argv[1], "start") == 0)
		measure_start(path);
	else
		DIE("usage: task_store rate|fill|start DIRECTORY …");
	return 0;
}
