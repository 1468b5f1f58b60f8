"""What 20-rgovd-instructions.py needs: an rgovd that is killed at crash points,
the clients that wait meanwhile, and the judge of what became of them.

Load is a client process (daemon_load.c), CrashPoint the tracer (crash_point.c),
Rig one governor with its simulator and its clients through all its deaths.
"""

import collections
import functools
import platform
import queue

from campaign import *

FAST, SLOW = "vendor.model-v1", "vendor.slow-v1"
ILL = "vendor.ill-v1"    # never answers but with 503
HELD = "vendor.held-v1"  # of permits alone: its day is their account
SLOW_S = 0.15
HANG_S = 12.0  # the requests' own deadline is at 20 s
PER_USER = 2
# Tokens of a permit: its input, that and the output it may have, what it used.
INPUT, RESERVED, USED = 100, 100 + 4096, 20

Answer = collections.namedtuple("Answer", "rc result status digest")


def body_of(number, pad):
    """The body that daemon_load sends for a call."""
    return (f'{{"max_tokens":5,"n":{number},"pad":"' + "x" * pad
            + '"}').encode()


def digest_of(body):
    return hashlib.sha256(body).hexdigest()


# ---------------------------------------------------------------- clients

class Load:
    """A client process that does what it is told, one line each."""

    def __init__(self, rgovd):
        self.answers = {}
        self.lines = queue.Queue()
        self.popen = subprocess.Popen(
            [FAULT_BUILD / "daemon_load"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=rgovd.client_env(),
            process_group=0)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.popen.stdout:
            words = line.split(maxsplit=4)
            if words[0].isdigit():
                # The result may have spaces; status and digest have none.
                rest = line.split(maxsplit=2)[2].rsplit(maxsplit=2)
                self.answers[int(words[0])] = Answer(
                    int(words[1]), rest[0], int(rest[1]), rest[2])
            else:
                self.lines.put(line.strip())

    def say(self, line):
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def check(self):
        """What shm_check finds in its session, and the slots it has taken."""
        self.say("check")
        findings = []
        while True:
            line = self.lines.get(timeout=HANG_S)
            if line.startswith("check "):
                slots = int(line.split()[2])
                return findings + ([f"{slots} slots taken"] if slots else [])
            findings.append(line)

    def end(self, number=signal.SIGKILL):
        self.popen.send_signal(number)
        self.popen.wait()


# ---------------------------------------------------------------- the tracer

@functools.cache
def syscall_names():
    names = {}
    for path in glob.glob("/usr/include/**/asm/unistd_64.h", recursive=True):
        for line in open(path):
            found = re.match(r"#define __NR_(\w+)\s+(\d+)", line)
            if found:
                names[int(found[2])] = found[1]
    return names


@functools.cache
def functions():
    """The functions of rgovd: [(offset, name)] in order."""
    text = run(["nm", "--defined-only", BUILD / "rgovd"]).stdout
    found = [l.split() for l in text.splitlines()]
    return sorted((int(f[0], 16), f[2]) for f in found
                  if len(f) == 3 and f[1] in "tT")


def offset_of(name):
    return next(f"{at:x}" for at, n in functions() if n == name)


class Point(collections.namedtuple("Point", "n kind detail pc")):
    """Where rgovd died, or could."""

    @classmethod
    def read(cls, words):
        return cls(int(words[0]), words[1], words[2], int(words[3], 16))

    @property
    def place(self):
        """What makes it another place in the program than others."""
        if self.kind == "call":
            return self.kind, self.detail
        return self.kind, self.pc

    def __str__(self):
        what = self.detail
        if self.kind == "call":
            number = int(what.removeprefix("nr+"), 16)
            what = syscall_names().get(number, what)
        near = [n for at, n in functions() if at <= self.pc]
        inside = self.pc <= functions()[-1][0] + 4096
        return (f"{self.kind} {what} "
                + (f"in {near[-1]}" if near and inside else "in a library")
                + f" (point {self.n})")


def need_ptrace():
    if platform.machine() != "x86_64":
        raise Skip("crash_point knows the registers of x86-64 only")
    done = run(CrashPoint.argv(1) + ["--", "/bin/true"])
    if "killed 1 " not in done.stdout:
        raise Skip(f"no ptrace here: {done.stderr.strip()}")


class CrashPoint:
    """crash_point on a running rgovd; n 0 only lists."""

    def __init__(self, n, pid, steps=()):
        self.popen = subprocess.Popen(
            self.argv(n, steps) + [str(pid)], stdout=subprocess.PIPE,
            text=True, process_group=0)
        line = self.popen.stdout.readline()
        check(line == "ready\n", f"crash_point said {line!r}")

    @staticmethod
    def argv(n, steps=()):
        return [str(FAULT_BUILD / "crash_point"), str(n)] + [
            word for name in steps for word in ("--step", offset_of(name))]

    def is_over(self):
        return self.popen.poll() is not None

    def end(self):
        """The path is over, if rgovd lives still.  What it has said."""
        if not self.is_over():
            self.popen.terminate()
        return judge_tracer(self.popen.communicate()[0])


def judge_tracer(text):
    """(every point it listed, the one where it killed or None)"""
    listed, killed = [], None
    for line in text.splitlines():
        words = line.split()
        if words[0].isdigit():
            listed.append(Point.read(words))
        elif words[0] == "killed":
            killed = Point.read(words[1:])
        elif words[0] == "ended":
            raise Failed(f"rgovd ended by itself: {line}")
    return listed, killed


# ---------------------------------------------------------------- the rig

class Victim(Rgovd):
    """rgovd, sometimes started under crash_point."""

    wrapper = ()

    def argv(self):
        return [*self.wrapper, *(["--"] if self.wrapper else []),
                *super().argv()]


def kinds_of_descriptors(pid):
    """How many of each kind, but for connections upstream: they are pooled."""
    kinds = collections.Counter()
    links = []
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(path))
    local = {f"socket:[{line.split()[6]}]"
             for line in open("/proc/net/unix").readlines()[1:]}
    for link in links:
        if not link.startswith("socket") or link in local:
            kinds[re.sub(r"\d+", "N", link)] += 1
    return kinds


