"""The carrier's callbacks: unsigned, twice, late, in other words, and when there is no room."""

from __future__ import annotations

import re
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree

import httpx
import pytest
import trio

from api.agents import SharedProviders
from api.calls.deciding import STREAMS_MAX, call_ended, what_next
from api.calls.records import CallPlan, StoredCall, Transfer
from api.store import Store
from rtcore.media import fast
from rtcore.media.handshake import UpgradeRefused
from rtcore.media.limits import SocketLimits
from rtcore.node import NodeConfig
from rtcore.protocol.plivo_signature import sign_v3
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from rtcore.testing.plivo import Fault
from tests.api.telephone import ASKS, CALLER, OURS, Node, serving

UUID = "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"
NONCES = count(1)


async def tell(
    node: Node,
    path: str,
    method: str = "POST",
    *,
    token: str | None = None,
    nonce: str = "",
    **fields: str,
) -> httpx.Response:
    """Tell the node something as the carrier would, signed with ``token``."""
    url = node.url + path
    token = node.plivo.account.auth_token if token is None else token
    if method == "GET":
        url += ("&" if "?" in url else "?") + urlencode(fields)
    nonce = nonce or str(next(NONCES))
    headers = {"X-Plivo-Signature-V3-Nonce": nonce}
    if token:
        form = () if method == "GET" else fields.items()
        headers["X-Plivo-Signature-V3"] = sign_v3(token, method, url, nonce, form)
    data = None if method == "GET" else fields
    return await node.http.request(method, url, data=data, headers=headers)


def started(uuid: str = UUID, **fields: str) -> dict[str, str]:
    return {
        "CallUUID": uuid,
        "From": CALLER,
        "To": OURS,
        "Direction": "inbound",
        "CallStatus": "ringing",
        "Event": "StartApp",
        "CallerName": "+Anné & Co",
        **fields,
    }


def verbs(response: httpx.Response) -> list[str]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/xml"
    return [element.tag for element in ElementTree.fromstring(response.content)]


def media_path(response: httpx.Response) -> str:
    found = re.search(r"ws://[^<]+?(/plivo/media/[^<]+)<", response.text)
    assert found is not None
    return found[1]


async def open_stream(node: Node, path: str, nursery: trio.Nursery) -> fast.FastSocket:
    port = int(node.url.rpartition(":")[2])
    nonce = str(next(NONCES))
    signed = sign_v3(node.plivo.account.auth_token, "GET", f"{node.url}{path}", nonce)
    headers = [("X-Plivo-Signature-V3", signed), ("X-Plivo-Signature-V3-Nonce", nonce)]
    return await fast.connect("127.0.0.1", port, path, SocketLimits(), nursery, headers)


async def calls(node: Node) -> list[dict[str, Any]]:
    return list((await node.ask("GET", "/v1/calls"))["items"])


