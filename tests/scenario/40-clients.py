#!/usr/bin/python3 -B
"""The kinds of clients: C with threads, C and Python across a fork, asyncio.
Each gets its own answers, and no answer is found by chance instead of a wake.
"""

from harness import *

RPM = 50000


def lines_of(done):
    equal(done.returncode, 0, f"the client's status ({done.stderr})")
    return [json.loads(line) for line in done.stdout.splitlines()]


def body_of(n):
    return b'{"max_tokens":5,"n":%d}' % n


@checks.cases(("threads", [], 8 * 25, 1), ("fork", ["--fork"], 2 * 8 * 25 + 1, 2))
def c_threads_get_their_answers(_name, arguments, calls, processes):
    """8 threads of one process, and of its child with the same handle: 25 calls
    each, every answer is the caller's, and no slot is left."""
    with Sim(latency="uniform:0,0.01") as sim, \
            Rgovd(limits(RPM, 16, per_user=16), sim=sim) as rgovd:
        lines = lines_of(run([BUILD / "tests/c_client", *arguments, 8, 25],
                             env=rgovd.client_env(), timeout=100))
        answers = [line for line in lines if "n" in line]
        ends = [line for line in lines if "pid" in line]
        equal(len(answers), calls, "answers")
        for answer in answers:
            equal((answer["rc"], answer["status"]), (0, 200), f"{answer}")
        check_own_answers([(body_of(a["n"]), a["text"]) for a in answers])
        equal(len({end["pid"] for end in ends}), processes, "processes")
        for end in ends:
            equal(end["slots_taken"], 0, "slots left")
            equal(end["found_by_slice"], 0, "answers that no wake told of")
        wait_until(rgovd.is_idle, what="an idle rgovd")


PYTHON_FORK = """
import json, os, rgov, threading
gov = rgov.connect()

def ask(n):
    body = b'{"max_tokens":5,"n":%d}' % n
    reply = gov.invoke("vendor.model-v1", body, user=f"u{n % 5}", timeout=60)
    os.write(1, (json.dumps([n, reply.body.decode()]) + "\\n").encode())

def many(first):
    threads = [threading.Thread(target=lambda n=n: ask(n))
               for n in range(first, first + 10)]
    for t in threads: t.start()
    for t in threads: t.join()

ask(-1)
children = []
for i in range(3):
    pid = os.fork()
    if pid == 0:
        many(1000 * (i + 1))
        os._exit(0)
    children.append(pid)
many(0)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""


@checks.test
def python_forks_share_no_slot():
    """Three children and their parent use one gov object at once."""
    with Sim(latency="uniform:0,0.05") as sim, \
            Rgovd(limits(RPM, 16, per_user=16), sim=sim) as rgovd:
        answers = lines_of(rgovd.python(PYTHON_FORK, timeout=60))
        equal(len(answers), 41, "answers")
        check_own_answers([(body_of(n), text) for n, text in answers])
        wait_until(rgovd.is_idle, what="an idle rgovd")


PYTHON_ASYNCIO = """
import asyncio, json, rgov, time
gov = rgov.connect()

async def ask(n):
    body = b'{"max_tokens":5,"n":%d}' % n
    reply = await gov.ainvoke("vendor.model-v1", body, user=f"u{n % 5}",
                              timeout=60)
    print(json.dumps([n, reply.body.decode()]))

async def main():
    ticks = 0
    slow = asyncio.create_task(gov.ainvoke("slow", b'{"max_tokens":5}',
                                           user="z", timeout=60))
    while gov.get_stats()["active_requests"] == 0:
        await asyncio.sleep(0.01)
    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1
    ticker = asyncio.create_task(tick())
    asks = [asyncio.create_task(ask(n)) for n in range(40)]
    await asks[0]
    slow.cancel()  # while others run and wait
    assert isinstance((await asyncio.gather(slow, return_exceptions=True))[0],
                      asyncio.CancelledError), "it was not cancelled"
    await asyncio.gather(*asks)
    ticker.cancel()
    assert ticks > 10, "the event loop stood still"

asyncio.run(main())
"""


@checks.test
def asyncio_waits_without_blocking():
    """40 coroutines wait at once on one loop, which goes on turning; one that
    is cancelled gives its place back."""
    with Sim(latency="uniform:0.05,0.2",
             extra=["--fault-model", "slow=hang"]) as sim, \
            Rgovd(limits(RPM, 16, per_user=16), sim=sim) as rgovd:
        answers = lines_of(rgovd.python(PYTHON_ASYNCIO, timeout=60))
        equal(sorted(n for n, _ in answers), list(range(40)), "answers")
        check_own_answers([(body_of(n), text) for n, text in answers])
        wait_until(rgovd.is_idle, timeout=10, what="an idle rgovd")


PYTHON_SIGNAL = """
import rgov, signal, time
gov = rgov.connect()
class Alarm(Exception): pass
def ring(*_): raise Alarm
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.5)
begin = time.monotonic()
try:
    gov.invoke("slow", {"max_tokens": 5}, user="u", timeout=60)
except Alarm:
    print(time.monotonic() - begin)
"""


@checks.test
def a_signal_ends_a_wait():
    """An exception from a signal's handler leaves invoke() within 0.2 s (and
    what a busy machine adds), and the request is dropped."""
    with Sim(extra=["--fault-model", "slow=hang"]) as sim, \
            Rgovd(limits(), sim=sim) as rgovd:
        seconds = lines_of(rgovd.python(PYTHON_SIGNAL))[0]
        check(0.5 <= seconds < 1.5, f"it took {seconds:.2f} s")
        wait_until(rgovd.is_idle, timeout=10, what="an idle rgovd")


checks.main()
