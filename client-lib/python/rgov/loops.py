"""Waiting inside an event loop.

rgovd rings on the session's socket when a request that asked for it has ended.
An event loop watches that socket, drains it, then looks at all its requests: a
bell does not say whose it is.  So each loop has a session of its own, and the
session below is only ever touched from its loop's thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Optional, Union

from . import _rgov
from .ask import AnyAsk
from .errors import Error, Unavailable
from .reply import Reply
from .status import TaskStatus

__all__ = ["AsyncioSession", "LoopSession"]

# The pair is of a fetch: see _rgov.Handle.call.
Ended = Union[
    Reply, _rgov.Ticket, TaskStatus, tuple[TaskStatus, Union[Reply, Exception, None]]
]
# Called once with what the request ended in: a result, or an exception.
Done = Callable[[Optional[Ended], Optional[Exception]], None]

# While rgovd is away: how soon to look for it again, in seconds.
_LOOK_AGAIN = 0.1
# librgov gives up one second after a deadline that rgovd let pass.
_OVERDUE = 1.1
_DEFAULT_TIMEOUT = 600.0


class LoopSession:
    """One handle, its requests that are out, and the watch over its socket.

    The half that does not know which event loop it is in; the other half says
    how to watch a descriptor and how to be called later.
    """

    def __init__(self, handle: _rgov.Handle) -> None:
        self.handle = handle
        self.pid = os.getpid()
        self._pending: dict[_rgov.Ticket, Done] = {}
        self._watched = -1
        self._is_away = False
        self._looks_again = False

    # -------------------------------------------- what the loop provides

    def _watch(self, fd: int) -> None:
        raise NotImplementedError

    def _unwatch(self, fd: int) -> None:
        raise NotImplementedError

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        raise NotImplementedError

    # -------------------------------------------- requests

    def can_submit_here(self) -> bool:
        """True: a session is there, so that submitting takes microseconds.
        False: it first has to find rgovd, which must not hold up the loop."""
        return self.handle.fd() >= 0 and not self._is_away

    def add(self, ticket: _rgov.Ticket, done: Done) -> None:
        """done() is called when the request has ended, perhaps at once."""
        self._pending[ticket] = done
        self._keep_watch()
        if self._is_away:
            self._look_again_later()
        # The bell may have rung, and been drained, before this one was here.
        self.look(ticket)

    def drop(self, ticket: _rgov.Ticket) -> None:
        """Nobody waits any more: gives the request up, or the permit back."""
        self._pending.pop(ticket, None)
        ticket.abandon()

    def look(self, ticket: _rgov.Ticket) -> None:
        """Has it ended?"""
        if ticket not in self._pending:
            return
        try:
            ended, error = ticket.poll(), None
        except Exception as e:
            ended, error = None, e
        if ended is not None or error is not None:
            self._pending.pop(ticket)(ended, error)

    def _look_at_all(self) -> None:
        for ticket in list(self._pending):
            self.look(ticket)

    def _fail_all(self, error: Exception) -> None:
        for ticket in list(self._pending):
            done = self._pending.pop(ticket)
            ticket.abandon()
            # Each its own: who gets one may add to it.
            done(None, type(error)(*error.args))

    # -------------------------------------------- the socket

    def on_ready(self) -> None:
        """The socket can be read: bells, or its end."""
        what = self.handle.dispatch()
        self._is_away = what == _rgov.AWAY
        self._look_at_all()
        if what == _rgov.DISPATCHED:
            self._keep_watch()
            return
        # A socket at its end is readable for ever: to watch it would be a spin.
        self._stop_watch()
        if what == _rgov.LOST:
            self._fail_all(
                Unavailable("rgovd came back but does not know this process any more")
            )
        elif self._pending:
            self._look_again_later()

    def _look_again_later(self) -> None:
        if not self._looks_again:
            self._looks_again = True
            self._call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        self._looks_again = False
        self.on_ready()

    def _keep_watch(self) -> None:
        """Watches the descriptor that is the session's now."""
        fd = -1 if self._is_away else self.handle.fd()
        if fd != self._watched:
            self._stop_watch()
            if fd >= 0:
                self._watch(fd)
                self._watched = fd

    def _stop_watch(self) -> None:
        if self._watched >= 0:
            self._unwatch(self._watched)
            self._watched = -1

    def forget(self) -> None:
        """In the child of a fork: this was the parent's."""

    def close(self) -> None:
        """Ends the session; whoever waits gets an Error."""
        self._stop_watch()
        self._fail_all(Error("this governor was closed while the request was out"))
        self.handle.close()


def overdue_after(ask: AnyAsk) -> float:
    """Seconds after which a request has ended, whatever became of rgovd."""
    return (_DEFAULT_TIMEOUT if ask.timeout is None else ask.timeout) + _OVERDUE


class AsyncioSession(LoopSession):
    """A session of one asyncio event loop (uvloop's too).

    It does not hold its loop, so that it ends with it."""

    def __init__(self, handle: _rgov.Handle) -> None:
        super().__init__(handle)
        # While one task looks for rgovd: what that ended in, for the others.
        self._search: asyncio.Future[Unavailable | None] | None = None

    def _watch(self, fd: int) -> None:
        asyncio.get_running_loop().add_reader(fd, self.on_ready)

    def _unwatch(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, what)

    async def _submit(
        self, loop: asyncio.AbstractEventLoop, ask: AnyAsk
    ) -> _rgov.Ticket:
        while not self.can_submit_here():
            if self._search is None:
                return await self._submit_and_search(loop, ask)
            error = await asyncio.shield(self._search)
            if error is not None:
                raise Unavailable(*error.args)
        return self.handle.submit(*ask)

    async def _submit_and_search(
        self, loop: asyncio.AbstractEventLoop, ask: AnyAsk
    ) -> _rgov.Ticket:
        """In a thread, which can take the connect timeout.  Of many tasks only one
        does: its failure is the others' too."""
        self._search = search = loop.create_future()
        found = None
        try:
            # Cancelled meanwhile, the thread's ticket is dropped, which ends it.
            return await loop.run_in_executor(None, self.handle.submit, *ask)
        except Unavailable as e:
            found = e
            raise
        finally:
            self._search = None
            search.set_result(found)

    async def perform(self, ask: AnyAsk) -> Ended:
        """Submits and waits.  A cancelled task loses nothing: its request is
        given up, or its permit, just granted, returned unused."""
        loop = asyncio.get_running_loop()
        ticket = await self._submit(loop, ask)
        future: asyncio.Future[Ended] = loop.create_future()
        self.add(ticket, lambda ended, error: _resolve(future, ended, error))
        timer = loop.call_later(overdue_after(ask), self.look, ticket)
        try:
            return await future
        except BaseException:
            self.drop(ticket)
            if future.done() and not future.cancelled():
                future.exception()  # seen: the loop need not complain
            raise
        finally:
            timer.cancel()


def _resolve(
    future: asyncio.Future[Ended], ended: Ended | None, error: Exception | None
) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    elif ended is not None:
        future.set_result(ended)
