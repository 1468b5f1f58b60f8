/*
 * scribbler SOCKET SEED WRITES: writes random and adversarial values over every
 * byte that a client can write -- header, ring, slots, texts, bodies, and what
 * it can reopen of rgovd's own -- while rgovd reads them; a second thread flips
 * descriptors and bodies between one look of rgovd and the next.  A session
 * that rgovd closes is opened anew.
 *
 * Ends after so many writes, and prints what it did as one JSON object.  It
 * judges nothing; exit 1: rgovd could not be reached any more.
 */
#include "tests/fault/common/intruder.h"

#include <pthread.h>

enum {
	SLOTS = 8,
	LIFE = 600,   /* moves of a session that rgovd does not close */
	BURST = 64,   /* writes of the flipper before others may speak */
	LOOK = 16,    /* moves between two looks at the socket */
	BODY = 400000 /* bytes: read by rgovd's helper, not on its loop */
};

/* What a session is for. */
enum manner {
	WILD,    /* any byte of the control file */
	CAREFUL, /* proper submits of spoilt descriptors: all are judged */
	WORDS,   /* words, entries and tails that cannot be */
	MANNERS
};

struct scribbler {
	const char *path;
	struct raw raw;
	struct dice dice;
	enum manner manner;
	uint64_t sessions, refused, expelled, submits, answers, bells;
};

/* The two threads write into one session; it changes under the lock. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct raw *shared; /* NULL: none is open */
static bool is_ending;
static _Atomic uint64_t writes;

/* ------------------------------------------------------------ stores */

/* Any of the four widths; rgovd reads it with whatever width it likes. */
static void poke(void *at, uint64_t value, unsigned int width)
{
	volatile uint8_t *to = at;

	memcpy((void *)(uintptr_t)to, &value, (size_t)1 << (width & 3));
	writes++;
}

/* Anywhere in the client control file, its small parts as often as its large
 * ones. */
static void poke_anywhere(struct raw *raw, struct dice *dice)
{
	const struct client_shape *shape = &raw->client_shape;
	const size_t from[] = {0, shape->ring_off, shape->slots_off,
		shape->texts_off, shape->total_bytes};
	size_t part = dice_below(dice, 4);
	size_t at = from[part] + dice_below(dice, from[part + 1] - from[part]);

	poke((char *)raw->client + (at & ~(size_t)7), dice_edge(dice),
		(unsigned int)dice_roll(dice));
}

/* One field of a descriptor, or of a settlement. */
static void poke_slot(struct raw *raw, struct dice *dice, uint32_t index)
{
	char *slot = (char *)&raw->client_slots[index];
	static const uint8_t fields[] = {8, 9, 10, 11, 12, 16, 24, 32, 40, 42,
		44, 64, 68, 72, 80, 128, 136, 184};

	poke(slot + fields[dice_below(dice, sizeof(fields))], dice_edge(dice),
		(unsigned int)dice_roll(dice));
}

static void poke_text(struct raw *raw, struct dice *dice, uint32_t index)
{
	char *text = (char *)&raw->texts[index];
	size_t at = dice_below(dice, sizeof(struct client_text) - 8);

	if (dice_roll(dice) & 1)
		at &= 15; /* where short texts are */
	poke(text + at, dice_edge(dice), (unsigned int)dice_roll(dice));
}

static void poke_body(struct raw *raw, struct dice *dice, uint32_t index)
{
	uint64_t value = dice_edge(dice);
	uint64_t at = dice_below(dice, dice_roll(dice) & 1 ? 64 : BODY);

	(void)!pwrite(raw->fds[WIRE_FD_CLIENT_BODIES], &value, sizeof(value),
		(off_t)(shm_body_off(index) + at));
	writes++;
}

/* ------------------------------------------------------------ the flipper */

/* Where the scribbler of this manner must not be disturbed, the words are left
 * alone: what is flipped lies between accept and issue. */
static void flip(struct raw *raw, struct dice *dice)
{
	uint32_t index = (uint32_t)dice_below(dice, raw->slots);

	switch (dice_below(dice, 3)) {
	case 0:
		poke_slot(raw, dice, index);
		break;
	case 1:
		poke_text(raw, dice, index);
		break;
	default:
		poke_body(raw, dice, index);
	}
}

