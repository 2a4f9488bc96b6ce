"""``rtcore serve --database --workers``: several processes, one API, calls in any of them."""

from __future__ import annotations

import re
import signal

import httpx
import psutil
import trio

from api.store import Actor, Store
from api.store.keys import SCOPES, create_key
from tests.commands.served import Served, client_of, serving
from tests.fakes.openai_speech import FakeOpenAISpeech

CALLS = 10  # all in one of two workers: once in 500 runs, and then it shows less, not wrong


async def ring(served: Served, agent_id: str, number: int) -> str:
    """Somebody calls: the path of the stream that the carrier is told to open."""
    told = {"CallUUID": f"uuid-{number}", "From": "14155550100", "To": "14155550199"}
    async with client_of(served.url) as carrier:
        while True:  # told that we are busy, it tries again
            answer = await carrier.post(f"/plivo/answer/{agent_id}", data=told)
            if (found := re.search("/plivo/media/[^<]+", answer.text)) is not None:
                return found[0]
            await trio.sleep(0.1)


def provider(url: str, **fields: str) -> dict[str, object]:
    return {"provider": "openai_compatible", "options": {"base_url": url}, **fields}


async def test_any_worker_reaches_the_call_of_any_other(store: Store) -> None:
    database = store.engine.url.render_as_string(hide_password=False)
    _, token = store.run(create_key, True, Actor("test"), "test", SCOPES)
    options = "--database", database, "--workers", "2", "--allow-private-urls"
    async with trio.open_nursery() as fakes, serving(*options) as served:
        voice_url = await fakes.start(FakeOpenAISpeech().serve)
        await served.until(lambda workers: len(workers) == 2 and all(w["serves"] for w in workers))
        hang_up = trio.Event()

        async def ask(method: str, path: str, body: object = None) -> httpx.Response:
            """Each on a connection of its own: a worker by chance."""
            async with client_of(served.url, Authorization=f"Bearer {token}") as client:
                return await client.request(method, path, json=body)

        nowhere = provider("http://127.0.0.1:9", model="none")  # nobody speaks to the agent
        spec = {"name": "desk", "stt": [nowhere], "llm": [nowhere], "tts": [provider(voice_url)]}
        agent_id = (await ask("POST", "/v1/agents", spec)).json()["id"]
        async with trio.open_nursery() as nursery:
            for number in range(CALLS):
                path = await ring(served, agent_id, number)
                caller = served.call, number, hang_up, nursery, path, f"uuid-{number}"
                nursery.start_soon(*caller)
            await served.until_they_hold(CALLS)
            for call in (await ask("GET", "/v1/calls")).json()["items"]:
                said = await ask("POST", f"/v1/calls/{call['id']}/say", {"text": "One moment."})
                assert said.status_code == 204, said.text
            assert (await ask("GET", "/v1/nodes")).json()["total"] == 2
            held = set(served.open)
            for process in psutil.Process(served.process.pid).children():
                process.send_signal(signal.SIGTERM)  # as systemd tells all of a service
            served.process.send_signal(signal.SIGTERM)
            await trio.sleep(0.3)
            assert served.open == held != set()
            hang_up.set()
            assert await served.process.wait() == 0
        fakes.cancel_scope.cancel()
