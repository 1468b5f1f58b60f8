"""What a call returns."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["Reply", "Usage"]


class Usage(NamedTuple):
    """Tokens as the provider counted them; None where it did not say."""

    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None


class Reply:
    """A successful answer.  The caller owns it; it holds nothing of rgovd's.

    ``status``: HTTP status (2xx).  ``body``: bytes as the provider sent them.
    ``usage``: a :class:`Usage`.  ``wait_time``: seconds in rgovd's queue.
    ``execution_time``: seconds of the last attempt.  ``attempts``: how often
    rgovd sent the request.  ``request_id``: the provider's, "" where it gave
    none.  ``model_id``: the model that was asked.
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
    ) -> None:
        self.status = status
        self.body = body
        self.usage = usage
        self.wait_time = wait_time
        self.execution_time = execution_time
        self.attempts = attempts
        self.request_id = request_id
        self.model_id = model_id

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
