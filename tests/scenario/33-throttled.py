#!/usr/bin/python3 -B
"""A provider that throttles, loses half of its quota, is away for a while, or
has a model that cannot answer: nobody's request fails that can wait.
"""

from harness import *

QUICK = """throttle_backoff = "50ms"
transient_backoff = "10ms"
backoff_cap = "500ms"
probe_ok_after = "100ms"
"""

CLIENT = """
import json, os, rgov, sys, threading, time
gov = rgov.connect()
users, each, model = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
lock = threading.Lock()

def body(user, i):
    return {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5,
            "messages": [{"role": "user", "content": f"{user} {i}"}]}

def work(user):
    for i in range(each):
        try:
            reply = gov.invoke(model, body(user, i),
                               user=f"u{user}", timeout=60)
            said = {"ok": True, "model": reply.model}
        except rgov.Error as e:
            said = {"ok": False, "type": type(e).__name__, "message": str(e),
                    "code": getattr(e, "code", None),
                    "limit": getattr(e, "limit", None),
                    "retry_after": getattr(e, "retry_after", None),
                    "model": getattr(e, "model_id", None)}
        with lock:
            print(json.dumps(said), flush=True)

threads = [threading.Thread(target=work, args=(u,)) for u in range(users)]
for t in threads:
    t.start()
for t in threads:
    t.join()
"""


def ask(rgovd, users, each, model=MODEL, meanwhile=lambda: None):
    """All answers; meanwhile() is called once some are there."""
    box = []
    thread = threading.Thread(target=lambda: box.append(
        rgovd.python(CLIENT, str(users), str(each), model, timeout=120)))
    thread.start()
    meanwhile()
    thread.join()
    equal(box[0].returncode, 0, f"the client ({box[0].stderr})")
    return [json.loads(line) for line in box[0].stdout.splitlines()]


def check_all_ok(answers, n):
    equal(len(answers), n, "answers")
    bad = [a for a in answers if not a["ok"]]
    check(not bad, f"{len(bad)} failed, the first: {bad[:1]}")


@checks.test
def an_outage_fails_nobody():
    """Three seconds of 503, with three attempts and 10 ms of backoff: all are
    answered, and there are few probes."""
    with Sim(latency="fixed:0.02") as sim, \
            Rgovd(limits(rpm=10000, concurrency=4, per_user=4) + QUICK,
                  sim=sim) as rgovd:
        def outage():
            wait_until(lambda: sim.report()["ok"] > 20, what="answers")
            sim.set(outage="503")
            time.sleep(3)  # that is what an outage is
            sim.set(outage="none")
        check_all_ok(ask(rgovd, 6, 40, meanwhile=outage), 240)
        faults = sim.report()["faults"]
        check(3 <= faults < 60, f"{faults} attempts in the outage")


@checks.test
def a_random_throttle_fails_nobody():
    """One in five is throttled though no quota is reached."""
    with Sim(latency="fixed:0.02", extra=["--fault", "429:0.2"]) as sim, \
            Rgovd(limits(rpm=10000, concurrency=4, per_user=4) + QUICK,
                  sim=sim) as rgovd:
        check_all_ok(ask(rgovd, 6, 15), 90)
        check(sim.report()["faults"] > 5, "there were throttles")


@checks.test
def a_halved_quota_fails_nobody():
    """Forty starts in two seconds become twenty: nobody fails, and few are
    throttled."""
    model = f'model "{MODEL}" {{ requests_per_minute = 40 }}\n'
    with Sim(rpm=40, minute=2, latency="fixed:0.05") as sim, \
            Rgovd(limits(rpm=10000, concurrency=4, per_user=4, minute=2.0)
                  + QUICK + model, sim=sim) as rgovd:
        def halve():
            wait_until(lambda: sim.report()["ok"] >= 60, what="answers")
            sim.set(requests_per_minute=20)
        check_all_ok(ask(rgovd, 6, 20, meanwhile=halve), 120)
        throttled = sim.report()["throttled"]
        check(1 <= throttled <= 6, f"{throttled} were throttled")


@checks.test
def another_model_answers():
    """A model that is always throttled, or has no lane large enough, hands over
    to the next of its chain; the reply says who answered."""
    chain = """
model "anthropic.full" { fallback = { "amazon.nova", "anthropic.ill", "us.anthropic.well" } }
model "anthropic.small" { tokens_per_minute = 3
fallback = { "anthropic.well" } }
"""
    with Sim(extra=["--fault-model", "anthropic.full=429", "--fault-model",
                    "anthropic.ill=503"]) as sim, \
            Rgovd(limits(rpm=10000, concurrency=4) + QUICK + chain,
                  sim=sim) as rgovd:
        answers = ask(rgovd, 2, 2, "anthropic.full")
        check_all_ok(answers, 4)
        equal({a["model"] for a in answers}, {"us.anthropic.well"}, "models")
        answers = ask(rgovd, 1, 1, "anthropic.small")
        check_all_ok(answers, 1)
        equal(answers[0]["model"], "anthropic.well", "the model that answered")
        asked = {e["model"] for e in sim.events()}
        equal(asked, {"anthropic.full", "anthropic.ill", "us.anthropic.well",
                      "anthropic.well"}, "models that were called")


