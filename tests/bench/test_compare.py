"""What changed, and what is only noise."""

from __future__ import annotations

import random
from pathlib import Path

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


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    _, one = write(a_run(drawn(10)), tmp_path / "a")
    _, other = write(a_run(drawn(10), bench="capacity"), tmp_path / "b")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert main([str(one), str(other)]) == 2
    assert main([str(one), str(broken)]) == 2
    assert main([str(one), str(tmp_path / "none.json")]) == 2
