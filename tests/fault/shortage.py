"""What the campaigns about resources share: a client on strings, the two ways to
make the Nth step of a path fail, and the sweep over all N.

    with Allocations() as shim, Rgovd(env=shim.env()) as rgovd, \\
            Puppet(rgovd) as puppet:
        sweep("call", shim, lambda: puppet.call(), ...)
"""

import errno
import mmap
import select
import struct

from campaign import *

PUPPET = FAULT_BUILD / "puppet"
ALLOC_SHIM = FAULT_BUILD / "failing_alloc.so"

# An answer is due within its request's time-out, a second of grace, and what a
# busy machine takes.
LATE_S = 20.0


class Answer(dict):
    """What the puppet said.  `is_good`: it worked; else it is a typed error."""

    @property
    def is_good(self):
        return self["rc"] == 0 and self["result"] == "ok"

    def __str__(self):
        return f"rc {self['rc']}, {self['result']}: {self['why']}"


class Puppet:
    """tests/fault/puppet.c: one client process, a command at a time."""

    def __init__(self, rgovd, wrap=(), **env):
        self.rgovd = rgovd
        self.env = rgovd.client_env(**env)
        self.wrap = list(wrap)
        self.calls = 0

    def __enter__(self):
        ours, theirs = socket.socketpair()
        self.channel = ours
        log = self.rgovd.scratch.path / f"puppet{next(_numbers)}.log"
        with theirs, open(log, "ab") as out:
            self.popen = subprocess.Popen(
                [*map(str, self.wrap), str(PUPPET)], stdin=theirs.fileno(),
                stdout=theirs.fileno(), stderr=out, env=self.env,
                preexec_fn=lambda: _prctl(1, signal.SIGKILL, 0, 0, 0))
        self.pid = self.popen.pid
        return self

    def __exit__(self, *_):
        self.channel.close()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()

    def begin(self, verb, *numbers):
        self.channel.sendall(" ".join(map(str, (verb, *numbers))).encode())

    def answer(self, timeout=LATE_S):
        line = b""
        end = time.monotonic() + timeout
        while not line.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.channel], [], [], left)[0]:
                raise Failed(f"the client has no answer after {timeout:g} s")
            more = self.channel.recv(4096)
            if not more:
                raise Failed(f"the client ended: {self.popen.wait()}")
            line += more
        return Answer(json.loads(line))

    def tell(self, verb, *numbers, timeout=LATE_S):
        self.begin(verb, *numbers)
        return self.answer(timeout)

    def body(self, number, size):
        frame = b'{"max_tokens":5,"n":%d,"pad":"' % number
        return frame + b"x" * max(0, size - len(frame) - 2) + b'"}'

    def call(self, size=64, ms=10000):
        """A call with a body of its own; a good answer is for that body."""
        self.calls += 1
        answer = self.tell("call", self.calls, size, ms,
                           timeout=ms / 1000 + LATE_S)
        if answer.is_good and answer["status"] == 200:
            equal(answer["said"], hashlib.sha256(
                self.body(self.calls, size)).hexdigest(),
                "the body that the answer is for")
        return answer

    def task(self, size=64, ms=3000):
        """A durable one, to its end."""
        self.calls += 1
        return self.tell("task", self.calls, size, ms,
                         timeout=5 * ms / 1000 + LATE_S)

    def permit(self, ms=10000):
        """Asks for one and, where it is granted, gives it back."""
        answer = self.tell("permit", 0, 0, ms, timeout=ms / 1000 + LATE_S)
        if answer.is_good:
            settled = self.tell("settle")
            check(settled["rc"] == 0, f"settle: {settled}")
        return answer

    def visit(self, act):
        """From open to close, whatever happens in between.  The first answer
        that is not good, or that of act()."""
        answer = self.tell("open")
        if answer["rc"] < 0:
            return answer
        answer = act()
        self.tell("close")
        return answer

    def fds(self):
        return fds_of(self.pid)


_numbers = itertools.count(1)
_prctl = ctypes.CDLL(None).prctl


