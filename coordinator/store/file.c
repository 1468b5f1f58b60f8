/*
 * The file: locked, judged before SQLite may touch it, made where there is
 * none.
 *
 * A new one is made beside its name and renamed when it is whole, so that what
 * is found under the name is never half a store.
 */
#include "coordinator/store/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of SQLite's format: where it keeps what. */
enum {
	HEADER_BYTES = 100,
	MAGIC_BYTES = 16,
	APPLICATION_ID_AT = 68,
};
/* A file up to this size is checked as a whole: about 0.2 s. */
#define CHECKED_BYTES ((int64_t)64 << 20)

__attribute__((format(printf, 3, 4))) static int refuse(
	char ret_why[STORE_WHY_BYTES], int error, const char *form, ...)
{
	va_list args;

	va_start(args, form);
	(void)vsnprintf(ret_why, STORE_WHY_BYTES, form, args);
	va_end(args);
	return error;
}

static int refuse_errno(char ret_why[STORE_WHY_BYTES], const char *what,
	const char *path, int error)
{
	return refuse(ret_why, -error, "cannot %s %s: %s", what, path,
		strerrordesc_np(error));
}

/* ------------------------------------------------------------ the lock */

static int make_directory(const char *path, char ret_why[STORE_WHY_BYTES])
{
	char copy[PATH_MAX];
	const char *folder;

	if (strlen(path) >= sizeof(copy) - 16)
		return refuse_errno(ret_why, "use", path, ENAMETOOLONG);
	(void)strcpy(copy, path);
	folder = dirname(copy);
	if (mkdir(folder, 0700) != 0 && errno != EEXIST)
		return refuse_errno(
			ret_why, "make the directory", folder, errno);
	return 0;
}

static int refuse_held(int fd, const char *path, const char *lock_path,
	char ret_why[STORE_WHY_BYTES])
{
	char pid[16] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	return refuse(ret_why, -EBUSY,
		"%s: another rgovd, process %s, has this store (it locks %s); "
		"stop that one, or give this one another name or state_dir",
		path, pid[0] != '\0' ? pid : "unknown", lock_path);
}

int store_file_lock(
	const char *path, int *ret_fd, char ret_why[STORE_WHY_BYTES])
{
	char lock_path[PATH_MAX], pid[16];
	int fd, rc = make_directory(path, ret_why);

	if (rc < 0)
		return rc;
	(void)snprintf(lock_path, sizeof(lock_path), "%.*s.lock",
		(int)sizeof(lock_path) - 8, path);
	fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return refuse_errno(ret_why, "make", lock_path, errno);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		rc = errno == EWOULDBLOCK
			     ? refuse_held(fd, path, lock_path, ret_why)
			     : refuse_errno(ret_why, "lock", lock_path, errno);
		(void)close(fd);
		return rc;
	}
	/* Only words for the next one: a full disk may refuse them. */
	(void)snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
		errno = 0;
	*ret_fd = fd;
	return 0;
}

/* ------------------------------------------------------------ a new one */

static int run_script(sqlite3 *db, const char *script)
{
	return sqlite3_exec(db, script, NULL, NULL, NULL);
}

static int fill(struct store_sql *sql)
{
	char first[200];
	int rc;

	/* It is synced once, as a whole, before it gets its name.  The next two
	 * hold only if they come before the first table. */
	(void)snprintf(first, sizeof(first),
		"PRAGMA synchronous = OFF; PRAGMA page_size = %d; "
		"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = %d",
		STORE_PAGE_BYTES, STORE_APPLICATION_ID);
	rc = run_script(sql->db, first);
	if (rc == SQLITE_OK)
		rc = store_schema_migrate(sql, 0);
	return rc == SQLITE_OK
		       ? run_script(sql->db, "PRAGMA journal_mode = WAL")
		       : rc;
}

static int sync_path(const char *path, int flags)
{
	int fd = open(path, flags | O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fsync(fd) != 0 ? -errno : 0;

	if (fd >= 0)
		(void)close(fd);
	return rc;
}

static int put_in_place(
	const char *made, const char *path, char ret_why[STORE_WHY_BYTES])
{
	char copy[PATH_MAX];
	int rc = sync_path(made, 0);

	if (rc == 0 && rename(made, path) != 0)
		rc = -errno;
	(void)snprintf(copy, sizeof(copy), "%s", path);
	if (rc == 0)
		rc = sync_path(dirname(copy), O_DIRECTORY);
	return rc == 0 ? 0 : refuse_errno(ret_why, "make", path, -rc);
}

static void remove_made(const char *made)
{
	static const char *const ends[] = {"", "-journal", "-wal", "-shm"};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		(void)snprintf(path, sizeof(path), "%.*s%s",
			(int)sizeof(path) - 16, made, ends[i]);
		(void)unlink(path);
	}
}

