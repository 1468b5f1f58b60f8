#!/usr/bin/python3 -B
"""Clocks and pauses: the wall clock jumps by years, and processes stand still for
longer than any time-out.  No window at the provider is above the limit, nothing
is lost, nothing ends early.
"""

from shortage import *

RPM, MINUTE_S = 12, 1.0
QUOTA = limits(RPM, 20, 20, minute=MINUTE_S)
CALLERS = 4


def faketime_library():
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        raise Skip("libfaketime is not installed")
    if BUILD.name == "asan":
        raise Skip("a sanitizer wants to be loaded first")
    return found[0]


class WallClock:
    """CLOCK_REALTIME of those who carry env(): the true one plus an offset, and
    only that clock."""

    def __init__(self):
        self.library = faketime_library()

    def __enter__(self):
        self.scratch = Scratch()
        self.file = self.scratch.path / "offset"
        self.set("+0")
        return self

    def __exit__(self, *_):
        self.scratch.remove()

    def set(self, offset):
        written = self.scratch.path / "new"
        written.write_text(offset + "\n")
        written.rename(self.file)

    def env(self):
        return {"LD_PRELOAD": self.library, "FAKETIME_NO_CACHE": 1,
                "FAKETIME_TIMESTAMP_FILE": self.file,
                "FAKETIME_DONT_FAKE_MONOTONIC": 1, "DONT_FAKE_MONOTONIC": 1}


class Load:
    """C clients with calls, one after the other; each answer is kept."""

    def __init__(self, rgovd, calls, **env):
        self.expected = CALLERS * calls
        self.process = Process(
            "c_client", [BUILD / "tests/c_client", CALLERS, calls],
            rgovd.scratch.path / "load.log", env=rgovd.client_env(**env))

    def answers(self):
        lines = map(json.loads, self.process.text().splitlines())
        return [line for line in lines if "n" in line]

    def wait(self):
        equal(self.process.wait(90), 0, "the clients' status")
        answers = self.answers()
        bad = [a for a in answers if a["result"] != "ok" or a["status"] != 200]
        equal(bad, [], "answers that are not good")
        equal(len(answers), self.expected, "answers")
        for answer in answers:
            body = b'{"max_tokens":5,"n":%d}' % answer["n"]
            equal(answer["text"][7:], hashlib.sha256(body).hexdigest(),
                  "the body that the answer is for")


def judge_provider(sim, calls):
    report = sim.report()
    equal(report["arrivals"], calls, "arrivals")
    equal(report["throttled"], 0, "throttled responses")
    most = report["max_arrivals_in_window"]
    if most > RPM:
        count("violations")
    check(most <= RPM, f"{most} starts in a window of {RPM}")
    return most


def check_that_it_jumped(rgovd, years):
    rgovd.process.signal(signal.SIGUSR2)
    then = time.gmtime(time.time() + years * 365 * 86400).tm_year
    wait_until(lambda: f"ts={then}-" in rgovd.process.text(),
               what=f"a line of the year {then} in the log")


@checks.test
def the_wall_clock_may_jump():
    """By years, forth and back, while requests wait and run, of rgovd and of its
    clients; one jump with a restart in it."""
    with WallClock() as clock, \
            Sim(rpm=RPM, minute=MINUTE_S, latency="fixed:0.2",
                auth="none") as sim, \
            Rgovd(QUOTA, sim=sim, env=clock.env()) as rgovd:
        load = Load(rgovd, 12, **clock.env())
        for offset in ("+5y", "-5y", "+3d", "-1h", "+70y", "+0"):
            seen = len(load.answers())
            wait_until(lambda: len(load.answers()) >= min(
                seen + 4, load.expected - 8), what="a few more answers")
            clock.set(offset)
            if offset == "+5y":
                check_that_it_jumped(rgovd, 5)
            if offset == "-1h":
                rgovd.restart()
        load.wait()
        again = sim.report()["arrivals"] - load.expected
        check(0 <= again <= CALLERS, f"{again} calls were made again")
        most = judge_provider(sim, load.expected + again)
        row(path="wall clock", jumps=6, answers=load.expected,
            most_in_a_window=f"{most}/{RPM}")
        check_quiet(rgovd)


@checks.cases(("rgovd",), ("clients",), ("everybody",))
def a_pause_loses_nothing(who):
    """Stopped for several windows of the quota, longer than a slice of a wait or
    an attempt to connect, and woken again; three times."""
    with Sim(rpm=RPM, minute=MINUTE_S, latency="fixed:0.1") as sim, \
            Rgovd(QUOTA, sim=sim) as rgovd:
        load = Load(rgovd, 9)
        stopped = {"rgovd": [rgovd], "clients": [load],
                   "everybody": [rgovd, load, sim]}[who]
        for _ in range(3):
            seen = len(load.answers())
            wait_until(lambda: len(load.answers()) >= min(
                seen + 3, load.expected - 8), what="a few more answers")
            for one in stopped:
                one.process.signal(signal.SIGSTOP)
            begin = time.monotonic()
            wait_until(lambda: time.monotonic() - begin > 2.5 * MINUTE_S,
                       what="the pause")
            for one in reversed(stopped):
                one.process.signal(signal.SIGCONT)
        load.wait()
        most = judge_provider(sim, load.expected)
        row(path="pause of " + who, pauses=3, answers=load.expected,
            most_in_a_window=f"{most}/{RPM}")
        check_quiet(rgovd)


@checks.test
def a_successor_that_stands_still_is_waited_for():
    """rgovd is killed, and its successor stopped for longer than the clients wait
    for one answer to a reattachment: they leave, come again, and have lost
    nothing."""
    with Rgovd(Reattach.CONFIG) as rgovd, Puppet(rgovd) as holder, \
            Puppet(rgovd) as waiter:
        path = Reattach(rgovd, holder, waiter)
        restart = rgovd.restart
        rgovd.restart = lambda: (restart(),
                                 rgovd.process.signal(signal.SIGSTOP))
        for _ in range(2):
            path.prepare()
            resumed = threading.Timer(
                2.5, lambda: rgovd.process.signal(signal.SIGCONT))
            resumed.start()
            answer = path.act()
            check(answer.is_good, f"{answer}")
        check_quiet(rgovd)


checks.main()
