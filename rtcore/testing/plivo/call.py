"""One call as the service runs it: ring, answer document, its elements, hangup callback."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit
from xml.etree import ElementTree

import msgspec
import trio

from rtcore.errors import RemoteProtocolError
from rtcore.media import fast
from rtcore.media.limits import SocketLimits
from rtcore.testing.carrier import FakeCarrier
from rtcore.testing.plivo.callbacks import Callbacks, Fields, signature_headers
from rtcore.testing.plivo.model import (
    HANGUPS,
    Account,
    Hangup,
    HangupName,
    Phone,
    normal_number,
)
from rtcore.testing.plivo.rooms import Room, Rooms
from rtcore.testing.report import CarrierEvent, CarrierReport

__all__ = ["CallOrder", "PlacedCall", "Target"]

TRANSFER_WAIT_S = 2.0  # a stream yields to a transfer when its socket closes, or after this
ANSWER_TRIES = 3  # then the fallback URL
STATUS_EVENTS_MAX = 1000  # of one stream that wait to be posted
STREAM_EVENTS = {"playedStream": "PlayedStream", "clearAudio": "ClearedAudio"}
KNOWN = {
    "Conference", "DTMF", "Dial", "GetDigits", "GetInput", "Hangup", "Message", "MultiPartyCall",
    "Play", "PreAnswer", "Record", "Redirect", "Speak", "Stream", "Wait",
}  # fmt: skip
DIAL_STATUS = {"busy": "busy", "reject": "failed", "ignore": "no-answer"}
Document = ElementTree.Element


class Target(msgspec.Struct, frozen=True):
    """Where a callback goes."""

    url: str
    method: str = "POST"


class CallOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for: a call that comes in, or one that goes out."""

    direction: Literal["inbound", "outbound"]
    from_number: str
    to_number: str
    answer: Target
    hangup: Target | None = None
    fallback: Target | None = None
    ring: Target | None = None
    machine: Target | None = None
    machine_detection: Literal["", "true", "hangup"] = ""
    ring_timeout_s: float = 120.0
    time_limit_s: float = 14_400.0


