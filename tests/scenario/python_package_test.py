#!/usr/bin/python3
"""The package rgov against a real rgovd and a real bedrock-sim: every call, every
exception, threads, forks, event loops, signals, permits.

A held permit of the only place (ONE_PLACE) is what makes others wait here: nothing
depends on how long an answer takes.
"""

import asyncio
import contextlib
import dataclasses
import gc
import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import threading
import time
import types
import uuid

from harness import (BUILD, MODEL, PYTHON, ROOT, Scratch, Skip, base_env, check,
                     checks, equal, in_parallel, run, wait_until)

# Before rgov: it says where that is.
from world import (BODY, MESSAGES, ONE_PLACE, ROOMY, Alarm, a_body, alarm_after,
                   in_child, is_heard_in_time, raises, text_of, world)

import rgov
import rgov.compat
import rgov.errors
import rgov.gunicorn
import rgov.status


# ---------------------------------------------------------------- calls

@checks.test
def a_reply_has_every_field():
    "invoke returns what the provider said and what rgovd measured."
    with world() as w:
        reply = w.gov.invoke(MODEL, BODY, user="alice", priority="interactive")
        equal(reply.status, 200, "status")
        equal(type(reply.body), bytes, "type of body")
        equal(reply.json(), json.loads(reply.body), "json()")
        usage = reply.json()["usage"]
        equal(reply.usage.input_tokens, usage["input_tokens"], "input tokens")
        equal(reply.usage.output_tokens, usage["output_tokens"], "output tokens")
        equal(type(reply.wait_time), float, "type of wait_time")
        check(0 < reply.execution_time < 30, f"execution {reply.execution_time}")
        equal(reply.attempts, 1, "attempts")
        equal(reply.model_id, MODEL, "model_id")
        check(reply.request_id, "the provider's request id is empty")
        equal(pickle.loads(pickle.dumps(reply)).body, reply.body, "pickled body")
        check(str(reply.body) not in repr(reply), "repr shows the body")


@checks.cases(
    ("bytes", lambda text: text.encode()),
    ("str", lambda text: text),
    ("bytearray", lambda text: bytearray(text.encode())),
    ("memoryview", lambda text: memoryview(b"xx" + text.encode())[2:]),
)
def a_body_arrives_as_it_was(_kind, make):
    "bytes, text and buffers reach the provider unchanged."
    with world() as w:
        body, digest = a_body("é \u2028 \U0001f600")
        check(digest in text_of(w.gov.invoke(MODEL, make(body))),
              "the provider answered another body")


@checks.test
def a_mapping_is_compact_json():
    "A dict is sent as JSON without blanks; a dict that is no JSON is refused."
    with world() as w:
        digest = hashlib.sha256(
            json.dumps(BODY, separators=(",", ":")).encode()).hexdigest()
        check(digest in text_of(w.gov.invoke(MODEL, BODY)), "another body")
        raises(ValueError, w.gov.invoke, MODEL, {"x": float("nan")})
        raises(TypeError, w.gov.invoke, MODEL, {"x": object()})
        raises(TypeError, w.gov.invoke, MODEL, 7)


@checks.test
def a_large_body_and_its_reply_pass_whole():
    "A body of megabytes arrives unchanged."
    with world() as w:
        body, digest = a_body("x" * 3_000_000)
        check(digest in text_of(w.gov.invoke(MODEL, body)), "another body")


@checks.test
def converse_takes_messages_or_a_whole_body():
    "Both forms reach Converse; mixing them is an error of the caller."
    with world() as w:
        reply = w.gov.converse(MODEL, MESSAGES, system="be brief",
                               inference_config={"maxTokens": 7})
        equal(reply.json()["output"]["message"]["role"], "assistant", "role")
        equal(reply.usage.output_tokens, 7, "output tokens")
        whole = json.dumps({"messages": MESSAGES})
        digest = hashlib.sha256(whole.encode()).hexdigest()
        reply = w.gov.converse(MODEL, whole)
        check(digest in reply.json()["output"]["message"]["content"][0]["text"],
              "another body")
        raises(TypeError, w.gov.converse, MODEL, whole, system="x")


@checks.test
def threads_share_a_governor():
    "32 threads get each its own answers, and leave no slot taken."
    with world() as w:
        def work(i):
            def call():
                for n in range(4):
                    body, digest = a_body(f"thread {i} call {n}")
                    reply = w.gov.invoke(MODEL, body, user=f"user-{i}")
                    check(digest in text_of(reply), "another request's reply")
                return True
            return call
        equal(in_parallel([work(i) for i in range(32)]), [True] * 32, "results")
        w.waits_until_quiet()
        equal(w.gov.diagnose()["found_by_slice"], 0, "lost wake-ups")


@checks.test
def stats_have_the_nine_keys_and_the_limits():
    "get_stats() is host-wide and names what is in force."
    with world() as w:
        w.gov.invoke(MODEL, BODY)
        stats = w.gov.get_stats()
        for key in ("total_requests", "successful_requests", "failed_requests",
                    "throttled_requests", "active_requests", "queue_size",
                    "active_users", "avg_wait_time", "avg_execution_time"):
            check(isinstance(stats[key], (int, float)), f"{key}: {stats[key]!r}")
        equal(stats["scope"], "host", "scope")
        equal(stats["limits"]["max_concurrent_requests"], 200, "limit")
        equal(stats["rgovd_pid"], w.rgovd.process.pid, "rgovd_pid")
        equal(stats["draining"], False, "draining")
        wait_until(lambda: w.gov.get_stats()["successful_requests"] == 1,
                   what="one successful request")


# ---------------------------------------------------------------- exceptions

