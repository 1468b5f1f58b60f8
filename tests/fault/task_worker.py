"""Who submits tasks in a storm over them: threads of a plain process, or Celery's
children.  What is acknowledged is written down before anything else is done.

usage: task_worker.py FIRST SEED       until SIGTERM; numbers from FIRST on
       celery -A task_worker worker    with REDIS_URL

Environment: STORM_JOURNAL, a file that all append to.  Its lines, one write each:

    B NUMBER PID KIND KEY     about to submit; KIND is one of KINDS, KEY or -
    A NUMBER ID               acknowledged
    N NUMBER WORDS            refused, or not answered
    W NUMBER PID TIMEOUT      about to wait; seconds
    E NUMBER PID SECONDS HOW  has waited; HOW is a state or an exception
"""

import hashlib
import json
import os
import random
import signal
import sys
import threading
import time

import rgov

MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"
THREADS = 4
# any; not idempotent; expires soon; cancelled
KINDS = "aotc"
TIMEOUT_S = {"t": 0.3}


def body_of(number):
    return json.dumps({"anthropic_version": "bedrock-2023-05-31",
                       "max_tokens": 5, "messages": [
                           {"role": "user", "content": f"task {number}"}]})


def sha256_of(number):
    return hashlib.sha256(body_of(number).encode()).hexdigest()


class Journal:
    """Threads, processes and those that are killed write whole lines."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT
                          | os.O_CLOEXEC, 0o600)

    def note(self, *words):
        os.write(self.fd, " ".join(map(str, words)).encode() + b"\n")


def submit(gov, journal, number, kind, key):
    """The task, acknowledged and written down."""
    journal.note("B", number, os.getpid(), kind, key or "-")
    try:
        task = gov.submit(MODEL, body_of(number), user=f"u{number % 7}",
                          key=key, idempotent=kind != "o",
                          timeout=TIMEOUT_S.get(kind))
    except rgov.Error as e:
        journal.note("N", number, type(e).__name__)
        raise
    journal.note("A", number, task.id)
    return task


def wait(journal, number, task, seconds):
    """Always an end, or a state, or an error of rgov, in time."""
    journal.note("W", number, os.getpid(), seconds)
    begun = time.monotonic()
    try:
        how = task.wait(seconds).state.name
        if how == "SUCCEEDED":
            task.result(10)
    except rgov.Error as e:
        how = type(e).__name__
    journal.note("E", number, os.getpid(), f"{time.monotonic() - begun:.3f}",
                 how)


# ---------------------------------------------------------------- threads

class Submitter:
    def __init__(self, journal, first, seed):
        self.journal, self.over = journal, threading.Event()
        self.first, self.seed = first, seed

    def live(self, thread):
        dice = random.Random(self.seed * 1000 + self.first + thread)
        number = self.first + thread
        while not self.over.is_set():
            try:
                self.one(dice, number)
            except rgov.Error:
                self.over.wait(0.05)
            number += THREADS

    def one(self, dice, number):
        kind = dice.choices(KINDS, (12, 4, 1, 1))[0]
        key = f"key-{number}" if dice.random() < 0.5 else None
        task = self.sure(number, kind, key) if key else submit(
            gov, self.journal, number, kind, None)
        if kind == "c":
            task.cancel()
        if key and dice.random() < 0.3:
            submit(gov, self.journal, number, kind, key)
        if dice.random() < 0.7:
            wait(self.journal, number, task, dice.choice((0.05, 2, 15)))

    def sure(self, number, kind, key):
        """With a key one may ask again until it is acknowledged."""
        while True:
            try:
                return submit(gov, self.journal, number, kind, key)
            except (rgov.Unavailable, rgov.Timeout, rgov.Draining):
                if self.over.wait(0.05):
                    raise


def main():
    first, seed = map(int, sys.argv[1:])
    submitter = Submitter(Journal(os.environ["STORM_JOURNAL"]), first, seed)
    signal.signal(signal.SIGTERM, lambda *_: submitter.over.set())
    threads = [threading.Thread(target=submitter.live, args=(n,))
               for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---------------------------------------------------------------- Celery

def celery_app():
    """With the id of Celery's task as the key: a message that is delivered twice
    is one task."""
    import celery
    import rgov.celery as governed

    url = os.environ["REDIS_URL"]
    made = celery.Celery("storm", broker=url, backend=url,
                         task_cls="rgov.celery:GovernedTask")
    made.conf.update(worker_hijack_root_logger=False,
                     broker_connection_retry_on_startup=True,
                     result_backend_always_retry=False,
                     task_ignore_result=True)
    governed.configure(made)
    journal = Journal(os.environ["STORM_JOURNAL"])

    @made.task(bind=True, name="ask", rgov_max_countdown=1.0)
    def ask(self, number):
        task = submit(self.governor, journal, number, "a", self.request.id)
        wait(journal, number, task, 15)

    return made


if __name__ == "__main__":
    gov = rgov.connect()
    main()
elif "REDIS_URL" in os.environ:
    app = celery_app()
