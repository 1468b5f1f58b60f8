#!/usr/bin/python3 -B
"""Durable tasks from Python: whoever asks, from wherever, gets the task's own end,
and whoever stops asking leaves nothing behind.

A held permit of the only place (ONE_PLACE) is what makes tasks wait here: nothing
depends on how long an answer takes.
"""

import asyncio
import ctypes
import gc
import json
import os
import random
import shutil
import signal
import sys
import threading
import time

from harness import *
from world import (BODY, MESSAGES, ONE_PLACE, ROOMY, Alarm, a_body, alarm_after,
                   in_child, is_heard_in_time, raises, text_of, world)

import rgov

sys.path.insert(0, str(ROOT / "tests/fault"))
from bad_provider import Provider

HANGS = "vendor.hangs-v1"
LARGE = 24 << 20
# Of what counts references: more shows a smaller leak.
ROUNDS = int(os.environ.get("N") or 1000)


def submit(w, word, **options):
    """A task unlike any other, and what its answer begins with."""
    body, digest = a_body(word)
    return w.gov.submit(MODEL, body, **options), digest


def check_own(reply, digest):
    check(digest in text_of(reply), "the reply of another task")


def waits_until(task, state):
    wait_until(lambda: task.state == state, what=f"the task to be {state}")


# ---------------------------------------------------------------- one task

@checks.test
def a_task_has_every_field():
    "From its acknowledgement to its end, with its history and its place in a list."
    with world() as w:
        begin = time.time()
        task, digest = submit(w, "one", user="alice", priority="batch", key="k1")
        status = task.wait(30)
        equal((status.id, status.state, status.result, status.http_status),
              (task.id, rgov.TaskState.SUCCEEDED, "ok", 200), "status")
        check(begin - 1 < status.submitted <= status.started <= status.ended
              <= time.time() + 1, f"times: {status}")
        check(status.forget > status.ended, "forgotten at once")
        equal((status.runs, status.attempts, status.position, status.done),
              (1, 1, None, True), "counts")
        reply = task.result()
        check_own(reply, digest)
        equal((reply.status, reply.model_id, reply.usage),
              (200, MODEL, status.usage), "the reply's status, model and usage")
        check(reply.usage.output_tokens > 0, "no usage")
        equal(task.result(timeout=0).body, reply.body, "once more")
        what = [event.what for event in task.history()]
        equal((what[0], "started" in what, what == sorted(what, key=what.index)),
              ("submitted", True, True), f"the history {what}")
        row, = w.gov.tasks()
        equal((row.id, row.state, row.user, row.model_id, row.key, row.priority,
               row.uid, row.has_reply, row.result, row.http_status),
              (task.id, "succeeded", "alice", MODEL, "k1", "batch", os.getuid(),
               True, "ok", 200), "its row")
        check(row.submitted <= row.ended < row.deadline, f"times: {row}")
        w.waits_until_quiet()


@checks.test
def converse_is_a_task_too():
    "With its parts put together as for converse()."
    with world() as w:
        task = w.gov.submit_converse(MODEL, MESSAGES, system="be brief",
                                     inference_config={"maxTokens": 7})
        equal(task.result(30).usage.output_tokens, 7, "output tokens")


@checks.test
def a_waiting_task_knows_its_place():
    "result() and wait() tell, and leave it where it is."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        first, _ = submit(w, "first")
        second, digest = submit(w, "second")
        status = wait_until(lambda: (s := second.status()).position and s,
                            what="its place")
        equal((status.state, status.position, status.started, status.result),
              ("queued", 2, None, None), "status")
        begin = time.monotonic()
        equal(second.wait(0.3).state, "queued", "after the wait")
        check(time.monotonic() - begin >= 0.3, "too early")
        for timeout in (0, -1, 0.2):
            e = raises(rgov.Timeout, second.result, timeout=timeout)
            equal(e.task, second.id, "whose")
            check("queued, place 2" in str(e), str(e))
        permit.settle()
        check_own(second.result(30), digest)
        check(first.wait(30).done, "the first has not ended")
        w.waits_until_quiet()


