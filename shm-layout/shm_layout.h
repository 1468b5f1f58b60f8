/*
 * Shapes, names and the fingerprint of the layout.  Two processes that agree on
 * shm_layout_hash() agree on every offset, size and bound of the contract.
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include "shm-layout/shm_client.h"
#include "shm-layout/shm_daemon.h"

#include <stdbool.h>

/* Over every field of shm_fields.def and every limit of shm_limits.h. */
uint64_t shm_layout_hash(void);

/* The shapes of a session's files with that many slots (1 to SHM_SLOTS_MAX). */
struct client_shape client_shape(uint32_t slots);
struct daemon_shape daemon_shape(uint32_t slots);

/* Both body files are sparse; region i belongs to slot i. */
static inline uint64_t shm_bodies_bytes(uint32_t slots)
{
	return (uint64_t)slots * SHM_BODY_REGION;
}

static inline uint64_t shm_body_off(uint32_t slot)
{
	return (uint64_t)slot * SHM_BODY_REGION;
}

static inline struct client_slot *client_slots(
	struct client_header *client, const struct client_shape *shape)
{
	return (struct client_slot *)(void *)((char *)client +
					      shape->slots_off);
}

static inline struct client_text *client_texts(
	struct client_header *client, const struct client_shape *shape)
{
	return (struct client_text *)(void *)((char *)client +
					      shape->texts_off);
}

static inline struct client_task *client_tasks(
	struct client_header *client, const struct client_shape *shape)
{
	return (struct client_task *)(void *)((char *)client +
					      shape->tasks_off);
}

static inline _Atomic uint64_t *client_ring(
	struct client_header *client, const struct client_shape *shape)
{
	return (_Atomic uint64_t *)(void *)((char *)client + shape->ring_off);
}

static inline struct daemon_slot *daemon_slots(
	struct daemon_header *daemon, const struct daemon_shape *shape)
{
	return (struct daemon_slot *)(void *)((char *)daemon +
					      shape->slots_off);
}

/* "/rgov.NAME", for shm_open(). */
enum { SHM_OBJECT_NAME_BYTES = 64 };
void board_object_name(const char *name, char ret_name[SHM_OBJECT_NAME_BYTES]);

/* 1 to 31 of A-Z a-z 0-9 . _ -, not beginning with a dot. */
bool shm_name_is_valid(const char *name);

#endif
