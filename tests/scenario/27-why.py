#!/usr/bin/python3
"""Why am I waiting: each kind of limit binds in turn, and whoever asks is told
that one: rgov why, the board, the process itself while it waits, and the reply
at the end."""

from harness import *

USAGE, DATA, UNAVAILABLE, FORBIDDEN = 64, 65, 69, 77

# One request, once it may; meanwhile the process looks at it.  Prints how it
# ended.
ASK = """
import json, os, pathlib, rgov, sys, threading, time

model, user, priority, timeout = json.loads(sys.argv[1])
gov = rgov.connect(app="why")
pathlib.Path(sys.argv[2]).touch()
while os.path.exists(sys.argv[2]):
    time.sleep(0.005)
body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 400,
        "messages": [{"role": "user", "content": "hi"}]}
ends, seen = [], set()

def ask():
    try:
        ends.append(gov.invoke(model, body, user=user, priority=priority,
                               timeout=timeout))
    except rgov.Error as error:
        ends.append(error)

thread = threading.Thread(target=ask)
thread.start()
while thread.is_alive():
    seen.update(row.reason for row in gov.waiting(max_age=0.05) if row.reason)
    thread.join(0.02)
fields = ("wait_time", "waited_for", "queue_position", "predicted_wait",
          "model", "limit", "scope", "retry_after", "reason")
print(json.dumps({"kind": type(ends[0]).__name__, "seen": sorted(seen),
                  **{f: getattr(ends[0], f, None) for f in fields}}))
"""


class Asker:
    """A request of a process of its own, which is up and only has to ask: what
    it meets does not depend on how fast a process begins."""

    def __init__(self, rgovd, user, priority="normal", timeout=20.0):
        argument = json.dumps([MODEL, user, priority, timeout])
        self.gate = rgovd.scratch.path / unique_name()
        self.background = Background(
            [lambda: rgovd.python(ASK, argument, self.gate)])

    def ask(self):
        wait_until(self.gate.exists, what="a client that is connected")
        self.gate.unlink()
        return self

    def end(self):
        done = self.background.join(PATIENCE_S)[0]
        if isinstance(done, Exception):
            raise done
        equal(done.returncode, 0, f"the client's status:\n{done.stderr}")
        return json.loads(done.stdout)


@contextlib.contextmanager
def silent(sim):
    "A provider that takes requests, and answers when the block is done."
    sim.process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        sim.process.signal(signal.SIGCONT)


def config(text="", rpm=60, concurrency=8, per_user=8, minute=1.5,
           adaptive=False):
    """Limits that do not bind, and those of the case."""
    return (limits(rpm, concurrency, per_user, minute=minute, guard=0.1)
            + f"adaptive = {str(adaptive).lower()}\n" + text)


def counted(rgovd, name, n):
    """Waits until a counter has come that far."""
    wait_until(lambda: rgovd.stats()["counters"][name] >= n,
               what=f"{n} {name}")


def waiting(rgovd, user, reason):
    """The board's record of that user's request, once it waits for that."""
    def look():
        rows = json.loads(rgovd.rgov("queue", "--json").stdout)
        return [row for row in rows if row["user"] == user
                and row.get("held_by") == reason]
    try:
        return wait_until(look, timeout=10.0, what=f"{user} held by {reason}")[0]
    except Failed as why:
        raise Failed(f"{why}:\n{rgovd.rgov('queue').stdout}") from None


WORDS = {
    "host_concurrency": "held by max_concurrent_requests (1 of 1 used)",
    "host_requests": "held by requests_per_minute (1 of 1 used, not before ",
    "host_tokens": "held by tokens_per_minute (4",
    "host_day": "held by tokens_per_day (420 of 600 used",
    "lane_concurrency":
        "held by the model's max_concurrent_requests (1 of 1 used)",
    "lane_requests":
        "held by the model's requests_per_minute (1 of 1 used, not before ",
    "lane_tokens": "held by the model's tokens_per_minute (4",
    "lane_rate": "held by the model's rate, lowered or spread after throttles "
        "(adaptive) (not before ",
    "lane_day": "held by the model's tokens_per_day (420 of 600 used",
    "user_concurrency": "held by the user's max_requests (1 of 1 used)",
    "user_requests": "held by the user's requests_per_minute (1 of 1 used",
    "user_tokens": "held by the user's tokens_per_minute (4",
    "user_day": "held by the user's tokens_per_day (420 of 600 used",
    "batch_share": "held by batch_share",
    "gate": "; the model is throttled or down: backing off",
    "probe": "; the model is throttled or down: a probe is out",
    "backoff": "; it failed and will be tried again",
}


