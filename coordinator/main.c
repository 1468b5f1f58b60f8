/*
 * rgovd: starts, turns, ends.
 */
#include "coordinator/config.h"
#include "coordinator/governor.h"
#include "coordinator/lock.h"
#include "coordinator/log.h"
#include "coordinator/notify.h"
#include "coordinator/options.h"
#include "coordinator/tasks.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define HEARTBEAT_NS 1000000000u

/* While spinning, descriptors and timers are looked at once in so many turns.
 */
enum { SPINS_PER_STEP = 16 };

/* At the end, while clients go on asking: a turn takes one large body of each.
 */
enum { LOOKS_MOST = 4096 };

struct rgovd {
	struct options options;
	struct config *config;       /* in force */
	struct config *first_config; /* the door points into it */
	struct notify notify;
	struct lock lock;
	struct loop *loop;
	struct governor governor;
	struct loop_timer heartbeat;
	struct loop_watch signals;
	int signal_fd;
	bool is_ending;     /* leave as soon as nothing runs */
	bool is_ending_now; /* leave */
	unsigned int looks; /* ending: turns since nothing runs any more */
	unsigned int found; /* in the rings, in the last turn */
};

static struct rgovd *rgovd_of(struct governor *governor)
{
	return (struct rgovd *)(void *)((char *)governor -
					offsetof(struct rgovd, governor));
}

/* ------------------------------------------------------------ reload */

static int load(
	struct rgovd *rgovd, struct config **ret, struct config_error *error)
{
	struct config_source source = options_source(&rgovd->options);
	const struct door *door = rgovd->governor.door;

	source.in_child = door == NULL || door_may_fork(door);
	return config_load(&source, ret, error);
}

static void count_reload(struct rgovd *rgovd, bool ok)
{
	struct board_counters *counters =
		&rgovd->governor.board.board->counters;

	if (ok)
		board_add(counters->reloads, 1);
	else
		board_add(counters->reloads_failed, 1);
}

static int keep_old(
	struct rgovd *rgovd, const char *why, char *ret_text, size_t bytes)
{
	LOG(LOG_ERROR, "reload.refused", "the old configuration is kept",
		F_S("reason", why));
	board_event(&rgovd->governor.board, "reload", "refused: %s", why);
	count_reload(rgovd, false);
	(void)snprintf(
		ret_text, bytes, "%s (the old configuration is kept)", why);
	return -EINVAL;
}

/* What may be a mistake. */
static void say_warnings(const struct config *config)
{
	const struct config_error *warnings = config_warnings(config);

	for (size_t i = 0; i < warnings->n && i < CONFIG_ERRORS; i++)
		LOG(LOG_WARN, "config.odd", warnings->text[i]);
}

static void put_in_force(struct rgovd *rgovd, struct config *config,
	char *ret_text, size_t bytes)
{
	char changed[512], restart[512];
	size_t n = config_diff(rgovd->config, config, changed, sizeof(changed));
	size_t later = config_diff_needs_restart(
		rgovd->config, config, restart, sizeof(restart));
	struct config *old = rgovd->config;

	rgovd->config = config;
	log_open(config->log_format, config->log_level);
	say_warnings(config);
	door_set_limits(rgovd->governor.door, config->slots_per_session,
		config->spin_us);
	(void)snprintf(ret_text, bytes, "%s%s%s%s",
		n > 0 ? "changed: " : "nothing has changed",
		n > 0 ? changed : "",
		later > 0 ? "; only after a restart: " : "",
		later > 0 ? restart : "");
	LOG(LOG_INFO, "reload.done", ret_text);
	board_event(&rgovd->governor.board, "reload", "%s", ret_text);
	count_reload(rgovd, true);
	if (old != rgovd->first_config)
		config_free(old);
}

