"""Waiting inside gevent's hub: as in any event loop, see loops.py.

gevent is imported here alone, and only when it is there already or asked for.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from . import _rgov
from .ask import AnyAsk
from .errors import Unavailable
from .loops import Ended, LoopSession, overdue_after

__all__ = ["GeventSession", "hub", "in_thread", "is_patched"]

_Found = TypeVar("_Found")


def is_patched() -> bool:
    """Has gevent replaced `threading`?  Asked at each call: gunicorn patches its
    workers after the application was loaded."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def hub() -> Any:
    """This thread's hub.  ImportError: gevent is not installed."""
    return importlib.import_module("gevent").get_hub()


def in_thread(function: Callable[[], _Found]) -> _Found:
    """Its result, from a thread; other greenlets run meanwhile."""
    found: _Found | _Raised = hub().threadpool.apply(_result_or_error, (function,))
    if isinstance(found, _Raised):
        raise found.error
    return found


class GeventSession(LoopSession):
    """A session of one hub."""

    def __init__(self, handle: _rgov.Handle) -> None:
        super().__init__(handle)
        self._watcher: Any = None
        # While one greenlet looks for rgovd: what that ended in, for the others.
        self._search: Any = None
        self._timers: set[Any] = set()

    def _watch(self, fd: int) -> None:
        self._watcher = hub().loop.io(fd, 1)
        self._watcher.start(self.on_ready)

    def _unwatch(self, fd: int) -> None:
        self._watcher.close()
        self._watcher = None

    def _start_timer(self, seconds: float, what: Callable[[], None]) -> Any:
        timer = hub().loop.timer(seconds)
        timer.start(what)
        return timer

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        def ring() -> None:
            self._timers.discard(timer)
            timer.close()
            what()

        timer = self._start_timer(seconds, ring)
        self._timers.add(timer)

    def _submit(self, ask: AnyAsk) -> _rgov.Ticket:
        while not self.can_submit_here():
            if self._search is None:
                return self._submit_and_search(ask)
            error = self._search.get()
            if error is not None:
                raise Unavailable(*error.args)
        return self.handle.submit(*ask)

    def _submit_and_search(self, ask: AnyAsk) -> _rgov.Ticket:
        """In a thread, which can take the connect timeout.  Of many greenlets only
        one does: its failure is the others' too."""
        self._search = search = _async_result()
        failure = None
        try:
            # Killed meanwhile, the thread's ticket is dropped, which ends it.
            return in_thread(lambda: self.handle.submit(*ask))
        except Unavailable as e:
            failure = e
            raise
        finally:
            self._search = None
            search.set(failure)

    def forget(self) -> None:
        if self._watched >= 0:
            self._stop_watch()

    def perform(self, ask: AnyAsk) -> Ended:
        """Submits and waits; other greenlets run meanwhile.  A greenlet that is
        killed, or whose gevent.Timeout strikes, loses nothing: its request is
        given up, or its permit, just granted, returned unused."""
        ticket = self._submit(ask)
        result = _async_result()

        def done(ended: Ended | None, error: Exception | None) -> None:
            if error is not None:
                result.set_exception(error)
            else:
                result.set(ended)

        self.add(ticket, done)
        timer = self._start_timer(overdue_after(ask), lambda: self.look(ticket))
        try:
            ended: Ended = result.get()
            return ended
        except BaseException:
            self.drop(ticket)
            raise
        finally:
            timer.close()


def _async_result() -> Any:
    return importlib.import_module("gevent.event").AsyncResult()


class _Raised(NamedTuple):
    error: Exception


def _result_or_error(function: Callable[[], _Found]) -> _Found | _Raised:
    """As a value: the thread pool prints what is raised in it."""
    try:
        return function()
    except Exception as e:
        return _Raised(e)
