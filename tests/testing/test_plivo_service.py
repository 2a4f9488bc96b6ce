"""The fake Plivo, driven by the real SDK: what it answers, calls, signs and remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import plivo
import pytest
import trio
from plivo.exceptions import (
    AuthenticationError,
    PlivoRestError,
    PlivoServerError,
    ResourceNotFoundError,
    ValidationError,
)
from plivo.rest import client as sdk
from plivo.utils import validate_v3_signature

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.node import serve_calls
from rtcore.protocol.plivo_signature import Tokens, upgrade_form_v3
from rtcore.testing import (
    FakePlivo,
    Phone,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
    wait,
    wait_for_agent_quiet,
)
from rtcore.testing.plivo import Fault, PlacedCall
from rtcore.testing.plivo.callbacks import signature_headers
from rtcore.testing.plivo.http import Request, Response, serve_http

LIMIT_S = 30.0  # for what takes milliseconds: a machine that others use may stand still for seconds
OURS, CALLER, OTHER = "14155550199", "14155550100", "14155550111"


class Node:
    """Answers callbacks with documents by path, and keeps what it was asked."""

    def __init__(self, account_token: str) -> None:
        self.documents: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str], bool]] = []
        self.fails: dict[str, int] = {}
        self.url = ""
        self._token = account_token

    async def answer(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        url = self.url + request.path + (f"?{request.query}" if request.query else "")
        is_signed = validate_v3_signature(
            request.method,
            url,
            request.headers["x-plivo-signature-v3-nonce"],
            self._token,
            request.headers["x-plivo-signature-v3"],
            dict(form),
        )
        self.asked.append((request.path, form | request.fields, is_signed))
        if self.fails.get(request.path, 0) > 0:
            self.fails[request.path] -= 1
            return Response(status=500)
        document = self.documents.get(request.path, "")
        return Response(body=document.encode(), content_type="application/xml")

    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


class Bench:
    def __init__(self, service: FakePlivo, node: Node, media: str) -> None:
        self.service, self.node, self.media = service, node, media
        self.client = plivo.RestClient(service.account.auth_id, service.account.auth_token)

    async def sdk(self, work: Callable[[], Any]) -> Any:
        """Run the synchronous SDK in a thread of its own."""
        with trio.fail_after(LIMIT_S):
            return await trio.to_thread.run_sync(work)

    async def bind(self) -> None:
        """Rent a number and let an application answer it."""
        self.service.rent(OURS)
        made = await self.sdk(
            partial(
                self.client.applications.create,
                "desk",
                answer_url=f"{self.node.url}/answer",
                hangup_url=f"{self.node.url}/hangup",
            )
        )
        await self.sdk(partial(self.client.numbers.update, OURS, app_id=made["app_id"]))

    async def over(self, call: PlacedCall) -> None:
        with trio.fail_after(LIMIT_S):
            await call.over.wait()


@asynccontextmanager
async def bench(monkeypatch: pytest.MonkeyPatch, **options: Any) -> AsyncIterator[Bench]:
    service = FakePlivo(**options)
    node = Node(service.account.auth_token)
    agent = Agent(
        AgentDefinition(name="desk", welcome_message="Good day."),
        ScriptedTranscriber(["yes"]),
        ScriptedResponder(["no"]),
        ScriptedSynthesizer(),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        node.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, partial(serve_http, node.answer), listeners)
        port = await nursery.start(serve_calls, agent)
        for name in (
            "PLIVO_API_BASE_URI",
            "API_VOICE_BASE_URI",
            "API_VOICE_BASE_URI_FALLBACK_1",
            "API_VOICE_BASE_URI_FALLBACK_2",
        ):
            monkeypatch.setattr(sdk, name, f"{service.url}/Account")
        made = Bench(service, node, f"ws://127.0.0.1:{port}")
        try:
            yield made
        finally:
            made.client.session.close()
            made.client.multipart_session.close()
            nursery.cancel_scope.cancel(reason="test over")


def stream_document(bench: Bench, then: str = "") -> str:
    return (
        '<Response><Stream bidirectional="true" keepCallAlive="true"'
        f' statusCallbackUrl="{bench.node.url}/status">{bench.media}/m</Stream>{then}</Response>'
    )


async def test_applications_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch) as b:
        apps = b.client.applications
        for number in range(23):
            await b.sdk(partial(apps.create, f"app-{number}", answer_url="https://x.example/a"))
        first = await b.sdk(partial(apps.list, limit=20))
        rest = await b.sdk(partial(apps.list, limit=20, offset=20))
        assert [len(page["objects"]) for page in (first, rest)] == [20, 3]
        assert first["meta"]["total_count"] == 23
        app_id = first["objects"][0]["app_id"]
        await b.sdk(partial(apps.update, app_id, answer_url="https://x.example/b"))
        assert (await b.sdk(partial(apps.get, app_id)))["answer_url"] == "https://x.example/b"
        b.service.rent(f"+{OURS}")
        await b.sdk(partial(b.client.numbers.update, OURS, app_id=app_id))
        shown = await b.sdk(partial(b.client.numbers.get, OURS))
        assert app_id in shown["application"]
        await b.sdk(partial(apps.delete, app_id))
        with pytest.raises(ResourceNotFoundError):
            await b.sdk(partial(apps.get, app_id))
        with pytest.raises(ResourceNotFoundError):
            await b.sdk(partial(b.client.numbers.get, OTHER))
        with pytest.raises(ValidationError):
            await b.sdk(partial(apps.create, "app-7"))


async def test_an_inbound_call_runs_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch) as b:
        await b.bind()
        b.node.documents["/answer"] = stream_document(b)
        hear_out = wait_for_agent_quiet(300, begin_limit_ms=LIMIT_S * 1000)
        call = b.service.ring(CALLER, OURS, Phone(scripts=[[hear_out, hang_up()]]))
        await b.over(call)
        assert call.reports[0].is_answered
        assert call.reports[0].violations == ()
        assert call.hangup is not None
        assert (call.hangup.code, call.hangup_source) == (4000, "Caller")
        assert all(is_signed for _, _, is_signed in b.node.asked)
        kinds = [(path, fields["Event"]) for path, fields, _ in b.node.asked]
        assert kinds[0] == ("/answer", "StartApp")
        assert kinds[-1] == ("/hangup", "Hangup")
        statuses = [event for path, event in kinds if path == "/status"]
        assert statuses[0] == "StartStream"
        assert "PlayedStream" in statuses
        answer = b.node.asked[0][1]
        assert (answer["From"], answer["To"]) == (CALLER, OURS)
        assert answer["Direction"] == "inbound"


async def test_an_outbound_call_is_transferred(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch) as b:
        b.service.phones[CALLER] = Phone(scripts=[[wait(60_000)]])
        b.service.phones[OTHER] = Phone(talk_s=0.01)
        b.node.documents["/answer"] = stream_document(b)
        b.node.documents["/transfer"] = (
            f'<Response><Dial action="{b.node.url}/result">'
            f"<Number>{OTHER}</Number></Dial></Response>"
        )
        b.node.documents["/result"] = "<Response><Hangup/></Response>"
        made = await b.sdk(
            partial(
                b.client.calls.create,
                OURS,
                CALLER,
                f"{b.node.url}/answer",
                ring_url=f"{b.node.url}/ring",
                hangup_url=f"{b.node.url}/hangup",
            )
        )
        call = b.service.calls[made["request_uuid"]]
        with trio.fail_after(LIMIT_S):
            while not call._is_streaming:
                await trio.sleep(0.01)
        live = await b.sdk(b.client.live_calls.list_ids)
        assert live["calls"] == [call.uuid]
        assert (await b.sdk(partial(b.client.live_calls.get, call.uuid)))["direction"] == "outbound"
        await b.sdk(partial(b.client.calls.send_digits, call.uuid, "12#"))
        assert call.keys_heard == "12#"
        await b.sdk(
            partial(
                b.client.calls.update, call.uuid, legs="aleg", aleg_url=f"{b.node.url}/transfer"
            )
        )
        await b.over(call)
        assert call.dialled == [OTHER]
        paths = [path for path in b.node.paths() if path != "/status"]
        assert paths == ["/ring", "/answer", "/transfer", "/result", "/hangup"]
        assert b.node.asked[-1][1]["HangupSource"] == "Answer XML"
        with pytest.raises(ResourceNotFoundError):
            await b.sdk(partial(b.client.calls.delete, call.uuid))


@pytest.mark.parametrize(
    ("phone", "status", "code"),
    [
        (Phone(when_rung="busy"), "busy", "3010"),
        (Phone(when_rung="reject"), "failed", "3020"),
        (Phone(when_rung="ignore"), "no-answer", "3000"),
        (Phone(is_machine=True), "completed", "9100"),
    ],
)
async def test_a_call_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, phone: Phone, status: str, code: str
) -> None:
    async with bench(monkeypatch, scale=0.001) as b:
        b.service.phones[CALLER] = phone
        made = await b.sdk(
            partial(
                b.client.calls.create,
                OURS,
                CALLER,
                f"{b.node.url}/answer",
                hangup_url=f"{b.node.url}/hangup",
                machine_detection="hangup",
            )
        )
        await b.over(b.service.calls[made["request_uuid"]])
        assert b.node.paths() == ["/hangup"]
        fields = b.node.asked[0][1]
        assert (fields["CallStatus"], fields["HangupCauseCode"]) == (status, code)


async def test_what_a_document_can_do_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch) as b:
        await b.bind()
        for document, code in (
            ("", 7011),
            ("<Response><Say>Hi</Say></Response>", 8011),
            ("<Respo", 8011),
            ('<Response><Hangup reason="busy"/></Response>', 3010),
            ("<Response><Speak>Bye</Speak></Response>", 4010),
        ):
            b.node.documents["/answer"] = document
            call = b.service.ring(CALLER, OURS, Phone())
            await b.over(call)
            assert call.hangup is not None
            assert call.hangup.code == code, document
        b.node.fails["/answer"] = 2  # tried again
        call = b.service.ring(CALLER, OURS, Phone())
        await b.over(call)
        assert call.hangup is not None
        assert call.hangup.code == 4010


async def test_a_stream_that_cannot_open_lets_the_document_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bench(monkeypatch) as b:
        await b.bind()
        b.media = "ws://127.0.0.1:9"
        redirect = f"<Redirect>{b.node.url}/after</Redirect>"
        b.node.documents["/answer"] = stream_document(b, redirect)
        b.node.documents["/after"] = "<Response><Hangup/></Response>"
        await b.over(b.service.ring(CALLER, OURS, Phone()))
        assert b.node.paths() == ["/answer", "/status", "/after", "/hangup"]
        assert b.node.asked[1][1]["Event"] == "DroppedStream"


async def test_limits_and_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch, requests_max=3) as b:
        wrong = plivo.RestClient(b.service.account.auth_id, "nothing")
        with pytest.raises(AuthenticationError):
            await b.sdk(partial(wrong.applications.get, "1"))
        wrong.session.close()
        wrong.multipart_session.close()
        b.service.faults += [Fault(status=500)] * 3  # the SDK tries twice more
        with pytest.raises(PlivoServerError):
            await b.sdk(partial(b.client.applications.get, "1"))
        with pytest.raises(ResourceNotFoundError):
            await b.sdk(partial(b.client.applications.get, "1"))
        await b.sdk(b.client.applications.list)
        with pytest.raises(PlivoRestError, match="429"):
            await b.sdk(partial(b.client.applications.get, "1"))


async def test_outbound_calls_start_at_the_accounts_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(monkeypatch, calls_per_s=20) as b:
        b.service.phones[CALLER] = Phone(when_rung="busy")
        began_s = trio.current_time()
        destinations = "<".join([CALLER] * 3)
        made = await b.sdk(
            partial(b.client.calls.create, OURS, destinations, f"{b.node.url}/answer")
        )
        assert len(made["request_uuid"]) == 3
        for uuid in made["request_uuid"]:
            await b.over(b.service.calls[uuid])
        assert trio.current_time() - began_s > 0.1


def test_the_upgrade_is_signed_in_the_form_of_live_calls() -> None:
    account = FakePlivo().account
    headers = signature_headers(account, "GET", "http://node.example.com/plivo/media/t", {})
    url = "wss://node.example.com/plivo/media/t?x=1"
    assert upgrade_form_v3(url, headers, Tokens(account=(account.auth_token,))) == "http"
    assert urlsplit(url).query
