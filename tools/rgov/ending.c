#include "tools/rgov/ending.h"

#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

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

int ending_exit_code(enum rgov_result result, int http_status)
{
	switch (result) {
	case RGOV_R_OK:
		return 0;
	case RGOV_R_UPSTREAM_ERROR:
		return exit_code_of_http(http_status);
	case RGOV_R_UPSTREAM_FAILED:
	case RGOV_R_AMBIGUOUS: /* trying again could do it twice */
	case RGOV_R_TASK_GONE:
		return EX_UNAVAILABLE;
	case RGOV_R_DEADLINE:
	case RGOV_R_CANCELLED:
	case RGOV_R_QUEUE_FULL:
	case RGOV_R_USER_LIMIT:
	case RGOV_R_DRAINING:
	case RGOV_R_NO_MEMORY:
	case RGOV_R_STORE_FAILED: /* rgovd goes on trying, too */
		return EX_TEMPFAIL;
	case RGOV_R_TOO_LARGE:
	case RGOV_R_INVALID:
	case RGOV_R_REPLY_TOO_LARGE:
	case RGOV_R_KEY_TAKEN:
		return EX_DATAERR;
	case RGOV_R_NO_CREDENTIALS:
	case RGOV_R_NO_STORE:
		return EX_CONFIG;
	case RGOV_R_NO_TASK:
		return EX_NOINPUT;
	case RGOV_R_NOT_YOURS:
		return EX_NOPERM;
	case RGOV_R_BODY_CHANGED: /* nobody else has this body */
		break;
	}
	return EX_SOFTWARE;
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
	return complain(invocation,
		ending_exit_code(reply->result, reply->http_status),
		"%s%s%s%s%s%s%s", rgov_result_name(reply->result), http,
		reply->code[0] != '\0' ? ": " : "", reply->code,
		reply->message[0] != '\0' ? ": " : "", reply->message, again);
}

int ending_print(const struct invocation *invocation, struct rgov_reply *reply)
{
	text_clean(reply->code, sizeof(reply->code));
	text_clean(reply->message, sizeof(reply->message));
	text_clean(reply->request_id, sizeof(reply->request_id));
	if (reply->result != RGOV_R_OK)
		return print_failure(invocation, reply);
	if ((reply->body_bytes == 0 || fwrite(reply->body, 1, reply->body_bytes,
					       stdout) == reply->body_bytes) &&
		fflush(stdout) == 0)
		return 0;
	return complain(invocation, EX_IOERR, "cannot write the reply: %s",
		strerror(errno));
}
