/* rgov call: one governed call from the shell. */
#include "tools/rgov/rgov_command.h"

#include "client-lib/rgov.h"
#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum {
	BODY_MOST = 25000000, /* bytes: the provider's limit */
	HEADERS_BYTES = 2048, /* what a slot takes: the library checks again */
	READ_AT_ONCE = 1 << 16,
};

struct call {
	struct rgov_request request;
	struct rgov_options options;
	char headers[HEADERS_BYTES];
	bool is_verbose;
	char *body;
};

/* ------------------------------------------------------------ arguments */

/* -EINVAL: it is none. */
static int parse_priority(const char *text, enum rgov_priority *ret_priority)
{
	static const char *const words[] = {[RGOV_INTERACTIVE] = "interactive",
		[RGOV_NORMAL] = "normal",
		[RGOV_BATCH] = "batch"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret_priority = (enum rgov_priority)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Adds a "Name: value" line; -EINVAL: it is not one, or there are too many. */
static int add_header(char headers[HEADERS_BYTES], const char *line)
{
	size_t used = strlen(headers);
	int n;

	if (strchr(line, ':') == NULL || line[0] == ':')
		return -EINVAL;
	for (const char *at = line; *at != '\0'; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			return -EINVAL;
	n = snprintf(headers + used, HEADERS_BYTES - used, "%s\n", line);
	return (size_t)n < HEADERS_BYTES - used ? 0 : -EINVAL;
}

static int take_option(
	const struct invocation *invocation, struct call *call, int letter)
{
	double seconds;

	switch (letter) {
	case 'm':
		call->request.model_id = optarg;
		return 0;
	case 'c':
		call->request.operation = RGOV_CONVERSE;
		return 0;
	case 'u':
		call->request.user = optarg;
		return 0;
	case 'p':
		if (parse_priority(optarg, &call->request.priority) == 0)
			return 0;
		return complain(invocation, EX_USAGE,
			"--priority: expected interactive, normal or batch, "
			"found '%s'",
			optarg);
	case 't':
		if (options_number(optarg, 0.001, 86400, &seconds) < 0)
			return complain(invocation, EX_USAGE,
				"--timeout: expected 0.001 to 86400 seconds, "
				"found '%s'",
				optarg);
		call->request.timeout_ms = (uint64_t)(seconds * 1e3);
		return 0;
	case 'H':
		if (add_header(call->headers, optarg) == 0)
			return 0;
		return complain(invocation, EX_USAGE,
			"--header: expected 'Name: value', printable, all of "
			"them below %d bytes, found '%s'",
			HEADERS_BYTES, optarg);
	case 'v':
		call->is_verbose = true;
		return 0;
	case 's':
		call->options.socket_path = optarg;
		return 0;
	default:
		return EX_SOFTWARE;
	}
}

static int take_arguments(struct invocation *invocation, struct call *call)
{
	int letter, rc;

	while ((letter = next_option(invocation)) != -1) {
		rc = take_option(invocation, call, letter);
		if (rc != 0)
			return rc;
	}
	expect_operands(invocation, 1);
	if (call->request.model_id == NULL)
		return complain(invocation, EX_USAGE,
			"expected --model ID (see 'rgov help call')");
	call->options.name = invocation->name;
	if (call->headers[0] != '\0')
		call->request.headers = call->headers;
	return 0;
}

/* ------------------------------------------------------------ body */

/* Reads to the end.  0; -EMSGSIZE when there is more than a body may have. */
static int read_all(int fd, char **ret_bytes, size_t *ret_n)
{
	size_t n = 0, room = 0;
	char *bytes = NULL;
	ssize_t got = 1;

	while (got != 0 && n <= BODY_MOST) {
		if (room - n < READ_AT_ONCE) {
			char *more;

			room = room * 2 + 2 * (size_t)READ_AT_ONCE;
			more = realloc(bytes, room);
			if (more == NULL)
				goto free_bytes;
			bytes = more;
		}
		got = read(fd, bytes + n, READ_AT_ONCE);
		if (got < 0 && errno != EINTR)
			goto free_bytes;
		n += got > 0 ? (size_t)got : 0;
	}
	if (n > BODY_MOST) {
		errno = EMSGSIZE;
		goto free_bytes;
	}
	*ret_bytes = bytes;
	*ret_n = n;
	return 0;

free_bytes:
	got = -errno;
	free(bytes);
	return (int)got;
}

/* From the file the command line names; none, or "-": from stdin. */
static int read_body(const struct invocation *invocation, struct call *call)
{
	const char *path =
		optind < invocation->argc ? invocation->argv[optind] : "-";
	bool is_stdin = strcmp(path, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return complain(invocation,
			errno == EACCES ? EX_NOPERM : EX_NOINPUT,
			"cannot open '%s': %s", path, strerror(errno));
	rc = read_all(fd, &call->body, &call->request.body_bytes);
	if (!is_stdin)
		(void)close(fd);
	call->request.body = call->body;
	if (rc == -EMSGSIZE)
		return complain(invocation, EX_DATAERR,
			"'%s' is above %d bytes", path, BODY_MOST);
	if (rc < 0)
		return complain(invocation, EX_IOERR, "cannot read '%s': %s",
			path, strerror(-rc));
	return 0;
}

/* ------------------------------------------------------------ result */

static int exit_code_of_http(int status)
{
	switch (status) {
	case 401:
	case 403:
		return EX_NOPERM;
	case 408:
	case 424:
	case 429:
		return EX_TEMPFAIL;
	default:
		return status >= 400 && status < 500 ? EX_DATAERR : EX_TEMPFAIL;
	}
}

static int exit_code_of(const struct rgov_reply *reply)
{
	switch (reply->result) {
	case RGOV_R_OK:
		return 0;
	case RGOV_R_UPSTREAM_ERROR:
		return exit_code_of_http(reply->http_status);
	case RGOV_R_UPSTREAM_FAILED:
	case RGOV_R_AMBIGUOUS: /* trying again could do it twice */
		return EX_UNAVAILABLE;
	case RGOV_R_DEADLINE:
	case RGOV_R_CANCELLED:
	case RGOV_R_QUEUE_FULL:
	case RGOV_R_USER_LIMIT:
	case RGOV_R_DRAINING:
	case RGOV_R_NO_MEMORY:
		return EX_TEMPFAIL;
	case RGOV_R_TOO_LARGE:
	case RGOV_R_INVALID:
	case RGOV_R_REPLY_TOO_LARGE:
		return EX_DATAERR;
	case RGOV_R_NO_CREDENTIALS:
		return EX_CONFIG;
	case RGOV_R_BODY_CHANGED: /* nobody else has this body */
	case RGOV_R_NO_TASK:      /* as no call ends */
	case RGOV_R_TASK_GONE:
	case RGOV_R_NOT_YOURS:
	case RGOV_R_KEY_TAKEN:
	case RGOV_R_STORE_FAILED:
	case RGOV_R_NO_STORE:
		break;
	}
	return EX_SOFTWARE;
}

static void print_figures(
	const struct invocation *invocation, const struct rgov_reply *reply)
{
	(void)complain(invocation, 0,
		"%s, HTTP %d, waited %.3f s, took %.3f s, %" PRIu32
		" attempts, %" PRId64 " tokens in, %" PRId64
		" out, request id %s",
		rgov_result_name(reply->result), reply->http_status,
		(double)reply->wait_ns * 1e-9,
		(double)reply->execution_ns * 1e-9, reply->attempts,
		reply->input_tokens, reply->output_tokens,
		reply->request_id[0] != '\0' ? reply->request_id : "-");
}

static int print_failure(
	const struct invocation *invocation, const struct rgov_reply *reply)
{
	char again[64] = "", http[32] = "";

	if (reply->retry_after_ms != 0)
		(void)snprintf(again, sizeof(again), "; come again in %.1f s",
			(double)reply->retry_after_ms * 1e-3);
	if (reply->http_status != 0)
		(void)snprintf(
			http, sizeof(http), " (HTTP %d)", reply->http_status);
	return complain(invocation, exit_code_of(reply), "%s%s%s%s%s%s%s",
		rgov_result_name(reply->result), http,
		reply->code[0] != '\0' ? ": " : "", reply->code,
		reply->message[0] != '\0' ? ": " : "", reply->message, again);
}

static int finish(const struct invocation *invocation, const struct call *call,
	const struct rgov_reply *reply)
{
	int rc = 0;

	if (reply->result != RGOV_R_OK)
		rc = print_failure(invocation, reply);
	else if (reply->body_bytes > 0 &&
		 fwrite(reply->body, 1, reply->body_bytes, stdout) !=
			 reply->body_bytes)
		rc = complain(invocation, EX_IOERR,
			"cannot write the reply: %s", strerror(errno));
	else if (fflush(stdout) == EOF)
		rc = complain(invocation, EX_IOERR,
			"cannot write the reply: %s", strerror(errno));
	if (call->is_verbose)
		print_figures(invocation, reply);
	return rc;
}

/* The provider's words go to a terminal. */
static void clean(struct rgov_reply *reply)
{
	text_clean(reply->code, sizeof(reply->code));
	text_clean(reply->message, sizeof(reply->message));
	text_clean(reply->request_id, sizeof(reply->request_id));
}

static int perform(const struct invocation *invocation, const struct call *call)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov *gov;
	int rc = rgov_open(&call->options, &gov);

	if (rc == 0) {
		rc = rgov_call(gov, &call->request, &reply);
		if (rc == 0) {
			clean(&reply);
			rc = finish(invocation, call, &reply);
		} else {
			rc = complain(invocation, exit_code_of_error(rc),
				"%s: %s", rgov_strerror(rc), rgov_why());
		}
		rgov_reply_fini(&reply);
		rgov_close(gov);
		return rc;
	}
	return complain(invocation, exit_code_of_error(rc), "%s: %s",
		rgov_strerror(rc), rgov_why());
}

int verb_call(struct invocation *invocation)
{
	struct call call = {
		.request = {.size = sizeof(call.request),
			.priority = RGOV_NORMAL},
		.options = {.size = sizeof(call.options),
			.app = "rgov",
			.slots = 1},
	};
	int rc = take_arguments(invocation, &call);

	if (rc == 0)
		rc = read_body(invocation, &call);
	if (rc == 0)
		rc = perform(invocation, &call);
	free(call.body);
	return rc;
}
