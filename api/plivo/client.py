"""Plivo's REST API, as far as we use it: pooled, every wait bounded, nothing done twice.

Source: Plivo's Voice API reference (2026). What is repeated after a failure: reads and
deletions, and anything that was refused for its rate; never a request that may have been done.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal, TypeVar

import httpx
import msgspec
import trio
from msgspec import Meta

from rtcore.errors import LocalProtocolError, RtcoreError

__all__ = [
    "Application",
    "OutboundCall",
    "PastCall",
    "PlivoAccount",
    "PlivoClient",
    "PlivoError",
    "PlivoRefused",
    "PlivoUnreachable",
]

PAGE_ITEMS = 20  # the most that Plivo gives at once
PAGES_MAX = 100  # 2,000 applications; an account that has more is told so
CONNECTIONS_MAX = 20
TRIES_MAX = 4
PAUSE_S = 0.25  # before the first repetition, doubled each time, half of it by chance
ANSWER_MAX_BYTES = 1 << 20
UUID = re.compile("[A-Za-z0-9-]{8,64}")
NUMBER = re.compile(r"\+?[0-9]{4,15}")
T = TypeVar("T")


class PlivoAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Whose calls they are. The token is a secret: never log it."""

    auth_id: Annotated[str, Meta(pattern="^[A-Za-z0-9]{10,40}$")]
    auth_token: Annotated[str, Meta(min_length=1)]
    main_token: str = ""  # of the main account, where auth_id is a subaccount
    url: str = "https://api.plivo.com/v1"
    calls_per_s: Annotated[float, Meta(gt=0)] = 2.0  # outbound starts: Plivo's default
    limit_s: Annotated[float, Meta(gt=0)] = 10.0  # for one request and all its repetitions


class PlivoError(RtcoreError):
    """Plivo did not do what was asked."""


class PlivoRefused(PlivoError):
    """Plivo understood and said no: ``status`` and its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Plivo refused ({status}): {message}")
        self.status, self.message = status, message


class PlivoUnreachable(PlivoError):
    """No answer, or none that can be used; asking again later can help.

    ``may_have_happened``: the request was sent, and nobody knows what became of it.
    """

    def __init__(self, message: str, *, may_have_happened: bool) -> None:
        super().__init__(f"Plivo cannot be reached: {message}")
        self.may_have_happened = may_have_happened


class OutboundCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call to make, in Plivo's words."""

    to: str
    from_: str = msgspec.field(name="from")
    answer_url: str
    hangup_url: str  # always: without it the answer URL is told of the end
    fallback_url: str
    ring_url: str
    caller_name: str | None = None
    ring_timeout: int | None = None  # seconds
    time_limit: int | None = None  # seconds
    machine_detection: Literal["true", "hangup"] | None = None
    machine_detection_url: str | None = None


class Application(msgspec.Struct, frozen=True, kw_only=True):
    """What answers a number."""

    app_id: str
    app_name: str = ""


class PastCall(msgspec.Struct, frozen=True, kw_only=True):
    """What Plivo has on record of a call that is over; some of it comes seconds late."""

    call_uuid: str
    call_direction: str = ""
    from_number: str = ""
    to_number: str = ""
    answer_time: str | None = None
    end_time: str | None = None
    hangup_cause_code: int | None = None
    hangup_cause_name: str | None = None
    hangup_source: str | None = None


class _Number(msgspec.Struct, frozen=True):
    application: str | None = None  # a path that ends in the application's id


