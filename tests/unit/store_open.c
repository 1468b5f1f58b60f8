/* What a store may find under its name: only its own is touched. */
#include "coordinator/store/inside.h"
#include "tests/unit/store_rig.h"

#include <signal.h>
#include <sys/wait.h>

static void write_file(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
		abort();
	close(fd);
}

static void scribble(const char *path, off_t at, size_t n)
{
	char junk[8192];
	int fd = open(path, O_WRONLY);

	memset(junk, 0x5a, sizeof(junk));
	if (fd < 0 || pwrite(fd, junk, n, at) != (ssize_t)n)
		abort();
	close(fd);
}

static void run_sql(const char *path, const char *script)
{
	sqlite3 *db;

	if (sqlite3_open(path, &db) != SQLITE_OK ||
		sqlite3_exec(db, script, NULL, NULL, NULL) != SQLITE_OK)
		abort();
	sqlite3_close(db);
}

/* All bytes of a file, as a number. */
static uint64_t sum_of(const char *path)
{
	uint64_t sum = 14695981039346656037u;
	FILE *file = fopen(path, "rb");
	int c;

	while (file != NULL && (c = getc(file)) != EOF)
		sum = (sum ^ (uint64_t)c) * 1099511628211u;
	if (file != NULL)
		fclose(file);
	return sum;
}

/* Refused so, with the path and this word, and left as it was. */
static void expect_refusal(struct rig *rig, int error, const char *word)
{
	uint64_t before = sum_of(rig->path);

	CU_ASSERT_EQUAL(rig_try_open(rig), error);
	CU_ASSERT(strstr(rig->why, rig->path) != NULL);
	CU_ASSERT(strstr(rig->why, word) != NULL);
	if (strstr(rig->why, word) == NULL)
		printf("     said: %s\n", rig->why);
	CU_ASSERT_EQUAL(sum_of(rig->path), before);
}

static int count_record(const struct store_record *record, void *arg)
{
	(void)record;
	++*(int *)arg;
	return 0;
}

static int count_open(struct rig *rig)
{
	int n = 0;

	CU_ASSERT_EQUAL(
		store_recover(rig->store, count_record, &n, rig->why), 0);
	return n;
}

/* A store with some tasks, closed. */
static void rig_init_filled(struct rig *rig, int n)
{
	rig_init(rig);
	rig_open(rig);
	for (int i = 1; i <= n; i++)
		put_task(rig, (uint64_t)i, "a body of some length");
	rig_close(rig);
}

static void a_new_one_is_private(void)
{
	struct rig rig;
	struct stat status;
	char below[80];

	rig_init(&rig);
	snprintf(below, sizeof(below), "%s/state", rig.dir);
	snprintf(rig.path, sizeof(rig.path), "%s/a.tasks.db", below);
	umask(0);
	rig_open(&rig);
	put_task(&rig, 1, "x");
	CU_ASSERT_EQUAL(stat(below, &status), 0);
	CU_ASSERT_EQUAL(status.st_mode & 07777, 0700);
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = {"", "-wal", ".lock"};
		char path[128];

		snprintf(path, sizeof(path), "%s%s", rig.path, ends[i]);
		CU_ASSERT_EQUAL(stat(path, &status), 0);
		CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
	}
	rig_close(&rig);
	/* One that was opened up is closed again. */
	chmod(rig.path, 0644);
	rig_open(&rig);
	CU_ASSERT_EQUAL(stat(rig.path, &status), 0);
	CU_ASSERT_EQUAL(status.st_mode & 07777, 0600);
	umask(022);
	rig_fini(&rig);
}

static void what_is_no_store_is_left_alone(void)
{
	struct rig rig;

	rig_init(&rig);
	write_file(rig.path, "", 0);
	expect_refusal(&rig, -EMEDIUMTYPE, "empty");
	write_file(rig.path,
		"not a database, but long enough to hold what a "
		"header of SQLite's would: one hundred bytes, "
		"or some more",
		105);
	expect_refusal(&rig, -EMEDIUMTYPE, "no SQLite file");
	unlink(rig.path);
	run_sql(rig.path, "CREATE TABLE songs(name); "
			  "INSERT INTO songs VALUES('x')");
	expect_refusal(&rig, -EMEDIUMTYPE, "another program");
	unlink(rig.path);
	mkdir(rig.path, 0700);
	expect_refusal(&rig, -EMEDIUMTYPE, "no file");
	rig_fini(&rig);
}

