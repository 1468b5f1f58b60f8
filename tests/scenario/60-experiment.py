#!/usr/bin/python3 -B
"""The experiment itself (bench/experiment): its ideal schedules and figures,
held to examples counted by hand, and one tiny run of every strategy.
"""

import random

from harness import *

sys.path.insert(0, str(ROOT / "bench/experiment"))
import ideal  # noqa: E402 - needs the path above
import measure  # noqa: E402


def ask(*questions):
    """(user, asked, latency) each."""
    return [ideal.Question(*q) for q in questions]


def starts_of(questions, quota, order):
    starts = ideal.schedule(questions, quota, order)
    return [starts[q] for q in questions]


@checks.test
def the_old_page_is_out_of_reach():
    "Calls of 75 s and three slots: 30, 90 and 214 s are the best averages."
    for users, wait, total in ((5, 30, 150), (10, 90, 300), (20, 213.75, 525)):
        asked = ask(*((f"{n}", 0.0, 75.0) for n in range(users)))
        for order in (ideal.Fifo(), ideal.Fair()):
            starts = ideal.schedule(asked, ideal.Quota(slots=3), order)
            equal(ideal.mean_wait(asked, starts), wait, f"{users} users: wait")
            equal(ideal.total(asked, starts), total, f"{users} users: total")
        equal(ideal.bound(asked, ideal.Quota(slots=3)), 25.0 * users, "bound")


@checks.test
def a_window_is_exact():
    quota = ideal.Quota(starts=2, window=10.0)
    asked = ask(*((f"{n}", 0.0, 1.0) for n in range(5)))
    equal(starts_of(asked, quota, ideal.Fifo()), [0, 0, 10, 10, 20], "starts")
    equal(ideal.bound(asked, quota), 21.0, "bound")


@checks.test
def fair_is_not_first_come():
    "The greedy user's three come first; the other one's is second if fair."
    quota = ideal.Quota(slots=1)
    asked = ask(*(("greedy", 0.0, 1.0) for n in range(3)),
                ("other", 0.0, 1.0))
    equal(starts_of(asked, quota, ideal.Fifo())[3], 3.0, "first come")
    equal(starts_of(asked, quota, ideal.Fair())[3], 1.0, "fair")


@checks.test
def idleness_earns_no_credit():
    quota = ideal.Quota(slots=1)
    asked = ask(*(("early", 0.0, 1.0) for _ in range(6)),
                *(("late", 2.5, 1.0) for _ in range(2)))
    starts = starts_of(asked, quota, ideal.Fair())
    equal(starts, [0, 1, 2, 3, 5, 7, 4, 6], "the late one's two alternate")


@checks.test
def a_quota_that_changes():
    "An outage from 1 to 5, then one start in 10 s."
    quota = ideal.Quota(slots=1, changes=(
        (1.0, ideal.Quota(slots=1, open=False)),
        (5.0, ideal.Quota(slots=1, starts=1, window=10.0))))
    asked = ask(*(("u", 0.0, 2.0) for _ in range(3)))
    starts = starts_of(asked, ideal.Quota(slots=1, window=10.0,
                                          changes=quota.changes), ideal.Fifo())
    # The start at 0 counts in the window that begins to matter at 5.
    equal(starts, [0.0, 10.0, 20.0], "starts")


@checks.test
def schedules_keep_the_quota_and_the_bound():
    "300 random cases; every schedule is work-conserving, too."
    for seed in range(300):
        chance = random.Random(seed)
        quota = ideal.Quota(slots=chance.choice((0, 1, 3)),
                            starts=chance.choice((0, 2, 5)), window=10.0)
        asked = ask(*((f"{chance.randrange(4)}", chance.choice((0, 1.5, 7.25)),
                       chance.choice((0.5, 2.0, 30.0))) for _ in range(24)))
        bound = ideal.bound(asked, quota)
        for order in (ideal.Fifo(), ideal.Fair()):
            starts = ideal.schedule(asked, quota, order)
            what = f"seed {seed}, {type(order).__name__}"
            check(ideal.total(asked, starts) >= bound - 1e-9,
                  f"{what}: shorter than the bound")
            check_kept(asked, starts, quota, what)


