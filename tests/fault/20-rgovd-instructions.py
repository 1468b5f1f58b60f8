#!/usr/bin/python3 -B
"""SIGKILL to rgovd, as shipped, at the crash points of each of its paths: a
successor recovers, and whoever waits is answered as DESIGN.md promises.

A crash point is a moment before a store to shared memory or a system call, of
any thread; on short functions, each instruction (crash_point.c says why these
are all).  Each path is recorded once, and then walked again for every point
that is chosen, by the same governor: what one death leaks, the next one shows.

usage: 20-rgovd-instructions.py [--points N | --every] [WORD...]

--points N  so many on each path and engine (default 20); --every: all of them.
RGOV_LOOP: that engine only.
"""

from daemon_rig import *

POINTS = 20
RIGS = 2  # for each engine at a time: most of a walk is waiting
ENGINES = ([os.environ["RGOV_LOOP"]] if os.environ.get("RGOV_LOOP")
           else ["io_uring", "epoll"])


class Path:
    """Something that rgovd does, and those who wait beside it."""

    steps = ()     # short functions in which each instruction is a point
    starts = False  # the path begins with the start of rgovd itself
    linger_s = 0.0  # the path goes on after its last answer
    rig = {}        # other limits than the rig's own
    share = 1.0     # of the points that are wanted

    def stage(self, rig):
        """Before the path: what is out when rgovd dies."""
        rig.crowd = [rig.call(rig.two, "crowd", SLOW),
                     rig.call(rig.two, "crowd", SLOW, once=True)]
        wait_until(lambda: all(map(rig.is_at_sim, rig.crowd)),
                   what="two running calls", interval=0.002)
        rig.crowd += [rig.call(rig.two, "crowd"),
                      rig.call(rig.two, "crowd", once=True)]
        rig.held = rig.permit(rig.two, "holder")
        wait_until(lambda: rig.answered(rig.held), what="a permit",
                   interval=0.002)

    def act(self, rig):
        """The path itself; returns what it asked for."""
        raise NotImplementedError

    def finish(self, rig):
        """A successor is there: give back what is held."""
        rig.settle(rig.two, rig.held)


class Call(Path):
    "accept, issue and complete a call"
    once = False
    pad = 0

    def act(self, rig):
        return [rig.call(rig.one, "a", once=self.once, pad=self.pad)]


class CallOnce(Call):
    "the same for a call that must not be sent twice"
    once = True


class LargeCall(Call):
    "the same with a body that the helper thread reads"
    pad = 300_000


class Window(Path):
    "calls beyond the limit: some go, the rest wait for the window"
    # What a busy machine may delay a request is less than this guard.
    rig = {"rpm": 12, "minute": 0.7, "guard": 0.6}
    share = 0.4

    def act(self, rig):
        return [rig.call(rig.one, f"user-{n}") for n in range(14)]


class Publish(Call):
    "the same, and the lanes and users that are published after it"
    linger_s = 0.3


class CompleteSteps(Call):
    "each instruction of accepting, marking and answering a call"
    steps = ("ring_take", "door_complete")


class GrantSteps(Path):
    "each instruction of granting a permit"
    steps = ("door_grant", "board_add_start")

    def act(self, rig):
        rig.asked = rig.permit(rig.one, "a")
        return [rig.asked]

    def finish(self, rig):
        rig.wait_for_all()
        rig.settle(rig.one, rig.asked)
        super().finish(rig)


class Grant(GrantSteps):
    "accept and grant a permit"
    steps = ()


class Settle(Path):
    "take a permit back"
    linger_s = 0.05

    def stage(self, rig):
        super().stage(rig)
        rig.asked = rig.permit(rig.one, "a")
        wait_until(lambda: rig.answered(rig.asked), what="a permit",
                   interval=0.002)

    def act(self, rig):
        rig.settle(rig.one, rig.asked)
        return []


class SettleSteps(Settle):
    "each instruction of taking a permit back"
    steps = ("door_release", "show_request_gone")


class Late(Path):
    """what comes after a permit's time is over; its day tells whether it was
    charged once"""
    # Nothing else is held: it would end, too.
    rig = {"settings": 'permit_ttl = "1s"\n', "holds": False}
    linger_s = 0.05
    share = 0.4

    def stage(self, rig):
        self.take(rig)
        wait_until(lambda: rig.rgovd.stats()["counters"]["permits_expired"],
                   what="a permit that is overdue", interval=0.01)

    def take(self, rig):
        rig.asked = rig.permit(rig.one, "a", model=HELD)
        # What a death gets in the way of may stay charged as it was reserved.
        rig.due = USED, RESERVED

    def finish(self, rig):
        rig.wait_for_all()