@checks.test
def a_failed_task_raises_as_a_call():
    "The provider's error, with the task's id; also for who has only the id."
    model = "anthropic.claude-3-haiku-20240307-v1:0"
    with world(sim={"extra": ["--fault-model", "*haiku*=403"]}) as w:
        task = w.gov.submit(model, BODY)
        for asked in (task, w.gov.task(task.id)):
            e = raises(rgov.UpstreamError, asked.result, 30)
            equal((e.status, e.code, e.task),
                  (403, "AccessDeniedException", task.id), "the error")
            check(b"message" in e.body and e.message and e.request_id, repr(e))
        status = task.status()
        equal((status.state, status.result, status.http_status, status.code),
              ("failed", "upstream_error", 403, "AccessDeniedException"), "status")


@checks.test
def a_cancelled_task_has_no_result():
    "While it waits and while the provider has it; afterwards it stays so."
    with world(ONE_PLACE, sim={"extra": ["--fault-model", f"{HANGS}=hang"]}) as w:
        runs = w.gov.submit(HANGS, BODY)
        waits_until(runs, "running")
        waits, _ = submit(w, "waits")
        for task in (waits, runs):
            task.cancel()
            equal(task.wait(30).state, "cancelled", "state")
            e = raises(rgov.TaskCancelled, task.result)
            equal((e.task, e.reason), (task.id, "cancelled"), "the error")
            equal(task.cancel().state, "cancelled", "cancelled twice")
        done, digest = submit(w, "done")
        check(done.wait(30).done, "not done")
        equal(done.cancel().state, "succeeded", "cancelled too late")
        check_own(done.result(), digest)
        w.waits_until_quiet()


@checks.test
def a_task_expires_by_its_own_timeout():
    "While it waits for a place that does not come."
    with world(ONE_PLACE) as w, w.gov.permit(MODEL):
        task, _ = submit(w, "late", timeout=0.3)
        equal(task.wait(30).state, "expired", "state")
        e = raises(rgov.TaskExpired, task.result)
        equal((e.task, e.reason), (task.id, "expired"), "the error")


@checks.test
def a_key_stands_for_one_request():
    "The same again is the same task; another is a conflict, and shows no body."
    with world() as w:
        body, digest = a_body("with a key")
        options = {"key": "section 7/3", "user": "bob"}
        task = w.gov.submit(MODEL, body, **options)
        equal(w.gov.submit(MODEL, body, **options), task, "the same request")
        check_own(task.result(30), digest)
        equal(w.gov.submit(MODEL, body, **options), task, "after its end")
        other, _ = a_body("PRIVATE")
        e = raises(rgov.TaskConflict, w.gov.submit, MODEL, other, **options)
        equal(e.reason, "key_taken", "reason")
        check("PRIVATE" not in str(e), str(e))
        for wrong in ("", "x" * 129, "a\nb"):
            raises(rgov.Invalid, w.gov.submit, MODEL, body, key=wrong)
        equal(len(w.gov.tasks()), 1, "tasks")


@checks.test
def a_user_may_have_any_name():
    "A name beyond ASCII is found again, in a list and by a search."
    user = "Żółw-\U0001f422-用户"
    with world() as w:
        task, digest = submit(w, "unicode", user=user)
        check_own(task.result(30), digest)
        for rows in (w.gov.tasks(user=user), w.gov.tasks(text="\U0001f422")):
            equal([(r.id, r.user) for r in rows], [(task.id, user)], "found")
        equal(w.gov.tasks(user="Żółw"), [], "of another user")