async def metric(node: Node, name: str, **labels: str) -> float:
    return node.line._own.registry.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_is_a_stream_with_a_way_back(sqlite_url: str, method: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        answer = await tell(node, f"/plivo/answer/{agent_id}", method, **started())
        assert verbs(answer) == ["Stream", "Redirect"]
        stream, redirect = ElementTree.fromstring(answer.content)
        (call,) = await calls(node)
        assert redirect.text == f"{node.url}/plivo/after/{call['id']}"
        assert stream.get("statusCallbackUrl") == f"{node.url}/plivo/stream-status"
        assert stream.get("keepCallAlive") == stream.get("bidirectional") == "true"
        assert (call["state"], call["carrier_id"], call["from"]) == ("in_progress", UUID, CALLER)


async def test_nobody_else_may_tell_us_anything(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        path = f"/plivo/answer/{agent_id}"
        for token in ("", "another-token"):
            refused = await tell(node, path, token=token, **started())
            assert refused.status_code == 403
        forged = sign_v3(node.plivo.account.auth_token, "POST", node.url + path, "1", {}.items())
        headers = {"X-Plivo-Signature-V3": forged, "X-Plivo-Signature-V3-Nonce": "1"}
        changed = await node.http.post(path, data=started(), headers=headers)
        assert changed.status_code == 403
        assert (await node.http.post(f"{path}?call=x", headers=headers)).status_code == 403
        assert await calls(node) == []
        labels = {"route": "answer", "outcome": "unsigned"}
        assert await metric(node, "rtcore_plivo_callbacks_total", **labels) == 4
        huge = await node.http.post(path, content=b"a" * 100_000)
        assert huge.status_code == 413


async def test_what_is_told_twice_happens_once(store: Store) -> None:
    async with serving(store.engine.url.render_as_string(hide_password=False)) as node:
        agent_id = await node.agent()
        path = f"/plivo/answer/{agent_id}"
        first = await tell(node, path, nonce="same", **started())
        again = await tell(node, path, nonce="same", **started())
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(partial(tell, node, path, **started()))
        assert len(await calls(node)) == 1
        labels = {"route": "answer", "outcome": "repeated"}
        assert await metric(node, "rtcore_plivo_callbacks_total", **labels) == 1
        async with trio.open_nursery() as nursery:  # the tokens differ, but open one stream
            socket = await open_stream(node, media_path(first), nursery)
            with pytest.raises(UpgradeRefused) as refused:
                await open_stream(node, media_path(again), nursery)
            assert refused.value.status == 403
            await socket.aclose()
            nursery.cancel_scope.cancel()
        for _ in range(2):
            over = {"Event": "Hangup", "CallStatus": "completed", "HangupCauseCode": "4000"}
            told = await tell(node, f"/plivo/hangup/{agent_id}", **{**started(), **over})
            assert told.status_code == 200
        (call,) = await calls(node)
        late = await tell(node, path, **started())  # the answer's duplicate after the end
        assert verbs(late) == ["Hangup"]
        assert await calls(node) == [call]
        assert (call["state"], call["hangup"]["code"]) == ("completed", 4000)


async def test_a_token_is_for_one_stream_of_one_call(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        answer = await tell(node, f"/plivo/answer/{agent_id}", **started())
        path = media_path(answer)
        async with trio.open_nursery() as nursery:
            for wrong in (path[:-2] + "xx", "/plivo/media/x", "/plivo/media/"):
                with pytest.raises(UpgradeRefused):
                    await open_stream(node, wrong, nursery)
            socket = await open_stream(node, path, nursery)
            await socket.aclose()
            with pytest.raises(UpgradeRefused):
                await open_stream(node, path, nursery)
            nursery.cancel_scope.cancel()
        over = {"Event": "Hangup", "CallStatus": "completed"}
        other = await tell(node, f"/plivo/answer/{agent_id}", **started("another-call-uuid"))
        await tell(node, f"/plivo/hangup/{agent_id}", **{**started("another-call-uuid"), **over})
        async with trio.open_nursery() as nursery:
            with pytest.raises(UpgradeRefused):  # its call is over
                await open_stream(node, media_path(other), nursery)


async def test_the_end_may_be_told_to_the_answer_url(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        await tell(node, f"/plivo/answer/{agent_id}", **started())
        over = {"Event": "Hangup", "CallStatus": "completed", "HangupSource": "Caller"}
        await tell(node, f"/plivo/answer/{agent_id}", **{**started(), **over})
        (call,) = await calls(node)
        assert (call["state"], call["hangup"]["source"]) == ("completed", "Caller")
        # of a call we never knew, there is nothing to remember
        await tell(node, f"/plivo/answer/{agent_id}", **{**started("unknown-uuid-1"), **over})
        assert await calls(node) == [call]


async def test_without_room_the_line_is_busy(sqlite_url: str) -> None:
    plivo = FakePlivo()
    async with serving(
        sqlite_url, config=NodeConfig(calls_max=1, lag_max_ms=10_000, drain_s=1), plivo=plivo
    ) as node:
        await node.bound()
        first = plivo.ring(CALLER, OURS, Phone(scripts=[[wait(20_000)]]))
        await node.until(lambda: node.line.live)
        second = plivo.ring("14155550101", OURS, Phone(scripts=[[wait(20_000)]]))
        await node.until(second.over.is_set)
        assert second.hangup is not None
        assert second.hangup.code == 3010
        assert second.reports == []
        first.hang_up()
        await node.until(first.over.is_set)
        assert len(await calls(node)) == 1


async def test_an_agent_that_is_gone_rejects(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        answer = await tell(node, "/plivo/answer/agt_" + "0" * 24, **started())
        assert verbs(answer) == ["Hangup"]
        assert b'reason="rejected"' in answer.content
        assert (await tell(node, "/plivo/answer/nonsense", **started())).status_code == 404
        agent_id = await node.agent()
        missing = await tell(node, f"/plivo/answer/{agent_id}", Event="StartApp")
        assert missing.status_code == 422
        last = await tell(node, f"/plivo/fallback/{agent_id}", **started())
        assert verbs(last) == ["Speak", "Hangup"]


@pytest.mark.parametrize(
    "odd",
    ["\0", "a\0b", "é", "\ud800", "<x>&amp;", "'; DROP TABLE calls;--", "{caller}", "9" * 9000],
)
async def test_odd_numbers_are_only_odd(store: Store, odd: str) -> None:
    async with serving(store.engine.url.render_as_string(hide_password=False)) as node:
        agent_id = await node.agent()
        body = urlencode({**started(), "From": odd}, errors="surrogatepass").encode()
        url = f"{node.url}/plivo/answer/{agent_id}"
        form = parse_qsl(body.decode(), keep_blank_values=True)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Plivo-Signature-V3": sign_v3(node.plivo.account.auth_token, "POST", url, "n", form),
            "X-Plivo-Signature-V3-Nonce": "n",
        }
        answer = await node.http.post(url, content=body, headers=headers)
        assert verbs(answer) == ["Stream", "Redirect"]
        (call,) = await calls(node)
        assert len(call["from"]) <= 500
        raw = await node.http.post(url, content=b"From=\xff\xfe&=&&%%%00", headers=headers)
        assert raw.status_code == 403


@pytest.mark.parametrize("event", ["StartStream", "started", "DroppedStream", "failed", "", "New"])
async def test_stream_status_is_heard_in_any_words(sqlite_url: str, event: str) -> None:
    async with serving(sqlite_url) as node:
        fields = {"CallUUID": UUID, "StreamID": "s", "Event": event, "Error": ""}
        assert (await tell(node, "/plivo/stream-status", **fields)).status_code == 200
        assert (await tell(node, "/plivo/stream-status", "GET", **fields)).status_code == 200
        url = f"{node.url}/plivo/stream-status"
        headers = {
            "X-Plivo-Signature-V3": sign_v3(node.plivo.account.auth_token, "POST", url, "j"),
            "X-Plivo-Signature-V3-Nonce": "j",
        }
        for body in (fields, [], {"Event": 1}, None):
            assert (await node.http.post(url, json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("policy", ["leave_message", "continue", "hang_up"])
async def test_a_machine_is_dealt_with_as_asked(sqlite_url: str, policy: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent()
        node.plivo.phones[CALLER] = Phone(is_machine=True, scripts=[[wait(6_000), hang_up()]])
        body = {
            "to": CALLER,
            "from": OURS,
            "agent_id": agent_id,
            "machine_detection": policy,
            "machine_message": "Please call us back.",
        }
        made = await node.ask("POST", "/v1/calls", body, 201)
        (call,) = node.plivo.calls.values()
        if policy == "continue":
            await node.until(lambda: node.line.live)
            await node.ask("POST", f"/v1/calls/{made['id']}/hangup", None, 202)
        await node.until(call.over.is_set)
        shown = await node.ask("GET", f"/v1/calls/{made['id']}")
        assert shown["is_machine"]
        assert shown["state"] == "completed"
        await node.line.keeper.flush()
        said = (await node.ask("GET", f"/v1/calls/{made['id']}/transcript"))["items"]
        assert ("Please call us back." in [line["text"] for line in said]) == (
            policy == "leave_message"
        )


async def test_a_node_that_fails_the_call_gets_it_again(sqlite_url: str) -> None:
    """A stream that broke, while the caller is still there, is opened anew and goes on."""
    async with serving(sqlite_url) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[*ASKS, wait(20_000)]] * 2))
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        await node.until(lambda: len(held.call.conversation.log) == 3)
        held.call.end("cancelled")  # as a process that is told to stop does
        again = await node.until(
            lambda: (now := node.line.live.get(held.call_id)) and now is not held and now
        )
        assert "We open at nine." in again.call.conversation.system
        assert again.number == 2
        call.hang_up()
        await node.until(call.over.is_set)


async def test_what_the_carrier_does_not_do_is_told(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.bound()
        node.plivo.faults.append(Fault(status=400, body=b'{"error": "no such destination"}'))
        body = {"to": CALLER, "from": OURS, "agent_id": agent_id}
        problem = await node.ask("POST", "/v1/calls", body, 422)
        assert "no such destination" in problem["detail"]
        assert [call["state"] for call in await calls(node)] == ["failed"]
        node.plivo.faults.append(Fault(status=503))
        await node.ask("POST", "/v1/calls", body, 504)
        states = sorted(call["state"] for call in await calls(node))
        assert states == ["failed", "queued"]  # nobody knows what became of the second
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(20_000)]]))
        await node.until(lambda: node.line.live)
        (held,) = node.line.live.values()
        node.plivo.faults.append(Fault(status=403, body=b'{"error": "not allowed"}'))
        transfer = {"to": "+14155550111"}
        path = f"/v1/calls/{held.call_id}"
        await node.ask("POST", f"{path}/transfer", transfer, 502)
        assert not held.call.ended_by  # the agent goes on
        assert (await node.ask("GET", path))["transfer"] is None
        call.hang_up()
        await node.until(call.over.is_set)
        await node.ask("POST", f"{path}/transfer", transfer, 409)
        await node.ask("POST", f"{path}/say", {"text": "Hello?"}, 409)


# --- what is decided, without anybody ---------------------------------------------------

TRANSFER = Transfer(to="1", ring_timeout_s=5, caller_id="2", take_back_line="Back.")


def stored(**changes: Any) -> StoredCall:
    values = {
        "id": "call_" + "0" * 24,
        "direction": "inbound",
        "agent_id": "agt_" + "0" * 24,
        "agent_version": 1,
        "from_number": CALLER,
        "to_number": OURS,
        "state": "in_progress",
        "carrier_id": UUID,
        "request_id": None,
        "plan": CallPlan(),
        "is_machine": False,
        "transfer": None,
        "media_nonce": None,
        "streams": 1,
        "ended": None,
        "created_at_ms": 0,
        "answered_at_ms": 0,
        "ended_at_ms": None,
    }
    return StoredCall(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "ended_by", "following"),
    [
        ({}, "agent_hung_up", "hang_up"),
        ({}, "providers_failed", "hang_up"),
        ({}, "call_limit", "hang_up"),
        ({}, "api", "hang_up"),
        ({}, "", "stream"),
        ({}, "hung_up", "stream"),
        ({}, "cancelled", "stream"),
        ({"streams": STREAMS_MAX}, "", "hang_up"),
        ({"transfer": TRANSFER}, "transferred", "dial"),
        ({"transfer": TRANSFER}, "agent_hung_up", "dial"),
        ({"ended_at_ms": 5, "transfer": TRANSFER}, "transferred", "hang_up"),
    ],
)
def test_what_follows_a_stream(changes: dict[str, Any], ended_by: str, following: str) -> None:
    assert what_next(stored(**changes), ended_by) == following


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("completed", "completed"),
        ("busy", "busy"),
        ("no-answer", "no_answer"),
        ("timeout", "no_answer"),
        ("failed", "failed"),
        ("cancel", "cancelled"),
        ("something new", "completed"),
    ],
)
def test_the_carriers_words_for_an_end(status: str, state: str) -> None:
    ended = call_ended({"CallStatus": status, "HangupCauseCode": "٣", "BillDuration": "60"})
    assert (ended.state, ended.code, ended.billed_s) == (state, None, 60)