def maps_of(pid):
    text = pathlib.Path(f"/proc/{pid}/maps").read_text()
    return len(re.findall(r"memfd:rgov", text)), len(
        re.findall(r"/dev/shm/rgov", text))


class Rig:
    """One governor, two clients, one simulator, any number of deaths."""

    def __init__(self, loop, rpm=60, minute=1.0, guard=0.3, settings="",
                 holds=True):
        self.rpm = rpm
        self.sim = Sim(rpm=rpm, minute=minute, latency="fixed:0.004", extra=(
            "--fault-model", f"vendor.slow*=slow-headers:{SLOW_S}",
            "--fault-model", f"{ILL}=503"))
        self.config = limits(rpm, 50, PER_USER, minute=minute, guard=guard) \
            + settings + 'log_level = "warn"\n' \
            f'model "{HELD}" {{ tokens_per_day = 1000000000 }}\n' \
            'model "*" { tokens_per_minute = 1000000 }\n'
        self.holds = holds  # a permit counts through every death
        self.loop = loop
        self.numbers = itertools.count(1)
        self.violations = []
        self.kills = set()
        self.deaths = 0
        self.calls = {}   # number: (load, body, once)
        self.others = {}  # number: (load, results that are right)
        self.arrivals = collections.Counter()  # by digest, in this round
        self.log_at = 0
        # Tokens of HELD: what was spent on which day, and what a walk may spend.
        self.spent, self.day, self.due = 0, time.time() // 86400, (0, 0)
        # What a window looks back, but for what may lie between a start and
        # its arrival.
        self.span_ns = int((minute + guard * 2 / 3) * 1e9)
        self.stamps = collections.deque(maxlen=200)  # of arrivals, this clock

    def __enter__(self):
        self.sim.start()
        self.rgovd = Victim(self.config, sim=self.sim, loop=self.loop)
        self.rgovd.start()
        self.one, self.two = Load(self.rgovd), Load(self.rgovd)
        self.loads = [self.one, self.two]
        for load in self.loads:
            self.call(load, "u")
        self.wait_for_all()
        wait_until(self.settled_stats, what="published lanes")
        self.baseline = kinds_of_descriptors(self.rgovd.process.pid)
        return self

    def __exit__(self, failure, *_):
        for load in self.loads:
            load.end()
        try:
            self.rgovd.__exit__(failure)
        finally:
            self.sim.__exit__(failure)

    # -- what the clients do

    def call(self, load, user, model=FAST, once=False, pad=0, may=()):
        number = next(self.numbers)
        load.say(f"call {number} {user} {model} "
                 f"{'once' if once else 'again'} {pad}")
        self.calls[number] = load, digest_of(body_of(number, pad)), once, may
        return number

    def permit(self, load, user, tokens=INPUT, may=(), model=FAST):
        number = next(self.numbers)
        load.say(f"permit {number} {user} {tokens} {model}")
        self.others[number] = load, {"ok", *may}
        return number

    def settle(self, load, permit):
        load.answers.pop(permit, None)
        load.say(f"settle {permit} {USED // 2} {USED // 2}")
        self.others[permit] = load, {"settled"}

    def answered(self, number):
        load = (self.calls.get(number) or self.others[number])[0]
        return number in load.answers

    def is_at_sim(self, number):
        self.read_log()
        return self.arrivals[self.calls[number][1]] > 0

    # -- what the simulator saw

    def read_log(self):
        with open(self.sim.log_file) as log:
            log.seek(self.log_at)
            for line in log:
                if not line.endswith("\n"):
                    break
                self.log_at += len(line.encode())
                event = json.loads(line)
                if event["event"] == "arrival":
                    ill = event["model"] == ILL  # a refusal: no second call
                    self.arrivals[event["body_sha256"]] += not ill
                    self.stamps.append(event["t_mono_ns"])

    # -- the judge

    def violation(self, what):
        self.violations.append(f"{self.where}: {what}")

    def wait_for_all(self):
        """Every request that is out gets its answer, long before its end."""
        numbers = [*self.calls, *self.others]
        end = time.monotonic() + HANG_S
        while not all(map(self.answered, numbers)):
            if time.monotonic() > end:
                return [n for n in numbers if not self.answered(n)]
            time.sleep(0.002)
        return []

    def judge_calls(self, reissued):
        self.read_log()
        again = 0
        for number, (load, digest, once, may) in self.calls.items():
            answer = load.answers.pop(number, None)
            arrived = self.arrivals[digest]
            again += max(0, arrived - 1)
            what = f"call {number} ({'once' if once else 'again'}): {answer}, " \
                   f"{arrived} arrivals"
            if answer is None:
                self.violation(f"{what}: hangs")
            elif answer.rc != 0:
                self.violation(what)
            elif answer.result == "ok":
                if answer.digest != digest or arrived < 1:
                    self.violation(f"{what}: another's answer")
            elif not (once and answer.result == "ambiguous") \
                    and answer.result not in may:
                self.violation(what)
            if once and arrived > 1:
                self.violation(f"{what}: sent twice")
        if again > reissued:
            self.violation(f"{again} calls arrived again, {reissued} counted")
        self.calls.clear()
        self.arrivals.clear()

    def judge_others(self):
        for number, (load, right) in self.others.items():
            answer = load.answers.pop(number, None)
            if answer is None or answer.rc != 0 or answer.result not in right:
                self.violation(f"permit {number}: {answer}")
        self.others.clear()

    def judge_memory(self):
        for load in self.loads:
            for finding in load.check():
                self.violation(finding)
        done = run([BUILD / "tests/board_check", self.rgovd.name, "quiet"])
        if done.returncode != 0:
            self.violation(f"board_check: {done.stdout}{done.stderr}")

    def judge_leaks(self):
        pid = self.rgovd.process.pid
        sessions = len(self.loads)
        kinds = kinds_of_descriptors(pid)
        for kind in {*kinds, *self.baseline}:
            extra = kinds[kind] - self.baseline[kind]
            if extra > 0:
                self.violation(f"{extra} more descriptors of kind {kind}")
        equal_maps = (2 * sessions, 1)
        if maps_of(pid) != equal_maps:
            self.violation(f"maps {maps_of(pid)}, not {equal_maps}")
        if os.path.exists(f"/dev/shm/rgov.{self.rgovd.name}#new"):
            self.violation("an unpublished board is left")

    def judge_first_moment(self):
        """A successor is just there: what was out and what was started counts,
        before anybody has come back."""
        self.read_log()
        stamps = list(self.stamps)
        stats = self.rgovd.stats()
        now = time.monotonic_ns()
        arrived = sum(t > now - self.span_ns for t in stamps)
        if stats["host"]["starts"] < arrived:
            self.violation(f"{stats['host']['starts']} starts are known, "
                           f"{arrived} arrived")
        if self.holds and stats["active_requests"] < 1:
            self.violation("the permit that is held does not count")

    def judge_account(self, stats):
        """What permits of HELD cost: once what they used, at most what was
        reserved; a death forgets none of it, and gives nothing back twice."""
        used = sum(l["tokens_used_today"] for l in stats["lanes"]
                   if l["name"] == HELD)
        day = time.time() // 86400
        least, most = self.due
        spent = used - self.spent
        if day == self.day and not least <= spent <= most:
            self.violation(f"permits cost {spent} tokens, "
                           f"not {least} to {most}")
        self.spent, self.day, self.due = used, day, (0, 0)

    def judge_windows(self):
        report = self.sim.report()
        if report["max_arrivals_in_window"] > self.rpm or report["throttled"]:
            self.violation(
                f"{report['max_arrivals_in_window']} starts in a window of "
                f"{self.rpm}, {report['throttled']} throttled")

    def judge(self, deaths=1):
        """A successor is there: do all that wait end as they must, and is
        nothing left of them?"""
        self.wait_for_all()
        self.judge_others()
        # Both sessions are back only when they have waited for something.
        for load in self.loads:
            self.call(load, "u")
        self.wait_for_all()
        try:
            wait_until(self.rgovd.is_idle, what="an idle rgovd",
                       timeout=HANG_S, interval=0.005)
        except Failed as e:
            self.violation(str(e))
        try:
            stats = wait_until(self.settled_stats, timeout=HANG_S,
                               what="lanes without a reservation")
        except Failed as e:
            self.violation(str(e))
            stats = self.rgovd.stats()
        # Those that died in between took their counters with them.
        self.judge_calls(stats["counters"]["reissued_requests"]
                         + (99 if deaths > 1 else 0))
        self.judge_memory()
        self.judge_leaks()
        self.judge_windows()
        self.judge_account(stats)

    def settled_stats(self):
        """The figures, once every lane shows that all is back."""
        stats = self.rgovd.stats()
        return None if any(l["running"] or l["queued"] or l["tokens_reserved"]
                           for l in stats["lanes"]) else stats
