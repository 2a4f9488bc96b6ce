"""One media clock for all calls: it reads for them and writes what is due, at absolute times.

A timer per call costs 23 to 27 µs a tick (measured); this one costs a wake-up for all of them.
Every 40 ms what has come on any socket is read, each line that speaks is pumped, and each call
looked after. A late beat is not made up for: each line's playout is anchored to absolute time,
so one writes whatever has become due since the last.

A frame is read 20 ms late on average, and for nearly all of them that does not matter: nothing
is decided by them. The one that may end a turn, and each while the caller may be about to
interrupt, is read the moment it comes (:attr:`rtcore.turn.TurnDetector.is_awaited`). What a
beat does is :mod:`rtcore.media._beats`; here is the wait for it.
"""

from __future__ import annotations

import math
from typing import NoReturn, Protocol

import trio

from rtcore.media._beats import Beats, Pump
from rtcore.media.alarm import Alarm
from rtcore.media.in_wait import beat_in_wait

__all__ = ["Pacer", "Speaking", "Watched"]


class Speaking(Protocol):
    """A line with something to say."""

    due_s: float  # before, :meth:`pump` would have nothing to write

    def pump(self, now_s: float) -> None:
        """Write what is due; never waits, never raises."""
        ...


class Watched(Protocol):
    """A call whose audio may fail to arrive."""

    def tick(self, now_s: float) -> None:
        """Notice what is overdue and wake the task that deals with it; never raises."""
        ...


class Pacer(Beats):
    """Drives all that is registered with it, for as long as :meth:`run` runs."""

    def __init__(self, pump: Pump | None = None) -> None:
        """
        Args:
            pump: whose sockets are read by the same wake-ups; closed from here.
        """
        super().__init__(pump)
        self._roused = trio.Event()

    async def run(self) -> None:
        """Beat until cancelled, in Trio's wait where the run has a clock for it.

        That is :class:`rtcore.media.in_wait.BeatingClock`; else in a task.
        """
        self.begin()
        try:
            await beat_in_wait(self)
            async with trio.open_nursery() as nursery:
                if self.pump is not None:
                    nursery.start_soon(_read_at_once, self.pump)
                with Alarm() as alarm:
                    await self._beat_by(alarm)
        finally:
            if self.pump is not None:
                self.pump.close()

    async def _beat_by(self, alarm: Alarm) -> None:
        while True:
            if self.due_s == math.inf:
                await self._roused.wait()
                continue
            await alarm.until(self.due_s)
            while not self.beat():
                await trio.lowlevel.checkpoint()

    def roused(self) -> None:
        """There is something to do again; called from below."""
        self._roused.set()
        self._roused = trio.Event()


async def _read_at_once(pump: Pump) -> NoReturn:
    """Read what is not to wait for a beat."""
    while True:
        await trio.lowlevel.wait_readable(pump.fileno())
        pump.read_at_once()
