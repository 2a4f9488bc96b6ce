"""Fixed lines, synthesised once: greetings, reminders, apologies."""

from __future__ import annotations

from rtcore.ports import SpeechAudio

__all__ = ["LineCache", "SharedLines"]

CACHED_MAX_BYTES = 16 << 20  # some 17 minutes of speech: every line of many agents


class LineCache:
    """Sound by (voice, text). Only whole lines enter; the least recently used leaves."""

    def __init__(self, max_bytes: int = CACHED_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lines: dict[tuple[str, str], tuple[SpeechAudio, ...]] = {}

    def get(self, voice: str, text: str) -> tuple[SpeechAudio, ...] | None:
        """The sound of ``text``, or None if it has not been synthesised whole yet."""
        pieces = self._lines.pop((voice, text), None)
        if pieces is not None:
            self._lines[voice, text] = pieces  # now the youngest
        return pieces

    def put(self, voice: str, text: str, pieces: tuple[SpeechAudio, ...]) -> None:
        size = sum(len(piece.pcm) for piece in pieces)
        if size > self._max_bytes or (voice, text) in self._lines:
            return
        self._lines[voice, text] = pieces
        self._bytes += size
        while self._bytes > self._max_bytes:
            oldest = next(iter(self._lines))
            self._bytes -= sum(len(piece.pcm) for piece in self._lines.pop(oldest))


class SharedLines(LineCache):
    """A part of ``whole`` of its own: many may share its room, none hears another's lines."""

    def __init__(self, whole: LineCache, name: str) -> None:
        self._whole = whole
        self._name = name

    def get(self, voice: str, text: str) -> tuple[SpeechAudio, ...] | None:
        return self._whole.get(f"{self._name} {voice}", text)

    def put(self, voice: str, text: str, pieces: tuple[SpeechAudio, ...]) -> None:
        self._whole.put(f"{self._name} {voice}", text, pieces)
