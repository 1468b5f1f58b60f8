/*
 * crash_point POINT [--step OFFSET]... PID
 * crash_point POINT [--step OFFSET]... -- PROGRAM [ARGUMENT]...
 *
 * Kills rgovd, as shipped, at the POINT-th crash point from now on; with -- the
 * one that it starts.  A crash point is a moment before something that another
 * process, the kernel or a successor can see: a store to the board or to a
 * daemon control file, a system call of any thread.  Between two of them a
 * death is the same death, so these are all there are; with --step each
 * instruction of the function at that offset in the program is one as well.
 *
 * Prints "ready", and at its end "killed N KIND DETAIL PC"; SIGTERM says that
 * the path is over: rgovd is killed then, and "over N" printed.  "ended STATUS
 * N": it ended by itself.  POINT 0: prints every point, until SIGTERM.
 *
 * Stores are found by making the maps read-only behind rgovd's back: each store
 * faults, is told, and is let through by one single step.  x86-64 only.
 */
#include "tests/fault/common/guarded_maps.h"
#include "tests/fault/common/stops.h"

#include <err.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <dirent.h>

enum { STEPPED_MAX = 32, SYSCALL_BYTES = 2, BREAKPOINT = 0xcc };

static const unsigned long OPTIONS = PTRACE_O_TRACESYSGOOD |
				     PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
				     PTRACE_O_EXITKILL;

struct stepped {
	uint64_t offset; /* in the program */
	uint64_t at;
	long text; /* what the breakpoint replaced */
};

static struct {
	pid_t pid; /* of rgovd */
	uint64_t base;
	uint64_t syscall_at; /* a system call instruction of its own */
	struct guarded_maps maps;
	bool is_armed; /* it is rgovd by now, and its points count */

	struct stepped stepped[STEPPED_MAX];
	int n_stepped;
	pid_t stepping; /* the thread inside such a function; 0: none */
	uint64_t stack, back;

	/* A map that is just being made. */
	pid_t mapping;
	const char *mapping_name;
	uint64_t mapping_bytes;

	uint64_t point, n;
	bool is_killed;
	volatile sig_atomic_t is_over;
} rgovd;

/* ------------------------------------------------------------ the end */

static void on_sigterm(int number)
{
	(void)number;
	rgovd.is_over = 1;
	/* Whatever it does: it is stopped, or stops at this. */
	kill(rgovd.pid, SIGKILL);
}

static void kill_here(void)
{
	rgovd.is_killed = true;
	kill(rgovd.pid, SIGKILL);
}

/* One crash point. */
static void pass(
	const char *kind, const char *what, uint64_t detail, uint64_t pc)
{
	if (!rgovd.is_armed || rgovd.is_killed || rgovd.is_over)
		return;
	rgovd.n++;
	if (rgovd.point == 0 || rgovd.n == rgovd.point)
		printf("%s%lu %s %s+%lx %lx\n",
			rgovd.point == 0 ? "" : "killed ", rgovd.n, kind, what,
			detail, pc - rgovd.base);
	if (rgovd.n == rgovd.point)
		kill_here();
}

/* ------------------------------------------------------------ the tracee */

/* A thread may die by our own SIGKILL at any time: then nothing counts. */
static bool get(pid_t thread, struct user_regs_struct *ret)
{
	return ptrace(PTRACE_GETREGS, thread, 0, ret) == 0;
}

static void put(pid_t thread, struct user_regs_struct *from)
{
	ptrace(PTRACE_SETREGS, thread, 0, from);
}

/* Lets the thread do a system call of ours in between. */
static long inject(
	pid_t thread, long number, uint64_t a, uint64_t b, uint64_t c)
{
	struct user_regs_struct saved, regs;

	if (!get(thread, &saved))
		return -ESRCH;
	regs = saved;
	regs.rip = rgovd.syscall_at;
	regs.rax = (unsigned long)number;
	regs.orig_rax = (unsigned long)-1; /* nothing is restarted here */
	regs.rdi = a;
	regs.rsi = b;
	regs.rdx = c;
	put(thread, &regs);
	if (!stops_step(thread) || !get(thread, &regs))
		return -ESRCH;
	put(thread, &saved);
	return (long)regs.rax;
}

