"""What is known of a durable task: plain values, which hold nothing of rgovd's.

Times are seconds since 1970 (``time.time()``), spans are seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .reply import Usage

__all__ = ["TaskEvent", "TaskRow", "TaskState", "TaskStatus"]


class TaskState(str, enum.Enum):
    """Where a task is.  Each is a str, so that ``state == "queued"`` holds."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """True: it has ended, and never changes again."""
        return self not in (TaskState.QUEUED, TaskState.RUNNING)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TaskStatus:
    """How a task stands.

    ``submitted``, ``started`` (the first time) and ``ended``: None where that has
    not happened.  ``forget``: until when its reply is kept; None before its end.
    ``position``: 1 is the next of its model, and ``predicted_wait``: how much
    longer it may wait; None unless it is queued.  ``runs``: how often it was
    begun.

    The rest is of one that has ended.  ``result``: a word that does not change
    between releases: ``ok``, ``upstream_error`` (the provider answered an error),
    ``upstream_failed`` (no usable answer), ``deadline``, ``cancelled``,
    ``ambiguous`` (it may have been performed), or a refusal's reason as of
    :class:`Rejected`; None before the end.  ``http_status``: 0 where no answer
    came.  ``code`` and ``message``: of the error, "" where there is none.
    ``model``: that answered, where another than was asked; else "".
    ``wait_time``: in rgovd's queue; ``execution_time``: of the last attempt.
    ``retry_after``: of a refusal; None where there is none.
    """

    id: str
    state: TaskState
    submitted: float | None
    started: float | None
    ended: float | None
    forget: float | None
    position: int | None
    predicted_wait: float | None
    runs: int
    attempts: int
    usage: Usage
    wait_time: float
    execution_time: float
    http_status: int
    result: str | None
    code: str
    message: str
    request_id: str
    model: str
    retry_after: float | None

    @property
    def done(self) -> bool:
        """True: it has ended."""
        return self.state.final


@dataclass(frozen=True)
class TaskRow:
    """One task of a list.  ``key``: its idempotency key, "" where it has none.
    ``has_reply``: its reply is kept.  ``uid``: who submitted it.  ``deadline``:
    when it expires.  The rest as of :class:`TaskStatus`."""

    id: str
    state: TaskState
    result: str | None
    http_status: int
    priority: str
    has_reply: bool
    uid: int
    runs: int
    submitted: float | None
    started: float | None
    ended: float | None
    deadline: float | None
    user: str
    model_id: str
    key: str


@dataclass(frozen=True)
class TaskEvent:
    """One thing that happened to a task.  ``at``: when; ``what``: "submitted",
    "started", "reissued", ...; ``detail``: for people, often ""."""

    at: float
    what: str
    detail: str


# ------------------------------------------------- called with librgov's words

# enum rgov_task_state of rgov.h, whose order is ABI.
STATES = tuple(TaskState)


def _time(at: float) -> float | None:
    return at or None


def _word(state: TaskState, result: str) -> str | None:
    return result.replace(" ", "_") if state.final else None


def _of_task(
    id: str,
    state: int,
    submitted: float,
    started: float,
    ended: float,
    forget: float,
    position: int,
    predicted_wait: float,
    runs: int,
    attempts: int,
    usage: Usage,
    wait_time: float,
    execution_time: float,
    http_status: int,
    result: str,
    code: str,
    message: str,
    request_id: str,
    model: str,
    retry_after: float,
) -> TaskStatus:
    """From the extension: 0 is "not there"."""
    now = STATES[state]
    is_queued = now is TaskState.QUEUED
    return TaskStatus(
        id,
        now,
        _time(submitted),
        _time(started),
        _time(ended),
        _time(forget),
        position if is_queued and position > 0 else None,
        predicted_wait if is_queued else None,
        runs,
        attempts,
        usage,
        wait_time,
        execution_time,
        http_status,
        _word(now, result),
        code,
        message,
        request_id,
        model,
        retry_after or None,
    )


def row_of(
    id: str,
    state: int,
    result: str,
    http_status: int,
    priority: str,
    has_reply: int,
    uid: int,
    runs: int,
    submitted: float,
    started: float,
    ended: float,
    deadline: float,
    user: str,
    model_id: str,
    key: str,
) -> TaskRow:
    """The same for one tuple of ``_rgov.Handle.task_list``."""
    now = STATES[state]
    return TaskRow(
        id,
        now,
        _word(now, result),
        http_status,
        priority,
        bool(has_reply),
        uid,
        runs,
        _time(submitted),
        _time(started),
        _time(ended),
        _time(deadline),
        user,
        model_id,
        key,
    )
