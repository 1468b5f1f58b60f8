/*
 * Makes a board as rgovd would, filled with fixed figures, so that tests of the
 * tools need no rgovd: golden screens, hostile text, a writer that hangs
 * (SIGSTOP), dies (SIGKILL) or goes down in good order (SIGTERM).
 *
 *   fake_board NAME [calm|busy|hostile|torn|empty|stopped|leased|apart]
 *
 * "stopped" leaves a board as after SIGTERM, on which no age grows, and ends;
 * so do "leased" and "apart", of one that shares its quota with other hosts.
 * Prints "ready" when the board has its name; beats until it is ended.  The
 * board stays; `fake_board NAME unlink` removes it.
 */
#include "shm-layout/shm_board.h"
#include "shm-layout/shm_client.h"
#include "shm-layout/shm_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

static const uint64_t SECOND = 1000000000;
/* 2023-11-14 22:13:20 UTC: what golden screens show. */
static const uint64_t EVENT_TIME = 1700000000ull * 1000000000;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void fill_boot_id(uint8_t id[16])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned byte;

	for (int i = 0; file != NULL && i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			(void)fgetc(file); /* a dash */
		if (fscanf(file, "%2x", &byte) == 1)
			id[i] = (uint8_t)byte;
	}
	if (file != NULL)
		(void)fclose(file);
}

static void fill_header(struct board *board, const char *name)
{
	struct board_header *header = &board->header;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->total_bytes = sizeof(*board);
	header->owner_uid = geteuid();
	header->rgovd_pid = getpid();
	fill_boot_id(header->boot_id);
	header->started_ns = now - 60 * SECOND;
	header->started_unix_ns = EVENT_TIME - 60 * SECOND;
	(void)snprintf(header->name, sizeof(header->name), "%.31s", name);
	(void)strcpy(header->version, "0.0-fake");
	(void)strcpy(header->engine, "epoll");
	(void)strcpy(header->socket_path, "/nowhere/fake.sock");
	(void)strcpy(header->endpoint, "http://127.0.0.1:1");
	(void)strcpy(header->preset, "production-low");
	header->quota_window_ns = 60 * SECOND;
	header->guard_ns = SECOND;
	store_relaxed(header->heartbeat_ns, now);
	store_relaxed(header->config_generation, 3);
	store_relaxed(header->max_requests_per_user, 2);
	store_relaxed(header->credentials, 1);
}

static void fill_host(struct board *board)
{
	struct board_host *host = &board->host;

	store_relaxed(host->running, 3);
	store_relaxed(host->running_peak, 3);
	store_relaxed(host->running_limit, 3);
	store_relaxed(host->queued, 17);
	store_relaxed(host->queued_peak, 40);
	store_relaxed(host->queued_limit, 200);
	store_relaxed(host->starts, 27);
	store_relaxed(host->starts_peak, 30);
	store_relaxed(host->starts_limit, 30);
	store_relaxed(host->users, 5);
	store_relaxed(host->sessions, 4);
	store_relaxed(host->sessions_limit, 64);
	store_relaxed(host->oldest_enqueued_ns,
		board->header.heartbeat_ns - 4 * SECOND);
	store_relaxed(host->wait.buckets[40], 90);
	store_relaxed(host->wait.buckets[46], 10);
	store_relaxed(host->execution.buckets[44], 100);
	store_relaxed(board->counters.total_requests, 1250);
	store_relaxed(board->counters.successful_requests, 1200);
	store_relaxed(board->counters.failed_requests, 5);
	store_relaxed(board->counters.throttled_requests, 2);
	store_relaxed(board->counters.started_requests, 1000);
	store_relaxed(board->counters.ended_requests, 1000);
	store_relaxed(board->counters.wait_time_ns, 1500 * SECOND);
	store_relaxed(board->counters.execution_time_ns, 2500 * SECOND);
}

static void add_lane(struct board *board, unsigned i, const char *name)
{
	struct board_lane *lane = &board->lanes[i];

	lane->running = i + 1;
	lane->running_peak = 3;
	lane->running_limit = 3;
	lane->queued = 10 - i % 10;
	lane->starts = 20;
	lane->starts_limit = 30;
	lane->gate_open = i != 1;
	lane->gate_opens_ns = board->header.heartbeat_ns + 3600 * SECOND;
	lane->tokens_available = i == 1 ? -5 : 120000;
	lane->tokens_limit = 400000;
	lane->held_by = i == 1 ? SHM_WAIT_GATE : SHM_WAIT_HOST_REQUESTS;
	lane->held_since_ns = board->header.heartbeat_ns - SECOND;
	lane->done = 600;
	lane->throttled = i;
	lane->retry_budget_left = 500;
	(void)snprintf(lane->name, sizeof(lane->name), "%s", name);
	(void)strcpy(lane->pattern, "*");
	store_relaxed(lane->sequence, 2);
}

