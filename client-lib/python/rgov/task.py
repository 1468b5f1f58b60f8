"""A durable task: a call that rgovd keeps on disk until it has ended."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Generator, Iterator
from typing import Any, NoReturn, Protocol, Union

from . import _rgov
from .ask import Question
from .errors import Error, Invalid, TaskCancelled, TaskExpired, Timeout
from .loops import Ended
from .reply import Reply
from .status import TaskEvent, TaskState, TaskStatus

__all__ = ["Task", "TaskId"]

# How long a question that waits for nothing may take.
ASK_TIMEOUT = 60.0
# The longest wait of one question: who waits longer asks again.
_WAIT_MAX = 300.0

TaskId = Union[str, uuid.UUID]

_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def id_text(task_id: TaskId) -> str:
    """The id as rgov writes it.  Invalid: it is none."""
    text = str(task_id) if isinstance(task_id, uuid.UUID) else task_id
    if not isinstance(text, str):
        raise TypeError(f"an id is str or uuid.UUID, not {type(task_id).__name__}")
    if _ID.fullmatch(text) is None:
        raise Invalid(
            f"id of a task: expected a UUID, 8-4-4-4-12 hexadecimal digits, "
            f"found {text[:40]!r}",
            reason="invalid",
        )
    return text.lower()


def id_bytes(text: str) -> bytes:
    """As librgov takes it."""
    return bytes.fromhex(text.replace("-", ""))


class Asker(Protocol):
    """What a task needs of its governor."""

    def _perform(self, ask: Question) -> Ended: ...

    async def _aperform(self, ask: Question) -> Ended: ...

    def _history(self, id: bytes) -> list[TaskEvent]: ...

    async def _ahistory(self, id: bytes) -> list[TaskEvent]: ...


class Task:
    """A durable task, by its id; made by ``gov.submit(...)``, or by
    ``gov.task(id)`` in any process of this uid.

    It holds the id and the governor, nothing else: each method asks rgovd.  Every
    thread, greenlet, event loop and forked child may use it.  Two of the same id
    are equal; it cannot be pickled: hand ``task.id`` over.

    All methods may raise UnknownTask, NotYours, StoreError, NoStore, Unavailable
    and Timeout (rgovd did not answer the question).  Whoever stops waiting, by a
    signal's handler or as a cancelled coroutine, leaves the task as it is:
    :meth:`cancel` ends it.
    """

    __slots__ = ("id", "_gov", "_bytes", "_model_id", "_user", "__weakref__")

    id: str

    def __init__(
        self, gov: Asker, task_id: TaskId, model_id: str = "", user: str = ""
    ) -> None:
        """``model_id`` and ``user``: where they are known, for the Reply."""
        self.id = id_text(task_id)
        self._gov = gov
        self._bytes = id_bytes(self.id)
        self._model_id = model_id
        self._user = user

    # ------------------------------------------------------------ how it stands

    def status(self, timeout: float = ASK_TIMEOUT) -> TaskStatus:
        """How it stands now.  ``timeout``: how long the question may take, where
        rgovd is away; then Timeout."""
        return _status(self._perform(self._ask(_rgov.TASK_SHOW, timeout)))

    async def astatus(self) -> TaskStatus:
        """:meth:`status` for asyncio."""
        return _status(await self._aperform(self._show()))

    @property
    def state(self) -> TaskState:
        """Where it is now; asks rgovd, as :meth:`status`."""
        return self.status().state

    def done(self) -> bool:
        """Has it ended?  Asks rgovd, as :meth:`status`."""
        return self.status().done

    # ------------------------------------------------------------ its end

    def wait(self, timeout: float | None = None) -> TaskStatus:
        """How it stands once it has ended, or after ``timeout`` seconds as it
        stands then (0: at once; None: without end).  Woken, not polled."""
        until = _until(timeout)
        while True:
            status = _status(self._perform(self._wait(until)))
            if status.done or _left(until) <= 0:
                return status

    async def await_status(self, timeout: float | None = None) -> TaskStatus:
        """:meth:`wait` for asyncio."""
        until = _until(timeout)
        while True:
            status = _status(await self._aperform(self._wait(until)))
            if status.done or _left(until) <= 0:
                return status

    def result(self, timeout: float | None = None) -> Reply:
        """The reply, once it has ended; waits at most ``timeout`` seconds (0: only
        looks; None: without end).

        Timeout: it has not ended by then, and goes on.  Of a failed task the
        exception that ``invoke`` would have raised (UpstreamError, a kind of
        Rejected); TaskCancelled; TaskExpired: its own time was over; TaskGone: it
        ended longer than ``task_result_ttl`` ago, and its reply was removed.  All
        of them have its id in ``.task``.

        ``Reply.model_id`` is "" where neither this object nor rgovd knows the
        model: another process submitted it, and no fallback answered.
        """
        if timeout is None or timeout > 0:
            status = self.wait(timeout)
            if not status.done:
                self._raise_not_yet(status, timeout)
        return self._outcome(self._perform(self._fetch()), timeout)

    async def aresult(self, timeout: float | None = None) -> Reply:
        """:meth:`result` for asyncio; ``await task`` is the same without a
        timeout."""
        if timeout is None or timeout > 0:
            status = await self.await_status(timeout)
            if not status.done:
                self._raise_not_yet(status, timeout)
        return self._outcome(await self._aperform(self._fetch()), timeout)

    def __await__(self) -> Generator[Any, None, Reply]:
        return self.aresult().__await__()

    # ------------------------------------------------------------ the rest

    def cancel(self) -> TaskStatus:
        """It is no longer wanted: how it stands then.  One that is with the
        provider may still be running in this answer; one that has ended stays as
        it is."""
        return _status(self._perform(self._cancel()))

    async def acancel(self) -> TaskStatus:
        """:meth:`cancel` for asyncio."""
        return _status(await self._aperform(self._cancel()))

    def history(self) -> list[TaskEvent]:
        """What happened to it, the oldest first.  Waits as ``gov.tasks()``."""
        with self._named():
            return self._gov._history(self._bytes)

    async def ahistory(self) -> list[TaskEvent]:
        """:meth:`history` for asyncio."""
        with self._named():
            return await self._gov._ahistory(self._bytes)

    # ------------------------------------------------------------ questions

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors in it know whose they are."""
        try:
            yield
        except Error as error:
            error.task = self.id
            raise

    def _perform(self, ask: Question) -> Ended:
        with self._named():
            return self._gov._perform(ask)

    async def _aperform(self, ask: Question) -> Ended:
        with self._named():
            return await self._gov._aperform(ask)

    def _ask(self, what: int, timeout: float) -> Question:
        return Question(what, self._bytes, timeout, 0, self._model_id, self._user)

    def _show(self) -> Question:
        return self._ask(_rgov.TASK_SHOW, ASK_TIMEOUT)

    def _fetch(self) -> Question:
        return self._ask(_rgov.TASK_FETCH, ASK_TIMEOUT)

    def _cancel(self) -> Question:
        return self._ask(_rgov.TASK_CANCEL, ASK_TIMEOUT)

    def _wait(self, until: float | None) -> Question:
        left = _left(until)
        return self._ask(_rgov.TASK_WAIT, left) if left > 0 else self._show()

    # ------------------------------------------------------------ answers

    def _outcome(self, ended: Ended, timeout: float | None) -> Reply:
        """What a fetch found: the reply, or why there is none."""
        assert isinstance(ended, tuple)
        status, found = ended
        if found is None:
            self._raise_not_yet(status, timeout)
        if status.state is TaskState.CANCELLED:
            raise TaskCancelled(f"task {self.id} was cancelled", task=self.id)
        if status.state is TaskState.EXPIRED:
            raise TaskExpired(
                f"task {self.id} had not ended when its own timeout passed",
                task=self.id,
            )
        if isinstance(found, Error):
            found.task = self.id
        if isinstance(found, BaseException):
            raise found
        return found

    def _raise_not_yet(self, status: TaskStatus, timeout: float | None) -> NoReturn:
        place = "" if status.position is None else f", place {status.position}"
        error = Timeout(
            f"task {self.id} has not ended within {timeout or 0:g} s: "
            f"it is {status.state}{place}"
        )
        error.task = self.id
        raise error

    # ------------------------------------------------------------ as an object

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Task cannot be pickled: hand task.id over, and gov.task(id) is it again"
        )

    def __repr__(self) -> str:
        return f"<rgov.Task {self.id}>"


def _status(ended: Ended) -> TaskStatus:
    assert isinstance(ended, TaskStatus)
    return ended


def _until(timeout: float | None) -> float | None:
    """CLOCK_MONOTONIC.  ValueError: it is no number of seconds."""
    if timeout is None:
        return None
    if timeout != timeout:
        raise Invalid("timeout is not a number", reason="invalid")
    return time.monotonic() + timeout


def _left(until: float | None) -> float:
    """Seconds of the next question."""
    if until is None:
        return _WAIT_MAX
    return min(until - time.monotonic(), _WAIT_MAX)