@checks.test
def an_error_of_the_provider_is_an_upstream_error():
    "Status, code, message and request id are the provider's."
    with world(sim={"extra": ["--fault-model", "*haiku*=403"]}) as w:
        model = "anthropic.claude-3-haiku-20240307-v1:0"
        e = raises(rgov.UpstreamError, w.gov.invoke, model, BODY)
        equal(e.status, 403, "status")
        equal(e.code, "AccessDeniedException", "code")
        check("access" in e.message, f"message: {e.message!r}")
        check(e.request_id, "the request id is empty")
        check(b"message" in e.body, f"body: {e.body!r}")
        for part in ("AccessDeniedException", "403", model):
            check(part in str(e), f"{part} is not in {e}")
        again = pickle.loads(pickle.dumps(e))
        equal((again.status, again.code, str(again)), (403, e.code, str(e)),
              "pickled")
        w.waits_until_quiet()


@checks.test
def no_answer_is_an_upstream_error_without_a_status():
    "A connection that cannot be made has a code and status 0."
    with world(config=ROOMY + "max_attempts = 1\n") as w:
        w.sim.process.kill9()
        e = raises(rgov.UpstreamError, w.gov.invoke, MODEL, BODY)
        equal(e.status, 0, "status")
        check(e.code, "the code is empty")
        check("no answer" in str(e), str(e))


@checks.test
def a_deadline_in_the_queue_is_a_timeout():
    "A request that waits past its deadline ends with Timeout, not sooner."
    with world(ONE_PLACE) as w, w.gov.permit(MODEL):
        begin = time.monotonic()
        e = raises(rgov.Timeout, w.gov.invoke, MODEL, BODY, timeout=0.4)
        check(time.monotonic() - begin >= 0.4, "too early")
        check(isinstance(e, TimeoutError), "not a TimeoutError")
        check(MODEL in str(e), f"the model is not in {e}")
        for past in (0, -1, -0.5):
            raises(rgov.Timeout, w.gov.invoke, MODEL, BODY, timeout=past)


@checks.test
def a_full_queue_is_refused_at_once():
    "More than max_queued_per_user: QueueFull, or the user's own UserLimit."
    config = ONE_PLACE.replace("max_queued_per_user = 1000",
                               "max_queued_per_user = 1")
    with world(config) as w, w.gov.permit(MODEL, user="holder"):
        waiting = threading.Thread(target=lambda: w.gov.permit(
            MODEL, user="bob", timeout=60).settle(outcome="unused"))
        waiting.start()
        w.waits_until_queued(1)
        try:
            w.gov.invoke(MODEL, BODY, user="bob", timeout=60)
        except rgov.Rejected as e:
            check(type(e) in (rgov.QueueFull, rgov.UserLimit), repr(e))
            check(e.reason in ("queue_full", "user_limit"), e.reason)
            equal((e.user, e.model_id), ("bob", MODEL), "user and model")
        else:
            raise AssertionError("the second queued request was taken")
        w.stack.callback(waiting.join)


@checks.test
def too_many_requests_of_one_process_are_queue_full():
    "The slots of a process are a bound of their own."
    with world(ONE_PLACE, slots=1) as w, w.gov.permit(MODEL):
        e = raises(rgov.QueueFull, w.gov.invoke, MODEL, BODY)
        equal(e.reason, "slots", "reason")


@checks.test
def what_can_never_fit_is_too_large():
    "A body above the limit, and a reservation above the whole bucket."
    config = ROOMY + f'model "{MODEL}" {{ tokens_per_minute = 1000 }}\n'
    with world(config) as w:
        e = raises(rgov.TooLarge, w.gov.invoke, MODEL, b"x" * 25_000_001)
        check("25000000" in str(e), str(e))
        e = raises(rgov.TooLarge, w.gov.permit, MODEL, tokens=5000)
        equal((e.reason, e.retry_after), ("too_large", None), "reason")


@checks.cases(
    ("empty model", {"model_id": ""}),
    ("oversized model", {"model_id": "m" * 2049}),
    ("line break in the model", {"model_id": "a\r\nHost: b"}),
    ("zero byte in the model", {"model_id": "a\0b"}),
    ("lone surrogate in the model", {"model_id": "a\ud800"}),
    ("empty user", {"user": ""}),
    ("oversized user", {"user": "u" * 64}),
    ("unprintable user", {"user": "a\x7f"}),
    ("line break in a header", {"headers": {"x-a": "b\r\nc: d"}}),
    ("colon in a header's name", {"headers": {"x: a": "b"}}),
    ("unknown header", {"headers": {"authorization": "b"}}),
    ("unknown priority", {"priority": "urgent"}),
    ("timeout that is no number", {"timeout": float("nan")}),
)
def a_wrong_request_is_invalid(_what, wrong):
    "Wrong arguments are refused, with a ValueError, before anything is sent."
    with world() as w:
        arguments = {"model_id": MODEL, "body": BODY, **wrong}
        e = raises(rgov.Invalid, w.gov.invoke, **arguments)
        check(isinstance(e, ValueError), "not a ValueError")
        equal(e.reason, "invalid", "reason")
        equal(w.sim.report()["arrivals"], 0, "what the provider saw")


@checks.test
def an_absent_rgovd_is_unavailable():
    "The error comes within the connect timeout and names the socket."
    with Scratch() as scratch:
        path = scratch / "nobody.sock"
        gov = rgov.connect("nobody-here", socket=path, timeout=0.4)
        begin = time.monotonic()
        e = raises(rgov.Unavailable, gov.invoke, MODEL, BODY)
        check(time.monotonic() - begin < 2, "too late")
        check(isinstance(e, ConnectionError), "not a ConnectionError")
        check(str(path) in str(e), f"the socket is not in {e}")
        raises(rgov.Unavailable, gov.permit, MODEL)
        raises(rgov.Unavailable, gov.get_stats)
        async def many():
            return await asyncio.gather(
                *(gov.ainvoke(MODEL, BODY) for _ in range(50)),
                return_exceptions=True)
        begin = time.monotonic()
        for e in asyncio.run(many()):
            check(type(e) is rgov.Unavailable and str(path) in str(e), repr(e))
        check(time.monotonic() - begin < 3, "one after the other")


