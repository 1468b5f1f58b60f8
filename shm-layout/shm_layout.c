#include "shm-layout/shm_layout.h"

#include "shm-layout/shm_board.h"
#include "shm-layout/shm_reasons.h"
#include "shm-layout/shm_wire.h"

#include <stdio.h>
#include <string.h>

/* FNV-1a, 64 bit: it need not resist anybody, only tell builds apart. */
static uint64_t mix(uint64_t hash, const char *text, uint64_t number)
{
	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
	for (int byte = 0; byte < 8; byte++)
		hash = (hash ^ (number >> 8 * byte & 0xff)) * 0x100000001b3u;
	return hash;
}

static const struct {
	const char *name;
	uint64_t number;
} fields[] = {
#define FIELD(structure, field)                                                \
	{#structure "." #field,                                                \
		(uint64_t)offsetof(struct structure, field) << 32 |            \
			sizeof(((struct structure *)0)->field)},
#include "shm-layout/shm_fields.def"
#undef FIELD
#define COUNTER(name, unit, help)                                              \
	{"counter." #name, offsetof(struct board_counters, name)},
#include "shm-layout/board_counters.def"
#undef COUNTER
#define REASON(NAME, name, words) {"reason." #name, SHM_WAIT_##NAME},
#include "shm-layout/shm_reasons.def"
#undef REASON
	{"slots_max", SHM_SLOTS_MAX},
	{"ring_per_slot", SHM_RING_PER_SLOT},
	{"body_region", SHM_BODY_REGION},
	{"body_max", SHM_BODY_MAX},
	{"client_slot", sizeof(struct client_slot)},
	{"daemon_slot", sizeof(struct daemon_slot)},
	{"results", SHM_RESULTS},
	{"version", SHM_LAYOUT_VERSION},
};

static size_t whole_pages(size_t bytes)
{
	return (bytes + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE;
}

/* At least as many as all slots together can have waiting, which is 7n + 1: see
 * "Why the ring cannot overflow", LAYOUT.md.  A power of two, so that positions
 * need no division and wrap cleanly. */
static uint32_t ring_entries(uint32_t slots)
{
	uint32_t entries = SHM_RING_PER_SLOT;

	while (entries < slots * SHM_RING_PER_SLOT)
		entries *= 2;
	return entries;
}

struct client_shape client_shape(uint32_t slots)
{
	struct client_shape shape = {
		.slots = slots,
		.ring_entries = ring_entries(slots),
		.ring_off = SHM_PAGE,
	};

	shape.slots_off = shape.ring_off +
			  whole_pages(shape.ring_entries * sizeof(uint64_t));
	shape.texts_off = shape.slots_off +
			  whole_pages(slots * sizeof(struct client_slot));
	shape.tasks_off = shape.texts_off + slots * sizeof(struct client_text);
	shape.total_bytes =
		shape.tasks_off + slots * sizeof(struct client_task);
	return shape;
}

struct daemon_shape daemon_shape(uint32_t slots)
{
	return (struct daemon_shape){
		.slots = slots,
		.slots_off = SHM_PAGE,
		.total_bytes = SHM_PAGE +
			       whole_pages(slots * sizeof(struct daemon_slot)),
	};
}

/* How the parts follow one another is part of the contract, too. */
static uint64_t mix_shapes(uint64_t hash, uint32_t slots)
{
	struct client_shape client = client_shape(slots);
	struct daemon_shape daemon = daemon_shape(slots);

	hash = mix(hash, "ring_entries", client.ring_entries);
	hash = mix(hash, "slots_off", client.slots_off);
	hash = mix(hash, "texts_off", client.texts_off);
	hash = mix(hash, "client_bytes", client.total_bytes);
	return mix(hash, "daemon_bytes", daemon.total_bytes);
}

static uint64_t layout_hash(void)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		hash = mix(hash, fields[i].name, fields[i].number);
	hash = mix_shapes(hash, SHM_SLOTS_DEFAULT);
	return mix_shapes(hash, SHM_SLOTS_MAX);
}

uint64_t shm_layout_hash(void)
{
	static _Atomic uint64_t known; /* 0: not yet */
	/* Relaxed: whoever works it out finds the same number. */
	uint64_t hash = load_relaxed(known);

	if (hash == 0) {
		hash = layout_hash();
		store_relaxed(known, hash);
	}
	return hash;
}

static const struct {
	const char *name, *words;
} reasons[SHM_REASONS] = {
#define REASON(NAME, name, words) {#name, words},
#include "shm-layout/shm_reasons.def"
#undef REASON
};

const char *shm_reason_name(unsigned int reason)
{
	return reason < SHM_REASONS ? reasons[reason].name : "";
}

const char *shm_reason_text(unsigned int reason)
{
	return reason < SHM_REASONS ? reasons[reason].words : "";
}

void board_object_name(const char *name, char ret_name[SHM_OBJECT_NAME_BYTES])
{
	(void)snprintf(ret_name, SHM_OBJECT_NAME_BYTES, "/rgov.%s", name);
}

bool shm_name_is_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	size_t length = strlen(name);

	return length >= 1 && length < SHM_NAME_BYTES && name[0] != '.' &&
	       strspn(name, allowed) == length;
}
