"""What the application wants from a way to the model: init_app(), ask(),
submit(), and errors that say what to tell the user.  The two ways are with_rgov.py
and direct.py; only the one that is used is imported.
"""

import dataclasses


class Failure(Exception):
    """What the user is told: a status, a title and the words of the error."""

    status, title = 500, "internal error"

    def __init__(self, why, retry_after_s=None):
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Busy(Failure):
    """Too much is asked for at the moment."""

    status, title = 429, "busy"


class Away(Failure):
    """Nobody can perform the call now."""

    status, title = 503, "not available"


class Late(Failure):
    """The time for this request is over."""

    status, title = 504, "too late"


class Refused(Failure):
    """The provider answered an error that no retry changes."""

    status, title = 502, "the model's service refused"


class Unable(Failure):
    """This way to the model cannot do it."""

    status, title = 501, "not implemented"


@dataclasses.dataclass
class Reply:
    text: str
    input_tokens: int | None  # None: the provider did not say
    output_tokens: int | None
    execution_s: float  # of the attempt that succeeded
    attempts: int
    request_id: str


def first_text(message):
    """The text of a Messages reply; a reply without one is a Refused."""
    try:
        return "".join(part["text"] for part in message["content"]
                       if part.get("type") == "text")
    except (TypeError, KeyError, AttributeError):
        raise Refused("the reply holds no text") from None


def choose(strategy):
    if strategy == "rgov":
        import with_rgov
        return with_rgov
    if strategy == "direct":
        import direct
        return direct
    raise SystemExit(f"STRATEGY is {strategy!r}; it can be rgov or direct")
