"""A child process that is spoken to in lines: started, bounded, and gone with its owner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from subprocess import DEVNULL, PIPE

import trio

from rtcore.errors import ProviderError

__all__ = ["CLOSE_LIMIT_S", "Pipes", "open_pipes"]

LINE_MAX_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
UNSENT_MAX = 16  # requests a server may be behind; more wait
CLOSE_LIMIT_S = 0.5  # for each of: its own end, SIGTERM


class Pipes:
    """The two pipes of one process; :meth:`write` is a task of its owner."""

    def __init__(self, name: str, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._name = name
        self._stdin, self._stdout = process.stdin, process.stdout
        self._read = bytearray()
        self._tx, self._rx = trio.open_memory_channel[bytes](UNSENT_MAX)

    async def line(self) -> bytes | None:
        """The next line, None at the end.

        Raises:
            ProviderError: it is longer than 1 MiB.
        """
        searched = 0
        while (end := self._read.find(b"\n", searched)) < 0:
            searched = len(self._read)
            if searched > LINE_MAX_BYTES:
                raise ProviderError(self._name, "a line longer than 1 MiB", retryable=True)
            try:
                octets = await self._stdout.receive_some(CHUNK_BYTES)
            except trio.BrokenResourceError:
                return None
            if not octets:
                return None
            self._read += octets
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    async def send(self, line: bytes) -> None:
        """Hand one line to the writer; waits while too many are unsent."""
        await self._tx.send(line)

    def send_soon(self, line: bytes) -> None:
        """Hand one line to the writer, or drop it where too many are unsent."""
        try:
            self._tx.send_nowait(line)
        except trio.WouldBlock:
            return

    async def write(self) -> None:
        """Write what was handed in, until cancelled.

        Raises:
            ProviderError: the process does not read any more.
        """
        async for line in self._rx:
            try:
                await self._stdin.send_all(line + b"\n")
            except trio.BrokenResourceError as exc:
                raise ProviderError(self._name, "the server ended", retryable=True) from exc


@asynccontextmanager
async def open_pipes(
    name: str, command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[Pipes]:
    """Start ``command``; at the end of the block its input is closed, then it is ended.

    What it writes to its error output is dropped.

    Raises:
        ProviderError: it cannot be started.
    """
    try:
        process = await trio.lowlevel.open_process(
            list(command), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=dict(environment)
        )
    except OSError as exc:
        message = f"{command[0]} cannot be started: {exc.strerror}"
        raise ProviderError(name, message, retryable=False) from exc
    try:
        yield Pipes(name, process)
    finally:
        await _end(process)


async def _end(process: trio.Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
        await process.stdin.aclose()
        await process.wait()
    if process.returncode is None:
        process.terminate()
        with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await process.wait()
    if process.returncode is None:
        process.kill()
        with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
            await process.wait()
    with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
        await process.stdout.aclose()
