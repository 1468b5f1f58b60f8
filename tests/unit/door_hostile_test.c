/*
 * The door against clients that break the protocol: each closes its own session
 * or gets its own INVALID, is counted, and another client's requests go on.
 */
#include "shm-layout/wire_io.h"
#include "tests/unit/raw_client.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A rig, an honest client and the one that misbehaves. */
struct scene {
	struct rig *rig;
	struct raw honest, bad;
	uint32_t generation; /* of the honest one's slot 0 */
};

static struct scene open_scene(void)
{
	struct scene scene = {.rig = rig_start()};

	raw_open(scene.rig, &scene.honest, 4);
	raw_open(scene.rig, &scene.bad, 4);
	return scene;
}

/* The honest client is served as if nothing had happened. */
static void assert_others_go_on(struct scene *scene)
{
	uint32_t generation = ++scene->generation;

	raw_submit(&scene->honest, 0, generation, SHM_CALL, "x");
	RIG_UNTIL(scene->rig, raw_answer(&scene->honest, 0) ==
				      shm_word(generation, SHM_DONE));
	CU_ASSERT_EQUAL(raw_result(&scene->honest, 0), SHM_OK);
}

/* Only the bad one was closed, and it was counted. */
static void assert_expelled(struct scene *scene)
{
	RIG_UNTIL(scene->rig, raw_is_closed(scene->bad.socket));
	CU_ASSERT_EQUAL(rig_stats(scene->rig).closed, 1);
	CU_ASSERT_EQUAL(rig_stats(scene->rig).sessions, 1);
	assert_others_go_on(scene);
}

static void close_scene(struct scene *scene)
{
	raw_close(&scene->honest);
	raw_close(&scene->bad);
	rig_stop(scene->rig);
}

/* ------------------------------------------------------------ the ring */

static void a_slot_out_of_range(void)
{
	/* An entry that names a slot that is not there closes the session. */
	static const uint32_t indexes[] = {4, 5, 1024, UINT32_MAX};

	for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++) {
		struct scene scene = open_scene();

		raw_entry(&scene.bad, indexes[i], shm_word(1, SHM_SUBMIT));
		assert_expelled(&scene);
		close_scene(&scene);
	}
}

static void a_tail_too_far(void)
{
	/* A tail that the ring cannot hold, ahead or behind, closes it. */
	static const uint64_t tails[] = {
		UINT64_MAX, UINT64_C(1) << 63, 1u << 20, 4097};

	for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
		struct scene scene = open_scene();

		atomic_store(&scene.bad.client->tail, tails[i]);
		raw_bell(&scene.bad);
		assert_expelled(&scene);
		close_scene(&scene);
	}
}

static void one_entry_more_than_the_ring(void)
{
	/* A full ring is taken, one entry more is not. */
	struct scene scene = open_scene();
	uint32_t entries = scene.bad.client_shape.ring_entries;

	raw_submit(&scene.bad, 0, 1, SHM_CALL, "x");
	RIG_REST(scene.rig);
	atomic_store(&scene.bad.client->tail, entries + scene.bad.tail);
	raw_bell(&scene.bad);
	RIG_REST(scene.rig);
	CU_ASSERT_EQUAL(rig_stats(scene.rig).closed, 0);
	atomic_store(&scene.bad.client->tail, 2 * entries + scene.bad.tail + 1);
	raw_bell(&scene.bad);
	assert_expelled(&scene);
	close_scene(&scene);
}

