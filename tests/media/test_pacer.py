"""The media clock: every line every 20 ms, spread over beats, at absolute times."""

from __future__ import annotations

import itertools
import time

import pytest
import trio
from trio.testing import MockClock

from rtcore.media._beats import BEATS, Pump
from rtcore.media.alarm import Alarm
from rtcore.media.pacer import Pacer


class Line:
    """Notes when it was served, in ms since the start."""

    due_s = 0.0

    def __init__(self) -> None:
        self.pumped: list[int] = []
        self.ticked: list[int] = []

    def pump(self, now_s: float) -> None:
        self.pumped.append(round(now_s * 1000))

    def tick(self, now_s: float) -> None:
        self.ticked.append(round(now_s * 1000))


class Sockets(Pump):
    """As many as it is told, none of them real; notes when it was looked at."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.looks: list[int] = []
        self.sockets = count

    def read(self) -> bool:
        self.looks.append(round(trio.current_time() * 1000))
        return False


async def run_for(seconds: float, pacer: Pacer) -> None:
    with trio.move_on_after(seconds):
        await pacer.run()


@pytest.mark.parametrize(("sockets", "every_ms"), [(5, 10), (39, 10), (40, 5), (1000, 5)])
async def test_a_wake_up_finds_enough_to_read(
    autojump_clock: MockClock, sockets: int, every_ms: int
) -> None:
    pump = Sockets(sockets)
    await run_for(0.1005, Pacer(pump))
    assert pump.looks == list(range(every_ms, 101, every_ms))


@pytest.mark.parametrize("sockets", [0, 5, 40, 80])
async def test_every_line_is_served_once_in_20_ms(autojump_clock: MockClock, sockets: int) -> None:
    pacer = Pacer(Sockets(sockets))
    lines = [Line() for _ in range(10)]
    for line in lines:
        pacer.wake(line)
        pacer.wake(line)  # again: no matter
        pacer.watch(line)
    await run_for(0.2005, pacer)
    for line in lines:
        assert len(line.pumped) == len(line.ticked) == 10
        assert {b - a for a, b in zip(line.pumped, line.pumped[1:], strict=False)} == {20}


async def test_lines_are_spread_over_the_beats(autojump_clock: MockClock) -> None:
    pacer = Pacer(Sockets(80))
    lines = [Line() for _ in range(8 * BEATS)]
    for line in lines:
        pacer.wake(line)
    await run_for(0.0205, pacer)
    at = [line.pumped[0] for line in lines]
    assert {ms: at.count(ms) for ms in at} == {5: 8, 10: 8, 15: 8, 20: 8}


async def test_who_rests_is_not_served_and_an_empty_clock_stands_still(
    autojump_clock: MockClock,
) -> None:
    pacer, line = Pacer(), Line()
    pacer.wake(line)
    pacer.rest(line)
    pacer.rest(line)
    pacer.unwatch(line)
    await run_for(1.0, pacer)
    assert not line.pumped
    assert pacer.ticks == 0


async def test_a_late_beat_serves_every_line_and_keeps_the_phase(
    autojump_clock: MockClock,
) -> None:
    pacer = Pacer(Sockets(80))
    lines = [Line() for _ in range(BEATS)]

    class Stall(Line):
        def tick(self, now_s: float) -> None:
            if not self.ticked:
                autojump_clock.jump(0.033)  # a pause of the whole process
            super().tick(now_s)

    for line in lines:
        pacer.wake(line)
    pacer.watch(Stall())
    await run_for(0.1005, pacer)
    assert pacer.late_ticks == 1
    assert 25 < pacer.worst_lateness_s * 1000 < 29
    for line in lines:
        after = [ms for ms in line.pumped if ms > 38]
        assert all(ms % 5 == 0 for ms in after)
        assert max(b - a for a, b in itertools.pairwise(after)) <= 20


async def test_an_alarm_is_exact_and_can_be_set_again() -> None:
    with Alarm() as alarm:
        for wait_s in (0.0, 0.003, 0.0115):
            due_s = trio.current_time() + wait_s
            await alarm.until(due_s)
            assert trio.current_time() >= due_s - 1e-6
        with trio.move_on_after(0.002) as scope:
            await alarm.until(trio.current_time() + 5)
        assert scope.cancelled_caught
        began_s = time.monotonic()
        await alarm.until(trio.current_time() + 0.002)
        assert time.monotonic() - began_s < 4  # not the 5 s that were set before


async def test_an_alarm_follows_a_simulated_clock(autojump_clock: MockClock) -> None:
    began_s = time.monotonic()
    with Alarm() as alarm:
        await alarm.until(3600)
    assert trio.current_time() == 3600
    assert time.monotonic() - began_s < 10
