"""The media clock: every line in every beat, at absolute times."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from rtcore.media._beats import BEAT_MS, READ_MAX_SOCKETS, Pump
from rtcore.media.alarm import Alarm
from rtcore.media.pacer import Pacer

BEATS_MS = list(range(BEAT_MS, 5 * BEAT_MS + 1, BEAT_MS))
FIVE_BEATS_S = BEATS_MS[-1] / 1000 + 0.0005


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

    def __init__(self, sockets: int = 0, *, has_ever_more: bool = False) -> None:
        super().__init__()
        self.looks: list[int] = []
        self._count = sockets
        self._has_ever_more = has_ever_more

    @property
    def sockets(self) -> int:
        return self._count

    def read(self) -> bool:
        self.looks.append(round(trio.current_time() * 1000))
        return self._has_ever_more


async def run_for(seconds: float, pacer: Pacer) -> None:
    with trio.move_on_after(seconds):
        await pacer.run()


@pytest.mark.parametrize(
    ("has_ever_more", "looks"),
    [(False, 1), (True, -(-40 // READ_MAX_SOCKETS))],
    ids=["until there is no more", "but no more than there was"],
)
async def test_a_beat_reads(autojump_clock: MockClock, has_ever_more: bool, looks: int) -> None:
    """What comes while it reads is the next one's: those who speak are not kept waiting."""
    pump, line = Sockets(40, has_ever_more=has_ever_more), Line()
    pacer = Pacer(pump)
    pacer.watch(line)
    await run_for(FIVE_BEATS_S, pacer)
    assert pump.looks == [ms for ms in BEATS_MS for _ in range(looks)]
    assert line.ticked == BEATS_MS


@pytest.mark.parametrize("has_pump", [False, True])
async def test_every_line_is_served_once_in_a_beat(
    autojump_clock: MockClock, has_pump: bool
) -> None:
    pacer = Pacer(Sockets() if has_pump else None)
    lines = [Line() for _ in range(10)]
    for line in lines:
        pacer.wake(line)
        pacer.wake(line)  # again: no matter
        pacer.watch(line)
    await run_for(FIVE_BEATS_S, pacer)
    for line in lines:
        assert line.pumped == line.ticked == BEATS_MS


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
    pacer = Pacer(Sockets())
    lines = [Line() for _ in range(4)]

    class Stall(Line):
        def tick(self, now_s: float) -> None:
            if not self.ticked:
                autojump_clock.jump(BEAT_MS / 1000 + 0.013)  # a pause of the whole process
            super().tick(now_s)

    for line in lines:
        pacer.wake(line)
    pacer.watch(Stall())
    await run_for(FIVE_BEATS_S, pacer)
    assert pacer.late_ticks == 1
    assert round(pacer.worst_lateness_s * 1000) == 13
    for line in lines:
        assert line.pumped == [BEATS_MS[0], BEATS_MS[1] + 13, *BEATS_MS[2:]]


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
