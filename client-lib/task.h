/* What the files of tasks share. */
#ifndef CLIENT_TASK_H
#define CLIENT_TASK_H

#include "client-lib/submit.h"

/* A question that nobody answers in that time has no answer. */
#define TASK_QUESTION_MS 60000u

/* A new name; -EAGAIN with words: no random bytes. */
int task_id_make(unsigned char ret_id[16]);

/* Asks, and waits for the answer, whatever signals come; the caller ends the
 * reply.  0, or -errno. */
int task_question(struct rgov *gov, const struct submission *submission,
	struct rgov_reply *ret_reply, struct daemon_task *ret_line);

#endif
