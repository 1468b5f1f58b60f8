#!/usr/bin/python3 -B
"""kill -9 of rgovd under load, and a successor: waiting requests finish, and no
window at the provider exceeds the limit across the restart.
"""

from worker import *

APP = ROOT / "examples/flask-app"
RPM, MINUTE_S = 40, 3.0
USERS, EACH = 20, 5


def visit(web, user):
    return [web.post("/analyze_section", {
        "session_id": user, "text": f"section {i} of {user}"})
        for i in range(EACH)]


def check_all_answered(results):
    for result in results:
        if isinstance(result, Exception):
            raise result
        for response in result:
            equal(response.status, 200, f"{response.body[:300]!r}; status")


def check_window(sim):
    report = sim.report()
    check(report["max_arrivals_in_window"] <= RPM,
          f"{report['max_arrivals_in_window']} starts in a window of {RPM}")
    return report


def is_busy(rgovd):
    stats = rgovd.stats()
    return stats["active_requests"] >= 3 and stats["queue_size"] >= 3


@checks.test
def waiting_requests_finish():
    """rgovd is killed three times while requests run and wait.  Every user is
    answered, and the log of the provider shows no window above the limit."""
    # No limit of concurrency: a call that lost its rgovd may still run there.
    with Sim(rpm=RPM, minute=MINUTE_S, latency="uniform:0.1,0.3") as sim, \
            Rgovd(limits(RPM, 5, minute=MINUTE_S), sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP,
                     worker_class="gthread", threads=8,
                     env={"REQUEST_TIMEOUT_S": 100}) as web:
        load = Background([lambda n=n: visit(web, f"user-{n:02}")
                           for n in range(USERS)])
        for _ in range(3):
            wait_until(lambda: is_busy(rgovd), what="a busy rgovd")
            rgovd.restart()
        check_all_answered(load.join(150))
        report = check_window(sim)
        equal(report["throttled"], 0, "throttled responses")
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def a_longer_absence_is_waited_for():
    """The successor comes only after the clients have noticed that nobody is
    there; the requests that were queued and running finish all the same."""
    with Sim(rpm=RPM, minute=MINUTE_S, latency="fixed:0.2") as sim, \
            Rgovd(limits(RPM, 3, minute=MINUTE_S), sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP, workers=2,
                     worker_class="gthread", threads=8) as web:
        load = Background([lambda n=n: visit(web, f"user-{n:02}")
                           for n in range(10)])
        wait_until(lambda: is_busy(rgovd), what="a busy rgovd")
        rgovd.kill9()
        before = sim.report()["arrivals"]
        # Two seconds are the library's time for one attempt to connect.
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 3, what="3 seconds")
        equal(sim.report()["arrivals"], before, "arrivals without rgovd")
        rgovd.start()
        check_all_answered(load.join(150))
        check_window(sim)
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def the_window_survives_at_full():
    """Killed right after it used the whole window up: the successor waits for
    the rest of that window before it sends the next."""
    with Sim(rpm=RPM, minute=MINUTE_S) as sim, \
            Rgovd(limits(RPM, 10, per_user=10, minute=MINUTE_S),
                  sim=sim) as rgovd:
        source = f"""
import os, rgov, threading
gov = rgov.connect()
def ask(n):
    gov.invoke("vendor.model-v1", {{"max_tokens": 10, "n": n}}, user=f"u{{n}}",
               timeout=60)
    os.write(1, b"answered\\n")
threads = [threading.Thread(target=ask, args=(n,)) for n in range({RPM + 10})]
for t in threads: t.start()
for t in threads: t.join()
"""
        client = Process("client", [PYTHON, "-c", source],
                         rgovd.scratch.path / "client.log",
                         env=rgovd.client_env())
        wait_until(lambda: client.text().count("answered") >= RPM,
                   what="a window used up", interval=0.005)
        rgovd.restart()
        equal(client.wait(60), 0, f"the client's status ({client.tail()})")
        equal(client.text().count("answered"), RPM + 10, "answers")
        report = check_window(sim)
        equal(report["throttled"], 0, "throttled responses")


@checks.test
def what_may_not_be_sent_twice_is_not():
    """It runs while rgovd is killed: its client learns that nobody knows what
    became of it, and the provider has seen it once."""
    with Sim(latency="fixed:3") as sim, Rgovd(sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        once = worker.invoke(idempotent=False)
        wait_until(lambda: sim.report()["arrivals"] == 1, what="the call")
        rgovd.restart()
        found = once.expect("UpstreamError")
        check("may not be sent twice" in found["text"], found)
        wait_until(rgovd.is_idle, what="an idle rgovd")
        equal(sim.report()["arrivals"], 1, "arrivals at the provider")


@checks.test
def a_deadline_holds_while_rgovd_is_away():
    """Nobody comes back: the request ends by its deadline, as Timeout."""
    source = """
import rgov, time
gov = rgov.connect()
print("asking", flush=True)
begin = time.monotonic()
try:
    gov.invoke("vendor.model-v1", {"max_tokens": 10}, user="u", timeout=4)
except rgov.Timeout as e:
    print("timeout", round(time.monotonic() - begin, 2))
"""
    with Sim(latency="fixed:30") as sim, Rgovd(sim=sim) as rgovd:
        client = Process("client", [PYTHON, "-c", source],
                         rgovd.scratch.path / "client.log",
                         env=rgovd.client_env())
        wait_until(lambda: rgovd.stats()["active_requests"] == 1,
                   what="the running request")
        rgovd.kill9()
        equal(client.wait(), 0, f"the client's status ({client.tail()})")
        check("timeout" in client.text(), client.text())
        seconds = float(client.text().split()[-1])
        check(3.5 <= seconds <= 6, f"it ended after {seconds} s, not 4")


checks.main()
