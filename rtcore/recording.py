"""Stereo recordings of calls, written while they last: left the caller, right what they heard.

Both sides are on the caller's clock: sample n of either is what was said, or heard, at sample n
of the call; a gap is silence, and what was cleared before it was heard is not in it. A call
appends two references a frame and hands half a second on at a time; one task for all calls
gives what has gathered to one thread. The disk is never waited for: what it does not take in
time is dropped and counted, with silence in its place.

Files are WAV, µ-law, 8000 Hz, two channels: 16 kB a second. Their headers are right after each
write, so that a file is whole wherever its writer was killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog
import trio

from rtcore.audio import FRAME_BYTES, RATE_HZ, pcm_to_mulaw
from rtcore.errors import ConfigError

__all__ = [
    "HEADER_BYTES",
    "SAMPLE_BYTES",
    "Recording",
    "RecordingStats",
    "Recordings",
    "file_name",
    "repair",
    "wav_header",
]

log = structlog.get_logger()

CHUNK_FRAMES = 25  # 500 ms: with the pause of the writer, less than a second is ever in memory
WRITE_EVERY_S = 0.3
FLUSH_LIMIT_S = 5.0  # a disk that stands still does not hold up the end of a node
WAITING_MAX_BYTES = 64 << 20  # 400 calls for ten seconds: a disk that stands still for longer
# loses what comes then
SILENT_FRAME = bytes(FRAME_BYTES)
SILENCE = b"\xff"  # µ-law's zero
FILL_BYTES = 64 << 10
HEADER = struct.Struct("<4sI4s4sIHHIIHHH4sII4sI")  # RIFF, fmt with an empty extension, fact, data
HEADER_BYTES = HEADER.size
SAMPLE_BYTES = 2  # one octet of each side
MULAW, SIDES = 0x0007, 2
DATA_MAX_BYTES = 0xFFFFFFFF - HEADER_BYTES  # sizes are 32 bits wide: 74 hours
ID_FILE = ".rtcore-recordings"
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def wav_header(samples: int) -> bytes:
    """The header of a recording of ``samples``; the octets of both sides follow, in turn."""
    data_bytes = min(samples * SAMPLE_BYTES, DATA_MAX_BYTES)
    return HEADER.pack(
        b"RIFF", HEADER_BYTES - 8 + data_bytes, b"WAVE",
        b"fmt ", 18, MULAW, SIDES, RATE_HZ, RATE_HZ * SIDES, SIDES, 8, 0,
        b"fact", 4, samples & 0xFFFFFFFF,
        b"data", data_bytes,
    )  # fmt: skip


def file_name(call_id: str) -> str:
    """A name no other recording has; a carrier's id is never taken as a path."""
    return f"{UNSAFE.sub('_', call_id)[:64]}-{secrets.token_hex(4)}.wav"


def repair(path: Path) -> int | None:
    """Let the header of a file whose writer was killed say what is there; return its samples.

    None: it is still being written, by this process or another.

    Raises:
        OSError: it is not there, or cannot be written.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        samples = max(0, os.fstat(fd).st_size - HEADER_BYTES) // SAMPLE_BYTES
        os.truncate(fd, HEADER_BYTES + samples * SAMPLE_BYTES)
        os.pwrite(fd, wav_header(samples), 0)
        os.fsync(fd)
        return samples
    finally:
        os.close(fd)


class RecordingStats(msgspec.Struct, kw_only=True):
    """Counts since the node started."""

    recordings: int = 0
    written_bytes: int = 0
    dropped_samples: int = 0  # the disk was too far behind
    lost_samples: int = 0  # the disk refused them


class Recording:
    """The recording of one call; a :class:`rtcore.ports.Recorder`."""

    def __init__(
        self, recordings: Recordings, name: str, on_kept: Callable[[Recording], None] | None
    ) -> None:
        self.name = name  # of the file, within the folder
        self.samples = 0  # handed on so far
        self.dropped_samples = 0
        self.is_closed = False
        self._recordings = recordings
        self._on_kept = on_kept
        self._caller: list[bytes] = []
        self._agent: list[bytes] = []
        self.file = _File(recordings.root / name)  # the writer's alone

    def push(self, caller: bytes, agent: bytes | None) -> None:
        """The next 20 ms of both sides, int16 at 8000 Hz; None is silence. Never waits."""
        self._caller.append(caller)
        self._agent.append(SILENT_FRAME if agent is None else agent)
        if len(self._caller) >= CHUNK_FRAMES:
            self._hand_over()

    def close(self) -> None:
        """The call is over; a second time does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        if self._caller:
            self._hand_over()
        self._recordings.finish(self)

    def told_kept(self) -> None:
        """The file is whole on the disk."""
        if self._on_kept is not None:
            self._on_kept(self)

    def _hand_over(self) -> None:
        left, right = pcm_to_mulaw(b"".join(self._caller)), pcm_to_mulaw(b"".join(self._agent))
        self._caller.clear()
        self._agent.clear()
        stereo = bytearray(len(left) * SAMPLE_BYTES)
        stereo[0::2], stereo[1::2] = left, right
        if not self._recordings.take(self, self.samples, stereo):
            self.dropped_samples += len(left)
        self.samples += len(left)


