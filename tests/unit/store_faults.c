/*
 * Disks that are full, broken, slow or somebody else's for a while: a shim
 * under SQLite says so, at the call where a real one would.
 */
#include "coordinator/store/inside.h"
#include "tests/unit/store_rig.h"

#include <assert.h>

/* ------------------------------------------------------------ the shim */

/* What happens at the next calls; read by the store's thread. */
static _Atomic int write_code, sync_code; /* SQLite's; 0: goes on */
static _Atomic int writes_left = -1;      /* good ones before; -1: all */
static _Atomic unsigned int sync_delay_us;
static _Atomic int n_syncs, n_log_syncs;
static _Atomic int system_error; /* what the system is said to have said */

struct shim_file {
	sqlite3_file base;
	bool is_log;
	sqlite3_file *real;
};

static sqlite3_vfs *real_vfs;

static sqlite3_file *real(sqlite3_file *file)
{
	return ((struct shim_file *)(void *)file)->real;
}

static int shim_close(sqlite3_file *file)
{
	return real(file)->pMethods->xClose(real(file));
}

static int shim_read(sqlite3_file *file, void *to, int n, sqlite3_int64 at)
{
	return real(file)->pMethods->xRead(real(file), to, n, at);
}

static int shim_write(
	sqlite3_file *file, const void *from, int n, sqlite3_int64 at)
{
	int code = write_code;

	if (code != SQLITE_OK && writes_left <= 0)
		return code;
	if (code != SQLITE_OK)
		writes_left--;
	return real(file)->pMethods->xWrite(real(file), from, n, at);
}

static int shim_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	return real(file)->pMethods->xTruncate(real(file), size);
}

static int shim_sync(sqlite3_file *file, int flags)
{
	n_syncs++;
	n_log_syncs += ((struct shim_file *)(void *)file)->is_log;
	if (sync_delay_us > 0)
		usleep(sync_delay_us);
	return sync_code != SQLITE_OK
		       ? sync_code
		       : real(file)->pMethods->xSync(real(file), flags);
}

static int shim_size(sqlite3_file *file, sqlite3_int64 *ret)
{
	return real(file)->pMethods->xFileSize(real(file), ret);
}

static int shim_lock(sqlite3_file *file, int how)
{
	return real(file)->pMethods->xLock(real(file), how);
}

static int shim_unlock(sqlite3_file *file, int how)
{
	return real(file)->pMethods->xUnlock(real(file), how);
}

static int shim_check_lock(sqlite3_file *file, int *ret)
{
	return real(file)->pMethods->xCheckReservedLock(real(file), ret);
}

static int shim_control(sqlite3_file *file, int op, void *arg)
{
	if (op == SQLITE_FCNTL_LAST_ERRNO && system_error != 0) {
		*(int *)arg = system_error;
		return SQLITE_OK;
	}
	return real(file)->pMethods->xFileControl(real(file), op, arg);
}

static int shim_sector(sqlite3_file *file)
{
	return real(file)->pMethods->xSectorSize(real(file));
}

static int shim_device(sqlite3_file *file)
{
	return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int shim_shm_map(sqlite3_file *file, int region, int size, int extend,
	void volatile **ret)
{
	return real(file)->pMethods->xShmMap(
		real(file), region, size, extend, ret);
}

static int shim_shm_lock(sqlite3_file *file, int at, int n, int flags)
{
	return real(file)->pMethods->xShmLock(real(file), at, n, flags);
}

static void shim_shm_barrier(sqlite3_file *file)
{
	real(file)->pMethods->xShmBarrier(real(file));
}

static int shim_shm_unmap(sqlite3_file *file, int remove)
{
	return real(file)->pMethods->xShmUnmap(real(file), remove);
}

static const sqlite3_io_methods shim_methods = {.iVersion = 2,
	.xClose = shim_close,
	.xRead = shim_read,
	.xWrite = shim_write,
	.xTruncate = shim_truncate,
	.xSync = shim_sync,
	.xFileSize = shim_size,
	.xLock = shim_lock,
	.xUnlock = shim_unlock,
	.xCheckReservedLock = shim_check_lock,
	.xFileControl = shim_control,
	.xSectorSize = shim_sector,
	.xDeviceCharacteristics = shim_device,
	.xShmMap = shim_shm_map,
	.xShmLock = shim_shm_lock,
	.xShmBarrier = shim_shm_barrier,
	.xShmUnmap = shim_shm_unmap};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file,
	int flags, int *ret_flags)
{
	struct shim_file *shim = (struct shim_file *)(void *)file;
	int rc;

	(void)vfs;
	shim->real = (sqlite3_file *)(void *)(shim + 1);
	shim->is_log = (flags & SQLITE_OPEN_WAL) != 0;
	rc = real_vfs->xOpen(real_vfs, name, shim->real, flags, ret_flags);
	shim->base.pMethods =
		shim->real->pMethods != NULL ? &shim_methods : NULL;
	return rc;
}

