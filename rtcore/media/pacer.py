"""One media clock for all calls: it reads for them and writes what is due, at absolute times.

A timer per call costs 23 to 27 µs a tick (measured); this one costs a wake-up for all of them.
Every 20 ms each line that speaks is pumped and each call looked after, but not all in one go:
they are spread over four beats of 5 ms, so that no reply waits for all the others' audio. A
late beat is not made up for: each line's playout is anchored to absolute time, so one writes
whatever has become due since the last.

A wake-up of a nearly idle process costs as much as reading some ten frames. So with few sockets
two beats share one: frames are then read 5 ms late on average, 2.5 ms from forty sockets on,
and up to four sockets at once (:mod:`rtcore.media.pump`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

import trio

from rtcore.audio import FRAME_MS
from rtcore.media.alarm import Alarm
from rtcore.media.pump import Pump

__all__ = ["Pacer", "Speaking", "Watched"]

T = TypeVar("T")

BEATS = 4  # a frame
BEAT_S = FRAME_MS / 1000 / BEATS
MANY_SOCKETS = 40  # from here on each beat finds ten to read
LAG_DECAY = 0.9925  # a beat; half is forgotten after 92 beats, 0.5 s


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


class Spread(Generic[T]):
    """A set whose members are spread evenly over the beats, each in the order it came."""

    def __init__(self) -> None:
        self._members: list[dict[T, None]] = [{} for _ in range(BEATS)]
        self._beat_of: dict[T, int] = {}

    def __bool__(self) -> bool:
        return bool(self._beat_of)

    def of(self, beat: int) -> Iterable[T]:
        return self._members[beat]

    def add(self, member: T) -> None:
        if member not in self._beat_of:
            beat = min(range(BEATS), key=lambda beat: len(self._members[beat]))
            self._beat_of[member] = beat
            self._members[beat][member] = None

    def discard(self, member: T) -> None:
        beat = self._beat_of.pop(member, None)
        if beat is not None:
            del self._members[beat][member]


class Pacer:
    """Drives all that is registered with it, for as long as :meth:`run` runs."""

    def __init__(self, pump: Pump | None = None) -> None:
        """``pump``: whose sockets are read by the same wake-ups; run from here."""
        self._pump = pump
        if pump is not None:
            pump.on_many = self._rouse
        self._speaking: Spread[Speaking] = Spread()
        self._watched: Spread[Watched] = Spread()
        self._needed = trio.Event()
        self.ticks = 0
        self.late_ticks = 0  # past their deadline by more than half a frame
        self.worst_lateness_s = 0.0
        self.lag_ms = 0.0  # the worst of the last second or so: a maximum that decays

    def watch(self, call: Watched) -> None:
        """Tick ``call`` until :meth:`unwatch`."""
        self._watched.add(call)
        self._rouse()

    def unwatch(self, call: Watched) -> None:
        self._watched.discard(call)

    def wake(self, line: Speaking) -> None:
        """``line`` has something to write: pump it until :meth:`rest`."""
        self._speaking.add(line)
        self._rouse()

    def rest(self, line: Speaking) -> None:
        """``line`` has nothing to write for now."""
        self._speaking.discard(line)

    def _rouse(self) -> None:
        self._needed.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._pump is not None:
                nursery.start_soon(self._pump.run)
            with Alarm() as alarm:
                await self._keep_time(alarm)

    async def _keep_time(self, alarm: Alarm) -> None:
        beat = 0
        due_s = trio.current_time()
        while True:
            if not (self._watched or self._speaking or self._is_reading):  # nobody on the line
                self._needed = trio.Event()
                await self._needed.wait()
                due_s = trio.current_time()
            stride = self._stride()
            due_s += stride * BEAT_S
            await alarm.until(due_s)
            now_s = trio.current_time()
            self._account(now_s - due_s, stride)
            if self._is_reading:
                assert self._pump is not None
                await self._pump.look()  # first: who is interrupted need not be written for
                now_s = trio.current_time()
            missed = max(0, int((now_s - due_s) / BEAT_S))  # skipped, but for their lines
            for _ in range(min(stride + missed, BEATS)):
                self._serve(beat, now_s)
                beat = (beat + 1) % BEATS
            due_s += missed * BEAT_S

    @property
    def _is_reading(self) -> bool:
        return self._pump is not None and self._pump.is_many

    def _stride(self) -> int:
        """How many beats the next wake-up is for: 1, 2 or all of a frame."""
        if not self._is_reading:
            return BEATS
        assert self._pump is not None
        return 1 if self._pump.sockets >= MANY_SOCKETS else 2

    def _serve(self, beat: int, now_s: float) -> None:
        for line in list(self._speaking.of(beat)):
            if line.due_s <= now_s:
                line.pump(now_s)
        for call in self._watched.of(beat):
            call.tick(now_s)

    def _account(self, lateness_s: float, stride: int) -> None:
        self.ticks += 1
        self.lag_ms = max(lateness_s * 1000, self.lag_ms * LAG_DECAY**stride)
        if lateness_s > FRAME_MS / 2000:
            self.late_ticks += 1
        self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