/* Validates everything, then publishes it as one; or keeps the old one. */
static int reload(struct governor *governor, char *ret_text, size_t bytes)
{
	struct rgovd *rgovd = rgovd_of(governor);
	struct config *config = NULL;
	struct config_error error = {0};
	char why[UPSTREAM_MESSAGE_BYTES], first[CONFIG_ERROR_BYTES];
	int rc;

	if (!rgovd->is_ending)
		(void)notify_reloading(&rgovd->notify);
	rc = load(rgovd, &config, &error);
	if (rc < 0) {
		rc = keep_old(rgovd,
			rc == -ENOMEM ? "no memory for the configuration"
				      : config_error_first(&error, first),
			ret_text, bytes);
	} else if (governor_reload(governor, config, why) < 0) {
		config_free(config);
		rc = keep_old(rgovd, why, ret_text, bytes);
	} else {
		put_in_force(rgovd, config, ret_text, bytes);
		rc = 0;
	}
	if (!rgovd->is_ending)
		(void)notify_ready(&rgovd->notify);
	return rc;
}

/* ------------------------------------------------------------ signals */

/* TERM: what runs ends, what waits stays for a successor.  INT: what waits is
 * refused.  A second one of either: now. */
static void begin_end(struct rgovd *rgovd, bool is_final)
{
	if (rgovd->is_ending) {
		rgovd->is_ending_now = true;
		return;
	}
	LOG(LOG_INFO, "rgovd.draining",
		is_final ? "what waits is refused" : "what waits is kept");
	(void)notify_stopping(&rgovd->notify);
	rgovd->is_ending = true;
	if (!is_final)
		door_stop_accepting(rgovd->governor.door);
	governor_drain(&rgovd->governor, is_final);
}

static void dump_state(struct rgovd *rgovd)
{
	const struct board *board = rgovd->governor.board.board;

	LOG(LOG_INFO, "rgovd.state", "",
		F_I("running", load_relaxed(board->host.running)),
		F_I("queued", load_relaxed(board->host.queued)),
		F_I("starts", load_relaxed(board->host.starts)),
		F_I("sessions", load_relaxed(board->host.sessions)),
		F_I("throttled",
			load_relaxed(board->counters.throttled_requests)));
}

static void on_signal(struct loop_watch *watch, unsigned int events)
{
	struct rgovd *rgovd = watch->owner;
	struct signalfd_siginfo signal;
	char text[1024];

	(void)events;
	while (read(rgovd->signal_fd, &signal, sizeof(signal)) ==
		(ssize_t)sizeof(signal)) {
		if (signal.ssi_signo == SIGHUP)
			(void)reload(&rgovd->governor, text, sizeof(text));
		else if (signal.ssi_signo == SIGUSR1)
			governor_reopen(&rgovd->governor);
		else if (signal.ssi_signo == SIGUSR2)
			dump_state(rgovd);
		else
			begin_end(rgovd, signal.ssi_signo == SIGINT);
	}
}

static int watch_signals(struct rgovd *rgovd)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaddset(&set, SIGUSR2);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	rgovd->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (rgovd->signal_fd < 0)
		return -errno;
	return loop_watch(rgovd->loop, &rgovd->signals, rgovd->signal_fd,
		LOOP_READ, on_signal, rgovd);
}

/* ------------------------------------------------------------ turning */

static void tell_status(struct rgovd *rgovd)
{
	const struct board_host *host = &rgovd->governor.board.board->host;
	char status[128];

	if (rgovd->notify.fd < 0)
		return;
	(void)snprintf(status, sizeof(status), "%u/%u running, %u queued",
		load_relaxed(host->running), load_relaxed(host->running_limit),
		load_relaxed(host->queued));
	(void)notify_status(&rgovd->notify, status);
}

static void on_heartbeat(struct loop_timer *timer, uint64_t now_ns);

static void beat(struct rgovd *rgovd, uint64_t now_ns)
{
	show_heartbeat(&rgovd->governor, now_ns);
	tell_status(rgovd);
	if (notify_watchdog_ns(&rgovd->notify) != 0)
		(void)notify_watchdog(&rgovd->notify);
	(void)loop_timer_set(rgovd->loop, &rgovd->heartbeat,
		now_ns + HEARTBEAT_NS, on_heartbeat, rgovd);
}

