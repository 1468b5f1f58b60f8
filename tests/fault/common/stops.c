/* waitpid(), and a short list. */
#include "tests/fault/common/stops.h"

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <sysexits.h>

enum { LATER_MAX = 64 };

static struct stop later[LATER_MAX]; /* that nobody has looked at yet */
static int n_later;

/* The stop of one thread.  What others do meanwhile is looked at later; their
 * deaths must be taken, for the first thread's is only told after the others'.
 * False: it is gone. */
static bool wait_for(pid_t wanted)
{
	for (;;) {
		struct stop stop;

		stop.thread = waitpid(-1, &stop.status, __WALL);
		if (stop.thread < 0 && errno == EINTR)
			continue;
		if (stop.thread < 0)
			err(EX_OSERR, "waitpid");
		if (stop.thread == wanted && WIFSTOPPED(stop.status) &&
			WSTOPSIG(stop.status) == SIGTRAP)
			return true;
		if (n_later == LATER_MAX)
			errx(EX_SOFTWARE, "too many threads");
		later[n_later++] = stop;
		if (stop.thread == wanted)
			return false;
	}
}

struct stop stops_next(void)
{
	struct stop stop;

	if (n_later > 0) {
		stop = later[0];
		memmove(later, later + 1, (size_t)--n_later * sizeof(stop));
		return stop;
	}
	do
		stop.thread = waitpid(-1, &stop.status, __WALL);
	while (stop.thread < 0 && errno == EINTR);
	if (stop.thread < 0)
		err(EX_OSERR, "waitpid");
	return stop;
}

bool stops_step(pid_t thread)
{
	return ptrace(PTRACE_SINGLESTEP, thread, 0, 0) == 0 && wait_for(thread);
}
