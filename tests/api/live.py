"""The app behind a real server, for clients that know nothing of it: schemathesis, curl."""

from __future__ import annotations

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from api.app import create_app
from api.calls.joining import add_telephony
from api.plivo.client import PlivoAccount
from api.settings import ApiSettings
from api.specs import AgentPlan
from api.store import Actor, Store, upgrade
from api.store.keys import SCOPES, create_key
from rtcore.agent.agent import Agent
from rtcore.testing import FakePlivo, ScriptedResponder, ScriptedSynthesizer, ScriptedTranscriber
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
    plivo = FakePlivo(requests_max=100_000)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        account = PlivoAccount(
            auth_id=plivo.account.auth_id,
            auth_token=plivo.account.auth_token,
            url=await nursery.start(plivo.run),
            calls_per_s=100_000,
        )
        add_telephony(app, account=account, secret=b"0123456789abcdef")
        binds = await nursery.start(serve, app, config)
        task_status.started((binds[0], token))
    store.close()
