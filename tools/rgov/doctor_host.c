/* What `rgov doctor` says about this host and this environment. */
#include "tools/rgov/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
	NOFILE_LEAST = 256, /* a session takes six descriptors of a worker */
	SHM_LEAST_BYTES = 8 << 20, /* two boards: the old and its successor */
	GUNICORN_DEFAULT_S = 30,
};

/* The first line of a small file, without its end; false: cannot be read. */
static bool read_line(const char *path, char *ret_line, size_t bytes)
{
	FILE *file = fopen(path, "re");
	bool ok = file != NULL && fgets(ret_line, (int)bytes, file) != NULL;

	if (file != NULL)
		(void)fclose(file);
	if (ok)
		ret_line[strcspn(ret_line, "\n")] = '\0';
	return ok;
}

/* ------------------------------------------------------------ memory */

static void check_memfd(struct doctor *doctor)
{
	int fd = memfd_create("rgov-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
		doctor_report(
			doctor, FINDING_OK, "memfd", "can be made and sealed");
	else
		doctor_report(doctor, FINDING_FAIL, "memfd",
			"cannot be made or sealed: %s; a seccomp filter of the "
			"container forbids it",
			strerror(errno));
	if (fd >= 0)
		(void)close(fd);
}

void check_shared_memory(struct doctor *doctor)
{
	struct statfs fs;
	uint64_t size, available;

	check_memfd(doctor);
	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC) {
		doctor_report(doctor, FINDING_FAIL, "/dev/shm",
			"is no tmpfs; mount one: mount -t tmpfs -o mode=1777 "
			"tmpfs /dev/shm");
		return;
	}
	size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	available = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	/* Size 0: a tmpfs without a limit. */
	if (size != 0 && available < SHM_LEAST_BYTES)
		doctor_report(doctor, FINDING_FAIL, "/dev/shm",
			"%" PRIu64 " of %" PRIu64 " MiB free, a restart of "
			"rgovd needs %d; remove what fills it (ls -lS "
			"/dev/shm), or give the container more (--shm-size)",
			available >> 20, size >> 20, SHM_LEAST_BYTES >> 20);
	else
		doctor_report(doctor, FINDING_OK, "/dev/shm",
			"tmpfs, %" PRIu64 " of %" PRIu64 " MiB free",
			available >> 20, size >> 20);
}

/* ------------------------------------------------------------ limits */

void check_limits(struct doctor *doctor)
{
	struct rlimit files, locked;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 ||
		getrlimit(RLIMIT_MEMLOCK, &locked) < 0)
		return; /* cannot fail for these */
	if (files.rlim_cur < NOFILE_LEAST)
		doctor_report(doctor, FINDING_WARN, "open files",
			"%llu; raise it: ulimit -n 1024, or LimitNOFILE= in "
			"the unit",
			(unsigned long long)files.rlim_cur);
	else
		doctor_report(doctor, FINDING_OK, "open files",
			"%llu (hard limit %llu)",
			(unsigned long long)files.rlim_cur,
			(unsigned long long)files.rlim_max);
	if (locked.rlim_cur == RLIM_INFINITY)
		doctor_report(doctor, FINDING_OK, "locked memory", "no limit");
	else
		doctor_report(doctor, FINDING_OK, "locked memory",
			"%llu KiB (only kernels before 5.12 count io_uring "
			"here)",
			(unsigned long long)locked.rlim_cur / 1024);
}

/* ------------------------------------------------------------ clock */

/* "01234567-89ab-..." as 16 bytes; false: it is none. */
static bool parse_boot_id(const char *text, uint8_t ret_id[16])
{
	size_t digits = 0;

	memset(ret_id, 0, 16);
	for (; *text != '\0' && digits < 32; text++) {
		char one[2] = {*text, '\0'}, *end;
		unsigned long value = strtoul(one, &end, 16);

		if (*text == '-')
			continue;
		if (*end != '\0')
			return false;
		ret_id[digits / 2] |=
			(uint8_t)(value << (digits % 2 == 0 ? 4 : 0));
		digits++;
	}
	return digits == 32;
}

