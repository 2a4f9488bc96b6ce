"""The records of a node's calls, one JSON object a line: written as calls end, off the loop."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog
import trio

from rtcore.call import CallRecord

__all__ = ["RecordLog"]

log = structlog.get_logger()

WAITING_MAX = 1000  # a disk that stands still for so many calls loses the newest, and says so
BATCH_MAX = 100
FLUSH_LIMIT_S = 5.0


class RecordLog:
    """Appends records to ``path``. They hold what was said: keep the file as you keep that."""

    def __init__(self, path: Path) -> None:
        self._path = path
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
        """Write until cancelled.

        Raises:
            OSError: the file cannot be written.

        Cancelled: records that wait are lost, none is written in part.
        """
        async for first in self._rx:
            lines = [first]
            while len(lines) < BATCH_MAX:
                try:
                    lines.append(self._rx.receive_nowait())
                except trio.WouldBlock:
                    break
            await trio.to_thread.run_sync(self._append, b"".join(lines))
            self._unwritten -= len(lines)
            self._written.set()

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(lines)
