"""A sound that a voice detector takes for speech, and whose every piece can be recognised again.

Each word is a run of glottal pulses ringing in two resonances: voiced, harmonic, swelling and
fading like a syllable, never silent inside. Its pitch glides through each word, as voices do and
notes do not, to where the next word takes it up; vowel and glide differ by the word, so no two
stretches of a text sound alike: :func:`heard_samples` tells, to the sample, how much of a text a
piece of audio holds.
"""

from __future__ import annotations

import math
import random
from array import array
from functools import lru_cache

import msgspec

from rtcore.audio import RATE_HZ
from rtcore.ports import WordTime

__all__ = ["DEFAULT_MS_PER_WORD", "Spoken", "heard_samples", "speak"]

DEFAULT_MS_PER_WORD = 300.0  # 200 words a minute, brisk conversation
PERIODS_SAMPLES = range(56, 76)  # 143 to 107 Hz, a low voice
LEAST_GLIDE_SAMPLES = 6  # over a word, 10 %: a pitch that stays is a note's
JITTER_SAMPLES = (-1, 0, 1)  # from pulse to pulse, 1.5 %: voices have about one
# first two formants of five vowels of men, Hz (Peterson and Barney, 1952: heed, head, hod, hawed,
# who'd)
VOWELS_HZ = ((270, 2290), (530, 1840), (730, 1090), (570, 840), (300, 870))
BANDWIDTHS_HZ = (60, 90)
LEVELS = 12  # loudness steps of a syllable
PEAK = 12000  # of int16; about -9 dBFS
SOFTEST = 0.3  # of PEAK, at a word's edges: audible, so a hole in the sound is a hole in the line


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A text as sound: int16 at 8000 Hz, and where each word lies in it."""

    text: str
    pcm: bytes
    words: tuple[WordTime, ...]

    @property
    def samples(self) -> int:
        return len(self.pcm) // 2

    def words_in(self, heard: int) -> int:
        """How many whole words lie in the first ``heard`` samples."""
        return sum(word.end_sample <= heard for word in self.words)


@lru_cache(maxsize=256)
def speak(text: str, ms_per_word: float = DEFAULT_MS_PER_WORD) -> Spoken:
    """The sound of ``text``; each word takes ``ms_per_word``, exactly on the whole."""
    dice = random.Random(text)  # seeded with a string: the same in every process
    words, sound = [], array("h")
    period = dice.choice(PERIODS_SAMPLES)
    for number, word in enumerate(text.split(), start=1):
        start, end = len(sound), round(number * ms_per_word * RATE_HZ / 1000)
        glides_to = dice.choice(
            [to for to in PERIODS_SAMPLES if abs(to - period) >= LEAST_GLIDE_SAMPLES]
        )
        sound.extend(_word(dice, end - start, period, glides_to))
        period = glides_to
        words.append(WordTime(text=word, start_sample=start, end_sample=end))
    return Spoken(text=text, pcm=sound.tobytes(), words=tuple(words))


def heard_samples(spoken: Spoken, heard: bytes, tolerance: int = 512) -> int:
    """How much of ``spoken`` the start of ``heard`` is: the number of samples that agree.

    Args:
        heard: int16 at 8000 Hz from the first audible sample on.
        tolerance: how far a sample may be off; half the coarsest step of G.711 by default.
    """
    agreed = 0
    for sent, got in zip(
        memoryview(spoken.pcm).cast("h"), memoryview(heard).cast("h"), strict=False
    ):
        if abs(sent - got) > tolerance:
            break
        agreed += 1
    return agreed


def _word(dice: random.Random, samples: int, first_period: int, last_period: int) -> array[int]:
    vowel, sound = dice.randrange(len(VOWELS_HZ)), array("h")
    while len(sound) < samples:
        swell = math.sin(math.pi * len(sound) / samples)  # one syllable
        level = round(swell * (LEVELS - 1))
        glide = first_period + (last_period - first_period) * len(sound) / samples
        sound.extend(_pulse(vowel, round(glide) + dice.choice(JITTER_SAMPLES), level))
    del sound[samples:]
    return sound


@lru_cache(maxsize=len(VOWELS_HZ) * (len(PERIODS_SAMPLES) + 2) * LEVELS)
def _pulse(vowel: int, period: int, level: int) -> array[int]:
    """One glottal pulse, loudest at its first sample, as the vocal tract closes."""
    loudness = PEAK * (SOFTEST + (1 - SOFTEST) * level / (LEVELS - 1)) / len(BANDWIDTHS_HZ)
    return array(
        "h",
        (
            round(
                loudness
                * sum(
                    math.exp(-math.pi * width * n / RATE_HZ) * math.cos(math.tau * hz * n / RATE_HZ)
                    for hz, width in zip(VOWELS_HZ[vowel], BANDWIDTHS_HZ, strict=True)
                )
            )
            for n in range(period)
        ),
    )