static void on_heartbeat(struct loop_timer *timer, uint64_t now_ns)
{
	beat(timer->owner, now_ns);
}

/* Once nothing runs the rings are looked into until they are empty: what came
 * in together with the signal is refused, too.  Who asks again and again is no
 * reason to stay. */
static bool is_over(struct rgovd *rgovd)
{
	if (!rgovd->is_ending || !governor_is_quiet(&rgovd->governor)) {
		rgovd->looks = 0;
		return rgovd->is_ending_now;
	}
	rgovd->looks++;
	return rgovd->is_ending_now || rgovd->looks > LOOKS_MOST ||
	       (rgovd->looks > 1 && rgovd->found == 0);
}

/* One turn: what is ready, what the clients said, what may start.  Returns how
 * much there was, or -errno. */
static int turn(struct rgovd *rgovd, uint64_t until_ns)
{
	int ready = loop_step(rgovd->loop, until_ns);
	unsigned int done;

	if (ready < 0)
		return ready;
	done = intake_collect(rgovd->governor.intake);
	done += tasks_collect(&rgovd->governor);
	rgovd->found = door_poll(rgovd->governor.door);
	governor_pump(&rgovd->governor);
	return ready + (int)(done + rgovd->found);
}

/* Only the rings, for a few rounds; true: something came. */
static bool spin(struct rgovd *rgovd)
{
	for (int i = 0; i < SPINS_PER_STEP; i++) {
		if (door_poll(rgovd->governor.door) > 0) {
			governor_pump(&rgovd->governor);
			return true;
		}
	}
	return false;
}

static int run(struct rgovd *rgovd)
{
	struct door *door = rgovd->governor.door;
	uint64_t until_ns = 0;

	while (!is_over(rgovd)) {
		int n = turn(rgovd, until_ns);
		uint64_t now;

		if (n < 0) {
			LOG(LOG_ERROR, "loop.broken",
				"the event loop cannot go on",
				F_S("reason", strerrordesc_np(-n)));
			return EX_SOFTWARE;
		}
		until_ns = 0;
		now = loop_now_ns();
		if (n > 0 || (door_should_spin(door, now) && spin(rgovd)))
			continue;
		if (rgovd->looks == 0 && !door_should_spin(door, now) &&
			door_prepare_sleep(door, now))
			until_ns = UINT64_MAX;
	}
	return 0;
}

/* ------------------------------------------------------------ starting */

static int complain(const char *what, const char *on, int error, int code)
{
	LOG(LOG_ERROR, "rgovd.start", what, F_S("on", on),
		F_S("reason", strerrordesc_np(error < 0 ? -error : error)));
	return code;
}

static void harden(void)
{
	struct rlimit limit;

	/* A limit of file size counts for memory files, too: it is an error
	 * code of one session, or of the log, not the end of all. */
	(void)signal(SIGXFSZ, SIG_IGN);
	/* No core with prompts and keys in it, no ptrace by the same uid. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
		limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Through it a file is opened once more with other rights: the board to be
 * read, a session's files for its client. */
static int need_proc(void)
{
	return access("/proc/self/fd", X_OK) == 0
		       ? 0
		       : complain("/proc is not mounted", "/proc/self/fd",
				 errno, EX_UNAVAILABLE);
}

static int take_lock(struct rgovd *rgovd)
{
	const struct config *config = rgovd->config;
	char path[512];
	pid_t holder = 0;
	int rc;

	if (mkdir(config->runtime_dir, 0755) != 0 && errno != EEXIST)
		return complain("cannot make the runtime directory",
			config->runtime_dir, errno, EX_CANTCREAT);
	rc = lock_take(config->name, config->socket, rgovd->options.replace,
		&rgovd->lock, &holder, path, sizeof(path));
	if (rc == -EBUSY) {
		LOG(LOG_ERROR, "rgovd.start",
			"another rgovd of this name runs; stop it, or start "
			"with "
			"--replace",
			F_S("name", config->name), F_I("holder", holder),
			F_S("lock", path));
		return EX_UNAVAILABLE;
	}
	return rc < 0 ? complain("cannot take the lock", path, rc, EX_CANTCREAT)
		      : 0;
}

static uint32_t count_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0
		       ? (uint32_t)CPU_COUNT(&set)
		       : 1;
}

