#!/usr/bin/python3 -B
"""Users of the Flask application behind gunicorn, with every kind of worker
that the example has a configuration for: each gets the answer to what this user
sent, and Bedrock never sees more than the limit.
"""

import json

from harness import *

APP = ROOT / "examples/flask-app"
RPM, MINUTE_S = 30, 3.0
USERS, EACH = 20, 3  # twice what one window holds


def body_of(user, i):
    """What the application makes of the section, as rgov sends it."""
    return json.dumps({
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 400,
        "messages": [{"role": "user",
                      "content": f"Summarise.\n\nsection {i} of {user}"}],
    }, separators=(",", ":")).encode()


def visit(web, user):
    """All requests of one user, one after the other: (user, i, response)."""
    return [(user, i, web.post("/analyze_section", {
        "session_id": user, "instruction": "Summarise.",
        "text": f"section {i} of {user}"})) for i in range(EACH)]


def check_answers(visits):
    for user, i, response in visits:
        what = f"section {i} of {user}"
        equal(response.status, 200, f"{what}: {response.body[:200]!r}; status")
        equal(response.json()["session_id"], user, f"{what}: session_id")
    check_own_answers([(body_of(user, i), response.json()["analysis"])
                       for user, i, response in visits])


@checks.cases(("sync", "sync", False), ("sync-preload", "sync", True),
              ("gthread", "gthread", False),
              ("gthread-preload", "gthread", True))
def users_get_their_answers(_name, worker_class, preload):
    """4 workers, 20 users: own answers, no throttle, no window above the
    limit, and nothing left in rgovd."""
    with Sim(rpm=RPM, minute=MINUTE_S, concurrency=6,
             latency="uniform:0.05,0.15") as sim, \
            Rgovd(limits(RPM, 6, minute=MINUTE_S), sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP,
                     argv=["--config", APP / f"gunicorn_{worker_class}.py"],
                     worker_class=worker_class, preload=preload,
                     threads=8 if worker_class == "gthread" else None) as web:
        results = in_parallel([lambda n=n: visit(web, f"user-{n:02}")
                               for n in range(USERS)])
        for result in results:
            if isinstance(result, Exception):
                raise result
        report = sim.report()
        equal(report["throttled"], 0, "throttled responses")
        equal(report["duplicates"], 0, "bodies that arrived twice")
        check(report["max_arrivals_in_window"] <= RPM,
              f"{report['max_arrivals_in_window']} starts in a window of {RPM}")
        check_answers(sum(results, []))
        wait_until(rgovd.is_idle, what="an idle rgovd")
        stats = web.get("/queue_stats").json()
        equal(stats["total_requests"], USERS * EACH, "total_requests")
        equal(stats["successful_requests"], USERS * EACH,
              "successful_requests")
        equal(stats["failed_requests"], 0, "failed_requests")


@checks.test
def a_wrong_request_is_told_so():
    """The application answers 400 to what is no request, and rgovd sees
    nothing of it."""
    with Sim() as sim, Rgovd(sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP, workers=1) as web:
        for body in (b"{", b"[]", b'{"session_id": "a"}',
                     b'{"session_id": "", "text": "t"}',
                     b'{"session_id": "' + b"u" * 64 + b'", "text": "t"}',
                     b'{"session_id": "a\\nb", "text": "t"}'):
            equal(web.post("/analyze_section", body).status, 400,
                  f"status of {body[:40]!r}")
        equal(sim.report()["arrivals"], 0, "arrivals")


@checks.test
def the_application_tells_that_rgovd_is_away():
    """503 while no rgovd is there, 200 as soon as it is, and the worker serves
    all the while."""
    with Sim() as sim:
        rgovd = Rgovd(sim=sim)
        try:
            with Gunicorn("app:app", rgovd=rgovd, chdir=APP,
                          workers=1) as web:
                section = {"session_id": "alice", "text": "t"}
                response = web.post("/analyze_section", section)
                equal(response.status, 503, "status without rgovd")
                check(str(rgovd.socket) not in response.body.decode(),
                      "the answer tells a stranger no path of the host")
                check(str(rgovd.socket) in web.process.text(),
                      "the log names the socket")
                rgovd.start()
                equal(web.post("/analyze_section", section).status, 200,
                      "status with rgovd")
        finally:
            rgovd.stop()


@checks.test
def direct_workers_get_throttled():
    """The same application without rgov exceeds the quota that it knows: what
    the demonstration shows, and what makes the tests above mean something."""
    with Sim(rpm=RPM, minute=MINUTE_S, concurrency=3,
             latency="uniform:0.05,0.15") as sim:
        env = {"STRATEGY": "direct", "BEDROCK_ENDPOINT": sim.url,
               "MINUTE_S": MINUTE_S, "BACKOFF_BASE_S": MINUTE_S / 60,
               **AWS_ENV}
        with Gunicorn("app:app", chdir=APP, worker_class="gthread", threads=8,
                      env=env) as web:
            in_parallel([lambda n=n: visit(web, f"user-{n}")
                         for n in range(10)])
        check(sim.report()["throttled"] > 0, "there were throttled responses")


checks.main()