class Expire(Late):
    "a permit's time passes"
    linger_s = 1.2

    def stage(self, rig):
        pass

    def act(self, rig):
        self.take(rig)
        # Where it dies between the board and GRANTED, the one that nobody got
        # stays charged, and another is given.
        rig.due = USED, RESERVED + USED
        return []

    def finish(self, rig):
        rig.wait_for_all()
        rig.settle(rig.one, rig.asked)


class SettleLate(Late):
    "take an overdue permit back"

    def act(self, rig):
        rig.settle(rig.one, rig.asked)
        return []


class SettleLateSteps(SettleLate):
    "each instruction of taking an overdue permit back"
    steps = ("policy_settle_overdue",)


class StartLate(Late):
    "a start: an overdue permit comes back, settled while nobody listened"
    starts = True

    def stage(self, rig):
        super().stage(rig)
        rig.rgovd.kill9()
        rig.settle(rig.one, rig.asked)

    def act(self, rig):
        return [rig.call(load, "b") for load in rig.loads]


class Divert(Call):
    "a call whose model fails goes on with another"
    rig = {"settings": '''max_attempts = 2
transient_backoff = "10ms"
backoff_cap = "40ms"
probe_ok_after = "20ms"
''' + f'model "{ILL}" {{ fallback = {{ "{FAST}" }} }}\n'}

    def act(self, rig):
        return [rig.call(rig.one, "a", ILL, once=self.once)]


class DivertOnce(Divert):
    "the same for a call that must not be sent twice"
    once = True


class Shadow(Path):
    "shadow mode: calls beyond the limit, which all pass"
    rig = {"settings": "shadow = true\n"}
    share = 0.5

    def act(self, rig):
        return [rig.call(rig.one, "a") for _ in range(2 * PER_USER)]


class CancelQueued(Path):
    "cancel a request that waits"

    def stage(self, rig):
        super().stage(rig)
        for _ in range(PER_USER):
            rig.call(rig.one, "full", SLOW)
        rig.asked = rig.call(rig.one, "full", may=("cancelled",))

    def act(self, rig):
        rig.one.say(f"cancel {rig.asked}")
        return [rig.asked]


class CancelRunning(Path):
    "cancel a call that runs"

    def stage(self, rig):
        super().stage(rig)
        rig.asked = rig.call(rig.one, "a", SLOW, may=("cancelled",))
        wait_until(lambda: rig.is_at_sim(rig.asked), what="a running call",
                   interval=0.002)

    def act(self, rig):
        rig.one.say(f"cancel {rig.asked}")
        return [rig.asked]


class Death(Path):
    "a client dies that has a permit, and calls that run and wait"
    linger_s = 0.05

    def stage(self, rig):
        super().stage(rig)
        rig.third = Load(rig.rgovd)
        permit, *calls = itertools.islice(rig.numbers, 4)
        rig.third.say(f"permit {permit} a 100 {FAST}")
        for number in calls:
            rig.third.say(f"call {number} b {SLOW} again 0")
        wait_until(lambda: permit in rig.third.answers, what="a permit",
                   interval=0.002)

    def act(self, rig):
        rig.third.end()
        return []


class Register(Path):
    "a new client: HELLO to its first permit"

    def act(self, rig):
        rig.third = Load(rig.rgovd)
        rig.asked = rig.permit(rig.third, "a")
        return [rig.asked]

    def finish(self, rig):
        rig.wait_for_all()
        rig.third.end()
        super().finish(rig)


class Reload(Path):
    "SIGHUP with another limit"

    def act(self, rig):
        rig.rgovd.write_config(rig.config
                               + f"max_queued = {next(rig.numbers) + 5000}\n")
        rig.rgovd.process.signal(signal.SIGHUP)
        return []

    linger_s = 0.1


class Start(Path):
    """a start: the board is made and published, the sessions come back with
    what waits, runs, is held and was settled meanwhile"""
    starts = True

    def stage(self, rig):
        super().stage(rig)
        rig.asked = rig.permit(rig.one, "a")
        rig.other = rig.call(rig.one, "b", SLOW)
        wait_until(lambda: rig.answered(rig.asked), what="a permit",
                   interval=0.002)
        rig.rgovd.kill9()
        rig.settle(rig.one, rig.asked)

    def act(self, rig):
        return [*rig.crowd, rig.other]


class RecoverSteps(Start):
    "each instruction of looking at the slots of a session that is back"
    steps = ("ring_recover",)


PATHS = [Call, CallOnce, LargeCall, Window, Publish, CompleteSteps, Grant, GrantSteps,
         Settle, SettleSteps, Expire, SettleLate, SettleLateSteps, StartLate,
         Divert, DivertOnce, Shadow, CancelQueued, CancelRunning, Death, Register,
         Reload, Start, RecoverSteps]


