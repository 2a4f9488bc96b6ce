"""What agents do together, and what a chat shares with a call: variables, knowledge."""

from __future__ import annotations

import msgspec
import pytest

from api.binding import bind_agent
from api.messages import keep_message
from api.outgoing.outbox import claim_deliveries, create_webhook
from api.outgoing.specs import WebhookSpec
from api.specs import AgentPlan
from api.store import Actor, Store
from api.store.errors import AgentUnusable
from api.webhooks import Webhooks
from rtcore.agent.agent import Agent
from rtcore.errors import ConfigError
from rtcore.ports import Message, ToolCall
from rtcore.testing import (
    Phone,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
)
from tests.api.client import Api
from tests.api.telephone import ASKS, CALLER, OURS, serving
from tests.api.test_chat import says
from tests.api.test_knowledge import MENU, indexed

HAND_OVER = ToolCall(id="h", name="hand_over", arguments='{"to": "billing"}')
LEAVE = ToolCall(id="m", name="leave_message", arguments='{"text": "Call Ann.", "name": "Ann"}')


async def pair(api: Api) -> tuple[str, str]:
    """A front desk and a billing desk, each the other's colleague."""
    billing = await api.create(
        "/v1/agents",
        {"name": "billing", "welcome_message": "Billing, {name}.", "prompt": "You bill {name}."},
    )
    colleagues = {"billing": {"agent_id": billing["id"], "what_for": "invoices"}}
    desk = await api.create(
        "/v1/agents",
        {
            "name": "desk",
            "welcome_message": "Desk.",
            "prompt": "You greet {name}.",
            "colleagues": colleagues,
        },
    )
    back = {"colleagues": {"desk": {"agent_id": desk["id"], "what_for": "the rest"}}}
    path, any_ = f"/v1/agents/{billing['id']}?publish=true", {"If-Match": "*"}
    assert (await api.ask("PATCH", path, back, headers=any_)).status == 200
    return desk["id"], billing["id"]


def made_of(plan: AgentPlan) -> Agent:
    return Agent(
        plan.definition,
        ScriptedTranscriber(["x"]),
        ScriptedResponder(["y"]),
        ScriptedSynthesizer(),
    )


async def test_agents_may_be_each_other_s_colleagues(api: Api, store: Store) -> None:
    desk_id, billing_id = await pair(api)
    webhooks = Webhooks(allow_private=False)
    bound = (await bind_agent(store, webhooks, made_of, desk_id)).agent
    agent = bound.for_call({"name": "Ann"})
    billing = agent.colleagues["billing"].agent
    assert billing.definition.prompt == "You bill Ann."
    assert billing.colleagues["desk"].agent is agent
    assert "hand_over" in [tool.name for tool in agent.offered]
    # one that a hand-over could not be heard of is left out, and the call goes on without it
    path, any_ = f"/v1/agents/{billing_id}?publish=true", {"If-Match": "*"}
    await api.ask("PATCH", path, {"welcome_message": ""}, headers=any_)
    assert (await bind_agent(store, webhooks, made_of, desk_id)).agent.colleagues == {}
    used = await api.ask("DELETE", f"/v1/agents/{billing_id}")
    assert (used.status, used.problem.users[0].id) == (409, desk_id)  # type: ignore[index,union-attr]
    unknown = {"colleagues": {"x": {"agent_id": "agt_" + "0" * 24, "what_for": "y"}}}
    refused = await api.ask("PATCH", f"/v1/agents/{desk_id}", unknown, headers=any_)
    assert refused.fields == ["colleagues.x.agent_id"]


async def test_a_chat_is_handed_over_and_stays_there(
    api: Api, responder: ScriptedResponder
) -> None:
    desk_id, _ = await pair(api)
    path = f"/v1/agents/{desk_id}/chat"
    requests = []

    def reply_to(request: object) -> object:
        requests.append(request)
        return HAND_OVER if len(requests) == 1 else "Your bill is paid."

    responder.reply_to = reply_to  # type: ignore[method-assign,assignment]
    first = (await api.ask("POST", path, {"message": "my bill", "variables": {"name": "Ann"}})).json
    assert (first["handed_to"], first["response"]) == ("billing", "Billing, Ann.")
    more = {"message": "is it paid?", "conversation_id": first["conversation_id"]}
    second = (await api.ask("POST", path, more)).json
    assert (second["handed_to"], second["response"]) == ("", "Your bill is paid.")
    prompts = [request.messages[0].text for request in requests]  # type: ignore[attr-defined]
    assert prompts == ["You greet Ann.", "You bill Ann."]
    assert len(requests) == 2  # who hands over says nothing more


