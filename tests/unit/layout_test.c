/* Words, shapes and the fingerprint of the layout. */
#include "shm-layout/shm_layout.h"

#include "shm-layout/shm_board.h"
#include "shm-layout/shm_reasons.h"
#include "shm-layout/shm_wire.h"
#include "shm-layout/shm_word.h"
#include "suite.h"

static void words_keep_both_parts(void)
{
	/* Generation and low byte go in and come out; what is too wide is cut
	 * and never runs into the other. */
	static const uint32_t cases[][2] = {{0, 0}, {1, SHM_SUBMIT},
		{0xffffff, SHM_ACK}, {0x800000, SHM_DONE}, {0x123456, 0xff}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t word = shm_word(cases[i][0], cases[i][1]);

		CU_ASSERT_EQUAL(shm_generation(word), cases[i][0]);
		CU_ASSERT_EQUAL(shm_low(word), cases[i][1]);
	}
	CU_ASSERT_EQUAL(shm_word(0x1000001, 0x101), shm_word(1, 1));
}

static void generations_wrap(void)
{
	/* The next of 2^24 - 1 is 0, and distances are counted over it. */
	CU_ASSERT_EQUAL(shm_next_generation(0), 1);
	CU_ASSERT_EQUAL(shm_next_generation(0xffffff), 0);
	CU_ASSERT_EQUAL(shm_generations_between(0xffffff, 0), 1);
	CU_ASSERT_EQUAL(shm_generations_between(0xfffffe, 1), 3);
	CU_ASSERT_EQUAL(shm_generations_between(1, 0), 0xffffff);
	CU_ASSERT_EQUAL(shm_generations_between(7, 7), 0);
}

static void only_ends_are_answers(void)
{
	/* DONE and GRANTED of that generation, nothing else. */
	for (uint32_t state = 0; state < 256; state++) {
		bool is_end = state == SHM_DONE || state == SHM_GRANTED;

		CU_ASSERT_EQUAL(
			shm_word_is_answer(shm_word(5, state), 5), is_end);
		CU_ASSERT_FALSE(shm_word_is_answer(shm_word(4, state), 5));
		CU_ASSERT_FALSE(shm_word_is_answer(shm_word(6, state), 5));
	}
}

static void client_files_of_every_size(void)
{
	/* For 1 to 1024 slots: parts begin on pages, hold what they must and do
	 * not overlap; the ring is a power of two and holds all that can wait
	 * in it. */
	for (uint32_t n = SHM_SLOTS_MIN; n <= SHM_SLOTS_MAX; n++) {
		struct client_shape shape = client_shape(n);
		uint32_t entries = shape.ring_entries;

		CU_ASSERT_EQUAL(shape.slots, n);
		CU_ASSERT_EQUAL(entries & (entries - 1), 0);
		CU_ASSERT(entries >= 7 * n + 1);
		CU_ASSERT_EQUAL((shape.ring_off | shape.slots_off |
					shape.texts_off | shape.total_bytes) %
					SHM_PAGE,
			0);
		CU_ASSERT(shape.ring_off >= sizeof(struct client_header));
		CU_ASSERT(shape.slots_off >=
			  shape.ring_off + entries * sizeof(uint64_t));
		CU_ASSERT(shape.texts_off >=
			  shape.slots_off + n * sizeof(struct client_slot));
		CU_ASSERT(shape.tasks_off >=
			  shape.texts_off + n * sizeof(struct client_text));
		CU_ASSERT(shape.total_bytes >=
			  shape.tasks_off + n * sizeof(struct client_task));
		CU_ASSERT(shape.total_bytes <= 9u << 20);
	}
}

