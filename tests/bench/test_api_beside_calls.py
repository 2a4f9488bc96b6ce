"""The bench of the API beside calls: a short run of all of it, and what it makes of windows."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import msgspec
import pytest

from bench import api_beside_calls
from bench.api_beside_calls import Window, main
from bench.api_requests import MIX, Asked
from bench.load.results import Counts, Heard, Step


def window(asked: Asked | None, *, late_ms: float = 0.1) -> Window:
    heard = Heard(gap_ms=[0.0], worst_gap_ms=[3.0], lateness_ms=[late_ms])
    step = Step(calls=1, seconds=1, heard=heard, counts=Counts())
    return Window(step=step, asked=asked, core_share=0.1, starved_share=0)


def test_fifty_requests_are_all_kinds() -> None:
    assert sum(MIX.values()) == 50


def test_a_window_in_which_the_callers_were_late_is_void() -> None:
    assert window(None).is_valid
    late = window(None, late_ms=5)
    assert not late.is_valid
    assert api_beside_calls._row(late)[0] == "calls alone*"
    assert api_beside_calls._notes([late, window(None)])[0].startswith("1 of 2")


def test_a_request_that_an_api_is_too_far_behind_for_is_not_answered() -> None:
    given = argparse.Namespace(calls=1, rate=50, seconds=1, rounds=1, seed=1)
    asked = Asked(sent=47, skipped=3, statuses={"200": 46, "ReadTimeout": 1})
    run = api_beside_calls.report([window(None), window(asked)], {"when": "now"}, given)
    line = next(each for each in run.budgets if "200" in each.what)
    assert (line.measured, line.is_met) == ("4", False)


def test_calls_are_held_and_requests_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_beside_calls, "SETTLE_S", 0.5)
    monkeypatch.setattr(api_beside_calls, "CLIENT_S", 0.5)
    options = ["--calls=2", "--seconds=0.5", "--rounds=1", f"--out={tmp_path}"]
    cores = os.sched_getaffinity(0)
    try:
        assert main(options) in (0, 1, 3)  # how long gaps are, if there are replies in so short
        # a window, depends on the machine
    finally:
        os.sched_setaffinity(0, cores)
    (path,) = tmp_path.glob("*.json")
    run = msgspec.json.decode(path.read_bytes())
    alone, beside = run["tables"][0]["rows"]
    assert (alone[0].rstrip("*"), beside[0].rstrip("*")) == ("calls alone", "with requests")
    assert beside[-1].startswith("200:")
    assert {row[0] for row in run["tables"][1]["rows"]} == set(MIX)
