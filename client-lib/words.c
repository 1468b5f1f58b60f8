/* Errors and results in words. */
#include "client-lib/words.h"

#include "client-lib/rgov.h"
#include "shm-layout/shm_daemon.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char why[512];

int fail(int error, const char *format, ...)
{
	char text[sizeof(why)]; /* the arguments may be what is in `why` */
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)snprintf(why, sizeof(why), "%s", text);
	return error;
}

const char *rgov_why(void)
{
	return why;
}

const char *rgov_strerror(int error)
{
	const char *words;

	switch (error < 0 ? -error : error) {
	case 0:
		return "no error";
	case ECONNREFUSED:
		return "rgovd cannot be reached";
	case EPROTO:
		return "rgovd speaks another layout version; restart every "
		       "process with the same release";
	case EACCES:
		return "this user may not connect to rgovd";
	case EINVAL:
		return "the request or an option is wrong";
	case EMSGSIZE:
		return "the body is above 25,000,000 bytes";
	case EAGAIN:
		return "not yet, or every slot of this process is taken";
	case ETIMEDOUT:
		return "the deadline passed";
	case ESTALE:
		return "no such ticket in this process";
	case EINTR:
		return "a signal came first";
	default:
		words = strerrordesc_np(error < 0 ? -error : error);
		return words != NULL ? words : "unknown error";
	}
}

const char *rgov_result_name(enum rgov_result result)
{
	switch (result) {
	case RGOV_R_OK:
		return "ok";
	case RGOV_R_UPSTREAM_ERROR:
		return "upstream error";
	case RGOV_R_UPSTREAM_FAILED:
		return "upstream failed";
	case RGOV_R_DEADLINE:
		return "deadline";
	case RGOV_R_CANCELLED:
		return "cancelled";
	case RGOV_R_QUEUE_FULL:
		return "queue full";
	case RGOV_R_USER_LIMIT:
		return "user limit";
	case RGOV_R_TOO_LARGE:
		return "too large";
	case RGOV_R_DRAINING:
		return "draining";
	case RGOV_R_INVALID:
		return "invalid";
	case RGOV_R_NO_CREDENTIALS:
		return "no credentials";
	case RGOV_R_BODY_CHANGED:
		return "body changed";
	case RGOV_R_REPLY_TOO_LARGE:
		return "reply too large";
	case RGOV_R_AMBIGUOUS:
		return "ambiguous";
	case RGOV_R_NO_MEMORY:
		return "no memory";
	case RGOV_R_NO_TASK:
		return "no such task";
	case RGOV_R_TASK_GONE:
		return "task gone";
	case RGOV_R_NOT_YOURS:
		return "not yours";
	case RGOV_R_KEY_TAKEN:
		return "key taken";
	case RGOV_R_STORE_FAILED:
		return "store failed";
	case RGOV_R_NO_STORE:
		return "no store";
	}
	return "unknown";
}

const char *rgov_reason_name(enum rgov_reason reason)
{
	return shm_reason_name((unsigned int)reason);
}

const char *rgov_reason_text(enum rgov_reason reason)
{
	return shm_reason_text((unsigned int)reason);
}

#define REASON(NAME, name, words)                                              \
	static_assert((int)RGOV_W_##NAME == (int)SHM_WAIT_##NAME,              \
		"rgov_reason is shm_reason");
#include "shm-layout/shm_reasons.def"
#undef REASON
static_assert((int)RGOV_REASONS_ROOM == (int)SHM_REASONS_MAX &&
		      (int)RGOV_W_CLUSTER_TOKENS == (int)SHM_REASONS - 1,
	"and has all of them");

static_assert((int)RGOV_R_NO_MEMORY == (int)SHM_NO_MEMORY &&
		      (int)RGOV_R_NO_STORE == (int)SHM_NO_STORE &&
		      (int)SHM_NO_STORE == SHM_RESULTS - 1,
	"rgov_result is shm_result");

const char *rgov_version(void)
{
	return RGOV_VERSION;
}
