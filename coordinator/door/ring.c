/*
 * From a ring entry to a submission: every word and field that a client wrote
 * is copied once and judged here.
 *
 * The slot word is the truth, the ring only carries the order.  What each pair
 * of (our generation and state, client's word) means is in LAYOUT.md. Orders:
 * D1 (slot word) and D2 (tail) pair with the client's C1 and C2.
 */
#include "coordinator/door/inside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ------------------------------------------------------------ judging */

/* Printable ASCII, or any byte above: UTF-8 is for the log and the board to
 * escape.  No control bytes: they would forge lines and headers. */
static bool is_text(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte < 0x20 || byte == 0x7f)
			return false;
	}
	return true;
}

/* One copy of the descriptor; only the copy is judged. */
struct copied_slot {
	uint8_t kind, operation, class, flags;
	uint16_t model_bytes, headers_bytes, user_bytes;
	uint32_t body_bytes;
	uint64_t deadline_ns, input_tokens, output_tokens;
};

static struct copied_slot copy_slot(const struct client_slot *from)
{
	/* Volatile: the compiler must not look a second time. */
	const volatile struct client_slot *slot = from;

	return (struct copied_slot){
		.kind = slot->kind,
		.operation = slot->operation,
		.class = slot->class,
		.flags = slot->flags,
		.model_bytes = slot->model_bytes,
		.headers_bytes = slot->headers_bytes,
		.user_bytes = slot->user_bytes,
		.body_bytes = slot->body_bytes,
		.deadline_ns = slot->deadline_ns,
		.input_tokens = slot->input_tokens,
		.output_tokens = slot->output_tokens,
	};
}

/* The texts, copied behind one another's back and closed with a zero. */
static void copy_texts(struct door *door, const struct door_session *session,
	uint32_t index, const struct copied_slot *copy)
{
	const struct client_text *text = session_client_text(session, index);
	const struct client_slot *slot = session_client_slot(session, index);

	memcpy(door->model_id, text->model, copy->model_bytes);
	door->model_id[copy->model_bytes] = '\0';
	memcpy(door->headers, text->headers, copy->headers_bytes);
	door->headers[copy->headers_bytes] = '\0';
	memcpy(door->user, slot->user, copy->user_bytes);
	door->user[copy->user_bytes] = '\0';
}

static bool has_body(uint8_t kind)
{
	return kind == SHM_CALL || kind == SHM_TASK;
}

/* A question about tasks has no need of a model id and a user. */
static const char *judge_numbers(const struct copied_slot *copy)
{
	bool asks = copy->kind == SHM_TASK_VERB;

	if (copy->kind > SHM_TASK_VERB ||
		copy->operation >
			(asks ? (int)SHM_TASK_HISTORY : (int)SHM_CONVERSE) ||
		copy->class > SHM_BATCH || copy->flags > SHM_FLAGS_ALL)
		return "kind, operation, class or flags: unknown value";
	if ((copy->model_bytes < 1 && !asks) ||
		copy->model_bytes > SHM_MODEL_BYTES)
		return "model id: expected 1 to 2048 bytes";
	if ((copy->user_bytes < 1 && !asks) ||
		copy->user_bytes >= SHM_USER_BYTES)
		return "user: expected 1 to 63 bytes";
	if (copy->headers_bytes > SHM_HEADERS_BYTES)
		return "headers: expected at most 2048 bytes";
	if (copy->body_bytes > SHM_BODY_MAX)
		return "body: expected at most 25000000 bytes";
	if (!has_body(copy->kind) && copy->body_bytes != 0)
		return "body: expected none with a permit or a question";
	if (copy->deadline_ns == 0)
		return "deadline: expected one";
	/* Above it, sums of them could wrap. */
	if (copy->input_tokens > UINT32_MAX || copy->output_tokens > UINT32_MAX)
		return "tokens: expected at most 4294967295";
	return NULL;
}

static const char *judge_texts(
	const struct door *door, const struct copied_slot *copy)
{
	if (!is_text(door->user, copy->user_bytes))
		return "user: expected printable bytes, found a control byte";
	if (!is_text(door->model_id, copy->model_bytes))
		return "model id: expected printable bytes, found a control "
		       "byte";
	if (memchr(door->headers, '\0', copy->headers_bytes) != NULL)
		return "headers: expected text, found a zero byte";
	return NULL;
}