@checks.test
def lists_come_in_pages():
    "The newest first, each once, by state and by user."
    with world(ONE_PLACE) as w:
        ended = [submit(w, f"ended {i}", user="a")[0] for i in range(3)]
        for task in ended:
            task.result(30)
        with w.gov.permit(MODEL):
            queued = [submit(w, f"queued {i}", user="b")[0] for i in range(4)]
            pages, last = [], None
            while page := w.gov.tasks(limit=3, after=last):
                pages += page
                last = page[-1]
            ids = [t.id for t in ended + queued]
            equal([row.id for row in pages], sorted(ids, reverse=True), "pages")
            equal({r.id for r in w.gov.tasks(states=["queued", "running"])},
                  {t.id for t in queued}, "those that wait")
            equal({r.id for r in w.gov.tasks(states=rgov.TaskState.SUCCEEDED)},
                  {t.id for t in ended}, "those that ended")
            equal(len(w.gov.tasks("b", text="claude", limit=2)), 2, "a few")
            for after in (queued[0], queued[0].id):
                equal({r.id for r in w.gov.tasks(after=after)},
                      {t.id for t in ended}, "older ones")


@checks.test
def an_unknown_task_is_said_so():
    "By every question; without a store, too."
    with world() as w:
        for when in ("without a store", "with one"):
            task = w.gov.task("01890a5d-ac96-774b-bcce-b302099a8057")
            for ask in (task.status, task.wait, task.result, task.cancel,
                        task.history):
                e = raises(rgov.UnknownTask, ask)
                equal((e.task, e.reason), (task.id, "no_task"), when)
                check(isinstance(e, LookupError) and task.id in str(e), str(e))
            submit(w, "makes the store")[0].result(30)
        w.waits_until_quiet()


@checks.test
def switched_off_there_is_no_store():
    "tasks = false: whoever submits is told."
    with world(ROOMY + "tasks = false\n") as w:
        e = raises(rgov.NoStore, w.gov.submit, MODEL, BODY)
        equal(e.reason, "no_store", "reason")
        check(str(e), "no words")
        w.gov.invoke(MODEL, BODY)


@checks.test
def a_reply_goes_before_its_record():
    "After task_result_ttl it is gone, after task_record_ttl nobody knows it."
    ttl = 'task_result_ttl = "1s"\ntask_record_ttl = "4s"\n'
    with world(ROOMY + ttl) as w:
        task, _ = submit(w, "brief")
        equal(task.wait(30).state, "succeeded", "state")
        def is_gone():
            try:
                task.result()
            except rgov.TaskGone as e:
                return e
        e = wait_until(is_gone, what="TaskGone")
        equal((e.task, e.reason), (task.id, "task_gone"), "the error")
        equal(task.status().state, "succeeded", "its record")


@checks.test
def a_large_reply_comes_whole():
    "24 MB, and the waiting question before it carried none of them."
    body = b'{"a":"' + b"x" * (LARGE - 8) + b'"}'

    def large(visit):
        visit.read_body()
        return visit.answer(body, b"200 OK")

    with Provider(large=large) as provider, \
            Rgovd(ROOMY, endpoint=provider.url) as rgovd, \
            rgov.connect(rgovd.name, socket=rgovd.socket) as gov:
        task = gov.submit("large", BODY)
        check(task.result(60).body == body, "another reply")
        check(asyncio.run(task.aresult(60)).body == body, "over a loop")


# ---------------------------------------------------------------- processes

_FETCH = """
import rgov, sys
task = rgov.connect().task(sys.argv[1])
print(task.result(30).json()["content"][0]["text"])
"""


@checks.test
def another_process_gets_the_result():
    "One that never saw the submitter, while the task waits and after its end."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        task, digest = submit(w, "for another")
        found = []
        thread = threading.Thread(target=lambda: found.append(
            w.rgovd.python(_FETCH, task.id)))
        thread.start()
        wait_until(lambda: w.gov.get_stats()["sessions"] >= 2, what="the other")
        permit.settle()
        thread.join(30)
        found.append(w.rgovd.python(_FETCH, task.id))
        for done in found:
            check(digest in done.stdout, done.stdout + done.stderr)


