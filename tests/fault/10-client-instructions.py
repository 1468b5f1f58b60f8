#!/usr/bin/python3 -B
"""A client is killed after every instruction of every path through librgov.

One rgovd and one simulator serve all kills, so that a leak adds up and shows.
After each kill an honest client gets its own answer, and what the dead one had
is back: descriptors, maps and memory of rgovd, queue entries, running requests,
permits, reserved tokens.  At the end the simulator's log is the judge: every
body that it saw is one that was submitted, and it saw it once.

How the places are reached: common/walk.h.  What the paths are:
common/client_path.c.  Two are not killed after every instruction unless --all is
given: `register` (where the hash of the layout is worked out once, in a loop of
40,000; `register-again` is the same without) and `restart` (each kill needs a
restart of rgovd; `reattach` is the same without).
"""

import ctypes
import subprocess
import time

from campaign import *

ALL = "--all" in sys.argv
sys.argv = [word for word in sys.argv if word != "--all"]

# path: every n-th instruction
PATHS = {
    "submit": 1, "submit-queued": 1, "submit-large": 1,
    "wait-asleep": 1, "wait-running": 1, "wait-done": 1, "collect-large": 1,
    "look": 1, "cancel-queued": 1, "cancel-running": 1, "abandon": 1,
    "permit": 1, "settle": 1, "close-idle": 1, "close-all": 1,
    "register": 1 if ALL else 11, "register-again": 1, "reattach": 1,
    "fork-child": 1, "fork-parent-dies": 1, "raw-fork-parent-dies": 1,
}
SPINNING = ("submit", "wait-asleep", "wait-done", "permit-again",
            "cancel-queued")

SETTINGS = """
log_level = "warn"
spin_us = {spin_us}
max_sessions = 4096
upstream "bedrock" {{
	endpoint = "{endpoint}"
	region = "us-east-1"
	idle_close = "1s"
}}
model "busy.*" {{
	max_concurrent_requests = 1
	tokens_per_minute = 1000000000
}}
model "*" {{ tokens_per_minute = 1000000000 }}
"""
# Names of the bodies beside those of their path.  The bodies of some are sent
# again on purpose: their requests are idempotent, and rgovd died, or seemed to,
# when they had been sent.
MORE_NAMES = {"close-all": ["close-all-running"],
              "reattach": ["reattach-running"],
              "fork-child": ["fork-parent"],
              "fork-parent-dies": ["witness", "parent-queued"],
              "raw-fork-parent-dies": ["witness", "parent-queued"]}
REISSUED = ("reattach-running", "restart")
NUMBERS = 1000000  # bodies of one run, at most
RESIDENT_GROWTH_KB = 4096
PAUSE_MS = 5500  # above every time-out that concerns a session


def simulator():
    return Sim(extra=["--fault-model", "hang.*=hang",
                      "--output-tokens", "80000,80000"])


def governor(sim, spin_us=0, kind=Rgovd):
    return kind(limits(60000, 500, per_user=500, minute=1.0, guard=0.05)
                + SETTINGS.format(endpoint=sim.url, spin_us=spin_us))


def digest(name, number):
    """Of the body that client_path.c submits under that name and number."""
    tokens = 80000 if name == "collect-large" else 5
    pad = (',"pad":"' + 300000 * "a" + '"'
           if name in ("collect-large", "submit-large") else "")
    body = f'{{"max_tokens":{tokens},"path":"{name}","n":{number}{pad}}}'
    return hashlib.sha256(body.encode()).hexdigest()