static void add_user(struct board *board, unsigned i, const char *name)
{
	struct board_user *user = &board->users[i];

	user->running = i % 3;
	user->running_limit = 2;
	user->queued = i;
	user->queued_limit = 50;
	user->held_by = SHM_WAIT_USER_CONCURRENCY;
	user->service = 1000.0 * i;
	user->weight = 1;
	user->done = 240;
	user->refused = i == 2;
	user->last_ns = board->header.heartbeat_ns;
	(void)snprintf(user->name, sizeof(user->name), "%s", name);
	(void)strcpy(user->app, "gunicorn:web");
	store_relaxed(user->sequence, 2);
}

static void add_live(struct board *board, unsigned i, const char *user,
	enum board_live_state state)
{
	struct board_live *live = &board->live[i];
	uint64_t now = load_relaxed(board->header.heartbeat_ns);

	live->state = state;
	live->pid = 4000 + (int32_t)i;
	live->request = 100 + i;
	live->enqueued_ns = now - (i + 1) * SECOND;
	live->started_ns =
		state == BOARD_LIVE_QUEUED ? 0 : now - SECOND / 2 * i;
	live->deadline_ns = now + 7200 * SECOND;
	live->expires_ns = now + 3600 * SECOND;
	live->tokens = 4200;
	if (state == BOARD_LIVE_QUEUED) {
		live->held_by = i % 2 ? SHM_WAIT_HOST_REQUESTS
				      : SHM_WAIT_USER_CONCURRENCY;
		live->position = i - 2;
		live->as_of_ns = now;
		live->held_ns = i * SECOND / 2;
		live->held_until_ns = i % 2 ? now + 2 * SECOND : UINT64_MAX;
		live->starts_ns = now + i * SECOND;
	}
	live->attempts = state != BOARD_LIVE_QUEUED;
	live->class = (uint8_t)(i % 3);
	live->kind = state == BOARD_LIVE_PERMIT ? SHM_PERMIT : SHM_CALL;
	(void)snprintf(live->user, sizeof(live->user), "%s", user);
	(void)strcpy(live->app, "gunicorn:web");
	(void)strcpy(live->model, "anthropic.claude-sonnet-4");
	store_relaxed(live->sequence, 2);
}

static void add_event(
	struct board *board, unsigned i, const char *kind, const char *text)
{
	struct board_event *event = &board->recent[i];

	event->number = i;
	event->at_ns = load_relaxed(board->header.heartbeat_ns);
	event->at_unix_ns = EVENT_TIME + i * SECOND;
	(void)snprintf(event->kind, sizeof(event->kind), "%s", kind);
	(void)snprintf(event->text, sizeof(event->text), "%s", text);
	store_relaxed(event->sequence, 2);
	store_relaxed(board->header.events, i + 1);
}

static void fill_cluster(struct board *board)
{
	struct board_cluster *cluster = &board->cluster;
	uint64_t now = load_relaxed(board->header.heartbeat_ns);

	cluster->mode = BOARD_CLUSTER_LEASED;
	cluster->hosts = cluster->hosts_configured = 3;
	cluster->is_connected = 1;
	cluster->since_ns = now - 50 * SECOND;
	cluster->until_ns = now + SECOND;
	cluster->answered_ns = now;
	cluster->took_ns = 1234567;
	cluster->lease = (struct board_lease){.is_shared = 1,
		.starts_left = 4,
		.starts_bound = UINT32_MAX,
		.starts_others = 18};
	(void)strcpy(cluster->on_loss, "share");
	(void)strcpy(cluster->trouble, "none");
	(void)strcpy(cluster->redis, "redis://:***@10.0.0.1:6379/0");
	(void)strcpy(cluster->account, "default");
	(void)strcpy(cluster->host, "web1/default");
	board->lanes[0].lease = cluster->lease;
	store_relaxed(cluster->sequence, 2);
}

/* No answer of Redis since, and hostile words of it. */
static void fill_apart(struct board *board)
{
	struct board_cluster *cluster = &board->cluster;

	fill_cluster(board);
	cluster->mode = BOARD_CLUSTER_APART;
	cluster->is_connected = 0;
	(void)strcpy(cluster->trouble, "password");
	(void)strcpy(cluster->trouble_text, "it does not let us in");
	(void)strcpy(cluster->reason, "WRONGPASS \x1b[2J");
}

static void fill_calm(struct board *board)
{
	static const char *const users[] = {
		"alice", "bob", "carol", "dave", "j\xc3\xa9r\xc3\xb4me"};

	fill_host(board);
	add_lane(board, 0, "anthropic.claude-sonnet-4");
	add_lane(board, 1, "anthropic.claude-haiku-3");
	for (unsigned i = 0; i < 5; i++)
		add_user(board, i, users[i]);
	for (unsigned i = 0; i < 5; i++)
		add_live(board, i, users[i],
			i == 2  ? BOARD_LIVE_PERMIT
			: i < 3 ? BOARD_LIVE_RUNNING
				: BOARD_LIVE_QUEUED);
	add_event(board, 0, "start", "rgovd 0.0-fake started");
	add_event(board, 1, "throttle", "anthropic.claude-haiku-3: closed 1 h");
}

