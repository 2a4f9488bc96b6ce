"""Connections of adapters that lead to fakes, in memory: whole calls on the simulated clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest import mock

import trio
import trio.testing
from trio_websocket import wrap_server_stream

from tests.fakes._ws import FakeSocketServer

__all__ = ["reaching"]


@asynccontextmanager
async def reaching(**fakes: FakeSocketServer) -> AsyncIterator[None]:
    """Within the block, every connection to a host of that name leads to the fake.

    It sees to it that nothing is left open at any of them.
    """
    async with trio.open_nursery() as nursery:

        async def serve(fake: FakeSocketServer, stream: trio.abc.Stream) -> None:
            async with trio.open_nursery() as own:
                await fake._accept(await wrap_server_stream(own, stream))
                own.cancel_scope.cancel()

        async def dial(host: str, port: int) -> trio.abc.Stream:
            here, there = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, fakes[host], there)
            return here

        with mock.patch.object(trio, "open_tcp_stream", dial):
            yield
            await trio.sleep(1)
        assert [fake.open_sessions for fake in fakes.values()] == [0] * len(fakes)
        nursery.cancel_scope.cancel()
