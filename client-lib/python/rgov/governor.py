"""The governor: what a worker calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar

from . import _rgov, environment, green
from .ask import AnyAsk, Ask, Body, Priority
from .ask import body_bytes, converse_body, header_lines, priority_number, ringing
from .desk import TaskDesk
from .errors import ConfigError, Error, Unavailable
from .loops import AsyncioSession, Ended, LoopSession
from .permit import Permit
from .reply import Progress, Reply

__all__ = ["Governor", "PermitRequest", "connect"]

Wait = Literal["auto", "block", "gevent"]

_CONNECT_TIMEOUT = 2.0
# An event loop has more requests out at a time than threads are likely to have.
_LOOP_SLOTS = 256

_NINE = (
    "total_requests",
    "successful_requests",
    "failed_requests",
    "throttled_requests",
    "active_requests",
    "queue_size",
    "active_users",
    "avg_wait_time",
    "avg_execution_time",
)
_LIMITS = ("max_concurrent_requests", "requests_per_minute", "max_requests_per_user")

_Session = TypeVar("_Session", bound=LoopSession)
_Found = TypeVar("_Found")


def connect(
    name: str | None = None,
    *,
    socket: str | os.PathLike[str] | None = None,
    app: str | None = None,
    timeout: float | None = None,
    slots: int | None = None,
    wait: Wait = "auto",
) -> Governor:
    """Make a :class:`Governor`.  Nothing is opened before its first request, so
    a process may connect before it forks; every child registers for itself.

    ``name``: which governor; None: ``RGOV_NAME``, else "default".  ``socket``: its
    socket; None: found by name.  ``app``: label of this application; None: the
    program's name.  ``timeout``: how long a request may look for rgovd, in
    seconds; None: 2.  ``slots``: requests this process can have outstanding, at
    most 1024; None: 64 for threads, 256 for each event loop.  ``wait``: "block"
    sleeps in the kernel, "gevent" in the hub, "auto" finds out at each call
    (``RGOV_WAIT`` decides where it is set).

    ConfigError: one of these is wrong.
    """
    return Governor(
        name, socket=socket, app=app, timeout=timeout, slots=slots, wait=wait
    )


def _wait_mode(wait: str) -> str:
    if wait == "auto":
        wait = os.environ.get("RGOV_WAIT", "").strip() or "auto"
    if wait not in ("auto", "block", "gevent"):
        raise ConfigError(
            f"wait (or RGOV_WAIT): expected auto, block or gevent, found {wait!r}"
        )
    return wait


class Governor(TaskDesk):
    """A handle on one rgovd.  Any thread, greenlet, event loop and forked child
    may use it.  Made by :func:`connect`.

    All requests take: ``user``, the fairness key, an opaque text of 1 to 63
    bytes; ``priority``, "interactive" (somebody waits for it; the default, as
    in C), "normal" or "batch"; ``timeout`` in seconds from now to the very end
    (None: 600), after which Timeout is raised.

    All may raise Unavailable, Timeout and the kinds of Rejected; whatever a signal
    handler raises while they wait comes out within 0.2 s, and the request is
    given up before that.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        socket: str | os.PathLike[str] | None = None,
        app: str | None = None,
        timeout: float | None = None,
        slots: int | None = None,
        wait: Wait = "auto",
    ) -> None:
        """See :func:`connect`."""
        self._wait = _wait_mode(wait)
        self._name = name
        self._socket = None if socket is None else os.fspath(socket)
        self._app = app
        self._timeout = _CONNECT_TIMEOUT if timeout is None else float(timeout)
        self._slots = slots
        if slots is not None and not 1 <= slots <= 1024:
            raise ConfigError(f"slots: expected 1 to 1024, found {slots}")
        self._handle = self._open(slots or 0)
        self._sessions: weakref.WeakKeyDictionary[Any, LoopSession] = (
            weakref.WeakKeyDictionary()
        )
        self._closed = False
        self._steps_aside = not environment.enabled()
        self._compare_limits = environment.has_old_limits()

    def _open(self, slots: int) -> _rgov.Handle:
        return _rgov.Handle(
            self._name, self._socket, self._app, self._timeout, slots
        )

    # ------------------------------------------------------------ calls

    def invoke(
        self,
        model_id: str,
        body: Body,
        *,
        user: str = "-",
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
    ) -> Reply:
        """InvokeModel: rgovd makes the call, when the limits allow it.

        ``body``: the model's JSON; bytes and str are not copied in this process,
        a mapping is written as compact JSON.  ``headers``: of rgovd's allow-list
        (rgov(3)).  ``idempotent=False``: never sent twice, even where a restart
        of rgovd makes its fate unknown; it then fails with the code
        "Ambiguous".  Retries of throttles and transients are rgovd's business.

        Returns a :class:`Reply` of status 2xx.  UpstreamError: the provider
        answered an error, or no usable answer came.  ConfigError: rgov is
        switched off here (:func:`rgov.enabled`).
        """
        ask = Ask(
            _rgov.INVOKE_MODEL,
            model_id,
            body_bytes(body),
            user,
            priority_number(priority),
            timeout,
            header_lines(headers),
            0 if idempotent else _rgov.NOT_IDEMPOTENT,
            None,
            None,
        )
        return _reply(self._perform(ask))

    async def ainvoke(
        self,
        model_id: str,
        body: Body,
        *,
        user: str = "-",
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
        headers: Mapping[str, str] | None = None,
        idempotent: bool = True,
    ) -> Reply:
        """:meth:`invoke` for asyncio.  A cancelled task gives its request up."""
        ask = Ask(
            _rgov.INVOKE_MODEL,
            model_id,
            body_bytes(body),
            user,
            priority_number(priority),
            timeout,
            header_lines(headers),
            0 if idempotent else _rgov.NOT_IDEMPOTENT,
            None,
            None,
        )
        return _reply(await self._aperform(ask))

    def converse(
        self,
        model_id: str,
        messages: Body | Sequence[Mapping[str, Any]],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        user: str = "-",
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
        idempotent: bool = True,
    ) -> Reply:
        """Converse: as :meth:`invoke`, with the one body all models share.

        ``messages``: a list of messages as the provider defines them, put
        together with ``system`` (a text or blocks), ``inference_config``,
        ``tool_config`` and ``extra`` (further top-level fields); or a whole body
        as a mapping, bytes or str, and then none of these (TypeError).
        """
        body = converse_body(messages, system, inference_config, tool_config, extra)
        ask = Ask(
            _rgov.CONVERSE,
            model_id,
            body,
            user,
            priority_number(priority),
            timeout,
            None,
            0 if idempotent else _rgov.NOT_IDEMPOTENT,
            None,
            None,
        )
        return _reply(self._perform(ask))

    async def aconverse(
        self,
        model_id: str,
        messages: Body | Sequence[Mapping[str, Any]],
        *,
        system: str | Sequence[Mapping[str, Any]] | None = None,
        inference_config: Mapping[str, Any] | None = None,
        tool_config: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
        user: str = "-",
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
        idempotent: bool = True,
    ) -> Reply:
        """:meth:`converse` for asyncio.  A cancelled task gives its request up."""
        body = converse_body(messages, system, inference_config, tool_config, extra)
        ask = Ask(
            _rgov.CONVERSE,
            model_id,
            body,
            user,
            priority_number(priority),
            timeout,
            None,
            0 if idempotent else _rgov.NOT_IDEMPOTENT,
            None,
            None,
        )
        return _reply(await self._aperform(ask))

    # ------------------------------------------------------------ permits

    def permit(
        self,
        model_id: str,
        *,
        user: str = "-",
        tokens: int | None = None,
        input_tokens: int | None = None,
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
    ) -> Permit:
        """Wait for a place in the limits, and make the call yourself.

        ``tokens``: the most the call may answer (its ``max_tokens``);
        ``input_tokens``: an estimate of what it sends; both are reserved, and
        corrected by :meth:`Permit.settle`.  None: not known.

        Returns a :class:`Permit` that is held, best used in a ``with`` block.
        Where rgov is switched off it is granted at once and holds nothing.
        """
        if self._steps_aside:
            return Permit(None, model_id, user)
        ask = _permit_ask(model_id, user, tokens, input_tokens, priority, timeout)
        return Permit(_ticket(self._perform(ask)), model_id, user)

    def apermit(
        self,
        model_id: str,
        *,
        user: str = "-",
        tokens: int | None = None,
        input_tokens: int | None = None,
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
    ) -> PermitRequest:
        """:meth:`permit` for asyncio: ``async with gov.apermit(...) as permit``,
        or ``permit = await gov.apermit(...)``."""
        return PermitRequest(
            self, _permit_ask(model_id, user, tokens, input_tokens, priority, timeout)
        )

    # ------------------------------------------------------------ waiting

    def _perform(self, ask: AnyAsk) -> Ended:
        self._check()
        if self._waits_in_hub():
            session = self._session(green.hub(), green.GeventSession)
            return session.perform(ringing(ask))
        return self._handle.call(*ask)

    async def _aperform(self, ask: AnyAsk) -> Ended:
        self._check()
        loop = asyncio.get_running_loop()
        return await self._session(loop, AsyncioSession).perform(ringing(ask))

    def _look(self, what: Callable[[_rgov.Handle], _Found]) -> _Found:
        self._check()
        if self._waits_in_hub():
            return green.in_thread(lambda: what(self._handle))
        return what(self._handle)

    async def _alook(self, what: Callable[[_rgov.Handle], _Found]) -> _Found:
        self._check()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, what, self._handle)

    def _waits_in_hub(self) -> bool:
        return self._wait == "gevent" or (self._wait == "auto" and green.is_patched())

    def _check(self) -> None:
        if self._steps_aside:
            raise ConfigError(
                "rgov steps aside in this process (ENABLE_REQUEST_MANAGER=false or "
                "RGOV_ENABLED=0), and rgovd alone holds the credentials for invoke, "
                "converse and tasks: call the provider with your own client"
            )
        if self._compare_limits:
            with contextlib.suppress(Unavailable):
                environment.warn_of_limits(self._handle.stats())
                self._compare_limits = False

    def _session(self, loop: Any, kind: type[_Session]) -> _Session:
        """This process's session of this loop; a child makes its own."""
        if self._closed:
            raise Error("this governor was closed")
        session = self._sessions.get(loop)
        if session is not None and session.pid != os.getpid():
            session.forget()
            session = None
        if not isinstance(session, kind):
            self._end_sessions_of_closed_loops()
            session = kind(self._open(self._slots or _LOOP_SLOTS))
            self._sessions[loop] = session
        return session

    def _end_sessions_of_closed_loops(self) -> None:
        """asyncio.run() makes a loop each time: what it leaves is not waited for
        until the garbage collector comes."""
        for loop, session in list(self._sessions.items()):
            if isinstance(session, AsyncioSession) and loop.is_closed():
                session.handle.close()
                self._sessions.pop(loop, None)

    # ------------------------------------------------------------ to look at

    def get_stats(self) -> dict[str, Any]:
        """Host-wide figures, from the board; works while rgovd hangs.

        The nine keys of the old request manager: ``total_requests``,
        ``successful_requests``, ``failed_requests``, ``throttled_requests``,
        ``active_requests``, ``queue_size``, ``active_users``, ``avg_wait_time``
        and ``avg_execution_time`` (seconds).  And: ``scope`` ("host"), ``limits``
        (a dict of what is in force, with the preset's name), ``refused_requests``,
        ``cancelled_requests``, ``retries``, ``permits_granted``, ``sessions``,
        ``rgovd_pid``, ``heartbeat_age`` (seconds; above 2: rgovd hangs or is
        dead), ``draining``.

        Unavailable: no governor of this name has run since boot.  Where rgov is
        switched off that is no error: all figures are 0 and ``scope`` is "none".
        """
        try:
            found: dict[str, Any] = dict(self._handle.stats())
        except Unavailable:
            if not self._steps_aside:
                raise
            return {**dict.fromkeys(_NINE, 0), "scope": "none", "limits": {}}
        limits = {key: found.pop(key) for key in (*_LIMITS, "preset")}
        return {**found, "scope": "host", "limits": limits}

    def waiting(self, *, max_age: float | None = 1.0) -> list[Progress]:
        """The requests of this process that are out, those of its event loops
        included: where each stands, and what holds it.

        What rgovd said when they were queued lies in shared memory and costs
        nothing; where that is older than ``max_age`` seconds rgovd is asked (about
        0.1 ms each; up to 2 s where it hangs: in an event loop pass None, never
        ask).
        """
        age = -1.0 if max_age is None else max_age
        handles = [self._handle, *(s.handle for s in self._live_sessions())]
        return [Progress(*row) for h in handles for row in h.waiting(age)]

    def diagnose(self) -> dict[str, int]:
        """This process's own use of librgov, for tests and doctors: ``sleeps``,
        ``found_by_slice`` (should be 0), ``found_spinning``, ``bells_rung``,
        ``reconnects``, ``slots``, ``slots_taken``; event loops included."""
        total = self._handle.diagnose()
        for session in self._live_sessions():
            for key, value in session.handle.diagnose().items():
                total[key] += value
        return total

    def _live_sessions(self) -> list[LoopSession]:
        self._end_sessions_of_closed_loops()
        pid = os.getpid()
        # A copy first: other threads add theirs at any moment.
        return [s for s in list(self._sessions.values()) if s.pid == pid]

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """End the sessions of this process: what is out is dropped, and whoever
        waits for it gets an Error within 0.2 s; permits are returned.  Closing
        twice is fine.  Not needed at the end of a process."""
        self._closed = True
        for loop, session in list(self._sessions.items()):
            if session.pid == os.getpid():
                _close_session(loop, session)
        self._handle.close()

    def __enter__(self) -> Governor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<rgov.Governor {self._socket or self._name or 'default'}{state}>"


