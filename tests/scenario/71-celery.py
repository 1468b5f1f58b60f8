#!/usr/bin/python3 -B
"""Celery's workers under one rgovd: real Celery, real Redis, processes that are
killed, and the limits of the host.
"""

import types

from harness import *

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(BUILD / "python"), str(HERE)]
for _name in list(os.environ):
    if _name.startswith("RGOV_") and _name not in ("RGOV_LOOP", "RGOV_KEEP_LOGS"):
        del os.environ[_name]

import celery.states  # noqa: E402 - what is above comes first
import rgov  # noqa: E402
from celery_tasks import body_of  # noqa: E402
from rgov.celery import headers  # noqa: E402

RPM, MINUTE_S = 20, 2.0
# As long as nothing else is said, nothing is in the way.
ROOMY = """max_concurrent_requests = 200
requests_per_minute = 60000
max_requests_per_user = 0
"""
ONE_PLACE = ROOMY.replace("= 200", "= 1", 1)
# A kill, or an exception of a signal, is known within 0.2 s; the rest is the
# machine's.  What hangs would take the 60 s of a call.
AT_ONCE_S = 5.0
HANGS, REFUSES = "anthropic.hangs", "anthropic.refuses"
FAULTS = ["--fault-model", f"{HANGS}=hang", "--fault-model", f"{REFUSES}=404"]


class Workers:
    """Celery workers: one process each, with their pools."""

    def __init__(self, rgovd, redis, count=1, pool="prefork", concurrency=2,
                 name="w"):
        self.scratch = Scratch()
        self.env = rgovd.client_env(
            REDIS_URL=redis.url, PYTHONPATH=f"{BUILD / 'python'}:{HERE}",
            PYTHONDONTWRITEBYTECODE="1")
        self.names = [f"{name}{n}@here" for n in range(count)]
        self.options = ["--pool", pool, "--concurrency", concurrency]
        self.processes = []

    def __enter__(self):
        self.processes = [self._start(name) for name in self.names]
        for process in self.processes:
            wait_until(lambda: self._is_ready(process), 60, "a Celery worker")
        return self

    def _start(self, name):
        # SIGTERM: the worker then ends its children.
        return Process(
            name, [PYTHON, "-m", "celery", "-A", "celery_tasks", "worker",
                   "--hostname", name, "--loglevel", "INFO",
                   "--without-gossip", "--without-mingle",
                   "--without-heartbeat", *self.options],
            self.scratch.path / f"{name}.log", env=self.env,
            cwd=self.scratch.path, death_signal=signal.SIGTERM)

    def _is_ready(self, process):
        if not process.alive():
            raise Failed("a Celery worker ended at its start:\n"
                         + process.tail())
        return " ready." in process.text()

    def __exit__(self, *_):
        # Together: a worker takes a while to end.
        for process in self.processes:
            process.signal(signal.SIGTERM)
        for process in self.processes:
            process.stop()
        self.scratch.remove()

    def logs(self):
        return "".join(p.text() for p in self.processes)


class Task:
    """A task that was sent; reads the result backend when asked.  (Celery's own
    result subscribes itself, and reconnects when it is forgotten.)"""

    def __init__(self, app, task_id):
        self.app = app
        self.id = task_id

    @property
    def state(self):
        return self.app.backend.get_state(self.id)

    @property
    def result(self):
        return self.app.backend.get_result(self.id)

    def revoke(self):
        self.app.control.revoke(self.id, terminate=True)


@contextlib.contextmanager
def world(config=ROOMY, sim=None, **workers):
    """Simulator, rgovd, Redis and workers; send(name, *args, **options) sends
    a Task."""
    with Sim(extra=FAULTS, **(sim or {"latency": "fixed:0.02"})) as provider, \
            Rgovd(config, sim=provider) as rgovd, Redis() as redis, \
            Workers(rgovd, redis, **workers) as running, \
            celery.Celery(broker=redis.url, backend=redis.url) as app:
        yield types.SimpleNamespace(
            sim=provider, rgovd=rgovd, redis=redis, workers=running, app=app,
            send=lambda name, *args, **options: Task(
                app, app.send_task(name, args, **options).id))


def ended(task, timeout=PATIENCE_S):
    """The final state of a task, when it has one."""
    wait_until(lambda: task.state in celery.states.READY_STATES, timeout,
               f"the end of {task.id}", 0.05)
    return task.state


def failed(task):
    """The name of what a task failed with."""
    equal(ended(task), "FAILURE", f"state ({task.result!r})")
    return type(task.result).__name__


def is_active(w, count):
    return lambda: w.rgovd.stats()["active_requests"] == count


def check_answers(results, texts):
    """Every task has the answer to what it asked."""
    check_own_answers([(body_of(text).encode(), r.result["answer"])
                       for r, text in zip(results, texts)])


# ---------------------------------------------------------------- limits