static void a_word_that_may_not_follow(void)
{
	/* Slot word after generation 1 was answered (or, where so named, is
	 * still out): which words close the session. */
	static const struct {
		const char *model;
		uint32_t generation;
		unsigned int low;
	} cases[] = {
		{"x", 3, SHM_SUBMIT},        /* a generation left out */
		{"x", 0, SHM_SUBMIT},        /* one back */
		{"x", 0xffffff, SHM_CANCEL}, /* two back */
		{"x", 2, 9},                 /* an unknown command */
		{"x", 1, 0},                 /* a used slot, never used */
		{"x", 2, SHM_SETTLE},        /* nothing to settle */
		{"x", 2, SHM_ACK},           /* nothing to acknowledge */
		{"hold", 2, SHM_SUBMIT},     /* ACCEPTED: not answered yet */
		{"issue", 2, SHM_SUBMIT},    /* ISSUED */
		{"issue", 2, SHM_CANCEL},
		{"intake", 2, SHM_SUBMIT}, /* its body is being read */
		{"intake", 2, SHM_CANCEL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene scene = open_scene();

		raw_submit(&scene.bad, 1, 1, SHM_CALL, cases[i].model);
		RIG_REST(scene.rig);
		CU_ASSERT_EQUAL(rig_stats(scene.rig).closed, 0);
		raw_command(&scene.bad, 1, cases[i].generation, cases[i].low);
		assert_expelled(&scene);
		CU_ASSERT_EQUAL(
			scene.rig->orphaned, strcmp(cases[i].model, "x") != 0);
		CU_ASSERT_EQUAL(rig_finish(scene.rig, SHM_OK), 0);
		close_scene(&scene);
	}
}

static void a_second_submit_while_the_body_is_read(void)
{
	/* The first request must not outlive its slot: after the session went,
	 * no handler holds a pointer into it. */
	struct scene scene = open_scene();

	raw_submit(&scene.bad, 0, 1, SHM_CALL, "intake");
	RIG_REST(scene.rig);
	raw_submit(&scene.bad, 0, 2, SHM_CALL, "intake");
	RIG_REST(scene.rig);
	(void)shutdown(scene.bad.socket, SHUT_RDWR);
	RIG_UNTIL(scene.rig, rig_stats(scene.rig).sessions == 1);
	CU_ASSERT_EQUAL(scene.rig->submitted, 1);
	CU_ASSERT_EQUAL(scene.rig->orphaned, 1);
	CU_ASSERT_EQUAL(rig_finish(scene.rig, SHM_OK), 0);
	assert_others_go_on(&scene);
	close_scene(&scene);
}

/* ------------------------------------------------------------ descriptors */

static void too_long(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->model_bytes = SHM_MODEL_BYTES + 1;
}
static void no_model(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->model_bytes = 0;
}
static void longest(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->model_bytes = slot->headers_bytes = slot->user_bytes = 0xffff;
	slot->body_bytes = 0xffffffff;
}
static void no_user(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->user_bytes = 0;
}
static void long_user(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->user_bytes = SHM_USER_BYTES;
}
static void long_headers(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->headers_bytes = SHM_HEADERS_BYTES + 1;
}
static void large_body(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->body_bytes = SHM_BODY_MAX + 1;
}
static void no_deadline(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->deadline_ns = 0;
}
static void other_kind(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->kind = 4;
}
static void other_operation(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->operation = 2;
}
static void other_class(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->class = 3;
}
static void other_flags(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->flags = 0x80;
}
static void many_tokens(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->input_tokens = UINT64_MAX;
}
static void many_output(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->output_tokens = (uint64_t)UINT32_MAX + 1;
}
static void bell_in_user(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->user[2] = '\a';
}
static void line_in_user(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->user[4] = '\n';
}
static void delete_in_model(struct client_slot *slot, struct client_text *text)
{
	text->model[1] = 0x7f;
	slot->model_bytes = 3;
}
static void zero_in_model(struct client_slot *slot, struct client_text *text)
{
	text->model[0] = '\0';
	slot->model_bytes = 4;
}
static void zero_in_headers(struct client_slot *slot, struct client_text *text)
{
	memcpy(text->headers, "A: b\n", 6);
	slot->headers_bytes = 6;
}
static void other_verb(struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->kind = SHM_TASK_VERB;
	slot->body_bytes = 0;
	slot->operation = SHM_TASK_VERBS;
}
static void question_with_body(
	struct client_slot *slot, struct client_text *text)
{
	(void)text;
	slot->kind = SHM_TASK_VERB;
	slot->operation = SHM_TASK_LOOK;
	slot->body_bytes = 1;
}
static void permit_with_body(struct client_slot *slot, struct client_text *text)
{
	/* It would count among the queued bytes for ever. */
	(void)text;
	slot->kind = SHM_PERMIT;
	slot->body_bytes = SHM_BODY_MAX;
}

static void wrong_descriptors_are_invalid(void)
{
	/* Each wrong field of a descriptor is answered INVALID with words, no
	 * handler sees it, and the session goes on. */
	static void (*const spoil[])(struct client_slot * slot,
		struct client_text * text) = {too_long, no_model, longest,
		no_user, long_user, long_headers, large_body, no_deadline,
		other_kind, other_operation, other_class, other_flags,
		many_tokens, many_output, bell_in_user, line_in_user,
		delete_in_model, zero_in_model, zero_in_headers,
		permit_with_body, other_verb, question_with_body};
	struct scene scene = open_scene();
	uint32_t generation = 0;

	for (size_t i = 0; i < sizeof(spoil) / sizeof(spoil[0]); i++) {
		struct client_slot *slot =
			raw_describe(&scene.bad, 2, SHM_CALL, "m");

		spoil[i](slot, &scene.bad.texts[2]);
		raw_command(&scene.bad, 2, ++generation, SHM_SUBMIT);
		RIG_UNTIL(scene.rig, raw_answer(&scene.bad, 2) ==
					     shm_word(generation, SHM_DONE));
		CU_ASSERT_EQUAL(raw_result(&scene.bad, 2), SHM_INVALID);
		CU_ASSERT_NOT_EQUAL(scene.bad.daemon_slots[2].message[0], '\0');
		CU_ASSERT_STRING_EQUAL(
			scene.bad.daemon_slots[2].code, "InvalidRequest");
	}
	CU_ASSERT_EQUAL(scene.rig->submitted, 0);
	raw_submit(&scene.bad, 2, ++generation, SHM_CALL, "m");
	RIG_UNTIL(scene.rig,
		raw_answer(&scene.bad, 2) == shm_word(generation, SHM_DONE));
	CU_ASSERT_EQUAL(raw_result(&scene.bad, 2), SHM_OK);
	CU_ASSERT_EQUAL(rig_stats(scene.rig).closed, 0);
	assert_others_go_on(&scene);
	close_scene(&scene);
}

static void the_longest_texts_pass(void)
{
	/* The bounds themselves are allowed, and texts need no final zero. */
	struct scene scene = open_scene();
	struct client_slot *slot = raw_describe(&scene.bad, 0, SHM_CALL, "m");

	memset(scene.bad.texts[0].model, 'm', SHM_MODEL_BYTES);
	memset(scene.bad.texts[0].headers, 'h', SHM_HEADERS_BYTES);
	memset(slot->user, 'u', SHM_USER_BYTES);
	slot->model_bytes = SHM_MODEL_BYTES;
	slot->headers_bytes = SHM_HEADERS_BYTES;
	slot->user_bytes = SHM_USER_BYTES - 1;
	slot->body_bytes = SHM_BODY_MAX;
	raw_command(&scene.bad, 0, 1, SHM_SUBMIT);
	RIG_UNTIL(
		scene.rig, raw_answer(&scene.bad, 0) == shm_word(1, SHM_DONE));
	CU_ASSERT_EQUAL(raw_result(&scene.bad, 0), SHM_OK);
	CU_ASSERT_EQUAL(strlen(scene.rig->user), SHM_USER_BYTES - 1);
	close_scene(&scene);
}

static void absurd_settlements_arrive(void)
{
	/* An unknown way to end says nothing.  Token counts that no call can
	 * have are handed on as they are: who charges for them judges them. */
	static const struct {
		uint32_t how;
		int64_t input, output;
		bool is_known;
		int64_t seen_input, seen_output;
	} cases[] = {
		{SHM_SETTLED_OK, 5, 6, true, 5, 6},
		{SHM_SETTLED_FAILED, -1, 0, true, -1, 0},
		{SHM_SETTLED_OK, INT64_MAX, INT64_MIN, true, INT64_MAX,
			INT64_MIN},
		{SHM_SETTLED_OK, INT64_C(1) << 32, 1, true, INT64_C(1) << 32,
			1},
		{4, 5, 6, false, -1, -1},
		{UINT32_MAX, 5, 6, false, -1, -1},
	};
	struct scene scene = open_scene();
	struct client_slot *slot = &scene.bad.client_slots[0];

	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		raw_submit(&scene.bad, 0, i + 1, SHM_PERMIT, "m");
		RIG_UNTIL(scene.rig, raw_answer(&scene.bad, 0) ==
					     shm_word(i + 1, SHM_GRANTED));
		slot->settlement = cases[i].how;
		slot->settled_input_tokens = cases[i].input;
		slot->settled_output_tokens = cases[i].output;
		slot->settled_generation = i + 1;
		raw_command(&scene.bad, 0, i + 1, SHM_SETTLE);
		RIG_UNTIL(scene.rig, scene.rig->settled == i + 1);
		CU_ASSERT_EQUAL(
			scene.rig->settlement.is_known, cases[i].is_known);
		CU_ASSERT_EQUAL(scene.rig->settlement.input_tokens,
			cases[i].seen_input);
		CU_ASSERT_EQUAL(scene.rig->settlement.output_tokens,
			cases[i].seen_output);
	}
	close_scene(&scene);
}

