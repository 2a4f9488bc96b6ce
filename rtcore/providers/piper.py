"""A Piper voice on this machine: a program and a voice's file, both by path.

Source: piper1-gpl 1.8 ``python -m piper --help`` and ``docs/CLI.md``; rhasspy/piper ``main.cpp``.
Both take a line of text on their input and, with ``--output_dir``, write one WAV file for each,
whose path they then say: the raw stream of the same programs does not tell where a line's sound
ends. The model is loaded once; a line is spoken whole before its first sound is there, so
segments should be sentences. Piper is under the GPL: it is run, never imported.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import textwrap
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import trio
from msgspec import Meta

from rtcore.audio import RATE_HZ, RATES_HZ, Resampler
from rtcore.channels import put
from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import CallContext, Segment, SpeechAudio
from rtcore.providers._faults import timed_out
from rtcore.providers._process import (
    HEALTHY_AFTER_S,
    RESTART_FIRST_S,
    RESTART_MAX_S,
    end_process,
)
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._tasks import run_beside

__all__ = ["PiperSettings", "PiperSynthesizer"]

log = structlog.get_logger()

START_LIMIT_S = 60.0  # to load the model and speak PROBE: 4 s on two busy cores
PROBE = "Ready."
TEXT_MAX_CHARS = 400  # of a line: half a minute of speech
PIECE_MS = 100  # of sound handed on at once
WAV_MAX_BYTES = 16 << 20
WAV_CHECK_S = 0.005  # rhasspy's program names the file before it has written the last of it
OUTPUT_MAX_BYTES = 1 << 16  # of one line of what it says
READ_BYTES = 1 << 16
NICENESS = 5  # a model on all cores must not delay the calls' 20 ms
SHARED_MEMORY = Path("/dev/shm")  # what is said to callers stays off the disk


class PiperSettings(Settings, frozen=True):
    """``voice`` is the path of a ``.onnx`` file, its ``.onnx.json`` beside it. ``extra`` are
    further arguments of the program: ``["--volume", "0.7"]``, ``["--cuda"]``."""

    voice: str
    executable: str = "piper"  # a path, or a name on PATH
    workers: Annotated[int, Meta(ge=1, le=64)] = 1  # each speaks one sentence at a time
    speaker: Annotated[int, Meta(ge=0)] | None = None  # None: the voice's own, as all below
    length_scale: Annotated[float, Meta(ge=0.25, le=4)] | None = None  # more is slower
    noise_scale: Annotated[float, Meta(ge=0, le=2)] | None = None
    noise_w: Annotated[float, Meta(ge=0, le=2)] | None = None
    sentence_silence_s: Annotated[float, Meta(ge=0, le=5)] | None = None
    extra: tuple[str, ...] = ()
    deadlines: Deadlines = Deadlines(first_byte_s=3.0)  # asked -> all of a line, turns included


class _Audio(msgspec.Struct):
    sample_rate: int


class _VoiceConfig(msgspec.Struct):
    """What we need of a voice's ``.onnx.json``."""

    audio: _Audio


