/* From a request to a slot of rgovd's: checked, written, committed, rung. */
#include "client-lib/submit.h"

#include "client-lib/words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_MS 600000u

/* ------------------------------------------------------------ checks */

int check_text(const char *what, const char *text, size_t most)
{
	size_t length = strnlen(text, most + 1);

	if (length == 0 || length > most)
		return fail(-EINVAL, "%s: expected 1 to %zu bytes, found %s%zu",
			what, most, length > most ? "more than " : "",
			length > most ? most : length);
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte < 0x20 || byte == 0x7f)
			return fail(-EINVAL,
				"%s: expected printable bytes, found 0x%02x at "
				"position %zu",
				what, byte, i);
	}
	return 0;
}

static int check_request(const struct rgov_request *request)
{
	int rc;

	if (request->size != sizeof(*request))
		return fail(-EINVAL, "request.size: expected %zu, found %zu",
			sizeof(*request), request->size);
	if (request->model_id == NULL)
		return fail(-EINVAL, "model_id: expected a text, found NULL");
	rc = check_text("model_id", request->model_id, SHM_MODEL_BYTES);
	if (rc == 0 && request->user != NULL)
		rc = check_text("user", request->user, SHM_USER_BYTES - 1);
	if (rc < 0)
		return rc;
	if (request->headers != NULL &&
		strlen(request->headers) > SHM_HEADERS_BYTES)
		return fail(-EINVAL,
			"headers: expected at most %d bytes, found %zu",
			SHM_HEADERS_BYTES, strlen(request->headers));
	if ((unsigned int)request->operation > RGOV_CONVERSE ||
		(unsigned int)request->priority > RGOV_BATCH ||
		(request->flags & ~(uint32_t)SHM_FLAGS_ALL) != 0)
		return fail(
			-EINVAL, "operation, priority or flags: unknown value");
	if (request->body_bytes > SHM_BODY_MAX)
		return fail(-EMSGSIZE,
			"body: expected at most %d bytes, found %zu",
			SHM_BODY_MAX, request->body_bytes);
	return 0;
}

