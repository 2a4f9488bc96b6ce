"""The scripted voice sounds like speech and tells exactly how much of it was heard."""

from __future__ import annotations

import pytest
import webrtcvad

from rtcore.audio import mulaw_to_pcm, pcm_to_mulaw
from rtcore.testing import heard_samples, speak
from rtcore.testing.line import MULAW_8K

TEXT = "Your parcel is on its way and will arrive tomorrow before noon"


def test_each_word_takes_its_time_and_the_whole_is_exact() -> None:
    spoken = speak(TEXT, 333.3)
    words = TEXT.split()
    assert [word.text for word in spoken.words] == words
    assert spoken.samples == round(len(words) * 333.3 * 8)
    assert spoken.words[0].start_sample == 0
    for before, after in zip(spoken.words, spoken.words[1:], strict=False):
        assert before.end_sample == after.start_sample


def test_a_voice_detector_takes_it_for_speech() -> None:
    pcm = speak(TEXT).pcm
    vad = webrtcvad.Vad(3)  # the strictest mode
    frames = [pcm[at : at + 320] for at in range(0, len(pcm) - 319, 320)]
    assert sum(vad.is_speech(frame, 8000) for frame in frames) > 0.85 * len(frames)


def test_it_is_audible_from_the_first_sample_and_never_silent_for_a_frame() -> None:
    pcm = pcm_to_mulaw(speak(TEXT).pcm)
    for at in range(0, len(pcm), 80):
        assert MULAW_8K.loud_span(pcm[at : at + 80]) is not None
    span = MULAW_8K.loud_span(pcm)
    assert span is not None
    assert span[0] == 0


@pytest.mark.parametrize("heard", [0, 1, 159, 2400, 12345])
def test_how_much_was_heard_is_known_to_the_sample(heard: int) -> None:
    spoken = speak(TEXT)
    line = mulaw_to_pcm(pcm_to_mulaw(spoken.pcm))
    other = mulaw_to_pcm(pcm_to_mulaw(speak("Good bye").pcm))
    assert heard_samples(spoken, line[: heard * 2]) == heard
    assert abs(heard_samples(spoken, line[: heard * 2] + other) - heard) <= 3
    assert spoken.words_in(heard) == heard // 2400


def test_two_texts_sound_different_from_the_start() -> None:
    assert heard_samples(speak("Good bye"), speak("Good day").pcm) < 80
