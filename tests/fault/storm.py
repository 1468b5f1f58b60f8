"""A storm: one simulator, one governor, clients under load, and signals that
strike at random.  storm_judge.py then says what became of the requests.

    with Storm(loop="epoll") as storm:
        pool = Pool(storm, 8)
        while storm.n_kills() < 200:
            pool.strike()
            storm.pause(0.1)
        pool.end()
        storm.check_quiet()
        storm.verdict("clients", storm.judge(calls))

Everything random comes from one seed, which is printed; SEED=… replays the
choices (not the scheduler's).
"""

import collections
import contextlib
import ctypes
import dataclasses
import random
import select

from campaign import *

import storm_judge

RPM, MINUTE_S, GUARD_S = 300, 2.0, 1.0
FEW = 90
CONCURRENCY, PER_USER = 6, 3
TOKENS = 100_000_000

# io_uring and epoll in turn, unless one is asked for.
ENGINES = ([os.environ["RGOV_LOOP"]] * 2 if os.environ.get("RGOV_LOOP")
           else ["io_uring", "epoll"])

# Grandchildren whose parent was killed are ours then, to be waited for.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def new_seed():
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(10**9))


def descriptors(pid):
    """What each open descriptor of a process is, without its number."""
    found = collections.Counter()
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except PermissionError:
        raise Skip("only root can look at rgovd's descriptors") from None
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"{folder}/{name}")
            found[re.sub(r"[\d#]+|\(deleted\)", "", link).strip()] += 1
    return found


def session_maps(pid):
    """How many mappings of sessions' files a process has."""
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return sum("memfd:rgov" in line for line in maps.splitlines())


def group_is_gone(pgid):
    """Reaps what ended of a process group whose leader has been waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-pgid, os.WNOHANG)[0]:
            pass
        return False
    return True


@dataclasses.dataclass
class Struck:
    """A process that got a signal meant to end it."""
    pid: int
    pidfd: int
    number: int
    at_ns: int
    what: str
    gone_ns: int = 0  # when it was seen to have ended
    closed: bool = False

    def ends(self, seconds=0):
        """Within so many seconds it has ended."""
        if not self.gone_ns and select.select([self.pidfd], [], [], seconds)[0]:
            self.gone_ns = time.monotonic_ns()
        return self.gone_ns != 0


class Storm:
    """rpm: low enough, and the window is at its limit all the while."""

    def __init__(self, loop=None, rpm=RPM, config="",
                 latency="uniform:0.005,0.08", sim_extra=()):
        self.seed = new_seed()
        self.rpm = rpm
        self.random = random.Random(self.seed)
        self.sim = Sim(minute=MINUTE_S, latency=latency,
                       seed=self.seed % 1000, extra=sim_extra)
        self.loop, self.config = loop, config
        self.deaths_ns = []  # of rgovd: when it was seen to be gone
        self.struck = []     # pids come back: by their order
        self.stopped = {}    # pid -> (pidfd, when to go on, stopped at)
        self.stopped_s = collections.Counter()  # per pid
        self.kills = collections.Counter()
        self.totals = collections.Counter()  # counters of dead governors
        self.violations = []
        self.numbers = itertools.count(1)  # of clients, of users' requests
        self.begun = time.monotonic()

    def __enter__(self):
        self.sim.__enter__()
        self.rgovd = Rgovd(self.config_text(), sim=self.sim, loop=self.loop)
        self.rgovd.__enter__()
        self.at_start = self.figures()
        return self

    def __exit__(self, *failure):
        for pidfd, *_ in self.stopped.values():
            self._send(pidfd, signal.SIGCONT)
        try:
            self.rgovd.__exit__(*failure)
        finally:
            self.sim.__exit__(*failure)
        if failure[0] is not None:
            print(f"  seed={self.seed}", flush=True)

    def config_text(self, rpm=None, concurrency=CONCURRENCY):
        """Idle connections go soon, so that quiet is soon quiet."""
        return limits(rpm or self.rpm, concurrency, PER_USER, MINUTE_S, GUARD_S) + f"""
