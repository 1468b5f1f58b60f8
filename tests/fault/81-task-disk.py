#!/usr/bin/python3 -B
"""The disk of durable tasks is slow, or fails now and then (strace injects both):
rgovd serves on meanwhile, who asks is told in time, and what was acknowledged
ends.
"""

import shutil

from task_disk import *

import rgov.desk  # noqa: E402 - task_disk says where it is

SLOW_S = 3.0


@checks.test
def a_slow_disk():
    """Each write-through takes seconds: calls do not notice, a submit is told
    DEADLINE when its time is over, and the task is there all the same."""
    with world(ROOMY) as w:
        all_succeed([w.gov.submit(MODEL, a_body("first")[0])])
        patience = rgov.desk.ASK_TIMEOUT
        with injected(w.rgovd, ["-e", "inject=fdatasync,fsync:delay_enter="
                                f"{int(SLOW_S * 1e6)}"]):
            load = Background([lambda: submit_all(
                w.gov, [f"slow {n}" for n in range(6)])])
            took = []
            for n in range(40):
                begun = time.monotonic()
                w.gov.invoke(MODEL, a_body(f"call {n}")[0], timeout=30)
                took.append(time.monotonic() - begun)
                time.sleep(0.05)
            check(sorted(took)[len(took) // 2] < 0.5,
                  f"calls beside a slow disk took {took}")
            rgov.desk.ASK_TIMEOUT = 0.5
            begun = time.monotonic()
            late, errors = submit_all(w.gov, ["late"])
            rgov.desk.ASK_TIMEOUT = patience
            equal((late, errors), ([], ["Timeout"]), "a submit without time")
            check(time.monotonic() - begun < SLOW_S, "it was told too late")
            (tasks, refused), = load.join(60)
            equal(refused, [], "refusals of those with time")
        all_succeed(tasks)
        wait_until(lambda: w.rgovd.stats()["host"]["tasks"] == 0,
                   what="the end of all tasks")
        row(calls=len(took), slowest_ms=round(max(took) * 1e3),
            slow_disk_s=SLOW_S, acknowledged=len(tasks))
        store_is_whole(w, len(tasks) + 2)


@checks.cases(("EIO-sync", "fdatasync,fsync", "EIO", "2+3"),
              ("ENOSPC-sync", "fdatasync,fsync", "ENOSPC", "2+3"),
              ("EIO-write", "pwrite64", "EIO", "2+37"),
              ("ENOSPC-write", "pwrite64", "ENOSPC", "2+37"))
def a_disk_that_fails(name, calls, error, when):
    """Some writes fail, or syncs: submits are acknowledged or told so, and every
    acknowledged one ends once the disk is well."""
    with world(ROOMY) as w:
        tasks, errors = submit_all(w.gov, ["first"])
        with injected(w.rgovd, ["-e", f"inject={calls}:error={error}:"
                                f"when={when}"]) as log:
            for n in range(8):
                more, failed = submit_all(
                    w.gov, [f"{name} {n}.{m}" for m in range(5)])
                tasks += more
                errors += failed
                w.gov.invoke(MODEL, a_body(f"call {n}")[0], timeout=30)
        check("INJECTED" in log.read_text(), "nothing was injected")
        check(set(errors) <= {"StoreError"}, f"refused with {set(errors)}")
        check(len(tasks) > 5 and errors, f"{len(tasks)} acknowledged, "
                                         f"{len(errors)} refused")
        all_succeed(tasks)
        wait_until(lambda: w.rgovd.stats()["host"]["tasks"] == 0,
                   what="the end of all tasks")
        row(fault=name, acknowledged=len(tasks), told_so=len(errors),
            injected=log.read_text().count("INJECTED"))
        store_is_whole(w, len(tasks))


@checks.test
def no_end_is_told_before_it_is_on_disk():
    """While no sync succeeds a task runs, and nobody hears that it ended; each is
    called once all the same."""
    with world(ONE_PLACE) as w:
        with w.gov.permit(MODEL, timeout=60):
            tasks, errors = submit_all(w.gov, ["a", "b", "c"])
            equal(errors, [], "refusals of a disk that is well")
            injection = injected(w.rgovd, ["-e", "inject=fdatasync,fsync:"
                                           "error=EIO"])
            injection.__enter__()
        try:
            # After a failed sync no other is begun, either.
            wait_until(lambda: w.sim.report()["ok"] >= 1,
                       what="an answer of the provider")
            for task in tasks:
                check(not task.wait(0.7).done, "an end that is not on disk")
            equal(w.rgovd.stats()["host"]["tasks"], 3, "tasks that have not "
                  "ended")
        finally:
            injection.__exit__(None, None, None)
        all_succeed(tasks)
        equal(w.sim.report()["arrivals"], 3, "calls at the provider")
        store_is_whole(w, 3)


if not shutil.which("strace"):
    raise SystemExit("strace is not installed: make fault-deps")
checks.main()
