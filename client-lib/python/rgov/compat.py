"""For code that was written for the old in-process request manager.

The old manager counted what one process did; this one stands in the host's queue.
The surface is the plain part of the old one::

    from rgov.compat import get_request_manager

    manager = get_request_manager()
    text = manager.execute_request(session_id, call_model, prompt)
    manager.get_stats()["queue_size"]

The function runs in the calling thread under a permit, so it keeps its own client
and its own credentials; switch that client's retries off
(``Config(retries={"total_max_attempts": 1})``), or each of them counts as nothing
here and as a request there.  A function that calls ``gov.invoke`` itself needs no
permit: it would wait for two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from .ask import Priority
from .environment import enabled
from .governor import Governor, connect

__all__ = ["RequestManager", "get_request_manager"]

_Result = TypeVar("_Result")

_USER_BYTES = 63


class RequestManager:
    """The old manager's surface over a :class:`rgov.Governor`.

    ``enabled``: False where the environment makes rgov step aside; functions are
    then called directly, with no limit at all.  ``model_id`` names the lane whose
    limits count; the default belongs to no model, which leaves the host-wide
    limits.
    """

    def __init__(
        self,
        gov: Governor | None = None,
        *,
        model_id: str = "compat",
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
    ) -> None:
        self.gov = gov if gov is not None else connect()
        self.model_id = model_id
        self.priority: Priority = priority
        self.timeout = timeout
        self.enabled = enabled()

    def execute_request(
        self,
        user_id: object,
        func: Callable[..., _Result],
        *args: Any,
        **kwargs: Any,
    ) -> _Result:
        """Call ``func(*args, **kwargs)`` when the limits allow it, in this thread,
        and return its result.

        What it raises comes through unchanged; a throttle of the provider among it
        (a botocore ClientError) slows everyone down as it should.  Waiting can
        raise Timeout, Unavailable and the kinds of Rejected.
        """
        with self.gov.permit(
            self.model_id,
            user=user_of(user_id),
            priority=self.priority,
            timeout=self.timeout,
        ):
            return func(*args, **kwargs)

    submit_request = execute_request

    def get_stats(self) -> dict[str, Any]:
        """:meth:`rgov.Governor.get_stats`: the old nine keys, host-wide now."""
        return self.gov.get_stats()


def user_of(user_id: object) -> str:
    """The old user ids were anything; rgovd's have 1 to 63 bytes.  A longer one is
    named by its digest, so that two of them stay two."""
    text = str(user_id) if user_id is not None else ""
    if not text:
        return "-"
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > _USER_BYTES or not text.isprintable():
        return "sha256:" + hashlib.sha256(encoded).hexdigest()[:56]
    return text


_managers: dict[str, RequestManager] = {}


def get_request_manager() -> RequestManager:
    """The manager of this process; the same object at each call.  Safe before a
    fork."""
    manager = _managers.get("default")
    if manager is None:
        # Two threads may both come here: the first one's stays.
        manager = _managers.setdefault("default", RequestManager())
    return manager
