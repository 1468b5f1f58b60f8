"""The best that can be done for a set of questions when every instant of the
provider's quota is known and nothing costs time: two work-conserving schedules,
first come first served and fair, and a bound below every schedule.

Pure: numbers in, numbers out.  tests/scenario/experiment_test.py holds it to
examples that can be counted by hand.
"""

import collections
import dataclasses
import heapq


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    user: str
    asked: float  # when its user asked it
    latency: float  # what the model takes for it, whenever it starts


@dataclasses.dataclass(frozen=True)
class Quota:
    slots: int = 0  # calls at once; 0: no limit
    starts: int = 0  # starts in any (t - window, t]; 0: no limit
    window: float = 60.0
    open: bool = True  # False: an outage, nothing can start
    changes: tuple = ()  # (time, Quota): from then on that one

    def at(self, now):
        """The quota that holds then."""
        return next((quota for when, quota in reversed(self.changes)
                     if when <= now), self)


class _Provider:
    """Calls in progress and the log of starts."""

    def __init__(self, quota):
        self.first = self.quota = quota
        self.ends = []  # a heap
        self.log = collections.deque()

    def settle(self, now):
        self.now, self.quota = now, self.first.at(now)
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
        while self.log and self.log[0] + self.quota.window <= now:
            self.log.popleft()

    def has_room(self):
        quota = self.quota
        return (quota.open
                and (not quota.slots or len(self.ends) < quota.slots)
                and (not quota.starts or len(self.log) < quota.starts))

    def start(self, now, latency):
        heapq.heappush(self.ends, now + latency)
        self.log.append(now)

    def next_change(self):
        changes = self.ends[:1]
        changes += [when for when, _ in self.first.changes if when > self.now]
        if self.log:
            changes.append(self.log[0] + self.quota.window)
        return min(changes, default=float("inf"))


class Fifo:
    """First come, first served."""

    def __init__(self):
        self.waiting = collections.deque()

    def __len__(self):
        return len(self.waiting)

    def ask(self, question):
        self.waiting.append(question)

    def take(self):
        return self.waiting.popleft()

    def end(self, question):
        pass


class Fair:
    """Least served user first, then fewest calls in progress, then arrival.  A
    user who comes, or comes back, is lifted to the least of those who wait."""

    def __init__(self):
        self.waiting = {}
        self.served = collections.Counter()
        self.running = collections.Counter()

    def __len__(self):
        return sum(map(len, self.waiting.values()))

    def ask(self, question):
        user = question.user
        if user not in self.waiting:
            least = min((self.served[u] for u in self.waiting), default=0)
            self.served[user] = max(self.served[user], least)
            self.waiting[user] = collections.deque()
        self.waiting[user].append(question)

    def take(self):
        user = min(self.waiting, key=lambda u: (
            self.served[u], self.running[u], self.waiting[u][0].asked))
        question = self.waiting[user].popleft()
        if not self.waiting[user]:
            del self.waiting[user]
        self.served[user] += 1
        self.running[user] += 1
        return question

    def end(self, question):
        self.running[question.user] -= 1


def schedule(questions, quota, order):
    """When each question starts, as {question: time}, if something starts at
    every instant at which something waits and the quota has room."""
    provider = _Provider(quota)
    coming = collections.deque(sorted(questions, key=lambda q: q.asked))
    running, starts = [], {}
    now = coming[0].asked if coming else 0.0
    while len(starts) < len(questions):
        provider.settle(now)
        while running and running[0][0] <= now:
            order.end(heapq.heappop(running)[2])
        while coming and coming[0].asked <= now:
            order.ask(coming.popleft())
        while len(order) and provider.has_room():
            question = order.take()
            starts[question] = now
            provider.start(now, question.latency)
            heapq.heappush(running, (now + question.latency, len(starts),
                                     question))
        now = min(coming[0].asked if coming else float("inf"),
                  provider.next_change())
    return starts


def total(questions, starts):
    """From the first question to the last answer."""
    return (max(starts[q] + q.latency for q in questions)
            - min(q.asked for q in questions))


def mean_wait(questions, starts):
    return sum(starts[q] - q.asked for q in questions) / len(questions)


def bound(questions, quota):
    """A total that no rule can beat (of a quota that does not change).  After k full windows of starts the rest
    has yet to begin, and the rest takes, however chosen, at least the shortest
    latencies over the slots; and nobody answers before it was asked."""
    first = min(q.asked for q in questions)
    best = max(q.asked + q.latency for q in questions) - first
    latencies = sorted(q.latency for q in questions)
    slots, starts = quota.slots or len(questions), quota.starts or len(questions)
    for k in range(0, (len(questions) - 1) // starts + 1):
        rest = latencies[:len(questions) - k * starts]
        best = max(best, k * quota.window + max(sum(rest) / slots, rest[0]))
    return best