@checks.test
def a_wrong_setting_is_a_config_error():
    "connect() refuses what it cannot mean."
    for wrong in ({"name": "../x"}, {"name": "a" * 40}, {"wait": "never"},
                  {"slots": 0}, {"slots": 5000}):
        e = raises(rgov.ConfigError, rgov.connect, **wrong)
        check(isinstance(e, ValueError), "not a ValueError")


@checks.test
def a_draining_rgovd_refuses():
    "After SIGINT what waits and what comes is refused; what runs may end."
    slow = "vendor.slow-v1"
    with world(ONE_PLACE, sim={"extra": ["--fault-model", f"{slow}=hang"]}) as w:
        def runs():
            with contextlib.suppress(rgov.Error):
                w.gov.invoke(slow, BODY, timeout=60)
        found = []
        threads = [threading.Thread(target=runs)]
        threads[0].start()
        w.waits_until_active(1)
        threads.append(threading.Thread(target=lambda: found.append(
            raises(rgov.Draining, w.gov.invoke, MODEL, BODY))))
        threads[1].start()
        w.waits_until_queued(1)
        w.rgovd.process.signal(signal.SIGINT)
        wait_until(lambda: w.gov.get_stats()["draining"], what="draining")
        e = raises(rgov.Draining, w.gov.invoke, MODEL, BODY)
        equal(e.reason, "draining", "reason")
        threads[1].join(20)
        equal(len(found), 1, "refused, of those that waited")
        w.gov.close()
        threads[0].join(20)
        w.rgovd.process.wait()


@checks.test
def a_closed_governor_says_so():
    "Whoever waits when another thread closes gets an Error soon."
    with world(ONE_PLACE) as w, w.gov.permit(MODEL):
        def attempt():
            gov, found = w.connect(), []
            thread = threading.Thread(target=lambda: found.append(
                (raises(rgov.Error, gov.invoke, MODEL, BODY), time.monotonic())))
            thread.start()
            w.waits_until_queued(1)
            begin = time.monotonic()
            gov.close()
            thread.join(20)
            check(found and "closed" in str(found[0][0]), f"found {found}")
            raises(rgov.Error, gov.invoke, MODEL, BODY)
            wait_until(lambda: w.gov.get_stats()["queue_size"] == 0,
                       what="an empty queue")
            return found[0][1] - begin
        is_heard_in_time(attempt)


@checks.test
def closing_gives_permits_back():
    "A permit of a closed governor is lost to its holder, and free for others."
    with world(ONE_PLACE) as w:
        other = w.connect()
        permit = other.permit(MODEL)
        other.close()
        raises(rgov.PermitLost, permit.settle)
        w.gov.permit(MODEL, timeout=30).settle()
        w.waits_until_quiet()


# ---------------------------------------------------------------- permits

@checks.test
def a_permit_is_held_until_it_is_settled():
    "It counts as active; after settle() it does not; settling twice is an error."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL, user="alice", tokens=100, input_tokens=10)
        w.waits_until_active(1)
        check(permit.held and permit.wait_time >= 0, "not held")
        raises(ValueError, permit.settle, outcome="perhaps")
        permit.settle(input_tokens=12, output_tokens=34)
        check(not permit.held, "still held")
        raises(rgov.PermitLost, permit.settle)
        w.waits_until_quiet()


@checks.test
def the_end_of_the_block_settles():
    "With and without an exception, which comes through unchanged."
    with world(ONE_PLACE) as w:
        with w.gov.permit(MODEL) as permit:
            check(permit.held, "not held")
        check(not permit.held, "held after the block")
        try:
            with w.gov.permit(MODEL) as permit:
                raise KeyError("mine")
        except KeyError as e:
            equal(e.args, ("mine",), "the exception")
        check(not permit.held, "held after the exception")
        w.waits_until_quiet()


@checks.test
def a_throttle_in_the_block_closes_the_gate():
    "A botocore-like ThrottlingException counts as a throttle of the host."
    class ClientError(Exception):
        response = {"Error": {"Code": "ThrottlingException"}}
    with world() as w:
        before = w.gov.get_stats()["throttled_requests"]
        with contextlib.suppress(ClientError):
            with w.gov.permit(MODEL):
                raise ClientError()
        wait_until(lambda: w.gov.get_stats()["throttled_requests"] == before + 1,
                   what="one throttle")


@checks.test
def a_dropped_permit_comes_back():
    "The finalizer settles, without waiting."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        del permit
        gc.collect()
        w.gov.permit(MODEL, timeout=10).settle()
        w.waits_until_quiet()


@checks.test
def a_permit_stays_the_parents():
    "In a child it raises ForkError; its finalizer there does nothing."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        def child():
            nonlocal permit
            raises(rgov.ForkError, permit.settle)
            del permit
            gc.collect()
            raises(rgov.Timeout, w.gov.permit, MODEL, timeout=0.3)
        in_child(child)
        check(permit.held, "the parent lost it")
        w.waits_until_active(1)
        permit.settle()
        w.waits_until_quiet()


# ---------------------------------------------------------------- processes

@checks.test
def a_child_registers_anew():
    "fork with an open handle: parent and children call at the same time."
    with world() as w:
        w.gov.invoke(MODEL, BODY)
        def child():
            body, digest = a_body(f"child {os.getpid()}")
            check(digest in text_of(w.gov.invoke(MODEL, body)), "not my reply")
        for _ in range(3):
            in_child(child)
        body, digest = a_body("parent")
        check(digest in text_of(w.gov.invoke(MODEL, body)), "not my reply")
        w.waits_until_quiet()