def every_tongue_says(rgovd, user, reason):
    """While it waits.  Returns its number."""
    row = waiting(rgovd, user, reason)
    number = str(row["request"])
    check(row["position"] >= 1, f"a place in the queue: {row}")
    check("predicted_s" in row, f"a predicted wait: {row}")
    found = json.loads(rgovd.rgov("why", number, "--json").stdout)
    equal(found["held_by"], reason, "rgov why ID --json")
    check(found["predicted_s"] >= (found["held_ends_in_s"] or 0) - 0.01,
          f"no start is predicted before what holds it ends: {found}")
    equal((found["user"], found["model"]), (user, MODEL), "whose it is")
    text = rgovd.rgov("why", "--user", user)
    line = [line for line in text.stdout.splitlines()
            if line.startswith(f"request {number} of {user} for {MODEL}: ")]
    check(line and WORDS[reason] in line[0], f"{WORDS[reason]!r} in\n"
          f"{text.stdout}{text.stderr}")
    stats = rgovd.stats()
    held = {u["name"]: u["held_by"] for u in stats["users"]}
    if not reason.startswith("user_") and reason != "backoff":
        equal([lane["held_by"] for lane in stats["lanes"] if lane["queued"]],
              [reason], "the lane")
    equal(held[user], reason, "the user")
    return number


def the_end_says(rgovd, asker, number, reason):
    """In the reply, on the board, and to whoever asks afterwards."""
    end = asker.end()
    equal((end["kind"], end["model"]), ("Reply", MODEL), f"the end: {end}")
    waited = end["waited_for"]
    equal(max(waited, key=waited.get), reason, f"most of the wait: {end}")
    check(waited[reason] > 0.1, f"the time it waited for it: {end}")
    # Rounded by less than a unit of 0.26 ms a reason, and 1 ms left out.
    check(abs(sum(waited.values()) - end["wait_time"]) < 0.05
          or reason in ("gate", "probe", "backoff"), f"the parts: {end}")
    check(end["queue_position"] >= 1, f"its place when it came: {end}")
    check(reason in end["seen"], f"what the process itself saw: {end}")
    late = json.loads(rgovd.rgov("why", number, "--json").stdout)
    equal((late["state"], late["result"]), ("ended", "ok"), "afterwards")
    equal(set(late["waited_s"]), set(waited), "its waits afterwards")
    counters = rgovd.stats()["counters"]
    check(counters[f"waited_{reason}_ns"] >= waited[reason] * 0.99e9,
          f"the counter of {reason}")


# name, the limit, who fills it, who waits for it
@checks.cases(
    ("host_concurrency", config(concurrency=1), "alice", "bob"),
    ("lane_concurrency", config('model "*" {\n max_concurrent_requests = 1\n}'),
     "alice", "bob"),
    ("user_concurrency", config('user "b*" {\n max_requests = 1\n}'),
     "bob", "bob"),
    ("batch_share", config("batch_share = 0.2", concurrency=6), "alice", "bob"),
    ("host_tokens", config("tokens_per_minute = 600", minute=60), "alice",
     "bob"),
    ("lane_tokens", config('model "*" {\n tokens_per_minute = 600\n}',
                           minute=60), "alice", "bob"),
    ("user_tokens", config('user "*" {\n tokens_per_minute = 600\n}',
                           minute=60), "bob", "bob"),
    ("host_day", config("tokens_per_day = 600"), "alice", "bob"),
    ("lane_day", config('model "*" {\n tokens_per_day = 600\n}'), "alice",
     "bob"),
    ("user_day", config('user "*" {\n tokens_per_day = 600\n}'), "bob", "bob"),
)
def what_runs_holds_the_next(reason, text, first, second):
    "A limit that is full until a call ends, or settles what it had reserved."
    with Sim(latency="fixed:0.01") as sim, Rgovd(text, sim=sim) as rgovd:
        filler = Asker(rgovd, first, "batch")
        asker = Asker(rgovd, second, "batch")
        with silent(sim):
            filler.ask()
            counted(rgovd, "started_requests", 1)
            asker.ask()
            number = every_tongue_says(rgovd, second, reason)
            time.sleep(0.2)  # the process has looked, too
        the_end_says(rgovd, asker, number, reason)
        check(set(filler.end()["waited_for"]) <= {"turn"},
              "the first waited for nothing, but rgovd to come to it")