static void daemon_files_of_every_size(void)
{
	/* The same for rgovd's file; no answer lies across two pages, so that
	 * one page is all that must be there for it. */
	for (uint32_t n = SHM_SLOTS_MIN; n <= SHM_SLOTS_MAX; n++) {
		struct daemon_shape shape = daemon_shape(n);

		CU_ASSERT_EQUAL(
			(shape.slots_off | shape.total_bytes) % SHM_PAGE, 0);
		CU_ASSERT(shape.slots_off >= sizeof(struct daemon_header));
		CU_ASSERT(shape.total_bytes >=
			  shape.slots_off + n * sizeof(struct daemon_slot));
	}
	CU_ASSERT_EQUAL(SHM_PAGE % sizeof(struct daemon_slot), 0);
}

static void body_regions(void)
{
	/* Region i is slot i's; the largest body fits; the last one ends where
	 * the file does. */
	CU_ASSERT(SHM_BODY_MAX <= SHM_BODY_REGION);
	CU_ASSERT_EQUAL(SHM_BODY_REGION % SHM_PAGE, 0);
	for (uint32_t n = 1; n <= SHM_SLOTS_MAX; n += 93)
		CU_ASSERT_EQUAL(shm_body_off(n - 1) + SHM_BODY_REGION,
			shm_bodies_bytes(n));
	CU_ASSERT_EQUAL(shm_bodies_bytes(1024), UINT64_C(25769803776));
}

/* ------------------------------------------------------------ the hash */

/* FNV-1a over one field, as shm_layout.c has it: written out again, so that a
 * change of either is seen. */
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
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

static uint64_t mix_shapes(uint64_t hash, uint32_t slots, uint64_t by)
{
	struct client_shape client = client_shape(slots);
	struct daemon_shape daemon = daemon_shape(slots);

	hash = mix(hash, "ring_entries", client.ring_entries + by);
	hash = mix(hash, "slots_off", client.slots_off);
	hash = mix(hash, "texts_off", client.texts_off);
	hash = mix(hash, "client_bytes", client.total_bytes);
	return mix(hash, "daemon_bytes", daemon.total_bytes);
}

/* The hash of a layout in which field `moved` lies or measures otherwise;
 * FIELDS: the ring does. */
static uint64_t hash_with(size_t moved, uint64_t by)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < FIELDS; i++)
		hash = mix(hash, fields[i].name,
			fields[i].number + (i == moved ? by : 0));
	hash = mix_shapes(hash, SHM_SLOTS_DEFAULT, moved == FIELDS ? by : 0);
	return mix_shapes(hash, SHM_SLOTS_MAX, 0);
}

static void any_field_that_moves_changes_the_hash(void)
{
	/* Each field of the table, moved by four bytes, grown by one, or a
	 * limit changed by one: another fingerprint. */
	CU_ASSERT_EQUAL(hash_with(FIELDS, 0), shm_layout_hash());
	for (size_t i = 0; i <= FIELDS; i++) {
		CU_ASSERT_NOT_EQUAL(hash_with(i, 1), shm_layout_hash());
		CU_ASSERT_NOT_EQUAL(
			hash_with(i, UINT64_C(4) << 32), shm_layout_hash());
	}
}

/* ------------------------------------------------------------ names */

static void names_of_governors(void)
{
	/* 1 to 31 harmless bytes; nothing that leaves a directory or hides. */
	static const struct {
		const char *name;
		bool is_valid;
	} cases[] = {{"default", true}, {"a", true}, {"A-b_c.9", true},
		{"1234567890123456789012345678901", true},
		{"12345678901234567890123456789012", false}, {"", false},
		{".", false}, {"..", false}, {".a", false}, {"a/b", false},
		{"a b", false}, {"a\n", false}, {"\xc3\xa4", false}};
	char object[SHM_OBJECT_NAME_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CU_ASSERT_EQUAL(
			shm_name_is_valid(cases[i].name), cases[i].is_valid);
	board_object_name("1234567890123456789012345678901", object);
	CU_ASSERT_STRING_EQUAL(object, "/rgov.1234567890123456789012345678901");
}

SUITE("layout", T(words_keep_both_parts), T(generations_wrap),
	T(only_ends_are_answers), T(client_files_of_every_size),
	T(daemon_files_of_every_size), T(body_regions),
	T(any_field_that_moves_changes_the_hash), T(names_of_governors))
