"""The records of a node's calls, one JSON object a line: written as calls end, off the loop."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import structlog
import trio

from rtcore.call import CallRecord
from rtcore.errors import ConfigError

__all__ = ["RecordLog"]

log = structlog.get_logger()

WAITING_MAX = 1000  # a disk that stands still for so many calls loses the newest, and says so
BATCH_MAX = 100
FLUSH_LIMIT_S = 5.0


class RecordLog:
    """Appends records to ``path``. They hold what was said: keep the file as you keep that.

    Raises:
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_torn = False  # its last line is half a record
        try:
            self._append([])
        except OSError as exc:
            raise ConfigError("records", f"{path} cannot be written: {exc.strerror}") from exc
        self._tx, self._rx = trio.open_memory_channel[bytes](WAITING_MAX)
        self._unwritten = 0
        self._written = trio.Event()
        self.dropped = 0

    def put(self, record: CallRecord) -> None:
        """Take a record without waiting; with too many waiting it is dropped and counted."""
        try:
            self._tx.send_nowait(msgspec.json.encode(record) + b"\n")
            self._unwritten += 1
        except trio.WouldBlock:
            self.dropped += 1
            log.error("record_dropped", dropped=self.dropped)

    async def flush(self) -> None:
        """Return when all that was put is written (or after a limit)."""
        with trio.move_on_after(FLUSH_LIMIT_S):
            while self._unwritten:
                self._written = trio.Event()
                await self._written.wait()

    async def run(self) -> None:
        """Write until cancelled; what the disk refuses is dropped and counted.

        Cancelled: records that wait are lost, none is written in part.
        """
        async for first in self._rx:
            lines = [first]
            while len(lines) < BATCH_MAX:
                try:
                    lines.append(self._rx.receive_nowait())
                except trio.WouldBlock:
                    break
            try:
                await trio.to_thread.run_sync(self._append, lines)
            except OSError as exc:  # a full disk ends no call
                self._is_torn = True
                self.dropped += len(lines)
                reason = errno.errorcode.get(exc.errno or 0, "?")
                log.error("records_not_written", reason=reason, dropped=self.dropped)
            self._unwritten -= len(lines)
            self._written.set()

    def _append(self, lines: list[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write((b"\n" if self._is_torn else b"") + b"".join(lines))
        self._is_torn = False