/* One text of the copy, closed with a zero; NULL, or what is wrong. */
static const char *take_text(const char *from, uint16_t bytes, size_t most,
	char *ret_text, const char *wrong)
{
	if (bytes > most || !is_text(from, bytes))
		return wrong;
	memcpy(ret_text, from, bytes);
	ret_text[bytes] = '\0';
	return NULL;
}

/* What it says of tasks, copied once; NULL, or what is wrong. */
static const char *copy_task(struct door *door,
	const struct door_session *session, uint32_t index,
	struct door_task_words *ret_words)
{
	struct client_task *copy = &door->task;
	const char *wrong;

	memcpy(copy, session_client_task(session, index), sizeof(*copy));
	wrong = take_text(copy->key, copy->key_bytes, SHM_TASK_KEY_BYTES,
		door->key, "key: expected at most 128 printable bytes");
	if (wrong == NULL)
		wrong = take_text(copy->callback, copy->callback_bytes,
			SHM_TASK_CALLBACK_BYTES, door->callback,
			"callback: expected at most 1024 printable bytes");
	if (wrong == NULL)
		wrong = take_text(copy->text, copy->text_bytes,
			SHM_TASK_TEXT_BYTES, door->text,
			"text: expected at most 128 printable bytes");
	*ret_words = (struct door_task_words){.timeout_ns = copy->timeout_ns,
		.states = copy->states,
		.most = copy->most,
		.key = door->key,
		.callback = door->callback,
		.text = door->text};
	memcpy(ret_words->id, copy->id, sizeof(ret_words->id));
	return wrong;
}

/* ------------------------------------------------------------ handing out */

/* The descriptor of an accepted generation goes to the handlers, or the request
 * ends at once as invalid. */
static void submit(struct door_session *session, struct door_slot *slot,
	enum shm_state recovered)
{
	struct door *door = session->door;
	struct copied_slot copy =
		copy_slot(session_client_slot(session, slot->index));
	const char *wrong = judge_numbers(&copy);
	bool of_tasks = copy.kind == SHM_TASK || copy.kind == SHM_TASK_VERB;
	struct door_task_words task;

	slot->flags = copy.flags & SHM_FLAGS_ALL;
	if (recovered == SHM_GRANTED && copy.kind != SHM_PERMIT)
		wrong = "kind: expected the permit that was granted";
	if (wrong == NULL) {
		copy_texts(door, session, slot->index, &copy);
		wrong = judge_texts(door, &copy);
	}
	if (wrong == NULL && of_tasks)
		wrong = copy_task(door, session, slot->index, &task);
	if (wrong != NULL) {
		answer_at_once(slot, SHM_INVALID, wrong);
		return;
	}
	door->turn_bytes += copy.body_bytes;
	door->handlers.submitted(door->owner, slot,
		&(struct door_submission){
			.kind = copy.kind,
			.operation = copy.operation,
			.class = copy.class,
			.body_bytes = copy.body_bytes,
			.deadline_ns = copy.deadline_ns,
			.input_tokens = copy.input_tokens,
			.output_tokens = copy.output_tokens,
			.model_id = door->model_id,
			.headers = door->headers,
			.user = door->user,
			.app = session->app,
			.is_idempotent = (copy.flags & SHM_NOT_IDEMPOTENT) == 0,
			.recovered = recovered,
			.verb = copy.operation,
			.peer = session->peer,
			.uid = session->uid,
			.reads_tasks = session->reads_tasks,
			.task = of_tasks ? &task : NULL,
		});
}

/* What the client says of the permit of our generation, if it says it. */
static struct door_settlement copy_settlement(const struct door_slot *slot)
{
	const volatile struct client_slot *from =
		session_client_slot(slot->session, slot->index);
	uint32_t generation = from->settled_generation;
	uint32_t how = from->settlement;

	if (generation != slot->generation || how > SHM_SETTLED_UNUSED)
		return (struct door_settlement){.how = SHM_SETTLED_OK,
			.input_tokens = -1,
			.output_tokens = -1};
	return (struct door_settlement){.is_known = true,
		.how = how,
		.input_tokens = from->settled_input_tokens,
		.output_tokens = from->settled_output_tokens};
}

