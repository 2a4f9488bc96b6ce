"""Agents with one model that hears, thinks and speaks: kept, built, and clear where they fail."""

from __future__ import annotations

import msgspec
import pytest
from quart_trio import QuartTrio

from api.agents import SharedProviders
from api.app import create_app
from api.settings import ApiSettings
from api.specs import AgentPlan, AgentSpec, ProviderChoice
from api.store import Store
from rtcore.agent.absent import ABSENT
from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.errors import ConfigError
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.testing import ScriptedSpeechModel
from tests.api.client import Api

SPEECH = {"provider": "openai_realtime", "voice": "cedar", "options": {"turns": "theirs"}}
KEYS = {"OPENAI_API_KEY": "k"}
DESK = AgentDefinition(name="desk")


def plan(**choice: object) -> AgentPlan:
    speech_model = msgspec.convert(SPEECH | choice, ProviderChoice)
    return AgentPlan(definition=DESK, speech_model=(speech_model,))


async def test_a_stored_agent_needs_no_other_provider() -> None:
    factory = SharedProviders(KEYS)
    agent, other = factory(plan()), factory(plan())
    assert agent.speech_model is not None
    assert agent.speech_model.turns == "theirs"
    assert agent.speech_model is other.speech_model
    assert not agent.has_voice
    assert not agent.has_ears
    agent.lines.put("gpt", "Hello", ())  # what one has said, the other need not ask for
    assert other.lines.get("gpt", "Hello") == ()
    assert factory(plan(voice="marin")).lines.get("gpt", "Hello") is None


@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({"provider": "openai_realtim"}, "speech_model.provider"),
        ({"options": {"turn": "ours"}}, "speech_model.openai_realtime.turn"),
        ({"options": {"eagerness": "very"}}, "speech_model.openai_realtime.eagerness"),
        ({"secret": "none-such"}, "none-such"),
    ],
)
async def test_what_cannot_be_used_is_named(choice: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SharedProviders(KEYS)(plan(**choice))
    assert caught.value.field == field


async def test_a_list_is_built_in_order_with_the_node_s_breakers() -> None:
    factory = SharedProviders(KEYS | {"GEMINI_API_KEY": "k"})
    backup = ProviderChoice(provider="gemini_live", options={"turns": "theirs"})
    one = plan().speech_model
    alone, listed = (
        factory(plan()),
        factory(AgentPlan(definition=DESK, speech_model=(*one, backup))),
    )
    assert isinstance(alone.speech_model, FallbackSpeechModel)
    assert isinstance(listed.speech_model, FallbackSpeechModel)
    names = [model.name for model in listed.speech_model.members]
    assert names == ["openai_realtime", "gemini_live"]
    assert listed.speech_model.breakers[0] is alone.speech_model.breakers[0]


async def test_a_list_with_turns_of_both_kinds_names_the_one_that_differs() -> None:
    other = ProviderChoice(provider="openai_realtime", options={"turns": "ours"})
    with pytest.raises(ConfigError) as caught:
        SharedProviders(KEYS)(
            AgentPlan(definition=DESK, speech_model=(*plan().speech_model, other))
        )
    assert caught.value.field == "speech_model[1].turns"


@pytest.fixture
def app(store: Store, settings: ApiSettings) -> QuartTrio:
    def agent_for(plan: AgentPlan) -> Agent:
        assert plan.speech_model
        return Agent(plan.definition, speech_model=ScriptedSpeechModel(["Hello."]))

    return create_app(store, settings, agent_for=agent_for)


async def test_an_agent_keeps_its_speech_model_and_its_secret(api: Api) -> None:
    await api.ask("PUT", "/v1/secrets/speech", {"value": "sk-1"})
    spec = {"name": "desk", "speech_model": SPEECH | {"secret": "speech"}}
    made = await api.create("/v1/agents", spec)
    kept = (await api.ask("GET", f"/v1/agents/{made['id']}")).json["speech_model"]
    assert {name: kept[name] for name in spec["speech_model"]} == spec["speech_model"]
    in_use = await api.ask("DELETE", "/v1/secrets/speech")
    assert in_use.status == 409


async def test_an_agent_keeps_a_list_of_speech_models_and_their_secrets(api: Api) -> None:
    for name in ("one", "two"):
        await api.ask("PUT", f"/v1/secrets/{name}", {"value": "sk-1"})
    given = [SPEECH | {"secret": "one"}, SPEECH | {"secret": "two"}]
    made = await api.create("/v1/agents", {"name": "desk", "speech_model": given})
    kept = (await api.ask("GET", f"/v1/agents/{made['id']}")).json["speech_model"]
    assert [each["secret"] for each in kept] == ["one", "two"]
    assert (await api.ask("DELETE", "/v1/secrets/two")).status == 409
    missing = {"name": "desk", "speech_model": [given[0], SPEECH | {"secret": "three"}]}
    refused = await api.ask("POST", "/v1/agents", missing)
    assert refused.status == 422
    assert "speech_model[1].secret" in str(refused.json)


@pytest.mark.parametrize(
    ("second", "field"),
    [
        ({"provider": "openai_realtime"}, "speech_model[1].options.turns"),  # ours, unless told
        ({"provider": "gemini_live"}, "speech_model[1].options.turns"),
        ({"provider": "gemini_live", "turns": "theirs"}, "speech_model"),
    ],
)
async def test_a_list_that_cannot_take_over_is_refused(
    api: Api, second: dict[str, str], field: str
) -> None:
    spec = {"name": "desk", "speech_model": [SPEECH, second]}
    answer = await api.ask("POST", "/v1/agents", spec)
    assert answer.status == 422
    assert field in str(answer.json)
    made = await api.create("/v1/agents", {"name": "desk", "speech_model": SPEECH})
    tag = {"If-Match": "*"}
    changed = await api.ask("PATCH", f"/v1/agents/{made['id']}", spec, headers=tag)
    assert changed.status == 422


def test_an_agent_stored_with_one_table_is_read_as_a_list_of_one() -> None:
    stored = b'{"name":"desk","speech_model":{"provider":"openai_realtime","voice":"marin"}}'
    spec = msgspec.json.decode(stored, type=AgentSpec)
    assert [choice.voice for choice in spec.speech_models] == ["marin"]
    assert msgspec.json.decode(b'{"name":"desk"}', type=AgentSpec).speech_models == ()


async def test_the_specification_tells_of_one_and_of_several(api: Api) -> None:
    told = (await api.ask("GET", "/openapi.json")).json["components"]["schemas"]
    field = str(told["AgentSpec"]["properties"]["speech_model"])
    assert "#/components/schemas/ProviderChoice" in field
    assert "'minItems': 1" in field
    assert "'maxItems': 5" in field
    assert "null" in field


async def test_an_empty_list_of_them_is_refused(api: Api) -> None:
    answer = await api.ask("POST", "/v1/agents", {"name": "desk", "speech_model": []})
    assert answer.status == 422


async def test_a_chat_needs_a_responder(api: Api) -> None:
    made = await api.create("/v1/agents", {"name": "desk", "speech_model": SPEECH})
    answer = await api.ask("POST", f"/v1/agents/{made['id']}/chat", {"message": "hi"})
    assert answer.status == 409
    assert "llm" in answer.json["detail"]
    assert ABSENT.name not in answer.json["detail"]


async def test_an_unknown_field_of_it_is_refused(api: Api) -> None:
    spec = {"name": "desk", "speech_model": SPEECH | {"speed": 2}}
    answer = await api.ask("POST", "/v1/agents", spec)
    assert answer.status == 422
    assert "speech_model" in str(answer.json)
