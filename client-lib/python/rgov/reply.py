"""What a call returns."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["Progress", "Reply", "Usage"]


class Usage(NamedTuple):
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None


class Progress(NamedTuple):
    """How it stands with a request of this process that is out.

    ``state``: "submitted" (rgovd has not looked at it yet), "queued", "sent" or
    "ended".  The rest is of a queued one, and None where rgovd has said nothing
    yet (it may be about to start).  ``request``: its number, as ``rgov why``
    takes it.  ``position``: 1 is the next of its model.  ``reason``: what holds
    it, or who goes before it, as in :attr:`Reply.waited_for`; ``reason_text``:
    the same for people.  ``predicted_wait``: how much longer it may wait, in
    seconds.  ``reason_ends_in``: when time alone may end the reason; None: not
    before something else ends.  ``age``: seconds since rgovd said so.
    """

    state: str
    user: str
    model_id: str
    request: int | None
    position: int | None
    reason: str | None
    reason_text: str | None
    predicted_wait: float | None
    reason_ends_in: float | None
    age: float | None


class Reply:
    """A successful answer.  The caller owns it; it holds nothing of rgovd's.

    ``status``: HTTP status (2xx).  ``body``: bytes as the provider sent them.
    ``usage``: a :class:`Usage`.  ``wait_time``: seconds in rgovd's queue.
    ``execution_time``: seconds of the last attempt.  ``attempts``: how often
    rgovd sent the request.  ``request_id``: the provider's, "" where it gave
    none.  ``model_id``: the model that was asked.  ``model``: the one that
    answered, where rgov.conf(5) names fallbacks another perhaps.

    ``waited_for``: the wait by its reasons, name to seconds, only those above 0;
    empty where it waited for less than a millisecond.  The names do not change
    between releases: ``turn`` (others go first), ``gate`` and ``probe`` (the
    model is throttled), ``day_closed``, ``backoff`` (tried again),
    ``batch_share``, and ``host_``, ``lane_`` (the model's) or ``user_`` before
    ``concurrency``, ``requests`` (per minute), ``tokens`` (per minute) and
    ``day`` (tokens per day).  ``queue_position`` and ``predicted_wait``: when it
    came; 0 where it could start at once.
    """

    __slots__ = (
        "status",
        "body",
        "usage",
        "wait_time",
        "execution_time",
        "attempts",
        "request_id",
        "model_id",
        "model",
        "waited_for",
        "queue_position",
        "predicted_wait",
    )

    def __init__(
        self,
        status: int,
        body: bytes,
        usage: Usage,
        wait_time: float,
        execution_time: float,
        attempts: int,
        request_id: str,
        model_id: str,
        model: str = "",
        waited_for: dict[str, float] | None = None,
        queue_position: int = 0,
        predicted_wait: float = 0.0,
    ) -> None:
        self.status = status
        self.body = body
        self.usage = usage
        self.wait_time = wait_time
        self.execution_time = execution_time
        self.attempts = attempts
        self.request_id = request_id
        self.model_id = model_id
        self.model = model or model_id
        self.waited_for = {} if waited_for is None else waited_for
        self.queue_position = queue_position
        self.predicted_wait = predicted_wait

    def json(self) -> Any:
        """The body parsed as JSON.  ValueError where it is none."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        """Everything but the body, which may be private."""
        return (
            f"<rgov.Reply {self.status} {self.model_id} {len(self.body)} bytes"
            f" wait={self.wait_time:.3f}s execution={self.execution_time:.3f}s"
            f" attempts={self.attempts}>"
        )
