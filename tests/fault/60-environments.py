#!/usr/bin/python3 -B
"""The same results everywhere (invariant 15): on io_uring, on epoll, where
io_uring is refused, with a small or full /dev/shm, and with rgovd and its
clients in different namespaces or of different users.

Each environment runs one set: calls with bodies of every size, permits, a
cancel, a worker that is killed, a rgovd that is killed and replaced, and quiet.
gunicorn with preload_app is in tests/scenario/20-worker-killed.py, on both loops.
"""

import sys

from campaign import *
from worker import *

CONCURRENCY = 8
SET = (limits(rpm=50000, concurrency=CONCURRENCY, per_user=CONCURRENCY)
       + 'log_level = "debug"\n')
SIM = {"latency": "fixed:0.05", "extra": ["--fault-model", "slow=hang"]}
SIZES = (0, 300_000, 3_000_000)
BOTH = ("io_uring", "epoll")


# ---------------------------------------------------------------- prefixes

def in_namespaces(*which):
    return ["unshare", *(f"--{w}" for w in which)]


def with_mounts(commands):
    """Its own mounts, changed by a piece of shell."""
    return [*in_namespaces("mount"), "sh", "-c",
            f'set -e; {commands}; exec "$@"', "sh"]


def as_user(uid, gid=None, groups=None):
    return ["setpriv", "--reuid", str(uid), "--regid", str(gid or uid),
            *(["--groups", str(groups)] if groups else ["--clear-groups"]),
            "--pdeathsig", "KILL"]


def refusing_io_uring(what):
    return [str(FAULT_BUILD / "without_io_uring"), what]


PID_NAMESPACE = in_namespaces("pid", "fork", "kill-child", "mount-proc")
OTHER_NAMESPACES = in_namespaces("mount", "net", "ipc", "uts")
OTHER_SHM = with_mounts("mount -t tmpfs -o size=1m tmpfs /dev/shm")
USER_NAMESPACE = in_namespaces("user", "map-root-user")


def need(prefix):
    """Skips where the environment cannot be had."""
    if not prefix:
        return
    done = run([*prefix, "true"])
    if done.returncode != 0:
        raise Skip(f"{' '.join(prefix[:3])}: {done.stderr.strip()}")