static void protect(pid_t thread, const struct guarded_map *map, int protection)
{
	long rc = inject(thread, SYS_mprotect, map->at, map->bytes,
		(uint64_t)protection);

	if (rc < 0 && rc != -ESRCH && !rgovd.is_over)
		errx(EX_OSERR, "mprotect: %s", strerror((int)-rc));
}

static void let_store(pid_t thread, const struct guarded_map *map)
{
	protect(thread, map, PROT_READ | PROT_WRITE);
	if (stops_step(thread))
		protect(thread, map, PROT_READ);
}

static uint64_t find_base(void)
{
	char path[64];
	unsigned long base = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)rgovd.pid);
	file = fopen(path, "re");
	if (file == NULL || fscanf(file, "%lx", &base) != 1)
		err(EX_NOPERM, "%s", path);
	fclose(file);
	return base;
}

/* ------------------------------------------------------------ stepping */

static void set_breakpoints(pid_t thread)
{
	for (int i = 0; i < rgovd.n_stepped; i++) {
		struct stepped *one = &rgovd.stepped[i];

		one->at = rgovd.base + one->offset;
		one->text = ptrace(PTRACE_PEEKTEXT, thread, one->at, 0);
		ptrace(PTRACE_POKETEXT, thread, one->at,
			(one->text & ~0xffL) | BREAKPOINT);
	}
}

static void remove_breakpoints(pid_t thread)
{
	for (int i = 0; i < rgovd.n_stepped; i++)
		ptrace(PTRACE_POKETEXT, thread, rgovd.stepped[i].at,
			rgovd.stepped[i].text);
}

/* Is it a breakpoint of ours?  Then the steps begin. */
static bool began_to_step(pid_t thread)
{
	struct user_regs_struct regs;

	if (rgovd.stepping != 0 || !get(thread, &regs))
		return false;
	for (int i = 0; i < rgovd.n_stepped; i++) {
		if (rgovd.stepped[i].at != regs.rip - 1)
			continue;
		regs.rip--;
		put(thread, &regs);
		remove_breakpoints(thread);
		rgovd.stepping = thread;
		rgovd.stack = regs.rsp;
		rgovd.back =
			(uint64_t)ptrace(PTRACE_PEEKDATA, thread, regs.rsp, 0);
		pass("step", "enter", 0, regs.rip);
		return true;
	}
	return false;
}

/* After an instruction: is the function over? */
static void look_at_step(pid_t thread)
{
	struct user_regs_struct regs;

	if (!get(thread, &regs))
		return;
	if (regs.rip == rgovd.back && regs.rsp > rgovd.stack) {
		rgovd.stepping = 0;
		set_breakpoints(thread);
		return;
	}
	pass("step", "in", 0, regs.rip);
}

static void go_on(pid_t thread, int signal)
{
	/* ESRCH: it is dying. */
	ptrace(thread == rgovd.stepping ? PTRACE_SINGLESTEP : PTRACE_SYSCALL,
		thread, 0, signal);
}

/* ------------------------------------------------------------ stops */

/* A shared map that will be written is made read-only from the start. */
static void guard_map(pid_t thread, const struct __ptrace_syscall_info *info)
{
	const uint64_t *args = info->entry.args;
	struct user_regs_struct regs;
	const char *name;

	if ((args[2] & PROT_WRITE) == 0 || (args[3] & MAP_SHARED) == 0 ||
		(name = guarded_name_of_fd(rgovd.pid, (int)args[4])) == NULL ||
		!get(thread, &regs))
		return;
	regs.rdx = PROT_READ;
	put(thread, &regs);
	rgovd.mapping = thread;
	rgovd.mapping_name = name;
	rgovd.mapping_bytes = args[1];
}