static int make(const char *path, char ret_why[STORE_WHY_BYTES])
{
	struct store_sql sql = {.db = NULL};
	char made[PATH_MAX];
	int fd, rc;

	(void)snprintf(
		made, sizeof(made), "%.*s.new", (int)sizeof(made) - 8, path);
	remove_made(made); /* of one that was killed here */
	fd = open(made, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse_errno(ret_why, "make", made, errno);
	(void)close(fd);
	rc = store_sql_open(&sql, made, 0, STORE_READER_CACHE_KIB);
	if (rc == SQLITE_OK)
		rc = fill(&sql);
	if (rc != SQLITE_OK) {
		char what[PATH_MAX + 32];

		(void)snprintf(what, sizeof(what), "cannot make %s", path);
		rc = store_sql_explain(&sql, rc, what, ret_why);
	}
	store_sql_close(&sql);
	if (rc == 0)
		rc = put_in_place(made, path, ret_why);
	if (rc < 0)
		remove_made(made);
	return rc;
}

/* A log whose file is gone would be taken for that of the new file. */
static int make_first(const char *path, char ret_why[STORE_WHY_BYTES])
{
	char log[PATH_MAX];

	(void)snprintf(
		log, sizeof(log), "%.*s-wal", (int)sizeof(log) - 8, path);
	if (access(log, F_OK) == 0)
		return refuse(ret_why, -EUCLEAN,
			"%s is there and %s is not: they belong together; put "
			"the file back, or move the other away",
			log, path);
	return make(path, ret_why);
}

/* ------------------------------------------------------------ one that is
 * there
 */

static uint32_t big_endian(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 |
	       (uint32_t)at[2] << 8 | at[3];
}

static int judge_header(const char *path, const uint8_t header[HEADER_BYTES],
	ssize_t n, char ret_why[STORE_WHY_BYTES])
{
	uint32_t id = big_endian(header + APPLICATION_ID_AT);

	if (n < HEADER_BYTES ||
		memcmp(header, "SQLite format 3", MAGIC_BYTES) != 0)
		return refuse(ret_why, -EMEDIUMTYPE,
			"%s: expected rgovd's store of tasks, found %s; it is "
			"left as it is: move it away, or name another "
			"state_dir",
			path,
			n == 0 ? "an empty file"
			       : "what is no SQLite file, or one whose begin "
				 "is damaged");
	if (id != STORE_APPLICATION_ID)
		return refuse(ret_why, -EMEDIUMTYPE,
			"%s: expected rgovd's store of tasks (application id "
			"0x%08x), found another program's SQLite file "
			"(0x%08x); it is left as it is: move it away, or name "
			"another state_dir",
			path, STORE_APPLICATION_ID, id);
	return 0;
}

/* Reads by itself: SQLite would write to what it opens.  Before SQLite has it
 * open, since closing this would take SQLite's locks away. */
static int look_at_header(const char *path, char ret_why[STORE_WHY_BYTES])
{
	uint8_t header[HEADER_BYTES] = {0};
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	ssize_t n;

	if (fd < 0)
		return refuse_errno(ret_why, "open", path, errno);
	if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) {
		(void)close(fd);
		return refuse(ret_why, -EMEDIUMTYPE,
			"%s: expected rgovd's store of tasks, found what is no "
			"file; name another state_dir",
			path);
	}
	n = pread(fd, header, sizeof(header), 0);
	if (n < 0)
		rc = refuse_errno(ret_why, "read", path, errno);
	else
		rc = judge_header(path, header, n, ret_why);
	if (rc == 0) /* others are not to read it, whoever opened it up */
		(void)fchmod(fd, 0600);
	(void)close(fd);
	return rc;
}

static int refuse_damaged(
	const char *path, const char *found, char ret_why[STORE_WHY_BYTES])
{
	return refuse(ret_why, -EUCLEAN,
		"%s is damaged: %s; it is left as it is: bring back a copy, or "
		"move it and its -wal away to begin with an empty store "
		"(`sqlite3 FILE .recover` may save what is in it)",
		path, found);
}

static int refuse_sql(struct store_sql *sql, int code, const char *path,
	const char *doing, char ret_why[STORE_WHY_BYTES])
{
	char what[PATH_MAX + 64];

	if (store_sql_errno(sql, code) == -EUCLEAN || code == SQLITE_ERROR)
		return refuse_damaged(
			path, sql->db ? sqlite3_errmsg(sql->db) : "", ret_why);
	(void)snprintf(what, sizeof(what), "cannot %s %s", doing, path);
	return store_sql_explain(sql, code, what, ret_why);
}

