"""One host as a Python program sees it: a simulator, an rgovd, and governors of
this process from the package that was built.  For scenarios that test the package.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys

from harness import (BUILD, MODEL, Rgovd, Sim, check, wait_until)

sys.path.insert(0, str(BUILD / "python"))
for _name in list(os.environ):
    if _name.startswith("RGOV_") and _name not in ("RGOV_LOOP", "RGOV_KEEP_LOGS"):
        del os.environ[_name]

import rgov

ROOMY = """max_concurrent_requests = 200
requests_per_minute = 60000
max_requests_per_user = 0
max_queued_per_user = 1000
"""
ONE_PLACE = ROOMY.replace("= 200", "= 1", 1)

# A handler must be heard within 0.2 s; the rest is the machine's.  A busy machine
# can take longer once, but not each time.
HEARD_WITHIN_S = 0.5
HEARD_TRIES = 5

BODY = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = [{"role": "user", "content": [{"text": "hello"}]}]


class World:
    """One host: simulator, rgovd, and a governor of this process."""

    def __init__(self, config, sim_options, rgovd_options, connect_options):
        self.stack = contextlib.ExitStack()
        self.sim = self.stack.enter_context(Sim(**sim_options))
        self.rgovd = self.stack.enter_context(
            Rgovd(config, sim=self.sim, **rgovd_options))
        self.gov = self.connect(**connect_options)

    def connect(self, **options):
        gov = rgov.connect(self.rgovd.name, socket=self.rgovd.socket, **options)
        self.stack.callback(gov.close)
        return gov

    def is_quiet(self):
        """Nothing runs, nothing waits, and no slot of ours is taken."""
        stats = self.gov.get_stats()
        return (stats["active_requests"] == 0 and stats["queue_size"] == 0
                and self.slots_taken() == 0)

    def slots_taken(self):
        # librgov takes abandoned slots back at the next submit.
        try:
            self.gov.permit(MODEL, timeout=5).settle(outcome="unused")
        except rgov.QueueFull:
            pass
        return self.gov.diagnose()["slots_taken"]

    def waits_until_queued(self, n):
        wait_until(lambda: self.gov.get_stats()["queue_size"] == n,
                   what=f"{n} queued requests")

    def waits_until_active(self, n):
        """The board's figures follow a moment later."""
        wait_until(lambda: self.gov.get_stats()["active_requests"] == n,
                   what=f"{n} active requests")

    def waits_until_quiet(self):
        wait_until(self.is_quiet, what="no request, no slot in use")


@contextlib.contextmanager
def world(config=ROOMY, sim=None, rgovd=None, **connect_options):
    w = World(config, sim or {}, rgovd or {}, connect_options)
    with w.stack:
        yield w


def raises(kind, function, *args, **kwargs):
    """The exception, which must be exactly of this kind."""
    try:
        result = function(*args, **kwargs)
    except Exception as e:
        if type(e) is not kind:
            raise
        return e
    raise AssertionError(f"expected {kind.__name__}, found {result!r}")


def a_body(word):
    """A body unlike any other, and what the simulator's answer to it begins
    with."""
    body = json.dumps(dict(BODY, messages=[{"role": "user", "content": word}]))
    return body, hashlib.sha256(body.encode()).hexdigest()


def text_of(reply):
    return reply.json()["content"][0]["text"]


class Alarm(Exception):
    """Raised by a signal handler."""


@contextlib.contextmanager
def alarm_after(seconds):
    def strike(_number, _frame):
        raise Alarm()
    old = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def is_heard_in_time(attempt):
    """attempt() returns how many seconds after the signal its wait ended."""
    times = []
    for _ in range(HEARD_TRIES):
        times.append(attempt())
        if times[-1] <= HEARD_WITHIN_S:
            return
    raise AssertionError(f"heard after {', '.join(f'{t:.2f}' for t in times)} s")


def in_child(function):
    """Runs it in a forked child; fails with what it printed."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            function()
            status = 0
        except BaseException as e:
            os.write(write, repr(e).encode()[:4000])
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        words = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    check(status == 0, f"the child failed: {words or status}")