/* ------------------------------------------------------------ messages */

static void wrong_hellos_are_refused(void)
{
	/* Another size, magic, version, hash or type: refused with a reason;
	 * the head of the refusal says what rgovd speaks. */
	static const struct {
		int bytes_more;
		uint32_t magic;
		uint16_t type, version;
		uint64_t hash;
		uint32_t reason;
	} cases[] = {
		{-1, 0, 0, 0, 0, WIRE_BAD_MESSAGE},
		{1, 0, 0, 0, 0, WIRE_BAD_MESSAGE},
		{-(int)sizeof(struct wire_hello) + 2, 0, 0, 0, 0,
			WIRE_BAD_MESSAGE},
		{0, 1, 0, 0, 0, WIRE_BAD_MESSAGE},
		{0, 0, 0, 1, 0, WIRE_BAD_LAYOUT},
		{0, 0, 0, 0, 1, WIRE_BAD_LAYOUT},
		{0, 0, 77, 0, 0, WIRE_BAD_MESSAGE},
		{0, 0, WIRE_WELCOME, 0, 0, WIRE_BAD_MESSAGE},
		{0, 0, WIRE_MAPPED - WIRE_HELLO, 0, 0, WIRE_BAD_MESSAGE},
	};
	struct rig *rig = rig_start();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct {
			struct wire_hello hello;
			char more[8];
		} out = {.hello = {.head = raw_head(WIRE_HELLO), .slots = 4}};
		int socket = raw_connect(rig);
		struct raw_message message;

		out.hello.head.magic ^= cases[i].magic;
		out.hello.head.type =
			(uint16_t)(out.hello.head.type + cases[i].type);
		out.hello.head.layout_version ^= cases[i].version;
		out.hello.head.layout_hash ^= cases[i].hash;
		CU_ASSERT(
			raw_send(socket, &out,
				sizeof(out.hello) + (size_t)cases[i].bytes_more,
				NULL, 0) > 0);
		RIG_UNTIL(rig, raw_is_readable(socket));
		raw_receive(socket, &message);
		CU_ASSERT_EQUAL(message.bytes, sizeof(struct wire_refused));
		CU_ASSERT_EQUAL(message.as.head.type, WIRE_REFUSED);
		CU_ASSERT_EQUAL(message.as.refused.reason, cases[i].reason);
		CU_ASSERT_EQUAL(message.as.head.layout_hash, shm_layout_hash());
		RIG_UNTIL(rig, raw_is_closed(socket));
		(void)close(socket);
	}
	CU_ASSERT_EQUAL(rig_stats(rig).sessions, 0);
	rig_stop(rig);
}

