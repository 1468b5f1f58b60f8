/* A record as a row of the table, and back. */
#include "coordinator/store/inside.h"

#include <stdlib.h>
#include <string.h>

/* Takes the columns in their order: STORE_COLUMNS. */
struct reader {
	sqlite3_stmt *row;
	int column;
};

static int64_t number(struct reader *reader)
{
	return sqlite3_column_int64(reader->row, reader->column++);
}

static const char *text(struct reader *reader)
{
	const unsigned char *found =
		sqlite3_column_text(reader->row, reader->column++);

	return found == NULL ? "" : (const char *)found;
}

/* One of another size is a damaged file; it reads as zeros. */
static void bytes(struct reader *reader, uint8_t *ret, size_t n)
{
	const void *found = sqlite3_column_blob(reader->row, reader->column);
	int size = sqlite3_column_bytes(reader->row, reader->column++);

	memset(ret, 0, n);
	if (found != NULL && (size_t)size == n)
		memcpy(ret, found, n);
}

static void read_request(struct reader *reader, struct store_record *ret)
{
	bytes(reader, ret->id, sizeof(ret->id));
	ret->uid = (uint32_t)number(reader);
	ret->state = (enum store_state)number(reader);
	ret->operation = (uint8_t)number(reader);
	ret->class = (uint8_t)number(reader);
	ret->is_idempotent = number(reader) != 0;
	ret->model = text(reader);
	ret->user = text(reader);
	ret->app = text(reader);
	ret->headers = text(reader);
	ret->key = text(reader);
	ret->callback = text(reader);
	bytes(reader, ret->digest, sizeof(ret->digest));
	bytes(reader, ret->body_sha256, sizeof(ret->body_sha256));
	ret->body_bytes = (size_t)number(reader);
	ret->submitted_ns = number(reader);
	ret->deadline_ns = number(reader);
	ret->input_tokens = number(reader);
	ret->output_tokens = number(reader);
	ret->started_ns = number(reader);
	ret->runs = (uint32_t)number(reader);
}

static void read_ending(struct reader *reader, struct store_ending *ret)
{
	ret->result = (int32_t)number(reader);
	ret->http_status = (int32_t)number(reader);
	ret->attempts = (uint32_t)number(reader);
	ret->input_tokens = number(reader);
	ret->output_tokens = number(reader);
	ret->cache_read_tokens = number(reader);
	ret->cache_write_tokens = number(reader);
	ret->queued_ns = (uint64_t)number(reader);
	ret->executing_ns = (uint64_t)number(reader);
	ret->code = text(reader);
	ret->message = text(reader);
	ret->request_id = text(reader);
	ret->model = text(reader);
}

void store_row_view(sqlite3_stmt *row, struct store_record *ret_record)
{
	struct reader reader = {row, 1};

	read_request(&reader, ret_record);
	ret_record->ended_ns = number(&reader);
	read_ending(&reader, &ret_record->ending);
	ret_record->reply_state = (enum store_reply)number(&reader);
	ret_record->reply_bytes = (size_t)number(&reader);
	ret_record->callback_state = (enum store_callback)number(&reader);
}

int64_t store_row_seq(sqlite3_stmt *row)
{
	return sqlite3_column_int64(row, 0);
}

/* Every text of a record. */
enum { TEXTS = 10 };

static void list_texts(struct store_record *record, const char **ret[TEXTS])
{
	const char **all[TEXTS] = {&record->model, &record->user, &record->app,
		&record->headers, &record->key, &record->callback,
		&record->ending.code, &record->ending.message,
		&record->ending.request_id, &record->ending.model};

	memcpy(ret, all, sizeof(all));
}

struct store_record *store_row_copy(const struct store_record *record)
{
	struct store_record copy = *record, *made;
	const char **fields[TEXTS];
	size_t size = sizeof(copy), lengths[TEXTS];
	char *end;

	list_texts(&copy, fields);
	for (int i = 0; i < TEXTS; i++) {
		lengths[i] = strlen(*fields[i]) + 1;
		size += lengths[i];
	}
	made = malloc(size);
	if (made == NULL)
		return NULL;
	end = (char *)(made + 1);
	for (int i = 0; i < TEXTS; i++) {
		*fields[i] = memcpy(end, *fields[i], lengths[i]);
		end += lengths[i];
	}
	*made = copy;
	return made;
}

/* Binds the parameters in their order. */
struct binder {
	sqlite3_stmt *statement;
	int parameter;
};

static void bind_number(struct binder *to, int64_t value)
{
	(void)sqlite3_bind_int64(to->statement, to->parameter++, value);
}

static void bind_text(struct binder *to, const char *value)
{
	(void)sqlite3_bind_text(to->statement, to->parameter++,
		value == NULL ? "" : value, -1, SQLITE_STATIC);
}

static void bind_bytes(struct binder *to, const uint8_t *value, int n)
{
	(void)sqlite3_bind_blob(
		to->statement, to->parameter++, value, n, SQLITE_STATIC);
}

/* NULL is no member of the index of keys. */
static void bind_key(struct binder *to, const char *key)
{
	if (key == NULL || key[0] == '\0')
		to->parameter++;
	else
		bind_text(to, key);
}

void store_row_bind_put(sqlite3_stmt *put, const struct store_record *record)
{
	struct binder to = {put, 1};

	bind_bytes(&to, record->id, STORE_ID_BYTES);
	bind_number(&to, record->uid);
	bind_number(&to, record->operation);
	bind_number(&to, record->class);
	bind_number(&to, record->is_idempotent);
	bind_text(&to, record->model);
	bind_text(&to, record->user);
	bind_text(&to, record->app);
	bind_text(&to, record->headers);
	bind_key(&to, record->key);
	bind_text(&to, record->callback);
	bind_bytes(&to, record->digest, STORE_DIGEST_BYTES);
	bind_bytes(&to, record->body_sha256, STORE_DIGEST_BYTES);
	bind_number(&to, (int64_t)record->body_bytes);
	bind_number(&to, record->submitted_ns);
	bind_number(&to, record->deadline_ns);
	bind_number(&to, record->input_tokens);
	bind_number(&to, record->output_tokens);
}

void store_row_bind_end(sqlite3_stmt *end, const struct store_job *job)
{
	const struct store_ending *ending = &job->end.ending;
	struct binder to = {end, 1};

	bind_bytes(&to, job->id, STORE_ID_BYTES);
	bind_number(&to, job->end.state);
	bind_number(&to, job->end.at_ns);
	bind_number(&to, ending->result);
	bind_number(&to, ending->http_status);
	bind_number(&to, ending->attempts);
	bind_number(&to, ending->input_tokens);
	bind_number(&to, ending->output_tokens);
	bind_number(&to, ending->cache_read_tokens);
	bind_number(&to, ending->cache_write_tokens);
	bind_number(&to, (int64_t)ending->queued_ns);
	bind_number(&to, (int64_t)ending->executing_ns);
	bind_text(&to, ending->code);
	bind_text(&to, ending->message);
	bind_text(&to, ending->request_id);
	bind_text(&to, ending->model);
	bind_number(&to, (int64_t)job->end.reply_bytes);
}
