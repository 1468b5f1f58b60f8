"""rgov under Celery: tasks whose model calls stand in the host's queue.

::

    app = celery.Celery("reports", broker=..., task_cls="rgov.celery:GovernedTask")
    rgov.celery.configure(app)

    @app.task(bind=True)
    def analyze(self, text):
        return self.invoke(MODEL_ID, body_of(text)).json()

    analyze.apply_async((text,), headers=rgov.celery.headers(user="alice"))

``base=GovernedTask`` governs a single task.  Code of tasks stays as it is: what
changes is that a refusal of rgovd that leaves the task becomes a bounded retry.

Celery's ``rate_limit`` counts in each worker; rgovd's limits hold for the host, for
its gunicorn workers as well.  Its queue is fair to users among the tasks that *run*:
what the broker still holds comes in the broker's order.  A waiting task costs next to
nothing, so let many run: ``--pool threads --concurrency 64``.

How a request ends before its time, and its slot comes back at once:

* prefork: ``SoftTimeLimitExceeded`` leaves invoke() like any exception of a signal
  handler, within 0.2 s; ``revoke(terminate=True)``, the hard time limit and
  ``kill -9`` end the child, which rgovd sees.
* threads, solo: Celery has neither time limits nor termination there.  Governed
  calls keep the time limits all the same.
* gevent: nothing is needed where ``--pool gevent`` patched the process, else
  ``RGOV_WAIT=gevent``.  Eventlet is not supported.

Nothing is opened before a fork; a child registers itself with its first request, so
no signal of Celery has to do it.
"""

from __future__ import annotations

import datetime
import functools
import logging
import math
import random
import time
from collections.abc import Sequence
from typing import Any

import celery  # type: ignore[import]
import celery.exceptions  # type: ignore[import]
import celery.signals  # type: ignore[import]

from .ask import Body, Priority
from .environment import enabled
from .errors import Draining, Error, Invalid, QueueFull, Timeout
from .errors import Unavailable, UserLimit
from .governor import Governor, connect
from .permit import Permit
from .reply import Reply

__all__ = ["GovernedTask", "configure", "countdown", "headers"]

_log = logging.getLogger("rgov")

# Message headers, and what tasks inherit that a task sends.
_USER, _PRIORITY, _DEADLINE = "rgov_user", "rgov_priority", "rgov_deadline"
_INHERITED = (_USER, _PRIORITY, _DEADLINE)
# Of one message's refusals so far; not Celery's retries, which are the task's own.
_REFUSALS = "rgov_refusals"

# Seconds.  Governor.invoke()'s own default.
_CALL_TIMEOUT = 300.0
# A governed call ends so long before its time limit strikes...
_MARGIN = 1.0
# ... but is never given less than this.
_LEAST_TIMEOUT = 1.0
# kombu's default for Redis.
_VISIBILITY_TIMEOUT = 3600.0
_APP_BYTES = 63  # of a label, rgov(3)

_Refused = (QueueFull, UserLimit, Draining, Unavailable, Timeout)


