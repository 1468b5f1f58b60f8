#!/usr/bin/python3 -B
"""record = FILE: the trace of the traffic, what is in it and what is not, what
becomes of it when the disk is full, and that rgov-plan makes the same waits of
it.
"""

import stat

from worker import *

SECRET = "tell nobody about the heron"


def recording(trace, **quota):
    return limits(**quota) + f'record = "{trace}"\n'


def lines(trace):
    """What is there of it, as objects; every line is whole."""
    text = trace.read_text() if trace.exists() else ""
    check(text == "" or text.endswith("\n"), "the last line has its end")
    return [json.loads(line) for line in text.splitlines()]


def wait_for_lines(trace, n, what="lines"):
    return wait_until(lambda: len(lines(trace)) >= n and lines(trace),
                      what=f"{n} {what}")


def replay(trace, *arguments):
    done = run([BUILD / "rgov-plan", "--json", "--trace", trace, *arguments],
               env=base_env())
    equal(done.returncode, 0, f"rgov-plan's status; {done.stderr}")
    return json.loads(done.stdout)


@checks.test
def every_request_is_a_line_and_no_prompt_is():
    """Calls, an error, a refusal, a permit, one that was cancelled."""
    with Scratch() as folder:
        trace = folder / "trace.jsonl"
        with Sim(latency="fixed:0.2",
                 extra=["--fault", "403@2"]) as sim, \
                Rgovd(recording(trace, rpm=100, concurrency=1, per_user=1)
                      + "max_queued_per_user = 2\n", sim=sim) as rgovd, \
                Worker(rgovd) as worker:
            body = json.dumps({"max_tokens": 5, "prompt": SECRET})
            worker.invoke(body=body).expect("Reply")
            worker.invoke(body=body).result()
            permit = worker.permit(user="p", tokens=7).expect("Permit")
            worker.settle(permit["permit"], input_tokens=3, output_tokens=4)
            many = [worker.invoke(user="many") for _ in range(6)]
            for one in many:
                one.result()
            wait_for_lines(trace, 10)
        header, *records = lines(trace)
        equal(stat.S_IMODE(trace.stat().st_mode), 0o600, "its mode")
        check(SECRET not in trace.read_text(), "no prompt")
    equal(header["rgov_trace"], 1, "version")
    equal(header["settings"]["max_concurrent_requests"], "1", "a setting")
    equal(len(records), 9, "records")
    outcomes = [r["outcome"] for r in records]
    check(outcomes.count("refused:user_limit") >= 3, f"refusals: {outcomes}")
    check("error" in outcomes, f"the error: {outcomes}")
    held = [r for r in records if r["kind"] == "permit"]
    equal(len(held), 1, "permits")
    equal((held[0]["used_input_tokens"], held[0]["used_output_tokens"]),
          (3, 4), "what the permit used")
    ends = [r["end"] for r in records]
    equal(ends, sorted(ends), "ends, in order")
    for record in records:
        check(record["end"] >= record["arrival"] >= 0, f"times: {record}")
        equal("execution_s" in record,
              not record["outcome"].startswith("refused"), "execution_s")


@checks.test
def its_replay_waits_as_it_did():
    """Three users, one of them of many questions, over a window that is full
    and places that are few: each one's average wait, and all p95, agree within
    a tenth."""
    with Scratch() as folder:
        trace = folder / "trace.jsonl"
        quota = dict(rpm=30, concurrency=3, per_user=2, minute=3)
        with Sim(latency="uniform:0.1,0.5") as sim, \
                Rgovd(recording(trace, **quota), sim=sim) as rgovd, \
                Worker(rgovd) as worker:
            asked = [worker.invoke(user=user)
                     for user, n in (("a", 15), ("b", 15), ("greedy", 30))
                     for _ in range(n)]
            replies = [one.result() for one in asked]
            equal({r["type"] for r in replies}, {"Reply"}, "answers")
            wait_for_lines(trace, 61)
        records = lines(trace)[1:]
        run = replay(trace)["runs"][0]
    for user in run["users"]:
        waits = [r["wait_s"] for r in records if r["user"] == user["user"]]
        measured = sum(waits) / len(waits)
        check(abs(user["avg_wait_s"] - measured) <= 0.1 * measured,
              f"{user['user']}: waited {measured:.3f} s, "
              f"the plan says {user['avg_wait_s']:.3f} s")
    waits = sorted(r["wait_s"] for r in records)
    p95 = waits[int(0.95 * len(waits) + 0.999) - 1]
    check(abs(run["all"]["p95_wait_s"] - p95) <= 0.1 * p95,
          f"p95 {p95:.3f} s, the plan says {run['all']['p95_wait_s']:.3f} s")
    check(run["total_over_bound"] >= 0.999, "nothing beats the bound")