static void on_system_call(pid_t thread)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) <= 0)
		return;
	rgovd.syscall_at = info.instruction_pointer - SYSCALL_BYTES;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		pass("call", "nr", info.entry.nr, info.instruction_pointer);
		if (info.entry.nr == SYS_mmap)
			guard_map(thread, &info);
		else if (info.entry.nr == SYS_munmap)
			guarded_maps_remove(&rgovd.maps, info.entry.args[0]);
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT &&
		   thread == rgovd.mapping) {
		rgovd.mapping = 0;
		if (!info.exit.is_error)
			guarded_maps_add(&rgovd.maps, rgovd.mapping_name,
				(uint64_t)info.exit.rval, rgovd.mapping_bytes);
	}
}

/* True: it was a store to a guarded map. */
static bool on_fault(pid_t thread)
{
	const struct guarded_map *map;
	struct user_regs_struct regs;
	siginfo_t info;

	if (ptrace(PTRACE_GETSIGINFO, thread, 0, &info) != 0 ||
		!get(thread, &regs))
		return false;
	map = guarded_maps_find(&rgovd.maps, (uint64_t)info.si_addr);
	if (map == NULL)
		return false;
	if (thread != rgovd.stepping)
		pass("store", map->name, (uint64_t)info.si_addr - map->at,
			regs.rip);
	if (!rgovd.is_killed)
		let_store(thread, map);
	if (thread == rgovd.stepping)
		look_at_step(thread);
	return true;
}

static void on_exec(pid_t thread)
{
	rgovd.base = find_base();
	rgovd.is_armed = true;
	set_breakpoints(thread);
	printf("ready\n");
}

static void on_stop(pid_t thread, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	if (signal == (SIGTRAP | 0x80)) {
		on_system_call(thread);
	} else if (event == PTRACE_EVENT_EXEC) {
		on_exec(thread);
	} else if (event != 0) {
		; /* a thread begins, or was interrupted by us */
	} else if (signal == SIGTRAP && thread == rgovd.stepping) {
		look_at_step(thread);
	} else if (signal == SIGTRAP && began_to_step(thread)) {
		;
	} else if (signal != SIGSEGV || !on_fault(thread)) {
		go_on(thread, signal);
		return;
	}
	go_on(thread, 0);
}

/* Until it is gone; its exit status. */
static int trace(void)
{
	for (;;) {
		struct stop stop = stops_next();

		if (WIFSTOPPED(stop.status))
			on_stop(stop.thread, stop.status);
		else if (stop.thread == rgovd.pid)
			return stop.status;
	}
}

/* ------------------------------------------------------------ beginnings */

/* On one CPU a stop costs a quarter of what it costs on two. */
static void share_cpu(pid_t thread)
{
	cpu_set_t all, one;

	if (sched_getaffinity(0, sizeof(all), &all) != 0)
		return;
	CPU_ZERO(&one);
	for (int cpu = 0, skip = rgovd.pid % CPU_COUNT(&all); cpu < CPU_SETSIZE;
		cpu++) {
		if (CPU_ISSET(cpu, &all) && skip-- == 0)
			CPU_SET(cpu, &one);
	}
	sched_setaffinity(thread, sizeof(one), &one);
}

static bool is_after_system_call(pid_t thread)
{
	struct user_regs_struct regs;

	if (!get(thread, &regs))
		return false;
	rgovd.syscall_at = regs.rip - SYSCALL_BYTES;
	return (ptrace(PTRACE_PEEKTEXT, thread, rgovd.syscall_at, 0) &
		       0xffff) == 0x050f;
}

static void wait_for_stop(pid_t thread)
{
	int status;

	if (waitpid(thread, &status, __WALL) != thread || !WIFSTOPPED(status))
		errx(EX_UNAVAILABLE, "thread %d is gone", (int)thread);
}