class Recordings:
    """The folder in which a node keeps recordings, and the one task that writes them.

    Each process may have one of the same folder: a file is locked while it is written.
    """

    def __init__(self, root: Path, *, waiting_max_bytes: int = WAITING_MAX_BYTES) -> None:
        """
        Raises:
            ConfigError: the folder cannot be made or written.
        """
        self.root = root
        self.stats = RecordingStats()
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.id = _folder_id(root)
        except OSError as exc:
            raise ConfigError("recordings", f"{root} cannot be used: {exc.strerror}") from exc
        self._waiting_max_bytes = waiting_max_bytes
        self._waiting_bytes = 0
        self._waiting: list[tuple[Recording, int, bytearray]] = []
        self._ended: list[Recording] = []
        self._open: set[Recording] = set()
        self._kept: deque[Recording] = deque()  # filled by the thread
        self._work = trio.Event()
        self._written = trio.Event()  # set, and made anew, after each round of writing
        self._rounds = 0
        self._is_writing = False
        self._thread = trio.CapacityLimiter(1)  # files are written by one thread at a time

    def begin(self, name: str, on_kept: Callable[[Recording], None] | None = None) -> Recording:
        """Record a call into the file ``name`` (which may begin with folders).

        Nothing is on the disk before the first half second; ``on_kept`` is called once the
        file is whole there, or if it stays empty never was.
        """
        recording = Recording(self, name, on_kept)
        self._open.add(recording)
        self.stats.recordings += 1
        return recording

    def path(self, name: str) -> Path:
        """Where the recording ``name`` is."""
        return self.root / name

    def take(self, recording: Recording, at_sample: int, stereo: bytearray) -> bool:
        """Queue a piece; False if too much waits already."""
        if self._waiting_bytes + len(stereo) > self._waiting_max_bytes:
            self.stats.dropped_samples += len(stereo) // SAMPLE_BYTES
            return False
        self._waiting_bytes += len(stereo)
        self._waiting.append((recording, at_sample, stereo))
        return True

    def finish(self, recording: Recording) -> None:
        """All of ``recording`` has been taken."""
        self._open.discard(recording)
        self._ended.append(recording)
        self._work.set()

    async def flush(self) -> None:
        """Return when all that was taken by now is on the disk (or after a limit)."""
        wanted = self._rounds + (2 if self._is_writing else 1)
        with trio.move_on_after(FLUSH_LIMIT_S):
            while self._rounds < wanted:
                self._work.set()
                await self._written.wait()

    async def run(self) -> None:
        """Write for ever. Cancelled: recordings are closed where they are (within a limit)."""
        try:
            while True:
                with trio.move_on_after(WRITE_EVERY_S):
                    await self._work.wait()
                self._work = trio.Event()
                await self._write()
                self._rounds += 1
                self._written.set()
                self._written = trio.Event()
        finally:
            with trio.move_on_after(FLUSH_LIMIT_S, shield=True):
                for recording in tuple(self._open):
                    recording.close()
                await self._write()

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        ended, self._ended = self._ended, []
        self._waiting_bytes = 0
        if waiting or ended:
            self._is_writing = True
            try:
                await trio.to_thread.run_sync(
                    self._write_all, waiting, ended, abandon_on_cancel=True, limiter=self._thread
                )
            finally:
                self._is_writing = False
        while self._kept:
            self._kept.popleft().told_kept()

    def _write_all(
        self, waiting: list[tuple[Recording, int, bytearray]], ended: list[Recording]
    ) -> None:
        """In the thread: one write and one header for each piece; no piece spoils another."""
        for recording, at_sample, stereo in waiting:
            try:
                recording.file.write(at_sample * SAMPLE_BYTES, stereo)
                self.stats.written_bytes += len(stereo)
            except OSError as exc:
                self.stats.lost_samples += len(stereo) // SAMPLE_BYTES
                recording.file.complain(exc)
        for recording in ended:
            try:
                recording.file.close(recording.samples * SAMPLE_BYTES)
            except OSError as exc:
                recording.file.complain(exc)
            self._kept.append(recording)


class _File:
    """One file, in the writer's thread; opened by the first write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._data_bytes = 0
        self._has_complained = False

    def write(self, at: int, data: bytes | bytearray) -> None:
        """Put ``data`` at octet ``at``; what is missing before it becomes silence."""
        if self._fd is None:
            self._fd = self._opened()
        self._fill(at)
        self._put(at, data)

    def close(self, size: int) -> None:
        """End the file at ``size`` octets of sound, on the disk for sure."""
        if self._fd is None:
            return
        try:
            self._fill(size)
        finally:
            fd, self._fd = self._fd, None
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def complain(self, exc: OSError) -> None:
        """Log what is wrong, once for a file."""
        if not self._has_complained:
            self._has_complained = True
            log.error("recording_not_written", reason=errno.errorcode.get(exc.errno or 0, "?"))

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._path, flags, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)  # until it is closed, or its process is gone
        return fd

    def _fill(self, until: int) -> None:
        while self._data_bytes < until:
            size = min(FILL_BYTES, until - self._data_bytes)
            self._put(self._data_bytes, SILENCE * size)

    def _put(self, at: int, data: bytes | bytearray) -> None:
        assert self._fd is not None
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._fd, rest, HEADER_BYTES + at)
            at, rest = at + done, rest[done:]
        self._data_bytes = max(self._data_bytes, at)
        os.pwrite(self._fd, wav_header(self._data_bytes // SAMPLE_BYTES), 0)


def _folder_id(root: Path) -> str:
    """What names the folder, wherever it is mounted: made by whoever comes first."""
    path, own = root / ID_FILE, root / f"{ID_FILE}-{secrets.token_hex(8)}"
    if not path.exists():
        own.write_text(secrets.token_hex(12), encoding="ascii")
        with suppress(FileExistsError):
            os.link(own, path)  # whole, or not at all
        own.unlink()
    return path.read_text(encoding="ascii")