class Walker:
    """A program of the campaign on its way; it is told when rgovd is new, and
    what it says is kept."""

    first = 1  # number of the next one's first body

    def __init__(self, rgovd, program, path, *arguments):
        self.rgovd, self.path = rgovd, path
        self.first, Walker.first = Walker.first, Walker.first + NUMBERS
        self.answers, self.said, self.result = [], [], None
        self.popen = subprocess.Popen(
            [str(a) for a in (FAULT_BUILD / program, rgovd.name, path,
                              self.first, *arguments)],
            env=rgovd.client_env(), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=die_with_parent)

    def run(self):
        begin = time.monotonic()
        try:
            for line in self.popen.stdout:
                self.hear(line.strip())
            status = self.popen.wait()
        finally:
            self.popen.kill()
            self.popen.wait()
        if any("no ptrace here" in line for line in self.said):
            raise Skip("this process may not trace its children")
        check(self.result is not None and status in (0, 1),
              f"client_paths {self.path} ended with status {status}")
        self.result["seconds"] = round(time.monotonic() - begin, 1)
        return self

    def hear(self, line):
        word = line.partition(" ")[0]
        if word == "answer":
            self.answers.append(line.split()[1:])
        elif word == "restart":
            self.rgovd.restart()
            self.popen.stdin.write("\n")
            self.popen.stdin.flush()
        elif word.startswith("{"):
            self.result = json.loads(line)
        else:
            self.said.append(line)
            print("     " + line, flush=True)

    def submitted(self):
        """{digest: name} of every body that may have been submitted."""
        names = {digest("honest", n): "honest" for n in
                 range(self.first, self.first + self.result["honest"] + 1)}
        for name in [self.path, *MORE_NAMES.get(self.path, [])]:
            names |= {digest(name, n): name
                      for n in range(self.first, self.result["next"])}
        return names

    def wrong_answers(self):
        """How many answers are not for the body that was sent."""
        wrong = [(name, number) for name, number, said in self.answers
                 if said != digest(name, int(number))]
        for name, number in wrong[:5]:
            print(f"     violation: {name} {number}: another's answer")
        return len(wrong)


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def judge_upstream(sim, walkers):
    """How many bodies the simulator saw that nobody submitted, or twice."""
    names, seen = {}, {}
    for walker in walkers:
        names |= walker.submitted()
    for event in sim.events():
        sha = event["body_sha256"]  # "": its client died in the middle of it
        if event["event"] == "arrival" and sha:
            seen[sha] = seen.get(sha, 0) + 1
    check(len(seen) >= len(walkers), "the simulator has a log")
    foreign = [sha for sha in seen if sha not in names]
    twice = [names[sha] for sha, times in seen.items() if times > 1
             and sha in names and names[sha] not in REISSUED]
    for sha in foreign[:5]:
        print(f"     violation: nobody submitted the body {sha}")
    for name in twice[:5]:
        print(f"     violation: a body of {name} was sent twice")
    return len(foreign) + len(twice)


class Rest:
    """What rgovd has at rest: all of its descriptors, and its heap."""

    def __init__(self, rgovd):
        self.rgovd = rgovd
        wait_until(self.is_at_rest, what="the idle connections' end")
        self.descriptors = self.count()
        self.resident_kb = self.resident()

    def is_at_rest(self):
        connections = run(["ss", "-tnpH"]).stdout \
            if shutil.which("ss") else ""
        return f"pid={self.rgovd.process.pid}," not in connections \
            and self.rgovd.stats()["sessions"] == 0

    def count(self):
        return len(os.listdir(f"/proc/{self.rgovd.process.pid}/fd"))

    def resident(self):
        status = pathlib.Path(f"/proc/{self.rgovd.process.pid}/status")
        return int(re.search(r"VmRSS:\s*(\d+)", status.read_text())[1])

    def compare(self):
        """How many of these are not back; waits for them."""
        try:
            wait_until(lambda: self.is_at_rest()
                       and self.count() <= self.descriptors, timeout=15,
                       what="rgovd's descriptors")
        except Failed:
            print(f"     violation: {self.count()} descriptors at the end, "
                  f"{self.descriptors} before")
            return 1
        grown = self.resident() - self.resident_kb
        print(f"     rgovd has grown by {grown} KiB", flush=True)
        if grown > RESIDENT_GROWTH_KB:
            print(f"     violation: rgovd has grown by {grown} KiB")
            return 1
        return 0


def needs_to_look_into_rgovd():
    if os.geteuid() != 0:
        raise Skip("looks into rgovd's descriptors: needs root")


