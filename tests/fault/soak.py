#!/usr/bin/python3 -B
"""A soak: mixed load and random faults for a while, with points of quiet between.
At each of them everything is back at the start, and over those without a restart
of rgovd nobody's memory grows.

usage: soak.py [--minutes N]        (10)

The load: lean clients that come, fork, exec and are killed; gunicorn with users;
clients that last, with threads, asyncio and gevent.  The faults: kills, stops,
restarts of rgovd in the first third, reloads, a provider that fails, strangers
who talk nonsense at the socket.  The log of the simulator is the judge here too.
"""

import argparse
import importlib.util

from storm_web import *

ROUND_S = 60.0
CLIENTS, THREADS = 5, 4
CLEAN_ROUNDS_AT_LEAST = 3

PROVIDER = [word for fault in (
    "503:0.01", "500:0.005", "429:0.003", "reset:0.005", "truncated:0.003",
    "garbage:0.002", "slow-headers:1:0.005", "close-reused:0.003")
    for word in ("--fault", fault)]
# What that may come to, when the retries are used up.
TOLD = {"upstream error", "upstream failed", "502", "429"}

CONFIG_MORE = """
throttle_backoff = "50ms"
probe_ok_after = "100ms"
"""

# What a quiet process may have more at the end than at any quiet point of the
# first half: a heap keeps its highest mark, and how many large requests were in
# it at once is chance.
GROWTH_KIB = {"rgovd": 1024, "threads": 2048, "asyncio": 2048, "gevent": 2048}
# With fewer quiet points the warm-up is not over: told, and not judged.
POINTS_AT_LEAST = 6


