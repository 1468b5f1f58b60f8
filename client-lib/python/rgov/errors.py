"""The exceptions of rgov.

::

    Error
     +- ConfigError (ValueError)        the package was asked for what cannot be
     +- ForkError (RuntimeError)        a parent's permit or request, in a child
     +- Unavailable (ConnectionError)   rgovd cannot be reached; names the socket
     +- Timeout (TimeoutError)          the deadline passed
     +- PermitLost                      settled too late: it is no longer held
     +- Rejected                        rgovd (or librgov) refused; nothing was sent
     |   +- QueueFull, UserLimit, TooLarge, Draining
     |   +- Invalid (ValueError)
     +- UpstreamError                   the provider's answer is an error, or none
     +- TaskError                       about a durable task
         +- UnknownTask (LookupError)   there is none of that id (any more)
         +- TaskGone                    its reply was removed after task_result_ttl
         +- TaskConflict                another request has that idempotency key
         +- TaskCancelled, TaskExpired  it ended without a reply
         +- NotYours (PermissionError)  another uid submitted it
         +- StoreError, NoStore         rgovd's disk; tasks are switched off

Every message names what was tried, and none has a prompt or a body in it, but for
the words of the provider's own.  All of them can be pickled.
"""

from __future__ import annotations

import errno
import json

__all__ = [
    "ConfigError",
    "Draining",
    "Error",
    "ForkError",
    "Invalid",
    "NoStore",
    "NotYours",
    "PermitLost",
    "QueueFull",
    "Rejected",
    "StoreError",
    "TaskCancelled",
    "TaskConflict",
    "TaskError",
    "TaskExpired",
    "TaskGone",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "UnknownTask",
    "UpstreamError",
    "UserLimit",
]


class Error(Exception):
    """Whatever rgov raises is one of these.  ``task``: the id of the task it is
    about, "" where it is about none."""

    task: str = ""


class ConfigError(Error, ValueError):
    """A setting of this process is wrong, or rgov is switched off here."""


class ForkError(Error, RuntimeError):
    """A request or permit of the parent process was used in a child."""


class Unavailable(Error, ConnectionError):
    """rgovd cannot be reached: it does not run, speaks another layout version,
    or does not let this user in.  The message names the socket."""


class Timeout(Error, TimeoutError):
    """The deadline passed: in the queue, upstream, or while rgovd was away.

    ``waited_for``: what it has waited for, as of a reply; empty where that is
    not known.  ``queue_position``: when it came; 0: it could start at once.
    ``retry_after``: of one that was refused since it would not start in time
    (``refuse_late``), the wait that was predicted, in seconds; else None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        waited_for: dict[str, float] | None = None,
        queue_position: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.waited_for = {} if waited_for is None else waited_for
        self.queue_position = queue_position
        self.retry_after = retry_after


class PermitLost(Error):
    """The permit is no longer held: it was settled, expired, or its session ended."""


# Of the limits that can refuse a request.
_SCOPES = {
    "max_queued": "host",
    "max_queued_bytes": "host",
    "max_queued_per_user": "user",
    "max_tasks": "host",
    "max_tasks_per_user": "user",
    "daily_quota": "model",
}


class Rejected(Error):
    """The request was refused before anything was sent upstream.

    ``reason`` is a word that does not change between releases: ``queue_full``,
    ``user_limit``, ``too_large``, ``draining``, ``invalid``, ``slots``,
    ``no_credentials``, ``no_memory``, ``body_changed``.  ``retry_after`` is when
    to come back, in seconds; None where coming back is no use or no time is
    known.  ``model_id`` and ``user`` are those of the request.  ``limit``: the
    setting of rgov.conf(5) that refused it (``max_queued``), or ``daily_quota``,
    the provider's; ``scope``: whose that is, "host", "user" or "model"; both ""
    where no single one did.  ``queue_position``: the place it would have had in
    a full queue; None where there is none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        retry_after: float | None = None,
        model_id: str = "",
        user: str = "",
        limit: str = "",
        queue_position: int | None = None,
    ) -> None:
        super().__init__(message)
        self.limit = limit
        self.scope = _SCOPES.get(limit, "")
        self.queue_position = queue_position
        self.reason = reason
        self.retry_after = retry_after
        self.model_id = model_id
        self.user = user


class QueueFull(Rejected):
    """Too much is queued: on the host, of this user, or in this process
    (reason ``slots``: see ``connect(slots=...)``)."""


class UserLimit(Rejected):
    """The user's own limit or budget is used up."""


class TooLarge(Rejected):
    """The request can never fit: its body, or its tokens above the whole quota."""


