"""Server-sent events, sans-I/O: octets in, events out."""

from __future__ import annotations

import re
from typing import NamedTuple

from rtcore.errors import RemoteProtocolError

__all__ = ["SseEvent", "SseParser"]

EVENT_MAX_BYTES = 1 << 20  # a whole function call fits many times; a runaway line does not
LINE_END = re.compile(rb"\r\n|\r(?!\Z)|\n")  # a \r at the end may yet be half of \r\n
BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event; ``name`` is ``message`` when the stream does not say."""

    name: str
    data: bytes


class SseParser:
    """Cuts a stream into events, wherever the network has cut it.

    Takes all three line ends, a byte order mark, comments, several ``data`` lines to an event
    and a last event without its blank line. Source: HTML Living Standard, 9.2.6.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # the line under way
        self._name = ""
        self._data: list[bytes] = []
        self._held_bytes = 0
        self._is_first_line = True

    def feed(self, octets: bytes) -> list[SseEvent]:
        """Take what has arrived; return the events it completes.

        Raises:
            RemoteProtocolError: an event is longer than a mebibyte.
        """
        has_line_end = b"\n" in octets or b"\r" in octets or self._rest.endswith(b"\r")
        self._rest += octets
        lines: list[bytes] = []
        if has_line_end:  # a long line is not searched again with each piece of it
            *lines, rest = LINE_END.split(bytes(self._rest))
            self._rest = bytearray(rest)
        if len(self._rest) + self._held_bytes > EVENT_MAX_BYTES:
            raise RemoteProtocolError(f"an event longer than {EVENT_MAX_BYTES} octets")
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[SseEvent]:
        """The stream has ended: return the event it left without its blank line, if any."""
        last, self._rest = bytes(self._rest).removesuffix(b"\r"), bytearray()
        events = (self._line(last) if last else None, self._line(b""))
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> SseEvent | None:
        if self._is_first_line:
            line, self._is_first_line = line.removeprefix(BOM), False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._held_bytes += len(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None  # comments, id, retry and what we do not know

    def _dispatch(self) -> SseEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data, self._held_bytes = "", [], 0
        return SseEvent(name, b"\n".join(data)) if data else None