def heap_kib(pid):
    """What a process alone holds: anonymous memory, no files and no memfds."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)[1])


# ---------------------------------------------------------------- who lasts

class Lasting:
    """A client that lives through all of it (soak_client.py)."""

    def __init__(self, storm, kind, first):
        self.kind = kind
        self.journal = storm.rgovd.scratch.path / f"{kind}.journal"
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(90)
        with theirs:
            self.process = Process(
                kind, [PYTHON, "-B", ROOT / "tests/fault/soak_client.py",
                       kind, first, self.journal, theirs.fileno()],
                storm.rgovd.scratch.path / f"{kind}.log",
                env=storm.rgovd.client_env(), pass_fds=(theirs.fileno(),))
        self.answers = self.socket.makefile("rb")

    def go(self):
        self.socket.sendall(b"go\n")

    def rest(self):
        self.socket.sendall(b"rest\n")
        line = self.answers.readline()
        check(line, f"the client {self.kind} has ended:\n{self.process.tail()}")
        return json.loads(line)

    def end(self):
        self.answers.close()
        self.socket.close()
        equal(self.process.wait(), 0, f"status of {self.kind}")

    def lines(self):
        for line in self.journal.read_text().splitlines():
            yield line.split()


def lasting_kinds():
    kinds = ["threads", "asyncio"]
    if importlib.util.find_spec("gevent"):
        kinds.append("gevent")
    return kinds


# ---------------------------------------------------------------- faults

def talk_nonsense(storm):
    """A stranger at rgovd's socket: random messages, then gone, or silent for a
    while."""
    with contextlib.suppress(OSError), \
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.settimeout(1)
        stranger.connect(str(storm.rgovd.socket))
        for _ in range(storm.random.randrange(3)):
            stranger.send(storm.random.randbytes(
                storm.random.choice((1, 8, 64, 200, 4000))))
        time.sleep(storm.random.uniform(0, 0.05))


def reload(storm):
    """Limits within those the judge knows; now and then nonsense, which is
    refused."""
    good = storm.config_text(
        concurrency=storm.random.randint(CONCURRENCY - 2, CONCURRENCY),
        rpm=storm.random.randint(RPM - 60, RPM))
    storm.rgovd.write_config(
        "nonsense = 1\n" if storm.chance(0.2) else good)
    storm.rgovd.process.signal(signal.SIGHUP)
    storm.pause(0.1)
    storm.rgovd.write_config(good)  # a successor reads it


def any_client(storm, pool, web):
    if storm.chance(0.7):
        pool.strike()
    else:
        web.strike(storm.random.choice((signal.SIGKILL, signal.SIGABRT)))


def any_stop(storm, pool, web):
    storm.random.choice((pool, web)).suspend(1.0)


FAULTS = {  # weight of each
    any_client: 60,
    any_stop: 15,
    lambda storm, *_: reload(storm): 10,
    lambda storm, *_: talk_nonsense(storm): 15,
}
RESTART = {lambda storm, *_: storm.restart_rgovd(): 25}


def load_for(storm, lasting, seconds, faults, calls):
    """One round: load and faults, then everybody finishes."""
    end = time.monotonic() + seconds
    with Web(storm, storm.random.choice(("sync", "gthread"))) as web:
        pool = Pool(storm, CLIENTS, THREADS)
        for one in lasting:
            one.go()
        while time.monotonic() < end:
            fault = storm.random.choices(
                list(faults), list(faults.values()))[0]
            fault(storm, pool, web)
            storm.pause(0.2)
        web.end()
        pool.end()
    excused = set()
    for found, gone in (web.calls(), storm_judge.calls_of(pool.lines())[:2]):
        calls.update(found)
        excused |= gone
    return excused


# ---------------------------------------------------------------- quiet

def with_sessions(storm, n):
    """What rgovd holds at its start, and n sessions."""
    held = collections.Counter(storm.at_start)
    held.update({"sessions": n, "maps": 2 * n, "socket:[]": n,
                 "anon_inode:[pidfd]": n, "/memfd:rgov:client-bodies": n,
                 "/memfd:rgov:daemon": n, "/memfd:rgov:daemon-bodies": n})
    return dict(held)


def rest(storm, lasting):
    """A quiet point: the memory of each who lasts, in KiB."""
    for one in lasting:
        said = one.rest()
        if said["found_by_slice"] > CLIENTS * len(storm.deaths_ns):
            storm.violations.append(f"{one.kind} found "
                                    f"{said['found_by_slice']} by looking")
    storm.check_quiet(with_sessions(storm, len(lasting)))
    heaps = {"rgovd": heap_kib(storm.rgovd.process.pid)}
    heaps |= {one.kind: heap_kib(one.process.pid) for one in lasting}
    return heaps


def check_flat(storm, points):
    """Over the quiet points since rgovd was last restarted."""
    for who, allowed in GROWTH_KIB.items():
        series = [point[who] for point in points if who in point]
        row(heap=who, KiB="..".join(map(str, series[:1] + series[-1:])),
            highest=max(series, default=0), quiet_points=len(series))
        first_half = series[:len(series) // 2]
        if (len(series) >= POINTS_AT_LEAST
                and series[-1] > max(first_half) + allowed):
            storm.violations.append(
                f"7: the memory of {who} grew: {series} KiB")


def plan(minutes):
    """The rounds: True, rgovd is restarted in it; those come first."""
    rounds = max(CLEAN_ROUNDS_AT_LEAST + 1, round(minutes * 60 / ROUND_S))
    restarts = max(1, min(rounds // 3, rounds - CLEAN_ROUNDS_AT_LEAST))
    return minutes * 60 / rounds, [i < restarts for i in range(rounds)]


def soak(minutes):
    seconds, rounds = plan(minutes)
    calls, excused, points = {}, set(), []
    with Storm(config=CONFIG_MORE, sim_extra=PROVIDER) as storm:
        lasting = [Lasting(storm, kind, (n + 1) * 10**12)
                   for n, kind in enumerate(lasting_kinds())]
        for number, restarts in enumerate(rounds):
            faults = FAULTS | RESTART if restarts else FAULTS
            excused |= load_for(storm, lasting, seconds, faults, calls)
            heaps = rest(storm, lasting)
            points += [] if restarts else [heaps]
            row(round=f"{number + 1}/{len(rounds)}", restarts=restarts,
                kills=storm.n_kills(), requests=len(calls),
                **{f"{who}_KiB": kib for who, kib in heaps.items()},
                descriptors=sum(descriptors(storm.rgovd.process.pid).values()),
                violations=len(storm.violations))
        for one in lasting:
            one.end()
            calls |= storm_judge.calls_of(one.lines())[0]
        storm.check_quiet()
        check_flat(storm, points)
        storm.verdict(f"soak_of_{minutes:g}_minutes",
                      storm.judge(calls, excused, TOLD))


def main():
    words = argparse.ArgumentParser(description="mixed load, random faults")
    words.add_argument("--minutes", type=float, default=10, metavar="N")
    minutes = words.parse_args().minutes
    sys.argv[1:] = []
    checks.add("soak", lambda: soak(minutes))
    checks.main()


main()
