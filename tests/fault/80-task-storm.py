#!/usr/bin/python3 -B
"""Durable tasks in a storm: rgovd, those who submit, Celery's children and Redis
are killed at random, hosts "rebooted"; and disks that are slow or fail.  What was
acknowledged ends once, whatever died.

Environment: KILLS (40; `make check-task-storm` 200), SEED.  The figures go to
$BUILD/faults/tasks.json.
"""

from task_storm import *

sys.path.insert(0, str(BUILD / "python"))

from task_judge import TaskJudge  # noqa: E402 - what is above comes first

KILLS = int(os.environ.get("KILLS") or 40)


def write_figures(storm, figures):
    target = BUILD / "faults/tasks.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(
        {**figures, "kills": storm.n_kills(), "by_kind": dict(storm.kills),
         "window": storm.peak, "window_limit": storm.rpm, "seed": storm.seed,
         "seconds": round(time.monotonic() - storm.begun),
         "violations": len(storm.violations)}, indent=1) + "\n")


def verdict(storm):
    """rgovd has ended: the store is nobody's."""
    storm.peak = storm.sim.report()["max_arrivals_in_window"]
    if storm.peak > storm.rpm:
        storm.violations.append(
            f"window: {storm.peak} starts, not {storm.rpm}")
    judge = TaskJudge(storm)
    storm.violations += judge.judge()
    write_figures(storm, judge.figures)
    count("storm_kills", storm.n_kills())
    count("violations", len(storm.violations))
    row(engine=storm.rgovd.loop, seed=storm.seed, kills=storm.n_kills(),
        **{k.replace(" ", "_"): v for k, v in sorted(storm.kills.items())})
    row(**judge.figures, window=f"{storm.peak}/{storm.rpm}",
        violations=len(storm.violations))
    check(judge.figures["acknowledged"] > 0, "nothing was acknowledged")
    check(not storm.violations, f"{len(storm.violations)} violations:\n"
          + "\n".join(storm.violations[:20]))


@checks.test
def storm_over_tasks():
    """Every acknowledged task is in the store, with one end."""
    with TaskStorm(ENGINES[0]) as storm:
        submitters = Submitters(storm)
        storm.pause(1.0)
        while storm.n_kills() < KILLS:
            submitters.strike()
            storm.pause(0.35)
        submitters.end()
        wait_until(storm.is_over, timeout=90, what="the end of all tasks")
        storm.check_quiet()
        storm.rgovd.process.signal(signal.SIGTERM)
        equal(storm.rgovd.process.wait(), 0, "rgovd's status")
        verdict(storm)


checks.main()
