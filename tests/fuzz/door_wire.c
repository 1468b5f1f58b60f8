/*
 * The session socket: any message, at any moment, with any descriptors, over
 * several connections at a time, to a real door.  Nothing is left of them when
 * they are closed, and an honest session is served in between.
 */
#include "tests/fuzz/rig.h"

enum { SOCKETS = 4 };

enum what {
	CONNECT,
	HELLO,
	MAPPED,
	REATTACH,
	ADMIN,
	BYTES,
	TAKE,
	TURN,
	CLOSE,
	LEAVE, /* a served session whose files somebody will bring back */
	WHATS
};

static int sockets[SOCKETS];
/* A session that is gone: its id and files are good ones to come back with. */
static struct raw gone;
static int odd_fds[4];

static void open_odd_ones(void)
{
	odd_fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	odd_fds[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	odd_fds[2] = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	odd_fds[3] = open("/", O_PATH | O_CLOEXEC);
	for (int i = 0; i < SOCKETS; i++)
		sockets[i] = -1;
}

static void prepare(void)
{
	if (rig == NULL)
		open_odd_ones();
	rig_prepare(8);
}

static bool is_gone(void)
{
	return gone.slots != 0;
}

static void forget_gone(void)
{
	if (is_gone())
		raw_close(&gone);
	gone.slots = 0;
}

static void leave(struct fuzz *fuzz)
{
	forget_gone();
	raw_open(rig, &gone, 1 + fuzz_byte(fuzz) % 4);
	raw_submit(&gone, 0, 1, fuzz_byte(fuzz) & 1, "hold");
	(void)rig_turn(rig, 0);
	(void)shutdown(gone.socket, SHUT_RDWR);
}

/* The descriptors of a message: those of the session that is gone, in order,
 * with some taken by others. */
static size_t choose_fds(struct fuzz *fuzz, int ret_fds[8])
{
	uint8_t how = fuzz_byte(fuzz);
	size_t n = how & 7;

	for (size_t i = 0; i < n; i++)
		ret_fds[i] = is_gone() && i < WIRE_FDS ? gone.fds[i]
						       : odd_fds[i % 4];
	if (how & 8 && n > 0) { /* one is another */
		uint8_t other = fuzz_byte(fuzz);

		ret_fds[other % n] = other & 0x80 && is_gone()
					     ? gone.fds[other / 8 % WIRE_FDS]
				     : other & 0x40 ? honest.fds[other / 8 % 4]
						    : odd_fds[other / 8 % 4];
	}
	return n;
}

/* Some bytes of a good message are others; it may be shorter or longer. */
static void send_spoiled(
	struct fuzz *fuzz, int socket, void *message, size_t n, size_t size)
{
	int fds[8];
	size_t n_fds = choose_fds(fuzz, fds);
	uint8_t spoilt = fuzz_byte(fuzz);

	for (int i = 0; i < (spoilt & 3); i++) {
		uint8_t at = fuzz_byte(fuzz);

		((uint8_t *)message)[at % n] = fuzz_byte(fuzz);
	}
	if (spoilt & 0x80)
		n = fuzz_number(fuzz, 2) % (size + 1);
	(void)raw_send(socket, message, n, fds, n_fds);
}

static void send_one(struct fuzz *fuzz, int socket, enum what what)
{
	union {
		struct wire_hello hello;
		struct wire_mapped mapped;
		struct wire_reattach reattach;
		struct wire_admin admin;
		char space[2048];
	} message = {.space = ""};
	size_t n;

	switch (what) {
	case HELLO:
		message.hello = (struct wire_hello){
			.head = raw_head(WIRE_HELLO), .slots = 1, .app = "x"};
		n = sizeof(message.hello);
		break;
	case MAPPED:
		message.mapped.head = raw_head(WIRE_MAPPED);
		n = sizeof(message.mapped);
		break;
	case REATTACH:
		message.reattach =
			(struct wire_reattach){.head = raw_head(WIRE_REATTACH),
				.slots = is_gone() ? gone.slots : 1};
		memcpy(message.reattach.session_id,
			fuzz_byte(fuzz) == 0xff ? honest.id : gone.id,
			sizeof(gone.id));
		n = sizeof(message.reattach);
		break;
	case ADMIN:
		message.admin = (struct wire_admin){
			.head = raw_head(WIRE_ADMIN),
			.verb = fuzz_byte(fuzz) % 2 ? WIRE_PING : WIRE_EXPLAIN,
			.request = fuzz_byte(fuzz)};
		n = sizeof(message.admin);
		break;
	case CONNECT:
	case BYTES:
	case TAKE:
	case TURN:
	case CLOSE:
	case LEAVE:
	case WHATS:
		n = 1 + fuzz_bytes(fuzz, message.space, fuzz_byte(fuzz));
		break;
	}
	send_spoiled(fuzz, socket, &message, n, sizeof(message));
}

static void close_socket(int i)
{
	if (sockets[i] >= 0)
		(void)close(sockets[i]);
	sockets[i] = -1;
}

static void act(struct fuzz *fuzz)
{
	uint8_t byte = fuzz_byte(fuzz);
	enum what what = byte % WHATS;
	int i = byte / WHATS % SOCKETS;

	if (what == TURN) {
		(void)rig_turn(rig, 0);
	} else if (what == LEAVE) {
		leave(fuzz);
	} else if (what == CONNECT) {
		/* More than its sessions in one turn would be refused. */
		(void)rig_turn(rig, 0);
		close_socket(i);
		sockets[i] = raw_connect(rig);
	} else if (sockets[i] < 0) {
		return;
	} else if (what == CLOSE) {
		close_socket(i);
	} else if (what == TAKE) {
		(void)rig_turn(rig, 0);
		(void)raw_is_closed(sockets[i]);
	} else {
		send_one(fuzz, sockets[i], what);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};

	prepare();
	while (fuzz.left > 0)
		act(&fuzz);
	(void)rig_turn(rig, 0);
	for (int i = 0; i < SOCKETS; i++)
		close_socket(i);
	forget_gone();
	rig_judge();
	return 0;
}