def headers(
    *,
    user: str | None = None,
    priority: Priority | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """For ``apply_async(headers=...)``: on whose behalf the task asks.

    ``user``: the fairness key.  ``priority``: the class of its requests.
    ``timeout``: seconds from now after which nobody wants the answer; waiting in the
    broker counts, and the clocks of the hosts should agree.  None: not said.  Tasks
    that the task sends, and its retries, inherit all three.
    """
    said = {
        _USER: user,
        _PRIORITY: priority,
        _DEADLINE: None if timeout is None else time.time() + timeout,
    }
    return {name: value for name, value in said.items() if value is not None}


def countdown(
    refusals: int, retry_after: float | None, cap: float, chance: float
) -> float:
    """Seconds until a refused task comes back.

    ``refusals``: how many it has had, this one included; ``retry_after``: rgovd's
    prediction, None where there is none; ``cap``: the most; ``chance``: 0 to 1, at
    random.  Without a prediction it doubles from 1 s.  A fifth is added by chance,
    below the cap too, so that what was refused together does not return together.
    """
    wait = 2.0 ** min(refusals - 1, 30) if retry_after is None else retry_after
    return min(max(wait, 0.1), cap / 1.2) * (1 + chance / 5)


class GovernedTask(celery.Task):  # type: ignore[misc]
    """A task with a governor.  See the module for how to use it.

    An exception of rgovd that says "come back later" (QueueFull, UserLimit, Draining,
    Unavailable, and a Timeout that was predicted) sends the task again, at most
    ``rgov_max_retries`` times, then it fails with that exception.  What the task, or
    its ``autoretry_for``, catches first is theirs, and Celery's count of retries stays
    as it is.  Anything else (TooLarge, Invalid, Timeout, UpstreamError, whose retries
    rgovd has made) fails at once.

    The pause is what rgovd predicts, at most ``rgov_max_countdown`` seconds and a
    quarter of the broker's ``visibility_timeout``: a longer one is delivered twice.
    """

    abstract = True

    #: Class of the requests where neither call nor message says another.
    rgov_priority: Priority = "interactive"
    #: How often a refused task comes back.
    rgov_max_retries = 20
    #: Seconds.
    rgov_max_countdown = 300.0

    @property
    def governor(self) -> Governor:
        """This process's governor; lazy, shared by all tasks of the application."""
        label = f"celery:{self.app.main or '-'}".encode()[:_APP_BYTES]
        return _governor(label.decode(errors="ignore"))

    def invoke(
        self,
        model_id: str,
        body: Body,
        *,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reply:
        """:meth:`rgov.Governor.invoke` for this task.

        ``user`` and ``priority``: None: as the message says, else "-" and
        ``rgov_priority``.  ``timeout``: seconds; None: 300; in any case it ends
        before the task's time limit and the message's deadline.  Timeout: that has
        passed already.  Invalid: a header of the message is wrong.
        """
        who = self._who(user, priority, timeout)
        return self.governor.invoke(model_id, body, **who, **options)

    def converse(
        self,
        model_id: str,
        messages: Body | Sequence[Any],
        *,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Reply:
        """:meth:`rgov.Governor.converse` for this task; else as :meth:`invoke`."""
        who = self._who(user, priority, timeout)
        return self.governor.converse(model_id, messages, **who, **options)

    def permit(
        self,
        model_id: str,
        *,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> Permit:
        """:meth:`rgov.Governor.permit` for this task; else as :meth:`invoke`."""
        who = self._who(user, priority, timeout)
        return self.governor.permit(model_id, **who, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's call of the task."""
        request = self.request
        if request.called_directly:
            return super().__call__(*args, **kwargs)
        try:
            return self.run(*args, **kwargs)
        except _Refused as error:
            if isinstance(error, Timeout) and error.retry_after is None:
                raise
            raise self._again(request, error) from error

    # ------------------------------------------------------------ the message

    def _who(
        self, user: str | None, priority: Priority | None, timeout: float | None
    ) -> dict[str, Any]:
        """The arguments that a request takes from its message."""
        request = self.request
        return {
            "user": user or _text(request, _USER) or "-",
            "priority": priority or _text(request, _PRIORITY) or self.rgov_priority,
            "timeout": self._timeout(request, timeout),
        }

    def _timeout(self, request: Any, wanted: float | None) -> float:
        """Seconds that a request may take from now."""
        left = _CALL_TIMEOUT if wanted is None else wanted
        hard, soft = request.timelimit or (None, None)
        limit = soft or self.soft_time_limit or hard or self.time_limit
        if limit:
            begun = request.get("rgov_begun", time.monotonic())
            until = begun + limit - min(_MARGIN, limit / 10)
            left = min(left, max(until - time.monotonic(), _LEAST_TIMEOUT))
        deadline = _deadline(request)
        if deadline is not None:
            left = min(left, deadline - time.time())
            if left <= 0:
                raise Timeout("the deadline of the task's message has passed")
        return left

    # ------------------------------------------------------------ refusals

    def _again(self, request: Any, error: Error) -> Exception:
        """Sends the task again; returns what tells Celery so, or the error where
        the task has ended with it."""
        refusals = int(_header(request, _REFUSALS) or 0) + 1
        pause = self._pause(refusals, error)
        deadline = _deadline(request)
        is_late = deadline is not None and time.time() + pause >= deadline
        if refusals > self.rgov_max_retries or is_late:
            return error
        again = self._copy(request, refusals, pause)
        outcome: Exception
        try:
            if not request.is_eager:  # apply() sends a Retry by itself
                again.apply_async()
            outcome = celery.exceptions.Retry(
                exc=error, when=pause, is_eager=request.is_eager, sig=again
            )
        except self.OperationalError as broken:
            # The broker is away.  Unacknowledged, the message is still there.
            if not self.acks_late:
                return error
            outcome = celery.exceptions.Reject(broken, requeue=True)
        return outcome

    def _pause(self, refusals: int, error: Error) -> float:
        cap = min(self.rgov_max_countdown, _visibility_timeout(self.app) / 4)
        retry_after = getattr(error, "retry_after", None)
        return countdown(refusals, retry_after, cap, random.random())

    def _copy(self, request: Any, refusals: int, pause: float) -> Any:
        """The task as it was sent, as a signature."""
        options: dict[str, Any] = {
            "headers": {**(request.headers or {}), _REFUSALS: refusals}
        }
        if isinstance(request.expires, str):
            # Celery 5.2 cannot send the text again that it received.
            options["expires"] = datetime.datetime.fromisoformat(request.expires)
        return self.signature_from_request(
            request, countdown=pause, retries=request.retries, **options
        )


# ---------------------------------------------------------------- headers


def _header(request: Any, name: str) -> Any:
    """Celery makes custom headers attributes of the request; apply() keeps them in
    ``headers``."""
    value = request.get(name)
    return (request.headers or {}).get(name) if value is None else value


def _text(request: Any, name: str) -> Any:
    value = _header(request, name)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"message header {name}: expected a text, found {value!r}")
    return value


def _deadline(request: Any) -> float | None:
    """Seconds since 1970, or None."""
    value = _header(request, _DEADLINE)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid(f"message header {_DEADLINE}: expected a time, found {value!r}")
    if not math.isfinite(value):
        raise Invalid(f"message header {_DEADLINE}: {value!r} is no time")
    return float(value)


def _hand_on(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """before_task_publish: what a task sends is on behalf of the same user."""
    parent = celery.current_task
    if headers is None or not parent:
        return
    for name in _INHERITED:
        if name not in headers:
            value = _header(parent.request, name)
            if value is not None:
                headers[name] = value


def _begin(task: Any = None, **_: Any) -> None:
    """task_prerun: its time limit runs from here."""
    task.request.rgov_begun = time.monotonic()


# ---------------------------------------------------------------- the process

# What is known of this worker: how many tasks run at a time in one process.
_tasks_at_a_time = 1


@functools.lru_cache(maxsize=None)
def _governor(label: str) -> Governor:
    # connect()'s own default is enough for few.
    slots = min(_tasks_at_a_time, 1024) if _tasks_at_a_time > 64 else None
    return connect(app=label, slots=slots)


def _look_at_worker(sender: Any = None, **_: Any) -> None:
    """worker_init: what kind of pool will run the tasks."""
    global _tasks_at_a_time
    pool = str(sender.pool_cls)
    if "thread" in pool or "gevent" in pool:
        _tasks_at_a_time = int(sender.concurrency)
    if "eventlet" in pool:
        _log.warning(
            "rgov: eventlet is not supported: a governed call that waits stops all"
            " tasks of its worker; use --pool threads or gevent"
        )


celery.signals.worker_init.connect(_look_at_worker, weak=False)
celery.signals.task_prerun.connect(_begin, weak=False)
celery.signals.before_task_publish.connect(_hand_on, weak=False)


# ---------------------------------------------------------------- settings

# What governed tasks want of Celery, and what happens otherwise.
_SETTINGS = {
    "worker_prefetch_multiplier": (
        1,
        "a worker keeps tasks waiting that another could run",
    ),
    "task_acks_late": (True, "a task is lost with the process that runs it"),
    "task_reject_on_worker_lost": (
        True,
        "a task whose process is killed fails instead of running again",
    ),
}
# It asks the result backend.
_DEDUPLICATE = (
    "worker_deduplicate_successful_tasks",
    True,
    "a task that succeeded while the broker was away runs again",
)


def configure(app: Any) -> list[str]:
    """Give a Celery application the settings that governed tasks want, after its
    own configuration has been read.

    ``worker_prefetch_multiplier`` 1, ``task_acks_late``,
    ``task_reject_on_worker_lost`` and, with a result backend,
    ``worker_deduplicate_successful_tasks``.  So a task may begin twice, and should be
    one that may.  What the application sets itself stays; where that fights with
    governed calls, a warning is logged on the logger "rgov".  Returns the warnings.
    Where rgov is switched off (:func:`rgov.enabled`) nothing is changed.
    """
    if not enabled():
        return []
    wanted = [(key, value, why) for key, (value, why) in _SETTINGS.items()]
    if app.conf.result_backend:
        wanted.append(_DEDUPLICATE)
    warnings = []
    for key, value, why in wanted:
        if not app.conf.value_set_for(key):
            app.conf[key] = value
        elif app.conf[key] != value:
            warnings.append(f"{key} = {app.conf[key]!r}, not {value!r}: {why}")
    warnings += _other_conflicts(app)
    for warning in warnings:
        _log.warning("rgov: Celery's %s", warning)
    return warnings


def _other_conflicts(app: Any) -> list[str]:
    found = []
    if app.conf.task_default_rate_limit:
        found.append(
            f"task_default_rate_limit = {app.conf.task_default_rate_limit!r} counts in"
            " each worker by itself, beside rgovd's limits of the host"
        )
    longest = app.conf.task_time_limit or app.conf.task_soft_time_limit or _CALL_TIMEOUT
    pause = min(GovernedTask.rgov_max_countdown, _visibility_timeout(app) / 4)
    if _visibility_timeout(app) < longest + pause:
        found.append(
            f"visibility_timeout = {_visibility_timeout(app):g} s: a task may run for"
            f" {longest:g} s after a pause of {pause:g} s and would run twice; raise it"
            " (broker_transport_options) or lower task_time_limit"
        )
    return found


def _visibility_timeout(app: Any) -> float:
    """Seconds after which the broker delivers an unfinished message again."""
    options = app.conf.broker_transport_options or {}
    return float(options.get("visibility_timeout") or _VISIBILITY_TIMEOUT)
