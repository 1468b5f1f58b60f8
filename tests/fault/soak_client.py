"""A client that lives as long as the soak: asks for one thing after another
from threads, asyncio tasks or greenlets, and rests when it is told to.

usage: soak_client.py threads|asyncio|gevent FIRST JOURNAL SOCKET

Reads `go` and `rest` from the socket, whose descriptor is given, and ends with
it.  The journal has the lines of storm_client.c.  After each `rest`, when nothing
is out any more, it answers with a line of JSON: what diagnose() says.
"""

import sys

KIND, FIRST, JOURNAL = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if KIND == "gevent":
    from gevent import monkey
    monkey.patch_all()

import asyncio
import itertools
import json
import os
import random
import re
import socket
import threading
import time

import rgov

AT_ONCE = 4
MODEL = "vendor.model-v1"
journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
numbers = itertools.count(FIRST)
dice = random.Random(FIRST)
gov = rgov.connect()
working = threading.Event()


def tell(*words):
    os.write(journal, " ".join(map(str, words)).encode() + b"\n")


class Ask:
    """One request from its B to its E: with it as ask, the body of the block
    hands it in and puts the reply into ask.reply."""

    def __init__(self):
        # A permit, a call that is given up soon, a call; now and then a large one.
        self.kind = dice.choices("pdc", (1, 2, 8))[0]
        self.timeout = dice.uniform(0.005, 0.2) if self.kind == "d" else 30
        self.number = next(numbers)
        self.size = dice.choices((300, 300_000), (30, 1))[0]
        # What is large is charged to a user of its own.
        self.user = (f"{KIND}-{self.number}" if self.size > 300 else
                     f"{KIND}-{self.number % 7}")
        self.reply = None

    def body(self):
        head = b'{"max_tokens":5,"id":%d,"pad":"' % self.number
        return head + b"x" * (self.size - len(head) - 2) + b'"}'

    def __enter__(self):
        tell("B", os.getpid(), self.number, self.kind,
             int(self.timeout * 1000), 0 if self.kind == "p" else self.size,
             time.monotonic_ns())
        self.begun = time.monotonic()
        return self

    def __exit__(self, kind, error, _trace):
        if error is not None and not isinstance(error, rgov.Error):
            return False
        tell("E", os.getpid(), self.number, 0,
             int((time.monotonic() - self.begun) * 1000),
             self._digest() or "-", self._ending(error))
        return True

    def _digest(self):
        said = re.search(rb"sha256 ([0-9a-f]{64})",
                         self.reply.body if self.reply else b"")
        return said and said[1].decode()

    @staticmethod
    def _ending(error):
        if error is None:
            return "ok"
        return {rgov.Timeout: "deadline", rgov.Unavailable: "-111",
                rgov.UpstreamError: "upstream error"}.get(type(error),
                                                          type(error).__name__)


def ask_here():
    with Ask() as ask:
        if ask.kind == "p":
            with gov.permit(MODEL, user=ask.user, timeout=ask.timeout,
                            tokens=10) as permit:
                time.sleep(dice.uniform(0, 0.02))
                permit.settle(input_tokens=1, output_tokens=2)
        else:
            ask.reply = gov.invoke(MODEL, ask.body(), user=ask.user,
                                   timeout=ask.timeout)


async def ask_there():
    with Ask() as ask:
        if ask.kind == "p":
            async with gov.apermit(MODEL, user=ask.user, timeout=ask.timeout,
                                   tokens=10) as permit:
                await asyncio.sleep(dice.uniform(0, 0.02))
                permit.settle(input_tokens=1, output_tokens=2)
        else:
            ask.reply = await gov.ainvoke(
                MODEL, ask.body(), user=ask.user, timeout=ask.timeout)


def work_in_threads():
    def work():
        while working.is_set():
            ask_here()
    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


loop = asyncio.new_event_loop()


def work_in_tasks():
    async def work():
        while working.is_set():
            await ask_there()

    async def together():
        await asyncio.gather(*[work() for _ in range(AT_ONCE)])
    loop.run_until_complete(together())


work = work_in_tasks if KIND == "asyncio" else work_in_threads
channel = socket.socket(fileno=int(sys.argv[4]))
for line in channel.makefile("rb"):
    if line == b"go\n":
        working.set()
        worker = threading.Thread(target=work)
        worker.start()
    else:
        working.clear()
        worker.join()
        channel.sendall(json.dumps(gov.diagnose()).encode() + b"\n")
os._exit(0)
