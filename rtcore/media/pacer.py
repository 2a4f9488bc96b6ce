"""One media clock for all calls: a tick every 20 ms against absolute deadlines.

A timer per call costs 23 to 27 µs a tick (measured); this one costs a wake-up for all of
them. A late tick is not made up for: each line's playout is anchored to absolute time, so one
tick writes whatever has become due since the last.
"""

from __future__ import annotations

from typing import Protocol

import trio

from rtcore.audio import FRAME_MS

__all__ = ["Pacer", "Speaking", "Watched"]

LAG_DECAY = 0.97  # a tick; half is forgotten after 23 ticks, 0.5 s


class Speaking(Protocol):
    """A line with something to say."""

    def pump(self, now_s: float) -> None:
        """Write what is due; never waits, never raises."""
        ...


class Watched(Protocol):
    """A call whose audio may fail to arrive."""

    def tick(self, now_s: float) -> None:
        """Notice what is overdue and wake the task that deals with it; never raises."""
        ...


class Pacer:
    """Drives all that is registered with it, for as long as :meth:`run` runs."""

    def __init__(self) -> None:
        # dicts as sets that keep their order: ticks are repeatable
        self._speaking: dict[Speaking, None] = {}
        self._watched: dict[Watched, None] = {}
        self._needed = trio.Event()
        self.ticks = 0
        self.late_ticks = 0  # past their deadline by more than half a frame
        self.worst_lateness_s = 0.0
        self.lag_ms = 0.0  # the worst of the last second or so: a maximum that decays

    def watch(self, call: Watched) -> None:
        """Tick ``call`` until :meth:`unwatch`."""
        self._watched[call] = None
        self._needed.set()

    def unwatch(self, call: Watched) -> None:
        self._watched.pop(call, None)

    def wake(self, line: Speaking) -> None:
        """``line`` has something to write: pump it until :meth:`rest`."""
        self._speaking[line] = None
        self._needed.set()

    def rest(self, line: Speaking) -> None:
        """``line`` has nothing to write for now."""
        self._speaking.pop(line, None)

    async def run(self) -> None:
        """Tick until cancelled."""
        period_s = FRAME_MS / 1000
        deadline_s = trio.current_time()
        while True:
            if not self._watched and not self._speaking:  # nobody on the line: no need to wake
                self._needed = trio.Event()
                await self._needed.wait()
                deadline_s = trio.current_time()
            deadline_s += period_s
            await trio.sleep_until(deadline_s)
            now_s = trio.current_time()
            self._account(now_s - deadline_s)
            for line in list(self._speaking):
                line.pump(now_s)
            for call in self._watched:
                call.tick(now_s)
            if now_s - deadline_s > period_s:  # skip what was missed, keep the phase
                deadline_s += (now_s - deadline_s) // period_s * period_s

    def _account(self, lateness_s: float) -> None:
        self.ticks += 1
        self.lag_ms = max(lateness_s * 1000, self.lag_ms * LAG_DECAY)
        if lateness_s > FRAME_MS / 2000:
            self.late_ticks += 1
        self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