class PermitRequest:
    """What :meth:`Governor.apermit` returns: awaited it gives the Permit, and
    ``async with`` holds the permit for the block."""

    __slots__ = ("_gov", "_ask", "_permit")

    def __init__(self, gov: Governor, ask: Ask) -> None:
        self._gov = gov
        self._ask = ask
        self._permit: Permit | None = None

    async def _acquire(self) -> Permit:
        ask = self._ask
        if self._gov._steps_aside:
            return Permit(None, ask.model_id, ask.user)
        return Permit(_ticket(await self._gov._aperform(ask)), ask.model_id, ask.user)

    def __await__(self) -> Generator[Any, None, Permit]:
        return self._acquire().__await__()

    async def __aenter__(self) -> Permit:
        self._permit = await self._acquire()
        return self._permit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._permit is not None:
            self._permit.__exit__(kind, error, trace)


def _permit_ask(
    model_id: str,
    user: str,
    tokens: int | None,
    input_tokens: int | None,
    priority: str,
    timeout: float | None,
) -> Ask:
    return Ask(
        _rgov.PERMIT,
        model_id,
        None,
        user,
        priority_number(priority),
        timeout,
        None,
        0,
        input_tokens,
        tokens,
    )


def _reply(ended: Ended) -> Reply:
    assert isinstance(ended, Reply)
    return ended


def _ticket(ended: Ended) -> _rgov.Ticket:
    assert isinstance(ended, _rgov.Ticket)
    return ended


def _close_session(loop: Any, session: LoopSession) -> None:
    """In the thread of its loop, where it may not be at this moment."""
    if isinstance(session, AsyncioSession):
        if loop.is_closed():
            session.handle.close()
        elif loop is _running_loop():
            session.close()
        else:
            loop.call_soon_threadsafe(session.close)
    elif loop is green.hub():
        session.close()
    else:
        loop.loop.run_callback_threadsafe(session.close)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
