"""One media clock for all calls: it reads for them and writes what is due, at absolute times.

A timer per call costs 23 to 27 µs a tick (measured); this one costs a wake-up for all of them.
Every 20 ms each line that speaks is pumped and each call looked after, but not all in one go:
they are spread over four beats of 5 ms, so that no reply waits for all the others' audio. A
late beat is not made up for: each line's playout is anchored to absolute time, so one writes
whatever has become due since the last.

A wake-up of a nearly idle process costs as much as reading some ten frames. So with few sockets
two beats share one: frames are then read 5 ms late on average, 2.5 ms from forty sockets on,
and up to four sockets at once. Whose turn each beat is, is :mod:`rtcore.media._beats`; here is
the wait for them.
"""

from __future__ import annotations

import math
from typing import Protocol

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

    def __init__(self, pump: Pump | None = None, *, in_wait: bool = False) -> None:
        """
        Args:
            pump: whose sockets are read by the same wake-ups; closed from here.
            in_wait: beat inside of Trio's wait for I/O where that can be done, see
                :mod:`rtcore.media.in_wait`.
        """
        super().__init__(pump)
        self._is_in_wait = in_wait
        self._roused = trio.Event()

    async def run(self) -> None:
        """Beat until cancelled."""
        self.begin()
        try:
            if self._is_in_wait:
                await beat_in_wait(self)
            async with trio.open_nursery() as nursery:
                if self.pump is not None:
                    nursery.start_soon(self._read_few, self.pump)
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

    async def _read_few(self, pump: Pump) -> None:
        """Read as soon as there is something, as long as there are few."""
        while True:
            if not self.reads_at_once:
                await self._roused.wait()
                continue
            await trio.lowlevel.wait_readable(pump.fileno())
            if self.reads_at_once:
                pump.read()

    def roused(self) -> None:
        """There may be something to do that there was not before; called from below."""
        self._roused.set()
        self._roused = trio.Event()
