/* How a process comes on the leash, and off it. */
#include "tests/fault/common/stepper_inside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTIONS (PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC)

/* ------------------------------------------------------------ begin, end */

struct stepper *leash_make(pid_t pid)
{
	struct stepper *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->pid = s->chosen = pid;
	s->options = OPTIONS;
	(void)leash_add(s, pid);
	leash_block_sigchld();
	return s;
}

/* Waits for the first stop of the leader. */
int leash_first_stop(struct stepper *s, enum event wanted)
{
	enum event event = EVENT_NONE;

	while (event != wanted && event != EVENT_EXIT) {
		if (s->threads[0].stopped)
			leash_resume(&s->threads[0], PTRACE_CONT);
		(void)leash_poll(s, &s->threads[0], 0, &event);
	}
	return event == EVENT_EXIT ? -ENOEXEC : 0;
}

/* A child that waits at the pipe's end until it may begin. */
static pid_t fork_waiting(int *ret_go)
{
	int go[2];
	pid_t pid;
	char byte;

	if (pipe2(go, O_CLOEXEC) != 0)
		return -errno;
	pid = fork();
	if (pid != 0) {
		(void)close(go[0]);
		*ret_go = go[1];
		if (pid < 0) {
			(void)close(go[1]);
			return -errno;
		}
		return pid;
	}
	(void)close(go[1]);
	if (read(go[0], &byte, 1) != 1)
		_exit(127);
	(void)close(go[0]);
	return 0;
}

static void unblock_all(void)
{
	sigset_t none;

	(void)sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

/* Takes a child of fork_waiting() on the leash and lets it begin. */
static int seize_child(pid_t pid, int go, bool by_exec, struct stepper **ret)
{
	struct stepper *s = leash_make(pid);
	int rc = s == NULL ? -ENOMEM : 0;

	if (rc == 0 && ptrace(PTRACE_SEIZE, pid, NULL, s->options) != 0)
		rc = -errno;
	if (rc == 0 && !by_exec)
		rc = stepper_interrupt(s);
	if (rc == 0 && write(go, "", 1) != 1)
		rc = -errno;
	(void)close(go);
	if (rc == 0 && by_exec)
		rc = leash_first_stop(s, EVENT_EXEC);
	if (rc < 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, __WALL);
		free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

int stepper_start(
	char *const argv[], char *const env[], int output, struct stepper **ret)
{
	int go;
	pid_t pid = fork_waiting(&go);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		unblock_all();
		if (output >= 0) {
			(void)dup2(output, STDOUT_FILENO);
			(void)dup2(output, STDERR_FILENO);
		}
		(void)execve(argv[0], argv, env);
		_exit(127);
	}
	return seize_child(pid, go, true, ret);
}

int stepper_start_function(
	void (*function)(void *argument), void *argument, struct stepper **ret)
{
	int go;
	pid_t pid = fork_waiting(&go);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		unblock_all();
		function(argument);
		_exit(0);
	}
	return seize_child(pid, go, false, ret);
}

/* The workers of io_uring are listed as threads, run no code of the program
 * and cannot be stopped. */
static bool is_kernel_worker(pid_t pid, pid_t tid)
{
	char path[64], name[32] = "";
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!read(fd, name, sizeof(name) - 1);
		(void)close(fd);
	}
	return strncmp(name, "iou-", 4) == 0;
}

/* Seizes the threads that are not on the leash yet; how many were new. */
static int seize_threads(struct stepper *s)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;
	int n_new = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", s->pid);
	tasks = opendir(path);
	if (tasks == NULL)
		return -errno;
	while ((entry = readdir(tasks)) != NULL) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid <= 0 || (tid != s->pid && leash_find(s, tid)) ||
			is_kernel_worker(s->pid, tid))
			continue;
		if (ptrace(PTRACE_SEIZE, tid, NULL, s->options) == 0) {
			(void)leash_add(s, tid);
			n_new++;
		} else if (tid == s->pid && errno != EPERM) {
			(void)closedir(tasks);
			return -errno;
		}
	}
	(void)closedir(tasks);
	return n_new;
}

int stepper_seize(pid_t pid, struct stepper **ret)
{
	struct stepper *s = leash_make(pid);
	int rc;

	if (s == NULL)
		return -ENOMEM;
	if (ptrace(PTRACE_SEIZE, pid, NULL, s->options) != 0) {
		rc = -errno;
		free(s);
		return rc;
	}
	do {
		rc = seize_threads(s);
		leash_stop_all(s);
	} while (rc > 0);
	*ret = s;
	return 0;
}

/* All threads that it has, also those whose birth was not reported yet: the
 * leader's end is told only after theirs. */
static void reap_threads(struct stepper *s)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", s->pid);
	tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (tid > 0 && tid != s->pid)
			(void)waitpid(tid, NULL, __WALL | WNOHANG);
	}
	if (tasks != NULL)
		(void)closedir(tasks);
}

int stepper_kill(struct stepper *s)
{
	int status;
	pid_t pid;

	if (s->ended)
		return STEPPER_ENDED;
	(void)kill(s->pid, SIGKILL);
	for (;;) {
		pid = waitpid(s->pid, &status,
			__WALL | (s->n_threads > 1 ? WNOHANG : 0));
		if (pid < 0 && errno != EINTR)
			break; /* somebody else has reaped it */
		if (pid == s->pid && !WIFSTOPPED(status)) {
			s->status = status;
			break;
		}
		if (s->n_threads > 1) {
			reap_threads(s);
			leash_sleep(LOOK_NS);
		}
	}
	s->ended = true;
	return STEPPER_ENDED;
}

int stepper_detach(struct stepper *s)
{
	if (s->ended)
		return STEPPER_ENDED;
	leash_stop_all(s);
	for (size_t i = 0; i < s->n_threads && !s->ended; i++)
		(void)ptrace(PTRACE_DETACH, s->threads[i].tid, NULL,
			(void *)(long)s->threads[i].signal);
	s->ended = true;
	return STEPPER_OK;
}

void stepper_free(struct stepper *s)
{
	if (s == NULL)
		return;
	(void)stepper_kill(s);
	stepper_free(s->child);
	free(s);
}
