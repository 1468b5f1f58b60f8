/*
 * flood SOCKET HOW: as much as one process can ask of rgovd, without breaking
 * the protocol, until it is killed:
 *
 *   submit    permits over all slots, each cancelled at once
 *   users     the same, each for a user of another name
 *   bodies    calls with bodies of 200 KB, cancelled at once
 *   bells     nothing but bells
 *   connect   registrations that end as soon as they are served
 *   scribble  words that close the session, which is opened anew
 *   hog       nothing at all, on one CPU: what the others are compared with
 */
#include "tests/fault/common/intruder.h"

enum { SLOTS = 256, BODY = 200000 };

struct flood {
	const char *path;
	struct raw raw;
	uint64_t n;
};

static void come_in(struct flood *me, uint32_t slots)
{
	while (intruder_open(me->path, slots, &me->raw) != 0)
		(void)poll(NULL, 0, 1);
}

static void name_user(struct flood *me, struct client_slot *slot)
{
	char name[SHM_USER_BYTES];
	int n = snprintf(
		name, sizeof(name), "invented-%llu", (unsigned long long)me->n);

	memcpy(slot->user, name, (size_t)n);
	slot->user_bytes = (uint16_t)n;
}

static void ask(struct flood *me, uint32_t index, uint32_t generation, char how)
{
	struct client_slot *slot = raw_describe(&me->raw, index,
		how == 'b' ? SHM_CALL : SHM_PERMIT, "vendor.model-v1");

	slot->deadline_ns = intruder_now_ns() + UINT64_C(60000000000);
	if (how == 'u')
		name_user(me, slot);
	if (how == 'b')
		slot->body_bytes = BODY;
	raw_command(&me->raw, index, generation, SHM_SUBMIT);
	me->n++;
}

/* Submits where the last one is answered, cancels where it is not. */
static void turn_slot(struct flood *me, uint32_t index, char how)
{
	uint32_t said = load_relaxed(me->raw.client_slots[index].word);
	uint32_t answer = raw_answer(&me->raw, index);
	uint32_t generation = shm_generation(said);
	bool is_answered = said == 0 || shm_word_is_answer(answer, generation);

	if (is_answered && said != 0 && shm_low(answer) == SHM_GRANTED) {
		if (shm_low(said) == SHM_SUBMIT)
			raw_command(&me->raw, index, generation, SHM_SETTLE);
	} else if (is_answered) {
		ask(me, index, shm_next_generation(generation), how);
	} else if (shm_low(said) == SHM_SUBMIT) {
		raw_command(&me->raw, index, generation, SHM_CANCEL);
	}
}

static void write_bodies(struct flood *me)
{
	static char body[BODY];

	memset(body, ' ', sizeof(body));
	memcpy(body, "{\"max_tokens\":5}", 16);
	for (uint32_t i = 0; i < me->raw.slots; i++)
		if (pwrite(me->raw.fds[WIRE_FD_CLIENT_BODIES], body,
			    sizeof(body), (off_t)shm_body_off(i)) < 0)
			abort();
}

static void flood_requests(struct flood *me, char how)
{
	come_in(me, SLOTS);
	if (how == 'b')
		write_bodies(me);
	for (;;) {
		for (uint32_t i = 0; i < me->raw.slots; i++)
			turn_slot(me, i, how);
		if (intruder_is_out(&me->raw)) {
			fprintf(stderr, "flood: rgovd has hung up\n");
			exit(1);
		}
	}
}

static void flood_bells(struct flood *me)
{
	come_in(me, 1);
	for (;;)
		raw_bell(&me->raw);
}

static void flood_registrations(struct flood *me, bool scribbles)
{
	for (;;) {
		come_in(me, 8);
		if (scribbles) {
			raw_entry(&me->raw, UINT32_MAX, 0);
			raw_bell(&me->raw);
		}
		raw_close(&me->raw);
	}
}

int main(int argc, char *argv[])
{
	struct flood me = {.path = argc == 3 ? argv[1] : NULL};

	if (me.path == NULL) {
		fprintf(stderr, "usage: flood SOCKET HOW\n");
		return 64;
	}
	if (strcmp(argv[2], "submit") == 0 || strcmp(argv[2], "users") == 0)
		flood_requests(&me, argv[2][0]);
	else if (strcmp(argv[2], "bodies") == 0)
		flood_requests(&me, 'b');
	else if (strcmp(argv[2], "bells") == 0)
		flood_bells(&me);
	else if (strcmp(argv[2], "connect") == 0)
		flood_registrations(&me, false);
	else if (strcmp(argv[2], "scribble") == 0)
		flood_registrations(&me, true);
	for (volatile uint64_t n = 0;; n++)
		;
}
