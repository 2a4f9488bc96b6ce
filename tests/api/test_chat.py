"""Talking to an agent in text: through the same code as a call."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
import trio

from api.settings import ApiSettings
from api.specs import AgentPlan
from api.store import Store
from rtcore.ports import ToolCall
from rtcore.providers.functions.signing import verify
from rtcore.testing import ProviderFault, ScriptedResponder
from tests.api.client import Api
from tests.api.test_knowledge import MENU, indexed
from tests.api.test_resources import FUNCTION
from tests.fakes.function import FakeFunction


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    return msgspec.structs.replace(settings, allow_private_urls=True)


@pytest.fixture
async def server(nursery: trio.Nursery) -> FakeFunction:
    """Where the functions of these tests are."""
    fake = FakeFunction(b"booked for eight", "text/plain")
    fake.url = await nursery.start(fake.serve)
    return fake


async def booking(api: Api, server: FakeFunction, **fields: object) -> str:
    """The id of a function at ``server``."""
    made = await api.create("/v1/functions", FUNCTION | {"url": f"{server.url}/tables"} | fields)
    id: str = made["id"]
    return id


def says(responder: ScriptedResponder, *replies: str | ToolCall) -> None:
    """Another script for the mind of every agent."""
    responder._replies = replies


async def agent(api: Api, **fields: object) -> str:
    made = await api.create("/v1/agents", {"name": "Roma", "prompt": "Be brief."} | fields)
    return f"/v1/agents/{made['id']}"


async def test_a_conversation_goes_on(api: Api, responder: ScriptedResponder) -> None:
    says(responder, "Hello there.", "You said hi before.")
    path = await agent(api)
    first = (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json
    assert first["response"] == "Hello there."
    assert first["version"] == 1
    assert first["output_tokens"] == 2
    more = {"message": "and?", "conversation_id": first["conversation_id"]}
    second = (await api.ask("POST", f"{path}/chat", more)).json
    assert second["response"] == "You said hi before."
    assert second["conversation_id"] == first["conversation_id"]
    assert second["input_tokens"] == len(["Be", "brief.", "hi", "Hello", "there.", "and?"])


async def test_a_conversation_keeps_its_version(api: Api, plans: list[AgentPlan]) -> None:
    path = await agent(api)
    first = (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json
    any_ = {"If-Match": "*"}
    await api.ask("PATCH", f"{path}?publish=true", {"prompt": "New."}, headers=any_)
    more = {"message": "and?", "conversation_id": first["conversation_id"]}
    assert (await api.ask("POST", f"{path}/chat", more)).json["version"] == 1
    assert (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json["version"] == 2
    assert [plan.definition.prompt for plan in plans] == ["Be brief.", "Be brief.", "New."]
    old = (await api.ask("POST", f"{path}/chat", {"message": "hi", "version": 1})).json
    assert old["version"] == 1
    missing = await api.ask("POST", f"{path}/chat", {"message": "hi", "version": 7})
    assert missing.status == 404


async def test_functions_are_called_signed_and_told(
    api: Api, responder: ScriptedResponder, server: FakeFunction
) -> None:
    await api.ask("PUT", "/v1/secrets/hook", {"value": "shared"})
    function = await booking(api, server, secret="hook")
    says(responder, ToolCall(id="c-1", name="book", arguments='{"persons": 4}'))
    path = await agent(api, function_ids=[function])
    answer = (await api.ask("POST", f"{path}/chat", {"message": "for four"})).json
    assert answer["response"] == "That is done."
    assert answer["functions"] == [
        {"type": "function_returned", "id": "c-1", "name": "book", "result": "booked for eight"}
    ]
    (asked,) = server.requests
    assert (asked.method, asked.path) == ("POST", "/tables")
    assert asked.json() == {
        "function": "book",
        "arguments": {"persons": 4, "house": "roma"},
        "call_id": answer["conversation_id"],
    }
    assert asked.headers["idempotency-key"].startswith(answer["conversation_id"])
    assert verify(asked.headers, asked.body, "shared", time.time())


@pytest.mark.parametrize(
    ("arguments", "answers", "result", "times"),
    [
        ('{"persons": 0}', {}, "less than the minimum", 0),
        ("[", {}, "not valid JSON", 0),
        ('{"persons": 1}', {"status": 404}, "failed: book: 404", 1),
        ('{"persons": 1}', {"status": 500, "body": b"stack trace"}, "failed: book: 500", 2),
        ('{"persons": 1}', {"status": 302, "headers": {"location": "http://10.0.0.1"}}, "302", 1),
        ('{"persons": 1}', {"body": b"x" * 70_000}, "longer than 65536 octets", 1),
    ],
)
async def test_the_model_is_told_what_went_wrong(
    api: Api,
    responder: ScriptedResponder,
    server: FakeFunction,
    arguments: str,
    answers: dict[str, Any],
    result: str,
    times: int,
) -> None:
    for field, value in answers.items():
        setattr(server, field, value)
    function = await booking(api, server)
    says(responder, ToolCall(id="c1", name="book", arguments=arguments))
    path = await agent(api, function_ids=[function])
    answer = (await api.ask("POST", f"{path}/chat", {"message": "go", "version": 1})).json
    more = {"message": "and?", "conversation_id": answer["conversation_id"]}
    says(responder, "x", "Fine.")
    assert (await api.ask("POST", f"{path}/chat", more)).json["response"] == "Fine."
    told = [each["result"] for each in answer["functions"]]
    assert not told or result in told[0]
    assert len(server.requests) == times


async def test_a_secret_that_cannot_sign_is_told(
    api: Api, responder: ScriptedResponder, server: FakeFunction
) -> None:
    await api.ask("PUT", "/v1/secrets/hook", {"value": "whsec_!"})
    function = await booking(api, server, secret="hook")
    says(responder, ToolCall(id="c-1", name="book", arguments='{"persons": 4}'))
    path = await agent(api, function_ids=[function])
    answer = (await api.ask("POST", f"{path}/chat", {"message": "for four"})).json
    assert "hook: is not base64" in answer["functions"][0]["result"]
    assert server.requests == []


async def test_what_was_looked_up_is_shown(api: Api, responder: ScriptedResponder) -> None:
    base = (await api.create("/v1/knowledgebases", {"name": "Menu", "description": "Dishes"}))["id"]
    await indexed(api, base, "menu.md", MENU)
    question = msgspec.json.encode({"question": "price of the tomato soup"}).decode()
    says(responder, ToolCall(id="k1", name="search_knowledge", arguments=question))
    path = await agent(api, knowledgebase_ids=[base])
    answer = (await api.ask("POST", f"{path}/chat", {"message": "soup?"})).json
    assert [source["heading"] for source in answer["sources"]] == ["Soups"]
    assert "Tomato soup, 5 euro." in answer["functions"][0]["result"]


async def test_events_come_as_they_happen(
    api: Api, responder: ScriptedResponder, server: FakeFunction
) -> None:
    function = await booking(api, server)
    says(responder, ToolCall(id="c1", name="book", arguments='{"persons": 2}'))
    path = await agent(api, function_ids=[function])
    stream = {"Accept": "text/event-stream"}
    answer = await api.ask("POST", f"{path}/chat", {"message": "two"}, headers=stream)
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = []
    for block in answer.body.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), msgspec.json.decode(data[6:])))
    assert [name for name, _ in events] == [
        "function_called",
        "function_returned",
        "token",
        "token",
        "token",
        "answer",
    ]
    assert events[0][1]["arguments"] == {"persons": 2, "house": "roma"}
    assert "".join(data["text"] for name, data in events if name == "token") == "That is done."
    assert events[-1][1]["response"] == "That is done."
    missing = await api.ask("POST", f"{path}/chat", {"message": "x", "version": 9}, headers=stream)
    assert missing.status == 404


async def test_a_conversation_that_ended_is_over(api: Api, responder: ScriptedResponder) -> None:
    says(responder, ToolCall(id="h", name="hang_up", arguments="{}"))
    path = await agent(api)
    answer = (await api.ask("POST", f"{path}/chat", {"message": "bye"})).json
    assert answer["has_ended"]
    more = {"message": "wait", "conversation_id": answer["conversation_id"]}
    assert (await api.ask("POST", f"{path}/chat", more)).status == 409


async def test_a_model_that_fails_is_502_and_leaves_the_conversation(
    api: Api, responder: ScriptedResponder
) -> None:
    path = await agent(api)
    first = (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json
    responder.sessions._faults = {1: ProviderFault(kind="raise"), 2: ProviderFault(kind="raise")}
    more = {"message": "and?", "conversation_id": first["conversation_id"]}
    failed = await api.ask("POST", f"{path}/chat", more)
    assert failed.status == 502
    assert "scripted-llm" in failed.problem.detail
    stream = {"Accept": "text/event-stream"}
    failed = await api.ask("POST", f"{path}/chat", more, headers=stream)
    assert (failed.status, failed.body[:15]) == (200, b"event: problem\n")
    again = (await api.ask("POST", f"{path}/chat", more)).json
    assert again["input_tokens"] == len(["Be", "brief.", "hi", "Hello", "there.", "and?"])
    assert responder.sessions.open == 0


async def test_two_messages_at_once_do_not_mix(api: Api, responder: ScriptedResponder) -> None:
    path = await agent(api)
    first = (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json
    responder._first_token_ms = 50
    more = {"message": "and?", "conversation_id": first["conversation_id"]}
    statuses = []

    async def ask() -> None:
        statuses.append((await api.ask("POST", f"{path}/chat", more)).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert sorted(statuses) == [200, 409]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": ""}, "message"),
        ({"message": "x" * 4001}, "message"),
        ({"message": "x", "conversation_id": "cht_1"}, "conversation_id"),
        ({"message": "x", "version": 0}, "version"),
    ],
)
async def test_a_wrong_message_is_refused(api: Api, body: object, field: str) -> None:
    assert (await api.ask("POST", f"{await agent(api)}/chat", body)).fields == [field]


async def test_a_conversation_is_of_one_agent(api: Api, store: Store) -> None:
    first = (await api.ask("POST", f"{await agent(api)}/chat", {"message": "hi"})).json
    more = {"message": "and?", "conversation_id": first["conversation_id"]}
    assert (await api.ask("POST", f"{await agent(api)}/chat", more)).status == 404


async def test_a_conversation_is_erased(api: Api, responder: ScriptedResponder) -> None:
    says(responder, "Hello there.")
    path = await agent(api)
    begun = (await api.ask("POST", f"{path}/chat", {"message": "hi"})).json["conversation_id"]
    assert (await api.ask("DELETE", f"{path}/chat/{begun}")).status == 204
    more = {"message": "still there?", "conversation_id": begun}
    assert (await api.ask("POST", f"{path}/chat", more)).status == 404
    assert (await api.ask("DELETE", f"{path}/chat/{begun}")).status == 404
    audit = (await api.ask("GET", f"/v1/audit?resource_id={begun}")).json["items"]
    assert [line["action"] for line in audit] == ["chat.erased"]