@checks.test
def the_limit_is_the_hosts():
    """Three worker processes with four children each: every task has its own
    answer, and no window of Bedrock's minute sees more than the limit."""
    with world(limits(RPM, 6, per_user=6, minute=MINUTE_S), count=3,
               concurrency=4, sim={"rpm": RPM, "minute": MINUTE_S,
                                   "concurrency": 6,
                                   "latency": "uniform:0.05,0.15"}) as w:
        texts = [f"section {n}" for n in range(35)]
        results = [w.send("ask", text, headers=headers(user=f"u{n % 5}"))
                   for n, text in enumerate(texts)]
        for result in results:
            equal(ended(result), "SUCCESS", f"state ({result.result!r})")
        check_answers(results, texts)
        report = w.sim.report()
        equal(report["throttled"], 0, "throttled responses")
        equal(report["arrivals"], len(texts), "arrivals")
        check(report["max_arrivals_in_window"] <= RPM,
              f"{report['max_arrivals_in_window']} starts in a window of {RPM}")
        for log in w.workers.processes:
            check(" succeeded in " in log.text(), f"{log.name} did nothing")
        equal(w.rgovd.stats()["throttled_requests"], 0, "throttled requests")


def starts_by_user(w, texts):
    """The users of the provider's arrivals, in order."""
    users = {hashlib.sha256(body_of(text).encode()).hexdigest(): user
             for user, text in texts}
    return [users[e["body_sha256"]] for e in sorted(
        (e for e in w.sim.events() if e["event"] == "arrival"),
        key=lambda e: e["t_mono_ns"])]


@checks.test
def users_come_in_turns():
    """Forty tasks of one user are all there before those of three others, over
    three workers with threads; yet each of the four has his turn."""
    texts = [("greedy", f"greedy {n}") for n in range(40)]
    texts += [(f"modest-{u}", f"modest {u} {n}") for u in range(3)
              for n in range(4)]
    with world(ONE_PLACE, count=3, pool="threads", concurrency=32) as w:
        gov = rgov.connect(socket=w.rgovd.socket)
        with gov.permit("anthropic.any", user="nobody"):
            results = []
            for user, text in texts:
                if len(results) == 40:
                    wait_until(lambda: w.rgovd.stats()["queue_size"] == 40,
                               what="the greedy user's tasks in the queue")
                results.append(w.send("ask", text, headers=headers(user=user)))
            wait_until(lambda: w.rgovd.stats()["queue_size"] == len(texts),
                       what="all tasks in the queue")
        for result in results:
            equal(ended(result), "SUCCESS", f"state ({result.result!r})")
        gov.close()
        starts = starts_by_user(w, texts)
        first = collections.Counter(starts[:16])
        check(max(first.values()) - min(first.values()) <= 1
              and len(first) == 4, f"of the first 16 starts: {dict(first)}")


# ---------------------------------------------------------------- ends

@checks.test
def a_killed_child_returns_its_slot():
    """kill -9 of the child that holds the only place: another task gets it at
    once; the child's own is delivered again and ends once."""
    with world(ONE_PLACE, sim={"latency": "fixed:0.02"}, concurrency=2) as w:
        w.sim.set(outage="hang")
        victim = w.send("ask", "victim")
        wait_until(is_active(w, 1), what="a call that hangs")
        wait_until(lambda: victim.state == "STARTED", what="its start")
        pid = victim.result["pid"]
        other = w.send("ask", "other")
        wait_until(lambda: w.rgovd.stats()["queue_size"] == 1,
                   what="a task that waits")
        w.sim.set(outage="none")
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        equal(ended(other), "SUCCESS", "state of the other")
        check(time.monotonic() - begin < AT_ONCE_S,
              f"the slot came back after {time.monotonic() - begin:.1f} s")
        equal(ended(victim), "SUCCESS", f"state ({victim.result!r})")
        check_answers([victim, other], ["victim", "other"])
        wait_until(w.rgovd.is_idle, what="an idle rgovd")
        report = w.sim.report()
        equal((report["arrivals"], report["ok"]), (3, 2), "arrivals, answers")


@checks.test
def what_ends_a_task_ends_its_request():
    """A soft time limit and revoke(terminate=True): rgovd has nothing left of
    the call, nor of one that waits, and the children serve on."""
    with world(ONE_PLACE, concurrency=2) as w:
        running = w.send("ask", "running", HANGS)
        wait_until(is_active(w, 1), what="a call that hangs")
        waiting = w.send("ask_long", "waiting", HANGS)
        wait_until(lambda: w.rgovd.stats()["queue_size"] == 1,
                   what="a call that waits")
        equal(ended(waiting), "SUCCESS", f"state ({waiting.result!r})")
        equal(waiting.result, "soft time limit", "what ended the task")
        wait_until(lambda: w.rgovd.stats()["queue_size"] == 0,
                   AT_ONCE_S, "an empty queue")
        equal(w.rgovd.stats()["active_requests"], 1, "active requests")

        running.revoke()
        wait_until(w.rgovd.is_idle, AT_ONCE_S, "an idle rgovd")
        equal(ended(running), "REVOKED", "state of the revoked")

        equal(failed(w.send("ask", "in time", HANGS, soft_time_limit=2)),
              "Timeout", "what a call says before its time limit")
        equal(ended(w.send("ask", "again")), "SUCCESS", "the next task")
        wait_until(w.rgovd.is_idle, what="an idle rgovd")


