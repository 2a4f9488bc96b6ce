"""Beats in Trio's wait: on time, and nobody else waits for longer than without them.

All but the last run on the clock that beats: the one fixture that is a clock is the run's.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from rtcore.media._beats import BEAT_MS, READ_MAX_SOCKETS, WHOLE_MAX_SOCKETS, Pump, Readable
from rtcore.media.in_wait import BeatingClock
from rtcore.media.pacer import Pacer

LIMIT_S = 30.0  # for what takes milliseconds


@pytest.fixture
def clock() -> BeatingClock:
    return BeatingClock()


class Call:
    """Watched by the pacer: does in its n-th tick what it was told to."""

    def __init__(self, does: dict[int, Callable[[], None]] | None = None) -> None:
        self.ticks = 0
        self.does = does or {}

    def tick(self, now_s: float) -> None:
        self.ticks += 1
        if self.ticks in self.does:
            self.does[self.ticks]()

    async def until(self, ticks: int) -> None:
        """Wait until it has been ticked so often, in this very tick."""
        come = trio.Event()
        self.does[ticks] = come.set
        with trio.fail_after(LIMIT_S):
            await come.wait()


class Reader(Readable):
    """Read by a function."""

    def __init__(self, read: Callable[[], None]) -> None:
        self._read = read

    def read(self) -> None:
        self._read()


class Passes(trio.abc.Instrument):
    """Counts the passes of Trio's run loop that Trio had waited for."""

    count = 0

    def after_io_wait(self, timeout: float) -> None:
        self.count += timeout > 0


@asynccontextmanager
async def beating(pump: Pump | None = None) -> AsyncIterator[Pacer]:
    pacer = Pacer(pump)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pacer.run)
        while trio.lowlevel.current_statistics().tasks_runnable:
            await trio.lowlevel.checkpoint()
        yield pacer
        nursery.cancel_scope.cancel()


async def test_beats_that_wake_nobody_need_no_pass_of_trio(clock: BeatingClock) -> None:
    async with beating() as pacer:
        call, passes = Call(), Passes()
        pacer.watch(call)
        trio.lowlevel.add_instrument(passes)
        await call.until(20)
        trio.lowlevel.remove_instrument(passes)
        began_s = pacer.due_s - 20 * BEAT_MS / 1000
        assert began_s + 19 * BEAT_MS / 1000 <= trio.current_time() < began_s + LIMIT_S
        assert passes.count <= 10  # one at the end, and some for safety; by tasks it is 20


async def test_a_task_that_a_beat_wakes_has_its_turn_before_the_next(
    clock: BeatingClock,
) -> None:
    async with beating() as pacer:
        call = Call()
        pacer.watch(call)
        for tick in range(2, 30):
            await call.until(tick)
            assert call.ticks == tick


async def test_deadlines_hold_between_beats_and_without_them(clock: BeatingClock) -> None:
    async with beating() as pacer:
        for _ in range(2):
            for wait_s in (0.001, 0.013, 0.02, 0.3):  # the last: longer than one stay
                due_s = trio.current_time() + wait_s
                with trio.fail_after(LIMIT_S):
                    await trio.sleep_until(due_s)
                assert trio.current_time() >= due_s
            pacer.watch(Call())


async def test_what_trio_itself_waits_for_wakes_it(clock: BeatingClock) -> None:
    async with beating() as pacer:
        pacer.watch(Call())
        ours, theirs = trio.socket.socketpair()
        with ours, theirs, trio.fail_after(LIMIT_S):
            for number in range(20):
                await theirs.send(bytes([number]))
                assert await ours.recv(10) == bytes([number])
                assert await trio.to_thread.run_sync(lambda n=number: n) == number


async def test_a_deadline_that_a_beat_moves_is_seen_soon(clock: BeatingClock) -> None:
    async with beating() as pacer:
        with trio.CancelScope() as scope:
            pacer.watch(Call({3: lambda: setattr(scope, "deadline", trio.current_time())}))
            with trio.fail_after(LIMIT_S):
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_what_is_urgent_is_read_at_once_though_nothing_is_due(
    clock: BeatingClock,
) -> None:
    pump = Pump()
    async with beating(pump) as pacer:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            got: list[bytes] = []
            read = trio.Event()

            def read_once() -> None:
                got.append(ours.recv(10))
                read.set()

            reader = Reader(read_once)
            pump.add(ours.fileno(), reader)
            pump.hurry(ours.fileno(), True)
            due_s = pacer.due_s
            theirs.send(b"x")
            with trio.fail_after(LIMIT_S):
                await read.wait()
            assert got == [b"x"]
            assert pacer.ticks == 0
            assert trio.current_time() < due_s
            pump.remove(ours.fileno(), reader)


@pytest.mark.parametrize(
    ("many", "together"),
    [(WHOLE_MAX_SOCKETS, WHOLE_MAX_SOCKETS), (WHOLE_MAX_SOCKETS + 1, READ_MAX_SOCKETS)],
    ids=["but not between few", "many"],
)
async def test_others_have_their_turns_between_sockets(
    clock: BeatingClock, many: int, together: int
) -> None:
    pump = Pump()
    pairs = [socket.socketpair() for _ in range(many)]
    order: list[str] = []
    done = trio.Event()

    def reader(ours: socket.socket) -> Reader:
        def read() -> None:
            ours.recv(10)
            order.append("socket")
            wanted.set()
            if order.count("socket") == many:
                done.set()

        return Reader(read)

    async def other() -> None:
        await wanted.wait()
        order.append("task")

    async with beating(pump), trio.open_nursery() as nursery:
        wanted = trio.Event()
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        for _, theirs in pairs:
            theirs.send(b"x")
        for ours, _ in pairs:
            pump.add(ours.fileno(), reader(ours))
        with trio.fail_after(LIMIT_S):
            await done.wait()
            while "task" not in order:
                await trio.lowlevel.checkpoint()
    for pair in pairs:
        for end in pair:
            end.close()
    assert order.index("task") == together


async def test_what_a_beat_raises_ends_the_pacer_and_nothing_else(clock: BeatingClock) -> None:
    async def run() -> None:
        pacer.watch(Call({3: lambda: 1 // 0}))  # type: ignore[dict-item]
        await pacer.run()

    pacer = Pacer()
    with trio.fail_after(LIMIT_S), pytest.raises(ZeroDivisionError):
        await run()
    with trio.fail_after(LIMIT_S):
        await trio.sleep(0.05)
    assert pacer.ticks == 3


async def test_one_pacer_of_a_run_beats_in_its_wait_and_others_beside_it(
    clock: BeatingClock,
) -> None:
    pacers, calls = [Pacer(), Pacer()], [Call(), Call()]
    async with trio.open_nursery() as nursery:
        for pacer, call in zip(pacers, calls, strict=True):
            nursery.start_soon(pacer.run)
            pacer.watch(call)
        for call in calls:
            await call.until(call.ticks + 5)
        assert clock.is_beating
        nursery.cancel_scope.cancel()
    assert not clock.is_beating
    async with beating() as third:  # the wait is free again
        call = Call()
        third.watch(call)
        await call.until(5)


async def test_a_clock_without_a_pacer_is_as_any_other(clock: BeatingClock) -> None:
    began_s = trio.current_time()
    await trio.sleep(0.02)
    assert began_s + 0.02 <= trio.current_time() < began_s + LIMIT_S
    with trio.move_on_after(0.01) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_simulated_clock_is_followed(autojump_clock: MockClock) -> None:
    async with beating() as pacer:
        call = Call()
        pacer.watch(call)
        await trio.sleep(10.001)
        assert call.ticks == 10_000 // BEAT_MS
