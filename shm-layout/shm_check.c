/*
 * Orders in this file: D1, D2, A3 (acquire) for words whose content is looked
 * at afterwards; the rest is relaxed: a figure that is a moment old is only
 * compared where the caller says that nobody writes.
 */
#include "shm-layout/shm_check.h"

#include "shm-layout/shm_board.h"
#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_word.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	FINDING_BYTES = 192,
	THREADS_MAX = 1 << 22, /* of one process: Linux has no more pids */
};

/* The invariants of LAYOUT.md that memory can show. */
enum {
	BODIES = 1,      /* a descriptor within its bounds */
	ONE_DONE = 3,    /* one end for each accepted generation */
	GENERATIONS = 5, /* the client at most one ahead */
	WHOLE = 6,       /* nothing torn, texts closed */
	BALANCED = 7,    /* after quiet, all is back */
	HARMLESS = 8,    /* the ring can be taken */
	ONE_OWNER = 10,  /* never two requests on one slot */
	STARTS = 11,     /* every start is recorded */
	LAYOUT = 12,     /* the layout that both mean */
};

struct walk {
	const struct shm_check *check;
	unsigned int findings;
};

__attribute__((format(printf, 3, 4))) static void find(
	struct walk *walk, unsigned int invariant, const char *format, ...)
{
	char text[FINDING_BYTES];
	va_list args;

	walk->findings++;
	if (walk->check->found == NULL)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	walk->check->found(walk->check->owner, invariant, text);
}

static void expect_zero(struct walk *walk, const char *place, uint32_t index,
	const void *bytes, size_t n)
{
	/* Volatile: whoever writes there breaks the rule, not the walk. */
	const volatile unsigned char *at = bytes;

	for (size_t i = 0; i < n; i++) {
		if (at[i] == 0)
			continue;
		find(walk, LAYOUT, "%s %u: its padding is not zero", place,
			index);
		return;
	}
}

static void expect_closed(struct walk *walk, const char *place, uint32_t index,
	const char *text, size_t n)
{
	if (memchr(text, '\0', n) == NULL)
		find(walk, WHOLE, "%s %u: a text without its final zero", place,
			index);
}

/* False: it is being written, or its writer died inside. */
static bool read_record(struct walk *walk, const char *what, uint32_t index,
	const void *record, size_t bytes, void *ret_copy)
{
	if (board_read_record(record, bytes, ret_copy))
		return true;
	if (walk->check->is_quiet)
		find(walk, WHOLE, "%s %u: its writer did not finish", what,
			index);
	return false;
}

/* ------------------------------------------------------------ sessions */

static bool check_headers(struct walk *walk, const struct client_header *client,
	const struct daemon_header *daemon)
{
	unsigned int before = walk->findings;

	if (load_acquire(daemon->magic) != SHM_DAEMON_MAGIC)
		find(walk, LAYOUT, "daemon control: no magic of rgov");
	if (load_acquire(client->magic) != SHM_CLIENT_MAGIC)
		find(walk, LAYOUT, "client control: no magic of rgov");
	if (daemon->layout_version != SHM_LAYOUT_VERSION ||
		daemon->layout_hash != shm_layout_hash())
		find(walk, LAYOUT, "daemon control: another layout");
	if (client->layout_version != SHM_LAYOUT_VERSION ||
		client->layout_hash != shm_layout_hash())
		find(walk, LAYOUT, "client control: another layout");
	if (client->slots != daemon->slots)
		find(walk, LAYOUT, "client control: %u slots, rgovd's %u",
			client->slots, daemon->slots);
	expect_zero(walk, "client header", 0, &client->zero0,
		sizeof(client->zero0));
	expect_zero(
		walk, "client header", 0, client->zero1, sizeof(client->zero1));
	expect_zero(
		walk, "client header", 0, client->zero2, sizeof(client->zero2));
	expect_zero(
		walk, "daemon header", 0, daemon->zero1, sizeof(daemon->zero1));
	expect_zero(
		walk, "daemon header", 0, daemon->zero3, sizeof(daemon->zero3));
	if (load_relaxed(daemon->polling) > 1)
		find(walk, HARMLESS, "daemon header: polling is %u",
			load_relaxed(daemon->polling));
	return walk->findings == before;
}

/* What the client may have said of a request that rgovd has accepted, in the
 * state that it shows. */