static void a_later_schema_is_refused(void)
{
	struct rig rig;

	rig_init_filled(&rig, 3);
	run_sql(rig.path, "PRAGMA user_version = 99");
	expect_refusal(&rig, -EPROTO, "99");
	CU_ASSERT(strstr(rig.why, "later rgovd") != NULL);
	run_sql(rig.path, "PRAGMA user_version = 2");
	rig_open(&rig);
	CU_ASSERT_EQUAL(count_open(&rig), 3);
	rig_fini(&rig);
}

static void an_older_schema_is_brought_up_to_date(void)
{
	struct rig rig;
	struct store_job list = {.op = STORE_LIST,
		.list = {.has_uid = true, .uid = 1000, .limit = 10}};

	rig_init_filled(&rig, 3);
	/* As version 1 left it. */
	run_sql(rig.path, "DROP INDEX task_uid; PRAGMA user_version = 1");
	rig_open(&rig);
	CU_ASSERT_EQUAL(count_open(&rig), 3);
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL(list.n_rows, 3);
	store_job_fini(&list);
	rig_close(&rig);
	rig_open(&rig); /* it is not done twice */
	rig_fini(&rig);
}

static void damage_is_found(void)
{
	struct rig rig;

	/* The name of the format. */
	rig_init_filled(&rig, 3);
	scribble(rig.path, 0, 16);
	expect_refusal(&rig, -EMEDIUMTYPE, "damaged");
	rig_fini(&rig);
	/* What follows it. */
	rig_init_filled(&rig, 3);
	scribble(rig.path, 16, 2);
	expect_refusal(&rig, -EUCLEAN, "damaged");
	rig_fini(&rig);
	/* A page in the middle. */
	rig_init_filled(&rig, 2000);
	scribble(rig.path, 40 * STORE_PAGE_BYTES, STORE_PAGE_BYTES);
	expect_refusal(&rig, -EUCLEAN, "damaged");
	CU_ASSERT(strstr(rig.why, ".recover") != NULL);
	rig_fini(&rig);
	/* The end is gone. */
	rig_init_filled(&rig, 2000);
	CU_ASSERT_EQUAL(truncate(rig.path, 60 * STORE_PAGE_BYTES), 0);
	expect_refusal(&rig, -EUCLEAN, "damaged");
	rig_fini(&rig);
	/* A table is gone, the version is not. */
	rig_init_filled(&rig, 3);
	run_sql(rig.path, "DROP TABLE event");
	expect_refusal(&rig, -EUCLEAN, "event");
	rig_fini(&rig);
}

/* Too large to be checked at the start: the job that meets it is told. */
static void damage_that_shows_later_fails_one_job(void)
{
	struct rig rig;
	struct store_sql sql = {.db = NULL};
	struct store_job jobs[2] = {
		op_job(STORE_BEGIN, 1), op_job(STORE_BEGIN, 2)};
	static char body[100000], into[100000];
	struct store_record record = task_record(1, sizeof(body));
	struct store_job put = put_job(&record, body);

	rig_init(&rig);
	rig_open(&rig);
	rig_run(&rig, &put);
	task_id(2, record.id);
	rig_run(&rig, &put);
	rig_close(&rig);
	rig_open(&rig);
	/* Behind its back; the pages of the first body come first. */
	if (sqlite3_open(rig.path, &sql.db) != SQLITE_OK ||
		sqlite3_exec(sql.db,
			"DELETE FROM request_part WHERE place BETWEEN 128 AND "
			"255",
			NULL, NULL, NULL) != SQLITE_OK)
		abort();
	sqlite3_close(sql.db);
	for (int i = 0; i < 2; i++) {
		jobs[i].begin.into = into;
		jobs[i].begin.into_bytes = sizeof(into);
	}
	rig_run_all(&rig, jobs, 2);
	CU_ASSERT_EQUAL(jobs[0].error, -EUCLEAN);
	CU_ASSERT(strstr(jobs[0].why, "start") != NULL);
	CU_ASSERT_EQUAL(jobs[1].error, 0);
	rig_fini(&rig);
}

static void a_log_without_its_file_is_refused(void)
{
	struct rig rig;
	char log[128];

	rig_init(&rig);
	snprintf(log, sizeof(log), "%s-wal", rig.path);
	write_file(log, "x", 1);
	expect_refusal(&rig, -EUCLEAN, "-wal");
	unlink(log);
	rig_open(&rig);
	rig_fini(&rig);
}

static void one_killed_while_it_was_made_is_made_again(void)
{
	struct rig rig;
	char made[128];

	rig_init(&rig);
	snprintf(made, sizeof(made), "%s.new", rig.path);
	write_file(made, "half", 4);
	rig_open(&rig);
	put_task(&rig, 1, "x");
	CU_ASSERT(access(made, F_OK) != 0);
	rig_fini(&rig);
}

