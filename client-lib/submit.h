/*
 * Handing things in, whatever they are, and taking the answer: what requests,
 * permits and tasks have in common.
 */
#ifndef CLIENT_SUBMIT_H
#define CLIENT_SUBMIT_H

#include "client-lib/handle.h"

#define MS_NS 1000000u

/* What is handed in.  A question has no request. */
struct submission {
	const struct rgov_request *request;
	enum shm_kind kind;
	const struct client_task *task; /* NULL: it speaks of no task */
	/* Of a question. */
	enum shm_task_verb verb;
	uint32_t flags; /* enum rgov_request_flags */
	uint64_t timeout_ms;
	const char *filter_user; /* NULL: any */
};

/* Checks it, and hands it in: errors as rgov_call(). */
int submit(struct rgov *gov, const struct submission *submission,
	struct rgov_ticket *ret_ticket);

/* 1 to `most` printable bytes; else -EINVAL with words. */
int check_text(const char *what, const char *text, size_t most);

/* Tells rgovd of a command; under the lock.  True: it sleeps, and was rung. */
bool submit_command(struct rgov *gov, struct session *session, uint32_t slot,
	enum shm_command command);
void submit_ring(struct rgov *gov, struct session *session);

/* rgov.c: rgov_wait(), and what rgovd says of a task beside; ret_line may be
 * NULL. */
int wait_for_reply(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t timeout_ms, struct rgov_reply *ret_reply,
	struct daemon_task *ret_line);

#endif
