/* One connection, its statements prepared when first used, its errors in words
 * that never quote what is stored. */
#include "coordinator/store/inside.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const texts[STORE_SQL_COUNT] = {
#define X(name, sql) [STORE_SQL_##name] = (sql),
	STORE_STATEMENTS(X)
#undef X
};

/* Another program that looks into the file may be in the way so long. */
#define BUSY_MS 2000

int store_sql_open(
	struct store_sql *sql, const char *path, int flags, int cache_kib)
{
	char pragmas[200];
	int rc = sqlite3_open_v2(path, &sql->db,
		flags | SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
			SQLITE_OPEN_EXRESCODE,
		NULL);

	if (rc != SQLITE_OK)
		return rc;
	(void)sqlite3_busy_timeout(sql->db, BUSY_MS);
	/* What is deleted is overwritten where that costs no write of its own.
	 */
	(void)snprintf(pragmas, sizeof(pragmas),
		"PRAGMA cache_size = -%d; PRAGMA secure_delete = FAST; "
		"PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; "
		"PRAGMA synchronous = FULL",
		cache_kib);
	return sqlite3_exec(sql->db, pragmas, NULL, NULL, NULL);
}

int store_sql_prepare(struct store_sql *sql, enum store_statement which)
{
	return sqlite3_prepare_v3(sql->db, texts[which], -1,
		SQLITE_PREPARE_PERSISTENT, &sql->statements[which], NULL);
}

int store_sql_prepare_all(struct store_sql *sql)
{
	int rc = SQLITE_OK;

	for (unsigned int i = 0; rc == SQLITE_OK && i < STORE_SQL_COUNT; i++)
		if (sql->statements[i] == NULL)
			rc = store_sql_prepare(sql, (enum store_statement)i);
	return rc;
}

void store_sql_close(struct store_sql *sql)
{
	for (unsigned int i = 0; i < STORE_SQL_COUNT; i++)
		(void)sqlite3_finalize(sql->statements[i]);
	(void)sqlite3_close(sql->db);
	*sql = (struct store_sql){.db = NULL};
}

sqlite3_stmt *store_sql_get(struct store_sql *sql, enum store_statement which)
{
	assert(sql->statements[which] != NULL);
	return sql->statements[which];
}

int store_sql_run(sqlite3_stmt *statement)
{
	int rc = sqlite3_step(statement);

	while (rc == SQLITE_ROW) /* PRAGMA incremental_vacuum */
		rc = sqlite3_step(statement);
	(void)sqlite3_reset(statement);
	(void)sqlite3_clear_bindings(statement);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int store_sql_do(struct store_sql *sql, enum store_statement which)
{
	return store_sql_run(store_sql_get(sql, which));
}

int store_sql_number(
	struct store_sql *sql, enum store_statement which, int64_t *ret_number)
{
	sqlite3_stmt *statement = store_sql_get(sql, which);
	int rc = sqlite3_step(statement);

	if (rc == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(statement, 0);
	(void)sqlite3_reset(statement);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* What the system said last of the log, or of the file; 0: nothing.  SQLite's
 * own sqlite3_system_errno() does not know of a commit. */
static int file_errno(sqlite3 *db)
{
	static const int files[] = {
		SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER};
	int error = 0;

	for (unsigned int i = 0; i < 2 && error <= 0; i++) {
		sqlite3_file *file = NULL;

		if (sqlite3_file_control(db, "main", files[i], &file) ==
				SQLITE_OK &&
			file != NULL && file->pMethods != NULL)
			(void)file->pMethods->xFileControl(
				file, SQLITE_FCNTL_LAST_ERRNO, &error);
	}
	return error;
}

static int system_errno(const struct store_sql *sql, int code, int otherwise)
{
	int error = 0;

	if (sql->db != NULL)
		error = code == SQLITE_IOERR ? file_errno(sql->db)
					     : sqlite3_system_errno(sql->db);
	return error > 0 ? -error : -otherwise;
}

int store_sql_errno(const struct store_sql *sql, int code)
{
	/* The index of the log could not be made longer. */
	if (code == SQLITE_IOERR_SHMSIZE)
		return -ENOSPC;
	switch (code & 0xff) {
	case SQLITE_OK:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_TOOBIG:
		return -EFBIG;
	case SQLITE_MISMATCH:
	case SQLITE_MISUSE:
		return -EINVAL;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return system_errno(sql, SQLITE_CANTOPEN, EACCES);
	default:
		return system_errno(sql, code & 0xff, EIO);
	}
}

int store_sql_explain(const struct store_sql *sql, int code, const char *what,
	char ret_why[STORE_WHY_BYTES])
{
	int error = store_sql_errno(sql, code);

	(void)snprintf(ret_why, STORE_WHY_BYTES, "%s: %s (SQLite: %s, %d)",
		what, strerrordesc_np(-error), sqlite3_errstr(code), code);
	return error;
}