static void check_words(struct walk *walk, uint32_t slot, uint32_t theirs,
	uint32_t ours, bool is_quiet)
{
	uint32_t ahead = shm_generations_between(
		shm_generation(ours), shm_generation(theirs));
	uint32_t command = shm_low(theirs), state = shm_low(ours);

	if (state > SHM_GRANTED)
		find(walk, ONE_DONE, "slot %u: unknown state %u of rgovd", slot,
			state);
	if (command > SHM_ACK)
		find(walk, HARMLESS, "slot %u: unknown command %u", slot,
			command);
	if (command == SHM_NONE && theirs != 0)
		find(walk, HARMLESS, "slot %u: no command, but generation %u",
			slot, shm_generation(theirs));
	if (ahead > 1)
		find(walk, GENERATIONS,
			"slot %u: client generation %u, rgovd's %u", slot,
			shm_generation(theirs), shm_generation(ours));
	if (ahead == 1 && (state == SHM_ACCEPTED || state == SHM_ISSUED))
		find(walk, ONE_DONE,
			"slot %u: generation %u was submitted before the end "
			"of %u",
			slot, shm_generation(theirs), shm_generation(ours));
	if (ahead == 1 && (command == SHM_SETTLE || command == SHM_ACK))
		find(walk, HARMLESS,
			"slot %u: command %u about generation %u, which was "
			"never submitted",
			slot, command, shm_generation(theirs));
	if (is_quiet && (ahead != 0 || state != SHM_DONE))
		find(walk, BALANCED,
			"slot %u: generation %u has no end (state %u)", slot,
			shm_generation(theirs), state);
}

static void check_descriptor(
	struct walk *walk, uint32_t index, const struct client_slot *slot)
{
	const volatile struct client_slot *of = slot;

	if (of->kind > SHM_TASK_VERB || of->operation >= SHM_TASK_VERBS ||
		of->class > SHM_BATCH || of->flags > SHM_FLAGS_ALL)
		find(walk, BODIES,
			"slot %u: kind, operation, class or flags unknown",
			index);
	if (of->model_bytes > SHM_MODEL_BYTES ||
		of->headers_bytes > SHM_HEADERS_BYTES ||
		of->user_bytes >= SHM_USER_BYTES)
		find(walk, BODIES, "slot %u: a text longer than its place",
			index);
	if (of->body_bytes > SHM_BODY_MAX)
		find(walk, BODIES, "slot %u: a body of %u bytes", index,
			of->body_bytes);
	expect_zero(
		walk, "client slot", index, &slot->zero0, sizeof(slot->zero0));
	expect_zero(
		walk, "client slot", index, slot->zero1, sizeof(slot->zero1));
	expect_zero(
		walk, "client slot", index, slot->zero2, sizeof(slot->zero2));
}

static void check_place(
	struct walk *walk, uint32_t index, const struct daemon_place *shown)
{
	struct daemon_place place;

	if (!read_record(walk, "place", index, shown, sizeof(place), &place))
		return;
	if (place.generation > SHM_GENERATION_MASK ||
		place.reason >= SHM_REASONS)
		find(walk, WHOLE, "place %u: a value out of range", index);
	expect_zero(walk, "place", index, &place.zero0, sizeof(place.zero0));
}

static void check_reply(
	struct walk *walk, uint32_t index, const struct daemon_slot *slot)
{
	if (slot->result >= SHM_RESULTS)
		find(walk, ONE_DONE, "slot %u: unknown result %u", index,
			slot->result);
	if (slot->body_bytes > SHM_BODY_REGION)
		find(walk, WHOLE, "slot %u: a reply of %u bytes", index,
			slot->body_bytes);
	if (slot->issued > 1)
		find(walk, WHOLE, "slot %u: issued is %u", index, slot->issued);
	expect_closed(walk, "slot", index, slot->code, sizeof(slot->code));
	expect_closed(walk, "slot", index, slot->request_id,
		sizeof(slot->request_id));
	expect_closed(
		walk, "slot", index, slot->message, sizeof(slot->message));
	if (slot->has_model > 1 || slot->waited >> SHM_REASONS != 0)
		find(walk, WHOLE, "slot %u: has_model %u, waited %x", index,
			slot->has_model, slot->waited);
	if (slot->has_model == 1)
		expect_closed(
			walk, "slot", index, slot->model, sizeof(slot->model));
	check_place(walk, index, &slot->place);
	if (slot->task.state >= SHM_TASK_STATE_COUNT ||
		slot->task.result >= SHM_RESULTS)
		find(walk, WHOLE, "slot %u: task in state %u with result %u",
			index, slot->task.state, slot->task.result);
}

