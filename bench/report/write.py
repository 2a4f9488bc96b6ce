"""A run on disk, on a page and on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table as RichTable

from bench.report.run import Budget, Run
from bench.report.svg import draw

__all__ = [
    "consoles",
    "load",
    "page",
    "page_of",
    "show",
    "show_budgets",
    "verdict",
    "write",
]

PLAIN_WIDTH = 170
STYLE = """
body { font: 14px/1.45 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222 } table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
th, td { white-space: nowrap; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } .scroll { overflow-x: auto }
.missed { color: #b00020; font-weight: bold } .met { color: #2e7d32 }
.unknown { color: #8a6100; font-weight: bold }
figure { margin: 1rem 0 } svg { width: 100%; max-width: 46rem }
"""


def write(run: Run, folder: Path) -> tuple[Path, Path]:
    """Write ``NAME-TIME.html`` and ``.json`` into ``folder``; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{run.bench}-{run.where['when'][:19].replace(':', '')}"
    html, json = folder / f"{stem}.html", folder / f"{stem}.json"
    html.write_text(page(run), encoding="utf-8")
    json.write_bytes(msgspec.json.encode(run) + b"\n")
    return html, json


def load(path: Path) -> Run:
    """Read a run's JSON.

    Raises:
        OSError: it cannot be read.
        msgspec.DecodeError: it is no run.
    """
    return msgspec.json.decode(path.read_bytes(), type=Run)


def page(run: Run) -> str:
    """``run`` as one page that needs nothing else."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in run.notes)
    tables = [(table.title, table.columns, table.rows) for table in run.tables]
    if run.budgets:
        rows = [[line.what, line.bound, line.measured, verdict(line)] for line in run.budgets]
        tables.insert(0, ("What should hold", ["", "bound", "measured", ""], rows))
    plots = "".join(
        f"<figure><figcaption>{escape(plot.title)}</figcaption>{draw(plot)}</figure>"
        for plot in run.plots
    )
    settings = {**run.where, **{name: str(value) for name, value in run.settings.items()}}
    behind = [
        ("Where, when and how", ["", ""], [[name, value] for name, value in settings.items()]),
        (
            "Raw samples, in the JSON beside",
            ["series", "unit", "samples"],
            [[series.name, series.unit, str(len(series.samples))] for series in run.series],
        ),
    ]
    return page_of(f"bench {run.bench}", notes, tables, plots, behind)


def page_of(
    title: str,
    intro: str,
    tables: Sequence[tuple[str, list[str], list[list[str]]]],
    plots: str = "",
    behind: Sequence[tuple[str, list[str], list[list[str]]]] = (),
) -> str:
    """A page of tables; ``intro`` and ``plots`` are HTML already."""
    shown, last = ("\n".join(_table(*table) for table in some) for some in (tables, behind))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{escape(title)}</h1>{intro}{shown}{plots}{last}</html>\n"
    )


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _cell(text: str) -> str:
    css = {"met": " class=met", "MISSED": " class=missed", "unknown": " class=unknown"}.get(
        text, ""
    )
    return f"<td{css}>{escape(text)}</td>"


def verdict(line: Budget) -> str:
    """Whether a line of the bar holds, in a word."""
    return "unknown" if line.is_met is None else "met" if line.is_met else "MISSED"


def consoles() -> tuple[Console, Console]:
    """For what happens on the way, and for the result; wide enough for its tables in a file."""
    err = Console(stderr=True)
    return err, Console() if Console().is_terminal else Console(width=PLAIN_WIDTH)


def show(run: Run, out: Console) -> None:
    """Print the tables and the bar."""
    for table in run.tables:
        shown = RichTable(title=table.title, title_justify="left")
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        out.print(shown)
    for note in run.notes:
        out.print(note, highlight=False)
    show_budgets({run.bench: run.budgets}, out)


def show_budgets(budgets: dict[str, list[Budget]], out: Console) -> None:
    """Print the bar of one or several runs."""
    table = RichTable("bench", "what", "bound", "measured", "", title="what should hold")
    for bench, lines in budgets.items():
        for line in lines:
            style = {None: "yellow", False: "red", True: None}[line.is_met]
            table.add_row(bench, line.what, line.bound, line.measured, verdict(line), style=style)
    if table.row_count:
        out.print(table)
