#!/usr/bin/python3 -B
"""The Nth system call of each kind fails, with each error that a shortage or a
signal gives it, for every N of each path of rgovd and of a client.
"""

from one_start import *

QUOTA = limits(60000, 100, 100, minute=60) \
    + 'throttle_backoff = "1ms"\ntransient_backoff = "1ms"\n'


def errors(table):
    """Lines of `call: errors` as pairs."""
    for line in table.split("\n"):
        names, _, found = line.partition(":")
        for name in names.split():
            for error in found.split():
                yield name, error


def pid_of(rgovd):
    return lambda: rgovd.process.pid


# Not close(): injected it would not close, and that is the injection's leak.
# brk() tells of its failure by another value than the one asked for.
MEMORY = """
mmap mprotect: ENOMEM
brk: 0
memfd_create: EMFILE ENOMEM
ftruncate: ENOMEM
fallocate: ENOSPC EINTR
pwrite64: ENOSPC EINTR
pread64: EIO EINTR
openat: EMFILE ENOMEM
fcntl: EMFILE
newfstatat: ENOMEM
"""
SOCKETS = """
accept4: EMFILE ENOMEM ECONNABORTED EINTR
getsockopt: EMFILE
socket: EMFILE ENOBUFS
connect: EADDRNOTAVAIL
setsockopt getsockname getpeername: ENOBUFS
sendmsg: ENOBUFS EAGAIN
sendto: ENOBUFS
recvmsg: ENOMEM EINTR
recvfrom: ENOMEM
poll: ENOMEM EINTR
read: EINTR EIO
write: EAGAIN
"""
LOOP = """
io_uring_enter: EINTR EAGAIN EBUSY
epoll_ctl: ENOMEM ENOSPC
epoll_wait epoll_pwait2: EINTR
"""
# The shorter tables are for the paths that need a new rgovd for each N.
CONNECTION = list(errors("""
socket: EMFILE ENOBUFS
connect: EADDRNOTAVAIL
setsockopt getsockname getpeername: ENOBUFS
sendto: ENOBUFS
poll: ENOMEM
mmap: ENOMEM
brk: 0
epoll_ctl: ENOSPC
io_uring_enter: EINTR
"""))
REATTACH = list(errors("""
recvmsg: ENOMEM
openat: EMFILE
mmap: ENOMEM
fallocate: ENOSPC
sendmsg: ENOBUFS
epoll_ctl: ENOSPC
"""))
RELOAD = """
openat pipe2: EMFILE
read: EIO EINTR
newfstatat mmap: ENOMEM
clone clone3: EAGAIN
wait4: EINTR
prctl close_range: EPERM
"""
# Not mmap(): of the first of them the loader itself dies.  51 fails allocations.
START = """
openat: EMFILE
memfd_create eventfd2 signalfd4 epoll_create1 socket pipe2: EMFILE
io_uring_setup io_uring_register: ENOMEM
epoll_ctl: ENOSPC
fallocate rename: ENOSPC
clone clone3: EAGAIN
bind: EADDRINUSE
listen chmod fchmod fchown flock: EIO
mkdir: EROFS
read pread64: EIO
getrandom: EINTR
prctl prlimit64: EPERM
"""
COMING_BACK = """
socket: EMFILE
connect: EAGAIN ECONNREFUSED
sendmsg: ENOBUFS
poll: EINTR
recvmsg: ENOMEM
mmap: ENOMEM
newfstatat: ENOMEM
futex: EINTR
"""
CLIENT = """
mmap: ENOMEM
madvise: ENOMEM
newfstatat: ENOMEM
fallocate: ENOSPC EINTR
pwrite64: ENOSPC EINTR
pread64: EIO EINTR
socket: EMFILE ENOBUFS
connect: EAGAIN EINTR ECONNREFUSED
sendmsg: ENOBUFS EAGAIN
sendto: ENOBUFS
recvmsg: ENOMEM EINTR
poll: EINTR ENOMEM
futex: EINTR
"""


