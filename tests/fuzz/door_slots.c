/*
 * A client that writes whatever it likes over its control file, its ring and
 * its bodies, breaks its socket, and comes back to a successor with forged
 * files: driven through a real door.  rgovd stays up, the session's requests
 * are over when it is gone, no descriptor stays, and an honest session is
 * served in between.
 */
#include "tests/fuzz/rig.h"

static struct raw hostile;

enum what {
	SUBMIT,
	COMMAND,
	ENTRY,
	WORD,
	SCRIBBLE,
	TAIL,
	TURN,
	FINISH,
	MESSAGE,
	SUCCESSOR,
	FORGE,
	DEFER,
	HANG_UP,
	BODY,
	WHATS
};

static uint32_t any_slot(struct fuzz *fuzz)
{
	return fuzz_byte(fuzz) % hostile.slots;
}

static uint32_t generation_of(uint32_t slot)
{
	return shm_generation(raw_answer(&hostile, slot));
}

static void submit(struct fuzz *fuzz)
{
	static const char *const models[] = {
		"echo", "bytes:300000", "hold", "issue", "intake", "x"};
	uint32_t slot = any_slot(fuzz);
	uint8_t how = fuzz_byte(fuzz);
	enum shm_kind kind = (how >> 7) + (how >> 2 & 2); /* any of the four */
	struct client_slot *to = raw_describe(&hostile, slot, kind,
		models[how % (sizeof(models) / sizeof(models[0]))]);

	to->flags = how >> 5 & SHM_FLAGS_ALL;
	to->body_bytes = how >> 7 ? 0 : fuzz_byte(fuzz);
	raw_command(&hostile, slot, shm_next_generation(generation_of(slot)),
		SHM_SUBMIT);
}

/* A word about a generation that is near the last one. */
static uint32_t any_word(struct fuzz *fuzz, uint32_t slot)
{
	uint8_t how = fuzz_byte(fuzz);

	if (how == 0xff)
		return fuzz_number(fuzz, 4);
	return shm_word(generation_of(slot) + (how >> 4) - 2, how & 7);
}

static void scribble(struct fuzz *fuzz)
{
	size_t at = fuzz_number(fuzz, 2);
	size_t size = hostile.client_shape.tasks_off +
		      hostile.slots * sizeof(struct client_task);
	uint8_t bytes[16];
	size_t n = fuzz_bytes(fuzz, bytes, 1 + fuzz_byte(fuzz) % 16);

	/* The slots more often than the ring. */
	at = (at & 0x8000 ? hostile.client_shape.slots_off +
				    at % (hostile.slots *
						 sizeof(struct client_slot))
			  : at % size);
	if (at + n <= size)
		memcpy((char *)hostile.client + at, bytes, n);
}

static void set_tail(struct fuzz *fuzz)
{
	uint8_t how = fuzz_byte(fuzz);

	hostile.tail = how == 0xff ? (uint64_t)fuzz_number(fuzz, 4) << 32
				   : hostile.tail + how - 8;
	if (wake_publish_tail(hostile.client, hostile.daemon, hostile.tail))
		raw_bell(&hostile);
}

/* rgovd's own words of the slots, as a client brings them to a successor. */
static void forge(struct fuzz *fuzz)
{
	uint32_t slot = any_slot(fuzz);

	store_relaxed(hostile.daemon_slots[slot].word, any_word(fuzz, slot));
}

static void send_message(struct fuzz *fuzz)
{
	uint8_t bytes[64];
	size_t n = fuzz_bytes(fuzz, bytes, fuzz_byte(fuzz) % sizeof(bytes));

	(void)raw_send(hostile.socket, bytes, n, NULL, 0);
}

static void write_body(struct fuzz *fuzz)
{
	uint32_t slot = any_slot(fuzz);
	uint8_t bytes[8];
	size_t n = fuzz_bytes(fuzz, bytes, sizeof(bytes));

	(void)pwrite(hostile.fds[WIRE_FD_CLIENT_BODIES], bytes, n,
		(off_t)shm_body_off(slot));
}

static void act(struct fuzz *fuzz)
{
	switch ((enum what)(fuzz_byte(fuzz) % WHATS)) {
	case SUBMIT:
		submit(fuzz);
		break;
	case COMMAND: {
		uint32_t slot = any_slot(fuzz), word = any_word(fuzz, slot);

		raw_command(
			&hostile, slot, shm_generation(word), shm_low(word));
		break;
	}
	case ENTRY: {
		uint32_t slot = fuzz_number(fuzz, 2);

		raw_entry(&hostile, slot, any_word(fuzz, slot % hostile.slots));
		break;
	}
	case WORD: {
		uint32_t slot = any_slot(fuzz);

		store_relaxed(
			hostile.client_slots[slot].word, any_word(fuzz, slot));
		break;
	}
	case SCRIBBLE:
		scribble(fuzz);
		break;
	case TAIL:
		set_tail(fuzz);
		break;
	case TURN:
		(void)rig_turn(rig, 0);
		break;
	case FINISH:
		(void)rig_finish(rig, fuzz_byte(fuzz) % SHM_RESULTS);
		break;
	case MESSAGE:
		send_message(fuzz);
		break;
	case SUCCESSOR:
		rig_replace();
		(void)raw_reattach(rig, &hostile);
		break;
	case FORGE:
		forge(fuzz);
		break;
	case DEFER:
		rig->defers_cancel = fuzz_byte(fuzz) & 1;
		break;
	case HANG_UP:
		(void)shutdown(hostile.socket, fuzz_byte(fuzz) % 3);
		break;
	case BODY:
		write_body(fuzz);
		break;
	case WHATS:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};

	rig_prepare(8);
	rig->defers_cancel = false;
	raw_open(rig, &hostile, 1 + fuzz_byte(&fuzz) % 3);
	while (fuzz.left > 0)
		act(&fuzz);
	(void)rig_turn(rig, 0);
	raw_close(&hostile);
	rig_judge();
	return 0;
}