static void check_slot(struct walk *walk, uint32_t index,
	const struct client_slot *client, const struct daemon_slot *daemon)
{
	/* rgovd's first: the client moves only after it, so that a pair that
	 * changes meanwhile looks older, never impossible. */
	uint32_t ours = load_acquire(daemon->word);   /* A3 */
	uint32_t theirs = load_acquire(client->word); /* D1 */
	uint32_t again = load_acquire(daemon->word);

	if (ours == again)
		check_words(walk, index, theirs, ours, walk->check->is_quiet);
	if (load_relaxed(client->waiting) > THREADS_MAX)
		find(walk, HARMLESS, "slot %u: waiting is %u", index,
			load_relaxed(client->waiting));
	if (theirs != 0)
		check_descriptor(walk, index, client);
	if (ours != 0)
		check_reply(walk, index, daemon);
}

static void check_ring(struct walk *walk, const struct client_header *client,
	const _Atomic uint64_t *ring, const struct client_shape *shape)
{
	uint64_t tail = load_acquire(client->tail); /* D2 */
	uint64_t head = walk->check->head;
	uint64_t written =
		tail < shape->ring_entries ? tail : shape->ring_entries;

	if (head != UINT64_MAX && tail - head > shape->ring_entries)
		find(walk, HARMLESS, "ring: tail %llu, %llu were taken",
			(unsigned long long)tail, (unsigned long long)head);
	if (head != UINT64_MAX && walk->check->is_quiet && tail != head)
		find(walk, BALANCED, "ring: %llu entries wait",
			(unsigned long long)(tail - head));
	for (uint64_t i = 0; i < written; i++) {
		/* Relaxed: D2 made the older ones visible. */
		uint64_t entry = load_relaxed(ring[i]);

		if (SHM_RING_INDEX(entry) >= shape->slots)
			find(walk, HARMLESS, "ring entry %llu: slot %u of %u",
				(unsigned long long)i, SHM_RING_INDEX(entry),
				shape->slots);
	}
}

unsigned int shm_check_session(const struct shm_check *check,
	const struct client_header *client, size_t client_bytes,
	const struct daemon_header *daemon, size_t daemon_bytes)
{
	struct walk walk = {.check = check};
	/* Once: a number that changes must not move the end of the walk. */
	uint32_t slots = *(const volatile uint32_t *)&daemon->slots;
	struct client_shape shape;
	struct daemon_shape answers;
	const char *client_base = (const char *)client;
	const char *daemon_base = (const char *)daemon;

	if (client_bytes < sizeof(*client) || daemon_bytes < sizeof(*daemon) ||
		!check_headers(&walk, client, daemon)) {
		if (walk.findings == 0)
			find(&walk, LAYOUT, "files too short for a header");
		return walk.findings;
	}
	if (slots < SHM_SLOTS_MIN || slots > SHM_SLOTS_MAX) {
		find(&walk, LAYOUT, "daemon control: %u slots", slots);
		return walk.findings;
	}
	shape = client_shape(slots);
	answers = daemon_shape(slots);
	if (client_bytes != shape.total_bytes ||
		daemon_bytes != answers.total_bytes) {
		find(&walk, LAYOUT, "files not of the size of %u slots", slots);
		return walk.findings;
	}
	check_ring(&walk, client,
		(const _Atomic uint64_t *)(const void *)(client_base +
							 shape.ring_off),
		&shape);
	for (uint32_t i = 0; i < slots; i++)
		check_slot(&walk, i,
			(const struct client_slot *)(const void
					*)(client_base + shape.slots_off) +
				i,
			(const struct daemon_slot *)(const void
					*)(daemon_base + answers.slots_off) +
				i);
	return walk.findings;
}

/* ------------------------------------------------------------ boards */

static void check_board_header(
	struct walk *walk, const struct board_header *header)
{
	if (load_acquire(header->magic) != SHM_BOARD_MAGIC ||
		header->layout_version != SHM_LAYOUT_VERSION ||
		header->layout_hash != shm_layout_hash() ||
		header->total_bytes != sizeof(struct board))
		find(walk, LAYOUT, "header: another layout");
	expect_closed(walk, "header", 0, header->name, sizeof(header->name));
	expect_closed(
		walk, "header", 0, header->version, sizeof(header->version));
	expect_closed(
		walk, "header", 0, header->engine, sizeof(header->engine));
	expect_closed(walk, "header", 0, header->socket_path,
		sizeof(header->socket_path));
	expect_closed(
		walk, "header", 0, header->endpoint, sizeof(header->endpoint));
	expect_closed(
		walk, "header", 0, header->preset, sizeof(header->preset));
	expect_zero(walk, "header", 0, header->zero1, sizeof(header->zero1));
	expect_zero(walk, "header", 0, header->zero3, sizeof(header->zero3));
}

