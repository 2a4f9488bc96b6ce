"""Rows that a newer node wrote: an older one reads of them what it knows, and keeps the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
import structlog

from api.calls.erasing import read_policy
from api.campaigns.specs import CampaignSpec
from api.outgoing.outbox import claim_deliveries, create_webhook, tell
from api.outgoing.specs import WebhookSpec
from api.specs import AgentSpec, FunctionSpec, ProviderChoice, Retention
from api.store import Actor, Store, Tx, stored, upgrade
from api.store.agents import create_agent, find_agents, get_agent, update_agent
from api.store.campaigns import create_campaign, get_campaign, update_campaign
from api.store.errors import Unreadable
from api.store.functions import FUNCTIONS, create_function
from api.store.stored import changed_fields, read_stored, rewritten
from api.store.tables import agent_versions, campaigns, functions, knowledge_bases, webhooks
from rtcore.agent.definition import IdlePolicy
from tests.api.client import Api

ME = Actor("test")
FUNCTION = FunctionSpec(name="book", description="Books.", url="https://x.test", effect="write")
SPEC = AgentSpec(
    name="desk",
    turn={"idle_ms": 20_000},
    idle=IdlePolicy(reminders=()),
    llm=(ProviderChoice(provider="openai", options={"zest": 1}),),
    speech_model=(ProviderChoice(provider="openai_realtime"),),
    retention=Retention(calls_days=30),
)


@pytest.fixture(autouse=True)
def _nothing_logged() -> Iterator[None]:
    stored._logged.clear()
    yield
    stored._logged.clear()


def newer(document: dict[str, Any]) -> dict[str, Any]:
    """An agent as a node writes it that has one more field in each part of it."""
    for part in (
        document,
        document["idle"],
        document["turn"],
        document["retention"],
        *document["llm"],
        *document["speech_model"],
    ):
        part["zest"] = {"deep": [1]}
    return document


def rewrite(
    store: Store, table: sa.Table, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    def work(tx: Tx) -> None:
        text = tx.conn.scalar(sa.select(table.c.spec))
        spec = msgspec.json.encode(change(msgspec.json.decode(text or "")))
        tx.conn.execute(sa.update(table).values(spec=spec.decode()))

    store.run(work, True)


def test_a_newer_node_s_agent_is_an_agent_without_what_is_new(store: Store) -> None:
    id = store.run(create_agent, True, ME, SPEC).id
    rewrite(store, agent_versions, newer)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            assert store.run(get_agent, False, id).spec == SPEC
        (found,) = store.run(find_agents, False, 10, 0).items
        assert found.spec == SPEC
        assert store.run(read_policy, False, Retention()).agents == {id: SPEC.retention}
    assert sorted(each["field"] for each in logs) == [
        "AgentSpec.zest",
        "IdlePolicy.zest",
        "ProviderChoice.zest",
        "Retention.zest",
        "TurnConfig.zest",
    ]
    assert {each["event"] for each in logs} == {"stored_field_unknown"}


def documents(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    """What is stored, the oldest version first."""

    def work(tx: Tx) -> list[dict[str, Any]]:
        query = sa.select(table.c.spec).order_by(*table.primary_key)
        return [msgspec.json.decode(text) for text in tx.conn.scalars(query)]

    return store.run(work, False)


def test_it_is_changed_like_any_other_and_what_is_new_stays(store: Store) -> None:
    id = store.run(create_agent, True, ME, SPEC).id
    rewrite(store, agent_versions, newer)

    def change(spec: AgentSpec) -> AgentSpec:
        return msgspec.structs.replace(spec, name="front desk", retention=Retention(calls_days=7))

    changed = store.run(update_agent, True, ME, id, None, change, publish=True)
    assert changed.spec == change(SPEC)
    assert store.run(get_agent, False, id).spec == change(SPEC)
    before, after = documents(store, agent_versions)
    replaced = msgspec.to_builtins(Retention(calls_days=7))  # as a whole: it was given
    assert after == before | {"name": "front desk", "retention": replaced}
    assert after["zest"] == after["llm"][0]["zest"] == after["turn"]["zest"] == {"deep": [1]}


@pytest.mark.parametrize(
    ("path", "table", "body", "changes"),
    [
        ("/v1/agents", agent_versions, {"name": "desk"}, {"prompt": "Be kind."}),
        ("/v1/functions", functions, msgspec.to_builtins(FUNCTION), {"description": "Books it."}),
        ("/v1/knowledgebases", knowledge_bases, {"name": "menu"}, {"description": "Prices."}),
        ("/v1/webhooks", webhooks, {"name": "crm", "url": "https://x.test"}, {"name": "office"}),
    ],
)
async def test_a_patch_keeps_what_it_does_not_name(
    api: Api,
    store: Store,
    path: str,
    table: sa.Table,
    body: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    made = await api.create(path, body)
    rewrite(store, table, lambda spec: {**spec, "zest": {"deep": [1, 2.0, 10**30]}})
    before = documents(store, table)[-1]
    changed = await api.ask("PATCH", f"{path}/{made['id']}", changes, headers={"If-Match": "*"})
    assert changed.status == 200, changed.body
    assert "zest" not in changed.json
    assert documents(store, table)[-1] == before | changes


def test_a_campaign_keeps_it_too(store: Store) -> None:
    agent_id = store.run(create_agent, True, ME, AgentSpec(name="desk")).id
    spec = CampaignSpec(name="news", agent_id=agent_id, from_="14155550199", time_zone="UTC")
    id = store.run(create_campaign, True, ME, spec).id
    rewrite(store, campaigns, lambda spec: {**spec, "zest": 1})
    (before,) = documents(store, campaigns)

    def change(spec: CampaignSpec) -> CampaignSpec:
        return msgspec.structs.replace(spec, from_="14155550100")

    assert store.run(update_campaign, True, ME, id, None, change).spec == change(spec)
    assert documents(store, campaigns) == [before | {"from": "14155550100"}]


def test_what_is_written_otherwise_is_changed() -> None:
    """Python takes 1 for true and knows no order of keys; a service, or a model, may."""
    first, second = (
        AgentSpec(name="x", llm=(ProviderChoice(provider="openai", options=options),))
        for options in ({"a": 1, "b": 2}, {"b": 2, "a": True})
    )
    assert first == second
    assert changed_fields(first, second) == ["llm"]
    text = rewritten(msgspec.json.encode(first), second, ["llm"])
    assert read_stored(text, AgentSpec, "agt_1").llm[0].options["a"] is True


def test_a_webhook_that_wants_to_know_of_new_things_is_told_of_old_ones(store: Store) -> None:
    spec = WebhookSpec(name="office", url="https://x.test", events=("call.ended",))
    store.run(create_webhook, True, ME, spec)
    rewrite(store, webhooks, lambda spec: {**spec, "events": ["call.zested", "call.ended"]})
    for event in ("call.started", "call.ended"):
        store.run(tell, True, event, "call_1", {})
    (work,) = store.run(claim_deliveries, True, 10)
    assert (work.url, msgspec.json.decode(work.body)["type"]) == (spec.url, "call.ended")


def test_functions_and_campaigns_are_read_alike(store: Store) -> None:
    id = store.run(create_function, True, ME, FUNCTION).id
    rewrite(store, functions, lambda spec: {**spec, "zest": None})
    assert store.run(FUNCTIONS.get, False, id).spec == FUNCTION
    agent_id = store.run(create_agent, True, ME, AgentSpec(name="desk")).id
    spec = CampaignSpec(name="news", agent_id=agent_id, from_="14155550199", time_zone="UTC")
    campaign_id = store.run(create_campaign, True, ME, spec).id
    rewrite(
        store,
        campaigns,
        lambda spec: {**spec, "zest": 1, "retries": {**spec["retries"], "zest": 1}},
    )
    assert store.run(get_campaign, False, campaign_id).spec == spec


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"name": ""}, "agt_1, name:"),
        ({"name": "x", "turn_preset": "hasty", "zest": 1}, "agt_1, turn_preset:"),
        ({"name": "x", "llm": [{"provider": "x"}, {"provider": "Y"}]}, "agt_1, llm[1].provider"),
        ({"zest": 1}, "agt_1:"),
    ],
)
def test_a_value_that_cannot_be_used_is_told_by_its_field(
    document: dict[str, Any], field: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        read_stored(msgspec.json.encode(document), AgentSpec, "agt_1")
    assert str(refused.value).startswith(field)
    assert "hasty" not in str(refused.value)


async def test_an_agent_that_cannot_be_read_is_no_fault_of_ours(api: Api, store: Store) -> None:
    made = await api.create("/v1/agents", {"name": "x"})
    rewrite(store, agent_versions, lambda spec: {**spec, "turn_preset": "hasty"})
    path = f"/v1/agents/{made['id']}"
    for method, address, body in (
        ("GET", path, None),
        ("GET", "/v1/agents", None),
        ("PATCH", path, {"name": "y"}),
        ("POST", f"{path}/chat", {"message": "Hello"}),
    ):
        answer = await api.ask(method, address, body, headers={"If-Match": "*"})
        assert answer.status == 503, address
        assert f"{made['id']}, turn_preset" in answer.problem.detail
        assert "newer version" in answer.problem.detail
    assert (await api.ask("DELETE", path)).status == 204


def test_a_line_end_that_an_older_node_let_in_is_taken_off() -> None:
    document = {
        "name": "x\n",
        "llm": [{"provider": "openai\n"}],
        "overflow_to": "14155550111\n",
        "transfer_targets": {"desk\n": {"to": "14155550122\n", "what_for": "all\n"}},
        "listening": {"dial": "14155550133\n"},
    }
    found = read_stored(msgspec.json.encode(document), AgentSpec, "agt_1")
    assert found.name == "x\n"  # that may hold any text
    assert (found.llm[0].provider, found.overflow_to) == ("openai", "14155550111")
    assert list(found.transfer_targets) == ["desk"]
    assert found.transfer_targets["desk"].to == "14155550122"
    assert found.transfer_targets["desk"].what_for == "all\n"
    assert found.listening is not None
    assert found.listening.dial == "14155550133"


def test_what_is_logged_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "LOGGED_MAX", 3)
    odd = {"name": "x", **{f"zest_{number}": 1 for number in range(10)}}
    with structlog.testing.capture_logs() as logs:
        assert read_stored(msgspec.json.encode(odd), AgentSpec, "agt_1") == AgentSpec(name="x")
    assert len(logs) == 3


def test_a_node_starts_on_a_database_that_a_newer_one_has_brought_further(store: Store) -> None:
    def bring_further(tx: Tx) -> None:
        tx.conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    id = store.run(create_agent, True, ME, SPEC).id
    store.run(bring_further, True)
    with structlog.testing.capture_logs() as logs:
        upgrade(store.engine.url.render_as_string(hide_password=False))
    assert [(each["event"], each["revision"]) for each in logs] == [("database_is_newer", "9999")]
    assert store.run(get_agent, False, id).spec == SPEC


async def test_over_the_api_an_unknown_field_is_a_mistake(api: Api) -> None:
    for body in ({"name": "x", "zest": 1}, {"name": "x", "retention": {"zest": 1}}):
        refused = await api.ask("POST", "/v1/agents", body)
        assert refused.status == 422
        assert "zest" in refused.problem.detail + str(refused.problem.errors)
