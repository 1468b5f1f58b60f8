/*
 * A client made by hand: it connects, says HELLO, maps the files and then
 * writes whatever word, entry or message a test wants, also what librgov never
 * would.  It never blocks longer than the rig needs: the test turns the rig.
 */
#ifndef TESTS_UNIT_RAW_CLIENT_H
#define TESTS_UNIT_RAW_CLIENT_H

#include "shm-layout/shm_wake.h"
#include "tests/unit/door_rig.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

struct raw {
	int socket;
	int fds[WIRE_FDS];
	uint8_t id[16];
	uint32_t slots;
	struct client_shape client_shape;
	struct daemon_shape daemon_shape;
	struct client_header *client;
	struct daemon_header *daemon; /* writable: the test's uid may */
	struct client_slot *client_slots;
	struct client_text *texts;
	struct daemon_slot *daemon_slots;
	_Atomic uint64_t *ring;
	uint64_t tail;
};

/* What came over a socket. */
struct raw_message {
	union {
		struct wire_head head;
		struct wire_welcome welcome;
		struct wire_reattached reattached;
		struct wire_refused refused;
		struct wire_answer answer;
	} as;
	ssize_t bytes; /* 0: the other end is closed; -1: nothing, errno */
	int fds[8];
	size_t n_fds;
};

static inline int raw_connect(const struct rig *rig)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)strcpy(address.sun_path, rig->path);
	CU_ASSERT_EQUAL_FATAL(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static inline struct wire_head raw_head(enum wire_type type)
{
	return (struct wire_head){.magic = WIRE_MAGIC,
		.type = (uint16_t)type,
		.layout_version = SHM_LAYOUT_VERSION,
		.layout_hash = shm_layout_hash()};
}

static inline ssize_t raw_send(
	int socket, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec part = {(void *)(uintptr_t)bytes, n};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	if (n_fds > 0) {
		struct cmsghdr *head;

		message.msg_control = control.space;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline bool raw_is_readable(int socket)
{
	struct pollfd ready = {.fd = socket, .events = POLLIN};

	return poll(&ready, 1, 0) == 1;
}

static inline void raw_receive(int socket, struct raw_message *ret)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct iovec part = {&ret->as, sizeof(ret->as)};
	struct msghdr message = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space)};
	struct cmsghdr *head;

	ret->n_fds = 0;
	do
		ret->bytes = recvmsg(
			socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (ret->bytes < 0 && errno == ECONNRESET);
	if (ret->bytes <= 0)
		return;
	head = CMSG_FIRSTHDR(&message);
	if (head != NULL && head->cmsg_type == SCM_RIGHTS) {
		ret->n_fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(ret->fds, CMSG_DATA(head), ret->n_fds * sizeof(int));
	}
}

/* The other end has hung up (what it said before is dropped). */
static inline bool raw_is_closed(int socket)
{
	struct raw_message message;

	do {
		raw_receive(socket, &message);
		for (size_t i = 0; i < message.n_fds; i++)
			(void)close(message.fds[i]);
	} while (message.bytes > 0);
	return message.bytes == 0;
}

static inline void raw_map(struct raw *raw)
{
	char path[64];
	int daemon;

	raw->client_shape = client_shape(raw->slots);
	raw->daemon_shape = daemon_shape(raw->slots);
	raw->client = mmap(NULL, raw->client_shape.total_bytes,
		PROT_READ | PROT_WRITE, MAP_SHARED,
		raw->fds[WIRE_FD_CLIENT_CONTROL], 0);
	/* rgovd gives it read-only; who shares its uid can do more. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d",
		raw->fds[WIRE_FD_DAEMON_CONTROL]);
	daemon = open(path, O_RDWR | O_CLOEXEC);
	raw->daemon = mmap(NULL, raw->daemon_shape.total_bytes,
		PROT_READ | PROT_WRITE, MAP_SHARED, daemon, 0);
	(void)close(daemon);
	CU_ASSERT_FATAL(
		raw->client != MAP_FAILED && (void *)raw->daemon != MAP_FAILED);
	raw->client_slots = client_slots(raw->client, &raw->client_shape);
	raw->texts = client_texts(raw->client, &raw->client_shape);
	raw->ring = client_ring(raw->client, &raw->client_shape);
	raw->daemon_slots = daemon_slots(raw->daemon, &raw->daemon_shape);
}

static inline void raw_sign(struct raw *raw)
{
	raw->client->layout_version = SHM_LAYOUT_VERSION;
	raw->client->layout_hash = shm_layout_hash();
	raw->client->slots = raw->slots;
	store_release(raw->client->magic, SHM_CLIENT_MAGIC);
}

/* Up to WELCOME and the mappings; not yet served. */
static inline void raw_welcome(struct rig *rig, struct raw *raw, uint32_t slots)
{
	struct wire_hello hello = {
		.head = raw_head(WIRE_HELLO), .slots = slots, .app = "raw"};
	struct raw_message message;

	*raw = (struct raw){.socket = raw_connect(rig)};
	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &hello, sizeof(hello), NULL, 0),
		sizeof(hello));
	RIG_UNTIL(rig, raw_is_readable(raw->socket));
	raw_receive(raw->socket, &message);
	CU_ASSERT_EQUAL_FATAL(message.as.head.type, WIRE_WELCOME);
	CU_ASSERT_EQUAL_FATAL(message.n_fds, WIRE_FDS);
	memcpy(raw->fds, message.fds, sizeof(raw->fds));
	memcpy(raw->id, message.as.welcome.session_id, sizeof(raw->id));
	raw->slots = message.as.welcome.slots;
	raw_map(raw);
	raw_sign(raw);
}

