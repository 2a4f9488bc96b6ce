"""Commands whose Trio run is their own give it the clock that beats in its wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from rtcore import cli
from rtcore.commands import demo
from rtcore.media.in_wait import BeatingClock
from rtcore.node import NodeConfig

GIVEN = list[Any]


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[GIVEN]:
    """Those that runs were to begin with; none begins."""
    given: GIVEN = []

    def run(*_: object, clock: trio.abc.Clock | None = None) -> None:
        given.append(clock)
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", run)
    yield given
    structlog.reset_defaults()  # commands say how the process logs


@pytest.mark.parametrize("database", [None, "sqlite:///none.db"])
def test_serve(clocks: GIVEN, database: str | None) -> None:
    with pytest.raises(KeyboardInterrupt):
        cli.serve(database=database)
    assert [type(clock) for clock in clocks] == [BeatingClock]


def test_demo(clocks: GIVEN, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        demo.run(demo.DemoOptions(out=tmp_path, node=NodeConfig()))
    assert [type(clock) for clock in clocks] == [BeatingClock]
