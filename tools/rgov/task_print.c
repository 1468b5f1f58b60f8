/* Tasks for people and, as JSON, for programs. */
#include "tools/rgov/task_command.h"

#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

enum { TIME_BYTES = 32 };

static const char *const classes[] = {[RGOV_INTERACTIVE] = "interactive",
	[RGOV_NORMAL] = "normal",
	[RGOV_BATCH] = "batch"};

static double seconds(uint64_t ns)
{
	return (double)ns * 1e-9;
}

static bool has_ended(enum rgov_task_state state)
{
	return state >= RGOV_T_SUCCEEDED;
}

/* Local time, to the millisecond; "-" of what has not been yet. */
static const char *time_text(uint64_t ns, char text[TIME_BYTES])
{
	time_t at = (time_t)(ns / 1000000000);
	struct tm local;
	size_t n;

	(void)snprintf(text, TIME_BYTES, "-");
	if (ns == 0 || localtime_r(&at, &local) == NULL)
		return text;
	n = strftime(text, TIME_BYTES, "%F %T", &local);
	(void)snprintf(text + n, TIME_BYTES - n, ".%03u",
		(unsigned int)(ns / 1000000 % 1000));
	return text;
}

static int is_printed(const struct task_command *command, bool is_good)
{
	if (is_good && fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	return complain(command->invocation, EX_IOERR, "cannot print: %s",
		strerror(errno));
}

/* ------------------------------------------------------------ JSON */

static void put(json_t *to, const char *name, json_t *value)
{
	(void)json_object_set_new(to, name, value);
}

static void put_count(json_t *to, const char *name, uint64_t n)
{
	put(to, name, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
}

/* Rounded to the microsecond: more digits are noise. */
static void put_seconds(json_t *to, const char *name, uint64_t ns)
{
	put(to, name, json_real(round(seconds(ns) * 1e6) / 1e6));
}

/* Since 1970; null: not yet. */
static void put_time(json_t *to, const char *name, uint64_t ns)
{
	if (ns == 0)
		put(to, name, json_null());
	else
		put_seconds(to, name, ns);
}

static void put_tokens(json_t *to, const char *name, int64_t n)
{
	put(to, name, n < 0 ? json_null() : json_integer(n));
}

static void put_text(json_t *to, const char *name, const char *text)
{
	put(to, name, json_string(text));
}

static void put_id(json_t *to, const struct rgov_task_id *id)
{
	char text[RGOV_TASK_ID_BYTES];

	rgov_task_id_text(id, text);
	put_text(to, "id", text);
}

static void put_end(json_t *to, const struct rgov_task *task)
{
	put_text(to, "result", rgov_result_name(task->result));
	put_count(to, "http_status", (uint64_t)task->http_status);
	put_count(to, "attempts", task->attempts);
	put_tokens(to, "input_tokens", task->input_tokens);
	put_tokens(to, "output_tokens", task->output_tokens);
	put_tokens(to, "cache_read_tokens", task->cache_read_tokens);
	put_tokens(to, "cache_write_tokens", task->cache_write_tokens);
	put_seconds(to, "wait_s", task->wait_ns);
	put_seconds(to, "execution_s", task->execution_ns);
	put_text(to, "code", task->code);
	put_text(to, "message", task->message);
	put_text(to, "request_id", task->request_id);
	put_text(to, "model", task->model);
}

static json_t *json_of_task(const struct rgov_task *task)
{
	json_t *to = json_object();

	put_id(to, &task->id);
	put_text(to, "state", rgov_task_state_name(task->state));
	put_time(to, "submitted", task->submitted_ns);
	put_time(to, "started", task->started_ns);
	put_time(to, "ended", task->ended_ns);
	put_time(to, "forget", task->forget_ns);
	put_count(to, "runs", task->runs);
	if (has_ended(task->state)) {
		put_end(to, task);
	} else if (task->position != 0) {
		put_count(to, "position", task->position);
		put_seconds(to, "predicted_s", task->predicted_ns);
	}
	return to;
}

static json_t *json_of_row(const struct rgov_task_row *row)
{
	json_t *to = json_object();

	put_id(to, &row->id);
	put_text(to, "state", rgov_task_state_name(row->state));
	put_text(to, "user", row->user);
	put_text(to, "model", row->model);
	put_text(to, "key", row->key);
	put_text(to, "priority",
		(unsigned int)row->priority <= RGOV_BATCH
			? classes[row->priority]
			: "");
	put_count(to, "uid", row->uid);
	put_count(to, "runs", row->runs);
	put_time(to, "submitted", row->submitted_ns);
	put_time(to, "started", row->started_ns);
	put_time(to, "ended", row->ended_ns);
	put_time(to, "deadline", row->deadline_ns);
	put(to, "has_reply", json_boolean(row->has_reply));
	if (has_ended(row->state)) {
		put_text(to, "result", rgov_result_name(row->result));
		put_count(to, "http_status", (uint64_t)row->http_status);
	}
	return to;
}

static json_t *json_of_event(const struct rgov_task_event *event)
{
	json_t *to = json_object();

	put_time(to, "at", event->at_ns);
	put_text(to, "what", event->what);
	put_text(to, "detail", event->detail);
	return to;
}

/* The document is used up. */
static int print_json(const struct task_command *command, json_t *document)
{
	bool is_good = json_dumpf(document, stdout,
			       JSON_INDENT(2) | JSON_REAL_PRECISION(16)) == 0 &&
		       putchar('\n') != EOF;

	json_decref(document);
	return is_printed(command, is_good);
}

/* ------------------------------------------------------------ one task */

static void print_time(const char *name, uint64_t ns)
{
	char text[TIME_BYTES];

	if (ns != 0)
		(void)printf("%-10s %s\n", name, time_text(ns, text));
}

static void print_tokens(const struct rgov_task *task)
{
	if (task->input_tokens >= 0)
		(void)printf("%-10s %" PRId64 " in, %" PRId64 " out\n",
			"tokens", task->input_tokens,
			task->output_tokens < 0 ? 0 : task->output_tokens);
}

static void print_end(const struct rgov_task *task)
{
	(void)printf("%-10s %s", "result", rgov_result_name(task->result));
	if (task->http_status != 0)
		(void)printf(" (HTTP %d)", task->http_status);
	(void)printf("%s%s%s%s\n", task->code[0] != '\0' ? ": " : "",
		task->code, task->message[0] != '\0' ? ": " : "",
		task->message);
	(void)printf("%-10s waited %.3f s, took %.3f s, attempts %" PRIu32
		     ", request id %s\n",
		"figures", seconds(task->wait_ns), seconds(task->execution_ns),
		task->attempts,
		task->request_id[0] != '\0' ? task->request_id : "-");
	print_tokens(task);
	if (task->model[0] != '\0')
		(void)printf("%-10s %s\n", "answered", task->model);
}

static void print_place(const struct rgov_task *task)
{
	if (task->position != 0)
		(void)printf(", place %" PRIu32 ", starts in %.1f s",
			task->position, seconds(task->predicted_ns));
	if (task->runs > 1)
		(void)printf(", run %" PRIu32, task->runs);
}

int task_print(const struct task_command *command, struct rgov_task *task)
{
	char id[RGOV_TASK_ID_BYTES];

	text_clean(task->code, sizeof(task->code));
	text_clean(task->message, sizeof(task->message));
	text_clean(task->request_id, sizeof(task->request_id));
	text_clean(task->model, sizeof(task->model));
	if (command->is_json)
		return print_json(command, json_of_task(task));
	rgov_task_id_text(&task->id, id);
	(void)printf("%-10s %s\n%-10s %s", "id", id, "state",
		rgov_task_state_name(task->state));
	print_place(task);
	(void)putchar('\n');
	print_time("submitted", task->submitted_ns);
	print_time("started", task->started_ns);
	print_time("ended", task->ended_ns);
	print_time("kept until", task->forget_ns);
	if (has_ended(task->state))
		print_end(task);
	return is_printed(command, true);
}

/* ------------------------------------------------------------ tables */

static void print_row(const struct rgov_task_row *row)
{
	char id[RGOV_TASK_ID_BYTES], submitted[TIME_BYTES], ended[TIME_BYTES];

	rgov_task_id_text(&row->id, id);
	(void)printf("%-36s  %-9s  %-23s  %-23s  %-16s %-30s %s\n", id,
		rgov_task_state_name(row->state),
		time_text(row->submitted_ns, submitted),
		time_text(row->ended_ns, ended), row->user, row->model,
		row->key);
}

int task_print_rows(
	const struct task_command *command, struct rgov_task_row *rows, int n)
{
	json_t *all = json_array();

	if (!command->is_json)
		(void)printf("%-36s  %-9s  %-23s  %-23s  %-16s %-30s %s\n",
			"id", "state", "submitted", "ended", "user", "model",
			"key");
	for (int i = 0; i < n; i++) {
		text_clean(rows[i].user, sizeof(rows[i].user));
		text_clean(rows[i].model, sizeof(rows[i].model));
		text_clean(rows[i].key, sizeof(rows[i].key));
		if (command->is_json)
			(void)json_array_append_new(all, json_of_row(&rows[i]));
		else
			print_row(&rows[i]);
	}
	if (command->is_json)
		return print_json(command, all);
	json_decref(all);
	return is_printed(command, true);
}

int task_print_events(const struct task_command *command,
	struct rgov_task_event *events, int n)
{
	json_t *all = json_array();
	char at[TIME_BYTES];

	for (int i = 0; i < n; i++) {
		text_clean(events[i].what, sizeof(events[i].what));
		text_clean(events[i].detail, sizeof(events[i].detail));
		if (command->is_json)
			(void)json_array_append_new(
				all, json_of_event(&events[i]));
		else
			(void)printf("%s  %-12s  %s\n",
				time_text(events[i].at_ns, at), events[i].what,
				events[i].detail);
	}
	if (command->is_json)
		return print_json(command, all);
	json_decref(all);
	return is_printed(command, true);
}
