"""Permits: rgovd admits, and the worker makes the call by itself."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

from . import _rgov
from .errors import PermitLost, UpstreamError

__all__ = ["Outcome", "Permit"]

Outcome = Literal["ok", "throttled", "failed", "unused"]

_SETTLEMENTS: dict[str, int] = {
    "ok": _rgov.SETTLE_OK,
    "throttled": _rgov.SETTLE_THROTTLED,
    "failed": _rgov.SETTLE_FAILED,
    "unused": _rgov.SETTLE_UNUSED,
}

# The provider's names of "too much, too fast", as its SDKs know them.
_THROTTLES = frozenset(
    (
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "throttlingException",
    )
)


def outcome_of(error: BaseException) -> Outcome:
    """What an exception of the worker's own call says about the quota.

    "throttled" for a botocore ``ClientError`` (anything with a ``response`` of
    its shape) or an UpstreamError whose code is a throttle; else "failed".
    """
    code: object
    if isinstance(error, UpstreamError):
        code = error.code
    else:
        response = getattr(error, "response", None)
        fields = response.get("Error") if isinstance(response, dict) else None
        code = fields.get("Code") if isinstance(fields, dict) else None
    return "throttled" if code in _THROTTLES else "failed"


class Permit:
    """A place in the host's limits, held until it is settled.

    ``with gov.permit(...) as permit:`` settles at the end of the block by itself:
    "ok" with unknown usage, or by :func:`outcome_of` when the block raised.  A
    permit that is dropped without either is settled "ok", without waiting (its
    call may have been made, and rgovd must not count too little).  It belongs to the process that got it: in a forked child it raises
    ForkError, and there its finalizer does nothing.  ``wait_time``: seconds it
    waited in rgovd's queue; ``waited_for``, ``queue_position`` and
    ``predicted_wait`` as of a :class:`Reply`.
    """

    __slots__ = (
        "model_id",
        "user",
        "wait_time",
        "waited_for",
        "queue_position",
        "predicted_wait",
        "_ticket",
    )

    def __init__(self, ticket: _rgov.Ticket | None, model_id: str, user: str) -> None:
        """``ticket``: one that is held; None: rgov steps aside, nothing is held."""
        self._ticket = ticket
        self.model_id = model_id
        self.user = user
        self.wait_time = 0.0
        self.waited_for: dict[str, float] = {}
        self.queue_position = 0
        self.predicted_wait = 0.0
        if ticket is not None:
            self.wait_time = ticket.wait_time
            self.waited_for = ticket.waited_for
            self.queue_position = ticket.queue_position
            self.predicted_wait = ticket.predicted_wait
            ticket.use()

    @property
    def held(self) -> bool:
        """False once it was settled; always False where rgov steps aside."""
        return self._ticket is not None and self._ticket.held

    def settle(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        outcome: Outcome = "ok",
    ) -> None:
        """Give the permit back and say what the call used.  Never blocks.

        Tokens: None where unknown (the reservation then stands).  "throttled"
        closes the model's gate for everyone for a while, as a throttle of
        rgovd's own calls does; "unused" takes the whole charge back.  PermitLost:
        it was settled before, or is not held any more.  ValueError: an unknown
        outcome.
        """
        try:
            how = _SETTLEMENTS[outcome]
        except KeyError:
            raise ValueError(
                "outcome: expected 'ok', 'throttled', 'failed' or 'unused', "
                f"found {outcome!r}"
            ) from None
        if self._ticket is not None:
            self._ticket.settle(
                how,
                -1 if input_tokens is None else input_tokens,
                -1 if output_tokens is None else output_tokens,
            )

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.held:
            return
        try:
            self.settle(outcome="ok" if error is None else outcome_of(error))
        except PermitLost:
            # The work of the block is done and its result stands; rgovd has taken
            # the permit back by itself and settled it at its reservation.
            pass

    def __repr__(self) -> str:
        state = "held" if self.held else "settled" if self._ticket else "not governed"
        return f"<rgov.Permit {state} {self.model_id} user={self.user!r}>"