class PlivoClient:
    """One account's client; close it with :meth:`aclose`.

    Every method raises :class:`PlivoRefused` and :class:`PlivoUnreachable`; cancelled, the
    connection is closed, and what was asked may have been done.
    """

    def __init__(
        self, account: PlivoAccount, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.account = account
        self._client = httpx.AsyncClient(
            base_url=f"{account.url}/Account/{account.auth_id}",
            auth=(account.auth_id, account.auth_token),
            transport=transport,
            timeout=None,  # the whole of a request has one limit, not each of its parts
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    # --- calls --------------------------------------------------------------------------

    async def make_call(self, call: OutboundCall, *, repeats: bool = True) -> str:
        """Start a call; return what it is known by until a callback names it.

        ``repeats``: what was refused for its rate, or found nobody, is asked for again.
        """
        tries = TRIES_MAX if repeats else 1
        answer = await self._ask("POST", "/Call/", msgspec.to_builtins(call), tries)
        for name in ("request_uuid", "call_uuid", "call_uuids"):
            found = answer.get(name)
            if isinstance(found, list) and len(found) == 1:
                found = found[0]
            if isinstance(found, str) and UUID.fullmatch(found):
                return found
        raise PlivoUnreachable("its answer names no call", may_have_happened=True)

    async def hang_up(self, call_uuid: str) -> bool:
        """End a call; False if it was over already."""
        return await self._delete(f"/Call/{_uuid(call_uuid)}/")

    async def cancel(self, request_uuid: str) -> bool:
        """Give up a call that is queued or rings; False if it is not (any more)."""
        return await self._delete(f"/Request/{_uuid(request_uuid)}/")

    async def is_live(self, call_uuid: str) -> bool:
        """Whether a call goes on."""
        try:
            await self._ask("GET", f"/Call/{_uuid(call_uuid)}/", {"status": "live"})
        except PlivoRefused as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def past_call(self, call_uuid: str) -> PastCall | None:
        """What is on record of a call; None: nothing, or nothing yet."""
        try:
            answer = await self._ask("GET", f"/Call/{_uuid(call_uuid)}/")
        except PlivoRefused as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
            return None
        return _converted(answer, PastCall)

    async def past_calls(self, *, from_: str, to: str, since: str) -> list[PastCall]:
        """The newest calls we made between two numbers that ended since ``since``, at most 20.

        ``since``: ``YYYY-MM-DD hh:mm:ss``, UTC.
        """
        query = {
            "call_direction": "outbound",
            "from_number": _number(from_),
            "to_number": _number(to),
            "end_time__gte": since,
            "limit": PAGE_ITEMS,
        }
        answer = await self._ask("GET", "/Call/", query)
        return _converted(answer.get("objects", []), list[PastCall])

    async def transfer(self, call_uuid: str, url: str) -> None:
        """Let the call go on with the document at ``url``."""
        body = {"legs": "aleg", "aleg_url": url, "aleg_method": "POST"}
        await self._ask("POST", f"/Call/{_uuid(call_uuid)}/", body)

    async def send_digits(self, call_uuid: str, digits: str) -> None:
        """Play key tones to the person on the line."""
        body = {"digits": digits, "leg": "aleg"}
        await self._ask("POST", f"/Call/{_uuid(call_uuid)}/DTMF/", body)

    # --- applications and numbers -------------------------------------------------------

    async def find_application(self, name: str) -> Application | None:
        """The application of that name."""
        for page in range(PAGES_MAX):
            query = {"limit": PAGE_ITEMS, "offset": page * PAGE_ITEMS}
            answer = await self._ask("GET", "/Application/", query)
            found = _converted(answer.get("objects", []), list[Application])
            for each in found:
                if each.app_name == name:
                    return each
            if len(found) < PAGE_ITEMS:
                return None
        raise PlivoRefused(0, f"more than {PAGES_MAX * PAGE_ITEMS} applications")

    async def create_application(self, name: str, urls: Mapping[str, str]) -> str:
        """Create an application; return its id."""
        answer = await self._ask("POST", "/Application/", {"app_name": name, **urls})
        return _converted(answer, Application).app_id

    async def update_application(self, app_id: str, urls: Mapping[str, str]) -> None:
        """Give an application other URLs; every number on it follows at once."""
        await self._ask("POST", f"/Application/{_uuid(app_id)}/", dict(urls))

    async def delete_application(self, app_id: str) -> bool:
        """Delete an application; False if there was none."""
        return await self._delete(f"/Application/{_uuid(app_id)}/")

    async def application_of(self, number: str) -> str | None:
        """The id of the application that answers ``number``; None if none does.

        Raises:
            PlivoRefused: with 404, the number is not the account's.
        """
        answer = await self._ask("GET", f"/Number/{_number(number)}/")
        resource = _converted(answer, _Number).application
        return resource.rstrip("/").rpartition("/")[2] if resource else None

    async def assign_number(self, number: str, app_id: str) -> None:
        """Let an application answer ``number``; with an empty id, none does."""
        await self._ask("POST", f"/Number/{_number(number)}/", {"app_id": app_id})

    # --- one request --------------------------------------------------------------------

    async def _delete(self, path: str) -> bool:
        try:
            await self._ask("DELETE", path)
        except PlivoRefused as exc:
            if exc.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def _ask(
        self,
        method: str,
        path: str,
        given: Mapping[str, Any] | None = None,
        tries: int = TRIES_MAX,
    ) -> dict[str, Any]:
        """Ask, repeating what may be repeated, and return the object that was answered."""
        unanswered = last = PlivoUnreachable(
            f"no answer within {self.account.limit_s:g} s", may_have_happened=method == "POST"
        )
        with trio.move_on_after(self.account.limit_s):
            for number in range(tries):
                last = unanswered  # while this try is out, nobody knows
                try:
                    return await self._try(method, path, given)
                except _Again as again:
                    last = again.error
                    if number + 1 == tries or (method == "POST" and last.may_have_happened):
                        break
                    await trio.sleep(again.after_s or _pause_s(number))
        raise last

    async def _try(self, method: str, path: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            if method == "POST":
                response = await self._client.post(path, json=dict(given or {}))
            else:
                params = dict(given) if given else None
                response = await self._client.request(method, path, params=params)
        except httpx.ConnectError as exc:
            raise _Again("no connection", may_have_happened=False) from exc
        except httpx.HTTPError as exc:
            raise _Again(type(exc).__name__, may_have_happened=True) from exc
        status = response.status_code
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            after_s = _seconds(response.headers.get("retry-after", ""))
            raise _Again("too many requests", may_have_happened=False, after_s=after_s)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Again(f"status {status}", may_have_happened=True)
        answer = _object(response.content)
        if not response.is_success:
            raise PlivoRefused(status, str(answer.get("error", "without a reason"))[:500])
        return answer


class _Again(Exception):
    """Inside this module: the request failed in a way that may pass."""

    def __init__(self, message: str, *, may_have_happened: bool, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.error = PlivoUnreachable(message, may_have_happened=may_have_happened)
        self.after_s = after_s


def _pause_s(number: int) -> float:
    pause_s = PAUSE_S * 2.0**number
    return pause_s / 2 + random.random() * pause_s / 2  # nodes that were refused together part


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < math.inf else 0.0


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object of an answer; a body that is none says nothing."""
    if len(content) > ANSWER_MAX_BYTES:
        return {}
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _converted(found: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(found, kind, strict=False)  # numbers come as text here and there
    except msgspec.ValidationError as exc:
        raise PlivoUnreachable(
            f"its answer is not as documented: {exc}", may_have_happened=True
        ) from exc


def _uuid(text: str) -> str:
    """A path with an empty id in it would end every call of the account."""
    if not UUID.fullmatch(text):
        raise LocalProtocolError("the id of a call or application is missing or malformed")
    return text


def _number(text: str) -> str:
    if not NUMBER.fullmatch(text):
        raise LocalProtocolError("the number is missing or malformed")
    return text.removeprefix("+")
