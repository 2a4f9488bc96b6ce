"""One decorator makes a route of a handler: it checks, decodes, answers, and documents.

The same record that the request is checked against is what the specification is drawn from, so
the two cannot differ.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import trio
from quart import Blueprint, Response, g, request

from api.store import Actor, Store
from api.store.idempotency import begin_once, finish_once, forget_once
from api.store.keys import KeyRecord, Scope, check_token
from api.web.problems import ApiError, invalid
from api.web.requests import decode_json, decode_query, read_body
from api.web.services import services

__all__ = ["Answer", "Operation", "actor", "authenticate", "operation", "operation_of"]

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Handler = Callable[..., Awaitable["Answer | Response"]]
ATTRIBUTE = "__operation__"
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returns: a struct, or nothing."""

    body: msgspec.Struct | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        if self.body is None:
            return Response(b"", self.status, dict(self.headers))
        encoded = msgspec.json.encode(self.body)
        return Response(encoded, self.status, dict(self.headers), content_type="application/json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one route takes and returns."""

    summary: str
    scope: Scope | None  # None: open to all
    body: Any = None  # a struct type, sent as JSON
    upload: str = ""  # the name of the file field of a multipart body
    query: Any = None  # a struct type
    returns: Mapping[int, Any]  # by status; None: no body
    problems: tuple[int, ...] = ()  # beside those that follow from the rest
    conditional: Literal["", "optional", "required"] = ""  # If-Match
    once: bool = False  # takes an Idempotency-Key
    streams: bool = False  # may answer with text/event-stream


def operation(
    blueprint: Blueprint, method: Method, rule: str, what: Operation
) -> Callable[[Handler], Handler]:
    """Serve ``method rule`` of ``blueprint`` with the handler below.

    The handler gets the path's values by name, and ``body`` and ``query`` decoded if ``what``
    has them. It returns an :class:`Answer`, or a ``Response`` that it made itself.
    """

    def decorate(handler: Handler) -> Handler:
        @wraps(handler)
        async def serve(**values: Any) -> Response:
            if what.scope is not None:
                await authenticate(what.scope)
            if what.query is not None:
                values["query"] = decode_query(request.args, what.query)
            elif request.args:
                raise invalid(next(iter(request.args)), "this address takes no parameters")
            raw = b""
            if what.body is not None:
                raw = await read_body(request, services().settings.body_max_bytes)
                values["body"] = decode_json(raw, what.body)
            if what.once and (key := request.headers.get("Idempotency-Key")) is not None:
                return await _once(key, raw, handler, values)
            return _response(await handler(**values))

        setattr(serve, ATTRIBUTE, what)
        blueprint.add_url_rule(rule, handler.__name__, serve, methods=[method])
        return handler

    return decorate


def operation_of(view: object) -> Operation | None:
    """The record that a view was made with; None if it was not made here."""
    found = getattr(view, ATTRIBUTE, None)
    assert found is None or isinstance(found, Operation)
    return found


def actor() -> Actor:
    """Who makes the current request, for the audit log."""
    key = g.get("key")
    assert isinstance(key, KeyRecord)
    return Actor(key.id, g.request_id)


def _response(answer: Answer | Response) -> Response:
    return answer.response() if isinstance(answer, Answer) else answer


async def authenticate(scope: Scope) -> None:
    """Take the key of the current request, and a token of its rate.

    Raises:
        ApiError: 401 no valid key, 403 not this scope, 429 too many requests.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    key = None
    if scheme.lower() == "bearer":
        key = await services().store.read(check_token, token.strip())
    if key is None:
        raise ApiError(
            HTTPStatus.UNAUTHORIZED,
            "send a valid API key: Authorization: Bearer rtk_... (`rtcore keys create` makes one)",
            headers={"WWW-Authenticate": 'Bearer realm="rtcore"'},
        )
    wait_s = services().limiter.wait_s(key.id, trio.current_time())
    if wait_s > 0:
        wait_full_s = math.ceil(wait_s)
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"too many requests with this key: ask again in {wait_full_s} s",
            headers={"Retry-After": str(wait_full_s)},
        )
    if not key.allows(scope):
        raise ApiError(
            HTTPStatus.FORBIDDEN,
            f"this key has not the scope {scope} (it has: {' '.join(key.scopes)})",
        )
    g.key = key


class _Kept(msgspec.Struct, array_like=True):
    """An answer as it is kept for those who ask again."""

    status: int
    headers: dict[str, str]
    body: bytes


async def _once(key: str, raw: bytes, handler: Handler, values: Mapping[str, Any]) -> Response:
    """Run ``handler`` once for ``key``; later requests with it get the first answer."""
    if IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise invalid("Idempotency-Key", "1 to 255 printable ASCII characters, no spaces")
    store, settings = services().store, services().settings
    who = actor().id
    fingerprint = hashlib.sha256(
        b"\0".join((request.method.encode(), request.full_path.encode(), raw))
    ).hexdigest()
    keep_ms = int(settings.idempotency_keep_s * 1000)
    kept = await store.write(begin_once, who, key, fingerprint, keep_ms)
    if kept is not None:
        first = msgspec.msgpack.decode(kept, type=_Kept)
        headers = first.headers | {"Idempotent-Replayed": "true"}
        return Response(first.body, first.status, headers)
    # shielded: what was begun is finished and kept even if this client has gone, so that
    # whoever asks again hears of it; every wait inside has its own limit
    with trio.CancelScope(shield=True):
        response = await _first(store, who, key, handler(**values))
    return response


async def _first(
    store: Store, who: str, key: str, handling: Awaitable[Answer | Response]
) -> Response:
    """The answer of a request that is done once, kept; forgotten if there is none."""
    is_done = False
    try:
        answer = await handling
        assert isinstance(answer, Answer)
        body = b"" if answer.body is None else msgspec.json.encode(answer.body)
        response = answer.response()
        headers = {**answer.headers, "Content-Type": response.content_type or ""}
        first = _Kept(answer.status, headers, body)
        await store.write(finish_once, who, key, msgspec.msgpack.encode(first))
        is_done = True
        return response
    finally:
        if not is_done:
            await store.write(forget_once, who, key)
