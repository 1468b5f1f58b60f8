/*
 * The inside of a stepper, for its own files.  Not for campaigns: stepper.h.
 */
#ifndef FAULT_STEPPER_INSIDE_H
#define FAULT_STEPPER_INSIDE_H

#include "tests/fault/common/stepper.h"

enum { THREADS_MAX = 128, BREAKPOINTS_MAX = 64 };

/* How often something is looked at that is told by no report. */
#define LOOK_NS 200000u

struct thread {
	pid_t tid;
	bool stopped;
	bool listening; /* in a stop by SIGSTOP or its like */
	/* Stopped here, maybe in a system call that will begin again. */
	uintptr_t interrupted_at;
	int signal; /* to be passed on when it goes on */
};

struct breakpoint {
	uintptr_t address;
	long original; /* the word of text there */
};

struct stepper {
	pid_t pid;
	bool ended, others_run;
	int status;
	long options;
	struct stepper *child; /* of a fork, not yet taken by the caller */
	pid_t forked;          /* the same, not yet on a leash of its own */
	struct thread threads[THREADS_MAX]; /* the first is the leader */
	size_t n_threads;
	pid_t chosen;
	struct breakpoint breakpoints[BREAKPOINTS_MAX];
	size_t n_breakpoints;
};

/* What a report of the kernel means. */
enum event {
	EVENT_NONE, /* nothing for the caller: let it go on */
	EVENT_TRAP, /* a breakpoint, or a step is done */
	EVENT_HALT, /* stopped because we asked, or new */
	EVENT_FORK,
	EVENT_EXEC,
	EVENT_EXIT, /* of that thread */
};

uint64_t leash_now_ns(void);

/* Sleeps until a child has something to report, or the time is over. */
void leash_sleep(uint64_t ns);
void leash_block_sigchld(void);

/* ------------------------------------------------------------ threads */

struct thread *leash_find(struct stepper *s, pid_t tid); /* NULL: none */
struct thread *leash_add(struct stepper *s, pid_t tid);
struct thread *leash_chosen(struct stepper *s);
uintptr_t leash_pc(pid_t tid);

/* how: PTRACE_CONT or PTRACE_SINGLESTEP.  A thread that was killed meanwhile
 * does not go on; it reports its end. */
void leash_resume(struct thread *thread, int how);

/* A report of that thread; flags: WNOHANG or 0.  False: none yet.  The list of
 * threads may have changed afterwards. */
bool leash_poll(struct stepper *s, struct thread *thread, int flags,
	enum event *ret_event);
/* The next report of any thread that runs. */
bool leash_poll_all(struct stepper *s, pid_t *ret_tid, enum event *ret_event);

/* Everything stands still afterwards, with what was under way remembered. */
void leash_stop_all(struct stepper *s);
void leash_resume_others(struct stepper *s);
/* Reports of the others while the chosen one is stepped. */
void leash_serve_others(struct stepper *s);

/* ------------------------------------------------------------ breakpoints */

int leash_insert_breakpoint(struct stepper *s, uintptr_t address);
void leash_remove_breakpoints(struct stepper *s);
/* The text as it was, in that process: a fork copies breakpoints. */
void leash_restore_text(const struct stepper *s, pid_t tid);
/* Was it a breakpoint that this thread has come to?  Then it stands there. */
bool leash_rewind(struct stepper *s, const struct thread *thread);

/* ------------------------------------------------------------ life */

struct stepper *leash_make(pid_t pid);
/* Waits for such a stop of the leader. */
int leash_first_stop(struct stepper *s, enum event wanted);

#endif