static void settle(struct door_slot *slot)
{
	struct door *door = slot->session->door;
	struct door_settlement settlement = copy_settlement(slot);

	door->handlers.settled(door->owner, slot, &settlement);
}

static void cancel(struct door_slot *slot)
{
	struct door *door = slot->session->door;

	if (slot->request == NULL)
		return; /* answered meanwhile */
	if (slot->state == SHM_GRANTED)
		settle(slot);
	else
		door->handlers.cancelled(door->owner, slot);
}

static void accept_new(struct door_slot *slot, uint32_t word)
{
	/* A permit whose settlement came with the next submit. */
	if (slot->state == SHM_GRANTED && slot->request != NULL)
		settle(slot);
	/* Going down: it stays in the client's memory for a successor. */
	if (slot->session->door->is_stopped)
		return;
	slot->generation = shm_generation(word);
	slot->state = SHM_DONE; /* not yet accepted: nothing is published */
	if (session_prepare_slot(slot->session, slot->index) != 0) {
		door_drop(slot->session, "no memory for its answers");
		return;
	}
	if (shm_low(word) == SHM_CANCEL)
		answer_at_once(slot, SHM_CANCELLED, NULL);
	else
		submit(slot->session, slot, SHM_DONE);
}

/* A command about the generation that we have accepted already. */
static void obey(struct door_slot *slot, uint32_t command)
{
	if (command == SHM_CANCEL)
		cancel(slot);
	else if (command == SHM_SETTLE && slot->state == SHM_GRANTED &&
		 slot->request != NULL)
		settle(slot);
	else if (command == SHM_ACK && slot->state == SHM_DONE)
		answer_punch(slot);
	else
		slot->session->door->stats.stale_entries++;
}

/* May the next request come?  A request is out of the slot's hands only then;
 * until it is accepted its slot still shows the state of the one before. */
static bool is_answered(const struct door_slot *slot)
{
	return slot->state == SHM_GRANTED ||
	       (slot->state == SHM_DONE && slot->request == NULL);
}

/* May the client say this word now?  Otherwise what is wrong with it. */
static const char *judge_word(const struct door_slot *slot, uint32_t word)
{
	uint32_t ahead =
		shm_generations_between(slot->generation, shm_generation(word));
	uint32_t command = shm_low(word);

	if (ahead > 1)
		return "a generation that is neither the last nor the next";
	if (command == SHM_NONE || command > SHM_ACK)
		return ahead == 0 && word == 0 ? NULL : "an unknown command";
	if (ahead == 1 && command != SHM_SUBMIT && command != SHM_CANCEL)
		return "a command about a request that was never submitted";
	if (ahead == 1 && !is_answered(slot))
		return "a submit before the answer to the last one";
	return NULL;
}

/* ------------------------------------------------------------ the ring */

bool ring_is_empty(const struct door_session *session)
{
	return load_acquire(session->client->tail) == session->head; /* D2 */
}

/* The next submit came before we looked: only the hint still says that the last
 * reply was read.  Until the next one is accepted its pages are nobody's. */
static void take_late_ack(const struct door_slot *slot, uint32_t hint)
{
	if (shm_low(hint) == SHM_ACK &&
		shm_generation(hint) == slot->generation && is_answered(slot))
		answer_punch(slot);
}

static void take_entry(struct door_session *session, uint64_t entry)
{
	uint32_t index = SHM_RING_INDEX(entry);
	uint32_t hint = SHM_RING_WORD(entry);
	struct door_slot *slot;
	const char *wrong;
	uint32_t word;

	if (index >= session->n_slots) {
		door_expel(session, "a ring entry with a slot out of range");
		return;
	}
	slot = &session->slots[index];
	word = load_acquire(session_client_slot(session, index)->word); /* D1 */
	wrong = judge_word(slot, word);
	if (wrong != NULL) {
		door_expel(session, wrong);
		return;
	}
	/* The hint of an older generation: its newer one has an entry of its
	 * own, which keeps the order of arrival and bounds the ring. */
	if (shm_generation(hint) != shm_generation(word)) {
		take_late_ack(slot, hint);
		return;
	}
	if (shm_generation(word) != slot->generation)
		accept_new(slot, word);
	else
		obey(slot, shm_low(word));
}