static void any_number_of_slots_is_cut(void)
{
	/* A client gets what it wants, at least one slot and at most what is
	 * configured. */
	static const uint32_t cases[][2] = {
		{0, 1}, {1, 1}, {64, 64}, {65, 64}, {UINT32_MAX, 64}};
	struct rig *rig = rig_start();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw raw;

		raw_welcome(rig, &raw, cases[i][0]);
		CU_ASSERT_EQUAL(raw.slots, cases[i][1]);
		raw_close(&raw);
	}
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	rig_stop(rig);
}

static void odd_messages_of_a_served_client(void)
{
	/* Empty, long, or of an unexpected type: the session ends, alone. */
	static const char zeros[4096];
	struct wire_hello hello = {.head = raw_head(WIRE_HELLO), .slots = 1};
	const struct {
		const void *bytes;
		size_t n;
	} cases[] = {{zeros, 0}, {zeros, 2}, {zeros, 1024}, {zeros, 4096},
		{&hello, sizeof(hello)}, {&hello, sizeof(hello.head)}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene scene = open_scene();

		raw_submit(&scene.bad, 0, 1, SHM_CALL, "hold");
		RIG_REST(scene.rig);
		CU_ASSERT(raw_send(scene.bad.socket, cases[i].bytes, cases[i].n,
				  NULL, 0) >= 0);
		RIG_UNTIL(scene.rig, raw_is_closed(scene.bad.socket));
		CU_ASSERT_EQUAL(rig_stats(scene.rig).sessions, 1);
		CU_ASSERT_EQUAL(scene.rig->orphaned, 1);
		assert_others_go_on(&scene);
		close_scene(&scene);
	}
}

