#!/usr/bin/python3 -B
"""Clients that are stopped in the middle of whatever they do, for longer than
any time-out: the handshake's, the deadlines of their requests, the time a client
looks for rgovd.  A stopped process is not a dead one.
"""

from storm import *

CLIENTS, THREADS, STOPPED = 10, 3, 7
# Above the five seconds that rgovd gives a handshake, and every 'd' deadline.
LONG_S = 7.0


def stop_many(storm, pool, how_many):
    """Each at a moment of its own; some have just been started."""
    for process in storm.random.sample(pool.live, how_many):
        time.sleep(storm.random.uniform(0, 0.01))
        storm.suspend_for(process.pid, LONG_S)


def is_served(storm, since):
    return storm.sim.report()["ok"] > since + 20


@checks.cases(*[(engine, engine) for engine in dict.fromkeys(ENGINES)])
def stopped_is_not_dead(_name, engine):
    """Seven of ten clients are stopped at random moments -- of their start, of
    a submit, of a wait -- for longer than any time-out, twice; rgovd is killed
    while they are.  The others are served all the while; the stopped go on as if
    nothing had been, and each of their requests has one end."""
    with Storm(engine) as storm:
        pool = Pool(storm, CLIENTS, THREADS)
        stop_many(storm, pool, STOPPED)
        for kills in (False, True):
            served = storm.sim.report()["ok"]
            if kills:
                storm.restart_rgovd()
            wait_until(lambda: is_served(storm, served),
                       what="the others' answers")
            while storm.stopped:
                storm.pause(0.1)
            if not kills:
                stop_many(storm, pool, STOPPED)
        pool.end()
        storm.check_quiet()
        calls, excused, reports = storm_judge.calls_of(pool.lines())
        for pid, report in reports.items():
            equal(report.taken, 0, f"slots that {pid} still holds")
        storm.verdict("pauses", storm.judge(calls, excused))


checks.main()
