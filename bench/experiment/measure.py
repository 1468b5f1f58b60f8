"""What one run's two logs say: that of the users (users.py) and that of the
provider (bedrock-sim --log).  Both have CLOCK_MONOTONIC.  All results are in
real seconds: divided by the time scale.

Pure: logs in, figures out.
"""

import bisect
import collections
import dataclasses
import hashlib
import math

import ideal


@dataclasses.dataclass(eq=False)
class Asked:
    """One question, and what became of it."""

    user: str
    asked: float
    ended: float
    status: int
    calls: list = dataclasses.field(default_factory=list)

    @property
    def answered(self):
        return self.status == 200

    @property
    def good(self):
        """The call that answered it."""
        return next((c for c in self.calls if c.status == 200), None)

    @property
    def left_queue(self):
        """From then on it did not wait for the provider any more."""
        return self.good.start if self.good else self.ended

    @property
    def wait(self):
        """Without the model's own time; of a failure, all of it."""
        return max(0.0, self.ended - self.asked
                   - (self.good.latency if self.good else 0.0))


@dataclasses.dataclass
class Call:
    start: float
    end: float
    status: int
    throttled: bool

    @property
    def latency(self):
        return self.end - self.start


def sha256(body):
    return hashlib.sha256(body.encode()).hexdigest()


def begin_ns(records):
    return min(r["asked_ns"] for r in records)


def join(records, events, scale):
    """Every question with its calls; real seconds since the first question."""
    begin = begin_ns(records)

    def real(ns):
        return (ns - begin) / 1e9 / scale

    asked = {sha256(r["body"]): Asked(r["user"], real(r["asked_ns"]),
                                      real(r["ended_ns"]), r["status"])
             for r in records}
    arrivals = {e["n"]: e for e in events if e["event"] == "arrival"}
    for e in events:
        if e["event"] == "end" and e["body_sha256"] in asked:
            asked[e["body_sha256"]].calls.append(Call(
                real(arrivals[e["n"]]["t_mono_ns"]), real(e["t_mono_ns"]),
                e["status"], e["status"] == 429))
    return list(asked.values())


# ---------------------------------------------------------------- quota used

def steps(questions, quota):
    """(time, waiting, running, starts in the window): from each time until the
    next, in order."""
    window = quota.window
    changes = collections.defaultdict(lambda: [0, 0, 0])
    changes.update((at, [0, 0, 0]) for at, _ in quota.changes)
    for q in questions:
        changes[q.asked][0] += 1
        changes[q.left_queue][0] -= 1
        for call in q.calls:
            if call.throttled:
                continue
            changes[call.start][1] += 1
            changes[call.end][1] -= 1
            changes[call.start][2] += 1
            changes[call.start + window][2] -= 1
            if call is not q.good and call.start < q.left_queue:
                changes[call.start][0] -= 1  # in progress, if in vain
                changes[min(call.end, q.left_queue)][0] += 1
    state = [0, 0, 0]
    for at in sorted(changes):
        state = [a + b for a, b in zip(state, changes[at])]
        yield (at, *state)


def quota_used(questions, quota, begin=0.0, end=math.inf):
    """The mean, over the time in which something waits, of the share in use of
    that limit of which most is in use."""
    used = demand = 0.0
    path = list(steps(questions, quota))
    for (at, waiting, running, starts), (until, *_) in zip(path, path[1:]):
        now = quota.at(at)
        seconds = min(until, end) - max(at, begin)
        if waiting <= 0 or seconds <= 0 or not now.open:
            continue
        shares = [running / now.slots if now.slots else 0.0,
                  starts / now.starts if now.starts else 0.0]
        demand += seconds
        used += seconds * min(1.0, max(shares))
    return used / demand if demand else None


def timeline(questions, quota, every=5.0):
    """[time, starts in the window, the quota's, throttles so far] from time to
    time."""
    path = list(steps(questions, quota))
    throttles = sorted(call.end for q in questions for call in q.calls
                       if call.throttled)
    rows, at, i = [], 0.0, 0
    while at <= max(q.ended for q in questions):
        while i + 1 < len(path) and path[i + 1][0] <= at:
            i += 1
        now = quota.at(at)
        rows.append([round(at, 1), path[i][3], now.starts if now.open else 0,
                     bisect.bisect(throttles, at)])
        at += every
    return rows


# ---------------------------------------------------------------- fairness

def jain(values):
    squares = sum(v * v for v in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None


def service_index(questions):
    """Jain's index of the questions begun for each user while all of them have
    something waiting."""
    users = collections.defaultdict(list)
    for q in questions:
        users[q.user].append(q)
    end = min(max(q.left_queue for q in own) for own in users.values())
    return jain([sum(q.good is not None and q.good.start < end for q in own)
                 for own in users.values()])


# ---------------------------------------------------------------- one run

def percentile(values, share):
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)]


def mean(values):
    return sum(values) / len(values) if values else None


def ratio(a, b):
    return a / b if a is not None and b else None


def against_ideal(questions, quota, others):
    """For what was answered: the two schedules and the bound."""
    ours = [q for q in questions if q.answered and q.good]
    if not ours:
        return {}
    plain = {q: ideal.Question(q.user, q.asked, q.good.latency) for q in ours}
    asked = list(plain.values())
    fifo = ideal.schedule(asked, quota, ideal.Fifo())
    fair = ideal.schedule(asked, quota, ideal.Fair())
    total = max(q.ended for q in ours) - min(q.asked for q in ours)
    shorter = min(ideal.total(asked, fifo), ideal.total(asked, fair))
    beside = [q for q in ours if q.user in others]
    return {
        "total_s": total,
        "ideal_total_s": shorter,
        "total_over_ideal": ratio(total, shorter),
        "total_over_bound": None if quota.changes else ratio(
            total, ideal.bound(asked, quota)),
        "ideal_avg_wait_s": ideal.mean_wait(asked, fair),
        "others_avg_wait_s": mean([q.wait for q in beside]),
        "others_wait_over_fair": ratio(
            mean([q.wait for q in beside]),
            mean([fair[plain[q]] - q.asked for q in beside])),
    }


def settling(questions, quota):
    """After the last change of the quota: the throttles until a whole window
    has none, and the quota used from then on."""
    if not quota.changes:
        return {}
    begin = settled = quota.changes[-1][0]
    before = 0
    for at in sorted(call.end for q in questions for call in q.calls
                     if call.throttled and call.start >= begin):
        if at - settled > quota.window:
            break
        settled, before = at, before + 1
    return {"throttled_before_settled": before,
            "quota_used_settled": quota_used(questions, quota, settled)}


def figures(questions, quota, others):
    """The figures of one run.  others: the users beside the greedy one, or all
    where there is none."""
    waits = [q.wait for q in questions]
    calls = [call for q in questions for call in q.calls]
    return {
        "questions": len(questions),
        "throttled": sum(call.throttled for call in calls),
        "failures": sum(not q.answered for q in questions),
        "calls_per_needed": len(calls) / len(questions),
        "avg_wait_s": mean(waits),
        "p95_wait_s": percentile(waits, 0.95),
        "quota_used": quota_used(questions, quota),
        "jain": service_index(questions),
        **against_ideal(questions, quota, others),
        **settling(questions, quota),
    }
