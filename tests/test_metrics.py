"""Parts that sum to the whole, each instant with one owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtcore.metrics import TurnClock

times = st.one_of(st.none(), st.floats(0, 5))


def test_without_speculation_each_stage_owns_its_wait() -> None:
    clock = TurnClock(
        speech_end_s=1.0, decided_s=1.3, asked_s=1.35, committed_s=1.35, first_token_s=1.7,
        first_sentence_s=1.8, first_audio_s=1.92, first_frame_s=1.921,
    )  # fmt: skip
    timing = clock.timing()
    assert timing is not None
    assert timing.endpointing_ms == pytest.approx(300)
    assert timing.stt_final_ms == pytest.approx(50)
    assert timing.llm_first_token_ms == pytest.approx(350)
    assert timing.first_sentence_ms == pytest.approx(100)
    assert timing.tts_first_audio_ms == pytest.approx(120)
    assert timing.playout_ms == pytest.approx(1)
    assert not timing.is_speculative


def test_a_ready_answer_waits_on_endpointing() -> None:
    clock = TurnClock(
        speech_end_s=0.0, decided_s=0.25, asked_s=0.25, committed_s=0.85, first_token_s=0.3,
        first_sentence_s=0.3, first_audio_s=0.4, first_frame_s=0.85,
    )  # fmt: skip
    timing = clock.timing()
    assert timing is not None
    assert timing.endpointing_ms == pytest.approx(250 + 450)
    assert timing.is_speculative
    assert timing.response_ms == pytest.approx(850)


def test_no_frame_no_numbers() -> None:
    assert TurnClock(speech_end_s=0.0).timing() is None


@given(times, times, times, times, times, times, st.floats(0, 5))
def test_the_parts_always_sum_to_the_total(
    decided: float | None, asked: float | None, committed: float | None, token: float | None,
    sentence: float | None, audio: float | None, frame: float,
) -> None:  # fmt: skip
    clock = TurnClock(
        speech_end_s=0.0, decided_s=decided, asked_s=asked, committed_s=committed,
        first_token_s=token, first_sentence_s=sentence, first_audio_s=audio, first_frame_s=frame,
    )  # fmt: skip
    timing = clock.timing()
    assert timing is not None
    assert timing.response_ms == pytest.approx(frame * 1000, abs=1e-6)
    for part in timing.__struct_fields__[:-1]:
        assert getattr(timing, part) >= 0
