#include "tools/board-view/board_view.h"

#include "shm-layout/shm_client.h"
#include "shm-layout/shm_layout.h"
#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* rgovd writes its heartbeat at least each second. */
static const double HEARTBEAT_LATE_S = 2;

const struct view_counter_text view_counter_texts[VIEW_COUNTERS] = {
#define COUNTER(name, unit, help) {#name, unit, help},
#include "shm-layout/board_counters.def"
#undef COUNTER
};

/* ------------------------------------------------------------ SIGBUS */

/* A board can be truncated while we read it: the touch of a page that is gone
 * raises SIGBUS in this thread, and the look ends there. */
static sigjmp_buf cut_off;
static volatile sig_atomic_t is_looking;

static void on_sigbus(int number)
{
	if (is_looking)
		siglongjmp(cut_off, 1);
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void catch_sigbus(void)
{
	struct sigaction action = {.sa_handler = on_sigbus};

	(void)sigaction(SIGBUS, &action, NULL);
}

/* ------------------------------------------------------------ copying */

typedef uint64_t __attribute__((may_alias)) board_word;

/* Relaxed: each field is exact, a set of them may be a moment apart. */
static void copy_words(const void *from, void *to, size_t bytes)
{
	const board_word *source = from;
	board_word *target = to;

	for (size_t i = 0; i < bytes / sizeof(board_word); i++)
		target[i] = __atomic_load_n(&source[i], __ATOMIC_RELAXED);
}

/* True: the record changed since `kept` was copied, and kept is the new one. */
static bool copy_record(struct board_view *view, const void *record,
	size_t bytes, void *kept, void *scratch)
{
	const _Atomic uint32_t *sequence = record;
	uint32_t now = load_relaxed(*sequence); /* a hint; B2 is in the copy */

	if (now == load_relaxed(*(_Atomic uint32_t *)kept))
		return false;
	if (!board_read_record(record, bytes, scratch)) {
		view->unreadable++;
		return false;
	}
	memcpy(kept, scratch, bytes);
	return true;
}

#define CLEAN(field) text_clean((field), sizeof(field))

static void copy_header(struct board_view *view, const struct board *board)
{
	struct board_header *header = &view->header;

	copy_words(&board->header, header, sizeof(*header));
	CLEAN(header->name);
	CLEAN(header->version);
	CLEAN(header->engine);
	CLEAN(header->socket_path);
	CLEAN(header->endpoint);
	CLEAN(header->preset);
}

static void clean_cluster(struct board_cluster *cluster)
{
	CLEAN(cluster->on_loss);
	CLEAN(cluster->trouble);
	CLEAN(cluster->trouble_text);
	CLEAN(cluster->reason);
	CLEAN(cluster->redis);
	CLEAN(cluster->account);
	CLEAN(cluster->host);
}

static void copy_records(struct board_view *view, const struct board *board)
{
	union {
		struct board_lane lane;
		struct board_user user;
		struct board_live live;
		struct board_event event;
		struct board_tokens tokens;
		struct board_cluster cluster;
	} scratch;

	(void)copy_record(view, &board->host_tokens, sizeof(view->host_tokens),
		&view->host_tokens, &scratch);
	if (copy_record(view, &board->cluster, sizeof(view->cluster),
		    &view->cluster, &scratch))
		clean_cluster(&view->cluster);
	for (size_t i = 0; i < SHM_BOARD_LANES; i++) {
		struct board_lane *lane = &view->lanes[i];

		if (copy_record(view, &board->lanes[i], sizeof(*lane), lane,
			    &scratch)) {
			CLEAN(lane->name);
			CLEAN(lane->pattern);
		}
	}
	for (size_t i = 0; i < SHM_BOARD_USERS; i++) {
		struct board_user *user = &view->users[i];

		if (copy_record(view, &board->users[i], sizeof(*user), user,
			    &scratch)) {
			CLEAN(user->name);
			CLEAN(user->app);
		}
	}
	for (size_t i = 0; i < SHM_BOARD_LIVE; i++) {
		struct board_live *live = &view->live[i];

		if (copy_record(view, &board->live[i], sizeof(*live), live,
			    &scratch)) {
			CLEAN(live->user);
			CLEAN(live->app);
			CLEAN(live->model);
		}
	}
	for (size_t i = 0; i < SHM_BOARD_EVENTS; i++) {
		struct board_event *event = &view->events[i];

		if (copy_record(view, &board->recent[i], sizeof(*event), event,
			    &scratch)) {
			CLEAN(event->kind);
			CLEAN(event->text);
		}
	}
}

static void copy_board(struct board_view *view)
{
	const struct board *board = view->mapped;

	view->unreadable = 0;
	copy_header(view, board);
	copy_words(&board->host, &view->host, sizeof(view->host));
	copy_words(&board->counters, view->counters, sizeof(view->counters));
	copy_records(view, board);
}

/* ------------------------------------------------------------ health */

/* The state letter of a process, as in /proc/PID/stat; 'X': there is none. */
static char process_state(int32_t pid)
{
	char path[64], line[512], *end;
	char state = 'X';
	FILE *file;

	if (pid <= 0)
		return state;
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (file == NULL) /* gone; or another user's, hidden from us */
		return kill(pid, 0) == 0 || errno == EPERM ? '?' : 'X';
	/* The name in parentheses may contain anything: look behind the last.
	 */
	if (fgets(line, sizeof(line), file) != NULL &&
		(end = strrchr(line, ')')) != NULL && end[1] == ' ')
		state = end[2];
	(void)fclose(file);
	return state;
}

static enum view_health judge(const struct board_view *view)
{
	const struct board_header *header = &view->header;

	if (view->mapped == NULL)
		return VIEW_BROKEN;
	if (load_relaxed(header->stopped) != 0)
		return VIEW_STOPPED;
	if (view->heartbeat_age_s <= HEARTBEAT_LATE_S)
		return load_relaxed(header->draining) ? VIEW_DRAINING : VIEW_OK;
	switch (process_state(header->rgovd_pid)) {
	case 'X':
	case 'Z':
		return VIEW_GONE;
	case 'T':
	case 't':
		return VIEW_SUSPENDED;
	default:
		return VIEW_SILENT;
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds_between(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns <= from_ns ? 0 : (double)(to_ns - from_ns) * 1e-9;
}

/* After a rgovd that is no more, nothing grows older. */
static bool time_stands_still(enum view_health health)
{
	return health == VIEW_STOPPED || health == VIEW_GONE ||
	       health == VIEW_BROKEN;
}

static void judge_times(struct board_view *view)
{
	uint64_t heartbeat_ns = load_relaxed(view->header.heartbeat_ns);

	view->now_ns = now_ns();
	view->heartbeat_age_s = seconds_between(heartbeat_ns, view->now_ns);
	view->health = judge(view);
	view->as_of_ns =
		time_stands_still(view->health) ? heartbeat_ns : view->now_ns;
	view->uptime_s =
		seconds_between(view->header.started_ns, view->as_of_ns);
}

/* ------------------------------------------------------------ following */

/* Forgets what was copied from the board before. */
static void start_afresh(struct board_view *view, const struct board *board,
	const struct stat *st)
{
	board_close(view->mapped);
	memset(view->lanes, 0, sizeof(view->lanes));
	memset(view->users, 0, sizeof(view->users));
	memset(view->live, 0, sizeof(view->live));
	memset(view->events, 0, sizeof(view->events));
	view->mapped = board;
	view->device = st->st_dev;
	view->inode = st->st_ino;
	view->boards++;
}

/* Maps the board that has the name now.  0 also when it is the one we have. */
static int follow(struct board_view *view)
{
	char object[SHM_OBJECT_NAME_BYTES];
	const struct board *board;
	struct stat st;
	int fd, rc;

	board_object_name(view->name, object);
	/* O_NONBLOCK: not to be hung by a FIFO of that name. */
	fd = shm_open(object, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0 && view->mapped != NULL && st.st_dev == view->device &&
		st.st_ino == view->inode)
		goto close_fd;
	if (rc == 0)
		rc = board_map(fd, &board);
	if (rc == 0)
		start_afresh(view, board, &st);
close_fd:
	(void)close(fd);
	return rc;
}

static void look(struct board_view *view)
{
	if (view->mapped == NULL)
		return;
	if (sigsetjmp(cut_off, 1) == 0) {
		is_looking = 1;
		copy_board(view);
	} else {
		board_close(view->mapped);
		view->mapped = NULL;
	}
	is_looking = 0;
}

void view_refresh(struct board_view *view)
{
	uint32_t boards = view->boards;

	look(view);
	judge_times(view);
	if (view->health == VIEW_OK || view->health == VIEW_DRAINING)
		return;
	/* Is there a successor?  If not, what we have stays. */
	if (follow(view) < 0 || view->boards == boards)
		return;
	look(view);
	judge_times(view);
}

int view_open(const char *name, struct board_view **ret_view)
{
	struct board_view *view;
	int rc;

	if (!shm_name_is_valid(name))
		return -ENOENT;
	view = aligned_alloc(_Alignof(struct board_view), sizeof(*view));
	if (view == NULL)
		return -ENOMEM;
	memset(view, 0, sizeof(*view));
	(void)snprintf(view->name, sizeof(view->name), "%s", name);
	catch_sigbus();
	rc = follow(view);
	if (rc < 0) {
		free(view);
		return rc;
	}
	view_refresh(view);
	*ret_view = view;
	return 0;
}

void view_free(struct board_view *view)
{
	if (view == NULL)
		return;
	board_close(view->mapped);
	free(view);
}

/* ------------------------------------------------------------ words */

const char *view_health_name(enum view_health health)
{
	static const char *const names[] = {
#define HEALTH(name, text) text,
		VIEW_HEALTHS(HEALTH)
#undef HEALTH
	};
	return names[health];
}

void view_health_text(
	const struct board_view *view, char *ret_text, size_t bytes)
{
	double age_s = view->heartbeat_age_s;

	switch (view->health) {
	case VIEW_OK:
		(void)snprintf(ret_text, bytes, "ok");
		return;
	case VIEW_DRAINING:
		(void)snprintf(ret_text, bytes,
			"is draining: it takes no new requests");
		return;
	case VIEW_SILENT:
		(void)snprintf(ret_text, bytes,
			"rgovd does not answer since %.0f s", age_s);
		return;
	case VIEW_SUSPENDED:
		(void)snprintf(ret_text, bytes,
			"rgovd does not answer since %.0f s (stopped: "
			"kill -CONT %d)",
			age_s, (int)view->header.rgovd_pid);
		return;
	case VIEW_STOPPED:
		(void)snprintf(ret_text, bytes,
			"rgovd stopped in good order %.0f s ago; last state",
			age_s);
		return;
	case VIEW_GONE:
		(void)snprintf(ret_text, bytes,
			"rgovd is gone since %.0f s; last state", age_s);
		return;
	case VIEW_BROKEN:
		(void)snprintf(
			ret_text, bytes, "the board was cut off; last state");
		return;
	}
}

void view_open_error(const char *name, int error, char *ret_text, size_t bytes)
{
	char object[SHM_OBJECT_NAME_BYTES];

	board_object_name(name, object);
	switch (-error) {
	case ENOENT:
		(void)snprintf(ret_text, bytes,
			"no governor named '%s' has run on this host since "
			"boot (no board %s); start rgovd, or name another "
			"with --name",
			name, object);
		return;
	case EACCES:
	case EPERM:
		(void)snprintf(ret_text, bytes,
			"the board %s is not readable for uid %u; ask to be "
			"put into the group that owns /dev/shm%s",
			object, (unsigned)geteuid(), object);
		return;
	case EPROTO:
		(void)snprintf(ret_text, bytes,
			"the board %s has another layout than this tool "
			"(version " RGOV_VERSION ", layout %d), or is no "
			"board at all; restart rgovd and this tool from one "
			"release",
			object, SHM_LAYOUT_VERSION);
		return;
	case EAGAIN:
		(void)snprintf(ret_text, bytes,
			"the board %s is not ready: rgovd is starting, or "
			"died while it did; try again",
			object);
		return;
	default:
		(void)snprintf(ret_text, bytes, "cannot open the board %s: %s",
			object, strerror(-error));
	}
}

double view_age_s(const struct board_view *view, uint64_t stamp_ns)
{
	return stamp_ns == 0 ? 0 : seconds_between(stamp_ns, view->as_of_ns);
}

double view_left_s(const struct board_view *view, uint64_t stamp_ns)
{
	return stamp_ns >= view->as_of_ns
		       ? seconds_between(view->as_of_ns, stamp_ns)
		       : -seconds_between(stamp_ns, view->as_of_ns);
}

double view_live_wait_s(
	const struct board_view *view, const struct board_live *live)
{
	if (live->started_ns == 0)
		return view_age_s(view, live->enqueued_ns);
	return seconds_between(live->enqueued_ns, live->started_ns);
}

bool view_live_waits(const struct board_live *live)
{
	return live->state == BOARD_LIVE_QUEUED ||
	       live->state == BOARD_LIVE_BACKOFF;
}

double view_live_predicted_s(
	const struct board_view *view, const struct board_live *live)
{
	return live->as_of_ns == 0
		       ? 0
		       : seconds_between(view->as_of_ns, live->starts_ns);
}

double view_live_held_s(
	const struct board_view *view, const struct board_live *live)
{
	return live->as_of_ns == 0 ? 0
				   : (double)live->held_ns * 1e-9 +
					     view_age_s(view, live->as_of_ns);
}

bool view_live_runs(const struct board_live *live)
{
	return live->state == BOARD_LIVE_RUNNING ||
	       live->state == BOARD_LIVE_PERMIT;
}

static double mean_s(uint64_t sum_ns, uint64_t n)
{
	return n == 0 ? 0 : (double)sum_ns * 1e-9 / (double)n;
}

double view_mean_wait_s(const struct board_view *view)
{
	return mean_s(view->counters[VIEW_wait_time_ns],
		view->counters[VIEW_started_requests]);
}

double view_mean_execution_s(const struct board_view *view)
{
	return mean_s(view->counters[VIEW_execution_time_ns],
		view->counters[VIEW_ended_requests]);
}

const char *view_default_name(void)
{
	const char *name = getenv("RGOV_NAME");

	return name != NULL && name[0] != '\0' ? name : "default";
}

static const char *word_of(const char *const *words, size_t n, unsigned number)
{
	return number < n ? words[number] : "?";
}

const char *view_class_text(unsigned class)
{
	static const char *const words[] = {[SHM_INTERACTIVE] = "interactive",
		[SHM_NORMAL] = "normal",
		[SHM_BATCH] = "batch"};

	return word_of(words, 3, class);
}

const char *view_kind_text(unsigned kind)
{
	static const char *const words[] = {[SHM_CALL] = "call",
		[SHM_PERMIT] = "permit",
		[SHM_TASK] = "task"};

	return word_of(words, 3, kind);
}

const char *view_operation_text(unsigned operation)
{
	static const char *const words[] = {[SHM_INVOKE_MODEL] = "InvokeModel",
		[SHM_CONVERSE] = "Converse"};

	return word_of(words, 2, operation);
}

/* ------------------------------------------------------------ cluster */

bool view_is_clustered(const struct board_view *view)
{
	return view->cluster.redis[0] != '\0';
}

bool view_cluster_is_ill(const struct board_view *view)
{
	return view_is_clustered(view) &&
	       (view->cluster.trouble_text[0] != '\0' ||
		       view->cluster.is_namesake != 0 ||
		       view->cluster.mode != BOARD_CLUSTER_LEASED);
}

void view_cluster_text(
	const struct board_view *view, char *ret_text, size_t bytes)
{
	const struct board_cluster *cluster = &view->cluster;

	if (cluster->is_namesake != 0)
		(void)snprintf(ret_text, bytes,
			"another rgovd uses the name %s: give each its own "
			"cluster_host",
			cluster->host);
	else if (cluster->trouble_text[0] == '\0')
		(void)snprintf(ret_text, bytes, "%s", "");
	else
		(void)snprintf(ret_text, bytes, "Redis: %s (%s)",
			cluster->trouble_text, cluster->reason);
}
