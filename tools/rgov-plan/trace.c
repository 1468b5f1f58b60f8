#include "tools/rgov-plan/trace.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* Jenkins' falls through without saying so, which clang remarks. */
#define HASH_FUNCTION(key, bytes, hash) HASH_FNV(key, bytes, hash)
#include <uthash.h>

enum {
	MOST_TOLD = 20,         /* bad lines that are told one by one */
	MOST_BYTES = 64 * 1024, /* of a line; rgovd writes less than 4096 */
	MOST_NAME = 63,
	MOST_MODEL = 2047
};
#define MOST_TOKENS 1000000000000.0
#define MOST_UNIX_S 1e11

/* A text with a number; of users, of models. */
struct known {
	UT_hash_handle hh;
	uint32_t index;
	char text[];
};

struct trace {
	const struct trace_reading *reading;
	struct load *load;
	struct known *users, *models;
	char *line;
	size_t room;
	uint64_t number; /* of the line */
	uint64_t n_bad;
	bool has_header, has_origin;
	double origin_s;   /* `started` of the first header that says it */
	double offset_s;   /* of the present one, after that */
	double end_s;      /* of the last record */
	uint64_t cut_line; /* the line before may have been cut; 0: not */
	char cut_words[160];
	bool no_memory;
};

/* ------------------------------------------------------------ bad lines */

static void tell(struct trace *trace, uint64_t number, const char *words)
{
	if (++trace->n_bad > MOST_TOLD)
		return;
	(void)fprintf(trace->reading->words, "%s:%llu: %s\n",
		trace->reading->file, (unsigned long long)number, words);
}

__attribute__((format(printf, 2, 3))) static bool complain(
	struct trace *trace, const char *format, ...)
{
	char words[256];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(words, sizeof(words), format, arguments);
	va_end(arguments);
	for (char *at = words; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e)
			*at = '?';
	tell(trace, trace->number, words);
	return false;
}

/* What was found, as JSON, cut. */
static const char *quote(const json_t *value, char ret_text[64])
{
	char *text = value == NULL ? NULL
				   : json_dumps(value,
					     JSON_ENCODE_ANY | JSON_COMPACT);

	(void)snprintf(ret_text, 64, "%.60s",
		value == NULL  ? "nothing"
		: text == NULL ? "something else"
			       : text);
	free(text);
	return ret_text;
}

static bool expect(struct trace *trace, const char *name, const char *what,
	const json_t *value)
{
	char found[64];

	return complain(trace, "%s: expected %s, found %s", name, what,
		quote(value, found));
}

/* ------------------------------------------------------------ members */

/* A number of 0 to most; absent: as it was, unless it must be there. */
static bool take_number(struct trace *trace, const json_t *record,
	const char *name, double most, bool must, double *ret)
{
	const json_t *value = json_object_get(record, name);
	char what[64];
	double number;

	if (value == NULL && !must)
		return true;
	number = json_is_number(value) ? json_number_value(value) : -1;
	if (number >= 0 && number <= most) {
		*ret = number;
		return true;
	}
	(void)snprintf(what, sizeof(what), "a number of 0 to %.0f", most);
	return expect(trace, name, what, value);
}

static bool take_time(struct trace *trace, const json_t *record,
	const char *name, bool must, double *ret)
{
	return take_number(trace, record, name, DRAW_MOST_S, must, ret);
}

static bool take_tokens(struct trace *trace, const json_t *record,
	const char *name, bool must, int64_t *ret)
{
	double number = (double)*ret;

	if (!take_number(trace, record, name, MOST_TOKENS, must, &number))
		return false;
	if (number != floor(number))
		return expect(trace, name, "a whole number",
			json_object_get(record, name));
	*ret = (int64_t)number;
	return true;
}

/* Absent: *ret stays. */
static bool take_text(struct trace *trace, const json_t *record,
	const char *name, size_t most, bool must, const char **ret)
{
	const json_t *value = json_object_get(record, name);
	const char *text = json_string_value(value);
	char what[64];
	size_t n = text ? strlen(text) : 0;

	if (value == NULL && !must)
		return true;
	if (text != NULL && n <= most && (n > 0 || !must)) {
		*ret = text;
		return true;
	}
	(void)snprintf(
		what, sizeof(what), "a text of %d to %zu bytes", must, most);
	return expect(trace, name, what, value);
}

static bool take_word(struct trace *trace, const json_t *record,
	const char *name, const char *what, const char *const *words, size_t n,
	size_t *ret)
{
	const json_t *value = json_object_get(record, name);
	const char *text = json_string_value(value);

	if (value == NULL)
		return true;
	for (size_t i = 0; text != NULL && i < n; i++)
		if (strcmp(text, words[i]) == 0) {
			*ret = i;
			return true;
		}
	return expect(trace, name, what, value);
}