static void descriptors_sent_along_are_closed(void)
{
	/* Whatever message brings descriptors that nobody asked for, before or
	 * after the registration: rgovd keeps none of them. */
	static const char zeros[4096];
	struct scene scene = open_scene();
	struct wire_hello hello = {.head = raw_head(WIRE_HELLO), .slots = 1};
	int fds[8];
	int before;

	for (int i = 0; i < 8; i++)
		fds[i] = scene.honest.fds[0];
	before = open_descriptors();
	for (int turn = 0; turn < 5; turn++) {
		static const size_t sizes[] = {0, 1, 2, 4096};

		for (size_t i = 0; i < 4; i++) {
			int socket = raw_connect(scene.rig);

			(void)raw_send(
				socket, zeros, sizes[i], fds, turn < 3 ? 8 : 3);
			RIG_UNTIL(scene.rig, raw_is_closed(socket));
			(void)close(socket);
		}
	}
	(void)loop_step(scene.rig->loop, 0);
	RIG_UNTIL(scene.rig, open_descriptors() == before);
	/* A HELLO with descriptors is a HELLO. */
	int socket = raw_connect(scene.rig);
	CU_ASSERT(raw_send(socket, &hello, sizeof(hello), fds, 4) > 0);
	RIG_UNTIL(scene.rig, raw_is_readable(socket));
	CU_ASSERT_FALSE(raw_is_closed(socket));
	(void)close(socket);
	RIG_UNTIL(scene.rig, rig_stats(scene.rig).sessions == 2);
	RIG_UNTIL(scene.rig, open_descriptors() == before);
	/* After it, they end the session: a client has none to give. */
	(void)raw_send(scene.bad.socket, zeros, 1, fds, 8);
	assert_expelled(&scene);
	RIG_UNTIL(scene.rig, open_descriptors() < before);
	close_scene(&scene);
}

/* A connected TCP socket whose last close waits, for what its other end (not
 * accepted, never read) has not acknowledged. */
static int lingering_socket(int listener)
{
	static const char much[65536];
	const struct linger wait = {.l_onoff = 1, .l_linger = 30};
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL_FATAL(
		getsockname(listener, (struct sockaddr *)&address, &size), 0);
	CU_ASSERT_EQUAL_FATAL(
		connect(fd, (struct sockaddr *)&address, size), 0);
	while (send(fd, much, sizeof(much), MSG_DONTWAIT) > 0)
		;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait));
	return fd;
}

static int deaf_listener(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL_FATAL(
		bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 16), 0);
	return fd;
}

/* Sends it with a message, so that rgovd has the last one. */
static void give_away(int socket, const void *bytes, size_t n, int fd)
{
	CU_ASSERT(raw_send(socket, bytes, n, &fd, 1) >= 0);
	(void)close(fd);
}

static void a_descriptor_that_hangs_hangs_nobody(void)
{
	/* A socket that lingers for 30 s, given to rgovd in whatever message,
	 * or left unread behind empty ones: it is closed off the loop. */
	static const char zeros[64];
	struct wire_hello hello = {.head = raw_head(WIRE_HELLO), .slots = 1};
	struct scene scene = open_scene();
	int listener = deaf_listener();
	uint64_t begin_ns = loop_now_ns();
	int before = open_descriptors();

	for (int turn = 0; turn < 4; turn++) {
		int socket = raw_connect(scene.rig);

		if (turn == 1)
			give_away(socket, &hello, sizeof(hello),
				lingering_socket(listener));
		else if (turn > 1)
			for (int i = 0; i < 20; i++)
				(void)raw_send(socket, zeros, 0, NULL, 0);
		if (turn != 1)
			give_away(socket, zeros, turn < 3 ? sizeof(zeros) : 0,
				lingering_socket(listener));
		RIG_REST(scene.rig);
		(void)close(socket);
		RIG_UNTIL(scene.rig, rig_stats(scene.rig).sessions == 2);
	}
	give_away(scene.bad.socket, zeros, 1, lingering_socket(listener));
	assert_expelled(&scene);
	RIG_UNTIL(scene.rig, open_descriptors() < before);
	CU_ASSERT(loop_now_ns() - begin_ns < UINT64_C(10000000000));
	(void)close(listener);
	close_scene(&scene);
}

static void a_refusal_arrives(void)
{
	/* Who may not connect learns so, also when its HELLO was on the way
	 * already when rgovd hung up. */
	struct wire_hello hello = {.head = raw_head(WIRE_HELLO), .slots = 1};
	struct rig *rig = rig_start();
	char byte;
	int socket;

	rig->lets_in = false;
	socket = raw_connect(rig);
	CU_ASSERT(raw_send(socket, &hello, sizeof(hello), NULL, 0) > 0);
	RIG_UNTIL(rig, raw_is_readable(socket));
	CU_ASSERT_EQUAL(recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT), 1);
	(void)close(socket);
	rig_stop(rig);
}