@checks.test
def a_full_disk_loses_lines_and_holds_nothing_up():
    """The file may not grow: requests are answered, the losses are counted and
    told once, what is there are whole lines; with room again it goes on."""
    with Scratch() as folder:
        trace = folder / "trace.jsonl"
        with Sim() as sim, \
                Rgovd(recording(trace, rpm=1000, concurrency=9, per_user=9),
                      sim=sim) as rgovd, Worker(rgovd) as worker:
            worker.invoke().expect("Reply")
            room = wait_for_lines(trace, 2) and trace.stat().st_size + 500
            run(["prlimit", "--pid", rgovd.process.pid, f"--fsize={room}:"])
            for _ in range(20):
                worker.invoke().expect("Reply")
            lost = wait_until(
                lambda: rgovd.stats()["counters"]["record_lines_lost"],
                what="losses")
            check(lost >= 15, f"{lost} lines lost")
            there = len(lines(trace))
            check(there <= 5, f"{there} lines are there")
            wait_until(lambda: "record.lost" in rgovd.process.text(),
                       what="a word in the log")
            run(["prlimit", "--pid", rgovd.process.pid,
                 "--fsize=unlimited:"])
            worker.invoke().expect("Reply")
            wait_for_lines(trace, there + 1)
            equal(rgovd.process.text().count("record.lost"), 1,
                  "words in the log")
        replay(trace)


@checks.cases(
    ("a folder", lambda folder: folder),
    ("nowhere", lambda folder: folder / "no" / "trace"),
    ("a FIFO that nobody reads", lambda folder: os.mkfifo(folder / "fifo")
     or folder / "fifo"),
    ("a device", lambda folder: "/dev/full"),
)
def a_file_that_is_none_holds_nothing_up(_name, make):
    """It starts, answers, counts, says so once, and ends."""
    with Scratch() as folder:
        with Rgovd(recording(make(folder))) as rgovd, Worker(rgovd) as worker:
            permit = worker.permit().expect("Permit")
            worker.settle(permit["permit"])
            wait_until(
                lambda: rgovd.stats()["counters"]["record_lines_lost"] == 1,
                what="the loss")
            wait_until(lambda: "record.lost" in rgovd.process.text(),
                       what="a word in the log")


@checks.test
def it_is_opened_anew_when_it_was_moved():
    """At SIGUSR1 and at a reload: each file has a header and what came after;
    record = "" ends it."""
    def permit():
        held = worker.permit().expect("Permit")
        worker.settle(held["permit"])

    with Scratch() as folder:
        trace, moved = folder / "trace.jsonl", folder / "moved.jsonl"
        with Rgovd(recording(trace, rpm=1000)) as rgovd, \
                Worker(rgovd) as worker:
            permit()
            wait_for_lines(trace, 2)
            trace.rename(moved)
            rgovd.process.signal(signal.SIGUSR1)
            wait_for_lines(trace, 1, "header")
            permit()
            wait_for_lines(trace, 2)
            equal(len(lines(moved)), 2, "lines in the old one")
            rgovd.write_config(recording(trace, rpm=999))
            check(rgovd.rgov("reload").returncode == 0, "reload")
            permit()
            found = wait_for_lines(trace, 4)
            equal([("rgov_trace" in line) for line in found],
                  [True, False, True, False], "headers")
            equal(found[2]["settings"]["requests_per_minute"], "999",
                  "the new limit")
            rgovd.write_config(limits(rpm=1000))
            check(rgovd.rgov("reload").returncode == 0, "reload")
            permit()
            equal(rgovd.stats()["counters"]["record_lines_lost"], 0, "losses")
            equal(len(lines(trace)), 4, "lines when it was off")


@checks.test
def a_successor_goes_on_behind_a_line_that_was_cut():
    """Killed in the middle of a line: the successor's header begins on a line
    of its own, and rgov-plan forgives the half one."""
    with Scratch() as folder:
        trace = folder / "trace.jsonl"
        with Sim() as sim, Rgovd(recording(trace, rpm=1000), sim=sim) as rgovd:
            with Worker(rgovd) as worker:
                worker.invoke().expect("Reply")
                wait_for_lines(trace, 2)
                rgovd.kill9()
                with open(trace, "a") as out:
                    out.write('{"arrival":1.25,"user":"al')
                rgovd.start()
                worker.invoke().expect("Reply")
                wait_until(lambda: trace.read_text().count("\n") == 5,
                           what="header and line")
        done = replay(trace)
    equal(done["bad_lines"], 0, "bad lines")
    equal(done["runs"][0]["all"]["requests"], 2, "requests")


checks.main()
