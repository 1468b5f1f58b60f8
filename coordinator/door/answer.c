/*
 * From a decision to a word: what rgovd says about a slot.  All of it is
 * written from rgovd's own memory; nothing is read back.
 *
 * Orders: D3 (shm_wake.h) commits a reply.  A kill before D3 leaves the older
 * word, and a successor finds the request as that word says.  D5 guards a place
 * in the queue, and commits nothing.
 */
#include "coordinator/door/board.h"
#include "coordinator/door/inside.h"
#include "shm-layout/shm_wake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The pages of a reply above this are given back when it was read. */
#define LARGE_REPLY_BYTES (256u * 1024)

static void wake(struct daemon_slot *slot)
{
	/* Not FUTEX_PRIVATE: the sleeper is another process. */
	(void)syscall(
		SYS_futex, &slot->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void publish(struct door_slot *slot, enum shm_state state)
{
	struct door_session *session = slot->session;
	struct daemon_slot *to = session_daemon_slot(session, slot->index);

	slot->state = (uint8_t)state;
	if (wake_publish_word(to, session_client_slot(session, slot->index),
		    shm_word(slot->generation, state)))
		wake(to);
}

static void mark(struct door_slot *slot, enum shm_state state)
{
	slot->state = (uint8_t)state;
	/* Nobody waits for these; a successor reads them. */
	store_release(session_daemon_slot(slot->session, slot->index)->word,
		shm_word(slot->generation, state));
}

void door_mark_accepted(struct door_slot *slot)
{
	mark(slot, SHM_ACCEPTED);
}

void door_mark_issued(struct door_slot *slot)
{
	mark(slot, SHM_ISSUED);
}

void door_show_place(struct door_slot *slot, const struct door_place *place)
{
	struct daemon_place *to =
		&session_daemon_slot(slot->session, slot->index)->place;

	board_begin(&to->sequence); /* D5 */
	board_put(to->generation, slot->generation);
	board_put(to->request, place->request);
	board_put(to->reason, place->reason);
	board_put(to->position, place->position);
	board_put(to->as_of_ns, place->as_of_ns);
	board_put(to->until_ns, place->until_ns);
	board_put(to->predicted_ns, place->predicted_ns);
	if (place->is_first) {
		board_put(to->first_predicted_ns, place->predicted_ns);
		board_put(to->first_position, place->position);
	}
	board_end(&to->sequence);
}

void door_forget_place(struct door_slot *slot)
{
	struct daemon_place *to =
		&session_daemon_slot(slot->session, slot->index)->place;

	board_begin(&to->sequence); /* D5 */
	board_put(to->generation, (slot->generation - 1) & SHM_GENERATION_MASK);
	board_end(&to->sequence);
}

static void ring(const struct door_slot *slot)
{
	if ((slot->flags & SHM_BELL) == 0)
		return;
	/* EAGAIN: it is rung already. */
	(void)send(slot->session->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void put_text(char *to, size_t size, const char *from)
{
	size_t n = from ? strnlen(from, size - 1) : 0;

	if (n > 0)
		memcpy(to, from, n);
	to[n] = '\0';
}

static int32_t tokens_or_unknown(int64_t tokens)
{
	return tokens < 0           ? -1
	       : tokens > INT32_MAX ? INT32_MAX
				    : (int32_t)tokens;
}

/* 0, or -errno: no memory for the reply. */
static int write_body(const struct door_slot *slot, const char *from, size_t n)
{
	off_t at = (off_t)shm_body_off(slot->index);

	while (n > 0) {
		ssize_t done =
			pwrite(slot->session->daemon_bodies_fd, from, n, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		from += done;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}

/* Most wait for nothing: they touch no line but the first. */
static uint32_t write_waits(
	struct daemon_slot *to, const struct door_reply *reply)
{
	uint32_t waited = 0;

	for (uint32_t i = 0; reply->waited_ns && i < SHM_REASONS; i++) {
		if (reply->waited_ns[i] == 0)
			continue;
		to->waited_ns[i] = reply->waited_ns[i];
		waited |= 1u << i;
	}
	return waited;
}

/* Calls touch its line only after a task used their slot. */
static void write_task(struct daemon_slot *to, const struct daemon_task *task)
{
	static const struct daemon_task none;

	if (task != NULL)
		to->task = *task;
	else if (to->task.submitted_ns != 0)
		to->task = none;
}

static void write_reply(const struct door_slot *slot,
	const struct door_reply *reply, enum shm_result result,
	size_t body_bytes, const char *message)
{
	struct daemon_slot *to =
		session_daemon_slot(slot->session, slot->index);

	to->result = (uint16_t)result;
	to->http_status = (uint16_t)reply->http_status;
	to->attempts = reply->attempts;
	to->body_bytes = (uint32_t)body_bytes;
	to->wait_ns = reply->wait_ns;
	to->execution_ns = reply->execution_ns;
	to->retry_after_ns = reply->retry_after_ns;
	to->input_tokens = tokens_or_unknown(reply->input_tokens);
	to->output_tokens = tokens_or_unknown(reply->output_tokens);
	to->cache_read_tokens = tokens_or_unknown(reply->cache_read_tokens);
	to->cache_write_tokens = tokens_or_unknown(reply->cache_write_tokens);
	to->issued = reply->was_issued;
	to->waited = write_waits(to, reply);
	to->has_model = reply->model != NULL;
	if (reply->model != NULL)
		put_text(to->model, sizeof(to->model), reply->model);
	write_task(to, reply->task);
	put_text(to->code, sizeof(to->code), reply->code);
	put_text(to->request_id, sizeof(to->request_id), reply->request_id);
	put_text(to->message, sizeof(to->message), message);
}

static void answer(struct door_slot *slot, const struct door_reply *reply,
	enum shm_state state)
{
	enum shm_result result = reply->result;
	const char *message = reply->message;
	size_t body_bytes = reply->body_bytes;

	if (body_bytes > SHM_BODY_REGION) {
		result = SHM_REPLY_TOO_LARGE;
		message = "the reply is larger than its region";
		body_bytes = 0;
	} else if (write_body(slot, reply->body, body_bytes) != 0) {
		result = SHM_NO_MEMORY;
		message = "no shared memory for the reply";
		body_bytes = 0;
	}
	write_reply(slot, reply, result, body_bytes, message);
	publish(slot, state);
	ring(slot);
}

void door_grant(struct door_slot *slot, const struct door_reply *reply)
{
	answer(slot, reply, SHM_GRANTED);
}

void door_complete(struct door_slot *slot, const struct door_reply *reply)
{
	slot->request = NULL;
	answer(slot, reply, SHM_DONE);
}

void door_release(struct door_slot *slot)
{
	slot->request = NULL;
	publish(slot, SHM_DONE);
}

void answer_at_once(
	struct door_slot *slot, enum shm_result result, const char *message)
{
	door_complete(slot,
		&(struct door_reply){.result = result,
			.input_tokens = -1,
			.output_tokens = -1,
			.cache_read_tokens = -1,
			.cache_write_tokens = -1,
			.code = result == SHM_INVALID ? "InvalidRequest" : NULL,
			.message = message});
}

void answer_wake(const struct door_slot *slot)
{
	struct door_session *session = slot->session;

	/* Relaxed: who is not seen yet looks at the word after us. */
	if (load_relaxed(session_client_slot(session, slot->index)->waiting) !=
		0)
		wake(session_daemon_slot(session, slot->index));
}

void answer_punch(const struct door_slot *slot)
{
	(void)fallocate(slot->session->daemon_bodies_fd,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		(off_t)shm_body_off(slot->index), SHM_BODY_REGION);
}

/* ------------------------------------------------------------ bodies */

int door_read_body(const struct door_slot *slot, void *to, size_t body_bytes)
{
	char *at = to;
	off_t from = (off_t)shm_body_off(slot->index);

	while (body_bytes > 0) {
		ssize_t n = pread(
			slot->session->client_bodies_fd, at, body_bytes, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		at += n;
		from += n;
		body_bytes -= (size_t)n;
	}
	return 0;
}

int door_dup_body(const struct door_slot *slot, off_t *ret_off)
{
	int fd = fcntl(slot->session->client_bodies_fd, F_DUPFD_CLOEXEC, 0);

	*ret_off = (off_t)shm_body_off(slot->index);
	return fd < 0 ? -errno : fd;
}
