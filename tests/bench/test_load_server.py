"""What a server under load has used, from what /proc tells of it."""

from __future__ import annotations

import os
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
    monkeypatch.setattr(server, "_stolen_ms", lambda pid: 0.0)
    assert [asleep.usage().starved_ms for _ in range(2)] == [12.0, 13.0]


def test_a_process_is_read_as_it_is_and_one_that_is_gone_has_nothing(asleep: Server) -> None:
    assert asleep.usage().rss_kib > 0
    assert set(server._starved_ns(asleep.process.pid)) == {asleep.process.pid}
    asleep.process.kill()
    asleep.process.wait()
    assert server._starved_ns(asleep.process.pid) == {}
    assert server._cpu_ms(asleep.process.pid) == 0.0


def test_what_a_child_that_has_ended_took_was_taken_all_the_same(
    asleep: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "7 (a name) S 1 7 7 0 -1 4194560 9 9 9 9 100 10 2000 200 20 0 1 0 1 1 1"
    monkeypatch.setattr(server.Path, "read_text", lambda path: told)
    assert server._cpu_ms(7) == 2310 * server.TICK_MS


def test_what_another_guest_took_of_its_core_starves_it(
    asleep: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = min(os.sched_getaffinity(0))
    told = f"cpu 9 9 9 9 9 9 9 99 0 0\ncpu{core} 1 2 3 4 5 6 7 80 9 10\ncpu99 1 1 1 1 1 1 1 1 1 1\n"
    monkeypatch.setattr(server.Path, "read_text", lambda path: told)
    stolen_ms = 80 * server.TICK_MS
    os.sched_setaffinity(asleep.process.pid, {core})
    assert server._stolen_ms(asleep.process.pid) == stolen_ms
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {core, core + 1})
    assert server._stolen_ms(asleep.process.pid) == 0.0  # nobody knows of which
