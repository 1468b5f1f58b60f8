/*
 * rgovd's log: one event a line on stderr, logfmt or JSON, UTC.
 *
 *     LOG(LOG_WARN, "session.closed", "ring index out of range",
 *             F_I("pid", session->pid), F_S("app", session->label));
 *
 * Prompts, replies, credentials and bodies are never passed to it.  Control
 * bytes in values are escaped.  A full or broken stderr loses lines (counted),
 * and never blocks or kills rgovd.
 */
#ifndef COORDINATOR_LOG_H
#define COORDINATOR_LOG_H

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

struct log_field {
	const char *key;  /* NULL: no more */
	const char *text; /* NULL: the number counts */
	double number;
	int decimals; /* of the number */
};

#define F_S(k, s)                                                              \
	{                                                                      \
		.key = (k), .text = (s)                                        \
	}
#define F_I(k, n)                                                              \
	{                                                                      \
		.key = (k), .number = (double)(n), .decimals = 0               \
	}
#define F_F(k, f)                                                              \
	{                                                                      \
		.key = (k), .number = (f), .decimals = 6                       \
	}

/* Before the first line; later calls change the format (reload). */
void log_open(enum log_format format, enum log_level least);

void log_write(enum log_level level, const char *event, const char *message,
	const struct log_field *fields);

#define LOG(level, event, ...) LOG_(level, event, __VA_ARGS__, {.key = NULL})
#define LOG_(level, event, message, ...)                                       \
	log_write(level, event, message,                                       \
		(const struct log_field[]){__VA_ARGS__})

/* A text as JSON writes it, in quotes, cut to size (at least 16).  Returns the
 * bytes without the final zero. */
size_t log_quote(const char *text, char *ret_quoted, size_t size);

/* Lines that could not be written since the start. */
uint64_t log_lost(void);

#endif