@checks.test
def rgovd_serves_while_calls_fail():
    needs_ptrace()
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        def call():
            return puppet.visit(puppet.call)
        pid, table = pid_of(rgovd), list(errors(MEMORY + SOCKETS + LOOP))
        faults = sweep_calls("call", pid, table, call, rgovd, client=puppet)
        faults += sweep_calls(
            "large call", pid, table,
            lambda: puppet.visit(lambda: puppet.call(300000)), rgovd,
            again=call, client=puppet)
        judge(faults)
        check_quiet(rgovd)


def start_once(rgovd, puppet, name, error, nth, log):
    """What is wrong with the start whose nth call fails, or None; and whether
    there was an nth."""
    log.write_text("")
    kind = f"retval={error}" if error.isdigit() else f"error={error}"
    # -I 4: it waits for rgovd, also when both are asked to end.
    with Start(rgovd, "strace", "-I", "4", "-f", "-qq", "-o", log,
               "-e", f"trace={name}",
               "-e", f"inject={name}:{kind}:when={nth}") as start:
        early = []
        wrong = judge_start(start, rgovd, puppet, lambda: early.append(
            "(INJECTED)" in log.read_text()))
        # From READY on it would be a call of the puppet that met it.
        hit = early[0] if early else "(INJECTED)" in log.read_text()
        return wrong if hit else None, hit


@checks.test
def a_start_while_calls_fail():
    """It ends with a status and a message and leaves nothing, or it serves; the
    loader's calls included."""
    needs_ptrace()
    begin, faults, failures = time.monotonic(), [], 0
    with Sim() as sim:
        rgovd = Rgovd(QUOTA, sim=sim)
        with Puppet(rgovd) as puppet:
            for name, error in errors(START):
                for nth in itertools.count(1):
                    wrong, hit = start_once(
                        rgovd, puppet, name, error, nth,
                        rgovd.scratch.path / "strace")
                    if not hit:
                        break
                    failures += 1
                    if wrong:
                        faults.append(f"{name}={error} N={nth}: {wrong}")
        rgovd.stop()
    count("nth_failures", failures)
    row(path="start", failures=failures, violations=len(faults),
        seconds=f"{time.monotonic() - begin:.1f}")
    judge(faults)


@checks.test
def the_first_call_while_calls_fail():
    "The connection to the provider is made in the middle of it."
    needs_ptrace()
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        judge(sweep_calls("first call", pid_of(rgovd), CONNECTION,
                          lambda: puppet.visit(puppet.call), rgovd,
                          prepare=rgovd.restart))
        check_quiet(rgovd)


@checks.test
def a_session_comes_back_while_calls_fail():
    needs_ptrace()
    with Rgovd(Reattach.CONFIG) as rgovd, Puppet(rgovd) as holder, \
            Puppet(rgovd) as waiter:
        path = Reattach(rgovd, holder, waiter)
        judge(sweep_calls("reattach", pid_of(rgovd), REATTACH, path.act, rgovd,
                          again=path.again, prepare=path.prepare))
        check_quiet(rgovd)


@checks.test
def a_client_comes_back_while_its_calls_fail():
    needs_ptrace()
    with Rgovd(Reattach.CONFIG) as rgovd, Puppet(rgovd) as holder, \
            Puppet(rgovd) as waiter:
        path = Reattach(rgovd, holder, waiter)
        judge(sweep_calls("client's reattach", waiter.pid, errors(COMING_BACK),
                          path.act, rgovd, again=path.again,
                          prepare=path.prepare))
        check_quiet(rgovd)


@checks.test
def a_reload_while_calls_fail():
    "It takes effect as a whole or not at all, and says which."
    needs_ptrace()
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        path = Reload(rgovd, QUOTA, puppet)
        judge(sweep_calls("reload", pid_of(rgovd), errors(RELOAD), path.act,
                          rgovd, again=path.again))


@checks.test
def clients_while_their_calls_fail():
    needs_ptrace()
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        judge(sweep_calls("client's call", puppet.pid, errors(CLIENT),
                          lambda: puppet.visit(puppet.call), rgovd,
                          client=puppet))
        check_quiet(rgovd)


checks.main()