static uint64_t value(const _Atomic uint64_t *counter)
{
	return load_relaxed(*counter);
}

/* The parts are read before the whole, which only grows. */
static void check_counters(
	struct walk *walk, const struct board_counters *counters)
{
	uint64_t ended = value(&counters->ended_requests);
	uint64_t started = value(&counters->started_requests);
	uint64_t over = value(&counters->successful_requests) +
			value(&counters->failed_requests) +
			value(&counters->cancelled_requests);
	uint64_t permits = value(&counters->permits_granted);
	uint64_t total = value(&counters->total_requests);

	if (over > total)
		find(walk, ONE_DONE,
			"counters: %llu requests ended, %llu were accepted",
			(unsigned long long)over, (unsigned long long)total);
	if (ended > started)
		find(walk, ONE_DONE,
			"counters: %llu ended after a start, %llu started",
			(unsigned long long)ended, (unsigned long long)started);
	if (started > total)
		find(walk, ONE_DONE,
			"counters: %llu started, %llu were accepted",
			(unsigned long long)started, (unsigned long long)total);
	if (permits > value(&counters->started_requests))
		find(walk, ONE_DONE, "counters: %llu permits, %llu starts",
			(unsigned long long)permits,
			(unsigned long long)started);
}

static bool is_running(const struct board_live *live)
{
	return live->state == BOARD_LIVE_RUNNING ||
	       live->state == BOARD_LIVE_PERMIT;
}

static void check_live_record(
	struct walk *walk, uint32_t index, const struct board_live *live)
{
	if (live->state > BOARD_LIVE_OVERDUE) {
		find(walk, WHOLE, "live %u: unknown state %u", index,
			live->state);
		return;
	}
	if (live->state == BOARD_LIVE_FREE)
		return;
	expect_closed(walk, "live", index, live->user, sizeof(live->user));
	expect_closed(walk, "live", index, live->app, sizeof(live->app));
	expect_closed(walk, "live", index, live->model, sizeof(live->model));
	if (live->user[0] == '\0' || live->model[0] == '\0' ||
		live->request == 0)
		find(walk, WHOLE, "live %u: without user, model or number",
			index);
	if (live->class > SHM_BATCH || live->kind > SHM_TASK ||
		live->operation > SHM_CONVERSE || live->slot >= SHM_SLOTS_MAX ||
		live->lane >= SHM_BOARD_LANES || live->held_by >= SHM_REASONS ||
		live->generation > SHM_GENERATION_MASK)
		find(walk, WHOLE, "live %u: a value out of range", index);
	if (live->state == BOARD_LIVE_PERMIT && live->expires_ns == 0)
		find(walk, BALANCED, "live %u: a permit without an end", index);
}

/* In quiet, so that both are looked at as they are. */
static void check_one_owner(struct walk *walk, const struct board *board,
	uint32_t index, const struct board_live *live)
{
	static const uint8_t nobody[sizeof(live->session_id)];

	if (memcmp(live->session_id, nobody, sizeof(nobody)) == 0)
		return;
	for (uint32_t i = index + 1; i < SHM_BOARD_LIVE; i++) {
		const struct board_live *other = &board->live[i];

		if (other->state != BOARD_LIVE_FREE &&
			other->slot == live->slot &&
			memcmp(other->session_id, live->session_id,
				sizeof(live->session_id)) == 0)
			find(walk, ONE_OWNER,
				"live %u and %u: the same slot of one session",
				index, i);
	}
}

static void check_live(struct walk *walk, const struct board *board)
{
	uint32_t running = 0, shown = load_relaxed(board->host.running);

	for (uint32_t i = 0; i < SHM_BOARD_LIVE; i++) {
		struct board_live live;

		if (!read_record(walk, "live", i, &board->live[i], sizeof(live),
			    &live))
			continue;
		check_live_record(walk, i, &live);
		running += is_running(&live);
		if (walk->check->is_quiet && live.state != BOARD_LIVE_FREE)
			check_one_owner(walk, board, i, &live);
	}
	if (walk->check->is_quiet && running != shown &&
		load_relaxed(board->header.live_hidden) == 0)
		find(walk, BALANCED,
			"host: %u are running, the live records say %u", shown,
			running);
}

