/* Tables of tasks, and of what happened to one. */
#include "client-lib/task.h"

#include "client-lib/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int check_filter(const struct rgov_task_filter *filter)
{
	int rc = 0;

	if (filter->size != sizeof(*filter))
		return fail(-EINVAL, "filter.size: expected %zu, found %zu",
			sizeof(*filter), filter->size);
	if (filter->most > SHM_TASK_ROWS_MAX)
		return fail(-EINVAL, "most: expected at most %d rows, found %u",
			SHM_TASK_ROWS_MAX, filter->most);
	if (filter->states >> SHM_TASK_STATE_COUNT != 0)
		return fail(-EINVAL,
			"states: expected bits of enum rgov_task_state, found "
			"0x%x",
			filter->states);
	if (filter->user != NULL)
		rc = check_text("user", filter->user, SHM_USER_BYTES - 1);
	if (rc == 0 && filter->text != NULL)
		rc = check_text("text", filter->text, SHM_TASK_TEXT_BYTES);
	return rc;
}

static void describe(
	const struct rgov_task_filter *filter, struct client_task *ret_words)
{
	memset(ret_words, 0, sizeof(*ret_words));
	ret_words->states = filter->states;
	ret_words->most = filter->most;
	if (filter->older_than != NULL)
		memcpy(ret_words->id, filter->older_than->bytes,
			sizeof(ret_words->id));
	if (filter->text == NULL)
		return;
	ret_words->text_bytes = (uint16_t)strlen(filter->text);
	memcpy(ret_words->text, filter->text, ret_words->text_bytes);
}

/* What rgovd says to a question whose answer is a table. */
static int error_of(const struct rgov_reply *reply)
{
	switch ((unsigned int)reply->result) {
	case RGOV_R_OK:
		return 0;
	case RGOV_R_NO_TASK:
		return fail(-ENOENT, "%s", reply->message);
	case RGOV_R_NOT_YOURS:
		return fail(-EPERM, "%s", reply->message);
	case RGOV_R_NO_MEMORY:
		return fail(-ENOMEM, "%s", reply->message);
	case RGOV_R_DEADLINE:
		return fail(-ETIMEDOUT, "%s", reply->message);
	default:
		return fail(-EIO, "%s", reply->message);
	}
}

static void fill_row(struct rgov_task_row *row, const struct shm_task_row *from)
{
	memcpy(row->id.bytes, from->id, sizeof(row->id.bytes));
	row->state = from->state;
	row->result = from->result;
	row->http_status = from->http_status;
	row->priority = from->class;
	row->has_reply = from->has_reply;
	row->uid = from->uid;
	row->runs = from->runs;
	row->submitted_ns = from->submitted_ns;
	row->started_ns = from->started_ns;
	row->ended_ns = from->ended_ns;
	row->deadline_ns = from->deadline_ns;
	memcpy(row->user, from->user, sizeof(row->user) - 1);
	memcpy(row->model, from->model, sizeof(row->model) - 1);
	memcpy(row->key, from->key, sizeof(row->key) - 1);
}

/* The body as a table of its own; the number of its rows, or -ENOMEM. */
static int take_rows(
	const struct rgov_reply *reply, struct rgov_task_row **ret_table)
{
	const struct shm_task_row *from = reply->body;
	size_t n = reply->body_bytes / sizeof(*from);
	struct rgov_task_row *table = calloc(n + 1, sizeof(*table));

	if (table == NULL)
		return fail(-ENOMEM, "no memory for a table of tasks");
	for (size_t i = 0; i < n; i++)
		fill_row(&table[i], &from[i]);
	*ret_table = table;
	return (int)n;
}

int rgov_task_list(struct rgov *gov, const struct rgov_task_filter *filter,
	struct rgov_task_row **ret_table)
{
	struct client_task words;
	struct rgov_reply reply;
	int rc = check_filter(filter);

	if (rc < 0)
		return rc;
	describe(filter, &words);
	rc = task_question(gov,
		&(struct submission){.kind = SHM_TASK_VERB,
			.task = &words,
			.verb = SHM_TASK_LIST,
			.timeout_ms = TASK_QUESTION_MS,
			.filter_user = filter->user},
		&reply, NULL);
	if (rc == 0)
		rc = error_of(&reply);
	if (rc == 0)
		rc = take_rows(&reply, ret_table);
	rgov_reply_fini(&reply);
	return rc;
}

static int take_events(
	const struct rgov_reply *reply, struct rgov_task_event **ret_table)
{
	const struct shm_task_event *from = reply->body;
	size_t n = reply->body_bytes / sizeof(*from);
	struct rgov_task_event *table = calloc(n + 1, sizeof(*table));

	if (table == NULL)
		return fail(-ENOMEM, "no memory for a table of events");
	for (size_t i = 0; i < n; i++) {
		table[i].at_ns = from[i].at_ns;
		memcpy(table[i].what, from[i].what, sizeof(table[i].what) - 1);
		memcpy(table[i].detail, from[i].detail,
			sizeof(table[i].detail) - 1);
	}
	*ret_table = table;
	return (int)n;
}

int rgov_task_history(struct rgov *gov, const struct rgov_task_id *id,
	struct rgov_task_event **ret_table)
{
	struct client_task words;
	struct rgov_reply reply;
	int rc;

	memset(&words, 0, sizeof(words));
	memcpy(words.id, id->bytes, sizeof(words.id));
	rc = task_question(gov,
		&(struct submission){.kind = SHM_TASK_VERB,
			.task = &words,
			.verb = SHM_TASK_HISTORY,
			.timeout_ms = TASK_QUESTION_MS},
		&reply, NULL);
	if (rc == 0)
		rc = error_of(&reply);
	if (rc == 0)
		rc = take_events(&reply, ret_table);
	rgov_reply_fini(&reply);
	return rc;
}
