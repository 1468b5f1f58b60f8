"""rgov: hand model calls to rgovd, the request governor of this host.

::

    import rgov

    gov = rgov.connect()                      # lazy; safe before a fork
    reply = gov.invoke(model_id, body, user="alice", priority="interactive")
    reply.json(), reply.usage.output_tokens, reply.wait_time

    with gov.permit(model_id, user="alice", tokens=2000) as permit:
        answer = my_own_client.call(...)
        permit.settle(input_tokens=310, output_tokens=95)

    await gov.ainvoke(model_id, body)         # asyncio
    gov.get_stats()                           # host-wide
    reply.waited_for                          # {"host_requests": 2.1}
    gov.waiting()                             # what is out, and what holds it

Limits, queue, retries, connections and credentials are rgovd's; see rgov.conf(5).
``ENABLE_REQUEST_MANAGER=false`` makes the package step aside: see :func:`enabled`.
``rgov.compat`` serves code written for the old in-process manager.
"""

from __future__ import annotations

from ._rgov import VERSION as __version__
from .ask import Body, Priority
from .environment import enabled
from .errors import (
    ConfigError,
    Draining,
    Error,
    ForkError,
    Invalid,
    PermitLost,
    QueueFull,
    Rejected,
    Timeout,
    TooLarge,
    Unavailable,
    UpstreamError,
    UserLimit,
)
from .governor import Governor, PermitRequest, connect
from .permit import Outcome, Permit
from .reply import Progress, Reply, Usage

__all__ = [
    "Body",
    "ConfigError",
    "Draining",
    "Error",
    "ForkError",
    "Governor",
    "Invalid",
    "Outcome",
    "Permit",
    "PermitLost",
    "PermitRequest",
    "Priority",
    "Progress",
    "QueueFull",
    "Rejected",
    "Reply",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "UpstreamError",
    "Usage",
    "UserLimit",
    "__version__",
    "connect",
    "enabled",
]
