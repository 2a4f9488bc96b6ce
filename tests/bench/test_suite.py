"""The front door of the bench, and its suite, with every bench replaced by a run on disk."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import bench.__main__
from bench import capacity, latency, suite
from bench.options import counts
from bench.report import Run, budget
from bench.report.write import write

BROKEN: set[str] = set()  # benches that end with a traceback: status 1, and no page


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the suite starts; each leaves a run in which one thing holds, `peers` in which not."""
    started: list[list[str]] = []

    class Done:
        """A bench that has run, but for one that would run for ever."""

        def __init__(self, command: list[str]) -> None:
            started.append(command)
            self.name = command[3]
            self.signals: list[int] = []
            if self.name in suite.PAGED and self.name not in BROKEN:
                measured = {"peers": 30, "turns": None}.get(self.name, 3)
                lines = [budget("p99", measured, 20)]
                where = {"when": "2026-01-01T00:00:00"}
                made = Run(bench=self.name, where=where, settings={}, budgets=lines)
                write(made, Path(command[command.index(suite.PAGED[self.name]) + 1]))

        def __enter__(self) -> Done:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait(self, limit_s: float) -> int:
            if self.name == "kernels" and not self.signals:
                raise subprocess.TimeoutExpired("kernels", limit_s)
            return 3 if self.name == "turns" else int(self.name in {"peers", *BROKEN})

        def send_signal(self, number: int) -> None:
            self.signals.append(number)

    monkeypatch.setattr(subprocess, "Popen", Done)
    return started


def test_no_name_runs_the_whole_suite(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = bench.__main__.main(["--out", str(tmp_path), "--first"])
    assert [command[3] for command in commands] == [*suite.SUITE]
    assert ["--first" in command for command in commands] == [True, True, False, False, False]
    shown = capsys.readouterr().out
    assert "MISSED" in shown
    assert "kernels did not run" in shown
    assert "turnaround" in shown  # is to be run by itself
    assert shown.rstrip().endswith("index.html")
    assert status == 3
    (index,) = tmp_path.glob("*/index.html")
    page = index.read_text()
    assert 'href="latency-2026-01-01T000000.html"' in page
    assert "kernels did not run" in page


@pytest.mark.parametrize(("names", "status"), [("latency", 0), ("latency,peers", 1), ("turns", 3)])
def test_the_status_says_whether_the_bar_is_met(
    commands: list[list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: str,
    status: int,
) -> None:
    assert bench.__main__.main(["all", "--only", names, "--out", str(tmp_path)]) == status
    shown = capsys.readouterr().out
    assert ("unknown" in shown) == (names == "turns")
    assert "did not run" not in shown


@pytest.mark.parametrize("name", ["capacity", "kernels"])
def test_a_bench_that_breaks_did_not_run(
    commands: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setattr(f"{__name__}.BROKEN", {name})
    assert suite.main(["--only", name, "--out", str(tmp_path)]) == 3
    assert f"{name} did not run" in capsys.readouterr().out


def test_what_there_is_no_time_for_is_named(
    commands: list[list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(suite, "TOTAL_LIMIT_S", 0.0)
    assert suite.main(["--only", "latency", "--out", str(tmp_path)]) == 3
    assert not commands
    assert "latency did not run" in capsys.readouterr().out


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.__main__.main(["speed"]) == 2
    assert "usage" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        suite.main(["--only", "speed"])


def test_the_help_names_every_bench_and_each_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        suite.main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert set(bench.__main__.BENCHES) - {"all"} <= set(re.findall(r"\w+", said))
    assert "(default: build/bench)" in said
    assert "SUPPRESS" not in said


@pytest.mark.parametrize("number", ["0", "-1", "x", "1,x", "", "1.5"])
def test_a_number_of_calls_that_is_none_is_refused(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for measure in (latency, capacity):
        with pytest.raises(SystemExit, match="2"):
            measure.main([f"--calls={number}"])
        assert "from 1 up is needed" in capsys.readouterr().err


def test_numbers_of_calls_come_in_order() -> None:
    assert counts("50,1,50,100") == [1, 50, 100]


def test_a_recording_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "question.wav").write_text("What are your opening hours?")
    with pytest.raises(SystemExit, match="2"):
        latency.main(["--speech", str(tmp_path / "question.wav")])
    assert "question.wav: not a WAV file" in capsys.readouterr().err
