"""From what a caller passes to what the extension takes.

Nothing here talks to rgovd.  What a model id, a user or a header may contain is
judged by librgov and rgovd; only what would change the meaning of the transport
(a line break in a header) is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union

from . import _rgov
from .errors import Invalid

__all__ = ["AnyAsk", "Ask", "Body", "Priority", "Question", "TaskAsk"]

Priority = Literal["interactive", "normal", "batch"]

# bytes and str go to rgovd as they are, without a copy in this process; another
# buffer is copied once; a mapping is written as compact JSON.
Body = Union[bytes, bytearray, memoryview, str, Mapping[str, Any]]

_PRIORITIES: dict[str, int] = {
    "interactive": _rgov.INTERACTIVE,
    "normal": _rgov.NORMAL,
    "batch": _rgov.BATCH,
}


class Ask(NamedTuple):
    """The arguments of ``_rgov.Handle.call`` for a call or a permit, in order."""

    operation: int
    model_id: str
    body: bytes | str | None
    user: str
    priority: int
    timeout: float | None
    headers: str | None
    flags: int
    input_tokens: int | None
    output_tokens: int | None


class TaskAsk(NamedTuple):
    """The same for handing a task in: ``timeout`` is of that."""

    operation: int
    model_id: str
    body: bytes | str | None
    user: str
    priority: int
    timeout: float | None
    headers: str | None
    flags: int
    input_tokens: int | None
    output_tokens: int | None
    task_timeout: float | None
    key: str | None
    callback: str | None


class Question(NamedTuple):
    """The same for a question about a task.  ``model_id`` and ``user``: "" where
    they are not known."""

    operation: int
    id: bytes
    timeout: float | None
    flags: int
    model_id: str
    user: str


AnyAsk = Union[Ask, TaskAsk, Question]


def ringing(ask: AnyAsk) -> AnyAsk:
    """The same, heard by an event loop."""
    return ask._replace(flags=ask.flags | _rgov.RING)


def priority_number(priority: str) -> int:
    """The class as librgov numbers it.  Invalid: the word is unknown."""
    try:
        return _PRIORITIES[priority]
    except (KeyError, TypeError):
        raise Invalid(
            "priority: expected 'interactive', 'normal' or 'batch', "
            f"found {priority!r}",
            reason="invalid",
        ) from None


def body_bytes(body: Body) -> bytes | str:
    """The body as the extension takes it.  TypeError and ValueError: it is
    neither bytes nor text nor JSON."""
    if isinstance(body, (bytes, str)):
        return body
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, Mapping):
        return json.dumps(body, separators=(",", ":"), allow_nan=False)
    raise TypeError(
        f"body must be bytes, str, a buffer or a mapping, not {type(body).__name__}"
    )


def header_lines(headers: Mapping[str, str] | None) -> str | None:
    """``Name: value`` lines.  Invalid: a line break or a colon would make
    another header of it."""
    if not headers:
        return None
    lines = []
    for name, value in headers.items():
        if not name or any(c in ":\r\n\0 " for c in name):
            raise Invalid(f"header name {name!r} is not one", reason="invalid")
        if any(c in "\r\n\0" for c in value):
            raise Invalid(
                f"header {name!r}: its value has a line break or a zero byte in it",
                reason="invalid",
            )
        lines.append(f"{name}: {value}\n")
    return "".join(lines)


def converse_body(
    messages: Body | Sequence[Mapping[str, Any]],
    system: str | Sequence[Mapping[str, Any]] | None,
    inference_config: Mapping[str, Any] | None,
    tool_config: Mapping[str, Any] | None,
    extra: Mapping[str, Any] | None,
) -> bytes | str:
    """The JSON body of Converse: put together from its parts, or as it is."""
    if isinstance(messages, (bytes, bytearray, memoryview, str, Mapping)):
        if system or inference_config or tool_config or extra:
            raise TypeError(
                "a whole body was passed: system, inference_config, tool_config and "
                "extra belong into it"
            )
        return body_bytes(messages)
    body: dict[str, Any] = {"messages": list(messages)}
    if system:
        body["system"] = [{"text": system}] if isinstance(system, str) else list(system)
    if inference_config:
        body["inferenceConfig"] = dict(inference_config)
    if tool_config:
        body["toolConfig"] = dict(tool_config)
    if extra:
        body.update(extra)
    return body_bytes(body)