class Elsewhere(Rgovd):
    """An rgovd behind a prefix; with --fork the prefix is its parent."""

    def __init__(self, *arguments, prefix=(), **more):
        super().__init__(*arguments, **more)
        self.prefix = prefix

    def argv(self):
        return [*self.prefix, *super().argv()]

    def start(self, wait=True):
        super().start(wait)
        pid = self.process.pid
        if "--fork" in self.prefix:
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
            pid = int(wait_until(children.read_text, what="rgovd's pid"))
        self.pid = pid

    def kill9(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def __exit__(self, failure, *_):
        # unshare waits for its child, and hands its status on.
        with contextlib.suppress(ProcessLookupError):
            if self.process.alive():
                os.kill(self.pid, signal.SIGTERM)
        try:
            status = self.process.wait()
            check(failure or status == 0, f"rgovd's status {status}")
        finally:
            self.stop()


# ---------------------------------------------------------------- the set

def sent_body(size):
    return (b'{"max_tokens":5}' if not size else
            b'{"max_tokens":5,"pad":"' + b"x" * (size - 25) + b'"}')


def calls_are_answered(*workers, sizes=SIZES):
    calls = [(size, worker.invoke(body_bytes=size, user=f"u{size}"))
             for worker in workers for size in sizes]
    check_own_answers([(sent_body(size), call.expect("Reply")["text"])
                       for size, call in calls])


def permits_count(rgovd, one, two):
    held = [one.permit(user="a").expect("Permit"),
            two.permit(user="b").expect("Permit")]
    equal(rgovd.stats()["active_requests"], 2, "active_requests")
    one.settle(held[0]["permit"], input_tokens=1)
    two.settle(held[1]["permit"])
    wait_until(rgovd.is_idle, what="an idle rgovd after the permits")


def a_cancel_ends(rgovd, worker):
    call = worker.start("slow")
    wait_until(lambda: rgovd.stats()["active_requests"] == 1,
               what="the call that will be cancelled")
    worker.cancel(call)
    call.expect("Cancelled")
    wait_until(rgovd.is_idle, what="an idle rgovd after a cancel")


def no_wake_was_lost(*workers):
    for worker in workers:
        told = worker.say("diagnose").result()
        equal(told["found_by_slice"], 0, "answers that no wake told of")


def a_killed_worker_leaves_nothing(rgovd, worker):
    worker.permit().expect("Permit")
    for _ in range(3):
        worker.invoke("slow")
    wait_until(lambda: rgovd.stats()["active_requests"] == 4,
               what="requests that run")
    worker.kill9()
    wait_until(lambda: rgovd.is_idle()
               and rgovd.stats()["sessions"] == 1,
               what="an idle rgovd with the other worker alone")


def a_restart_loses_nothing(rgovd, worker):
    """Permits are out, calls run and calls wait when rgovd is killed."""
    held = [worker.permit().expect("Permit")
            for _ in range(CONCURRENCY - 2)]
    running = [worker.start("slow") for _ in range(2)]
    wait_until(lambda: rgovd.stats()["active_requests"] == CONCURRENCY,
               what="all places taken")
    waiting = [worker.invoke(user=f"u{n % 3}") for n in range(6)]
    wait_until(lambda: rgovd.stats()["queue_size"] == 6,
               what="calls that wait")
    rgovd.restart()
    for permit in held:
        worker.settle(permit["permit"])
    for call in waiting:
        call.expect("Reply")
    for call in running:
        worker.cancel(call)
        call.expect("Cancelled")


def is_quiet(rgovd):
    wait_until(rgovd.is_idle, what="an idle rgovd at the end")
    done = run([BUILD / "tests/board_check", rgovd.name, "quiet"])
    equal(done.returncode, 0, f"board_check quiet ({done.stdout})")


def the_set(rgovd, prefix=()):
    with Worker(rgovd, prefix) as one:
        with Worker(rgovd, prefix) as two:
            calls_are_answered(one, two)
            permits_count(rgovd, one, two)
            a_cancel_ends(rgovd, one)
            no_wake_was_lost(one, two)
            a_killed_worker_leaves_nothing(rgovd, two)
        a_restart_loses_nothing(rgovd, one)
        is_quiet(rgovd)


# ---------------------------------------------------------------- environments

def engine_of(rgovd):
    return re.search(r"event=rgovd\.ready .*\bloop=(\w+)",
                     rgovd.process.text())[1]


@checks.cases(*((loop, loop) for loop in BOTH))
def on_each_engine(_name, loop):
    with Sim(**SIM) as sim, Elsewhere(SET, sim=sim, loop=loop) as rgovd:
        the_set(rgovd)
        equal(engine_of(rgovd), loop, "the loop that is used")


@checks.cases(("from-the-start", "setup"), ("later", "enter"))
def where_io_uring_is_refused(_name, what):
    """rgovd takes epoll by itself, and says so, once for each start."""
    prefix = refusing_io_uring(what)
    need(prefix)
    with Sim(**SIM) as sim, \
            Elsewhere(SET, sim=sim, loop="auto", prefix=prefix) as rgovd:
        the_set(rgovd)
        equal(engine_of(rgovd), "epoll", "the loop that is used")
        equal(rgovd.process.text().count("event=loop.fallback"), 2,
              "words about it, in two starts")


APART = (  # name, rgovd's prefix, its clients', configuration
    ("clients-in-pid-namespaces", (), PID_NAMESPACE, ""),
    ("rgovd-in-a-pid-namespace", PID_NAMESPACE, (), ""),
    ("each-in-a-pid-namespace", PID_NAMESPACE, PID_NAMESPACE, ""),
    ("clients-in-other-namespaces", (), OTHER_NAMESPACES, ""),
    ("clients-with-another-shm", (), OTHER_SHM, ""),
    ("clients-in-user-namespaces", (), USER_NAMESPACE, ""),
    ("rgovd-in-a-user-namespace", USER_NAMESPACE, (), ""),
)


@checks.cases(*((f"{name}-{loop}", loop, *rest)
                for name, *rest in APART for loop in BOTH))
def apart(_name, loop, prefix, client_prefix, config):
    """The socket's directory is all that they share."""
    need(prefix)
    need(client_prefix)
    with Sim(**SIM) as sim, Elsewhere(SET + config, sim=sim, loop=loop,
                                      prefix=prefix) as rgovd:
        the_set(rgovd, client_prefix)



# ---------------------------------------------------------------- users

USER, OTHER, STRANGER, GROUP = 61234, 61235, 61236, 61237


@contextlib.contextmanager
def open_to_others(rgovd):
    """Others find its socket, and it finds ours."""
    for path in (rgovd.scratch.path, rgovd.runtime_dir):
        path.chmod(0o755)
    mask = os.umask(0)
    try:
        yield
    finally:
        os.umask(mask)


def need_readable_build():
    done = run([*as_user(USER), PYTHON, "-c", "import rgov"],
               env=base_env(PYTHONPATH=BUILD / "python"))
    if done.returncode != 0:
        raise Skip(f"another user cannot be, or cannot read {BUILD}: "
                   + done.stderr.strip()[-200:])


OTHERS = (  # name, rgovd's own user, its clients', configuration
    ("a-client-of-another-user", (), as_user(USER), f"allow_uids = {{{USER}}}\n"),
    ("a-client-by-its-group", (), as_user(USER, GROUP + 1, GROUP),
     f"allow_gids = {{{GROUP}}}\n"),
    ("an-unprivileged-rgovd", as_user(USER), as_user(OTHER),
     f"allow_uids = {{{OTHER}}}\n"),
)


@checks.cases(*((f"{name}-{loop}", loop, *rest)
                for name, *rest in OTHERS for loop in BOTH))
def of_different_users(_name, loop, prefix, client_prefix, config):
    """Who is allowed is served as if it were rgovd's own user; who is not is
    told so, and told who he is."""
    need_readable_build()
    with Sim(**SIM) as sim:
        rgovd = Elsewhere(SET + config + 'socket_mode = "0666"\n', sim=sim,
                          loop=loop, prefix=prefix)
        if prefix:
            for path in (rgovd.scratch.path, rgovd.runtime_dir, rgovd.config):
                os.chown(path, USER, USER)
        with open_to_others(rgovd), rgovd:
            the_set(rgovd, client_prefix)
            with Worker(rgovd, as_user(STRANGER)) as stranger:
                refused = stranger.invoke().result()
                equal(refused["type"], "Unavailable", f"type of {refused}")
                check(f"uid {STRANGER} may not connect" in refused["text"],
                      f"words for a stranger: {refused}")


# ---------------------------------------------------------------- containers

def is_inside():
    return os.environ.get("RGOV_INSIDE")


def run_inside(prefix, test):
    """One test of this script, all of it in another environment."""
    need(prefix)
    done = run([*prefix, PYTHON, "-B", __file__, test], timeout=200,
               env=dict(os.environ, RGOV_INSIDE="1"))
    check(done.returncode == 0 and done.stdout.endswith(
        " passed, 0 failed, 0 skipped\n"), done.stdout + done.stderr)


def with_shm_of(size):
    return with_mounts(f"mount -t tmpfs -o size={size} tmpfs /dev/shm")


def fill_shm():
    """Not a byte is left of it; the descriptor keeps nothing."""
    with open("/dev/shm/full", "wb", buffering=0) as full:
        with contextlib.suppress(OSError):
            while True:
                full.write(b"x" * 4096)


@checks.cases(*((loop, loop) for loop in BOTH))
def in_64_mb_of_shm(_name, loop):
    """As in a container: 12 workers with 6 MB each in flight, more than there
    is of /dev/shm; bodies are in files of their own.  Then it is full."""
    if not is_inside():
        run_inside(with_shm_of("64m"), f"in_64_mb_of_shm[{loop}]")
        return
    room = os.statvfs("/dev/shm")
    check(room.f_blocks * room.f_frsize <= 64 << 20, "a small /dev/shm")
    with Sim(latency="fixed:0.5", extra=SIM["extra"]) as sim, \
            Elsewhere(SET, sim=sim, loop=loop) as rgovd, \
            contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(rgovd)) for _ in range(12)]
        calls_are_answered(*workers, sizes=(6_000_000,))
        fill_shm()
        the_set_without_a_restart(rgovd)


