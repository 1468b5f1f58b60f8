#!/usr/bin/python3 -B
"""The users of one run: asks every question of a plan at its time, each in a
connection of its own, and prints what became of it.

stdin: {"url", "poll_s", "timeout_s", "questions": [{"user", "body", "at_s"}]}
stdout: [{"user", "body", "asked_ns", "ended_ns", "status"}], in the plan's
order; CLOCK_MONOTONIC; status 0 when there was no answer.

An answer 202 names a task.  Each user's page then asks every poll_s for all of
its tasks that have not ended, as the pages of task queues do.
"""

import http.client
import json
import sys
import threading
import time
import urllib.parse


def post(url, path, headers, body, timeout_s):
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port,
                                            timeout=timeout_s)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Page:
    """What one user sees: questions, and the tasks they became."""

    def __init__(self, plan):
        self.plan = plan
        self.lock = threading.Lock()
        self.tasks = {}  # id: record
        self.polls = None

    def ask(self, record):
        record["asked_ns"] = time.monotonic_ns()
        try:
            status, answer = post(self.plan["url"], "/ask",
                                  {"X-User": record["user"]}, record["body"],
                                  self.plan["timeout_s"])
        except (OSError, http.client.HTTPException):
            status = 0
        if status == 202:
            self._watch(answer.decode(), record)
        else:
            record["ended_ns"], record["status"] = time.monotonic_ns(), status

    def _watch(self, task, record):
        with self.lock:
            self.tasks[task] = record
            if self.polls is None:
                self.polls = threading.Thread(target=self._poll)
                self.polls.start()

    def _poll(self):
        end = time.monotonic() + self.plan["timeout_s"]
        while time.monotonic() < end:
            time.sleep(self.plan["poll_s"])
            with self.lock:
                open_tasks = [task for task, record in self.tasks.items()
                              if "status" not in record]
                if not open_tasks:
                    self.polls = None
                    return
            try:
                _, answer = post(self.plan["url"], "/tasks", {},
                                 json.dumps(open_tasks), 60)
                ended = json.loads(answer)
            except (OSError, ValueError, http.client.HTTPException):
                continue
            for task, status in ended.items():
                self.tasks[task].update(status=status,
                                        ended_ns=time.monotonic_ns())


def main():
    threading.stack_size(256 * 1024)
    plan = json.load(sys.stdin)
    pages = {q["user"]: Page(plan) for q in plan["questions"]}
    records, threads = [], []
    begin = time.monotonic()
    for question in sorted(plan["questions"], key=lambda q: q["at_s"]):
        record = {"user": question["user"], "body": question["body"]}
        records.append(record)
        time.sleep(max(0.0, begin + question["at_s"] - time.monotonic()))
        threads.append(threading.Thread(target=pages[record["user"]].ask,
                                        args=(record,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    for page in pages.values():
        polls = page.polls
        if polls is not None:
            polls.join()
    for record in records:
        record.setdefault("status", 0)
        record.setdefault("ended_ns", time.monotonic_ns())
    json.dump(records, sys.stdout)


main()