/* Every table full. */
static void fill_busy(struct board *board)
{
	char text[64];

	fill_host(board);
	for (unsigned i = 0; i < SHM_BOARD_LANES; i++) {
		(void)snprintf(text, sizeof(text), "model-%02u", i);
		add_lane(board, i, text);
	}
	for (unsigned i = 0; i < SHM_BOARD_USERS; i++) {
		(void)snprintf(text, sizeof(text), "user-%03u", i);
		add_user(board, i, text);
	}
	for (unsigned i = 0; i < SHM_BOARD_LIVE; i++) {
		(void)snprintf(text, sizeof(text), "user-%03u", i % 256);
		add_live(board, i, text,
			i < 3 ? BOARD_LIVE_RUNNING : BOARD_LIVE_QUEUED);
	}
	for (unsigned i = 0; i < SHM_BOARD_EVENTS; i++)
		add_event(board, i, "session", "a worker came");
}

/* Text that would take over a terminal or break JSON, fields without an end,
 * figures that make no sense. */
static void fill_hostile(struct board *board)
{
	fill_calm(board);
	add_user(board, 0,
		"\x1b[2J\x1b]0;owned\x07"
		"evil");
	add_user(board, 1, "bad\xff\xc3utf\xed\xa0\x80");
	add_user(board, 2,
		"rtl\xe2\x80\xae"
		"end");
	add_user(board, 3, "q\"uote\\ \n\t<");
	memset(board->users[4].name, 'A', sizeof(board->users[4].name));
	memset(board->live[0].model, 0xc3, sizeof(board->live[0].model));
	memset(board->header.preset, '\x1b', sizeof(board->header.preset));
	board->users[1].weight = __builtin_nan("");
	board->users[1].service = __builtin_inf();
	board->live[1].state = 4000000000u;
	board->live[1].class = board->live[1].kind = 200;
	board->live[2].deadline_ns = UINT64_MAX;
	board->live[3].enqueued_ns = UINT64_MAX;
	board->live[3].held_by = UINT32_MAX;
	board->live[3].held_ns = board->live[3].starts_ns = UINT64_MAX;
	board->lanes[0].tokens_available = INT64_MIN;
	board->lanes[0].tokens_limit = UINT64_MAX;
	store_relaxed(board->counters.retries, UINT64_MAX);
}

/* rgovd died inside one record of each kind. */
static void fill_torn(struct board *board)
{
	fill_calm(board);
	store_relaxed(board->lanes[1].sequence, 3);
	store_relaxed(board->users[1].sequence, 3);
	store_relaxed(board->live[1].sequence, 3);
	store_relaxed(board->recent[1].sequence, 3);
}

static struct board *make(const char *name, const char *kind)
{
	char object[SHM_OBJECT_NAME_BYTES];
	struct board *board;
	int fd;

	board_object_name(name, object);
	(void)shm_unlink(object);
	fd = shm_open(object, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*board)) < 0)
		return NULL;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED,
		fd, 0);
	(void)close(fd);
	if (board == MAP_FAILED)
		return NULL;
	fill_header(board, name);
	if (strcmp(kind, "busy") == 0)
		fill_busy(board);
	else if (strcmp(kind, "hostile") == 0)
		fill_hostile(board);
	else if (strcmp(kind, "leased") == 0) {
		fill_calm(board);
		fill_cluster(board);
	} else if (strcmp(kind, "apart") == 0) {
		fill_calm(board);
		fill_apart(board);
	} else if (strcmp(kind, "torn") == 0)
		fill_torn(board);
	else if (strcmp(kind, "empty") != 0)
		fill_calm(board);
	store_release(board->header.magic, SHM_BOARD_MAGIC);
	return board;
}

static bool is_stopped(const char *kind)
{
	return strcmp(kind, "stopped") == 0 || strcmp(kind, "leased") == 0 ||
	       strcmp(kind, "apart") == 0;
}

int main(int argc, char **argv)
{
	struct pollfd signals = {.events = POLLIN};
	struct board *board;
	sigset_t ends;

	if (argc < 2 || argc > 3 || !shm_name_is_valid(argv[1])) {
		(void)fprintf(stderr, "usage: fake_board NAME [KIND]\n");
		return EX_USAGE;
	}
	if (argc == 3 && strcmp(argv[2], "unlink") == 0) {
		char object[SHM_OBJECT_NAME_BYTES];

		board_object_name(argv[1], object);
		return shm_unlink(object) < 0 && errno != ENOENT;
	}
	board = make(argv[1], argc == 3 ? argv[2] : "calm");
	if (board == NULL) {
		perror("fake_board");
		return EX_CANTCREAT;
	}
	(void)sigemptyset(&ends);
	(void)sigaddset(&ends, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &ends, NULL);
	signals.fd = signalfd(-1, &ends, SFD_CLOEXEC);
	(void)puts("ready");
	(void)fflush(stdout);
	if (argc == 3 && is_stopped(argv[2])) {
		store_relaxed(board->header.stopped, 1);
		return 0;
	}
	do
		store_relaxed(
			board->header.heartbeat_ns, clock_ns(CLOCK_MONOTONIC));
	while (poll(&signals, 1, 200) <= 0);
	store_relaxed(board->header.stopped, 1);
	return 0;
}
