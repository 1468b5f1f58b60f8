"""What a web application says of rgov's errors and tasks: HTTP's numbers, Celery's
words, Server-Sent Events.  Knows no framework; ``rgov.flask`` is one that uses it.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from . import errors
from .governor import Governor
from .status import TaskState, TaskStatus
from .task import Task

__all__ = [
    "CELERY_STATES",
    "EventStream",
    "Places",
    "Problem",
    "STATUS",
    "come_back",
    "describe",
    "key_of",
    "problem_of",
    "queue_stats",
]

# What clients of Celery know.
CELERY_STATES = {
    TaskState.QUEUED: "PENDING",
    TaskState.RUNNING: "STARTED",
    TaskState.SUCCEEDED: "SUCCESS",
    TaskState.FAILED: "FAILURE",
    TaskState.EXPIRED: "FAILURE",
    TaskState.CANCELLED: "REVOKED",
}

# The first that fits decides.  A refusal that is this user's own is 429, one that
# is the host's 503.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.UserLimit, 429, "too many requests"),
    (errors.QueueFull, 503, "busy"),
    (errors.TooLarge, 413, "too large"),
    (errors.TaskConflict, 409, "conflict"),
    (errors.Invalid, 400, "bad request"),
    (errors.UnknownTask, 404, "not found"),
    (errors.NotYours, 404, "not found"),
    (errors.TaskGone, 410, "gone"),
    (errors.TaskExpired, 504, "too late"),
    (errors.TaskCancelled, 409, "cancelled"),
    (errors.Timeout, 504, "too late"),
    (errors.Rejected, 503, "not available"),
    (errors.StoreError, 503, "not available"),
    (errors.NoStore, 503, "not available"),
    (errors.Unavailable, 503, "not available"),
    (errors.UpstreamError, 502, "the model's service refused"),
    (errors.Error, 500, "internal error"),
)

AWAY = "the request governor of this host cannot be reached; please try again soon"
_NO_TASK = "there is no such task, or it was forgotten some time after its end"
_MAX_KEY = 255  # characters of an Idempotency-Key
_MAX_COME_BACK = 60.0
_COME_BACK = {429: 5.0, 503: 1.0}  # seconds, where rgovd named no time
_SILENT_S = 3.0
_LOOK_S = 1.0  # a place in the queue changes unseen; an end does not


# ---------------------------------------------------------------- errors


class Problem(NamedTuple):
    """What the client is told of an error.  ``retry_after``: seconds, or None.
    ``is_private``: the exception's own words are about this host, and are for its
    operator: log them."""

    status: int
    title: str
    detail: str
    retry_after: float | None
    is_private: bool


def problem_of(error: errors.Error) -> Problem:
    """See :data:`STATUS`."""
    status, title = next((s, t) for kind, s, t in STATUS if isinstance(error, kind))
    if (isinstance(error, errors.Rejected) and error.scope == "user") or (
        isinstance(error, errors.UpstreamError) and error.status == 429
    ):
        status, title = 429, "too many requests"
    retry_after: float | None = getattr(error, "retry_after", None)
    if retry_after is None and status in _COME_BACK:
        retry_after = _COME_BACK[status]
    if status == 404:
        return Problem(status, title, _NO_TASK, None, False)
    if status == 500:
        return Problem(status, title, "the log of the application says why", None, True)
    if isinstance(error, errors.Unavailable):
        return Problem(status, title, AWAY, retry_after, True)
    return Problem(status, title, str(error), retry_after, False)


def whole_seconds(seconds: float) -> str:
    """For ``Retry-After``."""
    return str(max(1, math.ceil(seconds)))


# ---------------------------------------------------------------- tasks


def key_of(user: str, key: str) -> str:
    """A client's ``Idempotency-Key`` as a task's key: the user's own, since two
    users may choose the same.  Invalid: it is empty or above 255 characters."""
    if not 1 <= len(key) <= _MAX_KEY:
        raise errors.Invalid(
            f"Idempotency-Key: expected 1 to {_MAX_KEY} characters, found {len(key)}",
            reason="invalid",
        )
    named = user.encode() + b"\0" + key.encode("utf-8", "backslashreplace")
    return "http-" + hashlib.sha256(named).hexdigest()


def describe(task_id: str, status: TaskStatus) -> dict[str, Any]:
    """What is said of a task, but its result; for JSON."""
    told: dict[str, Any] = {
        "task_id": task_id,
        "status": CELERY_STATES[status.state],
        "state": status.state.value,
        "ready": status.done,
        "submitted": status.submitted,
        "started": status.started,
        "ended": status.ended,
        "runs": status.runs,
    }
    if status.state is TaskState.QUEUED:
        told["position"] = status.position
        told["predicted_wait"] = status.predicted_wait
    if status.done:
        told["attempts"] = status.attempts
        told["usage"] = status.usage._asdict()
        if status.state is not TaskState.SUCCEEDED:
            told["error"] = {
                "reason": status.result,
                "code": status.code,
                "http_status": status.http_status,
                "message": status.message,
            }
    return told


def come_back(status: TaskStatus, avg_execution_time: float) -> str:
    """``Retry-After`` of a task that has not ended: what it may still wait, and
    what a call takes."""
    if status.done:
        return "1"
    expected = (status.predicted_wait or 0.0) + avg_execution_time
    return whole_seconds(min(expected, _MAX_COME_BACK))


def queue_stats(stats: dict[str, Any]) -> dict[str, Any]:
    """``get_stats()`` with what Celery's inspector told, of the whole host:
    ``available``, ``workers`` (calls that may run at a time), ``active_tasks``,
    ``reserved_tasks``, ``total_pending``."""
    serves = stats["scope"] == "host" and not stats["draining"]
    active, waiting = stats["active_requests"], stats["queue_size"]
    return {
        **stats,
        "available": bool(serves and stats["heartbeat_age"] < _SILENT_S),
        "workers": stats["limits"].get("max_concurrent_requests", 0),
        "active_tasks": active,
        "reserved_tasks": waiting,
        "total_pending": active + waiting,
    }


def check_alive(gov: Governor) -> None:
    """Asks the board, not rgovd, which a request would wait for.  Unavailable: it
    has been silent for some seconds."""
    age = gov.get_stats().get("heartbeat_age", 0.0)
    if age > _SILENT_S:
        raise errors.Unavailable(f"rgovd has said nothing for {age:.0f} s")


# ---------------------------------------------------------------- event streams


class Places:
    """Requests of this process that are held waiting: each holds a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = 0

    def take(self, limit: int) -> bool:
        """True: there was one; give() it back."""
        with self._lock:
            if self._taken >= limit:
                return False
            self._taken += 1
            return True

    def give(self) -> None:
        """Once for each take()."""
        with self._lock:
            self._taken -= 1


