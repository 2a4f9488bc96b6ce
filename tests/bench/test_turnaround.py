"""The recogniser of the bench: any voice is words, known after a while; and the bar it is for."""

from __future__ import annotations

import msgspec
import trio

from bench.latency import Turn
from bench.load import Heard, Step
from bench.load.results import Counts
from bench.load.voice import paused, question, voiced
from bench.services import HEARD, VoicedEars
from bench.turnaround import Measured, _Counted, report
from rtcore.audio import pcm_to_mulaw
from rtcore.metrics import CallStats, TurnTiming

LAG_S = 0.15
SILENCE = pcm_to_mulaw(bytes(320))


def hear(ears: VoicedEars, pcm: bytes) -> list[str]:
    for at in range(0, len(pcm), 1280):
        ears.feed(pcm_to_mulaw(pcm[at : at + 1280]))
    return [word.text for word in ears.words]


async def test_words_are_known_after_their_time(autojump_clock: trio.testing.MockClock) -> None:
    ears = VoicedEars(LAG_S)
    assert hear(ears, voiced(6)) == []
    await trio.sleep(LAG_S)
    ears.feed(SILENCE)
    assert [word.text for word in ears.take()] == list(HEARD)


async def test_a_pause_does_not_begin_a_new_question(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ears, pcm = VoicedEars(0.0), voiced(6)
    middle = len(pcm) // 4 * 2
    hear(ears, pcm[:middle] + bytes(8000) + pcm[middle:])
    assert [word.text for word in ears.take()] == list(HEARD)
    hear(ears, bytes(3200) + pcm)
    assert [word.text for word in ears.take()] == list(HEARD)


def test_a_paused_question_is_longer_and_the_bar_is_for_answers_begun_early() -> None:
    assert paused(voiced(6), 500).last_s - question().last_s > 0.4
    timing = TurnTiming(
        endpointing_ms=260, stt_final_ms=0, llm_first_token_ms=350, first_sentence_ms=0,
        tts_first_audio_ms=120, playout_ms=0,
    )  # fmt: skip
    runs = [
        Measured("begun early", 0.0, [Turn(heard_ms=740, timing=timing)], [step(740)], 3, 1, 1),
        Measured("not", 0.0, [Turn(heard_ms=990, timing=timing)], [step(990)], 0, 0, 1),
    ]
    made = report(runs, {"when": ""}, {})
    assert [row[-2:] for row in made.tables[0].rows] == [["1", "1 of 3"], ["1", "-"]]
    assert [row[5] for row in made.tables[1].rows] == ["none", "none"]  # talked over: not "0/0"
    assert sum("interrupted" in note for note in made.notes) == 2
    bars = {line.what: line.is_met for line in made.budgets}
    assert bars == {
        "response in the ear, 0 ms a token, p50": False,
        "response in the ear, 0 ms a token, p95": True,
        "parts and ear apart, 0 ms a token": True,
        "questions unanswered": False,
        "stale pieces of a cleared reply": True,
        "calls lost": True,
    }


def step(took_ms: float) -> Step:
    counts = Counts(turns=3, paused_turns=1, cut_offs=1, unanswered=1)
    return Step(calls=1, seconds=6, heard=Heard(response_ms=[took_ms]), counts=counts)


def test_an_answer_that_nobody_heard_was_begun_in_vain() -> None:
    timing = TurnTiming(
        endpointing_ms=260, stt_final_ms=0, llm_first_token_ms=350, first_sentence_ms=0,
        tts_first_audio_ms=120, playout_ms=0, is_speculative=True,
    )  # fmt: skip
    later = msgspec.structs.replace(timing, is_speculative=False)
    assert _Counted(CallStats(speculations=4), [timing, later, timing]).begun_in_vain == 2
