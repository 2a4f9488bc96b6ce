"""Plivo's REST API over real loopback HTTP, and the telephone network behind it.

Written from Plivo's documents and checked with its SDK, apart from our own client.
"""

from __future__ import annotations

import binascii
import math
import re
import uuid
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from rtcore.testing.plivo.call import CallOrder, PlacedCall, Target, new_id
from rtcore.testing.plivo.callbacks import Callbacks
from rtcore.testing.plivo.http import Handler, Request, Response, serve_http
from rtcore.testing.plivo.model import Account, Application, OwnedNumber, Phone, normal_number
from rtcore.testing.plivo.rooms import Rooms

__all__ = ["FakePlivo", "Fault"]

PAGE_MAX = 20
TRANSFERS_MAX = 70  # of one call; then Plivo takes it for a loop
QUEUED_MAX = 1000
Fields = dict[str, Any]
T = TypeVar("T")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What the next request gets instead of an answer."""

    status: int
    body: bytes = b'{"api_id": "fake", "error": "internal error"}'
    hangs_s: float = 0.0  # silence first


class _Refused(Exception):
    """Inside this module: the request is to be answered so."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status, self.error = status, error


class FakePlivo:
    """One account on a telephone network of :class:`Phone`.

    Args:
        account: its credentials, which also sign every callback.
        calls_per_s: outbound starts; more are queued, as Plivo does.
        requests_max: in ``window_s`` seconds; more are answered with 429.
        scale: how long a second of ringing, waiting and talking takes; audio is never scaled.
        port: where it listens; 0: any that is free.
    """

    def __init__(
        self,
        account: Account | None = None,
        *,
        calls_per_s: float = math.inf,
        requests_max: int = 300,
        window_s: float = 5.0,
        scale: float = 0.01,
        port: int = 0,
    ) -> None:
        self.account = account or Account()
        self.phones: dict[str, Phone] = {}  # by number, digits alone
        self.applications: dict[str, Application] = {}
        self.numbers: dict[str, OwnedNumber] = {}
        self.calls: dict[str, PlacedCall] = {}
        self.rooms = Rooms()
        self.transfers: dict[str, int] = {}
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, str]] = []  # method and path, in order
        self.answers_after_s = 0.0  # what is done is done, and the answer still on its way
        self.loses_answers = 0  # so many calls are made next, and answered with 504
        self.beside: Handler | None = None  # answers what is not for the API, under /v1
        self.callbacks = Callbacks(self.account)
        self.url = ""  # once it runs; a client puts /Account/{auth_id}/ behind it
        self._gap_s = 1 / calls_per_s
        self._requests_max = requests_max
        self._window_s = window_s
        self._scale = scale
        self._port = port
        self._recent_s: deque[float] = deque()
        self._nursery: trio.Nursery | None = None
        self._waiting_tx, self._waiting_rx = trio.open_memory_channel[PlacedCall](QUEUED_MAX)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ``task_status`` is given the base URL."""
        listeners = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._dial_in_turn)
                nursery.start_soon(
                    trio.serve_listeners, partial(serve_http, self._answer), listeners
                )
                task_status.started(self.url)
        finally:
            with trio.CancelScope(shield=True):  # closing connections waits for nobody
                await self.callbacks.aclose()

    # --- the network --------------------------------------------------------------------

    def rent(self, number: str) -> None:
        """Give the account a number, bound to no application."""
        self.numbers[normal_number(number)] = OwnedNumber(number=normal_number(number))

    def ring(self, from_number: str, to_number: str, phone: Phone) -> PlacedCall:
        """Somebody calls one of our numbers; its application answers.

        Raises:
            KeyError: the number is not ours, or has no application.
        """
        number = self.numbers[normal_number(to_number)]
        app = self.applications[number.app_id]
        order = CallOrder(
            direction="inbound",
            from_number=from_number,
            to_number=to_number,
            answer=Target(app.answer_url, app.answer_method),
            hangup=Target(app.hangup_url, app.hangup_method) if app.hangup_url else None,
            fallback=_target(app.fallback_answer_url, app.fallback_method),
        )
        call = self._new_call(order, phone)
        assert self._nursery is not None, "run() first"
        self._nursery.start_soon(call.run)
        return call

    def _new_call(self, order: CallOrder, phone: Phone) -> PlacedCall:
        call = PlacedCall(
            order, self.account, self.callbacks, phone, self.phones, self.rooms, self._scale
        )
        self.calls[call.uuid] = call
        return call

    async def _dial_in_turn(self) -> None:
        async with trio.open_nursery() as nursery:
            async for call in self._waiting_rx:
                nursery.start_soon(call.run)
                await trio.sleep(self._gap_s)

    # --- requests -----------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response:
        if self.beside is not None and not request.path.startswith("/v1/"):
            return await self.beside(request)
        self.requests.append((request.method, request.path))
        if self.faults:
            fault = self.faults.popleft()
            await trio.sleep(fault.hangs_s)
            return Response(status=fault.status, body=fault.body)
        api_id = str(uuid.uuid4())
        try:
            self._authorise(request)
            status, answer = self._route(request)
        except _Refused as refused:
            status, answer = refused.status, {"error": refused.error}
        await trio.sleep(self.answers_after_s)
        if self.loses_answers and request.method == "POST" and request.path.endswith("/Call/"):
            self.loses_answers -= 1
            return Response(status=504)
        if answer is None:
            return Response(status=status)
        return Response(status=status, body=msgspec.json.encode({"api_id": api_id, **answer}))

    def _authorise(self, request: Request) -> None:
        now_s = trio.current_time()
        while self._recent_s and self._recent_s[0] <= now_s - self._window_s:
            self._recent_s.popleft()
        if len(self._recent_s) >= self._requests_max:
            raise _Refused(429, "request rate limit exceeded")
        self._recent_s.append(now_s)
        scheme, _, coded = request.headers.get("authorization", "").partition(" ")
        try:
            given = b64decode(coded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            given = ""
        wanted = f"{self.account.auth_id}:{self.account.auth_token}"
        if scheme.lower() != "basic" or given != wanted:
            raise _Refused(401, "authentication failed")

    def _route(self, request: Request) -> tuple[int, Fields | None]:
        base = f"/v1/Account/{self.account.auth_id}"
        if not request.path.startswith(base + "/"):
            raise _Refused(404, "not found")
        if not request.path.endswith("/"):
            raise _Refused(404, "not found: a slash is missing at the end")
        path = request.path.removeprefix(base)
        for pattern, method, serve in ROUTES:
            if (found := re.fullmatch(pattern, path)) and method == request.method:
                return serve(self, _fields(request), *found.groups())
        if any(re.fullmatch(pattern, path) for pattern, _, _ in ROUTES):
            raise _Refused(405, "method not allowed")
        raise _Refused(404, "not found")

    # --- applications and numbers -------------------------------------------------------

    def _create_app(self, given: Fields) -> tuple[int, Fields]:
        if not given.get("app_name"):
            raise _Refused(400, "app_name parameter not present")
        if any(app.app_name == given["app_name"] for app in self.applications.values()):
            raise _Refused(400, "app_name is already in use")
        app = Application(app_id=new_id(), app_name=given["app_name"])
        self.applications[app.app_id] = app
        self._set(app, given)
        return 201, {"message": "created", "app_id": app.app_id}

    def _change_app(self, given: Fields, app_id: str) -> tuple[int, Fields]:
        self._set(_found(self.applications, app_id), given)
        return 202, {"message": "changed"}

    def _set(self, app: Application, given: Fields) -> None:
        for name in app.__struct_fields__[1:]:
            if given.get(name) is not None:
                setattr(app, name, given[name])

    def _list_apps(self, given: Fields) -> tuple[int, Fields]:
        return 200, _page([msgspec.to_builtins(app) for app in self.applications.values()], given)

    def _get_app(self, given: Fields, app_id: str) -> tuple[int, Fields]:
        return 200, msgspec.to_builtins(_found(self.applications, app_id))

    def _delete_app(self, given: Fields, app_id: str) -> tuple[int, None]:
        _found(self.applications, app_id)
        del self.applications[app_id]
        for number in self.numbers.values():
            if number.app_id == app_id:
                number.app_id = ""
        return 204, None

    def _list_numbers(self, given: Fields) -> tuple[int, Fields]:
        return 200, _page([self._show(number) for number in self.numbers.values()], given)

    def _get_number(self, given: Fields, number: str) -> tuple[int, Fields]:
        return 200, self._show(_found(self.numbers, number))

    def _show(self, number: OwnedNumber) -> Fields:
        app = number.app_id
        resource = f"/v1/Account/{self.account.auth_id}/Application/{app}/" if app else None
        return {"number": number.number, "application": resource, "voice_enabled": True}

    def _change_number(self, given: Fields, number: str) -> tuple[int, Fields]:
        owned = _found(self.numbers, number)
        if given.get("app_id"):
            _found(self.applications, given["app_id"])
        if "app_id" in given:
            owned.app_id = given["app_id"] or ""
        return 202, {"message": "changed"}

    # --- calls --------------------------------------------------------------------------

    def _make_call(self, given: Fields) -> tuple[int, Fields]:
        for name in ("from", "to", "answer_url"):
            if not given.get(name):
                raise _Refused(400, f"{name} parameter not present")
        made = []
        for destination in given["to"].split("<"):
            if not re.fullmatch(r"\+?[0-9]{4,15}|sip:.+", destination):
                raise _Refused(400, "to parameter is invalid")
            order = CallOrder(
                direction="outbound",
                from_number=given["from"],
                to_number=destination,
                answer=Target(given["answer_url"], given.get("answer_method", "POST")),
                hangup=_target(given.get("hangup_url"), given.get("hangup_method")),
                fallback=_target(given.get("fallback_url"), given.get("fallback_method")),
                ring=_target(given.get("ring_url"), given.get("ring_method")),
                machine=_target(
                    given.get("machine_detection_url"), given.get("machine_detection_method")
                ),
                machine_detection=given.get("machine_detection", ""),
                ring_timeout_s=float(given.get("ring_timeout", 120)),
                time_limit_s=float(given.get("time_limit", 14_400)),
            )
            nobody = Phone(when_rung="ignore")
            phone = self.phones.get(normal_number(destination), nobody)
            made.append(self._new_call(order, phone))
        for call in made:
            self._waiting_tx.send_nowait(call)
        ids = [call.uuid for call in made]
        return 201, {"message": "call fired", "request_uuid": ids[0] if len(ids) == 1 else ids}

    def _list_calls(self, given: Fields) -> tuple[int, Fields]:
        if given.get("status") == "live":
            return 200, {"calls": [call.uuid for call in self.calls.values() if call.is_live]}
        if given.get("status") == "queued":
            waiting = [call.uuid for call in self.calls.values() if call.state == "queued"]
            return 200, {"calls": waiting}
        past = [call for call in self.calls.values() if call.state == "completed"]
        shown = [self._show_call(call) for call in reversed(past)]  # the newest first
        for name in ("call_direction", "from_number", "to_number", "parent_call_uuid"):
            if given.get(name) is not None:
                wanted = normal_number(given[name])
                shown = [each for each in shown if each.get(name) == wanted]
        since = given.get("end_time__gte", "")
        return 200, _page([each for each in shown if each["end_time"] >= since], given)

    def _get_call(self, given: Fields, uuid: str) -> tuple[int, Fields]:
        call = _found(self.calls, uuid)
        if given.get("status") == "live":
            if not call.is_live:
                raise _Refused(404, "call not found")
            return 200, {
                "call_uuid": call.uuid,
                "call_status": call.state,
                "direction": call.order.direction,
                "from": call.order.from_number,
                "to": call.order.to_number,
                "request_uuid": call.uuid,
            }
        return 200, self._show_call(call)

    def _show_call(self, call: PlacedCall) -> Fields:
        shown: Fields = {
            "call_uuid": call.uuid,
            "call_direction": call.order.direction,
            "from_number": normal_number(call.order.from_number),
            "to_number": normal_number(call.order.to_number),
            "call_state": "ANSWER" if call.reports else "NO_ANSWER",
            "answer_time": call.answered_at or None,
            "end_time": call.ended_at or None,
        }
        if call.hangup is not None:
            shown["hangup_cause_code"] = call.hangup.code
            shown["hangup_cause_name"] = call.hangup.name
            shown["hangup_source"] = call.hangup_source
        return shown

    def _live(self, uuid: str) -> PlacedCall:
        call = _found(self.calls, uuid)
        if not call.is_live:
            raise _Refused(404, "call not found")
        return call

    def _transfer(self, given: Fields, uuid: str) -> tuple[int, Fields]:
        call = self._live(uuid)
        if given.get("legs", "aleg") != "aleg" or not given.get("aleg_url"):
            raise _Refused(400, "aleg_url parameter not present")
        self.transfers[uuid] = self.transfers.get(uuid, 0) + 1
        if self.transfers[uuid] > TRANSFERS_MAX:
            raise _Refused(400, "loop detected")
        call.transfer(Target(given["aleg_url"], given.get("aleg_method", "POST")))
        return 202, {"message": "call transferred"}

    def _hang_up(self, given: Fields, uuid: str) -> tuple[int, None]:
        self._live(uuid).hang_up()
        return 204, None

    def _hang_up_all(self, given: Fields) -> tuple[int, None]:
        for call in self.calls.values():
            if call.is_live:
                call.hang_up()
        return 204, None

    def _cancel(self, given: Fields, uuid: str) -> tuple[int, None]:
        call = _found(self.calls, uuid)
        if call.state not in ("queued", "ringing"):
            raise _Refused(404, "request not found")
        call.hang_up()
        return 204, None

    def _send_digits(self, given: Fields, uuid: str) -> tuple[int, Fields]:
        call = self._live(uuid)
        if not re.fullmatch(r"[0-9A-Da-d*#wW@]+", str(given.get("digits") or "")):
            raise _Refused(400, "digits parameter is invalid")
        call.keys_heard += given["digits"]
        return 202, {"message": "digits sent"}


Serve = Callable[..., tuple[int, Fields | None]]
UUID = "([0-9a-f-]{36})"
ROUTES: tuple[tuple[str, str, Serve], ...] = (
    (r"/Application/", "POST", FakePlivo._create_app),
    (r"/Application/", "GET", FakePlivo._list_apps),
    (r"/Application/([0-9]+)/", "GET", FakePlivo._get_app),
    (r"/Application/([0-9]+)/", "POST", FakePlivo._change_app),
    (r"/Application/([0-9]+)/", "DELETE", FakePlivo._delete_app),
    (r"/Number/", "GET", FakePlivo._list_numbers),
    (r"/Number/([0-9]+)/", "GET", FakePlivo._get_number),
    (r"/Number/([0-9]+)/", "POST", FakePlivo._change_number),
    (r"/Call/", "POST", FakePlivo._make_call),
    (r"/Call/", "GET", FakePlivo._list_calls),
    (r"/Call/", "DELETE", FakePlivo._hang_up_all),
    (rf"/Call/{UUID}/", "GET", FakePlivo._get_call),
    (rf"/Call/{UUID}/", "POST", FakePlivo._transfer),
    (rf"/Call/{UUID}/", "DELETE", FakePlivo._hang_up),
    (rf"/Call/{UUID}/DTMF/", "POST", FakePlivo._send_digits),
    (rf"/Request/{UUID}/", "DELETE", FakePlivo._cancel),
)


def _fields(request: Request) -> Fields:
    if request.method in ("GET", "DELETE") or not request.body:
        return dict(request.fields)
    try:
        given = msgspec.json.decode(request.body)
    except msgspec.DecodeError as exc:
        raise _Refused(400, "the body is not JSON") from exc
    if not isinstance(given, dict):
        raise _Refused(400, "the body is not an object")
    return given


def _found(things: Mapping[str, T], id: str) -> T:
    try:
        return things[id]
    except KeyError:
        raise _Refused(404, "not found") from None


def _page(shown: list[Fields], given: Fields) -> Fields:
    limit, offset = int(given.get("limit", PAGE_MAX)), int(given.get("offset", 0))
    if not 1 <= limit <= PAGE_MAX or offset < 0:
        raise _Refused(400, "limit must be 1 to 20, offset at least 0")
    meta = {
        "limit": limit,
        "offset": offset,
        "total_count": len(shown),
        "previous": None,
        "next": None,
    }
    return {"meta": meta, "objects": shown[offset : offset + limit]}


def _target(url: str | None, method: str | None) -> Target | None:
    return Target(url, method or "POST") if url else None
