"""``rtcore serve`` as its users start it, in processes of its own, and calls to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import httpx
import psutil
import trio

from rtcore.errors import SocketClosed
from rtcore.media import fast
from rtcore.media.handshake import UpgradeRefused
from rtcore.media.limits import SocketLimits
from rtcore.testing.loopback import free_port

__all__ = ["Served", "child", "client_of", "serving"]

START = b'{"event":"start","start":{"callId":"%b","streamId":"s%b"}}'
MEDIA = b'{"event":"media","media":{"payload":"' + b"/" * 212 + b'/w=="}}'


def client_of(url: str, **headers: str) -> httpx.AsyncClient:
    """A client that reads no certificates, which would take longer than all it is for."""
    return httpx.AsyncClient(base_url=url, headers=headers, verify=False, trust_env=False)


class Served:
    """A running command, and calls to it."""

    def __init__(self, process: trio.Process, port: int, metrics_port: int) -> None:
        self.process, self.port = process, port
        self.url = f"http://127.0.0.1:{port}"
        self.open: set[int] = set()  # numbers of the calls that go on
        self._page = f"http://127.0.0.1:{metrics_port}"

    async def ask(self, path: str, method: str = "GET") -> httpx.Response:
        async with client_of(self._page) as client:
            return await client.request(method, path)

    async def workers(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = (await self.ask("/healthz")).json()["workers"]
        except httpx.TransportError:
            return []
        return found

    async def until(self, reached: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        while not reached(workers := await self.workers()):
            await trio.sleep(0.05)
        return workers

    async def until_they_hold(self, calls: int) -> list[dict[str, Any]]:
        return await self.until(lambda workers: sum(w["calls"] for w in workers) == calls)

    async def _connect(self, path: str, nursery: trio.Nursery) -> fast.FastSocket:
        while True:
            try:
                return await fast.connect("127.0.0.1", self.port, path, SocketLimits(), nursery)
            except UpgradeRefused as exc:
                if exc.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
                await trio.sleep(0.1)  # a test machine is shared, and a worker that lags is full

    async def call(
        self,
        number: int,
        hang_up: trio.Event,
        nursery: trio.Nursery,
        path: str = "/plivo/media/x",
        call_id: str = "",
    ) -> None:
        """A caller who says nothing, until ``hang_up`` or the node ends the call."""
        socket = await self._connect(path, nursery)
        call_id = call_id or f"c{number}"
        self.open.add(number)
        socket.send(START % (call_id.encode(), b"%d" % number))

        async def speak() -> None:
            while socket.send(MEDIA):
                await trio.sleep(0.02)

        async def listen() -> None:
            try:
                while True:
                    await socket.receive()
            except SocketClosed:
                self.open.discard(number)
                everything.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as everything:
                everything.start_soon(speak)
                everything.start_soon(listen)
                await hang_up.wait()
                everything.cancel_scope.cancel()
        finally:
            await socket.aclose()


@asynccontextmanager
async def serving(*options: str) -> AsyncIterator[Served]:
    """The command with ``options``, until the block ends."""
    port, metrics_port = free_port(), free_port()
    command = [sys.executable, "-m", "rtcore", "serve", "--log-json", "--port", str(port)]
    command += ["--metrics-port", str(metrics_port), *options]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, check=False, stderr=subprocess.DEVNULL)
            process = await nursery.start(run)
            yield Served(process, port, metrics_port)
            nursery.cancel_scope.cancel()


def child(process: trio.Process, number: int) -> int:
    """The process of a worker."""
    pids: list[int] = [
        each.pid
        for each in psutil.Process(process.pid).children()
        if each.cmdline()[-2:] == ["--worker", str(number)]
    ]
    (pid,) = pids
    return pid
