"""Agents, functions, keys, secrets, the audit log: over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from api.settings import ApiSettings
from api.specs import AgentPlan
from tests.api.client import Api

FUNCTION = {
    "name": "book",
    "description": "Book a table",
    "url": "https://booking.example.com/tables",
    "effect": "write",
    "parameters": {
        "type": "object",
        "properties": {"persons": {"type": "integer", "minimum": 1}},
        "required": ["persons"],
    },
    "fixed_parameters": {"house": "roma"},
}


async def test_an_agent_lives_from_creation_to_deletion(api: Api) -> None:
    function = await api.create("/v1/functions", FUNCTION)
    base = await api.create("/v1/knowledgebases", {"name": "Menu"})
    agent = await api.create(
        "/v1/agents",
        {"name": "Roma", "function_ids": [function["id"]], "knowledgebase_ids": [base["id"]]},
    )
    path = f"/v1/agents/{agent['id']}"
    assert agent["answer_url"] == f"https://voice.example.com/plivo/answer/{agent['id']}"
    assert (await api.ask("GET", path)).json == agent
    for used in (f"/v1/functions/{function['id']}", f"/v1/knowledgebases/{base['id']}"):
        refused = await api.ask("DELETE", used)
        assert refused.status == 409
        users = refused.problem.users
        assert users
        assert [(user.kind, user.id, user.name) for user in users] == [
            ("agent", agent["id"], "Roma")
        ]
    found = await api.ask("GET", f"/v1/agents?uses={function['id']}")
    assert [each["id"] for each in found.json["items"]] == [agent["id"]]
    assert (await api.ask("DELETE", path)).status == 204
    assert (await api.ask("GET", path)).status == 404
    assert (await api.ask("DELETE", f"/v1/functions/{function['id']}")).status == 204


async def test_versions_are_published_and_rolled_back(api: Api) -> None:
    agent = await api.create("/v1/agents", {"name": "Roma", "prompt": "one"})
    path, any_ = f"/v1/agents/{agent['id']}", {"If-Match": "*"}
    draft = (await api.ask("PATCH", path, {"prompt": "two"}, headers=any_)).json
    assert (draft["version"], draft["published_version"], draft["prompt"]) == (2, 1, "two")
    live = (await api.ask("PATCH", f"{path}?publish=true", {"prompt": "3"}, headers=any_)).json
    assert (live["version"], live["published_version"]) == (3, 3)
    back = (await api.ask("POST", f"{path}/publish", {"version": 1})).json
    assert (back["version"], back["published_version"]) == (3, 1)
    assert (await api.ask("POST", f"{path}/publish", {})).json["published_version"] == 3
    assert (await api.ask("POST", f"{path}/publish", {"version": 9})).status == 404
    versions = (await api.ask("GET", f"{path}/versions")).json["items"]
    assert [(each["version"], each["is_published"]) for each in versions] == [
        (3, True),
        (2, False),
        (1, False),
    ]
    old = (await api.ask("GET", f"{path}/versions/1")).json
    assert old["agent"]["prompt"] == "one"
    assert old["created_by"].startswith("rtk_")


@pytest.mark.parametrize("turn", [{"complete_mss": 1}, {"complete_ms": 10}])
async def test_turn_taking_that_cannot_be_is_refused_made_or_changed(
    api: Api, turn: dict[str, int]
) -> None:
    assert (await api.ask("POST", "/v1/agents", {"name": "x", "turn": turn})).status == 422
    agent = await api.create("/v1/agents", {"name": "x"})
    path = f"/v1/agents/{agent['id']}"
    changed = await api.ask("PATCH", path, {"turn": turn}, headers={"If-Match": "*"})
    assert changed.status == 422
    assert "turn" in changed.json["detail"]


async def test_a_program_of_the_node_can_be_named_by_nobody(api: Api) -> None:
    """Who may write agents may not run what they like on the machine."""
    piper = {"provider": "piper", "options": {"executable": "/bin/sh", "voice": "/tmp/x.onnx"}}
    answer = await api.ask("POST", "/v1/agents", {"name": "x", "tts": [piper]})
    assert answer.status == 422
    assert "only an agent's file may name it" in str(answer.json)
    agent = await api.create("/v1/agents", {"name": "x"})
    path = f"/v1/agents/{agent['id']}"
    changed = await api.ask("PATCH", path, {"tts": [piper]}, headers={"If-Match": "*"})
    assert changed.status == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://example.com"}, "url"),
        ({"url": "https://127.0.0.1/x"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://2130706433/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://user:pass@example.com/"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://xn--/"}, "url"),
        ({"url": "https://two words.com/"}, "url"),
        ({"url": "https://example.com:99999/"}, "url"),
        ({"effect": "destroy"}, "effect"),
        ({"name": "two words"}, "name"),
        ({"parameters": {"type": "string"}}, "parameters"),
        ({"parameters": {"type": "object", "properties": {"a": {"type": "no"}}}}, "parameters"),
        ({"parameters": {"type": "object", "$ref": "http://127.0.0.1:1/x"}}, "parameters"),
        ({"parameters": {"type": "object", "properties": 3}}, "parameters"),
        ({"fixed_parameters": {"persons": 4}}, "fixed_parameters.persons"),
        ({"secret": "ghost"}, "secret"),
        ({"limit_s": 0}, "limit_s"),
    ],
)
async def test_a_function_that_cannot_work_is_refused(
    api: Api, change: dict[str, object], field: str
) -> None:
    answer = await api.ask("POST", "/v1/functions", FUNCTION | change)
    assert answer.status == 422
    assert answer.fields == [field]
    created = await api.ask("POST", "/v1/functions", FUNCTION)
    path = created.headers["Location"]
    answer = await api.ask("PATCH", path, change, headers={"If-Match": "*"})
    assert answer.status == 422
    assert answer.fields == [field]
    assert (await api.ask("GET", path)).body == created.body


async def test_a_function_changes_by_field(api: Api) -> None:
    created = await api.ask("POST", "/v1/functions", FUNCTION)
    path, tag = created.headers["Location"], {"If-Match": created.headers["ETag"]}
    changed = await api.ask("PATCH", path, {"description": "Book"}, headers=tag)
    assert changed.json == created.json | {
        "description": "Book",
        "updated_at": changed.json["updated_at"],
    }
    assert (await api.ask("GET", "/v1/functions?name=boo")).json["items"] == [changed.json]


async def test_keys_are_made_used_and_revoked(api: Api) -> None:
    made = await api.create("/v1/keys", {"name": "ci", "scopes": ["read"], "expires_in_s": 3600})
    assert made["expires_at"] > made["created_at"]
    other = api.with_token(made["token"])
    assert (await other.ask("GET", "/v1/agents")).status == 200
    listed = (await api.ask("GET", "/v1/keys")).json
    assert listed["total"] == 2
    assert made["token"] not in str(listed)
    assert (await api.ask("DELETE", f"/v1/keys/{made['id']}")).status == 204
    assert (await other.ask("GET", "/v1/agents")).status == 401
    wrong = await api.ask("POST", "/v1/keys", {"name": "x", "scopes": ["root"]})
    assert wrong.fields == ["scopes[0]"]


async def test_secrets_go_in_and_never_out(api: Api, plans: list[AgentPlan]) -> None:
    assert (await api.ask("PUT", "/v1/secrets/llm", {"value": "sk-one"})).status == 201
    assert (await api.ask("PUT", "/v1/secrets/llm", {"value": "sk-two"})).status == 200
    agent = await api.create(
        "/v1/agents", {"name": "x", "llm": [{"provider": "openai", "secret": "llm"}]}
    )
    for path in ("/v1/secrets", "/v1/audit", f"/v1/agents/{agent['id']}"):
        assert b"sk-" not in (await api.ask("GET", path)).body
    await api.ask("POST", f"/v1/agents/{agent['id']}/chat", {"message": "hi"})
    assert plans[0].secrets == {"llm": "sk-two"}
    assert (await api.ask("DELETE", "/v1/secrets/llm")).status == 409
    await api.ask("DELETE", f"/v1/agents/{agent['id']}")
    assert (await api.ask("DELETE", "/v1/secrets/llm")).status == 204
    assert (await api.ask("DELETE", "/v1/secrets/llm")).status == 404


async def test_the_audit_log_tells_who_did_what(api: Api) -> None:
    agent = await api.create("/v1/agents", {"name": "x"})
    path = f"/v1/agents/{agent['id']}"
    await api.ask(
        "PATCH", path, {"prompt": "top secret"}, headers={"If-Match": "*", "X-Request-ID": "r-1"}
    )
    log = (await api.ask("GET", f"/v1/audit?resource_id={agent['id']}")).json["items"]
    assert [line["action"] for line in log] == ["agent.updated", "agent.created"]
    assert log[0]["fields"] == ["prompt"]
    assert log[0]["request_id"] == "r-1"
    assert "top secret" not in str(log)
    assert (await api.ask("GET", "/v1/audit?actor=nobody")).json["total"] == 0


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE agents; --",
        "{{7*7}}${7*7}<%= 7 %>",
        "<script>alert(1)</script>",
        "%s%n",
        "🂡é\u202e",
    ],
)
async def test_text_is_kept_as_it_is(api: Api, settings: ApiSettings, text: str) -> None:
    agent = await api.create("/v1/agents", {"name": text, "prompt": text, "phrases": [text]})
    found = (await api.ask("GET", f"/v1/agents/{agent['id']}")).json
    assert (found["name"], found["prompt"], found["phrases"]) == (text, text, [text])


@pytest.mark.parametrize("kind", ["stt", "llm", "tts", "speech_model", "analysis.llm"])
async def test_no_agent_names_a_key_of_the_environment(api: Api, kind: str) -> None:
    options = {"base_url": "https://example.com/v1", "key_name": "RTCORE_SECRET"}
    choice = {"provider": "openai", "options": options}
    field, _, inner = kind.partition(".")
    given: Any = {inner: [choice], "summary": True} if inner else [choice]
    spec = {"name": "x", field: choice if kind == "speech_model" else given}
    answer = await api.ask("POST", "/v1/agents", spec)
    assert (answer.status, answer.fields) == (422, [f"{kind}.options.key_name"])
    agent = await api.create("/v1/agents", {"name": "x"})
    path, any_ = f"/v1/agents/{agent['id']}", {"If-Match": "*"}
    changed = await api.ask("PATCH", path, {field: spec[field]}, headers=any_)
    assert changed.status == 422


@pytest.mark.parametrize("option", ["api_key", "token", "secret"])
async def test_no_key_is_kept_where_agents_are_read(api: Api, option: str) -> None:
    mind = {"provider": "openai", "options": {option: "sk-1234567890"}}
    answer = await api.ask("POST", "/v1/agents", {"name": "x", "llm": [mind]})
    assert (answer.status, answer.fields) == (422, [f"llm.options.{option}"])
    assert "sk-1234567890" not in answer.body.decode()
    assert "secret" in answer.problem.detail


PRIVATE = [
    "https://169.254.169.254/latest", "https://10.0.0.8/v1", "http://localhost:11434/v1",
    "https://[::1]/v1", "https://[::ffff:127.0.0.1]/v1", "https://vllm.internal/v1",
    "http://llm.example/v1", "file:///etc/passwd", "https://me:key@llm.example/v1", "nowhere",
]  # fmt: skip


async def test_no_service_may_be_on_private_addresses_or_without_tls(api: Api) -> None:
    """The rule that functions and webhooks keep to."""
    made = await api.create("/v1/agents", {"name": "a"})
    path = f"/v1/agents/{made['id']}"
    for url in PRIVATE:
        mind = {"provider": "openai_compatible", "model": "x", "options": {"base_url": url}}
        answer = await api.ask("PATCH", path, {"llm": [mind]}, headers={"If-Match": "*"})
        assert (answer.status, answer.fields) == (422, ["llm.options.base_url"]), url
        base = {"name": "b", "embedding": {"model": "small", "base_url": url}}
        answer = await api.ask("POST", "/v1/knowledgebases", base)
        assert (answer.status, answer.fields) == (422, ["embedding.base_url"]), url


async def test_wherever_an_agent_names_a_service_its_address_is_judged(api: Api) -> None:
    options = {"base_url": "https://169.254.169.254/latest"}
    mind = {"provider": "openai", "model": "x", "options": options}
    for changes, field in (
        ({"stt": [mind]}, "stt.options.base_url"),
        ({"llm": [{"provider": "groq", "model": "x"}, mind]}, "llm.options.base_url"),
        ({"llm": [{"provider": "http", "options": {"url": "https://127.1"}}]}, "llm.options.url"),
        ({"tts": [mind]}, "tts.options.base_url"),
        ({"analysis": {"llm": [mind]}}, "analysis.llm.options.base_url"),
    ):
        answer = await api.ask("POST", "/v1/agents", {"name": "a", **changes})
        assert (answer.status, answer.fields) == (422, [field])


async def test_a_service_may_be_anywhere_on_the_public_internet(api: Api) -> None:
    mind = {"provider": "openai_compatible", "model": "x"}
    for url in ("https://llm.example/v1", "wss://llm.example", "https://8.8.8.8:8443/v1"):
        made = {"name": "a", "llm": [{**mind, "options": {"base_url": url}}]}
        await api.create("/v1/agents", made)
