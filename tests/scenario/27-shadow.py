#!/usr/bin/python3 -B
"""Shadow mode: everything passes at once, and rgovd says what it would have
delayed or refused; it is switched on and off while requests run.
"""

from worker import *

MODEL = "vendor.model-v1"
NARROW = limits(100, 1, 1)  # one at a time
SHADOW = "shadow = true\n"


def counters(rgovd):
    return rgovd.stats()["counters"]


def shadow(rgovd, *names):
    found = counters(rgovd)
    return tuple(found["shadow_" + name] for name in names)


def settled(rgovd):
    """No twin is left, and nothing is reserved."""
    wait_until(rgovd.is_idle, what="an idle policy")
    wait_until(lambda: all(lane["tokens_reserved"] == 0
                           for lane in rgovd.stats()["lanes"]),
               what="lanes where nothing is reserved")


def reload(rgovd, text):
    rgovd.write_config(text)
    done = rgovd.rgov("reload")
    equal(done.returncode, 0, done.stdout + done.stderr)


@checks.test
def everything_passes_and_the_waits_are_what_they_would_be():
    """Four calls of 0.6 s with one place: they run together; governed, they
    would have waited 0, 0.6, 1.2 and 1.8 s."""
    with Sim(latency="fixed:0.6") as sim, \
            Rgovd(NARROW + SHADOW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        before = time.monotonic()
        calls = [worker.invoke(user=f"u{i}") for i in range(4)]
        for one in calls:
            check(one.expect("Reply")["wait"] < 0.3, "it did not wait")
        check(time.monotonic() - before < 2, "they ran together")
        check(rgovd.stats()["rgovd"]["shadow"], "the mark")
        check(rgovd.stats()["queue_size"] > 0, "a queue that would be")
        settled(rgovd)
        equal(shadow(rgovd, "passed", "delayed", "refused"), (4, 3, 0),
              "passed, delayed, refused")
        waited = counters(rgovd)["wait_time_ns"] / 1e9
        check(3.4 < waited < 4.6, f"{waited} s of waiting that would be")
        c = rgovd.stats()
        equal((c["total_requests"], c["successful_requests"]), (4, 4),
              "total and successful")
        check("SHADOW" in rgovd.rgov("stats").stdout, "rgov stats marks it")


@checks.test
def what_would_be_refused_is_counted_by_kind():
    """A full queue of one user, a request that never fits, a deadline that
    would pass in the queue: each is answered all the same."""
    config = NARROW + SHADOW + "max_queued_per_user = 2\n" \
        + f'model "{MODEL}" {{ tokens_per_minute = 4096 }}\n'
    with Sim(latency="fixed:0.6") as sim, Rgovd(config, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        for one in [worker.invoke() for _ in range(5)]:
            one.expect("Reply")
        settled(rgovd)
        equal(shadow(rgovd, "delayed", "refused", "user_limit"), (2, 2, 2),
              "delayed, refused, user_limit")
        worker.invoke(body='{"max_tokens": 5000}').expect("Reply")
        equal(shadow(rgovd, "refused", "too_large"), (3, 1), "too_large")
        for one in [worker.invoke(user=f"u{i}", timeout=1) for i in range(3)]:
            one.expect("Reply")
        settled(rgovd)
        equal(shadow(rgovd, "refused", "deadline"), (4, 1), "deadline")
        equal(rgovd.stats()["failed_requests"], 0, "failed")


@checks.test
def a_permit_has_a_twin_too():
    """Two permits at once where one is allowed; the second would have waited
    until the first was settled."""
    with Rgovd(NARROW + SHADOW) as rgovd, Worker(rgovd) as worker:
        first = worker.permit(user="a", tokens=10)
        first.expect("Permit")
        second = worker.permit(user="b", tokens=10)
        second.expect("Permit")
        equal(rgovd.stats()["queue_size"], 1, "would wait")
        worker.settle(first.result()["permit"], input_tokens=3)
        worker.settle(second.result()["permit"], input_tokens=3)
        settled(rgovd)
        equal(shadow(rgovd, "passed", "delayed"), (2, 1), "passed, delayed")
        wait_until(lambda: any(lane["done"] == 2
                               for lane in rgovd.stats()["lanes"]),
                   what="two that are done in their lane")


@checks.test
def a_throttle_reaches_its_caller():
    """No retry and no closed gate: it is counted, and that is all."""
    with Sim(rpm=2, minute=60) as sim, \
            Rgovd(limits(1000, 9, 9) + SHADOW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        for _ in range(2):
            worker.invoke().expect("Reply")
        for _ in range(3):
            equal(worker.invoke().expect("UpstreamError")["status"], 429,
                  "status")
        stats = rgovd.stats()
        equal((stats["throttled_requests"], stats["counters"]["retries"]),
              (3, 0), "throttled and tried again")
        settled(rgovd)
        wait_until(lambda: all(lane["gate_open"]
                               for lane in rgovd.stats()["lanes"]),
                   what="open gates")


@checks.test
def switched_off_what_runs_counts():
    """Three run where one may: after the reload they fill the limit, and the
    next one waits for all of them, and for its window."""
    with Sim(latency="fixed:2") as sim, \
            Rgovd(limits(3, 1, 1, minute=3) + SHADOW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        calls = [worker.invoke(user=f"u{i}") for i in range(3)]
        wait_until(lambda: sim.report()["arrivals"] == 3, what="three calls")
        equal(rgovd.stats()["active_requests"], 1, "what would run")
        reload(rgovd, limits(3, 1, 1, minute=3))
        stats = rgovd.stats()
        equal((stats["active_requests"], stats["queue_size"]), (3, 0),
              "what runs and waits")
        check(not stats["rgovd"]["shadow"], "the mark is gone")
        later = worker.invoke(user="later")
        for one in calls:
            one.expect("Reply")
        check(later.expect("Reply")["wait"] > 2, "a whole window")
        check("every window counts as full" in rgovd.process.text(),
              "the log says why")
        settled(rgovd)
        equal(rgovd.stats()["counters"]["shadow_passed"], 3, "passed")


@checks.test
def switched_off_at_rest_nothing_waits():
    """Where no request would have waited, governing begins at once."""
    with Sim() as sim, Rgovd(limits(9, 2, 2) + SHADOW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.invoke().expect("Reply")
        settled(rgovd)
        reload(rgovd, limits(9, 2, 2))
        check(worker.invoke().expect("Reply")["wait"] < 1, "no window is full")
        equal(rgovd.stats()["host"]["starts"], 2, "starts in the window")


@checks.test
def switched_on_what_waits_stays_governed():
    """Who came before waits for its place; who comes now does not."""
    with Sim(latency="fixed:1.5") as sim, Rgovd(NARROW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        first, second = worker.invoke(user="a"), worker.invoke(user="b")
        wait_until(lambda: rgovd.stats()["queue_size"] == 1, what="one waits")
        reload(rgovd, NARROW + SHADOW)
        third = worker.invoke(user="c")
        check(third.expect("Reply")["wait"] < 0.5, "it passed")
        waits = sorted(one.expect("Reply")["wait"] for one in (first, second))
        check(waits[0] < 0.5 and waits[1] > 1, f"one waited: {waits}")
        settled(rgovd)
        equal(shadow(rgovd, "passed", "delayed"), (1, 1), "passed, delayed")


@checks.test
def a_killed_worker_leaves_no_twin():
    """Calls, permits, twins that run and that wait: all are gone with it, and
    so with requests that are cancelled."""
    with Sim(latency="fixed:30") as sim, \
            Rgovd(NARROW + SHADOW, sim=sim) as rgovd:
        with Worker(rgovd) as worker:
            for i in range(3):
                worker.invoke(user=f"u{i}")
            worker.permit(user="p").expect("Permit")
            wait_until(lambda: sim.report()["arrivals"] == 3, what="calls")
            equal(rgovd.stats()["queue_size"], 3, "twins that wait")
            worker.kill9()
            settled(rgovd)
        equal(counters(rgovd)["permits_reclaimed"], 1, "permits")
        with Worker(rgovd) as worker:
            calls = [worker.start(user=f"u{i}") for i in range(3)]
            wait_until(lambda: sim.report()["arrivals"] == 6, what="calls")
            for one in calls:
                worker.cancel(one)
                one.expect("Cancelled")
            settled(rgovd)


@checks.test
def a_restart_in_the_middle():
    """rgovd is killed: permits are still counted, calls are made again, and
    its successor governs, with what was started in its windows."""
    with Sim(latency="fixed:1") as sim, \
            Rgovd(limits(6, 1, 1, minute=60) + SHADOW, sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        permit = worker.permit(user="p", tokens=10)
        permit.expect("Permit")
        call = worker.invoke(user="a")
        wait_until(lambda: sim.report()["arrivals"] == 1, what="a call")
        rgovd.kill9()
        rgovd.write_config(limits(6, 4, 4, minute=60))
        rgovd.restart()
        call.expect("Reply")
        stats = rgovd.stats()
        equal(stats["active_requests"], 1, "the permit")
        equal(stats["host"]["starts"], 3, "two starts, and one again")
        worker.settle(permit.result()["permit"], input_tokens=3)
        settled(rgovd)


checks.main()
