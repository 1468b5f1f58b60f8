#include "coordinator/trace.h"

#include "coordinator/log.h"
#include "coordinator/record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_BYTES = 32 * 1024 };

struct trace {
	struct record *record;
	uint64_t started_ns; /* CLOCK_MONOTONIC: 0 of all its times */
	double started_unix_s;
	bool is_losing; /* and the log knows */
};

/* ------------------------------------------------------------ header */

struct header {
	FILE *out;
	size_t n;
};

static void put_text(FILE *out, const char *text)
{
	char quoted[LINE_BYTES / 2];

	(void)log_quote(text, quoted, sizeof(quoted));
	(void)fputs(quoted, out);
}

static void put_setting(void *arg, const char *path, const char *value)
{
	struct header *header = arg;

	(void)fputs(header->n++ > 0 ? "," : "", header->out);
	put_text(header->out, path);
	(void)fputc(':', header->out);
	put_text(header->out, value);
}

/* NULL: no memory. */
static char *make_header(const struct trace *trace, const struct config *config)
{
	char *text = NULL;
	size_t bytes;
	struct header header = {.out = open_memstream(&text, &bytes)};

	if (header.out == NULL)
		return NULL;
	(void)fprintf(header.out,
		"{\"rgov_trace\":1,\"started\":%.6f,\"version\":\"" RGOV_VERSION
		"\",\"governor\":",
		trace->started_unix_s);
	put_text(header.out, config->name);
	(void)fputs(",\"settings\":{", header.out);
	config_each_limit(config, put_setting, &header);
	(void)fputs("}}\n", header.out);
	if (fclose(header.out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

/* ------------------------------------------------------------ life */

static int create(struct trace **ret_trace)
{
	struct trace *trace = calloc(1, sizeof(*trace));
	struct timespec now;
	int rc;

	if (trace == NULL)
		return -ENOMEM;
	rc = record_create(&trace->record);
	if (rc < 0) {
		free(trace);
		return rc;
	}
	trace->started_ns = loop_now_ns();
	(void)clock_gettime(CLOCK_REALTIME, &now);
	trace->started_unix_s = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	*ret_trace = trace;
	return 0;
}

int trace_open(struct trace **trace, const struct config *config)
{
	char *header;
	int rc;

	if (*trace == NULL && config->record == NULL)
		return 0;
	rc = *trace == NULL ? create(trace) : 0;
	if (rc < 0)
		return rc;
	if (config->record == NULL)
		return record_open((*trace)->record, NULL, NULL);
	header = make_header(*trace, config);
	rc = header == NULL
		     ? -ENOMEM
		     : record_open((*trace)->record, config->record, header);
	free(header);
	return rc;
}

void trace_free(struct trace *trace)
{
	if (trace == NULL)
		return;
	record_free(trace->record);
	free(trace);
}

uint64_t trace_lost(struct trace *trace)
{
	uint64_t lost;
	int error;

	if (trace == NULL)
		return 0;
	lost = record_lost(trace->record, &error);
	if (error != 0 && !trace->is_losing)
		LOG(LOG_ERROR, "record.lost",
			"the trace of the traffic has gaps from now on",
			F_S("reason", strerrordesc_np(error)),
			F_I("lines", lost));
	trace->is_losing = error != 0;
	return lost;
}

/* ------------------------------------------------------------ a record */

struct line {
	char bytes[LINE_BYTES];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void put(
	struct line *line, const char *format, ...)
{
	va_list arguments;
	int wrote;

	va_start(arguments, format);
	wrote = vsnprintf(line->bytes + line->used, LINE_BYTES - line->used,
		format, arguments);
	va_end(arguments);
	line->used += (size_t)wrote;
}

static void put_name(struct line *line, const char *name, const char *text)
{
	put(line, "\"%s\":", name);
	/* The longest is a model id of 2,047 bytes, six times as long when it
	 * is escaped: four such texts fit. */
	line->used += log_quote(
		text, line->bytes + line->used, (LINE_BYTES - line->used) / 2);
	put(line, ",");
}

static void put_tokens(struct line *line, const char *name, int64_t tokens)
{
	if (tokens >= 0)
		put(line, ",\"%s\":%lld", name, (long long)tokens);
}

static double seconds(uint64_t from_ns, uint64_t to_ns)
{
	return from_ns == 0 || to_ns < from_ns
		       ? 0
		       : (double)(to_ns - from_ns) / 1e9;
}

static const char *class_of(const struct request *request)
{
	switch (request->policy.class) {
	case POLICY_INTERACTIVE:
		return "interactive";
	case POLICY_BATCH:
		return "batch";
	case POLICY_NORMAL:
	case POLICY_CLASSES:
		break;
	}
	return "normal";
}

static void record(struct trace *trace, const struct request *request,
	const char *outcome, const struct policy_usage *used)
{
	const struct policy_request *policy = &request->policy;
	uint64_t now = loop_now_ns();
	uint64_t arrived_ns = request->accepted_ns ? request->accepted_ns : now;
	uint64_t started_ns =
		request->first_start_ns ? request->first_start_ns : now;
	struct line line;

	line.used = 0;
	put(&line, "{\"arrival\":%.6f,\"end\":%.6f,",
		seconds(trace->started_ns, arrived_ns),
		seconds(trace->started_ns, now));
	put_name(&line, "user", policy->user);
	put_name(&line, "app", policy->app ? policy->app : "");
	put_name(&line, "label", request_app(request));
	put_name(&line, "model", policy->model_id);
	put(&line,
		"\"class\":\"%s\",\"kind\":\"%s\",\"outcome\":\"%s\","
		"\"attempts\":%u,\"input_tokens\":%llu,\"max_tokens\":%llu",
		class_of(request),
		request->kind == SHM_PERMIT ? "permit" : "call", outcome,
		request->calls, (unsigned long long)policy->input_tokens,
		(unsigned long long)policy->output_tokens);
	put_tokens(&line, "used_input_tokens", used->input_tokens);
	put_tokens(&line, "used_output_tokens", used->output_tokens);
	put_tokens(&line, "cache_read_tokens", used->cache_read_tokens);
	put_tokens(&line, "cache_write_tokens", used->cache_write_tokens);
	put(&line, ",\"deadline_s\":%.6f,\"wait_s\":%.6f",
		seconds(arrived_ns, policy->deadline_ns),
		seconds(arrived_ns, started_ns));
	if (request->is_started)
		put(&line, ",\"execution_s\":%.6f",
			seconds(request->last_start_ns, now));
	put(&line, "}");
	record_line(trace->record, line.bytes, line.used);
}

/* ------------------------------------------------------------ outcomes */

static const char *outcome_of(const struct door_reply *reply)
{
	switch (reply->result) {
	case SHM_OK:
		return "ok";
	case SHM_UPSTREAM_ERROR:
		return reply->http_status == 429 ? "throttled" : "error";
	case SHM_DEADLINE:
		return "deadline";
	case SHM_CANCELLED:
		return "cancelled";
	case SHM_DRAINING:
		return "refused:draining";
	case SHM_UPSTREAM_FAILED:
	case SHM_QUEUE_FULL:
	case SHM_USER_LIMIT:
	case SHM_TOO_LARGE:
	case SHM_INVALID:
	case SHM_NO_CREDENTIALS:
	case SHM_BODY_CHANGED:
	case SHM_REPLY_TOO_LARGE:
	case SHM_AMBIGUOUS:
	case SHM_NO_MEMORY:
	case SHM_NO_TASK:
	case SHM_TASK_GONE:
	case SHM_NOT_YOURS:
	case SHM_KEY_TAKEN:
	case SHM_STORE_FAILED:
	case SHM_NO_STORE:
	case SHM_RESULTS:
		break;
	}
	return "failed";
}

static const char *refusal_of(enum shm_result result)
{
	switch (result) {
	case SHM_QUEUE_FULL:
		return "refused:queue_full";
	case SHM_USER_LIMIT:
		return "refused:user_limit";
	case SHM_TOO_LARGE:
		return "refused:too_large";
	case SHM_DEADLINE:
		return "refused:late";
	case SHM_DRAINING:
		return "refused:draining";
	case SHM_INVALID:
		return "refused:invalid";
	case SHM_NO_CREDENTIALS:
		return "refused:no_credentials";
	case SHM_BODY_CHANGED:
		return "refused:body_changed";
	case SHM_NO_MEMORY:
		return "refused:no_memory";
	case SHM_OK:
	case SHM_UPSTREAM_ERROR:
	case SHM_UPSTREAM_FAILED:
	case SHM_CANCELLED:
	case SHM_REPLY_TOO_LARGE:
	case SHM_AMBIGUOUS:
	case SHM_NO_TASK:
	case SHM_TASK_GONE:
	case SHM_NOT_YOURS:
	case SHM_KEY_TAKEN:
	case SHM_STORE_FAILED:
	case SHM_NO_STORE:
	case SHM_RESULTS:
		break;
	}
	return "refused:other";
}

static struct policy_usage usage_of(const struct door_reply *reply)
{
	return (struct policy_usage){reply->input_tokens, reply->output_tokens,
		reply->cache_read_tokens, reply->cache_write_tokens};
}

void trace_end(struct trace *trace, const struct request *request,
	const struct door_reply *reply)
{
	struct policy_usage used = usage_of(reply);

	/* What a successor will answer has not ended. */
	if (trace != NULL && !request->governor->is_leaving)
		record(trace, request, outcome_of(reply), &used);
}

void trace_refusal(struct trace *trace, const struct request *request,
	const struct door_reply *reply)
{
	struct policy_usage used = usage_of(reply);

	if (trace != NULL && !request->governor->is_leaving)
		record(trace, request, refusal_of(reply->result), &used);
}

void trace_permit(struct trace *trace, const struct request *request,
	enum policy_outcome outcome, const struct policy_usage *usage)
{
	static const struct policy_usage unknown = {-1, -1, -1, -1};
	static const char *const outcomes[] = {[POLICY_DONE] = "ok",
		[POLICY_THROTTLED] = "throttled",
		[POLICY_LOST] = "failed",
		[POLICY_UNUSED] = "cancelled"};

	if (trace != NULL && !request->governor->is_leaving)
		record(trace, request, outcomes[outcome],
			usage != NULL ? usage : &unknown);
}
