"""What became of the requests of a storm, judged by the log of the simulator.

A Call is one request as its client saw it; the log says what arrived and what
was answered.  judge() compares the two and returns what is violated, as
sentences; empty is good.  The numbers are the invariants of DESIGN.md.
"""

import bisect
import collections
import dataclasses
import hashlib

# What a client may be told of each kind of request (storm_client.c) beside ok,
# while nothing but processes fails: no upstream error, no full queue.
TYPED = {"c": set(), "o": {"ambiguous"}, "b": set(), "p": set(), "q": set(),
         "d": {"deadline", "-110"}, "x": {"cancelled"}, "a": {"abandoned"},
         "http": set()}
# rgovd was away for longer than a client looks for it.
AWAY = {"-111", "503"}
# librgov waits one second for an answer to a passed deadline; the rest is what
# a busy machine may need to wake a process.
GRACE_S = 1.0 + 4.0


@dataclasses.dataclass
class Call:
    number: int
    pid: int        # of the process that asked; 0: not known
    kind: str       # a key of TYPED
    timeout_s: float
    sha256: str     # of the body; "" for a permit
    begun_ns: int
    ending: str = ""    # "ok", what it was told, or "" when nobody was told
    answers: str = ""   # the SHA-256 that the answer is for
    elapsed_s: float = 0.0


@dataclasses.dataclass
class Arrival:
    at_ns: int
    end_ns: int
    ending: str  # as the simulator names it; "" when it never ended


# What a process of storm_client says at its end.
Report = collections.namedtuple("Report", "by_slice reconnects taken")


def digest_of(number, size):
    """The SHA-256 of what storm_client sends; "" for a permit."""
    if size == 0:
        return ""
    head = b'{"max_tokens":5,"id":%d,"pad":"' % number
    return hashlib.sha256(
        head + b"x" * (size - len(head) - 2) + b'"}').hexdigest()


def calls_of(lines):
    """From storm_client's output: the calls by their number, the numbers of
    those that went with an exec, and what the processes that ended well say."""
    calls, excused, reports = {}, set(), {}
    out = collections.defaultdict(set)  # by pid
    leaving = set()
    for words in lines:
        match words:
            case ["P", pid, _] if pid in leaving:  # the new image
                leaving.remove(pid)
                excused |= out.pop(pid, set())
            case ["B", pid, number, kind, timeout_ms, size, begun_ns]:
                calls[int(number)] = Call(
                    int(number), int(pid), kind, int(timeout_ms) / 1e3,
                    digest_of(int(number), int(size)), int(begun_ns))
                out[pid].add(int(number))
            case ["E", pid, number, rc, elapsed_ms, digest, *result]:
                call = calls[int(number)]
                call.ending = " ".join(result) if rc == "0" else rc
                call.answers = "" if digest == "-" else digest
                call.elapsed_s = int(elapsed_ms) / 1e3
                out[pid].discard(call.number)
            case ["X", pid]:
                leaving.add(pid)
            case ["Q", pid, _, by_slice, reconnects, taken]:
                reports[int(pid)] = Report(int(by_slice), int(reconnects),
                                           int(taken))
    for pid in leaving:
        excused |= out[pid]
    return calls, excused, reports


def arrivals_of(events):
    """By the SHA-256 of the body; what never became whole is left out."""
    by_number = {}
    for event in events:
        key = event["run"], event["n"]
        if event["event"] == "arrival":
            by_number[key] = (event["body_sha256"], Arrival(
                event["t_mono_ns"], 0, ""))
    for event in events:
        if event["event"] == "end":
            arrival = by_number[event["run"], event["n"]][1]
            arrival.end_ns, arrival.ending = event["t_mono_ns"], event["type"]
    found = collections.defaultdict(list)
    for sha256, arrival in by_number.values():
        if sha256:
            found[sha256].append(arrival)
    for arrivals in found.values():
        arrivals.sort(key=lambda a: a.at_ns)
    return found


