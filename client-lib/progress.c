/*
 * How it stands with a request, while it is out and afterwards.
 *
 * Orders: C5 (D5) a place in the queue, A3 whether the end is there.
 */
#include "client-lib/handle.h"
#include "client-lib/words.h"
#include "shm-layout/shm_board.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MS_NS 1000000u

/* ------------------------------------------------------------ from memory */

/* rgovd writes it anew when it is asked, perhaps by somebody else. */
static bool read_place(const struct session *session,
	const struct rgov_ticket *ticket, struct daemon_place *ret_place)
{
	const struct daemon_slot *slot = &session->daemon_slots[ticket->slot];

	return board_read_record(&slot->place, sizeof(*ret_place), ret_place) &&
	       ret_place->generation == ticket->generation;
}

static enum rgov_state state_of(
	const struct session *session, const struct rgov_ticket *ticket)
{
	/* Relaxed: nothing behind it is looked at. */
	uint32_t word = load_relaxed(session->daemon_slots[ticket->slot].word);

	if (shm_generation(word) != ticket->generation)
		return session_is_past(
			       session, ticket->slot, ticket->generation)
			       ? RGOV_S_ENDED
			       : RGOV_S_SUBMITTED;
	if (shm_low(word) == SHM_ACCEPTED)
		return RGOV_S_QUEUED;
	return shm_low(word) == SHM_ISSUED ? RGOV_S_SENT : RGOV_S_ENDED;
}

static uint64_t left_ns(uint64_t at_ns, uint64_t now_ns)
{
	if (at_ns == UINT64_MAX)
		return UINT64_MAX;
	return at_ns > now_ns ? at_ns - now_ns : 0;
}

static void put_place(struct rgov_progress *to, const struct daemon_place *from)
{
	uint64_t now = clock_now_ns();

	to->request = from->request;
	to->position = from->position;
	to->reason = (enum rgov_reason)from->reason;
	to->predicted_ns = left_ns(from->as_of_ns + from->predicted_ns, now);
	to->until_ns = left_ns(from->until_ns, now);
	to->age_ns = now - from->as_of_ns;
}

static bool is_old(const struct rgov_progress *progress, uint64_t max_age_ms)
{
	return progress->request != 0 && max_age_ms <= UINT64_MAX / MS_NS &&
	       progress->age_ns > max_age_ms * MS_NS;
}

static void look(const struct session *session,
	const struct rgov_ticket *ticket, struct rgov_progress *ret_progress)
{
	struct daemon_place place;

	*ret_progress = (struct rgov_progress){.size = sizeof(*ret_progress),
		.state = state_of(session, ticket)};
	if (ret_progress->state == RGOV_S_QUEUED &&
		read_place(session, ticket, &place))
		put_place(ret_progress, &place);
}

/* Its answer goes into the slot, too: it is read from there, since the number
 * may be another rgovd's. */
static void have_it_renewed(struct rgov *gov, uint64_t request)
{
	struct wire_explained unused;

	(void)session_explain(gov->socket_path, request,
		clock_now_ns() + gov->connect_timeout_ns, &unused);
}

int rgov_progress(struct rgov *gov, const struct rgov_ticket *ticket,
	uint64_t max_age_ms, struct rgov_progress *ret_progress)
{
	struct session *session;
	int rc;

	if (ret_progress->size != sizeof(*ret_progress))
		return fail(-EINVAL, "progress.size: expected %zu, found %zu",
			sizeof(*ret_progress), ret_progress->size);
	rc = handle_enter_ticket(gov, ticket, &session);
	if (rc < 0)
		return rc;
	look(session, ticket, ret_progress);
	if (is_old(ret_progress, max_age_ms)) {
		have_it_renewed(gov, ret_progress->request);
		look(session, ticket, ret_progress);
	}
	handle_leave(gov, session);
	return 0;
}

/* ------------------------------------------------------------ all of them */

static void put_text(char *to, size_t size, const char *from, size_t n)
{
	memcpy(to, from, n < size ? n : size - 1);
}

