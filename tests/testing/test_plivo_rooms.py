"""Conference rooms and keys of the fake Plivo, as its documents describe them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import pytest
import trio

from rtcore.testing import FakePlivo, Phone
from rtcore.testing.plivo import Callback, PlacedCall
from rtcore.testing.plivo.http import Request, Response, serve_http
from rtcore.testing.plivo.rooms import Rooms

OURS = "14155550199"
ROOM = "<Conference {}>lobby</Conference>"


@asynccontextmanager
async def answering(
    first: str, after: str = "<Response><Hangup/></Response>"
) -> AsyncIterator[tuple[FakePlivo, list[dict[str, str]]]]:
    """A Plivo whose calls get the document ``first``, and ``after`` from where an action asks."""
    asked: list[dict[str, str]] = []
    plivo = FakePlivo()

    async def answer(request: Request) -> Response:
        fields = dict(parse_qsl(request.body.decode()))
        if request.path == "/next":
            asked.append(fields)
        text = first if request.path == "/answer" else after
        return Response(body=text.encode(), content_type="application/xml")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, lambda s: serve_http(answer, s), [listener])
        await nursery.start(plivo.run)
        first = first.replace("URL", f"{url}/next")
        plivo.rent(OURS)
        status, made = plivo._create_app({"app_name": "a", "answer_url": f"{url}/answer"})
        assert status == 201
        plivo._change_number({"app_id": made["app_id"]}, OURS)
        with trio.fail_after(30):
            yield plivo, asked
        nursery.cancel_scope.cancel()


async def ended(*calls: PlacedCall) -> None:
    for call in calls:
        await call.over.wait()


def told(plivo: FakePlivo, kind: str) -> list[Callback]:
    return [made for made in plivo.callbacks.made if made.kind == kind]


@pytest.mark.parametrize(
    ("keys", "heard", "digits"),
    [
        (["1"], 1, "1"),
        (["9", "2"], 2, "2"),  # asked again after a key that may not be pressed
        ([], 2, None),  # nobody presses: what follows runs
    ],
)
async def test_keys_are_asked_for(keys: list[str], heard: int, digits: str | None) -> None:
    question = (
        '<Response><GetDigits action="URL" numDigits="1" validDigits="12" retries="2" timeout="1">'
        "<Speak>Press one.</Speak></GetDigits><Speak>Nothing?</Speak></Response>"
    )
    async with answering(question) as (plivo, asked):
        call = plivo.ring("14155550100", OURS, Phone(keys=keys))
        await ended(call)
        assert call.spoken[:heard] == ["Press one."] * heard
        assert [fields["Digits"] for fields in asked] == ([] if digits is None else [digits])
        assert ("Nothing?" in call.spoken) == (digits is None)


async def test_a_room_is_over_with_whoever_ends_it() -> None:
    ends = 'endConferenceOnExit="true" action="URL"'
    async with answering(f"<Response>{ROOM.format(ends)}</Response>") as (plivo, asked):
        stays = plivo.ring("14155550100", OURS, Phone(talk_s=1000))
        await trio.sleep(0.05)
        goes = plivo.ring("14155550101", OURS, Phone(talk_s=0.05))
        await ended(stays, goes)
        (room,) = plivo.rooms.held
        assert room.met == {stays.uuid, goes.uuid}
        assert goes.hangup is not None
        assert goes.hangup.code == 4000  # hung up
        assert [fields["CallUUID"] for fields in asked] == [stays.uuid]  # what next, for who stays
        assert asked[0]["ConferenceName"] == "lobby"


async def test_one_who_is_alone_waits() -> None:
    tells = ROOM.format('callbackUrl="URL" timeLimit="3"')
    async with answering(f"<Response>{tells}</Response>") as (plivo, asked):
        call = plivo.ring("14155550100", OURS, Phone(talk_s=0))
        await ended(call)
        assert call.hangup is not None
        assert call.hangup.code == 4010  # the time limit, and the end of the document
        assert sorted(fields["ConferenceAction"] for fields in asked) == ["enter", "exit"]
        assert len(told(plivo, "conference")) == 2
        assert plivo.rooms.held[0].met == set()


def test_a_name_that_is_free_again_begins_a_new_room() -> None:
    rooms = Rooms()
    first = rooms.enter("lobby", "a")
    rooms.leave(first, "a", ends=False)
    second = rooms.enter("lobby", "b")
    assert second is not first
    assert rooms.enter("lobby", "c") is second
    assert second.met == {"b", "c"}
    rooms.leave(second, "b", ends=True)
    assert second.is_over.is_set()
    assert rooms.enter("lobby", "d") is not second
