"""The app behind a real server, for clients that know nothing of it: schemathesis, curl."""

from __future__ import annotations

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from api.app import create_app
from api.settings import ApiSettings
from api.specs import AgentPlan
from api.store import Actor, Store, upgrade
from api.store.keys import SCOPES, create_key
from rtcore.agent.agent import Agent
from rtcore.testing import ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
from tests.api.client import SECRET_KEY

__all__ = ["serving"]


def agent_for(plan: AgentPlan) -> Agent:
    return Agent(
        definition=plan.definition,
        transcriber=ScriptedTranscriber(["unheard"]),
        responder=ScriptedResponder(["Hello there."]),
        synthesizer=ScriptedSynthesizer(),
    )


async def serving(url: str, task_status: trio.TaskStatus[tuple[str, str]]) -> None:
    """Serve a new app over the database ``url``; tells its address and a token for everything."""
    await trio.to_thread.run_sync(upgrade, url)
    store = Store.open(url, secret_keys=(SECRET_KEY,))
    _, token = await store.write(create_key, Actor("test"), "live", SCOPES)
    settings = ApiSettings(requests_per_s=100_000, requests_burst=100_000)
    app = create_app(store, settings, agent_for=agent_for)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(serve, app, config)
        task_status.started((binds[0], token))
    store.close()