/* ------------------------------------------------------------ names */

/* The number of a text; a new one gets the next. */
static bool number_of(struct trace *trace, struct known **known,
	const char *text, size_t n, uint32_t *ret_index, bool *ret_is_new)
{
	struct known *one;

	HASH_FIND(hh, *known, text, n, one);
	*ret_is_new = one == NULL;
	if (one == NULL) {
		one = malloc(sizeof(*one) + n);
		if (one == NULL) {
			trace->no_memory = true;
			return false;
		}
		memcpy(one->text, text, n);
		one->index = (uint32_t)HASH_COUNT(*known);
		HASH_ADD(hh, *known, text, n, one);
	}
	*ret_index = one->index;
	return true;
}

static bool find_user(struct trace *trace, const char *name, const char *app,
	uint32_t *ret_index)
{
	struct load *load = trace->load;
	char key[2 * MOST_NAME + 2];
	struct load_user *users;
	bool is_new;
	/* With the zero between them, no two pairs look alike. */
	int n = snprintf(key, sizeof(key), "%s%c%s", name, '\0', app);

	if (!number_of(
		    trace, &trace->users, key, (size_t)n, ret_index, &is_new))
		return false;
	if (!is_new)
		return true;
	users = load_grow(load->users, load->n_users, sizeof(*users));
	if (users == NULL) {
		trace->no_memory = true;
		return false;
	}
	load->users = users;
	users[load->n_users] =
		(struct load_user){.name = strdup(name), .app = strdup(app)};
	trace->no_memory = users[load->n_users].name == NULL ||
			   users[load->n_users].app == NULL;
	load->n_users++;
	return !trace->no_memory;
}

static bool find_model(
	struct trace *trace, const char *model, uint32_t *ret_index)
{
	bool is_new;

	if (!number_of(trace, &trace->models, model, strlen(model), ret_index,
		    &is_new))
		return false;
	if (is_new && load_model(trace->load, model, ret_index) < 0)
		trace->no_memory = true;
	return !trace->no_memory;
}

/* ------------------------------------------------------------ a record */

struct record {
	double arrival_s, end_s, deadline_s, execution_s;
	int64_t input_tokens, max_tokens;
	struct policy_usage used;
	const char *user, *app, *model, *outcome;
	size_t class, is_permit;
};

static bool take_names(
	struct trace *trace, const json_t *json, struct record *record)
{
	static const char *const classes[] = {"interactive", "normal", "batch"};
	static const char *const kinds[] = {"call", "permit"};

	return take_text(trace, json, "user", MOST_NAME, true, &record->user) &&
	       take_text(trace, json, "app", MOST_NAME, false, &record->app) &&
	       take_text(trace, json, "model", MOST_MODEL, true,
		       &record->model) &&
	       take_word(trace, json, "class", "interactive, normal or batch",
		       classes, POLICY_CLASSES, &record->class) &&
	       take_word(trace, json, "kind", "call or permit", kinds, 2,
		       &record->is_permit);
}

static bool take_all_tokens(
	struct trace *trace, const json_t *json, struct record *record)
{
	struct policy_usage *used = &record->used;

	return take_tokens(trace, json, "input_tokens", true,
		       &record->input_tokens) &&
	       take_tokens(
		       trace, json, "max_tokens", false, &record->max_tokens) &&
	       take_tokens(trace, json, "used_input_tokens", false,
		       &used->input_tokens) &&
	       take_tokens(trace, json, "used_output_tokens", false,
		       &used->output_tokens) &&
	       take_tokens(trace, json, "cache_read_tokens", false,
		       &used->cache_read_tokens) &&
	       take_tokens(trace, json, "cache_write_tokens", false,
		       &used->cache_write_tokens);
}

/* One that was refused for another reason would be so again, whatever the
 * limits. */
static bool is_of_limit(const char *reason)
{
	static const char *const reasons[] = {
		"queue_full", "user_limit", "too_large", "late"};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (strcmp(reason, reasons[i]) == 0)
			return true;
	return false;
}

static bool take_outcome(
	struct trace *trace, const json_t *json, struct record *record)
{
	static const char *const words[] = {
		"ok", "error", "throttled", "failed", "deadline", "cancelled"};
	const json_t *value = json_object_get(json, "outcome");
	const char *text = json_string_value(value);

	for (size_t i = 0; text != NULL && i < sizeof(words) / sizeof(words[0]);
		i++)
		if (strcmp(text, words[i]) == 0)
			record->outcome = words[i];
	if (text != NULL && strncmp(text, "refused:", 8) == 0)
		record->outcome = is_of_limit(text + 8) ? "refused" : "unfit";
	return record->outcome != NULL ||
	       expect(trace, "outcome",
		       "ok, error, throttled, failed, deadline, cancelled or "
		       "refused:REASON",
		       value);
}

