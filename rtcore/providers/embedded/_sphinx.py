"""The recogniser's worker: pocketsphinx, which holds the GIL, in a process of its own.

Run as ``python -m rtcore.providers.embedded._sphinx``. One decoder per job; a job's audio is
decoded as it comes (3 % of a core per talker), so that an utterance's end costs milliseconds.
"""

from __future__ import annotations

import functools
import signal
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
import pocketsphinx

from rtcore.audio import RATE_HZ, Resampler
from rtcore.ports import Word
from rtcore.providers.embedded import _language, _wire
from rtcore.providers.embedded._wire import Frame, Heard, Kind, Listen

MODEL_HZ = 16000  # of the acoustic model en-us that comes with pocketsphinx
SAMPLES_PER_FRAME = RATE_HZ // 100  # pocketsphinx counts in 10 ms
DITHER = 100.0  # rms of 32768: digital silence and an empty upper band hurt a wide-band model;
# right answers of 144 at 20, 50, 100 and 200: 130, 132, 137, 137
LANGUAGE_WEIGHT = 10.0  # of 7 to 13: fewest wrong words
UTTERANCE_MAX_SAMPLES = 60 * RATE_HZ  # a search that is never ended must not grow for ever
LANGUAGES_MAX = 8  # kept ready: agents are few, calls many

# Below this an utterance is taken as being about something else: see docs/embedded.md
CONFIDENCE_MIN = 0.25


class Language(NamedTuple):
    """What the decoder reads, and what tells how well a text fits."""

    dictionary: str
    model: str
    followers: _language.Followers


@functools.lru_cache(LANGUAGES_MAX)
def language_of(phrases: tuple[str, ...]) -> Language:
    """Build the language of an agent: about 0.1 s for 150 phrases."""
    sentences = list(_language.expand(phrases))
    words = {word for sentence, _ in sentences for word in sentence} | set(
        _language.ENGLISH.background
    )
    with open(_model_path("cmudict-en-us.dict"), encoding="utf-8") as dictionary:
        sounds = _language.pronounce(words, dictionary)
    lines = [
        f"{word}{f'({i})' if i > 1 else ''} {phones}\n"
        for word, variants in sounds.items()
        for i, phones in enumerate(variants, 1)
    ]
    followers = _language.count(sentences, sounds)
    return Language("".join(lines), _language.arpa_model(followers), followers)


def _model_path(name: str) -> str:
    return str(Path(pocketsphinx.get_model_path()) / "en-us" / name)


def new_decoder(language: Language) -> pocketsphinx.Decoder:
    """Load a decoder: 10 to 20 ms and 7 MB."""
    with tempfile.TemporaryDirectory() as folder:
        dictionary, model = Path(folder, "words.dict"), Path(folder, "words.lm")
        dictionary.write_text(language.dictionary, encoding="utf-8")
        model.write_text(language.model, encoding="utf-8")
        return pocketsphinx.Decoder(
            hmm=_model_path("en-us"),
            dict=str(dictionary),
            lm=str(model),
            lw=LANGUAGE_WEIGHT,
            fwdflat=False,  # a second pass of 45 ms after the end; as many words right without
            loglevel="FATAL",
        )


class Ear:
    """One call's recognition: audio in, what was heard out."""

    def __init__(self, language: Language) -> None:
        self._followers = language.followers
        self._decoder = new_decoder(language)
        self._is_listening = False
        self._begin()

    def _begin(self) -> None:
        self._resampler = Resampler(RATE_HZ, MODEL_HZ)
        self._noise = np.random.default_rng(0)  # the same for every utterance: repeatable
        self._anchors: list[tuple[int, int]] = []  # sample of the utterance, of the caller
        self._samples = 0
        self._text = ""

    def hear(self, start_sample: int, pcm: bytes) -> Heard | None:
        """Take in the next audio; return what is new of the text, if anything is."""
        if not self._is_listening:
            self._decoder.start_utt()
            self._is_listening = True
        if not self._anchors or start_sample != self._expected_sample():
            self._anchors.append((self._samples, start_sample))
        self._samples += len(pcm) // 2
        wide = np.frombuffer(self._resampler.push(pcm), np.int16)
        dithered = wide + self._noise.normal(0.0, DITHER, len(wide))
        octets = np.clip(dithered, -32768, 32767).astype(np.int16).tobytes()
        self._decoder.process_raw(octets, False, False)
        if self._samples >= UTTERANCE_MAX_SAMPLES:
            return self.end(was_asked=False)
        hypothesis = self._decoder.hyp()
        text = hypothesis.hypstr if hypothesis is not None else ""
        if text == self._text:
            return None
        self._text = text
        return Heard(text=text)

    def end(self, *, was_asked: bool = True) -> Heard:
        """End the utterance; return its final text, empty when it was about something else."""
        words: tuple[Word, ...] = ()
        if self._is_listening:
            self._decoder.end_utt()
            words = tuple(self._words())
            self._is_listening = False
        if self._confidence(words) < CONFIDENCE_MIN:
            words = ()
        self._begin()
        text = " ".join(word.text for word in words)
        return Heard(text=text, words=words, is_final=True, was_asked=was_asked)

    def _words(self) -> list[Word]:
        return [
            Word(
                text=segment.word.partition("(")[0],
                start_sample=self._caller_sample(segment.start_frame * SAMPLES_PER_FRAME),
                end_sample=self._caller_sample((segment.end_frame + 1) * SAMPLES_PER_FRAME),
                confidence=min(1.0, segment.prob),
            )
            for segment in self._decoder.seg() or ()
            if segment.word[0] not in "<[+"  # silence and noises
        ]

    def _confidence(self, words: tuple[Word, ...]) -> float:
        """Return 0 to 1: how sure the search is, times how usual the words are together."""
        if not words:
            return 0.0
        posterior = sum(word.confidence for word in words) / len(words)
        return posterior * _language.fit([word.text for word in words], self._followers)

    def _expected_sample(self) -> int:
        begun, start_sample = self._anchors[-1]
        return start_sample + self._samples - begun

    def _caller_sample(self, sample: int) -> int:
        begun, start_sample = max(
            (anchor for anchor in self._anchors if anchor[0] <= sample), default=self._anchors[0]
        )
        return start_sample + sample - begun


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Answer frames until ``orders`` ends."""
    ears: dict[int, Ear] = {}
    while (frame := _wire.read(orders)) is not None:
        job, payload = frame.job, frame.payload
        heard: Heard | None = None
        try:
            if frame.kind is Kind.OPEN:
                phrases = msgspec.json.decode(payload, type=Listen).phrases
                ears[job] = Ear(language_of(phrases))
            elif frame.kind is Kind.CLOSE:
                ears.pop(job, None)
            elif job in ears and frame.kind is Kind.HEAR:
                (start_sample,) = _wire.POSITION.unpack_from(payload)
                heard = ears[job].hear(start_sample, payload[_wire.POSITION.size :])
            elif job in ears and frame.kind is Kind.UTTERANCE_END:
                heard = ears[job].end()
        except (RuntimeError, ValueError) as exc:  # what pocketsphinx raises
            ears.pop(job, None)
            _wire.write(answers, Frame(Kind.FAILED, job, str(exc).encode()))
        if heard is not None:
            _wire.write(answers, Frame(Kind.HEARD, job, msgspec.json.encode(heard)))


def main() -> None:
    """Serve until the node closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the node decides when to end, not the terminal
    _wire.write(sys.stdout.buffer, Frame(Kind.READY, 0))
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
