/* Bodies and replies, in parts: no more than one part is ever copied inside
 * SQLite. */
#include "coordinator/store/inside.h"

#include <string.h>

enum { PART_BITS = 7, PART_BYTES = 256 << 10 };
_Static_assert(STORE_BODY_MAX <= PART_BYTES << PART_BITS, "the parts suffice");

static const struct {
	enum store_statement put, get, drop;
} statements[] = {
	[STORE_REQUEST] = {STORE_SQL_REQUEST_PUT, STORE_SQL_REQUEST_GET,
		STORE_SQL_REQUEST_DROP},
	[STORE_REPLY] = {STORE_SQL_REPLY_PUT, STORE_SQL_REPLY_GET,
		STORE_SQL_REPLY_DROP},
};

static int64_t first_place(int64_t seq)
{
	return seq << PART_BITS;
}

static sqlite3_stmt *range(
	struct store_sql *sql, enum store_statement which, int64_t seq)
{
	sqlite3_stmt *statement = store_sql_get(sql, which);

	(void)sqlite3_bind_int64(statement, 1, first_place(seq));
	(void)sqlite3_bind_int64(statement, 2, first_place(seq + 1) - 1);
	return statement;
}

int store_parts_put(struct store_sql *sql, enum store_body which, int64_t seq,
	const char *body, size_t bytes)
{
	sqlite3_stmt *put = store_sql_get(sql, statements[which].put);
	int64_t place = first_place(seq);
	int rc = SQLITE_OK;

	for (size_t at = 0; rc == SQLITE_OK && at < bytes; at += PART_BYTES) {
		size_t n = bytes - at < PART_BYTES ? bytes - at : PART_BYTES;

		(void)sqlite3_bind_int64(put, 1, place++);
		(void)sqlite3_bind_blob(
			put, 2, body + at, (int)n, SQLITE_STATIC);
		rc = store_sql_run(put);
	}
	return rc;
}

int store_parts_get(struct store_sql *sql, enum store_body which, int64_t seq,
	char *into, size_t bytes)
{
	sqlite3_stmt *get = range(sql, statements[which].get, seq);
	size_t at = 0;
	int rc;

	while ((rc = sqlite3_step(get)) == SQLITE_ROW) {
		const void *part = sqlite3_column_blob(get, 0);
		size_t n = (size_t)sqlite3_column_bytes(get, 0);

		if (part == NULL || n > bytes - at)
			break;
		memcpy(into + at, part, n);
		at += n;
	}
	if (rc == SQLITE_ROW)
		rc = sqlite3_errcode(sqlite3_db_handle(get)) == SQLITE_NOMEM
			     ? SQLITE_NOMEM
			     : SQLITE_CORRUPT;
	else if (rc == SQLITE_DONE)
		rc = at == bytes ? SQLITE_OK : SQLITE_CORRUPT;
	(void)sqlite3_reset(get);
	return rc;
}

int store_parts_drop(struct store_sql *sql, enum store_body which, int64_t seq)
{
	return store_sql_run(range(sql, statements[which].drop, seq));
}