def state_of(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def fds_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def check_quiet(rgovd):
    """Invariant 7: at rest everything is back, and the sums hold."""
    wait_until(rgovd.is_idle, what="an idle rgovd")
    walked = run([BUILD / "tests/board_check", rgovd.name, "quiet"])
    check(walked.returncode == 0, f"the board: {walked.stdout}{walked.stderr}")
    stats = rgovd.stats()
    c = stats["counters"]
    equal(c["successful_requests"] + c["failed_requests"]
          + c["cancelled_requests"], c["total_requests"],
          "successful + failed + cancelled requests")
    equal(c["ended_requests"], c["started_requests"], "ended requests")
    equal(stats["live"], [], "live records")


# ---------------------------------------------------------------- the Nth

class Allocations:
    """preload/failing_alloc.c, and the page through which it is told."""

    kind = "allocation"

    def __init__(self):
        if BUILD.name == "asan":
            raise Skip("a sanitizer has an allocator of its own")

    def __enter__(self):
        self.scratch = Scratch()
        self.path = self.scratch.path / "allocations"
        self.path.write_bytes(bytes(mmap.PAGESIZE))
        with open(self.path, "r+b") as file:
            self.page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        return self

    def __exit__(self, *_):
        self.page.close()
        self.scratch.remove()

    def env(self):
        return {"LD_PRELOAD": ALLOC_SHIM, "FAILING_ALLOC": self.path}

    def _get(self, field):
        return struct.unpack_from("q", self.page, field * 8)[0]

    def arm(self, nth, last=None):
        struct.pack_into("qqq", self.page, 8, last or nth, 0, 0)
        struct.pack_into("q", self.page, 0, nth)

    def hold(self):
        """Counts no further."""
        struct.pack_into("q", self.page, 0, 0)

    def disarm(self):
        """How many were failed."""
        self.hold()
        return self._get(3)

    @property
    def live(self):
        """Blocks that the process has."""
        return self._get(4)

    def where(self):
        return f"called from ...{self._get(5) & 0xffffff:06x}"


class Calls:
    """strace fails the Nth system call of a kind: those that liburing makes by
    itself as well.  error: a name, or a number to be returned."""

    live = 0

    def __init__(self, pid, name, error):
        self.pid = pid if callable(pid) else lambda: pid
        self.name, self.error = name, error
        self.kind = f"{name}={error}"
        self.inject = f"{name}:" + (f"retval={error}" if error.isdigit()
                                    else f"error={error}")

    def arm(self, nth):
        self.scratch = Scratch()
        self.log = self.scratch.path / "strace"
        self.popen = subprocess.Popen(
            ["strace", "-f", "-o", str(self.log), "-e", f"trace={self.name}",
             "-e", f"inject={self.inject}:when={nth}",
             "-p", str(self.pid())], stderr=subprocess.PIPE, text=True)
        said = self.popen.stderr.readline()
        check("attached" in said, f"strace: {said}")

    def disarm(self):
        # In the middle of a call that is being failed, strace would leave
        # ENOSYS behind: rather while the process sleeps.
        with contextlib.suppress(Failed):
            wait_until(lambda: state_of(self.pid()) == "S", timeout=0.5,
                       interval=0.001)
        self.popen.terminate()
        self.popen.communicate(timeout=10)
        text = self.log.read_text()
        self.scratch.remove()
        self.hit = next((line.split(None, 1)[-1] for line in text.split("\n")
                         if "(INJECTED)" in line), "")
        return text.count("(INJECTED)")

    def where(self):
        return self.hit[:120]


def needs_ptrace():
    """rgovd is not dumpable: only root may look at its calls."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    if os.geteuid() != 0:
        raise Skip("rgovd can be traced by root only")
    done = run(["strace", "-o", "/dev/null", "true"])
    if done.returncode != 0:
        raise Skip(f"no ptrace here: {done.stderr.strip()}")


class Prepared:
    """Steps that are counted from a state which is made anew for each N."""

    live = 0  # of another process each time

    def __init__(self, steps, prepare):
        self.steps, self.prepare, self.kind = steps, prepare, steps.kind
        self.disarm, self.where = steps.disarm, steps.where

    def arm(self, nth):
        self.prepare()
        self.steps.arm(nth)


# ---------------------------------------------------------------- longer paths

class Reattach:
    """A permit is out and a request for one waits; rgovd is killed, and its
    successor takes both sessions back."""

    CONFIG = limits(60000, 1, 1, minute=60)

    def __init__(self, rgovd, holder, waiter):
        self.rgovd, self.puppets = rgovd, (holder, waiter)
        self.holder, self.waiter = holder, waiter
        for puppet in self.puppets:
            puppet.tell("open")

    def prepare(self):
        held = self.holder.tell("permit", 0, 0, 20000)
        check(held.is_good, f"the permit: {held}")
        self.waiter.begin("permit", 0, 0, 20000)
        wait_until(lambda: self.rgovd.stats()["queue_size"] == 1,
                   what="the request that waits", interval=0.005)
        self.rgovd.restart()

    def act(self):
        # It takes effect when this process next waits for something.
        equal(self.holder.tell("settle")["rc"], 0, "settle")
        self.holder.begin("permit", 0, 0, 20000)
        return self._settle_each()

    def again(self):
        for puppet in self.puppets:
            puppet.begin("permit", 0, 0, 20000)
        return self._settle_each()

    def _settle_each(self):
        """There is one at a time.  The first answer that is not good, or the
        last."""
        waiting, bad = list(self.puppets), None
        while waiting:
            ready, _, _ = select.select([p.channel for p in waiting], [], [],
                                        LATE_S + 20)
            check(ready, "a permit was never answered")
            puppet = next(p for p in waiting if p.channel in ready)
            waiting.remove(puppet)
            answer = puppet.answer()
            if answer.is_good:
                equal(puppet.tell("settle")["rc"], 0, "settle")
            else:
                bad = bad or answer
        return bad or answer


class Reload:
    """Each time another limit: it is in force exactly when rgovd said so."""

    def __init__(self, rgovd, text, puppet):
        self.rgovd, self.text, self.puppet = rgovd, text, puppet
        self.rates = itertools.cycle((30000, 40000))
        self.now = rgovd.stats()["requests_per_minute"]

    def act(self):
        wanted = next(self.rates)
        self.rgovd.write_config(re.sub(
            r"(?m)^requests_per_minute = \d+", f"requests_per_minute = {wanted}",
            self.text))
        done = self.rgovd.rgov("reload")
        if done.returncode == 0:
            self.now = wanted
        # The board follows in the same turn, after the answer.
        wait_until(lambda: self.rgovd.stats()["requests_per_minute"]
                   == self.now, timeout=2,
                   what=f"{self.now} after {done.stdout}{done.stderr}")
        return Answer(rc=0, slices=0, why=done.stdout + done.stderr, result=(
            f"exit {done.returncode}" if done.returncode else "ok"))

    def again(self):
        answer = self.puppet.visit(self.puppet.call)
        return self.act() if answer.is_good else answer


# ---------------------------------------------------------------- the sweep

class Sweep:
    """One path, with its Nth step failing, for every N until it runs through
    untouched.  After each failure the path works again, and rgovd and the client
    hold what they held before.

    act() returns an Answer; again() does the same when nothing fails."""

    def __init__(self, path, steps, act, rgovd, again=None, client=None):
        self.path, self.steps, self.act = path, steps, act
        self.again = again or act
        self.rgovd, self.client = rgovd, client
        self.outcomes = collections.Counter()
        self.faults = []
        self.suspects = []  # the N after which there were more blocks

    def run(self, show=True):
        begin = time.monotonic()
        for _ in range(3):  # pools and tables get their size
            self.again()
        self.before = self.holdings()
        failures = 0
        while len(self.faults) < 10 and self.one(failures + 1):
            failures += 1
        for nth in list(self.suspects):
            self.look_for_leak(nth)
        count("nth_failures", failures)
        self.failures = failures
        self.faults = [f"{self.path}, {self.steps.kind}: {fault}"
                       for fault in self.faults]
        if show:
            self.show(time.monotonic() - begin)
        return self.faults

    def show(self, seconds):
        row(path=self.path, failing=self.steps.kind, failures=self.failures,
            outcomes=words_of(self.outcomes), seconds=f"{seconds:.1f}",
            violations=len(self.faults))

    def one(self, nth):
        """False: there is no Nth step, the path is through."""
        self.steps.arm(nth)
        try:
            answer = self.act()
        except Failed as e:
            answer = None
            self.faults.append(f"N={nth}: {e}")
        hit = self.steps.disarm()
        if hit:
            self.outcomes[self.judge(nth, answer)] += 1
        try:
            self.aftermath(nth)
        except Failed as e:
            self.faults.append(f"N={nth} ({self.steps.where()}): afterwards: "
                               f"{e}")
        return hit > 0

    def judge(self, nth, answer):
        if answer is None:
            return "none"
        if answer["rc"] < 0 and (not answer["why"]
                                 or answer["why"].startswith("options.size")):
            self.faults.append(f"N={nth}: rc {answer['rc']} without a word")
        if answer["rc"] == -errno.ETIMEDOUT or answer["result"] == "deadline":
            self.faults.append(f"N={nth} ({self.steps.where()}): only the "
                               f"deadline ended it: {answer}")
        return (answer["result"].replace(" ", "_") if answer["rc"] == 0
                else errno.errorcode.get(-answer["rc"], "?"))

    def aftermath(self, nth):
        rgovd = self.rgovd.process
        if not rgovd.alive():
            status = rgovd.wait()
            self.rgovd.start()
            self.before = (1 << 20,) * 3
            if "Function not implemented" in rgovd.tail(3):
                return  # strace's: see Calls.disarm()
            raise Failed(f"rgovd ended with {status}:\n{rgovd.tail(5)}")
        answer = self.again()
        check(answer.is_good, f"the next one ends with {answer}")
        check(answer["slices"] == 0, "a wake-up was lost")
        with contextlib.suppress(Failed):
            wait_until(lambda: self.holdings() <= self.before, timeout=1,
                       interval=0.002)
        before, self.before = self.before, self.holdings()
        check(self.before[:2] <= before[:2], f"descriptors of rgovd and client:"
              f" {before[:2]} became {self.before[:2]}")
        if self.before[2] > before[2]:
            self.suspects.append(nth)

    def look_for_leak(self, nth):
        """What grows once is a pool; what grows each time is lost."""
        start = self.before[2]
        for _ in range(3):
            self.one(nth)
        if self.before[2] >= start + 3:
            self.faults.append(f"N={nth}: blocks are lost each time")

    def holdings(self):
        """Descriptors of rgovd, of the client, blocks of the one that fails."""
        return (fds_of(self.rgovd.process.pid),
                self.client.fds() if self.client else 0,
                self.steps.live)


def words_of(outcomes):
    return " ".join(f"{what}:{n}" for what, n in outcomes.most_common())


def judge(faults):
    """Each is a violation."""
    count("violations", len(faults))
    check(not faults, f"{len(faults)} violations:\n     "
          + "\n     ".join(faults[:12]))


def judge_sweeps(*sweeps):
    judge([fault for sweep in sweeps for fault in sweep.run()])


def sweep_calls(path, pid, errors, act, rgovd, prepare=None, **more):
    """Every system call of a path that `errors` knows, with each of its errors;
    one line for all of them.  Returns the faults."""
    begin, faults, kinds, failures = time.monotonic(), [], set(), 0
    outcomes = collections.Counter()
    for name, error in errors:
        steps = Calls(pid, name, error)
        if prepare:
            steps = Prepared(steps, prepare)
        sweep = Sweep(path, steps, act, rgovd, **more)
        faults += sweep.run(show=False)
        outcomes += sweep.outcomes
        failures += sweep.failures
        if sweep.failures:
            kinds.add(name)
    row(path=path, calls=len(kinds), failures=failures,
        outcomes=words_of(outcomes), violations=len(faults),
        seconds=f"{time.monotonic() - begin:.1f}")
    return faults
