"""The voice worker: espeak-ng through ctypes, in a process of its own.

Run as ``python -m rtcore.providers.embedded._espeak``. espeak-ng is GPL-3.0-or-later; this
process is the only one that loads it, and speaks with the node in plain frames. The library
is global to its process and one synthesis takes milliseconds (14 s of speech in 9.7 ms), so
jobs take turns. Source of the interface: espeak-ng 1.52, ``speak_lib.h``.
"""

from __future__ import annotations

import ctypes
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import espeakng_loader
import msgspec
import numpy as np
import numpy.typing as npt

from rtcore.audio import RATE_HZ, Resampler
from rtcore.errors import ConfigError
from rtcore.ports import WordTime
from rtcore.providers.embedded import _wire
from rtcore.providers.embedded._wire import Frame, Kind, Speak

Pcm = npt.NDArray[np.int16]
Block = Callable[[Pcm, list["WordStart"]], bool]

# speak_lib.h
AUDIO_OUTPUT_SYNCHRONOUS = 2  # sound to the callback, the call returns when all is spoken
CHARS_UTF8 = 1
RATE, PITCH = 1, 3
EVENT_LIST_TERMINATED, EVENT_WORD = 0, 1
BUFFER_MS = 20  # asks for small blocks; espeak then delivers about 60 ms at a time

LEVEL_DBFS = -20.0  # active speech: loud on a telephone, and peaks just short of clipping
ACTIVE_BELOW_PEAK_DB = 30.0  # what lies further under the loudest 20 ms is pause, not speech
WAITING_MAX_JOBS = 256  # frames read ahead while one text is spoken
REFERENCE = "The quick brown fox jumps over the lazy dog, and rests beside the quiet river."


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # in characters, the first is 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


class WordStart(NamedTuple):
    """A word begins: where in the text, and at which sample of espeak's sound."""

    start: int
    length: int
    sample: int


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """The library, once per process."""

    def __init__(self) -> None:
        self._lib: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate_hz: int = self._lib.espeak_Initialize(
            AUDIO_OUTPUT_SYNCHRONOUS, BUFFER_MS, espeakng_loader.get_data_path().encode(), 0
        )
        if self.rate_hz <= 0:
            raise ConfigError("embedded.voice", "espeak-ng found no voice data")
        self._callback = _Callback(self._on_block)  # kept: the library holds only its address
        self._lib.espeak_SetSynthCallback(self._callback)
        self._block: Block = lambda pcm, heard: True
        self._voice = ""

    def _on_block(self, wav: Any, count: int, events: Any) -> int:
        heard: list[WordStart] = []
        i = 0
        while (event := events[i]).type != EVENT_LIST_TERMINATED:
            if event.type == EVENT_WORD:
                heard.append(WordStart(event.text_position - 1, event.length, event.sample))
            i += 1
        pcm = (
            np.ctypeslib.as_array(wav, (count,)).copy() if wav and count else np.empty(0, np.int16)
        )
        return 0 if self._block(pcm, heard) else 1  # 1 aborts the synthesis

    def speak(self, order: Speak, block: Block) -> None:
        """Synthesise a text, handing each block to ``block`` until it returns False.

        Raises:
            ConfigError: there is no voice of that name.
        """
        if order.name != self._voice:
            if self._lib.espeak_SetVoiceByName(order.name.encode()) != 0:
                raise ConfigError("embedded.voice.name", f"espeak-ng has no voice {order.name}")
            self._voice = order.name
        self._lib.espeak_SetParameter(RATE, order.words_per_minute, 0)
        self._lib.espeak_SetParameter(PITCH, order.pitch, 0)
        self._block = block
        octets = order.text.encode()
        self._lib.espeak_Synth(octets, len(octets) + 1, 0, 1, 0, CHARS_UTF8, None, None)