class Draining(Rejected):
    """rgovd is about to end; a successor may serve the request."""


class Invalid(Rejected, ValueError):
    """The request itself is wrong: a model id, user, header or timeout."""


class UpstreamError(Error):
    """The provider answered an error, or no usable answer came.

    ``status``: HTTP status, 0 when no answer came.  ``code``: the provider's
    name of the error (``ThrottlingException``), or rgov's own where there is no
    answer (``ConnectFailed``, ``Ambiguous``, ...).  ``message``: the words that
    came with it.  ``request_id``: the provider's, "" where unknown.  ``body``:
    the answer as it came.  ``attempts``: how often rgovd sent it.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status: int = 0,
        code: str = "",
        request_id: str = "",
        body: bytes = b"",
        attempts: int = 0,
        model_id: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.body = body
        self.attempts = attempts
        self.model_id = model_id

    def __str__(self) -> str:
        """One line for people: code, status, model, attempts and message."""
        where = f"HTTP {self.status}" if self.status else "no answer"
        text = f"{self.code or 'UpstreamError'} ({where})"
        if self.model_id:
            text += f" from {self.model_id[:80]}"
        if self.attempts:
            text += f" after {self.attempts} attempt{'s' if self.attempts != 1 else ''}"
        if self.message:
            text += f": {self.message}"
        if self.request_id:
            text += f" [request {self.request_id}]"
        return text


class TaskError(Error):
    """About a durable task, whose id is ``task``.  ``reason`` is a word that does
    not change between releases: ``no_task``, ``task_gone``, ``key_taken``,
    ``cancelled``, ``expired``, ``not_yours``, ``store_failed``, ``no_store``."""

    _reason = ""

    def __init__(
        self, message: str = "", *, task: str = "", reason: str | None = None
    ) -> None:
        super().__init__(message)
        self.task = task
        self.reason = self._reason if reason is None else reason


class UnknownTask(TaskError, LookupError):
    """There is no task of that id: there never was, or its record was removed
    ``task_record_ttl`` after its end."""

    _reason = "no_task"


class TaskGone(TaskError):
    """The task ended longer than ``task_result_ttl`` ago: its state is known, its
    reply was removed."""

    _reason = "task_gone"


class TaskConflict(TaskError):
    """Another request was submitted with this idempotency key."""

    _reason = "key_taken"


class TaskCancelled(TaskError):
    """The task was cancelled before it had a reply."""

    _reason = "cancelled"


class TaskExpired(TaskError):
    """The task had not ended when its own timeout passed."""

    _reason = "expired"


class NotYours(TaskError, PermissionError):
    """Another uid submitted the task, and this one is none of its readers."""

    _reason = "not_yours"


class StoreError(TaskError):
    """rgovd could not read or write its store of tasks; the message says why."""

    _reason = "store_failed"


class NoStore(TaskError):
    """Tasks are switched off in rgovd (``tasks = false``)."""

    _reason = "no_store"


# ------------------------------------------------- called by the extension
#
# It hands over what librgov said; which exception that is, and its words, are
# decided here and nowhere else.

# enum rgov_result of rgov.h, whose order is ABI.
(
    _OK,
    _UPSTREAM_ERROR,
    _UPSTREAM_FAILED,
    _DEADLINE,
    _CANCELLED,
    _QUEUE_FULL,
    _USER_LIMIT,
    _TOO_LARGE,
    _DRAINING,
    _INVALID,
    _NO_CREDENTIALS,
    _BODY_CHANGED,
    _REPLY_TOO_LARGE,
    _AMBIGUOUS,
    _NO_MEMORY,
    _NO_TASK,
    _TASK_GONE,
    _NOT_YOURS,
    _KEY_TAKEN,
    _STORE_FAILED,
    _NO_STORE,
) = range(21)

_REFUSALS: dict[int, tuple[type[Rejected], str]] = {
    _QUEUE_FULL: (QueueFull, "queue_full"),
    _USER_LIMIT: (UserLimit, "user_limit"),
    _TOO_LARGE: (TooLarge, "too_large"),
    _DRAINING: (Draining, "draining"),
    _INVALID: (Invalid, "invalid"),
    _NO_CREDENTIALS: (Rejected, "no_credentials"),
    _BODY_CHANGED: (Rejected, "body_changed"),
    _NO_MEMORY: (Rejected, "no_memory"),
}

_TASK_ERRORS: dict[int, tuple[type[TaskError], str]] = {
    _NO_TASK: (UnknownTask, "there is no such task (any more)"),
    _TASK_GONE: (TaskGone, "its reply was removed, task_result_ttl after its end"),
    _NOT_YOURS: (NotYours, "another uid submitted it"),
    _KEY_TAKEN: (TaskConflict, "another request was submitted with this key"),
    _STORE_FAILED: (StoreError, "rgovd's store of tasks failed"),
    _NO_STORE: (NoStore, "tasks are switched off in rgovd"),
}

_UPSTREAM_CODES = {
    _UPSTREAM_FAILED: "NoAnswer",
    _REPLY_TOO_LARGE: "ReplyTooLarge",
    _AMBIGUOUS: "Ambiguous",
}


def _what(model_id: str, user: str) -> str:
    """Both may be as long and as strange as a caller can make them."""
    return f"model {model_id[:80]!r}, user {user[:63]!r}"


def _about(said: str, model_id: str, user: str) -> str:
    """Of a task that another process submitted neither is known."""
    return f"{said} ({_what(model_id, user)})" if model_id else said


def _from_reply(
    result: int,
    model_id: str,
    user: str,
    status: int,
    code: str,
    message: str,
    request_id: str,
    body: bytes,
    attempts: int,
    retry_after: float | None,
    waited_for: dict[str, float],
    queue_position: int,
) -> Error:
    """The exception for an answer that is not a success."""
    if result == _DEADLINE:
        return Timeout(
            _about(message or "the deadline passed", model_id, user),
            waited_for=waited_for,
            queue_position=queue_position,
            retry_after=retry_after,
        )
    if result == _CANCELLED:
        return Error(_about("the request was cancelled", model_id, user))
    if result in _REFUSALS:
        kind, reason = _REFUSALS[result]
        text = _about(message or reason.replace("_", " "), model_id, user)
        if retry_after is not None:
            text += f"; come back in {retry_after:.1f} s"
        return kind(
            text,
            reason=reason,
            retry_after=retry_after,
            model_id=model_id,
            user=user,
            limit=_limit_of(code),
            queue_position=queue_position or None,
        )
    return UpstreamError(
        message or _message_of(body),
        status=status,
        code=code or _UPSTREAM_CODES.get(result, ""),
        request_id=request_id,
        body=body,
        attempts=attempts,
        model_id=model_id,
    )


def _from_task_answer(
    result: int,
    task: str,
    model_id: str,
    user: str,
    code: str,
    message: str,
    retry_after: float,
) -> Error:
    """The exception for a task that was not taken, or a question about one that
    was not answered.  ``task``: of zeros where there is none."""
    task = "" if task == _NO_ID else task
    if result in _TASK_ERRORS:
        kind, words = _TASK_ERRORS[result]
        about = f"task {task}: " if task else ""
        return kind(f"{about}{message or words}", task=task)
    error = _from_reply(
        result, model_id, user, 0, code, message, "", b"", 0, retry_after or None, {}, 0
    )
    error.task = task
    return error


_NO_ID = "00000000-0000-0000-0000-000000000000"


def _limit_of(code: str) -> str:
    """A refusal's code is the setting that refused it, where there is one."""
    limit = "daily_quota" if code == "DailyQuota" else code
    return limit if limit in _SCOPES else ""