upstream "bedrock" {{
	endpoint = "{self.sim.url}"
	region = "{REGION}"
	idle_close = 1s
}}
model "*" {{ tokens_per_minute = {TOKENS} }}
""" + self.config

    # ---------------------------------------------------------- time

    def pause(self, mean_s):
        """A random time, in which the stopped go on when theirs is over."""
        end = time.monotonic() + min(self.random.expovariate(1 / mean_s),
                                     5 * mean_s)
        while True:
            self._resume(time.monotonic())
            rest = end - time.monotonic()
            if rest <= 0:
                return
            time.sleep(min(rest, 0.02))

    def chance(self, probability):
        return self.random.random() < probability

    # ---------------------------------------------------------- signals

    @staticmethod
    def _send(pidfd, number):
        try:
            signal.pidfd_send_signal(pidfd, number)
            return True
        except ProcessLookupError:
            return False

    def strike(self, pid, number, what):
        """A signal that is to end a process; False: it has ended, or is at it."""
        try:
            # The instant before the signal: what it does from now on is in
            # question.
            struck = Struck(pid, os.pidfd_open(pid), number,
                            time.monotonic_ns(), what)
        except ProcessLookupError:
            return False
        if (struck.ends() or self._is_dying(pid)
                or not self._send(struck.pidfd, number)):
            os.close(struck.pidfd)
            return False
        self.struck.append(struck)
        self.kills[f"{what} {signal.Signals(number).name}"] += 1
        return True

    def _is_dying(self, pid):
        return any(s.pid == pid and not s.ends() for s in self.struck)

    def struck_ns(self):
        """For each pid, in order: when it was struck, and when it was gone."""
        found = collections.defaultdict(list)
        for struck in self.struck:
            found[struck.pid].append((struck.at_ns, struck.gone_ns))
        return found

    def suspend(self, pid, longest_s):
        """SIGSTOP now, SIGCONT after a random time."""
        self.suspend_for(pid, self.random.uniform(0.01, longest_s))

    def suspend_for(self, pid, seconds):
        if pid in self.stopped or self._is_dying(pid):
            return
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            now = time.monotonic()
            if self._send(pidfd, signal.SIGSTOP):
                self.stopped[pid] = (pidfd, now + seconds, now)

    def _resume(self, now):
        for pid, (pidfd, until, since) in list(self.stopped.items()):
            if until <= now:
                self._send(pidfd, signal.SIGCONT)
                os.close(pidfd)
                self.stopped_s[pid] += time.monotonic() - since
                del self.stopped[pid]

    def resume_all(self):
        self._resume(float("inf"))

    def n_kills(self):
        """A child may just have ended by itself: not counted."""
        return self.kills.total() - self.kills["child SIGKILL"]

    def await_struck(self):
        """Everything that was struck has ended.  As gunicorn does, SIGABRT is
        followed by SIGKILL: its handler raises SystemExit anywhere, and where
        that is in the start of a pool's thread, Python waits for it for ever."""
        for struck in self.struck:
            if struck.closed:
                continue
            if struck.number == signal.SIGABRT and not struck.ends(10):
                self._send(struck.pidfd, signal.SIGKILL)
            check(struck.ends(PATIENCE_S),
                  f"{struck.what} {struck.pid} lives on after "
                  f"{signal.Signals(struck.number).name}")
            os.close(struck.pidfd)
            struck.closed = True

    # ---------------------------------------------------------- rgovd

    def kill_rgovd(self):
        process = self.rgovd.process
        process.kill9()
        self.deaths_ns.append(time.monotonic_ns())
        check(process.returncode == -signal.SIGKILL,
              f"rgovd ended by itself, status {process.returncode}:\n"
              + process.tail())
        self.kills["rgovd SIGKILL"] += 1
        self._read_dead_board(process.pid)

    def restart_rgovd(self):
        """Killed at a random moment of its start now and then, too."""
        self.kill_rgovd()
        while self.chance(0.25):
            self.rgovd.start(wait=False)
            time.sleep(self.random.uniform(0, 0.05))
            self.kill_rgovd()
        self.rgovd.start()

    def _read_dead_board(self, pid):
        self._walk_board()
        stats = self.rgovd.stats()
        if stats["rgovd"]["pid"] == pid:  # else it died before its board
            self.totals.update(stats["counters"])

    def _walk_board(self, *quiet):
        done = run([BUILD / "tests/board_check", self.rgovd.name, *quiet])
        if done.returncode != 0:
            self.violations.append("board: " + done.stdout.strip())

    # ---------------------------------------------------------- the end

    def figures(self):
        """All that is held somewhere, and has to come back."""
        stats, pid = self.rgovd.stats(), self.rgovd.process.pid
        lanes = stats["lanes"]
        return {
            "sessions": stats["sessions"],
            "running": stats["active_requests"],
            "queued": stats["queue_size"],
            "users": stats["active_users"],
            "live records": len(stats["live"]),
            "in lanes": sum(lane["running"] + lane["queued"]
                            + lane["backing_off"] for lane in lanes),
            "tokens out": sum(lane["tokens_limit"] - lane["tokens_available"]
                              for lane in lanes),
            "maps": session_maps(pid),
            **descriptors(pid),
        }

    def check_quiet(self, expected=None):
        """Everything is back at the start, or where it is expected."""
        expected = expected or self.at_start
        check(self.rgovd.process.alive(), "rgovd has ended")
        try:
            wait_until(lambda: self.figures() == expected, what="quiet",
                       interval=0.1)
        except Failed:
            now = self.figures()
            self.violations.append("7: not back at the start: " + ", ".join(
                f"{key} {now.get(key, 0)}, not {expected.get(key, 0)}"
                for key in sorted(now.keys() | expected.keys())
                if now.get(key, 0) != expected.get(key, 0)))
        self._walk_board("quiet")
        self._check_counters()
        left = f"/dev/shm/rgov.{self.rgovd.name}#new"
        if os.path.exists(left):
            self.violations.append(f"7: left behind: {left}")

    def _check_counters(self):
        c = self.rgovd.stats()["counters"]
        for claim, ends, begins in (
                ("requests", c["successful_requests"] + c["failed_requests"]
                 + c["cancelled_requests"], c["total_requests"]),
                ("starts", c["ended_requests"], c["started_requests"])):
            if ends != begins:
                self.violations.append(
                    f"{claim}: {begins} began, {ends} ended: {c}")

    def judge(self, calls, excused=(), upstream_fails=()):
        """The judge of these calls; what it finds is a violation."""
        judge = storm_judge.Judge(
            calls, storm_judge.arrivals_of(self.sim.events()), self.deaths_ns,
            self.struck_ns(), excused, self.stopped_s, GUARD_S, upstream_fails)
        self.violations += judge.judge(CONCURRENCY)
        self.peak = self.sim.report()["max_arrivals_in_window"]
        if self.peak > self.rpm:
            self.violations.append(
                f"11 window: {self.peak} starts, not {self.rpm}")
        again = judge.extra_arrivals()
        last = self.rgovd.stats()["counters"]
        counted = sum(counters[name] for counters in (self.totals, last)
                      for name in ("reissued_requests", "retries"))
        if again > counted:
            self.violations.append(
                f"2: {again} arrived again, {counted} were counted")
        return judge

    def verdict(self, name, judge):
        """Counts, prints the row, and fails where something is violated."""
        count("storm_kills", self.n_kills())
        count("violations", len(self.violations))
        row(storm=name, engine=self.rgovd.loop, seed=self.seed,
            **{k.replace(" ", "_"): v for k, v in sorted(self.kills.items())},
            requests=len(judge.calls), told_ok=judge.n_told(),
            again=judge.extra_arrivals(), window=f"{self.peak}/{self.rpm}",
            violations=len(self.violations),
            seconds=round(time.monotonic() - self.begun))
        check(not self.violations, f"{len(self.violations)} violations:\n"
              + "\n".join(self.violations[:20]))


