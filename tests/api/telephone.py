"""A whole node on loopback: API, webhooks and media on one port, and a Plivo that calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio

from api.app import create_app
from api.calls.joining import add_telephony
from api.calls.telephony import Telephony
from api.nodes.presence import PresenceConfig
from api.plivo.client import PlivoAccount
from api.serve import serve_node
from api.settings import ApiSettings
from api.specs import AgentPlan
from api.store import Actor, Store
from api.store.keys import SCOPES, create_key
from rtcore.agent.agent import Agent
from rtcore.node import NodeConfig, open_listeners
from rtcore.recording import Recordings
from rtcore.testing import (
    FakePlivo,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    say,
    speak,
    wait_for_agent_quiet,
)
from rtcore.testing.caller import Action
from tests.api.client import SECRET_KEY

OURS, CALLER, HUMAN = "14155550199", "14155550100", "14155550111"
SECRET = b"0123456789abcdef"
# a test machine is shared; and what a test leaves ringing is not waited for
CONFIG = NodeConfig(lag_max_ms=10_000, drain_s=1)
ASKS: list[Action] = [
    wait_for_agent_quiet(300),
    say(speak("do you open on sunday please").pcm),
    wait_for_agent_quiet(300),
]


class Node:
    """What a test talks to."""

    def __init__(self, url: str, token: str, plivo: FakePlivo, line: Telephony) -> None:
        self.url, self.plivo, self.line = url, plivo, line
        self.plans: list[AgentPlan] = []
        self.answers = ["We open at nine."]
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=10,
        )

    async def ask(
        self, method: str, path: str, body: Any = None, status: int = 200, **headers: str
    ) -> Any:
        response = await self.http.request(method, path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    async def agent(self, **spec: Any) -> str:
        given = {"name": "desk", "welcome_message": "Good day.", **spec}
        return str((await self.ask("POST", "/v1/agents", given, 201))["id"])

    async def bound(self, **spec: Any) -> str:
        """An agent that answers our number."""
        agent_id = await self.agent(**spec)
        self.plivo.rent(OURS)
        await self.ask("PUT", f"/v1/numbers/{OURS}", {"agent_id": agent_id})
        return agent_id

    async def until(self, reached: Callable[[], Any]) -> Any:
        with trio.fail_after(10):
            while not (found := reached()):
                await trio.sleep(0.01)
        return found

    def agent_for(self, plan: AgentPlan) -> Agent:
        self.plans.append(plan)
        return Agent(
            definition=plan.definition,
            transcriber=ScriptedTranscriber(["do you open on sunday"]),
            responder=ScriptedResponder(self.answers),
            synthesizer=ScriptedSynthesizer(ms_per_word=100),
        )


@asynccontextmanager
async def serving(
    store_url: str,
    *,
    config: NodeConfig = CONFIG,
    plivo: FakePlivo | None = None,
    splits: bool = False,
    presence: PresenceConfig | None = None,
    recordings: Path | None = None,
    linger_s: float = 0.2,
) -> AsyncIterator[Node]:
    """A node and its carrier, until the block ends; then the node must drain by itself.

    Who has it drain before, and asks it something when its calls are over, has ``linger_s``.

    A ``plivo`` that runs already is that of another node.
    """
    store = Store.open(store_url, secret_keys=(SECRET_KEY,))
    plivo = plivo or FakePlivo()
    async with trio.open_nursery() as nursery:
        api_url = plivo.url or await nursery.start(plivo.run)
        listeners = open_listeners("127.0.0.1", 0)
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        media = open_listeners("127.0.0.1", 0) if splits else []
        media_port = media[0].socket.getsockname()[1] if splits else 0
        account = PlivoAccount(
            auth_id=plivo.account.auth_id,
            auth_token=plivo.account.auth_token,
            url=api_url,
            calls_per_s=50.0,
        )
        made: list[Node] = []
        app = create_app(
            store, ApiSettings(public_url=url), agent_for=lambda plan: made[0].agent_for(plan)
        )
        line = add_telephony(
            app,
            account=account,
            secret=SECRET,
            node_config=config,
            media_url=f"http://127.0.0.1:{media_port}" if splits else "",
            presence=presence,
            recordings=None if recordings is None else Recordings(recordings),
        )
        _, token = await store.write(create_key, Actor("test"), "test", SCOPES)
        node = Node(url, token, plivo, line)
        made.append(node)
        async with trio.open_nursery() as served:
            serve = partial(serve_node, linger_s=linger_s, media_listeners=media)
            await served.start(serve, line.node, app, listeners)
            try:
                with trio.fail_after(30):
                    yield node
                line.node.drain()
            finally:
                await node.http.aclose()
        nursery.cancel_scope.cancel(reason="test over")
    store.close()
