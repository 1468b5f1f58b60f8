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
        wait_until(lambda: "loading" in self.process.text(), what="the load")
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


# ---------------------------------------------------------------- network

RELAY = r"""
import asyncio, sys
own, port, far, far_port = sys.argv[1:]
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def serve(reader, writer):
    try:
        there, back = await asyncio.open_connection(far, far_port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(pump(reader, back), pump(there, writer))
async def main():
    server = await asyncio.start_server(serve, own, port)
    print("relaying", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def ip(*arguments):
    done = run(["ip", *arguments])
    check(done.returncode == 0, f"ip {' '.join(map(str, arguments))}: "
                                f"{done.stderr}")


class Network:
    """Network namespaces as hosts, with links to a bridge of this one, which has
    two addresses: what all use is at .1, Redis at .2.  Bedrock may be http only
    on a host's own loopback: there each has a relay to it."""

    def __init__(self, n):
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise Skip("network namespaces need root and ip")
        self.mark = f"rg{os.getpid() % 100000}"
        self.names = [f"{self.mark}-{i}" for i in range(n)]
        self.net = f"10.213.{os.getpid() % 250}"
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            if run(["ip", "link", "add", self.mark, "type",
                    "bridge"]).returncode != 0:
                raise Skip("network namespaces are not allowed here")
            self.stack.callback(run, ["ip", "link", "del", self.mark])
            for host in (1, 2):
                ip("addr", "add", f"{self.net}.{host}/24", "dev", self.mark)
            ip("link", "set", self.mark, "up")
            for i, name in enumerate(self.names):
                self._add_host(i, name)
        except BaseException:
            self.stack.close()
            raise
        return self

    def _add_host(self, i, name):
        link = f"{self.mark}v{i}"
        ip("netns", "add", name)
        self.stack.callback(run, ["ip", "netns", "del", name])
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0",
           "netns", name)
        ip("link", "set", link, "master", self.mark, "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "addr", "add", f"{self.net}.{10 + i}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")

    def __exit__(self, *_):
        self.stack.close()

    def prefix(self, i):
        """What runs a command on a host."""
        return ["ip", "netns", "exec", self.names[i]]

    def cut(self, i):
        """From Redis: packets to it vanish, open connections hang."""
        ip("-n", self.names[i], "route", "add", "blackhole", f"{self.net}.2/32")

    def mend(self, i):
        ip("-n", self.names[i], "route", "del", "blackhole", f"{self.net}.2/32")

    def relay(self, scratch, port):
        """Makes a port of our loopback one of each host's."""
        jobs = [([], f"{self.net}.1", "127.0.0.1")]
        jobs += [(self.prefix(i), "127.0.0.1", f"{self.net}.1")
                 for i in range(len(self.names))]
        for i, (prefix, own, far) in enumerate(jobs):
            process = Process(
                f"relay {i}",
                [*prefix, PYTHON, "-c", RELAY, own, port, far, port],
                scratch.path / f"relay{i}.log", env=base_env())
            self.stack.callback(process.kill9)
            wait_until(lambda p=process: "relaying" in p.text(),
                       what="a relay")


class Host(Rgovd):
    """An rgovd of one host of a network; network None: of this one."""

    def __init__(self, network, i, *arguments, **more):
        self.prefix = network.prefix(i) if network else []
        super().__init__(*arguments, **more)

    def argv(self):
        return [*self.prefix, *super().argv()]
