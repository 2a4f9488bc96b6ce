"""The front door of the bench, and its suite, with every bench replaced by a run on disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import bench.__main__
from bench import suite
from bench.report import Run, budget
from bench.report.write import write


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the suite starts; each leaves a run in which one thing holds, `peers` in which not."""
    started: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        started.append(command)
        name = command[3]
        if "--out" in command:
            lines = [budget("p99", 30 if name == "peers" else 3, 20)]
            where = {"when": "2026-01-01T00:00:00"}
            made = Run(bench=name, where=where, settings={}, budgets=lines)
            write(made, Path(command[command.index("--out") + 1]))
        return subprocess.CompletedProcess(command, 2 if name == "turns" else 0)

    monkeypatch.setattr(subprocess, "run", run)
    return started


def test_no_name_runs_the_whole_suite(
    commands: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = bench.__main__.main(["--out", str(tmp_path), "--first"])
    assert [command[3] for command in commands] == [*suite.SUITE]
    assert ["--first" in command for command in commands] == [True, True, False, False, False]
    shown = capsys.readouterr().out
    assert "MISSED" in shown
    assert "turns did not run" in shown
    assert shown.rstrip().endswith("index.html")
    assert status == 3
    (index,) = tmp_path.glob("*/index.html")
    page = index.read_text()
    assert 'href="latency-2026-01-01T000000.html"' in page
    assert "turns did not run" in page


@pytest.mark.parametrize(("names", "status"), [("latency", 0), ("latency,peers", 1)])
def test_the_status_says_whether_the_bar_is_met(
    commands: list[list[str]], tmp_path: Path, names: str, status: int
) -> None:
    assert bench.__main__.main(["all", "--only", names, "--out", str(tmp_path)]) == status


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.__main__.main(["speed"]) == 2
    assert "usage" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        suite.main(["--only", "speed"])