def walk(rgovd, paths):
    """Kills on each path; returns the walkers."""
    walkers = []
    for path, every in paths.items():
        walker = Walker(rgovd, "client_paths", path, every).run()
        result = dict(walker.result)
        result["violations"] += walker.wrong_answers()
        count("client_instruction_kills", result["kills"] + result["inside"])
        count("violations", result["violations"])
        walker.violations = result["violations"]
        result["kills"] = f"{result['kills']}+{result.pop('inside')}"
        result.pop("next")
        row(**result, every=every)
        walkers.append(walker)
    return walkers


def conclude(sim, rgovd, walkers, rest=None):
    violations = judge_upstream(sim, walkers)
    if rest is not None:
        violations += rest.compare()
    log = rgovd.process.text()
    for line in [line for line in log.splitlines()
                 if "level=error" in line or "session.expelled" in line][:5]:
        print("     violation: rgovd says " + line)
        violations += 1
    count("violations", violations)
    equal(violations + sum(w.violations for w in walkers), 0, "violations")


@checks.test
def nothing_is_left_of_a_client_killed_at_any_instruction():
    """Submit, wait, collect, cancel, permit, settle, close, registration,
    reattachment, first use after a fork; and a parent whose child lives on."""
    needs_to_look_into_rgovd()
    with simulator() as sim, governor(sim) as rgovd:
        # Once over it all, so that caches and pools are what they will be.
        walkers = [Walker(rgovd, "client_paths", "close-all", 100).run()]
        walkers[0].violations = walkers[0].result["violations"]
        rest = Rest(rgovd)
        walkers += walk(rgovd, PATHS)
        conclude(sim, rgovd, walkers, rest)


@checks.test
def nothing_is_left_of_one_killed_while_both_sides_spin():
    "The same where rgovd polls and clients spin before they sleep."
    needs_to_look_into_rgovd()
    with simulator() as sim, governor(sim, spin_us=50) as rgovd:
        walkers = walk(rgovd, {path: 1 if ALL else 13 for path in SPINNING})
        conclude(sim, rgovd, walkers)


@checks.test
def nothing_is_left_of_one_killed_while_it_follows_a_restart():
    """rgovd is killed while the client sleeps; the client is killed on its way
    to the successor and back to sleep."""
    needs_to_look_into_rgovd()
    with simulator() as sim, governor(sim) as rgovd:
        walkers = walk(rgovd, {"restart": 1 if ALL else 97})
        conclude(sim, rgovd, walkers)


@checks.cases(("submit", 1, "served"), ("permit", 13, "served"),
              ("register-patiently", 31, "any"))
def a_stopped_client_is_not_a_dead_one(path, every, kept):
    """Clients stopped after each instruction of a submit stand for longer than
    any time-out of rgovd's (the handshake's 5 s is the longest that could end a
    session); nobody else waits, and then each gets its answer."""
    needs_to_look_into_rgovd()
    with simulator() as sim, governor(sim) as rgovd:
        walker = Walker(rgovd, "client_paused", path, 1 if ALL else every,
                        PAUSE_MS, kept).run()
        walker.violations = (walker.result["violations"]
                             + walker.wrong_answers())
        row(**walker.result, every=every)
        count("violations", walker.violations)
        conclude(sim, rgovd, [walker])


class SanitizedRgovd(Rgovd):
    def argv(self):
        return [BUILD / "asan/rgovd", *super().argv()[1:]]


@checks.test
def a_sanitized_rgovd_finds_nothing_wrong():
    """Every path again, against rgovd with AddressSanitizer, which also tells
    at its end what was lost."""
    needs_to_look_into_rgovd()
    if not (BUILD / "asan/rgovd").exists():
        raise Skip("no sanitized rgovd: make build-faults")
    with simulator() as sim, governor(sim, kind=SanitizedRgovd) as rgovd:
        walkers = walk(rgovd, {path: 31 * every
                               for path, every in PATHS.items()})
        conclude(sim, rgovd, walkers)


checks.main()
