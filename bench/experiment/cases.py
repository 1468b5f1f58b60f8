"""What is asked of every strategy: the settings of the provider and of rgov, and
the questions of a case.  All times are real seconds unless their name ends in
_here; the run's time is shorter by the factor scale.
"""

import dataclasses
import json
import random

import ideal

# The preset production-low, which is the smallest quota of a real account.
LOW = ideal.Quota(slots=3, starts=30, window=60.0)
HIGH = ideal.Quota(slots=5, starts=80, window=60.0)
TEN = ideal.Quota(slots=10, starts=200, window=60.0)
PACE_HERE = 0.003  # between two questions at the beginning


@dataclasses.dataclass(frozen=True)
class Settings:
    """A provider, and how much shorter its time is."""

    window_here: float
    latency: str  # of bedrock-sim, in real seconds
    quota: ideal.Quota = LOW
    guard: float = 0.3
    seed: int = 1  # of the provider's chance
    throttle: float = 0.0  # share of the calls that it throttles by chance
    sim_extra: tuple = ()
    rgov_extra: str = ""
    timeout_here: float = 900.0
    midnight_here: float = 0.0  # after rgovd's start; 0: the true one

    @property
    def scale(self):
        return self.window_here / self.quota.window

    def scaled_latency(self):
        kind, numbers = self.latency.split(":")
        return kind + ":" + ",".join(f"{float(n) * self.scale:g}"
                                     for n in numbers.split(","))

    def rgov_conf(self):
        """production-low with the waits scaled.  The limit of one user is the
        provider's own: a lower one would leave a slot idle when the greedy user
        is the last one to have questions."""
        def ms(real):
            return f'"{max(1, round(real * self.scale * 1000))}ms"'

        return f"""
max_concurrent_requests = {self.quota.slots}
requests_per_minute = {self.quota.starts}
max_requests_per_user = {self.quota.slots}
max_queued_per_user = 1000
slots_per_session = 1024
quota_window = {ms(60)}
guard = {ms(self.guard)}
age_after = {ms(30)}
throttle_backoff = {ms(1)}
transient_backoff = {ms(0.05)}
backoff_cap = {ms(20)}
probe_ok_after = {ms(2)}
model "*" {{
	requests_per_minute = {self.quota.starts}
	max_concurrent_requests = {self.quota.slots}
}}
{self.rgov_extra}"""


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    users: int
    each: int  # questions of one user
    greedy: int = 0  # questions of user 0 in place of that
    changes: tuple = ()  # (time, what bedrock-sim is told, the Quota then)

    def user(self, number):
        return "greedy" if self.greedy and not number else f"user-{number:02}"

    def others(self):
        return {self.user(n) for n in range(1 if self.greedy else 0,
                                            self.users)}

    def questions(self):
        """Everybody's first one, then all the others, in an order drawn once
        for all strategies."""
        def question(number, i):
            text = f"{self.name} {self.users:02} {number:02} {i:03}"
            return {"user": self.user(number), "body": json.dumps({
                "anthropic_version": "bedrock-2023-05-31", "max_tokens": 100,
                "messages": [{"role": "user", "content": text}]})}

        chance = random.Random(f"{self.name} {self.users}")
        first = [question(n, 0) for n in range(self.users)]
        rest = [question(n, i) for n in range(self.users)
                for i in range(1, self.greedy if self.greedy and not n
                               else self.each)]
        chance.shuffle(first)
        chance.shuffle(rest)
        return [dict(q, at_s=i * PACE_HERE)
                for i, q in enumerate(first + rest)]


def change(at, quota, **changed):
    """From then on the provider has this quota, or is out of order."""
    told = {"requests_per_minute": quota.starts}
    told.update(changed)
    return at, told, dataclasses.replace(
        quota, open=changed.get("outage", "none") == "none")


HALF = dataclasses.replace(LOW, starts=LOW.starts // 2)
DISTURBED = [
    # Another host eats one half.
    Case("halved", 10, 20, changes=(change(120, HALF),)),
    Case("outage", 10, 12, changes=(change(60, LOW, outage="503"),
                                    change(120, LOW, outage="none"))),
]
MIDNIGHT = 240  # the instant of the case in which the day turns
DAY_OVER = Case("daily-quota", 10, 12, changes=(
    change(60, LOW, outage="429-day"), change(MIDNIGHT - 1, LOW, outage="none")))
UNJUST = Case("throttling", 10, 12)


def pair(suffix, users, each):
    """Without and with one user who asks ten times as much."""
    return [Case("steady" + suffix, users, each),
            Case("greedy" + suffix, users, each, greedy=10 * each)]