static int open_door(struct rgovd *rgovd)
{
	const struct config *config = rgovd->config;
	struct door_config door = {
		.socket_path = config->socket,
		.socket_mode = config->socket_mode,
		.max_sessions = config->max_sessions,
		.slots_per_session = config->slots_per_session,
		.spin_us = config->spin_us,
		.cpus = count_cpus(),
		.board_fd = rgovd->governor.board.read_fd,
	};
	int rc = door_open(rgovd->loop, &door, governor_handlers(),
		&rgovd->governor, &rgovd->governor.door);

	return rc < 0 ? complain("cannot listen", config->socket, rc,
				EX_CANTCREAT)
		      : 0;
}

static int make_board(struct rgovd *rgovd)
{
	int rc = board_create(rgovd->config->name, &rgovd->governor.board);

	return rc < 0 ? complain("cannot make the board: is /dev/shm mounted, "
				 "writable and not full?",
				rgovd->config->name, rc, EX_CANTCREAT)
		      : 0;
}

static int publish_board(struct rgovd *rgovd)
{
	int rc;

	show_config(&rgovd->governor);
	rc = board_publish(&rgovd->governor.board);
	if (rc < 0)
		return complain("cannot publish the board", rgovd->config->name,
			rc, EX_CANTCREAT);
	beat(rgovd, loop_now_ns());
	return 0;
}

/* What was accepted must not be lost: better no rgovd than one without it. */
static int open_tasks(struct rgovd *rgovd, bool was_lost)
{
	char why[512];
	int rc = tasks_open(&rgovd->governor, was_lost, why, sizeof(why));

	if (rc == 0)
		return 0;
	LOG(LOG_ERROR, "rgovd.start", why,
		F_S("on", rgovd->config->tasks.state_dir));
	return rc == -EBUSY || rc == -ENOMEM || rc == -ENOSPC || rc == -EDQUOT
		       ? EX_TEMPFAIL
		       : EX_CONFIG;
}

/* restored: what restore_from_board() said. */
static int start_sharing(struct rgovd *rgovd, int restored)
{
	char why[UPSTREAM_MESSAGE_BYTES];
	int rc = sharing_start(&rgovd->governor,
		restored >= 0         ? SHARING_KNOWN
		: restored == -ENOENT ? SHARING_NONE
				      : SHARING_LOST,
		why);

	if (rc == 0)
		return 0;
	LOG(LOG_ERROR, "rgovd.start", why);
	return rc == -EINVAL ? EX_CONFIG : EX_OSERR;
}

static int make_governor(struct rgovd *rgovd)
{
	char why[UPSTREAM_MESSAGE_BYTES] = "";
	int rc = governor_init(
		&rgovd->governor, rgovd->loop, rgovd->config, why);
	int code;

	rgovd->governor.reload = reload;
	if (rc < 0) {
		LOG(LOG_ERROR, "rgovd.start", why);
		return rc == -EINVAL ? EX_CONFIG : EX_OSERR;
	}
	if (why[0] != '\0' && rgovd->governor.upstream != NULL)
		LOG(LOG_WARN, "upstream.credentials",
			"there are none: only permits are served",
			F_S("reason", why));
	rc = restore_from_board(&rgovd->governor, loop_now_ns());
	code = start_sharing(rgovd, rc);
	return code != 0 ? code : open_tasks(rgovd, rc == -ENOENT);
}

/* Without a socket it would wait in vain for our word, and then end us.  What
 * is no address is nobody's: that is no reason. */
static int open_notify(struct rgovd *rgovd)
{
	int rc = notify_init(&rgovd->notify);

	return rc == -ENOMEM || rc == -ENOBUFS || rc == -EMFILE || rc == -ENFILE
		       ? complain("cannot reach the service manager",
				 "NOTIFY_SOCKET", rc, EX_OSERR)
		       : 0;
}