static bool take_times(
	struct trace *trace, const json_t *json, struct record *record)
{
	double unused;
	bool is_ok = strcmp(record->outcome, "ok") == 0;

	if (!take_time(trace, json, "arrival", true, &record->arrival_s) ||
		!take_time(trace, json, "end", false, &record->end_s) ||
		!take_time(trace, json, "deadline_s", false,
			&record->deadline_s) ||
		!take_time(trace, json, "wait_s", false, &unused) ||
		!take_time(trace, json, "execution_s", is_ok,
			&record->execution_s))
		return false;
	if (record->end_s < 0)
		return true;
	if (record->end_s < record->arrival_s)
		return expect(trace, "end", "a time not before arrival",
			json_object_get(json, "end"));
	if (record->end_s < trace->end_s)
		return expect(trace, "end",
			"a time not before that of the record before",
			json_object_get(json, "end"));
	return true;
}

static bool keep(struct trace *trace, const struct record *record)
{
	struct load *load = trace->load;
	struct load_question *questions =
		load_grow(load->trace, load->n_trace, sizeof(*questions));
	struct load_question *question;

	if (questions == NULL) {
		trace->no_memory = true;
		return false;
	}
	load->trace = questions;
	question = &questions[load->n_trace];
	*question = (struct load_question){
		.arrival_ns =
			LOAD_BEGIN_NS +
			(uint64_t)((record->arrival_s + trace->offset_s) * 1e9),
		.latency_ns = record->execution_s < 0
				      ? UINT64_MAX /* not known */
				      : (uint64_t)(record->execution_s * 1e9),
		.timeout_ns = (uint64_t)(record->deadline_s * 1e9),
		.number = load->n_trace,
		.input_tokens = (uint64_t)record->input_tokens,
		.max_tokens = (uint64_t)record->max_tokens,
		.used = record->used,
		.class = (enum policy_class)record->class,
		.is_permit = record->is_permit == 1,
	};
	if (!find_user(trace, record->user, record->app, &question->user) ||
		!find_model(trace, record->model, &question->model))
		return false;
	load->n_trace++;
	return true;
}

static void take_record(struct trace *trace, const json_t *json)
{
	struct record record = {.end_s = -1,
		.execution_s = -1,
		.used = {-1, -1, -1, -1},
		.app = "",
		.class = POLICY_NORMAL};

	if (take_names(trace, json, &record) &&
		take_all_tokens(trace, json, &record) &&
		take_outcome(trace, json, &record) &&
		take_times(trace, json, &record) &&
		(strcmp(record.outcome, "unfit") == 0 ||
			keep(trace, &record)) &&
		record.end_s >= 0)
		trace->end_s = record.end_s;
}

/* ------------------------------------------------------------ a header */

static bool take_settings(struct trace *trace, json_t *settings)
{
	struct load *load = trace->load;
	const char *key;
	json_t *value;

	if (!json_is_object(settings))
		return expect(trace, "settings", "an object", settings);
	json_object_foreach(settings, key, value)
	{
		struct load_setting *all = load_grow(
			load->settings, load->n_settings, sizeof(*all));

		if (!json_is_string(value))
			return expect(
				trace, "settings", "values as texts", value);
		if (all == NULL) {
			trace->no_memory = true;
			return false;
		}
		load->settings = all;
		all[load->n_settings] = (struct load_setting){
			strdup(key), strdup(json_string_value(value))};
		trace->no_memory = all[load->n_settings].key == NULL ||
				   all[load->n_settings].value == NULL;
		load->n_settings++;
		if (trace->no_memory)
			return false;
	}
	return true;
}

static void take_header(struct trace *trace, const json_t *json)
{
	const json_t *version = json_object_get(json, "rgov_trace");
	json_t *settings = json_object_get(json, "settings");
	double started_s = -1;
	bool is_first = !trace->has_header;

	if (!json_is_integer(version) || json_integer_value(version) != 1) {
		(void)expect(trace, "rgov_trace", "1", version);
		return;
	}
	if (!take_number(
		    trace, json, "started", MOST_UNIX_S, false, &started_s))
		return;
	if (started_s >= 0 && !trace->has_origin && is_first) {
		trace->has_origin = true;
		trace->origin_s = started_s;
		trace->load->day_offset_ns =
			(uint64_t)(fmod(started_s, 86400) * 1e9);
	}
	if (started_s >= 0 && trace->has_origin) {
		if (started_s < trace->origin_s ||
			started_s - trace->origin_s > DRAW_MOST_S) {
			(void)expect(trace, "started",
				"a time not before the first header's",
				json_object_get(json, "started"));
			return;
		}
		trace->offset_s = started_s - trace->origin_s;
	}
	trace->has_header = true;
	trace->end_s = 0;
	if (is_first && settings != NULL)
		(void)take_settings(trace, settings);
}

