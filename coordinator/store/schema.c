/*
 * The tables.  A step is never changed once it has been released; a new one is
 * appended.
 *
 * Bodies and replies have tables of their own, so that scanning records reads
 * little; in parts, so that no 25 MB are ever in memory twice.  The place of a
 * part or an event is its task's seq and its number in one integer: they lie
 * together, at the end of their table.
 */
#include "coordinator/store/inside.h"

#include <stdio.h>

const char *const store_schema_steps[STORE_SCHEMA_VERSION] = {
	[0] = "CREATE TABLE task("
	      " seq INTEGER PRIMARY KEY," /* the order of submission */
	      " id BLOB NOT NULL,"
	      " uid INTEGER NOT NULL,"
	      " state INTEGER NOT NULL,"
	      " operation INTEGER NOT NULL,"
	      " class INTEGER NOT NULL,"
	      " is_idempotent INTEGER NOT NULL,"
	      " model TEXT NOT NULL,"
	      " user TEXT NOT NULL,"
	      " app TEXT NOT NULL,"
	      " headers TEXT NOT NULL,"
	      " key TEXT," /* NULL: none */
	      " callback TEXT NOT NULL,"
	      " digest BLOB NOT NULL,"
	      " body_sha256 BLOB NOT NULL,"
	      " body_bytes INTEGER NOT NULL,"
	      " submitted_ns INTEGER NOT NULL,"
	      " deadline_ns INTEGER NOT NULL,"
	      " estimate_in INTEGER NOT NULL,"
	      " estimate_out INTEGER NOT NULL,"
	      " started_ns INTEGER NOT NULL DEFAULT 0,"
	      " runs INTEGER NOT NULL DEFAULT 0,"
	      " events INTEGER NOT NULL DEFAULT 0,"
	      " reply_state INTEGER NOT NULL DEFAULT 0,"
	      " callback_state INTEGER NOT NULL DEFAULT 0,"
	      " ended_ns INTEGER NOT NULL DEFAULT 0,"
	      /* What follows is NULL until it has ended. */
	      " reply_bytes INTEGER,"
	      " result INTEGER,"
	      " http_status INTEGER,"
	      " attempts INTEGER,"
	      " used_in INTEGER,"
	      " used_out INTEGER,"
	      " cache_read INTEGER,"
	      " cache_write INTEGER,"
	      " queued_ns INTEGER,"
	      " executing_ns INTEGER,"
	      " code TEXT,"
	      " message TEXT,"
	      " request_id TEXT,"
	      " answered_by TEXT);"
	      "CREATE UNIQUE INDEX task_id ON task(id);"
	      "CREATE UNIQUE INDEX task_key ON task(uid, key)"
	      " WHERE key IS NOT NULL;"
	      "CREATE INDEX task_open ON task(seq) WHERE state < 2;"
	      "CREATE INDEX task_ended ON task(ended_ns) WHERE state >= 2;"
	      "CREATE INDEX task_reply ON task(ended_ns)"
	      " WHERE reply_state = 1;"
	      "CREATE INDEX task_callback ON task(seq)"
	      " WHERE callback_state = 1;"
	      "CREATE TABLE request_part("
	      " place INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"
	      "CREATE TABLE reply_part("
	      " place INTEGER PRIMARY KEY, bytes BLOB NOT NULL);"
	      "CREATE TABLE event("
	      " place INTEGER PRIMARY KEY,"
	      " at_ns INTEGER NOT NULL,"
	      " event INTEGER NOT NULL,"
	      " detail INTEGER NOT NULL,"
	      " text TEXT NOT NULL);",
	/* Lists of one uid, when others have most of the tasks. */
	[1] = "CREATE INDEX task_uid ON task(uid, id);",
};

int store_schema_migrate(struct store_sql *sql, int from)
{
	char version[64];
	int rc = sqlite3_exec(sql->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	for (int i = from; rc == SQLITE_OK && i < STORE_SCHEMA_VERSION; i++)
		rc = sqlite3_exec(
			sql->db, store_schema_steps[i], NULL, NULL, NULL);
	(void)snprintf(version, sizeof(version),
		"PRAGMA user_version = %d; COMMIT", STORE_SCHEMA_VERSION);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sql->db, version, NULL, NULL, NULL);
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(sql->db))
		(void)sqlite3_exec(sql->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}