/* Most of the time it is asleep in a system call; else until it leaves one. */
static void stop_thread(pid_t thread)
{
	if (ptrace(PTRACE_SEIZE, thread, 0, OPTIONS) != 0)
		return; /* a thread of the kernel's, for the ring */
	ptrace(PTRACE_INTERRUPT, thread, 0, 0);
	wait_for_stop(thread);
	share_cpu(thread);
	while (thread == rgovd.pid && !is_after_system_call(thread)) {
		for (int stops = 0; stops < 2; stops++) { /* enter, leave */
			ptrace(PTRACE_SYSCALL, thread, 0, 0);
			wait_for_stop(thread);
		}
	}
}

static void each_thread(void (*call)(pid_t thread))
{
	char path[64];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)rgovd.pid);
	folder = opendir(path);
	if (folder == NULL)
		err(EX_NOINPUT, "%s", path);
	while ((entry = readdir(folder)) != NULL) {
		if (entry->d_name[0] != '.')
			call((pid_t)atoi(entry->d_name));
	}
	closedir(folder);
}

static void wake_thread(pid_t thread)
{
	go_on(thread, 0);
}

static void attach(pid_t pid)
{
	rgovd.pid = pid;
	each_thread(stop_thread);
	rgovd.base = find_base();
	guarded_maps_read(&rgovd.maps, pid);
	for (int i = 0; i < rgovd.maps.n; i++)
		protect(pid, &rgovd.maps.maps[i], PROT_READ);
	set_breakpoints(pid);
	rgovd.is_armed = true;
	printf("ready\n");
	each_thread(wake_thread);
}

static void start(char *argv[])
{
	int gate[2];
	char byte;

	if (pipe(gate) != 0)
		err(EX_OSERR, "pipe");
	rgovd.pid = fork();
	if (rgovd.pid == 0) {
		close(gate[1]);
		if (read(gate[0], &byte, 1) != 0)
			_exit(EX_SOFTWARE);
		close(gate[0]);
		execv(argv[0], argv);
		_exit(EX_UNAVAILABLE);
	}
	if (rgovd.pid < 0 || ptrace(PTRACE_SEIZE, rgovd.pid, 0, OPTIONS) != 0)
		err(EX_NOPERM, "ptrace");
	share_cpu(rgovd.pid);
	ptrace(PTRACE_INTERRUPT, rgovd.pid, 0, 0); /* from here on we see it */
	close(gate[0]);
	close(gate[1]);
}

static void read_options(int *at, char *argv[])
{
	while (argv[*at] != NULL && strcmp(argv[*at], "--step") == 0 &&
		argv[*at + 1] != NULL) {
		if (rgovd.n_stepped == STEPPED_MAX)
			errx(EX_USAGE, "too many functions");
		rgovd.stepped[rgovd.n_stepped++].offset =
			strtoul(argv[*at + 1], NULL, 16);
		*at += 2;
	}
}

int main(int argc, char *argv[])
{
	int at = 2, status;

	if (argc < 3)
		errx(EX_USAGE, "usage: crash_point POINT [--step OFFSET]... "
			       "PID | -- PROGRAM [ARGUMENT]...");
	setlinebuf(stdout);
	rgovd.point = strtoul(argv[1], NULL, 10);
	read_options(&at, argv);
	signal(SIGTERM, on_sigterm);
	share_cpu(0);
	if (argv[at] != NULL && strcmp(argv[at], "--") == 0)
		start(argv + at + 1);
	else if (argv[at] != NULL)
		attach((pid_t)atoi(argv[at]));
	else
		errx(EX_USAGE, "no PID, and nothing to start");
	status = trace();
	if (rgovd.is_over && !rgovd.is_killed)
		printf("over %lu\n", rgovd.n);
	else if (!rgovd.is_killed)
		printf("ended %d %lu\n", status, rgovd.n);
	return 0;
}