@checks.test
def a_fork_may_ask_and_submit():
    "A child asks for its parent's task by the same object, and the reverse."
    with world() as w:
        task, digest = submit(w, "of the parent")
        read, write = os.pipe()
        def child():
            check_own(task.result(30), digest)
            os.write(write, submit(w, "of the child")[0].id.encode())
        in_child(child)
        theirs = w.gov.task(os.read(read, 100).decode())
        os.close(read)
        os.close(write)
        check_own(theirs.result(30), a_body("of the child")[1])
        check_own(task.result(30), digest)
        w.waits_until_quiet()


_NOBODY = """
import rgov, sys
gov = rgov.connect()
theirs = gov.task(sys.argv[1])
for ask in (theirs.status, theirs.wait, theirs.result, theirs.cancel,
            theirs.history):
    try:
        ask()
    except rgov.NotYours as e:
        assert e.task == theirs.id and theirs.id in str(e), str(e)
        assert isinstance(e, PermissionError) and e.reason == "not_yours"
    else:
        raise SystemExit(f"{ask} was answered")
assert gov.tasks() == [], "it sees a stranger's"
own = gov.submit(sys.argv[2], sys.argv[3], key="k")
own.result(30)
assert [row.id for row in gov.tasks()] == [own.id], "not its own alone"
print(own.id)
"""


@checks.test
def a_stranger_gets_nothing():
    "Another uid's task is neither shown nor cancelled nor in the way of a key."
    if os.geteuid() != 0:
        raise Skip("needs root, to become another user")
    with world(ROOMY + 'socket_mode = "0666"\n') as w:
        task, digest = submit(w, "private", key="k")
        shutil.copytree(BUILD / "python", w.rgovd.scratch.path / "python")
        w.rgovd.scratch.path.chmod(0o711)
        w.rgovd.runtime_dir.chmod(0o755)
        done = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                    "--inh-caps=-all", PYTHON, "-c", _NOBODY, task.id, MODEL,
                    a_body("nobody's")[0]], cwd="/",
                   env=w.rgovd.client_env(
                       PYTHONPATH=w.rgovd.scratch.path / "python"))
        equal((done.returncode, done.stderr), (0, ""), "what the stranger says")
        check_own(task.result(30), digest)
        theirs = w.gov.task(done.stdout.strip())
        equal(theirs.state, "succeeded", "what rgovd's own user sees")
        check(theirs.id in [row.id for row in w.gov.tasks()], "not in its list")


APP = """
import os, rgov
from flask import Flask, jsonify, request
app = Flask(__name__)
gov = rgov.connect()

@app.get("/healthz")
def healthz():
    return "fine"

@app.post("/submit")
def submit():
    task = gov.submit(request.args["model"], request.get_data())
    return jsonify(id=task.id, pid=os.getpid()), 202

@app.get("/result/<task>")
def result(task):
    try:
        reply = gov.task(task).result(timeout=20)
    except rgov.UnknownTask:
        return "unknown", 404
    except rgov.Invalid:
        return "malformed", 400
    return jsonify(pid=os.getpid(), text=reply.body.decode())
"""


@checks.test
def any_worker_of_gunicorn_may_be_asked():
    "The poll reaches another worker than the submit did."
    with world() as w, Scratch() as folder:
        (folder / "tasks_app.py").write_text(APP)
        with Gunicorn("tasks_app:app", workers=2, preload=True, rgovd=w.rgovd,
                      chdir=folder) as web:
            body, digest = a_body("from the web")
            sent = web.post(f"/submit?model={MODEL}", body.encode())
            equal(sent.status, 202, f"status ({sent.body})")
            sent = sent.json()

            def asked_of_another():
                found = web.get(f"/result/{sent['id']}")
                equal(found.status, 200, f"status ({found.body})")
                check(digest in found.json()["text"], "another reply")
                return found.json()["pid"] != sent["pid"]

            wait_until(asked_of_another, what="the other worker")
            equal(web.get("/result/" + sent["id"].replace("-", "")).status, 400,
                  "a malformed id")
            unknown = sent["id"][:-4] + "0000"
            equal(web.get(f"/result/{unknown}").status, 404, "an unknown id")


