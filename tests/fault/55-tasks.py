#!/usr/bin/python3 -B
"""Clients of durable tasks whose time ends at the worst moment, or who write
what they like: rgovd is under sanitizers, and what it has said holds.
"""

import http.server
import random

from hostile import CANCEL, DONE, PAGE, SETTINGS, SUBMIT, Sanitized, Stranger
from shortage import *

TASK, TASK_VERB, VERBS = 2, 3, 6

LARGE = 24000000


@checks.test
def a_deadline_while_the_body_is_read():
    """The slot is its client's again, so nothing may be read from it any more;
    nor is there anybody to be told that there is no room."""
    with Sim(latency="fixed:600") as sim, \
            Sanitized(limits(60000, 1, 1, minute=60) + "max_tasks = 1\n",
                      sim=sim) as rgovd, Puppet(rgovd) as puppet:
        puppet.tell("open")
        puppet.begin("task", 1, 64, 300)  # takes the only place
        wait_until(lambda: rgovd.stats()["host"]["tasks"] == 1,
                   what="a task that runs")
        puppet.answer()
        ends = collections.Counter()
        for i in range(40):
            answer = puppet.tell("task", i + 2, LARGE, 10 + 10 * i)
            ends[answer["result"]] += 1
            check(rgovd.process.alive(), f"rgovd has died: {rgovd.process.tail()}")
            if ends["queue full"] >= 3:
                break
        check(ends["deadline"] > 0 and ends["queue full"] > 0,
              f"the deadlines were not in the middle: {dict(ends)}")
        rgovd.kill9()  # what runs has ten minutes yet


def words(stranger, slot, id=bytes(16), timeout=0, states=0, most=0, key=b"",
          callback=b"", text=b"", lengths=None):
    """struct client_task of a slot."""
    at = stranger.shape.tasks + PAGE * slot
    lengths = lengths or (len(key), len(callback), len(text))
    stranger.client[at:at + PAGE] = struct.pack(
        "<16sQIIHHH18x128s1024s128s", id, timeout, states, most, *lengths, key,
        callback, text).ljust(PAGE, b"\xff")


def any_words(dice, ids):
    """Mostly near what is right."""
    some = {"id": dice.choice(ids) if dice.random() < 0.7
            else dice.choice((bytes(16), b"\xff" * 16, dice.randbytes(16)))}
    for field, values in (
            ("timeout", (0, 1, 10**6, 2**63, 2**64 - 1)),
            ("states", (0, 1, 63, 2**31, 2**32 - 1)),
            ("most", (0, 1, 1000, 1001, 2**32 - 1)),
            ("key", (b"", b"k", b"k" * 128, b"\xff\xfe", b"a\0b", b"\x1b[31m")),
            ("callback", (b"", b"http://127.0.0.1:9/x", b"x" * 1024, b"\n")),
            ("text", (b"", b"vendor", b"%_\xff", b"\0")),
            ("lengths", (None, None, None, (129, 0, 0), (0, 1025, 0),
                         (0, 0, 129), (65535,) * 3))):
        if dice.random() < 0.3:
            some[field] = dice.choice(values)
    return some


def one_act(dice, stranger, generations, ids):
    slot = dice.randrange(stranger.slots)
    generation = generations[slot]
    if dice.random() < 0.3:
        stranger.command(slot, generation, CANCEL)
    elif stranger.word(slot) == (generation, DONE):
        generations[slot] += 1
        is_task = dice.random() < 0.4
        body = b'{"max_tokens":5,"pad":"%s"}' % (
            b"x" * dice.choice((0, 0, 1000, 400000))) if is_task else b""
        words(stranger, slot, **any_words(dice, ids))
        stranger.describe(
            slot, kind=TASK if is_task else TASK_VERB, body=body,
            operation=dice.randrange(2 if is_task else VERBS),
            flags=dice.randrange(4), deadline=time.monotonic_ns()
            + dice.choice((1, 10**6, 10**7, 10**9)))
        stranger.command(slot, generations[slot], SUBMIT)


@checks.test
def anything_said_of_tasks():
    """Every field of them, cancelled and left at any time, over deaths of rgovd:
    each request ends, each task ends, others are served."""
    dice = random.Random(20261124)
    with Sim(latency="fixed:0.01") as sim, \
            Sanitized(SETTINGS, sim=sim) as rgovd, Puppet(rgovd) as puppet:
        for life in range(4):
            stranger = Stranger(rgovd).open(8)
            generations = [0] * stranger.slots
            ids = [dice.randbytes(16) for _ in range(12)]
            for i in range(500):
                one_act(dice, stranger, generations, ids)
                time.sleep(0.001)  # a full ring would end it
                if i == 250 and life % 2:
                    rgovd.kill9()
                    rgovd.start()
                    stranger.come_back()
                check(rgovd.process.alive(), rgovd.process.tail(20))
            if life < 3:
                for slot, generation in enumerate(generations):
                    stranger.wait_word(slot, generation, DONE)
            stranger.socket.close()
            answer = puppet.visit(puppet.task)
            check(answer.is_good, f"somebody else's task: {answer}")
        wait_until(lambda: rgovd.stats()["host"]["tasks"] == 0,
                   what="the end of every task")
        calls = sum(e["event"] == "arrival" for e in sim.events())
        check(calls > 50, f"only {calls} calls of tasks")
        equal(rgovd.process.stop(), 0, "exit status of rgovd")


class Moody(http.server.BaseHTTPRequestHandler):
    """Takes what it is told at the third time."""

    told = 0

    def do_POST(self):
        Moody.told += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204 if Moody.told >= 3 else 500)
        self.end_headers()

    def log_message(self, *_):
        pass


@checks.test
def a_callback_that_is_tried_again():
    "Nothing of the tries before is left: a leak is another exit status."
    server = http.server.HTTPServer(("127.0.0.1", 0), Moody)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    with Sim() as sim, Sanitized(
            SETTINGS + f'task_callbacks = {{"{url}"}}\n', sim=sim) as rgovd:
        body = rgovd.scratch.path / "body.json"
        body.write_text('{"max_tokens":5}')
        done = rgovd.rgov("task", "submit", MODEL, body, "--callback", url)
        equal(done.returncode, 0, f"the submit ({done.stderr})")
        wait_until(lambda: Moody.told == 3, what="the third try")
        equal(rgovd.process.stop(), 0, "exit status of rgovd")
    server.shutdown()


checks.main()