@checks.cases(
    ("host_requests", config(rpm=1), "alice", "bob"),
    ("lane_requests", config('model "*" {\n requests_per_minute = 1\n}'),
     "alice", "bob"),
    ("user_requests", config('user "*" {\n requests_per_minute = 1\n}'),
     "bob", "bob"),
    ("lane_rate", config('model "*" {\n requests_per_minute = 3\n}',
                         minute=60, adaptive=True), "alice", "bob"),
)
def a_window_holds_the_next(reason, text, first, second):
    "A start that still counts, although its call has ended."
    with Sim(latency="fixed:0.01") as sim, Rgovd(text, sim=sim) as rgovd:
        filler, asker = Asker(rgovd, first), Asker(rgovd, second)
        filler.ask()
        counted(rgovd, "started_requests", 1)
        asker.ask()
        number = every_tongue_says(rgovd, second, reason)
        the_end_says(rgovd, asker, number, reason)
        check(set(filler.end()["waited_for"]) <= {"turn"},
              "the first waited for nothing, but rgovd to come to it")


@checks.test
def a_throttle_holds_everybody():
    "The one that was throttled backs off, and the gate is closed for others."
    with Sim(latency="fixed:0.01",
             extra=("--fault", "429@1", "--retry-after-ms", 1500)) as sim, \
            Rgovd(config(), sim=sim) as rgovd:
        throttled, asker = Asker(rgovd, "alice"), Asker(rgovd, "bob")
        throttled.ask()
        counted(rgovd, "throttled_requests", 1)
        asker.ask()
        first = every_tongue_says(rgovd, "alice", "backoff")
        number = every_tongue_says(rgovd, "bob", "gate")
        the_end_says(rgovd, asker, number, "gate")
        end = throttled.end()
        check(end["waited_for"]["backoff"] > 1, f"the throttled one: {end}")
        late = rgovd.rgov("why", first).stdout
        check("ok after 2 attempts" in late and "tried again 1." in late, late)


@checks.test
def a_probe_holds_everybody():
    "After the gate one goes first, and the others wait for what becomes of it."
    with Sim(latency="fixed:1.2",
             extra=("--fault", "429@1", "--retry-after-ms", 100)) as sim, \
            Rgovd(config('probe_ok_after = "1s"'), sim=sim) as rgovd:
        probe, asker = Asker(rgovd, "alice"), Asker(rgovd, "bob")
        probe.ask()
        counted(rgovd, "retries", 1)
        asker.ask()
        number = every_tongue_says(rgovd, "bob", "probe")
        the_end_says(rgovd, asker, number, "probe")
        probe.end()


@checks.test
def who_would_be_late_is_told_at_once():
    "refuse_late: and when to come back, since it was not in the queue."
    with Sim(latency="fixed:1") as sim, \
            Rgovd(config("refuse_late = true", concurrency=1),
                  sim=sim) as rgovd:
        Asker(rgovd, "alice").ask().end()
        filler, late = Asker(rgovd, "alice"), Asker(rgovd, "bob", timeout=0.3)
        filler.ask()
        counted(rgovd, "started_requests", 2)
        end = late.ask().end()
        equal((end["kind"], end["waited_for"]), ("Timeout", {}), "the end")
        check(0.3 < (end["retry_after"] or 0) < 3, f"when to come back: {end}")
        filler.end()


@checks.test
def a_new_lane_is_shown_as_it_is():
    "From its first request on, before its figures are published: open."
    with Sim() as sim, Rgovd(config('model "*" {\n}'), sim=sim) as rgovd:
        Asker(rgovd, "alice").ask().end()
        equal([lane["gate_open"] for lane in rgovd.stats()["lanes"]
               if lane["name"] == MODEL], [True], "its gate is open")


@checks.test
def a_permit_that_waits_is_shown():
    "The queue has it, too; granted, its waits are the permit's."
    source = """
import os, rgov, sys, threading, time
gov = rgov.connect()
with gov.permit("m", user="alice"):
    def wait():
        with gov.permit("m", user="bob") as permit:
            print(sorted(permit.waited_for), permit.queue_position)
    thread = threading.Thread(target=wait)
    thread.start()
    while os.path.exists(sys.argv[1]):
        time.sleep(0.01)
thread.join()
"""
    with Rgovd(config(concurrency=1), endpoint="http://127.0.0.1:9") as rgovd:
        hold = rgovd.scratch.path / "hold"
        hold.touch()
        client = Background([lambda: rgovd.python(source, hold)])
        row = waiting(rgovd, "bob", "host_concurrency")
        equal((row["kind"], row["position"]), ("permit", 1), f"{row}")
        hold.unlink()
        done = client.join(PATIENCE_S)[0]
        equal(done.stdout, "['host_concurrency'] 1\n", f"{done.stderr}")