def _message_of(body: bytes) -> str:
    """The provider's words, where rgovd did not hand them over separately."""
    try:
        fields = json.loads(body)
        return str(fields.get("message") or fields.get("Message") or "")
    except (ValueError, AttributeError):
        return ""


_LIBRARY_REFUSALS: dict[int, tuple[type[Rejected], str]] = {
    errno.EINVAL: (Invalid, "invalid"),
    errno.EMSGSIZE: (TooLarge, "too_large"),
    errno.EFBIG: (TooLarge, "too_large"),  # for this process: RLIMIT_FSIZE
    errno.EAGAIN: (QueueFull, "slots"),
    errno.ENOSPC: (Rejected, "no_memory"),
}


def _from_errno(error: int, why: str, words: str, model_id: str, user: str) -> Exception:
    """The exception for an error code of librgov (``error`` is positive)."""
    said = why or words
    about = _about(said, model_id, user)
    if error in _LIBRARY_REFUSALS:
        kind, reason = _LIBRARY_REFUSALS[error]
        if reason == "slots":
            about += "; connect(slots=...) asks for more"
        return kind(about, reason=reason, model_id=model_id, user=user)
    if error == errno.ETIMEDOUT:
        return Timeout(about)
    if error == errno.ENOMEM:
        return MemoryError(about)
    if error == errno.ESTALE:
        return Unavailable(
            f"rgovd was restarted and does not know this request any more: {about}"
        )
    return Unavailable(said)
