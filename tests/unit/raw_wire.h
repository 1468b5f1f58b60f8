/*
 * The wire and the words of a client made by hand: whatever message, entry or
 * word one wants, also what librgov never would.  It knows no rig: the unit
 * tests use it through raw_client.h, the hostile clients of the fault campaign
 * against a real rgovd.
 */
#ifndef TESTS_UNIT_RAW_WIRE_H
#define TESTS_UNIT_RAW_WIRE_H

#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_wake.h"
#include "shm-layout/shm_wire.h"
#include "shm-layout/shm_word.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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
		struct wire_explained explained;
	} as;
	ssize_t bytes; /* 0: the other end is closed; -1: nothing, errno */
	int fds[8];
	size_t n_fds;
};

/* -1: nobody listens there, or the backlog is full. */
static inline int raw_connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	(void)close(fd);
	return -1;
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
		daemon < 0 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED,
		daemon < 0 ? raw->fds[WIRE_FD_DAEMON_CONTROL] : daemon, 0);
	(void)close(daemon);
	if (raw->client == MAP_FAILED || (void *)raw->daemon == MAP_FAILED)
		abort();
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

#endif
