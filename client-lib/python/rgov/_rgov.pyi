"""The extension's interface, for the package's own use."""

from typing import Union, final

from .reply import Reply
from .status import TaskStatus

INVOKE_MODEL: int
CONVERSE: int
PERMIT: int
TASK: int
TASK_SHOW: int
TASK_WAIT: int
TASK_FETCH: int
TASK_CANCEL: int
INTERACTIVE: int
NORMAL: int
BATCH: int
RING: int
NOT_IDEMPOTENT: int
SETTLE_OK: int
SETTLE_THROTTLED: int
SETTLE_FAILED: int
SETTLE_UNUSED: int
DISPATCHED: int
AWAY: int
LOST: int
VERSION: str

_Ended = Union[
    Reply, Ticket, TaskStatus, tuple[TaskStatus, Union[Reply, Exception, None]]
]

@final
class Ticket:
    @property
    def held(self) -> bool: ...
    @property
    def wait_time(self) -> float: ...
    @property
    def waited_for(self) -> dict[str, float]: ...
    @property
    def queue_position(self) -> int: ...
    @property
    def predicted_wait(self) -> float: ...
    def poll(self) -> _Ended | None: ...
    def use(self) -> None: ...
    def abandon(self) -> None: ...
    def settle(self, how: int, input_tokens: int, output_tokens: int, /) -> None: ...

@final
class Handle:
    def __new__(
        cls,
        name: str | None,
        socket: str | None,
        app: str | None,
        connect_timeout: float,
        slots: int,
        /,
    ) -> Handle: ...
    # The fields of an Ask, TaskAsk or Question, in order.
    def call(self, *ask: object) -> _Ended: ...
    def submit(self, *ask: object) -> Ticket: ...
    def task_list(
        self,
        user: str | None,
        text: str | None,
        states: int,
        most: int,
        older_than: bytes | None,
        /,
    ) -> list[
        tuple[
            str,
            int,
            str,
            int,
            str,
            int,
            int,
            int,
            float,
            float,
            float,
            float,
            str,
            str,
            str,
        ]
    ]: ...
    def task_history(self, id: bytes, /) -> list[tuple[float, str, str]]: ...
    def fd(self) -> int: ...
    def dispatch(self) -> int: ...
    def stats(self) -> dict[str, int | float | bool | str]: ...
    def waiting(
        self, max_age: float, /
    ) -> list[
        tuple[
            str,
            str,
            str,
            int | None,
            int | None,
            str | None,
            str | None,
            float | None,
            float | None,
            float | None,
        ]
    ]: ...
    def diagnose(self) -> dict[str, int]: ...
    def close(self) -> None: ...