static void describe(const struct session *session, uint32_t slot,
	struct rgov_outstanding *to)
{
	const struct client_slot *from = &session->client_slots[slot];

	*to = (struct rgov_outstanding){
		.ticket = {.slot = slot,
			.generation = session->slots[slot].generation,
			.session = session->number,
			.deadline_ns = from->deadline_ns}};
	put_text(to->user, sizeof(to->user), from->user, from->user_bytes);
	put_text(to->model_id, sizeof(to->model_id), session->texts[slot].model,
		from->model_bytes);
}

/* Under the lock. */
static int list_slots(
	const struct session *session, struct rgov_outstanding **ret_table)
{
	uint32_t most = session->client_shape.slots;
	struct rgov_outstanding *table = calloc(most, sizeof(*table));
	int n = 0;

	if (table == NULL)
		return fail(-ENOMEM, "no memory for %u tickets", most);
	for (uint32_t slot = 0; slot < most; slot++)
		if (session->slots[slot].use == SLOT_OUT &&
			!session->slots[slot].is_question)
			describe(session, slot, &table[n++]);
	*ret_table = table;
	return n;
}

int rgov_outstanding(struct rgov *gov, struct rgov_outstanding **ret_table)
{
	int n = 0;

	*ret_table = NULL;
	(void)pthread_mutex_lock(&gov->lock);
	if (gov->session != NULL && gov->fork_number == fork_number())
		n = list_slots(gov->session, ret_table);
	(void)pthread_mutex_unlock(&gov->lock);
	return n;
}

/* ------------------------------------------------------------ from rgovd */

static enum rgov_fate fate_of(uint32_t state)
{
	switch (state) {
	case BOARD_LIVE_QUEUED:
		return RGOV_F_QUEUED;
	case BOARD_LIVE_BACKOFF:
		return RGOV_F_BACKING_OFF;
	case BOARD_LIVE_RUNNING:
		return RGOV_F_RUNNING;
	case BOARD_LIVE_PERMIT:
		return RGOV_F_PERMIT_OUT;
	default:
		return RGOV_F_ENDED;
	}
}

static struct rgov_explanation explanation_of(const struct wire_explained *from)
{
	struct rgov_explanation to = {
		.size = sizeof(to),
		.fate = fate_of(from->state),
		.request = from->request,
		.reason = (enum rgov_reason)from->reason,
		.position = from->position,
		.until_ns = from->until_ns,
		.predicted_ns = from->predicted_ns,
		.used = from->used,
		.limit = from->limit,
		.waiting_ns = from->waiting_ns,
		.since_ns = from->since_ns,
		.result = (enum rgov_result)from->result,
		.attempts = from->attempts,
	};

	memcpy(to.waited_ns, from->waited_ns, sizeof(to.waited_ns));
	memcpy(to.user, from->user, sizeof(to.user) - 1);
	memcpy(to.model, from->model, sizeof(to.model) - 1);
	return to;
}

int rgov_explain(struct rgov *gov, uint64_t request,
	struct rgov_explanation *ret_explanation)
{
	struct wire_explained answer;
	int rc;

	if (ret_explanation->size != sizeof(*ret_explanation))
		return fail(-EINVAL,
			"explanation.size: expected %zu, found %zu",
			sizeof(*ret_explanation), ret_explanation->size);
	rc = session_explain(gov->socket_path, request,
		clock_now_ns() + gov->connect_timeout_ns, &answer);
	if (rc < 0)
		return rc;
	switch (answer.outcome) {
	case WIRE_FOUND:
		*ret_explanation = explanation_of(&answer);
		return 0;
	case WIRE_NOT_YOURS:
		return fail(-EPERM,
			"request %llu is another user's; see admin_uids",
			(unsigned long long)request);
	default:
		return fail(-ENOENT,
			"no request %llu is on its way, nor among the last "
			"that waited",
			(unsigned long long)request);
	}
}
