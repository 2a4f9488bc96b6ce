"""A run on disk and on its page."""

from __future__ import annotations

import io
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from bench.report import (
    Budget,
    Plot,
    Run,
    Series,
    Table,
    budget,
    percentile,
    spread,
    status_of,
    surroundings,
)
from bench.report.svg import draw
from bench.report.write import load, page, show, write

PLOTS = [
    Plot(title="curve", kind="lines", data={"a": [[1, 2.0], [10, 5.0]], "b": [[1, None]]}),
    Plot(
        title="turn", kind="bars", data={"p50": [["wait", 250.0], ["think", 350.0]]}, x_label="ms"
    ),
    Plot(title="gaps", kind="histogram", data={"10 calls": [0.0] * 99 + [30.0]}),
]


def a_run(**fields: object) -> Run:
    return Run(
        bench="latency",
        where=surroundings(["latency"]),
        settings={"seed": 1},
        budgets=[
            budget("p99 <of> all", 12.0, 20),
            budget("lost", 2, 1, ""),
            budget("p99", None, 20),
        ],
        tables=[Table(title="by calls", columns=["calls", "ms"], rows=[["1", "2.0"]])],
        plots=PLOTS,
        series=[Series(name="own share", unit="ms", samples=[1.0, 2.0])],
        notes=["a note & more"],
    )


def test_a_run_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    run = a_run()
    html, json = write(run, tmp_path / "new")
    assert load(json) == run
    assert html.read_text() == page(run)


def test_the_page_holds_all_and_needs_nothing_else() -> None:
    shown = page(a_run())
    assert "p99 &lt;of&gt; all" in shown
    assert "a note &amp; more" in shown
    assert ">met<" in shown
    assert ">MISSED<" in shown
    assert ">unknown<" in shown
    assert shown.count("<svg") == 3
    assert "http://" not in shown.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in shown
    assert "<script" not in shown


def test_a_run_says_where_it_was_made() -> None:
    where = surroundings(["latency", "--turns", "5"])
    assert where["command"] == "python -m bench latency --turns 5"
    assert where["commit"]
    assert where["python"].startswith("3.")
    assert where["trio"]


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.kind)
def test_a_plot_is_well_formed(plot: Plot) -> None:
    root = ElementTree.fromstring(draw(plot))
    assert root.tag.endswith("svg")
    assert len(root) > 5


@pytest.mark.parametrize("kind", ["lines", "bars", "histogram"])
def test_a_plot_of_nothing_is_nothing(kind: str) -> None:
    assert draw(Plot(title="", kind=kind, data={"a": []})) == ""  # type: ignore[arg-type]


def test_percentiles_are_samples() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([3, 1, 2], 1.0) == 3
    assert percentile([], 0.5) is None
    assert spread([1.0] * 99 + [9.0]) == ["1.0", "1.0", "1.0", "9.0"]
    assert spread([]) == ["-"] * 4
    assert spread([1.0] * 98 + [math.inf] * 2) == ["1.0", "1.0", "never", "never"]


def test_a_budget_is_met_below_its_bound_and_unknown_without_a_measurement() -> None:
    assert budget("a", 19.9, 20).is_met
    assert budget("a", 20, 20).is_met is False
    assert budget("a", 20, 20, inclusive=True).is_met
    assert budget("a", None, 20) == Budget(what="a", bound="< 20 ms", measured="-", is_met=None)


def test_a_run_is_shown_on_a_terminal() -> None:
    paper = io.StringIO()
    show(a_run(), Console(width=100, file=paper))
    assert "by calls" in paper.getvalue()
    assert "MISSED" in paper.getvalue()
    assert "unknown" in paper.getvalue()


@pytest.mark.parametrize(
    ("is_met", "status"), [((True, True), 0), ((True, False), 1), ((True, False, None), 3), ((), 0)]
)
def test_the_status_of_a_bench_tells_what_is_unknown_from_what_is_met(
    is_met: tuple[bool | None, ...], status: int
) -> None:
    lines = [Budget(what="a", bound="< 1", measured="-", is_met=each) for each in is_met]
    assert status_of(lines) == status