def the_set_without_a_restart(rgovd):
    with Worker(rgovd) as one, Worker(rgovd) as two:
        calls_are_answered(one, two)
        permits_count(rgovd, one, two)
        a_cancel_ends(rgovd, one)


@checks.test
def a_full_shm_is_told():
    """No room for the board: rgovd does not start, and says where to look."""
    if not is_inside():
        run_inside(with_shm_of("1m"), "a_full_shm_is_told")
        return
    fill_shm()
    rgovd = Elsewhere(SET)
    try:
        rgovd.start(wait=False)
        equal(rgovd.process.wait(), 73, "status (EX_CANTCREAT)")
        check("is /dev/shm mounted, writable and not full?"
              in rgovd.process.text(), rgovd.process.text())
    finally:
        rgovd.stop()


def read_only_but(folder):
    """The whole file system, but for this folder and /dev/shm."""
    return with_mounts(f"mount --bind {folder} {folder}; "
                       "mount -o remount,bind,ro /")


@checks.cases(*((loop, loop) for loop in BOTH))
def on_a_read_only_root(_name, loop):
    """rgovd writes nowhere but in its runtime directory and /dev/shm."""
    with Sim(**SIM) as sim:
        rgovd = Elsewhere(SET, sim=sim, loop=loop)
        rgovd.prefix = read_only_but(rgovd.runtime_dir)
        need(rgovd.prefix)
        done = run([*rgovd.prefix, "touch", rgovd.scratch.path / "x"])
        check(done.returncode != 0, "the root is read-only")
        with rgovd:
            the_set(rgovd)


@checks.test
def without_proc_it_says_so():
    """rgovd needs /proc to give each client its own rights; without it it does
    not start, and says why."""
    prefix = with_mounts("mount -t tmpfs tmpfs /proc")
    need(prefix)
    if "asan" in BUILD.name:
        raise Skip("LeakSanitizer needs /proc as well")
    rgovd = Elsewhere(SET, prefix=prefix)
    try:
        rgovd.start(wait=False)
        equal(rgovd.process.wait(), 69, "status (EX_UNAVAILABLE)")
        check("/proc is not mounted" in rgovd.process.text(),
              rgovd.process.text())
    finally:
        rgovd.stop()


checks.main()
