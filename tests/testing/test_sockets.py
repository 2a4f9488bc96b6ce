"""Memory sockets keep the contract of a media socket: bounds, order, closes."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.testing import memory_sockets


async def test_messages_arrive_in_order_all_at_once(autojump_clock: trio.testing.MockClock) -> None:
    here, there = memory_sockets()
    assert here.send(b"1")
    assert here.send(b"2")
    assert await there.receive() == [b"1", b"2"]


async def test_a_reader_waits_and_a_cancel_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets()
    with trio.move_on_after(1):
        await there.receive()
    here.send(b"late")
    assert await there.receive() == [b"late"]


async def test_a_peer_that_does_not_read_is_refused_and_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets(wire_max_bytes=10, backlog_max_bytes=10)
    taken = [here.send(b"12345") for _ in range(6)]
    assert taken == [True] * 4 + [False] * 2
    assert here.dropped_messages == 2
    assert await there.receive() == [b"12345"] * 2
    assert await there.receive() == [b"12345"] * 2


async def test_flush_overtakes_the_backlog_but_not_the_wire(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets(wire_max_bytes=10, backlog_max_bytes=10)
    for _ in range(4):
        here.send(b"audio")
    assert here.send(b"clear", flush=True)
    assert await there.receive() == [b"audio"] * 2
    assert await there.receive() == [b"clear"]


async def test_a_close_reaches_the_peer_after_what_was_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets()
    here.send(b"last")
    await here.aclose(1008, "no")
    assert await there.receive() == [b"last"]
    for _ in range(2):
        with pytest.raises(SocketClosed) as caught:
            await there.receive()
        assert (caught.value.code, caught.value.reason) == (1008, "no")
    assert not there.send(b"too late")
    await here.aclose()
    with pytest.raises(SocketClosed):
        await here.receive()


async def test_a_waiting_reader_wakes_when_the_peer_vanishes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets()

    async def read() -> None:
        with pytest.raises(SocketClosed) as caught:
            await there.receive()
        assert caught.value.code == 1006

    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            here.vanish()


async def test_an_oversized_message_ends_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    here, there = memory_sockets()
    here.send(bytes(64 * 1024 + 1))
    with pytest.raises(RemoteProtocolError) as caught:
        await there.receive()
    assert caught.value.close_code == 1009
    with pytest.raises(SocketClosed):
        await here.receive()