class _Watched:
    """A task of a stream, and what was last said of it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.status: TaskStatus | None = None
        self._said_at = 0.0

    @property
    def is_final(self) -> bool:
        return self.status is not None and self.status.done

    def is_news(self, status: TaskStatus) -> bool:
        """A wait that shrinks as time goes by is none."""
        last = self.status
        if last is None or last.state is not status.state:
            return True
        if (last.position, last.runs) != (status.position, status.runs):
            return True
        passed = time.monotonic() - self._said_at
        expected = max(0.0, (last.predicted_wait or 0.0) - passed)
        found = status.predicted_wait or 0.0
        return abs(found - expected) > max(1.0, found / 5)

    def note(self, status: TaskStatus) -> None:
        self.status, self._said_at = status, time.monotonic()

    def forget(self) -> None:
        """After a silence what comes next is news."""
        if not self.is_final:
            self.status = None

    def nearness(self) -> float:
        """The smaller, the sooner it may end."""
        if self.status is None:
            return math.inf
        if self.status.state is TaskState.RUNNING:
            return 0.0
        return float(self.status.position or 1)


class EventStream:
    """The body of an event stream over some tasks: ``status`` whenever one of them
    changes, ``end`` after the last one's end, ``away`` while rgovd cannot be
    reached.

    Iterate it, and close() it in the end, whatever that is.  A client that left is
    found out at the next write, so something is written at least every
    ``heartbeat`` seconds.  After ``life`` seconds it ends, and the browser comes
    again.  It holds one of ``limit`` places while it lasts; where there is none it
    says how things stand and ends.  ``tell`` makes JSON of a task.
    """

    def __init__(
        self,
        gov: Governor,
        tasks: Sequence[Task],
        tell: Callable[[Task, TaskStatus], dict[str, Any]],
        places: Places,
        limit: int,
        heartbeat: float,
        life: float,
    ) -> None:
        self._gov = gov
        self._watched = [_Watched(task) for task in tasks]
        self._tell = tell
        self._places = places
        self._limit = limit
        self._heartbeat = heartbeat
        self._life = life
        self._events = self._run()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._events)

    def close(self) -> None:
        """Calling it twice is fine."""
        self._events.close()

    def _run(self) -> Generator[str, None, None]:
        is_held = self._places.take(self._limit)
        try:
            yield f"retry: {1000 if is_held else 5000}\n\n"
            yield from self._watch(self._life if is_held else 0.0)
        finally:
            if is_held:
                self._places.give()

    def _watch(self, life: float) -> Iterator[str]:
        end = time.monotonic() + life
        last_word = time.monotonic()
        while True:
            news = self._news()
            yield from news
            if all(watched.is_final for watched in self._watched):
                yield _event("end", {}, "end")
                return
            now = time.monotonic()
            if now >= end:
                return
            if news:
                last_word = now
            elif now - last_word >= self._heartbeat:
                yield ": still here\n\n"
                last_word = now
            self._pause(min(_LOOK_S, self._heartbeat))

    def _news(self) -> list[str]:
        """An error is told, and the stream goes on."""
        said = []
        try:
            check_alive(self._gov)
            for watched in self._watched:
                if watched.is_final:
                    continue
                status = watched.task.status(_SILENT_S)
                if watched.is_news(status):
                    told = self._tell(watched.task, status)
                    watched.note(status)
                    said.append(_event("status", told))
        except errors.Error as e:
            away = isinstance(e, (errors.Unavailable, errors.Timeout))
            detail = AWAY if away else problem_of(e).detail
            said.append(_event("away", {"detail": detail}))
            for watched in self._watched:
                watched.forget()
        return said

    def _pause(self, seconds: float) -> None:
        """Until the task that is next to end has ended, or a look at all is due."""
        waiting = [w for w in self._watched if not w.is_final]
        first = min(waiting, key=_Watched.nearness)
        end = time.monotonic() + seconds
        try:
            first.task.wait(seconds)
        except errors.Error:
            time.sleep(max(0.0, end - time.monotonic()))


def _event(name: str, data: dict[str, Any], event_id: str = "") -> str:
    last = f"id: {event_id}\n" if event_id else ""
    # No line break is in the JSON: it would end the event.
    return f"event: {name}\n{last}data: {json.dumps(data)}\n\n"
