#!/usr/bin/python3 -B
"""Processes of different layouts refuse each other with words that help, and
misread nothing (invariant 12); inspectors change nothing (invariant 13).

The other build is this one with another seed in its layout hash: the same in
all else, so that what keeps them apart is the check alone.
"""

import pty
import random

from campaign import *
from worker import *

SEED = (0xcbf29ce484222325).to_bytes(8, "little")  # shm-layout/shm_layout.c
OTHER_SEED = (0xcbf29ce484222326).to_bytes(8, "little")
PROGRAMS = ("rgovd", "rgov", "rgov-top", "tests/c_client")
FEW = limits(rpm=50000, concurrency=4, per_user=4)


class OtherBuild:
    """A folder as build/, of another layout."""

    def __enter__(self):
        self.scratch = Scratch()
        self.path = self.scratch.path
        for name in PROGRAMS:
            (self.path / name).parent.mkdir(exist_ok=True)
            program = (BUILD / name).read_bytes()
            if SEED not in program:
                raise Skip(f"the seed of the layout hash is not in {name}")
            (self.path / name).write_bytes(program.replace(SEED, OTHER_SEED))
            (self.path / name).chmod(0o755)
        check(layout_of(self.path) != layout_of(BUILD), "another layout")
        return self

    def __exit__(self, *_):
        self.scratch.remove()


def layout_of(build):
    """The 16 digits that its programs print."""
    found = {re.search(r"\(([0-9a-f]{16})\)", run(
        [build / name, "--version"]).stdout)[1]
        for name in ("rgov", "rgov-top")}
    equal(len(found), 1, f"layouts of one build: {found}")
    return found.pop()


class Built(Rgovd):
    """An rgovd of one build or another."""

    build = BUILD

    def argv(self):
        return [self.build / "rgovd", *super().argv()[1:]]


def call_from(build, rgovd):
    """What a C client of that build is told about its one call."""
    done = run([build / "tests/c_client", 1, 1], env=rgovd.client_env())
    return json.loads(done.stdout.splitlines()[0])


def check_words(text, *layouts):
    check("layout" in text and all(one in text for one in layouts)
          and "restart every process" in text, f"words that help: {text}")


@checks.cases(("client", False), ("rgovd", True))
def another_layout_is_refused(_who, is_rgovd):
    """One of the two is of another build: the client's call fails and says why,
    rgovd's log names both layouts, and its own kind is served."""
    with OtherBuild() as other, Sim() as sim:
        rgovd = Built(FEW, sim=sim)
        if is_rgovd:
            rgovd.build = other.path
        builds = [BUILD, other.path] if is_rgovd else [other.path, BUILD]
        with rgovd:
            for _ in range(3):
                told = call_from(builds[0], rgovd)
                equal(told["rc"], -71, f"EPROTO: {told}")
                check_words(told["why"])
            check_words(rgovd.process.text(), *map(layout_of, builds))
            told = call_from(builds[1], rgovd)
            equal((told["rc"], told["status"]), (0, 200), f"its kind: {told}")
            equal(sim.report()["arrivals"], 1, "arrivals")


@checks.cases(("rgov-top", ["rgov-top", "--once"]),
              ("rgov-top-json", ["rgov-top", "--json"]),
              ("rgov-stats", ["rgov", "stats"]),
              ("rgov-reload", ["rgov", "reload"]))
def another_inspector_is_refused(name, words):
    """In both directions: it shows no figure, and says that the layouts
    differ."""
    with OtherBuild() as other, Sim() as sim:
        for own, theirs in ((BUILD, other.path), (other.path, BUILD)):
            rgovd = Built(FEW, sim=sim)
            rgovd.build = own
            with rgovd:
                done = run([theirs / words[0], *words[1:]],
                           env=rgovd.tool_env())
                equal(done.returncode, 69, f"status of {done}")
                equal(done.stdout, "", "figures")
                check("layout" in done.stderr, f"words: {done.stderr}")
                done = run([own / words[0], *words[1:]], env=rgovd.tool_env())
                equal(done.returncode, 0, f"its own kind: {done.stderr}")


@checks.test
def a_successor_of_another_layout_misreads_nothing():
    """rgovd is killed, and one of another layout takes its place: it believes
    nothing of the old board, the waiting call of a client ends with words about
    the layout; back at the first build, the same client is served again."""
    with OtherBuild() as other, \
            Sim(extra=["--fault-model", "slow=hang"]) as sim, \
            Built(FEW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.invoke().expect("Reply")
        waiting = worker.invoke("slow", timeout=20)
        wait_until(lambda: rgovd.stats()["active_requests"] == 1,
                   what="the waiting call")
        rgovd.kill9()
        rgovd.build = other.path
        rgovd.start()
        told = waiting.result()
        equal(told["type"], "Unavailable", f"type of {told}")
        again = worker.invoke(timeout=5).result()
        equal(again["type"], "Unavailable", f"type of {again}")
        check_words(again["text"], layout_of(BUILD), layout_of(other.path))
        check("event=board.unreadable" in rgovd.process.text(),
              "the old board is not believed")
        rgovd.kill9()
        rgovd.build = BUILD
        rgovd.start()
        worker.invoke().expect("Reply")


# ---------------------------------------------------------------- inspectors

class Top:
    """rgov-top at a terminal of its own."""

    def __init__(self, rgovd):
        self.master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [BUILD / "rgov-top", "--delay", "0.1"], stdin=terminal,
            stdout=terminal, stderr=terminal, start_new_session=True,
            env=dict(rgovd.tool_env(), TERM="xterm"))
        os.close(terminal)
        self.seen = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(OSError):  # EIO: it has ended
            while data := os.read(self.master, 1 << 16):
                self.seen = data

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def mappings_of(pid, name):
    return [line.split()[1] for line in
            pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines()
            if f"rgov.{name}" in line]


def descriptors_of(process):
    """0 where that is not for us to see."""
    try:
        return len(os.listdir(f"/proc/{process.pid}/fd"))
    except PermissionError:
        return 0


@checks.test
def inspectors_change_nothing():
    """Six rgov-top are stopped, continued and killed in any order while calls
    run: every call is answered at its first attempt by a wake, rgovd has no
    descriptor more, and the board is as sound as ever.  None of them could have
    written to it."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    dice = random.Random(seed)
    row(seed=seed)
    with Sim(latency="fixed:0.01") as sim, Rgovd(FEW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.invoke().expect("Reply")
        descriptors = descriptors_of(rgovd.process)
        tops = [Top(rgovd) for _ in range(6)]
        try:
            for top in tops:
                wait_until(lambda: top.seen, what="a picture of rgov-top")
                equal(set(mappings_of(top.process.pid, rgovd.name)), {"r--s"},
                      "rights of its mappings of the board")
            for _ in range(60):
                call = worker.invoke(user=f"u{dice.randrange(3)}")
                victim = dice.choice(tops).process
                if victim.poll() is None:
                    victim.send_signal(dice.choice(
                        [signal.SIGSTOP, signal.SIGCONT] * 4
                        + [signal.SIGKILL]))
                equal(call.expect("Reply")["attempts"], 1, "attempts")
        finally:
            for top in tops:
                top.end()
        told = worker.say("diagnose").result()
        equal(told["found_by_slice"], 0, "answers that no wake told of")
        equal(descriptors_of(rgovd.process), descriptors, "descriptors")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        done = run([BUILD / "tests/board_check", rgovd.name, "quiet"])
        equal(done.returncode, 0, f"board_check quiet ({done.stdout})")


checks.main()
