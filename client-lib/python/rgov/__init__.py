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
    task = gov.submit(model_id, body)         # durable: on rgovd's disk
    gov.task(task.id).result(timeout=20)      # in any process, after any restart
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
    NoStore,
    NotYours,
    PermitLost,
    QueueFull,
    Rejected,
    StoreError,
    TaskCancelled,
    TaskConflict,
    TaskError,
    TaskExpired,
    TaskGone,
    Timeout,
    TooLarge,
    Unavailable,
    UnknownTask,
    UpstreamError,
    UserLimit,
)
from .governor import Governor, PermitRequest, connect
from .permit import Outcome, Permit
from .reply import Progress, Reply, Usage
from .status import TaskEvent, TaskRow, TaskState, TaskStatus
from .task import Task

__all__ = [
    "Body",
    "ConfigError",
    "Draining",
    "Error",
    "ForkError",
    "Governor",
    "Invalid",
    "NoStore",
    "NotYours",
    "Outcome",
    "Permit",
    "PermitLost",
    "PermitRequest",
    "Priority",
    "Progress",
    "QueueFull",
    "Rejected",
    "Reply",
    "StoreError",
    "Task",
    "TaskCancelled",
    "TaskConflict",
    "TaskError",
    "TaskEvent",
    "TaskExpired",
    "TaskGone",
    "TaskRow",
    "TaskState",
    "TaskStatus",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "UnknownTask",
    "UpstreamError",
    "Usage",
    "UserLimit",
    "__version__",
    "connect",
    "enabled",
]