int ring_take(struct door_session *session)
{
	uint64_t tail = load_acquire(session->client->tail); /* D2, once */
	uint64_t waiting = tail - session->head;
	uint32_t mask = session->client_shape.ring_entries - 1;
	int taken = 0;

	if (waiting > session->client_shape.ring_entries) {
		door_expel(session, "a tail too far ahead of what was read");
		return -1;
	}
	session->door->turn_bytes = 0;
	for (; waiting > 0 && taken < ENTRIES_PER_TURN &&
		session->door->turn_bytes < BYTES_PER_TURN;
		waiting--, taken++) {
		/* Relaxed: D2 made it visible. */
		uint64_t entry = load_relaxed(client_ring(session->client,
			&session->client_shape)[session->head & mask]);

		session->head++;
		take_entry(session, entry);
		if (session->is_over)
			return -1;
	}
	return taken;
}

/* ------------------------------------------------------------ recovery */

static void tell_overtaken(const struct door_slot *slot)
{
	struct door *door = slot->session->door;
	struct door_settlement settlement = copy_settlement(slot);

	door->handlers.overtaken(door->owner, slot, &settlement);
}

/* What a predecessor had not ended. */
static void resume(struct door_slot *slot, uint32_t command)
{
	if (slot->state == SHM_GRANTED && command != SHM_SUBMIT) {
		/* Given back while nobody listened.  Its word is all that is
		 * left to say: the grant may be being read, and the descriptor
		 * may be that of the next request already. */
		tell_overtaken(slot);
		door_release(slot);
	} else if (command == SHM_CANCEL) {
		answer_at_once(slot, SHM_CANCELLED, NULL);
	} else {
		submit(slot->session, slot, slot->state);
	}
}

/* One slot of a predecessor's session.  Its state is what the predecessor last
 * published: ours alone to write, but a hostile client may bring forged files.
 * 0; -EPROTO with words, -ENOMEM.
 */
static int recover_slot(
	struct door_session *session, uint32_t index, const char **ret_wrong)
{
	struct door_slot *slot = &session->slots[index];
	uint32_t ours =
		session_slot_is_ready(session, index)
			? load_relaxed(
				  session_daemon_slot(session, index)->word)
			: 0;
	uint32_t word = load_acquire(session_client_slot(session, index)->word);

	slot->generation = shm_generation(ours);
	slot->state = (uint8_t)shm_low(ours);
	*ret_wrong = shm_low(ours) > SHM_GRANTED
			     ? "an unknown state in rgovd's own file"
			     : judge_word(slot, word);
	if (*ret_wrong != NULL)
		return -EPROTO;
	if (shm_generation(word) != slot->generation) {
		if (slot->state == SHM_GRANTED)
			tell_overtaken(slot);
		accept_new(slot, word);
	} else if (slot->state != SHM_DONE) {
		resume(slot, shm_low(word));
	}
	/* Its predecessor may have died between the word and the wake-up. */
	if (ours != 0)
		answer_wake(slot);
	return session->is_over ? -ENOMEM : 0;
}

/* What was expected of the slot and what was found, for the client's people. */
static void say_why(const struct door_session *session, uint32_t index,
	const char *wrong, char ret_why[SHM_MESSAGE_BYTES])
{
	const struct door_slot *slot = &session->slots[index];
	uint32_t word = load_relaxed(session_client_slot(session, index)->word);

	(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
		"reattach: slot %u: %s: expected a word that may follow "
		"generation %u in state %u, found generation %u with command "
		"%u",
		index, wrong, slot->generation, slot->state,
		shm_generation(word), shm_low(word));
}

int ring_recover(struct door_session *session, char ret_why[SHM_MESSAGE_BYTES])
{
	/* First the tail, then the slots: an entry written in between is then
	 * found twice (and the second time stale), never not at all. */
	session->head = load_acquire(session->client->tail);
	for (uint32_t i = 0; i < session->n_slots; i++) {
		const char *wrong = NULL;
		int rc = recover_slot(session, i, &wrong);

		if (rc == 0)
			continue;
		if (wrong != NULL) {
			say_why(session, i, wrong, ret_why);
			door_expel(session, ret_why);
		} else {
			/* Dropped already: it may come back. */
			(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
				"reattach: rgovd has no memory for the "
				"answers");
		}
		return rc;
	}
	return 0;
}