@checks.test
def a_fork_while_threads_wait():
    "A child of a process whose threads wait can call and close for itself."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        threads = [threading.Thread(
            target=lambda: w.gov.invoke(MODEL, BODY, timeout=60))
            for _ in range(4)]
        for thread in threads:
            thread.start()
        w.waits_until_queued(4)
        def child():
            raises(rgov.Timeout, w.gov.invoke, MODEL, BODY, timeout=0.3)
            w.gov.close()
        in_child(child)
        permit.settle()
        for thread in threads:
            thread.join(30)
            check(not thread.is_alive(), "a thread of the parent still waits")
        w.waits_until_quiet()


def _pool_call(arguments):
    """In a worker of multiprocessing: module level, so that it can be pickled."""
    name, path, word = arguments
    body, digest = a_body(word)
    with rgov.connect(name, socket=path, timeout=0.5) as gov:
        reply = gov.invoke(MODEL, body)
    return digest in text_of(reply), reply


@checks.cases(("fork",), ("spawn",))
def multiprocessing_workers_call(method):
    "Pools of both kinds; replies and errors cross between processes."
    with world() as w:
        w.gov.invoke(MODEL, BODY)
        jobs = [(w.rgovd.name, str(w.rgovd.socket), f"job {i}") for i in range(8)]
        with multiprocessing.get_context(method).Pool(3) as pool:
            for belongs, reply in pool.map(_pool_call, jobs):
                check(belongs, "another request's reply")
                equal(reply.status, 200, "status")
            try:
                pool.apply(_pool_call, ((w.rgovd.name, "/nowhere/x.sock", "x"),))
            except rgov.Unavailable as e:
                check("/nowhere/x.sock" in str(e), str(e))
            else:
                raise AssertionError("no Unavailable came back")
            pool.close()
            pool.join()
        w.waits_until_quiet()


# ---------------------------------------------------------------- signals

@checks.test
def a_handlers_exception_comes_out_of_a_wait():
    "Within half a second, in the queue; nothing stays behind."
    with world(ONE_PLACE) as w:
        def attempt(wait):
            with w.gov.permit(MODEL):
                begin = time.monotonic()
                with alarm_after(0.25):
                    raises(Alarm, wait)
                took = time.monotonic() - begin - 0.25
                wait_until(lambda: w.gov.get_stats()["queue_size"] == 0,
                           what="an empty queue")
            return took
        for wait in (lambda: w.gov.invoke(MODEL, BODY, timeout=60),
                     lambda: w.gov.permit(MODEL, timeout=60)):
            is_heard_in_time(lambda: attempt(wait))
        w.waits_until_quiet()


@checks.test
def a_handlers_exception_comes_out_of_connecting():
    "While rgovd is being looked for, too."
    with Scratch() as scratch:
        gov = rgov.connect(socket=scratch / "nobody.sock", timeout=30)
        def attempt():
            begin = time.monotonic()
            with alarm_after(0.1):
                raises(Alarm, gov.invoke, MODEL, BODY)
            return time.monotonic() - begin - 0.1
        is_heard_in_time(attempt)


@checks.test
def an_interrupt_is_heard():
    "SIGINT is KeyboardInterrupt, though another thread is the one it reaches."
    with world(ONE_PLACE) as w, w.gov.permit(MODEL):
        def attempt():
            sent = []
            def send():
                sent.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
            sender = threading.Timer(0.2, send)
            sender.start()
            try:
                w.gov.invoke(MODEL, BODY, timeout=60)
            except KeyboardInterrupt:
                return time.monotonic() - sent[0]
            finally:
                sender.join()
            raise AssertionError("the interrupt was lost")
        is_heard_in_time(attempt)
        wait_until(lambda: w.gov.get_stats()["queue_size"] == 0,
                   what="an empty queue")


@checks.test
def a_harmless_signal_does_not_end_a_wait():
    "A handler that returns leaves the request as it is."
    seen = []
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        old = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        threading.Timer(0.5, permit.settle).start()
        try:
            body, digest = a_body("in spite of signals")
            check(digest in text_of(w.gov.invoke(MODEL, body)), "not my reply")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        check(seen, "no signal came")
        w.waits_until_quiet()


@checks.test
def no_permit_is_lost_at_any_moment():
    "Signals strike at random moments around the grant; every place comes back."
    seed = int(os.environ.get("SEED") or random.randrange(1 << 30))
    rounds = int(os.environ.get("N") or 300)
    dice = random.Random(seed)
    struck = 0
    with world(ONE_PLACE) as w:
        for _ in range(rounds):
            try:
                # Around what a permit takes when the place is free.
                with alarm_after(dice.uniform(1e-6, 400e-6)):
                    with w.gov.permit(MODEL, timeout=30):
                        pass
            except Alarm:
                struck += 1
            except rgov.QueueFull as e:
                # An abandoned slot is free when rgovd has said so; on a busy
                # machine we are faster.
                equal(e.reason, "slots", "reason")
                w.waits_until_quiet()
        w.waits_until_quiet()
    check(0 < struck, f"SEED={seed}: no signal struck in {rounds} rounds")


# ---------------------------------------------------------------- asyncio

@checks.test
def a_hundred_tasks_share_one_session():
    "100 coroutines get each its own answer over one more session."
    with world() as w:
        before = w.gov.get_stats()["sessions"]

        async def one(i):
            body, digest = a_body(f"task {i}")
            reply = await w.gov.ainvoke(MODEL, body, user=f"user-{i % 9}")
            check(digest in text_of(reply), "another request's reply")

        async def all_of_them():
            await asyncio.gather(*(one(i) for i in range(100)))
            reply = await w.gov.aconverse(MODEL, MESSAGES)
            equal(reply.status, 200, "status")
            wait_until(lambda: w.gov.get_stats()["sessions"] == before + 1,
                       what="one more session")
            with await w.gov.apermit(MODEL) as permit:
                check(permit.held, "not held")

        asyncio.run(all_of_them())
        w.waits_until_quiet()


