"""One reader for all sockets: the same deliveries, the same endings as a task for each."""

from __future__ import annotations

import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, get_args

import pytest
import trio

from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.media import fast
from rtcore.media._beats import Pump
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.media.in_wait import BeatingClock
from rtcore.media.limits import SocketLimits
from rtcore.media.pacer import Pacer

LIMITS = SocketLimits()
Reader = Literal["by beats", "in wait", "itself"]
LIMIT_S = 30.0  # for what takes milliseconds


async def anyone(request: UpgradeRequest) -> Rejection | None:
    return None


@asynccontextmanager
async def pairs(
    count: int, reader: Reader
) -> AsyncIterator[tuple[list[fast.FastSocket], list[fast.FastSocket]]]:
    """``count`` connections: their clients' ends, and the ends that a pump reads for."""
    pump = None if reader == "itself" else Pump()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    clients: list[fast.FastSocket] = []
    servers: list[fast.FastSocket] = []
    async with trio.open_nursery() as nursery:
        if pump is not None:
            nursery.start_soon(Pacer(pump).run)
        for _ in range(count):
            async with trio.open_nursery() as both:

                async def accept() -> None:
                    stream = await listeners[0].accept()
                    accepted = await fast.accept(stream, anyone, LIMITS, nursery, pump)
                    assert accepted is not None
                    servers.append(accepted)

                both.start_soon(accept)
                clients.append(await fast.connect("127.0.0.1", port, "/", LIMITS, nursery))
        try:
            yield clients, servers
        finally:
            async with trio.open_nursery() as closing:
                for end in clients + servers:
                    closing.start_soon(end.aclose)
            for listener in listeners:
                await listener.aclose()
            nursery.cancel_scope.cancel()


pumped = pytest.mark.parametrize("reader", get_args(Reader))


@pytest.fixture
def clock(reader: Reader) -> BeatingClock | None:
    """The run's, if it is one."""
    return BeatingClock() if reader == "in wait" else None


@pumped
async def test_every_message_of_every_socket_is_delivered_in_order(
    reader: Reader, clock: object
) -> None:
    async with pairs(10, reader) as (clients, servers):
        got: list[list[bytes]] = [[] for _ in servers]
        async with trio.open_nursery() as nursery:

            async def hear(number: int) -> None:
                with pytest.raises(SocketClosed) as caught:
                    await servers[number].deliver(got[number].extend)
                assert caught.value.code == 1000

            for number in range(10):
                nursery.start_soon(hear, number)
            for turn in range(50):
                for client in clients:
                    assert client.send(b"%d" % turn)
                await trio.lowlevel.checkpoint()
            for client in clients:
                nursery.start_soon(client.aclose)
        assert all(messages == [b"%d" % turn for turn in range(50)] for messages in got)


@pumped
@pytest.mark.parametrize("closes", [False, True], ids=["and goes on", "and closes"])
async def test_what_a_handler_raises_ends_its_own_delivery(
    reader: Reader, clock: object, closes: bool
) -> None:
    """Also where a stop and the close come in one go: it is not for who reads for all."""
    async with pairs(2, reader) as (clients, servers):

        def refuse(messages: list[bytes]) -> None:
            raise ZeroDivisionError

        heard: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(servers[1].deliver, heard.extend)
            codec = clients[0]._codec
            sent = codec.encode(fast.TEXT, b"stop")
            if closes:
                sent += codec.encode_close(1000)
            clients[0]._sock.send(sent)
            with trio.fail_after(LIMIT_S), pytest.raises(ZeroDivisionError):
                await servers[0].deliver(refuse)
            clients[1].send(b"y")
            with trio.fail_after(LIMIT_S):
                while not heard:
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()


@pumped
async def test_what_ends_a_delivery_keeps_nothing_of_it(reader: Reader, clock: object) -> None:
    class Hearer:
        def hear(self, messages: list[bytes]) -> None:
            raise ZeroDivisionError

    async def deliver() -> weakref.ref[Hearer]:
        hearer = Hearer()
        with trio.fail_after(LIMIT_S), contextlib.suppress(ZeroDivisionError):
            await servers[0].deliver(hearer.hear)
        return weakref.ref(hearer)

    async with pairs(1, reader) as (clients, servers):
        clients[0].send(b"x")
        gc.disable()  # which would only hide it
        try:
            left = await deliver()
            assert left() is None
        finally:
            gc.enable()


@pumped
async def test_a_broken_frame_ends_its_own_delivery(reader: Reader, clock: object) -> None:
    async with pairs(1, reader) as (clients, servers):
        clients[0]._sock.send(b"\x81\x01a")  # not masked
        with trio.fail_after(LIMIT_S), pytest.raises(RemoteProtocolError) as caught:
            await servers[0].deliver(lambda messages: None)
        assert caught.value.close_code == 1002


@pumped
async def test_a_peer_that_vanishes_ends_the_delivery(reader: Reader, clock: object) -> None:
    async with pairs(1, reader) as (clients, servers):
        clients[0]._sock.shutdown(socket.SHUT_RDWR)
        with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as caught:
            await servers[0].deliver(lambda messages: None)
        assert caught.value.code == 1006


@pumped
async def test_closing_from_elsewhere_ends_the_delivery(reader: Reader, clock: object) -> None:
    async with pairs(1, reader) as (_, servers), trio.open_nursery() as nursery:

        async def close() -> None:
            for _ in range(3):  # by then the other waits
                await trio.lowlevel.checkpoint()
            await servers[0].aclose(1001)

        nursery.start_soon(close)
        with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as caught:
            await servers[0].deliver(lambda messages: None)
        assert caught.value.code == 1001


@pumped
async def test_cancelled_nothing_is_lost_and_receiving_goes_on(
    reader: Reader, clock: object
) -> None:
    async with pairs(1, reader) as (clients, servers):
        with trio.move_on_after(0.02):
            await servers[0].deliver(lambda messages: None)
        clients[0].send(b"after")
        with trio.fail_after(LIMIT_S):
            assert await servers[0].receive() == [b"after"]


async def test_a_pump_that_ends_leaves_its_sockets() -> None:
    async with pairs(1, "by beats") as (_, servers):
        pump = servers[0]._pump
        assert pump is not None
        pump.remove(12345, lambda: None)  # not its own: left alone