static void too_many_sessions_are_refused(void)
{
	/* Above max_sessions: a reason; a place that gets free is given. */
	struct rig *rig = rig_start();
	struct raw_message message;
	struct raw raw[2];
	int socket;

	rig->config.max_sessions = 2;
	rig_restart(rig);
	raw_open(rig, &raw[0], 1);
	raw_open(rig, &raw[1], 1);
	socket = raw_connect(rig);
	RIG_UNTIL(rig, raw_is_readable(socket));
	raw_receive(socket, &message);
	CU_ASSERT_EQUAL(message.as.refused.reason, WIRE_TOO_MANY_SESSIONS);
	(void)close(socket);
	raw_close(&raw[0]);
	RIG_UNTIL(rig, rig_stats(rig).sessions == 1);
	raw_open(rig, &raw[0], 1);
	raw_close(&raw[0]);
	raw_close(&raw[1]);
	rig_stop(rig);
}

static void a_crowd_leaves_room_for_others(void)
{
	/* One process takes at most 64 sessions, or a quarter; one user leaves
	 * the last eighth to those that have less.  Who is refused hears why.
	 */
	static const struct {
		uint32_t most, taken;
		const char *why;
	} cases[] = {{72, 63, "kept for others"}, {256, 64, "this process"},
		{400, 100, "this process"}};
	static int sockets[100];
	struct rig *rig = rig_start();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct raw_message message;
		int socket;

		rig->config.max_sessions = cases[i].most;
		rig_restart(rig);
		for (uint32_t n = 0; n < cases[i].taken; n++) {
			sockets[n] = raw_connect(rig);
			RIG_UNTIL(rig, rig_stats(rig).sessions == n + 1);
		}
		socket = raw_connect(rig);
		RIG_UNTIL(rig, raw_is_readable(socket));
		raw_receive(socket, &message);
		CU_ASSERT_EQUAL(
			message.as.refused.reason, WIRE_TOO_MANY_SESSIONS);
		CU_ASSERT_PTR_NOT_NULL(
			strstr(message.as.refused.text, cases[i].why));
		CU_ASSERT_EQUAL(rig_stats(rig).refused, 1);
		(void)close(socket);
		for (uint32_t n = 0; n < cases[i].taken; n++)
			(void)close(sockets[n]);
		RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	}
	rig_stop(rig);
}

static void administration_is_answered(void)
{
	/* PING is answered without a session; an unknown verb is refused in
	 * words. */
	struct wire_admin admin = {.head = raw_head(WIRE_ADMIN)};
	struct rig *rig = rig_start();
	int socket = raw_connect(rig);
	struct raw_message message;

	for (int round = 0; round < 2; round++) {
		uint32_t verb = round == 0 ? WIRE_PING : WIRE_HINTS + 1;

		admin.verb = verb;
		CU_ASSERT(raw_send(socket, &admin, sizeof(admin), NULL, 0) > 0);
		RIG_UNTIL(rig, raw_is_readable(socket));
		raw_receive(socket, &message);
		CU_ASSERT_EQUAL(message.as.head.type, WIRE_ANSWER);
		CU_ASSERT_EQUAL(message.as.answer.failed, verb != WIRE_PING);
	}
	CU_ASSERT_EQUAL(rig->verbs, 2);
	(void)close(socket);
	rig_stop(rig);
}

static void anybody_may_ask_for_his_own(void)
{
	/* EXPLAIN is answered for a uid that may not govern: his own, not what
	 * is another's. */
	struct wire_admin admin = {
		.head = raw_head(WIRE_ADMIN), .verb = WIRE_EXPLAIN};
	struct rig *rig = rig_start();
	int socket = raw_connect(rig);
	struct raw_message message;

	for (int governs = 0; governs < 2; governs++) {
		rig->is_ungoverned = governs == 0;
		for (uint64_t request = 99; request < 101; request++) {
			bool is_told = request < 100 || governs != 0;

			admin.request = request;
			CU_ASSERT(raw_send(socket, &admin, sizeof(admin), NULL,
					  0) > 0);
			RIG_UNTIL(rig, raw_is_readable(socket));
			raw_receive(socket, &message);
			CU_ASSERT_EQUAL(message.as.head.type, WIRE_EXPLAINED);
			CU_ASSERT_EQUAL(message.as.explained.request, request);
			CU_ASSERT_EQUAL(message.as.explained.outcome,
				is_told ? WIRE_FOUND : WIRE_NOT_YOURS);
		}
	}
	(void)close(socket);
	rig_stop(rig);
}

/* ------------------------------------------------------------ many */

