/*
 * Durable tasks: what makes a call outlive its client, rgovd and a reboot.
 *
 *   submit --> PUT on disk --> acknowledged --> policy --> BEGIN (its body back
 *   from the disk) --> upstream --> policy --> END on disk --> who waits is
 * told
 *
 * Between its acknowledgement and its end a task is a request without a slot
 * (request->task); before, it is one with a slot as any other; afterwards it is
 * a record of the store and nothing in memory.
 *
 * tasks.c is the table and its life, task_submit.c and task_run.c the way of a
 * task, task_ask.c the questions about them, task_post.c who is told by HTTP.
 */
#ifndef COORDINATOR_TASKS_H
#define COORDINATOR_TASKS_H

#include "coordinator/request.h"

struct tasks;

/*
 * Opens the store where it is there already, and queues again what had not
 * ended; where there is none it is made by the first submit.  was_lost: the
 * predecessor's board is not there, so what the store has lately seen says
 * whether windows may count as empty.  0, or -errno with words: rgovd must not
 * run, it would lose what was accepted.
 */
int tasks_open(
	struct governor *governor, bool was_lost, char *ret_why, size_t bytes);
/* Writes what has ended; the door is closed. */
void tasks_close(struct governor *governor);
/* Other times to live. */
void tasks_reconfigure(struct governor *governor);
/* What the disk has done since; how much. */
unsigned int tasks_collect(struct governor *governor);
/* Their figures on the board. */
void tasks_show(const struct governor *governor);
/* Nothing is on its way to the disk that somebody waits for. */
bool tasks_are_quiet(const struct governor *governor);

/* task_submit.c: the request is a new task; it ends, or is queued, later. */
void task_submit(
	struct request *request, const struct door_submission *submission);

/* task_run.c: it was admitted: on_body_loaded() later, or it is put back. */
void task_begin(struct request *request);
/* An attempt failed so; it waits for the next. */
void task_retried(struct request *request, const char *after);
/* The request has ended: in place of the answer to a slot.  It is freed by the
 * caller; its task goes on until its end is on disk. */
void task_finish(struct request *request, const struct door_reply *reply);
/* True: it was put aside while the disk fails, and is so no more. */
bool task_unpark(struct request *request);

/* task_ask.c: a question about tasks; slot->request is the handlers' no more
 * than until it is answered. */
void task_ask(struct governor *governor, struct door_slot *slot,
	const struct door_submission *submission);
/* It is no longer wanted: is_answered: it is answered so; else its client has
 * gone. */
void task_unask(
	struct governor *governor, struct door_slot *slot, bool is_answered);

#endif