def active_level_dbfs(pcm: Pcm, rate_hz: int) -> float:
    """Return the level of the speech in ``pcm`` without its pauses, in dB under full scale."""
    frame_samples = rate_hz // 50
    frames = pcm[: len(pcm) // frame_samples * frame_samples].reshape(-1, frame_samples)
    power = np.mean((frames / 32768.0) ** 2, axis=1) + 1e-12
    active = power[power > power.max() * 10 ** (-ACTIVE_BELOW_PEAK_DB / 10)]
    return float(10 * np.log10(active.mean()))


class Voice:
    """Speaks texts as telephone audio: 8 kHz, one loudness for all voices."""

    def __init__(self, espeak: Espeak) -> None:
        self._espeak = espeak
        self._gains: dict[str, float] = {}

    def speak(self, job: int, order: Speak, wanted: Callable[[int], bool], pipe: BinaryIO) -> None:
        """Write the frames of one text to ``pipe``, stopping when it is not wanted any more."""
        gain = self._gain(order)
        resampler = Resampler(self._espeak.rate_hz, RATE_HZ)
        sent_samples = 0
        word: WordStart | None = None

        def flush_word(end_sample: int) -> None:
            nonlocal word
            if word is None:
                return
            text = order.text[word.start : word.start + word.length]
            start_sample = word.sample * RATE_HZ // self._espeak.rate_hz
            times = WordTime(text=text, start_sample=start_sample, end_sample=end_sample)
            _wire.write(pipe, Frame(Kind.WORDS, job, msgspec.json.encode([times])))
            word = None

        def block(pcm: Pcm, starts: list[WordStart]) -> bool:
            nonlocal sent_samples, word
            if not wanted(job):
                return False
            for start in starts:
                flush_word(start.sample * RATE_HZ // self._espeak.rate_hz)
                word = start
            send(resampler.push(np.clip(pcm * gain, -32768, 32767).astype(np.int16)))
            return True

        def send(pcm: bytes) -> None:
            nonlocal sent_samples
            if pcm:
                sent_samples += len(pcm) // 2
                _wire.write(pipe, Frame(Kind.SOUND, job, pcm))

        self._espeak.speak(order, block)
        if wanted(job):
            send(resampler.flush())
            flush_word(sent_samples)
            _wire.write(pipe, Frame(Kind.SPOKEN, job))

    def _gain(self, order: Speak) -> float:
        """Return what brings this voice to LEVEL_DBFS, measured on its first use."""
        if order.name not in self._gains:
            blocks: list[Pcm] = []

            def block(pcm: Pcm, starts: list[WordStart]) -> bool:
                blocks.append(pcm)
                return True

            self._espeak.speak(msgspec.structs.replace(order, text=REFERENCE), block)
            level_dbfs = active_level_dbfs(np.concatenate(blocks), self._espeak.rate_hz)
            self._gains[order.name] = 10 ** ((LEVEL_DBFS - level_dbfs) / 20)
        return self._gains[order.name]


class Orders:
    """What the node asks, read ahead by a thread so that a CLOSE is seen in mid-speech."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._queue: queue.Queue[Frame | None] = queue.Queue(WAITING_MAX_JOBS)
        self._open: set[int] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while (frame := _wire.read(self._pipe)) is not None:
            if frame.kind is Kind.OPEN:
                self._open.add(frame.job)
            elif frame.kind is Kind.CLOSE:
                self._open.discard(frame.job)
            else:
                self._queue.put(frame)
        self._open.clear()  # the node is gone: stop in mid-speech
        self._queue.put(None)

    def is_open(self, job: int) -> bool:
        return job in self._open

    def next(self) -> Frame | None:
        return self._queue.get()


def main() -> None:
    """Serve until the node closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the node decides when to end, not the terminal
    voice, orders, pipe = Voice(Espeak()), Orders(sys.stdin.buffer), sys.stdout.buffer
    _wire.write(pipe, Frame(Kind.READY, 0))
    while (frame := orders.next()) is not None:
        if not orders.is_open(frame.job):
            continue
        try:
            order = msgspec.json.decode(frame.payload, type=Speak)
            voice.speak(frame.job, order, orders.is_open, pipe)
        except ConfigError as exc:
            _wire.write(pipe, Frame(Kind.FAILED, frame.job, str(exc).encode()))


if __name__ == "__main__":
    main()
