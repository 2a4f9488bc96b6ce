"""The one error hierarchy: a class for each decision a catcher makes."""

from __future__ import annotations

from typing import TypeVar

__all__ = [
    "AtCapacity",
    "ConfigError",
    "LocalProtocolError",
    "ProviderError",
    "RemoteProtocolError",
    "RtcoreError",
    "SessionOver",
    "SocketClosed",
    "ToolError",
    "first_error",
]

E = TypeVar("E", bound=Exception)


class RtcoreError(Exception):
    """Base of every error rtcore raises on purpose."""


class ConfigError(RtcoreError):
    """A setting cannot be used; the message names the field and the fix."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class LocalProtocolError(RtcoreError):
    """We tried to send what the present state forbids: a bug on this side."""


class RemoteProtocolError(RtcoreError):
    """The far end broke the protocol: end the call, the fault is not ours.

    ``close_code`` is the WebSocket close code that tells the far end so (RFC 6455, 7.4.1).
    """

    def __init__(self, message: str, *, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code


class SocketClosed(RtcoreError):
    """The media socket is over: closed by either side, lost, or given up as stalled.

    ``code`` is the WebSocket close code: 1005 when none was given, 1006 when the
    connection was lost without a close.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code}{f': {reason}' if reason else ''}")
        self.code, self.reason = code, reason


class ProviderError(RtcoreError):
    """An outside service failed; ``retryable`` says whether asking again can help.

    ``retry_after_s`` is how long the service asked us to leave it alone, if it did.
    """

    def __init__(
        self,
        provider: str,
        message: str,
        *,
        retryable: bool,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{provider}: {message}")
        self.provider, self.retryable = provider, retryable
        self.retry_after_s = retry_after_s


class SessionOver(ProviderError):
    """A session has reached the service's time limit: the service is well, ask for another."""

    def __init__(self, provider: str, message: str) -> None:
        super().__init__(provider, message, retryable=True)


class ToolError(RtcoreError):
    """A function could not do what was asked; the text goes back to the model."""


class AtCapacity(RtcoreError):
    """The node refuses one more call, so that those it holds stay good."""


def first_error(group: BaseExceptionGroup[E]) -> E:
    """The first error of a tree of them, for who can tell only one."""
    first = group.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first
