/*
 * A process on a leash: it runs at full speed to a marker, from there one
 * instruction at a time, and is killed between any two of them (ptrace).
 *
 *     struct stepper *s;
 *     stepper_start(argv, environ, -1, &s);
 *     stepper_symbol(s, NULL, "path_begin", &begin);
 *     stepper_run_to(s, &begin, 1, 5000);
 *     for (i = 0; i < k && stepper_step(s) == STEPPER_OK; i++)
 *             ;
 *     stepper_kill(s);
 *     stepper_free(s);
 *
 * Not a debugger: no lines, no types, x86-64 only.
 *
 * One thread of the process is the chosen one: the leader, until a breakpoint
 * is hit by another.  All threads are traced, but not what they fork, unless
 * asked.  Signals sent to the process are passed on to it; a stop signal stops
 * it until SIGCONT.  A call belongs to the thread that made the stepper (that
 * is ptrace's rule), which has SIGCHLD blocked from then on.  If the caller
 * dies, the processes it started die.
 *
 * Functions return an enum stepper_result, or -errno.
 */
#ifndef FAULT_STEPPER_H
#define FAULT_STEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct stepper;

enum stepper_result {
	STEPPER_OK = 0,  /* stopped, where or after what was asked for */
	STEPPER_BLOCKED, /* asleep in a system call, running: stepper_await() */
	STEPPER_TIMEOUT, /* not by then; stopped somewhere */
	STEPPER_FORKED,  /* stopped after a fork: stepper_take_child() */
	STEPPER_EXECED,  /* stopped after an exec; look up symbols anew */
	STEPPER_ENDED,   /* the process is gone and reaped: stepper_status() */
};

/* ------------------------------------------------------------ begin, end */

/* Starts a program, stopped before its first instruction (the dynamic linker
 * has not run).  output: descriptor for its stdout and stderr, -1: ours. */
int stepper_start(char *const argv[], char *const env[], int output,
	struct stepper **ret);

/* Starts a child of this process that runs function(argument) and then
 * _exit(0); stopped before it.  No exec: addresses are the caller's own. */
int stepper_start_function(
	void (*function)(void *argument), void *argument, struct stepper **ret);

/* Seizes a process that runs, and stops all its threads. */
int stepper_seize(pid_t pid, struct stepper **ret);

/* SIGKILL, wherever it is, and reaps it (when it is not our child: its parent
 * does that). Returns STEPPER_ENDED. Fine when it has ended already. */
int stepper_kill(struct stepper *s);

/* Lets it go on, untraced, at full speed. */
int stepper_detach(struct stepper *s);

/* Frees the struct; a process that is still on the leash is killed. */
void stepper_free(struct stepper *s);

/* ------------------------------------------------------------ run */

/* What the threads beside the chosen one do while it is stepped or stopped;
 * at first they are stopped too.  While the process runs, all run. */
void stepper_let_others_run(struct stepper *s, bool run);

/* From now on forks end stepper_run_to() and stepper_step() with
 * STEPPER_FORKED. */
int stepper_follow_forks(struct stepper *s);

/* The child of the fork that just ended a run, stopped where it begins; the
 * caller steps or detaches it.  NULL: none. */
struct stepper *stepper_take_child(struct stepper *s);

/*
 * Runs at full speed until a thread comes to one of n addresses (before the
 * instruction there); that thread is then the chosen one.  An address where the
 * chosen one stands already counts when it comes back to it.  timeout_ms < 0:
 * for ever.  Breakpoints are in the process's text only meanwhile.
 */
int stepper_run_to(struct stepper *s, const uintptr_t *addresses, size_t n,
	int timeout_ms);

/*
 * One instruction of the chosen thread; each round of a rep-prefixed one counts
 * as one.  The instruction `syscall` is one step, unless the thread falls
 * asleep in it: then STEPPER_BLOCKED, and stepper_await() waits for the rest of
 * the step.  A signal that is delivered meanwhile leads into its handler.
 */
int stepper_step(struct stepper *s);

/* The rest of a step that answered STEPPER_BLOCKED; STEPPER_BLOCKED again when
 * it is still asleep after timeout_ms (< 0: for ever). */
int stepper_await(struct stepper *s, int timeout_ms);

/* Stops a process that runs, or sleeps in a system call (which is then begun
 * again, or ends with EINTR, as after a stop signal). */
int stepper_interrupt(struct stepper *s);

/* ------------------------------------------------------------ look */

pid_t stepper_pid(const struct stepper *s);
pid_t stepper_tid(const struct stepper *s);  /* of the chosen thread */
int stepper_status(const struct stepper *s); /* as of waitpid() */

uintptr_t stepper_pc(const struct stepper *s);
int stepper_registers(const struct stepper *s, struct user_regs_struct *ret);

/* Is the next instruction a system call, and which one? */
bool stepper_at_syscall(const struct stepper *s, long *ret_number);

/* Bytes read, or -errno. */
ssize_t stepper_read(
	const struct stepper *s, uintptr_t address, void *ret, size_t n);

/* Where a file whose name ends with `file` (NULL: the program) has its code. */
int stepper_text(const struct stepper *s, const char *file,
	uintptr_t *ret_begin, uintptr_t *ret_end);

/* The address of a symbol (exported or not) of such a file, which must be
 * mapped already; -ENOENT. */
int stepper_symbol(const struct stepper *s, const char *file,
	const char *symbol, uintptr_t *ret_address);

#endif