def check_kept(asked, starts, quota, what):
    def room(at, among):
        running = sum(starts[q] <= at < starts[q] + q.latency for q in among)
        window = sum(at - quota.window < starts[q] <= at for q in among)
        return ((not quota.slots or running < quota.slots)
                and (not quota.starts or window < quota.starts))

    for q in asked:
        begun = [other for other in asked if other is not q
                 and (starts[other], asked.index(other))
                 < (starts[q], asked.index(q))]
        check(starts[q] >= q.asked, f"{what}: before it was asked")
        check(room(starts[q], begun), f"{what}: above the quota")
        events = {q.asked} | {starts[o] + o.latency for o in asked} \
            | {starts[o] + quota.window for o in asked}
        for at in events:
            if q.asked <= at < starts[q]:
                check(not room(at, [o for o in asked if starts[o] <= at]),
                      f"{what}: idle at {at}")


def answered(user, asked, start, end):
    return measure.Asked(user, asked, end, 200,
                         [measure.Call(start, end, 200, False)])


@checks.test
def the_quota_used_is_counted_while_something_waits():
    "One slot: used from 0 to 4 and 5 to 9 while the third waited until 10."
    asked = [answered("a", 0, 0, 4), answered("b", 0, 5, 9),
             answered("c", 0, 10, 14)]
    equal(measure.quota_used(asked, ideal.Quota(slots=1)), 0.8, "share")
    equal(measure.quota_used(asked, ideal.Quota(slots=1), 5.0), 0.8, "from 5")


@checks.test
def the_index_of_fairness():
    equal(measure.jain([1, 1, 1]), 1.0, "all alike")
    equal(measure.jain([3, 0, 0]), 1 / 3, "one has all")
    fair = [answered("a", 0, 0, 1), answered("b", 0, 1, 2),
            answered("a", 0, 2, 3), answered("b", 0, 3, 4)]
    equal(measure.service_index(fair), 1.0, "in turn")
    greedy = [answered("a", 0, t, t + 1) for t in range(4)]
    greedy += [answered("b", 0, 4, 5)]
    equal(measure.service_index(greedy), 0.5, "a's four before b's one")


@checks.test
def waits_and_throttles_of_a_log():
    """One question, throttled once, then answered; real seconds at a scale of
    a tenth."""
    body = "question"
    record = {"user": "u", "body": body, "asked_ns": 0,
              "ended_ns": 500_000_000, "status": 200}
    events = []
    for n, (begin, end, status) in enumerate(((0, 0, 429), (2, 4, 200)), 1):
        for event, at in (("arrival", begin), ("end", end)):
            events.append({"n": n, "event": event, "status": status,
                           "t_mono_ns": at * 100_000_000,
                           "body_sha256": measure.sha256(body)})
    asked = measure.join([record], events, 0.1)
    figures = measure.figures(asked, ideal.Quota(slots=1), {"u"})
    equal((figures["throttled"], figures["failures"],
           figures["calls_per_needed"]), (1, 0, 2.0), "counts")
    equal(round(figures["avg_wait_s"], 6), 3.0, "wait")
    equal(round(figures["total_over_ideal"], 6), 2.5, "total over ideal")


# ---------------------------------------------------------------- all of it

KEYS = {"strategy", "case", "users", "throttled", "failures",
        "calls_per_needed", "avg_wait_s", "p95_wait_s", "total_over_ideal",
        "total_over_bound", "others_wait_over_fair", "quota_used", "jain",
        "connections", "probes_per_closing"}


@checks.test
def every_strategy_runs():
    """make experiment QUICK=1: every strategy that can run here is measured in
    both cases, every other one is a skip with its reason; rgov has no throttle
    and no failure."""
    done = run([PYTHON, "-B", ROOT / "bench/experiment/run", "--quick"],
               env=dict(os.environ, BUILD=str(BUILD)), timeout=200)
    equal(done.returncode, 0, f"status; {done.stderr[-2000:]}")
    folder = BUILD / "experiment-quick"
    results = json.loads((folder / "results.json").read_text())
    runs = {(r["strategy"], r["case"]): r for r in results["runs"]}
    for strategy in ("naive", "botocore-legacy", "botocore-standard",
                     "botocore-adaptive", "in-process", "celery", "rgov"):
        if strategy in results["skipped"]:
            continue
        for case in ("steady", "greedy"):
            one = runs[strategy, case]
            check(KEYS <= one.keys(), f"missing: {KEYS - one.keys()}")
    for case in ("steady", "greedy"):
        equal((runs["rgov", case]["throttled"], runs["rgov", case]["failures"]),
              (0, 0), f"rgov, {case}: throttled and failures")
    check("| rgov |" in (folder / "experiment.md").read_text(), "the table")
    if results["skipped"]:
        raise Skip("; ".join(f"{strategy}: {why}" for strategy, why
                             in results["skipped"].items()))


checks.main()
