"""What is said on its way to the recogniser: in order, bounded, lost to no cancellation."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rtcore.hearing import HeardQueue
from rtcore.ports import CallerAudio, Hearing, UtteranceEnd


def chunk(number: int) -> CallerAudio:
    return CallerAudio(pcm=bytes(4), start_sample=number * 2)


async def read(hearing: Hearing, count: int, into: list[object]) -> None:
    async for item in hearing:
        into.append(item)
        if len(into) == count:
            return


async def test_items_come_in_order_those_that_wait_and_those_that_are_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue, heard = HeardQueue(10), list[object]()
    wanted = [chunk(0), chunk(1), UtteranceEnd(at_sample=4), chunk(2), chunk(3)]
    assert queue.put(wanted[0])
    assert queue.put(wanted[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, queue.reader(), len(wanted), heard)
        await trio.sleep(1)
        assert heard == wanted[:2]
        assert queue.put(wanted[2])
        await trio.sleep(1)
        assert queue.put(wanted[3])
        assert queue.put(wanted[4])  # in the same tick
    assert heard == wanted


async def test_what_is_there_is_taken_without_giving_others_a_turn() -> None:
    queue, heard = HeardQueue(10), list[object]()
    for number in range(5):
        queue.put(chunk(number))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, queue.reader(), 5, heard)
        for _ in range(2):  # which of two tasks goes first in a turn is Trio's choice
            await trio.lowlevel.checkpoint()
        assert len(heard) == 5


async def test_past_its_bound_nothing_is_taken() -> None:
    queue = HeardQueue(2)
    assert [queue.put(chunk(number)) for number in range(4)] == [True, True, False, False]
    hearing = queue.reader()
    assert await hearing.receive() == chunk(0)
    assert queue.put(chunk(4))
    assert [await hearing.receive(), await hearing.receive()] == [chunk(1), chunk(4)]


async def test_whoever_is_cancelled_leaves_all_to_the_next_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = HeardQueue(10)
    with trio.move_on_after(1) as waiting:
        await queue.reader().receive()
    assert waiting.cancelled_caught
    queue.put(chunk(0))
    with trio.CancelScope() as given_up:
        given_up.cancel()
        await queue.reader().receive()
    assert given_up.cancelled_caught

    heard = list[object]()
    async with trio.open_nursery() as nursery:  # woken and cancelled in one tick
        nursery.start_soon(read, queue.reader(), 9, heard)
        await trio.testing.wait_all_tasks_blocked()
        queue.put(chunk(1))
        nursery.cancel_scope.cancel()
    queue.put(chunk(2))
    reader = queue.reader()
    heard += [await reader.receive() for _ in range(3 - len(heard))]
    assert heard == [chunk(0), chunk(1), chunk(2)]


async def test_who_has_closed_it_or_reads_beside_another_is_told() -> None:
    queue = HeardQueue(10)
    first = queue.reader()

    async def read_to_its_end() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await first.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_to_its_end)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await queue.reader().receive()
        await first.aclose()
    queue.put(chunk(0))
    with pytest.raises(trio.ClosedResourceError):
        await first.receive()
    assert await queue.reader().receive() == chunk(0)