@checks.test
def a_deadline_in_the_queue_says_what_it_waited_for():
    "Timeout.waited_for: the limit that it did not get through in time."
    with Sim(latency="fixed:0.01") as sim, \
            Rgovd(config(concurrency=1), sim=sim) as rgovd:
        filler = Asker(rgovd, "alice")
        asker = Asker(rgovd, "bob", timeout=0.6)
        with silent(sim):
            filler.ask()
            counted(rgovd, "started_requests", 1)
            end = asker.ask().end()
        equal(end["kind"], "Timeout", f"the end: {end}")
        check(0.5 < end["waited_for"]["host_concurrency"] < 1,
              f"what it waited for: {end}")
        filler.end()


@checks.test
def a_refusal_names_the_limit():
    "QueueFull: which setting, whose, and the place it would have had."
    with Sim(latency="fixed:0.01") as sim, \
            Rgovd(config("max_queued = 1", concurrency=1), sim=sim) as rgovd:
        filler, queued, refused = (
            Asker(rgovd, name) for name in ("alice", "bob", "carol"))
        with silent(sim):
            filler.ask()
            counted(rgovd, "started_requests", 1)
            queued.ask()
            waiting(rgovd, "bob", "host_concurrency")
            end = refused.ask().end()
        equal({k: end[k] for k in ("kind", "reason", "limit", "scope",
                                   "queue_position")},
              {"kind": "QueueFull", "reason": "queue_full",
               "limit": "max_queued", "scope": "host", "queue_position": 2},
              "the refusal")
        check(end["retry_after"] > 0, f"when to come back: {end}")
        queued.end()
        filler.end()


@checks.test
def rgov_why_says_what_is_wrong():
    "64 for what is no number, 65 for one that names nothing, 69 without rgovd."
    with Sim(latency="fixed:0.01") as sim, Rgovd(config(), sim=sim) as rgovd:
        asker = Asker(rgovd, "alice")
        with silent(sim):
            asker.ask()
            counted(rgovd, "started_requests", 1)
            for arguments, status, words in (
                    ((), USAGE, "expected one of"),
                    (("1", "--user", "alice"), USAGE, "expected one of"),
                    (("--user", "a", "--pid", "5"), USAGE, "expected one of"),
                    (("abc",), USAGE, "'abc'"), (("-5",), USAGE, "-- '5'"),
                    (("0",), USAGE, "'0'"), (("1x",), USAGE, "'1x'"),
                    (("99999999999999999999",), USAGE, "99999999999999999999"),
                    (("--pid", "me"), USAGE, "'me'"), (("1", "2"), USAGE, "'2'"),
                    (("4711",), DATA, "no request 4711"),
                    (("18446744073709551615",), DATA, "no request 1844")):
                done = rgovd.rgov("why", *arguments)
                equal((done.returncode, done.stdout), (status, ""),
                      f"{arguments}: {done.stderr}")
                check(words in done.stderr, done.stderr)
            live = rgovd.stats()["live"][0]
            done = rgovd.rgov("why", "--pid", live["pid"])
            check(": running for " in done.stdout, f"{done}")
            equal(json.loads(rgovd.rgov("why", "-j", "-u", "nobody").stdout), [],
                  "of a user who has nothing")
        asker.end()
        # What waited for nothing is not kept: there is nothing to tell.
        equal(rgovd.rgov("why", str(live["request"])).returncode, DATA,
              "one that has ended")
        rgovd.kill9()
        done = rgovd.rgov("why", "1")
        equal(done.returncode, UNAVAILABLE, f"without rgovd: {done.stderr}")
        rgovd.start()


@checks.test
def a_request_of_another_uid_is_not_told():
    "77, until that uid governs."
    if os.geteuid() != 0:
        raise Skip("not root: there is no other uid to be")
    others = 'socket_mode = "0666"\nallow_uids = {"65534"}\n'
    with Sim(latency="fixed:1.2") as sim, \
            Rgovd(config(others), sim=sim) as rgovd:
        for path in (rgovd.scratch.path, rgovd.runtime_dir):
            path.chmod(0o711)
        asker = Asker(rgovd, "alice").ask()
        counted(rgovd, "started_requests", 1)
        number = str(rgovd.stats()["live"][0]["request"])

        def ask():
            return run([BUILD / "rgov", "why", number], env=rgovd.tool_env(),
                       user=65534, group=65534, extra_groups=[])
        done = ask()
        equal((done.returncode, done.stdout), (FORBIDDEN, ""), done.stderr)
        check(f"request {number} is another user's" in done.stderr, done.stderr)
        rgovd.write_config(config(others + 'admin_uids = {"65534"}\n'))
        equal(rgovd.rgov("reload").returncode, 0, "the reload")
        check(": running for " in ask().stdout, "an administrator is told")
        asker.end()


checks.main()