# ---------------------------------------------------------------- waiting

@checks.test
def threads_wait_each_for_its_own():
    "32 threads submit, wait and fetch through one governor."
    with world() as w:
        def work(i):
            def run_it():
                for n in range(3):
                    task, digest = submit(w, f"thread {i} task {n}")
                    check_own(task.result(60), digest)
                return True
            return run_it
        equal(in_parallel([work(i) for i in range(32)]), [True] * 32, "results")
        w.waits_until_quiet()
        equal(w.gov.diagnose()["found_by_slice"], 0, "lost wake-ups")


@checks.test
def many_coroutines_wait_on_one_loop():
    "100 awaits at once, which cost no polls; the loop goes on turning."
    with world() as w:
        async def one(i):
            body, digest = a_body(f"coroutine {i}")
            task = await w.gov.asubmit(MODEL, body, user=f"u{i % 7}")
            check_own(await task, digest)
            equal((await task.astatus()).state, "succeeded", "state")
            return task

        async def all_of_them():
            tasks = await asyncio.gather(*(one(i) for i in range(100)))
            equal({row.id for row in await w.gov.atasks(limit=1000)},
                  {task.id for task in tasks}, "the list")
            events = await tasks[0].ahistory()
            equal(events[0].what, "submitted", "the first event")
            equal((await tasks[0].acancel()).state, "succeeded", "too late")
            session = w.gov._sessions[asyncio.get_running_loop()]
            check(not session._pending, "questions are left")
            equal(w.gov.diagnose()["slots_taken"], 0, "slots taken")

        asyncio.run(all_of_them())


@checks.test
def a_cancelled_await_leaves_nothing():
    "Neither a question nor a slot; and the task goes on."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)

        async def cancelled():
            body, digest = a_body("awaited")
            task = await w.gov.asubmit(MODEL, body)
            session = w.gov._sessions[asyncio.get_running_loop()]
            waits = [asyncio.create_task(task.aresult()) for _ in range(20)]
            while len(session._pending) < 20:
                await asyncio.sleep(0.005)
            for wait in waits:
                wait.cancel()
            for end in await asyncio.gather(*waits, return_exceptions=True):
                equal(type(end), asyncio.CancelledError, "its end")
            check(not session._pending, "questions are left")
            try:
                await asyncio.wait_for(task, 0.1)
            except asyncio.TimeoutError:
                pass
            while True:  # abandoned slots come back at a submit
                equal((await task.astatus()).state, "queued", "state")
                if session.handle.diagnose()["slots_taken"] == 0:
                    break
                await asyncio.sleep(0.005)
            permit.settle()
            check_own(await task, digest)

        asyncio.run(asyncio.wait_for(cancelled(), 60))
        w.waits_until_quiet()


_GREEN = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, hashlib, json, sys
import rgov
model, body = sys.argv[1], json.loads(sys.argv[2])
gov = rgov.connect()
ticks = []
def tick():
    while True:
        gevent.sleep(0.01)
        ticks.append(1)
gevent.spawn(tick)

def own(i):
    text = json.dumps(dict(body, messages=[{"role": "user", "content": str(i)}]))
    task = gov.submit(model, text)
    answer = task.result(30).json()["content"][0]["text"]
    assert hashlib.sha256(text.encode()).hexdigest() in answer
gevent.joinall([gevent.spawn(own, i) for i in range(30)], raise_error=True)

with gov.permit(model):
    before = len(ticks)
    task = gov.submit(model, body)
    waits = [gevent.spawn(task.result) for _ in range(20)]
    gevent.sleep(0.2)
    gevent.killall(waits)
    try:
        with gevent.Timeout(0.2):
            task.wait()
    except gevent.Timeout:
        pass
    else:
        raise SystemExit("no gevent.Timeout")
    try:
        task.result(0.2)
    except rgov.Timeout as e:
        assert e.task == task.id
    else:
        raise SystemExit("no rgov.Timeout")
    assert len(ticks) - before > 20, "other greenlets did not run"
    assert not gov._sessions[gevent.get_hub()]._pending, "questions are left"