static void install_shim(void)
{
	static sqlite3_vfs shim;

	if (real_vfs != NULL)
		return;
	real_vfs = sqlite3_vfs_find(NULL);
	shim = *real_vfs;
	shim.zName = "shim";
	shim.szOsFile = (int)sizeof(struct shim_file) + real_vfs->szOsFile;
	shim.xOpen = shim_open;
	sqlite3_vfs_register(&shim, 1);
}

static void heal(void)
{
	write_code = sync_code = SQLITE_OK;
	writes_left = -1;
	sync_delay_us = 0;
	system_error = 0;
}

static void rig_init_shimmed(struct rig *rig)
{
	install_shim();
	heal();
	rig_init(rig);
	rig_open(rig);
}

/* ------------------------------------------------------------ the tests */

static void what_is_told_was_synced(void)
{
	struct rig rig;
	struct store_job begin = op_job(STORE_BEGIN, 1);
	struct store_job note = op_job(STORE_NOTE, 1);
	int before;

	rig_init_shimmed(&rig);
	before = n_log_syncs;
	CU_ASSERT_EQUAL(put_task(&rig, 1, "x"), 0);
	/* The first one of a log syncs its head, too. */
	CU_ASSERT(n_log_syncs > before);
	before = n_log_syncs;
	CU_ASSERT_EQUAL(put_task(&rig, 2, "x"), 0);
	CU_ASSERT_EQUAL(n_log_syncs, before + 1);
	/* These do not wait for the disk. */
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
	CU_ASSERT_EQUAL(rig_run(&rig, &note), 0);
	CU_ASSERT_EQUAL(n_log_syncs, before + 1);
	begin.begin.is_durable = true;
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
	CU_ASSERT_EQUAL(n_log_syncs, before + 2);
	CU_ASSERT_EQUAL(end_task(&rig, 1, STORE_FAILED, "y"), 0);
	CU_ASSERT_EQUAL(n_log_syncs, before + 3);
	rig_fini(&rig);
}

static void many_share_one_sync(void)
{
	enum { N = 64 };
	struct store_record records[N];
	struct store_job jobs[N];
	struct rig rig;
	int before;

	rig_init_shimmed(&rig);
	put_task(&rig, 1000, "x");
	before = n_log_syncs;
	sync_delay_us = 20000; /* the first alone, all others behind it */
	for (int i = 0; i < N; i++) {
		records[i] = task_record((uint64_t)i + 1, 1);
		jobs[i] = put_job(&records[i], "x");
	}
	rig_run_all(&rig, jobs, N);
	CU_ASSERT(n_log_syncs - before <= 2);
	rig_fini(&rig);
}

static const struct {
	int code, system_error, error;
	const char *word;
} write_faults[] = {
	{SQLITE_FULL, ENOSPC, -ENOSPC, "No space left"},
	{SQLITE_IOERR_WRITE, EIO, -EIO, "Input/output error"},
	{SQLITE_IOERR_WRITE, EFBIG, -EFBIG, "File too large"},
	{SQLITE_IOERR_WRITE, EDQUOT, -EDQUOT, "quota"},
	{SQLITE_READONLY, 0, -EROFS, "Read-only"},
};

/* Fails after 0, 1, 2 … good writes: nothing is half done, whatever the write
 * was. */
static void a_batch_fails_whole_and_the_next_is_stored(void)
{
	enum { N = 6 };
	struct store_record records[N];
	struct store_job jobs[N];

	for (size_t f = 0; f < sizeof(write_faults) / sizeof(write_faults[0]);
		f++) {
		struct rig rig;
		struct store_stats stats;
		uint64_t number = 10;

		rig_init_shimmed(&rig);
		put_task(&rig, 1, "before");
		for (int good = 0; good < 4; good++) {
			struct store_job begin = op_job(STORE_BEGIN, 1);

			system_error = write_faults[f].system_error;
			writes_left = good;
			write_code = write_faults[f].code;
			for (int i = 0; i < N; i++) {
				records[i] = task_record(number++, 5);
				jobs[i] = put_job(&records[i], "after");
			}
			rig_run_all(&rig, jobs, N);
			for (int i = 0; i < N; i++) {
				CU_ASSERT_EQUAL(
					jobs[i].error, write_faults[f].error);
				CU_ASSERT(
					strstr(jobs[i].why,
						write_faults[f].word) != NULL);
			}
			/* What is only read goes on. */
			for (int i = 0; i < N; i++) {
				struct store_record *found = look_at(
					&rig, task_number(records[i].id));

				CU_ASSERT_PTR_NULL(found);
				free(found);
			}
			store_read_stats(rig.store, &stats);
			CU_ASSERT(stats.trouble[0] != '\0');
			heal();
			CU_ASSERT_EQUAL(put_task(&rig, number++, "then"), 0);
			CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
			store_read_stats(rig.store, &stats);
			CU_ASSERT_EQUAL(stats.trouble[0], '\0');
		}
		rig_close(&rig);
		rig_open(&rig);
		put_task(&rig, number, "reopened");
		rig_fini(&rig);
	}
}

