#include "tests/fault/common/intruder.h"

#include <time.h>

enum { PATIENCE_MS = 10000 };

uint64_t dice_roll(struct dice *dice)
{
	dice->state ^= dice->state >> 12;
	dice->state ^= dice->state << 25;
	dice->state ^= dice->state >> 27;
	return dice->state * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t dice_below(struct dice *dice, uint64_t n)
{
	return dice_roll(dice) % n;
}

uint64_t dice_edge(struct dice *dice)
{
	static const uint64_t edges[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x100,
		0x7fff, 0x8000, 0xffff, 0x10000, 0xffffff, 0x1000000, INT32_MAX,
		UINT64_C(0x80000000), UINT32_MAX, UINT64_C(0x100000000),
		INT64_MAX, UINT64_C(0x8000000000000000), UINT64_MAX,
		SHM_SLOTS_MAX, SHM_MODEL_BYTES, SHM_USER_BYTES, SHM_BODY_MAX,
		SHM_BODY_REGION, SHM_PAGE,
		UINT64_C(0x7ff0000000000000),  /* infinity */
		UINT64_C(0x7ff8000000000000),  /* not a number */
		UINT64_C(0xfff8000000000001)}; /* another one */
	uint64_t roll = dice_roll(dice);

	if (roll % 4 == 0)
		return dice_roll(dice);
	return edges[(roll >> 8) % (sizeof(edges) / sizeof(edges[0]))] +
	       (roll >> 32) % 3 - 1;
}

uint64_t intruder_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int welcome(int socket, uint32_t slots, struct raw *ret_raw)
{
	struct wire_hello hello = {.head = raw_head(WIRE_HELLO),
		.slots = slots,
		.app = "intruder"};
	struct pollfd ready = {.fd = socket, .events = POLLIN};
	struct raw_message message = {.bytes = 0};

	if (raw_send(socket, &hello, sizeof(hello), NULL, 0) < 0 ||
		poll(&ready, 1, PATIENCE_MS) != 1)
		return -ECONNREFUSED;
	raw_receive(socket, &message);
	if (message.bytes != sizeof(struct wire_welcome) ||
		message.as.head.type != WIRE_WELCOME ||
		message.n_fds != WIRE_FDS)
		return -ECONNREFUSED;
	memcpy(ret_raw->fds, message.fds, sizeof(ret_raw->fds));
	memcpy(ret_raw->id, message.as.welcome.session_id, sizeof(ret_raw->id));
	ret_raw->slots = message.as.welcome.slots;
	return 0;
}

int intruder_open(const char *path, uint32_t slots, struct raw *ret_raw)
{
	const struct wire_mapped mapped = {raw_head(WIRE_MAPPED)};
	int socket = raw_connect_to(path);

	if (socket < 0)
		return -ENOENT;
	*ret_raw = (struct raw){.socket = socket};
	if (welcome(socket, slots, ret_raw) < 0) {
		(void)close(socket);
		return -ECONNREFUSED;
	}
	raw_map(ret_raw);
	raw_sign(ret_raw);
	(void)raw_send(socket, &mapped, sizeof(mapped), NULL, 0);
	return 0;
}

bool intruder_is_out(const struct raw *raw)
{
	return raw_is_closed(raw->socket);
}
