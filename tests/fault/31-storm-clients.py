#!/usr/bin/python3 -B
"""A storm over lean clients: many threads in every kind of request, that fork
and exec while requests are out, while clients and rgovd are killed at random.
The log of the simulator is the judge.
"""

from storm import *
import storm_judge

CLIENTS, THREADS = 6, 4


def strike_clients(storm, pool):
    pool.suspend(0.5) if storm.chance(0.2) else pool.strike()
    storm.pause(0.06)


def strike_rgovd(storm, pool):
    if storm.chance(0.1):
        pool.suspend(0.5)
    storm.restart_rgovd()
    storm.pause(0.12)


def strike_both(storm, pool):
    strike_rgovd(storm, pool) if storm.chance(0.3) \
        else strike_clients(storm, pool)


def check_wakes(storm, reports):
    """Nobody found an answer by looking, but where rgovd died before it could
    ring: once for each thread and death at most."""
    for pid, report in reports.items():
        excused = THREADS * len(storm.deaths_ns)
        if report.by_slice > excused and pid not in storm.stopped_s:
            storm.violations.append(
                f"{pid} found {report.by_slice} answers without a wake-up")
        if report.taken != 0:
            storm.violations.append(f"{pid} ended with {report.taken} slots "
                                    "taken")


@checks.cases(("clients", strike_clients, 0, RPM, 180),
              ("rgovd", strike_rgovd, 1, FEW, 130),
              ("both", strike_both, 0, RPM, 220),
              ("both-few", strike_both, 1, FEW, 220))
def storm_over_clients(name, strike, engine, rpm, kills):
    """Survivors are answered, each request is there as often as it may be, no
    window exceeds the limit, and nothing is left."""
    with Storm(ENGINES[engine], rpm) as storm:
        pool = Pool(storm, CLIENTS, THREADS)
        while storm.n_kills() < kills:
            strike(storm, pool)
        pool.end()
        storm.check_quiet()
        calls, excused, reports = storm_judge.calls_of(pool.lines())
        check_wakes(storm, reports)
        judge = storm.judge(calls, excused)
        storm.verdict(name, judge)


checks.main()
