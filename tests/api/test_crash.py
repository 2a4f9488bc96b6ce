"""A node is killed in the middle of a call: what was said and heard by then is there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from api.admin import create_api_key
from api.store import Store
from rtcore.audio import mulaw_to_pcm
from rtcore.recording import HEADER_BYTES, wav_header
from rtcore.testing import FakePlivo, Phone, wait
from rtcore.testing.loopback import free_port
from rtcore.testing.plivo import Application
from tests.api.telephone import CALLER, OURS

pytest.importorskip("espeakng_loader", reason="needs rtcore[embedded]")

START_LIMIT_S = 60.0  # two processes of the recogniser are started, too, on a shared machine
LOST_MAX_S = 1.0
LOOK_EVERY_S = 0.01
AGENT = {
    "name": "desk",
    "welcome_message": "Good day, this is the front desk.",
    "stt": [{"provider": "embedded"}],
    "llm": [{"provider": "ollama", "model": "never-asked"}],
    "tts": [{"provider": "embedded"}],
    "recording": True,
}


class Process:
    """``rtcore serve`` as an operator starts it."""

    def __init__(self, database: str, folder: Path, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RTCORE_")}
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "rtcore", "serve", "--database", database),
                *("--port", str(self.port), "--recordings", str(folder)),
            ],
            env={**environment, "RTCORE_SECRET": "0123456789abcdef"},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def kill(self) -> None:
        """As the kernel does when memory runs out: nothing is written any more."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._log.close()


@contextlib.asynccontextmanager
async def running(
    database: str, folder: Path, key: str
) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """A node that answers, killed at the end of the block."""
    process = Process(database, folder, folder.parent / "serve.log")
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(
            base_url=process.url, headers=headers, trust_env=False, timeout=10
        ) as client:
            with trio.fail_after(START_LIMIT_S):
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get("/readyz")).status_code == 200:
                            break
                    await trio.sleep(0.05)
            yield process, client
    finally:
        process.kill()


class Lag:
    """How late a machine that is shared wakes those who sleep: the node is no better off."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        while True:
            began_s = trio.current_time()
            await trio.sleep(LOOK_EVERY_S)
            self.worst_s = max(self.worst_s, trio.current_time() - began_s - LOOK_EVERY_S)


async def listen(
    client: httpx.AsyncClient,
    path: str,
    heard: list[tuple[float, str, dict[str, Any]]],
) -> None:
    """Write down what happens in a call, and when we were told."""
    name = ""
    with contextlib.suppress(httpx.TransportError):
        async with client.stream("GET", path, headers={"Accept": "text/event-stream"}) as sse:
            async for text in sse.aiter_lines():
                if text.startswith("event: "):
                    name = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    data = msgspec.json.decode(text.removeprefix("data: "))
                    heard.append((trio.current_time(), name, data))


# httpx leaves the body of a request open that a killed node cuts off
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_kill_loses_at_most_the_last_second(store: Store, tmp_path: Path) -> None:
    database = store.engine.url.render_as_string(hide_password=False)
    key = await trio.to_thread.run_sync(create_api_key, database, "test", ["admin"])
    folder = tmp_path / "recordings"
    heard: list[tuple[float, str, dict[str, Any]]] = []
    plivo, lag = FakePlivo(), Lag()
    async with trio.open_nursery() as nursery:
        await nursery.start(plivo.run)
        nursery.start_soon(lag.watch)
        async with running(database, folder, key) as (process, client):
            agent = (await client.post("/v1/agents", json=AGENT)).json()
            answer_url = f"{process.url}/plivo/answer/{agent['id']}"
            plivo.rent(OURS)
            plivo.applications["1"] = Application(app_id="1", app_name="a", answer_url=answer_url)
            plivo.numbers[OURS].app_id = "1"
            plivo.ring(CALLER, OURS, Phone(scripts=[[wait(60_000)]]))
            call_id = ""
            with trio.fail_after(START_LIMIT_S):
                while not call_id:
                    items = (await client.get("/v1/calls?state=in_progress")).json()["items"]
                    call_id = items[0]["id"] if items else ""
            nursery.start_soon(listen, client, f"/v1/calls/{call_id}/events", heard)
            for line in range(3):
                with trio.fail_after(START_LIMIT_S):
                    while (
                        await client.post(
                            f"/v1/calls/{call_id}/say", json={"text": f"Line {line}."}
                        )
                    ).status_code != 204:
                        await trio.sleep(0.05)
            with trio.fail_after(START_LIMIT_S):
                while not any(
                    "Line 2." in str(data) for _, name, data in heard if name == "transcript"
                ):
                    await trio.sleep(0.02)
            started_s = next(at_s for at_s, _, _ in heard)
            process.kill()
            killed_s = trio.current_time()
            lost_max_s = LOST_MAX_S + 2 * lag.worst_s

        async with running(database, folder, key) as (_, client):
            path = f"/v1/calls/{call_id}"
            with trio.fail_after(START_LIMIT_S):
                while True:
                    (stream,) = (await client.get(f"{path}/metrics")).json()["streams"]
                    if stream["ended_by"]:
                        break
                    await trio.sleep(0.2)
            assert stream["ended_by"] == "crashed"
            said = [
                line["text"] for line in (await client.get(f"{path}/transcript")).json()["items"]
            ]
            events = (await client.get(f"{path}/events")).json()["items"]
            told = [(name, data) for at_s, name, data in heard if at_s <= killed_s - lost_max_s]
            for name, data in told:
                if name == "transcript":
                    assert data["text"] in said
                elif "at_ms" in data:  # of the journal; what is said now and the state are not
                    assert {"event": name, "data": data} in events
            assert "Line 0." in said
            assert sum("at_ms" in data for _, data in told) >= 2
            sound = (await client.get(f"{path}/recording")).content
            samples = (len(sound) - HEADER_BYTES) // 2
            assert sound[:HEADER_BYTES] == wav_header(samples)
            assert samples / 8000 >= killed_s - started_s - lost_max_s
            agent_side = array("h", mulaw_to_pcm(sound[HEADER_BYTES + 1 :: 2]))
            assert max(map(abs, agent_side)) > 2000  # the welcome is in it
        nursery.cancel_scope.cancel()