static int read_number(sqlite3 *db, const char *pragma, int64_t *ret)
{
	sqlite3_stmt *statement = NULL;
	int rc = sqlite3_prepare_v2(db, pragma, -1, &statement, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(statement, 0);
	(void)sqlite3_finalize(statement);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* SQLite's own check of all pages; SQLITE_CORRUPT: one is wrong. */
static int check_pages(sqlite3 *db)
{
	sqlite3_stmt *check = NULL;
	int rc = sqlite3_prepare_v2(
		db, "PRAGMA quick_check(1)", -1, &check, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(check);
	if (rc == SQLITE_ROW)
		rc = strcmp((const char *)sqlite3_column_text(check, 0),
			     "ok") != 0
			     ? SQLITE_CORRUPT
			     : SQLITE_OK;
	(void)sqlite3_finalize(check);
	return rc;
}

static int judge_version(struct store_sql *sql, const char *path,
	int64_t *ret_version, char ret_why[STORE_WHY_BYTES])
{
	int rc = read_number(sql->db, "PRAGMA user_version", ret_version);

	if (rc != SQLITE_OK)
		return refuse_sql(sql, rc, path, "read", ret_why);
	if (*ret_version > STORE_SCHEMA_VERSION)
		return refuse(ret_why, -EPROTO,
			"%s: expected a store of version %d or older, found "
			"version %lld; a later rgovd made it: start that one, "
			"or name another state_dir",
			path, STORE_SCHEMA_VERSION, (long long)*ret_version);
	if (*ret_version < 1)
		return refuse_damaged(path, "it has no version", ret_why);
	return 0;
}

static int judge_content(
	struct store_sql *sql, const char *path, char ret_why[STORE_WHY_BYTES])
{
	int64_t pages = 0;
	int rc = read_number(sql->db, "PRAGMA page_count", &pages);

	if (rc == SQLITE_OK && pages * STORE_PAGE_BYTES <= CHECKED_BYTES)
		rc = check_pages(sql->db);
	if (rc == SQLITE_CORRUPT)
		return refuse_damaged(
			path, "SQLite's quick_check finds errors", ret_why);
	return rc == SQLITE_OK ? 0
			       : refuse_sql(sql, rc, path, "check", ret_why);
}

/* Nothing has been written yet. */
static int adopt(
	struct store_sql *sql, const char *path, char ret_why[STORE_WHY_BYTES])
{
	int64_t version = 0;
	int code, rc = judge_version(sql, path, &version, ret_why);

	if (rc == 0 && sqlite3_db_readonly(sql->db, "main") == 1)
		rc = refuse(ret_why, -EROFS,
			"%s cannot be written: give it and its directory to "
			"the user that rgovd runs as",
			path);
	if (rc == 0)
		rc = judge_content(sql, path, ret_why);
	if (rc < 0)
		return rc;
	code = version < STORE_SCHEMA_VERSION
		       ? store_schema_migrate(sql, (int)version)
		       : SQLITE_OK;
	if (code != SQLITE_OK)
		return refuse_sql(sql, code, path,
			"bring to the present version", ret_why);
	code = run_script(sql->db, "PRAGMA wal_autocheckpoint = 0; "
				   "PRAGMA journal_size_limit = 16777216");
	if (code == SQLITE_OK)
		code = store_sql_prepare_all(sql);
	return code == SQLITE_OK ? 0
				 : refuse_sql(sql, code, path, "use", ret_why);
}

int store_file_open(
	const char *path, struct store_sql *sql, char ret_why[STORE_WHY_BYTES])
{
	int code, rc = 0;

	if (access(path, F_OK) != 0)
		rc = errno == ENOENT
			     ? make_first(path, ret_why)
			     : refuse_errno(ret_why, "open", path, errno);
	if (rc == 0)
		rc = look_at_header(path, ret_why);
	if (rc < 0)
		return rc;
	code = store_sql_open(sql, path, 0, STORE_WRITER_CACHE_KIB);
	rc = code == SQLITE_OK ? 0
			       : refuse_sql(sql, code, path, "open", ret_why);
	/* What is refused stays as it is, its log, too. */
	if (sql->db != NULL)
		(void)sqlite3_db_config(
			sql->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (rc == 0)
		rc = adopt(sql, path, ret_why);
	if (rc == 0)
		(void)sqlite3_db_config(
			sql->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	else
		store_sql_close(sql);
	return rc;
}
