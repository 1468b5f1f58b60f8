#!/usr/bin/python3 -B
"""What is counted adds up, whatever became of the requests; and nothing waits
that may start.
"""

from worker import *

MIB = 1 << 20


def check_sums(rgovd):
    """Every accepted request has ended in exactly one way, every started one
    has ended, and no record of it is left."""
    stats = rgovd.stats()
    c = stats["counters"]
    equal(c["successful_requests"] + c["failed_requests"]
          + c["cancelled_requests"], c["total_requests"],
          "successful + failed + cancelled requests")
    equal(c["ended_requests"], c["started_requests"], "ended requests")
    equal(stats["live"], [], "live records")
    equal(stats["active_users"], 0, "active users")
    return c


def running(rgovd, n):
    wait_until(lambda: rgovd.stats()["active_requests"] == n,
               what=f"{n} running requests")


def queued(rgovd, n):
    wait_until(lambda: rgovd.stats()["queue_size"] == n,
               what=f"{n} queued requests")


@checks.test
def every_end_is_counted_once():
    """Replies, errors, refusals, deadlines, retries, cancelled and killed in
    each stage, permits settled in each way: the sums hold."""
    with Sim(extra=["--fault-model", "bad.model=404",
                    "--fault-model", "ill.model=500",
                    "--fault-model", "slow.model=hang"]) as sim, \
            Rgovd(limits(1000, concurrency=4, per_user=4)
                  + 'permit_ttl = "6s"\nthrottle_backoff = "5ms"\n'
                  'probe_ok_after = "10ms"\n',
                  sim=sim) as rgovd:
        with Worker(rgovd) as worker, Worker(rgovd) as doomed:
            worker.invoke().expect("Reply")
            worker.invoke("bad.model").expect("UpstreamError")
            worker.invoke("ill.model").expect("UpstreamError")
            worker.invoke(body="no JSON").expect("Invalid")
            worker.invoke("slow.model", timeout=0.5).expect("Timeout")
            for outcome in ("ok", "throttled", "failed", "unused"):
                held = worker.permit("own.model").expect("Permit")
                worker.settle(held["permit"], outcome=outcome)
            worker.permit("own.model")  # never settled
            doomed.permit("own.model", user="d").expect("Permit")
            hanging = [worker.start("slow.model", user="h") for _ in range(2)]
            running(rgovd, 4)
            waiting = worker.start(user="w")
            late = worker.invoke(user="w", timeout=0.3)
            late.expect("Timeout")
            worker.cancel(waiting)
            waiting.expect("Cancelled")
            queued(rgovd, 0)
            worker.cancel(hanging[0])
            hanging[0].expect("Cancelled")
            running(rgovd, 3)
            doomed.start("slow.model", user="d")
            doomed.start("slow.model", user="d")
            running(rgovd, 4)
            queued(rgovd, 1)
            doomed.kill9()
            worker.cancel(hanging[1])
            wait_until(rgovd.is_idle, what="an idle rgovd")
        c = check_sums(rgovd)
        equal(c["permits_expired"], 1, "expired permits")
        equal(c["permits_reclaimed"], 1, "reclaimed permits")
        check(c["refused_requests"] >= 1 and c["deadline_requests"] == 2
              and c["retries"] >= 2, f"{c}")


@checks.test
def bodies_that_never_came_in_are_counted():
    """Cancelled, or their client killed, while a large body is read by the
    helper: each has one end, and gives its bytes back."""
    with Sim() as sim, \
            Rgovd(limits(1000) + 'max_queued_bytes = "120M"\n',
                  sim=sim) as rgovd:
        with Worker(rgovd) as worker:
            for _ in range(3):
                sent = [worker.start(body_bytes=25_000_000, user=f"u{n}")
                        for n in range(3)]
                wait_until(lambda: rgovd.stats()["sessions"] >= 3,
                           what="their sessions")
                for one in sent:
                    with contextlib.suppress(KeyError):
                        worker.cancel(one)
                for one in sent:
                    check(one.result()["type"] in ("Cancelled", "Reply"),
                          f"{one.result()}")
            for _ in range(2):
                with Worker(rgovd) as doomed:
                    for n in range(4):
                        doomed.invoke(body_bytes=25_000_000, user=f"u{n}")
                    wait_until(lambda: rgovd.stats()["sessions"] >= 2,
                               what="its session")
                    doomed.kill9()
            wait_until(rgovd.is_idle, what="an idle rgovd")

            def four_fit():
                sent = [worker.invoke(body_bytes=25_000_000, user=f"u{n}")
                        for n in range(4)]
                return all([one.result()["type"] == "Reply" for one in sent])
            # When the helper has seen the last of the dead, all the bytes are
            # back.
            wait_until(four_fit, what="room for four at once")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        check_sums(rgovd)


def hand_in_together(rgovd, worker, asks):
    """rgovd finds them all in one turn."""
    first = worker.permit("other.model").expect("Permit")
    worker.settle(first["permit"])
    wait_until(lambda: rgovd.is_idle() and rgovd.stats()["host"]["starts"] == 0,
               what="an empty window")
    rgovd.process.signal(signal.SIGSTOP)
    for ask in asks:
        ask(body_bytes=4096)
    wait_until(lambda: worker.say("bytes_out").result()["bytes"]
               >= 4096 * len(asks), what="the requests in shared memory")
    rgovd.process.signal(signal.SIGCONT)


