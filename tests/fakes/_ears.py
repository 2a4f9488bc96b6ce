"""Speech that a fake can really hear: every word of a small language is a tone of its own.

Whole sentences in the voice of :mod:`rtcore.testing.voice`, which a voice detector takes for
speech, can be taught as well: a line that carries µ-law brings them as they were spoken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rtcore.audio import RATE_HZ, mulaw_to_pcm, pcm_to_mulaw
from rtcore.testing.voice import speak

TEXT = """one two three four five six seven eight nine ten my order number is please send it to
Berlin today thank you goodbye"""
WORDS = TEXT.split()
TONE_FIRST = 0x10  # the µ-law octet that is the first word; the others follow
WORD_SAMPLES = 1920  # 240 ms
GAP_SAMPLES = 640  # 80 ms of silence after each
HEARD_MIN_SAMPLES = 1200  # half a word and more is understood, less is not
SILENCE = 0xFF
LONG_RUN = re.compile(rb"(.)\1{99,}", re.DOTALL)  # of one octet: shorter ones are no words
KEY_SAMPLES = 400  # six pulses of the voice: no two words share them
TAUGHT: dict[bytes, tuple[str, int, int]] = {}  # a word's last sound: word, where, its length


def teach(text: str) -> bytes:
    """Have all ears understand ``text``; its sound, int16 at 8000 Hz."""
    spoken = speak(text)
    mulaw = pcm_to_mulaw(spoken.pcm)
    for word in spoken.words:
        at = word.end_sample - 2 * KEY_SAMPLES
        length = word.end_sample - word.start_sample
        key = mulaw[at : at + KEY_SAMPLES]
        TAUGHT[key] = (word.text, at - word.start_sample, length)
    return spoken.pcm


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
        self.words: list[HeardWord] = []  # not yet taken
        self._tone = SILENCE
        self._tone_samples = 0
        self._lately = b""  # long enough to hold a key that is cut

    @property
    def silent_samples(self) -> int:
        """Since the last sound."""
        return self._tone_samples if self._tone == SILENCE else 0

    def feed(self, octets: bytes) -> None:
        self._find_taught(octets)
        at = len(octets) - len(octets.lstrip(bytes([self._tone])))
        self._tone_samples += at
        self.samples += at
        while at < len(octets):
            self._word_ended()
            last = len(octets.rstrip(octets[-1:]))  # where the last run begins
            found = LONG_RUN.search(octets, at)
            start, end = found.span() if found is not None else (max(at, last), len(octets))
            self._tone, self._tone_samples = octets[start], end - start
            self.samples += end - at
            at = end

    def take(self) -> list[HeardWord]:
        """The words since the last take, a word under way included."""
        self._word_ended()
        self._tone_samples = 0
        words, self.words = self.words, []
        return words

    def _find_taught(self, octets: bytes) -> None:
        before = self.samples - len(self._lately)
        lately = self._lately + octets
        for key, (text, offset, length) in TAUGHT.items():
            at = lately.find(key)
            if at >= 0:
                start_s = (before + at - offset) / RATE_HZ
                self.words.append(HeardWord(text, start_s, start_s + length / RATE_HZ))
        self._lately = lately[1 - KEY_SAMPLES :]

    def _word_ended(self) -> None:
        index = self._tone - TONE_FIRST
        if self._tone_samples >= HEARD_MIN_SAMPLES and 0 <= index < len(WORDS):
            start = self.samples - self._tone_samples
            self.words.append(HeardWord(WORDS[index], start / RATE_HZ, self.samples / RATE_HZ))
