#!/usr/bin/python3 -B
"""kill -9 of a worker in the middle of its users: only what was in that worker
is lost, and all that it held comes back.
"""

import http.client

from harness import *

APP = ROOT / "examples/flask-app"
RPM, MINUTE_S = 60, 3.0
USERS, EACH, THREADS = 20, 4, 6


def visit(web, user):
    """(answers, lost connections) of one user."""
    answers, lost = [], 0
    for i in range(EACH):
        try:
            answers.append(web.post("/analyze_section", {
                "session_id": user, "text": f"section {i} of {user}"}))
        except (http.client.HTTPException, OSError):
            lost += 1
    return answers, lost


def is_busy(rgovd):
    stats = rgovd.stats()
    return stats["active_requests"] >= 3 and stats["queue_size"] >= 3


def check_others(results):
    """No user was told of an error; returns how many connections broke."""
    for result in results:
        if isinstance(result, Exception):
            raise result
    for answers, _ in results:
        for answer in answers:
            equal(answer.status, 200, f"{answer.body[:200]!r}; status")
    return sum(lost for _, lost in results)


@checks.cases(("gthread", "gthread", False, THREADS),
              ("sync-preload", "sync", True, None))
def only_its_own_requests_are_lost(_name, worker_class, preload, threads):
    """One of 4 workers is killed while requests run and wait: at most its own
    connections break, everybody else is answered, rgovd is idle afterwards, and
    the whole quota is there for the next 20 users."""
    with Sim(rpm=RPM, minute=MINUTE_S, concurrency=6,
             latency="uniform:0.1,0.3") as sim, \
            Rgovd(limits(RPM, 5, minute=MINUTE_S), sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP,
                     worker_class=worker_class, preload=preload,
                     threads=threads) as web:
        load = Background([lambda n=n: visit(web, f"user-{n:02}")
                           for n in range(USERS)])
        wait_until(lambda: is_busy(rgovd) if threads else
                   rgovd.stats()["active_requests"] >= 3,
                   what="requests that run and wait")
        victim = web.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        lost = check_others(load.join(120))
        # A threaded worker has accepted connections beyond its threads.
        check(lost <= (USERS if threads else 2),
              f"{lost} connections broke")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        wait_until(lambda: len(web.worker_pids()) == 4,
                   what="gunicorn's new worker")
        check(victim not in web.worker_pids(), "the victim is gone")

        again = in_parallel([lambda n=n: visit(web, f"user-{n:02}")
                             for n in range(USERS)])
        equal(check_others(again), 0, "connections that broke afterwards")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        report = sim.report()
        check(report["max_arrivals_in_window"] <= RPM,
              f"{report['max_arrivals_in_window']} starts in a window of {RPM}")


CLIENT = """
import rgov, sys, threading
gov = rgov.connect()
def ask(n):
    gov.invoke("vendor.model-v1", {"max_tokens": 10, "n": n}, user=f"u{n}")
threads = [threading.Thread(target=ask, args=(n,)) for n in range(12)]
for t in threads: t.start()
for t in threads: t.join()
print("done")
"""


@checks.test
def a_killed_client_leaves_nothing():
    """Ten clients one after the other are killed with 12 requests each out:
    every in-flight count, queue entry and session is back each time."""
    with Sim(latency="fixed:0.3") as sim, \
            Rgovd(limits(10000, 4, per_user=4), sim=sim) as rgovd:
        sessions = rgovd.stats()["sessions"]
        for round_number in range(10):
            client = Process("client", [PYTHON, "-c", CLIENT],
                             rgovd.scratch.path / "client.log",
                             env=rgovd.client_env())
            wait_until(lambda: rgovd.stats()["active_requests"] == 4
                       and rgovd.stats()["queue_size"] >= 1
                       or not client.alive(),
                       what="requests that run and wait")
            check(client.alive(), f"the client ended: {client.tail()}")
            client.kill9()
            wait_until(lambda: rgovd.is_idle()
                       and rgovd.stats()["sessions"] == sessions,
                       what=f"an idle rgovd after kill {round_number + 1}")
        descriptors = len(os.listdir(f"/proc/{rgovd.process.pid}/fd"))
        check(descriptors < 64, f"rgovd has {descriptors} descriptors")
        done = rgovd.python(CLIENT)
        equal(done.stdout, "done\n", f"the next client ({done.stderr})")


@checks.test
def a_forked_child_does_not_keep_a_dead_session():
    """The child of a fork inherits the socket; when its parent is killed, the
    parent's requests are dropped although the child lives."""
    source = """
import os, rgov, sys, threading, time
gov = rgov.connect()
def ask(n):
    gov.invoke("vendor.model-v1", {"max_tokens": 10, "n": n}, user=f"u{n}")
for n in range(6):
    threading.Thread(target=ask, args=(n,), daemon=True).start()
while gov.get_stats()["active_requests"] < 4:
    time.sleep(0.01)
pid = os.fork()
if pid == 0:
    print("child", os.getpid(), flush=True)
    time.sleep(60)
    os._exit(0)
os.waitpid(pid, 0)
"""
    with Sim(latency="fixed:30") as sim, \
            Rgovd(limits(10000, 4, per_user=4), sim=sim) as rgovd:
        parent = Process("parent", [PYTHON, "-c", source],
                         rgovd.scratch.path / "client.log",
                         env=rgovd.client_env())
        child = wait_until(lambda: "\n" in parent.text()
                           and int(parent.text().split()[1]),
                           what="the child's pid")
        try:
            equal(rgovd.stats()["active_requests"], 4, "active_requests")
            parent.kill9()
            wait_until(rgovd.is_idle, timeout=10, what="an idle rgovd")
            os.kill(child, 0)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


checks.main()
