/*
 * The ends that were asked for or written last, in memory: who polls a task
 * that has ended does not wake the store's thread each time.  Bounded: each id
 * has one place, and the next one of that place takes it.
 */
#include "coordinator/tasks_inside.h"

#include <stdlib.h>
#include <string.h>

struct task_recent {
	struct store_record record;
	char code[SHM_CODE_BYTES];
	char message[SHM_MESSAGE_BYTES];
	char request_id[SHM_REQUEST_ID_BYTES];
	char model[SHM_OTHER_MODEL_BYTES];
};

static struct task_recent **place_of(struct tasks *tasks, const uint8_t id[])
{
	uint32_t hash;

	/* The end of a UUID is random. */
	memcpy(&hash, id + STORE_ID_BYTES - sizeof(hash), sizeof(hash));
	return &tasks->recent[hash % TASKS_RECENT];
}

void task_remember(struct tasks *tasks, const uint8_t id[],
	const struct store_record *record)
{
	struct task_recent **place = place_of(tasks, id);
	struct task_recent *recent = *place;
	const struct store_ending *ending = &record->ending;

	if (recent == NULL)
		recent = *place = malloc(sizeof(*recent));
	if (recent == NULL)
		return; /* the store is asked again */
	recent->record = *record;
	memcpy(recent->record.id, id, STORE_ID_BYTES);
	task_text(recent->code, sizeof(recent->code), ending->code);
	task_text(recent->message, sizeof(recent->message), ending->message);
	task_text(recent->request_id, sizeof(recent->request_id),
		ending->request_id);
	task_text(recent->model, sizeof(recent->model), ending->model);
	recent->record.ending.code = recent->code;
	recent->record.ending.message = recent->message;
	recent->record.ending.request_id = recent->request_id;
	recent->record.ending.model = recent->model;
	/* The other texts were somebody's who goes. */
	recent->record.user = recent->record.key = recent->record.app = NULL;
	recent->record.headers = recent->record.callback = NULL;
	recent->record.model = NULL;
}

const struct store_record *task_recall(struct tasks *tasks, const uint8_t id[])
{
	const struct task_recent *recent = *place_of(tasks, id);
	const struct config_tasks *config = &tasks->governor->config->tasks;

	if (recent == NULL ||
		memcmp(recent->record.id, id, STORE_ID_BYTES) != 0)
		return NULL;
	/* Its record may be gone by now: the store knows. */
	return wall_now_ns() - recent->record.ended_ns <
			       (int64_t)config->record_ttl_ns
		       ? &recent->record
		       : NULL;
}

void tasks_forget_recent(struct tasks *tasks)
{
	for (int i = 0; i < TASKS_RECENT; i++)
		free(tasks->recent[i]);
}
