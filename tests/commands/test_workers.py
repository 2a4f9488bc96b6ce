"""``rtcore serve --workers``: the real command, its processes, real sockets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from rtcore.commands.workers import WorkersOptions, check, merged, serve
from rtcore.errors import ConfigError, SocketClosed
from rtcore.media import fast
from rtcore.media.limits import SocketLimits
from rtcore.node import open_listeners

START = b'{"event":"start","start":{"callId":"c%d","streamId":"s%d"}}'
MEDIA = b'{"event":"media","media":{"payload":"' + b"/" * 212 + b'/w=="}}'
AGENT = """
name = "mute"
[[transcriber]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
[[responder]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
model = "none"
[[synthesizer]]
provider = "openai_compatible"
base_url = "http://127.0.0.1:9"
"""  # never asked: nobody speaks here
DIALS, DIALS_MAX = 8, 40  # all of them at one of two workers: once in 10^12 runs


def free_port() -> int:
    (listener,) = open_listeners("127.0.0.1", 0)
    port: int = listener.socket.getsockname()[1]
    listener.socket.close()
    return port


class Served:
    """A running command, and calls to it."""

    def __init__(self, process: trio.Process, port: int, metrics_port: int) -> None:
        self.process, self.port = process, port
        self.open: set[int] = set()  # numbers of the calls that go on
        self._page = f"http://127.0.0.1:{metrics_port}"

    async def ask(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self._page) as client:
            return await client.get(path)

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

    async def call(self, number: int, hang_up: trio.Event, nursery: trio.Nursery) -> None:
        """A caller who says nothing, until ``hang_up`` or the node ends the call."""
        limits = SocketLimits()
        socket = await fast.connect("127.0.0.1", self.port, "/plivo/media/x", limits, nursery)
        self.open.add(number)
        socket.send(START % (number, number))

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
async def serving(folder: Path, *options: str) -> AsyncIterator[Served]:
    agent = folder / "agent.toml"
    agent.write_text(AGENT)
    port, metrics_port = free_port(), free_port()
    command = [sys.executable, "-m", "rtcore", "serve", "--log-json", "--port", str(port)]
    command += ["--agent", str(agent)]
    command += ["--metrics-port", str(metrics_port), *options]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, command, check=False, stderr=subprocess.DEVNULL)
            process = await nursery.start(run)
            yield Served(process, port, metrics_port)
            nursery.cancel_scope.cancel()


def child(process: trio.Process, number: int) -> int:
    """The process of a worker."""
    (pid,) = (
        each.pid
        for each in psutil.Process(process.pid).children()
        if each.cmdline()[-2:] == ["--worker", str(number)]
    )
    return pid


async def test_a_worker_that_is_killed_takes_its_own_calls_alone_and_a_drain_takes_none(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, "--workers", "2") as served, trio.open_nursery() as nursery:
        await served.until(lambda workers: len(workers) == 2 and all(w["serves"] for w in workers))
        hang_up = trio.Event()
        for last in range(DIALS, DIALS_MAX + 1, DIALS):
            for number in range(last - DIALS, last):
                nursery.start_soon(served.call, number, hang_up, nursery)
            workers = await served.until_they_hold(last)
            if all(worker["calls"] for worker in workers):
                break
        first, second = (worker["calls"] for worker in workers)
        assert first
        assert second

        os.kill(child(served.process, 1), signal.SIGKILL)
        workers = await served.until(lambda ws: ws[0]["restarts"] == 1 and ws[0]["serves"])
        assert len(served.open) == second
        assert workers[1]["calls"] == second

        served.process.send_signal(signal.SIGTERM)
        while True:  # until nobody is let in any more
            try:
                (await trio.open_tcp_stream("127.0.0.1", served.port)).socket.close()
            except OSError:
                break
            await trio.sleep(0.02)
        await trio.sleep(0.1)
        assert len(served.open) == second
        assert served.process.poll() is None
        hang_up.set()
        assert await served.process.wait() == 0


async def test_every_worker_counts_under_its_number_in_one_place(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "1", "--pin") as served:
        await served.until(lambda workers: bool(workers) and workers[0]["serves"])
        assert (await served.ask("/readyz")).status_code == 200
        pid = child(served.process, 1)
        assert len(os.sched_getaffinity(pid)) == 1
        page = (await served.ask("/metrics")).text
        samples = {
            (sample.name, sample.labels.get("worker")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        assert samples["rtcore_worker_up", "1"] == 1
        assert samples["rtcore_node_has_room", "1"] == 1
        assert samples["rtcore_node_streams_total", "1"] == 0
        assert (await served.ask("/v1/agents")).status_code == 404
        os.kill(served.process.pid, signal.SIGKILL)
        while psutil.pid_exists(pid):  # a worker does not outlive its supervisor
            await trio.sleep(0.05)


async def test_a_port_that_somebody_has_is_not_shared_with_them() -> None:
    (listener,) = open_listeners("127.0.0.1", 0, shares_port=True)
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        await serve(WorkersOptions(arguments=("serve",), workers=2, port=port))
    await listener.aclose()


def test_sqlite_has_no_way_to_steer_a_call_of_another_worker() -> None:
    check(WorkersOptions(arguments=(), workers=1, database="sqlite:///x.db"))
    check(WorkersOptions(arguments=(), workers=2, database="postgresql+psycopg://x"))
    with pytest.raises(ConfigError, match="PostgreSQL"):
        check(WorkersOptions(arguments=(), workers=2, database="sqlite:///x.db"))


def test_pages_become_one() -> None:
    page = '# TYPE a_total counter\na_total{kind="x"} %d\n# TYPE b gauge\nb %d\n'
    families = {family.name: family for family in merged({1: page % (1, 2), 2: page % (3, 4)})}
    assert families["a"].type == "counter"
    assert [(s.name, s.labels, s.value) for s in families["a"].samples] == [
        ("a_total", {"kind": "x", "worker": "1"}, 1),
        ("a_total", {"kind": "x", "worker": "2"}, 3),
    ]
    assert [sample.value for sample in families["b"].samples] == [2, 4]
