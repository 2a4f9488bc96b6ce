"""Turns as the node and the ear tell them, brought together."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.delays import Delay
from bench.latency import Turn, match, own_ms, report
from bench.load import Heard, Network, Step
from bench.load.ours import NodeOptions, Note, Record, decision_to_clear_ms
from bench.load.results import Counts
from bench.report.write import load, write
from rtcore.metrics import TurnTiming

OPENED_S = {7: 100.0}


def timing(**parts: float) -> TurnTiming:
    zero = dict.fromkeys(TurnTiming.__struct_fields__[:6], 0.0)
    return TurnTiming(**{**zero, **parts})


def record(*notes: tuple[float, str], turns: list[TurnTiming] | None = None) -> Record:
    return Record(
        call_id="call-7",
        ended_by="hung_up",
        turns=turns or [],
        notes=[Note(0.2, "call_started"), *(Note(at_ms, kind) for at_ms, kind in notes)],
    )


def step(heard: Heard, **counts: int) -> Step:
    return Step(calls=1, seconds=6, heard=heard, counts=Counts(**counts))


def test_a_turn_is_matched_with_its_record_by_time() -> None:
    timings = [timing(endpointing_ms=400), timing(endpointing_ms=500)]
    told = record((1000.2, "response"), (9000.2, "response"), turns=timings)
    heard = Heard(turns=[(7, 108.5, 501.5), (7, 200.0, 400.0)])
    (turn,) = match([heard], [told], OPENED_S)
    assert turn.timing is timings[1]
    assert turn.apart_ms == pytest.approx(1.5)


def test_the_own_share_is_what_nobody_else_took() -> None:
    options = NodeOptions(stt_ms=150, llm_ms=350, tts_ms=120)
    one = timing(
        endpointing_ms=260,
        llm_first_token_ms=351,
        first_sentence_ms=1,
        tts_first_audio_ms=121,
        playout_ms=0.5,
    )
    assert own_ms(one, options) == pytest.approx(2 + 1 + 0.5)


def test_a_report_has_the_bar_and_the_parts() -> None:
    turns = [Turn(heard_ms=401.0, timing=timing(endpointing_ms=400.0))] * 10
    heard = Heard(response_ms=[401.0] * 10, lateness_ms=[0.1])
    run = report(turns, [step(heard)], Network(), NodeOptions(), {"when": "now"}, {})
    assert all(line.is_met for line in run.budgets)
    assert {plot.kind for plot in run.plots} == {"bars", "histogram"}


def test_network_is_taken_off_what_node_and_ear_disagree_by() -> None:
    turns = [Turn(heard_ms=465.0, timing=timing(endpointing_ms=400.0))]
    steps = [step(Heard(response_ms=[465.0], lateness_ms=[0.1]))]
    network = Network(delay_ms=25, jitter_ms=10)
    run = report(turns, steps, network, NodeOptions(), {"when": "now"}, {})
    (line,) = (line for line in run.budgets if "apart" in line.what)
    assert line.measured == "5 ms"


def test_by_ear_alone_there_are_no_parts() -> None:
    steps = [step(Heard(response_ms=[401.0]))]
    run = report([], steps, Network(), NodeOptions(), {"when": "now"}, {})
    assert run.budgets[0].what == "response in the ear, p95"
    assert not any("apart" in line.what for line in run.budgets)


def test_who_was_not_stopped_is_in_the_percentiles_and_in_no_file(tmp_path: Path) -> None:
    heard = Heard(response_ms=[401.0], silence_ms=[140.0] * 18)
    steps = [step(heard, interruptions=20, uninterrupted=2)]
    run = report([], steps, Network(), NodeOptions(), {"when": "now"}, {})
    assert run.tables[0].rows[1][1:] == ["140.0", "never", "never", "never"]
    assert load(write(run, tmp_path)[1]) == run


def test_what_was_not_answered_is_told_beside_the_times() -> None:
    good = Heard(response_ms=[401.0], lateness_ms=[0.1])
    late = Heard(response_ms=[401.0], lateness_ms=[9.0])
    steps = [step(good, unanswered=2, lost_calls=1), step(late, cut_offs=1, lost_calls=1)]
    run = report([], steps, Network(), NodeOptions(), {"when": "now"}, {}, wanted=4)
    missed = {line.what: line.measured for line in run.budgets if not line.is_met}
    assert missed == {"questions unanswered": "2", "questions spoken into": "1", "calls lost": "1"}
    assert run.notes[0].startswith("In 1 of 2 windows the callers were late")
    assert run.notes[1] == "Only 2 of 4 turns were heard in the time there was."


def test_a_decision_is_timed_to_the_clear_that_followed() -> None:
    told = record(
        (500.0, "response"), (2000.0, "barge_in_confirmed"), (2000.1, "cleared"), (9e9, "cleared")
    )
    # the call's start was seen 2 ms late, and the quickest message took nothing
    heard = Heard(turns=[(7, 100.0, 497.8)], cleared=[(7, 101.9990)])
    (took_ms,) = decision_to_clear_ms([told], OPENED_S, [heard])
    assert took_ms == pytest.approx(1.2, abs=0.01)


def test_delays_have_the_percentiles_they_are_named_after() -> None:
    dice, delay = random.Random(1), Delay(p50_ms=536, p95_ms=1771)
    drawn = sorted(delay.draw_s(dice) * 1000 for _ in range(20_000))
    assert drawn[10_000] == pytest.approx(536, rel=0.03)
    assert drawn[19_000] == pytest.approx(1771, rel=0.05)
