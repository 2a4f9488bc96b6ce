"""Our REST client: against the fake service, and against answers no service should give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest
import trio

from api.plivo.client import (
    OutboundCall,
    PlivoAccount,
    PlivoClient,
    PlivoRefused,
    PlivoUnreachable,
)
from rtcore.errors import LocalProtocolError
from rtcore.testing import FakePlivo, Phone
from rtcore.testing.plivo import Fault

ACCOUNT = PlivoAccount(auth_id="MAFAKE00000000000000", auth_token="secret")
CALL = OutboundCall(
    to="14155550100",
    from_="14155550199",
    answer_url="http://127.0.0.1:9/answer",
    hangup_url="http://127.0.0.1:9/hangup",
    fallback_url="http://127.0.0.1:9/answer",
    ring_url="http://127.0.0.1:9/ring",
    time_limit=60,
)
UUID = "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36"


@asynccontextmanager
async def against(service: FakePlivo) -> AsyncIterator[PlivoClient]:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(service.run)
        fake = service.account
        account = PlivoAccount(auth_id=fake.auth_id, auth_token=fake.auth_token, url=url)
        client = PlivoClient(account)
        with trio.fail_after(10):
            yield client
        await client.aclose()
        nursery.cancel_scope.cancel(reason="test over")


async def answering(
    *answers: httpx.Response | Exception, account: PlivoAccount = ACCOUNT
) -> tuple[PlivoClient, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        given = answers[min(len(asked), len(answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    return PlivoClient(account, transport=httpx.MockTransport(answer)), asked


async def test_calls_are_made_steered_and_ended() -> None:
    service = FakePlivo()
    service.phones["14155550100"] = Phone(ring_s=30)
    async with against(service) as client:
        uuid = await client.make_call(CALL)
        while not service.calls[uuid].is_live:
            await trio.sleep(0.005)
        await client.send_digits(uuid, "12#")
        assert service.calls[uuid].keys_heard == "12#"
        assert await client.hang_up(uuid)
        await service.calls[uuid].over.wait()
        assert not await client.hang_up(uuid)  # already over is no error
        assert not await client.cancel(uuid)
        with pytest.raises(PlivoRefused) as refused:
            await client.send_digits(uuid, "1")
        assert refused.value.status == 404


async def test_calls_that_are_over_are_found_by_their_numbers() -> None:
    service = FakePlivo()
    service.phones["14155550100"] = Phone(when_rung="busy")
    async with against(service) as client:
        uuid = await client.make_call(CALL)
        other = await client.make_call(msgspec.structs.replace(CALL, to="14155550101"))
        await service.calls[uuid].over.wait()
        await service.calls[other].over.wait()
        between = {"from_": "+14155550199", "to": "14155550100"}
        (found,) = await client.past_calls(**between, since="2026-01-01 00:00:00")
        assert (found.call_uuid, found.hangup_cause_code) == (uuid, 3010)
        assert found == await client.past_call(uuid)
        assert (found.answer_time, found.end_time is None) == (None, False)
        assert await client.past_calls(**between, since="2999-01-01 00:00:00") == []
        assert await client.past_call(UUID) is None


async def test_numbers_are_bound_to_applications() -> None:
    service = FakePlivo()
    service.rent("14155550199")
    async with against(service) as client:
        urls = {"answer_url": "https://node.example.com/a"}
        for number in range(25):
            app_id = await client.create_application(f"app-{number}", urls)
        found = await client.find_application("app-24")  # on the second page
        assert found is not None
        assert found.app_id == app_id
        assert await client.find_application("app-99") is None
        await client.update_application(app_id, {"hangup_url": "https://node.example.com/h"})
        assert service.applications[app_id].hangup_url == "https://node.example.com/h"
        assert await client.application_of("+14155550199") is None
        await client.assign_number("+14155550199", app_id)
        assert await client.application_of("14155550199") == app_id
        await client.assign_number("14155550199", "")
        assert await client.application_of("14155550199") is None
        assert await client.delete_application(app_id)
        assert not await client.delete_application(app_id)
        with pytest.raises(PlivoRefused, match="404"):
            await client.application_of("14155550000")


async def test_too_many_requests_are_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    client, asked = await answering(
        httpx.Response(429, headers={"Retry-After": "3"}),
        httpx.Response(429),
        httpx.Response(201, json={"request_uuid": [UUID]}),
    )
    assert await client.make_call(CALL) == UUID
    assert len(asked) == 3
    assert 3.0 < trio.current_time() < 4.0
    assert msgspec.json.decode(asked[0].content)["from"] == CALL.from_


@pytest.mark.parametrize("fault", [httpx.Response(503), httpx.ReadTimeout("late")])
async def test_a_call_that_may_have_been_made_is_not_made_again(
    autojump_clock: trio.testing.MockClock, fault: httpx.Response | Exception
) -> None:
    client, asked = await answering(fault)
    with pytest.raises(PlivoUnreachable) as failed:
        await client.make_call(CALL)
    assert failed.value.may_have_happened
    assert len(asked) == 1


async def test_what_can_be_repeated_is(autojump_clock: trio.testing.MockClock) -> None:
    refused = httpx.ConnectError("nobody there")
    client, asked = await answering(refused, httpx.Response(201, json={"request_uuid": UUID}))
    assert await client.make_call(CALL) == UUID
    client, asked = await answering(httpx.Response(500), httpx.Response(204))
    assert await client.hang_up(UUID)
    assert len(asked) == 2
    client, asked = await answering(httpx.Response(500))
    with pytest.raises(PlivoUnreachable):
        await client.hang_up(UUID)
    assert len(asked) == 4


async def test_a_service_that_hangs_costs_the_limit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Hangs(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await trio.sleep_forever()
            raise AssertionError

    client = PlivoClient(ACCOUNT, transport=Hangs())
    with pytest.raises(PlivoUnreachable, match="within 10 s"):
        await client.hang_up(UUID)
    assert trio.current_time() == pytest.approx(10.0)


async def test_a_try_that_is_out_at_the_limit_may_have_been_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class RefusesThenHangs(httpx.AsyncBaseTransport):
        tries = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            self.tries += 1
            if self.tries == 1:
                raise httpx.ConnectError("nobody there")
            await trio.sleep_forever()
            raise AssertionError

    client = PlivoClient(ACCOUNT, transport=RefusesThenHangs())
    with pytest.raises(PlivoUnreachable, match="within 10 s") as failed:
        await client.make_call(CALL)
    assert failed.value.may_have_happened


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"<html>", b"\xff", b'{"request_uuid": ""}', b'{"api_id": 1}']
)
async def test_an_answer_without_a_call_is_no_success(body: bytes) -> None:
    client, _ = await answering(httpx.Response(201, content=body))
    with pytest.raises(PlivoUnreachable):
        await client.make_call(CALL)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.hang_up(""),
        lambda client: client.hang_up("../Application"),
        lambda client: client.cancel(""),
        lambda client: client.transfer("", "https://x.example"),
        lambda client: client.assign_number("", "1"),
    ],
)
async def test_an_empty_id_never_leaves(ask: Callable[[PlivoClient], object]) -> None:
    client, asked = await answering(httpx.Response(204))
    with pytest.raises(LocalProtocolError):
        await ask(client)  # type: ignore[misc] # each is one of its coroutines
    assert asked == []


async def test_the_reason_of_a_refusal_is_told() -> None:
    service = FakePlivo()
    async with against(service) as client:
        with pytest.raises(PlivoRefused, match="to parameter is invalid"):
            await client.make_call(msgspec.structs.replace(CALL, to="nonsense"))
        service.faults.append(Fault(status=400, body=b'{"error": {"to": ["bad"]}}'))
        with pytest.raises(PlivoRefused, match="bad"):
            await client.make_call(CALL)