@checks.test
def a_window_opens_while_a_long_call_runs():
    """One start a window, a call longer than many windows: the next one starts
    when the window has room, not when the call ends."""
    with Sim(latency="fixed:9") as sim, \
            Rgovd(limits(1, concurrency=5, per_user=5, minute=1),
                  sim=sim) as rgovd, Worker(rgovd) as worker:
        hand_in_together(rgovd, worker, [worker.invoke] * 2)
        running(rgovd, 1)
        wait_until(lambda: rgovd.stats()["active_requests"] == 2,
                   what="the second start", timeout=6)
        equal(sim.report()["arrivals"], 2, "arrivals")


@checks.test
def a_probe_proves_the_lane_while_it_runs():
    """After a throttle one probe goes; when it has not been throttled within
    probe_ok_after, the others follow, although it runs much longer."""
    with Sim(latency="fixed:9", extra=["--fault", "429@1"]) as sim, \
            Rgovd(limits(100, concurrency=5, per_user=5)
                  + 'throttle_backoff = "1s"\nprobe_ok_after = "500ms"\n',
                  sim=sim) as rgovd, Worker(rgovd) as worker:
        worker.invoke()
        wait_until(lambda: rgovd.stats()["throttled_requests"] == 1,
                   what="the throttle")
        for _ in range(2):
            worker.invoke()
        wait_until(lambda: rgovd.stats()["active_requests"] == 3,
                   what="all three running", timeout=6)


@checks.test
def what_was_never_sent_costs_no_tokens():
    """Nobody listens at the endpoint: the tokens and the places of the window
    are back."""
    model = 'adaptive = false\nmodel "*" {\ntokens_per_minute = 1000\n}\n'
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with Rgovd(limits(5, minute=600) + model + "max_attempts = 1\n",
                   endpoint=f"http://127.0.0.1:{port}") as rgovd, \
                Worker(rgovd) as worker:
            for _ in range(8):
                worker.invoke(body='{"max_tokens":900}', timeout=10) \
                    .expect("UpstreamError")
            lane = next(l for l in rgovd.stats()["lanes"]
                        if l["name"] == "vendor.model-v1")
            equal(rgovd.stats()["host"]["starts"], 0, "starts")
            check_sums(rgovd)
            wait_until(lambda: next(
                l for l in rgovd.stats()["lanes"]
                if l["name"] == "vendor.model-v1")["tokens_available"] == 1000,
                what=f"all tokens; at first {lane}", timeout=5)


@checks.test
def a_body_that_changed_is_not_sent():
    """Rewritten behind the library's back after it was taken in: refused as
    body_changed, and the place in the window is free for the next."""
    with Sim(latency="fixed:1") as sim, \
            Rgovd(limits(100, concurrency=1, per_user=1), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        first = worker.invoke()
        running(rgovd, 1)
        second = worker.invoke()
        queued(rgovd, 1)
        for slot in (0, 1):
            equal(worker.say("scribble", slot=slot).result(), {}, "scribbling")
        first.expect("Reply")
        found = second.expect("Rejected")
        equal(found["reason"], "body_changed", "reason")
        worker.invoke().expect("Reply")
        equal(sim.report()["arrivals"], 2, "arrivals")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        check_sums(rgovd)


@checks.test
def lanes_fade_on_the_board():
    """When nothing happens any more, the board still shows how the window of
    a lane empties."""
    with Sim() as sim, Rgovd(limits(100, minute=1)
                             + 'model "*" {\nrequests_per_minute = 50\n}\n',
                             sim=sim) as rgovd, Worker(rgovd) as worker:
        def starts():
            return {l["name"]: l["starts"] for l in rgovd.stats()["lanes"]}
        worker.invoke().expect("Reply")
        wait_until(lambda: starts().get("vendor.model-v1") == 1,
                   what="the start on the board", interval=0.005)
        wait_until(lambda: starts()["vendor.model-v1"] == 0, timeout=8,
                   what="the empty window on the board")


@checks.test
def not_idempotent_is_sent_once():
    """kill -9 while a request is out that must not be sent twice: it fails, and
    is counted; one that may be is sent again."""
    with Sim(latency="fixed:1.5") as sim, \
            Rgovd(limits(100, 4, 4), sim=sim) as rgovd:
        client = Process("rgov call", [
            BUILD / "tests/c_client", "1", "1"],
            rgovd.scratch.path / "c.log", env=rgovd.client_env())
        running(rgovd, 1)
        rgovd.restart()
        equal(client.wait(), 0, client.text())
        equal(sim.report()["arrivals"], 2, "arrivals")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        c = check_sums(rgovd)
        equal(c["reissued_requests"], 1, "reissued requests")


@checks.test
def a_missing_maximum_is_said_once():
    """A body without max_tokens reserves default_max_tokens; that is said once
    for each model, with the figure, and not where the body has one."""
    with Sim() as sim, \
            Rgovd(limits(100) + 'model "*" {\ndefault_max_tokens = 777\n}\n',
                  sim=sim) as rgovd, Worker(rgovd) as worker:
        for body in ('{}', '{"a":1}', '{"max_tokens":5}'):
            worker.invoke(model="a.loud", body=body).expect("Reply")
        worker.invoke(model="a.named", body='{"max_tokens":5}').expect("Reply")
        said = [line for line in rgovd.process.text().splitlines()
                if "event=model.default_max_tokens" in line]
        equal(len(said), 1, f"lines: {said}")
        check("level=warn" in said[0] and "model=a.loud" in said[0]
              and "default_max_tokens=777" in said[0], said[0])
        events = [e["text"] for e in rgovd.stats()["events"]
                  if e["kind"] == "default"]
        equal(len(events), 1, f"events: {events}")


checks.main()