assert task.result(30).status == 200
assert len(gov.tasks()) == 31
assert task.history()[0].what == "submitted"
try:
    gov.task("01890a5d-ac96-774b-bcce-b302099a8057").history()
except rgov.UnknownTask:
    pass
gov.permit(model).settle()
taken = gov.diagnose()["slots_taken"]
assert taken == 0, f"{taken} slots are taken"
print("fine")
"""


@checks.test
def greenlets_wait_in_the_hub():
    "Other greenlets run; one that is killed leaves nothing."
    if run([PYTHON, "-c", "import gevent"]).returncode != 0:
        raise Skip("gevent is not installed")
    with world(ONE_PLACE) as w:
        done = w.rgovd.python(_GREEN, MODEL, json.dumps(BODY))
        equal((done.stdout.strip(), done.stderr, done.returncode), ("fine", "", 0),
              "what the greenlets say")


@checks.test
def a_handlers_exception_comes_out_of_a_wait():
    "Soon, from every way to wait; slots come back, and the task goes on."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        task, digest = submit(w, "interrupted")

        def attempt(wait):
            begin = time.monotonic()
            with alarm_after(0.1):
                raises(Alarm, wait)
            return time.monotonic() - begin - 0.1

        for wait in (task.wait, task.result, lambda: task.result(60)):
            is_heard_in_time(lambda: attempt(wait))

        def interrupt():
            begin = time.monotonic()
            killer = threading.Timer(
                0.1, os.kill, (os.getpid(), signal.SIGINT))
            killer.start()
            try:
                task.result()
            except KeyboardInterrupt:
                return time.monotonic() - begin - 0.1
            finally:
                killer.join()
        is_heard_in_time(interrupt)
        equal(task.state, "queued", "state")
        permit.settle()
        check_own(task.result(30), digest)
        w.waits_until_quiet()


@checks.test
def signals_at_any_moment_lose_nothing():
    "Around every step of submit and result: a key finds what was accepted."
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    dice = random.Random(seed)
    struck, accepted = 0, set()
    with world() as w:
        submit(w, "makes the store")[0].result(30)
        for i in range(100):
            body, digest = a_body(f"struck {i}")
            try:
                with alarm_after(dice.uniform(1e-6, 4e-3)):
                    w.gov.submit(MODEL, body, key=f"k{i}").result(30)
            except Alarm:
                struck += 1
            task = w.gov.submit(MODEL, body, key=f"k{i}")
            check_own(task.result(30), digest)
            accepted.add(task.id)
        equal((len(accepted), len(w.gov.tasks(limit=1000))), (100, 101),
              f"SEED={seed}: tasks")
        w.waits_until_quiet()
    check(struck, f"SEED={seed}: no signal struck")


# ---------------------------------------------------------------- deaths

@checks.test
def a_restart_of_rgovd_is_not_noticed():
    "Killed while a thread and a loop wait for a queued task: both get its end."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        task, digest = submit(w, "through a restart")
        found = []
        async def over_loop():
            found.append(await task)
        threads = [threading.Thread(target=f, daemon=True) for f in (
            lambda: found.append(task.result(60)), lambda: asyncio.run(over_loop()))]
        for thread in threads:
            thread.start()
        wait_until(lambda: w.gov.diagnose()["slots_taken"] == 3, what="both wait")
        w.rgovd.restart()
        equal(task.wait(0.2).state, "queued", "state after the restart")
        permit.settle()
        for thread in threads:
            thread.join(30)
        equal(len(found), 2, "results")
        for reply in found:
            check_own(reply, digest)
        w.waits_until_quiet()


@checks.test
def a_clean_stop_loses_no_task():
    "SIGTERM while tasks begin: it ends well, and its successor performs them once."
    with world(ROOMY.replace("= 200", "= 30", 1)) as w:
        for i in range(5):
            tasks = [submit(w, f"at stop {i} {n}", idempotent=False)
                     for n in range(20)]
            w.rgovd.process.signal(signal.SIGTERM)
            equal(w.rgovd.process.wait(), 0, "rgovd's status")
            w.rgovd.start()
            for task, digest in tasks:
                check_own(task.result(30), digest)
                equal(task.status().runs, 1, "runs")
        w.waits_until_quiet()


@checks.test
def a_submitter_may_die():
    "Killed with its task queued: the task is performed, and found by its id."
    source = """