class Judge:
    """deaths_ns: when an rgovd was gone.  struck: pid -> (when it got a signal
    that ended it, when it was gone), in order: pids come back.  excused: numbers
    of calls that went with an exec."""

    def __init__(self, calls, arrivals, deaths_ns=(), struck=None, excused=(),
                 stopped_s=None, guard_s=1.0, upstream_fails=()):
        self.calls, self.arrivals = calls, arrivals
        self.deaths_ns = sorted(deaths_ns)
        self.struck = struck or {}
        self.excused = excused
        self.stopped_s = stopped_s or {}
        self.guard_ns = int(guard_s * 1e9)
        # What else may be told of any call, where the provider fails too.
        self.upstream_fails = upstream_fails
        self.broken = []

    def blame(self, claim, call, why):
        self.broken.append(f"{claim}: request {call.number} ({call.kind}) of "
                           f"{call.pid}: {why}")

    def judge(self, concurrency=None):
        for call in self.calls.values():
            self._told(call)
            self._in_time(call)
            if call.sha256:
                self._arrived(call)
        self._strangers()
        if concurrency:
            self._concurrency(concurrency)
        return self.broken

    # ------------------------------------------------------ the client

    def _told(self, call):
        """4: every call of a survivor ends, in what it may end in."""
        if not call.ending:
            if not self._struck_ns(call) and call.number not in self.excused:
                self.blame("4 lost", call, "it never ended")
            return
        if (call.ending == "ok" or call.ending in TYPED[call.kind]
                or call.ending in self.upstream_fails):
            return
        if not (call.ending in AWAY and self.deaths_ns):
            self.blame("4 ending", call, f"it was told {call.ending}")

    def _struck_ns(self, call):
        """When the process of this call was struck; 0: it was not.  A process
        that is struck may still begin a call."""
        return next((at_ns for at_ns, gone_ns in self.struck.get(call.pid, ())
                     if call.begun_ns <= gone_ns), 0)

    def _in_time(self, call):
        limit = call.timeout_s + GRACE_S + self.stopped_s.get(call.pid, 0)
        if call.elapsed_s > limit:
            self.blame("4 deadline", call, f"{call.elapsed_s:.1f} s, not "
                                           f"{call.timeout_s:.1f}")

    # ------------------------------------------------------ the provider

    def _arrived(self, call):
        """6: answered ones are there, for their own body.  2: each at most
        once, and once more for each rgovd that died meanwhile."""
        arrivals = self.arrivals.get(call.sha256, [])
        if call.ending == "ok":
            if call.answers != call.sha256:
                self.blame("6 answer", call, f"it is for {call.answers!r}")
            if not any(a.ending.startswith("ok") for a in arrivals):
                self.blame("2 told", call, "the provider never answered it")
        again = len(arrivals) - 1
        if again <= 0:
            return
        if call.kind == "o" and not self.upstream_fails:
            self.blame("2 once", call, f"it arrived {again + 1} times")
        allowed = self._deaths_between(
            arrivals[0].at_ns - self.guard_ns, arrivals[-1].at_ns)
        if self.upstream_fails:
            allowed += sum(a.ending.startswith(("fault", "throttled"))
                           for a in arrivals)
        if again > allowed:
            self.blame("2 again", call, f"it arrived {again + 1} times, with "
                       f"{allowed} reasons to ask again")

    def _deaths_between(self, first_ns, last_ns):
        return (bisect.bisect_right(self.deaths_ns, last_ns)
                - bisect.bisect_left(self.deaths_ns, first_ns))

    def _strangers(self):
        """1: only bodies that were submitted."""
        known = {call.sha256 for call in self.calls.values()}
        for sha256 in self.arrivals.keys() - known:
            self.broken.append(f"1 body: {sha256} was never submitted")

    def extra_arrivals(self):
        return sum(len(a) - 1 for a in self.arrivals.values())

    def n_told(self):
        return sum(c.ending == "ok" for c in self.calls.values())

    def _concurrency(self, limit):
        """At no instant more than the limit."""
        moments = []
        for call in self.calls.values():
            arrivals = self.arrivals.get(call.sha256, [])
            for i, arrival in enumerate(arrivals):
                end_ns = self._left_ns(call, arrival, arrivals[i + 1:])
                if end_ns > arrival.at_ns:
                    moments += [(arrival.at_ns, 1, call.number),
                                (end_ns, -1, call.number)]
        running, most, when_ns = collections.Counter(), {}, 0
        for at_ns, step, number in sorted(moments):
            running[number] += step
            if running.total() > max(limit, len(most)):
                most, when_ns = +running, at_ns
        if most:
            self.broken.append(
                f"11 concurrency: {len(most)} at {when_ns} ns, not {limit}: "
                + ", ".join(self._known(n, when_ns) for n in most))

    def _known(self, number, when_ns):
        """What is known of a request, in times from then on."""
        call = self.calls[number]
        died_ns = self.deaths_ns[
            bisect.bisect_right(self.deaths_ns, when_ns) - 1:][:1]
        return (f"{number} {call.kind} {call.ending or 'not told'} "
                f"struck {self._ms(self._struck_ns(call), when_ns)} "
                f"death {self._ms((died_ns or [0])[0], when_ns)} "
                + " ".join(f"[{self._ms(a.at_ns, when_ns)} "
                           f"{self._ms(a.end_ns, when_ns)} {a.ending}]"
                           for a in self.arrivals[call.sha256]))

    @staticmethod
    def _ms(at_ns, from_ns):
        return f"{(at_ns - from_ns) / 1e6:.1f}" if at_ns else "-"

    def _left_ns(self, call, arrival, later):
        """The simulator thinks on about a request whose sender is gone.  It
        ended here when its rgovd died, when its client was struck, and at once
        when its client gave it up.  The simulator may also look at it only when
        rgovd is dead already: one that came soon after a death, and that nobody
        was told of or a successor asked again, is not counted."""
        ends = [arrival.end_ns or arrival.at_ns]
        ends += [a.at_ns for a in later[:1]]
        at = bisect.bisect_left(self.deaths_ns, arrival.at_ns)
        ends += self.deaths_ns[at:at + 1]
        if self._struck_ns(call):
            ends.append(self._struck_ns(call))
        gave_up = (call.ending not in ("ok", "") or call.number in self.excused
                   or not call.ending and call.kind in "dxa")
        if gave_up or (later or not call.ending) and self._deaths_between(
                arrival.at_ns - self.guard_ns, arrival.at_ns):
            ends.append(arrival.at_ns)
        return min(ends)
