#!/usr/bin/python3 -B
"""How rgovd ends: SIGTERM finishes what runs and leaves what waits to a
successor, SIGINT refuses what waits, a second signal ends it at once.
"""

import harness
from worker import *


def running(rgovd, n):
    wait_until(lambda: rgovd.stats()["active_requests"] == n,
               what=f"{n} running requests")


def queued(rgovd, n):
    wait_until(lambda: rgovd.stats()["queue_size"] == n,
               what=f"{n} queued requests")


def ended_well(rgovd, timeout=PATIENCE_S):
    equal(rgovd.process.wait(timeout), 0, "rgovd's status")


@checks.test
def term_keeps_what_waits():
    """Running requests are answered before it ends, the waiting ones, also
    those that are handed in meanwhile, by its successor: each is sent once."""
    with Sim(latency="fixed:1") as sim, \
            Rgovd(limits(100, 2, 2), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        first = [worker.invoke() for _ in range(2)]
        running(rgovd, 2)
        rest = [worker.invoke() for _ in range(2)]
        queued(rgovd, 2)
        rgovd.process.signal(signal.SIGTERM)
        wait_until(lambda: "rgovd.draining" in rgovd.process.text(),
                   what="the drain")
        rest.append(worker.invoke())
        for one in first:
            one.expect("Reply")
        ended_well(rgovd)
        equal(sim.report()["arrivals"], 2, "arrivals before the successor")
        check(not any(one.done() for one in rest), "the others wait")
        rgovd.start()
        for one in rest:
            one.expect("Reply")
        equal(sim.report()["arrivals"], 5, "arrivals")
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def int_refuses_what_waits():
    """Draining, at once, for what is queued, for what is still being read and
    for what comes; what runs is answered."""
    with Sim(latency="fixed:2") as sim, \
            Rgovd(limits(100, 1, 1), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        first = worker.invoke()
        running(rgovd, 1)
        rest = [worker.invoke() for _ in range(3)]
        queued(rgovd, 3)
        rgovd.process.signal(signal.SIGINT)
        for one in rest:
            one.expect("Draining")
        worker.invoke().expect("Draining")
        check(not first.done(), "the running one runs")
        first.expect("Reply")
        ended_well(rgovd)
        equal(sim.report()["arrivals"], 1, "arrivals")


def helper_works(rgovd):
    """Does the thread that takes large bodies in run just now?"""
    return any("(rgovd-intake) R " in (task / "stat").read_text()
               for task in
               pathlib.Path(f"/proc/{rgovd.process.pid}/task").iterdir())


@checks.test
def int_refuses_bodies_that_come_in():
    """Large bodies that the helper thread has in hand when SIGINT comes: each
    is answered, as Draining or before."""
    with Sim() as sim, Rgovd(limits(100, 1, 1), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.permit(user="p").expect("Permit")
        # All are handed in while it cannot look.
        rgovd.process.signal(signal.SIGSTOP)
        sent = [worker.invoke(body_bytes=25_000_000, user=f"u{n}")
                for n in range(6)]
        wait_until(lambda: worker.say("waiting").result()["n"] == 6,
                   what="all bodies in shared memory")
        rgovd.process.signal(signal.SIGCONT)
        wait_until(lambda: helper_works(rgovd), what="the helper's work",
                   interval=0.001)
        rgovd.process.signal(signal.SIGINT)
        kinds = [one.result()["type"] for one in sent]
        check(set(kinds) <= {"Draining", "Reply"} and "Draining" in kinds,
              f"answers: {kinds}")
        ended_well(rgovd)


@checks.test
def int_ends_a_backoff():
    """A request that waits to be tried again is refused too; one whose try
    fails during the drain is told of that failure."""
    with Sim(extra=["--fault-model", "ill.model=503",
                    "--fault-model", "slow.model=hang"]) as sim, \
            Rgovd(limits(100, 3, 3) + 'transient_backoff = "300s"\n'
                          'backoff_cap = "3600s"\n', sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        backing = worker.invoke("ill.model", timeout=3000)
        wait_until(lambda: rgovd.stats()["counters"]["retries"] == 1,
                   what="the backoff")
        failing = worker.invoke("slow.model")
        running(rgovd, 1)
        rgovd.process.signal(signal.SIGINT)
        backing.expect("Draining")
        sim.process.kill9()
        failing.expect("UpstreamError")
        ended_well(rgovd)


@checks.test
def term_keeps_a_backoff():
    """A request that waits to be tried again is tried by the successor."""
    with Sim(extra=["--fault", "503@1"]) as sim, \
            Rgovd(limits(100, 1, 1) + 'transient_backoff = "300s"\n'
                  'backoff_cap = "3600s"\n', sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        backing = worker.invoke(timeout=3000)
        wait_until(lambda: rgovd.stats()["counters"]["retries"] == 1,
                   what="the backoff")
        rgovd.process.signal(signal.SIGTERM)
        ended_well(rgovd)
        check(not backing.done(), "it waits")
        rgovd.start()
        backing.expect("Reply")
        equal(sim.report()["arrivals"], 2, "arrivals")


@checks.cases(("term", signal.SIGTERM), ("int", signal.SIGINT))
def a_second_signal_ends_it_at_once(_name, number):
    """With everything under way: calls, a hanging one, a backoff, permits,
    bodies in the helper's hands.  The status is 0, and what was sent is sent
    again by the successor, the permits count there."""
    with Sim(extra=["--fault-model", "ill.model=503",
                    "--fault-model", "slow.model=hang"]) as sim, \
            Rgovd(limits(100, 6, 6) + 'transient_backoff = "300s"\n'
                          'backoff_cap = "3600s"\n', sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.invoke("ill.model", timeout=3000)
        wait_until(lambda: rgovd.stats()["counters"]["retries"] == 1,
                   what="the backoff")
        for n in range(2):
            worker.permit(user=f"p{n}").expect("Permit")
        for _ in range(5):
            worker.invoke("slow.model")
        running(rgovd, 6)
        for n in range(4):
            worker.invoke(body_bytes=25_000_000, user=f"u{n}")
        rgovd.process.signal(number)
        wait_until(lambda: "rgovd.draining" in rgovd.process.text(),
                   what="the drain")
        check(rgovd.process.alive(), "it waits for what runs")
        rgovd.process.signal(number)
        ended_well(rgovd, 10)
        rgovd.start()
        check(rgovd.stats()["active_requests"] >= 2, "the permits count")
        wait_until(lambda: rgovd.stats()["active_requests"] == 6,
                   what="the calls again")
        wait_until(lambda:
                   rgovd.stats()["counters"]["sessions_reattached"] == 1,
                   what="the session on the board")


@checks.test
def a_board_that_is_left_says_what_is_left():
    """After a drain the board shows the permit that is out, and counts neither
    it nor what waits as ended."""
    with Sim(latency="fixed:1") as sim, \
            Rgovd(limits(100, 2, 2), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.permit(user="p").expect("Permit")
        first = worker.invoke()
        running(rgovd, 2)
        worker.invoke()
        queued(rgovd, 1)
        rgovd.process.signal(signal.SIGTERM)
        first.expect("Reply")
        ended_well(rgovd)
        done = rgovd.rgov("stats", "--json")
        c = json.loads(done.stdout)["counters"]
        equal((c["total_requests"], c["successful_requests"],
               c["failed_requests"], c["cancelled_requests"],
               c["permits_reclaimed"]), (3, 1, 0, 0, 0),
              "total, successful, failed, cancelled, reclaimed")


@checks.test
def replace_takes_over():
    """--replace ends the holder by its pid and serves its clients; without it
    the second rgovd names the holder and exits with 69."""
    with Sim(latency="fixed:0.5") as sim, \
            Rgovd(limits(100, 1, 1), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        sent = [worker.invoke() for _ in range(3)]
        running(rgovd, 1)
        first = rgovd.process
        rgovd.start(wait=False)
        equal(rgovd.process.wait(), 69, "status of the second")
        check(f"holder={first.pid}" in rgovd.process.text(), "the holder")
        check(first.alive(), "the first goes on")
        rgovd.extra_argv = ["--replace"]
        rgovd.start()
        equal(first.wait(), 0, "status of the first")
        for one in sent:
            one.expect("Reply")
        equal(sim.report()["arrivals"], 3, "arrivals")


def with_stderr(rgovd, opened):
    """Starts rgovd with that file as its stderr."""
    return subprocess.Popen(
        [str(a) for a in rgovd.argv()], env=rgovd.env, stderr=opened,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        preexec_fn=harness._die_with_parent(signal.SIGKILL))


@checks.cases(("full",), ("closed",), ("unread",))
def nobody_reads_the_log(how):
    """A full disk, a pipe whose reader is gone, one that nobody empties: lines
    are lost and counted, requests are served, it ends as asked."""
    with Sim() as sim:
        rgovd = Rgovd(limits(60000, 9, 9), sim=sim)
        read_end, write_end = os.pipe()
        if how == "closed":
            os.close(read_end)
        if how == "full":
            os.close(write_end)
            write_end = os.open("/dev/full", os.O_WRONLY)
        process = with_stderr(rgovd, write_end)

        def lines_are_lost():
            for _ in range(50):
                process.send_signal(signal.SIGHUP) # a line each
            return rgovd.stats()["counters"]["log_lines_lost"] > 0

        try:
            wait_until(rgovd.socket.exists, what="rgovd's socket")
            wait_until(lines_are_lost, what="lost lines, counted",
                       interval=0.001)
            with Worker(rgovd) as worker:
                worker.invoke().expect("Reply")
            process.terminate()
            equal(process.wait(PATIENCE_S), 0, "status")
        finally:
            process.kill()
            process.wait()
            os.close(write_end)
            if how != "closed":
                os.close(read_end)
            rgovd.stop()


checks.main()