# ---------------------------------------------------------------- walking

def walk_running(path, rig, n):
    tracer = CrashPoint(n, rig.rgovd.process.pid, path.steps)
    asked = path.act(rig)
    end = time.monotonic() + HANG_S
    while not tracer.is_over() and time.monotonic() < end \
            and not all(map(rig.answered, asked)):
        time.sleep(0.002)
    linger = time.monotonic() + path.linger_s + 0.01
    while not tracer.is_over() and time.monotonic() < linger:
        time.sleep(0.002)
    told = tracer.end()
    rig.rgovd.kill9()  # it is dead already: reaped
    return told


def walk_start(path, rig, n):
    rig.rgovd.wrapper = CrashPoint.argv(n, path.steps)
    out = rig.rgovd.scratch.path / "rgovd.log"
    at = out.stat().st_size if out.exists() else 0
    try:
        rig.rgovd.start(wait=False)
    finally:
        rig.rgovd.wrapper = ()
    asked = path.act(rig)
    end = time.monotonic() + HANG_S
    tracer = rig.rgovd.process
    while tracer.alive() and time.monotonic() < end \
            and not all(map(rig.answered, asked)):
        time.sleep(0.002)
    tracer.signal(signal.SIGTERM)
    tracer.wait()
    lines = out.read_bytes()[at:].decode(errors="replace").splitlines()
    return judge_tracer("\n".join(
        l for l in lines if re.match(r"\d+ (call|store|step) |killed |ended ",
                                     l)))


def walk(path, rig, n):
    """The path once, killed at its n-th point; then a successor, and the
    judge.  Returns the points that were listed and the one that was met."""
    rig.where = f"{type(path).__name__} {rig.loop} point {n}"
    path.stage(rig)
    listed, killed = (walk_start if path.starts else walk_running)(
        path, rig, n)
    if killed:
        rig.where = f"{type(path).__name__} {rig.loop} {killed}"
    rig.rgovd.start()
    rig.judge_first_moment()
    path.finish(rig)
    rig.judge(deaths=2 if path.starts else 1)
    return listed, killed


def choose(points, wanted):
    """Every place of the program at least once, then evenly."""
    if wanted is None or len(points) <= wanted:
        return [p.n for p in points]
    first = {}
    for point in points:
        first.setdefault(point.place, point.n)
    chosen = sorted(first.values())
    if len(chosen) > wanted:
        chosen = [chosen[i * len(chosen) // wanted] for i in range(wanted)]
    rest = [p.n for p in points if p.n not in chosen]
    missing = wanted - len(chosen)
    chosen += [rest[i * len(rest) // missing] for i in range(missing)]
    return sorted(chosen)


def walk_points(kind, loop, wanted, part):
    """One rig's part of the chosen points, after it has listed them."""
    path, kills = kind(), set()
    with Rig(loop, **path.rig) as rig:
        points, _ = walk(path, rig, 0)
        chosen = choose(points, wanted and round(wanted * path.share))
        for n in chosen[part::RIGS]:
            _, killed = walk(path, rig, n)
            kills.add(killed.n if killed else "end")
    return points, kills, rig.violations


def tell(kind, loop, begin, parts):
    points = parts[0][0]
    kills = set().union(*(k for _, k, _ in parts))
    violations = [v for _, _, found in parts for v in found]
    row(path=kind.__name__, engine=loop, points=len(points),
        places=len({p.place for p in points}), kills=len(kills),
        violations=len(violations),
        seconds=f"{time.monotonic() - begin:.1f}")
    count("daemon_kills", len(kills))
    count("violations", len(violations))
    return violations


def survive(kind, wanted):
    need_ptrace()
    begin = time.monotonic()
    jobs = [(loop, part) for loop in ENGINES for part in range(RIGS)]
    results = in_parallel([lambda job=job: walk_points(kind, job[0], wanted,
                                                       job[1])
                           for job in jobs])
    violations = []
    for loop in ENGINES:
        parts = [r for (l, _), r in zip(jobs, results)
                 if l == loop and not isinstance(r, Exception)]
        if parts:
            violations += tell(kind, loop, begin, parts)
    for result in results:
        if isinstance(result, Exception):
            raise result
    check(not violations, f"{len(violations)} violations, the first: "
          + "\n     ".join(violations[:10]))


def main():
    wanted = POINTS
    if "--every" in sys.argv:
        sys.argv.remove("--every")
        wanted = None
    if "--points" in sys.argv:
        at = sys.argv.index("--points")
        wanted = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    for kind in PATHS:
        checks.add(kind.__name__, lambda kind=kind: survive(kind, wanted))
    checks.main()


main()
