#!/usr/bin/python3 -B
"""Resources run out for real: descriptors, shared memory, address space, file
size, the disk of the log, the queues of io_uring.  rgovd refuses in words or
waits, and goes on when there is room again.
"""

import resource

from shortage import *

QUOTA = limits(60000, 100, 100, minute=60)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")


def set_limit(pid, which, soft):
    _, hard = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (soft, hard))


def wrapped(rgovd, *prefix):
    """The same rgovd, started by another program."""
    plain = rgovd.argv
    rgovd.argv = lambda: [*prefix, *plain()]
    return rgovd


# ---------------------------------------------------------------- descriptors

@checks.test
def without_descriptors_rgovd_waits():
    """accept() fails with EMFILE: those inside are served, those outside wait,
    no CPU is burnt; with room again they come in."""
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, \
            Puppet(rgovd) as inside, Puppet(rgovd) as outside:
        pid = rgovd.process.pid
        inside.tell("open")
        check(inside.call().is_good, "the first call")
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        set_limit(pid, resource.RLIMIT_NOFILE, fds_of(pid))
        outside.tell("open")
        before = cpu_seconds(pid)
        outside.begin("call", 1, 64, 30000)
        wait_until(lambda: "door.full" in rgovd.process.text(),
                   what="the complaint of rgovd")
        for _ in range(20):
            check(inside.call().is_good, "a call of one inside")
        first = outside.answer()
        equal(first["rc"], -errno.ECONNREFUSED, f"{first}")
        used = cpu_seconds(pid) - before
        check(used < 0.5, f"{used} s of CPU in the 2 s of the attempt")
        outside.begin("call", 2, 64, 30000)
        set_limit(pid, resource.RLIMIT_NOFILE, soft)
        answer = outside.answer()
        check(answer.is_good, f"with room again: {answer}")
        outside.tell("close")
        inside.tell("close")
        check_quiet(rgovd)


@checks.test
def each_descriptor_may_be_the_last():
    """The limit is every number from what an idle rgovd has to what it needs:
    each call is answered or refused in words, and then works."""
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        pid = rgovd.process.pid
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        outcomes, tried, answer = collections.Counter(), 0, None
        while answer is None or not answer.is_good:
            rgovd.restart()
            pid = rgovd.process.pid
            puppet.tell("open")
            # One below what it has: accept() needs none.
            set_limit(pid, resource.RLIMIT_NOFILE, fds_of(pid) + 1 + tried)
            answer = puppet.call(ms=3000)
            outcomes[answer["result"] if answer["rc"] == 0
                     else answer["why"][:60]] += 1
            tried += 1
            set_limit(pid, resource.RLIMIT_NOFILE, soft)
            again = puppet.call()
            check(again.is_good, f"with room again: {again}")
            puppet.tell("close")
        count("nth_failures", tried)
        row(path="call", failing="RLIMIT_NOFILE", failures=tried,
            outcomes=words_of(outcomes))
        check_quiet(rgovd)


# ---------------------------------------------------------------- memory

@checks.test
def a_full_dev_shm_is_an_error_at_the_start():
    "No room for the board: a message, an exit status, nothing left."
    if os.geteuid() != 0:
        raise Skip("only root mounts a small /dev/shm")
    with Sim() as sim:
        rgovd = Rgovd(QUOTA, sim=sim)
        rgovd.start = lambda wait=False: Rgovd.start(rgovd, wait=False)
        wrapped(rgovd, "unshare", "-m", "sh", "-c",
                "mount -t tmpfs -o size=64k none /dev/shm && "
                "\"$@\"; status=$?; ls -A /dev/shm | grep -v 'lock$'; "
                "exit $status", "sh")
        rgovd.start()
        equal(rgovd.process.wait(), 73, "exit status")
        said = rgovd.process.text()
        check("cannot make the board" in said and "No space left" in said,
              f"it said: {said}")
        check(f"rgov.{rgovd.name}" not in said.splitlines()[-1],
              f"it left: {said}")
        rgovd.stop()