import os, rgov, sys
print(rgov.connect().submit(sys.argv[1], sys.argv[2]).id, flush=True)
os.kill(os.getpid(), 9)
"""
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        body, digest = a_body("of one that died")
        done = w.rgovd.python(source, MODEL, body)
        equal(done.returncode, -9, f"its status ({done.stderr})")
        task = w.gov.task(done.stdout.strip())
        equal(task.state, "queued", "state")
        permit.settle()
        check_own(task.result(30), digest)


@checks.test
def what_ran_at_a_death_is_run_again_or_not():
    "As the submitter said: reissued, or failed as ambiguous."
    with world(sim={"extra": ["--fault-model", f"{HANGS}=hang"]}) as w:
        again = w.gov.submit(HANGS, BODY)
        once = w.gov.submit(HANGS, BODY, idempotent=False)
        for task in (again, once):
            waits_until(task, "running")
        w.rgovd.restart()
        e = raises(rgov.UpstreamError, once.result, 30)
        equal((e.code, e.task), ("Ambiguous", once.id), "the error")
        waits_until(again, "running")
        equal(again.status().runs, 2, "runs")
        check("reissued" in [event.what for event in again.history()],
              f"history: {again.history()}")
        again.cancel()
        equal(again.wait(30).state, "cancelled", "state")


@checks.test
def without_rgovd_a_question_ends():
    "Within its time, and nothing stays taken."
    with world(ONE_PLACE, timeout=0.3) as w:
        permit = w.gov.permit(MODEL)
        task, _ = submit(w, "alone")
        w.rgovd.kill9()
        begin = time.monotonic()
        e = raises(rgov.Timeout, task.wait, 0.5)
        check(time.monotonic() - begin < 10, "too late")
        check(str(w.rgovd.socket) in str(e), str(e))
        w.rgovd.start()
        permit.settle()
        check(task.wait(30).done, "not done")
        w.waits_until_quiet()


# ---------------------------------------------------------------- references

class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
        "uordblks", "fordblks", "keepcost")]


_mallinfo = ctypes.CDLL(None).mallinfo2
_mallinfo.restype = _Mallinfo


def _count():
    "Objects, blocks of Python's allocator, bytes of malloc()."
    gc.collect()
    return len(gc.get_objects()), sys.getallocatedblocks(), _mallinfo().uordblks


@checks.test
def questions_leave_no_objects():
    "Each kind, its successes and its failures, many times: nothing adds up."
    with world() as w:
        task, _ = submit(w, "counted", key="k")
        body, _ = a_body("counted")
        task.result(30)
        unknown = w.gov.task("01890a5d-ac96-774b-bcce-b302099a8057")
        other, _ = a_body("another")

        def each_once():
            task.status(), task.result(), task.history(), w.gov.tasks()
            w.gov.submit(MODEL, body, key="k")
            for fails in (unknown.status, unknown.result, unknown.history,
                          lambda: w.gov.submit(MODEL, other, key="k"),
                          lambda: w.gov.submit(MODEL, body, key="x" * 200)):
                try:
                    fails()
                except rgov.Error:
                    pass

        for _ in range(50):
            each_once()
        before = _count()
        for _ in range(ROUNDS):
            each_once()
        objects, blocks, taken = (b - a for a, b in zip(before, _count()))
        check(objects < ROUNDS / 10 and blocks < ROUNDS / 10 and taken < ROUNDS * 8,
              f"what stays: {objects} objects, {blocks} blocks, {taken} bytes")


checks.main()
