#!/usr/bin/python3 -B
"""What rgov.celery decides by itself: pauses, headers, time limits, settings of
an application.  No broker, no rgovd: a governor that records what it is asked.
"""

import datetime
import logging
import os
import pickle
import sys
import time

from harness import BUILD, Failed, check, checks, equal

sys.path.insert(0, str(BUILD / "python"))
for _name in list(os.environ):
    if _name.startswith("RGOV_") or _name == "ENABLE_REQUEST_MANAGER":
        del os.environ[_name]

import celery.app.task
import celery.exceptions
import celery.signals
import rgov
import rgov.celery

logging.getLogger("rgov").addHandler(logging.NullHandler())
logging.getLogger("rgov").propagate = False


class Asked:
    """Stands for a governor: what it was asked, and what it raises."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    def invoke(self, model_id, body, **how):
        self.calls.append(how)
        if self.error:
            raise self.error
        return "reply"


def application(**conf):
    app = celery.Celery("test", broker="memory://", backend="cache+memory://",
                        task_cls="rgov.celery:GovernedTask", set_as_current=False)
    app.conf.update(conf)
    return app


def task_with(gov, **options):
    """A governed task whose governor is gov."""
    class Governed(rgov.celery.GovernedTask):
        abstract = True
        governor = gov
    @application().task(base=Governed, bind=True, name="ask", **options)
    def ask(self, **how):
        return self.invoke("m", b"{}", **how)
    return ask


def asked_with(headers=None, how=None, **options):
    """The arguments of the call of a task that runs with these headers."""
    gov = Asked()
    result = task_with(gov, **options).apply(kwargs=how or {}, headers=headers)
    equal(result.get(), "reply", "result")
    return gov.calls[0]


# ---------------------------------------------------------------- pauses

@checks.cases(
    ("first", 1, None, 300, 0, 1.0),
    ("doubles", 4, None, 300, 0, 8.0),
    ("capped", 20, None, 300, 0, 250.0),
    ("very many", 5000, None, 300, 1, 300.0),
    ("predicted", 9, 2.5, 300, 0, 2.5),
    ("with chance", 1, 10.0, 300, 1, 12.0),
    ("predicted too late", 1, 7200.0, 300, 1, 300.0),
    ("predicted now", 1, 0.0, 300, 0, 0.1),
    ("small cap", 1, 60.0, 0.6, 1, 0.6),
)
def a_pause_is_bounded(_what, refusals, retry_after, cap, chance, expected):
    "What rgovd predicts, else doubling; a fifth by chance; never above the cap."
    found = rgov.celery.countdown(refusals, retry_after, cap, chance)
    check(abs(found - expected) < 1e-9, f"expected {expected}, found {found}")


def runs_until_its_end(error, **options):
    """How often a task is run that always meets this error, and what ends it."""
    gov = Asked(error)
    result = task_with(gov, **options).apply()
    return len(gov.calls), result.result


@checks.cases(
    ("queue full", rgov.QueueFull("full", retry_after=1.0), 4),
    ("user limit", rgov.UserLimit("yours"), 4),
    ("draining", rgov.Draining("ends"), 4),
    ("unavailable", rgov.Unavailable("away"), 4),
    ("refused late", rgov.Timeout("would be late", retry_after=9.0), 4),
    ("timeout", rgov.Timeout("too late"), 1),
    ("too large", rgov.TooLarge("never"), 1),
    ("invalid", rgov.Invalid("wrong"), 1),
    ("no credentials", rgov.Rejected("none", reason="no_credentials"), 1),
    ("provider", rgov.UpstreamError("no", status=404), 1),
    ("provider throttles", rgov.UpstreamError("no", status=429), 1),
    ("anything", ValueError("wrong"), 1),
)
def only_refusals_come_back(_what, error, runs):
    "Three times here, then the task fails with what refused it."
    equal(runs_until_its_end(error, rgov_max_retries=3), (runs, error),
          "runs, error")


@checks.test
def refusals_are_not_the_tasks_own_retries():
    "A task that comes back has as many of its own retries left as before."
    task = task_with(Asked())
    request = celery.app.task.Context(id="1", is_eager=True, retries=2,
                                      rgov_refusals=4, args=(), kwargs={})
    sent = task._again(request, rgov.QueueFull("full", retry_after=5.0)).sig
    equal((sent.options["retries"], sent.options["headers"]["rgov_refusals"]),
          (2, 5), "retries, refusals")
    check(5 <= sent.options["countdown"] <= 6, f"{sent.options['countdown']}")


@checks.test
def what_expires_comes_back_too():
    "With the time that it had, which Celery hands over as a text."
    sent = []
    def keep(headers=None, **_):
        sent.append(headers)
    celery.signals.before_task_publish.connect(keep)
    ends = datetime.datetime.now(datetime.timezone.utc).replace(
        microsecond=0) + datetime.timedelta(hours=1)
    request = celery.app.task.Context(
        id="1", args=(), kwargs={}, expires=ends.isoformat(),
        delivery_info={"exchange": "", "routing_key": "celery"})
    outcome = task_with(Asked())._again(request, rgov.QueueFull("full"))
    check(isinstance(outcome, celery.exceptions.Retry), f"{outcome!r}")
    equal(sent[0]["expires"], ends.isoformat(), "expires")


@checks.test
def while_the_broker_is_away_nothing_is_lost():
    "The message is rejected for another time; acknowledged early, it fails."
    for acks_late, outcome in ((True, celery.exceptions.Reject),
                               (False, rgov.QueueFull)):
        app = celery.Celery("test", broker="redis://127.0.0.1:1/0",
                            task_cls="rgov.celery:GovernedTask",
                            set_as_current=False)
        app.conf.update(task_publish_retry=False, broker_transport_options={
            "max_retries": 1, "interval_start": 0, "interval_step": 0})

        @app.task(acks_late=acks_late)
        def task():
            pass
        request = celery.app.task.Context(id="1", args=(), kwargs={})
        found = task._again(request, rgov.QueueFull("full"))
        equal(type(found), outcome, f"outcome with acks_late={acks_late}")


@checks.test
def called_as_a_function_it_raises():
    "Outside of a worker nobody sends it again."
    task = task_with(Asked(rgov.QueueFull("full")))
    try:
        task()
    except rgov.QueueFull:
        return
    raise Failed("no QueueFull")


@checks.test
def no_pause_beyond_the_deadline():
    "A task that could only come back after its deadline fails at once."
    gov = Asked(rgov.QueueFull("full", retry_after=60.0))
    result = task_with(gov).apply(headers=rgov.celery.headers(timeout=30))
    equal((len(gov.calls), type(result.result)), (1, rgov.QueueFull),
          "runs, error")


@checks.test
def a_child_can_hand_over_what_it_met():
    "Prefork pickles what a task raises."
    for error in (rgov.QueueFull("full", reason="queue_full", retry_after=1.0),
                  rgov.Timeout("late", waited_for={"a": 1.0}),
                  rgov.UpstreamError("no", status=404, code="X")):
        again = pickle.loads(pickle.dumps(error))
        equal((type(again), str(again), vars(again)),
              (type(error), str(error), vars(error)), "after pickle")


# ---------------------------------------------------------------- headers

@checks.test
def headers_say_only_what_is_known():
    "The deadline is a time of the wall clock; what is None is left out."
    equal(rgov.celery.headers(), {}, "of nothing")
    said = rgov.celery.headers(user="alice", priority="batch", timeout=60)
    check(abs(said.pop("rgov_deadline") - time.time() - 60) < 5, "deadline")
    equal(said, {"rgov_user": "alice", "rgov_priority": "batch"}, "the rest")


@checks.cases(
    ("nothing", None, {}, ("-", "interactive")),
    ("headers", {"rgov_user": "a", "rgov_priority": "batch"}, {},
     ("a", "batch")),
    ("the call decides", {"rgov_user": "a", "rgov_priority": "batch"},
     {"user": "b", "priority": "normal"}, ("b", "normal")),
    ("empty", {"rgov_user": "", "rgov_priority": None}, {},
     ("-", "interactive")),
)
def the_message_says_who_asks(_what, headers, how, expected):
    "Call, then message, then task."
    call = asked_with(headers, how)
    equal((call["user"], call["priority"]), expected, "user, priority")


@checks.cases(
    ("user", {"rgov_user": 7}), ("priority", {"rgov_priority": ["batch"]}),
    ("text", {"rgov_deadline": "tomorrow"}), ("nan", {"rgov_deadline": float("nan")}),
    ("true", {"rgov_deadline": True}),
)
def a_wrong_header_fails_the_task(_what, headers):
    "At once, as Invalid, which names the header; nothing is asked."
    gov = Asked()
    result = task_with(gov).apply(headers=headers)
    check(isinstance(result.result, rgov.Invalid), f"{result.result!r}")
    check(next(iter(headers)) in str(result.result), f"{result.result}")
    equal(gov.calls, [], "calls")


@checks.test
def what_a_task_sends_is_on_its_users_behalf():
    "Unless the new message says something else; outside of a task nothing is."
    sent = []
    def keep(headers=None, **_):
        sent.append({k: v for k, v in headers.items() if k.startswith("rgov_")})
    celery.signals.before_task_publish.connect(keep, weak=False)
    app = application()

    @app.task(name="child")
    def child():
        pass

    @app.task(name="parent")
    def parent():
        child.delay()
        child.apply_async(headers={"rgov_user": "bob"})
    child.delay()
    parent.apply(headers={"rgov_user": "alice", "rgov_deadline": 5.0,
                          "rgov_refusals": 3}).get()
    equal(sent, [{}, {"rgov_user": "alice", "rgov_deadline": 5.0},
                 {"rgov_user": "bob", "rgov_deadline": 5.0}], "headers")


# ---------------------------------------------------------------- time limits

@checks.cases(
    ("none", {}, None, None, 299, 300),
    ("wanted", {}, None, 900, 899, 900),
    ("soft", {"soft_time_limit": 60}, None, None, 58, 59),
    ("hard", {"time_limit": 60}, None, None, 58, 59),
    ("soft before hard", {"soft_time_limit": 60, "time_limit": 90}, None, None,
     58, 59),
    ("small", {"soft_time_limit": 5}, None, None, 4, 4.5),
    ("tiny", {"soft_time_limit": 0.5}, None, None, 1, 1),
    ("wanted less", {"soft_time_limit": 60}, None, 10, 9, 10),
    ("deadline", {"soft_time_limit": 60}, 20, None, 19, 20),
    ("late deadline", {"soft_time_limit": 60}, 200, None, 58, 59),
)
def a_call_ends_before_its_task(_what, limits, timeout, wanted, least, most):
    "Before the time limit and the deadline, whatever the call wants."
    call = asked_with(rgov.celery.headers(timeout=timeout),
                      {"timeout": wanted}, **limits)
    check(least <= call["timeout"] <= most, f"timeout {call['timeout']}")


# ---------------------------------------------------------------- settings

@checks.test
def configure_sets_what_the_application_left():
    "And says nothing then."
    app = application()
    equal(rgov.celery.configure(app), [], "warnings")
    equal((app.conf.worker_prefetch_multiplier, app.conf.task_acks_late,
           app.conf.task_reject_on_worker_lost,
           app.conf.worker_deduplicate_successful_tasks),
          (1, True, True, True), "settings")
    app = celery.Celery("test", broker="memory://", set_as_current=False)
    rgov.celery.configure(app)
    check(not app.conf.worker_deduplicate_successful_tasks,
          "it would ask a result backend that is not there")


@checks.cases(
    ("prefetch", {"worker_prefetch_multiplier": 4}),
    ("acks_late", {"task_acks_late": False}),
    ("reject_on_worker_lost", {"task_reject_on_worker_lost": False}),
    ("rate_limit", {"task_default_rate_limit": "30/m"}),
    ("visibility_timeout",
     {"broker_transport_options": {"visibility_timeout": 200}}),
    ("visibility_timeout", {"task_time_limit": 3600}),
)
def configure_warns_of_what_fights(word, conf):
    "One warning, which names the setting; the setting stays."
    app = application(**conf)
    warnings = rgov.celery.configure(app)
    equal(len(warnings), 1, f"warnings {warnings}")
    check(word in warnings[0], warnings[0])
    for key, value in conf.items():
        equal(app.conf[key], value, key)


@checks.cases(
    ("prefork", 200, None), ("solo", 1, None), ("threads", 32, None),
    ("threads", 200, 200), ("gevent", 5000, 1024),
)
def a_process_of_many_tasks_has_a_slot_for_each(pool, concurrency, slots):
    "As far as there are any; else the default."
    rgov.celery._governor.cache_clear()
    try:
        worker = type("Worker", (), {"pool_cls": pool,
                                     "concurrency": concurrency})
        celery.signals.worker_init.send(sender=worker)
        equal(rgov.celery._governor("celery:x")._slots, slots, "slots")
    finally:
        rgov.celery._governor.cache_clear()
        rgov.celery._tasks_at_a_time = 1


@checks.test
def switched_off_it_changes_nothing():
    "Celery keeps its settings, a permit is granted, invoke says what to do."
    os.environ["ENABLE_REQUEST_MANAGER"] = "false"
    try:
        app = application(task_default_rate_limit="30/m")
        equal(rgov.celery.configure(app), [], "warnings")
        check(not app.conf.task_acks_late, "task_acks_late was set")
        rgov.celery._governor.cache_clear()

        @app.task(bind=True, name="asks")
        def asks(self, how):
            return getattr(self, how)("m", *([b"{}"] * (how == "invoke")))
        check(not asks.apply(["permit"]).get().held, "a permit is held")
        error = asks.apply(["invoke"]).result
        check(isinstance(error, rgov.ConfigError), f"{error!r}")
    finally:
        del os.environ["ENABLE_REQUEST_MANAGER"]
        rgov.celery._governor.cache_clear()


checks.main()