async def test_an_agent_that_cannot_be_used_says_so_at_once(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(sqlite_url) as node:
        agent_id = await node.agent(tts=[{"provider": "openai", "options": {"nonsense": 1}}])
        answer = await tell(node, f"/plivo/answer/{agent_id}", **started())
        path = media_path(answer)
        monkeypatch.setattr(node, "agent_for", SharedProviders({"OPENAI_API_KEY": "sk-test"}))
        async with trio.open_nursery() as nursery:
            with pytest.raises(UpgradeRefused) as refused:
                await open_stream(node, path, nursery)
            assert refused.value.status == 403
        late = await tell(node, f"/plivo/answer/{agent_id}", **started("another-call-uuid"))
        assert verbs(late) == ["Speak", "Hangup"]
        for found_at in ("media", "answer"):
            name = "rtcore_calls_without_agent_total"
            assert await metric(node, name, found_at=found_at) == 1
        assert node.line.node.stats.failed == 0

        wanted = {"agent_id": agent_id, "from": OURS, "to": CALLER}
        problem = await node.ask("POST", "/v1/calls", wanted, 422)
        assert "stt" in problem["detail"]
        assert problem["errors"][0]["field"] == "agent_id"
        chat = await node.ask("POST", f"/v1/agents/{agent_id}/chat", {"message": "Hello"}, 409)
        assert agent_id in chat["detail"]
        assert len(await calls(node)) == 2


async def test_a_call_does_not_go_on_with_an_agent_that_cannot_be_used(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(sqlite_url) as node:
        await node.bound()
        other = await node.agent(name="other")
        talks = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(20_000)]]))
        (call_id,) = await node.until(lambda: tuple(node.line.live))
        monkeypatch.setattr(node, "agent_for", SharedProviders({}))
        await node.ask("POST", f"/v1/calls/{call_id}/agent", {"agent_id": other}, 409)
        assert node.line.live[call_id].call.agent.definition.name == "desk"
        talks.hang_up()
        await node.until(talks.over.is_set)