class PiperSynthesizer:
    """A :class:`~rtcore.ports.Synthesizer`; :meth:`run` keeps its processes.

    Raises:
        ConfigError: the program or the voice is not there, or not what it should be.
    """

    def __init__(self, settings: PiperSettings) -> None:
        self._deadline_s = settings.deadlines.first_byte_s
        self._orders, orders = trio.open_memory_channel[_Order](0)
        command = _command(settings)
        self._workers = [
            _Worker(self.name, command, orders, self._deadline_s) for _ in range(settings.workers)
        ]

    @property
    def name(self) -> str:
        return "piper"

    @property
    def pids(self) -> list[int]:
        """The processes that can speak now."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the processes alive until cancelled; started when each has spoken.

        Raises:
            ProviderError: one could not be started at all.
        """

        async def keep() -> None:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as starting:
                    for worker in self._workers:
                        starting.start_soon(nursery.start, worker.run)
                task_status.started()

        await run_beside(keep)  # for its one plain error

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak each segment in order; see :class:`rtcore.ports.Synthesizer`.

        Cancelled: the line under way is spoken to its end and heard by nobody, for Piper cannot
        be stopped in it; its process takes another after that.
        """
        async for segment in segments:
            for line in _lines(segment.text):
                for pcm in (await self._spoken(line)).pieces():
                    await put(out, SpeechAudio(segment=segment.index, pcm=pcm))
            await put(out, SpeechAudio(segment=segment.index, pcm=b"", is_last=True))

    async def _spoken(self, line: str) -> _Sound:
        order = _Order(line)
        with trio.move_on_after(self._deadline_s):
            await self._orders.send(order)  # waits for its turn
            await order.is_over.wait()
        if order.sound is not None:
            return order.sound
        if order.is_over.is_set() and not order.is_late:
            raise ProviderError(self.name, "the process died", retryable=True)
        raise timed_out(self.name, "a sentence", self._deadline_s)


class _Sound(msgspec.Struct, frozen=True):
    """A line, spoken."""

    pcm: bytes
    rate_hz: int

    def pieces(self) -> Iterator[bytes]:
        """Its pcm at the telephone's rate, in pieces."""
        resampler = Resampler(self.rate_hz, RATE_HZ)
        step = self.rate_hz * PIECE_MS // 1000 * 2
        for at in range(0, len(self.pcm), step):
            yield resampler.push(self.pcm[at : at + step])
        yield resampler.flush()


