"""The loop: every 0.2 ms a hundredth of the calls speak, in between everybody listens."""

from __future__ import annotations

import gc
import math
import select
import time
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from bench.load.caller import Caller, Plan
from bench.load.lines import Address, Line, Network
from bench.load.results import Counts, Heard, Step
from bench.load.voice import FRAME_S

__all__ = ["SETTLE_S", "Load", "LoadError"]

SETTLE_S = 10.0  # a whole conversation's round: nothing is measured with all calls in one state

PHASES = 100  # callers speak when they please: frames that come together are cheap to read
SLOT_S = FRAME_S / PHASES
DIAL_S = 0.004  # between two new calls: 250 a second, a handshake is work for both sides
READS_MAX = 64  # between two looks at the clock
OPEN_LIMIT_S = 15.0


class LoadError(Exception):
    """The calls could not be made."""


@dataclass
class Load:
    """Calls to ``url``, more with each :meth:`grow`; :meth:`close` hangs all of them up.

    Calls begin to speak spread over ``spread_s``, so that turns do not fall together.
    """

    url: str
    plan: Plan
    network: Network = field(default_factory=Network)
    seed: int = 1
    spread_s: float = 8.0
    greeting_s: float = 0.5
    lines: list[Line] = field(default_factory=list)
    heard: Heard = field(default_factory=Heard)
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._address = Address.of(self.url)
        self._epoll = select.epoll()  # first: `select` below wants a small number
        self._by_fd: dict[int, Line] = {}
        self._phases: list[list[Line]] = [[] for _ in range(PHASES)]
        self._slot = 0
        self._zero_s = time.perf_counter()
        # a collector that runs in the loop is lateness of ours
        gc.collect()
        gc.freeze()
        gc.disable()

    @property
    def open_calls(self) -> int:
        return sum(line.is_open for line in self.lines)

    @property
    def opened_s(self) -> dict[int, float]:
        """When each call was begun, by its number."""
        return {line.caller.number: line.opened_s for line in self.lines}

    def grow(self, calls: int) -> None:
        """Dial until there are ``calls``, and wait until all are open.

        Raises:
            LoadError: not all of them were taken in time.
        """
        while len(self.lines) < calls:
            self._dial(len(self.lines), calls)
            self.run(DIAL_S)
        until_s = time.perf_counter() + OPEN_LIMIT_S
        while any(not line.is_open and not line.is_lost for line in self.lines):
            if time.perf_counter() > until_s:
                raise LoadError(f"{self.url}: only {self.open_calls} of {calls} calls were taken")
            self.run(0.05)
        if not self.open_calls:
            raise LoadError(f"{self.url}: no call was taken")

    def _dial(self, number: int, calls: int) -> None:
        # golden-ratio spacing: however many there are, they begin evenly spread
        begins_s = time.perf_counter() + self.greeting_s + number * 0.618034 % 1 * self.spread_s
        caller = Caller(number, self.plan, self.heard, self.counts, begins_s)
        try:
            line = Line(caller, self._address, self.network, self.seed)
        except OSError as exc:
            raise LoadError(f"{self.url}: {exc}") from exc
        self.lines.append(line)
        self._by_fd[line.sock.fileno()] = line
        self._epoll.register(line.sock, select.EPOLLIN)
        self._phases[number % PHASES].append(line)

    def measure(self, seconds: float) -> Step:
        """Let the calls talk for ``seconds``; what they heard in that time and no other."""
        before = msgspec.structs.replace(self.counts)
        self._forget()
        began_s, worked_s = time.perf_counter(), time.process_time()
        self.run(seconds)
        took_s, worked_s = time.perf_counter() - began_s, time.process_time() - worked_s
        taken = msgspec.convert(msgspec.to_builtins(self.heard), Heard)
        taken.overdue_ms = self._overdue_ms(max(taken.response_ms, default=math.inf))
        self._forget()
        counts = Counts(
            **{
                name: getattr(self.counts, name) - getattr(before, name)
                for name in Counts.__struct_fields__
            }
        )
        counts.lost_calls = self.counts.lost_calls  # one that fell before is missing now
        return Step(
            calls=len(self.lines),
            seconds=took_s,
            heard=taken,
            counts=counts,
            core_share=worked_s / took_s,
        )

    def _overdue_ms(self, longest_ms: float) -> list[float]:
        """The waits by now of questions that are slower than the slowest that was answered.

        Without them a server that falls silent for the end of a window would have no fault.
        """
        now_s = time.perf_counter()
        waits = (line.caller.waited_ms(now_s) for line in self.lines if line.is_open)
        return [waited for waited in waits if waited > longest_ms]

    def _forget(self) -> None:
        for name in Heard.__struct_fields__:
            getattr(self.heard, name).clear()

    def run(self, seconds: float) -> None:
        """Speak and listen for so long."""
        clock, lateness_ms = time.perf_counter, self.heard.lateness_ms
        now_s = clock()
        until_s = now_s + seconds
        while now_s < until_s:
            due_s = self._zero_s + self._slot * SLOT_S
            while due_s <= now_s:
                lateness_ms.append((now_s - due_s) * 1000)
                for line in self._phases[self._slot % PHASES]:
                    line.tick(due_s, now_s)
                self._slot += 1
                due_s = self._zero_s + self._slot * SLOT_S
                now_s = clock()
            if not self.network.is_none:
                for line in self.lines:
                    line.pass_on(now_s)
            # epoll's own time-out counts whole milliseconds
            select.select([self._epoll], [], [], max(due_s - clock(), 0.0))
            for fd, _ in self._epoll.poll(0, READS_MAX):
                line = self._by_fd[fd]
                line.read(clock())
                if line.is_lost:
                    with suppress(OSError, KeyError):
                        self._epoll.unregister(fd)
                    del self._by_fd[fd]
            now_s = clock()

    def close(self) -> None:
        """Hang up everywhere."""
        for line in self.lines:
            line.close()
        self._epoll.close()
        gc.enable()
