"""Finds the passages of a document in a process of its own, out of the way of live calls.

What a hostile file can do there is bounded: in time, in memory, and to a message of ours.

In a thread it would share the interpreter's lock with them: 10 MiB of text made a 1 ms sleeper
beside it wake 5 ms late as a rule and 292 ms late at worst (2 cores, CPython 3.11).

The worker is ``python -m api.extracting <media type> <octets of memory>``: the document on its
standard input, a :class:`Found` as JSON on its standard output.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from typing import cast

import msgspec
import trio

from rtcore.agent.documents import MediaType, Passage, Unreadable, passages

__all__ = ["extract"]

LIMIT_S = 60.0  # 10 MiB take 2 s at worst
NICENESS = 10  # the node's calls come first
MEMORY_MAX_BYTES = 1 << 30  # 10 MiB of each kind take less than half of it


class Found(msgspec.Struct, frozen=True):
    """What the worker found, or why it could not."""

    passages: tuple[Passage, ...] = ()
    error: str = ""


async def extract(media_type: MediaType, content: bytes) -> tuple[Passage, ...]:
    """All passages of a document, in order; at least one.

    Raises:
        Unreadable: there is no text in it, or finding it took too long.

    Cancelled: the worker is killed.
    """
    with trio.move_on_after(LIMIT_S):
        try:
            done = await trio.run_process(
                [sys.executable, "-m", "api.extracting", media_type, str(MEMORY_MAX_BYTES)],
                stdin=content,
                capture_stdout=True,
                stderr=subprocess.DEVNULL,  # a traceback would quote the document
                check=False,
            )
        except OSError as exc:  # no memory, or no descriptors, for one more process
            raise Unreadable("no process could be started to read it", is_type=False) from exc
        try:
            found = msgspec.json.decode(done.stdout, type=Found)
        except msgspec.DecodeError as exc:  # it died, or what read the file wrote to its output
            raise Unreadable("the file could not be read", is_type=False) from exc
        if found.error:
            raise Unreadable(found.error, is_type=False)
        return found.passages
    raise Unreadable(f"reading the file took more than {LIMIT_S:g} s: split it", is_type=False)


def main() -> None:
    """Run the worker."""
    os.nice(NICENESS)
    media_type, memory_bytes = cast(MediaType, sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    try:
        found = Found(passages=passages(media_type, sys.stdin.buffer.read()))
    except Unreadable as exc:
        found = Found(error=str(exc))
    except MemoryError:
        found = Found(error="reading the file takes too much memory: split it")
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
