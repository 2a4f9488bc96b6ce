"""What changed, and what is only noise."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.compare import change, changes, main
from bench.report import Run, Series
from bench.report.write import write


def drawn(mean: float, n: int = 200, seed: int = 1, better: str = "lower") -> Series:
    dice = random.Random(seed)
    samples = [dice.gauss(mean, 1.0) for _ in range(n)]
    return Series(name="s", unit="ms", samples=samples, better=better)  # type: ignore[arg-type]


def a_run(*series: Series, bench: str = "latency") -> Run:
    where = {"when": "2026-01-01T00:00:00", "commit": "abc", "cpu": "x", "cores": "2"}
    return Run(bench=bench, where=where, settings={}, series=list(series))


def test_the_same_again_is_noise() -> None:
    found = change(drawn(10), drawn(10, seed=2), 0.5)
    assert found.verdict == "noise"
    assert found.low < 0 < found.high


def test_a_shift_is_seen_and_bounded() -> None:
    found = change(drawn(10), drawn(11, seed=2), 0.5)
    assert found.verdict == "worse"
    assert found.low < 1 < found.high
    assert change(drawn(11, seed=2), drawn(10), 0.5).verdict == "better"


def test_more_may_be_better() -> None:
    better = change(drawn(10, better="higher"), drawn(11, seed=2, better="higher"), 0.5)
    assert better.verdict == "better"


def test_few_samples_say_nothing() -> None:
    assert change(drawn(10, 4), drawn(99, 4), 0.5).verdict == "too few"
    assert change(drawn(10, 100), drawn(99, 100), 0.99).verdict == "too few"


def test_a_table_of_noise_holds_no_change() -> None:
    def a_table(seed: int) -> Run:
        drawings = enumerate(drawn(10, seed=seed + at) for at in range(60))
        return a_run(*(msgspec.structs.replace(s, name=f"series {at}") for at, s in drawings))

    found = changes(a_table(1000), a_table(2000))
    judged = [line for line in found if line.verdict != "too few"]
    assert len(judged) == 60
    assert {line.verdict for line in judged} == {"noise"}
    # one by one, at 95 % each, some of them would have passed for changes
    pairs = zip(a_table(1000).series, a_table(2000).series, strict=True)
    assert {change(*pair, 0.5).verdict for pair in pairs} > {"noise"}


def test_a_percentile_is_that_of_all_samples() -> None:
    many = [float(n) for n in range(30_000)]
    series = Series(name="s", unit="ms", samples=many)
    found = change(series, series, 0.99)
    assert (found.before, found.after) == (29_699, 29_699)
    assert 0 < found.high < 500


def test_drawing_places_gives_what_drawing_sets_gives() -> None:
    series, dice = drawn(10, 50), random.Random(3)
    found = change(series, Series(name="s", unit="ms", samples=[0.0] * 50), 0.5)
    medians = sorted(-sorted(dice.choices(series.samples, k=50))[24] for _ in range(4000))
    assert found.low == pytest.approx(medians[100], abs=0.1)
    assert found.high == pytest.approx(medians[-101], abs=0.1)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_same_samples_and_seed_give_the_same_answer(seed: int) -> None:
    one, two = drawn(10, 20), drawn(10.5, 20, seed=2)
    assert change(one, two, 0.5, seed) == change(one, two, 0.5, seed)


def test_only_what_both_runs_have_is_compared() -> None:
    alone = Series(name="alone", unit="ms", samples=[1.0])
    empty = Series(name="empty", unit="ms", samples=[])
    found = changes(a_run(drawn(1), alone, empty), a_run(drawn(1), empty))
    assert {line.name for line in found} == {"s"}
    assert [line.share for line in found] == [0.5, 0.99]


def test_the_exit_status_says_whether_something_became_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, before = write(a_run(drawn(10)), tmp_path / "a")
    _, after = write(a_run(drawn(12, seed=2)), tmp_path / "b")
    assert main([str(before), str(after)]) == 1
    assert "worse" in capsys.readouterr().out
    assert main([str(after), str(before)]) == 0


def test_what_was_not_the_same_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = msgspec.structs.replace(a_run(drawn(10)), settings={"stt_ms": "150", "out": "a"})
    two = msgspec.structs.replace(one, settings={"stt_ms": "0", "out": "b"})
    _, before = write(one, tmp_path / "a")
    _, after = write(two, tmp_path / "b")
    assert main([str(before), str(after)]) == 0
    shown = capsys.readouterr().out
    assert "not the same stt_ms: 150, 0" in shown
    assert "same out" not in shown


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    _, one = write(a_run(drawn(10)), tmp_path / "a")
    _, other = write(a_run(drawn(10), bench="capacity"), tmp_path / "b")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert main([str(one), str(other)]) == 2
    assert main([str(one), str(broken)]) == 2
    assert main([str(one), str(tmp_path / "none.json")]) == 2