static void nobody_is_forgotten_behind_sixteen(void)
{
	/* Sessions beyond those that are polled ring once each, while all of
	 * these have work: they are served as well. */
	enum { MANY = 40 };
	struct rig *rig = rig_start();
	static struct raw raw[MANY];
	unsigned int answered = 0;

	for (int i = 0; i < MANY; i++)
		raw_open(rig, &raw[i], 4);
	for (uint32_t g = 1; g <= 50; g++) {
		for (int i = 0; i < MANY; i++)
			raw_submit(&raw[i], g % 4, (g + 3) / 4, SHM_CALL, "x");
		RIG_REST(rig);
		for (int i = 0; i < MANY; i++)
			answered += raw_answer(&raw[i], g % 4) ==
				    shm_word((g + 3) / 4, SHM_DONE);
		CU_ASSERT_EQUAL_FATAL(answered, g * MANY);
	}
	for (int i = 0; i < MANY; i++)
		raw_close(&raw[i]);
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	CU_ASSERT_EQUAL(rig_stats(rig).closed, 0);
	rig_stop(rig);
}

static void a_flood_leaves_others_their_turn(void)
{
	/* A full ring and a queue full of bells delay another session by one
	 * turn, not by the flood. */
	struct scene scene = open_scene();

	raw_submit(&scene.bad, 0, 1, SHM_CALL, "x");
	RIG_REST(scene.rig);
	for (int turn = 0; turn < 100; turn++) {
		for (int i = 0; i < 200; i++)
			raw_bell(&scene.bad);
		scene.bad.tail += scene.bad.client_shape.ring_entries;
		atomic_store(&scene.bad.client->tail, scene.bad.tail);
		raw_submit(&scene.honest, 0, ++scene.generation, SHM_CALL, "x");
		(void)rig_turn(scene.rig, 0);
		(void)rig_turn(scene.rig, 0);
		CU_ASSERT_EQUAL(raw_answer(&scene.honest, 0),
			shm_word(scene.generation, SHM_DONE));
		RIG_REST(scene.rig);
	}
	close_scene(&scene);
}

static void large_bodies_leave_others_their_turn(void)
{
	/* Bodies are read and hashed where they are handed out: some 500 KB in
	 * one turn of a session, not a whole ring of them. */
	enum { MANY = 32, BYTES = 200000 };
	struct scene scene = open_scene();
	struct raw raw;

	raw_open(scene.rig, &raw, MANY);
	RIG_REST(scene.rig);
	for (uint32_t i = 0; i < MANY; i++) {
		raw_describe(&raw, i, SHM_CALL, "hold")->body_bytes = BYTES;
		raw_command(&raw, i, 1, SHM_SUBMIT);
	}
	(void)loop_step(scene.rig->loop, 0); /* the bell */
	for (unsigned int turn = 1; turn <= 5; turn++) {
		(void)door_poll(scene.rig->door);
		CU_ASSERT_EQUAL(scene.rig->submitted, 3 * turn);
	}
	RIG_REST(scene.rig);
	CU_ASSERT_EQUAL(scene.rig->submitted, MANY);
	raw_close(&raw);
	close_scene(&scene);
}

static void a_late_acknowledgement_frees_the_pages(void)
{
	/* ACK(g) gives the pages of a large reply back, also where SUBMIT(g+1)
	 * overtook it in the slot's word. */
	struct scene scene = open_scene();
	struct stat file;

	for (int overtaken = 0; overtaken < 2; overtaken++) {
		uint32_t g = 1 + 2 * (uint32_t)overtaken;

		raw_submit(&scene.bad, 0, g, SHM_CALL, "bytes:4000000");
		RIG_UNTIL(scene.rig,
			raw_answer(&scene.bad, 0) == shm_word(g, SHM_DONE));
		(void)fstat(scene.bad.fds[WIRE_FD_DAEMON_BODIES], &file);
		CU_ASSERT(file.st_blocks * 512 >= 4000000);
		raw_command(&scene.bad, 0, g, SHM_ACK);
		if (!overtaken)
			RIG_REST(scene.rig);
		raw_submit(&scene.bad, 0, g + 1, SHM_CALL, "x");
		RIG_UNTIL(scene.rig,
			raw_answer(&scene.bad, 0) == shm_word(g + 1, SHM_DONE));
		(void)fstat(scene.bad.fds[WIRE_FD_DAEMON_BODIES], &file);
		CU_ASSERT_EQUAL(file.st_blocks, 0);
	}
	close_scene(&scene);
}

/* ------------------------------------------------------------ death */

