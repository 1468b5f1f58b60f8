"""Several hosts for a test: governors with names, sockets and configurations of
their own, one Redis, one bedrock-sim whose quota they share; load for each of
them, and what the simulator's journal says of every window.

Each host's requests carry a body of their own: the journal tells them apart.
"""

import bisect

from harness import *

PASSWORD = "s3cret%40here"  # as it stands in a URL: s3cret@here
PLAIN = urllib.parse.unquote(PASSWORD)

BODY = ('{"anthropic_version":"bedrock-2023-05-31","max_tokens":5,"messages":'
        '[{"role":"user","content":"host %s"}]}')
LOAD = r"""
import sys, threading, rgov
tag, threads = sys.argv[1], int(sys.argv[2])
gov = rgov.connect(slots=64)
body = (BODY % tag).encode()
def go(n):
    while True:
        try:
            gov.invoke(MODEL, body, user="u%d" % n, timeout=120)
        except rgov.Error:
            threading.Event().wait(0.05)
for n in range(threads):
    threading.Thread(target=go, args=(n,), daemon=True).start()
print("loading", flush=True)
sys.stdin.read()
threading.Event().wait(1e6)
""".replace("MODEL", repr(MODEL)).replace("BODY", repr(BODY))


def quota(rpm, minute, guard=None, concurrency=24):
    """The limits of one host, which are the account's."""
    guard = 0.02 * minute if guard is None else guard
    return (limits(rpm=rpm, concurrency=concurrency, per_user=4, minute=minute,
                   guard=guard) + "adaptive = false\n")


def shared(redis_url, hosts=3, loss="share", host=None, **more):
    """The settings of a shared quota."""
    lines = [f'cluster = "{redis_url}"', f"cluster_hosts = {hosts}",
             f"on_cluster_loss = {loss}"]
    if host:
        lines.append(f'cluster_host = "{host}"')
    lines += [f'{key} = "{value}"' for key, value in more.items()]
    return "\n".join(lines) + "\n"


class Load:
    """A client that keeps so many requests waiting at one host."""

    def __init__(self, rgovd, tag, threads=12, prefix=()):
        self.rgovd, self.tag, self.threads = rgovd, tag, threads
        self.prefix = list(prefix)

    def __enter__(self):
        self.process = Process(
            f"load {self.tag}",
            [*self.prefix, PYTHON, "-c", LOAD, self.tag, self.threads],
            self.rgovd.scratch.path / f"load{self.rgovd.name}.log",
            env=self.rgovd.client_env())
        return self

    def __exit__(self, *_):
        self.process.kill9()


def body_hash(tag):
    """What the journal shows of a host's requests."""
    return hashlib.sha256((BODY % tag).encode()).hexdigest()


class Journal:
    """The arrivals at the simulator that it has taken as starts."""

    def __init__(self, sim, minute):
        self.sim, self.minute = sim, minute

    def arrivals(self, tag=None, since=0.0, until=float("inf")):
        """Seconds, CLOCK_MONOTONIC, in order."""
        wanted = tag and body_hash(tag)
        times = [e["t_mono_ns"] * 1e-9 for e in self.sim.events()
                 if e["event"] == "arrival"
                 and (wanted is None or e["body_sha256"] == wanted)]
        return sorted(t for t in times if since <= t < until)

    def worst_window(self, since=0.0):
        """The most starts in any window of the quota."""
        times = self.arrivals()
        first = bisect.bisect_left(times, since)
        return max((bisect.bisect_left(times, t + self.minute) - i
                    for i, t in enumerate(times) if i >= first), default=0)

    def starts(self, since=0.0):
        """(seconds, hash of the body) of each, in order."""
        found = sorted((e["t_mono_ns"] * 1e-9, e["body_sha256"])
                       for e in self.sim.events() if e["event"] == "arrival")
        return found[bisect.bisect_left(found, (since, "")):]

    def measure(self, rpm, windows, tags):
        """Waits for so many times the quota.  Returns the part of it that was
        used, from the start that began it to the one that follows the last:
        starts come in clumps, so a span of time would cut one; and how far the
        hosts are from equal, the largest distance from the mean over it."""
        since, wanted = time.monotonic(), windows * rpm
        starts = wait_until(
            lambda: (lambda found: len(found) > wanted and found)(
                self.starts(since)),
            timeout=3 * windows * self.minute + 10, interval=0.2,
            what=f"{wanted} starts")
        took = starts[wanted][0] - starts[0][0]
        counts = [sum(body == body_hash(tag) for _, body in starts[:wanted])
                  for tag in tags]
        mean = sum(counts) / len(counts)
        return (windows * self.minute / took,
                max(abs(n - mean) for n in counts) / mean)

    def used(self, rpm, since, until):
        """The part of the quota that was used in that time, roughly."""
        count = len(self.arrivals(since=since, until=until))
        return count / (rpm * (until - since) / self.minute)


def cluster_of(rgovd):
    """What `rgov stats --json` says of the shared quota."""
    return rgovd.stats()["cluster"]


def wait_for_mode(rgovd, mode, timeout=PATIENCE_S):
    wait_until(lambda: cluster_of(rgovd)["mode"] == mode, timeout=timeout,
               what=f"{rgovd.name} to be {mode}")
