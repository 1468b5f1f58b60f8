"""Where a Governor takes durable tasks in, and finds them again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union

from . import _rgov
from .ask import Body, Priority, Question, TaskAsk
from .ask import body_bytes, converse_body, header_lines, priority_number
from .errors import Invalid
from .loops import Ended
from .status import STATES, TaskEvent, TaskRow, TaskState, TaskStatus, row_of
from .task import ASK_TIMEOUT, Task, TaskId, id_bytes, id_text

__all__ = ["TaskDesk"]

_Found = TypeVar("_Found")
_States = Iterable[Union[TaskState, str]]


class TaskDesk:
    """The half of :class:`Governor` that is about tasks."""

    # ------------------------------------------------ what the governor provides

    def _perform(self, ask: TaskAsk | Question) -> Ended:
        raise NotImplementedError

    async def _aperform(self, ask: TaskAsk | Question) -> Ended:
        raise NotImplementedError

    def _look(self, what: Callable[[_rgov.Handle], _Found]) -> _Found:
        raise NotImplementedError

    async def _alook(self, what: Callable[[_rgov.Handle], _Found]) -> _Found:
        raise NotImplementedError

    # ------------------------------------------------ handing in

    def submit(
        self,
        model_id: str,
        body: Body,
        *,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        key: str | None = None,
        callback: str | None = None,
        idempotent: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Task:
        """Hand an InvokeModel in that rgovd performs whatever dies meanwhile, this
        process included.  When this returns, it is on rgovd's disk.

        As for :meth:`invoke`, but: ``timeout``: seconds until the task expires,
        from now, by the wall clock; None: rgovd's ``task_timeout``.  ``key``: 1 to
        128 printable bytes; the same key with the same request gives the same
        task again, for as long as rgovd remembers it.  ``callback``: a loopback
        URL, allowed by ``task_callbacks``, that gets the end.
        ``idempotent=False``: where rgovd dies while it runs it fails with the code
        "Ambiguous" instead of being performed again.

        An exception that is not rgov's own (a signal's handler, a cancelled
        coroutine) can leave the task accepted though nobody got its id: with a
        ``key``, submitting again finds it.

        TaskConflict: another request has that key.  The kinds of Rejected, as
        ``invoke``; StoreError: rgovd cannot write; NoStore: ``tasks = false``;
        ConfigError: rgov is switched off here.
        """
        ask = _task_ask(
            _rgov.INVOKE_MODEL, model_id, body_bytes(body), user, priority, timeout,
            key, callback, idempotent, headers,
        )  # fmt: skip
        return self._task_of(ask, self._perform(ask))

    async def asubmit(
        self,
        model_id: str,
        body: Body,
        *,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        key: str | None = None,
        callback: str | None = None,
        idempotent: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Task:
        """:meth:`submit` for asyncio."""
        ask = _task_ask(
            _rgov.INVOKE_MODEL, model_id, body_bytes(body), user, priority, timeout,
            key, callback, idempotent, headers,
        )  # fmt: skip
        return self._task_of(ask, await self._aperform(ask))

    def submit_converse(
        self,
        model_id: str,
        messages: Body | Sequence[Mapping[str, Any]],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        key: str | None = None,
        callback: str | None = None,
        idempotent: bool = True,
    ) -> Task:
        """Converse as a task: the body as for :meth:`converse`, the rest as for
        :meth:`submit`."""
        body = converse_body(messages, system, inference_config, tool_config, extra)
        ask = _task_ask(
            _rgov.CONVERSE, model_id, body, user, priority, timeout, key, callback,
            idempotent, None,
        )  # fmt: skip
        return self._task_of(ask, self._perform(ask))

    async def asubmit_converse(
        self,
        model_id: str,
        messages: Body | Sequence[Mapping[str, Any]],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        user: str | None = None,
        priority: Priority | None = None,
        timeout: float | None = None,
        key: str | None = None,
        callback: str | None = None,
        idempotent: bool = True,
    ) -> Task:
        """:meth:`submit_converse` for asyncio."""
        body = converse_body(messages, system, inference_config, tool_config, extra)
        ask = _task_ask(
            _rgov.CONVERSE, model_id, body, user, priority, timeout, key, callback,
            idempotent, None,
        )  # fmt: skip
        return self._task_of(ask, await self._aperform(ask))

    def _task_of(self, ask: TaskAsk, ended: Ended) -> Task:
        assert isinstance(ended, TaskStatus)
        return Task(self, ended.id, ask.model_id, ask.user)

    # ------------------------------------------------ finding again

    def task(self, task_id: TaskId) -> Task:
        """The task of that id, from whichever process it came.  Asks nobody: an
        id that rgovd does not know shows at the first question.  Invalid (a
        ValueError): it is no id."""
        return Task(self, task_id)

    def tasks(
        self,
        user: str | None = None,
        states: _States | None = None,
        text: str | None = None,
        limit: int = 100,
        after: Task | TaskRow | TaskId | None = None,
    ) -> list[TaskRow]:
        """Tasks that this uid may see, the newest first; all conditions at once.

        ``user``: of this one.  ``states``: in one of these.  ``text``: in the
        model id, the user or the key.  ``limit``: 1 to 1000 rows.  ``after``: the
        last of the page before, for the next one.  Invalid: one of these is
        wrong.  StoreError: there is no answer from the store, or tasks are
        switched off.

        It waits in one piece: a signal's handler is heard when rgovd has
        answered, about 0.1 ms later; where it hangs, after 60 s.
        """
        ask = _list_ask(user, states, text, limit, after)
        return [row_of(*row) for row in self._look(lambda h: h.task_list(*ask))]

    async def atasks(
        self,
        user: str | None = None,
        states: _States | None = None,
        text: str | None = None,
        limit: int = 100,
        after: Task | TaskRow | TaskId | None = None,
    ) -> list[TaskRow]:
        """:meth:`tasks` for asyncio."""
        ask = _list_ask(user, states, text, limit, after)
        return [row_of(*row) for row in await self._alook(lambda h: h.task_list(*ask))]

    def _history(self, id: bytes) -> list[TaskEvent]:
        return [TaskEvent(*row) for row in self._look(lambda h: h.task_history(id))]

    async def _ahistory(self, id: bytes) -> list[TaskEvent]:
        rows = await self._alook(lambda h: h.task_history(id))
        return [TaskEvent(*row) for row in rows]


def _task_ask(
    operation: int,
    model_id: str,
    body: bytes | str,
    user: str | None,
    priority: str | None,
    timeout: float | None,
    key: str | None,
    callback: str | None,
    idempotent: bool,
    headers: Mapping[str, str] | None,
) -> TaskAsk:
    return TaskAsk(
        _rgov.TASK | operation,
        model_id,
        body,
        "-" if user is None else user,
        priority_number("interactive" if priority is None else priority),
        ASK_TIMEOUT,
        header_lines(headers),
        0 if idempotent else _rgov.NOT_IDEMPOTENT,
        None,
        None,
        timeout,
        key,
        callback,
    )


def _list_ask(
    user: str | None,
    states: _States | None,
    text: str | None,
    limit: int,
    after: Task | TaskRow | TaskId | None,
) -> tuple[str | None, str | None, int, int, bytes | None]:
    if not 1 <= limit <= 1000:
        raise Invalid(f"limit: expected 1 to 1000, found {limit}", reason="invalid")
    if after is not None and not isinstance(after, (str, uuid.UUID)):
        after = after.id
    older_than = None if after is None else id_bytes(id_text(after))
    return user, text, _mask_of(states), limit, older_than


def _mask_of(states: _States | None) -> int:
    """As librgov takes it; 0: all."""
    if states is None:
        return 0
    if isinstance(states, str):  # a TaskState is one, too
        states = (states,)
    mask = 0
    for state in states:
        try:
            mask |= 1 << STATES.index(TaskState(state))
        except ValueError:
            known = ", ".join(s.value for s in STATES)
            raise Invalid(
                f"states: expected {known}, found {state!r}", reason="invalid"
            ) from None
    if mask == 0:
        raise Invalid("states: an empty one selects nothing", reason="invalid")
    return mask
