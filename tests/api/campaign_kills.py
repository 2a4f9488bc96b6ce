"""Kills nodes in the middle of a campaign, at moments nobody chose, and counts what rang.

``python -m tests.api.campaign_kills [kills] [sqlite|postgresql]`` says what came of it.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import trio

from api.admin import create_api_key, upgrade_database
from rtcore.testing import FakePlivo, Phone
from rtcore.testing.loopback import free_port
from tests.api import postgres

__all__ = ["Outcome", "kill_again_and_again"]

OURS = "14155550199"
NUMBERS_PER_KILL = 10
CALLS_PER_S = 6.0  # of the node that is killed: it shall be at work then
SURVIVORS_CALLS_PER_S = 1.5
START_LIMIT_S = 60.0
END_LIMIT_S = 180.0
ANSWERS_AFTER_S = 0.2  # so that many a kill falls between the request and its answer
WAYS = {"busy": "busy", "reject": "rejected", "ignore": "no_answer"}  # and the outcome of each


@dataclass
class Outcome:
    """What a test looks at."""

    numbers: list[str]
    asked: list[tuple[str, str]]  # at the carrier: the number, and the attempt's own address
    wanted: dict[str, str]  # what becomes of each number that is rung
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)
    kills: int = 0

    @property
    def rung(self) -> Counter[str]:
        return Counter(number for number, _ in self.asked)

    def __str__(self) -> str:
        outcomes = Counter(each["outcome"] for each in self.targets.values())
        most = max(self.rung.values(), default=0)
        return (
            f"{self.kills} kills, {len(self.numbers)} numbers, {len(self.rung)} rung,"
            f" none more than {most} time(s); {dict(outcomes)}"
        )


class Nodes:
    """Processes of one store, and a client of the API."""

    def __init__(self, database: str, plivo: FakePlivo, port: int) -> None:
        self._command = [sys.executable, "-m", "tests.api.campaign_node", "serve"]
        self._command += ["--database", database, "--public-url", f"http://127.0.0.1:{port}"]
        self._command.append("--allow-private-urls")
        self._env = {
            **os.environ,
            "RTCORE_PLIVO_AUTH_ID": plivo.account.auth_id,
            "RTCORE_PLIVO_AUTH_TOKEN": plivo.account.auth_token,
            "RTCORE_PLIVO_API_URL": plivo.url,
            "RTCORE_SECRET": "0123456789abcdef",
        }

    @asynccontextmanager
    async def one(
        self, port: int, calls_per_s: float = CALLS_PER_S
    ) -> AsyncIterator[subprocess.Popen[bytes]]:
        """A node that is up; killed at the end, if not before."""
        process = subprocess.Popen(  # noqa: ASYNC220 - a fork, no more
            [*self._command, "--port", str(port)],
            env={**self._env, "RTCORE_PLIVO_CALLS_PER_S": str(calls_per_s)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with trio.fail_after(START_LIMIT_S):
                await _until_ready(port)
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


async def _until_ready(port: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                await client.get(f"http://127.0.0.1:{port}/healthz")
                return
            except httpx.TransportError:
                await trio.sleep(0.05)


async def kill_again_and_again(database: str, kills: int, *, has_survivor: bool) -> Outcome:
    """Run a campaign while a node of it is killed ``kills`` times.

    Args:
        has_survivor: another node is up all the time, and gets the carrier's callbacks; else
            they are lost whenever the one node is down.
    """
    numbers = [f"1415556{number:04}" for number in range(kills * NUMBERS_PER_KILL)]
    plivo = FakePlivo(scale=0.001)
    plivo.answers_after_s = ANSWERS_AFTER_S
    ways = dict(zip(numbers, itertools.cycle(WAYS), strict=False))
    for number, way in ways.items():
        plivo.phones[number] = Phone(when_rung=way)  # type: ignore[arg-type]
    await trio.to_thread.run_sync(upgrade_database, database)
    key = await trio.to_thread.run_sync(create_api_key, database, "test", ["admin"])
    port, other_port = free_port(), free_port()
    wanted = {number: WAYS[way] for number, way in ways.items()}
    outcome = Outcome(numbers=numbers, asked=[], wanted=wanted)
    async with trio.open_nursery() as nursery:
        await nursery.start(plivo.run)
        nodes = Nodes(database, plivo, port)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=30,
        ) as client:
            if has_survivor:
                async with nodes.one(port, SURVIVORS_CALLS_PER_S):
                    id = await _begun(client, numbers)
                    for _ in range(kills):
                        await _kill_one(nodes, other_port, outcome)
                    await _finished(client, id, outcome)
            else:
                async with nodes.one(port):
                    id = await _begun(client, numbers)
                for _ in range(kills):
                    await _kill_one(nodes, port, outcome)
                async with nodes.one(port):
                    await _finished(client, id, outcome)
        nursery.cancel_scope.cancel(reason="done")
    outcome.asked = [(call.order.to_number, call.order.answer.url) for call in plivo.calls.values()]
    return outcome


async def _kill_one(nodes: Nodes, port: int, outcome: Outcome) -> None:
    async with nodes.one(port):
        await trio.sleep(random.uniform(0.0, 1.5))
    outcome.kills += 1


async def _begun(client: httpx.AsyncClient, numbers: list[str]) -> str:
    nowhere = {"provider": "openai_compatible", "options": {"base_url": "http://127.0.0.1:9/v1"}}
    deaf = {  # built without a key; nobody who is called hears more than that it fails
        "stt": [nowhere | {"model": "x"}],
        "llm": [nowhere | {"model": "x"}],
        "tts": [nowhere | {"model": "x", "voice": "x"}],
    }
    agent = await client.post("/v1/agents", json={"name": "desk", **deaf})
    never = {"times": 0, "after_s": 60}
    spec = {
        "name": "kills",
        "agent_id": agent.json()["id"],
        "from": OURS,
        "time_zone": "UTC",
        "windows": [],
        "calls_per_s": 100,
        "concurrency": 50,
        "retries": dict.fromkeys(("busy", "no_answer", "failed"), never),
    }
    made = await client.post("/v1/campaigns", json=spec)
    id = str(made.json()["id"])
    targets = {"targets": [{"number": number} for number in numbers]}
    (await client.post(f"/v1/campaigns/{id}/targets", json=targets)).raise_for_status()
    (await client.post(f"/v1/campaigns/{id}/start")).raise_for_status()
    return id


async def _finished(client: httpx.AsyncClient, id: str, outcome: Outcome) -> None:
    with trio.fail_after(END_LIMIT_S):
        while (await client.get(f"/v1/campaigns/{id}")).json()["state"] != "completed":
            await trio.sleep(0.2)
    for offset in range(0, len(outcome.numbers), 100):
        page = await client.get(f"/v1/campaigns/{id}/targets?limit=100&offset={offset}")
        outcome.targets |= {each["number"]: each for each in page.json()["items"]}


async def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    if sys.argv[2:] == ["sqlite"]:
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{folder}/rtcore.db"
            print(await kill_again_and_again(url, kills, has_survivor=False))  # noqa: T201 - a tool
        return
    with postgres.server() as server:
        if server is None:
            sys.exit("PostgreSQL is not installed")
        print(await kill_again_and_again(server, kills, has_survivor=True))  # noqa: T201 - a tool


if __name__ == "__main__":
    trio.run(main)