static void *flipper(void *argument)
{
	struct dice dice = {.state = *(uint64_t *)argument};

	for (;;) {
		pthread_mutex_lock(&lock);
		if (is_ending)
			break;
		for (int i = 0; shared != NULL && i < BURST; i++)
			flip(shared, &dice);
		pthread_mutex_unlock(&lock);
		(void)sched_yield();
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void share(struct raw *raw)
{
	pthread_mutex_lock(&lock);
	shared = raw;
	pthread_mutex_unlock(&lock);
}

/* ------------------------------------------------------------ moves */

static void ring_bell(struct scribbler *me)
{
	raw_bell(&me->raw);
	me->bells++;
}

/* A body that is one, as long as nobody flips it. */
static uint32_t write_body(struct scribbler *me, uint32_t index)
{
	static char body[BODY];
	size_t n = (size_t)snprintf(body, sizeof(body),
		"{\"max_tokens\":5,\"n\":%u}", (unsigned int)me->submits);

	if (dice_below(&me->dice, 16) == 0) {
		memset(body + n, ' ', sizeof(body) - n);
		n = sizeof(body);
	}
	(void)!pwrite(me->raw.fds[WIRE_FD_CLIENT_BODIES], body, n,
		(off_t)shm_body_off(index));
	writes++;
	return (uint32_t)n;
}

/* A good request, into which some spoilt fields are written. */
static void submit(struct scribbler *me, uint32_t index, uint32_t generation)
{
	bool is_call = dice_roll(&me->dice) & 1;
	struct client_slot *slot = raw_describe(&me->raw, index,
		is_call ? SHM_CALL : SHM_PERMIT, "vendor.model-v1");

	slot->deadline_ns = intruder_now_ns() + 200000000;
	slot->class = (uint8_t)dice_below(&me->dice, 3);
	slot->body_bytes = is_call ? write_body(me, index) : 0;
	for (uint64_t n = dice_below(&me->dice, 4); n > 0; n--) {
		poke_slot(&me->raw, &me->dice, index);
		poke_text(&me->raw, &me->dice, index);
	}
	raw_command(&me->raw, index, generation, SHM_SUBMIT);
	writes += 3; /* word, entry, tail */
	me->submits++;
}

/* What an honest client might do next with the slot, in its own words. */
static void go_on(struct scribbler *me, uint32_t index)
{
	uint32_t said = load_relaxed(me->raw.client_slots[index].word);
	uint32_t answer = raw_answer(&me->raw, index);
	uint32_t generation = shm_generation(said);

	if (said != 0 && !shm_word_is_answer(answer, generation)) {
		if (shm_low(said) == SHM_SUBMIT &&
			dice_below(&me->dice, 32) == 0) {
			raw_command(&me->raw, index, generation, SHM_CANCEL);
			writes += 3;
		}
		(void)sched_yield();
		return;
	}
	me->answers++;
	if (shm_low(answer) == SHM_GRANTED && dice_roll(&me->dice) & 1) {
		poke_slot(&me->raw, &me->dice, index);
		raw_command(&me->raw, index, generation, SHM_SETTLE);
		writes += 3;
	}
	submit(me, index, shm_next_generation(generation));
}

/* A generation near the right one, a command near the last one. */
static void lie(struct scribbler *me, uint32_t index)
{
	uint32_t generation = shm_generation(raw_answer(&me->raw, index));
	uint32_t word =
		shm_word(generation + (uint32_t)dice_below(&me->dice, 5) - 2,
			(uint32_t)dice_below(&me->dice, 7));
	uint64_t far = dice_edge(&me->dice);

	if (far % 8 == 0)
		word = (uint32_t)far;
	store_release(me->raw.client_slots[index].word, word);
	raw_entry(&me->raw, far % 16 == 1 ? (uint32_t)(far >> 8) : index, word);
	writes += 3;
	if (far % 16 == 2) {
		atomic_store(
			&me->raw.client->tail, me->raw.tail + (far >> 8) % 256);
		writes++;
	}
}

static void move(struct scribbler *me)
{
	uint32_t index = (uint32_t)dice_below(&me->dice, me->raw.slots);

	switch (me->manner) {
	case WILD:
		poke_anywhere(&me->raw, &me->dice);
		break;
	case CAREFUL:
		go_on(me, index);
		break;
	case WORDS:
		lie(me, index);
		break;
	case MANNERS:
		break;
	}
	if (dice_below(&me->dice, 8) == 0)
		ring_bell(me);
}

/* ------------------------------------------------------------ lives */

static void live(struct scribbler *me, uint64_t until)
{
	for (int i = 0; i < LIFE && writes < until; i++) {
		move(me);
		if (i % LOOK == LOOK - 1 && intruder_is_out(&me->raw)) {
			me->expelled++;
			return;
		}
	}
}

static int come_in(struct scribbler *me)
{
	uint64_t give_up_ns = intruder_now_ns() + UINT64_C(20000000000);
	int rc;

	while ((rc = intruder_open(me->path, SLOTS, &me->raw)) != 0) {
		if (intruder_now_ns() > give_up_ns)
			return rc;
		me->refused++;
		(void)poll(NULL, 0, 1);
	}
	me->sessions++;
	return 0;
}

static int scribble(struct scribbler *me, uint64_t until)
{
	while (writes < until) {
		if (come_in(me) != 0)
			return 1;
		me->manner = (enum manner)dice_below(&me->dice, MANNERS);
		share(&me->raw);
		live(me, until);
		share(NULL);
		raw_close(&me->raw);
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct scribbler me = {.path = argc == 4 ? argv[1] : NULL};
	pthread_t thread;
	uint64_t seed;
	int status;

	if (me.path == NULL) {
		fprintf(stderr, "usage: scribbler SOCKET SEED WRITES\n");
		return 64;
	}
	seed = strtoull(argv[2], NULL, 10) * 2 + 1;
	me.dice.state = seed;
	if (pthread_create(&thread, NULL, flipper, &seed) != 0)
		return 71;
	status = scribble(&me, strtoull(argv[3], NULL, 10));
	pthread_mutex_lock(&lock);
	is_ending = true;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	printf("{\"writes\":%llu,\"sessions\":%llu,\"refused\":%llu,"
	       "\"expelled\":%llu,\"submits\":%llu,\"answers\":%llu,"
	       "\"bells\":%llu}\n",
		(unsigned long long)writes, (unsigned long long)me.sessions,
		(unsigned long long)me.refused, (unsigned long long)me.expelled,
		(unsigned long long)me.submits, (unsigned long long)me.answers,
		(unsigned long long)me.bells);
	return status;
}
