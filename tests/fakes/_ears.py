"""Speech that a fake can really hear: every word of a small language is a tone of its own.

Whole sentences in the voice of :mod:`rtcore.testing.voice`, which a voice detector takes for
speech, can be taught as well: a line that carries µ-law brings them as they were spoken.
"""

from __future__ import annotations

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
        self.silent_samples = 0  # since the last sound
        self.words: list[HeardWord] = []  # not yet taken
        self._tone = SILENCE
        self._tone_samples = 0
        self._lately = b""  # long enough to hold a key that is cut

    def feed(self, octets: bytes) -> None:
        self._find_taught(octets)
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
