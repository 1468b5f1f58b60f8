/*
 * librgov against an rgovd that answers and writes anything: the message that
 * welcomes it, the words and replies in rgovd's file, the bodies, the board,
 * bells and hang-ups.  Every call comes back, what it gives out is bounded and
 * closed, and nothing is left open.
 */
#include "client-lib/rgov.h"
#include "shm-layout/shm_board.h"
#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_word.h"
#include "shm-layout/wire_io.h"
#include "tests/fuzz/fuzz.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { SLOTS = 2, TICKETS = 4 };

/* What the other end holds: made once, zeroed for each run. */
static int files[WIRE_FDS];
static struct daemon_header *daemon_file;
static struct board *board;
static struct daemon_shape shape;
static int listener;
static _Atomic int peer = -1;
static char path[64];

/* How it welcomes: bytes of the run over a good message, and its descriptors.
 */
static struct {
	union {
		struct wire_welcome welcome;
		char space[1400];
	} message;
	size_t bytes, n_fds;
	bool hangs_up;
} greeting;

/* ------------------------------------------------------------ the other end */

static int make_file(const char *name, uint64_t bytes)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	MUST(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

static void *map(int fd, size_t bytes)
{
	void *base =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	MUST(base != MAP_FAILED);
	return base;
}

/* One connection after the other, each greeted in the same way. */
static void *serve(void *unused)
{
	char heard[1024];
	int fd;

	(void)unused;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (recv(fd, heard, sizeof(heard), 0) > 0 && !greeting.hangs_up)
			(void)wire_send(fd, &greeting.message, greeting.bytes,
				files, greeting.n_fds);
		if (greeting.hangs_up || peer >= 0)
			(void)close(fd);
		else
			peer = fd;
	}
	return NULL;
}

static void listen_there(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	pthread_t thread;

	(void)snprintf(
		path, sizeof(path), "/tmp/rgov-fuzz-%d.sock", (int)getpid());
	(void)strcpy(address.sun_path, path);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	MUST(bind(listener, (struct sockaddr *)&address, sizeof(address)) ==
			0 &&
		listen(listener, 8) == 0);
	MUST(pthread_create(&thread, NULL, serve, NULL) == 0);
}

static void remove_socket(void)
{
	(void)unlink(path);
}

static void prepare(void)
{
	struct client_shape client = client_shape(SLOTS);

	if (board != NULL)
		return;
	shape = daemon_shape(SLOTS);
	files[WIRE_FD_CLIENT_CONTROL] =
		make_file("control", client.total_bytes);
	files[WIRE_FD_CLIENT_BODIES] =
		make_file("bodies", shm_bodies_bytes(SLOTS));
	files[WIRE_FD_DAEMON_CONTROL] = make_file("words", shape.total_bytes);
	files[WIRE_FD_DAEMON_BODIES] =
		make_file("replies", shm_bodies_bytes(SLOTS));
	files[WIRE_FD_BOARD] = make_file("board", sizeof(*board));
	daemon_file = map(files[WIRE_FD_DAEMON_CONTROL], shape.total_bytes);
	board = map(files[WIRE_FD_BOARD], sizeof(*board));
	listen_there();
	(void)atexit(remove_socket);
}

static void begin(struct fuzz *fuzz)
{
	uint8_t how = fuzz_byte(fuzz);

	memset(daemon_file, 0, shape.total_bytes);
	memset(&board->header, 0, sizeof(board->header));
	board->header.layout_version = SHM_LAYOUT_VERSION;
	board->header.layout_hash = shm_layout_hash();
	board->header.total_bytes = sizeof(*board);
	store_release(board->header.magic, SHM_BOARD_MAGIC);
	greeting.message.welcome = (struct wire_welcome){
		.head = wire_head(WIRE_WELCOME), .slots = SLOTS, .epoch = 1};
	greeting.bytes = sizeof(struct wire_welcome);
	greeting.n_fds = WIRE_FDS;
	greeting.hangs_up = how == 0xfe;
	if (how != 0xff)
		return;
	/* Bytes of the run over the message; never another number of slots
	 * than the files have. */
	greeting.n_fds = fuzz_byte(fuzz) % (WIRE_FDS + 1);
	/* Not a bell, after which it would wait on. */
	greeting.bytes = 2 + fuzz_number(fuzz, 2) % 1398;
	(void)fuzz_bytes(fuzz, &greeting.message, fuzz_byte(fuzz));
	if (greeting.message.welcome.slots <= SHM_SLOTS_MAX)
		greeting.message.welcome.slots = SLOTS;
}

/* ------------------------------------------------------------ the client */

static struct rgov *gov;
static struct rgov_ticket tickets[TICKETS];
static unsigned int n_tickets;

