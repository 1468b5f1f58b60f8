"""The extension's interface, for the package's own use."""

from typing import Literal, final

from .reply import Reply

INVOKE_MODEL: int
CONVERSE: int
PERMIT: int
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
    def poll(self) -> Reply | Ticket | None: ...
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
    def call(
        self,
        operation: int,
        model_id: str,
        body: bytes | str | None,
        user: str,
        priority: int,
        timeout: float | None,
        headers: str | None,
        flags: int,
        input_tokens: int | None,
        output_tokens: int | None,
        /,
    ) -> Reply | Ticket: ...
    def submit(
        self,
        operation: int,
        model_id: str,
        body: bytes | str | None,
        user: str,
        priority: int,
        timeout: float | None,
        headers: str | None,
        flags: int,
        input_tokens: int | None,
        output_tokens: int | None,
        /,
    ) -> Ticket: ...
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