static void check_boot(struct doctor *doctor)
{
	const struct board_view *view = doctor->view;
	uint64_t heartbeat_ns;
	uint8_t boot_id[16];
	char line[64];

	if (view == NULL)
		return;
	if (!read_line("/proc/sys/kernel/random/boot_id", line, sizeof(line)) ||
		!parse_boot_id(line, boot_id)) {
		doctor_report(doctor, FINDING_WARN, "boot id",
			"cannot be read; is /proc mounted?");
		return;
	}
	if (memcmp(boot_id, view->header.boot_id, sizeof(boot_id)) != 0) {
		doctor_report(doctor, FINDING_FAIL, "boot id",
			"the board is of another boot; restart rgovd");
		return;
	}
	heartbeat_ns = load_relaxed(view->header.heartbeat_ns);
	if (heartbeat_ns > view->now_ns + 1000000000u) {
		doctor_report(doctor, FINDING_FAIL, "clock",
			"rgovd's is %.1f s ahead: it runs in another time "
			"namespace; start both in one",
			(double)(heartbeat_ns - view->now_ns) * 1e-9);
		return;
	}
	doctor_report(
		doctor, FINDING_OK, "boot id", "the board is of this boot");
}

void check_clock(struct doctor *doctor)
{
	struct timespec first, second, resolution;
	bool runs_back;

	(void)clock_gettime(CLOCK_MONOTONIC, &first);
	(void)clock_gettime(CLOCK_MONOTONIC, &second);
	(void)clock_getres(CLOCK_MONOTONIC, &resolution);
	runs_back = second.tv_sec < first.tv_sec ||
		    (second.tv_sec == first.tv_sec &&
			    second.tv_nsec < first.tv_nsec);
	if (runs_back)
		doctor_report(doctor, FINDING_FAIL, "clock",
			"CLOCK_MONOTONIC runs backwards; this machine's time "
			"source is broken (dmesg | grep clocksource)");
	else if (resolution.tv_sec > 0 || resolution.tv_nsec > 1000000)
		doctor_report(doctor, FINDING_WARN, "clock",
			"resolution %ld ns; waits will be coarse: the kernel "
			"has no high resolution timers",
			resolution.tv_nsec);
	else
		doctor_report(doctor, FINDING_OK, "clock",
			"CLOCK_MONOTONIC, resolution %ld ns",
			resolution.tv_nsec);
	check_boot(doctor);
}

/* ------------------------------------------------------------ io_uring */

void check_io_uring(struct doctor *doctor)
{
	char setting[40] = "not there (before Linux 6.6)";

	(void)read_line(
		"/proc/sys/kernel/io_uring_disabled", setting, sizeof(setting));
	/* No entries and no parameters: refused as wrong, if io_uring is there
	 * at all; nothing is made. */
	if (syscall(SYS_io_uring_setup, 0, NULL) < 0 &&
		(errno == EPERM || errno == ENOSYS || errno == EACCES))
		doctor_report(doctor, FINDING_WARN, "io_uring",
			"not for this process (%s; kernel.io_uring_disabled is "
			"%s); rgovd then uses epoll, with the same results",
			strerror(errno), setting);
	else
		doctor_report(doctor, FINDING_OK, "io_uring",
			"available (kernel.io_uring_disabled is %s)", setting);
}

/* ------------------------------------------------------------ environment */

/* A limit that this environment names, and rgovd does not have. */
static void check_old_limit(
	struct doctor *doctor, const char *variable, uint32_t in_force)
{
	const char *value = getenv(variable);

	if (value == NULL || value[0] == '\0' ||
		strtoul(value, NULL, 10) == in_force)
		return;
	doctor_report(doctor, FINDING_WARN, "environment",
		"%s=%s has no effect in a worker, rgovd's limit is %" PRIu32
		"; set it in rgovd's environment or in rgov.conf(5)",
		variable, value, in_force);
}

static void check_switch(struct doctor *doctor)
{
	const char *value = getenv("ENABLE_REQUEST_MANAGER");

	if (value != NULL &&
		(strcasecmp(value, "false") == 0 || strcmp(value, "0") == 0))
		doctor_report(doctor, FINDING_WARN, "environment",
			"ENABLE_REQUEST_MANAGER=%s: the Python package steps "
			"aside, nothing is governed; unset it",
			value);
}

void check_environment(struct doctor *doctor)
{
	const struct board_view *view = doctor->view;
	unsigned before = doctor->counts[FINDING_WARN];
	const char *preset = getenv("RATE_LIMIT_PRESET");

	check_switch(doctor);
	if (view != NULL) {
		check_old_limit(doctor, "MAX_CONCURRENT_REQUESTS",
			load_relaxed(view->host.running_limit));
		check_old_limit(doctor, "REQUESTS_PER_MINUTE",
			load_relaxed(view->host.starts_limit));
		check_old_limit(doctor, "MAX_REQUESTS_PER_USER",
			load_relaxed(view->header.max_requests_per_user));
	}
	if (view != NULL && preset != NULL && preset[0] != '\0' &&
		strcmp(preset, view->header.preset) != 0)
		doctor_report(doctor, FINDING_WARN, "environment",
			"RATE_LIMIT_PRESET=%s has no effect in a worker, "
			"rgovd's preset is %s; set it in rgovd's environment",
			preset, view->header.preset);
	if (doctor->counts[FINDING_WARN] == before)
		doctor_report(doctor, FINDING_OK, "environment",
			"nothing that contradicts rgovd");
}