static inline void raw_say_mapped(struct rig *rig, struct raw *raw)
{
	const struct wire_mapped mapped = {raw_head(WIRE_MAPPED)};
	uint64_t opened = rig_stats(rig).opened;

	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &mapped, sizeof(mapped), NULL, 0),
		sizeof(mapped));
	RIG_UNTIL(rig, rig_stats(rig).opened == opened + 1);
}

/* A served session. */
static inline void raw_open(struct rig *rig, struct raw *raw, uint32_t slots)
{
	raw_welcome(rig, raw, slots);
	raw_say_mapped(rig, raw);
}

static inline void raw_close(struct raw *raw)
{
	(void)munmap(raw->client, raw->client_shape.total_bytes);
	(void)munmap(raw->daemon, raw->daemon_shape.total_bytes);
	for (int i = 0; i < WIRE_FDS; i++)
		(void)close(raw->fds[i]);
	(void)close(raw->socket);
}

static inline void raw_bell(const struct raw *raw)
{
	(void)send(raw->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Any entry, published; rings where rgovd wants to be rung. */
static inline void raw_entry(struct raw *raw, uint32_t index, uint32_t word)
{
	store_relaxed(
		raw->ring[raw->tail & (raw->client_shape.ring_entries - 1)],
		SHM_RING_ENTRY(index, word));
	raw->tail++;
	if (wake_publish_tail(raw->client, raw->daemon, raw->tail))
		raw_bell(raw);
}

static inline void raw_word(
	struct raw *raw, uint32_t slot, uint32_t generation, unsigned int low)
{
	store_release(raw->client_slots[slot].word, shm_word(generation, low));
}

static inline void raw_command(
	struct raw *raw, uint32_t slot, uint32_t generation, unsigned int low)
{
	raw_word(raw, slot, generation, low);
	raw_entry(raw, slot, shm_word(generation, low));
}

/* A good descriptor; a test spoils what it wants before raw_command(). */
static inline struct client_slot *raw_describe(
	struct raw *raw, uint32_t slot, enum shm_kind kind, const char *model)
{
	struct client_slot *to = &raw->client_slots[slot];

	to->kind = (uint8_t)kind;
	to->operation = SHM_INVOKE_MODEL;
	to->class = SHM_NORMAL;
	to->flags = 0;
	to->body_bytes = 0;
	to->deadline_ns = UINT64_MAX / 2;
	to->input_tokens = to->output_tokens = 0;
	to->model_bytes = (uint16_t)strlen(model);
	to->headers_bytes = 0;
	to->user_bytes = 5;
	memcpy(to->user, "alice", 5);
	memcpy(raw->texts[slot].model, model, strlen(model));
	return to;
}

static inline void raw_submit(struct raw *raw, uint32_t slot,
	uint32_t generation, enum shm_kind kind, const char *model)
{
	(void)raw_describe(raw, slot, kind, model);
	raw_command(raw, slot, generation, SHM_SUBMIT);
}

/* rgovd's word of the slot. */
static inline uint32_t raw_answer(const struct raw *raw, uint32_t slot)
{
	return load_acquire(raw->daemon_slots[slot].word);
}

static inline unsigned int raw_result(const struct raw *raw, uint32_t slot)
{
	return raw->daemon_slots[slot].result;
}

/* Passes the descriptors to a successor.  The type of its answer; 0: it hung
 * up.  What a refusal says goes to ret_text, which may be NULL. */
static inline unsigned int raw_reattach_with(struct rig *rig, struct raw *raw,
	const int fds[WIRE_REATTACH_FDS], size_t n_fds, char *ret_text)
{
	struct wire_reattach reattach = {.head = raw_head(WIRE_REATTACH),
		.slots = raw->slots,
		.app = "raw"};
	struct raw_message message;

	memcpy(reattach.session_id, raw->id, sizeof(raw->id));
	(void)close(raw->socket);
	raw->socket = raw_connect(rig);
	CU_ASSERT_EQUAL_FATAL(
		raw_send(raw->socket, &reattach, sizeof(reattach), fds, n_fds),
		sizeof(reattach));
	RIG_UNTIL(rig, raw_is_readable(raw->socket));
	do { /* a bell of an answer may come first */
		raw_receive(raw->socket, &message);
		for (size_t i = 0; i < message.n_fds; i++)
			(void)close(message.fds[i]);
	} while (message.bytes == 1);
	if (message.bytes <= 0)
		return 0;
	if (message.as.head.type == WIRE_REFUSED && ret_text != NULL)
		memcpy(ret_text, message.as.refused.text, SHM_MESSAGE_BYTES);
	return message.as.head.type;
}

static inline unsigned int raw_reattach(struct rig *rig, struct raw *raw)
{
	return raw_reattach_with(rig, raw, raw->fds, WIRE_REATTACH_FDS, NULL);
}

#endif
