"""What a fake can be told to do wrong: one ``Fault`` for each request or session, in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, kw_only=True, repr=False)
class Fault:
    """How one request or session goes; positions count the service's own messages."""

    status: int | None = None  # refuse with it
    retry_after: str | None = None
    error_body: bytes = b'{"error": {"message": "scripted refusal", "type": "scripted"}}'
    first_delay_s: float = 0.0  # before anything is answered
    gap_s: float = 0.0  # before each message
    fragment_bytes: int | None = None  # one TCP segment holds no more
    drop_after: int | None = None  # the connection breaks
    stall_after: int | None = None  # silence, for ever
    error_after: int | None = None  # the service's own error message, then the end
    malformed_after: int | None = None
    unknown_messages: bool = False  # between all others
    close_code: int | None = None  # WebSocket: close with it instead of dropping

    def __repr__(self) -> str:
        told = ((each, getattr(self, each.name)) for each in fields(self))
        return "-".join(f"{each.name}={value}" for each, value in told if value != each.default)


GOOD = Fault()


@dataclass
class FaultScript:
    """Hands out the scripted faults, then what is usual."""

    waiting: deque[Fault] = field(default_factory=deque)
    usual: Fault = GOOD

    def next(self) -> Fault:
        return self.waiting.popleft() if self.waiting else self.usual

    def add(self, *faults: Fault) -> None:
        self.waiting.extend(faults)