@checks.test
def a_cancelled_task_gives_its_request_up():
    "In the queue, and when the grant has come but was not yet taken."
    with world(ONE_PLACE) as w:
        async def queued():
            async with w.gov.apermit(MODEL):
                task = asyncio.create_task(w.gov.ainvoke(MODEL, BODY))
                while w.gov.get_stats()["queue_size"] == 0:
                    await asyncio.sleep(0.005)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                while w.gov.get_stats()["queue_size"] != 0:
                    await asyncio.sleep(0.005)

        async def granted():
            session = w.gov._sessions[asyncio.get_running_loop()]
            for _ in range(20):
                holder = await w.gov.apermit(MODEL)
                task = asyncio.create_task(w.gov.apermit(MODEL)._acquire())
                while w.gov.get_stats()["queue_size"] == 0:
                    await asyncio.sleep(0.005)
                ticket, = session._pending
                holder.settle()
                # The loop does not run: the task cannot take its grant.
                wait_until(lambda: session.look(ticket) or ticket.held,
                           what="the grant", interval=0)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                check(not ticket.held, "the cancelled task kept its permit")

        async def times_out():
            async with w.gov.apermit(MODEL):
                try:
                    await asyncio.wait_for(w.gov.ainvoke(MODEL, BODY), 0.1)
                except asyncio.TimeoutError:
                    pass
                else:
                    raise AssertionError("it did not wait")
                raises_soon = w.gov.ainvoke(MODEL, BODY, timeout=0.2)
                try:
                    await raises_soon
                except rgov.Timeout:
                    pass
                else:
                    raise AssertionError("no Timeout")

        async def everything():
            await queued()
            await granted()
            await times_out()

        asyncio.run(everything())
        w.waits_until_quiet()


@checks.test
def errors_reach_the_task():
    "An upstream error, an invalid request and a block that raises."
    with world(sim={"extra": ["--fault-model", "*haiku*=404"]}) as w:
        async def errors():
            try:
                await w.gov.ainvoke("anthropic.claude-3-haiku-20240307-v1:0", BODY)
            except rgov.UpstreamError as e:
                equal(e.status, 404, "status")
            else:
                raise AssertionError("no UpstreamError")
            try:
                await w.gov.ainvoke("", BODY)
            except rgov.Invalid:
                pass
            else:
                raise AssertionError("no Invalid")
            try:
                async with w.gov.apermit(MODEL):
                    raise KeyError("mine")
            except KeyError:
                pass
        asyncio.run(errors())
        w.waits_until_quiet()


@checks.test
def each_loop_has_its_own_session():
    "Loops in several threads, one after the other and at once."
    with world() as w:
        def loop(i):
            async def calls():
                for n in range(5):
                    body, digest = a_body(f"loop {i} call {n}")
                    reply = await w.gov.ainvoke(MODEL, body)
                    check(digest in text_of(reply), "another request's reply")
                return True
            return lambda: asyncio.run(calls())
        equal(in_parallel([loop(i) for i in range(4)]), [True] * 4, "results")
        gc.collect()
        w.waits_until_quiet()
        wait_until(lambda: w.gov.get_stats()["sessions"] == 1,
                   what="the loops' sessions to end with them")


@checks.test
def closing_ends_the_waits_of_a_loop():
    "close() in the loop's own thread and in another one."
    with world(ONE_PLACE) as w:
        other = w.connect()
        for close in (lambda gov: gov.close(),
                      lambda gov: threading.Thread(target=gov.close).start()):
            async def wait_and_close():
                gov = rgov.connect(w.rgovd.name, socket=w.rgovd.socket)
                task = asyncio.create_task(gov.ainvoke(MODEL, BODY))
                while other.get_stats()["queue_size"] == 0:
                    await asyncio.sleep(0.005)
                close(gov)
                try:
                    await asyncio.wait_for(task, 5)
                except rgov.Error as e:
                    check("closed" in str(e), str(e))
                else:
                    raise AssertionError("no Error")
            with other.permit(MODEL):
                asyncio.run(wait_and_close())
        wait_until(lambda: other.get_stats()["queue_size"] == 0, what="no queue")


# ------------------------------------------------------- rgovd goes and comes

@checks.test
def a_restart_of_rgovd_is_not_noticed():
    "Requests that wait in threads and in a loop finish under the successor."
    with world(ONE_PLACE) as w:
        permit = w.gov.permit(MODEL)
        body, digest = a_body("across a restart")

        async def over_loop():
            return await w.gov.ainvoke(MODEL, body, timeout=60)

        results = []
        threads = [threading.Thread(target=lambda f=f: results.append(f()))
                   for f in (lambda: w.gov.invoke(MODEL, body, timeout=60),
                             lambda: asyncio.run(over_loop()))]
        for thread in threads:
            thread.start()
        w.waits_until_queued(2)
        w.rgovd.restart()
        w.waits_until_queued(2)
        permit.settle()
        for thread in threads:
            thread.join(30)
        equal([digest in text_of(r) for r in results], [True] * 2, "replies")
        w.waits_until_quiet()


# ---------------------------------------------------------------- gevent

_GREEN = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, hashlib, json, os, sys, time
import rgov
model, body = sys.argv[1], json.loads(sys.argv[2])
gov = rgov.connect()
ticks = []
def tick():
    while True:
        gevent.sleep(0.01)
        ticks.append(1)
ticker = gevent.spawn(tick)

def call(i):
    text = json.dumps(dict(body, messages=[{"role": "user", "content": str(i)}]))
    answer = gov.invoke(model, text).json()["content"][0]["text"]
    assert hashlib.sha256(text.encode()).hexdigest() in answer
jobs = [gevent.spawn(call, i) for i in range(30)]
gevent.joinall(jobs, raise_error=True)