static void a_failed_sync_is_no_acknowledgement(void)
{
	struct rig rig;
	struct store_job begin = op_job(STORE_BEGIN, 1);
	struct store_record *found;
	int syncs;

	rig_init_shimmed(&rig);
	put_task(&rig, 1, "before");
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0); /* not synced */
	sync_code = SQLITE_IOERR_FSYNC;
	system_error = EIO;
	CU_ASSERT_EQUAL(put_task(&rig, 2, "x"), -EIO);
	/* As long as it cannot bring all into the file it takes nothing. */
	CU_ASSERT_EQUAL(put_task(&rig, 3, "x"), -EIO);
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), -EIO);
	heal();
	syncs = n_syncs - n_log_syncs;
	CU_ASSERT_EQUAL(put_task(&rig, 4, "x"), 0);
	CU_ASSERT(n_syncs - n_log_syncs > syncs); /* the file's own */
	found = look_at(&rig, 2);
	CU_ASSERT_PTR_NULL(found);
	free(found);
	found = look_at(&rig, 1);
	CU_ASSERT_EQUAL(found->runs, 1);
	free(found);
	rig_fini(&rig);
}

/* While the disk takes its time the loop turns, and questions are answered. */
static void a_slow_disk_holds_nobody_up(void)
{
	struct rig rig;
	struct store_record record = task_record(2, 1);
	struct store_job put = put_job(&record, "x");
	struct store_record *found;
	int done = 0;

	rig_init_shimmed(&rig);
	put_task(&rig, 1, "x");
	sync_delay_us = 1000000;
	put.done = rig_done;
	put.owner = &done;
	store_submit(rig.store, &put);
	for (int i = 0; i < 20; i++) {
		found = look_at(&rig, 1);
		CU_ASSERT_PTR_NOT_NULL(found);
		free(found);
	}
	CU_ASSERT_EQUAL(done, 0);
	/* It is not there for anybody before it is on disk. */
	found = look_at(&rig, 2);
	CU_ASSERT_PTR_NULL(found);
	free(found);
	CU_ASSERT_EQUAL(done, 0);
	sync_delay_us = 0;
	while (done == 0) {
		loop_step(rig.loop, loop_now_ns() + 1000000000u);
		store_collect(rig.store);
	}
	CU_ASSERT_EQUAL(put.error, 0);
	rig_fini(&rig);
}

static void another_writer_is_waited_for_then_named(void)
{
	struct rig rig;
	sqlite3 *other;

	rig_init_shimmed(&rig);
	put_task(&rig, 1, "x");
	if (sqlite3_open(rig.path, &other) != SQLITE_OK ||
		sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL) !=
			SQLITE_OK)
		abort();
	CU_ASSERT_EQUAL(put_task(&rig, 2, "x"), -EBUSY);
	sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close(other);
	CU_ASSERT_EQUAL(put_task(&rig, 2, "x"), 0);
	rig_fini(&rig);
}

/* The file may not grow: what does not fit fails, a smaller one still fits. */
static void one_that_does_not_fit_fails_alone(void)
{
	enum { BYTES = 8 << 20 };
	char *body = calloc(1, BYTES);
	struct rig rig;
	struct store_record large = task_record(2, BYTES),
			    small = task_record(3, 5);
	struct store_job jobs[2] = {
		put_job(&large, body), put_job(&small, "small")};

	rig_init_shimmed(&rig);
	put_task(&rig, 1, "x");
	sqlite3_exec(rig.store->writer.db, "PRAGMA max_page_count = 300", NULL,
		NULL, NULL);
	rig_run_all(&rig, jobs, 2);
	CU_ASSERT_EQUAL(jobs[0].error, -ENOSPC);
	CU_ASSERT_EQUAL(jobs[1].error, 0);
	free(body);
	rig_fini(&rig);
}

static void a_disk_that_is_full_at_the_start_is_named(void)
{
	struct rig rig;

	install_shim();
	heal();
	rig_init(&rig);
	write_code = SQLITE_FULL;
	system_error = ENOSPC;
	CU_ASSERT_EQUAL(rig_try_open(&rig), -ENOSPC);
	CU_ASSERT(strstr(rig.why, rig.path) != NULL);
	CU_ASSERT(strstr(rig.why, "No space left") != NULL);
	CU_ASSERT(access(rig.path, F_OK) != 0);
	heal();
	rig_open(&rig);
	CU_ASSERT_EQUAL(put_task(&rig, 1, "x"), 0);
	rig_fini(&rig);
}

SUITE("store faults", T(what_is_told_was_synced), T(many_share_one_sync),
	T(a_batch_fails_whole_and_the_next_is_stored),
	T(a_failed_sync_is_no_acknowledgement), T(a_slow_disk_holds_nobody_up),
	T(another_writer_is_waited_for_then_named),
	T(one_that_does_not_fit_fails_alone),
	T(a_disk_that_is_full_at_the_start_is_named))