/* ------------------------------------------------------------ gunicorn */

/* The time-out a gunicorn was started with; its default when its command line
 * says nothing. */
static double timeout_of(char *arguments, size_t bytes, bool *ret_said)
{
	double timeout_s = GUNICORN_DEFAULT_S;
	const char *end = arguments + bytes;

	*ret_said = false;
	for (char *at = arguments; at < end; at += strlen(at) + 1) {
		const char *value = NULL;

		if (strncmp(at, "--timeout=", 10) == 0)
			value = at + 10;
		else if ((strcmp(at, "-t") == 0 ||
				 strcmp(at, "--timeout") == 0) &&
			 at + strlen(at) + 1 < end)
			value = at + strlen(at) + 1;
		if (value == NULL)
			continue;
		timeout_s = strtod(value, NULL);
		*ret_said = true;
	}
	return timeout_s;
}

static void report_gunicorn(
	struct doctor *doctor, const char *pid, double timeout_s, bool was_said)
{
	/* What a request takes, from the board; a minute where it is unknown.
	 */
	double needs_s = 60;

	if (doctor->view != NULL) {
		double seen_s =
			board_quantile_s(&doctor->view->host.wait, 0.99) +
			board_quantile_s(&doctor->view->host.execution, 0.99);

		needs_s = seen_s > needs_s ? seen_s : needs_s;
	}
	if (timeout_s == 0 || timeout_s >= needs_s) {
		doctor_report(doctor, FINDING_OK, "gunicorn",
			"pid %s, timeout %.0f s", pid, timeout_s);
		return;
	}
	doctor_report(doctor, FINDING_WARN, "gunicorn",
		"pid %s, timeout %.0f s%s: a sync worker that waits longer for "
		"its answer is killed, 1 in 100 takes %.0f s; use --timeout "
		"620, or gthread workers",
		pid, timeout_s,
		was_said ? "" : " (the default, unless its -c file says more)",
		needs_s);
}

/* "gunicorn ...", "python -m gunicorn ...", "gunicorn: master [...]" */
static bool is_gunicorn(const char *arguments, size_t bytes)
{
	const char *end = arguments + bytes;

	for (int i = 0; i < 3 && arguments < end; i++) {
		const char *slash = strrchr(arguments, '/');

		if (strcmp(slash != NULL ? slash + 1 : arguments, "gunicorn") ==
				0 ||
			strncmp(arguments, "gunicorn: master", 16) == 0)
			return true;
		arguments += strlen(arguments) + 1;
	}
	return false;
}

/* Looks at one process; true: it is a gunicorn master. */
static bool look_at_process(struct doctor *doctor, const char *pid)
{
	char path[300], arguments[4096], status[512] = "", parent[64];
	FILE *file;
	size_t n;
	bool was_said;
	double timeout_s;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	n = fread(arguments, 1, sizeof(arguments) - 1, file);
	(void)fclose(file);
	arguments[n] = '\0';
	if (!is_gunicorn(arguments, n))
		return false;
	/* A worker's parent is a gunicorn itself: only masters count. */
	(void)snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	if (read_line(path, status, sizeof(status)) &&
		strrchr(status, ')') != NULL &&
		sscanf(strrchr(status, ')'), ") %*c %63[0-9]", parent) == 1) {
		char of_parent[4096] = "";

		(void)snprintf(path, sizeof(path), "/proc/%s/cmdline", parent);
		if (read_line(path, of_parent, sizeof(of_parent)) &&
			memcmp(of_parent, arguments, n + 1) == 0)
			return false;
	}
	timeout_s = timeout_of(arguments, n, &was_said);
	report_gunicorn(doctor, pid, timeout_s, was_said);
	return true;
}

void check_gunicorn(struct doctor *doctor)
{
	DIR *processes = opendir("/proc");
	const struct dirent *entry;
	bool any = false;

	/* This stream is nobody else's. */
	/* cppcheck-suppress readdirCalled */
	while (processes != NULL && (entry = readdir(processes)) != NULL)
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			any |= look_at_process(doctor, entry->d_name);
	if (processes != NULL)
		(void)closedir(processes);
	if (!any)
		doctor_report(doctor, FINDING_OK, "gunicorn",
			"none runs here that this user can see");
}
