"""What a server under load has used, from what /proc tells of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from bench.load import server
from bench.load.server import Server


@pytest.fixture
def asleep() -> Iterator[Server]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield Server(process)
        process.kill()


def test_a_thread_that_has_ended_was_starved_all_the_same(
    asleep: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = [{1: 5_000_000, 2: 7_000_000}, {1: 6_000_000}]
    monkeypatch.setattr(server, "_starved_ns", lambda pid: readings.pop(0))
    assert [asleep.usage().starved_ms for _ in range(2)] == [12.0, 13.0]


def test_a_process_is_read_as_it_is_and_one_that_is_gone_has_nothing(asleep: Server) -> None:
    assert asleep.usage().rss_kib > 0
    assert set(server._starved_ns(asleep.process.pid)) == {asleep.process.pid}
    asleep.process.kill()
    asleep.process.wait()
    assert server._starved_ns(asleep.process.pid) == {}
    assert server._cpu_ms(asleep.process.pid) == 0.0
