"""The node as a whole, as `rtcore serve --database` starts it."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest
import trio

from api import agents, standalone
from api.admin import create_api_key, upgrade_database
from api.agents import SharedProviders
from api.specs import AgentPlan, ProviderChoice
from api.standalone import StandaloneOptions, serve
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.listening import Listening
from rtcore.errors import ConfigError
from rtcore.ports import SpeechAudio
from rtcore.providers._http_service import HttpService
from rtcore.testing.loopback import free_port
from tests.fakes._http import eventually

DEFINITION = AgentDefinition(name="desk")
GROQ = ProviderChoice(provider="groq", model="llama", secret="groq_key")
EARS = ProviderChoice(provider="deepgram")
VOICE = ProviderChoice(provider="openai", voice="alloy")
KEYS = {"DEEPGRAM_API_KEY": "a", "OPENAI_API_KEY": "b"}


async def test_api_and_media_are_served_on_one_port_until_cancelled(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/node.db"
    await trio.to_thread.run_sync(upgrade_database, database)
    key = await trio.to_thread.run_sync(create_api_key, database, "test", ["admin"])
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, StandaloneOptions(database=database, port=port))
        async with httpx.AsyncClient(base_url=url) as client:
            with trio.fail_after(10):
                while True:
                    try:
                        ready = await client.get("/readyz")
                        break
                    except httpx.TransportError:
                        await trio.sleep(0.05)
            assert ready.status_code == 200
            assert (await client.get("/v1/agents")).status_code == 401
            mine = await client.get("/v1/agents", headers={"Authorization": f"Bearer {key}"})
            assert mine.json()["items"] == []
        async with httpx.AsyncClient(base_url=url) as client:  # a connection is of one kind
            media = await client.get("/plivo/media/no-token")
            assert media.status_code == 426  # the node's own socket answers there
        nursery.cancel_scope.cancel()


async def test_half_an_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTCORE_PLIVO_AUTH_ID", "MAXXXXXXXXXXXXXXXXXX")
    monkeypatch.delenv("RTCORE_PLIVO_AUTH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="RTCORE_PLIVO_AUTH_TOKEN"):
        await serve(StandaloneOptions(database=f"sqlite:///{tmp_path}/node.db", port=0))


@pytest.mark.parametrize(("pace", "is_possible"), [("12.5", True), ("0", False), ("fast", False)])
def test_the_accounts_pace_is_said_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, pace: str, is_possible: bool
) -> None:
    monkeypatch.setenv("RTCORE_PLIVO_AUTH_ID", "MAXXXXXXXXXXXXXXXXXX")
    monkeypatch.setenv("RTCORE_PLIVO_AUTH_TOKEN", "secret")
    monkeypatch.setenv("RTCORE_PLIVO_CALLS_PER_S", pace)
    if is_possible:
        account = standalone._account()
        assert account is not None
        assert account.calls_per_s == 12.5
    else:
        with pytest.raises(ConfigError, match="calls_per_s"):
            standalone._account()


async def test_a_node_without_an_account_stays_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RTCORE_PLIVO_AUTH_ID", "RTCORE_PLIVO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    options = StandaloneOptions(database=f"sqlite:///{tmp_path}/node.db", host="0.0.0.0", port=0)
    with pytest.raises(ConfigError, match="reachable from outside"):
        await serve(options)


THIEF = ProviderChoice(  # of what else the environment holds
    provider="openai_compatible",
    model="x",
    options={"base_url": "https://example.com/v1", "key_name": "RTCORE_SECRET"},
)
ELSEWHERE = ProviderChoice(  # would be sent the operator's own key
    provider="openai", model="x", options={"base_url": "https://example.com/v1"}
)
INSIDE = ProviderChoice(
    provider="openai_compatible", model="x", options={"base_url": "https://10.0.0.8/v1"}
)
OUTSIDE = ProviderChoice(
    provider="openai_compatible",
    model="x",
    options={"base_url": "https://llm.example/v1", "public_only": False},
)
NAMESAKE = ProviderChoice(provider="openai", model="x", secret="OPENAI_API_KEY")  # not in the vault


def plan(**changes: object) -> AgentPlan:
    fields: dict[str, object] = {"stt": (EARS,), "llm": (GROQ,), "tts": (VOICE,)}
    fields["secrets"] = {"groq_key": "secret"}
    return AgentPlan(definition=DEFINITION, **{**fields, **changes})  # type: ignore[arg-type]


async def test_agents_that_name_the_same_services_share_them() -> None:
    factory = SharedProviders(KEYS)
    one, other = factory(plan()), factory(plan())
    assert one.responder is other.responder
    one.lines.put("cartesia", "Hello", ())
    assert other.lines.get("cartesia", "Hello") == ()
    rekeyed = factory(plan(secrets={"groq_key": "another"}))
    assert rekeyed.responder is not one.responder
    assert rekeyed.transcriber is one.transcriber


async def test_providers_that_no_agent_has_any_more_are_closed(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each version of an agent may name other services: those of old ones must not pile up."""
    monkeypatch.setattr(agents, "RECENT_MAX", 1)
    closed: list[str] = []

    async def aclose(self: HttpService) -> None:
        closed.append(self._client._secret.reveal())  # type: ignore[union-attr]

    monkeypatch.setattr(HttpService, "aclose", aclose)
    factory = SharedProviders(KEYS)
    nursery.start_soon(factory.run)

    def agent_of(key: str) -> Agent:
        ears = ProviderChoice(provider="openai", model="x", secret="ears")
        listens = msgspec.structs.replace(DEFINITION, listening=Listening())
        return factory(AgentPlan(definition=listens, stt=(ears,), secrets={"ears": key}))

    talking = agent_of("first")
    for each in ("second", "third"):
        agent_of(each)
    await eventually(lambda: closed == ["second"])
    assert agent_of("first").transcriber is talking.transcriber  # in use: it was never closed
    agent_of("fourth")
    await eventually(lambda: closed == ["second", "third"])
    del talking
    await eventually(lambda: closed == ["second", "third", "first"])


