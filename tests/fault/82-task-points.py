#!/usr/bin/python3 -B
"""SIGKILL to rgovd at a system call of one of its threads, chosen at random, on
the way of durable tasks: submit, to the disk, acknowledged, begun, called, ended,
told.  A successor goes on, and each task ends once.

Environment: POINTS (60), so many kills; SEED.
"""

import random
import shutil

from task_disk import *

POINTS = int(os.environ.get("POINTS") or 60)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**9))


def sure(gov, body, key, idempotent):
    """Asks again until it is acknowledged; then waits for its end."""
    while True:
        with contextlib.suppress(rgov.Unavailable, rgov.Timeout,
                                 rgov.Draining):
            task = gov.submit(MODEL, body, key=key, idempotent=idempotent)
            break
    while True:
        with contextlib.suppress(rgov.Unavailable, rgov.Timeout,
                                 rgov.Draining):
            task.wait(60)
            again = gov.submit(MODEL, body, key=key, idempotent=idempotent)
            with contextlib.suppress(rgov.UpstreamError, rgov.Rejected):
                task.result(10)  # of an ambiguous one there is none
            return task.status(), again.id


def path(gov, word):
    """Two tasks, of which one may not be called twice, as jobs."""
    return [lambda kind=kind: sure(gov, a_body(f"{kind} {word}")[0],
                                   f"{kind}-{word}", kind == "may")
            for kind in ("may", "once")]


def lengths(w):
    """How many system calls each thread makes on the path."""
    found = []
    for at in range(len(threads_of(w.rgovd))):
        with injected(w.rgovd, [], [threads_of(w.rgovd)[at]], "all") as log:
            in_parallel(path(w.gov, f"record {at}"))
        found.append(len(log.read_text().splitlines()))
    return found


def judge(w, word, ended):
    """What became of the two tasks."""
    for kind, found in zip(("may", "once"), ended):
        check(isinstance(found, tuple), f"{word}: {kind}: {found!r}")
        status, same = found
        equal(same, status.id, f"{word}: the task of a repeated key")
        fine = (rgov.TaskState.SUCCEEDED,) if kind == "may" else (
            rgov.TaskState.SUCCEEDED, rgov.TaskState.FAILED)
        check(status.state in fine, f"{word}: {kind} ended {status.state}")


def calls_of(w):
    """How often the provider was called with each body."""
    return collections.Counter(e["body_sha256"] for e in w.sim.events()
                               if e["event"] == "arrival")


@checks.test
def killed_on_the_way_of_a_task():
    dice = random.Random(SEED)
    with world(ROOMY, sim={"latency": "fixed:0.01"}) as w:
        in_parallel(path(w.gov, "first"))
        w.rgovd.restart()  # with a store its threads start in another order
        most = lengths(w)
        killed = collections.Counter()
        for n in range(4 * POINTS):
            if killed.total() == POINTS:
                break
            # The others sleep: their one call is on its way all the time.
            at = dice.choice([i for i, m in enumerate(most) if m > 2])
            point = dice.randint(1, most[at])
            word = f"thread {at} call {point} ({n})"
            with injected(w.rgovd, ["-e", "inject=all:signal=SIGKILL:when="
                                    f"{point}"],
                          [threads_of(w.rgovd)[at]], "all"):
                load = Background(path(w.gov, word))
                wait_until(lambda: not w.rgovd.process.alive()
                           or not load.running(), what=word, interval=0.002)
            if not w.rgovd.process.alive():
                killed[at] += 1
                w.rgovd.restart()
            judge(w, word, load.join(60))
            calls = calls_of(w)
            check(calls[a_body(f"once {word}")[1]] <= 1,
                  f"{word}: a task that may not was called twice")
        count("daemon_kills", killed.total())
        row(seed=SEED, kills=killed.total(), tries=n, calls_by_thread=most,
            killed_by_thread=dict(killed))
        # A path takes more calls one time, fewer another.
        check(killed.total() == POINTS, f"only {killed.total()} kills")
        store_is_whole(w, 2 * n)


if not shutil.which("strace"):
    raise SystemExit("strace is not installed: make fault-deps")
checks.main()