static void submit(struct fuzz *fuzz)
{
	uint8_t how = fuzz_byte(fuzz);
	struct rgov_request request = {.size = sizeof(request),
		.model_id = "m",
		.body = "{}",
		.body_bytes = 2,
		.timeout_ms = 1,
		.flags = how & 3};
	struct rgov_ticket *ticket = &tickets[n_tickets % TICKETS];
	int rc = how & 4 ? rgov_submit_permit(gov, &request, ticket)
			 : rgov_submit(gov, &request, ticket);

	MUST(rc == 0 || rgov_why()[0] != '\0');
	n_tickets += rc == 0;
}

/* rgovd's word of the slot of the last ticket: an answer to it, or anything. */
static void write_word(struct fuzz *fuzz)
{
	const struct rgov_ticket *ticket =
		&tickets[(n_tickets + TICKETS - 1) % TICKETS];
	uint8_t how = fuzz_byte(fuzz);
	struct daemon_slot *slot =
		daemon_slots(daemon_file, &shape) +
		(how & 8 ? fuzz_byte(fuzz) % SLOTS : ticket->slot % SLOTS);

	store_release(slot->word,
		how & 16 ? fuzz_number(fuzz, 4)
			 : shm_word(ticket->generation + (how >> 5), how & 3));
}

static void scribble(struct fuzz *fuzz)
{
	uint8_t how = fuzz_byte(fuzz);
	size_t at = fuzz_number(fuzz, 2);
	uint8_t bytes[16];
	size_t n = fuzz_bytes(fuzz, bytes, 1 + how % 16);

	if (how & 0x80)
		memcpy((char *)board + at % 8192, bytes, n);
	else
		memcpy((char *)daemon_slots(daemon_file, &shape) +
				at % (SLOTS * sizeof(struct daemon_slot) - 16),
			bytes, n);
}

static void judge(const struct rgov_reply *reply)
{
	MUST(reply->body_bytes <= SHM_BODY_REGION);
	MUST((reply->body != NULL) == (reply->body_bytes > 0));
	MUST(reply->body == NULL ||
		((const char *)reply->body)[reply->body_bytes] == '\0');
	MUST(memchr(reply->code, 0, sizeof(reply->code)) != NULL &&
		memchr(reply->message, 0, sizeof(reply->message)) != NULL &&
		memchr(reply->request_id, 0, sizeof(reply->request_id)) !=
			NULL);
	MUST(rgov_result_name(reply->result) != NULL);
}

static void wait_for(const struct rgov_ticket *ticket)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	int rc = rgov_wait(gov, ticket, 0, &reply);

	MUST(rc <= 0);
	if (rc == 0)
		judge(&reply);
	rgov_reply_fini(&reply);
}

static void look(void)
{
	struct rgov_stats stats = {.size = sizeof(stats)};
	struct rgov_diagnostics found = {.size = sizeof(found)};

	if (rgov_stats(gov, &stats) == 0)
		MUST(memchr(stats.preset, 0, sizeof(stats.preset)) != NULL);
	MUST(rgov_diagnose(gov, &found) == 0);
	MUST(found.slots_taken <= found.slots);
}

static void hang_up(void)
{
	if (peer >= 0)
		(void)close(peer);
	peer = -1;
}

static void act(struct fuzz *fuzz)
{
	uint8_t what = fuzz_byte(fuzz);
	const struct rgov_ticket *ticket = &tickets[what / 16 % TICKETS];

	switch (what % 10) {
	case 0:
	case 1:
		submit(fuzz);
		break;
	case 2:
		write_word(fuzz);
		break;
	case 3:
		scribble(fuzz);
		break;
	case 4:
		wait_for(ticket);
		break;
	case 5:
		(void)rgov_cancel(gov, ticket);
		break;
	case 6:
		(void)rgov_settle(gov, ticket, RGOV_SETTLE_OK, 1, 1);
		break;
	case 7:
		rgov_abandon(gov, ticket);
		break;
	case 8:
		if (peer >= 0) /* a bell, or what is none */
			(void)send(peer, "xyz", 1 + what / 128,
				MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)rgov_dispatch(gov);
		break;
	default:
		if (what > 250)
			hang_up();
		look();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	struct rgov_options options = {.size = sizeof(options),
		.name = "fuzz-nobody",
		.app = "fuzz",
		.slots = SLOTS,
		.connect_timeout_ms = 1};

	prepare();
	begin(&fuzz);
	options.socket_path = path;
	MUST(rgov_open(&options, &gov) == 0);
	memset(tickets, 0, sizeof(tickets));
	n_tickets = 0;
	while (fuzz.left > 0)
		act(&fuzz);
	rgov_close(gov);
	hang_up();
	return 0;
}
