#!/usr/bin/python3 -B
"""A storm over gunicorn: 50 users of the example's Flask application, 8 workers
that fork and exec beside their requests, and random SIGKILL, SIGABRT, SIGSTOP
and core dumps; rgovd killed again and again; both.  The log of the simulator is
the judge.
"""

from storm_web import *


def strike_workers(storm, web):
    if storm.chance(0.2):
        web.suspend(0.8)
    else:
        web.strike(storm.random.choice((signal.SIGKILL, signal.SIGABRT)))
    storm.pause(0.1)


def strike_rgovd(storm, web):
    if storm.chance(0.2):
        web.suspend(0.8)
    storm.restart_rgovd()
    storm.pause(0.15)


def strike_both(storm, web):
    strike_rgovd(storm, web) if storm.chance(0.4) \
        else strike_workers(storm, web)


def judge(storm, web, name):
    web.end()
    storm.check_quiet()
    web.check_wakes()
    calls, excused = web.calls()
    storm.verdict(name, storm.judge(calls, excused))


# Preloaded where workers are killed: they are back at once.
@checks.cases(
    ("sync-workers", "sync", True, strike_workers, 0, RPM, 70),
    ("gthread-workers", "gthread", True, strike_workers, 1, RPM, 70),
    ("sync-rgovd", "sync", False, strike_rgovd, 1, FEW, 50),
    ("gthread-rgovd", "gthread", False, strike_rgovd, 0, FEW, 50),
    ("sync-both", "sync", True, strike_both, 0, RPM, 80),
    ("gthread-both", "gthread", True, strike_both, 1, RPM, 80))
def storm_over_gunicorn(name, worker_class, preload, strike, engine, rpm,
                        kills):
    """Users of survivors are answered with their own answers, each request is
    at the provider as often as it may be, no window exceeds the limit, and
    nothing is left."""
    with Storm(ENGINES[engine], rpm) as storm, \
            Web(storm, worker_class, preload) as web:
        while storm.n_kills() < kills:
            strike(storm, web)
        judge(storm, web, name)


BALLAST_MB, CRASHES = 150, 6
CORE_PATTERN = pathlib.Path("/proc/sys/kernel/core_pattern")


def dumped_cores(web):
    """How many megabytes of cores lie in the workers' folder; they go."""
    megabytes = 0
    for core in web.folder.glob("core*"):
        megabytes += core.stat().st_blocks * 512 >> 20
        core.unlink()
    return megabytes


@checks.test
def large_workers_dump_their_cores():
    """Large workers crash in the middle of their requests.  A process that
    writes its core is not dead yet: what it has out stays, and goes when it is;
    the others are served."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        raise Skip("the hard limit of core files is 0")
    with Storm(ENGINES[0]) as storm, \
            Web(storm, "gthread", ballast_mb=BALLAST_MB) as web:
        megabytes = 0
        while storm.n_kills() < CRASHES:
            web.strike(storm.random.choice((signal.SIGSEGV, signal.SIGBUS)))
            storm.pause(0.2)
            if storm.n_kills() == CRASHES // 2:
                storm.restart_rgovd()
                storm.await_struck()
                megabytes += dumped_cores(web)  # they take room on the disk
        storm.await_struck()
        megabytes += dumped_cores(web)
        judge(storm, web, f"cores_of_{megabytes}_MB")
        if CORE_PATTERN.read_text().startswith("core"):
            check(megabytes >= BALLAST_MB, f"only {megabytes} MB of cores")


checks.main()
