"""WebSocket frames (RFC 6455, section 5): octets in, whole messages out, and back."""

from typing import final

from typing_extensions import Buffer

TEXT: int
BINARY: int
PING: int
PONG: int

def is_wire_code(code: int) -> bool:
    """Whether ``code`` may stand in a close frame: RFC 6455, section 7.4, and its registry."""

@final
class FrameCodec:
    """One end of a WebSocket after its opening handshake.

    Args:
        is_client: the role: a client masks what it sends, a server requires it of the peer.
        max_message_bytes: the longest message taken, whole, in octets; 1009 past it.
    """

    def __init__(self, *, is_client: bool, max_message_bytes: int) -> None: ...
    @property
    def is_client(self) -> bool: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def close_code(self) -> int:
        """0 while the peer may still speak, then the code it closed with (1005: none given)
        or, if it broke the protocol, the code of the close that tells it so."""

    @property
    def close_reason(self) -> str: ...
    @property
    def is_fault(self) -> bool:
        """Whether receiving ended because the peer broke the protocol."""

    @property
    def close_sent(self) -> bool:
        """Whether a close frame has been encoded: nothing may be sent after it."""

    def feed(self, data: Buffer, size: int = -1) -> list[bytes]:
        """Take the first ``size`` octets received (-1: all); return the messages they complete.

        Text and binary alike, in order, one object each. Pings, the peer's close and its
        faults leave their answer in :meth:`take_replies`. What follows the end
        (:attr:`close_code`) is ignored. Keeps no reference to ``data``. Never raises on what
        a peer sends.
        """

    @property
    def is_stirred(self) -> bool:
        """Whether there are replies to write or receiving is over: seldom."""

    def take_replies(self) -> list[bytes]:
        """The control frames to write now, oldest first; each is handed out once."""

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """One unfragmented frame: ``TEXT``, ``BINARY``, or ``PING``, ``PONG`` (<= 125 octets)."""

    def encode_close(self, code: int, reason: str = "") -> bytes:
        """A close frame (1005: without a code); ``reason`` is cut to 123 octets of UTF-8.

        Raises:
            LocalProtocolError: ``code`` must not be sent (RFC 6455, section 7.4).
        """