static void the_process_dies_and_its_socket_lives(void)
{
	/* A fork keeps the socket of a dead client open: the pidfd tells. */
	struct rig *rig = rig_start();
	int pipe_fds[2];
	struct raw raw;
	pid_t child;
	char byte;

	CU_ASSERT_EQUAL_FATAL(pipe(pipe_fds), 0);
	child = fork();
	if (child == 0) {
		struct wire_hello hello = {
			.head = raw_head(WIRE_HELLO), .slots = 1};
		struct wire_mapped mapped = {raw_head(WIRE_MAPPED)};
		int socket = raw_connect(rig);

		(void)raw_send(socket, &hello, sizeof(hello), NULL, 0);
		(void)raw_send(socket, &mapped, sizeof(mapped), NULL, 0);
		(void)close(pipe_fds[1]);
		(void)fork(); /* both hold the socket until the pipe ends */
		(void)!read(pipe_fds[0], &byte, 1);
		_exit(0);
	}
	RIG_UNTIL(rig, rig_stats(rig).opened == 1);
	(void)kill(child, SIGKILL);
	RIG_UNTIL(rig, rig_stats(rig).died == 1);
	(void)waitpid(child, NULL, 0);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]); /* the grandchild goes */
	raw_open(rig, &raw, 1);
	raw_close(&raw);
	rig_stop(rig);
}

static void nothing_is_left_of_sessions(void)
{
	/* After any number of sessions, served or broken off in the middle, the
	 * descriptors are back at the start. */
	struct rig *rig = rig_start();
	struct raw raw;
	int before;

	raw_open(rig, &raw, 64);
	raw_close(&raw);
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	before = open_descriptors();
	for (int i = 0; i < 20; i++) {
		if (i % 3 == 0)
			raw_open(rig, &raw, 64);
		else
			raw_welcome(rig, &raw, 64);
		raw_close(&raw);
	}
	RIG_UNTIL(rig, rig_stats(rig).sessions == 0);
	RIG_UNTIL(rig, open_descriptors() <= before);
	rig_stop(rig);
}

static void descriptors_that_did_fit_are_told_of(void)
{
	/* Four come along, and there is room for two: these may hang when they
	 * are closed, so they are not closed behind the receiver's back. */
	struct rlimit limit, small;
	int ends[2], fds[4], spare[256], n_spare = 0, rc;
	size_t n_fds = 0;
	char byte;

	CU_ASSERT_EQUAL_FATAL(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	for (int i = 0; i < 4; i++)
		fds[i] = ends[0];
	CU_ASSERT_EQUAL(wire_send(ends[0], "", 1, fds, 4), 0);
	CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = (struct rlimit){128, limit.rlim_max};
	CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &small), 0);
	while ((spare[n_spare] = dup(ends[0])) >= 0)
		n_spare++;
	CU_ASSERT_FATAL(n_spare > 2);
	(void)close(spare[--n_spare]);
	(void)close(spare[--n_spare]);
	rc = (int)wire_receive(ends[1], &byte, 1, fds, 4, &n_fds);
	CU_ASSERT_EQUAL(rc, -EMFILE);
	CU_ASSERT_EQUAL(n_fds, 2);
	for (size_t i = 0; i < n_fds; i++)
		CU_ASSERT(fcntl(fds[i], F_GETFD) >= 0);
	wire_close_fds(fds, n_fds);
	wire_close_fds(spare, (size_t)n_spare);
	wire_close_fds(ends, 2);
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

SUITE("door_hostile", T(a_slot_out_of_range), T(a_tail_too_far),
	T(one_entry_more_than_the_ring), T(a_word_that_may_not_follow),
	T(a_second_submit_while_the_body_is_read),
	T(wrong_descriptors_are_invalid), T(the_longest_texts_pass),
	T(absurd_settlements_arrive), T(wrong_hellos_are_refused),
	T(any_number_of_slots_is_cut), T(odd_messages_of_a_served_client),
	T(descriptors_sent_along_are_closed),
	T(descriptors_that_did_fit_are_told_of),
	T(a_descriptor_that_hangs_hangs_nobody), T(a_refusal_arrives),
	T(too_many_sessions_are_refused), T(a_crowd_leaves_room_for_others),
	T(administration_is_answered), T(anybody_may_ask_for_his_own),
	T(nobody_is_forgotten_behind_sixteen),
	T(a_flood_leaves_others_their_turn),
	T(large_bodies_leave_others_their_turn),
	T(a_late_acknowledgement_frees_the_pages),
	T(the_process_dies_and_its_socket_lives),
	T(nothing_is_left_of_sessions))