class _Order:
    """A line to be spoken; over with its sound, or without if its process was lost."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.sound: _Sound | None = None
        self.is_late = False  # its process hangs
        self.is_over = trio.Event()


class _Worker:
    """One place for a process, filled by one after another."""

    def __init__(
        self,
        provider: str,
        command: tuple[str, ...],
        orders: trio.MemoryReceiveChannel[_Order],
        deadline_s: float,
    ) -> None:
        self._provider = provider
        self._command = command
        self._orders = orders
        self._deadline_s = deadline_s
        self._last_words = ""  # what the process said last, other than the name of a file
        self.pid: int | None = None  # while it can speak

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start the process again whenever it ends; an end before it first spoke is an error."""
        delay_s = RESTART_FIRST_S
        has_spoken = False

        def spoke() -> None:
            nonlocal has_spoken
            if not has_spoken:
                has_spoken = True
                task_status.started()

        while True:
            began_at = trio.current_time()
            await self._live(spoke)
            if not has_spoken:
                reason = f"{self._command[0]} does not start: {self._last_words}"
                raise ProviderError(self._provider, reason.rstrip(": "), retryable=False)
            if trio.current_time() - began_at >= HEALTHY_AFTER_S:
                delay_s = RESTART_FIRST_S
            await trio.sleep(delay_s)
            delay_s = min(2 * delay_s, RESTART_MAX_S)

    async def _live(self, spoke: Callable[[], None]) -> None:
        """Live one process from start to end, in a directory of its own."""
        try:
            memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
            directory = Path(tempfile.mkdtemp(prefix="rtcore-piper-", dir=memory))
        except OSError as exc:
            self._not_started(exc)
            return
        try:
            process = await self._start(directory)
            if process is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            try:
                async with trio.open_nursery() as nursery:
                    named, names = trio.open_memory_channel[Path](1)
                    nursery.start_soon(self._serve, process, names, spoke)
                    await self._read(process, directory, named)
                    nursery.cancel_scope.cancel(reason="the process is over")
            finally:
                self.pid = None
                await end_process(process)
                log.warning("piper_ended", exit_code=process.returncode)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    async def _start(self, directory: Path) -> trio.Process | None:
        try:
            return await trio.lowlevel.open_process(
                [*self._command, "--output_dir", str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,  # one program names its files there, the other here
                process_group=0,  # a Ctrl-C at the terminal is the node's to handle
            )
        except OSError as exc:
            self._not_started(exc)
            return None

    def _not_started(self, exc: OSError) -> None:
        """No memory, no descriptors, the program gone: the node goes on, and tries again."""
        self._last_words = exc.strerror or type(exc).__name__
        log.warning("piper_not_started", reason=self._last_words)

    async def _serve(
        self,
        process: trio.Process,
        names: trio.MemoryReceiveChannel[Path],
        spoke: Callable[[], None],
    ) -> None:
        """Have orders spoken, one at a time; kill a process that does not do so in time."""
        order, limit_s = _Order(PROBE), START_LIMIT_S
        while True:
            try:
                with trio.move_on_after(limit_s) as limit:
                    order.sound = await _speak(process, order.line, names)
                order.is_late = limit.cancelled_caught
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return  # it died; its reader knows
            finally:
                order.is_over.set()
            if limit.cancelled_caught:
                process.kill()
                return
            self.pid = process.pid
            spoke()
            order, limit_s = await self._orders.receive(), self._deadline_s

    async def _read(
        self, process: trio.Process, directory: Path, named: trio.MemorySendChannel[Path]
    ) -> None:
        """Note the files that the process names, until it ends."""
        assert process.stdout is not None
        pending = b""
        while octets := await process.stdout.receive_some(READ_BYTES):
            *lines, pending = (pending + octets)[-OUTPUT_MAX_BYTES:].split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if text.endswith(".wav") and str(directory) in text:
                    with contextlib.suppress(trio.WouldBlock):  # none was asked for
                        named.send_nowait(Path(text[text.index(str(directory)) :]))
                elif text:
                    self._last_words = text


async def _speak(
    process: trio.Process, line: str, names: trio.MemoryReceiveChannel[Path]
) -> _Sound:
    """Have ``line`` spoken; waits until its file is there, and whole."""
    assert process.stdin is not None
    await process.stdin.send_all(f"{line}\n".encode())
    path = await names.receive()
    while True:  # a file tells nobody when it is whole
        if (sound := await trio.to_thread.run_sync(_take_wav, path)) is not None:
            return sound
        await trio.sleep(WAV_CHECK_S)


def _take_wav(path: Path) -> _Sound | None:
    """Read a WAV file and delete it; None while something of it is missing."""
    try:
        with wave.open(str(path), "rb") as reader:
            frames, rate_hz = reader.getnframes(), reader.getframerate()
            pcm = reader.readframes(min(frames, WAV_MAX_BYTES // 2))
            is_ours = (reader.getsampwidth(), reader.getnchannels()) == (2, 1)
    except (EOFError, OSError, wave.Error):
        return None
    if not is_ours or rate_hz not in RATES_HZ or len(pcm) < frames * 2:
        return None
    path.unlink(missing_ok=True)
    return _Sound(pcm, rate_hz)


def _lines(text: str) -> Iterator[str]:
    """``text`` as lines that hold something to be spoken: a program dies of one without."""
    for line in textwrap.wrap(text, TEXT_MAX_CHARS):  # line ends in it are spaces
        if any(char.isalnum() for char in line):
            yield line.replace("[[", "[ [")  # what would follow are phonemes


def _command(settings: PiperSettings) -> tuple[str, ...]:
    """The program and its arguments, checked.

    Raises:
        ConfigError: see :class:`PiperSynthesizer`.
    """
    executable = shutil.which(settings.executable)
    if executable is None:
        raise ConfigError(
            "executable",
            f"{settings.executable} is no program here: pip install piper-tts, or give its path",
        )
    voice = Path(settings.voice)
    if voice.suffix != ".onnx" or not voice.is_file():
        raise ConfigError("voice", f"{voice} is no .onnx file: give the path of a Piper voice")
    described = Path(f"{voice}.json")
    try:
        rate_hz = msgspec.json.decode(described.read_bytes(), type=_VoiceConfig).audio.sample_rate
    except OSError as exc:
        raise ConfigError("voice", f"{described} is missing: it comes with the voice") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError("voice", f"{described} does not describe a Piper voice: {exc}") from exc
    if rate_hz not in RATES_HZ:
        raise ConfigError("voice", f"{voice} speaks at {rate_hz} Hz, which is none of {RATES_HZ}")
    options = {
        "--speaker": settings.speaker,
        "--length_scale": settings.length_scale,
        "--noise_scale": settings.noise_scale,
        "--noise_w": settings.noise_w,
        "--sentence_silence": settings.sentence_silence_s,
    }
    given = ((name, str(value)) for name, value in options.items() if value is not None)
    return (executable, "--model", str(voice), *itertools.chain(*given), *settings.extra)