async def test_a_chat_fills_in_variables(api: Api, responder: ScriptedResponder) -> None:
    made = await api.create("/v1/agents", {"name": "desk", "prompt": "{name}, {direction}, {x}"})
    seen: list[Message] = []

    def reply_to(request: object) -> object:
        seen.append(request.messages[0])  # type: ignore[attr-defined]
        return "Hello."

    responder.reply_to = reply_to  # type: ignore[method-assign,assignment]
    path = f"/v1/agents/{made['id']}/chat"
    first = (await api.ask("POST", path, {"message": "hi", "variables": {"name": "Ann"}})).json
    again = {"message": "hi", "conversation_id": first["conversation_id"]}
    await api.ask("POST", path, again)
    await api.ask("POST", path, again | {"variables": {"name": "Bob"}})
    assert [message.text for message in seen] == [
        "Ann, chat, {x}",
        "Ann, chat, {x}",
        "Bob, chat, {x}",
    ]


async def test_knowledge_is_looked_up_before_the_model_is_asked(
    api: Api, responder: ScriptedResponder
) -> None:
    base = await api.create("/v1/knowledgebases", {"name": "menu"})
    await indexed(api, base["id"], "menu.md", MENU)
    made = await api.create("/v1/agents", {"name": "desk", "knowledgebase_ids": [base["id"]]})
    seen: list[Message] = []

    def reply_to(request: object) -> object:
        seen.extend(request.messages)  # type: ignore[attr-defined]
        return "Here it is."

    responder.reply_to = reply_to  # type: ignore[method-assign,assignment]
    path = f"/v1/agents/{made['id']}/chat"
    answer = (await api.ask("POST", path, {"message": "opening hours on sunday"})).json
    assert answer["sources"]
    assert len(answer["sources"]) == len({s["position"] for s in answer["sources"]})
    (found,) = [each for each in seen if each.role == "system"]
    assert found.text.startswith("Found in the documents")
    assert answer["sources"][0]["text"] in found.text


async def test_messages_are_kept_and_told_of(
    api: Api, responder: ScriptedResponder, store: Store
) -> None:
    store.run(create_webhook, True, Actor("t"), WebhookSpec(name="x", url="https://x.com"))
    made = await api.create("/v1/agents", {"name": "desk", "takes_messages": True})
    says(responder, LEAVE)
    answer = (await api.ask("POST", f"/v1/agents/{made['id']}/chat", {"message": "hi"})).json
    assert answer["functions"][0]["result"] == "the message is kept and will be passed on"
    (kept,) = (await api.ask("GET", f"/v1/messages?agent_id={made['id']}")).json["items"]
    assert (kept["text"], kept["name"]) == ("Call Ann.", "Ann")
    assert kept["call_id"] == answer["conversation_id"]
    assert (await api.ask("GET", "/v1/messages?call_id=call_x")).json["items"] == []


def test_a_message_is_kept_once(store: Store) -> None:
    store.run(create_webhook, True, Actor("t"), WebhookSpec(name="x", url="https://x.com"))
    told = ("agt_1", "cht_1", "Ann", "Call me.")
    first = store.run(keep_message, True, *told, "k")
    assert store.run(keep_message, True, *told, "k") == first
    (work,) = store.run(claim_deliveries, True, 10)
    assert msgspec.json.decode(work.body)["data"]["text"] == "Call me."


async def test_a_call_is_handed_over_in_mid_call(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        billing = await node.agent(name="billing", welcome_message="This is billing.")
        node.answers = [HAND_OVER]  # type: ignore[list-item]
        colleagues = {"billing": {"agent_id": billing, "what_for": "invoices"}}
        await node.bound(colleagues=colleagues, prompt="desk")
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, hang_up()]]))
        await node.until(call.over.is_set)
        (shown,) = (await node.ask("GET", "/v1/calls"))["items"]
        await node.line.keeper.flush()
        said = (await node.ask("GET", f"/v1/calls/{shown['id']}/transcript"))["items"]
        assert "This is billing." in [line["text"] for line in said]


async def test_a_colleague_that_cannot_be_used_leaves_the_others_at_work(
    api: Api, store: Store
) -> None:
    desk, billing = await pair(api)

    def agent_for(plan: AgentPlan) -> Agent:
        if plan.definition.name == "billing":
            raise ConfigError("tts.provider", "is unknown")
        return made_of(plan)

    hooks = Webhooks(allow_private=True)
    bound = await bind_agent(store, hooks, agent_for, desk)
    assert not bound.agent.colleagues
    with pytest.raises(AgentUnusable, match=r"tts\.provider"):
        await bind_agent(store, hooks, agent_for, billing)