# ---------------------------------------------------------------- refusals

@checks.test
def refusals_come_back_and_end():
    """A task that the queue has no room for comes back until it is served; one
    that can never be is not tried again."""
    with world(ONE_PLACE + "max_queued_per_user = 1\n", pool="threads",
               concurrency=16, sim={"latency": "fixed:0.1"}) as w:
        texts = [f"section {n}" for n in range(10)]
        tasks = [w.send("ask", text, headers=headers(user="u"))
                 for text in texts]
        old = w.send("old_code", "fine")
        for task in tasks:
            equal(ended(task), "SUCCESS", f"state ({task.result!r})")
        check_answers(tasks, texts)
        check(sum(task.result["refusals"] for task in tasks) > 0, "no refusal")
        equal((ended(old), old.result), ("SUCCESS", "fine"), "the old code")

        for what, model, error in (
                ("a provider's error", REFUSES, "UpstreamError"),
                ("a wrong model", "", "Invalid")):
            task = w.send("ask", what, model)
            equal(failed(task), error, what)
            equal(retries(w, task), 0, f"retries of {what}")

        late = w.send("ask", "late", headers=headers(timeout=-1))
        equal(failed(late), "Timeout", "a task after its deadline")


@checks.test
def without_rgovd_tasks_come_back():
    """While rgovd is away a task comes back as often as it may, and is served
    by the next rgovd; what it sends is its user's, too."""
    with world() as w:
        w.rgovd.kill9()
        task = w.send("ask_twice", "away")
        back = w.send("ask", "back")
        equal(failed(task), "Unavailable", "a task without rgovd")
        equal(retries(w, task), 1, "retries")
        wait_until(lambda: retries(w, back) > 0, what="a retry")
        w.rgovd.start()
        equal(ended(back), "SUCCESS", f"state ({back.result!r})")

        relay = w.send("relay", headers=headers(
            user="alice", priority="batch", timeout=100))
        equal(ended(relay), "SUCCESS", f"state ({relay.result!r})")
        child = Task(w.app, relay.result)
        equal(ended(child), "SUCCESS", f"state ({child.result!r})")
        equal(child.result, ["alice", "batch", True], "what it asks for")


def retries(w, task):
    return w.workers.logs().count(f"[{task.id}] retry: ")


# ---------------------------------------------------------------- the broker

@checks.test
def redis_may_die_in_the_middle():
    """Redis is killed while tasks wait in rgovd and in Redis, and comes back:
    all of them end, each after one call."""
    with world(ONE_PLACE, count=2) as w:
        gov = rgov.connect(socket=w.rgovd.socket)
        texts = [f"section {n}" for n in range(12)]
        with gov.permit("anthropic.any", user="nobody"):
            tasks = [w.send("ask", text) for text in texts]
            wait_until(lambda: w.rgovd.stats()["queue_size"] == 4,
                       what="a task in each child")
            w.redis.kill9()
            wait_until(lambda: all("Connection to broker lost" in p.text()
                                   for p in w.workers.processes),
                       what="workers that miss Redis")
            w.redis.start()
        gov.close()
        for task in tasks:
            equal(ended(task, 60), "SUCCESS", f"state ({task.result!r})")
        check_answers(tasks, texts)
        equal(w.sim.report()["arrivals"], len(texts), "arrivals")


# ---------------------------------------------------------------- pools

@checks.test
def every_pool_waits_its_way():
    """Tasks of a solo and of a gevent worker share the host's one place; the
    greenlets wait beside each other."""
    if run([PYTHON, "-c", "import gevent"]).returncode != 0:
        raise Skip("gevent is not installed")
    with world(ONE_PLACE, pool="solo") as w, \
            Workers(w.rgovd, w.redis, pool="gevent", concurrency=8,
                    name="g") as green:
        gov = rgov.connect(socket=w.rgovd.socket)
        texts = [f"section {n}" for n in range(9)]
        with gov.permit("anthropic.any", user="nobody"):
            tasks = [w.send("ask", text) for text in texts]
            wait_until(lambda: w.rgovd.stats()["queue_size"] == len(texts),
                       what="all tasks in the queue")
        gov.close()
        for task in tasks:
            equal(ended(task), "SUCCESS", f"state ({task.result!r})")
        check_answers(tasks, texts)
        for workers in (w.workers, green):
            check(" succeeded in " in workers.logs(), "one did nothing")


checks.main()