static void a_second_one_is_refused(void)
{
	struct rig rig;
	struct store *second;
	char pid[16];

	rig_init(&rig);
	rig_open(&rig);
	put_task(&rig, 1, "x");
	CU_ASSERT_EQUAL(
		store_open(rig.path, &rig.config, rig.loop, &second, rig.why),
		-EBUSY);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	CU_ASSERT(strstr(rig.why, pid) != NULL);
	CU_ASSERT(strstr(rig.why, "stop") != NULL);
	CU_ASSERT_EQUAL(put_task(&rig, 2, "x"), 0);
	rig_close(&rig);
	rig_open(&rig);
	CU_ASSERT_EQUAL(count_open(&rig), 2);
	rig_fini(&rig);
}

/* As another user, since root may write whatever there is. */
static void what_cannot_be_written_is_refused(void)
{
	struct rig rig;

	if (geteuid() != 0) {
		suite_skip("needs root, to become another user");
		return;
	}
	rig_init_filled(&rig, 1);
	chmod(rig.dir, 0755);
	CU_ASSERT_EQUAL(seteuid(65534), 0);
	/* Not even its lock. */
	CU_ASSERT_EQUAL(rig_try_open(&rig), -EACCES);
	CU_ASSERT(strstr(rig.why, rig.path) != NULL);
	CU_ASSERT_EQUAL(seteuid(0), 0);
	/* The directory is its own, the file is another's, to be read only. */
	CU_ASSERT_EQUAL(chown(rig.dir, 65534, 65534), 0);
	snprintf(rig.why, sizeof(rig.why), "%s.lock", rig.path);
	unlink(rig.why);
	chmod(rig.path, 0444);
	CU_ASSERT_EQUAL(seteuid(65534), 0);
	expect_refusal(&rig, -EROFS, "cannot be written");
	CU_ASSERT_EQUAL(seteuid(0), 0);
	rig_open(&rig);
	CU_ASSERT_EQUAL(count_open(&rig), 1);
	rig_fini(&rig);
}

/* Steps of SQLite's machine, not seconds. */
static int64_t steps_to_recover(struct rig *rig, int *ret_told)
{
	sqlite3_stmt *recover =
		store_sql_get(&rig->store->reader, STORE_SQL_RECOVER);

	sqlite3_stmt_status(recover, SQLITE_STMTSTATUS_VM_STEP, 1);
	*ret_told = 0;
	while (sqlite3_step(recover) == SQLITE_ROW)
		++*ret_told;
	sqlite3_reset(recover);
	CU_ASSERT_EQUAL(
		sqlite3_stmt_status(recover, SQLITE_STMTSTATUS_SORT, 0), 0);
	return sqlite3_stmt_status(recover, SQLITE_STMTSTATUS_VM_STEP, 1);
}

static void fill(struct rig *rig, uint64_t from, int n, bool is_ended)
{
	struct store_record *records = calloc((size_t)n, sizeof(*records));
	struct store_job *jobs = calloc((size_t)n, sizeof(*jobs));

	for (int i = 0; i < n; i++) {
		records[i] = task_record(from + (uint64_t)i, 2);
		jobs[i] = put_job(&records[i], "{}");
	}
	rig_run_all(rig, jobs, n);
	for (int i = 0; is_ended && i < n; i++)
		jobs[i] =
			end_job(rig, from + (uint64_t)i, STORE_SUCCEEDED, "{}");
	if (is_ended)
		rig_run_all(rig, jobs, n);
	free(records);
	free(jobs);
}

static void recovery_costs_what_is_open(void)
{
	struct rig rig;
	int64_t alone, beside, many;
	int told;

	rig_init(&rig);
	rig_open(&rig);
	fill(&rig, 1, 1000, false);
	alone = steps_to_recover(&rig, &told);
	CU_ASSERT_EQUAL(told, 1000);
	fill(&rig, 10001, 20000, true);
	beside = steps_to_recover(&rig, &told);
	CU_ASSERT_EQUAL(told, 1000);
	CU_ASSERT_EQUAL(beside, alone);
	fill(&rig, 50001, 99000, false);
	many = steps_to_recover(&rig, &told);
	CU_ASSERT_EQUAL(told, 100000);
	CU_ASSERT(many <= 101 * alone);
	rig_fini(&rig);
}

SUITE("store open", T(a_new_one_is_private), T(what_is_no_store_is_left_alone),
	T(a_later_schema_is_refused), T(an_older_schema_is_brought_up_to_date),
	T(damage_is_found), T(damage_that_shows_later_fails_one_job),
	T(a_log_without_its_file_is_refused),
	T(one_killed_while_it_was_made_is_made_again),
	T(a_second_one_is_refused), T(what_cannot_be_written_is_refused),
	T(recovery_costs_what_is_open))