static int write_body(const struct session *session, uint32_t slot,
	const void *body, size_t n)
{
	const char *from = body;
	off_t at = (off_t)shm_body_off(slot);

	/* Beyond it a write is a signal, which ends whoever does not know. */
	if ((uint64_t)at + n > session->most_file_bytes)
		return fail(-EFBIG,
			"body of %zu bytes in slot %u: above RLIMIT_FSIZE, "
			"%llu bytes, which counts for shared memory",
			n, slot, (unsigned long long)session->most_file_bytes);
	while (n > 0) {
		ssize_t done = pwrite(
			session->fds[WIRE_FD_CLIENT_BODIES], from, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return fail(-errno, "body of %zu bytes: %s", n,
				strerrordesc_np(errno));
		from += done;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* A page of a slot is allocated by its first use, so that a lack of memory is
 * an error here and not a signal later. */
static int prepare_page(
	const struct session *session, size_t part_off, uint32_t slot)
{
	int rc;

	do /* a signal that is on its way breaks it off */
		rc = fallocate(session->fds[WIRE_FD_CLIENT_CONTROL], 0,
			(off_t)(part_off + (size_t)slot * SHM_PAGE), SHM_PAGE);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? 0
		       : fail(-errno, "no shared memory for a slot: %s",
				 strerrordesc_np(errno));
}

/* The page of model and headers, and the one of what is said of tasks. */
static int prepare_slot(
	const struct session *session, uint32_t slot, bool of_tasks)
{
	struct slot *own = &session->slots[slot];
	int rc = 0;

	if (!own->text_ready)
		rc = prepare_page(
			session, session->client_shape.texts_off, slot);
	own->text_ready |= rc == 0;
	if (rc < 0 || !of_tasks || own->task_ready)
		return rc;
	rc = prepare_page(session, session->client_shape.tasks_off, slot);
	own->task_ready = rc == 0;
	return rc;
}

/* A question about tasks has no texts but those of its page. */
static void describe_question(
	struct client_slot *to, const struct submission *submission)
{
	const char *user = submission->filter_user;

	to->operation = (uint8_t)submission->verb;
	to->class = SHM_INTERACTIVE;
	to->flags = (uint8_t)submission->flags;
	to->model_bytes = 0;
	to->headers_bytes = 0;
	to->user_bytes = user != NULL ? (uint16_t)strlen(user) : 0;
	if (user != NULL)
		memcpy(to->user, user, to->user_bytes);
}

static void describe_request(struct client_slot *to, struct client_text *text,
	const struct rgov_request *request)
{
	const char *user = request->user ? request->user : "-";
	const char *headers = request->headers ? request->headers : "";

	to->operation = (uint8_t)request->operation;
	to->class = (uint8_t)request->priority;
	to->flags = (uint8_t)request->flags;
	to->input_tokens = request->input_tokens;
	to->output_tokens = request->output_tokens;
	to->model_bytes = (uint16_t)strlen(request->model_id);
	to->headers_bytes = (uint16_t)strlen(headers);
	to->user_bytes = (uint16_t)strlen(user);
	memcpy(to->user, user, to->user_bytes);
	memcpy(text->model, request->model_id, to->model_bytes);
	memcpy(text->headers, headers, to->headers_bytes);
}

static size_t body_bytes_of(const struct submission *submission)
{
	return submission->request != NULL && submission->kind != SHM_PERMIT
		       ? submission->request->body_bytes
		       : 0;
}

static void describe(struct session *session, uint32_t slot,
	const struct submission *submission, uint64_t deadline_ns)
{
	struct client_slot *to = &session->client_slots[slot];

	to->kind = (uint8_t)submission->kind;
	to->body_bytes = (uint32_t)body_bytes_of(submission);
	to->deadline_ns = deadline_ns;
	if (submission->request != NULL)
		describe_request(
			to, &session->texts[slot], submission->request);
	else
		describe_question(to, submission);
	if (submission->task != NULL)
		session->tasks[slot] = *submission->task;
}

static int fill_slot(struct session *session, uint32_t slot,
	const struct submission *submission, uint64_t deadline_ns)
{
	size_t bytes = body_bytes_of(submission);
	int rc = prepare_slot(session, slot, submission->task != NULL);

	if (rc == 0 && bytes > 0) {
		rc = write_body(
			session, slot, submission->request->body, bytes);
		if (rc < 0) /* memory is short: keep none of it */
			session_punch_body(session, slot, bytes);
	}
	if (rc == 0)
		describe(session, slot, submission, deadline_ns);
	return rc;
}

void submit_ring(struct rgov *gov, struct session *session)
{
	atomic_fetch_add_explicit(&gov->bells_rung, 1, memory_order_relaxed);
	session_ring(session);
}

bool submit_command(struct rgov *gov, struct session *session, uint32_t slot,
	enum shm_command command)
{
	if (!session_command(session, slot, command))
		return false;
	submit_ring(gov, session);
	return true;
}

static void commit(struct rgov *gov, struct session *session, uint32_t slot,
	const struct submission *submission)
{
	struct slot *own = &session->slots[slot];

	own->generation = shm_next_generation(own->generation);
	own->is_permit = submission->kind == SHM_PERMIT;
	own->is_question = submission->kind == SHM_TASK_VERB;
	own->cancelled = false;
	own->body_bytes = body_bytes_of(submission);
	own->use = SLOT_OUT;
	(void)submit_command(gov, session, slot, SHM_SUBMIT);
}

static uint64_t deadline_of(const struct submission *submission)
{
	uint64_t ms = submission->request != NULL
			      ? submission->request->timeout_ms
			      : submission->timeout_ms;
	uint64_t now = clock_now_ns();

	if (ms == 0 && submission->request != NULL)
		ms = DEFAULT_TIMEOUT_MS;
	return ms > (UINT64_MAX / 2) / MS_NS ? UINT64_MAX / 2
					     : now + ms * MS_NS;
}

static int submit_in(struct rgov *gov, struct session *session,
	const struct submission *submission, struct rgov_ticket *ticket)
{
	uint32_t slot;
	int rc;

	(void)pthread_mutex_lock(&gov->lock);
	rc = session_take_slot(session, &slot);
	(void)pthread_mutex_unlock(&gov->lock);
	if (rc < 0)
		return rc;
	/* The slot is this thread's alone: its body is written unlocked. */
	rc = fill_slot(session, slot, submission, ticket->deadline_ns);
	(void)pthread_mutex_lock(&gov->lock);
	if (rc == 0)
		commit(gov, session, slot, submission);
	else
		session_release_slot(session, slot);
	(void)pthread_mutex_unlock(&gov->lock);
	if (rc == 0) {
		ticket->slot = slot;
		ticket->generation = session->slots[slot].generation;
		ticket->session = session->number;
	}
	return rc;
}

int submit(struct rgov *gov, const struct submission *submission,
	struct rgov_ticket *ret_ticket)
{
	struct rgov_ticket ticket = {0};
	struct session *session;
	uint64_t connect_until;
	int rc = submission->request != NULL
			 ? check_request(submission->request)
			 : 0;

	if (rc < 0)
		return rc;
	ticket.deadline_ns = deadline_of(submission);
	connect_until = clock_now_ns() + gov->connect_timeout_ns;
	if (connect_until > ticket.deadline_ns)
		connect_until = ticket.deadline_ns;
	rc = handle_enter(gov, connect_until, &session);
	if (rc < 0)
		return rc;
	rc = submit_in(gov, session, submission, &ticket);
	handle_leave(gov, session);
	if (rc == 0)
		*ret_ticket = ticket;
	return rc;
}