static int start(struct rgovd *rgovd)
{
	int rc = open_notify(rgovd);

	if (rc == 0)
		rc = need_proc();
	if (rc == 0)
		rc = take_lock(rgovd);
	if (rc != 0)
		return rc;
	rc = loop_create(rgovd->config->loop, &rgovd->loop);
	if (rc < 0)
		return complain("no event loop of the kind that is configured",
			"loop", rc, EX_OSERR);
	if (loop_refusal(rgovd->loop) != 0)
		LOG(LOG_INFO, "loop.fallback",
			"the kernel refuses io_uring; epoll serves as well",
			F_S("reason",
				strerrordesc_np(-loop_refusal(rgovd->loop))));
	rc = watch_signals(rgovd);
	if (rc < 0)
		return complain(
			"cannot watch signals", "signalfd", rc, EX_OSERR);
	rc = make_board(rgovd);
	if (rc == 0)
		rc = make_governor(rgovd);
	if (rc == 0)
		rc = publish_board(rgovd);
	/* Last: who can connect finds everything there. */
	if (rc == 0)
		rc = open_door(rgovd);
	return rc;
}

static void say_ready(struct rgovd *rgovd)
{
	const struct config *config = rgovd->config;

	LOG(LOG_INFO, "rgovd.ready",
		"rgovd " RGOV_VERSION "; limits are host-wide",
		F_S("name", config->name), F_S("socket", config->socket),
		F_S("loop", loop_engine_name(rgovd->loop)),
		F_S("preset", config->preset),
		F_I("max_concurrent_requests", config->policy.max_concurrent),
		F_I("requests_per_minute", config->policy.requests_per_minute),
		F_I("max_requests_per_user",
			config->policy.max_requests_per_user));
	(void)notify_ready(&rgovd->notify);
}

static void stop(struct rgovd *rgovd)
{
	if (rgovd->governor.board.board != NULL)
		store_relaxed(rgovd->governor.board.board->header.stopped, 1);
	if (rgovd->governor.loop != NULL) { /* it got that far */
		governor_leave(&rgovd->governor);
		door_close(rgovd->governor.door);
		governor_fini(&rgovd->governor);
		loop_timer_clear(rgovd->loop, &rgovd->heartbeat);
		loop_unwatch(rgovd->loop, &rgovd->signals);
	}
	board_fini(&rgovd->governor.board);
	loop_free(rgovd->loop);
	lock_fini(&rgovd->lock);
	if (rgovd->signal_fd >= 0)
		(void)close(rgovd->signal_fd);
	if (rgovd->config != rgovd->first_config)
		config_free(rgovd->config);
	config_free(rgovd->first_config);
	notify_fini(&rgovd->notify);
}

/* Returns the exit code, or OPTIONS_GO_ON with the configuration loaded. */
static int read_configuration(struct rgovd *rgovd)
{
	struct config_error error = {0};
	int rc = load(rgovd, &rgovd->config, &error);

	rgovd->first_config = rgovd->config;
	if (rc < 0 || rgovd->options.check_config || rgovd->options.dump_config)
		return options_report(&rgovd->options, rgovd->config, &error,
			rc, stdout, stderr);
	return OPTIONS_GO_ON;
}

int main(int argc, char *argv[])
{
	static struct rgovd rgovd = {.signal_fd = -1,
		.lock = {-1, -1},
		.governor.board.read_fd = -1};
	int code = options_parse(argc, argv, &rgovd.options, stdout, stderr);

	if (code != OPTIONS_GO_ON)
		return code;
	code = read_configuration(&rgovd);
	if (code != OPTIONS_GO_ON) {
		config_free(rgovd.config);
		return code;
	}
	assert(rgovd.config != NULL); /* or there was something to report */
	log_open(rgovd.config->log_format, rgovd.config->log_level);
	say_warnings(rgovd.config);
	harden();
	code = start(&rgovd);
	if (code == 0) {
		say_ready(&rgovd);
		code = run(&rgovd);
		LOG(LOG_INFO, "rgovd.stopped", "");
	}
	stop(&rgovd);
	return code;
}