def a_model_that_is_down(fault):
    with Sim(extra=["--latency", "fixed:0.05",
                    "--fault-model", f"anthropic.down={fault}"]) as sim, \
            Rgovd(limits(rpm=10000, concurrency=4) +
                  'model "anthropic.down" { fallback = { "anthropic.well" } }\n',
                  sim=sim) as rgovd:
        answers = ask(rgovd, 20, 1, "anthropic.down")
        calls = [e for e in sim.events() if e["model"] == "anthropic.down"]
    check_all_ok(answers, 20)
    equal({a["model"] for a in answers}, {"anthropic.well"}, "models")
    check(len(calls) < 20, f"{len(calls)} calls of 20 went to it")


@checks.test
def nobody_waits_for_a_model_that_is_down():
    """Whoever is queued behind its gate goes on to the next of the chain, with
    backoffs as they are by default."""
    a_model_that_is_down("503")
    a_model_that_is_down("429")


@checks.test
def an_error_is_of_the_model_that_answered():
    """The last of a chain refuses: the exception names that one."""
    chain = 'model "anthropic.ill" { fallback = { "anthropic.shut" } }\n'
    with Sim(extra=["--fault-model", "anthropic.ill=503", "--fault-model",
                    "anthropic.shut=403"]) as sim, \
            Rgovd(limits(rpm=10000) + QUICK + chain, sim=sim) as rgovd:
        said = ask(rgovd, 1, 1, "anthropic.ill")[0]
        equal((said["ok"], said["code"], said["model"]),
              (False, "AccessDeniedException", "anthropic.shut"), "the error")


def ask_on_its_last_day(config):
    """Four are queued for a model whose daily quota turns out to be used up, as
    the first of them is told.  Their answers, and how many calls were made."""
    answers = []
    with Sim(latency="fixed:2",
             extra=["--fault-model", "anthropic.day=429-day"]) as sim, \
            Rgovd(limits(rpm=10000, concurrency=1, per_user=1) + QUICK + config,
                  sim=sim) as rgovd:
        def queue():
            wait_until(lambda: sim.report()["arrivals"] == 1, what="the first")
            answers.extend(ask(rgovd, 4, 1, "anthropic.day"))
        check_all_ok(ask(rgovd, 1, 1, meanwhile=queue), 1)
        refused = {u["name"]: u["refused"] for u in rgovd.stats()["users"]}
        check(not any(refused.values()), f"refused at their coming: {refused}")
        return answers, sum(e["event"] == "arrival"
                            and e["model"] == "anthropic.day"
                            for e in sim.events())


@checks.test
def who_waits_is_told_of_the_daily_quota():
    """At once, not at its deadline: when the day turns; one call was made."""
    left = 86400 - time.time() % 86400
    if left < 120:
        raise Skip("the day is about to turn")
    begun = time.monotonic()
    answers, calls = ask_on_its_last_day("")
    check(time.monotonic() - begun < 30, "long before the deadlines")
    equal(sorted(a.get("limit") or a["code"] for a in answers),
          ["ThrottlingException"] + ["daily_quota"] * 3, "answers")
    for answer in answers:
        if answer.get("limit"):
            equal(answer["type"], "QueueFull", "its type")
            check(left - 60 < answer["retry_after"] <= left + 1,
                  f"until midnight: {answer}, {left}")
    equal(calls, 1, "calls")


@checks.test
def who_waits_goes_on_with_another_model():
    """The daily quota is used up: the queue goes to the next of the chain."""
    answers, calls = ask_on_its_last_day(
        'model "anthropic.day" { fallback = { "anthropic.well" } }\n')
    check_all_ok(answers, 4)
    equal({a["model"] for a in answers}, {"anthropic.well"}, "models")
    equal(calls, 1, "calls")


@checks.test
def an_error_block_decides():
    """424 is not tried again, until the configuration says so."""
    with Sim(extra=["--fault", "424@1,3"]) as sim:
        with Rgovd(limits(rpm=10000) + QUICK, sim=sim) as rgovd:
            said = ask(rgovd, 1, 1)[0]
            equal((said["ok"], said.get("code")),
                  (False, "ModelErrorException"), "without a rule")
        rule = 'error "424" { retry = "transient" }\n'
        with Rgovd(limits(rpm=10000) + QUICK + rule, sim=sim) as rgovd:
            check_all_ok(ask(rgovd, 1, 1) + ask(rgovd, 1, 1), 2)


checks.main()
