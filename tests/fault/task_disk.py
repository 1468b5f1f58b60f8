"""strace on rgovd's threads, and what must hold of its tasks afterwards."""

import sqlite3

from campaign import *

sys.path.insert(0, str(ROOT / "tests/scenario"))
from world import ONE_PLACE, ROOMY, a_body, world  # noqa: E402, F401

import rgov  # noqa: E402

WRITES = "pwrite64,fdatasync,fsync"


@contextlib.contextmanager
def injected(rgovd, what, threads=None, trace=WRITES):
    """strace on threads of rgovd -- all beside its loop, which writes into shared
    memory -- until the end of the block; gives its log."""
    log = rgovd.scratch.path / f"strace{time.monotonic_ns()}"
    threads = threads or threads_of(rgovd)[1:]
    tracer = Process("strace", [
        "strace", "-q", "-o", log, "-e", f"trace={trace}", *what,
        *[word for t in threads for word in ("-p", t.name)]],
        rgovd.scratch.path / "strace.log")
    try:
        wait_until(lambda: not tracer.alive()
                   or all(is_traced(t) for t in threads), what="strace",
                   interval=0.002)
        yield log
    finally:
        tracer.signal(signal.SIGINT)  # it may have ended with rgovd
        tracer.popen.wait()
        tracer._forget()


def threads_of(rgovd):
    """The loop, and then the others in the order of their start."""
    return sorted(pathlib.Path(f"/proc/{rgovd.process.pid}/task").iterdir(),
                  key=lambda thread: int(thread.name))


def is_traced(thread):
    return "TracerPid:\t0" not in (thread / "status").read_text()


def submit_all(gov, words):
    """(tasks that were acknowledged, names of the errors of the others)."""
    def one(word):
        return gov.submit(MODEL, a_body(word)[0])

    done = in_parallel([lambda word=word: one(word) for word in words])
    for found in done:
        check(isinstance(found, (rgov.Task, rgov.Error)), repr(found))
    return ([t for t in done if isinstance(t, rgov.Task)],
            [type(e).__name__ for e in done if not isinstance(e, rgov.Task)])


def all_succeed(tasks):
    for task in tasks:
        equal(task.wait(30).state, rgov.TaskState.SUCCEEDED, task.id)


def store_is_whole(w, n):
    """After a clean stop: at least n tasks, each with one end."""
    store = w.rgovd.state_dir / f"{w.rgovd.name}.tasks.db"
    w.rgovd.process.signal(signal.SIGTERM)
    equal(w.rgovd.process.wait(), 0, "rgovd's status")
    with contextlib.closing(sqlite3.connect(store)) as db:
        equal(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)],
              "the store")
        found, = db.execute("SELECT count(*) FROM task").fetchone()
        check(found >= n, f"{found} tasks, {n} were acknowledged")
        equal(db.execute("SELECT count(*) FROM task WHERE 1 <> (SELECT count(*)"
                         " FROM event WHERE place >> 8 = seq AND event = 2)"
                         ).fetchone(), (0,), "tasks without exactly one end")
