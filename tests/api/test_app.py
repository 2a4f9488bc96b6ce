"""What holds for every route: keys, ids, bodies, methods, limits, conditions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from quart_trio import QuartTrio

from api.app import create_app
from api.settings import ApiSettings
from api.store import Actor, Store
from api.store.keys import create_key, delete_key
from tests.api.client import SECRET_KEY, Api

AGENT = {"name": "one"}


@pytest.fixture
def store(sqlite_url: str) -> Iterator[Store]:
    """One database is enough: what is asked here hardly reaches it."""
    opened = Store.open(sqlite_url, secret_keys=(SECRET_KEY,))
    yield opened
    opened.close()


def key(store: Store, *scopes: str, expires_at_ms: int | None = None) -> str:
    return store.run(create_key, True, Actor("test"), "k", scopes, expires_at_ms)[1]  # type: ignore[arg-type]


# --- keys -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer x", "Basic eDp5", "Bearer rtk_" + "0" * 24 + "_" + "x" * 43],
)
async def test_no_valid_key_is_401(api: Api, authorization: str) -> None:
    answer = await api.ask("GET", "/v1/agents", headers={"Authorization": authorization})
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_expired_and_revoked_keys_are_401(api: Api, store: Store) -> None:
    expired = key(store, "admin", expires_at_ms=1)
    assert (await api.with_token(expired).ask("GET", "/v1/agents")).status == 401
    revoked = key(store, "admin")
    assert (await api.with_token(revoked).ask("GET", "/v1/agents")).status == 200
    store.run(delete_key, True, Actor("test"), revoked.rpartition("_")[0][:28])
    assert (await api.with_token(revoked).ask("GET", "/v1/agents")).status == 401


async def test_a_key_may_do_what_its_scopes_name(api: Api, store: Store) -> None:
    reader, writer = api.with_token(key(store, "read")), api.with_token(key(store, "write"))
    refused = await reader.ask("POST", "/v1/agents", AGENT)
    assert refused.status == 403
    assert "scope write" in refused.problem.detail
    assert (await writer.ask("POST", "/v1/agents", AGENT)).status == 201
    assert (await writer.ask("GET", "/v1/agents")).status == 403
    assert (await reader.ask("GET", "/v1/agents")).status == 200
    assert (await reader.ask("GET", "/v1/keys")).status == 403
    assert (await api.with_token(key(store, "admin")).ask("GET", "/v1/agents")).status == 200


async def test_a_key_that_asks_too_often_waits(store: Store) -> None:
    settings = ApiSettings(requests_per_s=0.5, requests_burst=2)
    app = create_app(store, settings, agent_for=lambda plan: pytest.fail("no agent is needed"))
    api = Api(app.test_client(), key(store, "read"))
    statuses = [(await api.ask("GET", "/v1/agents")).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = await api.ask("GET", "/v1/agents")
    assert answer.headers["Retry-After"] == "2"
    assert "in 2 s" in answer.problem.detail
    other = api.with_token(key(store, "read"))
    assert (await other.ask("GET", "/v1/agents")).status == 200


# --- addresses and methods --------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/agents/",
        "/v1/agents/../keys",
        "/v1/agents/%2e%2e%2fkeys",
        "/v1/agents/agt_%00",
        "/v1/agents/agt_" + "g" * 24,
        "/v1/agents/agt_" + "0" * 24,
        "/v1/agents/agt_" + "0" * 24 + "/versions/0",
        "/v1/agents/agt_" + "0" * 24 + "/versions/99999999999",
        "/docs/../../etc/passwd",
        "/static/docs.js",
    ],
)
async def test_what_is_not_there_is_404(api: Api, path: str) -> None:
    assert (await api.ask("GET", path)).status == 404


async def test_a_wrong_method_is_405_and_says_which_are_right(api: Api) -> None:
    answer = await api.ask("PUT", "/v1/agents")
    assert answer.status == 405
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


async def test_request_ids_are_taken_over_unless_they_are_odd(api: Api) -> None:
    answer = await api.ask("GET", "/healthz", headers={"X-Request-ID": "trace-1"})
    assert answer.headers["X-Request-ID"] == "trace-1"
    answer = await api.ask("GET", "/healthz", headers={"X-Request-ID": "a b<script>"})
    assert answer.headers["X-Request-ID"] != "a b<script>"


async def test_no_other_origin_is_let_in(api: Api) -> None:
    answer = await api.ask("GET", "/v1/agents", headers={"Origin": "https://evil.example"})
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]


# --- bodies -----------------------------------------------------------------------------

BAD_JSON = [b"", b"{", b'{"name": "\xff"}', b'{"name": "\\ud800"}', b"[" * 100_000, b"nul", b"\x00"]


@pytest.mark.parametrize("body", BAD_JSON)
async def test_a_body_that_is_not_json_is_400(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await api.ask("POST", "/v1/agents", data=body, headers=headers)
    assert answer.status == 400
    assert "not JSON" in answer.problem.detail


WRONG: list[tuple[object, str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": 1}, "name"),
    ({"name": None}, "name"),
    ({"name": "x" * 201}, "name"),
    ({"name": "a\0b"}, "name"),
    ({"name": "x", "colour": 1}, "colour"),
    ({"name": "x", "phrases": ["a", 1]}, "phrases[1]"),
    ({"name": "x", "idle": {"reminders": [], "x": 1}}, "idle.x"),
    ({"name": "x", "function_ids": ["fn_1"]}, "function_ids[0]"),
    ({"name": "x", "llm": [{"provider": "../x"}]}, "llm[0].provider"),
    (
        {"name": "x", "llm": [{"provider": "x", "options": {"a": {"b": "\0"}}}]},
        "llm[0].options.a.b",
    ),
    ({"name": "x", "llm": [{"provider": "x", "secret": "ghost"}]}, "llm[0].secret"),
    ({"name": "x", "llm": [{"provider": "x\n"}]}, "llm[0].provider"),
    ({"name": "x", "overflow_to": "+14155550111\n"}, "overflow_to"),
    ({"name": "x", "listening": {"dial": "14155550111\n"}}, "listening.dial"),
    ({"name": "x", "turn": {"zest": 1}}, "turn.zest"),
    ({"name": "x", "turn": {"idle_ms": "soon"}}, "turn.idle_ms"),
    (
        {"name": "x", "transfer_targets": {"desk": {"to": "4155"}, "a b": {}}},
        "transfer_targets.a b",
    ),
    (
        {"name": "x", "transfer_targets": {"a": {"to": "14155550111"}, "b": {"to": "x"}}},
        "transfer_targets.b.to",
    ),
    ({"name": "x", "colleagues": {"c": {"what_for": "x"}}}, "colleagues.c.agent_id"),
    ([], ""),
    ("x", ""),
    (1e300, ""),
]


@pytest.mark.parametrize(
    ("body", "field"),
    [(b'{"name": "x", "prompt": 1e999}', "prompt"), (b'{"name": 1e999}', "name")],
)
async def test_a_number_that_no_computer_holds_is_told_by_its_field(
    api: Api, body: bytes, field: str
) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await api.ask("POST", "/v1/agents", data=body, headers=headers)
    assert (answer.status, answer.fields) == (422, [field])


@pytest.mark.parametrize(("body", "field"), WRONG)
async def test_a_wrong_field_is_422_by_name_and_nothing_is_stored(
    api: Api, body: object, field: str
) -> None:
    answer = await api.ask("POST", "/v1/agents", body)
    assert answer.status == 422
    assert answer.fields == [field]
    assert (await api.ask("GET", "/v1/agents")).json["total"] == 0


async def test_a_body_of_another_type_is_415(api: Api) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": content_type}
        answer = await api.ask("POST", "/v1/agents", data=b"{}", headers=headers)
        assert answer.status == 415


async def test_a_huge_body_is_413(api: Api, settings: ApiSettings) -> None:
    big = {"name": "x", "prompt": "a" * settings.body_max_bytes}
    assert (await api.ask("POST", "/v1/agents", big)).status == 413


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("offset=99999999999999999999", "offset"),
        ("limit=1&limit=2", "limit"),
        ("colour=red", "colour"),
        ("name=%00", "name"),
    ],
)
async def test_a_wrong_parameter_is_422_by_name(api: Api, query: str, field: str) -> None:
    answer = await api.ask("GET", f"/v1/agents?{query}")
    assert answer.status == 422
    assert answer.fields == [field]


# --- conditions and repeats -------------------------------------------------------------


async def test_changes_need_the_revision_they_change(api: Api) -> None:
    created = await api.ask("POST", "/v1/agents", AGENT)
    path, tag = created.headers["Location"], created.headers["ETag"]
    change = {"prompt": "new"}
    assert (await api.ask("PATCH", path, change)).status == 428
    assert (await api.ask("PATCH", path, change, headers={"If-Match": "x"})).status == 422
    weakened = f"W/{tag}"  # by a proxy that compresses
    changed = await api.ask("PATCH", path, change, headers={"If-Match": weakened})
    assert changed.status == 200
    stale = await api.ask("PATCH", path, {"prompt": "lost"}, headers={"If-Match": tag})
    assert stale.status == 412
    assert stale.headers["ETag"] == changed.headers["ETag"]
    assert (await api.ask("DELETE", path, headers={"If-Match": tag})).status == 412
    assert (await api.ask("GET", path)).json["prompt"] == "new"
    assert (await api.ask("PATCH", path, change, headers={"If-Match": "*"})).status == 200
    assert (await api.ask("DELETE", path)).status == 204


async def test_a_request_sent_again_is_not_done_again(api: Api, store: Store) -> None:
    again = {"Idempotency-Key": "abc"}
    first = await api.ask("POST", "/v1/agents", AGENT, headers=again)
    second = await api.ask("POST", "/v1/agents", AGENT, headers=again)
    assert (second.status, second.body) == (201, first.body)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["ETag"] == first.headers["ETag"]
    other = await api.ask("POST", "/v1/agents", {"name": "two"}, headers=again)
    assert other.status == 422
    assert other.fields == ["Idempotency-Key"]
    stranger = api.with_token(key(store, "write"))
    assert (await stranger.ask("POST", "/v1/agents", AGENT, headers=again)).json != first.json
    assert (await api.ask("GET", "/v1/agents")).json["total"] == 2


async def test_a_request_that_failed_may_be_sent_again(api: Api) -> None:
    headers = {"Idempotency-Key": "abc"}
    wrong = {"name": "x", "llm": [{"provider": "x", "secret": "later"}]}
    assert (await api.ask("POST", "/v1/agents", wrong, headers=headers)).status == 422
    assert (await api.ask("PUT", "/v1/secrets/later", {"value": "x"})).status == 201
    assert (await api.ask("POST", "/v1/agents", wrong, headers=headers)).status == 201


# --- for whoever runs the node ----------------------------------------------------------


async def test_a_node_says_how_it_is(api: Api, store: Store, settings: ApiSettings) -> None:
    assert (await api.ask("GET", "/healthz")).json == {"status": "ok"}
    assert (await api.ask("GET", "/readyz")).json == {"status": "ready"}
    answers = iter([False])
    app = create_app(store, settings, agent_for=pytest.fail, is_ready=lambda: next(answers))
    answer = await Api(app.test_client(), "").ask("GET", "/readyz")
    assert answer.status == 503


async def test_a_database_that_is_gone_is_503(tmp_path: object) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/nowhere/x.db")
    app = create_app(store, ApiSettings(), agent_for=pytest.fail)
    api = Api(app.test_client(), "rtk_" + "0" * 24 + "_" + "x" * 43)
    for path in ("/readyz", "/v1/agents"):
        answer = await api.ask("GET", path)
        assert answer.status == 503
        assert "sqlite" not in answer.problem.detail
    assert (await api.ask("GET", "/healthz")).status == 200


async def test_metrics_count_routes_and_need_a_key(api: Api) -> None:
    await api.ask("GET", "/v1/agents")
    await api.ask("GET", "/v1/made-up-" + "x" * 50)
    text = (await api.ask("GET", "/metrics")).body.decode()
    assert 'rtcore_api_requests_total{method="GET",route="/v1/agents",status="200"} 1.0' in text
    assert "made-up" not in text
    assert (await api.ask("GET", "/metrics", headers={"Authorization": ""})).status == 401


async def test_a_fault_of_ours_is_a_problem_that_tells_nothing(
    app: QuartTrio, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> str:
        raise RuntimeError("secret detail")

    app.view_functions["health.healthz"] = broken
    answer = await api.ask("GET", "/healthz")
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_pages_link_to_the_next(api: Api) -> None:
    for number in range(3):
        await api.create("/v1/agents", {"name": f"agent {number}"})
    page = (await api.ask("GET", "/v1/agents?limit=2")).json
    assert (len(page["items"]), page["total"], page["next_offset"]) == (2, 3, 2)
    page = (await api.ask("GET", "/v1/agents?limit=2&offset=2")).json
    assert (len(page["items"]), page["next_offset"]) == (1, None)
    assert (await api.ask("GET", "/v1/agents?name=AGENT%201")).json["total"] == 1
