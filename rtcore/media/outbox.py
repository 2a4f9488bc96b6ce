"""What a socket has yet to write: control ahead of messages, messages up to a bound."""

from __future__ import annotations

from collections import deque

__all__ = ["Outbox"]

# unwritten answers to pings: RFC 6455, section 5.5.3, lets the oldest go unanswered
CONTROL_MAX = 16


class Outbox:
    """Pieces to write in order; no socket, no clock.

    A piece is indivisible: once :meth:`next` has handed it out it will be written whole, and
    neither control nor a flush can come between its octets.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.queued_bytes = 0  # of messages; control is bounded by its number
        self._control: deque[bytes] = deque(maxlen=CONTROL_MAX)
        self._messages: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._control or self._messages)

    def offer(self, message: bytes) -> bool:
        """Keep ``message`` for its turn; False, and not kept, if that passes the bound."""
        if self.queued_bytes + len(message) > self.max_bytes:
            return False
        self.push(message)
        return True

    def push(self, message: bytes) -> None:
        """Keep ``message`` for its turn whatever the bound; at most one per flush or close."""
        self._messages.append(message)
        self.queued_bytes += len(message)

    def push_control(self, frame: bytes) -> None:
        """Keep ``frame`` ahead of every message, behind earlier control."""
        self._control.append(frame)

    def flush(self) -> None:
        """Discard every message that has not been handed out."""
        self._messages.clear()
        self.queued_bytes = 0

    def next(self) -> bytes:
        """Hand out the next piece to write.

        Raises:
            IndexError: there is none.
        """
        if self._control:
            return self._control.popleft()
        message = self._messages.popleft()
        self.queued_bytes -= len(message)
        return message