with gov.permit(model) as permit:
    begin, before = time.monotonic(), len(ticks)
    waiting = gevent.spawn(gov.invoke, model, body)
    while gov.get_stats()["queue_size"] == 0:
        gevent.sleep(0.01)
    waiting.kill()
    while gov.get_stats()["queue_size"] != 0:
        gevent.sleep(0.01)
    try:
        with gevent.Timeout(0.2):
            gov.invoke(model, body)
    except gevent.Timeout:
        pass
    else:
        raise SystemExit("no gevent.Timeout")
    try:
        gov.invoke(model, body, timeout=0.3)
    except rgov.Timeout:
        pass
    else:
        raise SystemExit("no rgov.Timeout")
    assert len(ticks) - before > 10, "other greenlets did not run"
while gov.get_stats()["active_requests"] != 0:
    gevent.sleep(0.01)
gov.permit(model).settle()
taken = gov.diagnose()["slots_taken"]
assert taken == 0, f"{taken} slots are taken"
assert gov.diagnose()["sleeps"] == 0, "it slept in the kernel"
try:
    gov.invoke("", body)
except rgov.Invalid:
    pass
nobody = rgov.connect(socket="/nowhere/x.sock", timeout=0.3)
def fails(_):
    try:
        nobody.invoke(model, body)
    except rgov.Unavailable as e:
        assert "/nowhere/x.sock" in str(e)
        return True
begin = time.monotonic()
jobs = [gevent.spawn(fails, i) for i in range(50)]
gevent.joinall(jobs, raise_error=True)
assert all(job.value for job in jobs), "no Unavailable"
assert time.monotonic() - begin < 3, "one after the other"

child = os.fork()
if child == 0:
    try:
        call("child")
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0, "the child failed"
call("parent")
print("fine")
"""


@checks.test
def greenlets_wait_in_the_hub():
    "With `threading` patched, waiting lets other greenlets run."
    if run([PYTHON, "-c", "import gevent"]).returncode != 0:
        raise Skip("gevent is not installed")
    with world(ONE_PLACE) as w:
        done = w.rgovd.python(_GREEN, MODEL, json.dumps(BODY))
        equal((done.stdout.strip(), done.returncode), ("fine", 0),
              f"what the greenlets say ({done.stderr})")
        equal(done.stderr, "", "stderr")


# ---------------------------------------------------------------- stepping aside

_ASIDE = """
import rgov, rgov.compat
assert not rgov.enabled()
gov = rgov.connect()
with gov.permit("m") as permit:
    assert not permit.held
    permit.settle(input_tokens=1)
try:
    gov.invoke("m", b"{}")
except rgov.ConfigError as e:
    assert "own client" in str(e)
else:
    raise SystemExit("no ConfigError")
task = gov.task("01890a5d-ac96-774b-bcce-b302099a8057")  # asks nobody
for ask in (lambda: gov.submit("m", b"{}"), lambda: gov.submit_converse("m", b"{}"),
            task.status, task.wait, task.result, task.cancel, task.history,
            task.done, lambda: task.state, gov.tasks):
    try:
        ask()
    except rgov.ConfigError as e:
        assert "own client" in str(e)
    else:
        raise SystemExit("no ConfigError")
manager = rgov.compat.get_request_manager()
assert not manager.enabled
assert manager.execute_request("alice", lambda a, b: a + b, 1, b=2) == 3
stats = manager.get_stats()
assert stats["total_requests"] == 0 and stats["scope"] == "none", stats
print("fine")
"""


@checks.cases(
    ("ENABLE_REQUEST_MANAGER", {"ENABLE_REQUEST_MANAGER": "False"}),
    ("RGOV_ENABLED", {"RGOV_ENABLED": "0", "ENABLE_REQUEST_MANAGER": "true"}),
)
def switched_off_it_steps_aside(_variable, variables):
    "Permits hold nothing, functions run directly, invoke says what to do."
    env = base_env(PYTHONPATH=BUILD / "python", RGOV_NAME="nobody-here",
                   RGOV_SOCKET="/nowhere/x.sock", **variables)
    done = run([PYTHON, "-c", _ASIDE], env=env)
    equal((done.stdout.strip(), done.stderr), ("fine", ""), "what it says")


_LIMITS = """
import rgov, sys
gov = rgov.connect()
for _ in range(3):
    gov.permit(sys.argv[1]).settle()