static void check_lanes_and_users(struct walk *walk, const struct board *board)
{
	for (uint32_t i = 0; i < SHM_BOARD_LANES; i++) {
		struct board_lane lane;

		if (!read_record(walk, "lane", i, &board->lanes[i],
			    sizeof(lane), &lane))
			continue;
		expect_closed(walk, "lane", i, lane.name, sizeof(lane.name));
		expect_closed(
			walk, "lane", i, lane.pattern, sizeof(lane.pattern));
		if (lane.gate_open > 1 || lane.held_by >= SHM_REASONS)
			find(walk, WHOLE, "lane %u: gate_open %u, held by %u",
				i, lane.gate_open, lane.held_by);
		expect_zero(walk, "lane", i, lane.zero1, sizeof(lane.zero1));
	}
	for (uint32_t i = 0; i < SHM_BOARD_USERS; i++) {
		struct board_user user;

		if (!read_record(walk, "user", i, &board->users[i],
			    sizeof(user), &user))
			continue;
		expect_closed(walk, "user", i, user.name, sizeof(user.name));
		expect_closed(walk, "user", i, user.app, sizeof(user.app));
		if (user.held_by >= SHM_REASONS)
			find(walk, WHOLE, "user %u: held by %u", i,
				user.held_by);
	}
}

static void check_cluster(struct walk *walk, const struct board *board)
{
	struct board_cluster cluster;

	if (!read_record(walk, "cluster", 0, &board->cluster, sizeof(cluster),
		    &cluster))
		return;
	if (cluster.mode > BOARD_CLUSTER_APART || cluster.is_namesake > 1 ||
		cluster.is_connected > 1)
		find(walk, WHOLE, "cluster: mode %u, namesake %u, connected %u",
			cluster.mode, cluster.is_namesake,
			cluster.is_connected);
	expect_closed(
		walk, "cluster", 0, cluster.on_loss, sizeof(cluster.on_loss));
	expect_closed(
		walk, "cluster", 0, cluster.trouble, sizeof(cluster.trouble));
	expect_closed(walk, "cluster", 0, cluster.trouble_text,
		sizeof(cluster.trouble_text));
	expect_closed(
		walk, "cluster", 0, cluster.reason, sizeof(cluster.reason));
	expect_closed(walk, "cluster", 0, cluster.redis, sizeof(cluster.redis));
	expect_closed(
		walk, "cluster", 0, cluster.account, sizeof(cluster.account));
	expect_closed(walk, "cluster", 0, cluster.host, sizeof(cluster.host));
}

static void check_events(struct walk *walk, const struct board *board)
{
	for (uint32_t i = 0; i < SHM_BOARD_EVENTS; i++) {
		struct board_event event;
		uint64_t events;

		if (!read_record(walk, "event", i, &board->recent[i],
			    sizeof(event), &event))
			continue;
		/* After the record: it may be the newest, not yet counted. */
		events = load_acquire(board->header.events);
		expect_closed(walk, "event", i, event.kind, sizeof(event.kind));
		expect_closed(walk, "event", i, event.text, sizeof(event.text));
		if (event.kind[0] != '\0' &&
			(event.number % SHM_BOARD_EVENTS != i ||
				event.number > events))
			find(walk, WHOLE, "event %u: number %llu of %llu", i,
				(unsigned long long)event.number,
				(unsigned long long)events);
	}
}

static void check_starts(struct walk *walk, const struct board *board)
{
	uint64_t starts = load_acquire(board->header.starts); /* B3 */

	for (uint32_t i = 0; i < SHM_BOARD_STARTS; i++) {
		const struct board_start *start = &board->start_ring[i];
		uint64_t at_ns = load_acquire(start->started_ns); /* B3 */

		if (start->lane >= SHM_BOARD_LANES)
			find(walk, STARTS, "start %u: lane %u", i, start->lane);
		if (i < starts && at_ns == 0)
			find(walk, STARTS, "start %u: counted, not recorded",
				i);
		/* One may be recorded and not yet counted. */
		if (i > starts && at_ns != 0)
			find(walk, STARTS, "start %u: recorded, not counted",
				i);
	}
}

unsigned int shm_check_board(
	const struct shm_check *check, const struct board *board)
{
	struct walk walk = {.check = check};

	check_board_header(&walk, &board->header);
	check_counters(&walk, &board->counters);
	check_live(&walk, board);
	check_cluster(&walk, board);
	check_lanes_and_users(&walk, board);
	check_events(&walk, board);
	check_starts(&walk, board);
	return walk.findings;
}