class PlacedCall:
    """One call, from its first ring to its hangup callback.

    Args:
        phone: of the person, whoever called whom.
        phones: those that ``<Dial>`` can reach, by number.
        rooms: the conferences of the account.
        scale: how long a second of ringing, waiting and talking takes; audio is never scaled.
    """

    def __init__(
        self,
        order: CallOrder,
        account: Account,
        callbacks: Callbacks,
        phone: Phone,
        phones: Mapping[str, Phone],
        rooms: Rooms,
        scale: float,
    ) -> None:
        self.order = order
        self.uuid = str(uuid.uuid4())
        self.state: Literal["queued", "ringing", "in-progress", "completed"] = "queued"
        self.reports: list[CarrierReport] = []
        self.documents: list[str] = []
        self.keys_heard = ""
        self.dialled: list[str] = []
        self.spoken: list[str] = []  # what the service's own voice said, in order
        self.rooms_entered: list[str] = []
        self.hangup: Hangup | None = None
        self.hangup_source = ""
        self.answered_at = ""  # as records say it: YYYY-MM-DD hh:mm:ss, UTC
        self.ended_at = ""
        self.over = trio.Event()
        self._account = account
        self._callbacks = callbacks
        self._phone = phone
        self._phones = phones
        self._rooms = rooms
        self._keys_left = list(phone.keys)
        self._scale = scale
        self._nursery: trio.Nursery | None = None
        self._telling: trio.Nursery | None = None  # what is told although the call has ended
        self._document_scope = trio.CancelScope()
        self._is_streaming = False
        self._transfer: Target | None = None

    # --- what others do to it -----------------------------------------------------------

    @property
    def is_live(self) -> bool:
        return self.state in ("ringing", "in-progress")

    def end(self, why: HangupName, source: str) -> None:
        """End the call; the first reason stands."""
        if self.hangup is None:
            self.hangup, self.hangup_source = HANGUPS[why], source
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=why)

    def hang_up(self) -> None:
        """As the API does."""
        ringing = self.state in ("queued", "ringing")
        self.end("cancelled" if ringing else "normal", "API Request")

    def transfer(self, target: Target) -> None:
        """Go on with the document at ``target`` once what runs now has yielded."""
        self._transfer = target
        assert self._nursery is not None
        self._nursery.start_soon(self._yield_to_transfer, self._document_scope)

    async def _yield_to_transfer(self, document: trio.CancelScope) -> None:
        if self._is_streaming:
            await trio.sleep(TRANSFER_WAIT_S)
        document.cancel(reason="transfer")  # it may be over: then nothing happens

    # --- its life -----------------------------------------------------------------------

    async def run(self) -> None:
        """Make the call; returns when each of its callbacks has been answered, or given up."""
        async with trio.open_nursery() as self._telling:
            with trio.move_on_after(self.order.time_limit_s * self._scale):
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    if self.hangup is None:
                        await self._ring()
                    nursery.cancel_scope.cancel(reason="call over")
            if self.hangup is None:
                self.end("time_limit", "Plivo")
            self.state = "completed"
            self.ended_at = _now()
            await self._tell_hangup()
        self.over.set()

    async def _ring(self) -> None:
        self.state = "ringing"
        order, phone = self.order, self._phone
        if order.direction == "outbound":
            if order.ring is not None:
                self._start_callback("ring", order.ring, {"Event": "Ring"})
            if phone.when_rung == "ignore":
                await trio.sleep(order.ring_timeout_s * self._scale)
                return self.end("no_answer", "Plivo")
            await trio.sleep(phone.ring_s)
            if phone.when_rung == "busy":
                return self.end("busy", "Carrier")
            if phone.when_rung == "reject":
                return self.end("rejected", "Callee")
            self.state = "in-progress"
            self.answered_at = _now()
            if phone.is_machine and order.machine_detection == "hangup":
                return self.end("machine", "Plivo")
            if phone.is_machine and order.machine is not None:
                fields = {"Event": "MachineDetection", "Machine": "true", "IfMachine": "continue"}
                self._start_callback("machine", order.machine, fields)
        await self._converse()

    def _start_callback(self, kind: str, target: Target, fields: Fields) -> None:
        assert self._telling is not None
        asked = {**self._fields(), **fields}
        self._telling.start_soon(self._callbacks.ask, kind, target.method, target.url, asked)

    async def _converse(self) -> None:
        found: Document | HangupName | None = await self._answer()
        self.state = "in-progress"
        self.answered_at = self.answered_at or _now()
        while isinstance(found, Document):
            found = await self._perform(found)
        if found is not None:
            self.end(found, "Error")
        else:
            self.end("end_of_xml", "Plivo")

    async def _answer(self) -> Document | HangupName:
        order = self.order
        found: Document | HangupName = "answer_failed"
        tries = [order.answer] * ANSWER_TRIES + [order.fallback] * (order.fallback is not None)
        for target in tries:
            assert target is not None
            kind = "fallback" if target is order.fallback else "answer"
            found = await self._fetch(kind, target, {"Event": "StartApp"}, "answer_failed")
            if found != "answer_failed":
                break
        return found

    async def _tell_hangup(self) -> None:
        hangup, target = self.hangup, self.order.hangup or self.order.answer
        assert hangup is not None
        fields = {
            **self._fields(),
            "Event": "Hangup",
            "CallStatus": hangup.status,
            "HangupCause": hangup.cause,
            "HangupCauseName": hangup.name,
            "HangupCauseCode": str(hangup.code),
            "HangupSource": self.hangup_source,
            "Duration": "1",
            "BillDuration": "60",
            "TotalCost": "0.00550",
        }
        if hangup is HANGUPS["machine"]:
            fields["Machine"] = "true"
        await self._callbacks.ask("hangup", target.method, target.url, fields)

    def _fields(self) -> Fields:
        order = self.order
        fields = {
            "CallUUID": self.uuid,
            "From": normal_number(order.from_number),
            "To": normal_number(order.to_number),
            "Direction": order.direction,
            "CallStatus": self.state,
            "CallerName": order.from_number,
            "BillRate": "0.0055",
            "ParentAuthID": self._account.auth_id,
            "SessionStart": "2026-01-15 11:34:33.238707",
        }
        if order.direction == "outbound":
            names = ("RequestUUID", "ALegUUID", "ALegRequestUUID")
            fields |= dict.fromkeys(names, self.uuid)
        return fields

    # --- documents ----------------------------------------------------------------------

    async def _fetch(
        self, kind: str, target: Target, fields: Fields, failure: HangupName
    ) -> Document | HangupName:
        """Ask for a document; why the call must end, if there is none to be had."""
        asked = {**self._fields(), **fields}
        response = await self._callbacks.ask(kind, target.method, target.url, asked)
        if response is None or response.status_code != 200 or not response.content:
            return failure
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if media_type not in ("application/xml", "text/xml"):
            return "invalid_xml"
        self.documents.append(response.text)
        try:
            root = ElementTree.fromstring(response.content)
        except ElementTree.ParseError:
            return "invalid_xml"
        if root.tag != "Response" or any(element.tag not in KNOWN for element in root):
            return "invalid_xml"
        return root

    async def _perform(self, document: Document) -> Document | HangupName | None:
        """Run ``document`` to its end; what runs next, if anything does."""
        with trio.CancelScope() as self._document_scope:
            for element in document:
                following = await self._element(element)
                if following is not None or self.hangup is not None:
                    return following
                if self._transfer is not None:
                    break
        if self._transfer is None:
            return None
        target, self._transfer = self._transfer, None
        return await self._fetch("transfer", target, {"Event": "Redirect"}, "transfer_failed")

    async def _element(self, element: Document) -> Document | HangupName | None:
        match element.tag:
            case "Stream":
                if element.get("keepCallAlive", "false") == "true":
                    await self._stream(element)
                else:  # what follows runs at once
                    assert self._nursery is not None
                    self._nursery.start_soon(self._stream, element)
            case "Redirect":
                target = Target((element.text or "").strip(), element.get("method", "POST"))
                return await self._fetch("redirect", target, {"Event": "Redirect"}, "answer_failed")
            case "Hangup":
                reason = element.get("reason")
                if reason == "busy":
                    self.end("busy", "Answer XML")
                else:
                    self.end("rejected" if reason == "rejected" else "normal", "Answer XML")
            case "Dial":
                return await self._dial(element)
            case "GetDigits":
                return await self._get_digits(element)
            case "Conference":
                return await self._confer(element)
            case "Speak":
                self.spoken.append((element.text or "").strip())
                await trio.sleep(self._scale)
            case "DTMF":
                self.keys_heard += element.text or ""
            case "Wait":
                await trio.sleep(int(element.get("length", "1")) * self._scale)
            case _:
                await trio.sleep(self._scale)  # said, played or asked, and nobody minded
        return None

    # --- Dial ---------------------------------------------------------------------------

    async def _dial(self, element: Document) -> Document | HangupName | None:
        limit_s = int(element.get("timeout", "30")) * self._scale
        status = "failed"
        for child in element:
            number = normal_number((child.text or "").strip())
            self.dialled.append(number)
            phone = self._phones.get(number)
            if phone is None:
                continue
            if phone.when_rung == "answer":
                await trio.sleep(min(phone.ring_s, limit_s))
                if phone.ring_s <= limit_s:
                    status = "completed"
                    await trio.sleep(phone.talk_s)
                    break
                status = "no-answer"
            else:
                await trio.sleep(limit_s if phone.when_rung == "ignore" else phone.ring_s)
                status = DIAL_STATUS[phone.when_rung]
        fields = {
            "DialStatus": status,
            "DialRingStatus": "true",
            "DialHangupCause": "NORMAL_CLEARING",
            "DialALegUUID": self.uuid,
            "DialBLegUUID": str(uuid.uuid4()),
        }
        return await self._act(element, "dial-result", fields)

    # --- GetDigits and Conference ---------------------------------------------------------

    async def _get_digits(self, element: Document) -> Document | HangupName | None:
        """Ask until keys come that may be pressed; without any, what follows runs."""
        valid = element.get("validDigits", "0123456789*#")
        most = int(element.get("numDigits", "99"))
        for _ in range(int(element.get("retries", "1"))):
            for child in element:
                if child.tag == "Speak":
                    self.spoken.append((child.text or "").strip())
                await trio.sleep(self._scale)
            keys = self._keys_left.pop(0) if self._keys_left else ""
            if keys and all(key in valid for key in keys):
                return await self._act(element, "digits", {"Digits": keys[:most]})
            await trio.sleep(int(element.get("timeout", "5")) * self._scale)
        return None

    async def _act(
        self, element: Document, kind: str, fields: Fields
    ) -> Document | HangupName | None:
        """Post what came of an element to its ``action``; the document that takes over."""
        action = element.get("action")
        if action is None:
            return None
        target = Target(action, element.get("method", "POST"))
        found = await self._fetch(kind, target, fields, "transfer_failed")
        return found if element.get("redirect", "true") == "true" else None

    async def _confer(self, element: Document) -> Document | HangupName | None:
        """Be in a room until it is over, or this person has talked enough and hangs up."""
        name = (element.text or "").strip()
        self.rooms_entered.append(name)
        room = self._rooms.enter(name, self.uuid)
        self._tell_room(element, room, "enter")
        try:
            with trio.move_on_after(int(element.get("timeLimit", "86400")) * self._scale):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._talk, room)
                    await room.is_over.wait()
                    nursery.cancel_scope.cancel(reason="room over")
        finally:
            ends = element.get("endConferenceOnExit", "false") == "true"
            self._rooms.leave(room, self.uuid, ends=ends)
        self._tell_room(element, room, "exit")
        return await self._act(element, "conference-over", {"ConferenceName": name})

    async def _talk(self, room: Room) -> None:
        await room.company()
        await trio.sleep(self._phone.talk_s)
        self.end("normal", "Caller" if self.order.direction == "inbound" else "Callee")

    def _tell_room(self, element: Document, room: Room, action: str) -> None:
        url = element.get("callbackUrl")
        if url is not None:
            fields = {
                "ConferenceAction": action,
                "ConferenceName": room.name,
                "ConferenceUUID": room.uuid,
                "ConferenceMemberID": str(len(room.members)),
            }
            target = Target(url, element.get("callbackMethod", "POST"))
            self._start_callback("conference", target, fields)

    # --- Stream -------------------------------------------------------------------------

    async def _stream(self, element: Document) -> None:
        """Open the media socket and be the carrier on it, until either side ends it."""
        stream_id = str(uuid.uuid4())
        url = (element.text or "").strip()
        status_tx, status_rx = trio.open_memory_channel[Fields](STATUS_EVENTS_MAX)
        parts = urlsplit(url)
        signed = f"http://{parts.netloc}{parts.path}"  # without the query, as on live calls
        headers = signature_headers(self._account, "GET", signed, {})
        number = len(self.reports)
        scripts, hears = self._phone.scripts, self._phone.hears
        track = element.get("audioTrack", "inbound")
        common = {"StreamID": stream_id, "ServiceURL": url, "ParentAuthID": self._account.auth_id}

        def tell(event: str, **fields: str) -> None:
            status_tx.send_nowait({**common, "Event": event, **fields})

        def happened(event: CarrierEvent) -> None:
            if (name := STREAM_EVENTS.get(event.kind)) is not None:
                tell(name, Name=event.detail)

        carrier = FakeCarrier(
            scripts[number] if number < len(scripts) else (),
            call_id=self.uuid,
            stream_id=stream_id,
            extra_headers=element.get("extraHeaders", ""),
            tracks=("inbound", "outbound") if track == "both" else (track,),
            outbound=hears[number] if number < len(hears) else (),
            is_one_way=element.get("bidirectional", "false") != "true",
            on_event=happened,
        )
        async with trio.open_nursery() as telling:
            telling.start_soon(self._tell_status, element, status_rx)
            async with status_tx:
                try:
                    async with trio.open_nursery() as nursery:
                        socket = await fast.connect(
                            parts.hostname or "",
                            parts.port or 80,
                            parts.path + (f"?{parts.query}" if parts.query else ""),
                            SocketLimits(),
                            nursery,
                            headers.items(),
                        )
                        tell("StartStream")
                        self._is_streaming = True
                        try:
                            await carrier.call(socket)
                        finally:
                            self._is_streaming = False
                            self.reports.append(carrier.report())
                        nursery.cancel_scope.cancel(reason="stream over")
                except* (RemoteProtocolError, OSError, trio.TooSlowError):
                    tell("DroppedStream", Error="connection disconnected with the remote service")
                else:
                    tell("StopStream")
        if carrier.report().ended_by == "caller":
            self.end("normal", "Caller" if self.order.direction == "inbound" else "Callee")

    async def _tell_status(
        self, element: Document, events: trio.MemoryReceiveChannel[Fields]
    ) -> None:
        url = element.get("statusCallbackUrl")
        method = element.get("statusCallbackMethod", "POST")
        async for fields in events:
            if url is not None:
                asked = {"Timestamp": "2026-01-15 11:34:33", **self._fields(), **fields}
                await self._callbacks.ask("stream-status", method, url, asked)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def new_id(digits: int = 17) -> str:
    """An id of digits, as applications have."""
    return str(secrets.randbelow(9 * 10 ** (digits - 1)) + 10 ** (digits - 1))
