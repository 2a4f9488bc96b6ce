"""Frames between a node and its speech workers: plain octets over two pipes.

A frame is a little-endian header (payload length, kind, job) and a payload. The node opens
jobs and feeds them, the worker answers each under the same job number. Nothing of either
side's code crosses: a worker may be any program that speaks these frames.
"""

from __future__ import annotations

import enum
import struct
from typing import BinaryIO, NamedTuple

import msgspec

from rtcore.errors import RemoteProtocolError
from rtcore.ports import Word

__all__ = [
    "PAYLOAD_MAX_BYTES",
    "POSITION",
    "Frame",
    "Heard",
    "Kind",
    "Listen",
    "Speak",
    "Unframer",
    "pack",
    "read",
    "write",
]

HEADER = struct.Struct("<IBI")
POSITION = struct.Struct("<q")  # a caller sample, ahead of the audio that begins there
PAYLOAD_MAX_BYTES = 1 << 20  # an agent's phrases are the largest: some 100 kB


class Kind(enum.IntEnum):
    """What a frame says; the payload is named after the colon."""

    READY = 0  # worker: it can take jobs
    FAILED = 1  # worker, this job is over: UTF-8 reason
    OPEN = 2  # node, a job begins: Listen, or nothing
    CLOSE = 3  # node, stop this job and forget it
    HEAR = 4  # node: POSITION of the first sample, then PCM
    UTTERANCE_END = 5  # node: POSITION where the caller fell silent
    HEARD = 6  # worker: Heard
    SPEAK = 7  # node: Speak
    SOUND = 8  # worker: PCM
    WORDS = 9  # worker: a list of WordTime
    SPOKEN = 10  # worker: all of the text has been sent as sound


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Opens a job of the recogniser: what may be said to it."""

    phrases: tuple[str, ...]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the recogniser believes of the present utterance; the final one ends it."""

    text: str
    words: tuple[Word, ...] = ()
    is_final: bool = False
    was_asked: bool = False  # it answers an UTTERANCE_END


class Speak(msgspec.Struct, frozen=True, kw_only=True):
    """Asks the voice for one text."""

    text: str
    name: str
    words_per_minute: int
    pitch: int


class Frame(NamedTuple):
    """One message of the pipe; job 0 is the worker itself."""

    kind: Kind
    job: int
    payload: bytes = b""


def pack(frame: Frame) -> bytes:
    """Return ``frame`` as octets."""
    assert len(frame.payload) <= PAYLOAD_MAX_BYTES
    return HEADER.pack(len(frame.payload), frame.kind, frame.job) + frame.payload


class Unframer:
    """Cuts a stream of octets, however split, into frames."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, octets: bytes | bytearray) -> list[Frame]:
        """Return the frames that ``octets`` completes.

        Raises:
            RemoteProtocolError: the other side does not speak this protocol.
        """
        self._pending += octets
        frames: list[Frame] = []
        start = 0
        while len(self._pending) - start >= HEADER.size:
            length, kind, job = _header(self._pending, start)
            end = start + HEADER.size + length
            if end > len(self._pending):
                break
            frames.append(Frame(kind, job, bytes(self._pending[start + HEADER.size : end])))
            start = end
        del self._pending[:start]
        return frames


def _header(octets: bytes | bytearray, start: int) -> tuple[int, Kind, int]:
    length, kind, job = HEADER.unpack_from(octets, start)
    if length > PAYLOAD_MAX_BYTES or kind not in Kind.__members__.values():
        raise RemoteProtocolError(f"speech worker: frame of kind {kind} with {length} octets")
    return length, Kind(kind), job


def read(pipe: BinaryIO) -> Frame | None:
    """Read one frame, blocking: for workers. None at the end of the pipe."""
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    length, kind, job = _header(header, 0)
    payload = pipe.read(length)
    return Frame(kind, job, payload) if len(payload) == length else None


def write(pipe: BinaryIO, frame: Frame) -> None:
    """Write one frame and flush it, blocking: for workers."""
    pipe.write(pack(frame))
    pipe.flush()
