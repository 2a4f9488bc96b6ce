"""The bar of capacity, from made-up steps."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from bench.capacity import Measured, Split, budgets_of, is_disturbed, report, slope
from bench.load import Heard, Step
from bench.load.ours import NodeOptions
from bench.load.results import Counts
from bench.peers.command import OURS, Outcome, ceiling
from bench.peers.command import budgets_of as peer_budgets
from bench.peers.command import report as peer_report
from bench.probe import Stages
from bench.report.write import load, write


def measured(calls: int, *, gap: float = 0.0, own: float = 3.0, is_valid: bool = True) -> Measured:
    heard = Heard(worst_gap_ms=[gap], gap_ms=[gap], response_ms=[870 + own], lateness_ms=[0.1])
    return Measured(
        step=Step(calls=calls, seconds=10, heard=heard, counts=Counts()),
        own_ms=[own],
        cpu_ms=1.5,
        core_share=calls * 0.0015,
        starved_share=0.0,
        pss_kib=50_000 + calls * 200,
        lag_ms=[1.0],
        dropped_samples=80,
        is_valid=is_valid,
    )


def test_a_good_ramp_meets_the_bar() -> None:
    lines = budgets_of([measured(calls) for calls in (1, 50, 400)], [0.2] * 10)
    assert all(line.is_met for line in lines)
    assert lines[0].measured == "400"
    assert lines[-1].measured == "200 KiB"


def test_where_all_that_was_tried_was_carried_more_may_be() -> None:
    assert budgets_of([measured(50), measured(200)], [0.2])[0].is_met is None
    assert budgets_of([measured(200), measured(400, is_valid=False)], [0.2])[0].is_met is None


def test_where_all_is_void_no_time_is_missed() -> None:
    lines = budgets_of([measured(400, gap=99, own=99, is_valid=False)], [9.0])
    assert {line.is_met for line in lines} == {True, None}
    assert next(line.what for line in lines if line.is_met is None) == "calls carried on one core"


@pytest.mark.parametrize(
    "fault", ["unanswered", "cut_offs", "stalled", "stale_pieces", "lost_calls"]
)
def test_what_has_no_time_ends_the_knee_too(fault: str) -> None:
    bad = measured(400)
    step = msgspec.structs.replace(bad.step, counts=Counts(sized_replies=9, **{fault: 1}))
    lines = budgets_of([measured(200), msgspec.structs.replace(bad, step=step)], [0.2])
    assert lines[0].measured == "200"
    assert lines[0].is_met is False
    assert sum(line.is_met is False for line in lines) == 2


def test_what_goes_wrong_past_the_load_that_is_judged_is_the_knee_alone() -> None:
    bad = measured(800)
    step = msgspec.structs.replace(bad.step, counts=Counts(cut_offs=58))
    lines = budgets_of(
        [measured(50), measured(400), msgspec.structs.replace(bad, step=step)], [0.2]
    )
    assert lines[0].measured == "400"
    assert all(line.is_met for line in lines)


def test_a_step_with_a_gap_is_past_the_knee() -> None:
    lines = budgets_of([measured(50), measured(200), measured(400, gap=11)], [0.2])
    assert lines[0].measured == "200"
    assert lines[0].is_met is False


def test_what_a_smaller_load_showed_is_not_mended_by_a_larger_one() -> None:
    lines = budgets_of([measured(50), measured(200, own=21), measured(400)], [0.2])
    assert lines[0].measured == "50"
    assert lines[0].is_met is False


def test_a_void_step_proves_nothing_while_there_are_others() -> None:
    lines = budgets_of([measured(200), measured(400, is_valid=False)], [0.2])
    assert lines[0].measured == "200"


def test_lateness_and_starvation_void_a_step() -> None:
    good = measured(1).step
    late = Step(calls=1, seconds=1, heard=Heard(lateness_ms=[3.0]), counts=Counts())
    assert not is_disturbed(good, 0.0)
    assert is_disturbed(late, 0.0)
    assert is_disturbed(good, 0.1)


def test_a_call_that_was_lost_makes_the_others_no_cheaper() -> None:
    step = measured(10).step
    assert step.held_calls == 10
    step.counts.lost_calls = 4
    assert step.held_calls == 6
    step.counts.lost_calls = 10
    assert step.held_calls == 1


def test_the_report_marks_void_steps_and_splits_the_cpu() -> None:
    split = Split(stages={"scheduler": 20.0}, functions={"scheduler: run": 5.0})
    steps = [measured(50), measured(400, is_valid=False)]
    run = report(NodeOptions(), steps, [0.2], split, {"when": "now"}, 10, 1)
    assert [row[0] for row in run.tables[0].rows] == ["50", "400*"]
    assert [row[0] for row in run.tables[1].rows] == ["50 calls", "400 calls, void"]
    assert "1 of 2 windows are void" in run.notes[0]
    names = [series.name for series in run.series]
    assert len({*names}) == len(names)
    assert run.tables[2].rows == [["scheduler", "20.00", "100.0%"]]


def test_who_was_not_stopped_is_in_the_percentiles_and_has_no_place_in_a_plot(
    tmp_path: Path,
) -> None:
    bad = measured(50)
    bad.step.heard.silence_ms.append(140.0)
    bad.step.counts.interruptions, bad.step.counts.uninterrupted = 2, 1
    run = report(NodeOptions(), [bad], [0.2], None, {"when": "now"}, 10, 1)
    assert run.tables[0].columns[7:9] == ["silent p50", "silent p99"]
    assert run.tables[0].rows[0][7:9] == ["140", "never"]
    assert run.plots[1].data == {"p50": [[50, 140.0]], "p99": [[50, None]]}
    assert load(write(run, tmp_path)[1]) == run


def test_a_slope_needs_two_places() -> None:
    assert slope([(1, 1)]) is None
    assert slope([(50, 100), (100, 200), (400, 800)]) == pytest.approx(2)


def test_code_belongs_to_the_innermost_stage_that_knows_it() -> None:
    stages = Stages()
    assert stages.stage_of(slope.__code__) == "scripted providers"  # all of bench
    assert stages.stage_of(pytest.approx.__code__) is None


def outcome(name: str, calls: int, response: float, cpu: float) -> Outcome:
    heard = Heard(response_ms=[response], silence_ms=[response])
    counts = Counts(paused_turns=10, cut_offs=1)
    return Outcome(
        name=name,
        step=Step(calls=calls, seconds=10, heard=heard, counts=counts),
        cpu_ms=cpu,
        memory_mib=1.0,
        starved_share=0.0,
        services_ms=620,
    )


def test_the_ceiling_is_where_answers_begin_to_take_longer() -> None:
    found = [outcome("a", 1, 900, 1), outcome("a", 10, 990, 1), outcome("a", 25, 1100, 1)]
    assert ceiling(found, "a") == 10
    assert ceiling(found, "b") is None


def test_who_does_not_answer_carries_nothing() -> None:
    deaf = outcome("a", 10, 900, 1)
    deaf.step.counts.unanswered = 1
    assert ceiling([outcome("a", 1, 900, 1), deaf], "a") == 1


def test_an_answer_sooner_than_its_services_is_none() -> None:
    behind = outcome("a", 10, 610, 1)  # less than a frame sooner: the ear's doing
    assert behind.waits_ms == [610]
    behind.step.heard.response_ms.append(467)  # the end of what an earlier question had waited for
    assert behind.waits_ms == [610, math.inf]
    assert behind.cpu_turn_ms == outcome("a", 10, 610, 1).cpu_turn_ms


def test_the_report_of_peers_marks_late_callers_and_tells_what_went_wrong() -> None:
    ours, late = outcome(OURS, 10, 733, 2), outcome("pipecat", 10, 930, 42)
    late.step.heard.lateness_ms.append(3.0)
    run = peer_report([ours, late], ["a voice"], {"when": "now"}, {})
    by_load, wrong, carried = run.tables
    assert all(len(row) == len(by_load.columns) for row in by_load.rows)
    assert [row[-1] for row in by_load.rows] == ["-", "3.0*"]
    assert [row[0] for row in wrong.rows] == [f"{OURS}, 10 calls", "pipecat, 10 calls"]
    assert carried.rows == [[OURS, "10"], ["pipecat", "10"]]
    assert run.notes[0] == "a voice"
    assert "the callers were late" in run.notes[1]


def test_a_server_whose_core_is_full_is_marked_and_compared_by_the_turn() -> None:
    ours, full = outcome(OURS, 25, 733, 4), outcome("pipecat", 25, 6000, 38)
    ours.step.heard.response_ms.extend([733] * 49)
    run = peer_report([ours, full, outcome("deaf", 25, 6000, 37.9)], [], {"when": "now"}, {})
    by_load = run.tables[0]
    shown = [dict(zip(by_load.columns, row, strict=True)) for row in by_load.rows]
    assert [row["core"] for row in shown] == ["10%", "95%, full", "95%"]
    assert [row["CPU/turn"] for row in shown] == ["20.0", "9500.0", "9475.0"]
    assert [note for note in run.notes if "Core full" in note and "pipecat, 25 calls" in note]
    series = {each.name: each.samples for each in run.series}
    assert series["CPU an answered turn, rtcore, 25 calls"] == [pytest.approx(20)]
    silent = outcome("pipecat", 25, 6000, 38)
    silent.step.heard.response_ms.clear()
    assert silent.cpu_turn_ms is None
    run = peer_report([silent], [], {"when": "now"}, {})
    assert run.tables[0].rows[0][3] == "-"
    assert {each.name: each.samples for each in run.series}[
        "CPU an answered turn, pipecat, 25 calls"
    ] == []


def test_who_was_not_stopped_was_not_stopped_soon(tmp_path: Path) -> None:
    ours, theirs = outcome(OURS, 10, 733, 2), outcome("pipecat", 10, 930, 42)
    ours.step.heard.silence_ms.extend([100.0] * 8)
    ours.step.counts.interruptions, ours.step.counts.uninterrupted = 10, 1
    run = peer_report([ours, theirs], [], {"when": "now"}, {})
    assert run.tables[0].columns[8:11] == ["silent p50", "p95", "talked over"]
    assert run.tables[0].rows[0][8:11] == ["100", "never", "1/10"]
    (barge_in,) = (line for line in run.budgets if line.what.startswith("barge-in"))
    assert barge_in.measured == "10"  # the slowest tenth
    assert barge_in.is_met is False
    # what is for ever is in no file: none could be read again
    assert load(write(run, tmp_path)[1]) == run


def test_what_waits_longer_than_all_answers_and_what_nobody_answers_is_in_the_percentiles() -> None:
    late = outcome("pipecat", 10, 930, 42)
    late.step.heard.response_ms.extend([930.0] * 17)
    late.step.heard.overdue_ms.append(5620.0)
    late.step.counts.unanswered = 1
    run = peer_report([late], [], {"when": "now"}, {})
    assert run.tables[0].rows[0][6:8] == ["310", "5000"]
    assert any("had waited longer" in note for note in run.notes)
    (answers,) = (each for each in run.series if each.name.startswith("response"))
    assert len(answers.samples) == 19
    late.step.counts.unanswered = 2
    assert peer_report([late], [], {"when": "now"}, {}).tables[0].rows[0][7] == "never"


def test_peers_that_were_not_had_are_not_beaten() -> None:
    (line,) = peer_budgets([outcome(OURS, 10, 733, 2)])
    assert line.is_met is None


@pytest.mark.parametrize(
    ("ours", "theirs", "is_met"),
    [
        ((0, 10), (0, 0), True),
        ((0, 10), (1, 10), True),
        ((1, 10), (1, 10), True),
        ((2, 10), (1, 10), False),
        ((1, 10), (0, 0), None),
        ((0, 0), (1, 10), None),
    ],
)
def test_no_cut_off_is_no_more_than_any_number_of_theirs(
    ours: tuple[int, int], theirs: tuple[int, int], is_met: bool | None
) -> None:
    found = [outcome(OURS, 25, 733, 2), outcome("pipecat", 25, 930, 42)]
    for each, (cut_offs, paused_turns) in zip(found, (ours, theirs), strict=True):
        each.step.counts.cut_offs, each.step.counts.paused_turns = cut_offs, paused_turns
    line = peer_budgets(found)[-1]
    assert line.what.startswith("false cut-offs")
    assert line.is_met is is_met


def test_peers_are_judged_at_the_loads_both_were_under() -> None:
    found = [
        outcome(OURS, 10, 733, 2),
        outcome("pipecat", 10, 930, 42),
        outcome("pipecat", 25, 0, 1),
    ]
    lines = peer_budgets(found)
    assert [line.is_met for line in lines] == [True, True, True, True]
    assert lines[0].measured == "21.0"