@checks.test
def without_address_space_large_calls_are_refused():
    """RLIMIT_AS: 20 MB have no room, a small call has; then both have."""
    if BUILD.name == "asan":
        raise Skip("a sanitizer needs terabytes of address space")
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        pid = rgovd.process.pid
        puppet.tell("open")
        check(puppet.call().is_good, "a call")
        used = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) \
            * mmap.PAGESIZE
        set_limit(pid, resource.RLIMIT_AS, used + (8 << 20))
        for _ in range(3):
            equal(puppet.call(20_000_000, 60000)["result"], "no memory",
                  "a call of 20 MB")
            check(puppet.call().is_good, "a small call meanwhile")
        set_limit(pid, resource.RLIMIT_AS, resource.RLIM_INFINITY)
        check(puppet.call(20_000_000, 60000).is_good, "20 MB with room")
        puppet.tell("close")
        check_quiet(rgovd)


@checks.test
def a_limit_of_file_size_kills_nobody():
    """RLIMIT_FSIZE counts for memory files, too, and its signal ends processes
    that do not know: rgovd refuses sessions, a client gets an error."""
    with Sim() as sim, Rgovd(QUOTA, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        pid = rgovd.process.pid
        soft, _ = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        set_limit(pid, resource.RLIMIT_FSIZE, 1 << 20)
        puppet.tell("open")
        answer = puppet.call(ms=2000)
        check(answer["rc"] < 0 and "File too large" in answer["why"],
              f"{answer}")
        check(rgovd.process.alive(), "rgovd is gone")
        set_limit(pid, resource.RLIMIT_FSIZE, soft)
        check(puppet.call().is_good, "a call without the limit")
        puppet.tell("close")
        set_limit(puppet.pid, resource.RLIMIT_FSIZE, 1 << 20)
        puppet.tell("open")
        check(puppet.call().is_good, "a small body in the first slot")
        answer = puppet.call(2_000_000)
        check(answer["rc"] < 0 and "RLIMIT_FSIZE" in answer["why"],
              f"{answer}")
        check(puppet.call().is_good, "a small body afterwards")
        puppet.tell("close")
        done = rgovd.python(
            "import resource, rgov\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
            "try:\n"
            "    rgov.connect().invoke('vendor.model-v1',\n"
            "        {'max_tokens': 5, 'p': 'x' * 2_000_000}, user='u')\n"
            "except rgov.TooLarge as why:\n"
            "    print(why)\n")
        check("RLIMIT_FSIZE" in done.stdout,
              f"in Python: {done.stdout}{done.stderr}")
        check_quiet(rgovd)


@checks.test
def without_locked_memory_it_serves():
    "RLIMIT_MEMLOCK 0, which old kernels take io_uring's queues from."
    with Sim() as sim:
        with wrapped(Rgovd(QUOTA, sim=sim), "prlimit", "--memlock=0") as rgovd, \
                Puppet(rgovd) as puppet:
            check(puppet.visit(puppet.call).is_good, "a call")


@checks.test
def no_core_holds_keys():
    "Whatever the limit says, rgovd does not dump its memory."
    with Rgovd(QUOTA) as rgovd:
        set_limit(rgovd.process.pid, resource.RLIMIT_CORE,
                  resource.prlimit(rgovd.process.pid,
                                   resource.RLIMIT_CORE)[1])
        os.kill(rgovd.process.pid, signal.SIGABRT)
        _, status = os.waitpid(rgovd.process.pid, 0)
        check(os.WIFSIGNALED(status) and not os.WCOREDUMP(status),
              f"it dumped: status {status}")
        rgovd.process.popen.returncode = -signal.SIGABRT
        rgovd.start()


# ---------------------------------------------------------------- the log

@checks.cases(("dev_full", "exec \"$@\" 2>/dev/full"),
              ("closed", "exec \"$@\" 2>&-"),
              ("full_disk", "exec \"$@\" 2>\"$FULL/log\""))
def a_log_without_room_stops_nothing(name, command):
    "Calls, refusals and a restart, while no line of the log can be written."
    full = Scratch()
    mounted = name == "full_disk"
    if mounted:
        if os.geteuid() != 0:
            raise Skip("only root mounts a small disk")
        done = run(["mount", "-t", "tmpfs", "-o", "size=16k", "none",
                    full.path])
        check(done.returncode == 0, done.stderr)
        with contextlib.suppress(OSError):
            (full.path / "fill").write_bytes(bytes(1 << 20))
    try:
        with Sim() as sim, \
                wrapped(Rgovd(QUOTA, sim=sim, env={"FULL": full.path}),
                        "sh", "-c", command, "sh") as rgovd, \
                Puppet(rgovd) as puppet:
            for _ in range(3):
                check(puppet.visit(puppet.call).is_good, "a call")
                rgovd.process.signal(signal.SIGUSR2)
                equal(rgovd.rgov("reload").returncode, 0, "reload")
            rgovd.restart()
            check(puppet.visit(puppet.call).is_good, "a call afterwards")
    finally:
        if mounted:
            run(["umount", full.path])
        full.remove()


@contextlib.contextmanager
def small_disk(size):
    """A file system that holds so much."""
    if os.geteuid() != 0:
        raise Skip("only root mounts a small disk")
    with Scratch() as scratch:
        done = run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none",
                    scratch])
        check(done.returncode == 0, done.stderr)
        try:
            yield scratch
        finally:
            run(["umount", "-l", scratch])


