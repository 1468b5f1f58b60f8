"""The way without a governor: each worker keeps limits of its own, calls
Bedrock by itself and backs off by itself after a throttle.

This is what applications did before, kept to be compared with.  Four workers
with the limits of one account are four times the limits; a throttle is known
only to the thread that got it.

Environment: BEDROCK_ENDPOINT, AWS_* (region and keys), and the names of the old
request manager: MAX_CONCURRENT_REQUESTS, REQUESTS_PER_MINUTE,
MAX_REQUESTS_PER_USER.  MINUTE_S and BACKOFF_BASE_S shrink time for a
demonstration; MAX_RETRIES.
"""

import collections
import http.client
import json
import os
import random
import threading
import time
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from model_call import (Away, Busy, Late, Refused, Reply, Unable,
                        first_text)

REGION = os.environ.get("AWS_REGION", "us-east-1")
ENDPOINT = os.environ.get(
    "BEDROCK_ENDPOINT", f"https://bedrock-runtime.{REGION}.amazonaws.com")
MAX_CONCURRENT = int(os.environ.get("MAX_CONCURRENT_REQUESTS", "3"))
PER_MINUTE = int(os.environ.get("REQUESTS_PER_MINUTE", "30"))
PER_USER = int(os.environ.get("MAX_REQUESTS_PER_USER", "2"))
MINUTE_S = float(os.environ.get("MINUTE_S", "60"))
BACKOFF_BASE_S = float(os.environ.get("BACKOFF_BASE_S", "1"))
MAX_RETRIES = int(os.environ.get("MAX_RETRIES", "3"))

RETRIED = {429, 500, 502, 503, 504}


class RequestManager:
    """Limits of one process: concurrency, starts per minute, and a cap for
    each user; of the waiting, the user with fewer active requests goes first."""

    def __init__(self):
        self._changed = threading.Condition()
        self._starts = collections.deque()
        self._active = collections.Counter()
        self._waiting = []
        self.totals = collections.Counter()
        self.wait_s = self.execution_s = 0.0

    def acquire(self, user, end):
        begin = time.monotonic()
        ticket = (user, object())
        with self._changed:
            self.totals["total_requests"] += 1
            self._waiting.append(ticket)
            try:
                while not self._may_start(ticket):
                    left = end - time.monotonic()
                    if left <= 0:
                        raise Late("no free place in time")
                    self._changed.wait(min(left, 0.05))
            finally:
                self._waiting.remove(ticket)
            self._starts.append(time.monotonic())
            self._active[user] += 1
            self.wait_s += time.monotonic() - begin

    def _may_start(self, ticket):
        now = time.monotonic()
        while self._starts and self._starts[0] <= now - MINUTE_S:
            self._starts.popleft()
        if (sum(self._active.values()) >= MAX_CONCURRENT
                or len(self._starts) >= PER_MINUTE):
            return False
        ready = [t for t in self._waiting if self._active[t[0]] < PER_USER]
        return bool(ready) and ticket is min(
            ready, key=lambda t: self._active[t[0]])

    def release(self, user, outcome, seconds):
        with self._changed:
            self._active[user] -= 1
            if not self._active[user]:
                del self._active[user]
            self.totals[outcome] += 1
            self.execution_s += seconds
            self._changed.notify_all()

    def note_throttle(self):
        with self._changed:
            self.totals["throttled_requests"] += 1

    def stats(self):
        with self._changed:
            ended = (self.totals["successful_requests"]
                     + self.totals["failed_requests"])
            started = ended + sum(self._active.values())
            return {
                "total_requests": self.totals["total_requests"],
                "successful_requests": self.totals["successful_requests"],
                "failed_requests": self.totals["failed_requests"],
                "throttled_requests": self.totals["throttled_requests"],
                "active_requests": sum(self._active.values()),
                "queue_size": len(self._waiting),
                "active_users": len(self._active),
                "avg_wait_time": self.wait_s / started if started else 0.0,
                "avg_execution_time":
                    self.execution_s / ended if ended else 0.0,
            }


manager = RequestManager()


def init_app(app, user):
    """The figures of this one worker, and that it serves."""
    app.add_url_rule("/queue_stats", view_func=manager.stats,
                     endpoint="queue_stats")
    app.add_url_rule("/healthz", view_func=lambda: {"status": "ok"},
                     endpoint="healthz")


def submit(model_id, body):
    raise Unable("without rgov nobody keeps a request until it is answered")


def ask(model_id, body, user, timeout):
    end = time.monotonic() + timeout
    manager.acquire(user, end)
    begin, outcome = time.monotonic(), "failed_requests"
    try:
        reply = _call_with_backoff(model_id, json.dumps(body).encode(), end)
        outcome = "successful_requests"
        return reply
    finally:
        manager.release(user, outcome, time.monotonic() - begin)


def _call_with_backoff(model_id, body, end):
    for attempt in range(MAX_RETRIES + 1):
        begin = time.monotonic()
        status, headers, answer = _post(model_id, body, end)
        if status == 200:
            return _reply(answer, headers, time.monotonic() - begin,
                          attempt + 1)
        if status == 429:
            manager.note_throttle()
        if status not in RETRIED or attempt == MAX_RETRIES:
            break
        pause_s = BACKOFF_BASE_S * (2 ** attempt + random.random())
        if time.monotonic() + pause_s >= end:
            raise Late("no time left for another attempt")
        time.sleep(pause_s)
    words = _message(answer)
    if status == 429:
        raise Busy(f"throttled {MAX_RETRIES + 1} times: {words}")
    raise Refused(f"HTTP {status}: {words}")


def _post(model_id, body, end):
    """One signed POST over a new connection."""
    parts = urllib.parse.urlsplit(ENDPOINT)
    path = f"/model/{urllib.parse.quote(model_id, safe='')}/invoke"
    signed = AWSRequest("POST", f"{parts.scheme}://{parts.netloc}{path}",
                        {"Content-Type": "application/json",
                         "Accept": "application/json"}, body)
    SigV4Auth(_credentials(), "bedrock", REGION).add_auth(signed)
    kind = (http.client.HTTPSConnection if parts.scheme == "https"
            else http.client.HTTPConnection)
    connection = kind(parts.netloc, timeout=max(0.1, end - time.monotonic()))
    try:
        connection.request("POST", path, body, dict(signed.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except TimeoutError as e:
        raise Late("no answer in time") from e
    except (OSError, http.client.HTTPException) as e:
        raise Away(f"the call failed: {e}") from e
    finally:
        connection.close()


def _credentials():
    try:
        return Credentials(os.environ["AWS_ACCESS_KEY_ID"],
                           os.environ["AWS_SECRET_ACCESS_KEY"],
                           os.environ.get("AWS_SESSION_TOKEN"))
    except KeyError as e:
        raise Away(f"{e.args[0]} is not set") from None


def _message(answer):
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return "no message"


def _reply(answer, headers, seconds, attempts):
    try:
        message = json.loads(answer)
    except ValueError:
        raise Refused("the reply is no JSON") from None
    usage = message.get("usage", {}) if isinstance(message, dict) else {}
    return Reply(text=first_text(message),
                 input_tokens=usage.get("input_tokens"),
                 output_tokens=usage.get("output_tokens"),
                 execution_s=seconds, attempts=attempts,
                 request_id=headers.get("x-amzn-RequestId", ""))
