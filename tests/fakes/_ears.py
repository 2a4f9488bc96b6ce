"""Speech that a fake can really hear: every word of a small language is a tone of its own."""

from __future__ import annotations

from dataclasses import dataclass

from rtcore.audio import RATE_HZ, mulaw_to_pcm

TEXT = """one two three four five six seven eight nine ten my order number is please send it to
Berlin today thank you goodbye"""
WORDS = TEXT.split()
TONE_FIRST = 0x10  # the µ-law octet that is the first word; the others follow
WORD_SAMPLES = 1920  # 240 ms
GAP_SAMPLES = 640  # 80 ms of silence after each
HEARD_MIN_SAMPLES = 1200  # half a word and more is understood, less is not
SILENCE = 0xFF


def mulaw_of(text: str) -> bytes:
    """The sound of ``text`` as µ-law, one octet a sample."""
    octets = bytearray()
    for word in text.split():
        octets += bytes([TONE_FIRST + WORDS.index(word)]) * WORD_SAMPLES
        octets += bytes([SILENCE]) * GAP_SAMPLES
    return bytes(octets)


def pcm_of(text: str) -> bytes:
    """The sound of ``text`` as pcm, int16 at 8000 Hz."""
    return mulaw_to_pcm(mulaw_of(text))


@dataclass(frozen=True)
class HeardWord:
    """A word and where it lies in what was heard, in seconds."""

    text: str
    start_s: float
    end_s: float


class Ears:
    """Understands the language of :func:`mulaw_of`, however it is cut."""

    def __init__(self) -> None:
        self.samples = 0
        self.silent_samples = 0  # since the last sound
        self.words: list[HeardWord] = []  # not yet taken
        self._tone = SILENCE
        self._tone_samples = 0

    def feed(self, octets: bytes) -> None:
        for octet in octets:
            if octet != self._tone:
                self._word_ended()
                self._tone, self._tone_samples = octet, 0
            self._tone_samples += 1
            self.samples += 1
            self.silent_samples = self.silent_samples + 1 if octet == SILENCE else 0

    def take(self) -> list[HeardWord]:
        """The words since the last take, a word under way included."""
        self._word_ended()
        self._tone_samples = 0
        words, self.words = self.words, []
        return words

    def _word_ended(self) -> None:
        index = self._tone - TONE_FIRST
        if self._tone_samples >= HEARD_MIN_SAMPLES and 0 <= index < len(WORDS):
            start = self.samples - self._tone_samples
            self.words.append(HeardWord(WORDS[index], start / RATE_HZ, self.samples / RATE_HZ))