# ---------------------------------------------------------------- lean clients

class Pool:
    """Lean clients (storm_client.c); who is killed is replaced."""

    def __init__(self, storm, size, threads=4, operations=None):
        self.storm = storm
        self.threads, self.operations = threads, operations
        self.log = storm.rgovd.scratch.path / f"clients{next(storm.numbers)}.log"
        self.all = []
        self.live = [self._new() for _ in range(size)]

    def _new(self):
        number = next(self.storm.numbers)
        argv = [FAULT_BUILD / "storm_client", number * 10_000_000,
                self.storm.seed % 1_000_000, self.threads]
        process = Process("storm_client",
                          argv + ([self.operations] if self.operations else []),
                          self.log,
                          env=self.storm.rgovd.client_env())
        self.all.append(process)
        return process

    def _children(self, process):
        path = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            return [int(pid) for pid in path.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return []

    def strike(self, numbers=(signal.SIGKILL, signal.SIGABRT)):
        """Ends a client, or a child that one has forked."""
        at = self.storm.random.randrange(len(self.live))
        process = self.live[at]
        children = self._children(process)
        if children and self.storm.chance(0.2):
            self.storm.strike(self.storm.random.choice(children),
                              signal.SIGKILL, "child")
        if self.storm.strike(process.pid, self.storm.random.choice(numbers),
                             "client"):
            self.live[at] = self._new()

    def suspend(self, longest_s):
        self.storm.suspend(
            self.storm.random.choice(self.live).pid, longest_s)

    def end(self, timeout=60.0):
        """All that live finish what they have begun, and their children."""
        self.storm.resume_all()
        self.storm.await_struck()
        wait_until(lambda: all([self._told_to_end(p) for p in self.live]),
                   interval=0.3, timeout=timeout, what="the clients' end")
        for process in self.live:
            # SIGTERM between an exec and its handler.
            check(process.returncode in (0, -signal.SIGTERM),
                  f"a client ended with status {process.returncode}:\n"
                  + process.tail())
        for process in self.all:
            process.popen.wait()
            process._forget()
            wait_until(lambda: group_is_gone(process.pid), timeout=timeout,
                       what="the children of those that were killed")

    @staticmethod
    def _told_to_end(process):
        """Again and again: an exec forgets that it was told."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        return not process.alive()

    def lines(self):
        for line in self.log.read_text().splitlines():
            yield line.split()