/* ------------------------------------------------------------ lines */

/* A line that is no JSON may have been cut when its writer was killed: then
 * the file ends here, or a header follows. */
static void forgive_or_tell(struct trace *trace, bool was_cut)
{
	if (trace->cut_line == 0)
		return;
	if (was_cut)
		(void)fprintf(trace->reading->words,
			"%s:%llu: the line was cut, and is left out\n",
			trace->reading->file,
			(unsigned long long)trace->cut_line);
	else
		tell(trace, trace->cut_line, trace->cut_words);
	trace->cut_line = 0;
}

static void note_cut(struct trace *trace, const json_error_t *error)
{
	trace->cut_line = trace->number;
	(void)snprintf(trace->cut_words, sizeof(trace->cut_words),
		"record: expected a JSON object, found column %d: %.90s",
		error->column, error->text);
	for (char *at = trace->cut_words; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e)
			*at = '?';
}

static void take_line(struct trace *trace, size_t n, bool is_whole)
{
	json_error_t error;
	json_t *json;
	bool is_header;

	trace->number++;
	if (n > MOST_BYTES) {
		forgive_or_tell(trace, false);
		(void)complain(trace,
			"record: expected at most %d bytes, found %zu",
			MOST_BYTES, n);
		return;
	}
	json = json_loadb(trace->line, n, JSON_REJECT_DUPLICATES, &error);
	is_header = json_object_get(json, "rgov_trace") != NULL;
	forgive_or_tell(trace, is_header);
	if (json == NULL) {
		note_cut(trace, &error);
		if (!is_whole)
			forgive_or_tell(trace, true);
	} else if (is_header) {
		take_header(trace, json);
	} else if (!json_is_object(json)) {
		(void)expect(trace, "record", "a JSON object", json);
	} else {
		if (!trace->has_header && trace->number == 1)
			(void)complain(trace, "rgov_trace: expected a header "
					      "first, found none");
		take_record(trace, json);
	}
	json_decref(json);
}

static int take_lines(struct trace *trace, FILE *in)
{
	ssize_t n;

	errno = 0;
	while (!trace->no_memory &&
		(n = getline(&trace->line, &trace->room, in)) > 0) {
		bool is_whole = trace->line[n - 1] == '\n';

		take_line(trace, (size_t)n - is_whole, is_whole);
	}
	if (trace->no_memory || (!feof(in) && !ferror(in)))
		return -ENOMEM; /* a line of gigabytes, too */
	forgive_or_tell(trace, false);
	return ferror(in) ? -EIO : 0;
}

/* ------------------------------------------------------------ the whole */

static int by_arrival(const void *a, const void *b)
{
	const struct load_question *x = a, *y = b;

	if (x->arrival_ns != y->arrival_ns)
		return x->arrival_ns < y->arrival_ns ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What never ran takes the median of what did. */
static int fill_latencies(struct load *load)
{
	uint64_t *known = calloc(load->n_trace + 1, sizeof(*known));
	uint64_t median = 0;
	size_t n = 0;

	if (known == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < load->n_trace; i++)
		if (load->trace[i].latency_ns != UINT64_MAX)
			known[n++] = load->trace[i].latency_ns;
	if (n > 0) {
		qsort(known, n, sizeof(*known), by_size);
		median = known[n / 2];
	}
	for (size_t i = 0; i < load->n_trace; i++)
		if (load->trace[i].latency_ns == UINT64_MAX)
			load->trace[i].latency_ns = median;
	free(known);
	return 0;
}

static int conclude(struct trace *trace)
{
	struct load *load = trace->load;

	if (trace->n_bad > MOST_TOLD)
		(void)fprintf(trace->reading->words,
			"%s: %llu more bad lines\n", trace->reading->file,
			(unsigned long long)(trace->n_bad - MOST_TOLD));
	if (trace->n_bad > 0 && !trace->reading->skip_bad)
		return -EINVAL;
	load->bad_lines = trace->n_bad;
	if (load->n_trace == 0) {
		(void)fprintf(trace->reading->words,
			"%s: expected at least one record, found none\n",
			trace->reading->file);
		return -EINVAL;
	}
	qsort(load->trace, load->n_trace, sizeof(*load->trace), by_arrival);
	return fill_latencies(load);
}

static void forget(struct known **known)
{
	struct known *one = *known, *next;

	HASH_CLEAR(hh, *known); /* the table; the texts are ours */
	for (; one != NULL; one = next) {
		next = one->hh.next;
		free(one);
	}
}

int trace_read(FILE *in, const struct trace_reading *reading, struct load *load)
{
	struct trace trace = {.reading = reading, .load = load};
	int rc = take_lines(&trace, in);

	if (rc == 0)
		rc = conclude(&trace);
	forget(&trace.users);
	forget(&trace.models);
	free(trace.line);
	return rc;
}
