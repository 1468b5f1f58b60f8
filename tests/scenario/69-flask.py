#!/usr/bin/python3 -B
"""rgov.flask over HTTP: real gunicorn with two workers of several threads, a real
rgovd, the simulator.  What a client sees: status codes, headers, states, events.

A task that must stay in the queue waits behind a held permit of the only place
(ONE_PLACE): nothing depends on how long an answer takes.
"""

import contextlib
import http.client
import json
import signal
import sys
import time

from harness import *

sys.path.insert(0, str(BUILD / "python"))

import rgov
from rgov import web

ROOMY = """max_concurrent_requests = 50
requests_per_minute = 60000
max_requests_per_user = 0
"""
ONE_PLACE = ROOMY.replace("= 50", "= 1", 1)
BODY = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 50,
        "messages": [{"role": "user", "content": "hello"}]}
NOBODY = "01930000-0000-7000-8000-000000000000"
HERE = ROOT / "tests/scenario"


class World:
    """Simulator, rgovd, gunicorn, and a client of the same uid."""

    def __init__(self, config=ROOMY, latency="fixed:0", extra=(), workers=2,
                 **env):
        self.config, self.latency, self.extra = config, latency, extra
        self.workers, self.env = workers, env

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.sim = stack.enter_context(
                Sim(latency=self.latency, extra=self.extra))
            self.rgovd = stack.enter_context(Rgovd(self.config, sim=self.sim))
            self.web = stack.enter_context(Gunicorn(
                "flask_app:create_app()", rgovd=self.rgovd, chdir=HERE,
                workers=self.workers, worker_class="gthread", threads=8,
                env={"FLASK_RGOV_WAITERS": 6, "PREFIX": "",
                     "FLASK_RGOV_HEARTBEAT": 0.3, **self.env}))
            # A quick end: a gentle one takes each worker a second.
            stack.callback(lambda: self.web.process.signal(signal.SIGQUIT))
            self.gov = stack.enter_context(
                rgov.connect(self.rgovd.name, socket=str(self.rgovd.socket)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def ask(self, body=BODY, user="alice", query="", **headers):
        return self.web.post("/ask?" + query, body,
                             headers={"X-User": user, **headers})

    def submit(self, **more):
        """Its id."""
        answer = self.ask(**more)
        equal(answer.status, 202, f"status of a submit: {answer.body!r}")
        return answer.json()["task_id"]

    def status(self, task_id, user="alice", wait=None, **more):
        query = "" if wait is None else f"?wait={wait}"
        return self.web.get(f"/task_status/{task_id}{query}",
                            headers={"X-User": user}, **more)

    def ended(self, task_id, **more):
        """What is said of it at its end."""
        def look():
            told = self.status(task_id, wait=20, **more)
            return told if told.json().get("ready") else None
        return wait_until(look, what=f"the end of {task_id}")

    def cancel(self, task_id, user="alice"):
        return http_request("DELETE", f"{self.web.url}/task_status/{task_id}",
                            headers={"X-User": user})

    def blocked(self):
        """The only place is taken until the block's end."""
        return self.gov.permit(MODEL, user="blocker", timeout=20)

    def stream(self, ids, user="alice", **headers):
        return Stream(self.web.port, ids, {"X-User": user, **headers})


class Stream:
    """An event stream as a client reads it: (name, data) one after the other;
    a comment is ("", text)."""

    def __init__(self, port, ids, headers, timeout=20):
        self.connection = http.client.HTTPConnection("127.0.0.1", port,
                                                     timeout=timeout)
        self.connection.request("GET", f"/task_events/{ids}", None, headers)
        self.answer = self.connection.getresponse()

    def __iter__(self):
        name, data = "", None
        while line := self.answer.readline():
            field, _, value = line.decode().rstrip("\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data = json.loads(value)
            elif line == b"\n":
                if data is not None:
                    yield name, data
                name, data = "", None
            elif field == "":
                yield "", value

    def close(self):
        self.connection.close()


# ---------------------------------------------------------------- one task

@checks.test
def a_task_from_submit_to_result():
    "202 with everything that says where to look, and there the result at its end."
    with World() as world:
        answer = world.ask()
        equal(answer.status, 202, "status")
        told = answer.json()
        where = f"/task_status/{told['task_id']}"
        equal(set(told), {"task_id", "status", "status_url", "events_url"}, "keys")
        check(told["status"] in ("PENDING", "STARTED", "SUCCESS"), str(told))
        equal((told["status_url"], answer.headers["Location"]), (where, where),
              "where it says the status is")
        check(int(answer.headers["Retry-After"]) >= 1, "Retry-After")
        end = world.web.get(where + "?wait=20", headers={"X-User": "alice"})
        equal(end.status, 200, f"status at the end: {end.body!r}")
        told = end.json()
        equal((told["status"], told["state"], told["ready"], told["runs"],
               told["attempts"]), ("SUCCESS", "succeeded", True, 1, 1), "its end")
        check(told["submitted"] <= told["started"] <= told["ended"], str(told))
        equal(answered_body(json.dumps(told["result"])),
              hashlib.sha256(json.dumps(BODY).encode()).hexdigest(),
              "the body that the result is for")
        equal(told["usage"]["output_tokens"],
              told["result"]["usage"]["output_tokens"], "the usage")
        equal(end.headers["Cache-Control"], "no-store", "Cache-Control")
        equal(end.headers.get("Retry-After"), None, "Retry-After at the end")


@checks.test
def any_worker_answers():
    "A task that one process took in is found by the other."
    with World() as world:
        pids = set()
        first = world.ask()
        task_id = first.json()["task_id"]

        def other():
            told = world.status(task_id, wait=5)
            equal(told.status, 200, "status")
            pids.add(told.headers["X-Pid"])
            return pids - {first.headers["X-Pid"]}
        wait_until(other, what="an answer of the other worker")


@checks.test
def a_waiting_poll_is_woken():
    """?wait= is answered at the end, not at its time-out and not by looking again;
    as it stands when its time is over before."""
    with World(ONE_PLACE) as world:
        with world.blocked():
            task_id = world.submit()
            begin = time.monotonic()
            early = world.status(task_id, wait=0.3)
            passed = time.monotonic() - begin
            equal(early.json()["status"], "PENDING", "after 0.3 s")
            check(0.3 <= passed < 5, f"it took {passed:.2f} s")
            check(int(early.headers["Retry-After"]) >= 1, "Retry-After")
            equal(early.json()["position"], 1, "its place")
            polls = Background([lambda: (world.status(task_id, wait=20),
                                         time.time()) for _ in range(3)])
            check(polls.running(), "the polls wait")
            polls.wait(0.5)
            check(polls.running(), "the polls wait for half a second")
        for answer in polls.join(PATIENCE_S):
            told, at = answer
            equal(told.json()["status"], "SUCCESS", "the woken poll")
            check(at - told.json()["ended"] < 0.9,
                  f"woken {at - told.json()['ended']:.2f} s after the end")


@checks.test
def polls_that_would_take_all_threads_do_not_wait():
    "Beyond RGOV_WAITERS a poll is answered at once, and told when to come back."
    with World(ONE_PLACE, workers=1, FLASK_RGOV_WAITERS=2) as world:
        with world.blocked():
            task_id = world.submit()
            polls = Background(
                [lambda: world.status(task_id, wait=20)] * 2)
            polls.wait(0.5)
            begin = time.monotonic()
            answer = world.status(task_id, wait=20)
            check(time.monotonic() - begin < 10, "the third poll waited")
            equal(answer.json()["status"], "PENDING", "the third poll")
            check("Retry-After" in answer.headers, "Retry-After")
        for answer in polls.join(PATIENCE_S):
            equal(answer.json()["status"], "SUCCESS", "a poll that waited")
        equal(world.status(task_id, wait=1).status, 200, "and places come back")


@checks.test
def a_cancelled_task_is_revoked():
    "DELETE; the poll that waits hears of it."
    with World(ONE_PLACE) as world, world.blocked():
        task_id = world.submit()
        poll = Background([lambda: world.status(task_id, wait=20)])
        answer = world.cancel(task_id)
        check(answer.status in (200, 202), f"status {answer.status}")
        told = poll.join(PATIENCE_S)[0].json()
        equal((told["status"], told["state"]), ("REVOKED", "cancelled"), "its end")
        check("result" not in told, "it has no result")


@checks.test
def a_failed_task_says_why():
    "FAILURE with the provider's code; a task that was not done in time, too."
    with World(ONE_PLACE, extra=["--fault-model", "*haiku*=404"]) as world:
        told = world.ended(world.submit(
            query="model=anthropic.claude-3-haiku-20240307-v1:0")).json()
        equal((told["status"], told["state"]), ("FAILURE", "failed"), "its end")
        equal(told["error"]["http_status"], 404, "the provider's status")
        check(told["error"]["code"] and told["error"]["message"], str(told))
        with world.blocked():
            told = world.ended(world.submit(query="timeout=0.2")).json()
            equal((told["status"], told["state"]), ("FAILURE", "expired"), "late")


# ---------------------------------------------------------------- refusals

@checks.test
def only_who_submitted_sees_it():
    "404 for everybody else, as for one that does not exist; 400 for no id."
    with World() as world:
        task_id = world.submit(user="alice")
        equal(world.ended(task_id).status, 200, "alice")
        for user in ("bob", "alic", "", "alice2"):
            other = world.status(task_id, user=user)
            equal(other.status, 404, f"status for {user!r}")
            equal(other.json(), world.status(NOBODY, user=user).json(),
                  "what is said of one that is not there")
            equal(world.cancel(task_id, user).status, 404, "DELETE")
            equal(world.stream(task_id, user=user).answer.status, 404, "events")
        for wrong in ("x", task_id + "0", task_id[:-1] + "g",
                      task_id.replace("-", ""), "%00", "%f0%9f%92%a9"):
            equal(world.status(wrong).status, 400, f"status of {wrong!r}")
        equal(world.stream(f"{task_id},x").answer.status, 400, "events")
        equal(world.stream(",".join([task_id] * 51)).answer.status, 400, "51 ids")
        for wait in ("x", "-1", "nan", "inf", "1e999", ""):
            equal(world.status(task_id, wait=wait).status, 400, f"wait={wait}")
        equal(world.status(task_id, wait=1e9).status, 200, "a long wait")


@checks.test
def a_key_is_one_task():
    "Of one user and one request; another request with it is 409."
    with World() as world:
        key = {"Idempotency-Key": "first section"}
        task_id = world.submit(**key)
        equal(world.submit(**key), task_id, "the same again")
        world.ended(task_id)
        equal(world.submit(**key), task_id, "the same after its end")
        answer = world.ask({**BODY, "max_tokens": 51}, **key)
        equal((answer.status, answer.json()["error"]), (409, "conflict"), "another")
        check(world.submit(user="bob", **key) != task_id, "another user's")
        check(world.submit(**{"Idempotency-Key": "second"}) != task_id, "another key")
        equal(world.ask(**{"Idempotency-Key": "x" * 256}).status, 400, "a long key")
        wait_until(lambda: world.sim.report()["accepted"] == 3, what="three calls")


@checks.test
def limits_and_errors_have_their_status():
    "429 for what is the user's own, 503 for what is the host's; with Retry-After."
    config = ONE_PLACE + "max_tasks = 3\nmax_tasks_per_user = 2\n" \
        "max_queued = 1\n"
    with World(config) as world:
        with world.blocked():
            ids = [world.submit(), world.submit()]
            mine = world.ask()
            equal((mine.status, mine.json()["error"]), (429, "too many requests"),
                  "the third of one user")
            check(int(mine.headers["Retry-After"]) >= 1, "Retry-After")
            ids.append(world.submit(user="bob"))
            full = world.ask(user="carol")
            equal(full.status, 503, f"the fourth: {full.body!r}")
            check(int(full.headers["Retry-After"]) >= 1, "Retry-After")
            late = world.web.post("/call?timeout=0.2", BODY,
                                  headers={"X-User": "dora"})
            equal(late.status, 504, f"a call that is late: {late.body!r}")
            for task_id, user in zip(ids, ("alice", "alice", "bob")):
                world.cancel(task_id, user)
        wrong = world.ask(query="model=a%20model")
        equal((wrong.status, wrong.json()["error"]), (400, "bad request"), "a model")
        world.rgovd.kill9()
        wait_until(lambda: not world.web.get("/queue_stats").json()["available"],
                   what="rgovd's silence")
        for answer in (world.ask(), world.status(ids[0])):
            equal(answer.status, 503, f"without rgovd: {answer.body!r}")
            check(int(answer.headers["Retry-After"]) >= 1, "Retry-After")
            check(str(world.rgovd.socket) not in answer.body.decode(),
                  "a path of the host is told")
        equal(world.web.get("/healthz").status, 200, "/healthz without rgovd")
        world.rgovd.start()
        equal(world.status(ids[0]).json()["status"], "REVOKED", "it is still known")


@checks.test
def a_result_is_kept_for_a_while():
    "410 when it was removed, 404 when all of it was."
    config = ROOMY + 'task_result_ttl = "1s"\ntask_record_ttl = "3s"\n'
    with World(config) as world:
        task_id = world.submit()
        equal(world.ended(task_id).status, 200, "at its end")
        gone = wait_until(
            lambda: (a := world.status(task_id)).status != 200 and a, what="410")
        equal(gone.status, 410, f"status: {gone.body!r}")
        told = gone.json()
        equal((told["error"], told["status"], told["ready"]),
              ("gone", "SUCCESS", True), "what is told")
        events = list(world.stream(task_id))
        equal([n for n, _ in events], ["status", "end"], "the events of it")
        equal(events[0][1].get("gone"), True, "what the stream says")
        wait_until(lambda: world.status(task_id).status == 404, what="404")


@checks.test
def every_error_has_a_status():
    "Also those that no test here provokes."
    e = rgov.errors
    expected = {
        "UserLimit": 429, "QueueFull": 503, "TooLarge": 413, "Draining": 503,
        "Invalid": 400, "Rejected": 503, "Unavailable": 503, "Timeout": 504,
        "UpstreamError": 502, "UnknownTask": 404, "NotYours": 404,
        "TaskGone": 410, "TaskConflict": 409, "TaskExpired": 504,
        "TaskCancelled": 409, "StoreError": 503, "NoStore": 503,
        "Error": 500, "ForkError": 500,
        "PermitLost": 500, "ConfigError": 500}
    for name, status in expected.items():
        told = web.problem_of(getattr(e, name)("some words"))
        equal(told.status, status, name)
        equal(told.retry_after is not None, status in (429, 503),
              f"{name}: Retry-After")
        equal(told.is_private, name == "Unavailable" or status == 500, name)
        equal("some words" in told.detail, status != 404 and not told.is_private,
              f"{name}: what is told")
    mine = web.problem_of(e.QueueFull("x", limit="max_queued_per_user",
                                      retry_after=2.1))
    equal((mine.status, mine.retry_after), (429, 2.1), "a user's own queue")
    equal(web.problem_of(e.UpstreamError("x", status=429)).status, 429, "throttled")


# ---------------------------------------------------------------- events

@checks.test
def events_follow_the_queue():
    "Places move as others end, the result comes with the end, and then it is over."
    with World(ONE_PLACE) as world:
        with world.blocked():
            ids = [world.submit() for _ in range(3)]
            stream = world.stream(",".join(ids))
            equal(stream.answer.status, 200, "status")
            equal(stream.answer.headers["Content-Type"].split(";")[0],
                  "text/event-stream", "Content-Type")
            events = iter(stream)
            first = [next(events)[1] for _ in ids]
            equal([t["position"] for t in first], [1, 2, 3], "places")
            # A heartbeat; before it what is predicted may have changed.
            wait_until(lambda: next(events)[0] == "", what="a heartbeat")
            world.cancel(ids[0])
            moved = {}
            while moved != {ids[1]: 1, ids[2]: 2}:
                name, told = next(events)
                if name and told["state"] == "queued":
                    moved[told["task_id"]] = told["position"]
        told = [(name, data) for name, data in events if name]
        equal(told[-1], ("end", {}), "the last")
        for task_id in ids[1:]:
            mine = [t for n, t in told if t.get("task_id") == task_id]
            equal(mine[-1]["status"], "SUCCESS", "the last of each")
            check(mine[-1]["result"]["content"], "it has its result")
        stream.close()
        again = world.stream(ids[0])
        equal([n for n, _ in again], ["status", "end"], "of one that has ended")
        equal(world.stream(ids[0], **{"Last-Event-ID": "end"}).answer.status, 204,
              "a browser that comes again after the end")


@checks.test
def a_client_that_leaves_frees_its_place():
    "A stream ends when its client is gone, and a HEAD takes no place."
    with World(ONE_PLACE, workers=1, FLASK_RGOV_WAITERS=1) as world:
        with world.blocked():
            task_id = world.submit()
            for _ in range(3):
                http_request("HEAD", f"{world.web.url}/task_events/{task_id}",
                             headers={"X-User": "alice"})
            stream = world.stream(task_id)
            events = iter(stream)
            equal([next(events)[0] for _ in range(3)], ["status", "", ""], "held")
            # No place: how it stands, and the end of this answer.
            equal([n for n, _ in world.stream(task_id)], ["status"], "a second one")
            stream.close()

            def held_again():
                names = []
                for name, _ in world.stream(task_id):
                    names.append(name)
                    if len(names) == 2:
                        return True
                return False
            wait_until(held_again, what="the place of the client that left")


@checks.test
def events_go_on_when_rgovd_dies():
    "The stream says so, and goes on with the next rgovd."
    with World(ONE_PLACE) as world:
        permit = world.blocked()
        task_id = world.submit()
        events = iter(world.stream(task_id))
        equal(next(events)[1]["status"], "PENDING", "before")
        world.rgovd.kill9()
        name = next(name for name, _ in events if name)
        equal(name, "away", "what the stream says")
        world.rgovd.start()
        permit.settle()
        told = [(n, t) for n, t in events if n]
        equal([n for n, _ in told][-1], "end", "the last")
        equal([t for n, t in told if n == "status"][-1]["status"], "SUCCESS",
              "its end")


# ---------------------------------------------------------------- the rest

@checks.test
def figures_are_the_hosts():
    "/queue_stats says what Celery's inspector said, and the nine old figures."
    with World(ONE_PLACE) as world:
        with world.blocked():
            world.submit()
            stats = wait_until(
                lambda: (s := world.web.get("/queue_stats").json())
                ["reserved_tasks"] == 1 and s, what="one that waits")
            equal({k: stats[k] for k in ("available", "workers", "active_tasks",
                                         "reserved_tasks", "total_pending")},
                  {"available": True, "workers": 1, "active_tasks": 1,
                   "reserved_tasks": 1, "total_pending": 2}, "the figures")
            check({"total_requests", "queue_size", "avg_wait_time"} <= set(stats),
                  "the old ones")


@checks.test
def a_decorated_view_holds_a_permit():
    "While it runs; given back at its end, also when it raises; refused in time."
    with World(ONE_PLACE) as world:
        answer = world.web.post("/permit", b"", headers={"X-User": "alice"})
        equal(answer.json(), {"held": True, "user": "alice"}, "held")
        wait_until(world.rgovd.is_idle, what="the permit's return")
        equal(world.web.post("/permit?raise=1", b"").status, 500, "a view that raises")
        wait_until(world.rgovd.is_idle, what="the permit's return")
        long = world.web.post("/permit", b"", headers={"X-User": "u" * 200})
        check(long.json()["user"].startswith("sha256:"), "a long name")


@checks.test
def the_command_line_knows_the_host():
    "flask rgov stats and limits, with and without --json, and without rgovd."
    with Rgovd(ONE_PLACE, credentials=False, endpoint="http://127.0.0.1:1") as rgovd:
        def flask(*words, **env):
            return run([PYTHON, "-m", "flask", "--app", "flask_app:create_app",
                        "rgov", *words], cwd=HERE,
                       env=rgovd.client_env(PYTHONDONTWRITEBYTECODE=1, **env))
        done = flask("stats", "--json")
        equal(done.returncode, 0, done.stderr)
        equal(json.loads(done.stdout)["limits"]["max_concurrent_requests"], 1,
              "stats --json")
        done = flask("limits")
        check("max_concurrent_requests  1" in done.stdout, done.stdout)
        equal(json.loads(flask("limits", "--json").stdout)
              ["max_concurrent_requests"], 1, "limits --json")
        # A name that looks like a number is a name.
        done = flask("stats", FLASK_RGOV_NAME="12345", FLASK_RGOV_SOCKET="")
        check(done.returncode == 1 and "12345" in done.stderr, done.stderr)


checks.main()