"""


@checks.cases(
    ("differ", {"MAX_CONCURRENT_REQUESTS": "9", "REQUESTS_PER_MINUTE": "60000"},
     ["MAX_CONCURRENT_REQUESTS=9 (rgovd: 200)"]),
    ("agree", {"MAX_CONCURRENT_REQUESTS": "200", "REQUESTS_PER_MINUTE": "60000"},
     []),
    ("preset", {"RATE_LIMIT_PRESET": "single-user"},
     ["RATE_LIMIT_PRESET=single-user (rgovd: production-low)"]),
)
def old_limits_are_warned_of_once(_what, variables, expected):
    "They set nothing; a difference is one line on stderr, an agreement none."
    with world() as w:
        done = w.rgovd.python(_LIMITS, MODEL, **variables)
        equal(done.returncode, 0, f"status ({done.stderr})")
        lines = done.stderr.splitlines()
        equal(len(lines), len(expected), f"lines: {lines}")
        for line, words in zip(lines, expected):
            check(words in line, f"{words!r} is not in {line!r}")


@checks.test
def code_of_the_old_manager_runs():
    "get_request_manager() is one object; it runs functions under a permit."
    with world(ONE_PLACE) as w:
        manager = rgov.compat.RequestManager(w.gov)
        def work(a, *, b):
            w.waits_until_active(1)
            return a + b
        for submit in (manager.execute_request, manager.submit_request):
            equal(submit("session", work, 1, b=2), 3, "result")
        raises(ZeroDivisionError, manager.execute_request, "s", lambda: 1 // 0)
        long = "session " * 100
        equal(manager.execute_request(long, lambda: 5), 5, "a long user id")
        equal(manager.execute_request(None, lambda: 5), 5, "no user id")
        check(rgov.compat.user_of(long) != rgov.compat.user_of(long + "x"),
              "two users became one")
        check("queue_size" in manager.get_stats(), "no queue_size")
        w.waits_until_quiet()
    check(rgov.compat.get_request_manager() is rgov.compat.get_request_manager(),
          "two managers")


@checks.test
def gunicorn_is_warned_of_a_short_timeout():
    "A sync worker that gunicorn would kill during a call."
    class Log(list):
        def warning(self, *words):
            self.append(words)
    for worker, timeout, warned in (("sync", 30, True), ("sync", 400, False),
                                    ("sync", 0, False), ("gthread", 30, False)):
        server = types.SimpleNamespace(
            cfg=types.SimpleNamespace(worker_class_str=worker, timeout=timeout),
            log=Log())
        rgov.gunicorn.on_starting(server)
        equal(bool(server.log), warned, f"{worker} with {timeout} s")


# ---------------------------------------------------------------- tasks
#
# What needs no rgovd; the rest is 36-python-tasks.py.

TASK_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@checks.test
def a_task_is_its_id():
    "By text of either case and by UUID it is the same; it cannot be pickled."
    gov = rgov.connect("nobody-here", socket="/nowhere/x.sock")
    task = gov.task(TASK_ID)
    equal(task.id, TASK_ID, "id")
    for same in (TASK_ID.upper(), uuid.UUID(TASK_ID)):
        equal(gov.task(same), task, f"the task of {same!r}")
        equal(hash(gov.task(same)), hash(task), "hash")
    check(task != gov.task(TASK_ID.replace("7", "8")) and task != TASK_ID, "equal")
    equal(repr(task), f"<rgov.Task {TASK_ID}>", "repr")
    check("task.id" in str(raises(TypeError, pickle.dumps, task)), "no words")


@checks.cases(
    ("empty", ""),
    ("a word", "latest"),
    ("too short", TASK_ID[:-1]),
    ("too long", TASK_ID + "0"),
    ("without hyphens", TASK_ID.replace("-", "")),
    ("in braces", "{" + TASK_ID + "}"),
    ("a line break after it", TASK_ID + "\n"),
    ("other digits", TASK_ID.replace("0", "\u0660")),
    ("megabytes", "a" * 3_000_000),
)
def what_is_no_id_is_invalid(_what, wrong):
    "A ValueError that says what is expected, and quotes no more than is sane."
    gov = rgov.connect("nobody-here", socket="/nowhere/x.sock")
    e = raises(rgov.Invalid, gov.task, wrong)
    check("8-4-4-4-12" in str(e) and len(str(e)) < 300, str(e)[:400])
    raises(rgov.Invalid, gov.tasks, after=wrong)


@checks.test
def a_wrong_question_never_leaves():
    "Types, numbers and states are judged before rgovd is looked for."
    gov = rgov.connect("nobody-here", socket="/nowhere/x.sock")
    raises(TypeError, gov.task, 7)
    raises(TypeError, gov.task, TASK_ID.encode())
    for wrong in ({"limit": 0}, {"limit": 1001}, {"states": ["gone"]},
                  {"states": "gone"}, {"states": []}):
        raises(rgov.Invalid, gov.tasks, **wrong)
    raises(rgov.Invalid, gov.task(TASK_ID).wait, float("nan"))
    raises(rgov.Timeout, gov.submit, MODEL, BODY, timeout=0)
    raises(rgov.Timeout, gov.submit, MODEL, BODY, timeout=-1)
    for wrong in ({"key": "a\0b"}, {"callback": "a\ud800"}, {"priority": "urgent"},
                  {"timeout": float("nan")}):
        raises(rgov.Invalid, gov.submit, MODEL, BODY, **wrong)
    raises(TypeError, gov.submit, MODEL, 7)


@checks.test
def an_absent_rgovd_is_unavailable_for_tasks():
    "Each question names the socket, within the connect timeout."
    with Scratch() as scratch:
        path = scratch / "nobody.sock"
        gov = rgov.connect("nobody-here", socket=path, timeout=0.3)
        task = gov.task(TASK_ID)
        for ask in (task.status, task.result, task.cancel, task.history, gov.tasks,
                    lambda: gov.submit(MODEL, BODY)):
            begin = time.monotonic()
            e = raises(rgov.Unavailable, ask)
            check(time.monotonic() - begin < 2, "too late")
            check(str(path) in str(e), f"the socket is not in {e}")
        async def ask_all():
            return await asyncio.gather(
                task, task.astatus(), task.await_status(5), task.acancel(),
                task.ahistory(), gov.atasks(), gov.asubmit(MODEL, BODY),
                gov.asubmit_converse(MODEL, MESSAGES), return_exceptions=True)
        for e in asyncio.run(ask_all()):
            check(type(e) is rgov.Unavailable and str(path) in str(e), repr(e))
        equal(gov.diagnose()["slots_taken"], 0, "slots taken")


@checks.cases(
    ("UnknownTask", 15, rgov.UnknownTask, LookupError, "no_task"),
    ("TaskGone", 16, rgov.TaskGone, rgov.TaskError, "task_gone"),
    ("NotYours", 17, rgov.NotYours, PermissionError, "not_yours"),
    ("TaskConflict", 18, rgov.TaskConflict, rgov.TaskError, "key_taken"),
    ("StoreError", 19, rgov.StoreError, rgov.TaskError, "store_failed"),
    ("NoStore", 20, rgov.NoStore, rgov.TaskError, "no_store"),
)
def a_refused_question_has_its_own_exception(_name, result, kind, base, reason):
    "With a reason, the task's id and words, rgovd's or our own; also pickled."
    for message in ("", "the disk is full"):
        e = rgov.errors._from_task_answer(result, TASK_ID, MODEL, "u", "", message, 0.0)
        equal(type(e), kind, "kind")
        check(isinstance(e, base), f"no {base.__name__}")
        check(TASK_ID in str(e) and message in str(e), str(e))
        again = pickle.loads(pickle.dumps(e))
        equal((type(again), str(again), again.task, again.reason),
              (kind, str(e), TASK_ID, reason), "pickled")


@checks.test
def a_refused_task_is_refused_as_a_call_is():
    "The same exceptions as of invoke(), with the id where there is one."
    nobody = "-".join("0" * n for n in (8, 4, 4, 4, 12))
    e = rgov.errors._from_task_answer(5, nobody, MODEL, "bob", "max_tasks", "", 2.0)
    equal((type(e), e.retry_after, e.user, e.task, e.limit, e.scope),
          (rgov.QueueFull, 2.0, "bob", "", "max_tasks", "host"), "a full store")
    e = rgov.errors._from_task_answer(
        6, nobody, MODEL, "bob", "max_tasks_per_user", "", 0.0)
    equal((type(e), e.retry_after, e.scope), (rgov.UserLimit, None, "user"), "a user")
    e = rgov.errors._from_task_answer(3, TASK_ID, "", "", "", "", 0.0)
    equal((type(e), e.task), (rgov.Timeout, TASK_ID), "a deadline")
    check("model" not in str(e), str(e))


@checks.test
def a_status_says_only_what_is_there():
    "A zero of librgov is None; what ended has a result, and no place."
    usage = rgov.Usage(None, None, None, None)
    def status(state, result, **known):
        fields = dict(submitted=5.0, started=0.0, ended=0.0, forget=0.0, position=0,
                      predicted_wait=0.0, runs=0, attempts=0, usage=usage,
                      wait_time=0.0, execution_time=0.0, http_status=0, result=result,
                      code="", message="", request_id="", model="", retry_after=0.0)
        return rgov.status._of_task(TASK_ID, state, **{**fields, **known})
    waits = status(0, "ok", position=3, predicted_wait=1.5)
    equal((waits.state, waits.started, waits.result, waits.position,
           waits.predicted_wait, waits.done),
          (rgov.TaskState.QUEUED, None, None, 3, 1.5, False), "a queued one")
    runs = status(1, "ok", started=6.0, position=3, runs=1)
    equal((runs.state, runs.started, runs.position, runs.done),
          ("running", 6.0, None, False), "a running one")
    failed = status(3, "upstream error", ended=7.0, forget=8.0, http_status=403)
    equal((failed.result, failed.done, failed.forget, str(failed.state)),
          ("upstream_error", True, 8.0, "failed"), "a failed one")
    equal([s.final for s in rgov.TaskState], [False] * 2 + [True] * 4, "final")
    raises(dataclasses.FrozenInstanceError, setattr, failed, "state", "queued")


# ---------------------------------------------------------------- the package

@checks.test
def the_types_are_strict():
    "mypy --strict has nothing to say, and a user's code is checked through it."
    if shutil.which("mypy") is None:
        raise Skip("mypy is not installed")
    with Scratch() as scratch:
        user = scratch / "user.py"
        user.write_text(
            "import rgov\n"
            "gov = rgov.connect()\n"
            "n: int | None = gov.invoke('m', {'a': 1}).usage.output_tokens\n"
            "async def f() -> float:\n"
            "    async with gov.apermit('m') as permit:\n"
            "        return permit.wait_time\n"
            "async def g(task: rgov.Task) -> bytes:\n"
            "    other = await gov.asubmit('m', {'a': 1}, key='k')\n"
            "    return (await task).body + (await other.aresult(2.0)).body\n"
            "ended: float | None = gov.task('x').wait(1).ended\n"
            "ids: list[str] = [row.id for row in gov.tasks(states=['failed'])]\n")
        done = run(["mypy", "--strict", "--python-version", "3.10", "--cache-dir",
                    scratch / "cache", ROOT / "client-lib/python/rgov", user],
                   env=base_env(MYPYPATH=ROOT / "client-lib/python"), timeout=120)
        equal(done.returncode, 0, done.stdout + done.stderr)


@checks.test
def every_public_name_is_described():
    "Each class, method and function that a user can see has a docstring."
    bare = []
    for name in rgov.__all__:
        thing = getattr(rgov, name)
        if not isinstance(thing, type) and not callable(thing):
            continue
        if getattr(thing, "__module__", "").startswith("rgov"):
            members = vars(thing) if isinstance(thing, type) else {}
            described = [(name, thing)] + [
                (f"{name}.{m}", f) for m, f in members.items()
                if callable(f) and not m.startswith("_")]
            bare += [n for n, f in described if not f.__doc__]
    equal(bare, [], "names without a docstring")


@checks.test
def pip_installs_it_offline():
    "From the checkout, without a network, and it leaves the checkout clean."
    for module in ("pip", "setuptools", "wheel"):
        if run([PYTHON, "-c", f"import {module}"]).returncode != 0:
            raise Skip(f"{module} is not installed")
    package = ROOT / "client-lib/python"
    before = sorted(p.name for p in package.iterdir())
    with Scratch() as scratch:
        done = run([PYTHON, "-m", "pip", "install", "--no-index",
                    "--no-build-isolation", "--no-deps",
                    "--disable-pip-version-check", "--target", scratch / "lib",
                    package], timeout=300, env=base_env(TMPDIR=scratch))
        equal(done.returncode, 0, done.stdout + done.stderr)
        equal(sorted(p.name for p in package.iterdir()), before, "the checkout")
        done = run([PYTHON, "-c", "import rgov; rgov.connect(); "
                    "print(rgov.__version__)"], cwd=scratch,
                   env=base_env(PYTHONPATH=scratch / "lib"))
        equal((done.stdout.strip(), done.stderr), (rgov.__version__, ""),
              "the installed package")


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    checks.main()
