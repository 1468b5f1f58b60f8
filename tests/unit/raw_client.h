/*
 * A client made by hand: it connects, says HELLO, maps the files and then
 * writes whatever word, entry or message a test wants, also what librgov never
 * would.  It never blocks longer than the rig needs: the test turns the rig.
 */
#ifndef TESTS_UNIT_RAW_CLIENT_H
#define TESTS_UNIT_RAW_CLIENT_H

#include "tests/unit/door_rig.h"
#include "tests/unit/raw_wire.h"

static inline int raw_connect(const struct rig *rig)
{
	int fd = raw_connect_to(rig->path);

	CU_ASSERT_FATAL(fd >= 0);
	return fd;
}

/* Up to WELCOME and the mappings; not yet served. */
static inline void raw_welcome(struct rig *rig, struct raw *raw, uint32_t slots)
{
	struct wire_hello hello = {
		.head = raw_head(WIRE_HELLO), .slots = slots, .app = "raw"};
	struct raw_message message;

	*raw = (struct raw){.socket = raw_connect(rig)};
	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &hello, sizeof(hello), NULL, 0),
		sizeof(hello));
	RIG_UNTIL(rig, raw_is_readable(raw->socket));
	raw_receive(raw->socket, &message);
	CU_ASSERT_EQUAL_FATAL(message.as.head.type, WIRE_WELCOME);
	CU_ASSERT_EQUAL_FATAL(message.n_fds, WIRE_FDS);
	memcpy(raw->fds, message.fds, sizeof(raw->fds));
	memcpy(raw->id, message.as.welcome.session_id, sizeof(raw->id));
	raw->slots = message.as.welcome.slots;
	raw_map(raw);
	raw_sign(raw);
}

static inline void raw_say_mapped(struct rig *rig, struct raw *raw)
{
	const struct wire_mapped mapped = {raw_head(WIRE_MAPPED)};
	uint64_t opened = rig_stats(rig).opened;

	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &mapped, sizeof(mapped), NULL, 0),
		sizeof(mapped));
	RIG_UNTIL(rig, rig_stats(rig).opened == opened + 1);
}

/* A served session. */
static inline void raw_open(struct rig *rig, struct raw *raw, uint32_t slots)
{
	raw_welcome(rig, raw, slots);
	raw_say_mapped(rig, raw);
}

/* Passes the descriptors to a successor.  The type of its answer; 0: it hung
 * up.  What a refusal says goes to ret_text, which may be NULL. */
static inline unsigned int raw_reattach_with(struct rig *rig, struct raw *raw,
	const int fds[WIRE_REATTACH_FDS], size_t n_fds, char *ret_text)
{
	struct wire_reattach reattach = {.head = raw_head(WIRE_REATTACH),
		.slots = raw->slots,
		.app = "raw"};
	struct raw_message message;

	memcpy(reattach.session_id, raw->id, sizeof(raw->id));
	(void)close(raw->socket);
	raw->socket = raw_connect(rig);
	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &reattach, sizeof(reattach), fds, n_fds),
		sizeof(reattach));
	RIG_UNTIL(rig, raw_is_readable(raw->socket));
	do { /* a bell of an answer may come first */
		raw_receive(raw->socket, &message);
		for (size_t i = 0; i < message.n_fds; i++)
			(void)close(message.fds[i]);
	} while (message.bytes == 1);
	if (message.bytes <= 0)
		return 0;
	if (message.as.head.type == WIRE_REFUSED && ret_text != NULL)
		memcpy(ret_text, message.as.refused.text, SHM_MESSAGE_BYTES);
	return message.as.head.type;
}

static inline unsigned int raw_reattach(struct rig *rig, struct raw *raw)
{
	return raw_reattach_with(rig, raw, raw->fds, WIRE_REATTACH_FDS, NULL);
}

#endif