async def test_an_hour_of_fixed_lines_is_kept_for_all_agents_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agents, "LINES_MAX_BYTES", 3 * 320)
    factory = SharedProviders(KEYS)
    second = (SpeechAudio(segment=0, pcm=bytes(320)),)
    voices = [plan(tts=(msgspec.structs.replace(VOICE, voice=name),)) for name in "abcd"]
    for each in voices:
        factory(each).lines.put("cartesia", "Hello", second)
    found = [factory(each).lines.get("cartesia", "Hello") for each in voices]
    assert found == [None, second, second, second]


async def test_a_service_that_is_down_is_found_out_once_for_all_agents() -> None:
    factory = SharedProviders(KEYS)
    alone, listed = factory(plan()), factory(plan(llm=(GROQ, GROQ)))
    rekeyed = factory(plan(secrets={"groq_key": "another"}))
    (breaker,) = alone.responder.breakers  # type: ignore[attr-defined] # a list of one
    assert breaker in listed.responder.breakers  # type: ignore[attr-defined]
    assert breaker not in rekeyed.responder.breakers  # type: ignore[attr-defined]


async def test_a_service_on_private_addresses_is_for_the_operator_to_allow() -> None:
    named = plan(llm=(ProviderChoice(provider="ollama", model="x"), OUTSIDE))
    (local, chosen) = SharedProviders(KEYS)(named).responder.members  # type: ignore[attr-defined]
    assert chosen._client.deadlines.public_only  # its name may lead inside
    assert not local._client.deadlines.public_only  # its address is not the agent's choice
    allowed = SharedProviders(KEYS, allow_private=True)(plan(llm=(INSIDE,)))
    (inside,) = allowed.responder.members  # type: ignore[attr-defined]
    assert not inside._client.deadlines.public_only


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"llm": ()}, "llm"),
        ({"stt": (ProviderChoice(provider="deepgramm"),)}, "did you mean 'deepgram'"),
        ({"secrets": {}}, "groq_key"),
        ({"llm": (THIEF,)}, "openai_compatible.key_name"),
        ({"llm": (ELSEWHERE,)}, "OPENAI_API_KEY"),
        ({"llm": (INSIDE,)}, "llm.options.base_url: 10.0.0.8 is a private address"),
        ({"llm": (NAMESAKE,)}, "OPENAI_API_KEY"),
    ],
)
async def test_what_cannot_be_used_is_named(changes: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        SharedProviders(KEYS)(plan(**changes))
