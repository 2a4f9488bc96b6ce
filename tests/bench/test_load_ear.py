"""What a caller of the load generator hears: onsets, holes, silence."""

from __future__ import annotations

import pytest

from bench.load.ear import Ear

LOUD = b"\x00" * 160  # the loudest µ-law octet: 20 ms of it
SILENT = b"\xff" * 160


def test_pieces_that_come_in_time_leave_no_gap() -> None:
    ear = Ear()
    for number in range(10):
        ear.push(LOUD, 1.0 + number * 0.02)
    assert ear.onset_s == 1.0
    assert ear.until_s == pytest.approx(1.2)
    assert ear.gaps_s == [0.0] * 9


def test_a_piece_that_comes_late_leaves_a_gap_as_long() -> None:
    ear = Ear()
    ear.push(LOUD, 1.0)
    ear.push(LOUD, 1.05)
    assert ear.gaps_s == [pytest.approx(0.03)]
    assert ear.end_s == pytest.approx(1.07)


def test_silence_before_the_voice_is_no_onset() -> None:
    ear = Ear()
    ear.push(SILENT + LOUD, 1.0)
    assert ear.onset_s == pytest.approx(1.02)


def test_voice_after_a_long_silence_is_a_new_onset() -> None:
    ear = Ear()
    ear.push(LOUD, 1.0)
    ear.end_of_speech()
    ear.push(LOUD, 2.0)
    assert ear.onset_s == 2.0
    assert ear.gaps_s == []


def test_a_pause_between_words_is_not() -> None:
    ear = Ear()
    ear.push(LOUD + SILENT * 15 + LOUD, 1.0)
    assert ear.onset_s == 1.0
    assert ear.is_audible(1.2)


def test_a_clear_silences_what_was_not_heard() -> None:
    ear = Ear()
    for number in range(10):
        ear.push(LOUD, 1.0 + number * 0.001)
    ear.checkpoint("end", 1.01)
    ear.clear(1.05)
    assert ear.until_s == pytest.approx(1.05)
    assert ear.end_s == pytest.approx(1.05)
    assert ear.played(9.0) is None


def test_a_clear_between_words_leaves_the_last_one_that_was_heard() -> None:
    ear = Ear()
    ear.push(LOUD, 1.0)
    ear.push(SILENT * 4 + LOUD, 1.03)  # audible from 1.11: the first word has been heard by now
    ear.clear(1.06)
    assert ear.until_s == pytest.approx(1.02)
    assert not ear.is_audible(1.5)


def test_a_clear_after_the_last_sound_changes_nothing() -> None:
    ear = Ear()
    ear.push(LOUD, 1.0)
    ear.clear(1.5)
    assert ear.until_s == pytest.approx(1.02)


def test_a_checkpoint_is_reached_when_its_audio_was_heard() -> None:
    ear = Ear()
    ear.push(LOUD, 1.0)
    ear.checkpoint("one", 1.0)
    assert ear.played(1.01) is None
    assert ear.played(1.03) == "one"
    assert ear.played(1.03) is None