def whole_lines(trace):
    """How many there are, headers too; each is whole."""
    text = trace.read_text()
    check(text == "" or text.endswith("\n"), "the last line has its end")
    return len([json.loads(line) for line in text.splitlines()])


@checks.test
def a_record_without_room_stops_nothing():
    """The disk of `record` is full, also for a successor: what is answered is
    on it or counted as lost; with room again it goes on."""
    with small_disk("64k") as disk, Sim() as sim, \
            Rgovd(QUOTA + f'record = "{disk}/trace"\n', sim=sim) as rgovd, \
            Puppet(rgovd) as puppet:
        def lost():
            return rgovd.stats()["counters"]["record_lines_lost"]

        def ask(n):
            for _ in range(n):
                check(puppet.call().is_good, "a call")

        trace = disk / "trace"
        (disk / "fill").write_bytes(bytes(52 << 10))
        puppet.tell("open")
        ask(80)
        there = wait_until(lambda: whole_lines(trace) + lost() == 81
                           and whole_lines(trace), what="all 80, or their loss")
        check(1 < there < 80, f"{there} lines of 81 are there")
        rgovd.restart()
        ask(40)
        wait_until(lambda: whole_lines(trace) + lost() == there + 41,
                   what="all 40, or their loss")
        (disk / "fill").unlink()
        there = whole_lines(trace)
        ask(5)
        wait_until(lambda: whole_lines(trace) == there + 5, what="five more")
        puppet.tell("close")
        check_quiet(rgovd)
        row(written=there + 5, lost=lost())


# ---------------------------------------------------------------- queues

CROWD = r"""
import resource, socket, sys, time
n, path = int(sys.argv[1]), sys.argv[2]
resource.setrlimit(resource.RLIMIT_NOFILE,
                   (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
while len(held) < n:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.connect(path)
    held.append(one)
print("there", flush=True)
time.sleep(600)
"""


@checks.test
def a_crowd_that_dies_at_once_overflows_nothing():
    """1200 connections of one process: when it is killed, 2400 descriptors have
    news at once, more than the queues of io_uring hold."""
    crowd, numbers = 1200, itertools.count(1)
    with Sim() as sim, Rgovd(QUOTA + "max_sessions = 8000\n", sim=sim) \
            as rgovd, Puppet(rgovd) as puppet:
        pid = rgovd.process.pid
        if resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] < 2 * crowd + 100:
            raise Skip("too few descriptors are allowed here")
        puppet.tell("open")
        check(puppet.call().is_good, "a call")
        before = fds_of(pid)
        for _ in range(3):
            people = Process("crowd", [
                PYTHON, "-c", CROWD, crowd, rgovd.socket],
                rgovd.scratch.path / f"crowd{next(numbers)}.log")
            wait_until(lambda: "there" in people.text(), what="the crowd")
            wait_until(lambda: fds_of(pid) >= before + 2 * crowd,
                       what="their sessions")
            rgovd.process.signal(signal.SIGSTOP)
            people.kill9()
            rgovd.process.signal(signal.SIGCONT)
            check(puppet.call().is_good, "a call among the dead")
            wait_until(lambda: fds_of(pid) == before, what="their descriptors")
        puppet.tell("close")
        check_quiet(rgovd)


checks.main()
